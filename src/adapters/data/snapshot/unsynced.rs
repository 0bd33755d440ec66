//! What was written and is not known to be on disk yet: one by one where it is little, else by whole file systems.
//!
//! A disk needs some milliseconds for each file that is waited for, and telephones wait meanwhile: five thousand small files
//! of a configuration would take a minute. A whole file system takes as long as all that others wrote there, and cannot be
//! called off, so that it is worth it only for what has changed.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// So many files and directories are worth a wait each.
const FEW: usize = 64;

/// Files and directories, open, until [`Self::sync`].
#[derive(Debug, Default)]
pub struct Unsynced {
    /// By file system and file.
    few: HashMap<(u64, u64), OwnedFd>,
    /// Something on each file system that holds more than a few.
    systems: HashMap<u64, OwnedFd>,
}

impl Unsynced {
    /// This one is to be on disk.
    ///
    /// # Errors
    /// It cannot be looked at, or no file can be opened any more.
    pub fn add(&mut self, written: impl AsFd) -> io::Result<()> {
        let about = rustix::fs::fstat(&written)?;
        if self.systems.contains_key(&about.st_dev) {
            return Ok(());
        }
        let written = written.as_fd().try_clone_to_owned()?;
        self.few.insert((about.st_dev, about.st_ino), written);
        if self.few.len() > FEW {
            self.systems.extend(self.few.drain().map(|((system, _), one)| (system, one)));
        }
        Ok(())
    }

    /// Waits until the names in this directory are on disk, unless [`Self::sync`] waits for all of its file system: a snapshot
    /// makes each directory anew, also where one file has changed.
    ///
    /// # Errors
    /// It could not be written.
    pub fn names(&self, dir: impl AsFd) -> io::Result<()> {
        if self.systems.contains_key(&rustix::fs::fstat(&dir)?.st_dev) {
            return Ok(());
        }
        Ok(rustix::fs::fsync(&dir)?)
    }

    /// Waits until all of it is on disk.
    ///
    /// # Errors
    /// Some of it could not be written.
    pub fn sync(self) -> io::Result<()> {
        self.systems.values().try_for_each(rustix::fs::syncfs)?;
        self.few.values().try_for_each(rustix::fs::fsync)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_few_are_waited_for_one_by_one_and_more_as_a_file_system() {
        let dir = tempfile::tempdir().expect("directory");
        let written = |n: usize| File::create(dir.path().join(n.to_string())).expect("file");
        let mut unsynced = Unsynced::default();
        for n in (0..FEW).chain(0..FEW) {
            unsynced.add(written(n)).expect("added");
        }
        assert_eq!((unsynced.few.len(), unsynced.systems.len()), (FEW, 0), "each once");
        for n in 0..3 * FEW {
            unsynced.add(written(n)).expect("added");
        }
        assert_eq!((unsynced.few.len(), unsynced.systems.len()), (0, 1), "no file is kept open for it");
        unsynced.sync().expect("on disk");
    }
}
