//! Writes a batch: memory, journal, history and new messages, in one transaction; drops what is beyond the limits.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::schema::seal;
use super::{Limits, StoreTrouble, queue};
use crate::units::StepOutcome;
use crate::units::journal::{Batch, HistoryEvent, JOURNAL_SCHEMA, JournalEntry, JournalRecord};

/// Largest batch: a plan's `Opened` record holds the configuration's text, everything else is small.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Largest fact.
pub const FACT_BYTES_MAX: usize = 256 * 1024;

/// A batch as the text that will stand in the rows, made before the transaction begins.
pub struct Prepared {
    memory: Option<String>,
    journal: Vec<(JournalEntry, String)>,
    history: Vec<(HistoryEvent, String)>,
    deliveries: Vec<queue::Message>,
}

impl Prepared {
    pub fn new(batch: Batch) -> Result<Self, StoreTrouble> {
        let memory = batch.memory.map(|memory| memory.to_string());
        let journal: Vec<_> = batch.journal.into_iter().map(with_json).collect::<Result<_, _>>()?;
        let history: Vec<_> = batch.history.into_iter().map(with_json).collect::<Result<_, _>>()?;
        let deliveries: Vec<_> = batch.deliveries.into_iter().map(queue::Message::new).collect::<Result<_, _>>()?;
        let bytes = memory.iter().map(String::len).sum::<usize>()
            + journal.iter().map(|(_, text)| text.len()).sum::<usize>()
            + history.iter().map(|(_, text)| text.len()).sum::<usize>()
            + deliveries.iter().map(queue::Message::bytes).sum::<usize>();
        if bytes > BATCH_BYTES_MAX {
            return Err(StoreTrouble::TooLarge { what: "a batch", bytes, bytes_max: BATCH_BYTES_MAX });
        }
        Ok(Self { memory, journal, history, deliveries })
    }

    pub fn write(&self, tx: &Transaction<'_>, limits: &Limits) -> rusqlite::Result<()> {
        if let Some(json) = &self.memory {
            tx.prepare_cached("INSERT OR REPLACE INTO memory (id, json, sum) VALUES (1, ?, ?)")?
                .execute(params![json, seal(&["memory", json])])?;
        }
        for (entry, text) in &self.journal {
            append(tx, entry, text, limits)?;
        }
        if !self.history.is_empty() {
            let mut insert = tx.prepare_cached("INSERT INTO history (at_us, kind, event) VALUES (?, ?, ?)")?;
            for (event, text) in &self.history {
                insert.execute(params![event.at.as_microsecond(), event.kind, text])?;
            }
            tx.prepare_cached("DELETE FROM history WHERE seq <= (SELECT max(seq) FROM history) - ?")?
                .execute([limits.history_rows])?;
        }
        queue::enqueue(tx, &self.deliveries, limits)
    }
}

fn with_json<T: serde::Serialize>(value: T) -> Result<(T, String), StoreTrouble> {
    let text = super::json(&value)?;
    Ok((value, text))
}

fn append(tx: &Transaction<'_>, entry: &JournalEntry, text: &str, limits: &Limits) -> rusqlite::Result<()> {
    let plan = entry.plan.to_string();
    if matches!(entry.record, JournalRecord::Opened { .. }) {
        tx.prepare_cached("INSERT OR IGNORE INTO plan (id, schema) VALUES (?, ?)")?
            .execute(params![plan, JOURNAL_SCHEMA])?;
    } else if !tx
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM plan WHERE id = ?)")?
        .query_row([&plan], |row| row.get(0))?
    {
        // Its `Opened` met a full disk: a plan without it could not be resumed, and would look like damage.
        return Ok(());
    }
    let place = Place::of(&entry.record);
    tx.prepare_cached("INSERT INTO journal (plan, step, attempt, kept, entry, sum) VALUES (?, ?, ?, ?, ?, ?)")?
        .execute(params![plan, place.step, place.attempt, place.keep == Keep::Always, text, seal(&[&plan, text])])?;
    if place.attempt > limits.attempts_kept {
        tx.prepare_cached("DELETE FROM journal WHERE plan = ? AND step = ? AND attempt <= ? AND kept = 0")?
            .execute(params![plan, place.step, place.attempt - limits.attempts_kept])?;
    }
    if matches!(entry.record, JournalRecord::Closed { .. }) {
        tx.prepare_cached("UPDATE plan SET closed = 1 WHERE id = ?")?.execute([&plan])?;
        forget_old_plans(tx, limits)?;
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Keep {
    Always,
    UntilManyFollow,
}

/// Where a record stands in its plan. What a resume needs (the first attempt's time, every success or refusal, the
/// newest attempts) is always kept; a step that was tried for a week leaves no million of rows behind.
struct Place {
    step: &'static str,
    attempt: u32,
    keep: Keep,
}

impl Place {
    fn of(record: &JournalRecord) -> Self {
        let (step, attempt, keep) = match record {
            JournalRecord::Opened { .. } | JournalRecord::Closed { .. } => ("", 0, Keep::Always),
            JournalRecord::Skipped { step, .. }
            | JournalRecord::GaveUp { step, .. }
            | JournalRecord::Retried { step, .. }
            | JournalRecord::Halted { step, .. } => (step.name(), 0, Keep::Always),
            JournalRecord::Started { step, attempt } => (step.name(), *attempt, Keep::UntilManyFollow),
            JournalRecord::Ended { step, attempt, outcome } => match outcome {
                StepOutcome::Done(_) | StepOutcome::Refused(_) => (step.name(), *attempt, Keep::Always),
                StepOutcome::Failed(_) | StepOutcome::Unknown(_) => (step.name(), *attempt, Keep::UntilManyFollow),
            },
        };
        Self { step, attempt, keep: if attempt == 1 { Keep::Always } else { keep } }
    }
}

fn forget_old_plans(tx: &Transaction<'_>, limits: &Limits) -> rusqlite::Result<()> {
    let newest_to_forget: Option<i64> = tx
        .prepare_cached("SELECT seq FROM plan WHERE closed = 1 ORDER BY seq DESC LIMIT 1 OFFSET ?")?
        .query_row([limits.plans_kept], |row| row.get(0))
        .optional()?;
    if let Some(seq) = newest_to_forget {
        tx.prepare_cached("DELETE FROM journal WHERE plan IN (SELECT id FROM plan WHERE closed = 1 AND seq <= ?)")?
            .execute([seq])?;
        tx.prepare_cached("DELETE FROM plan WHERE closed = 1 AND seq <= ?")?.execute([seq])?;
    }
    Ok(())
}

/// Whether a plan is under way, whose records may use the reserve.
pub fn a_plan_is_open(conn: &Connection) -> bool {
    conn.query_row("SELECT EXISTS (SELECT 1 FROM plan WHERE closed = 0)", [], |row| row.get(0)).unwrap_or(false)
}

/// Writes something small, to see whether writing works.
pub fn touch(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    put_fact(tx, "store.touched", "true")
}

pub fn put_fact(tx: &Transaction<'_>, key: &str, json: &str) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO fact (key, json, sum) VALUES (?, ?, ?)")?.execute(params![
        key,
        json,
        seal(&[key, json])
    ])?;
    Ok(())
}
