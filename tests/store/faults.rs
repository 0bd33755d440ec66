//! Killed writers, full and failing disks, damaged and foreign files.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pbx_failover::store::{Reserved, STATE_FILE, Store, StoreError, StoreTrouble};
use pbx_failover::units::journal::{Batch, HistoryOrder, JournalRecord};
use pbx_failover::units::{Step, StepOutcome};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::json;
use tempfile::TempDir;

use super::*;

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let dir = TempDir::new().unwrap();
    close(open(&dir).0);
    let file = dir.path().join(STATE_FILE);
    rusqlite::Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = std::fs::read(&file).unwrap();
    let refused = Store::open(dir.path()).unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found: 99, .. }), "{refused}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[test]
fn a_strangers_database_is_refused() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join(STATE_FILE);
    rusqlite::Connection::open(&file).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    let refused = Store::open(dir.path()).unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
}

#[test]
fn an_unavailable_store_says_why_at_every_call() {
    let error = StoreError::Corrupt { file: "/x/state.db".into(), why: "page 3".into() };
    assert!(error.may_watch());
    let store = Store::unavailable(&error);
    let told = store.commit(Batch::default()).wait().unwrap_err().to_string();
    assert!(told.contains("page 3") && told.contains("aside"), "{told}");
    assert!(!store.health().borrow().is_good());
    assert!(store.history(all_history(HistoryOrder::Newest)).wait().is_err());
}

#[test]
fn a_file_damaged_anywhere_is_refused_or_tells_the_truth() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(&dir);
    for n in 1..30 {
        let batch = Batch {
            memory: Some(json!({"n": n, "epoch": 7})),
            journal: vec![entry(n, 0, opened()), entry(n, 1, started(1)), entry(n, 2, closed())],
            history: vec![line(0, "step", "reload")],
            deliveries: vec![message(&format!("k{n}"), "email")],
        };
        store.commit(batch).wait().unwrap();
    }
    store.commit(journal(vec![entry(99, 0, opened()), entry(99, 1, started(1))])).wait().unwrap();
    close(store);
    let file = dir.path().join(STATE_FILE);
    let good = std::fs::read(&file).unwrap();
    let (store, truth) = open(&dir);
    close(store);
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut below = |n: usize| usize::try_from(rng.next_u64() % n as u64).unwrap();
    let (mut refused, mut whole) = (0, 0);
    for round in 0..600 {
        let mut bad = good.clone();
        match round % 3 {
            0 => bad[below(good.len())] ^= 1 << below(8),
            1 => {
                let from = below(good.len());
                let to = (from + 1 + below(600)).min(good.len());
                bad[from..to].fill(u8::try_from(below(256)).unwrap());
            }
            _ => bad.truncate(1 + below(good.len())),
        }
        let _ = std::fs::remove_file(dir.path().join("state.db-wal"));
        std::fs::write(&file, &bad).unwrap();
        match Store::open(dir.path()) {
            Ok((store, found)) => {
                whole += 1;
                assert_eq!((&found.memory, &found.open_plan), (&truth.memory, &truth.open_plan), "round {round}");
                let _ = store.history(all_history(HistoryOrder::Newest)).wait();
                let _ = store.next_due(at(0), vec![]).wait();
                let _ = store.deliveries_of(String::new()).wait();
                let _ = store.commit(journal(vec![entry(99, 2, failed(1))])).wait();
                close(store);
            }
            Err(error) => {
                refused += 1;
                assert!(error.may_watch() || matches!(error, StoreError::Newer { .. }), "round {round}: {error}");
                assert!(!error.to_string().contains('\n'), "{error}");
                if matches!(error, StoreError::Corrupt { .. }) {
                    assert_eq!(std::fs::read(&file).unwrap(), bad, "a damaged file is left as it is");
                }
            }
        }
    }
    eprintln!("{refused} refused, {whole} with the whole truth");
    assert!(refused > 100 && whole > 10);
}

#[test]
fn a_digit_that_changed_in_the_file_is_not_believed() {
    let statements = [
        "UPDATE memory SET json = replace(json, '7', '5')",
        "UPDATE journal SET entry = replace(entry, 'pbx-b', 'pbx-a')",
        "UPDATE plan SET closed = 1",
        "DELETE FROM journal WHERE step = ''",
    ];
    for change in statements {
        let dir = TempDir::new().unwrap();
        let (store, _) = open(&dir);
        let entries = vec![entry(1, 0, opened()), entry(1, 1, started(1))];
        store.commit(Batch { memory: Some(json!({"epoch": 7})), journal: entries, ..Batch::default() }).wait().unwrap();
        close(store);
        let changed = rusqlite::Connection::open(dir.path().join(STATE_FILE)).unwrap().execute(change, []).unwrap();
        assert!(changed > 0, "{change}");
        let refused = Store::open(dir.path()).unwrap_err();
        assert!(matches!(refused, StoreError::Corrupt { .. }), "{change}: {refused}");
    }
}

