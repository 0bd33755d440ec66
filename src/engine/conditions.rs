//! What the triggers and guards of the state table mean. It only looks.

use crate::decision::AgentSays;
use crate::takeover::Run;
use crate::units::{EpochSeen, EventName, PlanKind, Step, StepState, Verdict};

use super::core::{Engine, UNREADABLE_READS};
use super::settings::EpochStoreKind;
use super::standing::Standing;
use super::table::{Action, Guard, Row, Trigger};

impl Engine {
    pub(super) fn level(&self, trigger: Trigger) -> bool {
        let verdict = self.judgement.verdict;
        let standing = self.standing();
        match trigger {
            Trigger::PrimaryUp => verdict == Verdict::PrimaryUp,
            Trigger::EvidenceVoid => matches!(verdict, Verdict::Unsure | Verdict::WeAreCutOff),
            Trigger::PrimaryTroubled => !matches!(verdict, Verdict::PrimaryUp | Verdict::Unsure | Verdict::WeAreCutOff),
            Trigger::ServesAlone => self.level(Trigger::PrimaryTroubled) || self.agent_denies_service(),
            Trigger::HoldDownOver => self.hold_down_over(),
            Trigger::EpochOurs => self.may_go_on(&standing),
            Trigger::EpochOther => matches!(standing, Standing::Peer { newer: true } | Standing::Stranger(_)),
            Trigger::EpochUnreadable => self.epoch_failures >= UNREADABLE_READS,
            Trigger::EpochLow => matches!(standing, Standing::Low(_)),
            Trigger::Paused => self.paused(),
            Trigger::StoreBroken => self.store.is_err(),
            Trigger::PbxSilent => self.pbx_silent.is_some(),
            Trigger::GiveUpOver => self.give_up_over(),
            Trigger::NamesOwed => self.memory.names_owed && matches!(standing, Standing::Peer { .. }),
            _ => false,
        }
    }

    /// Whether what is believed has been believed for long enough.
    fn hold_down_over(&self) -> bool {
        let Some(until) = self.hold_down_until else { return false };
        // The agent's word that the PBX has failed may come in the midst of it.
        let stood = self.allowed_since.is_some_and(|since| self.now.since(since) >= self.hold_down());
        self.now.boot >= until || (stood && self.agent_says() == AgentSays::Failed && self.may_act())
    }

    /// Whether the record bears our claim, or, where no claim was written, nothing newer stands there.
    fn may_go_on(&self, standing: &Standing) -> bool {
        match standing {
            Standing::Ours => true,
            Standing::Peer { newer: false } | Standing::Nobody => {
                self.memory.claim.is_some() && (self.memory.written.is_none() || self.interrupted)
            }
            // A person said to serve without the store, and it is still not there.
            Standing::Unreadable(_) => {
                self.settings.epoch_store == EpochStoreKind::Dns
                    && self.memory.claim.is_some()
                    && self.memory.written.is_none()
            }
            _ => false,
        }
    }

    fn give_up_over(&self) -> bool {
        // A primary that a person has stopped may still answer on another port.
        let stopped = self.run.as_ref().is_some_and(|run| run.intent().primary_is_stopped);
        let could_serve = self.votes().up > 0 && !stopped;
        self.claimed_at.is_some_and(|at| could_serve && self.now.since(at) >= self.settings.give_up_after)
    }

    pub(super) fn level_because(&self, trigger: Trigger) -> String {
        match trigger {
            Trigger::PrimaryUp | Trigger::EvidenceVoid | Trigger::PrimaryTroubled | Trigger::HoldDownOver => {
                format!("{}: {}", self.judgement.verdict, self.judgement.because)
            }
            Trigger::ServesAlone => match self.heard().and_then(|heard| heard.beat.pbx.as_ref()) {
                Some(pbx) if self.agent_denies_service() => {
                    format!("its own agent says that its PBX {}", pbx.condition)
                }
                _ => self.level_because(Trigger::PrimaryTroubled),
            },
            Trigger::EpochOurs | Trigger::EpochOther | Trigger::EpochUnreadable | Trigger::EpochLow => {
                self.standing_text()
            }
            Trigger::Paused => self.memory.paused_until.map_or_else(String::new, |t| format!("paused until {t}")),
            Trigger::StoreBroken => self.store.clone().err().unwrap_or_default(),
            Trigger::PbxSilent => self.pbx_silent.clone().unwrap_or_default(),
            Trigger::GiveUpOver => {
                format!("not serving {} s after the claim", self.settings.give_up_after.as_secs())
            }
            _ => String::new(),
        }
    }

