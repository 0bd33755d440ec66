//! Lowers TTLs before a failback, without changing values; somebody else's record keeps its own.

use super::super::advice::Doing;
use super::super::master::{Key, Master};
use super::super::rrset;
use super::super::wire::{self, Fault};
use super::zone::{Guard, Record, Report, Seen, Verdict, Zone, unread};
use crate::units::Side;
use crate::units::names::Redirect;

impl Zone {
    /// Gives every record that is known to us this TTL, where it has a longer one.
    pub async fn lower_ttl(&self, order: &Redirect, ttl_s: u32) -> Report {
        match self.lowered(order, ttl_s).await {
            Ok(verdict) | Err(verdict) => verdict.into(),
        }
    }

    async fn lowered(&self, order: &Redirect, ttl_s: u32) -> Result<Verdict, Verdict> {
        let mut master = Master::open(&self.update, self.limits).map_err(Verdict::Failed)?;
        let failed = |master: &Master, fault: &Fault| Verdict::Failed(master.at.advice(fault, Doing::Read));
        let records = self.records(&master, order).map_err(|fault| failed(&master, &fault))?;
        let seen = self.look(&mut master, &records).await.map_err(|fault| failed(&master, &fault))?;
        let known = |seen: &&Seen<'_>| {
            let other: Vec<String> = self.other_side(seen.record, order.to);
            [&seen.case.wanted, &seen.case.expected, &other].contains(&&seen.case.current)
        };
        let high = |seen: &&Seen<'_>| seen.current.ttl_s > ttl_s;
        let lowering: Vec<&Seen<'_>> = seen.iter().filter(known).filter(high).collect();
        if lowering.is_empty() {
            return Ok(Verdict::Done(format!("no TTL above {ttl_s} s in {}", self.update.zone)));
        }
        if let Guard::Elsewhere(..) = self.guard {
            self.still_held(&mut master, order).await?;
        }
        let (mut prerequisites, mut changes) = (self.guarded(&master, order)?, Vec::new());
        for Seen { record, current, .. } in &lowering {
            let (name, rtype) = &record.key;
            prerequisites.extend(wire::require(name, *rtype, &current.values));
            changes.extend(wire::replace(name, *rtype, ttl_s, &current.values));
        }
        let keys: Vec<Key> = lowering.iter().map(|seen| seen.record.key.clone()).collect();
        let sent = master.update(prerequisites, changes).await;
        let again = self
            .look(&mut master, &records)
            .await
            .map_err(|fault| unread(&master, Some(sent.clone()), &keys, &fault))?;
        let still_high = again.iter().filter(known).any(|seen| seen.current.ttl_s > ttl_s);
        match sent {
            _ if !still_high => Ok(Verdict::Done(format!("TTL {ttl_s} s at {}", master.at.server()))),
            Ok(()) => Ok(Verdict::Unknown(format!(
                "{} accepted the TTL, but still answers with the old one",
                master.at.server()
            ))),
            Err(fault) => {
                if fault.prerequisite_failed() {
                    self.still_held(&mut master, order).await?;
                }
                let advice = master.at.advice(&fault, Doing::Write(&keys));
                Ok(if fault.surely_not_applied() { Verdict::Failed(advice) } else { Verdict::Unknown(advice) })
            }
        }
    }

    fn other_side(&self, record: &Record, to: Side) -> Vec<String> {
        let configured = self.update.records.iter().find(|configured| {
            configured.name == record.remembered.name && configured.rtype == record.remembered.rtype
        });
        let values = configured.map(|configured| configured.values(to.other())).unwrap_or_default();
        rrset::parse(record.key.1, values).map(|values| rrset::texts(&values)).unwrap_or_default()
    }
}
