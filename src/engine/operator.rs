//! What a person asks: is it allowed now, and if not, why and what to do.

use std::fmt::Write as _;

use jiff::ToSpan as _;

use crate::decision::{Quorum, View};
use crate::takeover::{Fencing, Intent, Run};
use crate::units::operator::{Command, PAUSE_MAX, REASON_CHARS_MAX, Reply, Request};
use crate::units::{NodeName, PlanKind, State, Step};

use super::core::{Engine, Once, signed};
use super::ignored;
use super::standing::not_claimable;
use super::table::Trigger;

impl Engine {
    /// Hears a person: accepted and begun, or refused with the reason.
    pub(super) fn request(&mut self, request: &Request) {
        let reason: String = request.reason.chars().take(REASON_CHARS_MAX).collect();
        self.asked_because = Some(reason.clone());
        let answer = match &request.command {
            Command::Takeover { primary_is_stopped, although_cut_off, without_claim } => {
                let intent = Intent {
                    asked: Some(reason.clone()),
                    without_claim: *without_claim,
                    although_cut_off: *although_cut_off,
                    primary_is_stopped: *primary_is_stopped,
                    ..Intent::default()
                };
                self.asked_takeover(intent)
            }
            Command::Failback { undo: true, .. } => {
                self.intent = Intent { asked: Some(reason.clone()), ..Intent::default() };
                self.fire_or_refuse(Trigger::AskedUndo, "service is being taken back")
            }
            Command::Failback { wait, cut_calls, undo: false } => {
                let intent =
                    Intent { asked: Some(reason.clone()), wait: *wait, cut_calls: *cut_calls, ..Intent::default() };
                self.asked_failback(intent)
            }
            Command::Pause { until } => self.pause(*until),
            Command::Unpause => {
                self.memory.paused_until = None;
                Ok("the pause is over".to_owned())
            }
            Command::Continue { fenced_by_hand } => self.asked_continue(*fenced_by_hand),
            Command::Abandon { to } => self.asked_abandon(to.clone(), &reason),
            Command::Ack => Ok(self.acknowledge()),
        };
        let said = match &answer {
            Ok(text) => format!("accepted: {text}"),
            Err(text) => format!("refused: {text}"),
        };
        let by = if request.by.is_empty() { "a person" } else { &request.by };
        let name = request.command.name();
        self.note("operator", format!("{by} asked for {name}: {said}"), reason, None);
        self.out.reply = Some(match answer {
            Ok(text) => Reply::Accepted(text),
            Err(text) => Reply::Refused(text),
        });
    }

    /// Why a command would be refused now; `None`: it would be accepted. Changes nothing.
    pub fn would_refuse(&mut self, command: &Command) -> Option<String> {
        let before = (self.intent.clone(), self.once.clone(), self.memory.clone(), self.asked_because.clone());
        let request = Request { command: command.clone(), reason: String::new(), by: String::new() };
        let history = self.out.batch.history.len();
        self.request(&request);
        self.out.batch.history.truncate(history);
        (self.intent, self.once, self.memory, self.asked_because) = before;
        match self.out.reply.take() {
            Some(Reply::Refused(why)) => Some(why),
            Some(Reply::Accepted(_)) | None => None,
        }
    }

    /// Whether and why a command's trigger would do nothing now.
    fn fire_or_refuse(&mut self, trigger: Trigger, accepted: &str) -> Result<String, String> {
        if self.row_for(trigger).is_some() {
            let why = self.asked_because.clone().unwrap_or_default();
            self.once.push(Once { trigger, plan: None, why });
            return Ok(accepted.to_owned());
        }
        self.intent = Intent::default();
        let state = self.state();
        Err(ignored::reason(state, trigger).map_or_else(
            || format!("not possible now in {state}; `pbx-failover status` says what runs"),
            str::to_owned,
        ))
    }

    fn asked_takeover(&mut self, intent: Intent) -> Result<String, String> {
        self.intent = intent;
        if let Err(why) = self.takeover_allowed() {
            self.intent = Intent::default();
            return Err(why);
        }
        if self.row_for(Trigger::AskedTakeover).is_none() {
            let why = self.no_takeover_here();
            self.intent = Intent::default();
            return Err(why);
        }
        // History keeps what a person did against the robot's own judgement.
        let against = self.stands_against();
        let mut accepted = "this node takes over".to_owned();
        if !against.is_empty() {
            let _ = write!(accepted, "; the robot by itself would not: {}", against.join("; "));
        }
        self.fire_or_refuse(Trigger::AskedTakeover, &accepted)
    }

    /// Why the table has nothing to do for a takeover here, and what to do.
    fn no_takeover_here(&self) -> String {
        let state = self.state();
        match state {
            State::Active if self.unproved || self.interrupted => format!(
                "this node served before its restart and waits for the epoch ({}); if you know that nobody else serves, add --without-claim",
                self.standing_text()
            ),
            State::Active => "this node serves already".to_owned(),
            State::TakingOver => {
                "a takeover is under way; where its claim waits for an answer, add --without-claim to go on without, else wait: `pbx-failover status` shows the step".to_owned()
            }
            _ => ignored::reason(state, Trigger::AskedTakeover).unwrap_or("not possible now").to_owned(),
        }
    }

