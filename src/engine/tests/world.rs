//! A world in virtual time: a primary, an Internet, an epoch store, a PBX, a disk. It answers what the engine asks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;

use jiff::Timestamp;

use crate::decision::CheckSettings;
use crate::engine::{
    AgentAsked, Ask, Automatic, Durability, Engine, EpochStoreKind, Event, InternetSettings, Order, Output,
    PrimaryStart, Recovered, Settings, StepReport,
};
use crate::takeover::{Configured, Limits};
use crate::units::journal::{HistoryEvent, JournalEntry, JournalRecord};
use crate::units::operator::{Command, Reply, Request};
use crate::units::policy::{DownWhen, HalfDead, SiteCut};
use crate::units::{
    Advance, Beat, CheckKind, CheckName, EpochRead, EpochRecord, EpochSeen, Heard, Mode, Now, PeerReading, PlanId,
    ProbeAnswer, ProbeResult, State, Step, StepOutcome,
};

/// How the primary's host answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    Up,
    Down,
    /// The web answers, SIP does not.
    WebOnly,
    /// SIP answers, the web does not.
    SipOnly,
}

/// What the disk holds after a crash.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    pub memory: Option<serde_json::Value>,
    pub journal: BTreeMap<PlanId, Vec<JournalEntry>>,
    pub last_plan: Option<PlanId>,
    pub history: Vec<HistoryEvent>,
    /// Keys of the messages that were queued.
    pub messages: BTreeSet<String>,
    pub broken: bool,
    pub batches: usize,
}

#[allow(clippy::struct_excessive_bools)] // one fact of the world a field
pub struct World {
    pub engine: Engine,
    pub settings: Settings,
    pub now: Now,
    pub primary: Host,
    pub internet: bool,
    pub epoch: EpochRead,
    pub disk: Disk,
    /// What the PBX on this node does.
    pub serving: bool,
    /// Names point at us.
    pub named: bool,
    /// Steps whose acts fail, with the outcome.
    pub faults: BTreeMap<Step, StepOutcome>,
    /// The store refuses every swap.
    pub refuse_swaps: bool,
    /// Acts that were carried out, in order.
    pub acts: Vec<Step>,
    pub calls: u32,
    pub asks: VecDeque<Ask>,
    pub replies: Vec<Reply>,
    pub told: Vec<String>,
    /// End the process after so many batches, before their asks begin.
    pub crash_at_batch: Option<usize>,
    pub crashes: usize,
    /// The answer of this step's act never arrives.
    pub lose_answer_of: Option<Step>,
    /// What the primary's agent tells with each round of checks, if there is one and it answers.
    pub beat: Option<Beat>,
    /// What the places at the primary's site, and the observers, answer.
    pub site: Option<bool>,
    pub observers: Option<bool>,
    /// Plans whose hold on the primary was taken back.
    pub resumed: Vec<PlanId>,
    /// Journal records that a broken disk refused; the daemon writes them with the next batch.
    late: Vec<JournalEntry>,
    tick: u64,
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn settings() -> Settings {
    let three = NonZeroU32::new(3).unwrap();
    let check = |name: &str, kind| CheckSettings {
        name: CheckName(name.into()),
        kind,
        definition: format!("{name} v1"),
        fall: three,
        rise: three,
        period: seconds(4),
    };
    Settings {
        node: "pbx-b".parse().unwrap(),
        peer: "pbx-a".parse().unwrap(),
        checks: vec![check("web", CheckKind::Http), check("sip", CheckKind::Sip)],
        internet: InternetSettings {
            need: NonZeroU32::new(2).unwrap(),
            targets: vec!["one".into(), "two".into(), "three".into()],
            period: seconds(4),
        },
        site: Vec::new(),
        observers: Vec::new(),
        agent: AgentAsked::No,
        others_period: seconds(4),
        down_when: DownWhen::All,
        half_dead: HalfDead::TakeoverAfter(seconds(120)),
        site_cut: SiteCut::Takeover,
        automatic: Automatic::On,
        hold_down: seconds(10),
        startup_grace: seconds(5),
        hold_off: seconds(60),
        give_up_after: seconds(300),
        repeat: seconds(900),
        epoch_store: EpochStoreKind::Dns,
        confirm_within: seconds(4),
        primary_start: PrimaryStart::ByItself,
        configured: Configured {
            trunks: true,
            dns: true,
            takeover_urls: true,
            failback_urls: true,
            notify: true,
            return_data: true,
            return_rest: true,
            ..Configured::default()
        },
        limits: Limits { drain: seconds(60), wait_for_primary: seconds(30), stop_lasts: seconds(300) },
        config_text: "the frozen text".into(),
    }
}

fn start(settings: &Settings, disk: &Disk, now: Now, seed: u64) -> Engine {
    let journal = disk.last_plan.and_then(|id| disk.journal.get(&id).cloned()).unwrap_or_default();
    let recovered = Recovered { memory: disk.memory.clone(), journal, plan_settings: None };
    Engine::new(settings.clone(), recovered, now, seed).expect("the memory is our own")
}

impl World {
    pub fn new() -> Self {
        Self::with(settings())
    }

