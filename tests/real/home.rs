//! The way home without a robot: a ledger on disk, real rsync over a real sshd, databases of a real SQLite.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pbx_failover::adapters::data::ledger::{Ledger, Wanted};
use pbx_failover::config::{Config, Files, Surroundings, parse};
use pbx_failover::daemon::home;
use pbx_failover::host::clock;
use pbx_failover::units::StepOutcome;

use crate::checks::runtime;
use crate::lab::have;
use crate::lab::sshd::Sshd;

const BASE: &str = r#"
node: pbx-b
primary: { node: pbx-a, address: 203.0.113.10 }
backup: { node: pbx-b, address: 198.51.100.20 }
monitor: { checks: { web: { http: "https://pbx.example.com/" } } }
pbx: { working_dir: "@DIR@/work", driver: { systemd: { unit: pbx.service } }, probe: "sip:pbx.example.com" }
epoch: { store: local }
sync: { settle: 0s }
state_dir: "@DIR@/state"
failback: { start_primary: [/bin/true], return_to: @HOME@ }
"#;

/// Two working directories that were the same when the service began.
struct Office {
    dir: tempfile::TempDir,
    home: Sshd,
    config: Config,
}

impl Office {
    /// `make` fills the working directory that both have.
    fn serving(make: impl FnOnce(&Path)) -> Option<Self> {
        if !Sshd::possible() || !have(&["sqlite3"]) {
            return None;
        }
        let (dir, home) = (tempfile::tempdir().expect("directory"), Sshd::start());
        let text = BASE.replace("@HOME@", &home.yaml()).replace("@DIR@", &dir.path().display().to_string());
        let surroundings = Surroundings { host_name: "pbx-b".to_owned(), files: Files::Ignored };
        let config = parse(&text, &dir.path().join("failover.yaml"), &surroundings)
            .unwrap_or_else(|refused| panic!("{refused}"))
            .config;
        let office = Self { dir, home, config };
        fs::create_dir(office.here("")).expect("directory");
        make(&office.here(""));
        let same = Command::new("cp").arg("-a").arg(office.here(".")).arg(office.there(".")).status();
        assert!(same.expect("cp").success());
        let now = clock::now().wall;
        Ledger::new(&office.config).begin("one", now, &Wanted::default()).expect("a baseline");
        Some(office)
    }

    fn here(&self, path: &str) -> PathBuf {
        self.dir.path().join("work").join(path)
    }

    fn there(&self, path: &str) -> PathBuf {
        self.home.path("work").join(path)
    }

    /// While nobody serves.
    fn delta(&self) -> StepOutcome {
        runtime().block_on(home::delta(&self.config))
    }

    /// Once the primary serves.
    fn carry(&self) -> Result<String, String> {
        Ledger::new(&self.config).close(clock::now().wall).expect("closed");
        runtime().block_on(home::carry(&self.config))
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
