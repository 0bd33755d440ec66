//! The real engine in virtual time, between two sites: it is asked, and answered, as the daemon would.
//!
//! A world here knows no topology, only [`Questions`]: which question gets an answer. So two sets of cuts that answer
//! every question alike are one run, and all sets are covered by few runs ([`Runs`]). The zone is a record with
//! compare-and-swap; both PBXs do what they are told; on the primary are the real guard and agent, without I/O too.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use jiff::Timestamp;
use pbx_failover::decision::CheckSettings;
use pbx_failover::engine::{
    AgentAsked, Ask, Automatic, Engine, EpochStoreKind, Event, InternetSettings, Order, Output, PrimaryStart,
    Recovered, Settings, StepReport,
};
use pbx_failover::primary::{self, AgentRuns, Answer};
use pbx_failover::takeover::{Configured, Limits};
use pbx_failover::units::policy::{self, DownWhen, StepDown, Unreadable};
use pbx_failover::units::{
    Advance, CheckKind, CheckName, Condition, EpochRead, EpochRecord, EpochSeen, Mode, NodeName, Now, ProbeAnswer,
    ProbeResult, State, Step, StepOutcome, Verdict,
};

use super::oracle::{Act, Agent, HalfDead, NEED, Place, Policies, Process, Serving, SiteCut, Used};
use super::plan::{Cuts, Host, TARGETS};

/// Checks and targets are asked so often.
const INTERVAL_S: u64 = 2;
/// `half_dead.takeover_after`.
const HALF_DEAD_S: u64 = 10;
/// `takeover.hold_down`.
const HOLD_DOWN_S: u64 = 4;
/// The agent reads the epoch so often, and needs a moment to act.
const AGENT_S: u64 = 6;
/// `epoch_unreadable.after`.
const UNREADABLE_S: u64 = 8;
/// The longest chain that a cut can start: the agent gives up on the epoch, the checks fall, half-dead stands for its
/// time, the hold-down ends; then the primary must still hear of it.
const SETTLED_S: u64 = UNREADABLE_S + AGENT_S + 4 * INTERVAL_S + HALF_DEAD_S + HOLD_DOWN_S + 2 * AGENT_S;

/// What each question that somebody asks gets for an answer; `None` is a question that nobody asks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Questions {
    web: Way,
    /// Shut too where the PBX is dead; where its agent stopped it, it is as good as shut.
    sip: Way,
    site: Option<Question>,
    /// Whether the observer answers, and then whether it sees life; the agent's stop counts as above.
    observer: Option<(Way, Way)>,
    targets: u8,
    master: Way,
    primary_to_master: Option<Way>,
    provider: Way,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Way {
    Open,
    Shut,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Question {
    Asked(Way),
    NotAllowed,
}

impl Questions {
    /// Under these cuts.
    pub fn of(place: Place, policies: Policies) -> Self {
        let cuts = place.cuts;
        let way = |from, to| if cuts.reaches(from, to) { Way::Open } else { Way::Shut };
        let to = |from, program| if program == Process::Dead { Way::Shut } else { way(from, Host::Primary) };
        let observed = || match way(Host::Backup, Host::Observer) {
            Way::Open => (Way::Open, to(Host::Observer, place.pbx)),
            Way::Shut => (Way::Shut, Way::Shut),
        };
        Self {
            web: to(Host::Backup, place.web),
            sip: to(Host::Backup, place.pbx),
            site: match policies.witness {
                Used::Yes => Some(Question::Asked(way(Host::Backup, Host::Router))),
                Used::InVain => Some(Question::NotAllowed),
                Used::No => None,
            },
            observer: (policies.observer == Used::Yes).then(observed),
            targets: cuts.targets_seen_by(Host::Backup),
            master: way(Host::Backup, Host::Master),
            primary_to_master: policies.agent.map(|_| way(Host::Primary, Host::Master)),
            provider: way(Host::Backup, Host::Provider),
        }
    }
}

/// What is driven: a world that is well, then each stage of it for as long as anything can still follow.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Script {
    stages: Vec<Questions>,
    policies: Policies,
}

impl Script {
    /// The places of `way`, one after the other.
    pub fn of(way: &[Place], policies: Policies) -> Self {
        Self { stages: way.iter().map(|place| Questions::of(*place, policies)).collect(), policies }
    }
}

/// Where a stage ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// The engine's.
    pub verdict: Verdict,
    /// The engine's.
    pub state: State,
    /// Whether the zone's record names the backup.
    pub claimed: bool,
    /// What guard and agent let the primary's PBX do.
    pub primary: Serving,
    /// The backup's PBX.
    pub backup: Serving,
}

