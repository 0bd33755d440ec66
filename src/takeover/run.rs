//! One plan's run: which step is next, what is journaled before it, what an outcome leads to.
//!
//! It performs nothing and knows no clock: [`Run::next`] says what to do, [`Run::report`] takes what came of it.
//! Every record that either of them makes must be on disk before the acts that came with it begin.

use std::time::Duration;

use jiff::Timestamp;

use crate::units::journal::JournalRecord;
use crate::units::{Mode, Now, PlanId, PlanKind, Step, StepOutcome, StepState};

use super::intent::{Configured, Fencing, Intent, UnsafeData};
use super::table::{Looking, Patience, Row};

mod resume;
#[cfg(test)]
mod shape;

/// A person is paged at this attempt of a step that is tried for ever, or in the background.
const PAGE_AT_TRY: u32 = 3;
/// And, for ever, again at every so many-th attempt: about a quarter of an hour with the longest pause.
const PAGE_AGAIN_EVERY: u32 = 90;
/// First pause before trying again; it doubles.
const BACK_OFF_FIRST: Duration = Duration::from_millis(200);
/// Longest pause while phones wait: the outage must not grow by our patience.
const BACK_OFF_MAX: Duration = Duration::from_secs(10);
/// Longest pause of a background step.
const BACK_OFF_BACKGROUND_MAX: Duration = Duration::from_secs(60);
/// A background step is given up after so long.
const BACKGROUND_FOR: Duration = Duration::from_secs(3600);
/// A refused trunk (401, 403) is tried so often fast; providers ban those who insist.
const REFUSALS_FAST: u32 = 3;
/// And then so seldom.
const REFUSED_PAUSE: Duration = Duration::from_secs(600);
/// After its calls have ended, the primary's PBX has so long to stop.
const STOP_MAX: Duration = Duration::from_secs(120);
/// Why a claim of a switchover is not sent any more.
const TOO_LATE: &str = "the record could not be claimed in time; the primary's agent lets its PBX serve again, as far as its own settings do";
/// How often a wait (for calls to end, for votes) is asked again.
const WAIT_PAUSE: Duration = Duration::from_secs(1);

/// What shall be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Todo {
    /// Ask the world; answer through [`Run::report`] with the same step, attempt and mode.
    Ask(Step, u32, Mode),
    /// Ask the primary's checks and the Internet once more, now; the engine judges.
    Judge(Step),
}

/// What an outcome led to, for the state table and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A step is proved.
    StepDone(Step, String),
    /// A step must be tried again and a person should know.
    Page(Step, String),
    /// A step was given up; the plan goes on without it.
    GaveUp(Step, String),
    /// The plan is to be dropped: it was not so any more.
    Dropped(String),
    /// Another holds the epoch.
    ClaimLost(String),
    /// The plan waits for a person.
    Halted(Step, String),
    /// The primary did not come up in time.
    WaitOver(String),
    /// Every step is over.
    Over,
}

/// One step of a run.
#[derive(Debug, Clone)]
pub struct StepRun {
    /// Its row.
    pub row: &'static Row,
    /// Where it stands.
    pub state: StepState,
    /// How often it was acted upon.
    pub attempt: u32,
    /// When it began, by the wall clock.
    pub began_wall: Option<Timestamp>,
    /// From its beginning to its end.
    pub elapsed: Option<Duration>,
    /// What proves it, or why it is not done.
    pub text: String,
    began: Option<Duration>,
    /// When it was proved; unknown after a restart.
    proved: Option<Duration>,
    flight: Flight,
    tries: u32,
    refusals: u32,
    next_try: Option<Duration>,
    done_before: bool,
    /// A person was paged because of it, in this plan.
    paged: bool,
}

impl StepRun {
    /// Neither over nor asked at this moment.
    fn is_idle(&self) -> bool {
        matches!(self.state, StepState::Pending | StepState::Running) && self.flight == Flight::None
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flight {
    None,
    Asked(Mode),
    Judged,
}

/// How long the plan's waits may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `failback.drain`.
    pub drain: Duration,
    /// `failback.wait_for_primary`.
    pub wait_for_primary: Duration,
    /// So long the primary's PBX is stopped for a switchover; then it starts again by itself: `pbx.give_up_after`.
    pub stop_lasts: Duration,
}

/// A plan's table: which one, and its steps.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Which.
    pub kind: PlanKind,
    /// Its steps, in order.
    pub rows: &'static [Row],
}

