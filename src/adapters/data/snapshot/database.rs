//! Copies a SQLite database that may be in use, and sees that the copy is whole.
//!
//! It is copied by SQLite's own backup, read-only, so that nothing is written beside it. What a dead writer left (a `-wal`
//! without its `-shm`, a journal) is no business of a reader's: all parts are copied, and finished in the copy.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

/// How every such file begins.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Its 19th byte says how it is read: 2 is by a write-ahead log.
const READ_VERSION_AT: usize = 19;
/// A writer that never pauses is waited for no longer.
const BUSY_MAX: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);
/// What lies beside a database and belongs to it.
pub const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Whether this is a database, by how it begins; the file is read from its start.
pub fn is_one(file: &mut File) -> io::Result<bool> {
    let mut head = Vec::new();
    file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut head)?;
    Ok(head == MAGIC)
}

/// Copies it into a new file, which is then whole; `scratch`: an empty directory of our own.
///
/// # Errors
/// One line: why there is no whole copy.
pub fn copy(from: &Path, into: &Path, scratch: &Path) -> Result<(), String> {
    let began = Instant::now();
    let copied = loop {
        // A journal is there as well while its writer lives, and then it is nothing to be finished: SQLite knows, and refuses
        // what only a writer may finish.
        let mut copied = Err(String::new());
        let _ = fs::remove_file(into);
        if !needs_an_index(from).map_err(|error| error.to_string())? {
            copied = back_up(from, into, OpenFlags::SQLITE_OPEN_READ_ONLY);
        }
        if copied.is_err() {
            copied = finish(from, into, scratch);
        }
        let copied = copied.and_then(|()| check(into));
        if copied.is_ok() || began.elapsed() > BUSY_MAX {
            break copied;
        }
        // One that nobody writes to is no better in a moment.
        let before = seen(from);
        std::thread::sleep(PAUSE);
        if seen(from) == before {
            break copied;
        }
    };
    for end in BESIDE {
        let _ = fs::remove_file(beside(into, end));
    }
    copied
}

/// What is copied where a writer has died.
const PARTS: [&str; 3] = ["", "-wal", "-journal"];

type Stamp = (u64, u64, i64, i64);

/// What tells that none of its parts has changed.
fn seen(from: &Path) -> [Option<Stamp>; 3] {
    PARTS.map(|end| fs::symlink_metadata(beside(from, end)).ok().map(|about| stamp(&about)))
}

/// The file beside it.
pub fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn holds(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|about| about.is_file() && about.len() > 0)
}

/// Whether a reader would have to make the index of a log, which only a program that has it open does.
fn needs_an_index(from: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    File::open(from)?.take(READ_VERSION_AT as u64 + 1).read_to_end(&mut head)?;
    Ok(head.get(READ_VERSION_AT) == Some(&2) && !holds(&beside(from, "-shm")))
}

fn back_up(from: &Path, into: &Path, how: OpenFlags) -> Result<(), String> {
    let plain = |error: rusqlite::Error| error.to_string();
    let flags = how | OpenFlags::SQLITE_OPEN_NOFOLLOW | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(from, flags).map_err(plain)?;
    let mut copy = Connection::open(into).map_err(plain)?;
    let began = Instant::now();
    {
        let backup = Backup::new(&source, &mut copy).map_err(plain)?;
        loop {
            // All of it at once: page by page it would begin anew with every write.
            match backup.step(-1).map_err(plain)? {
                StepResult::Done => break,
                StepResult::Busy | StepResult::Locked if began.elapsed() > BUSY_MAX => {
                    return Err(format!("its writer did not pause within {} s", BUSY_MAX.as_secs()));
                }
                _ => std::thread::sleep(PAUSE),
            }
        }
    }
    // A copy needs no log beside it.
    copy.pragma_update(None, "journal_mode", "delete").map_err(plain)?;
    copy.close().map_err(|(_, error)| plain(error))
}

/// Copies the file and what lies beside it, as they are, and lets SQLite finish the copy.
fn finish(from: &Path, into: &Path, scratch: &Path) -> Result<(), String> {
    let copy = scratch.join("database");
    let before = seen(from);
    for end in PARTS {
        let part = beside(from, end);
        if holds(&part) {
            fs::copy(&part, beside(&copy, end)).map_err(|error| error.to_string())?;
        }
    }
    let done = if seen(from) == before {
        back_up(&copy, into, OpenFlags::SQLITE_OPEN_READ_WRITE)
    } else {
        Err("it changed while it was copied".to_owned())
    };
    for end in PARTS.iter().chain(&BESIDE) {
        let _ = fs::remove_file(beside(&copy, end));
    }
    done
}

fn stamp(about: &fs::Metadata) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    (about.ino(), about.len(), about.ctime(), about.ctime_nsec())
}

