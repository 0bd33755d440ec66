//! The world that the model checker explores: real engines, a zone, disks, messages, a primary, time.
//!
//! It carries out what the engines ask and says what happened; which of the possible things happens next is chosen
//! in [`super::steps`]. What must never happen is noticed in [`super::rules`], on the way.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::engine::memory::Memory;
use crate::engine::{Ask, Durability, Engine, Event, Order, Output, Recovered, StepReport};
use crate::units::journal::{Batch, JournalEntry, JournalRecord};
use crate::units::operator::Reply;
use crate::units::{
    Advance, EpochRead, EpochRecord, EpochSeen, Mode, Now, PlanId, ProbeAnswer, ProbeResult, Side, State, Step,
    StepOutcome,
};

use super::rules::{Rule, Witnessed};
use super::scene::{Left, Lens, Scene, seconds};
use super::site::Site;

/// How the primary's host answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    Up,
    Down,
    WebOnly,
}

/// What a robot's PBX does when it is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pbx {
    Well,
    WontStart,
    WontStop,
}

/// What survives a crash.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    pub memory: Option<Arc<Memory>>,
    pub plan: Option<PlanId>,
    pub journal: Vec<JournalEntry>,
    /// Records that a full disk refused; the daemon writes them with the next batch.
    pub late: Vec<JournalEntry>,
}

/// Something that was asked and not answered yet.
#[derive(Debug, Clone)]
pub struct Waiting {
    pub ask: Ask,
    /// Time may pass before it is answered.
    pub held: bool,
    /// A reading that was taken, and whose answer is late.
    pub taken: Option<EpochRead>,
}

/// A robot, with its host.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // one fact of the world a field
pub struct Node {
    /// `None`: the process does not run.
    pub engine: Option<Arc<Engine>>,
    pub disk: Arc<Disk>,
    pub disk_full: bool,
    pub serving: bool,
    pub pbx: Pbx,
    pub internet: bool,
    pub path: bool,
    pub waiting: Vec<Waiting>,
    pub starts: u64,
    pub witnessed: Witnessed,
}

/// The zone that holds the epoch.
#[derive(Debug, Clone)]
pub struct Zone {
    pub record: EpochSeen,
    pub answers: bool,
    /// Swaps that the net holds back.
    pub late: Vec<(EpochSeen, EpochRecord)>,
    /// Every record that ever stood there.
    pub stood: Vec<EpochRecord>,
    /// It was restored from an old copy, or emptied, in this history.
    pub fell: bool,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct World {
    pub scene: Arc<Scene>,
    pub now: Now,
    pub nodes: Vec<Node>,
    pub zone: Zone,
    pub primary: Host,
    /// The primary's guard and agent, in scenes that have them.
    pub site: Option<Site>,
    /// The robot at which the names point.
    pub named: Option<usize>,
    pub call: bool,
    pub left: Left,
    pub broken: Option<Rule>,
    /// What a person was told last.
    pub reply: Option<Reply>,
    /// What decides its future, as one number: see [`super::shape`].
    pub shape: u64,
}

impl World {
    /// All has been well for a while: every check was seen up, nobody has claimed anything.
    pub fn well(scene: &Arc<Scene>) -> Self {
        let node = Node {
            engine: None,
            disk: Arc::default(),
            disk_full: false,
            serving: false,
            pbx: Pbx::Well,
            internet: true,
            path: true,
            waiting: Vec::new(),
            starts: 0,
            witnessed: Witnessed::default(),
        };
        let mut world = Self {
            scene: Arc::clone(scene),
            now: Now { boot: seconds(1000), wall: Timestamp::from_second(1_800_000_000).expect("a time") },
            nodes: vec![node; scene.robots],
            zone: Zone { record: EpochSeen::Absent, answers: true, late: Vec::new(), stood: Vec::new(), fell: false },
            primary: Host::Up,
            site: scene.agent.map(Site::new),
            named: None,
            call: false,
            left: scene.left,
            broken: None,
            reply: None,
            shape: 0,
        };
        world.site_starts();
        for n in 0..scene.robots {
            world.start(n);
        }
        for _ in 0..20 {
            world.second();
            world.answer_all();
        }
        world.reshape();
        world
    }