/// A plan that runs.
#[derive(Debug, Clone)]
pub struct Run {
    id: PlanId,
    kind: PlanKind,
    because: String,
    intent: Intent,
    opened: Timestamp,
    configured: Configured,
    limits: Limits,
    steps: Vec<StepRun>,
    halted: Option<Step>,
    over: bool,
    journal: Vec<JournalRecord>,
}

impl Run {
    /// A new plan. The caller journals its `Opened`.
    pub fn open(
        plan: Plan,
        id: PlanId,
        because: String,
        intent: Intent,
        configured: Configured,
        limits: Limits,
        now: Now,
    ) -> Self {
        let step = |row| StepRun {
            row,
            state: StepState::Pending,
            attempt: 0,
            began_wall: None,
            elapsed: None,
            text: String::new(),
            began: None,
            proved: None,
            flight: Flight::None,
            tries: 0,
            refusals: 0,
            next_try: None,
            done_before: false,
            paged: false,
        };
        Self {
            id,
            kind: plan.kind,
            because,
            intent,
            opened: now.wall,
            configured,
            limits,
            steps: plan.rows.iter().map(step).collect(),
            halted: None,
            over: false,
            journal: Vec::new(),
        }
    }

    /// What was proved may not hold any more (the host may have rebooted, the PBX may have died): look again.
    pub fn look_again(&mut self, steps: &[Step]) {
        for run in self.steps.iter_mut().filter(|s| steps.contains(&s.row.step) && s.state == StepState::Done) {
            run.state = StepState::Pending;
            run.done_before = true;
        }
        self.over = false;
    }

    /// What to do now; each thing is said once.
    pub fn next(&mut self, now: Now) -> Vec<Todo> {
        let mut todo = Vec::new();
        if self.halted.is_some() {
            return todo;
        }
        for i in 0..self.steps.len() {
            let ready = self.is_ready(&self.steps[i]);
            let due = self.steps[i].next_try.is_none_or(|at| now.boot >= at);
            if ready && due && self.steps[i].is_idle() {
                self.begin(i, now, &mut todo);
            }
        }
        todo
    }

    fn begin(&mut self, i: usize, now: Now, todo: &mut Vec<Todo>) {
        let row = self.steps[i].row;
        if let Some(because) = self.configured.skips(self.kind, row.step, &self.intent) {
            self.pass(row.step, because);
            return;
        }
        let run = &mut self.steps[i];
        run.next_try = None;
        run.began.get_or_insert(now.boot);
        run.began_wall.get_or_insert(now.wall);
        run.state = StepState::Running;
        match row.looking {
            Looking::AtTheEffect => {
                run.flight = Flight::Asked(Mode::Look);
                todo.push(Todo::Ask(row.step, run.attempt, Mode::Look));
            }
            Looking::Nowhere => todo.push(self.act(i)),
            Looking::AtTheVotes => {
                let ask = self.act(i);
                self.steps[i].flight = Flight::Judged;
                if row.step == Step::PrimaryServes {
                    todo.push(ask);
                }
                todo.push(Todo::Judge(row.step));
            }
        }
    }

    fn act(&mut self, i: usize) -> Todo {
        let run = &mut self.steps[i];
        run.attempt += 1;
        run.flight = Flight::Asked(Mode::Act);
        self.journal.push(JournalRecord::Started { step: run.row.step, attempt: run.attempt });
        Todo::Ask(run.row.step, run.attempt, Mode::Act)
    }

    /// What came of a question. An answer that nobody waits for any more is ignored.
    pub fn report(
        &mut self,
        step: Step,
        attempt: u32,
        mode: Mode,
        outcome: StepOutcome,
        now: Now,
    ) -> (Vec<Todo>, Vec<Fact>) {
        let Some(i) = self.position(step) else { return Default::default() };
        let run = &mut self.steps[i];
        if run.attempt != attempt || run.flight != Flight::Asked(mode) {
            return Default::default();
        }
        run.flight = Flight::None;
        if mode == Mode::Act {
            self.journal.push(JournalRecord::Ended { step, attempt, outcome: outcome.clone() });
        }
        match (mode, outcome) {
            (Mode::Look, outcome) if self.is_too_late(i, &outcome, now) => {
                (Vec::new(), vec![Fact::Dropped(format!("{TOO_LATE}: {}", outcome.text()))])
            }
            (Mode::Look, StepOutcome::Done(proof)) => {
                let outcome = StepOutcome::Done(proof.clone());
                self.journal.push(JournalRecord::Ended { step, attempt, outcome });
                (Vec::new(), self.done(i, proof, now))
            }
            (Mode::Act, StepOutcome::Done(proof)) => (Vec::new(), self.done(i, proof, now)),
            (Mode::Look, StepOutcome::Failed(_)) if self.halted.is_none() => (vec![self.act(i)], Vec::new()),
            // Every step may be done twice; only the epoch must be known before it is swapped.
            (Mode::Look, StepOutcome::Unknown(_))
                if self.halted.is_none() && !matches!(step, Step::Claim | Step::HandOver) =>
            {
                (vec![self.act(i)], Vec::new())
            }
            (_, StepOutcome::Refused(why)) => (Vec::new(), self.refused(i, why, now)),
            (_, StepOutcome::Failed(why)) => (Vec::new(), self.failed(i, why, now)),
            (_, StepOutcome::Unknown(why)) => (Vec::new(), self.not_done(i, self.patience_unknown(i), why, now)),
        }
    }

