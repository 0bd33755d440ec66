//! Commands that act: shows what will be done, asks, sends, then watches.
//!
//! The order is the same for all of them: preview, refusal, consent, request, reply. Whether the robot obeys is the
//! daemon's decision alone; what is refused here would be refused there.

use std::time::Duration;

use jiff::{Timestamp, Unit};
use serde::Serialize;

use super::args::{Consent, typed_reason};
use super::exit::{Exit, Trouble};
use super::watch::{self, Watched};
use super::{Call, Stop, json, render};
use crate::units::operator::{Command, Reply, Request};
use crate::units::snapshot::{Pair, Plan, Status};
use crate::units::{PlanKind, State, StepState};

/// What is recorded where a person need not say why, and did not.
const NO_REASON: &str = "no reason given";

/// What `--json` prints of an act.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    reply: &'a Reply,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    watched: Option<&'a Watched>,
}

/// When a pause ends: whole seconds, as the protocol has them.
pub fn pause_end(now: Timestamp, length: Duration) -> Timestamp {
    let end = now.checked_add(length).unwrap_or(Timestamp::MAX);
    end.round(Unit::Second).unwrap_or(end)
}

impl Call<'_> {
    /// Carries one command to the daemon, if the person agrees.
    pub(super) fn act(&mut self, command: Command, consent: &Consent) -> Result<Exit, Stop> {
        let before = self.backend.status()?;
        let refused = self.show(&command, consent, &before)?;
        if consent.dry_run {
            return Ok(if refused.is_some() { Exit::Refused } else { Exit::Done });
        }
        if let Some(why) = refused {
            return Err(Trouble::new(Exit::Refused, why).into());
        }
        let reason = self.agree(&command, consent)?;
        let request = Request { command, reason, by: String::new() };
        let reply = self.backend.operate(&request)?;
        let text = match &reply {
            Reply::Accepted(text) => text,
            Reply::Refused(why) => return Err(Trouble::new(Exit::Refused, why).into()),
        };
        if consent.no_watch || !is_dangerous(&request.command) {
            self.answer(&Told { reply: &reply, watched: None }, || text.clone())?;
            return Ok(Exit::Done);
        }
        self.console.say(text);
        if self.console.can_ask() {
            self.console.say("(Ctrl-C ends the watching, not the plan)");
        }
        let limit = consent.timeout.unwrap_or_else(|| watch::patience(&request.command));
        let watched = watch::watch(self.backend, self.console, &request.command, first_pair(&before), limit);
        let exit = watched.exit();
        if self.global.json {
            self.console.out(&json(&Told { reply: &reply, watched: Some(&watched) })?)?;
            return Ok(exit);
        }
        if let Some(trouble) = watched.trouble() {
            return Err(trouble.into());
        }
        self.console.out(&watched.because)?;
        Ok(exit)
    }

    /// Says what would be done; gives back why it would be refused.
    fn show(&mut self, command: &Command, consent: &Consent, before: &Status) -> Result<Option<String>, Stop> {
        let (text, value, refused) = match command {
            _ if first_pair(before).is_some_and(|pair| !is_of(command, &pair.role)) => {
                // The daemon has the words for it: which host this is, and where the command belongs.
                let preview = self.backend.preview(plan_of(command))?;
                let refused = preview.refused.clone().unwrap_or_else(|| "this host runs no plan".to_owned());
                (refused.clone(), json(&preview)?, Some(refused))
            }
            Command::Takeover { .. } | Command::Failback { undo: false, .. } => {
                let preview = self.backend.preview(plan_of(command))?;
                // A flag may be just what overcomes the refusal: then the daemon decides.
                let refused = preview.refused.clone().filter(|_| !is_flagged(command));
                (render::plan::preview(&preview), json(&preview)?, refused)
            }
            _ => {
                let would = would_do(command, first_pair(before), &self.console.page());
                let value = json(&serde_json::json!({ "command": command, "would": would }))?;
                (would, value, None)
            }
        };
        if consent.dry_run {
            self.console.out(if self.global.json { &value } else { &text })?;
        } else if refused.as_ref() != Some(&text) {
            self.console.say(&text);
        }
        Ok(refused)
    }

    /// The person's agreement and reason, from flags or by asking.
    fn agree(&mut self, command: &Command, consent: &Consent) -> Result<String, Stop> {
        if !is_dangerous(command) {
            return Ok(consent.reason.clone().unwrap_or_else(|| NO_REASON.to_owned()));
        }
        let name = command.name();
        let agreed = consent.yes && consent.reason.is_some();
        if !agreed && !self.console.can_ask() {
            let error = format!("`{name}` acts on the service and nobody can be asked: this is no terminal");
            let trouble =
                Trouble::new(Exit::Usage, error).hint("give --yes and --reason TEXT; --dry-run only shows it");
            return Err(trouble.into());
        }
        let reason = if let Some(reason) = &consent.reason {
            reason.clone()
        } else {
            let typed = self.console.ask("why? (recorded)").unwrap_or_default();
            typed_reason(&typed).map_err(|why| Trouble::new(Exit::Usage, format!("no reason given: {why}")))?
        };
        if !consent.yes && self.console.ask(&format!("{name}: type yes to go on:")).as_deref() != Some("yes") {
            return Err(Trouble::new(Exit::Failed, format!("{name} was not agreed to; nothing was done")).into());
        }
        Ok(reason)
    }
}

