//! The robot's memory on disk: state, plan journal, history, queue of messages, facts; and check results beside them.
//!
//! One directory, one process (a lock), one SQLite file with a full sync for what must survive (`state.db`) and one
//! without for evidence (`checks.db`). A [`Batch`] is one transaction: after a kill it is there as a whole or not at
//! all. Nothing here decides what to write or what to do when it cannot; the daemon looks at [`Store::health`] and
//! disarms. Read `worker` next (the thread, and how the reserve is spent), then `write`, `queue`.
//!
//! A durable append takes some 130 µs on a local SSD; the caller gets a [`Pending`] at once and may await it.

mod checks;
mod place;
mod primary;
mod queue;
mod read;
mod schema;
mod trouble;
mod worker;
mod write;

use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

pub use checks::{CheckRun, CheckSample, RETENTION, SAMPLES_WAITING_MAX, Sampled};
pub use place::{CHECKS_FILE, RESERVE_BYTES, Reserved, STATE_FILE};
pub use primary::PrimaryFile;
pub use queue::{DeliveryState, DeliveryStatus, Due, Queued, RETRY_MAX, Recorded};
pub use read::HISTORY_ANSWER_MAX;
pub use trouble::{StoreError, StoreTrouble};
pub use worker::Pending;
pub use write::{BATCH_BYTES_MAX, FACT_BYTES_MAX};

use crate::units::journal::{Batch, HistoryEvent, HistoryQuery, JournalEntry};
use crate::units::{DeliveryOutcome, PlanId, Target};
use checks::{CheckJob, Recorder};
use place::{Lock, Reserve};
use worker::{Database, Job};

/// A plan with its records, in the order in which they were written.
pub type PlanJournal = (PlanId, Vec<JournalEntry>);

/// How much is kept, and how much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Lines of history: years of an ordinary robot, some 8 MB.
    pub history_rows: u32,
    /// Closed plans with their journals.
    pub plans_kept: u32,
    /// The newest attempts of a step whose records are kept, besides its first and its successes.
    pub attempts_kept: u32,
    /// Messages with a final answer, remembered so that their keys are not used twice.
    pub deliveries_kept: u32,
    /// Messages that wait for one target; the oldest but the head is dropped then.
    pub waiting_per_target: u32,
    /// Runs of check results: some 50 MB when every result differs from the one before it.
    pub check_runs: u32,
    /// Space held for the journal of a plan under way.
    pub reserve_bytes: u64,
    /// Calls that may wait for the disk: seconds of work for a disk that syncs.
    pub calls_waiting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            history_rows: 20_000,
            plans_kept: 50,
            attempts_kept: 100,
            deliveries_kept: 5_000,
            waiting_per_target: 1_000,
            check_runs: 500_000,
            reserve_bytes: RESERVE_BYTES,
            calls_waiting: 1_024,
        }
    }
}

/// What was found at the start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recovered {
    /// The engine's memory.
    pub memory: Option<Value>,
    /// The newest plan that is not closed.
    pub open_plan: Option<PlanJournal>,
    /// The newest plan that is closed.
    pub last_plan: Option<PlanJournal>,
    /// Messages in the queue.
    pub deliveries_waiting: u32,
}

/// Whether the store works now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What the last write met; it is tried again every few seconds until it is well.
    pub trouble: Option<StoreTrouble>,
    /// Is there space for the journal of a plan?
    pub reserve: Reserved,
}

/// A handle to the store; clones lead to the same thread.
#[derive(Debug, Clone)]
pub struct Store {
    jobs: Result<Jobs, StoreTrouble>,
    health: watch::Receiver<Health>,
}

#[derive(Debug, Clone)]
struct Jobs {
    main: SyncSender<Job>,
    checks: SyncSender<CheckJob>,
    calls_waiting: usize,
}

impl Store {
    /// Opens or makes the store of a state directory, and reads what a start needs. Blocks; made for the start.
    ///
    /// # Errors
    /// One line with what to do; [`StoreError::may_watch`] tells whether the robot can still watch without it.
    pub fn open(state_dir: &Path) -> Result<(Self, Recovered), StoreError> {
        Self::open_with(state_dir, Limits::default())
    }

