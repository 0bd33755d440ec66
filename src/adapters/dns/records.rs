//! Moves the configured records: one message per zone, guarded by prerequisites, proved by reading back.
//!
//! It decides nothing but what may be overwritten (`plan`). The epoch guards each move: in its own zone as a
//! prerequisite of the same message, for other zones by reading it at its master immediately before.

mod plan;
mod told;
mod ttl;
mod zone;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::Limits;
use crate::config;
use crate::ports::{Answer, Names};
use crate::units::StepOutcome;
use crate::units::names::{Redirect, Redirected};
use zone::{Guard, Report, Verdict, Zone};

/// The records that move with the service.
#[derive(Debug, Clone)]
pub struct DnsRecords {
    mode: config::DnsMode,
    zones: Vec<Arc<Zone>>,
}

impl DnsRecords {
    /// The records of `dns`, guarded by `epoch`.
    pub fn new(dns: &config::Dns, epoch: &config::Epoch) -> Self {
        Self::with_limits(dns, epoch, Limits::default())
    }

    /// With other limits than the default.
    pub fn with_limits(dns: &config::Dns, epoch: &config::Epoch, limits: Limits) -> Self {
        let guard = |update: &config::DnsUpdate| match epoch {
            config::Epoch::Local => Guard::None,
            config::Epoch::Dns { record, update: index } => match dns.updates.get(*index) {
                Some(home) if home.server == update.server && home.zone == update.zone => Guard::Here(record.clone()),
                Some(home) => Guard::Elsewhere(Box::new(home.clone()), record.clone()),
                None => Guard::None,
            },
        };
        let moved = dns.updates.iter().filter(|update| !update.records.is_empty());
        let zones =
            moved.map(|update| Arc::new(Zone { guard: guard(update), update: update.clone(), limits })).collect();
        Self { mode: dns.mode, zones }
    }

    /// One line per record that the epoch does not guard inside the move's own message, for `check`.
    pub fn unprotected(&self) -> Vec<String> {
        let why = |zone: &Zone| match &zone.guard {
            Guard::Here(_) => None,
            Guard::None => Some("the epoch is kept on this node only: a late robot may overwrite it".to_owned()),
            Guard::Elsewhere(home, _) => Some(format!(
                "the epoch lies in {} at {}: it is read just before the move, not compared within it",
                home.zone, home.server
            )),
        };
        let lines = self.zones.iter().filter_map(|zone| why(zone).map(|why| (zone, why))).flat_map(|(zone, why)| {
            let line = move |record: &config::DnsRecord| format!("{} {}: {why}", record.name, record.rtype);
            zone.update.records.iter().map(line)
        });
        lines.collect()
    }

    /// Runs `work` on every zone at once, so that a dead master holds up only its own records.
    async fn each<F>(&self, work: impl Fn(Arc<Zone>) -> F) -> Vec<Report>
    where
        F: Future<Output = Report> + Send + 'static,
    {
        let mut running = JoinSet::new();
        for (index, zone) in self.zones.iter().enumerate() {
            let work = work(zone.clone());
            running.spawn(async move { (index, work.await) });
        }
        let mut reports = running.join_all().await;
        reports.sort_by_key(|(index, _)| *index);
        reports.into_iter().map(|(_, report)| report).collect()
    }

    fn nothing_to_move(&self) -> Option<StepOutcome> {
        (self.mode != config::DnsMode::Replace || self.zones.is_empty())
            .then(|| StepOutcome::done("not configured to move"))
    }
}

impl Names for DnsRecords {
    fn redirect<'a>(&'a self, order: &'a Redirect) -> Answer<'a, Redirected> {
        Box::pin(async move {
            if let Some(outcome) = self.nothing_to_move() {
                return Redirected { outcome, verified: BTreeMap::new(), views: Vec::new(), unreachable: Vec::new() };
            }
            let order = Arc::new(order.clone());
            let reports = self
                .each(|zone| {
                    let order = order.clone();
                    async move { zone.redirect(&order).await }
                })
                .await;
            merge(reports)
        })
    }

    fn lower_ttl<'a>(&'a self, order: &'a Redirect, ttl_s: u32) -> Answer<'a, StepOutcome> {
        Box::pin(async move {
            if let Some(outcome) = self.nothing_to_move() {
                return outcome;
            }
            let order = Arc::new(order.clone());
            let reports = self
                .each(|zone| {
                    let order = order.clone();
                    async move { zone.lower_ttl(&order, ttl_s).await }
                })
                .await;
            merge(reports).outcome
        })
    }
}

/// One outcome of several zones: what stops everything first, then what is worth another try, then what is not.
fn merge(reports: Vec<Report>) -> Redirected {
    let mut merged = Redirected {
        outcome: StepOutcome::done(""),
        verified: BTreeMap::new(),
        views: Vec::new(),
        unreachable: Vec::new(),
    };
    let mut verdicts = Vec::new();
    for report in reports {
        merged.verified.extend(report.verified);
        merged.views.extend(report.views);
        merged.unreachable.extend(report.unreachable);
        verdicts.push(report.verdict);
    }
    merged.outcome = outcome(&verdicts);
    merged
}

fn outcome(verdicts: &[Verdict]) -> StepOutcome {
    let texts = |pick: fn(&Verdict) -> Option<&str>| {
        let texts: Vec<&str> = verdicts.iter().filter_map(pick).collect();
        if texts.is_empty() { None } else { Some(texts.join("; ")) }
    };
    let troubles = texts(|verdict| match verdict {
        Verdict::Done(_) => None,
        Verdict::NotHolder(text) | Verdict::Changed(text) | Verdict::Failed(text) | Verdict::Unknown(text) => {
            Some(text)
        }
    });
    let Some(troubles) = troubles else {
        let proofs = texts(|verdict| if let Verdict::Done(text) = verdict { Some(text) } else { None });
        return StepOutcome::Done(proofs.unwrap_or_default());
    };
    let any = |wanted: fn(&Verdict) -> bool| verdicts.iter().any(wanted);
    if any(|verdict| matches!(verdict, Verdict::NotHolder(_))) {
        StepOutcome::Refused(troubles)
    } else if any(|verdict| matches!(verdict, Verdict::Unknown(_))) {
        StepOutcome::Unknown(troubles)
    } else if any(|verdict| matches!(verdict, Verdict::Failed(_))) {
        StepOutcome::Failed(troubles)
    } else {
        StepOutcome::Refused(troubles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_holder_weighs_most_and_a_changed_record_waits_until_the_others_are_settled() {
        let done = || Verdict::Done("d".into());
        let changed = || Verdict::Changed("c".into());
        let failed = || Verdict::Failed("f".into());
        assert_eq!(outcome(&[done(), done()]), StepOutcome::Done("d; d".into()));
        assert_eq!(outcome(&[done(), changed()]), StepOutcome::Refused("c".into()));
        assert_eq!(outcome(&[failed(), changed()]), StepOutcome::Failed("f; c".into()));
        assert_eq!(outcome(&[failed(), Verdict::Unknown("u".into())]), StepOutcome::Unknown("f; u".into()));
        assert_eq!(outcome(&[failed(), Verdict::NotHolder("n".into())]), StepOutcome::Refused("f; n".into()));
    }
}