    pub fn engine(&self, n: usize) -> Option<&Engine> {
        self.nodes[n].engine.as_deref()
    }

    pub fn state(&self, n: usize) -> Option<State> {
        self.engine(n).map(Engine::state)
    }

    pub fn start(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.starts += 1;
        node.waiting.clear();
        node.witnessed.restarted();
        let memory = node.disk.memory.as_deref().map(|m| serde_json::to_value(m).expect("a memory can be written"));
        let recovered = Recovered { memory, journal: node.disk.journal.clone(), plan_settings: None };
        let seed = n as u64 * 1_000_000 + node.starts;
        let scene = &self.scene;
        let engine = Engine::with_tables(Arc::clone(&scene.settings), recovered, self.now, seed, scene.tables);
        node.engine = Some(Arc::new(engine.expect("the memory is our own")));
        self.hear(n, Event::Conformance(Ok(())));
        if self.nodes[n].disk_full {
            self.hear(n, Event::Store(Err("full".into())));
        }
    }

    pub fn hear(&mut self, n: usize, event: Event) {
        let event = self.through_lens(n, event);
        let Some(engine) = &mut self.nodes[n].engine else { return };
        let engine = Arc::make_mut(engine);
        if self.scene.lens == Lens::StallNotSeen {
            engine.stall.tick(self.now);
        }
        let output = engine.handle(event, self.now);
        let read = engine.epoch_read.as_ref().and_then(|read| read.as_ref().ok());
        let stands = read.and_then(EpochSeen::record).map_or(0, |record| record.number);
        if self.scene.lens == Lens::ForgetsTheHighest {
            engine.memory.epoch_seen_max = stands;
        }
        self.take(n, output);
    }

    fn take(&mut self, n: usize, output: Output) {
        self.notice(n, &output);
        let Output { batch, durability, happenings, mut asks, reply } = output;
        self.reply = reply;
        if !batch.is_empty() || !happenings.is_empty() {
            if self.nodes[n].disk_full {
                self.refuse(n, batch, durability, &mut asks);
            } else {
                self.write(n, batch);
            }
        }
        let waiting = &mut self.nodes[n].waiting;
        for ask in asks {
            match ask {
                Ask::ProbeNow => {}
                // What a dropped plan asked for has ended before another's begins.
                Ask::Forget(dropped) => {
                    waiting.retain(|w| !matches!(w.ask, Ask::Step { plan, .. } if plan == dropped));
                }
                ask => waiting.push(Waiting { ask, held: false, taken: None }),
            }
        }
    }

    fn write(&mut self, n: usize, batch: Batch) {
        let node = &mut self.nodes[n];
        node.witnessed.unwritten &= batch.memory.is_none();
        let late = !node.disk.late.is_empty();
        if batch.memory.is_none() && batch.journal.is_empty() && !late {
            return; // history only
        }
        let disk = Arc::make_mut(&mut node.disk);
        if batch.memory.is_some() && self.scene.lens != Lens::MemoryNotWritten {
            // Just written, so what the engine holds as written is what it remembers; a lens may have changed it since.
            let engine = node.engine.as_deref();
            disk.memory = match self.scene.lens {
                Lens::ForgetsTheHighest => engine.map(|engine| Arc::new(engine.memory.clone())),
                _ => engine.and_then(|engine| engine.written_memory.clone()),
            };
        }
        for entry in std::mem::take(&mut disk.late).into_iter().chain(batch.journal) {
            if matches!(entry.record, JournalRecord::Opened { .. }) {
                disk.journal.clear();
                disk.plan = Some(entry.plan);
            }
            if disk.plan == Some(entry.plan) {
                disk.journal.push(entry);
            }
        }
    }

