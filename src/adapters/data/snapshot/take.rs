//! Takes a snapshot: copies what is to be copied, lists everything, and throws it away unless it is of one moment.
//!
//! What has not changed since the newest snapshot is linked to the copy there (as `rsync --link-dest` does): both are
//! ours and never written again, so that many snapshots of a quiet directory take the room of one.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::copy::{self, Broke, Failed, Stop};
use super::listing::{Ahead, Reader, Writer};
use super::unsynced::Unsynced;
use super::{Lock, TREE, UNFINISHED, Vault, database, sync_dir};
use crate::adapters::data::look::{Subject, seen};
use crate::adapters::data::walk::{Descend, Entry, Visitor, walk};
use crate::data::family::PARTS;
use crate::data::manifest::{self, Line};
use crate::data::snapshot::{Copied, Foot, Head, Item, Kind, Measure, Measuring, is_copied, left_out};
use crate::data::survey::NAMED_MAX;
use crate::data::{Class, shown};
use crate::host::clock;
use crate::units::data::size;

/// A file that changes while it is copied is copied so often.
const TRIES: u32 = 3;
/// A directory that changes meanwhile is begun anew so often, where it is worth a wait.
const AGAIN: u32 = 3;
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What a snapshot is taken for.
#[derive(Debug, Clone)]
pub struct Order {
    /// Why.
    pub kind: Kind,
    /// Why a person wants it.
    pub reason: Option<String>,
}

/// One that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its name.
    pub id: String,
    /// How its list ends.
    pub foot: Foot,
    /// Files that share the copy of the snapshot before.
    pub linked: u64,
    /// The first that a load may depend on and that were left out, with why.
    pub left_out: Vec<String>,
}

impl Taken {
    /// In one line.
    pub fn told(&self) -> String {
        let Foot { measure, left_out, .. } = &self.foot;
        let out = match (self.left_out.first(), left_out) {
            (None, _) => String::new(),
            (Some(first), 0 | 1) => format!(", left out: {first}"),
            (Some(first), all) => format!(", left out: {first} and {} more", all - 1),
        };
        format!("snapshot {} ({} files, {}{out})", self.id, measure.files, size(measure.bytes))
    }
}

impl Vault {
    /// Takes one of the moment that `expected` was measured in; where that is over, of a later one, as often as it is
    /// worth a wait.
    ///
    /// # Errors
    /// Nothing is left behind.
    pub fn take(&self, lock: &Lock, order: &Order, expected: &Measure, stop: &Stop) -> Result<Taken, Failed> {
        let tries = if order.kind == Kind::LastGood { 1 } else { AGAIN };
        let mut expected = expected.clone();
        for left in (0..tries).rev() {
            match self.take_once(lock, order, &expected, stop) {
                Err(Failed::Moved(_)) if left > 0 => {
                    std::thread::sleep(AGAIN_AFTER);
                    expected = measure(&self.subject, stop)?;
                }
                taken => return taken,
            }
        }
        Err(Failed::Moved("the working directory".to_owned()))
    }

    fn take_once(&self, lock: &Lock, order: &Order, expected: &Measure, stop: &Stop) -> Result<Taken, Failed> {
        self.clear(lock);
        if expected.bytes > self.bytes_max {
            let (would, max) = (size(expected.bytes), size(self.bytes_max));
            return Err(Failed::Trouble(format!("one would take {would}, and sync.snapshots_max is {max}")));
        }
        let now = clock::now().wall;
        let mut id = order.kind.id(now);
        for n in 2..100 {
            if !self.path(&id).exists() {
                break;
            }
            id = format!("{}-{n}", order.kind.id(now));
        }
        let temporary = self.folder().join(format!("{UNFINISHED}taking-{id}"));
        let head = Head { kind: order.kind.clone(), at: now, dirs: self.dirs(), reason: order.reason.clone() };
        let taken = self.fill(&temporary, &head, expected, stop).and_then(|taken| {
            let named = fs::rename(&temporary, self.path(&id)).and_then(|()| sync_dir(&self.folder()));
            named.map_err(|error| self.cannot(&error))?;
            Ok(Taken { id: id.clone(), ..taken })
        });
        if taken.is_err() {
            let _ = fs::remove_dir_all(&temporary);
        }
        taken
    }

    fn cannot(&self, error: &io::Error) -> Failed {
        Failed::Trouble(format!("{}: {error}", self.folder().display()))
    }

