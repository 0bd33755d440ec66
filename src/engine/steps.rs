//! Lets the running plan go on: what its steps are asked with, and what their answers mean.

use crate::takeover::{Fact, Run, Todo};
use crate::units::journal::JournalRecord;
use crate::units::{EventName, Mode, PlanId, PlanKind, Side, Step, StepOutcome};

use super::core::Engine;
use super::event::{Ask, Channels, Happening, Order, StepReport};
use super::settings::EpochStoreKind;
use super::table::Trigger;

impl Engine {
    /// Begins whatever is ready, judges what the engine judges itself, and says when the plan is over.
    pub(super) fn advance_run(&mut self) {
        if self.interrupted {
            return;
        }
        let Some(run) = &mut self.run else { return };
        let todo = run.next(self.now);
        self.carry_out(todo);
        for (step, since) in self.run.as_ref().map(Run::to_judge).unwrap_or_default() {
            if let Some(outcome) = self.judge_step(step, since)
                && let Some(run) = &mut self.run
            {
                let facts = run.judged(step, outcome, self.now);
                self.take_facts(facts);
            }
        }
        // A step that has just ended may have made others ready.
        let todo = self.run.as_mut().map(|run| run.next(self.now)).unwrap_or_default();
        self.carry_out(todo);
        if let Some(fact) = self.run.as_mut().and_then(Run::finish) {
            self.fact_trigger(fact);
        }
    }

    fn carry_out(&mut self, todo: Vec<Todo>) {
        for todo in todo {
            match todo {
                Todo::Judge(_) => self.out.asks.push(Ask::ProbeNow),
                Todo::Ask(step, attempt, mode) => self.ask_step(step, attempt, mode),
            }
        }
        self.journal_run();
    }

    fn ask_step(&mut self, step: Step, attempt: u32, mode: Mode) {
        let Some((plan, kind)) = self.run.as_ref().map(|run| (run.id(), run.kind())) else { return };
        let order = match (step, mode) {
            (Step::Claim, Mode::Act) => self.claim_order(plan),
            (Step::HandOver, Mode::Act) => self.hand_over_order(plan),
            (Step::RedirectDns | Step::LowerTtl, _) => {
                let to = if kind == PlanKind::Takeover { Side::Backup } else { Side::Primary };
                let to = if step == Step::LowerTtl { Side::Backup } else { to };
                Order::Names { to, epoch_raw: self.memory.written.clone() }
            }
            (Step::Fence, _) => Order::Turn(self.memory.claim.as_ref().map(|claim| claim.number)),
            (Step::StopPrimary, _) => {
                let asked = self.run.as_ref().and_then(|run| run.intent().asked.clone());
                Order::StopPrimary(asked.unwrap_or_default())
            }
            (Step::Reload, _) if self.served_before() => Order::ServedBefore,
            (Step::ActionUrls | Step::Notify, _) => Order::Messages(event_of(kind)),
            _ => Order::Plain,
        };
        self.out.asks.push(Ask::Step { plan, kind, step, attempt, mode, order });
    }

    /// Whether the plan's PBX was proved to serve before a restart.
    fn served_before(&self) -> bool {
        self.memory.served_in_turn
            || self.run.as_ref().is_some_and(|run| run.kind() == PlanKind::Serve || run.was_done_before(Step::Reload))
    }

    /// Writes what the run journaled, and queues the messages of the steps that send them in the same transaction.
    pub(super) fn journal_run(&mut self) {
        let Some(run) = &mut self.run else { return };
        let (plan, kind, because) = (run.id(), run.kind(), run.because().to_owned());
        for record in run.drain_journal() {
            let channels = match &record {
                JournalRecord::Started { step: Step::ActionUrls, .. } => Some(Channels::ActionUrls),
                JournalRecord::Started { step: Step::Notify, .. } => Some(Channels::Notifications),
                _ => None,
            };
            if let Some(channels) = channels {
                let event = event_of(kind);
                let key = format!("{plan}:{event}");
                self.out.happenings.push(Happening { event, because: because.clone(), step: None, channels, key });
            }
            self.journal(plan, record);
        }
    }

    /// An answer from the world.
    pub(super) fn step_report(&mut self, report: &StepReport) {
        if self.run.as_ref().map(Run::id) != Some(report.plan) {
            return;
        }
        let outcome = match report.step {
            Step::Claim => self.claim_outcome(report),
            Step::HandOver => self.hand_over_outcome(report),
            _ => report.outcome.clone(),
        };
        let Some(run) = &mut self.run else { return };
        if report.step == Step::PrimaryServes {
            run.waits(report.step, report.outcome.text());
            return;
        }
        let (todo, facts) = run.report(report.step, report.attempt, report.mode, outcome, self.now);
        self.carry_out(todo);
        self.take_facts(facts);
    }

    /// A step's record did not reach the disk, so nothing was done: it waits as if it had never been asked.
    pub(super) fn step_not_begun(&mut self, plan: PlanId, step: Step) {
        let Some(run) = self.run.as_mut().filter(|run| run.id() == plan) else { return };
        run.not_begun(step, self.now);
        // An attempt before this one may have been sent, and its swap may yet be applied.
        let sent = run.is_begun(Step::Claim);
        if step == Step::Claim && !sent && self.memory.claim.as_ref().is_some_and(|claim| claim.id == plan) {
            self.memory.claim = self.memory.claims_before.pop();
            let dns = self.settings.epoch_store == EpochStoreKind::Dns;
            self.memory.written = self.memory.claim.as_ref().filter(|_| dns).map(ToString::to_string);
        }
    }

    fn take_facts(&mut self, facts: Vec<Fact>) {
        self.journal_run();
        for fact in facts {
            self.fact_trigger(fact);
        }
    }

    /// A step is proved.
    pub(super) fn step_done(&mut self, step: Step, proof: &str) {
        self.note("step", format!("{step} is done"), proof.to_owned(), None);
        let takeover = self.run.as_ref().is_some_and(|run| run.kind() == PlanKind::Takeover);
        match step {
            Step::Claim => self.claimed_at = Some(self.now.boot),
            Step::AcceptRegistrations if takeover => {
                self.memory.served_in_turn = true;
                self.memory.names_owed = false;
                self.of_run(Trigger::RegistrationsAccepted, proof.to_owned());
            }
            Step::HandOver => {
                self.memory.put_claim_by();
                self.memory.served_in_turn = false;
                self.of_run(Trigger::HandedOver, proof.to_owned());
            }
            Step::PrimaryServes => self.of_run(Trigger::PrimaryServes, proof.to_owned()),
            _ => {}
        }
    }

    /// What the engine judges of a step from its own checks; `None`: not yet.
    fn judge_step(&mut self, step: Step, since: std::time::Duration) -> Option<StepOutcome> {
        match step {
            Step::Confirm => self.judge_confirm(since),
            Step::Preflight => self.judge_preflight(),
            Step::PrimaryServes => self.judge_primary_serves(since),
            _ => None,
        }
    }
}

fn event_of(kind: PlanKind) -> EventName {
    if kind == PlanKind::Failback { EventName::Failback } else { EventName::Takeover }
}
