//! The steps that are proved by our own checks: confirm, preflight, primary_serves.

use std::time::Duration;

use crate::decision::{May, Quorum, View, Votes};
use crate::units::{Condition, ProbeAnswer, StepOutcome, Verdict};

use super::core::Engine;
use super::settings::{EpochStoreKind, PrimaryStart};
use super::standing::not_claimable;

impl Engine {
    /// Internet and votes, from answers to questions asked since the step began.
    ///
    /// A single fresh answer of the primary is enough to stop: the counts only ever delay, they do not outvote it.
    /// When a person asked, this step only reports.
    pub(super) fn judge_confirm(&self, since: Duration) -> Option<StepOutcome> {
        if let Some(reason) = self.run.as_ref().and_then(|run| run.intent().asked.as_deref()) {
            return Some(StepOutcome::done(format!("asked for: {reason}; {}", self.votes_text())));
        }
        let down: Vec<_> =
            self.tallies.iter().filter(|t| t.settings().votes() && t.view(self.now) == View::Down).collect();
        for tally in &down {
            if let Some(ProbeAnswer::Up { seen, .. }) = tally.answer_since(since) {
                return Some(StepOutcome::failed(format!("{} answers again: {seen}", tally.settings().name)));
            }
        }
        if let Some(pbx) = self.heard_since(since).and_then(|heard| heard.beat.pbx.as_ref())
            && pbx.condition == Condition::Serves
            && self.judgement.verdict == Verdict::PathCut
        {
            return Some(StepOutcome::failed("its own agent says that its PBX serves"));
        }
        // Observers that do not answer in time have no view.
        let late = self.now.since(since) > self.settings.confirm_within;
        let heard_all = self.observers.all_answered_since(since) || late;
        match self.targets.level_since(since) {
            Quorum::TooFew => return Some(StepOutcome::failed("too few Internet targets answer now")),
            Quorum::Ok if heard_all && down.iter().all(|t| t.answer_since(since).is_some()) => {
                return Some(match self.judgement.may {
                    May::Not => StepOutcome::failed(format!("the verdict is {}", self.judgement.verdict)),
                    May::Act | May::ActAfter(_) => StepOutcome::done(format!(
                        "asked once more: {} still down, the Internet answers",
                        down.iter().map(|t| t.settings().name.0.as_str()).collect::<Vec<_>>().join(", ")
                    )),
                });
            }
            Quorum::Ok | Quorum::NotYet => {}
        }
        late.then(|| StepOutcome::failed("no fresh answers came in time"))
    }

    /// Failback begins only while the primary answers, unless our own command starts it.
    pub(super) fn judge_preflight(&mut self) -> Option<StepOutcome> {
        match self.preflight() {
            Ok(proof) => Some(StepOutcome::Done(proof)),
            Err(why) => {
                if let Some(run) = &mut self.run {
                    run.waits(crate::units::Step::Preflight, &format!("waiting: {why}"));
                }
                None
            }
        }
    }

    /// Why a failback may begin now, or why not: the primary answers, and the epoch could be handed over.
    pub(super) fn preflight(&self) -> Result<String, String> {
        let unclaimed = self.memory.written.is_none() && self.settings.epoch_store == EpochStoreKind::Dns;
        // Where the claim never came to stand, the next turn is the other node's all the same.
        if let Some(why) = not_claimable(&self.standing())
            && !unclaimed
        {
            return Err(format!("{why}: the service could not be handed over now"));
        }
        if self.votes().votes == Votes::AllUp {
            return Ok(self.votes_text());
        }
        if self.agent_starts() {
            return Ok(format!(
                "the agent of {} starts its PBX as soon as the service is handed over",
                self.settings.peer
            ));
        }
        match self.settings.primary_start {
            PrimaryStart::ByCommand => Ok("failback.start_primary will start the primary".to_owned()),
            PrimaryStart::ByItself => {
                let how = match self.heard() {
                    Some(_) => {
                        "; try to start its PBX there once: the guard holds it back, and its agent starts it after the hand-over"
                    }
                    None => "",
                };
                Err(format!("{} does not answer ({}){how}", self.settings.peer, self.votes_text()))
            }
        }
    }

    /// Every vote up, by answers to questions asked after the hand-over.
    pub(super) fn judge_primary_serves(&self, since: Duration) -> Option<StepOutcome> {
        let fresh = self
            .tallies
            .iter()
            .filter(|t| t.settings().votes())
            .all(|t| t.view(self.now) == View::Up && matches!(t.answer_since(since), Some(ProbeAnswer::Up { .. })));
        if fresh {
            return Some(StepOutcome::done(self.votes_text()));
        }
        // While we are cut off or unsure its silence proves nothing: it may well serve.
        if matches!(self.judgement.verdict, Verdict::Unsure | Verdict::WeAreCutOff) {
            return None;
        }
        let limit = self.run.as_ref().map_or(Duration::ZERO, |run| run.limits().wait_for_primary);
        (self.now.since(since) >= limit)
            .then(|| StepOutcome::failed(format!("after {} s: {}", limit.as_secs(), self.votes_text())))
    }

    /// Each vote and what it says, for people.
    pub(super) fn votes_text(&self) -> String {
        let votes = self.tallies.iter().filter(|t| t.settings().votes());
        votes.map(|t| format!("{} {}", t.settings().name, t.view(self.now).name())).collect::<Vec<_>>().join(", ")
    }
}
