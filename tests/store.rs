//! The store against real disks: killed writers, full and failing disks, damaged files, two processes.

#[path = "lab/mod.rs"]
mod lab;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pbx_failover::store::{
    CheckSample, DeliveryState, Limits, Recorded, Recovered, Reserved, STATE_FILE, Sampled, Store, StoreError,
    StoreTrouble,
};
use pbx_failover::units::journal::{Batch, HistoryEvent, HistoryOrder, HistoryQuery, JournalEntry, JournalRecord};
use pbx_failover::units::{Delivery, DeliveryOutcome, EventName, PlanId, PlanKind, State, Step, StepOutcome, Target};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::json;
use tempfile::TempDir;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

fn plan(n: u64) -> PlanId {
    PlanId(ulid::Ulid::from_parts(n, 1))
}

fn opened() -> JournalRecord {
    JournalRecord::Opened {
        kind: PlanKind::Takeover,
        because: "primary-dead".into(),
        config: "node: pbx-b\n".into(),
        intent: json!({}),
    }
}

fn entry(n: u64, second: i64, record: JournalRecord) -> JournalEntry {
    JournalEntry { plan: plan(n), at: at(second), record }
}

fn started(attempt: u32) -> JournalRecord {
    JournalRecord::Started { step: Step::Reload, attempt }
}

fn failed(attempt: u32) -> JournalRecord {
    JournalRecord::Ended { step: Step::Reload, attempt, outcome: StepOutcome::failed("not yet") }
}

fn closed() -> JournalRecord {
    JournalRecord::Closed { how: "done".into() }
}

fn line(second: i64, kind: &str, what: &str) -> HistoryEvent {
    HistoryEvent {
        at: at(second),
        kind: kind.into(),
        state: State::Standby,
        row: None,
        what: what.into(),
        because: "a test".into(),
    }
}

fn message(key: &str, target: &str) -> Delivery {
    Delivery {
        key: key.into(),
        target: Target(target.into()),
        event: EventName::Takeover,
        subject: "pbx-b serves".into(),
        text: "why".into(),
        variables: std::collections::BTreeMap::new(),
    }
}

fn journal(entries: Vec<JournalEntry>) -> Batch {
    Batch { journal: entries, ..Batch::default() }
}

fn deliveries(messages: Vec<Delivery>) -> Batch {
    Batch { deliveries: messages, ..Batch::default() }
}

fn close(store: Store) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.close()).unwrap();
}

fn open(dir: &TempDir) -> (Store, Recovered) {
    Store::open(dir.path()).unwrap()
}

fn all_history(order: HistoryOrder) -> HistoryQuery {
    HistoryQuery { since: None, kind: None, order, limit: 1000 }
}

#[test]
fn what_was_committed_is_recovered() {
    let dir = TempDir::new().unwrap();
    let (store, empty) = open(&dir);
    assert_eq!(empty, Recovered::default());
    let entries = vec![entry(1, 0, opened()), entry(1, 1, started(1))];
    let batch = Batch {
        memory: Some(json!({"state": "taking-over"})),
        journal: entries.clone(),
        history: vec![line(0, "transition", "Suspect to TakingOver")],
        deliveries: vec![message("k1", "email")],
    };
    store.commit(batch).wait().unwrap();
    close(store);
    let (store, found) = open(&dir);
    assert_eq!(found.memory, Some(json!({"state": "taking-over"})));
    assert_eq!(found.open_plan, Some((plan(1), entries)));
    assert_eq!(found.last_plan, None);
    assert_eq!(found.deliveries_waiting, 1);
    store.commit(journal(vec![entry(1, 2, closed())])).wait().unwrap();
    assert_eq!(store.last_plan().wait().unwrap().unwrap().1.len(), 3);
    assert_eq!(store.plan(plan(7)).wait().unwrap(), None);
    close(store);
    let (_store, found) = open(&dir);
    assert_eq!(found.open_plan, None);
    assert_eq!(found.last_plan.unwrap().0, plan(1));
}

