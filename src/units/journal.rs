//! What is written to disk, and in which shape; a batch is one transaction.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Delivery, PlanId, PlanKind, State, Step, StepOutcome};

/// The shape of the records below. A store with a higher one is refused, never guessed at.
pub const JOURNAL_SCHEMA: u32 = 1;

/// One record of a plan's journal. No act happens before its `Started` is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JournalRecord {
    /// The plan begins. `config` is the text of the configuration it runs with, whatever SIGHUP brings.
    Opened {
        /// Which table of steps.
        kind: PlanKind,
        /// Why, for people.
        because: String,
        /// The verbatim text of `failover.yaml`.
        config: String,
        /// What the engine needs besides the table (who asked, which flags).
        intent: serde_json::Value,
    },
    /// A step's attempt begins.
    Started {
        /// The step.
        step: Step,
        /// 1, 2, …
        attempt: u32,
    },
    /// A step's attempt ended.
    Ended {
        /// The step.
        step: Step,
        /// Which attempt.
        attempt: u32,
        /// What came of it.
        outcome: StepOutcome,
    },
    /// The step was tried enough; the plan goes on without it.
    GaveUp {
        /// The step.
        step: Step,
        /// Why.
        because: String,
    },
    /// The plan waits for a person at this step.
    Halted {
        /// The step.
        step: Step,
        /// Why.
        because: String,
    },
    /// A person had the halted step tried again.
    Retried {
        /// The step.
        step: Step,
        /// What the person said.
        because: String,
    },
    /// The step was passed over, by configuration or by a person, for this reason.
    Skipped {
        /// The step.
        step: Step,
        /// Why.
        because: String,
    },
    /// The plan is over.
    Closed {
        /// How it ended, for people.
        how: String,
    },
}

/// A journal record with its plan and time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// The plan.
    pub plan: PlanId,
    /// When, by the wall clock.
    pub at: Timestamp,
    /// What.
    pub record: JournalRecord,
}

/// One line of history: what happened, when, why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEvent {
    /// When, by the wall clock.
    pub at: Timestamp,
    /// `transition`, `verdict`, `step`, `operator`, `alarm`, `armed`, `disarmed`, `start`, `stop`, `config`, …
    pub kind: String,
    /// The state after it.
    pub state: State,
    /// The number of the state table's row, for a transition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<u16>,
    /// What happened, in one line.
    pub what: String,
    /// Why, in one line.
    pub because: String,
}

/// Which lines of history are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryQuery {
    /// None before this time.
    pub since: Option<Timestamp>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// From which end.
    pub order: HistoryOrder,
    /// At most so many; the store has a bound of its own.
    pub limit: u32,
}

/// From which end history is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HistoryOrder {
    /// The newest line first.
    #[default]
    Newest,
    /// The oldest line first.
    Oldest,
}

/// Everything that must reach the disk together, or not at all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The engine's memory after this event: state, epoch, pause, tested checks. Opaque to the store.
    pub memory: Option<serde_json::Value>,
    /// Records of plans.
    pub journal: Vec<JournalEntry>,
    /// Lines of history.
    pub history: Vec<HistoryEvent>,
    /// Messages to queue; one whose key is already known is ignored.
    pub deliveries: Vec<Delivery>,
}

impl Batch {
    /// Whether there is anything to write.
    pub fn is_empty(&self) -> bool {
        self.memory.is_none() && self.journal.is_empty() && self.history.is_empty() && self.deliveries.is_empty()
    }
}
