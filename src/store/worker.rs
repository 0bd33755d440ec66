//! The store's own thread: the one connection, the one place that writes, and what it does when a write fails.
//!
//! A caller hands a closure over a bounded queue and gets a [`Pending`] answer; no caller ever waits for the disk
//! inside a call. Calls are carried out in the order in which they were made.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{oneshot, watch};

use super::place::{Lock, Reserve, Reserved};
use super::{Health, Limits, StoreTrouble, write};

/// While something is wrong, look so often whether it still is: a person who freed space wants to see it soon.
const RECHECK: Duration = Duration::from_secs(5);

/// A store that is well is written to at least so often: a disk that was made read-only, or broke, is known before a
/// takeover needs it.
const PROVE_EVERY: Duration = Duration::from_secs(30);

/// One call, or the wish to end.
pub enum Job {
    /// Work on the database.
    Work(Box<dyn FnOnce(&mut Database) + Send>),
    /// Write everything back, release the lock, then answer.
    Close(oneshot::Sender<Result<(), StoreTrouble>>),
}

/// An answer that comes from the store's thread. It need not be awaited: the work is done all the same.
#[derive(Debug)]
#[must_use = "the answer tells whether it is on disk"]
pub struct Pending<T>(oneshot::Receiver<Result<T, StoreTrouble>>);

impl<T> Pending<T> {
    /// The place for an answer, and who gives it.
    pub(super) fn pair() -> (oneshot::Sender<Result<T, StoreTrouble>>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }

    /// An answer that is known already.
    pub(super) fn known(answer: Result<T, StoreTrouble>) -> Self {
        let (sender, pending) = Self::pair();
        let _ = sender.send(answer);
        pending
    }

    /// Waits on this thread. Not for a thread of the async runtime.
    ///
    /// # Errors
    /// The trouble that the store met.
    pub fn wait(self) -> Result<T, StoreTrouble> {
        self.0.blocking_recv().unwrap_or(Err(StoreTrouble::Closed))
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, StoreTrouble>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or(Err(StoreTrouble::Closed)))
    }
}

/// What the thread owns.
pub struct Database {
    conn: Connection,
    reserve: Reserve,
    health: watch::Sender<Health>,
    /// How much is kept.
    pub limits: Limits,
    lock: Lock,
    /// When a write was tried last.
    written: Instant,
}

impl Database {
    pub fn new(conn: Connection, reserve: Reserve, limits: Limits, lock: Lock) -> (Self, watch::Receiver<Health>) {
        let (health, seen) = watch::channel(Health { trouble: None, reserve: reserve.held() });
        (Self { conn, reserve, health, limits, lock, written: Instant::now() }, seen)
    }

    /// Works until every handle is gone, or until told to close.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let every = if self.health.borrow().is_good() { PROVE_EVERY } else { RECHECK };
            match jobs.recv_timeout(every.saturating_sub(self.written.elapsed())) {
                Ok(Job::Work(work)) => work(&mut self),
                Ok(Job::Close(answer)) => {
                    let closed = self.conn.close().map_err(|(_, error)| StoreTrouble::of(&error));
                    drop(self.lock);
                    let _ = answer.send(closed);
                    return;
                }
                Err(RecvTimeoutError::Timeout) => self.recheck(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Reads.
    pub fn read<T>(&mut self, work: impl FnOnce(&Connection) -> Result<T, StoreTrouble>) -> Result<T, StoreTrouble> {
        work(&self.conn)
    }

    /// Writes everything that `work` writes, durably, or nothing. Spends the reserve for a plan that is open.
    pub fn write<T>(&mut self, work: impl Fn(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StoreTrouble> {
        let mut result = transact(&mut self.conn, &work);
        if matches!(result, Err(StoreTrouble::Full)) && write::a_plan_is_open(&self.conn) && self.reserve.give_up() {
            result = transact(&mut self.conn, &work);
        }
        self.tell(result.as_ref().err().cloned());
        result
    }

    fn recheck(&mut self) {
        self.reserve.retake();
        let tried = transact(&mut self.conn, &write::touch);
        self.tell(tried.err());
    }

    fn tell(&mut self, trouble: Option<StoreTrouble>) {
        self.written = Instant::now();
        let now = Health { trouble, reserve: self.reserve.held() };
        self.health.send_if_modified(|health| {
            let changed = *health != now;
            *health = now;
            changed
        });
    }
}

fn transact<T>(
    conn: &mut Connection,
    work: &impl Fn(&Transaction<'_>) -> rusqlite::Result<T>,
) -> Result<T, StoreTrouble> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let result = work(&tx)?;
    tx.commit()?;
    Ok(result)
}

/// Whether a takeover may be begun with this store.
impl Health {
    /// Nothing is wrong, and the space for a plan's journal is held.
    pub fn is_good(&self) -> bool {
        self.trouble.is_none() && self.reserve == Reserved::Held
    }
}
