//! The loop: one event at a time into the engine, its records to the disk, then its asks to the world.
//!
//! The loop never waits for anything but the next event. An output's asks begin in a task that has seen its batch on
//! disk; when the disk refuses, the engine has said whether they may begin all the same.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::decision::stall::TICK;
use crate::engine::{Ask, Durability, Engine, Event, Output, StepReport};
use crate::host::clock;
use crate::store::{RESERVE_BYTES, Store};
use crate::units::operator::{Command, Reply, Request};
use crate::units::snapshot::{Explanation, Pair};
use crate::units::{Advance, Delivery, PlanId, PlanKind, State, StepOutcome};

use super::probers::{Pace, Probers};
use super::steps::{self, Hands};
use super::watch::Standing;
use super::world::World;
use super::{messages, outbox, service, settings};

/// What arrives at the loop.
pub enum Input {
    /// Something happened.
    Heard(Event),
    /// A person asks; the answer goes back when it is on disk.
    Asked(Request, oneshot::Sender<Reply>),
    /// Somebody wants to look.
    Look(Looking),
    /// A batch did not reach the disk: the steps that were not begun for that, and the messages that were not queued.
    Refused(Vec<Ask>, Vec<Delivery>, String),
    /// New settings, already built.
    Reconfigured(Box<World>),
    /// A configuration was refused, and why.
    ConfigRefused(String),
}

/// What somebody wants to look at.
pub enum Looking {
    /// The pair.
    Pair(oneshot::Sender<Pair>),
    /// Why, or why not.
    Explain(oneshot::Sender<Explanation>),
    /// Why a command would be refused now.
    WouldRefuse(Command, oneshot::Sender<Option<String>>),
}

/// How many inputs may wait: a burst of results and a few people.
pub const INPUTS_MAX: usize = 1024;
/// So many keys of messages that were sent past the store are remembered, so that none is sent twice.
const PAST_STORE_MAX: usize = 1_000;

/// The loop's own belongings.
pub struct Turn {
    engine: Engine,
    world: Arc<World>,
    /// The world of an interrupted plan, when it is not the present one; and that plan, which alone may use it.
    plan_world: Option<(Arc<World>, Option<PlanId>)>,
    store: Store,
    inputs: mpsc::Sender<Input>,
    pace: watch::Sender<Pace>,
    worlds: watch::Sender<Arc<World>>,
    standing: watch::Sender<Standing>,
    news: watch::Sender<u64>,
    tasks: JoinSet<()>,
    /// Held so that its tasks run; replaced, the old ones end.
    probers: Probers,
    /// New settings that wait for the plan's end.
    postponed: Option<Box<World>>,
    /// A batch was refused: the engine's memory is written again with the next tick, and not at once, because that
    /// would be refused again at once, and so on for ever.
    unwritten: bool,
    /// Messages that left from memory because the store could not take them.
    past_store: BTreeSet<String>,
    /// What systemd was told last.
    status: String,
}

/// Where the loop's tasks listen.
pub struct Wires {
    /// Into the loop.
    pub inputs: mpsc::Sender<Input>,
    /// The world in force.
    pub worlds: watch::Sender<Arc<World>>,
    /// Where the robot stands.
    pub standing: watch::Sender<Standing>,
    /// Messages were queued or answered.
    pub news: watch::Sender<u64>,
}

impl Turn {
    /// The loop around an engine; `plan_world` is that of an interrupted plan.
    pub fn new(engine: Engine, world: Arc<World>, plan_world: Option<Arc<World>>, store: Store, wires: Wires) -> Self {
        let pace = watch::Sender::new(Pace::default());
        let probers = Probers::start(&world, &pace, &wires.inputs, &store);
        let Wires { inputs, worlds, standing, news } = wires;
        Self {
            plan_world: plan_world.map(|world| (world, engine.memory().plan)),
            engine,
            world,
            store,
            inputs,
            pace,
            worlds,
            standing,
            news,
            tasks: JoinSet::new(),
            probers,
            postponed: None,
            unwritten: false,
            past_store: BTreeSet::new(),
            status: String::new(),
        }
    }

    /// Turns until `stop` says so.
    pub async fn run(&mut self, mut inputs: mpsc::Receiver<Input>, mut stop: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut health = self.store.health();
        tracing::info!(checks = self.probers.count(), "watching");
        if let Err(why) = self.store_health() {
            self.hear(Event::Store(Err(why)));
        }
        while !*stop.borrow_and_update() {
            // Between two turns, so that the batch of the turn that ended the plan has gone to the disk first.
            if let Some(world) = self.postponed.take_if(|_| self.engine.plan_kind().is_none()) {
                self.reconfigure(world);
            }
            let wake = self.until_wake();
            tokio::select! {
                biased;
                _ = stop.changed() => {}
                _ = tick.tick() => {
                    if std::mem::take(&mut self.unwritten) {
                        self.engine.forget_written();
                    }
                    self.hear(Event::Tick);
                    service::mention(&NotifyState::Watchdog);
                    service::mention(&NotifyState::Status(&self.status));
                }
                Ok(()) = health.changed() => {
                    health.borrow_and_update();
                    self.hear(Event::Store(self.store_health()));
                }
                Some(input) = inputs.recv() => self.take(input),
                () = tokio::time::sleep(wake) => self.hear(Event::Tick),
                Some(_) = self.tasks.join_next() => {}
            }
        }
    }

