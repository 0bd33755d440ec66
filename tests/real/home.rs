//! The way home without a robot: a ledger on disk, real rsync over a real sshd, databases of a real SQLite.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pbx_failover::adapters::data::ledger::{Ledger, Lock, Wanted};
use pbx_failover::config::{Config, Files, Surroundings, parse};
use pbx_failover::daemon::home;
use pbx_failover::data::ledger::Live;
use pbx_failover::host::clock;
use pbx_failover::units::StepOutcome;
use pbx_failover::units::ledger::{Ledger as Told, Phase};

use crate::checks::runtime;
use crate::lab::have;
use crate::lab::sshd::Sshd;

/// The user of the state directory.
const ROBOT: u32 = 64_123;

const BASE: &str = r#"
node: pbx-b
primary: { node: pbx-a, address: 203.0.113.10 }
backup: { node: pbx-b, address: 198.51.100.20 }
monitor: { checks: { web: { http: "https://pbx.example.com/" } } }
pbx: { working_dir: ["@DIR@/work", "@DIR@/second"], driver: { systemd: { unit: pbx.service } }, probe: "sip:pbx.example.com" }
epoch: { store: local }
sync: { settle: 0s }
state_dir: "@DIR@/state"
failback: { start_primary: [/bin/true], @WAY@ }
"#;

/// Two working directories that were the same when the service began.
struct Office {
    dir: tempfile::TempDir,
    home: Sshd,
    config: Config,
}

impl Office {
    /// By rsync; `make` fills the working directory that both have.
    fn serving(make: impl FnOnce(&Path)) -> Option<Self> {
        Self::by("return_to: @HOME@", make)
    }

    fn by(way: &str, make: impl FnOnce(&Path)) -> Option<Self> {
        if !Sshd::possible() || !have(&["sqlite3"]) {
            return None;
        }
        let (dir, home) = (tempfile::tempdir().expect("directory"), Sshd::start());
        let (work, second) = (home.path("work"), home.path("second"));
        let dirs = format!("{}\", \"{}\"]", work.display(), second.display());
        let yaml = home.yaml().replace(&format!("{}\"]", work.display()), &dirs);
        let text = BASE.replace("@WAY@", way).replace("@HOME@", &yaml);
        let text = text.replace("@DIR@", &dir.path().display().to_string());
        let surroundings = Surroundings { host_name: "pbx-b".to_owned(), files: Files::Ignored };
        let config = parse(&text, &dir.path().join("failover.yaml"), &surroundings)
            .unwrap_or_else(|refused| panic!("{refused}"))
            .config;
        let office = Self { dir, home, config };
        for path in [office.here(""), office.here("../second"), second] {
            fs::create_dir(path).expect("directory");
        }
        make(&office.here(""));
        let same = Command::new("cp").arg("-a").arg(office.here(".")).arg(office.there(".")).status();
        assert!(same.expect("cp").success());
        fs::create_dir(office.state()).expect("directory");
        // The robot has a user of its own, and a person's command runs as root.
        let _ = std::os::unix::fs::chown(office.state(), Some(ROBOT), Some(ROBOT));
        office.ledger().begin("one", clock::now().wall, &Wanted::default()).expect("a baseline");
        Some(office)
    }

    fn ledger(&self) -> Ledger {
        Ledger::new(&self.config)
    }

