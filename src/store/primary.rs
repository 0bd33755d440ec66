//! The primary's memory on disk: one small JSON file that the guard and the agent, two processes, read and write.
//!
//! A lock makes each change one step; the file is replaced as a whole, so that a reader sees all of it or the one before.
//! It has the owner of its directory: the guard runs as root, the agent does not.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::place;
use crate::host::{file, lock};
use crate::primary::Memory;

/// The file in the state directory.
pub const FILE: &str = "primary.json";
const LOCK: &str = "primary.lock";
/// The other process holds the lock for one write; when that hangs, a PBX's start must not hang with it.
const LOCK_MAX: Duration = Duration::from_secs(2);
/// Larger is not ours.
const BYTES_MAX: u64 = 64 * 1024;

/// The memory's file.
#[derive(Debug, Clone)]
pub struct PrimaryFile {
    dir: PathBuf,
}

impl PrimaryFile {
    /// The file of a state directory.
    pub fn of(state_dir: &Path) -> Self {
        Self { dir: state_dir.to_owned() }
    }

    /// What it holds; a file that was never written holds nothing.
    ///
    /// # Errors
    /// One line: a file that cannot be read must not look like "no record was ever seen".
    pub fn read(&self) -> Result<Memory, String> {
        let path = self.dir.join(FILE);
        let unread =
            |why: String| format!("{} cannot be read: {why}; run this as root or as the robot's user", path.display());
        let bad = |why: String| damaged(&path, &why);
        let meta = match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Memory::default()),
            Err(error) => return Err(unread(error.to_string())),
            Ok(meta) => meta,
        };
        if meta.len() > BYTES_MAX {
            return Err(bad(format!("it has {} bytes", meta.len())));
        }
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => bad(error.to_string()),
            _ => unread(error.to_string()),
        })?;
        // A list would be taken for an empty memory.
        let fields = serde_json::from_str::<serde_json::Map<_, _>>(&text);
        fields.and_then(|fields| serde_json::from_value(fields.into())).map_err(|error| bad(error.to_string()))
    }

    /// Changes it in one step; gives what it holds now.
    ///
    /// # Errors
    /// One line; the file is as it was.
    pub fn update(&self, change: impl FnOnce(&mut Memory)) -> Result<Memory, String> {
        place::prepare(&self.dir).map_err(|error| error.to_string())?;
        let bad = |error: std::io::Error| format!("{} cannot be written: {error}", self.dir.join(FILE).display());
        let held = file::open(&self.dir.join(LOCK)).map_err(bad)?;
        lock::take(&held, |waited| waited < LOCK_MAX).map_err(bad)?;
        let before = self.read()?;
        let mut memory = before.clone();
        change(&mut memory);
        if memory != before {
            let text = serde_json::to_string_pretty(&memory).map_err(|error| error.to_string())?;
            file::write_whole(&self.dir.join(FILE), text.as_bytes()).map_err(bad)?;
        }
        Ok(memory)
    }
}

/// What is wrong, how to mend it, and what that costs, so that a person can decide at night.
fn damaged(path: &Path, why: &str) -> String {
    let path = path.display();
    format!(
        "{path} is damaged: {why}; `mv {path} {path}.damaged && systemctl restart pbx-failover`. What is lost with it: that the PBX was held back (start it by hand then, its guard asks), a person's word (`guard --force`), and which turn was seen last; the epoch itself is read again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Duty;

    #[test]
    fn two_writers_lose_nothing_of_each_other() {
        let dir = tempfile::tempdir().expect("directory");
        let file = PrimaryFile::of(&dir.path().join("state"));
        assert_eq!(file.read(), Ok(Memory::default()));
        file.update(|memory| memory.duty = Some(Duty::Serve)).expect("first");
        let other = file.clone();
        let writes = std::thread::spawn(move || {
            (0..100).for_each(|n| {
                other.update(|memory| memory.planned_stop_until = jiff::Timestamp::from_second(n).ok()).expect("other");
            });
        });
        (0..100).for_each(|_| drop(file.update(|memory| memory.duty = Some(Duty::Stop)).expect("ours")));
        writes.join().expect("it ends");
        let memory = file.read().expect("memory");
        assert_eq!((memory.duty, memory.planned_stop_until), (Some(Duty::Stop), jiff::Timestamp::from_second(99).ok()));
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_an_empty_memory() {
        let dir = tempfile::tempdir().expect("directory");
        let file = PrimaryFile::of(dir.path());
        for bad in ["", "{", "[]", "\0\0\0"] {
            fs::write(dir.path().join(FILE), bad).expect("file");
            let said = file.read().expect_err("damaged");
            let path = dir.path().join(FILE);
            for part in [format!("{} is damaged", path.display()), format!("; `mv {}", path.display())] {
                assert!(said.contains(&part), "{bad:?}: {part}: {said}");
            }
            assert!(file.update(|memory| memory.duty = None).is_err(), "{bad:?}");
            assert_eq!(fs::read_to_string(dir.path().join(FILE)).expect("file"), bad, "it is left for a person");
        }
    }
}