/// Runs, each driven once.
#[derive(Default)]
pub struct Runs {
    known: HashMap<Script, Vec<End>>,
}

impl Runs {
    /// Where each stage ends.
    pub fn ends(&mut self, script: Script) -> &[End] {
        let driven = |script: &Script| {
            let mut world = World::well(script);
            let mut ends: Vec<End> = Vec::new();
            for (n, stage) in script.stages.iter().enumerate() {
                // What changes no answer is no event.
                let same = n > 0 && script.stages[n - 1] == *stage;
                ends.push(if same { ends[n - 1] } else { world.stage(*stage) });
            }
            ends
        };
        self.known.entry(script).or_insert_with_key(driven)
    }

    /// How many different runs there were.
    pub fn len(&self) -> usize {
        self.known.len()
    }
}

struct World {
    engine: Engine,
    now: Now,
    tick: u64,
    questions: Questions,
    policies: Policies,
    agent: Option<primary::Agent>,
    zone: EpochSeen,
    primary: Serving,
    backup: Serving,
    asks: Vec<Ask>,
    history: Vec<String>,
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn settings(policies: Policies) -> Settings {
    let three = NonZeroU32::new(3).expect("not zero");
    let check = |name: &str, kind| CheckSettings {
        name: CheckName(name.into()),
        kind,
        definition: name.to_owned(),
        fall: three,
        rise: three,
        period: seconds(INTERVAL_S),
    };
    Settings {
        node: node("pbx-b"),
        peer: node("pbx-a"),
        checks: vec![check("web", CheckKind::Http), check("sip", CheckKind::Sip)],
        internet: InternetSettings {
            need: NonZeroU32::new(NEED.into()).expect("not zero"),
            targets: (0..TARGETS).map(|n| n.to_string()).collect(),
            period: seconds(INTERVAL_S),
        },
        site: if policies.witness == Used::No { Vec::new() } else { vec!["router".into()] },
        observers: if policies.observer == Used::Yes { vec!["observer".into()] } else { Vec::new() },
        agent: AgentAsked::No,
        others_period: seconds(INTERVAL_S),
        down_when: DownWhen::All,
        half_dead: match policies.half_dead {
            HalfDead::Takeover => policy::HalfDead::TakeoverAfter(seconds(HALF_DEAD_S)),
            HalfDead::Alert => policy::HalfDead::Alert,
        },
        site_cut: match policies.site_cut {
            SiteCut::Takeover => policy::SiteCut::Takeover,
            SiteCut::Wait => policy::SiteCut::Wait,
        },
        automatic: Automatic::On,
        hold_down: seconds(HOLD_DOWN_S),
        startup_grace: Duration::ZERO,
        hold_off: seconds(1),
        give_up_after: seconds(300),
        repeat: seconds(900),
        epoch_store: EpochStoreKind::Dns,
        confirm_within: seconds(4),
        primary_start: PrimaryStart::ByItself,
        configured: Configured { trunks: true, dns: true, ..Configured::default() },
        limits: Limits { drain: seconds(60), wait_for_primary: seconds(30), stop_lasts: seconds(300) },
        config_text: String::new(),
    }
}

fn node(name: &str) -> NodeName {
    name.parse().expect("a name")
}

/// The agent of a primary that has served for long.
fn agent_of(agent: Agent, held: &EpochRecord, now: Now) -> primary::Agent {
    let policy = primary::Policy {
        step_down: match agent.step_down {
            Act::Stop => StepDown::Stop,
            Act::UnregisterTrunks => StepDown::UnregisterTrunks,
            Act::Nothing => StepDown::Alert,
        },
        unreadable_after: seconds(UNREADABLE_S),
        unreadable: match agent.unreadable {
            Act::Stop => Unreadable::Stop,
            Act::UnregisterTrunks => Unreadable::UnregisterTrunks,
            Act::Nothing => Unreadable::Keep,
        },
    };
    let memory = primary::Memory { seen: Some(held.clone()), ..primary::Memory::default() };
    primary::Agent::new(node("pbx-a"), policy, seconds(900), memory, now)
}

fn unknown(why: &str) -> ProbeResult {
    ProbeResult { answer: ProbeAnswer::Unknown(why.to_owned()), latency: Duration::from_millis(1) }
}

fn answered(up: bool) -> ProbeResult {
    let answer = if up { ProbeAnswer::up("200 OK") } else { ProbeAnswer::Down("no answer".into()) };
    ProbeResult { answer, latency: Duration::from_millis(1) }
}

impl World {
    /// Nothing cut, everything alive, armed.
    fn well(script: &Script) -> Self {
        let policies = script.policies;
        let now = Now { boot: seconds(1000), wall: Timestamp::from_second(1_800_000_000).expect("a time") };
        let well = Place { cuts: Cuts::NONE, pbx: Process::Runs, web: Process::Runs };
        let record = "v=1 epoch=4 holder=pbx-a id=01ARZ3NDEKTSV4RRFFQ69G5FAV since=2026-11-20T10:00:00Z";
        let held: EpochRecord = record.parse().expect("a record");
        let mut world = Self {
            engine: Engine::new(settings(policies), Recovered::default(), now, 1).expect("no memory"),
            now,
            tick: 0,
            questions: Questions::of(well, policies),
            policies,
            agent: policies.agent.map(|agent| agent_of(agent, &held, now)),
            zone: EpochSeen::held(held),
            primary: Serving::All,
            backup: Serving::Off,
            asks: Vec::new(),
            history: Vec::new(),
        };
        world.hear(Event::Conformance(Ok(())));
        (0..8).for_each(|_| world.second());
        assert_eq!(world.engine.disarmed_because(), &[] as &[String]);
        assert_eq!((world.engine.state(), world.engine.verdict()), (State::Standby, Verdict::PrimaryUp));
        world
    }