    fn told(&self) -> Told {
        self.ledger().told().expect("told").expect("a ledger")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Whatever was made in the state directory belongs to its owner.
    fn belongs_to_the_robot(&self) {
        if let Ok(about) = fs::metadata(self.state())
            && about.uid() == ROBOT
        {
            // Files that go beside are the PBX's, under another name.
            let mut find = Command::new("find");
            find.arg(self.state()).args(["!", "-uid", &ROBOT.to_string(), "!", "-path", "*/beside/*"]);
            let found = find.output().expect("find").stdout;
            assert!(found.is_empty(), "{}", String::from_utf8_lossy(&found));
        }
    }

    fn here(&self, path: &str) -> PathBuf {
        self.dir.path().join("work").join(path)
    }

    fn there(&self, path: &str) -> PathBuf {
        self.home.path("work").join(path)
    }

    /// While nobody serves.
    fn delta(&self) -> StepOutcome {
        self.delta_while(Live::Replaces)
    }

    fn delta_while(&self, live: Live) -> StepOutcome {
        let outcome = runtime().block_on(home::delta(&self.config, live));
        self.belongs_to_the_robot();
        outcome
    }

    /// Once the primary serves.
    fn carry(&self) -> Result<String, String> {
        self.ledger().close("one", clock::now().wall).expect("closed");
        let carried = runtime().block_on(home::carry(&self.config));
        self.belongs_to_the_robot();
        carried
    }

    /// All that stands there, but directories.
    fn names_there(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.there(""))
            .expect("listed")
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// The one name there with this beginning and this end.
    fn beside(&self, begin: &str, end: &str) -> PathBuf {
        let names = self.names_there();
        let fit: Vec<_> = names.iter().filter(|name| name.starts_with(begin) && name.ends_with(end)).collect();
        let [name] = fit[..] else { panic!("one of {begin}…{end}: {names:?}") };
        self.there(name)
    }
}

/// What SQLite says to this; a script may kill it in its midst.
fn sql(database: &Path, script: &str) -> String {
    let output = Command::new("sqlite3").arg(database).arg(".bail on").args(script.lines()).output().expect("sqlite3");
    String::from_utf8_lossy(&output.stdout).trim().to_owned() + String::from_utf8_lossy(&output.stderr).trim()
}

/// Its rows, and that SQLite finds no fault with it. Of a copy: whoever opens it plays its log.
fn rows(database: &Path) -> String {
    let dir = tempfile::tempdir().expect("directory");
    let copy = dir.path().join("copy.db");
    for part in ["", "-wal", "-journal"] {
        let (from, to) = (format!("{}{part}", database.display()), format!("{}{part}", copy.display()));
        if Path::new(&from).exists() {
            fs::copy(from, to).expect("copied");
        }
    }
    sql(&copy, "SELECT count(*) FROM calls;\nPRAGMA integrity_check;").replace('\n', " ")
}

const MADE: &str = "CREATE TABLE calls (number TEXT, said TEXT);";

fn insert(rows: u32) -> String {
    format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) INSERT INTO calls SELECT i, hex(randomblob(500)) FROM n;"
    )
}

/// It dies as at a power cut.
const DIES: &str = ".shell kill -s KILL $PPID";

#[test]
fn the_log_of_a_primary_that_died_is_never_played_over_our_database() {
    let made = format!("PRAGMA journal_mode=wal;\n{MADE}");
    let office = Office::serving(|work| {
        sql(&work.join("cdr.db"), &made);
        sql(&work.join("other.db"), &made);
    });
    let Some(office) = office else { return };
    sql(&office.there("cdr.db"), &format!("PRAGMA wal_autocheckpoint=0;\n{}\n{DIES}", insert(200)));
    assert!(fs::metadata(office.there("cdr.db-wal")).is_ok_and(|about| about.len() > 0), "the log it died with");
    fs::write(office.there("other.db-wal"), "").expect("an empty one says nothing");
    for name in ["cdr.db", "other.db"] {
        sql(&office.here(name), &insert(300));
        assert!(!office.here(&format!("{name}-wal")).exists(), "the PBX here stopped cleanly");
    }
    let outcome = office.delta();
    let StepOutcome::Done(proof) = outcome else { panic!("{outcome:?}") };
    assert!(proof.contains("1 kept twice there: cdr.db.from-pbx-b-"), "{proof}");
    assert_eq!(rows(&office.there("cdr.db")), "200 ok", "theirs, with its log");
    assert_eq!(rows(&office.beside("cdr.db.from-pbx-b-", "")), "300 ok", "ours");
    assert_eq!(rows(&office.there("other.db")), "300 ok", "ours took the place of what both had");
    assert!(office.carry().is_ok_and(|said| said.contains("the ledger has ended")));
}

