//! Check results in a file of their own, as runs of equal results; evidence for `replay`, never needed to act.
//!
//! A primary that is well for a month is a few thousand rows instead of millions. Rows are written in batches without
//! a sync (a power cut may lose the newest), on a thread of their own: nothing here can delay the journal.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OpenFlags, Row, Transaction, params};
use tokio::sync::oneshot;

use super::place::private_file;
use super::schema::settle;
use super::{Limits, StoreTrouble};

/// Results are kept so long.
pub const RETENTION: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Results that wait for the thread; more are dropped and counted.
pub const SAMPLES_WAITING_MAX: usize = 256;

/// A run ends after so long, so that a time range finds it and one row never stands for a day.
const RUN_MAX: SignedDuration = SignedDuration::from_mins(10);

/// Two results further apart than this do not belong to one run: the robot was not running in between.
const RUN_GAP_MAX: SignedDuration = SignedDuration::from_secs(60);

/// Write after so many results …
const BATCH_SAMPLES: usize = 64;
/// … or after so long.
const BATCH_AGE: Duration = Duration::from_secs(5);

/// How many names are told apart; a configuration has a dozen.
const NAMES_MAX: usize = 256;

/// How much of what was seen is kept.
const SEEN_CHARS_MAX: usize = 200;

/// Rows that one write deletes at most, so that no write is long.
const PRUNE_ROWS: u32 = 500;

/// How many runs one answer holds.
const ANSWER_ROWS_MAX: u32 = 20_000;

/// What a result was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampled {
    /// It lives.
    Up,
    /// It does not serve.
    Down,
    /// The question never left.
    Unknown,
}

/// One result of a check or of an Internet target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckSample {
    /// When, by the wall clock.
    pub at: Timestamp,
    /// Whose: `check:web`, `internet:tls://1.1.1.1`, …
    pub name: String,
    /// What.
    pub result: Sampled,
    /// How long it took.
    pub latency: Duration,
    /// What was seen, or why not.
    pub seen: String,
}

/// Equal results in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRun {
    /// Whose.
    pub name: String,
    /// What.
    pub result: Sampled,
    /// What was seen, or why not.
    pub seen: String,
    /// The first one.
    pub first: Timestamp,
    /// The last one.
    pub last: Timestamp,
    /// How many.
    pub count: u32,
    /// The slowest, microseconds.
    pub slowest_us: u64,
    /// All together, microseconds: divided by `count` it is the mean.
    pub total_us: u64,
}

/// What the thread is told.
pub enum CheckJob {
    /// A result.
    Sample(CheckSample),
    /// A question: from, to.
    Runs(Timestamp, Timestamp, oneshot::Sender<Result<Vec<CheckRun>, StoreTrouble>>),
    /// Write what waits, then answer.
    Close(oneshot::Sender<Result<(), StoreTrouble>>),
}

/// A run that may still grow, and its row once it has one.
struct Growing {
    row: Option<i64>,
    written: u32,
    run: CheckRun,
}

/// What the thread owns.
pub struct Recorder {
    file: PathBuf,
    conn: Option<Connection>,
    limits: Limits,
    growing: HashMap<String, Growing>,
    grown: Vec<Growing>,
    unwritten: usize,
    since: Option<Instant>,
    complained: bool,
}

impl Recorder {
    pub fn new(file: &Path, limits: Limits) -> Self {
        Self {
            file: file.to_owned(),
            conn: None,
            limits,
            growing: HashMap::new(),
            grown: Vec::new(),
            unwritten: 0,
            since: None,
            complained: false,
        }
    }