    fn fill(&self, into: &Path, head: &Head, expected: &Measure, stop: &Stop) -> Result<Taken, Failed> {
        let cannot = |error: io::Error| self.cannot(&error);
        let scratch = into.join("scratch");
        let mut made = Vec::new();
        for dir in [into.to_owned(), into.join(TREE), scratch.clone()] {
            DirBuilder::new().mode(0o700).create(&dir).map_err(cannot)?;
            made.push(dir);
        }
        // The newest one whose list reads; a damaged one costs room, not the snapshot.
        let before = self.list().0.pop().filter(|before| before.head.dirs == head.dirs);
        let before = before.and_then(|before| {
            let dir = self.path(&before.id);
            Some((dir.join(TREE), Ahead::new(Reader::open(&dir).ok()?).ok()?))
        });
        let mut taking = Taking {
            vault: self,
            stop,
            tree: into.join(TREE),
            scratch: scratch.clone(),
            list: Writer::new(into, head).map_err(cannot)?,
            before,
            measuring: Measuring::default(),
            left_out: Vec::new(),
            count_left_out: 0,
            linked: 0,
            made,
            unsynced: Unsynced::default(),
            at: None,
            failed: None,
        };
        walk(&self.subject.dirs, &mut taking);
        if let Some(failed) = taking.failed {
            return Err(failed);
        }
        let seen = taking.measuring.end();
        if !seen.is_same_moment(expected) || !measure(&self.subject, stop)?.is_same_moment(expected) {
            return Err(Failed::Moved("the working directory".to_owned()));
        }
        let mut list = taking.list;
        for named in &taking.left_out {
            list.text(named).map_err(cannot)?;
        }
        let foot = Foot { entries: list.entries, left_out: taking.count_left_out, measure: seen };
        fs::remove_dir_all(&scratch).map_err(cannot)?;
        list.end(&foot).map_err(cannot)?;
        for dir in taking.made.iter().filter(|dir| **dir != scratch) {
            if stop.is_called_off() {
                return Err(Failed::CalledOff);
            }
            taking.unsynced.names(File::open(dir).map_err(cannot)?).map_err(cannot)?;
        }
        taking.unsynced.sync().map_err(cannot)?;
        let left_out = taking.left_out.iter().map(|line| line.trim_start_matches("left-out ").trim_end().to_owned());
        Ok(Taken { id: String::new(), foot, linked: taking.linked, left_out: left_out.collect() })
    }
}

struct Taking<'a> {
    vault: &'a Vault,
    stop: &'a Stop,
    tree: PathBuf,
    scratch: PathBuf,
    list: Writer,
    /// The snapshot before, read in the same order.
    before: Option<(PathBuf, Ahead)>,
    measuring: Measuring,
    left_out: Vec<String>,
    count_left_out: u64,
    linked: u64,
    /// Directories that were made.
    made: Vec<PathBuf>,
    unsynced: Unsynced,
    /// The directory of the tree that was made last.
    at: Option<PathBuf>,
    failed: Option<Failed>,
}

/// What becomes of one file.
enum Fate {
    /// It was copied; its digest.
    Copied(String),
    /// It is only in the list.
    Listed,
}

