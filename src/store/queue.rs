//! The queue of messages that leave the robot: in order per target, until their answer is recorded.
//!
//! A final answer is never overwritten, so a message whose answer is recorded is never sent again, whoever was killed
//! when. This file sends nothing: the daemon asks what is due and records what came of it.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, Row, Transaction, params};

use super::{Limits, StoreTrouble};
use crate::units::{Delivery, DeliveryOutcome, EventName, Target};

/// No retry is further away. One that is was written by a clock that has been set back since: it is due.
pub const RETRY_MAX: SignedDuration = SignedDuration::from_hours(2);

/// How many messages one answer holds.
const ANSWER_ROWS_MAX: u32 = 1000;

/// What may be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The head of each target's queue that is due; at most one per target.
    pub ready: Vec<Queued>,
    /// When the next head comes due, if none is before.
    pub next_at: Option<Timestamp>,
}

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// The message.
    pub delivery: Delivery,
    /// Which attempt this is: 1, 2, …
    pub attempt: u32,
}

/// Where a message stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryState {
    /// In the queue.
    Waiting {
        /// Attempts made so far.
        attempts: u32,
        /// What the last one said; empty before the first.
        said: String,
    },
    /// Accepted, with the proof.
    Accepted(String),
    /// Never going to be accepted, and why.
    Rejected(String),
}

/// A message's name and state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryStatus {
    /// Its key.
    pub key: String,
    /// Where it goes.
    pub target: Target,
    /// What happened.
    pub event: EventName,
    /// Where it stands.
    pub state: DeliveryState,
}

/// What recording an outcome did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is on disk.
    Yes,
    /// Nothing changed: the message has its final answer, or is not known.
    AlreadyFinal,
}

/// A message as its row.
pub struct Message {
    key: String,
    target: String,
    json: String,
}

impl Message {
    pub fn new(delivery: Delivery) -> Result<Self, StoreTrouble> {
        let json = super::json(&delivery)?;
        Ok(Self { key: delivery.key, target: delivery.target.0, json })
    }

    pub fn bytes(&self) -> usize {
        self.json.len()
    }
}

pub fn enqueue(tx: &Transaction<'_>, messages: &[Message], limits: &Limits) -> rusqlite::Result<()> {
    if messages.is_empty() {
        return Ok(());
    }
    for message in messages {
        tx.prepare_cached("INSERT OR IGNORE INTO delivery (key, target, message) VALUES (?, ?, ?)")?
            .execute(params![message.key, message.target, message.json])?;
        // A relay that is dead for a month must not fill the disk. The head may be on its way: the next one goes.
        tx.prepare_cached(
            "UPDATE delivery SET state = 'rejected', said = 'dropped: too many messages wait for this target'
             WHERE seq IN (SELECT seq FROM delivery WHERE state = 'waiting' AND target = ?1 ORDER BY seq LIMIT
                 max(0, (SELECT count(*) FROM delivery WHERE state = 'waiting' AND target = ?1) - ?2) OFFSET 1)",
        )?
        .execute(params![message.target, limits.waiting_per_target])?;
    }
    tx.prepare_cached("DELETE FROM delivery WHERE seq <= (SELECT max(seq) FROM delivery) - ? AND state <> 'waiting'")?
        .execute([limits.deliveries_kept])?;
    Ok(())
}

/// The due heads, without the targets that are `busy`.
pub fn next_due(conn: &Connection, now: Timestamp, busy: &[Target]) -> Result<Due, StoreTrouble> {
    let mut heads = conn.prepare_cached(
        "SELECT message, attempt, due_us FROM delivery
         WHERE seq IN (SELECT min(seq) FROM delivery WHERE state = 'waiting' GROUP BY target) ORDER BY seq LIMIT ?",
    )?;
    let mut due = Due { ready: Vec::new(), next_at: None };
    let mut rows = heads.query([ANSWER_ROWS_MAX])?;
    while let Some(row) = rows.next()? {
        let delivery: Delivery = super::parse("a queued message", &row.get::<_, String>(0)?)?;
        if busy.contains(&delivery.target) {
            continue;
        }
        let at = Timestamp::from_microsecond(row.get(2)?).unwrap_or(Timestamp::UNIX_EPOCH);
        if at <= now || at.duration_since(now) > RETRY_MAX {
            due.ready.push(Queued { delivery, attempt: row.get::<_, u32>(1)?.saturating_add(1) });
        } else {
            due.next_at = Some(due.next_at.map_or(at, |next| next.min(at)));
        }
    }
    Ok(due)
}

/// Records what came of an attempt; `next_at` counts for [`DeliveryOutcome::Retry`] only.
pub fn record(
    tx: &Transaction<'_>,
    key: &str,
    outcome: &DeliveryOutcome,
    attempt: u32,
    next_at: Timestamp,
) -> rusqlite::Result<Recorded> {
    let (state, said) = match outcome {
        DeliveryOutcome::Accepted(proof) => ("accepted", proof),
        DeliveryOutcome::Retry(why) => ("waiting", why),
        DeliveryOutcome::Rejected(why) => ("rejected", why),
    };
    let changed = tx
        .prepare_cached(
            "UPDATE delivery SET state = ?, said = ?, attempt = ?, due_us = ? WHERE key = ? AND state = 'waiting'",
        )?
        .execute(params![state, said, attempt, next_at.as_microsecond(), key])?;
    Ok(if changed == 0 { Recorded::AlreadyFinal } else { Recorded::Yes })
}

/// The messages whose key begins so, oldest first.
pub fn with_prefix(conn: &Connection, prefix: &str) -> Result<Vec<DeliveryStatus>, StoreTrouble> {
    let mut found = conn.prepare_cached(
        "SELECT key, message, state, attempt, said FROM delivery
         WHERE key >= ?1 AND substr(key, 1, length(?1)) = ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = found.query(params![prefix, ANSWER_ROWS_MAX])?;
    let mut answer = Vec::new();
    while let Some(row) = rows.next()? {
        answer.push(status(row)?);
    }
    Ok(answer)
}

fn status(row: &Row<'_>) -> Result<DeliveryStatus, StoreTrouble> {
    let delivery: Delivery = super::parse("a queued message", &row.get::<_, String>(1)?)?;
    let said: String = row.get(4)?;
    let state = match row.get::<_, String>(2)?.as_str() {
        "waiting" => DeliveryState::Waiting { attempts: row.get(3)?, said },
        "accepted" => DeliveryState::Accepted(said),
        "rejected" => DeliveryState::Rejected(said),
        other => return Err(StoreTrouble::Corrupt(format!("a queued message has the state {other:?}"))),
    };
    Ok(DeliveryStatus { key: row.get(0)?, target: delivery.target, event: delivery.event, state })
}

pub fn waiting(conn: &Connection) -> Result<u32, StoreTrouble> {
    Ok(conn.query_row("SELECT count(*) FROM delivery WHERE state = 'waiting'", [], |row| row.get(0))?)
}
