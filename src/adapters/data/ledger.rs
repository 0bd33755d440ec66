//! The ledger on disk: a baseline of the working directories, and what differs from it by now.
//!
//! In `state_dir/ledger`: `about` (numbers, JSON), `baseline` and `changes` (lists in the order of a walk), `twice` (what
//! both sides changed). A list is written whole beside the old one and renamed; what is read is streamed, so that a million
//! files cost no more memory than one directory. What was carried home and read back there moves the baseline on: it is
//! then what both sides have. Everything here blocks; the caller gives it a thread and a limit. How a list looks is
//! [`crate::data::ledger`]'s, its files are in `lists`.

mod lists;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::look::{Subject, is_passed_over};
use super::walk::{Descend, Entry as Walked, Visitor, walk};
use crate::config::Config;
use crate::data::content::READ_MAX;
use crate::data::ledger::{Change, Entry, Known, is_kept};
use crate::data::survey::Count;
use crate::data::{Class, Line, shown};
use crate::units::data::ClassCount;
use crate::units::ledger::{Ledger as Told, Phase};

use lists::{Baseline, List, read_all, write_whole};
pub use lists::{Entries, Lock};

/// Configuration is digested up to so much altogether: phones wait for the baseline.
const DIGESTED_MAX: u64 = 64 << 20;

/// So many directories that cannot be read are remembered; with more, nothing counts as removed.
const HIDDEN_MAX: usize = 1000;

/// The list of files that both sides changed holds so many lines at most that are shown.
const TWICE_BYTES_MAX: u64 = 4 << 20;

/// Where the ledger of one configuration lies.
#[derive(Debug, Clone)]
pub struct Ledger {
    dir: PathBuf,
    archive: PathBuf,
    subject: Subject,
}

#[derive(Debug, Serialize, Deserialize)]
struct About {
    #[serde(flatten)]
    told: Told,
    /// The working directories, as [`shown`] writes them: another list of them has other numbers.
    dirs: Vec<String>,
}

/// What a baseline came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Taken, of so many files; so many that an earlier service left wait still.
    Taken(u64, u64),
    /// An earlier one of this node's service goes on.
    GoesOn,
}