    fn stage(&mut self, questions: Questions) -> End {
        self.questions = questions;
        // Without that policy the chain of events lacks its first link.
        let waits = self.policies.agent.is_some_and(|agent| agent.unreadable != Act::Nothing);
        let lasts = if waits { SETTLED_S } else { SETTLED_S - UNREADABLE_S };
        (0..lasts).for_each(|_| self.second());
        End {
            verdict: self.engine.verdict(),
            state: self.engine.state(),
            claimed: self.claimed(),
            primary: self.primary,
            backup: self.backup,
        }
    }

    fn claimed(&self) -> bool {
        self.zone.record().is_some_and(|r| r.holder.to_string() == "pbx-b")
    }

    fn second(&mut self) {
        self.tick += 1;
        self.now.boot += seconds(1);
        self.now.wall += seconds(1);
        self.agent();
        self.hear(Event::Tick);
        if self.tick.is_multiple_of(INTERVAL_S) {
            self.probe();
        }
        for _ in 0..1000 {
            let Some(ask) = (!self.asks.is_empty()).then(|| self.asks.remove(0)) else { return };
            self.answer(ask);
        }
        panic!("the engine asks without end:\n{}", self.history.join("\n"));
    }

    /// The primary's agent, a second later.
    fn agent(&mut self) {
        let condition = if self.primary == Serving::Off { Condition::Stopped } else { Condition::Serves };
        for event in [primary::Event::Tick, primary::Event::Pbx(condition)] {
            self.agent_hears(event);
        }
    }

    fn agent_hears(&mut self, event: primary::Event) {
        let Some(agent) = &mut self.agent else { return };
        for ask in agent.handle(event, self.now).asks {
            match ask {
                primary::Ask::ReadEpoch => self.agent_hears(primary::Event::Epoch(self.read_by_primary())),
                primary::Ask::Act(act) => {
                    let outcome = self.act(act);
                    self.agent_hears(primary::Event::Acted(act, outcome));
                }
                primary::Ask::Tell(..) | primary::Ask::Note(..) => {}
            }
        }
    }

    fn read_by_primary(&self) -> EpochRead {
        match self.questions.primary_to_master {
            Some(Way::Open) => Ok(self.zone.clone()),
            Some(Way::Shut) | None => Err("the master does not answer".to_owned()),
        }
    }

    fn act(&mut self, act: primary::Act) -> StepOutcome {
        self.primary = match act {
            primary::Act::Stop => Serving::Off,
            primary::Act::UnregisterTrunks => self.primary.min(Serving::PhonesOnly),
            primary::Act::RegisterTrunks => Serving::All,
            primary::Act::Start => {
                let (memory, now) = (self.agent.as_ref().expect("it asks").memory(), self.now.wall);
                let answer =
                    primary::guard::guard(&self.read_by_primary(), memory, &node("pbx-a"), &AgentRuns::Yes, now);
                if !matches!(answer, Answer::MayServe(_)) {
                    return StepOutcome::failed(answer.because());
                }
                Serving::All
            }
            primary::Act::Drain => self.primary,
        };
        StepOutcome::done("done")
    }