#[test]
fn no_database_is_replaced_under_a_pbx_that_runs_at_home() {
    let office = Office::serving(|work| drop(sql(&work.join("cdr.db"), MADE)));
    let Some(office) = office else { return };
    sql(&office.here("cdr.db"), &insert(300));
    let was = rows(&office.there("cdr.db"));
    let outcome = office.delta_while(Live::Beside);
    let StepOutcome::Done(proof) = outcome else { panic!("{outcome:?}") };
    assert!(proof.contains("1 kept twice there: cdr.db.from-pbx-b-"), "{proof}");
    assert_eq!((rows(&office.there("cdr.db")), rows(&office.beside("cdr.db.from-pbx-b-", ""))), (was, "300 ok".into()));
}

#[test]
fn a_journal_or_a_log_that_our_pbx_left_goes_beside_with_its_database_and_never_alone() {
    let office = Office::serving(|work| {
        sql(&work.join("a.db"), &format!("{MADE}\n{}", insert(50)));
        sql(&work.join("log.db"), &format!("PRAGMA journal_mode=wal;\n{MADE}\n{}", insert(50)));
        sql(&work.join("lost.db"), &format!("{MADE}\n{}", insert(50)));
    });
    let Some(office) = office else { return };
    // Killed in the midst of a transaction of which a part is in the database already.
    let torn = format!("PRAGMA cache_size=1;\nBEGIN;\n{}\nUPDATE calls SET said = 'x';\n{DIES}", insert(500));
    sql(&office.here("a.db"), &torn);
    assert!(fs::metadata(office.here("a.db-journal")).is_ok_and(|about| about.len() > 0), "half a transaction");
    sql(&office.there("a.db"), &insert(250));
    // All that is new is in the log: the database itself did not change.
    sql(&office.here("log.db"), &format!("PRAGMA wal_autocheckpoint=0;\n{}\n{DIES}", insert(250)));
    sql(&office.here("lost.db"), &torn);
    fs::remove_file(office.here("lost.db")).expect("removed");
    let outcome = office.delta();
    assert!(matches!(outcome, StepOutcome::Done(_)), "{outcome:?}");
    let names = office.names_there();
    let under_their_names = ["a.db-journal", "log.db-wal", "log.db-shm", "lost.db-journal"];
    assert!(!names.iter().any(|name| under_their_names.contains(&name.as_str())), "{names:?}");
    assert_eq!(rows(&office.there("a.db")), "300 ok", "theirs");
    assert_eq!(rows(&office.there("log.db")), "50 ok", "theirs");
    let journal = office.beside("a.db.from-pbx-b-", "-journal").display().to_string();
    let ours = PathBuf::from(journal.strip_suffix("-journal").expect("its end"));
    assert_eq!(rows(&ours), "50 ok", "ours is taken back to its last whole transaction");
    let log = office.beside("log.db.from-pbx-b-", "-wal").display().to_string();
    let ours = PathBuf::from(log.strip_suffix("-wal").expect("its end"));
    assert_eq!(rows(&ours), "300 ok", "ours");
    office.beside("lost.db.from-pbx-b-", "-journal");
    let said = office.carry();
    assert!(said.as_ref().is_ok_and(|said| said.contains("the ledger has ended")), "{said:?}");
}

#[test]
fn a_database_is_one_by_how_it_begins_and_by_its_log_whatever_its_name_is() {
    let office = Office::serving(|work| {
        // The primary died with a log beside each; the second one's was never brought here.
        for name in ["cdr.db3", "calls"] {
            let script =
                format!("PRAGMA journal_mode=wal;\nPRAGMA wal_autocheckpoint=0;\n{MADE}\n{}\n{DIES}", insert(200));
            sql(&work.join(name), &script);
        }
        sql(&work.join("calls"), "SELECT count(*) FROM calls;");
        assert!(!work.join("calls-wal").exists() && work.join("cdr.db3-wal").exists());
    });
    let Some(office) = office else { return };
    sql(&office.there("calls"), &format!("PRAGMA wal_autocheckpoint=0;\n{}\n{DIES}", insert(50)));
    for name in ["cdr.db3", "calls"] {
        sql(&office.here(name), &insert(100));
        assert!(!office.here(&format!("{name}-wal")).exists(), "SQLite played the log here");
    }
    let first = runtime().block_on(home::first(&office.config));
    let StepOutcome::Done(proof) = first else { panic!("{first:?}") };
    assert!(proof.starts_with("0 files") && proof.contains("go later: large, in use"), "{proof}");
    let outcome = office.delta();
    let StepOutcome::Done(proof) = outcome else { panic!("{outcome:?}") };
    assert!(proof.contains("2 kept twice there: "), "{proof}");
    assert_eq!(rows(&office.there("cdr.db3")), "200 ok", "theirs, with its log");
    assert_eq!(rows(&office.beside("cdr.db3.from-pbx-b-", "")), "300 ok", "ours");
    assert_eq!(rows(&office.there("calls")), "250 ok", "theirs, with its log");
    assert_eq!(rows(&office.beside("calls.from-pbx-b-", "")), "300 ok", "ours");
    assert!(office.carry().is_ok_and(|said| said.contains("the ledger has ended")));
}

