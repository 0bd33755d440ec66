//! Files that are moved aside, into `state_dir/held-back/NAME`: spools that would act on start, and what a restore must not
//! leave beside what it puts in place. They are listed, and can be put back; nothing is ever overwritten.
//!
//! They lie in `tree`; the second file of one name in `tree-2` beside it, and so on, each under the name that it had.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry::{Occupied, Vacant};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, RenameFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::at::{self, Missing};
use super::copy::{self, Broke, Failed, Stop};
use super::{TREE, Vault};
use crate::adapters::data::look::OURS;
use crate::adapters::data::walk::{Descend, Entry, Visitor, walk};
use crate::data::family::{self, PARTS};
use crate::data::manifest::Kind;
use crate::data::snapshot::{FILE_MAX, is_asked, is_id};
use crate::data::survey::Few;
use crate::data::{Pattern, shown};
use crate::units::data::size;

/// The folder of all, in the state directory.
pub const FOLDER: &str = "held-back";
/// More working directories are none.
const DIRS_MAX: usize = 100;
/// More are counted as so many.
const LISTED_MAX: usize = 1000;
/// So many files of one name are held.
const TREES_MAX: u32 = 1000;

/// Where files go that are moved aside for one reason.
pub struct Aside<'a> {
    vault: &'a Vault,
    name: String,
    tops: BTreeMap<u32, OwnedFd>,
    /// The tree that the last one went to; the next goes to no older one, so that a log is found beside its database.
    tree: u32,
}

fn tree(n: u32) -> String {
    if n == 1 { TREE.to_owned() } else { format!("{TREE}-{n}") }
}

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Moved {
    /// The files.
    pub files: Few<String>,
    /// Those that could not be, with why.
    pub stayed: Few<String>,
}

impl Moved {
    /// The first names, for one line.
    pub fn named(&self) -> String {
        first(&self.files)
    }
}

/// The first three, and how many more.
pub fn first(few: &Few<String>) -> String {
    let names: Vec<_> = few.named.iter().take(3).map(String::as_str).collect();
    let more = few.all.saturating_sub(names.len() as u64);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

impl<'a> Aside<'a> {
    /// The folder `held-back/NAME`; it is made when it is needed.
    pub fn new(vault: &'a Vault, name: &str) -> Self {
        Self { vault, name: name.to_owned(), tops: BTreeMap::new(), tree: 1 }
    }

    fn top(&mut self, n: u32) -> io::Result<BorrowedFd<'_>> {
        let top = match self.tops.entry(n) {
            Occupied(top) => top.into_mut(),
            Vacant(place) => {
                let folder = self.vault.state_dir().join(FOLDER).join(&self.name);
                DirBuilder::new().recursive(true).mode(0o700).create(folder.join(tree(n)))?;
                // For people, who see numbers in the tree.
                let mut options = File::options();
                let about =
                    options.write(true).create(true).truncate(true).mode(0o600).open(folder.join("directories"));
                about.and_then(|mut about| about.write_all(self.vault.dirs_told().as_bytes()))?;
                place.insert(at::root(&folder.join(tree(n)))?)
            }
        };
        Ok(OwnedFd::as_fd(top))
    }

    /// Whether it may be moved while phones wait: by a rename always, as a copy only where that is small and fits.
    fn may_take(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let goes = rustix::fs::fstat(self.top(1)?)?.st_dev;
        if rustix::fs::fstat(entry.parent())?.st_dev == goes {
            return Ok(());
        }
        let bytes = entry.about.size;
        if bytes > FILE_MAX {
            let (has, max) = (size(bytes), size(FILE_MAX));
            return Err(io::Error::other(format!("it has {has}, and another file system gets at most {max}")));
        }
        let below = self.vault.state_dir().join(FOLDER);
        self.vault.has_room(&below, bytes).map_err(|why| io::Error::other(why.to_string()))
    }

    /// Moves one file, or link.
    pub fn take(&mut self, dir: usize, path: &[u8], parent: impl AsFd, name: &OsStr, stop: &Stop) -> io::Result<()> {
        let inside = [dir.to_string().as_bytes(), b"/", path].concat();
        for n in self.tree..TREES_MAX {
            let (into, as_name) = at::parent(self.top(n)?, &inside, Missing::Make)?;
            if at::stat(&into, as_name)?.is_none() {
                if has_parts(&into, as_name)? {
                    continue;
                }
                carry(parent.as_fd(), name, into.as_fd(), as_name, stop)?;
            } else if is_same(parent.as_fd(), name, into.as_fd(), as_name)? {
                // It was copied before, and the robot killed before it was removed.
                at::remove(parent.as_fd(), name)?;
            } else {
                continue;
            }
            self.tree = n;
            return rustix::fs::fsync(&into).map_err(Into::into);
        }
        Err(io::Error::other("too many of its name are held already"))
    }
}