    fn until_wake(&self) -> Duration {
        /// Nothing to wake for: the tick comes first.
        const NEVER: Duration = Duration::from_secs(3600);
        self.engine.wake_at().map_or(NEVER, |at| at.saturating_sub(clock::now().boot))
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Heard(event) => self.hear(event),
            Input::Asked(request, answer) => {
                let output = self.engine.handle(Event::Request(request), clock::now());
                self.dispatch(output, Some(answer));
            }
            Input::Look(looking) => self.look(looking),
            Input::Refused(asks, messages, why) => self.refused(asks, messages, &why),
            Input::Reconfigured(world) => self.reconfigure(world),
            Input::ConfigRefused(why) => {
                tracing::error!(why, "the new configuration is refused, the old one stays");
                let because = why.lines().collect::<Vec<_>>().join("; ");
                self.hear(Event::Settings("new settings are refused, the old ones stay".to_owned(), because));
            }
        }
    }

    fn refused(&mut self, asks: Vec<Ask>, messages: Vec<Delivery>, why: &str) {
        for ask in asks {
            if let Ask::Step { plan, step, .. } = ask {
                self.hear(Event::NotBegun { plan, step });
            }
        }
        // People are told all the same: a robot that cannot write must not be silent about just that.
        for message in messages {
            if self.past_store.len() >= PAST_STORE_MAX {
                self.past_store.clear();
            }
            if self.past_store.insert(message.key.clone()) {
                self.tasks.spawn(outbox::send_unqueued(Arc::clone(&self.world), message));
            }
        }
        match self.store_health() {
            Ok(()) => tracing::warn!(why, "a record did not reach the disk"),
            Err(why) => self.hear(Event::Store(Err(why))),
        }
        self.unwritten = true;
    }

    /// Whether a takeover could be journalled with the store as it is.
    fn store_health(&self) -> Result<(), String> {
        let health = self.store.health();
        let health = health.borrow();
        match &health.trouble {
            Some(trouble) => Err(trouble.to_string()),
            None if health.is_good() => Ok(()),
            None => Err(format!(
                "there is no room to hold {} MB for the journal of a takeover; free some on the disk of state_dir",
                RESERVE_BYTES / 1_000_000
            )),
        }
    }

    fn look(&mut self, looking: Looking) {
        // Whoever asked may have gone.
        match looking {
            Looking::Pair(answer) => {
                let _ = answer.send(self.engine.snapshot());
            }
            Looking::Explain(answer) => {
                let _ = answer.send(self.engine.explain());
            }
            Looking::WouldRefuse(command, answer) => {
                let _ = answer.send(self.engine.would_refuse(&command));
            }
        }
    }

    fn hear(&mut self, event: Event) {
        let output = self.engine.handle(event, clock::now());
        self.dispatch(output, None);
    }

    /// Writes the batch, then begins the asks; nothing here waits.
    fn dispatch(&mut self, output: Output, answer: Option<oneshot::Sender<Reply>>) {
        let Output { mut batch, durability, happenings, asks, reply } = output;
        batch.history.iter().for_each(service::log);
        if !happenings.is_empty() {
            let pair = self.engine.snapshot();
            for happening in &happenings {
                batch.deliveries.extend(messages::deliveries(happening, &self.world.config, &pair));
            }
        }
        let queued = !batch.deliveries.is_empty();
        let messages = batch.deliveries.clone();
        self.follow(&asks);
        let answer = answer.zip(reply);
        if batch.is_empty() && asks.is_empty() && answer.is_none() {
            return;
        }
        let written = (!batch.is_empty()).then(|| self.store.commit(batch));
        let hands = self.hands();
        let (inputs, news) = (self.inputs.clone(), self.news.clone());
        self.tasks.spawn(async move {
            let trouble = match written {
                Some(written) => written.await.err(),
                None => None,
            };
            if let Some((answer, reply)) = answer {
                let _ = answer.send(reply);
            }
            if queued && trouble.is_none() {
                news.send_modify(|n| *n += 1);
            }
            let mut begin = asks;
            if let Some(trouble) = trouble {
                let refused = match durability {
                    Durability::Required => begin.extract_if(.., |ask| matches!(ask, Ask::Step { .. })).collect(),
                    Durability::Wanted => Vec::new(),
                };
                let _ = inputs.send(Input::Refused(refused, messages, trouble.to_string())).await;
            }
            let mut steps = JoinSet::new();
            for ask in begin {
                let (hands, inputs) = (hands.clone(), inputs.clone());
                steps.spawn(async move {
                    let unanswered = unanswered(&ask);
                    // In a task of its own, so that a fault in an adapter becomes an answer and no plan waits for ever.
                    let mut task = JoinSet::new();
                    task.spawn(begin_ask(hands, ask));
                    let event = task.join_next().await.and_then(Result::ok).unwrap_or(unanswered);
                    if let Some(event) = event {
                        let _ = inputs.send(Input::Heard(event)).await;
                    }
                });
            }
            while steps.join_next().await.is_some() {}
        });
    }

    fn hands(&self) -> Hands {
        let world = self.plan_world.as_ref().map_or(&self.world, |(world, _)| world);
        Hands { world: Arc::clone(world), store: self.store.clone(), news: self.news.subscribe() }
    }

    /// What other tasks follow: the pace of the probers, the state, postponed settings.
    fn follow(&mut self, asks: &[Ask]) {
        let nudge = asks.contains(&Ask::ProbeNow);
        let hurried = self.engine.hurried();
        self.pace.send_if_modified(|pace| {
            let before = *pace;
            pace.hurried = hurried;
            pace.nudge += u64::from(nudge);
            *pace != before
        });
        let standing = Standing { state: self.engine.state(), armed: self.engine.disarmed_because().is_empty() };
        let before = *self.standing.borrow();
        if before != standing {
            self.standing.send_replace(standing);
        }
        let armed = match (standing.state, standing.armed) {
            (State::Standby | State::Suspect, true) => ", armed",
            (State::Standby | State::Suspect, false) => ", NOT armed: `pbx-failover explain` says why",
            _ => "",
        };
        let status = format!("{}, {}{armed}", standing.state, self.engine.verdict());
        if self.status != status {
            service::mention(&NotifyState::Status(&status));
            self.status = status;
        }
        let plan = self.engine.plan_kind().and(self.engine.memory().plan);
        self.plan_world.take_if(|(_, of)| *of != plan || plan.is_none());
    }

    fn reconfigure(&mut self, world: Box<World>) {
        if let Some(kind) = self.engine.plan_kind() {
            tracing::info!(%kind, "new settings wait until the plan has ended");
            self.postponed = Some(world);
            let what = format!("new settings wait until the {kind} has ended");
            self.hear(Event::Settings(what, "the configuration was read again".to_owned()));
            return;
        }
        let world: Arc<World> = Arc::from(world);
        self.engine.reconfigure(settings::of(&world.config));
        self.probers = Probers::start(&world, &self.pace, &self.inputs, &self.store);
        self.world = Arc::clone(&world);
        self.worlds.send_replace(world);
        tracing::info!("new settings are in force");
        let because = "the configuration was read again".to_owned();
        self.hear(Event::Settings("new settings are in force".to_owned(), because));
    }

    /// Where the robot stands at its end, for the last words.
    pub fn last_words(&self) -> String {
        match self.engine.state() {
            State::Active => "the PBX on this node goes on serving".to_owned(),
            State::TakingOver | State::FailingBack => {
                let kind = self.engine.plan_kind().map_or("plan", PlanKind::name);
                format!("the {kind} goes on at the next start; the PBX is left as it is")
            }
            state => format!("the PBX is left as it is ({state})"),
        }
    }
}

/// Does what is asked; the event that answers it, if there is one.
async fn begin_ask(hands: Hands, ask: Ask) -> Option<Event> {
    match ask {
        Ask::Step { .. } => steps::carry_out(hands, ask).await,
        Ask::ReadEpoch => Some(Event::Epoch(steps::read_epoch(&hands).await)),
        Ask::Swap { from, to } => Some(Event::Swapped(steps::advance_epoch(&hands, &from, &to).await)),
        // The probers follow the pace; a plan's late answers are ignored by its id.
        Ask::ProbeNow | Ask::Forget(_) => None,
    }
}

/// The answer to a question whose task ended without one.
fn unanswered(ask: &Ask) -> Option<Event> {
    let why = || "the question ended without an answer, which is a fault of this program: see its log".to_owned();
    match *ask {
        Ask::Step { plan, step, attempt, mode, .. } => {
            let outcome = StepOutcome::Unknown(why());
            Some(Event::Step(StepReport { plan, step, attempt, mode, outcome, seen: None }))
        }
        Ask::ReadEpoch => Some(Event::Epoch(Err(why()))),
        Ask::Swap { .. } => Some(Event::Swapped(Advance::Unknown(why()))),
        Ask::ProbeNow | Ask::Forget(_) => None,
    }
}