impl Taking<'_> {
    fn leave_out(&mut self, path: &[u8], why: &str) -> Fate {
        self.count_left_out += 1;
        if self.left_out.len() < NAMED_MAX {
            self.left_out.push(left_out(path, why));
        }
        Fate::Listed
    }

    /// Where a copy lies; its directory is made.
    fn place(&mut self, dir: usize, path: &[u8]) -> Result<PathBuf, Failed> {
        let place = self.tree.join(dir.to_string()).join(std::ffi::OsStr::from_bytes(path));
        let parent = place.parent().unwrap_or(&self.tree).to_owned();
        if self.at.as_ref() != Some(&parent) {
            let mut missing: Vec<PathBuf> = Vec::new();
            let mut next = parent.as_path();
            while !next.is_dir() {
                missing.push(next.to_owned());
                next = next.parent().unwrap_or(&self.tree);
            }
            for dir in missing.into_iter().rev() {
                DirBuilder::new().mode(0o700).create(&dir).map_err(|error| self.vault.cannot(&error))?;
                self.made.push(dir);
            }
            self.at = Some(parent);
        }
        Ok(place)
    }

    fn list(&mut self, entry: &Entry<'_>, digest: Option<String>) -> Result<(), Failed> {
        let line = Line { dir: entry.dir, path: entry.path.to_vec(), about: entry.about, digest };
        let item = Item { owner: entry.owner, stamp: (entry.identity.1, entry.changed), line };
        self.list.item(&item).map_err(|error| self.vault.cannot(&error))
    }

    fn link(&mut self, entry: &Entry<'_>) -> Result<(), Failed> {
        self.measuring.add(Class::Other, seen(entry));
        let Ok(target) = entry.target() else { return Err(Failed::Moved(shown(entry.path))) };
        let place = self.place(entry.dir, entry.path)?;
        let made = std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&target), place);
        made.map_err(|error| self.vault.cannot(&error))?;
        self.list(entry, Some(shown(&target)))
    }

    fn take(&mut self, entry: &Entry<'_>) -> Result<(), Failed> {
        if self.stop.is_called_off() {
            return Err(Failed::CalledOff);
        }
        match entry.about.kind {
            manifest::Kind::File => {}
            manifest::Kind::Link => return self.link(entry),
            manifest::Kind::Directory | manifest::Kind::Other => return Ok(()),
        }
        let class = self.vault.subject.classes.of(entry.path);
        self.measuring.add(class, seen(entry));
        let fate = match is_copied(class, entry.about.size) {
            Copied::Listed => Fate::Listed,
            Copied::TooLarge => self.leave_out(entry.path, &format!("it has {}", size(entry.about.size))),
            // What lies beside a database is in the copy of that.
            Copied::Yes if belongs(entry) => Fate::Listed,
            Copied::Yes => self.copy(entry)?,
        };
        match fate {
            Fate::Copied(digest) => self.list(entry, Some(digest)),
            Fate::Listed => self.list(entry, None),
        }
    }

    fn copy(&mut self, entry: &Entry<'_>) -> Result<Fate, Failed> {
        let place = self.place(entry.dir, entry.path)?;
        if let Some(digest) = self.linked(entry, &place) {
            return Ok(Fate::Copied(digest));
        }
        self.vault.has_room(&self.tree, entry.about.size)?;
        let mut from = match entry.open() {
            Ok(from) => from,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(self.leave_out(entry.path, &error.to_string()));
            }
            Err(_) => return Err(Failed::Moved(shown(entry.path))),
        };
        if database::is_one(&mut from).unwrap_or(false) {
            return self.database(entry, &place);
        }
        for _ in 0..TRIES {
            let mut into = File::options().read(true).write(true).create(true).truncate(true).open(&place);
            let into = into.as_mut().map_err(|error| self.vault.cannot(error))?;
            let before = rustix::fs::fstat(&from).map(|stat| copy::stamp(&stat));
            let digest = match copy::content(&mut from, into, self.stop) {
                Ok(digest) => digest,
                Err(Broke::CalledOff) => return Err(Failed::CalledOff),
                Err(Broke::Io(error)) => {
                    return Err(Failed::Trouble(format!("{} could not be copied: {error}", shown(entry.path))));
                }
            };
            if rustix::fs::fstat(&from).map(|stat| copy::stamp(&stat)) == before {
                self.finish(entry, into)?;
                return Ok(Fate::Copied(digest));
            }
        }
        Err(Failed::Moved(shown(entry.path)))
    }

    fn finish(&mut self, entry: &Entry<'_>, into: &File) -> Result<(), Failed> {
        let (seconds, nanos) = entry.about.modified;
        let seconds = u64::try_from(seconds).unwrap_or_default();
        let modified = std::time::UNIX_EPOCH + Duration::new(seconds, nanos);
        // For people who look into the tree; the list has the true one.
        let _ = into.set_modified(modified);
        let _ = rustix::fs::fchmod(into, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
        self.unsynced.add(into).map_err(|error| self.vault.cannot(&error))
    }

    fn database(&mut self, entry: &Entry<'_>, place: &Path) -> Result<Fate, Failed> {
        let _ = fs::remove_file(place);
        let live = (entry.parent(), std::ffi::OsStr::from_bytes(entry.name()));
        match database::copy(live, place, &self.scratch, self.stop) {
            Ok(()) => {}
            Err(Failed::CalledOff) => return Err(Failed::CalledOff),
            Err(why) => return Ok(self.leave_out(entry.path, &format!("no whole copy of this database: {why}"))),
        }
        let mut copied = File::open(place).map_err(|error| self.vault.cannot(&error))?;
        self.finish(entry, &copied)?;
        match copy::digest(&mut copied, self.stop) {
            Ok(digest) => Ok(Fate::Copied(digest)),
            Err(Broke::CalledOff) => Err(Failed::CalledOff),
            Err(Broke::Io(error)) => Err(self.vault.cannot(&error)),
        }
    }

    /// The digest of the copy in the snapshot before, which is now this one's too; `None`: it must be copied.
    fn linked(&mut self, entry: &Entry<'_>, place: &Path) -> Option<String> {
        let (tree, before) = self.before.as_mut()?;
        let order =
            |item: &Item| item.line.dir.cmp(&entry.dir).then_with(|| crate::data::compare(&item.line.path, entry.path));
        let same = loop {
            match before.peek().map(&order) {
                Some(std::cmp::Ordering::Less) => {
                    if before.pop().is_err() {
                        self.before = None;
                        return None;
                    }
                }
                Some(std::cmp::Ordering::Equal) => break before.peek(),
                _ => break None,
            }
        };
        let stamp = (entry.identity.1, entry.changed);
        let same = same.filter(|item| item.stamp == stamp && item.line.about == entry.about);
        // A database changes beside itself, in its log.
        let same = same.filter(|_| !PARTS.iter().any(|end| entry.has_sibling(&with(entry.name(), end))));
        let digest = same.and_then(|item| item.line.digest.clone())?;
        let from = tree.join(entry.dir.to_string()).join(std::ffi::OsStr::from_bytes(entry.path));
        // Where it cannot be linked (the file has too many names), it is copied.
        if fs::hard_link(from, place).is_err() {
            return None;
        }
        self.linked += 1;
        Some(digest)
    }
}

