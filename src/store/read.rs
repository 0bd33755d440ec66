//! Reads back what a start and a person want to know: memory, plans, history, facts. Every row is proved by its sum.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use super::schema::seal;
use super::{PlanJournal, Recovered, StoreTrouble, queue};
use crate::units::PlanId;
use crate::units::journal::{HistoryEvent, HistoryOrder, HistoryQuery, JournalEntry, JournalRecord};

/// How many lines of history one answer holds.
pub const HISTORY_ANSWER_MAX: u32 = 1000;

/// Everything that a start needs.
pub fn recover(conn: &Connection) -> Result<Recovered, StoreTrouble> {
    let memory = conn
        .query_row("SELECT json, sum FROM memory", [], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))
        .optional()?
        .map(|(json, sum)| proved("the robot's memory", &["memory", &json], sum).and_then(|()| value(&json)))
        .transpose()?;
    let open_plan = newest(conn, Ended::No)?;
    let last_plan = newest(conn, Ended::Yes)?;
    Ok(Recovered { memory, open_plan, last_plan, deliveries_waiting: queue::waiting(conn)? })
}

/// Whether a plan is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It runs, or waits to be resumed.
    No,
    /// Its `Closed` record is written.
    Yes,
}

/// The newest plan that is over, or is not.
pub fn newest(conn: &Connection, ended: Ended) -> Result<Option<PlanJournal>, StoreTrouble> {
    let id: Option<String> = conn
        .prepare_cached("SELECT id FROM plan WHERE closed = ? ORDER BY seq DESC LIMIT 1")?
        .query_row([ended == Ended::Yes], |row| row.get(0))
        .optional()?;
    let Some(id) = id else { return Ok(None) };
    let id: PlanId = id.parse().map_err(|_| StoreTrouble::Corrupt(format!("{id:?} is no plan's id")))?;
    let Some((id, entries)) = plan(conn, id)? else {
        return Err(StoreTrouble::Corrupt(format!("plan {id} has no journal")));
    };
    let closed = entries.iter().any(|entry| matches!(entry.record, JournalRecord::Closed { .. }));
    let opened = matches!(entries.first().map(|entry| &entry.record), Some(JournalRecord::Opened { .. }));
    if closed != (ended == Ended::Yes) || !opened {
        return Err(StoreTrouble::Corrupt(format!("the journal of plan {id} has lost records")));
    }
    Ok(Some((id, entries)))
}

/// A plan's records, in the order in which they were written.
pub fn plan(conn: &Connection, id: PlanId) -> Result<Option<PlanJournal>, StoreTrouble> {
    let name = id.to_string();
    let mut found = conn.prepare_cached("SELECT entry, sum FROM journal WHERE plan = ? ORDER BY seq")?;
    let mut rows = found.query([&name])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        proved("a journal record", &[&name, &text], row.get(1)?)?;
        entries.push(super::parse::<JournalEntry>("a journal record", &text)?);
    }
    Ok(if entries.is_empty() { None } else { Some((id, entries)) })
}

/// Lines of history.
pub fn history(conn: &Connection, query: &HistoryQuery) -> Result<Vec<HistoryEvent>, StoreTrouble> {
    let since = query.since.map_or(i64::MIN, jiff::Timestamp::as_microsecond);
    let sql = match query.order {
        HistoryOrder::Newest => {
            "SELECT event FROM history WHERE at_us >= ?1 AND (?2 IS NULL OR kind = ?2) ORDER BY seq DESC LIMIT ?3"
        }
        HistoryOrder::Oldest => {
            "SELECT event FROM history WHERE at_us >= ?1 AND (?2 IS NULL OR kind = ?2) ORDER BY seq LIMIT ?3"
        }
    };
    let mut found = conn.prepare_cached(sql)?;
    let mut rows = found.query(params![since, query.kind, query.limit.min(HISTORY_ANSWER_MAX)])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(super::parse("a line of history", &row.get::<_, String>(0)?)?);
    }
    Ok(events)
}

/// A small fact.
pub fn fact(conn: &Connection, key: &str) -> Result<Option<Value>, StoreTrouble> {
    let row = conn
        .prepare_cached("SELECT json, sum FROM fact WHERE key = ?")?
        .query_row([key], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    row.map(|(json, sum)| proved("a fact", &[key, &json], sum).and_then(|()| value(&json))).transpose()
}

fn value(json: &str) -> Result<Value, StoreTrouble> {
    super::parse("the robot's memory", json)
}

fn proved(what: &str, parts: &[&str], sum: i64) -> Result<(), StoreTrouble> {
    if seal(parts) == sum { Ok(()) } else { Err(StoreTrouble::Corrupt(format!("{what} is not what was written"))) }
}