#[test]
fn nobody_else_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let outer = TempDir::new().unwrap();
    let dir = outer.path().join("state");
    let (store, _) = Store::open(&dir).unwrap();
    store.commit(Batch { memory: Some(json!(1)), ..Batch::default() }).wait().unwrap();
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    let files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.iter().any(|file| file.ends_with("state.db-wal")), "{files:?}");
    for file in files {
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
}

#[test]
fn a_second_process_is_refused_and_told_whom_to_stop() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(&dir);
    let refused = Store::open(dir.path()).unwrap_err();
    assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
    assert!(!refused.may_watch());
    close(store);
    open(&dir);
}

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
fn history_is_bounded_and_told_from_either_end() {
    let dir = TempDir::new().unwrap();
    let (store, _) = Store::open_with(dir.path(), Limits { history_rows: 10, ..Limits::default() }).unwrap();
    for n in 0..25 {
        let kind = if n % 2 == 0 { "verdict" } else { "operator" };
        let batch = Batch { history: vec![line(n, kind, &n.to_string())], ..Batch::default() };
        store.commit(batch).wait().unwrap();
    }
    let told = |query| -> Vec<String> { store.history(query).wait().unwrap().into_iter().map(|e| e.what).collect() };
    let expected: Vec<_> = (15..25).map(|n| n.to_string()).collect();
    assert_eq!(told(all_history(HistoryOrder::Oldest)), expected);
    let mut query = HistoryQuery { limit: 2, kind: Some("operator".into()), ..all_history(HistoryOrder::Newest) };
    assert_eq!(told(query.clone()), ["23", "21"]);
    query.since = Some(at(22));
    assert_eq!(told(query), ["23"]);
}

#[test]
fn old_plans_go_and_the_open_one_stays() {
    let dir = TempDir::new().unwrap();
    let (store, _) = Store::open_with(dir.path(), Limits { plans_kept: 3, ..Limits::default() }).unwrap();
    store.commit(journal(vec![entry(100, 0, opened())])).wait().unwrap();
    for n in 1..=9 {
        let batch = journal(vec![entry(n, 0, opened()), entry(n, 1, started(1)), entry(n, 2, closed())]);
        store.commit(batch).wait().unwrap();
    }
    assert_eq!(store.plan(plan(6)).wait().unwrap(), None);
    assert_eq!(store.plan(plan(7)).wait().unwrap().unwrap().1.len(), 3);
    close(store);
    let (_store, found) = open(&dir);
    assert_eq!(found.open_plan.unwrap().0, plan(100));
    assert_eq!(found.last_plan.unwrap().0, plan(9));
}

#[test]
fn a_step_tried_for_a_week_keeps_its_first_and_newest_attempts_and_its_success() {
    let dir = TempDir::new().unwrap();
    let (store, _) = Store::open_with(dir.path(), Limits { attempts_kept: 5, ..Limits::default() }).unwrap();
    store.commit(journal(vec![entry(1, 0, opened())])).wait().unwrap();
    let done = JournalRecord::Ended { step: Step::Claim, attempt: 2, outcome: StepOutcome::done("read back") };
    store.commit(journal(vec![entry(1, 1, done.clone())])).wait().unwrap();
    for attempt in 1..=40 {
        store.commit(journal(vec![entry(1, 2, started(attempt)), entry(1, 3, failed(attempt))])).wait().unwrap();
    }
    let (_, entries) = store.plan(plan(1)).wait().unwrap().unwrap();
    let records: Vec<_> = entries.into_iter().map(|entry| entry.record).collect();
    let mut expected = vec![opened(), done, started(1), failed(1)];
    expected.extend((36..=40).flat_map(|n| [started(n), failed(n)]));
    assert_eq!(records, expected);
}

