//! Follows a plan that a person asked for, step by step, until it ends or patience does.
//!
//! Watching changes nothing: when it ends early the plan goes on. The judgement is a function of two snapshots.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::act::halted_at;
use super::backend::Backend;
use super::console::Console;
use super::exit::{Exit, Trouble};
use super::render;
use crate::units::operator::Command;
use crate::units::snapshot::Pair;
use crate::units::{PlanId, PlanKind, State, Step, StepState};

/// From one look to the next: as fast as a person reads, and nothing to the daemon.
const PAUSE: Duration = Duration::from_millis(200);

/// How a takeover is watched by default: longer than a PBX takes to start.
const TAKEOVER_PATIENCE: Duration = Duration::from_secs(5 * 60);

/// How a plan that waits for calls to end and for the primary is watched by default.
const FAILBACK_PATIENCE: Duration = Duration::from_secs(30 * 60);

/// What came of watching.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Watched {
    /// How it ended.
    pub outcome: Outcome,
    /// Why, in one line.
    pub because: String,
    /// The last state that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

/// How a watched plan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// What was asked for is so.
    Done,
    /// It is not so, and the plan has stopped.
    Failed,
    /// The plan goes on, or the daemon no longer answers.
    Unknown,
}

impl Watched {
    /// How the program ends.
    pub fn exit(&self) -> Exit {
        match self.outcome {
            Outcome::Done => Exit::Done,
            Outcome::Failed => Exit::Failed,
            Outcome::Unknown => Exit::TimedOut,
        }
    }

    /// What to tell, unless it is done.
    pub fn trouble(&self) -> Option<Trouble> {
        let trouble = Trouble::new(self.exit(), &self.because);
        match self.outcome {
            Outcome::Done => None,
            Outcome::Failed => Some(trouble.hint("`pbx-failover explain` says why, `history` what happened")),
            Outcome::Unknown => {
                Some(trouble.effect("unknown; the plan goes on").hint("`pbx-failover status` shows how far it is"))
            }
        }
    }
}

/// How long a command is watched unless the person says otherwise.
pub fn patience(command: &Command) -> Duration {
    match command {
        Command::Failback { undo: false, .. } | Command::Continue { .. } => FAILBACK_PATIENCE,
        _ => TAKEOVER_PATIENCE,
    }
}

/// Watches until the command's plan has ended, or for `limit`.
pub fn watch(
    backend: &dyn Backend,
    console: &mut dyn Console,
    command: &Command,
    before: Option<&Pair>,
    limit: Duration,
) -> Watched {
    let start = console.elapsed();
    let mut begun = false;
    let mut silent = false;
    let mut state = None;
    let mut told = BTreeMap::new();
    loop {
        match backend.status().map(|status| status.pairs.into_iter().next()) {
            Ok(Some(pair)) => {
                (silent, state) = (false, Some(pair.state));
                tell_steps(&pair, before, &mut told, console);
                begun |= has_begun(before, &pair);
                if let Some((outcome, because)) = judge(command, &pair, begun) {
                    return Watched { outcome, because, state };
                }
            }
            Err(trouble) if !silent => {
                silent = true;
                console.say(&format!("the daemon does not answer, asking again: {}", trouble.errors.join("; ")));
            }
            Ok(None) | Err(_) => {}
        }
        if console.elapsed().saturating_sub(start) >= limit {
            let limit = render::span(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
            let because = format!("{} has not ended after {limit}", command.name());
            return Watched { outcome: Outcome::Unknown, because, state };
        }
        console.wait(PAUSE);
    }
}

fn plan_id(pair: &Pair) -> Option<PlanId> {
    pair.plan.as_ref().map(|plan| plan.id)
}

/// Whether anything moved since the command was given.
fn has_begun(before: Option<&Pair>, now: &Pair) -> bool {
    before.is_none_or(|before| {
        before.state != now.state || before.state_since != now.state_since || plan_id(before) != plan_id(now)
    })
}

/// Where a command leads when all goes well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// This node serves.
    Serve,
    /// This node stands by.
    StandBy,
    /// Wherever the halted plan led.
    Either,
}

impl Goal {
    fn of(command: &Command) -> Self {
        match command {
            Command::Takeover { .. } | Command::Failback { undo: true, .. } => Self::Serve,
            Command::Failback { undo: false, .. } | Command::Abandon { .. } => Self::StandBy,
            Command::Continue { .. } | Command::Pause { .. } | Command::Unpause | Command::Ack => Self::Either,
        }
    }
}

/// What a snapshot says of the command, once anything moved; `None` while it goes on.
fn judge(command: &Command, now: &Pair, begun: bool) -> Option<(Outcome, String)> {
    let ended = || now.plan.as_ref().and_then(|plan| plan.ended.clone());
    let holder =
        now.epoch.as_ref().and_then(|epoch| epoch.holder.as_ref()).map_or("nobody known", |holder| holder.as_str());
    let serving = || (Outcome::Done, format!("{} serves", now.node));
    let standing_by = || (Outcome::Done, format!("{} stands by; the service is held by {holder}", now.node));
    let because = now.verdict_because.as_deref().unwrap_or_default();
    let dropped = || (Outcome::Failed, ended().unwrap_or_else(|| format!("the plan was dropped: {because}")));
    match (now.state, Goal::of(command)) {
        _ if !begun => None,
        (State::Halted, _) => Some((Outcome::Failed, halted_at(now))),
        (State::Active, Goal::Serve | Goal::Either) => Some(serving()),
        (State::Active, Goal::StandBy) => {
            // Service was taken back by the time-out, or the failback was refused at its first step.
            let plan = now.plan.as_ref()?;
            let taken_back = (plan.name == PlanKind::Takeover)
                .then(|| format!("{} took the service back and serves: {}", now.node, plan.because));
            taken_back.or_else(ended).map(|because| (Outcome::Failed, because))
        }
        (State::Standby, Goal::StandBy | Goal::Either) => Some(standing_by()),
        (State::Standby, Goal::Serve) | (State::Suspect, _) => Some(dropped()),
        (State::TakingOver | State::FailingBack, _) => None,
    }
}

/// Says each step once for each state and attempt.
fn tell_steps(
    pair: &Pair,
    before: Option<&Pair>,
    told: &mut BTreeMap<Step, (StepState, u32)>,
    console: &mut dyn Console,
) {
    let Some(plan) = &pair.plan else { return };
    // The plan that ran before the command is old news, unless it is the one that goes on.
    if plan.ended.is_some() && before.and_then(plan_id) == Some(plan.id) {
        return;
    }
    for step in plan.steps.iter().filter(|step| step.state != StepState::Pending) {
        let news = (step.state, step.attempt);
        if told.insert(step.name, news) != Some(news) {
            console.say(&render::plan::step_line(step));
        }
    }
}
