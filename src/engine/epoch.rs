//! The epoch's part of the engine: when it is read, what is claimed, handed over, put back.

use std::time::Duration;

use crate::takeover::Run;
use crate::units::{Advance, EpochRead, EpochRecord, EpochSeen, Mode, NodeName, PlanId, State, Step, StepOutcome};

use super::core::{Engine, UNREADABLE_READS};
use super::event::{Ask, Order, StepReport};
use super::settings::EpochStoreKind;
use super::standing::{Standing, not_claimable};

/// How often the epoch is read while we only watch.
const READ_EVERY_STANDBY: Duration = Duration::from_secs(15);
/// How often while a plan runs or we serve: another's claim must be seen soon.
const READ_EVERY: Duration = Duration::from_secs(5);
/// A reading that was asked for and never answered is asked again.
const READ_LOST_AFTER: Duration = Duration::from_secs(60);

impl Engine {
    /// Asks for the epoch when it is time.
    pub(super) fn watch_epoch(&mut self) {
        let every = match self.memory.state {
            State::Standby | State::Suspect if self.epoch_failures == 0 && !self.interrupted => READ_EVERY_STANDBY,
            _ => READ_EVERY,
        };
        let waited = self.epoch_asked.map(|at| self.now.since(at));
        let due =
            waited.is_none_or(|waited| if self.epoch_reading { waited >= READ_LOST_AFTER } else { waited >= every });
        if due {
            self.epoch_asked = Some(self.now.boot);
            self.epoch_reading = true;
            self.out.asks.push(Ask::ReadEpoch);
        }
    }

    /// The periodic reading. One that was begun before a swap of our own was answered says nothing any more.
    pub(super) fn epoch_was_read(&mut self, read: EpochRead) {
        self.epoch_reading = false;
        self.swapping = false;
        if std::mem::take(&mut self.epoch_reading_void) {
            self.epoch_asked = None;
        } else {
            self.note_epoch(read);
        }
    }

    /// What a step of our own read.
    fn note_own_reading(&mut self, seen: &EpochSeen) {
        self.epoch_reading_void = self.epoch_reading;
        self.note_epoch(Ok(seen.clone()));
    }

    fn note_epoch(&mut self, read: EpochRead) {
        match &read {
            Ok(seen) => {
                self.epoch_failures = 0;
                self.forget_unreadable();
                if let Some(record) = seen.record() {
                    self.memory.absent_accepted = false;
                    self.memory.saw(record);
                }
            }
            Err(_) => self.epoch_failures = self.epoch_failures.saturating_add(1),
        }
        if read.is_err() && self.epoch_failures < UNREADABLE_READS && self.epoch_read.is_some() {
            return; // a lost packet; what was read last still counts
        }
        let before = self.standing_text();
        self.epoch_read = Some(read);
        let after = self.standing_text();
        if before != after {
            self.note("epoch", after, "read at the store".to_owned(), None);
        }
        let healed = matches!(self.standing(), Standing::Ours | Standing::Peer { .. } | Standing::Nobody);
        let name = crate::units::EventName::EpochTrouble.name();
        if healed && self.memory.alarms.get(name).is_some_and(|alarm| alarm.acknowledged) {
            self.memory.alarms.remove(name);
        }
    }

    /// What the record means, for people.
    pub(super) fn standing_text(&self) -> String {
        match self.standing() {
            Standing::NotRead => "the epoch has not been read yet".to_owned(),
            Standing::Unreadable(why) => format!("the epoch cannot be read: {why}"),
            Standing::Nobody => "nobody has ever claimed the service".to_owned(),
            Standing::Stranger(who) => format!("the service is held by {who}"),
            Standing::Low(what) => format!("the epoch record is not as it was: {what}"),
            Standing::Ours | Standing::Peer { .. } => {
                let record = self.epoch_read.as_ref().and_then(|read| read.as_ref().ok()).and_then(EpochSeen::record);
                record.map_or_else(String::new, |r| format!("service held by {} (turn {})", r.holder, r.number))
            }
        }
    }

    /// The swap of a claim: what was looked at last, for our record under the plan's id.
    pub(super) fn claim_order(&mut self, plan: PlanId) -> Order {
        let from = self.claim_from.clone().unwrap_or(EpochSeen::Absent);
        let to = self.same_or_next(self.memory.claim.clone(), self.settings.node.clone(), plan);
        // Remembered before it is sent: after a crash the record is known as ours by its id.
        if self.memory.claim.as_ref().is_some_and(|before| before.id != plan) {
            self.memory.put_claim_by();
        }
        self.memory.claim = Some(to.clone());
        self.wrote(&to.to_string());
        Order::Swap { from, to }
    }

    /// The swap of a hand-over: the next turn for the other node.
    pub(super) fn hand_over_order(&mut self, plan: PlanId) -> Order {
        let from = self.claim_from.clone().unwrap_or(EpochSeen::Absent);
        let sent = self.memory.written.as_deref().and_then(|text| text.parse().ok());
        let to = self.same_or_next(sent, self.hand_over_target(), plan);
        self.wrote(&to.to_string());
        Order::Swap { from, to }
    }

    /// The swap that was sent before is repeated byte for byte: the first one may be applied yet, and then its record
    /// guards the DNS moves.
    fn same_or_next(&self, sent: Option<EpochRecord>, holder: NodeName, plan: PlanId) -> EpochRecord {
        let number = self.memory.epoch_seen_max + 1;
        sent.filter(|sent| sent.id == plan && sent.holder == holder && sent.number == number)
            .unwrap_or_else(|| self.next_record(holder, plan))
    }