    fn refuse(&mut self, n: usize, batch: Batch, durability: Durability, asks: &mut Vec<Ask>) {
        self.nodes[n].witnessed.unwritten = true;
        let mut not_begun = Vec::new();
        if durability == Durability::Required {
            asks.retain(|ask| match ask {
                Ask::Step { plan, step, .. } => {
                    not_begun.push((*plan, *step));
                    false
                }
                _ => true,
            });
        }
        Arc::make_mut(&mut self.nodes[n].disk).late.extend(batch.journal);
        let refused = Event::Store(Err("full".into()));
        let events = not_begun.into_iter().map(|(plan, step)| Event::NotBegun { plan, step }).chain([refused]);
        for event in events.collect::<Vec<_>>() {
            let Some(engine) = &mut self.nodes[n].engine else { return };
            let engine = Arc::make_mut(engine);
            engine.forget_written();
            let output = engine.handle(event, self.now);
            engine.forget_written();
            Arc::make_mut(&mut self.nodes[n].disk).late.extend(output.batch.journal.clone());
            self.notice(n, &output);
            asks.extend(output.asks.into_iter().filter(|ask| !matches!(ask, Ask::Step { .. })));
        }
    }

    /// A second passes: every robot that runs ticks, and every check is answered.
    pub fn second(&mut self) {
        self.pass(seconds(1));
        self.site_second();
        for n in 0..self.nodes.len() {
            self.tick(n);
        }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now.boot += time;
        self.now.wall += time;
    }

    pub fn tick(&mut self, n: usize) {
        if self.nodes[n].engine.is_none() {
            return;
        }
        self.witness_tick(n);
        self.hear(n, Event::Tick);
        let asked = self.now.boot;
        let (reaches, internet) = (self.reaches_primary(n), self.nodes[n].internet);
        for (i, kind) in ["web", "sip"].into_iter().enumerate() {
            let up = reaches && (self.primary_serves() || kind == "web");
            self.nodes[n].witnessed.votes[i] = Some(up);
            let name = self.scene.settings.checks[i].name.clone();
            self.hear(n, Event::Check { name, result: answer(up), asked });
        }
        self.nodes[n].witnessed.internet = Some(internet);
        self.hear(n, Event::Internet { target: 0, result: answer(internet), asked });
        let alive = self.primary != Host::Down;
        if !self.scene.settings.observers.is_empty() {
            self.nodes[n].witnessed.vetoed = alive && internet;
            let result = answer(alive && internet);
            self.hear(n, Event::Observer { target: 0, result, asked });
        }
        if !self.scene.settings.site.is_empty() {
            let result = answer(alive && internet && self.nodes[n].path);
            self.hear(n, Event::Site { target: 0, result, asked });
        }
        if self.state(n) == Some(State::Active) {
            let seen = if self.nodes[n].serving { Ok(()) } else { Err("silent".into()) };
            self.hear(n, Event::Pbx(seen));
        }
    }

    fn reaches_primary(&self, n: usize) -> bool {
        let cut = self.site.as_ref().is_some_and(|site| site.cut);
        self.primary != Host::Down && !cut && self.nodes[n].path && self.nodes[n].internet
    }

    pub fn reaches_zone(&self, n: usize) -> bool {
        self.zone.answers && self.nodes[n].internet
    }

    pub fn read_zone(&self, n: usize) -> EpochRead {
        if self.reaches_zone(n) { Ok(self.zone.record.clone()) } else { Err("no answer".into()) }
    }

    /// One update at the master: compare, and swap.
    pub fn apply(&mut self, from: &EpochSeen, to: &EpochRecord) {
        if self.zone.record == *from || self.scene.lens == Lens::SwapWithoutCompare {
            self.notice_write(to);
            self.zone.record = EpochSeen::held(to.clone());
            if !self.zone.stood.contains(to) {
                self.zone.stood.push(to.clone());
            }
        }
    }

