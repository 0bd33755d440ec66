//! Proves that a master compares before it swaps: not every server does.
//!
//! Works at `_pbx-failover-probe.` + the record's name, so that the record itself is never touched, and leaves
//! nothing behind. What a killed run left there is told from another node's run by the age in its ULID.

use std::time::Duration;

use hickory_proto::rr::{Name, RData, RecordType};
use tokio::time::sleep;
use ulid::Ulid;

use super::advice::Doing;
use super::epoch::{TTL_S, txt};
use super::master::Master;
use super::rrset;
use super::wire::{self, Fault};
use crate::host::clock;

/// The label in front of the record's name.
pub const PROBE_LABEL: &str = "_pbx-failover-probe";

/// A probe older than this was left by a run that was killed; a run takes milliseconds.
const LEFTOVER_AGE_MS: i64 = 60_000;

/// How often we step aside for another node that proves at the same time.
const TRIES_MAX: u32 = 5;

/// How long we step aside for.
const STEP_ASIDE: Duration = Duration::from_millis(300);

/// Why a proof ended early.
enum End {
    /// The server is not fit, or cannot be asked: one line of advice.
    Unfit(String),
    /// Another node proves at the same name.
    Disturbed,
}

/// Create when absent; again must fail; a wrong value must fail; the right value passes; clean up.
///
/// # Errors
/// One line of advice; the server must then not keep the epoch.
pub async fn prove(master: &mut Master, record: &Name) -> Result<(), String> {
    let name = record
        .prepend_label(PROBE_LABEL)
        .map_err(|_| format!("{record} is too long: {PROBE_LABEL} must fit in front of it; choose a shorter name"))?;
    let mut probe = Probe { master, name };
    for attempt in 1..=TRIES_MAX {
        match probe.prove_once(attempt == TRIES_MAX).await {
            Ok(()) => return Ok(()),
            Err(End::Unfit(advice)) => return Err(advice),
            Err(End::Disturbed) => sleep(STEP_ASIDE * attempt).await,
        }
    }
    Err(format!("{} TXT keeps changing while it is being tried; try again when no other node does", probe.name))
}

struct Probe<'a> {
    master: &'a mut Master,
    name: Name,
}

impl Probe<'_> {
    async fn prove_once(&mut self, last_try: bool) -> Result<(), End> {
        self.clear_leftovers(last_try).await?;
        let [first, second, third] = [(); 3].map(|()| txt(&format!("pbx-failover probe={}", Ulid::new())));
        let (none, first, second) = (Vec::new(), vec![first], vec![second]);
        let third = vec![third];
        let result = async {
            self.must_pass("a new record", &none, &first).await?;
            self.must_fail("creating a record that exists", &none, &second, &first).await?;
            self.must_fail("a swap with a wrong old value", &second, &third, &first).await?;
            self.must_pass("a swap with the right old value", &first, &second).await?;
            self.must_fail("a swap with a value that is gone", &first, &third, &second).await
        }
        .await;
        // Cleaned up whatever the result; the delete compares too, so that nobody else's record is lost.
        let mine = [&first, &second, &third];
        if let Ok(now) = self.read().await
            && let Some(left) = mine.into_iter().find(|values| **values == now)
        {
            let cleaned = self.swap(left, &none).await;
            if result.is_ok() {
                cleaned.map_err(|fault| self.unfit(&fault))?;
                if !self.read().await?.is_empty() {
                    return Err(self.does_not_compare("deleting a record", "was accepted and had no effect"));
                }
            }
        }
        result
    }

    async fn clear_leftovers(&mut self, last_try: bool) -> Result<(), End> {
        let left = self.read().await?;
        if left.is_empty() {
            return Ok(());
        }
        if left.iter().any(is_young) && !last_try {
            return Err(End::Disturbed);
        }
        match self.swap(&left, &[]).await {
            Ok(()) => Ok(()),
            Err(fault) if fault.prerequisite_failed() && !last_try => Err(End::Disturbed),
            Err(fault) => Err(self.unfit(&fault)),
        }
    }

    async fn must_pass(&mut self, what: &str, from: &[RData], to: &[RData]) -> Result<(), End> {
        match self.swap(from, to).await {
            Ok(()) => {}
            Err(fault) if fault.prerequisite_failed() => {
                let now = self.read().await?;
                return Err(if now == from { self.does_not_compare(what, "was refused") } else { End::Disturbed });
            }
            Err(fault) => return Err(self.unfit(&fault)),
        }
        match self.read().await? {
            now if now == to => Ok(()),
            now if now == from => Err(self.does_not_compare(what, "was accepted, but the old value is still answered")),
            _ => Err(End::Disturbed),
        }
    }

    async fn must_fail(&mut self, what: &str, from: &[RData], to: &[RData], stands: &[RData]) -> Result<(), End> {
        match self.swap(from, to).await {
            Err(fault) if fault.prerequisite_failed() => {}
            Err(fault) => return Err(self.unfit(&fault)),
            Ok(()) => {
                return Err(self.does_not_compare(what, "was accepted"));
            }
        }
        if self.read().await? == stands { Ok(()) } else { Err(End::Disturbed) }
    }

    async fn swap(&mut self, from: &[RData], to: &[RData]) -> Result<(), Fault> {
        let prerequisites = wire::require(&self.name, RecordType::TXT, from);
        self.master.update(prerequisites, wire::replace(&self.name, RecordType::TXT, TTL_S, to)).await
    }

    async fn read(&mut self) -> Result<Vec<RData>, End> {
        let key = [(self.name.clone(), RecordType::TXT)];
        let answers = self.master.ask(&key).await;
        let answers = answers.map_err(|fault| End::Unfit(self.master.at.advice(&fault, Doing::Read)))?;
        Ok(answers.into_iter().flat_map(|answered| answered.values).collect())
    }

    fn unfit(&self, fault: &Fault) -> End {
        let key = [(self.name.clone(), RecordType::TXT)];
        End::Unfit(self.master.at.advice(fault, Doing::Write(&key)))
    }

    fn does_not_compare(&self, what: &str, effect: &str) -> End {
        End::Unfit(format!(
            "the DNS server {} cannot keep the epoch: {what} at {} {effect}; use a master that checks prerequisites (RFC 2136 §3.2), without anything between that answers for it",
            self.master.at.server(),
            self.name
        ))
    }
}

/// Whether a probe of another run stands there that may still be at work.
fn is_young(value: &RData) -> bool {
    let text = rrset::text(value);
    let Some(id) = text.trim_matches('"').strip_prefix("pbx-failover probe=") else { return false };
    let Ok(id) = id.parse::<Ulid>() else { return false };
    // Clocks of nodes differ a little: a time ahead of ours is young.
    let age_ms = clock::now().wall.as_millisecond() - i64::try_from(id.timestamp_ms()).unwrap_or(i64::MAX);
    age_ms < LEFTOVER_AGE_MS
}