    /// Whether a claim must not be sent any more, because the primary's PBX starts again by itself soon.
    ///
    /// One that was sent may have been applied: only a look that says that the record is not ours ends it.
    fn is_too_late(&self, i: usize, seen: &StepOutcome, now: Now) -> bool {
        let unsent = self.steps[i].attempt == 0;
        self.patience(i) == Patience::WhileLent
            && self.loan_is_over(now)
            && match seen {
                StepOutcome::Failed(_) => true,
                StepOutcome::Unknown(_) => unsent,
                StepOutcome::Done(_) | StepOutcome::Refused(_) => false,
            }
    }

    /// Whether half of the time has passed for which the primary's PBX is stopped: the other half is for the takeover.
    fn loan_is_over(&self, now: Now) -> bool {
        // After a restart nobody knows when it was lent.
        let lent = |step: &StepRun| step.proved.is_none_or(|at| now.since(at) >= self.limits.stop_lasts / 2);
        self.step(Step::StopPrimary).is_some_and(|step| step.state == StepState::Done && lent(step))
    }

    /// The attempt that was asked for last was not begun.
    pub fn not_begun(&mut self, step: Step, now: Now) {
        let Some(i) = self.position(step) else { return };
        let run = &mut self.steps[i];
        if run.flight == Flight::Asked(Mode::Act) {
            run.attempt = run.attempt.saturating_sub(1);
        }
        run.flight = Flight::None;
        run.state = StepState::Pending;
        run.next_try = Some(now.boot + WAIT_PAUSE);
        "its record did not reach the disk, so it was not begun".clone_into(&mut run.text);
    }

    /// What the engine judged of a step that it judges itself.
    pub fn judged(&mut self, step: Step, outcome: StepOutcome, now: Now) -> Vec<Fact> {
        let Some(i) = self.position(step).filter(|i| self.steps[*i].flight == Flight::Judged) else {
            return Vec::new();
        };
        self.steps[i].flight = Flight::None;
        let attempt = self.steps[i].attempt;
        self.journal.push(JournalRecord::Ended { step, attempt, outcome: outcome.clone() });
        match outcome {
            StepOutcome::Done(proof) => self.done(i, proof, now),
            StepOutcome::Failed(why) | StepOutcome::Unknown(why) | StepOutcome::Refused(why) => {
                self.failed(i, why, now)
            }
        }
    }

    /// Steps that the engine must judge now, each with the boot time since when it waits.
    pub fn to_judge(&self) -> Vec<(Step, Duration)> {
        self.steps
            .iter()
            .filter(|s| s.flight == Flight::Judged)
            .map(|s| (s.row.step, s.began.unwrap_or_default()))
            .collect()
    }

    /// Notes why a judged step still waits, for people; once it is judged, its proof stands.
    pub fn waits(&mut self, step: Step, why: &str) {
        if let Some(i) = self.position(step).filter(|i| self.steps[*i].flight == Flight::Judged) {
            why.clone_into(&mut self.steps[i].text);
        }
    }

    fn done(&mut self, i: usize, proof: String, now: Now) -> Vec<Fact> {
        let run = &mut self.steps[i];
        run.state = StepState::Done;
        run.text.clone_from(&proof);
        run.elapsed = run.began.map(|began| now.since(began));
        run.proved = Some(now.boot);
        if run.row.patience == Patience::Background {
            // What fails again after the PBX was started anew fails for the first time.
            run.tries = 0;
            run.refusals = 0;
        }
        vec![Fact::StepDone(run.row.step, proof)]
    }

    fn failed(&mut self, i: usize, why: String, now: Now) -> Vec<Fact> {
        self.not_done(i, self.patience(i), why, now)
    }

