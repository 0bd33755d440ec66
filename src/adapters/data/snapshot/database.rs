//! Copies a SQLite database that may be in use, and sees that the copy is whole.
//!
//! All its parts (the file, its log or journal) are copied as files, between two writes; SQLite finishes and checks these
//! copies alone. So it never opens what somebody else can put there, keeps no writer waiting, and writes nothing beside it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FileType, Stat};

use super::at;
use super::copy::{self, Broke, Failed, Stop};
use crate::data::family::{LOGS, PARTS};
use crate::data::snapshot::FILE_MAX;

/// How every such file begins.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// A writer that never pauses is waited for no longer.
const BUSY_MAX: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);
/// What was written later may be written again without another time: file systems count in steps of some milliseconds.
const STEP_MAX: Duration = Duration::from_millis(20);
/// SQLite works on a copy no longer: the largest one is read within seconds.
const FINISH_MAX: Duration = Duration::from_secs(60);
/// It is asked whether it was called off every so many of its instructions.
const ASKED_EVERY: std::ffi::c_int = 10_000;
/// What is copied: the file and what may hold a part of its content. The index of a log is made anew.
const COPIED: [&str; 3] = ["", LOGS[0], LOGS[1]];

/// Whether this is a database, by how it begins; the file is read from its start.
pub fn is_one(file: &mut File) -> io::Result<bool> {
    let mut head = Vec::new();
    file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut head)?;
    Ok(head == MAGIC)
}

