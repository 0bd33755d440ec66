//! What a restore will do: which files differ, each staged beside its place and read back, and what appeared since.
//!
//! Up to here nothing of the working directory is changed but by names of our own, which every look passes over.

use std::collections::HashSet;
use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{Dir, FileType, Gid, Mode, OFlags, Stat, Uid};

use super::at::{self, Missing};
use super::copy::{self, Broke, Failed, Stop};
use super::held::{Owner, dress};
use super::listing::{Ahead, Reader};
use super::restore::make_directory;
use super::restore_note::Order;
use super::unsynced::Unsynced;
use super::{TREE, Vault, database};
use crate::adapters::data::walk::{Descend, Entry, Visitor, walk};
use crate::data::manifest::Kind;
use crate::data::path::unshown;
use crate::data::snapshot::{Item, is_asked};
use crate::data::{Class, compare, shown};

/// What is staged begins so: [`crate::adapters::data::look`] passes over it.
const STAGED: &str = ".pbx-failover-restore-";
/// A directory that is being made is for the robot alone until it has its owner.
const MADE: u32 = 0o700;
/// So many names are tried, of which none can lie there but by intent.
const NAMES_MAX: u32 = 100;

/// A file that is to be put in place.
#[derive(Debug)]
pub struct Staged {
    /// Which of the working directories.
    pub dir: usize,
    /// The path below it.
    pub path: Vec<u8>,
    /// The name beside it under which it waits.
    pub temporary: OsString,
}

/// What a restore will do.
#[derive(Debug, Default)]
pub struct Plan {
    /// What differs.
    pub staged: Vec<Staged>,
    /// Configuration that the snapshot does not have.
    pub appeared: Vec<(usize, Vec<u8>)>,
    /// What is the same, or stays as it is.
    pub same: u64,
}

impl Plan {
    /// Whether it changes nothing.
    pub fn is_nothing(&self) -> bool {
        self.staged.is_empty() && self.appeared.is_empty()
    }
}

/// Files, each by its working directory and its path.
pub type Places = HashSet<(usize, Vec<u8>)>;

/// Stages all that differs; where that fails nothing stays behind.
pub fn stage(vault: &Vault, dir: &Path, order: &Order, stop: &Stop) -> Result<(Plan, Vec<OwnedFd>), Failed> {
    let only: Vec<_> = order.only.iter().filter_map(|path| unshown(path)).collect();
    let mut roots = Vec::new();
    for working in &vault.subject.dirs {
        let root = at::root(working).map_err(|error| Failed::Trouble(format!("{}: {error}", working.display())))?;
        roots.push(root);
    }
    let list = Reader::open(dir).and_then(Ahead::new).map_err(Failed::Trouble)?;
    let mut around = Around { vault, only: &only, list, appeared: Vec::new(), failed: None };
    walk(&vault.subject.dirs, &mut around);
    if let Some(why) = around.failed {
        return Err(Failed::Trouble(why));
    }
    let mut plan = Plan { appeared: around.appeared, ..Plan::default() };
    let spared = match &order.unless_changed {
        Some(put) => {
            let changed = vault.changed_since(put, &order.id, &roots)?;
            let put = vault.items(put, &plan.appeared.iter().cloned().collect())?;
            plan.appeared.retain(|place| put.contains_key(place) && !changed.contains(place));
            changed
        }
        None => databases(vault, order),
    };
    match fill(&mut plan, dir, &roots, (&only, &spared), stop) {
        Ok(()) => Ok((plan, roots)),
        Err(failed) => {
            unstage(&plan, &roots);
            Err(failed)
        }
    }
}

/// Removes what was staged.
pub fn unstage(plan: &Plan, roots: &[OwnedFd]) {
    for staged in &plan.staged {
        let parent = at::parent(&roots[staged.dir], &staged.path, Missing::Refuse);
        let _ = parent.and_then(|(parent, _)| at::remove(&parent, &staged.temporary));
    }
}

