//! What goes home beside another: a folder that holds our files under the names that they bear there.
//!
//! rsync gives no new names. A database goes with its parts, under one stem: what is one, says [`crate::data::family`].
//! The sending is [`super`]'s.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{AtFlags, CWD};

use super::os;
use crate::data::ledger::{Change, Entry, NAME_BYTES_MAX, beside};
use crate::data::manifest::{About, Kind};
use crate::data::{family, shown};
use crate::host::{file, here};
use crate::units::data::size;

/// So much of the disk stays free beside copies: the robot's own journal lies there.
const RESERVE_BYTES: u64 = 64 << 20;

/// After so many bytes of a copy it is seen whether there is time and room for more.
const COPIED_BYTES: u64 = 16 << 20;

/// A database, with what lies here under its name and under the names of its parts.
#[derive(Debug, Clone)]
pub struct Family {
    database: Option<Entry>,
    parts: Vec<Entry>,
}

impl Family {
    fn of(root: &Path, base: &[u8], like: &Entry) -> Result<Self, String> {
        let look = |path: Vec<u8>| -> Result<Option<Entry>, String> {
            if !can_stand(&path) {
                return Ok(None);
            }
            let seen = here::seen(root, &path)
                .map_err(|error| format!("cannot look at {}: {error}; see to the disk of this node", shown(&path)))?;
            Ok(seen.map(|seen| {
                let mut entry = Entry { change: Change::Added, ..like.clone() };
                let about = About { kind: Kind::File, size: seen.size, modified: seen.modified, ..like.now.line.about };
                (entry.now.line.path, entry.now.line.about, entry.now.changed) = (path, about, seen.changed);
                entry
            }))
        };
        let parts = family::PARTS.iter().map(|part| look(family::part(base, part)));
        let parts = parts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        Ok(Self { database: look(base.to_vec())?, parts })
    }

    /// Whether it goes whole or not at all: a part of the content lies in a log, or its database is not here.
    pub fn is_one(&self) -> bool {
        let holds = |entry: &Entry| {
            let path = &entry.now.line.path;
            entry.now.line.about.size > 0 && family::LOGS.iter().any(|log| path.ends_with(log.as_bytes()))
        };
        self.database.is_none() || self.parts.iter().any(holds)
    }

    /// Bytes of all of it.
    pub fn size(&self) -> u64 {
        self.database.iter().chain(&self.parts).map(|entry| entry.now.line.about.size).sum()
    }

    /// What of it has a content of its own.
    fn content(&self) -> impl Iterator<Item = &Entry> {
        let is_alone = self.database.is_none();
        let holds = move |entry: &&Entry| {
            let is_index = entry.now.line.path.ends_with(family::INDEX.as_bytes());
            is_alone || (entry.now.line.about.size > 0 && !is_index)
        };
        self.database.iter().chain(self.parts.iter().filter(holds))
    }
}

/// Families by the names of their databases.
#[derive(Debug, Clone, Default)]
pub struct Families(BTreeMap<Vec<u8>, Family>);

impl Families {
    /// Those that any of these entries of one working directory belongs to, as they are at this moment. `databases`: what is
    /// one, whatever its name is.
    ///
    /// # Errors
    /// One line: the disk does not say.
    pub fn of(entries: &[Entry], root: &Path, databases: &BTreeSet<Vec<u8>>) -> Result<Self, String> {
        let mut families = BTreeMap::new();
        let is_of_one = |entry: &&Entry| entry.is_live() || databases.contains(&entry.now.line.path);
        for entry in entries.iter().filter(is_of_one) {
            let base = base(entry);
            if !families.contains_key(base) {
                families.insert(base.to_vec(), Family::of(root, base, entry)?);
            }
        }
        Ok(Self(families))
    }

    /// That of an entry.
    pub fn get(&self, entry: &Entry) -> Option<&Family> {
        self.0.get(base(entry))
    }

    /// The names whose place at home decides how they go.
    pub fn names(&self) -> impl Iterator<Item = Vec<u8>> {
        let names = |base: &Vec<u8>| {
            let logs = family::LOGS.map(|log| family::part(base, log));
            std::iter::once(base.clone()).chain(logs)
        };
        self.0.keys().flat_map(names).filter(|name| can_stand(name))
    }
}