/// Runs one of the `#[ignore]`d tests below as a process of its own.
fn child(name: &str, dir: &Path, wrapper: &[&str]) -> Command {
    let me = std::env::current_exe().unwrap();
    let mut argv: Vec<&std::ffi::OsStr> = wrapper.iter().map(std::ffi::OsStr::new).collect();
    argv.push(me.as_os_str());
    let mut command = Command::new(argv[0]);
    command.args(&argv[1..]).args(["--exact", name, "--ignored", "--nocapture"]);
    command.env("STORE_TEST_DIR", dir).stdin(Stdio::null());
    command
}

fn child_dir() -> std::path::PathBuf {
    std::env::var_os("STORE_TEST_DIR").expect("run by another test of this file").into()
}

#[test]
#[ignore = "a child of a_killed_writer_leaves_whole_batches_only"]
fn child_writes_until_killed() {
    let (store, found) = Store::open(&child_dir()).unwrap();
    let from = found.memory.map_or(0, |memory| memory["n"].as_i64().unwrap());
    for n in from + 1.. {
        let id = u64::try_from(n).unwrap();
        let batch = Batch {
            memory: Some(json!({"n": n})),
            journal: vec![entry(id, n, opened()), entry(id, n, started(1)), entry(id, n, closed())],
            history: vec![line(n, "step", &n.to_string()), line(n, "step", &n.to_string())],
            deliveries: vec![message(&format!("k{n}"), "email")],
        };
        store.commit(batch).wait().unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {n}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn a_killed_writer_leaves_whole_batches_only() {
    let dir = TempDir::new().unwrap();
    let mut last = 0;
    for round in 0..60_u64 {
        let mut writer =
            child("faults::child_writes_until_killed", dir.path(), &[]).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(writer.stdout.take().unwrap()).lines();
        let acknowledged = |line: &str| line.split("acknowledged ").nth(1).and_then(|n| n.parse::<i64>().ok());
        let mut wanted = 1 + round * 7 % 40;
        while wanted > 0 {
            let line = out.next().expect("the writer writes").unwrap();
            if let Some(n) = acknowledged(&line) {
                last = n;
                wanted -= 1;
            }
        }
        // At any instant from here: some microseconds later each time.
        std::thread::sleep(Duration::from_micros(round * 37 % 400));
        writer.kill().unwrap();
        writer.wait().unwrap();
        last = out.map_while(Result::ok).filter_map(|line| acknowledged(&line)).last().unwrap_or(last);

        let (store, found) = open(&dir);
        let n = found.memory.unwrap()["n"].as_i64().unwrap();
        assert!(n >= last, "round {round}: {last} was acknowledged, {n} is there");
        assert_eq!(found.open_plan, None, "round {round}");
        let (id, entries) = found.last_plan.unwrap();
        assert_eq!((id, entries.len()), (plan(n.cast_unsigned()), 3), "round {round}");
        let lines = store.history(all_history(HistoryOrder::Newest)).wait().unwrap();
        assert_eq!([&lines[0].what, &lines[1].what], [&n.to_string(), &n.to_string()], "round {round}");
        let count = i64::from(store.deliveries_waiting().wait().unwrap());
        assert_eq!(count, n.min(1000), "round {round}");
        close(store);
    }
}

fn until_full(store: &Store, batch: impl Fn(u32) -> Batch) -> (u32, StoreTrouble) {
    for n in 1..5_000 {
        if let Err(trouble) = store.commit(batch(n)).wait() {
            return (n - 1, trouble);
        }
    }
    panic!("5000 batches fit on a disk that has no room");
}

fn fill(file: &Path) {
    let mut ballast = std::fs::File::options().create(true).append(true).open(file).unwrap();
    while ballast.write_all(&[1; 4096]).is_ok() {}
}

#[test]
#[ignore = "a child of a_full_disk_stops_new_plans_and_not_the_one_under_way"]
fn child_fills_its_disk() {
    let dir = child_dir();
    let (ballast, state) = (dir.join("ballast"), dir.join("state"));
    let (store, _) = Store::open(&state).unwrap();
    let health = store.health();
    assert!(health.borrow().is_good());

    // Nothing is under way: the first batch that does not fit fails, and the reserve stays.
    fill(&ballast);
    let padding = "x".repeat(8_000);
    let lines = |n: u32| Batch { history: vec![line(i64::from(n), "verdict", &padding)], ..Batch::default() };
    let (_, trouble) = until_full(&store, lines);
    assert_eq!(trouble, StoreTrouble::Full);
    assert_eq!(health.borrow().trouble, Some(StoreTrouble::Full));
    assert_eq!(health.borrow().reserve, Reserved::Held);
    let told = store.commit(journal(vec![entry(1, 0, opened())])).wait();
    assert_eq!(told, Err(StoreTrouble::Full), "no plan begins on a full disk");
    std::fs::remove_file(&ballast).unwrap();
    lab::wait_until("the store is well again", Duration::from_secs(20), || health.borrow().is_good());

    // A plan is under way: its records go on, out of the reserve, and then it says that it is full.
    store.commit(journal(vec![entry(1, 0, opened())])).wait().unwrap();
    fill(&ballast);
    let record = |n: u32| {
        let outcome = StepOutcome::done(padding.clone());
        journal(vec![entry(1, 1, JournalRecord::Ended { step: Step::Reload, attempt: n, outcome })])
    };
    let (written, trouble) = until_full(&store, record);
    assert_eq!(trouble, StoreTrouble::Full);
    assert!(written > 300, "{written} records of 8 kB out of a reserve of 8 MiB");
    assert_eq!(health.borrow().reserve, Reserved::Missing);
    assert!(!health.borrow().is_good());
    assert_eq!(store.plan(plan(1)).wait().unwrap().unwrap().1.len(), written as usize + 1, "reading works");
    close(store);

    // It starts on the full disk, knows everything, and does not arm.
    let (store, found) = Store::open(&state).unwrap();
    assert_eq!(found.open_plan.unwrap().1.len(), written as usize + 1);
    assert!(!store.health().borrow().is_good());
    std::fs::remove_file(&ballast).unwrap();
    let health = store.health();
    lab::wait_until("the store is well again", Duration::from_secs(20), || health.borrow().is_good());
    assert_eq!(health.borrow().reserve, Reserved::Held);
    store.commit(journal(vec![entry(1, 2, closed())])).wait().unwrap();
    println!("{written} records came out of the reserve");
}

#[test]
fn a_full_disk_stops_new_plans_and_not_the_one_under_way() {
    if !lab::have(&["unshare", "mount"]) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: mounting a small tmpfs needs root");
        return;
    }
    let dir = TempDir::new().unwrap();
    let script = "mount -t tmpfs -o size=32m,mode=700 tmpfs \"$STORE_TEST_DIR\" && exec \"$@\"";
    let wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"];
    let end = child("faults::child_fills_its_disk", dir.path(), &wrapper).output().unwrap();
    let said = String::from_utf8_lossy(&end.stdout) + String::from_utf8_lossy(&end.stderr);
    assert!(end.status.success() && said.contains("came out of the reserve"), "{said}");
}

#[test]
#[ignore = "a child of a_disk_that_cannot_sync_is_trouble_and_no_acknowledged_batch_is_lost"]
fn child_meets_a_failing_disk() {
    let (store, _) = Store::open(&child_dir()).unwrap();
    for n in 1..=200 {
        let batch = Batch { memory: Some(json!({"n": n})), ..Batch::default() };
        match store.commit(batch).wait() {
            Ok(()) => println!("acknowledged {n}"),
            Err(StoreTrouble::Io(why)) => println!("trouble {n}: {why}"),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(!store.health().borrow().is_good());
}

#[test]
fn a_disk_that_cannot_sync_is_trouble_and_no_acknowledged_batch_is_lost() {
    if !lab::have(&["strace"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let inject = "inject=fsync,fdatasync:error=EIO:when=60+";
    let wrapper = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", inject];
    let end = child("faults::child_meets_a_failing_disk", dir.path(), &wrapper).output().unwrap();
    let said = String::from_utf8_lossy(&end.stdout);
    assert!(end.status.success(), "{said}{}", String::from_utf8_lossy(&end.stderr));
    let acknowledged: Vec<i64> =
        said.lines().filter_map(|line| line.split("acknowledged ").nth(1)?.parse().ok()).collect();
    assert!(acknowledged.len() > 20 && acknowledged.len() < 100, "{said}");
    assert!(said.contains("trouble 200"), "{said}");
    let (_store, found) = open(&dir);
    assert!(found.memory.unwrap()["n"].as_i64().unwrap() >= *acknowledged.last().unwrap());
}
