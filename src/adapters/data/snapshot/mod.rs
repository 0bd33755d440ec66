//! Snapshots of the working directories, in `state_dir/snapshots`: one directory each, a list (`manifest`) and a tree.
//!
//! One that is being made has a name that begins with a dot, and gets its own by a rename once all of it is on disk: half
//! a snapshot is never one. `take` makes them, `verify` reads one back, `restore` puts one in place, `held` moves files
//! aside; what is copied and which go is decided in [`crate::data::snapshot`].

pub mod at;
pub mod copy;
mod database;
pub mod held;
mod listing;
pub mod noted;
mod owner;
pub mod restore;
mod restore_note;
mod restore_plan;
pub mod take;
mod undo;
mod unsynced;
pub mod verify;

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write as _};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use self::copy::{Failed, Stop};
pub use self::listing::Known;
use super::look::Subject;
use super::walk::{Entry, Visitor, walk};
use crate::config::Config;
use crate::data::shown;
use crate::data::snapshot::{self, Kept, Kind};
use crate::host::lock;
use crate::units::data::size;

/// The robot's own journal lies on the same file system, and is worth more than a snapshot.
const RESERVE_BYTES: u64 = 32 << 20;
/// Beside the daemon only a person's command works here; neither takes longer, as a rule.
const LOCK_MAX: Duration = Duration::from_secs(10);
/// More entries of a directory are no snapshots of ours.
const LISTED_MAX: usize = 1000;
/// What is being made, or removed, begins so.
const UNFINISHED: &str = ".";
const MANIFEST: &str = "manifest";
const TREE: &str = "tree";

/// Where the snapshots of one configuration are.
#[derive(Debug, Clone)]
pub struct Vault {
    state_dir: PathBuf,
    subject: Subject,
    keep: u32,
    bytes_max: u64,
    /// So much of the disk stays free.
    reserve: u64,
}

/// Held while snapshots are made, removed or put in place.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// What the lock is held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Snapshots are made or removed, or the robot itself puts one in place.
    Robot,
    /// A person's command puts one in place: a takeover waits for its end.
    PersonRestores,
}

/// What a person's command writes into the lock, before the number of its process.
const PERSON: &str = "restore ";
const LOCK_BYTES_MAX: u64 = 64;

impl Vault {
    /// That of this configuration.
    pub fn new(config: &Config) -> Self {
        let sync = &config.sync;
        Self {
            state_dir: config.state_dir.clone(),
            subject: Subject::of(config),
            keep: sync.keep_snapshots,
            bytes_max: sync.snapshots_max,
            reserve: RESERVE_BYTES,
        }
    }

    /// With its own parts; for tests.
    pub fn of(state_dir: &Path, subject: Subject, keep: u32, bytes_max: u64) -> Self {
        Self { state_dir: state_dir.to_owned(), subject, keep, bytes_max, reserve: RESERVE_BYTES }
    }

    /// How many good ones are kept.
    pub fn keep(&self) -> u32 {
        self.keep
    }