/// The name of its database; of any other file its own.
pub fn base(entry: &Entry) -> &[u8] {
    let path = &entry.now.line.path;
    family::base(path).unwrap_or(path)
}

/// Whether a file system takes its last name.
pub fn can_stand(path: &[u8]) -> bool {
    path.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name.len() <= NAME_BYTES_MAX)
}

/// What goes beside together: one file, or a database with its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The entries that it settles.
    pub entries: Vec<Entry>,
    /// What is sent of it, each under its name at home.
    pub sent: Vec<(Entry, Vec<u8>)>,
}

/// What stands in the folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Staged {
    /// What can be sent.
    pub groups: Vec<Group>,
    /// What cannot stand there, and why: it holds up nothing else.
    pub refused: Vec<(Vec<Entry>, String)>,
}

/// Removes the folder with all that is in it.
///
/// # Errors
/// One line.
pub fn clear(stage: &Path) -> Result<(), String> {
    match fs::remove_dir_all(stage) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}; see to state_dir", stage.display()))
        }
        _ => Ok(()),
    }
}

/// Puts these files into a new folder under the names that they bear at home, until then. What is gone is left out. Who calls it
/// removes the folder.
///
/// # Errors
/// One line.
pub fn staged(
    entries: &[Entry],
    root: &Path,
    (stage, deadline): (&Path, Instant),
    node: &str,
    databases: &BTreeSet<Vec<u8>>,
) -> Result<Staged, String> {
    clear(stage)?;
    let families = Families::of(entries, root, databases)?;
    let (mut staged, mut done) = (Staged::default(), BTreeSet::new());
    for entry in entries {
        let line = &entry.now.line;
        let group = match families.get(entry) {
            Some(family) if family.is_one() => {
                if !done.insert(base(entry)) {
                    continue;
                }
                let at = family.content().map(|entry| entry.now.line.about.modified.0).max().unwrap_or_default();
                let stem = family::stem(base(entry), node, at);
                let named = |member: &Entry| {
                    let end = &member.now.line.path[base(entry).len()..];
                    (member.clone(), [&stem, end].concat())
                };
                let is_of_it = |other: &&Entry| base(other) == base(entry);
                Group {
                    entries: entries.iter().filter(is_of_it).cloned().collect(),
                    sent: family.content().map(named).collect(),
                }
            }
            Some(_) => {
                let name = family::stem(&line.path, node, line.about.modified.0);
                Group { entries: vec![entry.clone()], sent: vec![(entry.clone(), name)] }
            }
            None => {
                let name = beside(&line.path, node, line.about.modified.0);
                Group { entries: vec![entry.clone()], sent: vec![(entry.clone(), name)] }
            }
        };
        match stands(&group, root, (stage, deadline)) {
            Ok(Stands::Whole) => staged.groups.push(group),
            Ok(Stands::Gone) => leave(&group, stage),
            Err(why) => {
                // What others have room for is not taken by half of it.
                leave(&group, stage);
                staged.refused.push((group.entries, why));
            }
        }
        if Instant::now() >= deadline {
            clear(stage)?;
            return Err("not done in time".to_owned());
        }
    }
    Ok(staged)
}

fn leave(group: &Group, stage: &Path) {
    for (_, name) in &group.sent {
        let _ = fs::remove_file(stage.join(os(name)));
    }
}

/// Whether a group stands in the folder.
enum Stands {
    Whole,
    /// A part of it is gone here.
    Gone,
}

fn stands(group: &Group, root: &Path, (stage, deadline): (&Path, Instant)) -> Result<Stands, String> {
    for (entry, name) in &group.sent {
        let (stand_in, path) = (stage.join(os(name)), &entry.now.line.path);
        let made = || -> io::Result<Stands> {
            let Some(file) = here::open(root, path)? else { return Ok(Stands::Gone) };
            stand_in.parent().map_or(Ok(()), file::create_dirs)?;
            stand_for(file, &stand_in, deadline)?;
            Ok(Stands::Whole)
        };
        match made() {
            Ok(Stands::Whole) => {}
            Ok(Stands::Gone) => return Ok(Stands::Gone),
            // Our own, which says it all.
            Err(error) if error.raw_os_error().is_none() && error.kind() == ErrorKind::StorageFull => {
                return Err(format!("{} {error}", shown(path)));
            }
            Err(error) => return Err(format!("cannot make {}: {error}; see to state_dir", stand_in.display())),
        }
    }
    Ok(Stands::Whole)
}