fn check(path: &Path) -> Result<(), String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = Connection::open_with_flags(path, flags).map_err(|error| error.to_string())?;
    let said: String =
        copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|error| error.to_string())?;
    if said == "ok" { Ok(()) } else { Err(format!("it is damaged: {}", said.lines().next().unwrap_or_default())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rig {
        dir: tempfile::TempDir,
    }

    impl Rig {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("directory");
            fs::create_dir(dir.path().join("scratch")).expect("directory");
            fs::create_dir(dir.path().join("work")).expect("directory");
            Self { dir }
        }

        fn live(&self) -> PathBuf {
            self.dir.path().join("work/astdb.sqlite3")
        }

        fn open(&self, mode: &str) -> Connection {
            let open = Connection::open(self.live()).expect("database");
            open.pragma_update(None, "journal_mode", mode).expect("mode");
            open.execute_batch("CREATE TABLE IF NOT EXISTS astdb(key TEXT, value TEXT)").expect("table");
            open
        }

        /// Copies it; the rows of the copy.
        fn copied(&self) -> Result<i64, String> {
            let into = self.dir.path().join("copy");
            let _ = fs::remove_file(&into);
            copy(&self.live(), &into, &self.dir.path().join("scratch"))?;
            assert_eq!(fs::read_dir(self.dir.path().join("scratch")).expect("listed").count(), 0);
            let copy = Connection::open(into).expect("copy");
            copy.query_row("SELECT count(*) FROM astdb", [], |row| row.get(0)).map_err(|error| error.to_string())
        }

        fn beside(&self) -> Vec<String> {
            let names = fs::read_dir(self.dir.path().join("work")).expect("listed");
            let mut names: Vec<_> =
                names.map(|name| name.expect("name").file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn one_that_is_open_is_copied_with_what_is_only_in_its_log_yet() {
        for mode in ["wal", "delete"] {
            let rig = Rig::new();
            let open = rig.open(mode);
            open.execute_batch("INSERT INTO astdb VALUES('a','1'); INSERT INTO astdb VALUES('b','2')").expect("rows");
            let before = rig.beside();
            assert_eq!(rig.copied(), Ok(2), "{mode}");
            assert_eq!(rig.beside(), before, "{mode}: nothing was put beside it");
        }
    }

    #[test]
    fn what_a_dead_writer_left_in_its_log_is_finished_in_the_copy_alone() {
        let rig = Rig::new();
        let open = rig.open("wal");
        open.execute_batch("INSERT INTO astdb VALUES('a','1')").expect("row");
        // As a sync brings it: the file and its log, without the index, and nobody has it open.
        let (file, log) = (fs::read(rig.live()).expect("file"), fs::read(beside(&rig.live(), "-wal")).expect("log"));
        drop(open);
        fs::write(rig.live(), &file).expect("file");
        fs::write(beside(&rig.live(), "-wal"), &log).expect("log");
        assert!(!log.is_empty());
        assert_eq!(rig.copied(), Ok(1));
        assert_eq!(rig.beside(), ["astdb.sqlite3", "astdb.sqlite3-wal"]);
        assert_eq!(
            (fs::read(rig.live()).expect("file"), fs::read(beside(&rig.live(), "-wal")).expect("log")),
            (file, log)
        );
        // One by a log that is closed, without anything beside it.
        fs::remove_file(beside(&rig.live(), "-wal")).expect("removed");
        drop(rig.open("wal"));
        assert_eq!(rig.beside(), ["astdb.sqlite3"]);
        assert!(rig.copied().is_ok());
        assert_eq!(rig.beside(), ["astdb.sqlite3"]);
    }

    #[test]
    fn while_somebody_writes_every_copy_is_whole() {
        let rig = Rig::new();
        drop(rig.open("delete"));
        let ended = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let open = rig.open("delete");
                open.busy_timeout(Duration::from_secs(5)).expect("timeout");
                // Two rows at once, so that half of a change would be seen.
                while !ended.load(std::sync::atomic::Ordering::SeqCst) {
                    open.execute_batch(
                        "BEGIN; INSERT INTO astdb VALUES('a','1'); INSERT INTO astdb VALUES('b','2'); COMMIT",
                    )
                    .expect("rows");
                }
            });
            let copies: Vec<_> = (0..5).map(|_| rig.copied()).collect();
            ended.store(true, std::sync::atomic::Ordering::SeqCst);
            for rows in copies {
                assert!(rows.as_ref().is_ok_and(|rows| rows % 2 == 0), "{rows:?}");
            }
        });
    }

    #[test]
    fn a_damaged_one_is_no_copy_and_says_why() {
        let rig = Rig::new();
        let open = rig.open("delete");
        for n in 0..500 {
            open.execute("INSERT INTO astdb VALUES(?1, 'some longer text that fills pages')", [n]).expect("row");
        }
        drop(open);
        let mut bytes = fs::read(rig.live()).expect("file");
        bytes.truncate(bytes.len() / 2);
        fs::write(rig.live(), bytes).expect("cut");
        assert!(rig.copied().is_err(), "{:?}", rig.copied());
    }
}