    fn takeover_allowed(&mut self) -> Result<(), String> {
        let peer = self.settings.peer.clone();
        if !matches!(self.state(), State::Standby | State::Suspect | State::Halted) {
            return Ok(()); // the table decides, with its own reasons
        }
        let up: Vec<_> = self
            .tallies
            .iter()
            .filter(|t| t.settings().votes() && t.view(self.now) == View::Up)
            .map(|t| t.settings().name.0.as_str())
            .collect();
        if !up.is_empty() && !self.intent.primary_is_stopped {
            if self.heard().is_none() && self.settings.configured.fencing != Fencing::Required {
                return Err(format!(
                    "{peer} still answers ({}), and no agent there can be asked to stop it: two active servers hurt more than none; stop its PBX, then add --primary-is-stopped",
                    up.join(", ")
                ));
            }
            self.intent.switchover = self.heard().is_some();
        }
        if self.targets.level(self.now) == Quorum::TooFew && !self.intent.although_cut_off {
            return Err(
                "too few Internet targets answer: this node may be the one that is cut off; if you know better, add --although-cut-off".to_owned(),
            );
        }
        if let Err(why) = &self.store {
            return Err(format!("no takeover can be journalled: {why}"));
        }
        let obstacle = match &self.conformance {
            Some(Err(why)) => Some(format!("the epoch store does not conform: {why}")),
            _ => not_claimable(&self.standing()),
        };
        match obstacle {
            Some(why) if !self.intent.without_claim => {
                Err(format!("{why}; if you know that nobody else serves, add --without-claim"))
            }
            _ => Ok(()),
        }
    }

    fn asked_failback(&mut self, intent: Intent) -> Result<String, String> {
        let peer = self.settings.peer.clone();
        let (wait, cut) = (intent.wait, intent.cut_calls);
        self.intent = intent;
        let possible = self.row_for(Trigger::AskedFailback).is_some();
        let running = self.run.as_ref().is_some_and(|run| run.kind() == PlanKind::Failback);
        if !possible && running {
            self.intent = Intent::default();
            let why = if cut {
                "the failback does not wait for calls any more; --undo takes the service back"
            } else {
                "a failback is under way already; --cut-calls ends the waiting for calls, --undo takes the service back"
            };
            return Err(why.to_owned());
        }
        if possible
            && !running
            && !wait
            && let Err(why) = self.preflight()
        {
            self.intent = Intent::default();
            return Err(format!("{why}; see to that first, or add --wait to begin as soon as it is so"));
        }
        self.fire_or_refuse(Trigger::AskedFailback, &format!("the service goes back to {peer}"))
    }

    fn pause(&mut self, until: jiff::Timestamp) -> Result<String, String> {
        if until <= self.now.wall {
            return Err("the pause would be over already; give --for a time such as 2h".to_owned());
        }
        let latest = self.now.wall.checked_add(signed(PAUSE_MAX)).unwrap_or(jiff::Timestamp::MAX);
        // A second of grace: the asker's clock was read earlier.
        if until > latest.checked_add(1.second()).unwrap_or(latest) {
            return Err(format!("a pause lasts at most {} days; ask again when it ends", PAUSE_MAX.as_secs() / 86400));
        }
        self.memory.paused_until = Some(until);
        Ok(format!("no automatic takeover until {until}"))
    }

    fn asked_continue(&mut self, fenced_by_hand: bool) -> Result<String, String> {
        let halted = self.run.as_ref().and_then(Run::halted_at);
        if halted == Some(Step::Fence) && !fenced_by_hand {
            return Err(format!("halted at fence: see that {} is off, then add --fenced-by-hand", self.settings.peer));
        }
        let step = halted.map_or("the halted step", Step::name);
        let accepted = match halted {
            Some(Step::Fence) => "fence counts as done by your word; the plan goes on".to_owned(),
            _ => format!("{step} is tried again, and the plan goes on"),
        };
        self.fire_or_refuse(Trigger::AskedContinue, &accepted)
    }

    fn asked_abandon(&mut self, to: Option<NodeName>, reason: &str) -> Result<String, String> {
        let target = to.clone().unwrap_or_else(|| self.settings.peer.clone());
        if target == self.settings.node {
            return Err(
                "the service cannot be abandoned to this very node; `pbx-failover takeover` keeps it".to_owned()
            );
        }
        if target != self.settings.peer {
            return Err(format!("{target} is not of this pair; give --to {}", self.settings.peer));
        }
        self.intent = Intent { asked: Some(reason.to_owned()), hand_to: to, ..Intent::default() };
        self.fire_or_refuse(Trigger::AskedAbandon, &format!("this node becomes passive and {target} holds the service"))
    }

    fn acknowledge(&mut self) -> String {
        let open = self.memory.alarms.values_mut().filter(|alarm| !alarm.acknowledged);
        let count = open.map(|alarm| alarm.acknowledged = true).count();
        match count {
            0 => "no alarm is repeating".to_owned(),
            1 => "1 alarm is silenced".to_owned(),
            n => format!("{n} alarms are silenced"),
        }
    }
}