/// The file that is open under another name too; where that cannot be, a copy with its owner, rights and date.
fn stand_for(mut file: fs::File, path: &Path, deadline: Instant) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::MetadataExt as _;
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    if rustix::fs::linkat(CWD, open.as_str(), CWD, path, AtFlags::SYMLINK_FOLLOW).is_ok() {
        return Ok(());
    }
    let about = file.metadata()?;
    has_room(path, about.len(), about.len())?;
    let mut copy = fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    while io::copy(&mut file.by_ref().take(COPIED_BYTES), &mut copy)? == COPIED_BYTES {
        if Instant::now() >= deadline {
            return Err(ErrorKind::TimedOut.into());
        }
        // Others write there too, and the file may grow.
        has_room(path, 0, about.len())?;
    }
    let _ = std::os::unix::fs::fchown(&copy, Some(about.uid()), Some(about.gid()));
    copy.set_permissions(about.permissions())?;
    copy.set_modified(about.modified()?)
}

/// Whether so many bytes more can be written there, of a copy of `whole` bytes.
fn has_room(path: &Path, more: u64, whole: u64) -> io::Result<()> {
    let told = rustix::fs::statvfs(path.parent().unwrap_or(path))?;
    let free = told.f_bavail.saturating_mul(told.f_frsize);
    if free >= more.saturating_add(RESERVE_BYTES) {
        return Ok(());
    }
    let [whole, free, reserve] = [whole, free, RESERVE_BYTES].map(size);
    let why = format!(
        "needs {whole} in state_dir, which has {free} left, of which the robot needs {reserve}; make room there"
    );
    Err(io::Error::new(ErrorKind::StorageFull, why))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::data::Class;

    #[test]
    fn what_goes_beside_is_sent_from_the_file_itself_and_never_from_what_a_link_shows() {
        let (dir, outside) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
        let (root, stage) = (dir.path().join("work"), dir.path().join("stage"));
        fs::create_dir_all(root.join("a")).expect("directory");
        fs::write(root.join("a/f"), "mine").expect("file");
        fs::write(root.join("g"), "mine").expect("file");
        fs::write(outside.path().join("f"), "not mine").expect("file");
        let entry = |path: &[u8]| {
            let here::Seen { size, modified, mode, changed } =
                here::seen(&root, path).expect("looked").expect("a file");
            let about = crate::data::manifest::About { kind: crate::data::manifest::Kind::File, size, modified, mode };
            let line = crate::data::Line { dir: 0, path: path.to_vec(), about, digest: None };
            let now = crate::data::ledger::Known { line, changed };
            Entry { change: Change::Added, class: Class::Other, now }
        };
        let entries = vec![entry(b"a/f"), entry(b"g")];
        fs::remove_dir_all(root.join("a")).expect("removed");
        std::os::unix::fs::symlink(outside.path(), root.join("a")).expect("link");
        let is_still = |entry: &Entry| {
            let line = &entry.now.line;
            here::is_still(&root, &line.path, line.about.size, line.about.modified)
        };
        assert!(!is_still(&entries[0]) && is_still(&entries[1]));
        let soon = Instant::now() + Duration::from_secs(60);
        let staged = staged(&entries, &root, (&stage, soon), "pbx-b", &BTreeSet::new()).expect("staged");
        let [Group { sent, .. }] = &staged.groups[..] else { panic!("one of them: {staged:?}") };
        let (entry, name) = &sent[0];
        assert_eq!(entry.now.line.path, b"g");
        assert_eq!(fs::read_to_string(stage.join(os(name))).expect("a file"), "mine");
    }

    #[test]
    fn a_copy_has_the_date_and_the_rights_of_its_file() {
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join("f"), "mine").expect("file");
        let file = fs::File::open(dir.path().join("f")).expect("file");
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(7)).expect("dated");
        // Of a file that has no name any more no second name can be made.
        fs::remove_file(dir.path().join("f")).expect("removed");
        let about = file.metadata().expect("metadata");
        stand_for(file, &dir.path().join("g"), Instant::now() + Duration::from_secs(60)).expect("a copy");
        let copy = fs::metadata(dir.path().join("g")).expect("metadata");
        assert_eq!((copy.modified().ok(), copy.permissions()), (about.modified().ok(), about.permissions()));
    }
}