    pub fn with(settings: Settings) -> Self {
        let now = Now { boot: seconds(1000), wall: Timestamp::from_second(1_800_000_000).unwrap() };
        let disk = Disk::default();
        let engine = start(&settings, &disk, now, 1);
        let mut world = Self {
            engine,
            settings,
            now,
            primary: Host::Up,
            internet: true,
            epoch: Ok(EpochSeen::Absent),
            disk,
            serving: false,
            named: false,
            faults: BTreeMap::new(),
            refuse_swaps: false,
            acts: Vec::new(),
            calls: 0,
            asks: VecDeque::new(),
            replies: Vec::new(),
            told: Vec::new(),
            crash_at_batch: None,
            crashes: 0,
            lose_answer_of: None,
            beat: None,
            site: None,
            observers: None,
            resumed: Vec::new(),
            late: Vec::new(),
            tick: 0,
        };
        world.hear(Event::Conformance(Ok(())));
        world
    }

    /// A world in which all has been well for half a minute: tested, armed.
    pub fn well() -> Self {
        let mut world = Self::new();
        world.run_for(30);
        assert_eq!(world.engine.state(), State::Standby);
        assert_eq!(world.engine.disarmed_because(), &[] as &[String]);
        world
    }

    pub fn state(&self) -> State {
        self.engine.state()
    }

    pub fn holder(&self) -> String {
        match &self.epoch {
            Ok(seen) => seen.record().map_or_else(|| "nobody".into(), |r| format!("{} {}", r.number, r.holder)),
            Err(why) => why.clone(),
        }
    }

    pub fn hear(&mut self, event: Event) {
        let output = self.engine.handle(event, self.now);
        self.take(output);
    }

    fn take(&mut self, output: Output) {
        let wake = self.engine.wake_at();
        assert!(wake.is_none_or(|at| at > self.now.boot), "woken again and again at {wake:?}\n{}", self.story());
        let Output { batch, durability, happenings, asks, reply } = output;
        self.replies.extend(reply);
        let mut asks = asks;
        if !batch.is_empty() || !happenings.is_empty() {
            if self.disk.broken {
                self.late.extend(batch.journal);
                self.engine.forget_written();
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
                for (plan, step) in not_begun {
                    let output = self.engine.handle(Event::NotBegun { plan, step }, self.now);
                    self.engine.forget_written();
                    self.asks.extend(output.asks.into_iter().filter(|ask| !matches!(ask, Ask::Step { .. })));
                }
                self.engine_store_broken();
            } else {
                self.write(batch, happenings);
                if self.crash_at_batch == Some(self.disk.batches) {
                    self.crash_at_batch = None;
                    self.crash();
                    return;
                }
            }
        }
        self.asks.extend(asks);
    }

    fn engine_store_broken(&mut self) {
        let output = self.engine.handle(Event::Store(Err("no space left".into())), self.now);
        self.engine.forget_written();
        self.asks.extend(output.asks);
    }

