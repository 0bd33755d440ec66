//! Carries a row of the state table out: the only place where the state changes and where plans open and close.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::decision::May;
use crate::takeover::{Fact, Intent, Plan, Run};
use crate::units::journal::JournalRecord;
use crate::units::{EventName, PlanId, PlanKind, State, Step};

use super::core::{Engine, Once, signed};
use super::event::{Ask, Channels};
use super::memory::Alarm;
use super::table::{Action, Guard, Row, Trigger};

/// A hold-down that begins anew is at least so long, so that a plan which cannot begin is not tried in a circle.
const HOLD_DOWN_AGAIN_MIN: Duration = Duration::from_secs(1);

impl Engine {
    /// Makes one transition: the only place where the state changes.
    pub(super) fn transit(&mut self, row: &'static Row, why: &str) {
        let from = self.memory.state;
        let because = if why.is_empty() { row.because.to_owned() } else { format!("{} ({why})", row.because) };
        let quiet = self.is_quiet(row);
        if row.to != from {
            self.memory.state = row.to;
            self.memory.state_since = self.now.wall;
            self.hold_down_until = None;
            self.blocked_said = None;
        }
        if !quiet {
            let what = if row.to == from {
                format!("stays {from}: {}", row.on.name())
            } else {
                format!("{from} -> {}", row.to)
            };
            self.note("transition", what, because.clone(), Some(row.number));
        }
        if row.on == Trigger::EpochUnreadable {
            self.unreadable_said = true;
        }
        if row.guard == Guard::AfterClaimUnsaid {
            self.primary_back_said = self.run.as_ref().map(Run::id);
        }
        for action in row.does {
            self.perform(*action, row, &because);
        }
        if row.to == State::Active && from == State::TakingOver {
            self.claimed_at = None;
        }
    }

    /// Row 13 says only once what blocks; a row that stays says nothing again while its alarm stands.
    fn is_quiet(&mut self, row: &Row) -> bool {
        let alarmed = |action: &Action| match action {
            Action::Alarm(event) => self.memory.alarms.contains_key(event.name()),
            _ => false,
        };
        if row.from == row.to && row.does.iter().any(alarmed) {
            return true;
        }
        if row.guard != Guard::MayNotAct {
            return false;
        }
        let blocks = self.blocks().join("; ");
        let said = self.blocked_said.as_deref() == Some(&blocks);
        if !said {
            self.note("blocked", "no takeover now".to_owned(), blocks.clone(), Some(row.number));
        }
        self.blocked_said = Some(blocks);
        true
    }

    fn perform(&mut self, action: Action, row: &Row, because: &str) {
        match action {
            Action::StartHoldDown => {
                let again = row.from != State::Standby;
                let hold = self.hold_down();
                let hold = match self.judgement.may {
                    // What is waited for may end before a whole hold-down.
                    May::ActAfter(wait) if row.guard == Guard::MayNotAct => {
                        let stood = self.allowed_since.map_or(Duration::ZERO, |since| self.now.since(since));
                        hold.min(wait.saturating_sub(stood))
                    }
                    _ => hold,
                };
                let hold = if again { hold.max(HOLD_DOWN_AGAIN_MIN) } else { hold };
                self.hold_down_until = Some(self.now.boot + hold);
                self.out.asks.push(Ask::ProbeNow);
            }
            Action::ResetCounts => self.reset_counts(),
            Action::Open(kind) => self.open_run(kind, because),
            Action::DropPlan => self.close_run(&format!("dropped: {because}")),
            Action::ClosePlan => self.close_run("done"),
            Action::Resume if self.run.is_none() => self.open_run(PlanKind::Serve, because),
            Action::Resume => self.interrupted = false,
            Action::ServeAgain => {
                self.pbx_silent = None;
                if let Some(run) = &mut self.run {
                    run.look_again(&[Step::Reload, Step::AcceptRegistrations, Step::RegisterTrunks]);
                }
            }
            Action::TryHaltedStep => self.try_halted_step(),
            Action::PassClaim => {
                self.intent = Intent::default();
                self.pass_claim();
            }
            Action::PassDrain => {
                self.intent = Intent::default();
                if let Some(run) = &mut self.run {
                    run.intent_mut().cut_calls = true;
                    run.pass(Step::Drain, "a person said not to wait for calls");
                }
            }
            Action::RestoreEpoch => self.restore_epoch(),
            Action::StartHoldOff => {
                let withdrawn = self.run.as_ref().is_some_and(|run| run.kind() == PlanKind::Withdraw);
                let hold_off = if withdrawn { self.hold_off_max() } else { self.settings.hold_off };
                self.memory.hold_off_until = self.now.wall.checked_add(signed(hold_off)).ok();
            }
            Action::Tell(event) => self.tell(event, because.to_owned(), Channels::All),
            Action::Alarm(event) => self.raise(event, because.to_owned()),
            Action::EndAlarm(event) => {
                self.memory.alarms.remove(event.name());
            }
            Action::Note => {}
        }
    }