impl Ledger {
    /// That of this configuration.
    pub fn new(config: &Config) -> Self {
        let sync = &config.sync;
        let dirs = config.pbx.working_dirs.clone();
        let subject = Subject { dirs, classes: sync.classes.clone(), ignore: sync.ignore.clone() };
        Self { dir: config.state_dir.join("ledger"), archive: config.state_dir.join("ledger.last"), subject }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The ledger that is open, in numbers; `None`: there is none.
    ///
    /// # Errors
    /// One line.
    pub fn told(&self) -> Result<Option<Told>, String> {
        about_in(&self.dir).map(|about| about.map(|about| about.told))
    }

    /// The open one, or else the last that ended.
    ///
    /// # Errors
    /// One line.
    pub fn last_told(&self) -> Result<Option<Told>, String> {
        match self.told()? {
            Some(told) => Ok(Some(told)),
            None => about_in(&self.archive).map(|about| about.map(|about| about.told)),
        }
    }

    /// Takes the baseline of a service, or goes on with that of the service before, where this node served since.
    ///
    /// # Errors
    /// One line; the former ledger stands.
    pub fn begin(&self, service: &str, now: Timestamp) -> Result<Begun, String> {
        fs::create_dir_all(&self.dir).map_err(|error| self.cannot("make", "", &error))?;
        let _lock = self.lock(Lock::Lists)?;
        let former = self.about()?.map(|about| about.told);
        if let Some(former) = &former
            && former.phase == Phase::Serving
            && former.looked_at.is_some()
        {
            // Service was taken back, or a plan began anew: what was changed since is still not at home.
            self.save(&Told { service: service.to_owned(), ..former.clone() })?;
            return Ok(Begun::GoesOn);
        }
        let left = former.as_ref().filter(|former| former.files > 0);
        let left_entries = left.map(|_| self.entries()).transpose()?;
        let list = List::create(&self.dir, "baseline", lists::BASELINE_HEAD)?;
        let mut taking = Taking {
            subject: &self.subject,
            list,
            left: left_entries.map(Iterator::peekable),
            digested: 0,
            inherited: Totals::default(),
            failed: None,
        };
        walk(&self.subject.dirs, &mut taking);
        if let Some(why) = taking.failed {
            return Err(why);
        }
        let (inherited, list) = (taking.inherited, taking.list);
        let files = list.finish()?;
        if inherited.files() == 0 {
            for stale in ["changes", "twice"] {
                let _ = fs::remove_file(self.dir.join(stale));
            }
        }
        let mut told = first(service, now);
        inherited.tell(&mut told);
        told.kept_twice = former.filter(|_| told.files > 0).map_or(0, |former| former.kept_twice);
        self.save(&told)?;
        Ok(Begun::Taken(files, inherited.files()))
    }

    /// Looks through the working directories, and writes down what differs; `None`: there is no ledger, or it is not this
    /// node's turn.
    ///
    /// # Errors
    /// One line; the former list stands.
    pub fn look(&self, now: Timestamp) -> Result<Option<Told>, String> {
        let Some(about) = self.about()? else { return Ok(None) };
        if about.told.phase == Phase::Home {
            return Ok(Some(about.told));
        }
        let _lock = self.lock(Lock::Lists)?;
        let Some(about) = self.about()? else { return Ok(None) };
        let dirs = self.shown_dirs();
        if about.dirs != dirs {
            return Err(format!(
                "the working directories are not those of the ledger any more ({}); carry home what changed by hand, then `pbx-failover ledger --end --yes`",
                about.dirs.join(", ")
            ));
        }
        let mut comparing = Comparing {
            subject: &self.subject,
            baseline: Baseline::open(&self.dir)?.peekable(),
            list: List::create(&self.dir, "changes", lists::CHANGES_HEAD)?,
            totals: Totals::default(),
            hidden: Vec::new(),
            failed: None,
        };
        walk(&self.subject.dirs, &mut comparing);
        comparing.gone_before(None);
        if let Some(why) = comparing.failed {
            return Err(why);
        }
        let (totals, list, hidden) = (comparing.totals, comparing.list, comparing.hidden);
        list.finish()?;
        let mut told = Told { looked_at: Some(now), trouble: None, ..about.told };
        totals.tell(&mut told);
        if let Some((dir, path)) = hidden.first() {
            let place = self.subject.dirs[*dir].join(std::ffi::OsStr::from_bytes(path));
            told.trouble = Some(format!("not looked through: {}", shown(place.as_os_str().as_bytes())));
        }
        self.save(&told)?;
        Ok(Some(told))
    }

    /// What differs, as the last look saw it; without what was carried since.
    ///
    /// # Errors
    /// One line.
    pub fn entries(&self) -> Result<Entries, String> {
        Entries::open(&self.dir)
    }

    /// The same of the open ledger, or else of the last that ended.
    ///
    /// # Errors
    /// One line.
    pub fn last_entries(&self) -> Result<Entries, String> {
        let dir = if self.told()?.is_some() { &self.dir } else { &self.archive };
        Entries::open(dir)
    }

    /// The files that both sides changed, one a line: where it is, and how ours is called at home.
    pub fn twice(&self) -> Vec<String> {
        let dir = if self.dir.join("about").exists() { &self.dir } else { &self.archive };
        let text = read_all(&dir.join("twice"), TWICE_BYTES_MAX).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// These are at home, read back there, as they stand in the entries: in the order of a walk. `beside` are those of
    /// them that stand there beside another, with their names.
    ///
    /// # Errors
    /// One line; they count as not carried, and will be seen to be there.
    pub fn settle(&self, carried: &[Entry], beside: &[(Entry, Vec<u8>)], rate: Option<u64>) -> Result<Told, String> {
        let _lock = self.lock(Lock::Lists)?;
        let mut about = self.about()?.ok_or("the ledger is gone")?;
        self.note_twice(beside)?;
        self.move_baseline(carried)?;
        let totals = self.strike(carried)?;
        let told = &mut about.told;
        totals.tell(told);
        told.carried_files += carried.len() as u64;
        told.carried_bytes += carried.iter().map(|entry| entry.now.line.about.size).sum::<u64>();
        told.kept_twice += beside.len() as u64;
        told.rate = rate.or(told.rate);
        self.save(told)?;
        Ok(about.told)
    }

    /// Another serves now, or this node again; and what keeps what waits from being carried.
    ///
    /// # Errors
    /// One line.
    pub fn mark(&self, phase: Phase, trouble: Option<String>) -> Result<(), String> {
        let _lock = self.lock(Lock::Lists)?;
        let Some(about) = self.about()? else { return Ok(()) };
        if about.told.phase != phase || about.told.trouble != trouble {
            self.save(&Told { phase, trouble, ..about.told })?;
        }
        Ok(())
    }

    /// Ends it: it is kept as the last one, in the place of the one before.
    ///
    /// # Errors
    /// One line.
    pub fn end(&self) -> Result<(), String> {
        let _lock = self.lock(Lock::Lists)?;
        let Some(about) = self.about()? else { return Ok(()) };
        self.save(&Told { ended: true, ..about.told })?;
        match fs::remove_dir_all(&self.archive) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.cannot("remove", ".last", &error)),
            _ => {}
        }
        fs::rename(&self.dir, &self.archive).map_err(|error| self.cannot("put by", "", &error))
    }