#[test]
fn messages_keep_their_order_per_target_and_a_final_answer_is_final() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(&dir);
    let (mail, hook) = ("email", "webhook:x");
    let batch = deliveries(vec![message("a1", mail), message("a2", mail), message("b1", hook), message("a1", mail)]);
    store.commit(batch).wait().unwrap();
    let ready = |now| -> Vec<(String, u32)> {
        let due = store.next_due(now, vec![]).wait().unwrap();
        due.ready.into_iter().map(|queued| (queued.delivery.key, queued.attempt)).collect()
    };
    assert_eq!(ready(at(0)), [("a1".to_owned(), 1), ("b1".to_owned(), 1)]);
    let record = |key: &str, outcome, attempt, next_at| {
        store.record_delivery(key.to_owned(), outcome, attempt, next_at).wait().unwrap()
    };
    // A retry holds the whole target back, so that order is kept.
    assert_eq!(record("a1", DeliveryOutcome::Retry("451".into()), 1, at(60)), Recorded::Yes);
    assert_eq!(ready(at(1)), [("b1".to_owned(), 1)]);
    assert_eq!(store.next_due(at(1), vec![]).wait().unwrap().next_at, Some(at(60)));
    assert!(store.next_due(at(1), vec![Target(hook.into())]).wait().unwrap().ready.is_empty());
    assert_eq!(ready(at(60))[0], ("a1".to_owned(), 2));
    // The clock was set back by a day: nothing waits for a day.
    assert_eq!(ready(at(-86_400))[0], ("a1".to_owned(), 2));
    assert_eq!(record("a1", DeliveryOutcome::Accepted("250".into()), 2, at(0)), Recorded::Yes);
    assert_eq!(record("a1", DeliveryOutcome::Rejected("late".into()), 3, at(0)), Recorded::AlreadyFinal);
    store.commit(deliveries(vec![message("a1", mail)])).wait().unwrap();
    close(store);
    let (store, found) = open(&dir);
    assert_eq!(found.deliveries_waiting, 2);
    let due = store.next_due(at(60), vec![]).wait().unwrap();
    assert_eq!(due.ready.iter().map(|queued| queued.delivery.key.as_str()).collect::<Vec<_>>(), ["a2", "b1"]);
    let states = store.deliveries_of("a".into()).wait().unwrap();
    assert_eq!(states[0].state, DeliveryState::Accepted("250".into()));
    assert_eq!(states[1].state, DeliveryState::Waiting { attempts: 0, said: String::new() });
    assert_eq!(states.len(), 2);
}

#[test]
fn a_dead_target_drops_its_oldest_messages_but_the_head() {
    let dir = TempDir::new().unwrap();
    let limits = Limits { waiting_per_target: 3, deliveries_kept: 4, ..Limits::default() };
    let (store, _) = Store::open_with(dir.path(), limits).unwrap();
    let many = (0..12).map(|n| message(&format!("k{n:02}"), "email")).collect();
    store.commit(deliveries(many)).wait().unwrap();
    let told = store.deliveries_of("k".into()).wait().unwrap();
    let waiting: Vec<_> = told.iter().filter(|d| matches!(d.state, DeliveryState::Waiting { .. })).collect();
    assert_eq!(waiting.iter().map(|d| d.key.as_str()).collect::<Vec<_>>(), ["k00", "k10", "k11"]);
    assert_eq!(told.len(), 5, "the newest four rows and the head stay: {told:?}");
}

#[test]
fn facts_are_kept() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(&dir);
    store.put_fact("epoch.record".into(), &json!("_pbx.example.com")).wait().unwrap();
    store.put_fact("epoch.record".into(), &json!("_pbx.example.net")).wait().unwrap();
    let large = json!("x".repeat(300_000));
    let told = store.put_fact("large".into(), &large).wait().unwrap_err();
    assert!(matches!(told, StoreTrouble::TooLarge { .. }), "{told}");
    close(store);
    let (store, _) = open(&dir);
    assert_eq!(store.fact("epoch.record".into()).wait().unwrap(), Some(json!("_pbx.example.net")));
    assert_eq!(store.fact("none".into()).wait().unwrap(), None);
}

