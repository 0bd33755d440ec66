//! The agent: hears one event at a time, rules what the PBX may do, and asks for what makes it so.
//!
//! The ruling is a level, worked out anew on every event; what was done is compared with it. So an agent that was killed
//! at any moment begins by doing what is due, and a PBX that somebody started behind its back is stopped again.

use std::time::Duration;

use jiff::SignedDuration;

use crate::units::{Condition, Duty, EpochRead, EventName, NodeName, Now, PlanId, Step, StepOutcome, StopOrder};

use super::duty::{Policy, Ruling, rule};
use super::memory::{HeldBack, Learned, Memory, StopAsked};
use super::standing::{Standing, stand};

/// How often the record is read: another's claim must be seen soon.
pub const READ_EVERY: Duration = Duration::from_secs(5);
/// A reading that was asked for and never answered is asked again.
const READ_LOST_AFTER: Duration = Duration::from_secs(60);
/// What was seen of the record longer ago than this, before a restart, says nothing of the time between.
const UNLOOKED_MAX: Duration = Duration::from_secs(120);
/// A loop that was frozen for longer reads the record before anything else.
const STALL: Duration = Duration::from_secs(3);
/// The pause before an act that did not succeed is tried again; it doubles.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
/// People are told at this attempt.
const TELL_AT_TRY: u32 = 3;
/// The longest such pause.
const AGAIN_MAX: Duration = Duration::from_secs(15);

/// An act that has not been answered for so long never will be: longer than any driver takes.
const ACT_LOST_AFTER: Duration = Duration::from_secs(600);
/// And then again at every so many-th: a quarter of an hour with the longest pause.
const TELL_AGAIN_EVERY: u32 = 60;
/// So many looks in a row say that the PBX serves before that is believed: the first may have begun before the last act
/// ended.
const LOOKS_BELIEVED: u32 = 2;

/// What happens to the agent.
#[derive(Debug, Clone)]
pub enum Event {
    /// A second has passed.
    Tick,
    /// The record was read, on [`Ask::ReadEpoch`].
    Epoch(EpochRead),
    /// The PBX was looked at.
    Pbx(Condition),
    /// What came of an [`Ask::Act`].
    Acted(Act, StepOutcome),
    /// The backup asks for a stop, or asks again: each time it lasts anew.
    StopAsked(StopOrder),
    /// The backup takes it back.
    Resume(PlanId),
    /// A person announces that the PBX is stopped until then; `None`: no more.
    PlannedStop(Option<jiff::Timestamp>),
    /// Somebody else (the guard) has changed the memory on disk.
    Learned(Box<Learned>),
}

/// What is done to the PBX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// Stop it and see it stopped.
    Stop,
    /// Give its trunks up.
    UnregisterTrunks,
    /// Register its trunks again.
    RegisterTrunks,
    /// Start it and see it serve.
    Start,
    /// See whether a call is up; done: none is.
    Drain,
}

impl Act {
    /// The step of a plan that does the same, for messages.
    pub fn step(self) -> Step {
        match self {
            Self::Stop => Step::StopAccepting,
            Self::UnregisterTrunks => Step::UnregisterTrunks,
            Self::RegisterTrunks => Step::RegisterTrunks,
            Self::Start => Step::Reload,
            Self::Drain => Step::Drain,
        }
    }
}

/// What the agent asks of the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Read the record; answer with [`Event::Epoch`].
    ReadEpoch,
    /// Do it; answer with [`Event::Acted`].
    Act(Act),
    /// Tell people; the act in question, where it is about one.
    Tell(EventName, String, Option<Act>),
    /// Write into the history: what, and why.
    Note(String, String),
}

/// What came of one event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// The memory has changed: it must be on disk before the asks begin.
    pub remember: bool,
    /// What to do then.
    pub asks: Vec<Ask>,
}

