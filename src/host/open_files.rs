//! Which files a process holds open below directories of ours, seen in `/proc`, and what a look for them may cost.
//!
//! A container's directory of the same name is not ours. Whose processes are looked at, and what follows, is the caller's.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What the list of a process's mappings costs, in descriptors: it is one file, however long.
const MAPS_COST: usize = 10;

/// The same where a proof is asked for, once and not again and again.
const PROOF_FILES_MAX: usize = 1_000_000;
const PROOF_TIME_MAX: Duration = Duration::from_secs(10);

/// What a look may cost.
#[derive(Debug)]
pub struct Budget {
    /// Of one process.
    of_one: usize,
    /// Of all that are still to come.
    files: usize,
    until: Instant,
    /// Something was left out.
    pub is_cut: bool,
}

impl Budget {
    /// For a proof, which is asked for once.
    pub fn of_a_proof() -> Self {
        Self::of(PROOF_FILES_MAX, PROOF_FILES_MAX, PROOF_TIME_MAX)
    }

    /// So many descriptors of one process, so many of all, for so long.
    pub fn of(of_one: usize, files: usize, time: Duration) -> Self {
        Self { of_one, files, until: Instant::now() + time, is_cut: false }
    }

    /// Whether one more may be looked at: the one at this place of its process.
    fn spend(&mut self, place: usize) -> bool {
        self.files = self.files.saturating_sub(1);
        // The clock is asked seldom: it costs as much as the file.
        let is_late = place.is_multiple_of(128) && Instant::now() >= self.until;
        self.is_cut |= place >= self.of_one || self.files == 0 || is_late;
        place < self.of_one && self.files > 0 && !is_late
    }

    /// Nothing more may be looked at.
    pub fn is_spent(&self) -> bool {
        self.files == 0 || Instant::now() >= self.until
    }
}

/// What lets this program see other users' open files.
pub const RIGHT: &str =
    "to see them, let the robot run as the PBX's user, or give it the two capabilities of docs/systemd.md";

/// Whether this process sees which files other users' programs hold open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Of every program.
    All,
    /// Of its own user's programs only.
    OwnUser,
}

/// How far this process sees. Root without a capability sees as little as anybody, so only they count.
pub fn sight() -> Sight {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    sight_of(&status)
}

fn sight_of(status: &str) -> Sight {
    /// `CAP_DAC_READ_SEARCH` opens another's `/proc/PID/fd`, `CAP_SYS_PTRACE` reads the links in it (capabilities(7)).
    const NEEDED: u64 = 1 << 2 | 1 << 19;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    if effective & NEEDED == NEEDED { Sight::All } else { Sight::OwnUser }
}

/// A path in one line: a file's name may hold a line end, or what moves a cursor.
pub fn shown(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}

/// A directory of ours, by its name and by what it is.
#[derive(Debug, Clone)]
pub struct Dir {
    path: PathBuf,
    /// Its device and inode; without them only the name counts.
    identity: Option<(u64, u64)>,
}

impl Dir {
    fn at(dir: &Path) -> Self {
        // The kernel names files by their real path.
        let path = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let identity = fs::metadata(&path).ok().map(|dir| (dir.dev(), dir.ino()));
        Self { path, identity }
    }