/// Databases that the robot's own restore leaves alone: the snapshot of the takeover holds a whole copy of each, so that
/// none of them is what is broken, and one bad file of configuration takes nobody's newer data back.
pub(super) fn databases(vault: &Vault, order: &Order) -> Places {
    let mut spared = Places::new();
    let Some(kept) = order.kept.as_ref().filter(|_| order.plan.is_some()).map(|id| vault.path(id)) else {
        return spared;
    };
    let Ok(mut list) = Reader::open(&kept) else { return spared };
    while let Ok(Some(item)) = list.next() {
        if item.is_held() && holds_database(&kept, &item) {
            spared.insert((item.line.dir, item.line.path));
        }
    }
    spared
}

/// Whether the copy in this snapshot is a database, whatever its name: by how it begins.
pub(super) fn holds_database(snapshot: &Path, item: &Item) -> bool {
    let inside = Path::new(TREE).join(item.line.dir.to_string()).join(OsStr::from_bytes(&item.line.path));
    let is_file = item.line.about.kind == Kind::File;
    let begins = || File::open(snapshot.join(inside)).and_then(|mut copy| database::is_one(&mut copy));
    is_file && begins().unwrap_or_default()
}

/// A name under which nothing lies.
fn free_name(parent: &OwnedFd, token: &str, n: usize) -> io::Result<OsString> {
    for again in 0..NAMES_MAX {
        let name = OsString::from(format!("{STAGED}{token}-{n}-{again}"));
        if at::stat(parent, &name)?.is_none() {
            return Ok(name);
        }
    }
    Err(io::Error::other("no name beside it is free"))
}

fn fill(
    plan: &mut Plan,
    dir: &Path,
    roots: &[OwnedFd],
    (only, spared): (&[Vec<u8>], &Places),
    stop: &Stop,
) -> Result<(), Failed> {
    // What lies there under such a name may not be ours to remove, a directory for one.
    let token = ulid::Ulid::new().to_string().to_lowercase();
    let mut reader = Reader::open(dir).map_err(Failed::Trouble)?;
    let (mut met, mut unsynced) = (false, Unsynced::default());
    while let Some(item) = reader.next().map_err(Failed::Trouble)? {
        if stop.is_called_off() {
            return Err(Failed::CalledOff);
        }
        let line = &item.line;
        let at_it = |error: io::Error| Failed::Trouble(format!("{}: {error}", shown(&line.path)));
        let root = roots.get(line.dir).ok_or_else(|| Failed::Trouble("its list is damaged".to_owned()))?;
        if line.about.kind == Kind::Directory {
            if is_asked(&line.path, only) || leads_to(&line.path, only) {
                directory(root.as_fd(), &item).map_err(at_it)?;
            }
            continue;
        }
        if !item.is_held() || !is_asked(&line.path, only) {
            continue;
        }
        met = true;
        if spared.contains(&(line.dir, line.path.clone())) {
            plan.same += 1;
            continue;
        }
        let (parent, name) = at::parent(root, &line.path, Missing::Refuse).map_err(at_it)?;
        let now = at::stat(&parent, name).map_err(at_it)?;
        if let Some(now) = &now
            && is_same(&item, now, parent.as_fd(), name, stop)?
        {
            plan.same += 1;
            continue;
        }
        if now.is_some_and(|now| kind(&now) == FileType::Directory) {
            return Err(Failed::Trouble(format!("{}: a directory lies in its place", shown(&line.path))));
        }
        let temporary = free_name(&parent, &token, plan.staged.len()).map_err(at_it)?;
        plan.staged.push(Staged { dir: line.dir, path: line.path.clone(), temporary: temporary.clone() });
        put(&dir.join(TREE), &item, &parent, (&temporary, Owner::Needed), (&mut unsynced, stop))?;
    }
    unsynced.sync().map_err(|error| Failed::Trouble(format!("what was staged could not be written: {error}")))?;
    if !met && !only.is_empty() {
        let id = dir.file_name().unwrap_or_default().to_string_lossy();
        return Err(none_of(&id));
    }
    Ok(())
}