/// Whether the log of another database of this name lies there.
fn has_parts(dir: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    for end in PARTS {
        let mut beside = name.to_owned();
        beside.push(end);
        if at::stat(dir, &beside)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn at_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

fn is_same(from: BorrowedFd<'_>, name: &OsStr, into: BorrowedFd<'_>, as_name: &OsStr) -> io::Result<bool> {
    let (Some(one), Some(other)) = (at::stat(from, name)?, at::stat(into, as_name)?) else { return Ok(false) };
    let regular = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !regular(&one) || !regular(&other) || one.st_size != other.st_size || one.st_mtime != other.st_mtime {
        return Ok(false);
    }
    let digest = |dir, name| match copy::digest(&mut at::open(dir, name)?, &Stop::default()) {
        Ok(digest) => Ok(digest),
        Err(Broke::Io(error)) => Err(error),
        Err(Broke::CalledOff) => Err(io::ErrorKind::Interrupted.into()),
    };
    Ok(digest(from, name)? == digest(into, as_name)?)
}

/// What is being copied to another file system.
const MOVING: &str = ".pbx-failover-moving";

/// Moves it to a name that is free: by a rename where both lie on one file system, else as a copy that is whole first.
pub fn carry(from: BorrowedFd<'_>, name: &OsStr, into: BorrowedFd<'_>, as_name: &OsStr, stop: &Stop) -> io::Result<()> {
    match rename_to_free(from, name, into, as_name) {
        Err(Errno::XDEV) => {}
        renamed => return Ok(renamed?),
    }
    if at::stat(into, as_name)?.is_some() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    copied(from, name, into, stop, |temporary| Ok(rename_to_free(into, temporary, into, as_name)?))?;
    if stop.is_called_off() {
        // Nobody waits for it any more, and whatever reads the spool may be at it.
        at::remove(into, as_name)?;
        return Err(called_off());
    }
    at::remove(from, name)
}

/// The same over what lies there.
pub fn carry_over(
    from: BorrowedFd<'_>,
    name: &OsStr,
    into: BorrowedFd<'_>,
    as_name: &OsStr,
    stop: &Stop,
) -> io::Result<()> {
    match rustix::fs::renameat(from, name, into, as_name) {
        Err(Errno::XDEV) => {}
        renamed => return Ok(renamed?),
    }
    copied(from, name, into, stop, |temporary| Ok(rustix::fs::renameat(into, temporary, into, as_name)?))?;
    at::remove(from, name)
}

/// Copies it there whole under a name of ours, which `finish` changes.
fn copied(
    from: BorrowedFd<'_>,
    name: &OsStr,
    into: BorrowedFd<'_>,
    stop: &Stop,
    finish: impl FnOnce(&OsStr) -> io::Result<()>,
) -> io::Result<()> {
    let about = at::stat(from, name)?.ok_or(io::ErrorKind::NotFound)?;
    let temporary = OsStr::new(MOVING);
    at::remove(into, temporary)?;
    let copied = copy_one(from, name, &about, into, temporary, stop).and_then(|()| finish(temporary));
    if copied.is_err() {
        let _ = at::remove(into, temporary);
    }
    copied?;
    Ok(rustix::fs::fsync(into)?)
}

fn called_off() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "it was called off")
}

fn rename_to_free(from: BorrowedFd<'_>, name: &OsStr, into: BorrowedFd<'_>, as_name: &OsStr) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from, name, into, as_name, RenameFlags::NOREPLACE) {
        // A file system without such a rename; nobody else writes where we do.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match at::stat(into, as_name) {
            Ok(None) => rustix::fs::renameat(from, name, into, as_name),
            Ok(Some(_)) => Err(Errno::EXIST),
            Err(_) => Err(Errno::IO),
        },
        renamed => renamed,
    }
}