/// Passes on what goes from one of them to the other, and calls `meanwhile` once so many bytes have come.
fn passes(mut from: TcpStream, mut to: TcpStream, mut left: usize, meanwhile: impl FnOnce()) {
    let (mut meanwhile, mut bytes) = (Some(meanwhile), [0; 16 * 1024]);
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        left = left.saturating_sub(read);
        if left == 0
            && let Some(meanwhile) = meanwhile.take()
        {
            meanwhile();
        }
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[test]
fn what_comes_to_a_name_at_home_while_ours_is_sent_is_kept_and_told() {
    let office = Office::serving(|work| write(&work.join("both"), "1"));
    let Some(mut office) = office else { return };
    let (listener, sshd) = (TcpListener::bind(("127.0.0.1", 0)).expect("a port"), office.home.port);
    let port = listener.local_addr().expect("an address").port();
    let known = fs::read_to_string(office.home.path("known")).expect("known hosts");
    fs::write(office.home.path("known"), known.replace(&sshd.to_string(), &port.to_string())).expect("known hosts");
    office.config.failback.return_to.as_mut().expect("a way").port = port;
    fs::write(office.here("msg0005.wav"), vec![7; 4 << 20]).expect("file");
    let theirs = office.there("msg0005.wav");
    // rsync asks for the content of a file only after it saw that its name is free, and only then so much comes.
    std::thread::spawn(move || {
        for ours in listener.incoming().flatten() {
            let sshd = TcpStream::connect(("127.0.0.1", sshd)).expect("sshd");
            let back = (sshd.try_clone().expect("a copy"), ours.try_clone().expect("a copy"));
            std::thread::spawn(move || passes(back.0, back.1, usize::MAX, || {}));
            let theirs = theirs.clone();
            std::thread::spawn(move || {
                passes(ours, sshd, 1 << 20, move || fs::write(theirs, "a caller's").expect("file"));
            });
        }
    });
    let outcome = office.delta();
    let StepOutcome::Done(proof) = outcome else { panic!("{outcome:?}") };
    assert!(proof.contains("1 kept twice there: msg0005.wav.from-pbx-a-"), "{proof}");
    assert!(fs::read(office.there("msg0005.wav")).expect("ours") == vec![7; 4 << 20]);
    let theirs = fs::read_to_string(office.beside("msg0005.wav.from-pbx-a-", ""));
    assert_eq!(theirs.expect("theirs"), "a caller's");
    assert_eq!((office.told().files, office.told().kept_twice), (0, 1));
}

#[test]
fn what_has_no_room_to_be_renamed_waits_and_all_else_goes_and_nothing_of_it_stays() {
    let office =
        Office::serving(|work| ["big.csv", "small.csv", "both"].iter().for_each(|name| write(&work.join(name), "1")));
    let Some(office) = office else { return };
    // Of another file system no second name can be made: what goes beside is copied.
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return };
    let device = |path: &Path| fs::metadata(path).expect("metadata").dev();
    if device(other.path()) == device(&office.state()) {
        return;
    }
    for name in ["big.csv", "small.csv"] {
        write(&office.there(name), "theirs");
        write(&other.path().join(name), "ours!");
    }
    write(&other.path().join("both"), "1");
    fs::remove_dir_all(office.here("")).expect("removed");
    std::os::unix::fs::symlink(other.path(), office.dir.path().join("work")).expect("link");
    let big = fs::File::options().write(true).open(other.path().join("big.csv")).expect("file");
    big.set_len(1 << 46).expect("a file with holes");
    let why = office.carry().expect_err("one waits");
    let words = ["big.csv needs 70 TB in state_dir, which has ", "; make room there ("];
    assert_eq!(words.map(|words| why.contains(words)), [true; 2], "{why}");
    assert_eq!(office.told().files, 1, "{why}");
    assert_eq!(fs::read_to_string(office.beside("small.csv.from-pbx-b-", "")).expect("ours"), "ours!");
    let stage = office.state().join("ledger/rsync/beside");
    assert!(!stage.exists(), "nothing of it stays");
    // What a robot that was killed left is removed before anything else is sent.
    write(&stage.join("left"), "half a database");
    fs::remove_file(office.there("big.csv")).expect("removed");
    big.set_len(5).expect("small again");
    let said = office.carry();
    assert!(said.as_ref().is_ok_and(|said| said.contains("the ledger has ended")), "{said:?}");
    assert!(!office.state().join("ledger.last/rsync/beside").exists());
}

