//! The engine's loop: note the event, let the plan go on, walk the state table until no row fits.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use crate::decision::{
    Inputs, Judgement, May, Quorum, StallGuard, Tally, Targets, VoteCount, WallClock, judge, stall::Gap, votes,
};
use crate::takeover::{Intent, PlanRow, Run, rows};
use crate::units::journal::JournalEntry;
use crate::units::{CheckName, EpochRead, Now, PlanId, PlanKind, State, Step, Verdict};

use super::data::DataWatch;
use super::event::{Durability, Event, Output};
use super::memory::Memory;
use super::others::Agent;
use super::passive::PassiveWatch;
use super::settings::{EpochStoreKind, Settings};
use super::standing::{Standing, stand};
use super::sync::SyncWatch;
use super::table::{ROWS, Row, Trigger};

mod output;

/// So many transitions on one event are a fault of the table.
const TRANSITIONS_MAX: usize = 32;
/// One failed reading is a lost packet; so many in a row are "unreadable".
pub(super) const UNREADABLE_READS: u32 = 3;

/// A trigger that happens once.
#[derive(Debug, Clone)]
pub(super) struct Once {
    pub(super) trigger: Trigger,
    /// The plan that caused it, if one did.
    pub(super) plan: Option<PlanId>,
    pub(super) why: String,
}

/// What the store gives back at the start.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// The memory, as it was written.
    pub memory: Option<serde_json::Value>,
    /// The journal of the plan that was open, or of the last one.
    pub journal: Vec<JournalEntry>,
    /// The settings of that plan's frozen configuration, where they are not the present ones.
    pub plan_settings: Option<Settings>,
}

/// The tables that an engine walks; another set than [`Tables::REAL`] is a fault planted by a test.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tables {
    /// Every transition.
    pub(super) states: &'static [Row],
    /// The steps of each plan.
    pub(super) plans: fn(PlanKind) -> &'static [PlanRow],
}

impl Tables {
    /// The product's own.
    pub(super) const REAL: Self = Self { states: ROWS, plans: rows };
}

/// The robot's mind; a copy of it is cheap. See the module.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // independent latches, each named; none is passed on
pub struct Engine {
    pub(super) tables: Tables,
    pub(super) settings: Arc<Settings>,
    pub(super) memory: Memory,
    pub(super) written_memory: Option<Arc<Memory>>,
    started: Now,
    pub(super) now: Now,
    pub(super) stall: StallGuard,
    wall_clock: WallClock,
    pub(super) tallies: Vec<Tally>,
    pub(super) targets: Targets,
    /// What stands at the primary's site.
    pub(super) site: Targets,
    /// Robots elsewhere.
    pub(super) observers: Targets,
    pub(super) agent: Agent,
    pub(super) judgement: Judgement,
    pub(super) verdict_since: Duration,
    /// Since when the verdict has allowed a takeover, at once or after a time.
    pub(super) allowed_since: Option<Duration>,
    pub(super) hold_down_until: Option<Duration>,
    pub(super) blocked_said: Option<String>,
    pub(super) run: Option<Run>,
    pub(super) last_run: Option<Arc<(Run, String)>>,
    pub(super) interrupted: bool,
    pub(super) unproved: bool,
    pub(super) epoch_read: Option<EpochRead>,
    pub(super) epoch_failures: u32,
    pub(super) epoch_asked: Option<Duration>,
    pub(super) epoch_reading: bool,
    /// The record has changed by our own hand since the reading that is under way was asked for.
    pub(super) epoch_reading_void: bool,
    pub(super) unreadable_said: bool,
    pub(super) primary_back_said: Option<PlanId>,
    pub(super) swapping: bool,
    pub(super) claim_from: Option<crate::units::EpochSeen>,
    pub(super) claimed_at: Option<Duration>,
    pub(super) conformance: Option<Result<(), String>>,
    pub(super) store: Result<(), String>,
    pub(super) data: DataWatch,
    pub(super) pbx_silent: Option<String>,
    pub(super) passive: PassiveWatch,
    pub(super) sync: SyncWatch,
    pub(super) armed: Vec<String>,
    pub(super) armed_told: bool,
    pub(super) intent: Intent,
    pub(super) asked_because: Option<String>,
    pub(super) once: Vec<Once>,
    pub(super) out: Output,
    seed: u64,
}

impl Engine {
    /// Starts, or starts again from what the store remembers.
    ///
    /// `seed` makes the ids; it must be unguessable in production and fixed in a test.
    ///
    /// # Errors
    /// When the memory cannot be understood: it was written by a newer version.
    pub fn new(settings: Settings, recovered: Recovered, now: Now, seed: u64) -> Result<Self, String> {
        Self::with_tables(Arc::new(settings), recovered, now, seed, Tables::REAL)
    }

