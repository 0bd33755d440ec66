//! The files of a ledger: lists that are written whole and read one line at a time, and the locks.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::data::ledger::{Entry, Known};
use crate::host::{file, lock};

/// First line of a baseline.
pub const BASELINE_HEAD: &str = "pbx-failover baseline 1";
/// First line of a list of changes.
pub const CHANGES_HEAD: &str = "pbx-failover ledger 1";

/// A lock is waited for so long: whoever holds it for longer hangs, or walks through a million files.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// No line is longer: the longest path, every byte of it escaped, and some.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// What is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// The lists, while one is written.
    Lists,
    /// The way home, while something is carried.
    Carry,
}

/// Why the lists cannot be had just now.
pub const IS_LOOKED_AT: &str = "another look for the ledger is still under way";

/// Takes a lock; it ends with the file, and with the process.
pub fn lock(dir: &Path, which: Lock) -> Result<File, String> {
    let (name, wait, busy) = match which {
        Lock::Lists => ("lock", LOCK_WAIT, IS_LOOKED_AT),
        Lock::Carry => ("lock.carry", Duration::ZERO, "another pbx-failover is carrying home at this moment"),
    };
    let path = dir.join(name);
    let cannot = |error: io::Error| format!("cannot lock {}: {error}", path.display());
    // A person's command runs as root, the daemon does not: a file of root's would keep it out for ever.
    let held = file::open(&path).map_err(cannot)?;
    match lock::take(&held, |waited| waited < wait) {
        Ok(()) => Ok(held),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(busy.to_owned()),
        Err(error) => Err(cannot(error)),
    }
}

/// Under another name first: half a file is no file.
pub fn write_whole(dir: &Path, name: &str, text: &str) -> Result<(), String> {
    let path = dir.join(name);
    file::write_whole(&path, text.as_bytes()).map_err(|error| cannot_write(&path, &error))
}

/// A whole file of bounded size.
pub fn read_all(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(bytes_max).read_to_string(&mut text)?;
    Ok(text)
}

/// A list that is being written.
pub struct List {
    path: PathBuf,
    new: PathBuf,
    file: BufWriter<File>,
    count: u64,
}

impl List {
    /// Begins one beside the old; the caller holds [`Lock::Lists`].
    pub fn create(dir: &Path, name: &str, head: &str) -> Result<Self, String> {
        let (path, new) = (dir.join(name), dir.join(format!(".new-{name}")));
        let create = || -> io::Result<BufWriter<File>> {
            let mut file = BufWriter::with_capacity(1 << 18, file::create(&new)?);
            writeln!(file, "{head}")?;
            Ok(file)
        };
        let file = create().map_err(|error| cannot_write(&new, &error))?;
        Ok(Self { path, new, file, count: 0 })
    }

    /// One more, with its end of line.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        self.count += 1;
        self.file.write_all(text.as_bytes()).map_err(|error| cannot_write(&self.new, &error))
    }

    /// Puts it in the place of the old one; how many it holds.
    pub fn finish(mut self) -> Result<u64, String> {
        let finished = writeln!(self.file, "end {}", self.count)
            .and_then(|()| self.file.flush())
            .and_then(|()| self.file.get_ref().sync_all())
            .and_then(|()| fs::rename(&self.new, &self.path));
        finished.map(|()| self.count).map_err(|error| cannot_write(&self.new, &error))
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {error}; see to state_dir", path.display())
}

/// The lines of a list, each without its end.
struct Lines {
    path: PathBuf,
    file: BufReader<File>,
    read: u64,
    over: bool,
}

impl Lines {
    fn open(dir: &Path, name: &str, head: &str) -> Result<Self, String> {
        let path = dir.join(name);
        let file = File::open(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let mut lines = Self { path, file: BufReader::with_capacity(1 << 18, file), read: 0, over: false };
        match lines.line() {
            Ok(Some(first)) if first == head => Ok(lines),
            _ => Err(lines.damaged()),
        }
    }

    fn damaged(&self) -> String {
        format!(
            "{} is damaged; carry home what changed by hand, then `pbx-failover ledger --end --yes`",
            self.path.display()
        )
    }

    fn line(&mut self) -> Result<Option<String>, String> {
        let mut line = Vec::new();
        let read = self.file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        match read {
            Ok(0) => Ok(None),
            Ok(_) if line.pop() == Some(b'\n') => String::from_utf8(line).map(Some).map_err(|_| self.damaged()),
            Ok(_) => Err(self.damaged()),
            Err(error) => Err(format!("cannot read {}: {error}", self.path.display())),
        }
    }

    /// The next one; `None` at the end that its writer wrote. One that was cut is an error.
    fn next(&mut self) -> Option<Result<String, String>> {
        if self.over {
            return None;
        }
        let line = match self.line() {
            Ok(Some(line)) => line,
            Ok(None) => return Some(self.fails(self.damaged())),
            Err(why) => return Some(self.fails(why)),
        };
        match line.strip_prefix("end ") {
            Some(count) if count.parse() == Ok(self.read) => {
                self.over = true;
                None
            }
            Some(_) => Some(self.fails(self.damaged())),
            None => {
                self.read += 1;
                Some(Ok(line))
            }
        }
    }

    fn fails(&mut self, why: String) -> Result<String, String> {
        self.over = true;
        Err(why)
    }
}

/// What both sides have, in the order of a walk.
pub struct Baseline(Lines);

impl Baseline {
    /// Opens it.
    pub fn open(dir: &Path) -> Result<Self, String> {
        Lines::open(dir, "baseline", BASELINE_HEAD).map(Self)
    }
}

impl Iterator for Baseline {
    type Item = Result<Known, String>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.and_then(|line| Known::read(&line)))
    }
}

/// What differs, in the order of a walk.
pub struct Entries(Option<Lines>);

impl Entries {
    /// Opens it; one that was never written is empty.
    pub fn open(dir: &Path) -> Result<Self, String> {
        Self::open_as(dir, "changes")
    }

    /// The same under another name.
    pub fn open_as(dir: &Path, name: &str) -> Result<Self, String> {
        if !dir.join(name).exists() {
            return Ok(Self(None));
        }
        Lines::open(dir, name, CHANGES_HEAD).map(|lines| Self(Some(lines)))
    }

    /// Reads all of it.
    pub fn check(mut self) -> Result<(), String> {
        self.find_map(Result::err).map_or(Ok(()), Err)
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let lines = self.0.as_mut()?;
        let line = match lines.next()? {
            Ok(line) => line,
            Err(why) => return Some(Err(why)),
        };
        let entry = Entry::read(&line, || lines.line().ok().flatten());
        if entry.is_err() {
            lines.over = true;
        }
        Some(entry)
    }
}