#[test]
fn a_directory_at_home_without_its_disk_takes_nothing() {
    let office = Office::serving(|work| (0..60).for_each(|n| write(&work.join(format!("spool/{n}")), "1")));
    let Some(office) = office else { return };
    write(&office.here("spool/7"), "changed");
    write(&office.here("msg0000.wav"), "ours");
    let (disk, away) = (office.there(""), office.home.path("unmounted"));
    fs::rename(&disk, &away).expect("unmounted");
    fs::create_dir(&disk).expect("the mount point");
    let outcome = office.delta();
    let StepOutcome::Failed(why) = outcome else { panic!("{outcome:?}") };
    let words =
        "/work at root@127.0.0.1 holds none of the files that both had, and nothing else: is its disk mounted there?";
    assert!(why.contains(words), "{why}");
    assert_eq!((office.names_there(), office.told().files), (Vec::<String>::new(), 2));
    fs::remove_dir(&disk).expect("removed");
    fs::rename(&away, &disk).expect("mounted");
    // What home has removed since, all that both had, in a directory that is there.
    (0..60).filter(|n| *n != 7).for_each(|n| fs::remove_file(office.there(&format!("spool/{n}"))).expect("removed"));
    let said = office.carry();
    assert!(said.as_ref().is_ok_and(|said| said.contains("the ledger has ended")), "{said:?}");
    assert_eq!(fs::read_to_string(office.there("spool/7")).expect("ours"), "changed");
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
    fs::write(path, text).expect("file");
}