    /// The same with tables of the caller's choice.
    pub(super) fn with_tables(
        settings: Arc<Settings>,
        recovered: Recovered,
        now: Now,
        seed: u64,
        tables: Tables,
    ) -> Result<Self, String> {
        let written_memory: Option<Memory> = match recovered.memory {
            Some(value) => Some(serde_json::from_value(value).map_err(|e| {
                format!("the robot's memory cannot be understood ({e}); was it written by a newer version?")
            })?),
            None => None,
        };
        let memory = written_memory.clone().unwrap_or_else(|| Memory::first(now.wall));
        let frozen = recovered.plan_settings.as_ref().unwrap_or(&settings);
        let run = Run::resume(&recovered.journal, tables.plans, frozen.configured, frozen.limits, now);
        let mut engine = Self {
            tallies: tallies(&settings, &memory),
            targets: targets(&settings, now),
            tables,
            written_memory: written_memory.map(Arc::new),
            started: now,
            now,
            stall: StallGuard::new(now),
            wall_clock: WallClock::new(now),
            site: others(&settings, &settings.site, now),
            observers: others(&settings, &settings.observers, now),
            agent: Agent::default(),
            judgement: Judgement { verdict: Verdict::Unsure, may: May::Not, because: "the robot has just started" },
            verdict_since: now.boot,
            allowed_since: None,
            hold_down_until: None,
            blocked_said: None,
            run: None,
            last_run: None,
            interrupted: false,
            unproved: memory.state == State::Active,
            epoch_read: None,
            epoch_failures: 0,
            epoch_asked: None,
            epoch_reading: false,
            epoch_reading_void: false,
            unreadable_said: false,
            primary_back_said: None,
            swapping: false,
            claim_from: None,
            claimed_at: None,
            conformance: (settings.epoch_store == EpochStoreKind::Local).then_some(Ok(())),
            store: Ok(()),
            data: DataWatch::default(),
            pbx_silent: None,
            passive: PassiveWatch::default(),
            sync: SyncWatch::default(),
            armed: Vec::new(),
            armed_told: true,
            intent: Intent::default(),
            asked_because: None,
            once: Vec::new(),
            out: Output::default(),
            seed,
            settings,
            memory,
        };
        engine.take_up(run);
        let state = engine.memory.state;
        engine.note("start", format!("the robot starts in {state}"), String::new(), None);
        Ok(engine)
    }

    /// Takes an interrupted plan up.
    fn take_up(&mut self, run: Option<Run>) {
        let Some(mut run) = run else {
            // Without a plan these states have nothing to wait for; an epoch that is ours is handed back from Standby.
            if matches!(self.memory.state, State::Suspect | State::TakingOver | State::FailingBack) {
                self.memory.state = State::Standby;
            }
            return;
        };
        if self.memory.plan != Some(run.id()) || !fits(self.memory.state, run.kind()) {
            self.run = Some(run);
            self.close_run("dropped: the robot's memory does not name this plan");
            return self.take_up(None);
        }
        if matches!(self.memory.state, State::TakingOver | State::Active)
            && matches!(run.kind(), PlanKind::Takeover | PlanKind::Serve)
        {
            if run.kind() == PlanKind::Takeover && !Self::past_claim(&run) {
                if run.intent().asked.is_none() {
                    // Nothing has changed yet: the table begins anew, with fresh evidence.
                    self.memory.state = State::Standby;
                    self.run = Some(run);
                    self.close_run("dropped: the robot was restarted before the claim");
                } else {
                    self.run = Some(run);
                }
                return;
            }
            self.interrupted = true;
            run.look_again(&[Step::Reload, Step::AcceptRegistrations]);
            self.claimed_at = Some(self.now.boot);
        }
        self.unproved = false;
        self.run = Some(run);
    }

    /// Whether a takeover's claim was begun or passed over: it cannot be recalled.
    pub(super) fn past_claim(run: &Run) -> bool {
        run.kind() == PlanKind::Takeover
            && (run.is_begun(Step::Claim)
                || run.step(Step::Claim).is_some_and(|s| s.state == crate::units::StepState::Skipped))
    }

    /// Takes new settings; counts of checks whose definition did not change are kept. A running plan keeps its own.
    pub fn reconfigure(&mut self, settings: Settings) {
        let mut old = std::mem::take(&mut self.tallies);
        self.tallies = settings
            .checks
            .iter()
            .map(|check| match old.iter().position(|t| t.settings() == check) {
                Some(i) => old.swap_remove(i),
                None => Tally::new(check.clone(), was_tested(&self.memory, check)),
            })
            .collect();
        self.targets = targets(&settings, self.now);
        self.site = others(&settings, &settings.site, self.now);
        self.observers = others(&settings, &settings.observers, self.now);
        self.settings = Arc::new(settings);
    }