#[test]
fn more_calls_than_the_queue_holds_are_refused_at_once() {
    let dir = TempDir::new().unwrap();
    let (store, _) = Store::open_with(dir.path(), Limits { calls_waiting: 4, ..Limits::default() }).unwrap();
    let batch = || Batch { memory: Some(json!("x".repeat(200_000))), ..Batch::default() };
    let answers: Vec<_> = (0..64).map(|_| store.commit(batch())).collect();
    let answers: Vec<_> = answers.into_iter().map(pbx_failover::store::Pending::wait).collect();
    assert!(answers.contains(&Err(StoreTrouble::Busy(4))), "{answers:?}");
    assert!(answers.contains(&Ok(())), "{answers:?}");
    store.commit(Batch::default()).wait().unwrap();
}

#[test]
fn check_results_become_runs_within_their_bounds() {
    let dir = TempDir::new().unwrap();
    let (store, _) = Store::open_with(dir.path(), Limits { check_runs: 6, ..Limits::default() }).unwrap();
    let sample = |second: i64, result, seen: &str| CheckSample {
        at: at(second),
        name: "check:web".into(),
        result,
        latency: Duration::from_millis(2),
        seen: seen.into(),
    };
    let send = |sample: CheckSample| {
        store.record_check(sample);
        // Asking makes the thread write, and keeps its queue short.
        store.check_runs(at(0), at(1_000_000)).wait().unwrap()
    };
    for second in 0..90 {
        send(sample(second, Sampled::Up, "200 OK"));
    }
    let runs = send(sample(90, Sampled::Down, "refused"));
    assert_eq!(runs.len(), 2);
    assert_eq!((runs[0].count, runs[0].first, runs[0].last, runs[0].slowest_us), (90, at(0), at(89), 2000));
    assert_eq!((runs[1].result, runs[1].seen.as_str()), (Sampled::Down, "refused"));
    assert_eq!(store.check_runs(at(90), at(95)).wait().unwrap().len(), 1);
    let mut runs = Vec::new();
    for second in 100..120 {
        runs = send(sample(second, Sampled::Up, &second.to_string()));
    }
    assert_eq!(runs.len(), 6);
    // After the retention the old ones go by age.
    let month = SignedDuration::from_hours(31 * 24).as_secs();
    store.record_check(sample(month, Sampled::Up, "new"));
    assert_eq!(store.check_runs(at(0), at(2 * month)).wait().unwrap().len(), 1);
}

#[test]
fn damaged_check_results_are_moved_aside_and_nothing_else_suffers() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("checks.db"), [7; 9000]).unwrap();
    let (store, _) = open(&dir);
    assert!(store.check_runs(at(0), at(1)).wait().unwrap().is_empty());
    assert!(dir.path().join("checks.db.bad").exists());
    store.commit(Batch { memory: Some(json!(1)), ..Batch::default() }).wait().unwrap();
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
    let changes = [
        "UPDATE memory SET json = replace(json, '7', '5')",
        "UPDATE journal SET entry = replace(entry, 'pbx-b', 'pbx-a')",
        "UPDATE plan SET closed = 1",
        "DELETE FROM journal WHERE step = ''",
    ];
    for change in changes {
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
    for round in 0..25_u64 {
        let mut writer = child("child_writes_until_killed", dir.path(), &[]).stdout(Stdio::piped()).spawn().unwrap();
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
    let end = child("child_fills_its_disk", dir.path(), &wrapper).output().unwrap();
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
    let end = child("child_meets_a_failing_disk", dir.path(), &wrapper).output().unwrap();
    let said = String::from_utf8_lossy(&end.stdout);
    assert!(end.status.success(), "{said}{}", String::from_utf8_lossy(&end.stderr));
    let acknowledged: Vec<i64> =
        said.lines().filter_map(|line| line.split("acknowledged ").nth(1)?.parse().ok()).collect();
    assert!(acknowledged.len() > 20 && acknowledged.len() < 100, "{said}");
    assert!(said.contains("trouble 200"), "{said}");
    let (_store, found) = open(&dir);
    assert!(found.memory.unwrap()["n"].as_i64().unwrap() >= *acknowledged.last().unwrap());
}
