//! One zone at its master: look, move in one message, judge what stands there, then ask the other name servers.
//!
//! An update whose answer is lost is never resent here: what stands there decides, and if that is the old value the
//! outcome is `Unknown` and the engine asks again.

use std::collections::BTreeMap;
use std::time::Duration;

use hickory_proto::rr::{RData, RecordType};
use tokio::time::{Instant, sleep};

use super::super::Limits;
use super::super::advice::Doing;
use super::super::epoch;
use super::super::master::{self, Answered, Key, Master};
use super::super::rrset;
use super::super::settle::{self, Server, Wanted};
use super::super::wire::{self, Fault};
use super::plan::{Case, Fate, fates};
use super::told;
use crate::config;
use crate::units::names::{RecordKey, RecordView, Redirect, Verified};
use crate::units::{EpochRecord, EpochSeen, Mode};

/// How often one call sends an update whose prerequisites were not met, each time with what was just read.
const UPDATES_MAX: u32 = 3;

/// The pause between two looks at a master that accepted a change and does not show it yet (inline signing).
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// What guards a zone's move.
#[derive(Debug, Clone)]
pub enum Guard {
    /// The store is local: nothing can.
    None,
    /// The epoch's record lies in this zone.
    Here(String),
    /// The epoch's record lies in another zone, or at another master.
    Elsewhere(Box<config::DnsUpdate>, String),
}

/// One zone.
#[derive(Debug, Clone)]
pub struct Zone {
    /// What guards it.
    pub guard: Guard,
    /// Its settings.
    pub update: config::DnsUpdate,
    /// How long it may take.
    pub limits: Limits,
}

/// What came of one zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All is as wanted.
    Done(String),
    /// Another holds the epoch: nothing was moved.
    NotHolder(String),
    /// Somebody changed a record; it is left, everything else is as wanted.
    Changed(String),
    /// Not done; try again.
    Failed(String),
    /// Perhaps done; look again.
    Unknown(String),
}

/// What came of one zone, with what was seen.
#[derive(Debug)]
pub struct Report {
    /// The verdict.
    pub verdict: Verdict,
    /// What the master answers with as wanted.
    pub verified: Verified,
    /// For `status`.
    pub views: Vec<RecordView>,
    /// Servers that could not be asked.
    pub unreachable: Vec<String>,
}

impl From<Verdict> for Report {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, verified: BTreeMap::new(), views: Vec::new(), unreachable: Vec::new() }
    }
}

/// A record in wire form, with what it shall be.
pub(super) struct Record {
    pub(super) key: Key,
    pub(super) remembered: RecordKey,
    pub(super) ttl_s: u32,
    pub(super) wanted: Vec<RData>,
    pub(super) expected: Vec<String>,
}

/// A record with what the master answers.
pub(super) struct Seen<'a> {
    pub(super) record: &'a Record,
    pub(super) case: Case,
    pub(super) current: Answered,
    pub(super) fate: Fate,
}

impl Zone {
    /// Looks at, or moves and verifies, every record of the zone.
    pub async fn redirect(&self, order: &Redirect) -> Report {
        let mut master = match Master::open(&self.update, self.limits) {
            Ok(master) => master,
            Err(advice) => return Verdict::Failed(advice).into(),
        };
        let records = match self.records(&master, order) {
            Ok(records) => records,
            Err(fault) => return Verdict::Failed(master.at.advice(&fault, Doing::Read)).into(),
        };
        let until = Instant::now() + self.limits.settle;
        let (seen, moved) = match order.mode {
            Mode::Look => match self.look(&mut master, &records).await {
                Ok(seen) => (seen, Ok(())),
                Err(fault) => return Verdict::Failed(master.at.advice(&fault, Doing::Read)).into(),
            },
            Mode::Act => match self.act(&mut master, &records, order, until).await {
                Ok(result) => result,
                Err(verdict) => return verdict.into(),
            },
        };
        self.report(&mut master, &seen, moved, order.mode, until).await
    }

    pub(super) fn records(&self, master: &Master, order: &Redirect) -> Result<Vec<Record>, Fault> {
        let texts = |rtype, values: &[String]| Ok(rrset::texts(&rrset::parse(rtype, values)?));
        let record = |record: &config::DnsRecord| {
            let rtype = rrset::rtype(&record.rtype)?;
            let remembered = RecordKey {
                server: master::label(self.update.server),
                zone: self.update.zone.clone(),
                name: record.name.clone(),
                rtype: record.rtype.clone(),
            };
            let expected = match order.last_verified.get(&remembered) {
                Some(values) => texts(rtype, values)?,
                None => texts(rtype, record.values(order.to.other()))?,
            };
            let wanted = rrset::parse(rtype, record.values(order.to))?;
            let key = (master.name(&record.name)?, rtype);
            Ok(Record { key, remembered, ttl_s: record.ttl_s.get(), wanted, expected })
        };
        self.update.records.iter().map(record).collect()
    }

