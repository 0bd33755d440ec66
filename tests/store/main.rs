//! The store against real disks. Words and records that all of its tests use; `keeping` and `faults` hold them.

#[path = "../lab/mod.rs"]
mod lab;

mod faults;
mod keeping;

use jiff::Timestamp;
use pbx_failover::store::{Recovered, Store};
use pbx_failover::units::journal::{Batch, HistoryEvent, HistoryOrder, HistoryQuery, JournalEntry, JournalRecord};
use pbx_failover::units::{Delivery, EventName, PlanId, PlanKind, State, Step, StepOutcome, Target};
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