fn with(name: &[u8], end: &str) -> Vec<u8> {
    [name, end.as_bytes()].concat()
}

/// Whether this is a log or a journal beside its database.
fn belongs(entry: &Entry<'_>) -> bool {
    let beside = |end: &&str| entry.name().strip_suffix(end.as_bytes()).is_some_and(|main| entry.has_sibling(main));
    PARTS.iter().any(beside)
}

impl Visitor for Taking<'_> {
    fn file(&mut self, entry: &Entry<'_>) -> ControlFlow<()> {
        if self.vault.subject.passes_over(entry) {
            return ControlFlow::Continue(());
        }
        if let Err(failed) = self.take(entry) {
            self.failed = Some(failed);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn directory(&mut self, entry: &Entry<'_>) -> Descend {
        if self.vault.subject.passes_over(entry) {
            return Descend::Past;
        }
        if let Err(failed) = self.list(entry, None) {
            self.failed = Some(failed);
            return Descend::Stop;
        }
        Descend::Into
    }

    fn trouble(&mut self, _: usize, path: &[u8], why: &str) {
        self.leave_out(path, why);
    }
}

/// Measures what lies in the working directories now.
///
/// # Errors
/// It was called off.
pub fn measure(subject: &Subject, stop: &Stop) -> Result<Measure, Failed> {
    struct Walked<'a>(&'a Subject, Measuring, &'a Stop);
    impl Visitor for Walked<'_> {
        fn file(&mut self, entry: &Entry<'_>) -> ControlFlow<()> {
            if self.2.is_called_off() {
                return ControlFlow::Break(());
            }
            if self.0.passes_over(entry) {
                return ControlFlow::Continue(());
            }
            match entry.about.kind {
                manifest::Kind::File => self.1.add(self.0.classes.of(entry.path), seen(entry)),
                manifest::Kind::Link => self.1.add(Class::Other, seen(entry)),
                manifest::Kind::Directory | manifest::Kind::Other => {}
            }
            ControlFlow::Continue(())
        }

        fn directory(&mut self, entry: &Entry<'_>) -> Descend {
            if self.0.passes_over(entry) { Descend::Past } else { Descend::Into }
        }

        fn trouble(&mut self, _: usize, _: &[u8], _: &str) {}
    }
    let mut walked = Walked(subject, Measuring::default(), stop);
    walk(&subject.dirs, &mut walked);
    if stop.is_called_off() { Err(Failed::CalledOff) } else { Ok(walked.1.end()) }
}