fn copy_one(
    from: BorrowedFd<'_>,
    name: &OsStr,
    about: &Stat,
    into: BorrowedFd<'_>,
    as_name: &OsStr,
    stop: &Stop,
) -> io::Result<()> {
    match FileType::from_raw_mode(about.st_mode) {
        FileType::Symlink => {
            let target = at::target(from, name)?;
            Ok(rustix::fs::symlinkat(OsStr::from_bytes(&target), into, as_name)?)
        }
        FileType::RegularFile => {
            let mut copied = at::create(into, as_name)?;
            match copy::content(&mut at::open(from, name)?, &mut copied, stop) {
                Ok(_) => {}
                Err(Broke::Io(error)) => return Err(error),
                Err(Broke::CalledOff) => return Err(called_off()),
            }
            let (seconds, nanos) = modified(about);
            let owner = (about.st_uid, about.st_gid);
            dress(&copied, owner, Owner::IfPossible, about.st_mode & 0o7777, (seconds, nanos))?;
            copied.sync_all()
        }
        _ => Err(io::Error::other("it is no file")),
    }
}

#[allow(clippy::unnecessary_cast, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // types differ by machine
fn modified(about: &Stat) -> (i64, u32) {
    (about.st_mtime as i64, about.st_mtime_nsec as u32)
}

/// Whether a file must have its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A PBX is to read it there, which it may only as its own.
    Needed,
    /// It only lies there.
    IfPossible,
}

/// Gives a file its owner, its mode and its time.
pub fn dress(file: &File, owner: (u32, u32), needed: Owner, mode: u32, (seconds, nanos): (i64, u32)) -> io::Result<()> {
    let now = rustix::fs::fstat(file)?;
    if (now.st_uid, now.st_gid) != owner {
        let (user, group) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        match rustix::fs::fchown(file, Some(user), Some(group)) {
            Ok(()) => {}
            Err(Errno::PERM) if needed == Owner::IfPossible => {}
            Err(_) => {
                return Err(io::Error::other(format!(
                    "the robot may not give it to its owner {}:{}",
                    owner.0, owner.1
                )));
            }
        }
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanos) };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })?)
}

struct Holding<'a, 'b> {
    patterns: &'a [Pattern],
    aside: Aside<'b>,
    moved: Moved,
    stop: &'a Stop,
}

impl Visitor for Holding<'_, '_> {
    fn file(&mut self, entry: &Entry<'_>) -> ControlFlow<()> {
        if self.stop.is_called_off() {
            return ControlFlow::Break(());
        }
        let is_meant = matches!(entry.about.kind, Kind::File | Kind::Link) && !entry.name().starts_with(OURS);
        if is_meant && self.patterns.iter().any(|pattern| pattern.matches(entry.path)) {
            let name = OsStr::from_bytes(entry.name());
            let moved = self
                .aside
                .may_take(entry)
                .and_then(|()| self.aside.take(entry.dir, entry.path, entry.parent(), name, self.stop));
            match moved.and_then(|()| Ok(rustix::fs::fsync(entry.parent())?)) {
                Ok(()) => self.moved.files.add(shown(entry.path)),
                Err(error) => self.moved.stayed.add(format!("{} ({error})", shown(entry.path))),
            }
        }
        ControlFlow::Continue(())
    }

    fn directory(&mut self, _: &Entry<'_>) -> Descend {
        Descend::Into
    }

    fn trouble(&mut self, _: usize, path: &[u8], why: &str) {
        // What cannot be looked into may hold what is meant.
        self.moved.stayed.add(format!("{} ({why})", shown(path)));
    }
}

/// Files that are held for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its name below `held-back`.
    pub name: String,
    /// The files.
    pub files: Few<String>,
}

impl Vault {
    fn dirs_told(&self) -> String {
        let dirs = self.subject.dirs.iter().enumerate();
        dirs.map(|(n, dir)| format!("{n} {}", dir.display())).collect::<Vec<_>>().join("\n") + "\n"
    }

    /// Moves every file that these patterns mean into `held-back/NAME`. May be repeated.
    pub fn hold_back(&self, patterns: &[Pattern], name: &str, stop: &Stop) -> Moved {
        let mut holding = Holding { patterns, aside: Aside::new(self, name), moved: Moved::default(), stop };
        walk(&self.subject.dirs, &mut holding);
        if stop.is_called_off() {
            holding.moved.stayed.add("what was not looked at any more".to_owned());
        }
        holding.moved
    }

    /// What is held, by name.
    pub fn held(&self) -> Vec<Held> {
        held_in(self.state_dir())
    }

