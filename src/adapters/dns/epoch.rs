//! The epoch store `dns`: one TXT record at one master; a swap is one UPDATE whose prerequisite is what was read.
//!
//! Whether to claim is the engine's question. Here: read exactly, swap exactly, and call a swap done only
//! when our id stands there.
//!
//! A wildcard cannot be seen in an answer, since the server writes the asked name into it. But the wildcard that
//! would answer for the record's name answers for every name beside it that does not exist (RFC 4592 §3.3.1: same
//! closest encloser). So each read asks for a random sibling as well: if an epoch stands there too, the record is
//! not real. The swap itself is safe either way, because prerequisites look at the node, not at wildcards.

use std::time::Duration;

use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::time::{Instant, sleep};
use ulid::Ulid;

use super::Limits;
use super::advice::{Doing, algorithm};
use super::conformance;
use super::master::{Answered, Master};
use super::rrset;
use super::wire::{self, Fault};
use crate::config;
use crate::ports::{Answer, EpochStore};
use crate::units::{Advance, EpochRead, EpochRecord, EpochSeen};

/// The TTL of the record, seconds: nobody but us reads it, and we ask the master; no cache shall keep it.
pub const TTL_S: u32 = 0;

/// How often one call sends the same swap before it answers `Unknown`; the engine repeats the call.
const SWAPS_MAX: u32 = 4;

/// The pause before a swap is repeated; doubled each time, so that a signed zone that lags can catch up.
const SWAP_PAUSE: Duration = Duration::from_millis(100);

/// The store.
#[derive(Debug, Clone)]
pub struct DnsEpoch {
    update: config::DnsUpdate,
    record: String,
    limits: Limits,
}

impl DnsEpoch {
    /// The record `record` in the zone of `update`.
    pub fn new(update: &config::DnsUpdate, record: &str) -> Self {
        Self { update: update.clone(), record: record.to_owned(), limits: Limits::default() }
    }

    /// With other limits than the default.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    async fn advance(&self, from: &EpochSeen, to: &EpochRecord) -> Result<Advance, String> {
        let mut master = Master::open(&self.update, self.limits)?;
        let key = [(self.name(&master)?, RecordType::TXT)];
        let swap = (
            wire::require(&key[0].0, RecordType::TXT, &values(from)),
            wire::replace(&key[0].0, RecordType::TXT, TTL_S, &[txt(&to.to_string())]),
        );
        let deadline = Instant::now() + self.limits.swap;
        let mut pause = SWAP_PAUSE;
        let mut why = String::new();
        for _ in 0..SWAPS_MAX {
            let sent = master.update(swap.0.clone(), swap.1.clone()).await;
            if let Err(fault) = &sent {
                why = master.at.advice(fault, Doing::Write(&key));
            }
            match read(&mut master, &key[0].0).await {
                Ok(seen) if seen.record().is_some_and(|record| is_ours(record, to)) => return Ok(Advance::Done),
                Ok(seen) if seen == *from => {}
                Ok(seen) => return Ok(Advance::Lost(seen)),
                // Something stands there that is no epoch: the same swap will meet it again.
                Err(advice) if sent.as_ref().is_err_and(Fault::prerequisite_failed) => {
                    return Ok(Advance::Unknown(advice));
                }
                Err(advice) if why.is_empty() => why = advice,
                Err(_) => {}
            }
            // The old value stands, or nothing could be read. After a plain refusal the same swap meets the same.
            let refused = matches!(&sent, Err(fault) if fault.surely_not_applied() && !fault.prerequisite_failed());
            if refused || Instant::now() + pause >= deadline {
                break;
            }
            sleep(pause).await;
            pause *= 2;
        }
        if why.is_empty() {
            why = format!("{} accepted the swap, but still answers with the old record", master.at.server());
        }
        Ok(Advance::Unknown(why))
    }

    fn name(&self, master: &Master) -> Result<Name, String> {
        master.name(&self.record).map_err(|fault| master.at.advice(&fault, Doing::Read))
    }
}