    /// Keeps others out while it is held.
    ///
    /// # Errors
    /// One line: another has it.
    pub fn lock(&self, which: Lock) -> Result<fs::File, String> {
        lists::lock(&self.dir, which)
    }

    fn about(&self) -> Result<Option<About>, String> {
        about_in(&self.dir)
    }

    fn save(&self, told: &Told) -> Result<(), String> {
        let about = About { told: told.clone(), dirs: self.shown_dirs() };
        let text = serde_json::to_string_pretty(&about).map_err(|error| error.to_string())?;
        write_whole(&self.dir, "about", &text)
    }

    fn shown_dirs(&self) -> Vec<String> {
        self.subject.dirs.iter().map(|dir| shown(dir.as_os_str().as_bytes())).collect()
    }

    fn cannot(&self, what: &str, end: &str, error: &io::Error) -> String {
        format!("cannot {what} {}{end}: {error}; see to state_dir", self.dir.display())
    }

    fn note_twice(&self, beside: &[(Entry, Vec<u8>)]) -> Result<(), String> {
        if beside.is_empty() {
            return Ok(());
        }
        let known = self.twice();
        let lines = beside.iter().map(|(entry, name)| {
            let line = &entry.now.line;
            let place = self.subject.dirs[line.dir].join(std::ffi::OsStr::from_bytes(&line.path));
            format!("{} -> {}", shown(place.as_os_str().as_bytes()), shown(name))
        });
        let new: Vec<_> = lines.filter(|line| !known.contains(line)).collect();
        let append = || -> io::Result<()> {
            let mut file = fs::File::options().create(true).append(true).open(self.dir.join("twice"))?;
            for line in new {
                writeln!(file, "{line}")?;
            }
            file.sync_all()
        };
        append().map_err(|error| self.cannot("write", "/twice", &error))
    }

    /// The baseline with these in it as they are now.
    fn move_baseline(&self, carried: &[Entry]) -> Result<(), String> {
        let mut list = List::create(&self.dir, "baseline", lists::BASELINE_HEAD)?;
        let mut carried = carried.iter().peekable();
        for known in Baseline::open(&self.dir)? {
            let known = known?;
            while let Some(new) = carried.next_if(|entry| entry.now.line.order(&known.line).is_lt()) {
                list.add(&new.now.write())?;
            }
            match carried.next_if(|entry| entry.now.line.order(&known.line).is_eq()) {
                Some(new) => list.add(&new.now.write())?,
                None => list.add(&known.write())?,
            }
        }
        for new in carried {
            list.add(&new.now.write())?;
        }
        list.finish().map(drop)
    }