    pub(super) async fn look<'a>(&self, master: &mut Master, records: &'a [Record]) -> Result<Vec<Seen<'a>>, Fault> {
        let keys: Vec<Key> = records.iter().map(|record| record.key.clone()).collect();
        let answers = master.ask(&keys).await?;
        let cases: Vec<Case> = records
            .iter()
            .zip(&answers)
            .map(|(record, current)| Case {
                name: record.key.0.clone(),
                current: rrset::texts(&current.values),
                wanted: rrset::texts(&record.wanted),
                expected: record.expected.clone(),
            })
            .collect();
        let fates = fates(&cases, self.update.if_changed);
        let seen = records.iter().zip(answers).zip(cases).zip(fates);
        Ok(seen.map(|(((record, current), case), fate)| Seen { record, case, current, fate }).collect())
    }

    /// Moves what may be moved. `Ok` with an inner `Err`: what stands there was read, and this is what is wrong.
    async fn act<'a>(
        &self,
        master: &mut Master,
        records: &'a [Record],
        order: &Redirect,
        until: Instant,
    ) -> Result<(Vec<Seen<'a>>, Result<(), Verdict>), Verdict> {
        let mut sent: Option<Result<(), Fault>> = None;
        let mut updates = 0;
        let mut keys: Vec<Key> = Vec::new();
        loop {
            let seen = match self.look(master, records).await {
                Ok(seen) => seen,
                Err(fault) => return Err(unread(master, sent, &keys, &fault)),
            };
            let moving = || seen.iter().filter(|seen| seen.fate == Fate::Move);
            if moving().next().is_none() {
                return Ok((seen, Ok(())));
            }
            match sent.take() {
                // Accepted, and not shown yet.
                Some(Ok(())) => {
                    if Instant::now() >= until {
                        let text = format!("{} accepted the move, but still answers as before", master.at.server());
                        return Ok((seen, Err(Verdict::Unknown(text))));
                    }
                    sent = Some(Ok(()));
                    sleep(LOOK_PAUSE).await;
                    continue;
                }
                Some(Err(fault)) => {
                    let advice = master.at.advice(&fault, Doing::Write(&keys));
                    if fault.prerequisite_failed() {
                        self.still_held(master, order).await?;
                        if updates >= UPDATES_MAX {
                            return Ok((seen, Err(Verdict::Failed(advice))));
                        }
                    } else if fault.surely_not_applied() {
                        return Ok((seen, Err(Verdict::Failed(advice))));
                    } else {
                        return Ok((seen, Err(Verdict::Unknown(advice))));
                    }
                }
                None => {}
            }
            if let Guard::Elsewhere(..) = self.guard {
                self.still_held(master, order).await?;
            }
            let (mut prerequisites, mut changes) = (self.guarded(master, order)?, Vec::new());
            for Seen { record, current, .. } in moving() {
                let (name, rtype) = &record.key;
                prerequisites.extend(wire::require(name, *rtype, &current.values));
                changes.extend(wire::replace(name, *rtype, record.ttl_s, &record.wanted));
            }
            keys = moving().map(|seen| seen.record.key.clone()).collect();
            sent = Some(master.update(prerequisites, changes).await);
            updates += 1;
        }
    }

    /// The prerequisite "the epoch is what this plan wrote", where it lies in this zone.
    pub(super) fn guarded(&self, master: &Master, order: &Redirect) -> Result<Vec<hickory_proto::rr::Record>, Verdict> {
        match (&self.guard, &order.epoch_raw) {
            (Guard::Here(record), Some(raw)) => {
                let name =
                    master.name(record).map_err(|fault| Verdict::Failed(master.at.advice(&fault, Doing::Read)))?;
                Ok(wire::require(&name, RecordType::TXT, &[epoch::txt(raw)]))
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Reads the epoch at its master: is it what this plan wrote?
    pub(super) async fn still_held(&self, master: &mut Master, order: &Redirect) -> Result<(), Verdict> {
        let Some(ours) = &order.epoch_raw else { return Ok(()) };
        let read = match &self.guard {
            Guard::None => return Ok(()),
            Guard::Here(record) => read_epoch(master, record).await,
            Guard::Elsewhere(home, record) => match Master::open(home, self.limits) {
                Ok(mut home) => read_epoch(&mut home, record).await,
                Err(advice) => Err(advice),
            },
        };
        match read {
            Ok(EpochSeen::Held { raw, .. }) if raw == *ours => Ok(()),
            Ok(EpochSeen::Held { record, .. }) if record.number < turn(ours) => Err(Verdict::Failed(format!(
                "the epoch is an old one: {} (turn {}); the records of {} are moved when ours stands there again",
                record.holder, record.number, self.update.zone
            ))),
            Ok(EpochSeen::Held { record, .. }) => Err(Verdict::NotHolder(format!(
                "another holds the epoch: {} since {} (turn {}); the records of {} are left as they are",
                record.holder, record.since, record.number, self.update.zone
            ))),
            // Nobody took it from us: it is put back, and then the move is tried again.
            Ok(EpochSeen::Absent) => Err(Verdict::Failed(format!(
                "our epoch record is gone; the records of {} are moved when it stands there again",
                self.update.zone
            ))),
            Err(advice) => Err(Verdict::Failed(advice)),
        }
    }

    async fn report(
        &self,
        master: &mut Master,
        seen: &[Seen<'_>],
        moved: Result<(), Verdict>,
        mode: Mode,
        until: Instant,
    ) -> Report {
        let mut report = Report::from(Verdict::Done(String::new()));
        for seen in seen.iter().filter(|seen| seen.fate == Fate::Right) {
            report.verified.insert(seen.record.remembered.clone(), seen.case.wanted.clone());
        }
        let right = |seen: &&Seen<'_>| seen.fate == Fate::Right;
        let wanted: Vec<Wanted> = seen
            .iter()
            .filter(right)
            .map(|seen| Wanted { key: seen.record.key.clone(), texts: seen.case.wanted.clone() })
            .collect();
        // Nobody waits for what the master itself does not answer yet, nor when only looking.
        let until = if moved.is_ok() && mode == Mode::Act { until } else { Instant::now() };
        let (servers, no_servers) = match self.servers(master).await {
            Ok(servers) => (servers, None),
            Err(fault) => (Vec::new(), Some(master.at.advice(&fault, Doing::Read))),
        };
        let said = settle::agree(servers, &wanted, until, self.limits).await;
        let lagging = told::lagging(&said, &wanted);
        report.unreachable = told::unreachable(&said);
        report.views = told::views(master, seen, &said);
        report.verdict = moved.err().unwrap_or_else(|| {
            let left = told::left(&self.update.zone, seen, mode);
            if let Some(advice) = no_servers {
                Verdict::Failed(advice)
            } else if !lagging.is_empty() {
                Verdict::Failed(lagging.into_iter().chain(left).collect::<Vec<_>>().join("; "))
            } else {
                match (left, mode) {
                    (None, _) => Verdict::Done(told::proof(master, seen, &said)),
                    (Some(text), Mode::Look) => Verdict::Failed(text),
                    (Some(text), Mode::Act) => Verdict::Changed(text),
                }
            }
        });
        report
    }

    async fn servers(&self, master: &mut Master) -> Result<Vec<Server>, Fault> {
        if self.update.verify.is_empty() {
            return settle::servers(master, self.update.server.ip()).await;
        }
        let server = |address: &std::net::SocketAddr| Server { label: address.to_string(), address: Ok(*address) };
        Ok(self.update.verify.iter().map(server).collect())
    }
}

/// The turn of our own record; 0 when it is not readable, which then loses against every other.
fn turn(raw: &str) -> u64 {
    raw.parse().map_or(0, |record: EpochRecord| record.number)
}

async fn read_epoch(master: &mut Master, record: &str) -> Result<EpochSeen, String> {
    let name = master.name(record).map_err(|fault| master.at.advice(&fault, Doing::Read))?;
    epoch::read(master, &name).await
}

/// The master could not be read. If an update may have been applied before that, nobody knows.
pub(super) fn unread(master: &Master, sent: Option<Result<(), Fault>>, keys: &[Key], fault: &Fault) -> Verdict {
    let advice = master.at.advice(fault, Doing::Read);
    match sent {
        None => Verdict::Failed(advice),
        Some(Ok(())) => Verdict::Unknown(format!("the move was accepted, but cannot be read back: {advice}")),
        Some(Err(before)) => {
            let advice = master.at.advice(&before, Doing::Write(keys));
            if before.surely_not_applied() { Verdict::Failed(advice) } else { Verdict::Unknown(advice) }
        }
    }
}
