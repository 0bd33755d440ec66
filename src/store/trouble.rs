//! What can be wrong with the store, each as one line with what to do.
//!
//! [`StoreError`] is told at the start, [`StoreTrouble`] at a later call.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why the store could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the lock.
    #[error(
        "the state directory {dir} is in use by {holder}; one process per state directory: stop that one, or give \
         this one a state_dir of its own"
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// `process 1234`, as that process wrote it.
        holder: String,
    },
    /// The directory or a file in it cannot be made or used.
    #[error("cannot use the state directory: {path}: {why}; make it writable for the user that runs the robot")]
    Directory {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// A later program wrote it.
    #[error(
        "{file} was written by a newer version (schema {found}, this program knows {known}); run that version, or \
         move the file away if this node does not serve"
    )]
    Newer {
        /// The database.
        file: PathBuf,
        /// Its schema.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// What stands there is damaged, or is not ours. It is left as it is.
    #[error(
        "{file} is damaged: {why}; find out who serves (the epoch record tells), stop the robot, move the file and \
         its -wal aside (keep them), and start it again"
    )]
    Corrupt {
        /// The database.
        file: PathBuf,
        /// What was found.
        why: String,
    },
    /// No space to make it.
    #[error("no space left for {file}; free some on its file system and start again")]
    Full {
        /// The database.
        file: PathBuf,
    },
    /// Reading or writing failed.
    #[error("cannot read or write {file}: {why}; look at the disk (dmesg) before trusting it again")]
    Io {
        /// The database.
        file: PathBuf,
        /// What SQLite said.
        why: String,
    },
}

impl StoreError {
    /// Whether the daemon can still watch, disarmed, with [`super::Store::unavailable`]: the file is bad, not the
    /// way in which the program was started.
    pub fn may_watch(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Full { .. } | Self::Io { .. })
    }

    pub(super) fn sqlite(file: &Path, error: &rusqlite::Error) -> Self {
        let (file, why) = (file.to_owned(), one_line(error));
        match StoreTrouble::of(error) {
            StoreTrouble::Full => Self::Full { file },
            StoreTrouble::Corrupt(why) => Self::Corrupt { file, why },
            _ => Self::Io { file, why },
        }
    }
}

/// Why a call of the store did not do its work. What was to be written is *not known* to be on disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreTrouble {
    /// The disk is full, and the reserve does not help or is spent.
    #[error("the disk of the state directory is full; free some, and the robot arms itself again")]
    Full,
    /// The disk failed. What was to be written may be there after a restart, or not.
    #[error(
        "cannot write to the state directory: {0}; look at its disk (dmesg), and whether another program has its files open"
    )]
    Io(String),
    /// The file is damaged.
    #[error("the store is damaged: {0}; stop the robot, move state.db and its -wal aside (keep them), start it again")]
    Corrupt(String),
    /// More is asked than the disk can follow.
    #[error("the store has {0} calls waiting and takes no more; the disk of the state directory is too slow")]
    Busy(usize),
    /// One thing to write is larger than anything that this program writes.
    #[error("{what} has {bytes} bytes; the store takes {bytes_max}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How large.
        bytes: usize,
        /// How large it may be.
        bytes_max: usize,
    },
    /// It could not be opened at the start.
    #[error("there is no store: {0}")]
    Unavailable(String),
    /// Its thread has ended.
    #[error("the store is closed")]
    Closed,
}

impl StoreTrouble {
    pub(super) fn of(error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OutOfMemory,
            ) => Self::Io(one_line(error)),
            // A broken tree, a missing table, a value of the wrong type: not what this program wrote.
            _ => Self::Corrupt(one_line(error)),
        }
    }
}

impl From<rusqlite::Error> for StoreTrouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::of(&error)
    }
}

/// SQLite quotes the statements that it finds in a file, line ends and all.
fn one_line(error: &rusqlite::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