/// Whether a host of this role can do it: plans and pauses are the robot's; an agent can announce a stop of its PBX.
fn is_of(command: &Command, role: &str) -> bool {
    match role {
        "observer" => false,
        "primary" => matches!(command, Command::Pause { .. } | Command::Unpause | Command::Ack),
        _ => true,
    }
}

fn plan_of(command: &Command) -> PlanKind {
    match command {
        Command::Failback { .. } => PlanKind::Failback,
        _ => PlanKind::Takeover,
    }
}

/// Whether a command moves service, so that it is asked for twice.
fn is_dangerous(command: &Command) -> bool {
    match command {
        Command::Takeover { .. } | Command::Failback { .. } | Command::Continue { .. } | Command::Abandon { .. } => {
            true
        }
        Command::Pause { .. } | Command::Unpause | Command::Ack => false,
    }
}

/// Whether a flag says more than the bare command.
fn is_flagged(command: &Command) -> bool {
    match command {
        Command::Takeover { primary_is_stopped, although_cut_off, without_claim } => {
            *primary_is_stopped || *although_cut_off || *without_claim
        }
        Command::Failback { wait, cut_calls, undo } => *wait || *cut_calls || *undo,
        _ => false,
    }
}

fn first_pair(status: &Status) -> Option<&Pair> {
    status.pairs.first()
}

/// What a command without a plan of its own would do, from where we stand.
fn would_do(command: &Command, pair: Option<&Pair>, page: &render::Page) -> String {
    let plan = pair.and_then(|pair| pair.plan.as_ref()).filter(|plan| plan.ended.is_none());
    let stands = match (pair, plan) {
        (Some(pair), Some(plan)) => format!("{} is {}, {}", pair.node, pair.state, at_step(plan)),
        (Some(pair), None) => format!("{} is {}", pair.node, pair.state),
        (None, _) => "no pair is configured".to_owned(),
    };
    let is_agent = pair.is_some_and(|pair| pair.role == "primary");
    let does = match command {
        Command::Pause { until } if is_agent => {
            let until = page.moment(*until);
            return format!(
                "announces that the PBX here is stopped until {until}: once it has heard of it, the backup takes nothing over by itself meanwhile; {stands}"
            );
        }
        Command::Unpause if is_agent => {
            "takes the announced stop of the PBX here back; a pause of the backup ends by `unpause` there"
        }
        Command::Continue { fenced_by_hand: true } => "goes on with the halted plan; you vouch that the primary is off",
        Command::Continue { fenced_by_hand: false } => "goes on with the halted plan from the step that halted it",
        Command::Abandon { .. } => "stops the PBX here, proves it, stands by and hands the epoch over",
        Command::Failback { .. } => "breaks the failback off and takes service back: the epoch is claimed again",
        Command::Takeover { .. } => "makes this node serve",
        Command::Unpause => "ends the pause: automatic takeovers are possible again",
        Command::Ack => "silences the alarms that repeat; what they tell of stays as it is",
        Command::Pause { until } => {
            return format!("no automatic takeover until {}; {stands}", page.moment(*until));
        }
    };
    let to = match command {
        Command::Abandon { to: Some(node) } => format!(" to {node}"),
        Command::Abandon { to: None } => " to the primary".to_owned(),
        _ => String::new(),
    };
    format!("{does}{to}; {stands}")
}

fn at_step(plan: &Plan) -> String {
    let open =
        |state| matches!(state, StepState::Running | StepState::Failed | StepState::Unknown | StepState::Pending);
    match plan.steps.iter().find(|step| open(step.state)) {
        Some(step) => format!("{} at step {}", plan.name, step.name),
        None => plan.name.to_string(),
    }
}

/// Where a plan stopped, for people: used when a watched plan halts.
pub(super) fn halted_at(pair: &Pair) -> String {
    let step = pair.plan.as_ref().and_then(|plan| {
        plan.steps.iter().find(|step| matches!(step.state, StepState::Failed | StepState::Unknown | StepState::Running))
    });
    match step {
        Some(step) => {
            let why = step.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            format!("{} at step {}{why}", State::Halted, step.name)
        }
        None => State::Halted.to_string(),
    }
}