    /// The list of changes without these, as far as they are the same still.
    fn strike(&self, carried: &[Entry]) -> Result<Totals, String> {
        let mut list = List::create(&self.dir, "changes", lists::CHANGES_HEAD)?;
        let (mut totals, mut carried) = (Totals::default(), carried.iter().peekable());
        for entry in self.entries()? {
            let entry = entry?;
            while carried.next_if(|other| other.order(&entry).is_lt()).is_some() {}
            let other = carried.next_if(|other| other.order(&entry).is_eq());
            if other.is_some_and(|other| is_same(&other.now.line, &entry.now.line)) {
                continue;
            }
            totals.count(&entry);
            list.add(&entry.write())?;
        }
        list.finish()?;
        Ok(totals)
    }
}

fn about_in(dir: &Path) -> Result<Option<About>, String> {
    /// No ledger tells more of itself.
    const BYTES_MAX: u64 = 1 << 20;
    let file = dir.join("about");
    let text = match read_all(&file, BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", file.display())),
    };
    let about = serde_json::from_str(&text);
    about.map(Some).map_err(|error| {
        format!("cannot read {}: {error}; `pbx-failover ledger --end --yes` puts it by", file.display())
    })
}

fn first(service: &str, now: Timestamp) -> Told {
    Told {
        service: service.to_owned(),
        since: now,
        phase: Phase::Serving,
        looked_at: None,
        files: 0,
        bytes: 0,
        classes: Vec::new(),
        removed: 0,
        carried_files: 0,
        carried_bytes: 0,
        kept_twice: 0,
        rate: None,
        trouble: None,
        ended: false,
    }
}

/// Whether two sightings of a file are of one content.
fn is_same(one: &Line, other: &Line) -> bool {
    (one.about.size, one.about.modified) == (other.about.size, other.about.modified)
}

/// What waits, counted.
#[derive(Debug, Default)]
struct Totals {
    classes: BTreeMap<Class, Count>,
    removed: u64,
}

impl Totals {
    fn count(&mut self, entry: &Entry) {
        if !entry.waits() {
            self.removed += 1;
            return;
        }
        let count = self.classes.entry(entry.class).or_default();
        count.files += 1;
        count.bytes = count.bytes.saturating_add(entry.now.line.about.size);
    }

    fn files(&self) -> u64 {
        self.classes.values().map(|count| count.files).sum()
    }

    fn tell(&self, told: &mut Told) {
        told.files = self.files();
        told.bytes = self.classes.values().fold(0, |sum, count| sum.saturating_add(count.bytes));
        told.removed = self.removed;
        let class = |(class, count): (&Class, &Count)| ClassCount {
            name: class.name().to_owned(),
            files: count.files,
            bytes: count.bytes,
        };
        told.classes = self.classes.iter().map(class).collect();
    }
}

/// Takes a baseline while a walk goes on.
struct Taking<'a> {
    subject: &'a Subject,
    list: List,
    /// What an earlier service left.
    left: Option<std::iter::Peekable<Entries>>,
    digested: u64,
    inherited: Totals,
    failed: Option<String>,
}

impl Taking<'_> {
    fn take(&mut self, walked: &Walked<'_>) -> Result<(), String> {
        let mut known = known(walked);
        if self.subject.classes.of(walked.path) == Class::Config
            && known.line.about.size <= READ_MAX
            && self.digested < DIGESTED_MAX
        {
            self.digested += known.line.about.size;
            known.line.digest = digest(walked);
        }
        if let Some(left) = &mut self.left {
            let is_before =
                |entry: &Result<Entry, String>| entry.as_ref().is_ok_and(|e| e.now.line.order(&known.line).is_lt());
            while left.next_if(is_before).is_some() {}
            let is_here =
                |entry: &Result<Entry, String>| entry.as_ref().is_ok_and(|e| e.now.line.order(&known.line).is_eq());
            if let Some(entry) = left.next_if(is_here) {
                let entry = entry?;
                if entry.waits() && is_same(&entry.now.line, &known.line) {
                    self.inherited.count(&entry);
                    return match entry.change {
                        Change::Changed(was) => self.list.add(&was.write()),
                        Change::Added | Change::Removed => Ok(()),
                    };
                }
            }
        }
        self.list.add(&known.write())
    }
}