    /// Hears one event.
    pub fn handle(&mut self, event: Event, now: Now) -> Output {
        self.now = now;
        if let Gap::Stalled(gap) = self.stall.look(now) {
            self.reset_counts();
            self.targets.reset(now);
            self.site.reset(now);
            self.observers.reset(now);
            self.agent.forget(now);
            self.note(
                "stall",
                format!("our own loop was stalled for {} s", gap.as_secs()),
                "what was counted is void".to_owned(),
                None,
            );
        }
        if let Some(step) = self.wall_clock.look(now) {
            let what = format!("the wall clock was stepped by {} s", step.as_secs());
            self.note("clock", what, "no decision rests on it".to_owned(), None);
        }
        self.hear(event);
        self.settle();
        self.out.durability = if self.must_be_durable() { Durability::Required } else { Durability::Wanted };
        self.remember();
        std::mem::take(&mut self.out)
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Tick => self.stall.tick(self.now),
            Event::Check { name, result, asked } => self.check_result(&name, result, asked),
            Event::Internet { target, result, asked } => self.targets.record(target, result, asked, self.now),
            Event::Site { target, result, asked } => self.site.record(target, result, asked, self.now),
            Event::Observer { target, result, asked } => self.observers.record(target, result, asked, self.now),
            Event::Peer { reading, asked } => self.peer_was_asked(reading, asked),
            Event::Epoch(read) => self.epoch_was_read(read),
            Event::Swapped(advance) => self.epoch_was_restored(advance),
            Event::Conformance(result) => self.conformance = Some(result),
            Event::Step(report) => self.step_report(&report),
            Event::NotBegun { plan, step } => self.step_not_begun(plan, step),
            Event::AcceptAbsentEpoch => {
                self.memory.absent_accepted = true;
                self.note("epoch", "a missing epoch record is accepted".to_owned(), "by a person".to_owned(), None);
            }
            Event::Request(request) => self.request(&request),
            Event::Store(result) => self.store_health(result),
            Event::Sync(look) => self.sync_was_looked_at(look),
            Event::Data(look) => self.data_was_looked_at(*look),
            Event::Passive { look, asked } => self.passive_was_looked_at(look, asked),
            Event::Pbx(result) => self.pbx_silent = result.err(),
            Event::Settings(what, because) => self.note("config", what, because, None),
        }
    }

    fn check_result(&mut self, name: &CheckName, result: crate::units::ProbeResult, asked: Duration) {
        let now = self.now;
        let Some(tally) = self.tallies.iter_mut().find(|t| t.settings().name == *name) else { return };
        let tested = tally.tested();
        tally.record(result, asked, now);
        if tally.tested() && !tested {
            self.memory.tested.insert(name.0.clone(), tally.settings().definition.clone());
        }
    }

    fn store_health(&mut self, result: Result<(), String>) {
        if result != self.store {
            let what = match &result {
                Ok(()) => "the store can write again".to_owned(),
                Err(why) => format!("the store cannot write: {why}"),
            };
            self.note("store", what, "seen by the store".to_owned(), None);
            self.store = result;
        }
    }

    /// Lets the plan and the table go on until nothing moves any more.
    fn settle(&mut self) {
        for _ in 0..TRANSITIONS_MAX {
            self.watch_epoch();
            self.refresh_verdict();
            self.refresh_armed();
            self.advance_run();
            if !self.fire_once() && !self.fire_level() {
                break;
            }
        }
        self.intent_is_spent();
        self.follow_passive();
        self.follow_data();
        self.follow_sync();
        self.repeat_alarms();
        self.journal_run();
    }

    /// What a person asked for belongs to the plan that it opened, and to no later one.
    fn intent_is_spent(&mut self) {
        if self.once.is_empty() {
            self.intent = Intent::default();
        }
    }

    fn fire_once(&mut self) -> bool {
        if self.once.is_empty() {
            return false;
        }
        let Once { trigger, plan, why } = self.once.remove(0);
        let current = plan.is_none() || plan == self.run.as_ref().map(Run::id);
        if let Some(row) = self.row_for(trigger).filter(|_| current) {
            self.transit(row, &why);
        }
        true
    }

    fn fire_level(&mut self) -> bool {
        let state = self.memory.state;
        let mut levels = self.tables.states.iter().filter(|row| row.from == state && row.on.is_level());
        let row = levels.find(|row| self.level(row.on) && self.guard(row));
        let Some(row) = row else { return false };
        let why = self.level_because(row.on);
        self.transit(row, &why);
        true
    }

    /// The row that a trigger fires now.
    pub(super) fn row_for(&self, trigger: Trigger) -> Option<&'static Row> {
        let state = self.memory.state;
        self.tables.states.iter().find(|row| row.from == state && row.on == trigger && self.guard(row))
    }

    pub(super) fn reset_counts(&mut self) {
        let now = self.now;
        self.tallies.iter_mut().for_each(|tally| tally.reset(now));
    }

    fn refresh_verdict(&mut self) {
        let now = self.now;
        let internet = self.targets.level(now);
        if self.judgement.verdict == Verdict::WeAreCutOff && internet != Quorum::TooFew {
            // The Internet is back: what failed meanwhile failed for us, not for the primary.
            self.tallies.iter_mut().for_each(|tally| tally.forget_failures(now));
        }
        let inputs = Inputs {
            stalled: self.stall.stalled(now),
            internet,
            votes: self.votes().votes,
            site: self.site.sighting(now),
            observers: self.observers.sighting(now),
            agent: self.agent_says(),
            down_when: self.settings.down_when,
            half_dead: self.settings.half_dead,
            site_cut: self.settings.site_cut,
        };
        let judgement = judge(&inputs);
        if (judgement.verdict, judgement.may) != (self.judgement.verdict, self.judgement.may) {
            self.verdict_since = self.now.boot;
        }
        if judgement.verdict != self.judgement.verdict {
            let what = format!("{} -> {}", self.judgement.verdict, judgement.verdict);
            self.note("verdict", what, judgement.because.to_owned(), None);
        }
        if judgement.may == May::Not {
            self.allowed_since = None;
        } else {
            let since = *self.allowed_since.get_or_insert(now.boot);
            if judgement.may != self.judgement.may {
                // What is believed for so long before acting is that a takeover is allowed: not that something is
                // wrong, and not anew when what was half dead dies.
                self.hold_down_until = self.hold_down_until.map(|_| since + self.hold_down());
            }
        }
        self.judgement = judgement;
    }

    pub(super) fn votes(&self) -> VoteCount {
        votes::count(&self.tallies, self.now)
    }

    /// What the epoch record means to us now.
    pub(super) fn standing(&self) -> Standing {
        stand(self.epoch_read.as_ref(), &self.memory, &self.settings.node, &self.settings.peer)
    }

    pub(super) fn started_for(&self) -> Duration {
        self.now.since(self.started.boot)
    }

    pub(super) fn forget_unreadable(&mut self) {
        self.unreadable_said = false;
    }

    /// When [`Engine::handle`] has something to do before the next tick.
    pub fn wake_at(&self) -> Option<Duration> {
        let run = self.run.as_ref().filter(|_| !self.interrupted);
        run.and_then(Run::wake_at).into_iter().chain(self.hold_down_until).min()
    }

    /// Whether a check shall be asked fast.
    pub fn hurried(&self) -> bool {
        self.tallies.iter().any(Tally::hurried)
    }

    /// Whether this node serves, as far as the table knows.
    pub fn serves(&self) -> bool {
        self.memory.state == State::Active
    }

    /// The state.
    pub fn state(&self) -> State {
        self.memory.state
    }

    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        self.judgement.verdict
    }

    /// The plan that runs.
    pub fn plan_id(&self) -> Option<PlanId> {
        self.run.as_ref().map(Run::id)
    }

    /// The table of the plan that runs.
    pub fn plan_kind(&self) -> Option<PlanKind> {
        self.run.as_ref().map(Run::kind)
    }

    /// What is remembered over a restart.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }
}