/// The agent's mind.
#[derive(Debug, Clone)]
pub struct Agent {
    node: NodeName,
    policy: Policy,
    memory: Memory,
    read: Option<EpochRead>,
    /// When a reading last meant something; before the first one, the start.
    read_well_at: Duration,
    asked: Option<Duration>,
    reading: bool,
    last_event: Duration,
    /// The PBX as it was last seen; nothing is done before it was looked at.
    pbx: Option<Condition>,
    /// What was done last and seen to be so; `None`: nothing since the start.
    done: Option<Duty>,
    /// What is being done, and since when.
    in_flight: Option<(Act, Duration)>,
    /// The act that was tried last.
    last_act: Option<Act>,
    /// The PBX ran when its stop was asked for: it shall run again.
    ran_before_stop: Option<HeldBack>,
    /// So many looks in a row have seen it serve since the last act ended.
    seen_serving: u32,
    /// This host was frozen since the last reading.
    frozen: bool,
    again_at: Option<Duration>,
    failures: u32,
    /// Why the last act did not succeed.
    trouble: Option<String>,
    /// No call was up when it was last asked.
    drained: bool,
    /// The request to stop that was refused, because calls did not end in time.
    refused: Option<PlanId>,
    told: Option<Ruling>,
    /// What people were told that it does instead of serving as before.
    told_down: Option<Duty>,
    tell_again_at: Option<Duration>,
    repeat: Duration,
    now: Now,
    out: Output,
}

impl Agent {
    /// An agent that has just started, with what is on disk. `repeat`: how often an alarm is told again.
    pub fn new(node: NodeName, policy: Policy, repeat: Duration, memory: Memory, now: Now) -> Self {
        Self {
            node,
            policy,
            memory,
            read: None,
            read_well_at: now.boot,
            asked: None,
            reading: false,
            last_event: now.boot,
            pbx: None,
            done: None,
            in_flight: None,
            last_act: None,
            ran_before_stop: None,
            seen_serving: 0,
            frozen: false,
            again_at: None,
            failures: 0,
            trouble: None,
            drained: false,
            refused: None,
            told: None,
            told_down: None,
            tell_again_at: None,
            repeat,
            now,
            out: Output::default(),
        }
    }

    /// Takes new settings.
    pub fn reconfigure(&mut self, policy: Policy, repeat: Duration) {
        (self.policy, self.repeat) = (policy, repeat);
    }