    fn hear(&mut self, event: Event) {
        let Output { batch, asks, .. } = self.engine.handle(event, self.now);
        self.history
            .extend(batch.history.into_iter().map(|e| format!("{:?} {} {} ({})", e.row, e.kind, e.what, e.because)));
        self.asks.extend(asks);
    }

    fn probe(&mut self) {
        let asked = self.now.boot;
        let stopped = self.primary == Serving::Off;
        let up = [("web", self.questions.web == Way::Open), ("sip", self.questions.sip == Way::Open && !stopped)];
        for (name, up) in up {
            self.hear(Event::Check { name: CheckName(name.into()), result: answered(up), asked });
        }
        for target in 0..usize::from(TARGETS) {
            let result = answered(target < usize::from(self.questions.targets));
            self.hear(Event::Internet { target, result, asked });
        }
        if let Some(question) = self.questions.site {
            let result = match question {
                Question::Asked(way) => answered(way == Way::Open),
                Question::NotAllowed => unknown("no right to ask"),
            };
            self.hear(Event::Site { target: 0, result, asked });
        }
        if let Some((told, sees)) = self.questions.observer {
            let result = match told {
                Way::Open => answered(sees == Way::Open && !stopped),
                Way::Shut => unknown("no view"),
            };
            self.hear(Event::Observer { target: 0, result, asked });
        }
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::ProbeNow => self.probe(),
            Ask::ReadEpoch => {
                let read = match self.questions.master {
                    Way::Open => Ok(self.zone.clone()),
                    Way::Shut => Err("the master does not answer".to_owned()),
                };
                self.hear(Event::Epoch(read));
            }
            Ask::Forget(_) => {}
            Ask::Swap { from, to } => {
                let advance = self.swap(&from, &to);
                self.hear(Event::Swapped(advance));
            }
            Ask::Step { plan, step, attempt, mode, order, .. } => {
                let (outcome, seen) = self.carry_out(step, mode, order);
                self.hear(Event::Step(StepReport { plan, step, attempt, mode, outcome, seen }));
            }
        }
    }

    fn swap(&mut self, from: &EpochSeen, to: &EpochRecord) -> Advance {
        if self.questions.master == Way::Shut {
            return Advance::Unknown("the master does not answer".into());
        }
        if self.zone != *from {
            return Advance::Lost(self.zone.clone());
        }
        self.zone = EpochSeen::held(to.clone());
        Advance::Done
    }

    fn carry_out(&mut self, step: Step, mode: Mode, order: Order) -> (StepOutcome, Option<EpochSeen>) {
        let serves = self.backup != Serving::Off;
        let outcome = match (step, mode, order) {
            (Step::Claim | Step::HandOver, Mode::Look, _) => {
                return match self.questions.master {
                    Way::Open => (StepOutcome::failed("not yet"), Some(self.zone.clone())),
                    Way::Shut => (StepOutcome::unknown("the master does not answer"), None),
                };
            }
            (Step::Claim | Step::HandOver, Mode::Act, Order::Swap { from, to }) => {
                return match self.swap(&from, &to) {
                    Advance::Done => (StepOutcome::done("swapped"), Some(EpochSeen::held(to))),
                    Advance::Lost(seen) => (StepOutcome::Refused("lost".into()), Some(seen)),
                    Advance::Unknown(why) => (StepOutcome::unknown(why), None),
                };
            }
            (Step::Reload | Step::AcceptRegistrations, Mode::Look, _) if serves => StepOutcome::done("it serves"),
            (Step::Reload, Mode::Act, _) => {
                self.backup = Serving::All;
                StepOutcome::done("it runs")
            }
            (Step::AcceptRegistrations, Mode::Act, _) if !serves => StepOutcome::failed("it is silent"),
            (Step::StopAccepting, Mode::Act, _) => {
                self.backup = Serving::Off;
                StepOutcome::done("it is silent")
            }
            (Step::RegisterTrunks, Mode::Act, _) if self.questions.provider == Way::Shut => {
                StepOutcome::failed("the provider does not answer")
            }
            (Step::RedirectDns, Mode::Act, _) if self.questions.master == Way::Shut => {
                StepOutcome::failed("the master does not answer")
            }
            (_, Mode::Look, _) => StepOutcome::failed("not yet"),
            (_, Mode::Act, _) => StepOutcome::done("done"),
        };
        (outcome, None)
    }
}