    fn write(&mut self, batch: crate::units::journal::Batch, happenings: Vec<crate::engine::Happening>) {
        self.disk.batches += 1;
        if let Some(memory) = batch.memory {
            self.disk.memory = Some(memory);
        }
        for entry in self.late.drain(..).chain(batch.journal).collect::<Vec<_>>() {
            let opens = matches!(entry.record, JournalRecord::Opened { .. });
            if opens || self.disk.journal.contains_key(&entry.plan) {
                self.disk.last_plan = Some(entry.plan);
                self.disk.journal.entry(entry.plan).or_default().push(entry);
            }
        }
        self.disk.history.extend(batch.history);
        for happening in happenings {
            self.told.push(format!("{}: {}", happening.event, happening.because));
            self.disk.messages.insert(format!("{}:{:?}", happening.key, happening.channels));
        }
    }

    /// The process dies; what was asked and not answered is lost. It starts again a second later.
    pub fn crash(&mut self) {
        self.crashes += 1;
        self.late.clear();
        self.asks.clear();
        self.now.boot += seconds(1);
        self.now.wall += seconds(1);
        self.engine = start(&self.settings, &self.disk, self.now, 1000 + self.crashes as u64);
        self.hear(Event::Conformance(Ok(())));
    }

    /// Answers everything that is asked, until nothing is.
    pub fn answer_all(&mut self) {
        for _ in 0..10_000 {
            let Some(ask) = self.asks.pop_front() else { return };
            self.answer(ask);
        }
        panic!("the engine asks without end");
    }