    /// What is looked at.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Where the robot keeps its own.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    fn folder(&self) -> PathBuf {
        self.state_dir.join("snapshots")
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder().join(id)
    }

    /// The directory of a snapshot that a person names.
    fn there(&self, id: &str) -> Result<PathBuf, Failed> {
        let dir = Some(self.path(id)).filter(|dir| snapshot::is_id(id) && dir.is_dir());
        let none =
            || format!("there is no snapshot {}; `pbx-failover snapshots list` names them", shown(id.as_bytes()));
        dir.ok_or_else(|| Failed::Trouble(none()))
    }

    /// The working directories, as a list names them.
    fn dirs(&self) -> Vec<Vec<u8>> {
        self.subject.dirs.iter().map(|dir| dir.as_os_str().as_bytes().to_vec()).collect()
    }

    /// Waits until nobody else works here.
    ///
    /// # Errors
    /// One line.
    pub fn lock(&self, stop: &Stop) -> Result<Lock, Failed> {
        self.lock_for(Work::Robot, stop)
    }

    /// As [`Self::lock`]; says what for, so that who waits can tell.
    ///
    /// # Errors
    /// One line.
    pub fn lock_for(&self, work: Work, stop: &Stop) -> Result<Lock, Failed> {
        self.lock_within(work, LOCK_MAX, stop)
    }

    /// As [`Self::lock_for`]; waits so long.
    ///
    /// # Errors
    /// One line.
    pub fn lock_within(&self, work: Work, limit: Duration, stop: &Stop) -> Result<Lock, Failed> {
        let folder = self.folder();
        let cannot = |error: io::Error| Failed::Trouble(format!("{}: {error}", folder.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(cannot)?;
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(folder.join(".lock")).map_err(cannot)?;
        match lock::take(&file, |waited| !stop.is_called_off() && waited < limit) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && stop.is_called_off() => {
                return Err(Failed::CalledOff);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(Failed::Busy);
            }
            taken => taken.map_err(cannot)?,
        }
        let mark = match work {
            Work::Robot => String::new(),
            Work::PersonRestores => format!("{PERSON}{}", std::process::id()),
        };
        file.set_len(0).and_then(|()| (&file).write_all(mark.as_bytes())).map_err(cannot)?;
        Ok(Lock { _file: file })
    }

    /// The process of a person's restore that is at work now.
    pub fn person_restores(&self) -> Option<String> {
        use std::io::Read as _;
        let file = File::open(self.folder().join(".lock")).ok()?;
        let free = file.try_lock_shared().is_ok();
        let mut mark = String::new();
        file.take(LOCK_BYTES_MAX).read_to_string(&mut mark).ok()?;
        mark.strip_prefix(PERSON).filter(|_| !free).map(str::to_owned)
    }

    /// Whether anybody works here now.
    pub fn is_at_work(&self) -> bool {
        File::open(self.folder().join(".lock")).is_ok_and(|file| file.try_lock_shared().is_err())
    }

    /// Whether so many bytes can be written below here.
    ///
    /// # Errors
    /// One line.
    fn has_room(&self, below: &Path, needed: u64) -> Result<(), Failed> {
        // What is not there yet is made where its parent is.
        let told = below.ancestors().find_map(|dir| rustix::fs::statvfs(dir).ok());
        let Some(told) = told else { return Ok(()) };
        let free = told.f_bavail.saturating_mul(told.f_frsize);
        if free >= needed.saturating_add(self.reserve) {
            return Ok(());
        }
        let (free, reserve, needed) = (size(free), size(self.reserve), size(needed));
        let below = below.display();
        Err(Failed::Trouble(format!("{below} has {free} left, of which the robot needs {reserve} and this {needed}")))
    }

    /// Those that are kept, the oldest first; and those whose list does not read, with why.
    pub fn list(&self) -> (Vec<Known>, Vec<(String, String)>) {
        let (mut known, mut odd) = (Vec::new(), Vec::new());
        let names = fs::read_dir(self.folder()).into_iter().flatten().flatten().take(LISTED_MAX);
        for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
            if !snapshot::is_id(&name) {
                continue;
            }
            match listing::known(&self.path(&name), &name) {
                Ok(one) => known.push(one),
                Err(why) => odd.push((name, why)),
            }
        }
        known.sort_by(|one, other| one.head.at.cmp(&other.head.at).then_with(|| one.id.cmp(&other.id)));
        (known, odd)
    }

    /// The newest good one of these working directories.
    pub fn newest_good(&self) -> Option<Known> {
        self.good().pop()
    }

    /// The good ones of these working directories, the oldest first.
    pub fn good(&self) -> Vec<Known> {
        self.good_of(self.list().0)
    }

    /// The good ones among these.
    pub fn good_of(&self, known: Vec<Known>) -> Vec<Known> {
        let dirs = self.dirs();
        known.into_iter().filter(|one| one.head.kind == Kind::LastGood && one.head.dirs == dirs).collect()
    }

    /// Notes that what it holds was found good again just now.
    pub fn confirm(&self, id: &str) {
        let touched = File::options().append(true).open(self.path(id).join(MANIFEST));
        // Without it the snapshot only looks older than it is.
        let _ = touched.and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// A working directory that we may not write into.
    pub fn unwritable(&self) -> Option<String> {
        use rustix::fs::{Access, AtFlags, CWD};
        let may = |dir: &&PathBuf| {
            let told = rustix::fs::accessat(CWD, dir.as_path(), Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
            // One that is not there is told by the gate.
            matches!(told, Ok(()) | Err(rustix::io::Errno::NOENT))
        };
        self.subject.dirs.iter().find(|dir| !may(dir)).map(|dir| crate::data::shown(dir.as_os_str().as_bytes()))
    }

    /// Bytes of all snapshots; what several share counts once.
    pub fn bytes(&self) -> u64 {
        let mut counted = Counted::default();
        walk(&[self.folder()], &mut counted);
        counted.bytes
    }

    /// Removes what a killed one left behind. Only under the lock: what is being made looks the same.
    fn clear(&self, _lock: &Lock) {
        let names = fs::read_dir(self.folder()).into_iter().flatten().flatten().take(LISTED_MAX);
        for entry in names.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            if entry.file_name().as_bytes().starts_with(UNFINISHED.as_bytes()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Removes those that are outdated; the others stay within their number and room.
    pub fn prune(&self, lock: &Lock) {
        self.clear(lock);
        let kept = || {
            let known = self.list().0.into_iter();
            known.map(|one| Kept { id: one.id, kind: one.head.kind, at: one.head.at }).collect::<Vec<_>>()
        };
        // Without them there would be no way back; where a note does not read nobody knows which.
        let Ok(needed) = self.needed() else { return };
        for id in snapshot::outdated(&kept(), self.keep, &needed) {
            self.remove(&id);
        }
        let mut all = kept();
        while self.bytes() > self.bytes_max {
            let Some(next) = snapshot::goes_next(&all, &needed).map(str::to_owned) else { return };
            self.remove(&next);
            all.retain(|kept| kept.id != next);
        }
    }

    /// Removes one that was taken for nothing.
    pub fn discard(&self, _lock: &Lock, id: &str) {
        self.remove(id);
    }

    /// Under another name first, so that half of one is none.
    fn remove(&self, id: &str) {
        let away = self.folder().join(format!("{UNFINISHED}removing-{id}"));
        let removed = fs::rename(self.path(id), &away).and_then(|()| fs::remove_dir_all(&away));
        if let Err(error) = removed {
            tracing::warn!(id, %error, "an old snapshot could not be removed");
        }
    }
}

#[derive(Default)]
struct Counted {
    bytes: u64,
    shared: HashSet<u64>,
}

impl Visitor for Counted {
    fn file(&mut self, entry: &Entry<'_>) -> ControlFlow<()> {
        if self.shared.insert(entry.identity.1) {
            self.bytes = self.bytes.saturating_add(entry.about.size);
        }
        ControlFlow::Continue(())
    }

    fn trouble(&mut self, _: usize, _: &[u8], _: &str) {}
}

/// Writes a directory's names to disk.
fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests;