impl EpochStore for DnsEpoch {
    fn read(&self) -> Answer<'_, EpochRead> {
        Box::pin(async {
            let mut master = Master::open(&self.update, self.limits)?;
            let name = self.name(&master)?;
            read(&mut master, &name).await
        })
    }

    fn advance<'a>(&'a self, from: &'a EpochSeen, to: &'a EpochRecord) -> Answer<'a, Advance> {
        Box::pin(async { self.advance(from, to).await.unwrap_or_else(Advance::Unknown) })
    }

    fn conformance(&self) -> Answer<'_, Result<(), String>> {
        Box::pin(async {
            let mut master = Master::open(&self.update, self.limits)?;
            let name = self.name(&master)?;
            conformance::prove(&mut master, &name).await
        })
    }

    fn fingerprint(&self) -> String {
        let config::DnsUpdate { server, zone, key, .. } = &self.update;
        format!("dns {server} {zone} {} {} {}", self.record, key.name, algorithm(key.algorithm))
    }
}

/// Reads the epoch at `name` from a master that is already being talked to.
///
/// # Errors
/// One line of advice: unreadable, doubled, foreign, or made by a wildcard.
pub(super) async fn read(master: &mut Master, name: &Name) -> EpochRead {
    let sibling = format!("_pbx-failover-wildcard-{}", Ulid::new()).to_lowercase();
    let sibling = name.base_name().prepend_label(sibling.as_str()).ok().filter(|sibling| master.zone.zone_of(sibling));
    let mut keys = vec![(name.clone(), RecordType::TXT)];
    keys.extend(sibling.map(|sibling| (sibling, RecordType::TXT)));
    let answers = master.ask(&keys).await.map_err(|fault| master.at.advice(&fault, Doing::Read))?;
    let [here, beside @ ..] = answers.as_slice() else { return Err("no answer".to_owned()) };
    let seen = judge(here).map_err(|why| {
        format!("the epoch at {name} TXT on {}: {why}; until it is right nobody can claim", master.at.server())
    })?;
    let made_up = |value: &RData| here.values.contains(value) || rrset::text(value).contains("epoch=");
    if seen != EpochSeen::Absent && beside.iter().flat_map(|answered| &answered.values).any(made_up) {
        return Err(format!(
            "a wildcard on {} answers with an epoch for {name} and for every name beside it; remove the wildcard's TXT record",
            master.at.server()
        ));
    }
    Ok(seen)
}

/// What the TXT values of the epoch's name say.
fn judge(answered: &Answered) -> Result<EpochSeen, String> {
    let strings = match answered.values.as_slice() {
        [] => return Ok(EpochSeen::Absent),
        [RData::TXT(txt)] => &txt.txt_data,
        several => return Err(format!("{} records stand there; delete all but the true one", several.len())),
    };
    let [string] = strings.as_ref() else {
        return Err(format!("the record has {} strings; somebody else wrote it: delete it", strings.len()));
    };
    let raw = std::str::from_utf8(string).map_err(|_| "the record is no text; somebody else wrote it: delete it")?;
    let record =
        raw.parse::<EpochRecord>().map_err(|e| format!("{e}; somebody else wrote it: correct or delete it"))?;
    Ok(EpochSeen::Held { record, raw: raw.to_owned() })
}

/// The values that `seen` was read from.
pub(super) fn values(seen: &EpochSeen) -> Vec<RData> {
    match seen {
        EpochSeen::Absent => Vec::new(),
        EpochSeen::Held { raw, .. } => vec![txt(raw)],
    }
}

/// One TXT value of one string.
pub(super) fn txt(text: &str) -> RData {
    RData::TXT(TXT::from_bytes(vec![text.as_bytes()]))
}

/// Our id, number and holder; a repeated plan may have written an earlier `since`.
fn is_ours(record: &EpochRecord, to: &EpochRecord) -> bool {
    record.id == to.id && record.number == to.number && record.holder == to.holder
}