    pub(super) fn open_run(&mut self, kind: PlanKind, because: &str) {
        if let Some(run) = &self.run {
            let how = format!("{} for a {kind}: {because}", if run.is_served() { "left" } else { "dropped" });
            self.memory.names_owed |= run.owes_names();
            self.close_run(&how);
        }
        let intent = std::mem::take(&mut self.intent);
        if kind == PlanKind::Retreat {
            self.memory.served_in_turn = false;
        }
        let id = PlanId(self.new_id());
        let json = serde_json::to_value(&intent).unwrap_or_default();
        let plan = Plan { kind, rows: (self.tables.plans)(kind) };
        let run =
            Run::open(plan, id, because.to_owned(), intent, self.settings.configured, self.settings.limits, self.now);
        self.memory.plan = Some(id);
        self.pbx_silent = None;
        self.claimed_at = None;
        self.claim_from = None;
        self.interrupted = false;
        self.unproved = false;
        self.journal(
            id,
            JournalRecord::Opened {
                kind,
                because: because.to_owned(),
                config: self.settings.config_text.clone(),
                intent: json,
            },
        );
        let unclaimed = kind == PlanKind::Takeover && run.intent().without_claim;
        self.run = Some(run);
        if unclaimed {
            self.without_claim();
            self.claimed_at = Some(self.now.boot);
        }
    }

    /// A fence counts as done by the word of a person who has seen to it; any other step proves itself.
    fn try_halted_step(&mut self) {
        let said = format!("a person said: {}", self.asked_because.clone().unwrap_or_default());
        let Some(run) = &mut self.run else { return };
        match run.halted_at() {
            Some(Step::Fence) => run.pass(Step::Fence, &said),
            _ => run.retry(&said),
        }
    }

    pub(super) fn close_run(&mut self, how: &str) {
        self.journal_run();
        if let Some(run) = self.run.take() {
            self.journal(run.id(), JournalRecord::Closed { how: how.to_owned() });
            if how != "done" {
                self.out.asks.push(Ask::Forget(run.id()));
            } else if matches!(run.kind(), PlanKind::Failback | PlanKind::Withdraw) {
                self.memory.names_owed = false;
            }
            self.last_run = Some(Arc::new((run, how.to_owned())));
        }
        self.claimed_at = None;
        self.interrupted = false;
    }

    /// An alarm that stands already is not told again: it repeats by itself until somebody acknowledges it.
    pub(super) fn raise(&mut self, event: EventName, text: String) {
        if let Some(alarm) = self.memory.alarms.get_mut(event.name()) {
            alarm.text = text;
            return;
        }
        let next = self.now.wall.checked_add(signed(self.settings.repeat)).unwrap_or(Timestamp::MAX);
        let since = self.now.wall;
        self.memory
            .alarms
            .insert(event.name().to_owned(), Alarm { text: text.clone(), since, acknowledged: false, said: 1, next });
        self.tell(event, text, Channels::All);
    }

    pub(super) fn repeat_alarms(&mut self) {
        let now = self.now.wall;
        let next = now.checked_add(signed(self.settings.repeat)).unwrap_or(Timestamp::MAX);
        let mut due = Vec::new();
        for event in EventName::ALL {
            if let Some(alarm) = self.memory.alarms.get_mut(event.name())
                && !alarm.acknowledged
                && now >= alarm.next
            {
                alarm.said += 1;
                alarm.next = next;
                due.push((
                    event,
                    format!("{} (said {} times; `pbx-failover ack` silences it)", alarm.text, alarm.said),
                ));
            }
        }
        for (event, text) in due {
            self.tell(event, text, Channels::Notifications);
        }
    }

    pub(super) fn fact_trigger(&mut self, fact: Fact) {
        match fact {
            Fact::StepDone(step, proof) => self.step_done(step, &proof),
            Fact::Page(step, why) => {
                let text = format!("{step} is being tried again: {why}");
                self.tell_of_step(EventName::StepRetries, Some(step), text, Channels::Notifications);
            }
            Fact::GaveUp(step, why) => {
                self.note("step", format!("{step} was given up"), why.clone(), None);
                let text = format!("{step} was given up: {why}");
                self.tell_of_step(EventName::StepGivenUp, Some(step), text, Channels::Notifications);
            }
            Fact::Dropped(why) => self.of_run(Trigger::ConfirmFailed, why),
            Fact::ClaimLost(why) => self.of_run(Trigger::ClaimLost, why),
            Fact::Halted(step, why) => self.of_run(Trigger::PlanHalted, format!("{step}: {why}")),
            Fact::WaitOver(why) => {
                self.intent = Intent { asked: Some(format!("taken back: {why}")), ..Intent::default() };
                self.of_run(Trigger::PrimaryNotBack, why);
            }
            Fact::Over => self.of_run(Trigger::PlanDone, String::new()),
        }
    }

    /// A trigger that the running plan causes; it is void when that plan is not the running one any more.
    pub(super) fn of_run(&mut self, trigger: Trigger, why: String) {
        let plan = self.run.as_ref().map(Run::id);
        self.once.push(Once { trigger, plan, why });
    }
}