impl Visitor for Taking<'_> {
    fn file(&mut self, walked: &Walked<'_>) -> ControlFlow<()> {
        if !is_kept(walked.about.kind) || is_passed_over(walked, &self.subject.ignore) {
            return ControlFlow::Continue(());
        }
        match self.take(walked) {
            Ok(()) => ControlFlow::Continue(()),
            Err(why) => {
                self.failed = Some(why);
                ControlFlow::Break(())
            }
        }
    }

    fn directory(&mut self, walked: &Walked<'_>) -> Descend {
        if is_passed_over(walked, &self.subject.ignore) { Descend::Past } else { Descend::Into }
    }

    /// What cannot be looked at now counts as added once it can: it goes home, where it is seen to be the same.
    fn trouble(&mut self, _dir: usize, _path: &[u8], _why: &str) {}
}

/// Compares a baseline with a walk that goes on.
struct Comparing<'a> {
    subject: &'a Subject,
    baseline: std::iter::Peekable<Baseline>,
    list: List,
    totals: Totals,
    /// What could not be looked through: nothing of it counts as removed.
    hidden: Vec<(usize, Vec<u8>)>,
    failed: Option<String>,
}

impl Comparing<'_> {
    fn compare(&mut self, walked: &Walked<'_>) -> Result<(), String> {
        let now = known(walked);
        self.gone_before(Some(&now.line));
        let was = self.baseline.next_if(|known| known.as_ref().is_ok_and(|known| known.line.order(&now.line).is_eq()));
        let change = match was {
            None if self.failed.is_some() => return Ok(()),
            None => Change::Added,
            Some(was) => {
                let was = was?;
                if !was.differs(walked.about, walked.changed, || digest(walked)) {
                    return Ok(());
                }
                Change::Changed(was)
            }
        };
        self.add(&Entry { change, class: self.subject.classes.of(walked.path), now })
    }

    fn add(&mut self, entry: &Entry) -> Result<(), String> {
        self.totals.count(entry);
        self.list.add(&entry.write())
    }

    /// What the baseline names before this line, or at all, is gone.
    fn gone_before(&mut self, line: Option<&Line>) {
        let is_before = |known: &Result<Known, String>| match (known, line) {
            (Ok(known), Some(line)) => known.line.order(line).is_lt(),
            // A damaged baseline ends the comparison.
            _ => true,
        };
        while self.failed.is_none()
            && let Some(known) = self.baseline.next_if(is_before)
        {
            let done = known.and_then(|known| {
                if self.is_hidden(&known.line) {
                    return Ok(());
                }
                let class = self.subject.classes.of(&known.line.path);
                self.add(&Entry { change: Change::Removed, class, now: known })
            });
            self.failed = done.err();
        }
    }

    fn is_hidden(&self, line: &Line) -> bool {
        let below = |path: &[u8]| {
            path.is_empty() || line.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        self.hidden.len() >= HIDDEN_MAX || self.hidden.iter().any(|(dir, path)| *dir == line.dir && below(path))
    }
}

impl Visitor for Comparing<'_> {
    fn file(&mut self, walked: &Walked<'_>) -> ControlFlow<()> {
        if !is_kept(walked.about.kind) || is_passed_over(walked, &self.subject.ignore) {
            return ControlFlow::Continue(());
        }
        if let Err(why) = self.compare(walked) {
            self.failed = Some(why);
        }
        if self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn directory(&mut self, walked: &Walked<'_>) -> Descend {
        if is_passed_over(walked, &self.subject.ignore) { Descend::Past } else { Descend::Into }
    }

    fn trouble(&mut self, dir: usize, path: &[u8], _why: &str) {
        if self.hidden.len() < HIDDEN_MAX {
            self.hidden.push((dir, path.to_vec()));
        }
    }
}

fn known(walked: &Walked<'_>) -> Known {
    let line = Line { dir: walked.dir, path: walked.path.to_vec(), about: walked.about, digest: None };
    Known { line, changed: walked.changed }
}

/// SHA-256 of a file of configuration; `None` where it cannot be read, or is too large to be one.
fn digest(walked: &Walked<'_>) -> Option<String> {
    use std::io::Read as _;
    let mut content = Vec::new();
    walked.open().ok()?.take(READ_MAX + 1).read_to_end(&mut content).ok()?;
    if content.len() as u64 > READ_MAX {
        return None;
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content);
    Some(digest.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}

#[cfg(test)]
mod tests;
