//! What is at home is struck off: the list without it, the baseline with it, and what stands there twice.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::Ledger;
use super::lists::{self, Baseline, List, Lock, read_all};
use super::visit::{Totals, at_home, is_same};
use crate::data::ledger::Entry;
use crate::data::{Line, shown};
use crate::host::file;
use crate::units::ledger::Ledger as Told;

/// The list of files that both sides changed holds so many lines at most that are shown.
const TWICE_BYTES_MAX: u64 = 4 << 20;

impl Ledger {
    /// The files that both sides changed, one a line: where it is, and how ours is called at home.
    pub fn twice(&self) -> Vec<String> {
        let dir = if self.dir.join("about").exists() { &self.dir } else { &self.archive };
        let text = read_all(&dir.join("twice"), TWICE_BYTES_MAX).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// These are at home, read back there, as they stand in the entries: in the order of a walk. `listed`: as the list
    /// had them that they were taken from, where they were touched since. `beside` are those of them that stand there
    /// beside another, with their names.
    ///
    /// # Errors
    /// One line; they count as not carried, and will be seen to be there.
    pub fn settle(
        &self,
        carried: &[Entry],
        listed: &[Line],
        beside: &[(Entry, Vec<u8>)],
        rate: Option<u64>,
    ) -> Result<Told, String> {
        let _lock = self.lock(Lock::Lists)?;
        let mut about = self.about()?.ok_or("the ledger is gone")?;
        self.checked(&about)?;
        let twice = self.note_twice(beside)?;
        self.move_baseline(carried)?;
        let totals = self.strike(carried, listed)?;
        let told = &mut about.told;
        totals.tell(told);
        told.carried_files += carried.len() as u64;
        told.carried_bytes += carried.iter().map(|entry| entry.now.line.about.size).sum::<u64>();
        told.kept_twice += twice;
        told.rate = rate.or(told.rate);
        self.save(told)?;
        Ok(about.told)
    }

    /// How many of them were not noted before.
    fn note_twice(&self, beside: &[(Entry, Vec<u8>)]) -> Result<u64, String> {
        if beside.is_empty() {
            return Ok(0);
        }
        let known = self.twice();
        let lines = beside.iter().map(|(entry, name)| {
            let line = &entry.now.line;
            let dir = self.subject.dirs.get(line.dir).map_or(Path::new(""), PathBuf::as_path);
            let place = dir.join(std::ffi::OsStr::from_bytes(&line.path));
            format!("{} -> {}", shown(place.as_os_str().as_bytes()), shown(name))
        });
        let new: Vec<_> = lines.filter(|line| !known.contains(line)).collect();
        let append = || -> io::Result<()> {
            let mut file = fs::File::options().create(true).append(true).open(self.dir.join("twice"))?;
            file::give(&file, &self.dir)?;
            for line in &new {
                writeln!(file, "{line}")?;
            }
            file.sync_all()
        };
        append().map(|()| new.len() as u64).map_err(|error| self.cannot("write", "/twice", &error))
    }

    /// The baseline with these in it as they are now.
    fn move_baseline(&self, carried: &[Entry]) -> Result<(), String> {
        let mut list = List::create(&self.dir, "baseline", lists::BASELINE_HEAD)?;
        let mut carried = carried.iter().peekable();
        for known in Baseline::open(&self.dir)? {
            let known = known?;
            while let Some(new) = carried.next_if(|entry| entry.now.line.order(&known.line).is_lt()) {
                list.add(&at_home(&self.subject, new).write())?;
            }
            match carried.next_if(|entry| entry.now.line.order(&known.line).is_eq()) {
                Some(new) => list.add(&at_home(&self.subject, new).write())?,
                None => list.add(&known.write())?,
            }
        }
        for new in carried {
            list.add(&at_home(&self.subject, new).write())?;
        }
        list.finish().map(drop)
    }

    /// The list of changes without these, as far as they are the same still, or were listed as they are here.
    fn strike(&self, carried: &[Entry], listed: &[Line]) -> Result<Totals, String> {
        let mut list = List::create(&self.dir, "changes", lists::CHANGES_HEAD)?;
        let (mut totals, mut carried) = (Totals::default(), carried.iter().peekable());
        let mut listed = listed.iter().peekable();
        for entry in self.entries()? {
            let entry = entry?;
            while carried.next_if(|other| other.order(&entry).is_lt()).is_some() {}
            let other = carried.next_if(|other| other.order(&entry).is_eq());
            let line = &entry.now.line;
            while listed.next_if(|other| other.order(line).is_lt()).is_some() {}
            let was = listed.next_if(|other| other.order(line).is_eq());
            if other.is_some_and(|other| is_same(&other.now.line, line) || was.is_some_and(|was| is_same(was, line))) {
                continue;
            }
            totals.count(&entry);
            list.add(&entry.write())?;
        }
        list.finish()?;
        Ok(totals)
    }
}