    /// What the adapter makes of it: the record is read back, and only our id is a success.
    fn swap(&mut self, n: usize, from: &EpochSeen, to: &EpochRecord) -> Advance {
        if !self.reaches_zone(n) {
            return Advance::Unknown("no answer".into());
        }
        self.apply(from, to);
        match &self.zone.record {
            EpochSeen::Held { record, .. }
                if record.id == to.id && record.number == to.number && record.holder == to.holder =>
            {
                Advance::Done
            }
            seen if seen == from => Advance::Unknown("the old record stands".into()),
            seen => Advance::Lost(seen.clone()),
        }
    }

    /// Carries an ask out and answers it.
    pub fn answer(&mut self, n: usize, i: usize) {
        let Waiting { ask, taken, .. } = self.nodes[n].waiting.remove(i);
        let event = match ask {
            Ask::ReadEpoch => Event::Epoch(taken.unwrap_or_else(|| self.read_zone(n))),
            Ask::Swap { from, to } => Event::Swapped(self.swap(n, &from, &to)),
            Ask::Step { plan, step, attempt, mode, order, .. } => {
                let (outcome, seen) = self.carry_out(n, step, mode, order);
                Event::Step(StepReport { plan, step, attempt, mode, outcome, seen })
            }
            Ask::ProbeNow | Ask::Forget(_) => return,
        };
        self.hear(n, event);
    }

    /// Carries an ask out, or does not; either way nobody learns of it.
    pub fn answer_unknown(&mut self, n: usize, i: usize, carried_out: CarriedOut) {
        let Waiting { ask, .. } = self.nodes[n].waiting.remove(i);
        let why = || "no answer".to_owned();
        let event = match ask {
            Ask::ReadEpoch => Event::Epoch(Err(why())),
            Ask::Swap { from, to } => {
                self.send(n, from, to, carried_out);
                Event::Swapped(Advance::Unknown(why()))
            }
            Ask::Step { plan, step, attempt, mode, order, .. } => {
                match (order, carried_out) {
                    (Order::Swap { from, to }, how) => self.send(n, from, to, how),
                    (order, CarriedOut::Yes) => drop(self.carry_out(n, step, mode, order)),
                    (_, CarriedOut::No | CarriedOut::Later) => {}
                }
                let lost = self.scene.lens == Lens::LostIsDone && step == Step::Claim && mode == Mode::Act;
                let outcome = if lost { StepOutcome::done("lost") } else { StepOutcome::Unknown(why()) };
                Event::Step(StepReport { plan, step, attempt, mode, outcome, seen: None })
            }
            Ask::ProbeNow | Ask::Forget(_) => return,
        };
        self.hear(n, event);
    }

    /// A swap on its way.
    pub fn send(&mut self, n: usize, from: EpochSeen, to: EpochRecord, carried_out: CarriedOut) {
        match carried_out {
            CarriedOut::Yes if self.reaches_zone(n) => self.apply(&from, &to),
            CarriedOut::Later => self.zone.late.push((from, to)),
            CarriedOut::Yes | CarriedOut::No => {}
        }
    }