    /// As [`Store::open`], with other limits.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(state_dir: &Path, limits: Limits) -> Result<(Self, Recovered), StoreError> {
        place::prepare(state_dir)?;
        let lock = Lock::take(state_dir)?;
        let file = state_dir.join(STATE_FILE);
        let conn = schema::open(&file)?;
        let recovered = read::recover(&conn).map_err(|trouble| match trouble {
            StoreTrouble::Corrupt(why) => StoreError::Corrupt { file: file.clone(), why },
            other => StoreError::Io { file: file.clone(), why: other.to_string() },
        })?;
        let reserve = Reserve::take(state_dir, limits.reserve_bytes);
        let (database, health) = Database::new(conn, reserve, limits, lock);
        let recorder = Recorder::new(&state_dir.join(CHECKS_FILE), limits);
        let (main, main_jobs) = sync_channel(limits.calls_waiting);
        let (checks, check_jobs) = sync_channel(SAMPLES_WAITING_MAX);
        let no_thread = |error: std::io::Error| StoreError::Io { file: file.clone(), why: error.to_string() };
        thread::Builder::new().name("store".to_owned()).spawn(move || database.run(&main_jobs)).map_err(no_thread)?;
        thread::Builder::new().name("checks".to_owned()).spawn(move || recorder.run(&check_jobs)).map_err(no_thread)?;
        let jobs = Ok(Jobs { main, checks, calls_waiting: limits.calls_waiting });
        Ok((Self { jobs, health }, recovered))
    }

    /// A store that is not there: every call fails with `reason`, so that a robot whose disk is bad can watch,
    /// disarmed.
    pub fn unavailable(reason: &StoreError) -> Self {
        let trouble = StoreTrouble::Unavailable(reason.to_string());
        let health = Health { trouble: Some(trouble.clone()), reserve: Reserved::Missing };
        Self { jobs: Err(trouble), health: watch::channel(health).1 }
    }

    /// Whether the store works now; changes can be awaited (an error there: it is unavailable or closed, and stays so).
    /// While it is not good the robot should not arm.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Writes a batch in one durable transaction. Batches reach the disk in the order of these calls; a message whose
    /// key is known already is ignored.
    pub fn commit(&self, batch: Batch) -> Pending<()> {
        let prepared = match write::Prepared::new(batch) {
            Ok(prepared) => prepared,
            Err(trouble) => return Pending::known(Err(trouble)),
        };
        self.ask(move |database| {
            let limits = database.limits;
            database.write(|tx| prepared.write(tx, &limits))
        })
    }

    /// The messages that may be sent now: the head of each target's queue. The same head is told until its outcome is
    /// recorded as final, so leave out the targets that have one on its way (`busy`).
    pub fn next_due(&self, now: Timestamp, busy: Vec<Target>) -> Pending<Due> {
        self.ask(move |database| database.read(|conn| queue::next_due(conn, now, &busy)))
    }

    /// Records what came of an attempt. `next_at` says when to try again after [`DeliveryOutcome::Retry`], at most
    /// [`RETRY_MAX`] from now.
    pub fn record_delivery(
        &self,
        key: String,
        outcome: DeliveryOutcome,
        attempt: u32,
        next_at: Timestamp,
    ) -> Pending<Recorded> {
        self.ask(move |database| database.write(|tx| queue::record(tx, &key, &outcome, attempt, next_at)))
    }

    /// The messages whose key begins so (a plan's id), oldest first.
    pub fn deliveries_of(&self, prefix: String) -> Pending<Vec<DeliveryStatus>> {
        self.ask(move |database| database.read(|conn| queue::with_prefix(conn, &prefix)))
    }

    /// How many messages wait.
    pub fn deliveries_waiting(&self) -> Pending<u32> {
        self.ask(|database| database.read(queue::waiting))
    }

    /// Keeps a small fact, durably.
    pub fn put_fact(&self, key: String, fact: &Value) -> Pending<()> {
        let text = fact.to_string();
        let bytes = text.len();
        if bytes > FACT_BYTES_MAX {
            return Pending::known(Err(StoreTrouble::TooLarge { what: "a fact", bytes, bytes_max: FACT_BYTES_MAX }));
        }
        self.ask(move |database| database.write(|tx| write::put_fact(tx, &key, &text)))
    }

    /// A fact that was kept.
    pub fn fact(&self, key: String) -> Pending<Option<Value>> {
        self.ask(move |database| database.read(|conn| read::fact(conn, &key)))
    }

    /// Lines of history, at most [`HISTORY_ANSWER_MAX`].
    pub fn history(&self, query: HistoryQuery) -> Pending<Vec<HistoryEvent>> {
        self.ask(move |database| database.read(|conn| read::history(conn, &query)))
    }

    /// A plan's journal, as far as it is kept.
    pub fn plan(&self, id: PlanId) -> Pending<Option<PlanJournal>> {
        self.ask(move |database| database.read(|conn| read::plan(conn, id)))
    }

    /// The newest closed plan.
    pub fn last_plan(&self) -> Pending<Option<PlanJournal>> {
        self.ask(|database| database.read(|conn| read::newest(conn, read::Ended::Yes)))
    }

    /// Keeps a check's result for the record, at the latest some seconds from now; drops it when too many wait.
    pub fn record_check(&self, sample: CheckSample) {
        if let Ok(jobs) = &self.jobs {
            let _ = jobs.checks.try_send(CheckJob::Sample(sample));
        }
    }

    /// The check results from `from` to `to`, as runs of equal ones, oldest first.
    pub fn check_runs(&self, from: Timestamp, to: Timestamp) -> Pending<Vec<CheckRun>> {
        let (answer, pending) = Pending::pair();
        match &self.jobs {
            Ok(jobs) => match jobs.checks.try_send(CheckJob::Runs(from, to, answer)) {
                Err(TrySendError::Full(_)) => Pending::known(Err(StoreTrouble::Busy(SAMPLES_WAITING_MAX))),
                // With no thread to answer, the answer is that it is closed.
                Ok(()) | Err(TrySendError::Disconnected(_)) => pending,
            },
            Err(trouble) => Pending::known(Err(trouble.clone())),
        }
    }

    /// Writes everything back and releases the lock; later calls of any handle answer that it is closed.
    ///
    /// # Errors
    /// What the last write met. What was committed before is on disk all the same.
    pub async fn close(self) -> Result<(), StoreTrouble> {
        let Ok(jobs) = self.jobs else { return Ok(()) };
        let (answer, checks) = Pending::pair();
        if jobs.checks.try_send(CheckJob::Close(answer)).is_ok() {
            checks.await?;
        }
        let (answer, main) = Pending::pair();
        match jobs.main.try_send(Job::Close(answer)) {
            Ok(()) => main.await,
            Err(TrySendError::Full(_)) => Err(StoreTrouble::Busy(jobs.calls_waiting)),
            Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, StoreTrouble> + Send + 'static,
    ) -> Pending<T> {
        let jobs = match &self.jobs {
            Ok(jobs) => jobs,
            Err(trouble) => return Pending::known(Err(trouble.clone())),
        };
        let (answer, pending) = Pending::pair();
        let job = Job::Work(Box::new(move |database| {
            let _ = answer.send(work(database));
        }));
        match jobs.main.try_send(job) {
            Ok(()) => pending,
            Err(TrySendError::Full(_)) => Pending::known(Err(StoreTrouble::Busy(jobs.calls_waiting))),
            Err(TrySendError::Disconnected(_)) => Pending::known(Err(StoreTrouble::Closed)),
        }
    }
}

fn json(value: &impl Serialize) -> Result<String, StoreTrouble> {
    serde_json::to_string(value).map_err(|error| StoreTrouble::Corrupt(format!("a record has no JSON form: {error}")))
}

fn parse<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, StoreTrouble> {
    serde_json::from_str(text).map_err(|error| StoreTrouble::Corrupt(format!("{what} cannot be read: {error}")))
}
