//! The state directory: its permissions, its lock, and the space held in reserve.
//!
//! The reserve is a file of allocated blocks. When a record of an open plan meets a full disk, the file is given up
//! and the record is written into the space that it held: a takeover under way goes on being journalled. It is
//! taken again when there is space for it twice over; until then the robot should not arm.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use super::trouble::StoreError;
use crate::host::lock;

/// The main database.
pub const STATE_FILE: &str = "state.db";
/// The check results.
pub const CHECKS_FILE: &str = "checks.db";
const LOCK_FILE: &str = "lock";
const RESERVE_FILE: &str = "reserve";

/// Between its fork and its exec a child holds all that its parent held, also one whose parent was killed then.
const DEAD_HOLDS_MAX: Duration = Duration::from_secs(3);

/// Space held for the journal: some thousand records, the write-ahead log's usual size (4 MB) included.
pub const RESERVE_BYTES: u64 = 8 * 1024 * 1024;

/// Makes the directory, only for its owner: the journal holds the configuration's text.
pub fn prepare(dir: &Path) -> Result<(), StoreError> {
    let bad = |why: std::io::Error| StoreError::Directory { path: dir.to_owned(), why: why.to_string() };
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).map_err(bad)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let mode = std::fs::metadata(dir).map_err(bad)?.permissions().mode();
            if mode & 0o077 != 0 {
                std::fs::set_permissions(dir, Permissions::from_mode(mode & 0o700)).map_err(bad)?;
            }
            Ok(())
        }
        Err(error) => Err(bad(error)),
    }
}

/// Makes an empty file that only its owner reads, unless there is one: SQLite gives its own files the same mode.
pub fn private_file(path: &Path) -> Result<(), StoreError> {
    let bad = |why: std::io::Error| StoreError::Directory { path: path.to_owned(), why: why.to_string() };
    let file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path).map_err(bad)?;
    let mode = file.metadata().map_err(bad)?.permissions().mode();
    if mode & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600)).map_err(bad)?;
    }
    Ok(())
}

/// The lock of a state directory, held as long as this value lives; a killed process leaves none behind.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes it at once, or from one who has just died: what that one was starting holds the lock for a moment longer.
    pub fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(LOCK_FILE);
        private_file(&path)?;
        let bad = |why: std::io::Error| StoreError::Directory { path: path.clone(), why: why.to_string() };
        let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(bad)?;
        let mut holder = String::new();
        let taken = lock::take(&file, |waited| {
            holder.clear();
            let _ = (&file).rewind().and_then(|()| (&file).take(20).read_to_string(&mut holder));
            let pid = holder.trim();
            let is_dead = !pid.is_empty() && !Path::new("/proc").join(pid).exists();
            is_dead && waited < DEAD_HOLDS_MAX
        });
        match taken {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let pid = holder.trim();
                let holder = if pid.is_empty() { "another process".to_owned() } else { format!("process {pid}") };
                return Err(StoreError::InUse { dir: dir.to_owned(), holder });
            }
            taken => taken.map_err(bad)?,
        }
        // The pid is for people only: on a full disk the lock holds all the same.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

/// Whether space is held for the journal of a plan under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// Yes.
    Held,
    /// It was given up, or there was no space for it: free some.
    Missing,
}

/// The file that holds the space.
#[derive(Debug)]
pub struct Reserve {
    dir: PathBuf,
    bytes: u64,
    held: Reserved,
}

impl Reserve {
    /// Takes the space, if there is any.
    pub fn take(dir: &Path, bytes: u64) -> Self {
        let mut reserve = Self { dir: dir.to_owned(), bytes, held: Reserved::Missing };
        let whole =
            std::fs::metadata(reserve.path()).is_ok_and(|file| file.len() == bytes && file.blocks() * 512 >= bytes);
        if whole {
            reserve.held = Reserved::Held;
        } else {
            reserve.retake();
        }
        reserve
    }

    /// Whether it is held.
    pub fn held(&self) -> Reserved {
        self.held
    }

    /// Gives the space to whoever writes next. False: there was none left to give.
    pub fn give_up(&mut self) -> bool {
        let had = self.held == Reserved::Held;
        self.held = Reserved::Missing;
        had && std::fs::remove_file(self.path()).is_ok()
    }

    /// Takes it again, when twice as much is free: it shall not be what fills the disk.
    pub fn retake(&mut self) -> Reserved {
        if self.held == Reserved::Missing {
            let free = statvfs(&self.dir).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
            if free >= self.bytes.saturating_mul(2) {
                match self.allocate() {
                    Ok(()) => self.held = Reserved::Held,
                    Err(_) => drop(std::fs::remove_file(self.path())),
                }
            }
        }
        self.held
    }

    fn allocate(&self) -> std::io::Result<()> {
        let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(self.path())?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            Err(Errno::OPNOTSUPP) => write_zeros(file, self.bytes),
            other => other.map_err(Into::into),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(RESERVE_FILE)
    }
}

/// For file systems that cannot allocate without writing.
fn write_zeros(mut file: File, bytes: u64) -> std::io::Result<()> {
    std::io::copy(&mut std::io::repeat(0).take(bytes), &mut file)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// The lock held by us under the name of this process.
    fn held_as(dir: &Path, pid: u32) -> File {
        let path = dir.join(LOCK_FILE);
        std::fs::write(&path, format!("{pid}\n")).expect("file");
        let file = File::open(&path).expect("file");
        file.try_lock().expect("nobody else holds it");
        file
    }

    #[test]
    fn the_lock_of_one_who_lives_is_refused_and_what_a_dead_one_left_is_waited_for() {
        let dir = tempfile::tempdir().expect("directory");
        let held = held_as(dir.path(), std::process::id());
        assert!(matches!(Lock::take(dir.path()), Err(StoreError::InUse { .. })), "it lives");
        drop(held);
        let mut child = std::process::Command::new("true").spawn().expect("a process");
        child.wait().expect("it ends");
        let held = held_as(dir.path(), child.id());
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| Lock::take(dir.path()));
            // Longer than one try takes: who did not wait has been refused by then.
            let began = Instant::now();
            while !taken.is_finished() && began.elapsed() < Duration::from_millis(100) {
                std::thread::yield_now();
            }
            drop(held);
            assert!(taken.join().expect("no panic").is_ok(), "it has waited");
        });
    }
}