    /// Hears one event.
    pub fn handle(&mut self, event: Event, now: Now) -> Output {
        let before = self.memory.clone();
        if now.since(self.last_event) > STALL {
            // Whatever was read before may be long over: a frozen host must not go on serving on old knowledge.
            self.asked = None;
            self.reading = false;
            self.frozen = true;
        }
        (self.last_event, self.now) = (now.boot, now);
        self.hear(event);
        self.forget_what_is_over();
        self.watch_epoch();
        let ruling = self.ruling();
        self.memory.duty = Some(ruling.duty);
        self.say(&ruling);
        self.carry_out(&ruling);
        self.out.remember = self.memory != before;
        std::mem::take(&mut self.out)
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Tick => {}
            Event::Epoch(read) => self.epoch_was_read(read),
            Event::Pbx(condition) => self.pbx_was_seen(condition),
            Event::Acted(act, outcome) => self.acted(act, &outcome),
            Event::StopAsked(order) => self.stop_was_asked(&order),
            Event::Resume(plan) => {
                if self.memory.stop_asked.as_ref().is_some_and(|asked| asked.plan == plan) {
                    self.memory.stop_asked = None;
                    self.note("the backup took its request to stop back", &plan.to_string());
                }
            }
            Event::PlannedStop(until) => self.memory.planned_stop_until = until,
            Event::Learned(learned) => self.memory.learn(*learned),
        }
    }

    fn epoch_was_read(&mut self, read: EpochRead) {
        self.reading = false;
        self.frozen = false;
        let standing = stand(&read, &self.memory, &self.node);
        if matches!(standing, Standing::Unknown(_)) {
            // What nobody looked at for long may have been well meanwhile.
            let looked_on = self.memory.unread_at.is_some_and(|at| self.now.since(at) <= UNLOOKED_MAX);
            // A clock that reads less than what is remembered is another one than that was read on.
            let since = self.memory.unread_since.filter(|since| looked_on && *since <= self.now.boot);
            self.memory.unread_since = since.or(Some(self.read_well_at));
            if self.memory.unread_at.is_none_or(|at| self.now.since(at) >= UNLOOKED_MAX / 4) {
                self.memory.unread_at = Some(self.now.boot);
            }
        } else {
            self.read_well_at = self.now.boot;
            (self.memory.unread_since, self.memory.unread_at) = (None, None);
            // What a person said against another's turn must not stand in the way of the next switchover.
            if matches!(standing, Standing::Ours(_)) && self.memory.forced.take().is_some() {
                self.note("a person's word has done its work", "the record names this node");
            }
            if let Some(record) = read.as_ref().ok().and_then(|seen| seen.record()) {
                self.memory.seen = Some(record.clone());
            }
        }
        self.read = Some(read);
    }

    fn pbx_was_seen(&mut self, condition: Condition) {
        self.pbx = Some(condition);
        self.seen_serving = if condition == Condition::Serves { self.seen_serving.saturating_add(1) } else { 0 };
        let idle = self.in_flight.is_none() && self.seen_serving >= LOOKS_BELIEVED;
        if idle && self.memory.duty == Some(Duty::Serve) {
            self.memory.held_back = None;
        }
        // Somebody started it behind our back, or it died: what was done does not hold any more.
        match (self.done, condition) {
            (Some(Duty::Stop), Condition::Serves | Condition::Unknown)
            | (Some(Duty::Serve | Duty::WithoutTrunks), Condition::Stopped | Condition::Failed) => self.done = None,
            _ => {}
        }
    }

    fn acted(&mut self, act: Act, outcome: &StepOutcome) {
        if self.in_flight.map(|(act, _)| act) != Some(act) {
            return;
        }
        self.in_flight = None;
        self.seen_serving = 0;
        if let StepOutcome::Done(proof) = outcome {
            (self.again_at, self.failures, self.trouble) = (None, 0, None);
            match act {
                Act::Stop => {
                    (self.pbx, self.done) = (Some(Condition::Stopped), Some(Duty::Stop));
                    // Whatever was seen meanwhile, it was this stop that ended it.
                    if self.memory.held_back.is_none() {
                        self.memory.held_back = self.ran_before_stop.take();
                    }
                }
                Act::UnregisterTrunks => self.done = Some(Duty::WithoutTrunks),
                Act::RegisterTrunks => self.done = Some(Duty::Serve),
                Act::Start => {
                    (self.pbx, self.done) = (Some(Condition::Serves), Some(Duty::Serve));
                    self.memory.held_back = None;
                }
                Act::Drain => self.drained = true,
            }
            self.note(done(act), proof);
            return;
        }
        let pause = AGAIN_FIRST.saturating_mul(1 << self.failures.min(8)).min(AGAIN_MAX);
        // Calls end when they end; that is asked once a second.
        let pause = if act == Act::Drain { AGAIN_FIRST } else { pause };
        self.again_at = Some(self.now.boot + pause);
        let why = format!("{}: {}", failed(act), outcome.text());
        if act != Act::Drain {
            self.failures = self.failures.saturating_add(1);
            if self.trouble.as_ref() != Some(&why) {
                self.note(failed(act), outcome.text());
            }
            if self.failures == TELL_AT_TRY || self.failures.is_multiple_of(TELL_AGAIN_EVERY) {
                self.out.asks.push(Ask::Tell(EventName::StepRetries, why.clone(), Some(act)));
            }
        }
        self.trouble = Some(why);
    }

    fn stop_was_asked(&mut self, order: &StopOrder) {
        let now = self.now.wall;
        let after = |seconds: u64| {
            let span = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            now.checked_add(span).unwrap_or(jiff::Timestamp::MAX)
        };
        let until = after(order.for_s);
        if self.refused == Some(order.plan) {
            return;
        }
        match &mut self.memory.stop_asked {
            Some(asked) if asked.plan == order.plan => asked.until = until,
            asked => {
                let turn = self.memory.seen.as_ref().map_or(0, |seen| seen.number);
                *asked = Some(StopAsked { plan: order.plan, turn, drain_until: after(order.drain_s), until });
                self.drained = false;
                self.note("the backup asks this node to stop for a switchover", &order.reason);
            }
        }
    }

    fn forget_what_is_over(&mut self) {
        let now = self.now.wall;
        if self.memory.stop_asked.is_some() && self.memory.stop_asked(now).is_none() {
            self.memory.stop_asked = None;
        }
        // No call is cut for a switchover that can wait: the request is refused, and nothing has changed.
        let calls_are_up = !self.drained && self.last_act == Some(Act::Drain) && self.in_flight.is_none();
        let waited = self.memory.stop_asked.as_ref().filter(|asked| calls_are_up && now >= asked.drain_until);
        if let Some(plan) = waited.map(|asked| asked.plan) {
            let why = self.trouble.clone().unwrap_or_else(|| "whether calls are up is not known".to_owned());
            self.refused = Some(plan);
            self.memory.stop_asked = None;
            self.note("the switchover is refused: calls did not end in time", &why);
        }
        if self.memory.forced.is_some() && self.memory.forced().is_none() {
            self.memory.forced = None;
        }
        if self.memory.planned_stop_until.is_some_and(|until| now >= until) {
            self.memory.planned_stop_until = None;
        }
    }

    fn watch_epoch(&mut self) {
        let waited = self.asked.map(|at| self.now.since(at));
        let due = waited.is_none_or(|waited| waited >= if self.reading { READ_LOST_AFTER } else { READ_EVERY });
        if due {
            self.asked = Some(self.now.boot);
            self.reading = true;
            self.out.asks.push(Ask::ReadEpoch);
        }
    }

    /// What the PBX may do now, and why.
    pub fn ruling(&self) -> Ruling {
        let standing = self.standing();
        let ruling = rule(&standing, &self.memory, &self.node, self.policy, self.unread_for(), self.now.wall);
        match (&self.read, ruling.duty) {
            // What was remembered may be long over: nothing is started on it, and nothing stopped.
            (Some(_), Duty::Serve) if self.frozen && self.memory.forced().is_none() => {
                Ruling { duty: Duty::AsItIs, ..ruling }
            }
            (None, Duty::Serve) if self.memory.forced().is_none() => Ruling { duty: Duty::AsItIs, ..ruling },
            _ => ruling,
        }
    }

    /// What the record says, as last read.
    pub fn standing(&self) -> Standing {
        match &self.read {
            None => Standing::Unknown("the epoch has not been read yet".to_owned()),
            Some(read) => stand(read, &self.memory, &self.node),
        }
    }

    /// Whether the record was read since the start, well or not.
    pub fn has_read(&self) -> bool {
        self.read.is_some()
    }

    /// For how long no reading has meant anything, over restarts too. What is remembered counts once a reading of ours
    /// has failed: the record may be well again.
    pub fn unread_for(&self) -> Duration {
        let remembered = self.read.as_ref().and(self.memory.unread_since);
        self.now.since(remembered.unwrap_or(self.read_well_at))
    }

    fn say(&mut self, ruling: &Ruling) {
        let changed = self
            .told
            .as_ref()
            .is_none_or(|told| told.duty != ruling.duty || told.beside_another != ruling.beside_another);
        let repeats = ruling.beside_another && self.tell_again_at.is_some_and(|at| self.now.boot >= at);
        if changed {
            self.note(&format!("the PBX may: {}", ruling.duty.name()), &ruling.because);
        }
        let is_down = matches!(ruling.duty, Duty::Stop | Duty::WithoutTrunks);
        if ruling.beside_another && (changed || repeats) {
            self.out.asks.push(Ask::Tell(EventName::BothMayServe, ruling.because.clone(), None));
            self.tell_again_at = Some(self.now.boot + self.repeat);
        } else if is_down && (changed || self.told_down.is_none()) && !self.drains() {
            // While it waits for calls it serves: nobody is told of a switchover that may yet be refused.
            self.out.asks.push(Ask::Tell(EventName::SteppedDown, ruling.because.clone(), None));
            self.told_down = Some(ruling.duty);
        } else if self.told_down.is_some() && ruling.duty == Duty::Serve {
            self.out.asks.push(Ask::Tell(EventName::ServesAgain, ruling.because.clone(), None));
        }
        if ruling.duty == Duty::Serve {
            self.told_down = None;
        }
        if changed {
            self.told = Some(ruling.clone());
        }
    }

    fn carry_out(&mut self, ruling: &Ruling) {
        let Some(pbx) = self.pbx else { return };
        let Some(act) = self.due(ruling.duty, pbx) else { return };
        let busy = self.in_flight.filter(|(_, since)| self.now.since(*since) < ACT_LOST_AFTER);
        // A stop waits for nothing but itself: not for a start that takes its time, nor for its pause.
        if busy.is_some_and(|(other, _)| act != Act::Stop || other == Act::Stop) {
            return;
        }
        if self.last_act != Some(act) {
            (self.failures, self.again_at, self.trouble) = (0, None, None);
            self.last_act = Some(act);
        }
        if self.again_at.is_some_and(|at| self.now.boot < at) {
            return;
        }
        if act == Act::Stop {
            // It runs, so it shall run again: remembered before it is stopped.
            let held = HeldBack { since: self.now.wall, because: ruling.because.clone() };
            let runs = pbx != Condition::Stopped || self.memory.held_back.is_some();
            self.ran_before_stop = runs.then(|| self.memory.held_back.clone().unwrap_or(held));
            self.memory.held_back.clone_from(&self.ran_before_stop);
        }
        self.in_flight = Some((act, self.now.boot));
        self.out.asks.push(Ask::Act(act));
    }

    /// What is to be done so that the PBX does its duty; `None`: it does.
    fn due(&self, duty: Duty, pbx: Condition) -> Option<Act> {
        match duty {
            Duty::AsItIs => None,
            Duty::Stop if self.done == Some(Duty::Stop) => None,
            Duty::Stop if self.drains() => Some(Act::Drain),
            Duty::Stop => Some(Act::Stop),
            // A PBX that does not run has no trunks; it is not started for its phones alone.
            Duty::WithoutTrunks => {
                (self.done != Some(Duty::WithoutTrunks) && pbx == Condition::Serves).then_some(Act::UnregisterTrunks)
            }
            Duty::Serve if self.memory.held_back.is_some() && self.memory.planned_stop(self.now.wall).is_none() => {
                Some(Act::Start)
            }
            Duty::Serve => (self.done == Some(Duty::WithoutTrunks)).then_some(Act::RegisterTrunks),
        }
    }

    /// Whether the stop that the backup asked for still waits for calls to end; one that is due for another reason does not.
    fn drains(&self) -> bool {
        let elsewhere = matches!(self.standing(), Standing::Other(_));
        !self.drained && !elsewhere && self.memory.stop_asked(self.now.wall).is_some()
    }

    /// What is answered to the backup's request: done once the PBX is seen to be stopped.
    pub fn stop_outcome(&self, plan: PlanId) -> StepOutcome {
        let asked = self.memory.stop_asked(self.now.wall).filter(|asked| asked.plan == plan);
        if self.refused == Some(plan) {
            return StepOutcome::failed(format!("{} does not stop: calls did not end in time", self.node));
        }
        let Some(asked) = asked.filter(|_| self.ruling().duty == Duty::Stop) else {
            return StepOutcome::failed(format!("{} does not stop for it: {}", self.node, self.ruling().because));
        };
        if self.done == Some(Duty::Stop) {
            return StepOutcome::done(format!("{} has stopped its PBX until {}", self.node, asked.until));
        }
        let what = if self.drains() { "waits for calls to end" } else { "is stopping its PBX" };
        StepOutcome::unknown(match &self.trouble {
            Some(trouble) => format!("{} {what}; {trouble}", self.node),
            None => format!("{} {what}", self.node),
        })
    }

    fn note(&mut self, what: &str, why: &str) {
        self.out.asks.push(Ask::Note(what.to_owned(), why.to_owned()));
    }

    /// What is remembered over a restart.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The PBX as it was last seen.
    pub fn pbx(&self) -> Option<Condition> {
        self.pbx
    }

    /// What was done last and seen to be so.
    pub fn done(&self) -> Option<Duty> {
        self.done
    }

    /// Why the last act did not succeed.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

fn done(act: Act) -> &'static str {
    match act {
        Act::Stop => "the PBX is stopped",
        Act::UnregisterTrunks => "the trunks are given up",
        Act::RegisterTrunks => "the trunks are registered again",
        Act::Start => "the PBX is started again",
        Act::Drain => "no call is up",
    }
}

fn failed(act: Act) -> &'static str {
    match act {
        Act::Stop => "the PBX could not be stopped",
        Act::UnregisterTrunks => "the trunks could not be given up",
        Act::RegisterTrunks => "the trunks could not be registered again",
        Act::Start => "the PBX could not be started again",
        Act::Drain => "calls are up",
    }
}
