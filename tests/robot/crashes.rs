//! The robot is killed at each record of its journal: the next start finishes, and repeats nothing that was proved.
//!
//! strace kills it from outside: at the n-th `fsync` of the store a record has just been written and nothing that it
//! announces was begun; at the n-th `pwrite64` something was done and its record is torn.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::lab::dns::Kind;
use crate::lab::http::Received;
use crate::lab::small::{Ground, Small};
use crate::lab::{Running, have, wait_until};

/// The robot's death comes within this time, or it lives.
const SOON: Duration = Duration::from_secs(30);

/// Attaches strace to the robot: it kills it at the `n`-th `syscall` on the store's log of changes.
fn executioner(small: &mut Small, syscall: &str, n: usize) -> Running {
    inject(small, "state/state.db-wal", syscall, &format!("signal=KILL:when={n}"))
}

/// Attaches strace to the robot: `what` happens to these system calls on this file in its directory.
pub fn inject(small: &mut Small, file: &str, syscalls: &str, what: &str) -> Running {
    let (file, log) = (small.robot.path(file), small.robot.path("strace.log"));
    let pid = small.robot.process().pid().to_string();
    let inject = format!("inject={syscalls}:{what}");
    let trace = format!("trace={syscalls}");
    let _ = std::fs::remove_file(&log);
    let path = file.to_str().expect("a plain path");
    let strace =
        Running::start(&["strace", "-f", "-p", &pid, "-o", "/dev/null", "-P", path, "-e", &trace, "-e", &inject], &log);
    wait_until("strace is attached", SOON, || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a living robot").flatten();
        let mut states =
            threads.map(|thread| std::fs::read_to_string(thread.path().join("status")).unwrap_or_default());
        states.all(|state| !state.contains("TracerPid:\t0\n"))
    });
    strace
}

/// Waits until the robot is dead, or `done` holds; when it died, starts it again and gives true.
fn died(small: &mut Small, strace: Running, done: impl Fn(&Value) -> bool) -> bool {
    let mut dead = false;
    wait_until("the robot dies or finishes", SOON, || {
        dead = small.robot.has_ended();
        dead || small.robot.try_status().is_some_and(|status| done(&status))
    });
    drop(strace);
    // It may have died at its last record, after it looked finished.
    wait_until("the robot is dead or answers", SOON, || small.robot.has_ended() || small.robot.try_status().is_some());
    dead = small.robot.has_ended();
    if dead {
        small.robot.kill();
        small.robot.start();
    }
    dead
}

fn over(status: &Value, state: &str) -> bool {
    status["state"] == state && status["plan"]["ended"].is_string()
}

/// One ActionURL id for the event; the same one twice only when the answer to the first was not recorded.
fn one_request(received: &[Received], event: &str) {
    let ours = || received.iter().filter(|request| request.target.starts_with(&format!("/{event}?")));
    let keys: BTreeSet<_> = ours().filter_map(|request| request.header("idempotency-key")).collect();
    assert!(keys.len() == 1 && ours().count() <= 2, "{event}: {received:?}");
}

/// No step is begun again in a plan after its proof; gives how often each verb of the journal was begun.
fn nothing_proved_is_repeated(small: &Small) {
    let copy = tempfile::tempdir().expect("temporary directory");
    for name in ["state.db", "state.db-wal"] {
        let _ = std::fs::copy(small.robot.path("state").join(name), copy.path().join(name));
    }
    let mut proved: BTreeMap<(String, String), String> = BTreeMap::new();
    for entry in journal(&copy.path().join("state.db")) {
        let plan = entry["plan"].as_str().unwrap_or_default().to_owned();
        let record = &entry["record"];
        if let Some(step) = record["started"]["step"].as_str() {
            let before = proved.get(&(plan.clone(), step.to_owned()));
            assert_eq!(
                before,
                None,
                "{step} of {plan} was begun again after its proof\n{}",
                small.robot.history_text()
            );
        }
        if let Some(proof) = record["ended"]["outcome"]["done"].as_str() {
            let step = record["ended"]["step"].as_str().unwrap_or_default();
            proved.insert((plan, step.to_owned()), proof.to_owned());
        }
    }
    assert!(!proved.is_empty(), "the journal was read");
}