    /// Works until every handle is gone, or until told to close.
    pub fn run(mut self, jobs: &Receiver<CheckJob>) {
        self.open();
        loop {
            let job = match self.since {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(since) => jobs.recv_timeout(BATCH_AGE.saturating_sub(since.elapsed())),
            };
            match job {
                Ok(CheckJob::Sample(sample)) => {
                    self.take(sample);
                    let aged = self.since.is_some_and(|since| since.elapsed() >= BATCH_AGE);
                    if self.unwritten >= BATCH_SAMPLES || aged {
                        self.flush();
                    }
                }
                Ok(CheckJob::Runs(from, to, answer)) => {
                    self.flush();
                    let _ = answer.send(self.runs(from, to));
                }
                Ok(CheckJob::Close(answer)) => {
                    self.flush();
                    drop(self.conn.take());
                    let _ = answer.send(Ok(()));
                    return;
                }
                Err(RecvTimeoutError::Timeout) => self.flush(),
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
        }
    }

    /// Opens the file; a damaged one is moved aside, as it is only evidence.
    fn open(&mut self) {
        let mut opened = open(&self.file);
        if matches!(opened, Err(StoreTrouble::Corrupt(_))) {
            for end in ["", "-wal"] {
                let _ = std::fs::rename(with_end(&self.file, end), with_end(&self.file, &format!(".bad{end}")));
            }
            opened = open(&self.file);
        }
        self.conn = self.complain(opened);
    }

    fn take(&mut self, mut sample: CheckSample) {
        if let Some((end, _)) = sample.seen.char_indices().nth(SEEN_CHARS_MAX) {
            sample.seen.truncate(end);
        }
        let room = self.growing.len() < NAMES_MAX;
        let known = self.growing.get_mut(&sample.name);
        if known.is_none() && !room {
            return;
        }
        self.unwritten += 1;
        self.since.get_or_insert_with(Instant::now);
        if known.is_some_and(|growing| growing.run.take(&sample)) {
            return;
        }
        let name = sample.name.clone();
        let fresh = Growing { row: None, written: 0, run: CheckRun::begin(sample) };
        self.grown.extend(self.growing.insert(name, fresh));
    }

    fn flush(&mut self) {
        self.since = None;
        if std::mem::take(&mut self.unwritten) == 0 {
            return;
        }
        let Some(conn) = &mut self.conn else {
            self.grown.clear();
            return;
        };
        let runs = self.grown.iter_mut().chain(self.growing.values_mut()).filter(|g| g.written != g.run.count);
        let written = write(conn, runs, &self.limits);
        // What could not be written is given up: evidence must not pile up in memory.
        self.grown.clear();
        self.complain(written);
    }

    fn runs(&self, from: Timestamp, to: Timestamp) -> Result<Vec<CheckRun>, StoreTrouble> {
        let conn =
            self.conn.as_ref().ok_or_else(|| StoreTrouble::Unavailable("check results are not recorded".to_owned()))?;
        let mut found = conn.prepare_cached(
            "SELECT name, result, seen, first_us, last_us, count, slowest_us, total_us FROM run
             WHERE last_us >= ? AND first_us <= ? ORDER BY seq LIMIT ?",
        )?;
        let rows = found.query_map(params![from.as_microsecond(), to.as_microsecond(), ANSWER_ROWS_MAX], read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Says once that something is wrong, and again only after it was well in between.
    fn complain<T>(&mut self, result: Result<T, StoreTrouble>) -> Option<T> {
        match result {
            Ok(value) => {
                self.complained = false;
                Some(value)
            }
            Err(trouble) => {
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(file = %self.file.display(), error = %trouble, "check results are not recorded");
                }
                None
            }
        }
    }
}

impl CheckRun {
    fn begin(sample: CheckSample) -> Self {
        let latency_us = micros(sample.latency);
        Self {
            name: sample.name,
            result: sample.result,
            seen: sample.seen,
            first: sample.at,
            last: sample.at,
            count: 1,
            slowest_us: latency_us,
            total_us: latency_us,
        }
    }

    /// Whether the sample belongs to this run, which then holds it.
    fn take(&mut self, sample: &CheckSample) -> bool {
        let gap = sample.at.duration_since(self.last);
        let fits = self.result == sample.result
            && self.seen == sample.seen
            && !gap.is_negative()
            && gap <= RUN_GAP_MAX
            && sample.at.duration_since(self.first) < RUN_MAX;
        if fits {
            let latency_us = micros(sample.latency);
            self.last = sample.at;
            self.count = self.count.saturating_add(1);
            self.slowest_us = self.slowest_us.max(latency_us);
            self.total_us = self.total_us.saturating_add(latency_us);
        }
        fits
    }
}

fn with_end(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX >> 1)
}

const CHECKS_SCHEMA: u32 = 1;

fn open(file: &Path) -> Result<Connection, StoreTrouble> {
    private_file(file).map_err(|error| StoreTrouble::Io(error.to_string()))?;
    let conn = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    settle(&conn, "NORMAL")?;
    let found: u32 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > CHECKS_SCHEMA {
        return Err(StoreTrouble::Unavailable(format!("{} was written by a newer version", file.display())));
    }
    let told: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if told != "ok" {
        return Err(StoreTrouble::Corrupt(told));
    }
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS run (
            seq INTEGER PRIMARY KEY, name TEXT NOT NULL, result INTEGER NOT NULL, seen TEXT NOT NULL,
            first_us INTEGER NOT NULL, last_us INTEGER NOT NULL, count INTEGER NOT NULL,
            slowest_us INTEGER NOT NULL, total_us INTEGER NOT NULL
         ) STRICT;
         PRAGMA user_version = 1;",
    )?;
    Ok(conn)
}