    pub(super) fn guard(&self, row: &Row) -> bool {
        let run = self.run.as_ref();
        let kind = run.map(Run::kind);
        let claimed = run.is_some_and(Self::past_claim);
        match row.guard {
            Guard::Always => true,
            Guard::MayAct => self.may_act(),
            Guard::MayNotAct => !self.may_act(),
            Guard::NothingClaimed => {
                kind == Some(PlanKind::Takeover) && !self.claim_stands() && self.memory.claim.is_none()
            }
            Guard::BeforeClaimUnasked => self.before_claim_unasked(),
            Guard::BeforeClaimForbidden => self.before_claim_unasked() && self.verdict_blocks().is_some(),
            Guard::AfterClaimUnsaid => {
                kind == Some(PlanKind::Takeover) && self.claim_stands() && run.map(Run::id) != self.primary_back_said
            }
            Guard::Claimed => claimed,
            Guard::WaitsForClaimAndWithout => {
                self.intent.without_claim
                    && kind == Some(PlanKind::Takeover)
                    && run.is_some_and(|r| r.step(Step::Claim).is_some_and(|s| s.state == StepState::Running))
            }
            Guard::NotRetreating => kind != Some(PlanKind::Retreat) && !run.is_some_and(|r| r.is_begun(Step::HandOver)),
            Guard::MayServeUnalarmed if self.agent_denies_service() => false,
            Guard::NotAlarmed | Guard::MayServeUnalarmed => row.does.iter().all(|action| match action {
                Action::Alarm(event) => !self.memory.alarms.contains_key(event.name()),
                _ => true,
            }),
            Guard::BothAlarmed => self.memory.alarms.contains_key(EventName::BothMayServe.name()),
            Guard::NotSaid => !self.unreadable_said,
            Guard::ClaimWrittenAndIdle => {
                self.memory.written.is_some() && self.claim_stands() && !self.swapping && !self.epoch_reading
            }
            Guard::UnprovedAndWithout => (self.unproved || self.interrupted) && self.intent.without_claim,
            Guard::Unproved => self.unproved,
            Guard::WaitsForEpoch => self.interrupted && (self.claim_stands() || self.would_claim_again()),
            Guard::NoPlan => run.is_none(),
            Guard::InBackground => self.serves_in_background(),
            Guard::InTakeover => kind == Some(PlanKind::Takeover),
            Guard::InFailback => kind == Some(PlanKind::Failback),
            Guard::InWithdraw => kind == Some(PlanKind::Withdraw),
            Guard::CutsCalls => {
                self.intent.cut_calls
                    && kind == Some(PlanKind::Failback)
                    && !run.is_some_and(|r| r.is_begun(Step::UnregisterTrunks))
            }
        }
    }

    /// Whether the plan that runs has made this node serve, and only its work in the background is left: a name server
    /// or a provider that does not answer keeps it open for an hour.
    pub fn serves_in_background(&self) -> bool {
        let serves = |run: &Run| matches!(run.kind(), PlanKind::Takeover | PlanKind::Serve) && run.is_served();
        self.run.as_ref().is_some_and(serves)
    }

    fn before_claim_unasked(&self) -> bool {
        let unasked = |run: &Run| run.kind() == PlanKind::Takeover && run.intent().asked.is_none();
        self.run.as_ref().is_some_and(unasked) && !self.claim_stands() && !self.may_stand_unread()
    }

    /// Whether the plan's claim is settled: seen to stand, or passed over by a person.
    fn claim_stands(&self) -> bool {
        let Some(run) = &self.run else { return true };
        let Some(claim) = run.step(Step::Claim) else { return true };
        let read = self.epoch_read.as_ref().and_then(|read| read.as_ref().ok()).and_then(EpochSeen::record);
        matches!(claim.state, StepState::Done | StepState::Skipped) || read.is_some_and(|record| record.id == run.id())
    }

    /// After a restart: a swap that was sent may have been applied, and the record has not been read yet.
    fn may_stand_unread(&self) -> bool {
        self.interrupted && matches!(self.standing(), Standing::NotRead | Standing::Unreadable(_))
    }

    /// An interrupted claim that does not stand is made again only on evidence that is fresh, or on a person's word.
    fn would_claim_again(&self) -> bool {
        let asked = self.run.as_ref().is_some_and(|run| run.intent().asked.is_some());
        asked || self.level(Trigger::PrimaryTroubled)
    }
}
