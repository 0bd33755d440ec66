//! The engine's share of the one snapshot; the daemon adds what only adapters know (PBX, DNS, queue).

use crate::decision::quorum::TargetView;
use crate::decision::tally::{Last, Tally};
use crate::decision::{May, Quorum, Targets, votes};
use crate::takeover::Run;
use crate::units::epoch::EpochSeen;
use crate::units::snapshot::{
    Alarm, Armed, Check, Count, Epoch, Internet, LastResult, Pair, Pbx, Plan, PlanStep, Target, Witness,
};
use crate::units::{Now, ProbeAnswer, StepState};

use super::core::Engine;
use super::standing::Standing;

impl Engine {
    /// The pair as the engine sees it at its last event.
    pub fn snapshot(&self) -> Pair {
        let running = self.run.as_ref().map(|run| (run, None));
        let plan = running.or_else(|| self.last_run.as_deref().map(|(run, how)| (run, Some(how.clone()))));
        // While the verdict allows nothing, it only begins anew each time: nothing counts down.
        let hold_down_until = self.hold_down_until.filter(|_| self.judgement.may != May::Not);
        let hold_down_left = hold_down_until.map(|until| until.saturating_sub(self.now.boot));
        Pair {
            name: "default".to_owned(),
            node: self.settings.node.clone(),
            role: "backup".to_owned(),
            state: self.memory.state,
            state_since: self.memory.state_since,
            verdict: Some(self.judgement.verdict),
            verdict_because: Some(self.judgement.because.to_owned()),
            degraded: self.run.as_ref().or(self.last_run.as_deref().map(|(run, _)| run)).is_some_and(Run::is_degraded)
                && self.serves(),
            armed: Some(Armed { ok: self.armed.is_empty(), because: self.armed.clone() }),
            stands_against: self.stands_against(),
            paused_until: self.memory.paused_until,
            hold_down_until: hold_down_left.and_then(|left| self.now.wall.checked_add(super::core::signed(left)).ok()),
            duty: None,
            epoch: Some(self.epoch_snapshot()),
            checks: checks_snapshot(&self.tallies, self.now),
            internet: Some(self.internet_snapshot()),
            witness: self.witness_snapshot(),
            peer: self.peer_snapshot(),
            plan: plan.map(|(run, ended)| self.plan_snapshot(run, ended)),
            pbx: Some(Pbx { expected_registrations: self.memory.expected_registrations, ..Pbx::default() }),
            passive: self.passive_snapshot(),
            data: self.data_snapshot(),
            sync: self.sync_snapshot(),
            ledger: None,
            held_back: Vec::new(),
            dns: Vec::new(),
            alarms: self
                .memory
                .alarms
                .iter()
                .map(|(name, alarm)| Alarm {
                    name: name.clone(),
                    text: alarm.text.clone(),
                    since: alarm.since,
                    acknowledged: alarm.acknowledged,
                })
                .collect(),
            queued_deliveries: 0,
        }
    }

    fn epoch_snapshot(&self) -> Epoch {
        let record = self.epoch_read.as_ref().and_then(|read| read.as_ref().ok()).and_then(EpochSeen::record);
        let error = match self.standing() {
            Standing::Unreadable(_) | Standing::Stranger(_) | Standing::Low(_) => Some(self.standing_text()),
            Standing::NotRead | Standing::Nobody | Standing::Ours | Standing::Peer { .. } => None,
        };
        Epoch {
            number: record.map(|r| r.number),
            holder: record.map(|r| r.holder.clone()),
            id: record.map(|r| r.id),
            since: record.map(|r| r.since),
            store: self.settings.epoch_store.name().to_owned(),
            error,
        }
    }

    fn internet_snapshot(&self) -> Internet {
        Internet {
            need: self.targets.need(),
            ok: self.targets.level(self.now) == Quorum::Ok,
            targets: self.each_of(&self.targets),
        }
    }

    fn witness_snapshot(&self) -> Option<Witness> {
        let (primary_site, observers) = (self.each_of(&self.site), self.each_of(&self.observers));
        (!primary_site.is_empty() || !observers.is_empty()).then_some(Witness { primary_site, observers })
    }

    fn each_of(&self, targets: &Targets) -> Vec<Target> {
        let target = |(name, view, last): (&str, TargetView, Option<&Last>)| Target {
            name: name.to_owned(),
            verdict: view.name().to_owned(),
            last: last.map(last_result),
        };
        targets.each(self.now).map(target).collect()
    }

    fn plan_snapshot(&self, run: &Run, ended: Option<String>) -> Plan {
        let steps = run.steps().iter().map(|step| {
            let running_ms = || {
                let since = step.began_wall?;
                u64::try_from(self.now.wall.duration_since(since).as_millis()).ok()
            };
            let (proof, error) = match step.state {
                StepState::Done => (Some(step.text.clone()), None),
                _ if step.text.is_empty() => (None, None),
                _ => (None, Some(step.text.clone())),
            };
            PlanStep {
                name: step.row.step,
                state: step.state,
                attempt: step.attempt,
                started: step.began_wall,
                elapsed_ms: match step.state {
                    StepState::Running => running_ms(),
                    _ => step.elapsed.and_then(|elapsed| u64::try_from(elapsed.as_millis()).ok()),
                },
                proof,
                error,
            }
        });
        Plan {
            name: run.kind(),
            id: run.id(),
            because: run.because().to_owned(),
            started: run.opened(),
            ended,
            steps: steps.collect(),
        }
    }
}

/// The checks of the primary, as a snapshot tells them.
pub fn checks_snapshot(tallies: &[Tally], now: Now) -> Vec<Check> {
    let check = |tally: &Tally| {
        let settings = tally.settings();
        Check {
            name: settings.name.0.clone(),
            kind: settings.kind.name().to_owned(),
            verdict: tally.view(now).name().to_owned(),
            decides: votes::decides(settings.kind, tallies),
            fall: Count { now: tally.failures(), need: settings.fall.get() },
            rise: Count { now: tally.successes(), need: settings.rise.get() },
            last: tally.last().map(last_result),
        }
    };
    tallies.iter().map(check).collect()
}

fn last_result(last: &Last) -> LastResult {
    let (result, seen, warning, error) = match &last.result.answer {
        ProbeAnswer::Up { seen, warning } => ("up", Some(seen.clone()), warning.clone(), None),
        ProbeAnswer::Down(why) => ("down", None, None, Some(why.clone())),
        ProbeAnswer::Unknown(why) => ("unknown", None, None, Some(why.clone())),
    };
    LastResult {
        at: last.at,
        result: result.to_owned(),
        latency_ms: u64::try_from(last.result.latency.as_millis()).unwrap_or(u64::MAX),
        seen,
        warning,
        error,
    }
}
