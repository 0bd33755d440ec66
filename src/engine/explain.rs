//! Why it did or did not take over, in plain sentences, with each input.

use crate::decision::quorum::TargetView;
use crate::decision::votes;
use crate::takeover::Run;
use crate::units::snapshot::Explanation;
use crate::units::{ProbeAnswer, State, Step, StepState};

use super::core::Engine;
use super::standing::Standing;

impl Engine {
    /// The whole of `explain`.
    pub fn explain(&self) -> Explanation {
        let blocks = self.blocks();
        Explanation { answer: self.answer(&blocks), inputs: self.inputs(), hints: self.hints(), blocks }
    }

    fn answer(&self, blocks: &[String]) -> String {
        let (node, peer) = (&self.settings.node, &self.settings.peer);
        let verdict = self.judgement.verdict;
        match self.memory.state {
            State::Standby => match verdict {
                crate::units::Verdict::PrimaryUp => format!("{node} does not take over: {peer} is up"),
                _ => format!("{node} does not take over: {verdict}, because {}", self.judgement.because),
            },
            State::Suspect if blocks.is_empty() => {
                format!(
                    "{node} takes over as soon as the hold-down has run out: {verdict}, because {}",
                    self.judgement.because
                )
            }
            State::Suspect => format!("{node} does not take over although {peer} is in trouble: {}", blocks.join("; ")),
            State::TakingOver => format!("{node} is taking over: {}", self.plan_because()),
            State::Active => format!("{node} serves: {}", self.plan_because()),
            State::FailingBack => format!("{node} is giving the service back: {}", self.plan_because()),
            State::Halted => format!("{node} waits for a person: {}", self.halted_because()),
        }
    }

    fn plan_because(&self) -> String {
        let run = self.run.as_ref().or(self.last_run.as_deref().map(|(run, _)| run));
        run.map_or_else(|| "it did so before the restart".to_owned(), |run| run.because().to_owned())
    }

    fn halted_because(&self) -> String {
        let step = self.run.as_ref().and_then(|run| run.step(run.halted_at()?));
        step.map_or_else(
            || self.plan_because(),
            |step| format!("step {} did not succeed: {}", step.row.step, step.text),
        )
    }

    fn inputs(&self) -> Vec<String> {
        let mut lines = Vec::new();
        lines.push(format!("verdict {}: {}", self.judgement.verdict, self.judgement.because));
        let up = self.targets.each(self.now).filter(|(_, view, _)| *view == TargetView::Up).count();
        lines.push(format!("Internet: {up} targets answer, {} are needed", self.targets.need()));
        for (name, view, last) in self.targets.each(self.now) {
            let view = match view {
                TargetView::None | TargetView::Old => "no view",
                TargetView::Unknown => "could not be asked",
                TargetView::Up => "answers",
                TargetView::Down => "does not answer",
            };
            lines.push(format!("  {name} {view}{}", last.map(|l| told(&l.result.answer)).unwrap_or_default()));
        }
        for tally in &self.tallies {
            let settings = tally.settings();
            let weight = match (settings.votes(), votes::decides(settings.kind, &self.tallies)) {
                (false, _) => "evidence",
                (true, false) => "votes",
                (true, true) => "votes, decides",
            };
            lines.push(format!(
                "check {} ({weight}): {}, {} of {} failures, {} of {} successes{}",
                settings.name,
                tally.view(self.now).name(),
                tally.failures(),
                settings.fall,
                tally.successes(),
                settings.rise,
                tally.last().map(|l| told(&l.result.answer)).unwrap_or_default(),
            ));
        }
        lines.extend(self.others_text());
        lines.push(format!("epoch: {}", self.standing_text()));
        lines.extend(self.passive_text());
        lines.extend(self.data_text());
        lines.extend(self.sync_text());
        for reason in &self.armed {
            lines.push(format!("not armed: {reason}"));
        }
        if let Some(run) = &self.run {
            for step in run.steps().iter().filter(|s| s.state != StepState::Pending) {
                let text = if step.text.is_empty() { String::new() } else { format!(": {}", step.text) };
                lines.push(format!("plan {} step {} {}{text}", run.kind(), step.row.step, step.state.name()));
            }
        }
        lines
    }

    /// What lets a halted plan go on.
    fn goes_on(&self, halted: Option<Step>) -> String {
        match halted {
            // A PBX that hangs never says that no call is up: waiting again would end here again.
            Some(Step::Drain) => {
                "`pbx-failover failback --cut-calls` goes on without waiting for calls, `pbx-failover continue` waits once more"
                    .to_owned()
            }
            Some(Step::Fence) => format!(
                "`pbx-failover continue --fenced-by-hand` goes on when you are certain that {} is off",
                self.settings.peer
            ),
            _ => "`pbx-failover continue` goes on when you have proved the step".to_owned(),
        }
    }

    fn hints(&self) -> Vec<String> {
        let mut hints = Vec::new();
        match self.memory.state {
            State::Suspect if !self.blocks().is_empty() => {
                hints.push(
                    "`pbx-failover takeover` takes over by your word, and its dry run says what stands against it"
                        .to_owned(),
                );
            }
            State::Active => hints.push(format!(
                "`pbx-failover failback` gives the service back to {} once it is well",
                self.settings.peer
            )),
            State::FailingBack => {
                hints.push("`pbx-failover failback --undo` takes the service back".to_owned());
            }
            State::Halted => {
                let step = self.run.as_ref().and_then(Run::halted_at);
                hints.push(format!("{}; `pbx-failover abandon` gives up", self.goes_on(step)));
            }
            _ => {}
        }
        hints.extend(self.passive_hint());
        hints.extend(self.data_hints());
        if let Standing::Low(what) = self.standing() {
            hints.push(format!(
                "{what}: see who serves, then put the last record back; a missing one may be accepted with `pbx-failover check --accept-epoch-record`; in an emergency `pbx-failover takeover --without-claim` works"
            ));
        }
        hints
    }
}

pub(super) fn told(answer: &ProbeAnswer) -> String {
    match answer {
        ProbeAnswer::Up { seen, warning: None } => format!(", last: {seen}"),
        ProbeAnswer::Up { seen, warning: Some(warning) } => format!(", last: {seen}, but {warning}"),
        ProbeAnswer::Down(why) => format!(", last: {why}"),
        ProbeAnswer::Unknown(why) => format!(", last: not known, {why}"),
    }
}
