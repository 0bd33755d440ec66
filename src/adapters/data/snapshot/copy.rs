//! Copies the content of one file: by reference where the file system can (reflink), else byte by byte; and knows by a
//! digest what it copied.
//!
//! Never by a hard link into the working directory: a link changes the file's own ctime, which the look takes for a change
//! and the gate waits for; and what is then written in place (rsync --inplace, csync2, SQLite, a PBX) would change the
//! copy as well.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs::Stat;

/// At once.
const PIECE: usize = 256 * 1024;

/// Why something came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// The file at this place changed meanwhile.
    Moved(String),
    /// It was called off: a takeover does not wait for it.
    CalledOff,
    /// Somebody else works here.
    Busy,
    /// One line.
    Trouble(String),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Moved(what) => write!(f, "{what} changed while it was copied"),
            Self::CalledOff => f.write_str("it was called off"),
            Self::Busy => f.write_str("another snapshot is being taken or put in place; try again in a moment"),
            Self::Trouble(why) => f.write_str(why),
        }
    }
}

/// Whether it was called off; what has begun to change files cannot be any more, since it would leave half of them.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicU8>);

const RUNS: u8 = 0;
const CALLED_OFF: u8 = 1;
const BEYOND: u8 = 2;

impl Stop {
    /// Calls it off, unless it is too late for that.
    pub fn call_off(&self) {
        let _ = self.0.compare_exchange(RUNS, CALLED_OFF, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Whether it was.
    pub fn is_called_off(&self) -> bool {
        self.0.load(Ordering::SeqCst) == CALLED_OFF
    }

    /// From here on it cannot be called off.
    ///
    /// # Errors
    /// It was.
    pub fn go_beyond(&self) -> Result<(), Failed> {
        match self.0.compare_exchange(RUNS, BEYOND, Ordering::SeqCst, Ordering::SeqCst) {
            Err(CALLED_OFF) => Err(Failed::CalledOff),
            _ => Ok(()),
        }
    }

    /// Whether it is too late to call it off.
    pub fn is_beyond(&self) -> bool {
        self.0.load(Ordering::SeqCst) == BEYOND
    }
}

/// Why a content was not copied.
#[derive(Debug)]
pub enum Broke {
    /// It was called off.
    CalledOff,
    /// The reader or the writer.
    Io(io::Error),
}

impl From<io::Error> for Broke {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Copies the content into an empty file; gives its digest.
pub fn content(from: &mut File, into: &mut File, stop: &Stop) -> Result<String, Broke> {
    if rustix::fs::ioctl_ficlone(&*into, &*from).is_ok() {
        return digest(into, stop);
    }
    read_through(from, stop, |piece| into.write_all(piece))
}

/// The digest of a file's whole content.
pub fn digest(file: &mut File, stop: &Stop) -> Result<String, Broke> {
    read_through(file, stop, |_| Ok(()))
}

/// Reads a file from its beginning, gives each piece on, and the digest of all.
fn read_through(from: &mut File, stop: &Stop, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> Result<String, Broke> {
    from.seek(SeekFrom::Start(0))?;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE];
    loop {
        let read = read(from, &mut piece, stop)?;
        if read == 0 {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(&piece[..read]);
        each(&piece[..read])?;
    }
}

fn read(file: &mut File, piece: &mut [u8], stop: &Stop) -> Result<usize, Broke> {
    loop {
        if stop.is_called_off() {
            return Err(Broke::CalledOff);
        }
        match file.read(piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return Ok(read?),
        }
    }
}

/// What tells that a file is still the same one with the same content: number, size, and both of its times.
pub fn stamp(stat: &Stat) -> (u64, i64, (i64, i64), (i64, i64)) {
    #[allow(clippy::unnecessary_cast, clippy::cast_possible_wrap)] // their types differ from one machine to another
    let nanos = |nanos| nanos as i64;
    let (modified, changed) = ((stat.st_mtime, nanos(stat.st_mtime_nsec)), (stat.st_ctime, nanos(stat.st_ctime_nsec)));
    (stat.st_ino, stat.st_size, modified, changed)
}