    /// Puts what is held under this name back where it was; what has come there meanwhile stays, and so does what is held.
    ///
    /// # Errors
    /// One line: there is no such name.
    pub fn put_back(&self, name: &str, only: &[Vec<u8>]) -> Result<Moved, Failed> {
        let folder = self.state_dir().join(FOLDER).join(name);
        if !is_id(name) || !folder.is_dir() {
            return Err(Failed::Trouble(format!("nothing is held back as {name}; see `pbx-failover snapshots list`")));
        }
        let all = trees(&folder);
        let mut back = Back { dirs: &self.subject.dirs, only, moved: Moved::default() };
        for roots in &all {
            walk(roots, &mut back);
        }
        let moved = back.moved;
        let mut left = Names::default();
        for roots in &all {
            walk(roots, &mut left);
        }
        if left.0.is_empty() && left.1.is_empty() {
            let _ = fs::remove_dir_all(&folder);
        }
        Ok(moved)
    }
}

/// What is held below a state directory.
pub fn held_in(state_dir: &Path) -> Vec<Held> {
    let names = fs::read_dir(state_dir.join(FOLDER)).into_iter().flatten().flatten().take(LISTED_MAX);
    let mut held: Vec<_> = names
        .filter_map(|entry| entry.file_name().into_string().ok().filter(|name| is_id(name)))
        .map(|name| {
            let mut files = Names::default();
            for roots in trees(&state_dir.join(FOLDER).join(&name)) {
                walk(&roots, &mut files);
            }
            Held { name, files: files.0 }
        })
        .filter(|held| !held.files.is_empty())
        .collect();
    held.sort_by(|one, other| one.name.cmp(&other.name));
    held
}

/// The trees in a folder, the newest first, each with what it has of each working directory; where one has nothing its place
/// is empty.
pub(super) fn trees(folder: &Path) -> Vec<Vec<PathBuf>> {
    let number = |name: &str| match name.strip_prefix(TREE)? {
        "" => Some(1),
        more => more.strip_prefix('-')?.parse::<u32>().ok().filter(|n| (2..TREES_MAX).contains(n)),
    };
    // A person may have moved one of them away.
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<_> = names.filter_map(|entry| number(entry.file_name().to_str()?)).collect();
    all.sort_unstable_by(|one, other| other.cmp(one));
    all.into_iter().map(|n| roots(&folder.join(tree(n)))).collect()
}

fn roots(tree: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = (0..DIRS_MAX).map(|n| tree.join(n.to_string())).collect();
    while all.last().is_some_and(|last| !last.is_dir()) {
        all.pop();
    }
    all
}

/// The names of files, and what could not be looked at.
#[derive(Default)]
struct Names(Few<String>, Few<String>);

impl Visitor for Names {
    fn file(&mut self, entry: &Entry<'_>) -> ControlFlow<()> {
        self.0.add(shown(entry.path));
        ControlFlow::Continue(())
    }

    fn trouble(&mut self, _: usize, path: &[u8], why: &str) {
        // A place without a tree is none.
        if !path.is_empty() {
            self.1.add(why.to_owned());
        }
    }
}

struct Back<'a> {
    dirs: &'a [PathBuf],
    only: &'a [Vec<u8>],
    moved: Moved,
}

impl Back<'_> {
    fn one(&self, entry: &Entry<'_>) -> io::Result<()> {
        let dir =
            self.dirs.get(entry.dir).ok_or_else(|| io::Error::other("its working directory is not configured"))?;
        if let Some(main) = family::base(entry.path)
            && at::stat(entry.parent(), OsStr::from_bytes(at_name(main)))?.is_some()
        {
            return Err(io::Error::other("its database is held still"));
        }
        let (into, name) = at::parent(at::root(dir)?, entry.path, Missing::Refuse)?;
        carry(entry.parent(), OsStr::from_bytes(entry.name()), into.as_fd(), name, &Stop::default())?;
        Ok(rustix::fs::fsync(&into)?)
    }
}

impl Visitor for Back<'_> {
    fn file(&mut self, entry: &Entry<'_>) -> ControlFlow<()> {
        if !is_asked(entry.path, self.only) {
            return ControlFlow::Continue(());
        }
        match self.one(entry) {
            Ok(()) => self.moved.files.add(shown(entry.path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.moved.stayed.add(format!("{} (there is another one now)", shown(entry.path)));
            }
            Err(error) => self.moved.stayed.add(format!("{} ({error})", shown(entry.path))),
        }
        ControlFlow::Continue(())
    }

    fn trouble(&mut self, _: usize, _: &[u8], _: &str) {}
}