/// Copies it into a new file, which is then whole; `scratch`: an empty directory of our own.
///
/// # Errors
/// It was called off, or one line: why there is no whole copy.
pub fn copy((parent, name): (BorrowedFd<'_>, &OsStr), into: &Path, scratch: &Path, stop: &Stop) -> Result<(), Failed> {
    let (began, whole) = (Instant::now(), scratch.join("database"));
    let copied = loop {
        let before = seen(parent, name);
        let copied = parts(parent, name, &whole, stop).and_then(|()| {
            if before.iter().flatten().any(is_fresh) || seen(parent, name) != before {
                return Err(Failed::Moved("it".to_owned()));
            }
            finish(&whole, stop)
        });
        match copied {
            // One that nobody writes to is no better in a moment.
            Err(Failed::Moved(_)) if began.elapsed() <= BUSY_MAX => std::thread::sleep(PAUSE),
            copied => break copied,
        }
    };
    let copied = copied.and_then(|()| fs::rename(&whole, into).map_err(|error| Failed::Trouble(error.to_string())));
    for end in COPIED.iter().chain(&PARTS) {
        let _ = fs::remove_file(beside(&whole, end));
    }
    copied
}

/// What tells that none of its parts has changed.
fn seen(parent: BorrowedFd<'_>, name: &OsStr) -> [Option<Seen>; 3] {
    COPIED.map(|end| at::stat(parent, &with(name, end)).ok().flatten().map(|stat| copy::stamp(&stat)))
}

type Seen = (u64, i64, (i64, i64), (i64, i64));

/// Whether it changed so lately that another change would not be seen.
fn is_fresh((_, _, _, (seconds, nanos)): &Seen) -> bool {
    let changed = Duration::new(u64::try_from(*seconds).unwrap_or(0), u32::try_from(*nanos).unwrap_or(0));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.checked_sub(changed).is_some_and(|age| age < STEP_MAX)
}

fn with(name: &OsStr, end: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(end);
    name
}

/// The file beside it.
fn beside(path: &Path, end: &str) -> PathBuf {
    with(path.as_os_str(), end).into()
}

/// Copies the file and what lies beside it, as they are.
fn parts(parent: BorrowedFd<'_>, name: &OsStr, whole: &Path, stop: &Stop) -> Result<(), Failed> {
    let plain = |error: io::Error| Failed::Trouble(error.to_string());
    for end in COPIED {
        let (name, copy) = (with(name, end), beside(whole, end));
        let _ = fs::remove_file(&copy);
        let held = |stat: &Stat| stat.st_size > 0 || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile;
        if !at::stat(parent, &name).map_err(plain)?.is_some_and(|stat| held(&stat)) {
            continue;
        }
        let mut from = at::open(parent, &name).map_err(plain)?;
        let about = from.metadata().map_err(plain)?;
        if !about.is_file() || about.len() > FILE_MAX {
            return Err(Failed::Trouble(format!("{} is no file, or too large", name.to_string_lossy())));
        }
        let mut into = File::options().read(true).write(true).create_new(true).open(copy).map_err(plain)?;
        match copy::content(&mut from, &mut into, stop) {
            Ok(_) => {}
            Err(Broke::CalledOff) => return Err(Failed::CalledOff),
            Err(Broke::Io(error)) => return Err(plain(error)),
        }
    }
    Ok(())
}

/// Lets SQLite bring in what a log or journal holds, and checks what comes of it; a copy needs no log beside it.
fn finish(whole: &Path, stop: &Stop) -> Result<(), Failed> {
    let failed = |error: rusqlite::Error| {
        if stop.is_called_off() { Failed::CalledOff } else { Failed::Trouble(error.to_string()) }
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NOFOLLOW | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut copy = Connection::open_with_flags(whole, flags).map_err(failed)?;
    let (asked, began) = (stop.clone(), Instant::now());
    let gives_up = move || asked.is_called_off() || began.elapsed() > FINISH_MAX;
    copy.progress_handler(ASKED_EVERY, Some(gives_up)).map_err(failed)?;
    copy.pragma_update(None, "journal_mode", "delete").map_err(failed)?;
    let said: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    copy.close().map_err(|(_, error)| failed(error))?;
    if said == "ok" {
        Ok(())
    } else {
        Err(Failed::Trouble(format!("it is damaged: {}", said.lines().next().unwrap_or_default())))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::symlink;
    use std::sync::mpsc::RecvTimeoutError;

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
            self.copied_until(&Stop::default())
        }

        fn copied_until(&self, stop: &Stop) -> Result<i64, String> {
            let into = self.dir.path().join("copy");
            let _ = fs::remove_file(&into);
            let work = at::root(&self.dir.path().join("work")).expect("directory");
            let live = (work.as_fd(), OsStr::new("astdb.sqlite3"));
            copy(live, &into, &self.dir.path().join("scratch"), stop).map_err(|failed| failed.to_string())?;
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
        std::thread::scope(|scope| {
            let (end, ended) = std::sync::mpsc::channel::<()>();
            let rig = &rig;
            scope.spawn(move || {
                let open = rig.open("delete");
                // Two rows at once, so that half of a change would be seen; and a pause, as every PBX makes.
                while ended.recv_timeout(STEP_MAX * 2).is_err_and(|error| error == RecvTimeoutError::Timeout) {
                    open.execute_batch(
                        "BEGIN; INSERT INTO astdb VALUES('a','1'); INSERT INTO astdb VALUES('b','2'); COMMIT",
                    )
                    .expect("rows, and no reader in the way");
                }
            });
            for _ in 0..5 {
                let rows = rig.copied();
                assert!(rows.as_ref().is_ok_and(|rows| rows % 2 == 0), "{rows:?}");
            }
            drop(end);
        });
    }

    #[test]
    fn nothing_else_is_opened_in_the_place_of_a_part_and_nothing_is_waited_for() {
        let rig = Rig::new();
        drop(rig.open("delete"));
        let elsewhere = rig.dir.path().join("elsewhere");
        fs::rename(rig.live(), &elsewhere).expect("moved");
        symlink(&elsewhere, rig.live()).expect("link");
        assert!(rig.copied().is_err(), "a link");
        fs::remove_file(rig.live()).expect("removed");
        let work = at::root(&rig.dir.path().join("work")).expect("directory");
        let pipe = |name| rustix::fs::mkfifoat(&work, name, rustix::fs::Mode::RWXU).expect("pipe");
        pipe("astdb.sqlite3");
        assert!(rig.copied().is_err(), "a pipe that nobody writes to");
        fs::remove_file(rig.live()).expect("removed");
        fs::rename(&elsewhere, rig.live()).expect("moved");
        assert_eq!(rig.copied(), Ok(0));
        pipe("astdb.sqlite3-journal");
        assert!(rig.copied().is_err(), "a pipe beside it");
    }

    #[test]
    fn a_copy_is_called_off_also_while_sqlite_checks_it() {
        let rig = Rig::new();
        let open = rig.open("delete");
        let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 20000) \
                    INSERT INTO astdb SELECT i, 'some longer text that fills pages' FROM n";
        open.execute_batch(rows).expect("rows");
        let stop = Stop::default();
        stop.call_off();
        assert_eq!(finish(&rig.live(), &stop), Err(Failed::CalledOff));
        assert_eq!(rig.copied_until(&stop), Err(Failed::CalledOff.to_string()));
        assert_eq!(rig.copied(), Ok(20_000));
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