/// None of the asked paths is in it.
pub fn none_of(id: &str) -> Failed {
    Failed::Trouble(format!("snapshot {id} holds none of these paths; they begin below the working directory"))
}

/// Whether an asked path lies below this directory.
fn leads_to(dir: &[u8], only: &[Vec<u8>]) -> bool {
    only.iter().any(|asked| asked.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/")))
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Makes the directory, if it is not there.
pub fn directory(root: BorrowedFd<'_>, item: &Item) -> io::Result<()> {
    let (parent, name) = at::parent(root, &item.line.path, Missing::Refuse)?;
    let is_made = make_directory(&parent, name, MADE)?;
    if !is_made && !looks_made(&parent, name)? {
        return Ok(());
    }
    let made = open_directory(&parent, name)?;
    if !is_made && Dir::read_from(&made)?.any(|entry| entry.map_or(true, |entry| !is_dot(entry.file_name()))) {
        return Ok(());
    }
    // Who is not root makes it for himself.
    let _ = rustix::fs::fchown(&made, Some(Uid::from_raw(item.owner.0)), Some(Gid::from_raw(item.owner.1)));
    rustix::fs::fchmod(&made, Mode::from_raw_mode(item.line.about.mode))?;
    Ok(rustix::fs::fsync(&parent)?)
}

/// Whether this may be a directory that was made and, since the robot was killed, never given to its owner.
fn looks_made(parent: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let ours = rustix::process::geteuid().as_raw();
    Ok(at::stat(parent, name)?
        .is_some_and(|now| kind(&now) == FileType::Directory && now.st_mode & 0o7777 == MADE && now.st_uid == ours))
}

fn open_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// Whether what lies there now is what the list says.
pub fn is_same(item: &Item, now: &Stat, parent: BorrowedFd<'_>, name: &OsStr, stop: &Stop) -> Result<bool, Failed> {
    let about = item.line.about;
    let at_it = |error: io::Error| Failed::Trouble(format!("{}: {error}", shown(&item.line.path)));
    let digest = item.line.digest.as_deref();
    match (about.kind, kind(now)) {
        (Kind::Link, FileType::Symlink) => {
            let target = at::target(parent, name).map_err(at_it)?;
            Ok(digest == Some(shown(&target).as_str()))
        }
        (Kind::File, FileType::RegularFile) => {
            let size = u64::try_from(now.st_size).unwrap_or_default();
            let looks = (now.st_uid, now.st_gid, now.st_mode & 0o7777);
            if size != about.size || looks != (item.owner.0, item.owner.1, about.mode) {
                return Ok(false);
            }
            let (ino, _, _, changed) = copy::stamp(now);
            // A database changes beside itself, in its log.
            let is_database = || at::open(parent, name).and_then(|mut file| database::is_one(&mut file));
            if (ino, changed) == (item.stamp.0, (item.stamp.1.0, i64::from(item.stamp.1.1)))
                && !is_database().unwrap_or_default()
            {
                return Ok(true);
            }
            let mut file = at::open(parent, name).map_err(at_it)?;
            match copy::digest(&mut file, stop) {
                Ok(now) => Ok(digest == Some(now.as_str())),
                Err(Broke::CalledOff) => Err(Failed::CalledOff),
                Err(Broke::Io(error)) => Err(at_it(error)),
            }
        }
        _ => Ok(false),
    }
}

/// Writes one file or link of a snapshot's tree under a name that is free.
pub fn put(
    tree: &Path,
    item: &Item,
    parent: &OwnedFd,
    (name, owner): (&OsStr, Owner),
    (unsynced, stop): (&mut Unsynced, &Stop),
) -> Result<(), Failed> {
    let line = &item.line;
    let at_it = |error: io::Error| Failed::Trouble(format!("{} could not be written: {error}", shown(&line.path)));
    let damaged = |why: &str| Failed::Trouble(format!("the snapshot is damaged: {} {why}", shown(&line.path)));
    if line.about.kind == Kind::Link {
        let target = line.digest.as_deref().and_then(crate::data::path::unshown);
        let target = target.ok_or_else(|| damaged("leads nowhere"))?;
        return rustix::fs::symlinkat(OsStr::from_bytes(&target), parent, name).map_err(|error| at_it(error.into()));
    }
    let inside = [line.dir.to_string().as_bytes(), b"/", &line.path].concat();
    let top = at::root(tree).map_err(|error| damaged(&error.to_string()))?;
    let (from, from_name) = at::parent(&top, &inside, Missing::Refuse).map_err(|error| damaged(&error.to_string()))?;
    let mut from = at::open(&from, from_name).map_err(|error| damaged(&error.to_string()))?;
    let mut into = at::create(parent, name).map_err(at_it)?;
    match copy::content(&mut from, &mut into, stop) {
        Ok(digest) if line.digest.as_deref() == Some(digest.as_str()) => {}
        Ok(_) => return Err(damaged("is not what was copied")),
        Err(Broke::CalledOff) => return Err(Failed::CalledOff),
        Err(Broke::Io(error)) => return Err(at_it(error)),
    }
    dress(&into, item.owner, owner, line.about.mode, line.about.modified).map_err(at_it)?;
    unsynced.add(&into).map_err(at_it)
}

/// Removes what a restore that is not completed has staged.
pub fn clear(vault: &Vault) {
    struct Leftovers;
    impl Visitor for Leftovers {
        fn file(&mut self, entry: &Entry<'_>) -> ControlFlow<()> {
            remove_leftover(entry);
            ControlFlow::Continue(())
        }

        fn trouble(&mut self, _: usize, _: &[u8], _: &str) {}
    }
    walk(&vault.subject.dirs, &mut Leftovers);
}

fn remove_leftover(entry: &Entry<'_>) -> bool {
    let is_one = entry.name().starts_with(STAGED.as_bytes());
    if is_one {
        let _ = at::remove(entry.parent(), OsStr::from_bytes(entry.name()));
    }
    is_one
}

/// Looks for configuration that the list does not have, and removes what an earlier restore left staged.
struct Around<'a> {
    vault: &'a Vault,
    only: &'a [Vec<u8>],
    list: Ahead,
    appeared: Vec<(usize, Vec<u8>)>,
    failed: Option<String>,
}

impl Around<'_> {
    fn is_listed(&mut self, entry: &Entry<'_>) -> Result<bool, String> {
        loop {
            let order = self
                .list
                .peek()
                .map(|item| item.line.dir.cmp(&entry.dir).then_with(|| compare(&item.line.path, entry.path)));
            match order {
                Some(std::cmp::Ordering::Less) => drop(self.list.pop()?),
                Some(order) => return Ok(order.is_eq()),
                None => return Ok(false),
            }
        }
    }
}

impl Visitor for Around<'_> {
    fn file(&mut self, entry: &Entry<'_>) -> ControlFlow<()> {
        if remove_leftover(entry) {
            return ControlFlow::Continue(());
        }
        let subject = &self.vault.subject;
        let is_file = matches!(entry.about.kind, Kind::File | Kind::Link);
        if !is_file || subject.passes_over(entry) || !is_asked(entry.path, self.only) {
            return ControlFlow::Continue(());
        }
        if subject.classes.of(entry.path) == Class::Config {
            match self.is_listed(entry) {
                Ok(true) => {}
                Ok(false) => self.appeared.push((entry.dir, entry.path.to_vec())),
                Err(why) => {
                    self.failed = Some(why);
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn directory(&mut self, entry: &Entry<'_>) -> Descend {
        if self.vault.subject.passes_over(entry) { Descend::Past } else { Descend::Into }
    }

    fn trouble(&mut self, _: usize, _: &[u8], _: &str) {}
}