fn journal(file: &Path) -> Vec<Value> {
    let database = rusqlite::Connection::open(file).expect("a copy of the store");
    let mut rows = database.prepare("SELECT entry FROM journal ORDER BY seq").expect("the table");
    let texts = rows.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    texts.map(|text| serde_json::from_str(&text.expect("text")).expect("JSON")).collect()
}

fn a_takeover_with_a_death(ground: &mut Ground, small: &mut Small, syscall: &str, n: usize, turn: u64) -> bool {
    small.robot.wait_armed();
    small.pbx.forget();
    small.urls.take();
    let strace = executioner(small, syscall, n);
    ground.web.kill();
    let died = died(small, strace, |status| over(status, "active"));
    small.robot.wait_served();
    assert_eq!(ground.named(), crate::lab::scene::BACKUP_NAMED);
    assert!(
        ground.epoch().contains(&format!("epoch={turn} holder=pbx-b")),
        "turn {turn} is wanted: {}\n{}",
        ground.epoch(),
        small.robot.history_text()
    );
    assert!(small.pbx.serves());
    let verbs = small.pbx.verbs();
    assert_eq!(verbs.iter().filter(|verb| *verb == "reload").count(), 1, "{verbs:?}");
    one_request(&small.urls.received(), "takeover");
    nothing_proved_is_repeated(small);
    died
}

fn a_failback_with_a_death(ground: &mut Ground, small: &mut Small, syscall: &str, n: usize, turn: u64) -> bool {
    ground.web.start();
    small.robot.wait("the primary is up", |status| status["verdict"] == "primary-up");
    small.pbx.forget();
    small.urls.take();
    let strace = executioner(small, syscall, n);
    small.robot.asked(&["failback"]);
    let died = died(small, strace, |status| over(status, "standby"));
    // When it died before the request was on disk, the person asks again.
    if small.robot.state() == "active" {
        small.robot.wait("the primary is up", |status| status["verdict"] == "primary-up");
        let (code, said) = small.robot.asked(&["failback"]);
        assert_eq!(code, 0, "{said}");
    }
    small.robot.wait("handed back", |s| s["state"] == "standby" && (s["plan"].is_null() || over(s, "standby")));
    assert_eq!(ground.named(), crate::lab::scene::PRIMARY_NAMED);
    assert!(ground.epoch().contains(&format!("epoch={turn} holder=pbx-a")), "{}", ground.epoch());
    assert!(!small.pbx.serves());
    one_request(&small.urls.received(), "failback");
    nothing_proved_is_repeated(small);
    died
}

/// Takes over and hands back again and again, with a death at the first, the (1 + `stride`)-th, … `syscall`.
fn deaths(syscall: &str, stride: usize, least: usize) {
    if !have(&["strace", "nginx", "setpriv"]) || !Kind::Bind.installed() {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    let mut small = Small::armed(&ground);
    let (mut turn, mut n, mut deaths) = (0, 1, 0);
    loop {
        let here = format!("killed at {syscall} {n}");
        eprintln!("{here}");
        turn += 2;
        let first = a_takeover_with_a_death(&mut ground, &mut small, syscall, n, turn - 1);
        let second = a_failback_with_a_death(&mut ground, &mut small, syscall, n, turn);
        deaths += usize::from(first) + usize::from(second);
        if !first && !second {
            break;
        }
        n += stride;
    }
    assert!(deaths >= least, "only {deaths} deaths");
}

#[test]
fn killed_when_a_record_was_just_written_it_finishes_and_repeats_nothing() {
    deaths("fsync", 1, 20);
}

#[test]
fn killed_when_the_record_of_what_was_done_is_torn_it_finishes() {
    deaths("pwrite64", 7, 20);
}