fn write<'a>(
    conn: &mut Connection,
    runs: impl Iterator<Item = &'a mut Growing>,
    limits: &Limits,
) -> Result<(), StoreTrouble> {
    let tx = conn.transaction()?;
    let mut newest = Timestamp::MIN;
    for growing in runs {
        let run = &growing.run;
        newest = newest.max(run.last);
        let (slowest, total) = (run.slowest_us.cast_signed(), run.total_us.cast_signed());
        if let Some(row) = growing.row {
            tx.prepare_cached("UPDATE run SET last_us = ?, count = ?, slowest_us = ?, total_us = ? WHERE seq = ?")?
                .execute(params![run.last.as_microsecond(), run.count, slowest, total, row])?;
        } else {
            tx.prepare_cached(
                "INSERT INTO run (name, result, seen, first_us, last_us, count, slowest_us, total_us)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                run.name,
                run.result.code(),
                run.seen,
                run.first.as_microsecond(),
                run.last.as_microsecond(),
                run.count,
                slowest,
                total,
            ])?;
            growing.row = Some(tx.last_insert_rowid());
        }
        growing.written = run.count;
    }
    prune(&tx, newest, limits)?;
    tx.commit()?;
    Ok(())
}

/// Drops the oldest rows: those beyond the number that is kept, and those beyond the retention.
fn prune(tx: &Transaction<'_>, newest: Timestamp, limits: &Limits) -> rusqlite::Result<()> {
    let oldest_us = newest.saturating_sub(RETENTION).map_or(i64::MIN, Timestamp::as_microsecond);
    tx.prepare_cached(
        "DELETE FROM run WHERE seq IN (SELECT seq FROM run ORDER BY seq LIMIT ?1)
         AND (last_us < ?2 OR seq <= (SELECT max(seq) FROM run) - ?3)",
    )?
    .execute(params![PRUNE_ROWS, oldest_us, limits.check_runs])?;
    Ok(())
}

impl Sampled {
    fn code(self) -> i64 {
        match self {
            Self::Up => 1,
            Self::Down => 2,
            Self::Unknown => 3,
        }
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<CheckRun> {
    let time = |column| -> rusqlite::Result<Timestamp> {
        Ok(Timestamp::from_microsecond(row.get(column)?).unwrap_or(Timestamp::UNIX_EPOCH))
    };
    Ok(CheckRun {
        name: row.get(0)?,
        result: match row.get::<_, i64>(1)? {
            1 => Sampled::Up,
            2 => Sampled::Down,
            _ => Sampled::Unknown,
        },
        seen: row.get(2)?,
        first: time(3)?,
        last: time(4)?,
        count: row.get(5)?,
        slowest_us: row.get::<_, i64>(6)?.cast_unsigned(),
        total_us: row.get::<_, i64>(7)?.cast_unsigned(),
    })
}