    pub fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::ProbeNow => self.probe_all(),
            Ask::ReadEpoch => self.hear(Event::Epoch(self.epoch.clone())),
            Ask::Forget(plan) => self.resumed.push(plan),
            Ask::Swap { from, to } => {
                let advance = self.swap(&from, &to);
                self.hear(Event::Swapped(advance));
            }
            Ask::Step { plan, step, attempt, mode, order, .. } => {
                let (outcome, seen) = self.carry_out(plan, step, mode, order);
                if mode == Mode::Act && self.lose_answer_of == Some(step) {
                    self.lose_answer_of = None;
                    return;
                }
                self.hear(Event::Step(StepReport { plan, step, attempt, mode, outcome, seen }));
            }
        }
    }

    pub fn probe_all(&mut self) {
        let asked = self.now.boot;
        for name in ["web", "sip"] {
            let up = match self.primary {
                Host::Up => true,
                Host::Down => false,
                Host::WebOnly => name == "web",
                Host::SipOnly => name == "sip",
            };
            let result = result(up);
            self.hear(Event::Check { name: CheckName(name.into()), result, asked });
        }
        for target in 0..3 {
            let result = result(self.internet);
            self.hear(Event::Internet { target, result, asked });
        }
        if let Some(up) = self.site {
            self.hear(Event::Site { target: 0, result: result(up), asked });
        }
        if let Some(up) = self.observers {
            self.hear(Event::Observer { target: 0, result: result(up), asked });
        }
        if let Some(beat) = self.beat.clone() {
            let heard = Heard { beat, drift: jiff::SignedDuration::ZERO };
            self.hear(Event::Peer { reading: PeerReading::Heard(Box::new(heard)), asked });
        }
    }

    fn swap(&mut self, from: &EpochSeen, to: &EpochRecord) -> Advance {
        match &self.epoch {
            Err(why) => Advance::Unknown(why.clone()),
            Ok(_) if self.refuse_swaps => Advance::Unknown("refused".into()),
            Ok(seen) if seen == from => {
                self.epoch = Ok(EpochSeen::held(to.clone()));
                Advance::Done
            }
            Ok(seen) => Advance::Lost(seen.clone()),
        }
    }

    fn carry_out(&mut self, plan: PlanId, step: Step, mode: Mode, order: Order) -> (StepOutcome, Option<EpochSeen>) {
        if mode == Mode::Look {
            return self.look(plan, step, &order);
        }
        self.acts.push(step);
        if let Some(outcome) = self.faults.get(&step) {
            return (outcome.clone(), None);
        }
        match (step, order) {
            (Step::Claim | Step::HandOver, Order::Swap { from, to }) => match self.swap(&from, &to) {
                Advance::Done => (StepOutcome::done("swapped"), Some(EpochSeen::held(to))),
                Advance::Lost(seen) => (StepOutcome::Refused("lost".into()), Some(seen)),
                Advance::Unknown(why) => (StepOutcome::Unknown(why), None),
            },
            (Step::Reload, _) => {
                self.serving = true;
                (StepOutcome::done("runs"), None)
            }
            (Step::StopAccepting, _) => {
                self.serving = false;
                (StepOutcome::done("silent"), None)
            }
            (Step::AcceptRegistrations, _) if !self.serving => (StepOutcome::failed("silent"), None),
            (Step::RedirectDns, Order::Names { to, .. }) => {
                self.named = to == crate::units::Side::Backup;
                (StepOutcome::done("moved"), None)
            }
            (Step::Drain, _) if self.calls > 0 => (StepOutcome::failed(format!("{} calls", self.calls)), None),
            _ => (StepOutcome::done("ok"), None),
        }
    }

    fn look(&mut self, _plan: PlanId, step: Step, order: &Order) -> (StepOutcome, Option<EpochSeen>) {
        match (step, order) {
            (Step::Claim | Step::HandOver, _) => match &self.epoch {
                Ok(seen) => (StepOutcome::failed("not yet"), Some(seen.clone())),
                Err(why) => (StepOutcome::Unknown(why.clone()), None),
            },
            (Step::Reload | Step::AcceptRegistrations, _) if self.serving => (StepOutcome::done("serves"), None),
            (Step::RedirectDns, Order::Names { to, .. }) if self.named == (*to == crate::units::Side::Backup) => {
                (StepOutcome::done("as wanted"), None)
            }
            _ => (StepOutcome::failed("not yet"), None),
        }
    }

    /// Lets so many seconds pass: ticks, checks every second, everything answered at once.
    pub fn run_for(&mut self, n: u64) {
        for _ in 0..n {
            self.tick += 1;
            self.now.boot += seconds(1);
            self.now.wall += seconds(1);
            self.hear(Event::Tick);
            self.probe_all();
            self.answer_all();
            let wake = self.engine.wake_at();
            assert!(wake.is_none_or(|at| at > self.now.boot), "woken without end\n{}", self.story());
        }
    }

    /// Lets time pass until the state is reached.
    pub fn run_until(&mut self, state: State, most: u64) {
        for _ in 0..most {
            if self.state() == state {
                return;
            }
            self.run_for(1);
        }
        assert_eq!(self.state(), state, "not within {most} s\n{}", self.story());
    }

    /// Time passes while our process is stopped.
    pub fn stall(&mut self, n: u64) {
        self.now.boot += seconds(n);
        self.now.wall += seconds(n);
    }

    pub fn ask(&mut self, command: Command) -> Reply {
        self.hear(Event::Request(Request { command, reason: "a test".into(), by: "uid 0".into() }));
        let reply = self.replies.pop().expect("a reply");
        self.answer_all();
        reply
    }

    pub fn acted(&self, step: Step) -> usize {
        self.acts.iter().filter(|s| **s == step).count()
    }

    /// The history, for the message of a failed test.
    pub fn story(&self) -> String {
        let line = |e: &HistoryEvent| format!("{:?} {} {} ({})", e.row, e.kind, e.what, e.because);
        self.disk.history.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    pub fn rows(&self) -> Vec<u16> {
        self.disk.history.iter().filter_map(|e| e.row).collect()
    }

    pub fn journal_records(&self) -> Vec<JournalRecord> {
        self.disk.journal.values().flatten().map(|e| e.record.clone()).collect()
    }
}

pub fn result(up: bool) -> ProbeResult {
    let answer = if up { ProbeAnswer::up("200 OK") } else { ProbeAnswer::Down("refused".into()) };
    ProbeResult { answer, latency: Duration::from_millis(1) }
}

pub fn takeover() -> Command {
    Command::Takeover { primary_is_stopped: false, although_cut_off: false, without_claim: false }
}

pub fn failback() -> Command {
    Command::Failback { wait: false, cut_calls: false, undo: false }
}

impl World {
    /// Asks, where the process may die before it replies.
    pub fn ask_maybe_crashing(&mut self, command: Command) {
        self.hear(Event::Request(Request { command: command.clone(), reason: "a test".into(), by: "uid 0".into() }));
        self.answer_all();
        if self.state() == State::Active {
            // It died before the request was on disk: the person asks again.
            self.run_for(10);
            self.hear(Event::Request(Request { command, reason: "a test".into(), by: "uid 0".into() }));
            self.answer_all();
        }
    }
}