    fn carry_out(&mut self, n: usize, step: Step, mode: Mode, order: Order) -> (StepOutcome, Option<EpochSeen>) {
        let node = &mut self.nodes[n];
        let done = |is: bool| if is { StepOutcome::done("seen") } else { StepOutcome::failed("not so") };
        let outcome = match (step, mode, order) {
            (Step::Claim | Step::HandOver, Mode::Act, Order::Swap { from, to }) => {
                return match self.swap(n, &from, &to) {
                    Advance::Done => (StepOutcome::done("swapped"), Some(EpochSeen::held(to))),
                    Advance::Lost(seen) => (StepOutcome::Refused("lost".into()), Some(seen)),
                    Advance::Unknown(why) => (StepOutcome::Unknown(why), None),
                };
            }
            (Step::Claim | Step::HandOver, ..) => {
                return match self.read_zone(n) {
                    Ok(seen) => (StepOutcome::failed("read"), Some(seen)),
                    Err(why) => (StepOutcome::Unknown(why), None),
                };
            }
            (Step::Reload, Mode::Act, _) => {
                node.serving |= node.pbx != Pbx::WontStart;
                done(node.serving)
            }
            (Step::Reload | Step::AcceptRegistrations, ..) => done(node.serving),
            (Step::StopAccepting, ..) => {
                node.serving &= node.pbx == Pbx::WontStop;
                done(!node.serving)
            }
            (Step::RedirectDns, mode, Order::Names { to, epoch_raw }) => {
                let wanted = (to == Side::Backup).then_some(n);
                if self.named == wanted {
                    done(true)
                } else if mode == Mode::Look || !self.reaches_zone(n) {
                    done(false)
                } else {
                    // In the epoch's zone the move carries the record that this plan wrote as its prerequisite.
                    let stands = match &self.zone.record {
                        EpochSeen::Held { raw, .. } => epoch_raw.is_none_or(|wrote| wrote == *raw),
                        EpochSeen::Absent => epoch_raw.is_none(),
                    };
                    if stands {
                        self.named = wanted;
                    }
                    done(stands)
                }
            }
            (Step::Drain, ..) => done(!self.call),
            (Step::PrimaryServes, ..) if self.site.is_some() => done(self.site_is_started()),
            // Nobody may pass a fence but a person: what a required fence is for.
            (Step::Fence, ..) => StepOutcome::failed("the device does not answer"),
            _ => done(true),
        };
        (outcome, None)
    }

    /// Answers everything that is asked, until nothing is.
    pub fn answer_all(&mut self) {
        for _ in 0..500 {
            let Some(n) = self.nodes.iter().position(|node| !node.waiting.is_empty()) else { return };
            self.answer(n, 0);
        }
        self.broken = Some(Rule::AsksWithoutEnd);
    }

    /// The process ends; what it asked for last may be on its way.
    pub fn crash(&mut self, n: usize, sent: CarriedOut) {
        let waiting = std::mem::take(&mut self.nodes[n].waiting);
        if sent == CarriedOut::Later {
            for Waiting { ask, .. } in waiting {
                if let Ask::Swap { from, to } | Ask::Step { order: Order::Swap { from, to }, .. } = ask {
                    self.zone.late.push((from, to));
                }
            }
        }
        self.nodes[n].engine = None;
        Arc::make_mut(&mut self.nodes[n].disk).late.clear();
    }

    /// What a planted fault makes of an event.
    fn through_lens(&self, n: usize, event: Event) -> Event {
        if self.scene.lens != Lens::NameInsteadOfId {
            return event;
        }
        let Some(claim) = self.engine(n).and_then(|engine| engine.memory.claim.as_ref()) else { return event };
        let ours = |seen: EpochSeen| match seen {
            EpochSeen::Held { mut record, raw } if record.holder == claim.holder => {
                record.id = claim.id;
                EpochSeen::Held { record, raw }
            }
            seen => seen,
        };
        match event {
            Event::Epoch(Ok(seen)) => Event::Epoch(Ok(ours(seen))),
            Event::Step(mut report) => {
                report.seen = report.seen.map(ours);
                Event::Step(report)
            }
            event => event,
        }
    }
}

/// Whether something was done although nobody learns of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CarriedOut {
    Yes,
    No,
    Later,
}

fn answer(up: bool) -> ProbeResult {
    let answer = if up { ProbeAnswer::up("200") } else { ProbeAnswer::Down(String::new()) };
    ProbeResult { answer, latency: Duration::ZERO }
}