/// Whether a plan may run in a state.
fn fits(state: State, kind: PlanKind) -> bool {
    match state {
        State::Standby | State::Suspect => {
            matches!(kind, PlanKind::Retreat | PlanKind::Withdraw | PlanKind::Failback)
        }
        State::TakingOver => matches!(kind, PlanKind::Takeover | PlanKind::Withdraw),
        State::Active => matches!(kind, PlanKind::Takeover | PlanKind::Serve),
        State::FailingBack => matches!(kind, PlanKind::Failback | PlanKind::Retreat),
        State::Halted => kind != PlanKind::Serve,
    }
}

fn tallies(settings: &Settings, memory: &Memory) -> Vec<Tally> {
    settings.checks.iter().map(|check| Tally::new(check.clone(), was_tested(memory, check))).collect()
}

fn was_tested(memory: &Memory, check: &crate::decision::CheckSettings) -> bool {
    memory.tested.get(&check.name.0) == Some(&check.definition)
}

fn targets(settings: &Settings, now: Now) -> Targets {
    let internet = &settings.internet;
    Targets::new(internet.need, internet.period, internet.targets.iter().cloned(), now)
}

/// Witness or observers, of which one answer is enough.
fn others(settings: &Settings, names: &[String], now: Now) -> Targets {
    Targets::new(NonZeroU32::MIN, settings.others_period, names.iter().cloned(), now)
}

/// A configured duration as the wall clock counts it; the loader has bounded it.
pub(super) fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
