//! What is kept, in which order, and within which bounds.

use std::time::Duration;

use jiff::SignedDuration;
use pbx_failover::store::{CheckSample, DeliveryState, Limits, Recorded, Recovered, Sampled, Store, StoreTrouble};
use pbx_failover::units::journal::{Batch, HistoryOrder, HistoryQuery, JournalRecord};
use pbx_failover::units::{DeliveryOutcome, Step, StepOutcome, Target};
use serde_json::json;
use tempfile::TempDir;

use super::*;

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
    // The disk is busy with this one for much longer than asking sixty times takes.
    let lines = (0..20_000).map(|n| line(n, "verdict", "x")).collect();
    let large = store.commit(Batch { history: lines, ..Batch::default() });
    let mut answers = vec![large];
    answers.extend((0..64).map(|_| store.commit(Batch::default())));
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