    /// Remembers the record that this plan wrote, as it stands in the zone.
    fn wrote(&mut self, raw: &str) {
        self.memory.written = (self.settings.epoch_store == EpochStoreKind::Dns).then(|| raw.to_owned());
    }

    fn hand_over_target(&self) -> NodeName {
        let asked = self.run.as_ref().and_then(|run| run.intent().hand_to.clone());
        asked.unwrap_or_else(|| self.settings.peer.clone())
    }

    /// What this plan has asked for before, if it still follows what stands there: a repeated swap is the same swap
    /// byte for byte, so that whichever of the two is applied, we know what we wrote. Else the next turn.
    fn next_record(&self, holder: NodeName, id: PlanId) -> EpochRecord {
        let whole = self.now.wall.as_second();
        let since = jiff::Timestamp::from_second(whole).unwrap_or(self.now.wall);
        EpochRecord { number: self.memory.epoch_seen_max + 1, holder, id, since }
    }

    /// What a look at, or a swap for, the claim means.
    pub(super) fn claim_outcome(&mut self, report: &StepReport) -> StepOutcome {
        if let Some(seen) = &report.seen {
            let sent = self.memory.claim.clone().filter(|claim| claim.id == report.plan);
            self.note_own_reading(seen);
            match seen {
                EpochSeen::Held { record, raw } if record.id == report.plan => {
                    self.memory.claim = Some(record.clone());
                    self.wrote(raw);
                    return StepOutcome::done(record.to_string());
                }
                // Our swap was sent, and a third value stands there: it is lost, whoever won.
                EpochSeen::Held { record, .. } if sent.is_some_and(|sent| record.number >= sent.number) => {
                    return StepOutcome::Refused(self.standing_text());
                }
                EpochSeen::Held { .. } | EpochSeen::Absent => {}
            }
        }
        if report.mode == Mode::Act {
            return report.outcome.clone();
        }
        let Some(seen) = &report.seen else { return report.outcome.clone() };
        let standing = self.standing();
        match (&standing, not_claimable(&standing)) {
            (Standing::Stranger(_), Some(why)) => StepOutcome::Refused(why),
            (_, Some(why)) => StepOutcome::Unknown(why),
            (_, None) => {
                self.claim_from = Some(seen.clone());
                StepOutcome::failed(self.standing_text())
            }
        }
    }

    /// What a look at, or a swap for, the hand-over means: it is done when the record is not ours any more.
    pub(super) fn hand_over_outcome(&mut self, report: &StepReport) -> StepOutcome {
        let unclaimed = self.memory.written.is_none() && self.settings.epoch_store == EpochStoreKind::Dns;
        // A claim that a person passed over may have been applied after all: then it is handed over like any other.
        if unclaimed
            && !report.seen.as_ref().and_then(EpochSeen::record).is_some_and(|record| self.memory.claimed(record))
        {
            return StepOutcome::done("no claim was made, so there is nothing to hand over");
        }
        let Some(seen) = &report.seen else { return report.outcome.clone() };
        match seen {
            EpochSeen::Held { record, raw } if record.holder != self.settings.node => {
                // A hand-over of an earlier plan may have been applied late: it names whom we meant all the same, and the
                // records move under what stands there.
                if record.id == report.plan || record.holder == self.hand_over_target() {
                    self.wrote(raw);
                }
                // A claim that was sent before may be applied yet, unless this turn came after it.
                self.memory.put_claim_by();
                self.note_own_reading(seen);
                StepOutcome::Done(record.to_string())
            }
            _ if report.mode == Mode::Act => report.outcome.clone(),
            _ => {
                // The turn that stands there may be one that was never read: a claim of before a restart.
                self.note_own_reading(seen);
                self.claim_from = Some(seen.clone());
                StepOutcome::failed("not handed over yet")
            }
        }
    }

    /// A person goes on without a claim.
    pub(super) fn pass_claim(&mut self) {
        let because = "a person said to go on without a claim";
        self.without_claim();
        if let Some(run) = &mut self.run {
            run.intent_mut().without_claim = true;
            run.pass(Step::Claim, because);
        }
        self.claimed_at = Some(self.now.boot);
    }

    /// Remembers that we serve without a written claim: only a newer turn than any we saw is another's.
    pub(super) fn without_claim(&mut self) {
        let Some(plan) = self.run.as_ref().map(Run::id) else { return };
        let mut record = self.next_record(self.settings.node.clone(), plan);
        record.number = self.memory.epoch_seen_max;
        self.memory.claim = Some(record);
        self.memory.written = None;
    }

    /// Puts our claim back into a zone that lost it: the same record, with what stands there as prerequisite.
    pub(super) fn restore_epoch(&mut self) {
        let (Some(Ok(from)), Some(to)) = (self.epoch_read.clone(), self.memory.claim.clone()) else { return };
        self.swapping = true;
        self.out.asks.push(Ask::Swap { from, to });
    }

    /// What came of putting it back.
    ///
    /// Whatever came of it, the next swap waits for the next reading: a master that refuses is not asked in a circle.
    pub(super) fn epoch_was_restored(&mut self, advance: Advance) {
        match advance {
            Advance::Done => {
                if let Some(claim) = self.memory.claim.clone() {
                    self.note_own_reading(&EpochSeen::held(claim));
                }
            }
            Advance::Lost(seen) => self.note_own_reading(&seen),
            Advance::Unknown(why) => {
                self.note("epoch", "the record could not be put back; it is tried again".to_owned(), why, None);
            }
        }
    }
}