    /// Whether the process finds this directory under its name, and not another: a container has one of its own under
    /// the same name. The mount namespace alone tells nothing, since a sandboxed unit has one too, as the robot's.
    fn is_seen_by(&self, process: &Path) -> io::Result<bool> {
        let Some(identity) = self.identity else { return Ok(true) };
        // `/` in a container, which has a root of its own; another path after a mere chroot.
        let root = fs::read_link(process.join("root"))?;
        // Out of reach of its chroot: it was opened before, under the name that we know.
        let Ok(inside) = self.path.strip_prefix(&root) else { return Ok(true) };
        match fs::metadata(process.join("root").join(inside)) {
            Ok(dir) => Ok((dir.dev(), dir.ino()) == identity),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The directories as the kernel names and knows them.
pub fn real(dirs: &[PathBuf]) -> Vec<Dir> {
    dirs.iter().map(|dir| Dir::at(dir)).collect()
}

/// The first file below `dirs` that this process holds open, or has mapped.
///
/// # Errors
/// When it may not be looked at.
pub fn held(process: &Path, dirs: &[Dir]) -> io::Result<Option<PathBuf>> {
    held_within(process, dirs, &mut Budget::of_a_proof())
}

/// The same, as far as the budget goes.
///
/// # Errors
/// When it may not be looked at.
pub fn held_within(process: &Path, dirs: &[Dir], budget: &mut Budget) -> io::Result<Option<PathBuf>> {
    let mut dirs = Sighted::new(process, dirs);
    for (place, entry) in fs::read_dir(process.join("fd"))?.enumerate() {
        let entry = entry?.path();
        if !budget.spend(place) {
            break;
        }
        // A file that was closed meanwhile is not held; a directory may be, by whoever stands in it.
        if let Ok(path) = fs::read_link(&entry)
            && dirs.hold(&path)?
            && fs::metadata(&entry).is_ok_and(|file| !file.is_dir())
        {
            return Ok(Some(path));
        }
    }
    // `address perms offset dev inode path`; what is no file has no path that begins with /. A path may be no text.
    let maps = fs::read(process.join("maps"))?;
    budget.files = budget.files.saturating_sub(MAPS_COST);
    for line in maps.split(|byte| *byte == b'\n') {
        let Some(at) = line.iter().position(|byte| *byte == b'/') else { continue };
        let path = Path::new(OsStr::from_bytes(&line[at..]));
        if dirs.hold(path)? {
            return Ok(Some(path.to_owned()));
        }
    }
    Ok(None)
}

/// The first file below `dirs` that this process holds open for writing.
///
/// # Errors
/// When it may not be looked at.
pub fn written(process: &Path, dirs: &[Dir]) -> io::Result<Option<PathBuf>> {
    let mut sighted = Sighted::new(process, dirs);
    let mut budget = Budget::of_a_proof();
    for (place, entry) in fs::read_dir(process.join("fd"))?.enumerate() {
        let entry = entry?;
        if !budget.spend(place) {
            break;
        }
        if let Ok(path) = fs::read_link(entry.path())
            && sighted.hold(&path)?
            && is_for_writing(&process.join("fdinfo").join(entry.file_name()))
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The directory below one of `dirs`, or one of them, in which this process stands.
///
/// # Errors
/// When it may not be looked at.
pub fn stands_in(process: &Path, dirs: &[Dir]) -> io::Result<Option<PathBuf>> {
    let path = fs::read_link(process.join("cwd"))?;
    Ok(Sighted::new(process, dirs).hold(&path)?.then_some(path))
}

/// `flags:` in `/proc/PID/fdinfo/FD`, octal: the two lowest bits are how it was opened (proc(5), open(2)).
fn is_for_writing(info: &Path) -> bool {
    let text = fs::read_to_string(info).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & 3 != 0)
}

/// The directories, and which of them the process was found to see.
struct Sighted<'a> {
    process: &'a Path,
    dirs: Vec<(&'a Dir, Option<bool>)>,
}

impl<'a> Sighted<'a> {
    fn new(process: &'a Path, dirs: &'a [Dir]) -> Self {
        Self { process, dirs: dirs.iter().map(|dir| (dir, None)).collect() }
    }

    /// Whether a path that the kernel tells of this process lies in one of them.
    fn hold(&mut self, path: &Path) -> io::Result<bool> {
        for (dir, seen) in self.dirs.iter_mut().filter(|(dir, _)| path.starts_with(&dir.path)) {
            let is_seen = match *seen {
                Some(known) => known,
                None => *seen.insert(dir.is_seen_by(self.process)?),
            };
            if is_seen {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_both_capabilities_let_it_see_the_files_of_other_users() {
        let status = |bits: u64| format!("Name:\tpbx-failover\nCapPrm:\tffffffffffffffff\nCapEff:\t{bits:016x}\n");
        assert_eq!(sight_of(&status(u64::MAX)), Sight::All);
        assert_eq!(sight_of(&status(1 << 19 | 1 << 2)), Sight::All);
        for bits in [0, 1 << 19, 1 << 2] {
            assert_eq!(sight_of(&status(bits)), Sight::OwnUser, "{bits:x}");
        }
        assert_eq!(sight_of("nothing"), Sight::OwnUser);
    }

    #[test]
    fn a_file_is_written_only_by_who_opened_it_for_that() {
        let dir = tempfile::tempdir().expect("directory");
        let (me, dirs) = (Path::new("/proc/self"), real(&[dir.path().to_owned()]));
        let path = dir.path().join("a.conf");
        let made = fs::File::create(&path).expect("a file");
        let found = written(me, &dirs).expect("it is seen").expect("it is open for writing");
        assert!(found.ends_with("a.conf"));
        drop(made);
        let _read = fs::File::open(&path).expect("the file");
        assert_eq!(written(me, &dirs).expect("it is seen"), None);
        assert!(held(me, &dirs).expect("it is seen").is_some());
    }
}