/// A file behind a path that is longer than any program may name at once.
fn write_deep(root: &Path, name: &str) {
    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
    let mut at = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("directory");
    for _ in 0..21 {
        let part = "d".repeat(200);
        mkdirat(&at, part.as_str(), Mode::RWXU).expect("directory");
        at = openat(&at, part.as_str(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("directory");
    }
    let file = openat(&at, name, OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).expect("file");
    rustix::io::write(&file, b"deep").expect("written");
}

#[test]
fn what_home_refuses_or_does_not_name_waits_and_all_else_arrives() {
    let office = Office::serving(|work| write(&work.join("both"), "1"));
    let Some(office) = office else { return };
    write(&office.there("box"), "theirs");
    write(&office.here("box/msg0000.wav"), "ours");
    write_deep(&office.here(""), "a.wav");
    let long = "n".repeat(252) + ".db";
    write(&office.here(&long), "ours");
    write(&office.there(&long), "theirs!");
    write(&office.here("voicemail/z.wav"), "ours");
    write(&office.here("../second/voicemail/a.wav"), "ours");
    let outcome = office.delta();
    let StepOutcome::Failed(why) = outcome else { panic!("{outcome:?}") };
    let words =
        ["a file there has the name of a directory here; ", "2 are not seen to be the same there, as box/msg0000"];
    assert_eq!(words.map(|words| why.contains(words)), [true; 2], "{why}");
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    assert_eq!(read(office.there("box")), "theirs");
    assert_eq!(read(office.there("voicemail/z.wav")), "ours");
    assert_eq!(read(office.home.path("second/voicemail/a.wav")), "ours");
    let of_that_name = office.names_there().into_iter().filter(|name| name.starts_with('n'));
    let mut contents: Vec<_> = of_that_name.map(|name| read(office.there(&name))).collect();
    contents.sort();
    assert_eq!((read(office.there(&long)).as_str(), contents.concat().as_str()), ("theirs!", "ourstheirs!"));
    assert_eq!(office.told().files, 2, "what arrived is struck off");
    // Once a person has made way, it goes on.
    fs::remove_file(office.there("box")).expect("removed");
    let why = office.carry().expect_err("one waits still");
    assert!(why.contains("1 are not seen to be the same there, as dddd"), "{why}");
    assert_eq!((read(office.there("box/msg0000.wav")), office.told().files), ("ours".into(), 1));
}

#[test]
fn a_service_without_a_ledger_is_a_gap_as_soon_as_it_can_be_written() {
    let Some(office) = Office::serving(|_| {}) else { return };
    let ledger = Arc::new(office.ledger());
    let look = |serves: bool| runtime().block_on(home::baseline::look(&ledger, &|| serves));
    // What the last service left waits still, and of this one nobody could write anything down.
    office.ledger().close("one", clock::now().wall).expect("closed");
    look(false);
    assert_eq!((office.told().phase, office.told().gap), (Phase::Home, None));
    look(true);
    assert_eq!((office.told().phase, office.told().gap.is_some()), (Phase::Serving, true));
    fs::remove_dir_all(office.state().join("ledger")).expect("removed");
    fs::write(office.state().join("ledger"), "the disk is full").expect("file");
    look(true);
    fs::remove_file(office.state().join("ledger")).expect("removed");
    assert_eq!(office.ledger().told(), Ok(None));
    look(false);
    assert_eq!(office.ledger().told(), Ok(None), "it does not serve any more");
    look(true);
    let told = office.told();
    assert_eq!(
        (told.phase, told.gap.as_deref()),
        (Phase::Serving, Some("this node served without a ledger for a while"))
    );
    let waits = runtime().block_on(home::waits(&office.config)).expect("told");
    assert!(waits.is_some_and(|line| !line.contains("--end")), "no sync that may delete is started");
    office.belongs_to_the_robot();
}

#[test]
fn a_failback_waits_for_another_way_home_and_says_so() {
    let Some(office) = Office::serving(|_| {}) else { return };
    write(&office.here("voicemail/a.wav"), "ours");
    let lock = office.ledger().lock(Lock::Carry).expect("another carries");
    let outcome = runtime().block_on(async {
        let ends = async {
            while office.told().trouble.is_none_or(|why| !why.contains("is carrying home at this moment")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            drop(lock);
        };
        let said = tokio::time::timeout(Duration::from_secs(30), ends);
        let (outcome, said) = tokio::join!(home::first(&office.config), said);
        said.expect("it says so within half a minute");
        outcome
    });
    assert!(matches!(outcome, StepOutcome::Done(_)), "{outcome:?}");
    assert_eq!((office.told().files, office.told().trouble), (0, None));
}

#[test]
fn a_command_is_given_each_file_as_it_is_and_what_vanished_holds_up_nothing() {
    let copies = "cd @DIR@ && xargs -0 -n1 <$PBX_FAILOVER_LIST >>ran && echo end >>ran";
    let way = format!("return_data: [sh, -c, \"{copies}\"], return_rest: [sh, -c, \"{copies}\"]");
    let Some(office) = Office::by(&way, |_| {}) else { return };
    for name in ["changed.wav", "gone.wav", "stays.wav"] {
        write(&office.here(name), "ours");
    }
    office.ledger().close("one", clock::now().wall).expect("closed");
    write(&office.here("changed.wav"), "ours, and longer since the last look");
    fs::remove_file(office.here("gone.wav")).expect("removed");
    let said = office.carry();
    assert!(said.as_ref().is_ok_and(|said| said.starts_with("2 files, ")), "{said:?}");
    assert_eq!(office.ledger().told(), Ok(None), "it has ended");
    let ran = fs::read_to_string(office.dir.path().join("ran")).expect("it ran");
    let names: Vec<_> = ran.lines().filter_map(|line| line.rsplit('/').next()).collect();
    assert_eq!(names, ["changed.wav", "stays.wav", "end"]);
}