    fn not_done(&mut self, i: usize, patience: Patience, why: String, now: Now) -> Vec<Fact> {
        let run = &mut self.steps[i];
        run.tries += 1;
        run.text.clone_from(&why);
        let step = run.row.step;
        let waited = run.began.map_or(Duration::ZERO, |began| now.since(began));
        let again_in = back_off(run.tries, BACK_OFF_MAX);
        match patience {
            Patience::DropsThePlan => return vec![Fact::Dropped(why)],
            Patience::ThenGoesOn(tries) if run.tries >= tries => return self.give_up(i, why),
            Patience::ThenHalts(tries) if run.tries >= tries => return self.halt(i, why),
            Patience::WaitsThenHalts if waited >= self.limits.drain => return self.halt(i, why),
            Patience::WaitsThenDrops if waited >= self.limits.drain + STOP_MAX => return vec![Fact::Dropped(why)],
            Patience::WaitsThenReturns if waited >= self.limits.wait_for_primary => return vec![Fact::WaitOver(why)],
            Patience::Background if waited >= BACKGROUND_FOR => return self.give_up(i, why),
            Patience::Background => run.next_try = Some(now.boot + back_off(run.tries, BACK_OFF_BACKGROUND_MAX)),
            Patience::WaitsThenHalts | Patience::WaitsThenReturns | Patience::WaitsThenDrops => {
                run.next_try = Some(now.boot + WAIT_PAUSE);
            }
            Patience::ForEver | Patience::WhileLent | Patience::ThenGoesOn(_) | Patience::ThenHalts(_) => {
                run.next_try = Some(now.boot + again_in);
            }
        }
        let page = match patience {
            Patience::ForEver | Patience::WhileLent => {
                run.tries == PAGE_AT_TRY || run.tries.is_multiple_of(PAGE_AGAIN_EVERY)
            }
            // Phones are served meanwhile: once is enough, the next word is that it was given up.
            Patience::Background => run.tries == PAGE_AT_TRY && !run.paged,
            _ => false,
        };
        run.paged |= page;
        if step == Step::AcceptRegistrations {
            // The PBX may have died under us: see that it runs before asking it again.
            self.look_again(&[Step::Reload]);
        }
        if page { vec![Fact::Page(step, why)] } else { Vec::new() }
    }

    fn refused(&mut self, i: usize, why: String, now: Now) -> Vec<Fact> {
        let step = self.steps[i].row.step;
        self.steps[i].refusals += 1;
        match (step, self.patience(i)) {
            (Step::Claim, _) => vec![Fact::ClaimLost(why)],
            (_, Patience::WaitsThenDrops) => vec![Fact::Dropped(why)],
            (_, Patience::ThenHalts(_) | Patience::WaitsThenHalts) => self.halt(i, why),
            (Step::RegisterTrunks, _) => {
                let facts = self.failed(i, why, now);
                if self.steps[i].refusals >= REFUSALS_FAST && self.steps[i].next_try.is_some() {
                    self.steps[i].next_try = Some(now.boot + REFUSED_PAUSE);
                }
                facts
            }
            (_, Patience::Background) => self.give_up(i, why),
            _ => self.failed(i, why, now),
        }
    }

    fn give_up(&mut self, i: usize, why: String) -> Vec<Fact> {
        let run = &mut self.steps[i];
        run.state = StepState::Failed;
        run.text.clone_from(&why);
        self.journal.push(JournalRecord::GaveUp { step: run.row.step, because: why.clone() });
        vec![Fact::GaveUp(run.row.step, why)]
    }

    fn halt(&mut self, i: usize, why: String) -> Vec<Fact> {
        let run = &mut self.steps[i];
        run.state = StepState::Failed;
        run.text.clone_from(&why);
        self.halted = Some(run.row.step);
        self.journal.push(JournalRecord::Halted { step: run.row.step, because: why.clone() });
        vec![Fact::Halted(run.row.step, why)]
    }

    /// Has the step that halted the plan tried again, because a person says so.
    pub fn retry(&mut self, because: &str) {
        let Some(i) = self.halted.take().and_then(|step| self.position(step)) else { return };
        let run = &mut self.steps[i];
        run.state = StepState::Pending;
        run.tries = 0;
        run.refusals = 0;
        run.next_try = None;
        run.began = None;
        self.journal.push(JournalRecord::Retried { step: run.row.step, because: because.to_owned() });
    }

    /// Passes a step over: by configuration, or because a person says so.
    pub fn pass(&mut self, step: Step, because: &str) {
        let Some(i) = self.position(step) else { return };
        let run = &mut self.steps[i];
        run.state = StepState::Skipped;
        run.flight = Flight::None;
        because.clone_into(&mut run.text);
        if self.halted == Some(step) {
            self.halted = None;
        }
        self.journal.push(JournalRecord::Skipped { step, because: because.to_owned() });
    }

    /// Whether every step is over; said once as [`Fact::Over`].
    pub fn finish(&mut self) -> Option<Fact> {
        let over = self.halted.is_none() && self.steps.iter().all(|s| self.is_over(s.row.step));
        (over && !std::mem::replace(&mut self.over, true)).then_some(Fact::Over)
    }

    fn is_over(&self, step: Step) -> bool {
        self.step(step).is_none_or(|s| matches!(s.state, StepState::Done | StepState::Skipped | StepState::Failed))
            && self.halted != Some(step)
    }

    fn patience(&self, i: usize) -> Patience {
        let row = self.steps[i].row;
        match row.step {
            Step::Fence if self.configured.fencing == Fencing::Optional => Patience::ThenGoesOn(3),
            Step::SecureData if self.configured.unsafe_data == UnsafeData::Holds => Patience::ForEver,
            _ => row.patience,
        }
    }

    /// As [`Self::patience`], where it is not known how far the step came.
    fn patience_unknown(&self, i: usize) -> Patience {
        match self.steps[i].row.step {
            // Half of a snapshot may lie there, and the PBX must not load it.
            Step::SecureData => Patience::ForEver,
            _ => self.patience(i),
        }
    }

    fn position(&self, step: Step) -> Option<usize> {
        self.steps.iter().position(|s| s.row.step == step)
    }

    /// One step.
    pub fn step(&self, step: Step) -> Option<&StepRun> {
        self.steps.iter().find(|s| s.row.step == step)
    }

    /// Whether a step is proved.
    pub fn is_done(&self, step: Step) -> bool {
        self.step(step).is_some_and(|s| s.state == StepState::Done)
    }

    /// Whether a step had been proved before it was looked at again.
    pub fn was_done_before(&self, step: Step) -> bool {
        self.step(step).is_some_and(|s| s.done_before)
    }

    /// Whether phones were served by it: what is left of it is background work.
    pub fn is_served(&self) -> bool {
        self.is_done(Step::AcceptRegistrations) || self.is_done(Step::PrimaryServes)
    }

    /// Whether a step was begun: it may have taken effect.
    pub fn is_begun(&self, step: Step) -> bool {
        self.step(step).is_some_and(|s| s.attempt > 0 || s.state == StepState::Done)
    }

    /// Whether the service was handed over and DNS has yet to follow.
    pub fn owes_names(&self) -> bool {
        let waits = |s: &StepRun| matches!(s.state, StepState::Pending | StepState::Running);
        self.is_done(Step::HandOver) && self.step(Step::RedirectDns).is_some_and(waits)
    }

    /// Whether a background step was given up, or keeps failing.
    pub fn is_degraded(&self) -> bool {
        self.steps.iter().any(|s| {
            s.state == StepState::Failed
                || (s.row.patience == Patience::Background && s.state == StepState::Running && s.tries > 0)
        })
    }

    /// When [`Run::next`] has something to say again, at the latest. A step that waits for another wakes nobody.
    pub fn wake_at(&self) -> Option<Duration> {
        let waiting = |s: &&StepRun| {
            matches!(s.state, StepState::Pending | StepState::Running) && s.flight == Flight::None && self.is_ready(s)
        };
        self.steps.iter().filter(waiting).filter_map(|s| s.next_try).min().filter(|_| self.halted.is_none())
    }

    fn is_ready(&self, step: &StepRun) -> bool {
        step.row.requires.iter().all(|required| self.is_over(*required))
    }

    /// The records made since the last call, in order.
    pub fn drain_journal(&mut self) -> Vec<JournalRecord> {
        std::mem::take(&mut self.journal)
    }

    /// Its id.
    pub fn id(&self) -> PlanId {
        self.id
    }

    /// Which table.
    pub fn kind(&self) -> PlanKind {
        self.kind
    }

    /// Why it runs.
    pub fn because(&self) -> &str {
        &self.because
    }

    /// What was asked.
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    /// What was asked, to be changed by a person's later word.
    pub fn intent_mut(&mut self) -> &mut Intent {
        &mut self.intent
    }

    /// When it was opened.
    pub fn opened(&self) -> Timestamp {
        self.opened
    }

    /// Its steps, in order.
    pub fn steps(&self) -> &[StepRun] {
        &self.steps
    }

    /// The step it waits at for a person.
    pub fn halted_at(&self) -> Option<Step> {
        self.halted
    }

    /// How long its waits may take.
    pub fn limits(&self) -> Limits {
        self.limits
    }
}

fn back_off(tries: u32, longest: Duration) -> Duration {
    BACK_OFF_FIRST.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(longest)
}
