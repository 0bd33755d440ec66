//! The loop: one event at a time into the engine, its records to the disk, then its asks to the world.
//!
//! The loop never waits for anything but the next event. An output's asks begin in a task that has seen its batch on
//! disk; when the disk refuses, the engine has said whether they may begin all the same.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::decision::stall::TICK;
use crate::engine::{Ask, Durability, Engine, Event, Output};
use crate::host::clock;
use crate::store::Store;
use crate::units::operator::{Command, Reply, Request};
use crate::units::snapshot::{Explanation, Pair};
use crate::units::{EpochSeen, PlanId, PlanKind, State};

use super::probers::{Pace, Probers};
use super::steps::{self, Hands};
use super::watch::Standing;
use super::world::World;
use super::{messages, service, settings};

/// What arrives at the loop.
pub enum Input {
    /// Something happened.
    Heard(Event),
    /// A person asks; the answer goes back when it is on disk.
    Asked(Request, oneshot::Sender<Reply>),
    /// Somebody wants to look.
    Look(Looking),
    /// What was asked for was not begun, because the disk refused; and why.
    Refused(Vec<Ask>, String),
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

/// The loop's own belongings.
pub struct Turn {
    engine: Engine,
    world: Arc<World>,
    /// The world of the plan that runs, when it is not the present one.
    plan_world: Option<Arc<World>>,
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
    /// The plan that runs, or the last one.
    plan: watch::Sender<Option<PlanId>>,
    /// Held while the PBX is being changed.
    pbx: Arc<Mutex<()>>,
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
            engine,
            world,
            plan_world,
            store,
            inputs,
            pace,
            worlds,
            standing,
            news,
            tasks: JoinSet::new(),
            probers,
            postponed: None,
            plan: watch::Sender::new(None),
            pbx: Arc::default(),
        }
    }

    /// Turns until `stop` says so.
    pub async fn run(&mut self, mut inputs: mpsc::Receiver<Input>, mut stop: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut health = self.store.health();
        tracing::info!(checks = self.probers.count(), "watching");
        while !*stop.borrow_and_update() {
            let wake = self.until_wake();
            tokio::select! {
                biased;
                _ = stop.changed() => {}
                _ = tick.tick() => {
                    self.hear(Event::Tick);
                    service::tell(&[NotifyState::Watchdog]);
                }
                Ok(()) = health.changed() => {
                    let trouble = health.borrow_and_update().trouble.clone();
                    self.hear(Event::Store(trouble.map_or(Ok(()), |trouble| Err(trouble.to_string()))));
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
            Input::Refused(asks, why) => {
                for ask in asks {
                    if let Ask::Step { plan, step, .. } = ask {
                        self.hear(Event::NotBegun { plan, step });
                    }
                }
                self.engine.forget_written();
                self.hear(Event::Store(Err(why)));
            }
            Input::Reconfigured(world) => self.reconfigure(world),
            Input::ConfigRefused(why) => tracing::error!(why, "the new configuration is refused, the old one stays"),
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
                let _ = inputs.send(Input::Refused(refused, trouble.to_string())).await;
            }
            let mut steps = JoinSet::new();
            for ask in begin {
                let (hands, inputs) = (hands.clone(), inputs.clone());
                steps.spawn(async move {
                    if let Some(event) = begin_ask(hands, ask).await {
                        let _ = inputs.send(Input::Heard(event)).await;
                    }
                });
            }
            while steps.join_next().await.is_some() {}
        });
    }

    fn hands(&self) -> Hands {
        let world = self.plan_world.as_ref().unwrap_or(&self.world);
        Hands {
            world: Arc::clone(world),
            store: self.store.clone(),
            news: self.news.subscribe(),
            plan: self.plan.subscribe(),
            pbx: Arc::clone(&self.pbx),
        }
    }

    /// What other tasks follow: the pace of the probers, the state, postponed settings.
    fn follow(&mut self, asks: &[Ask]) {
        let plan = self.engine.memory().plan;
        self.plan.send_if_modified(|now| std::mem::replace(now, plan) != plan);
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
            let status = format!("{}, {}", standing.state, self.engine.verdict());
            service::tell(&[NotifyState::Status(&status)]);
        }
        if self.engine.plan_kind().is_none() {
            self.plan_world = None;
            if let Some(world) = self.postponed.take() {
                self.reconfigure(world);
            }
        }
    }

    fn reconfigure(&mut self, world: Box<World>) {
        if let Some(kind) = self.engine.plan_kind() {
            tracing::info!(%kind, "new settings wait until the plan has ended");
            self.postponed = Some(world);
            return;
        }
        let world: Arc<World> = Arc::from(world);
        self.engine.reconfigure(settings::of(&world.config));
        self.probers = Probers::start(&world, &self.pace, &self.inputs, &self.store);
        self.world = Arc::clone(&world);
        self.worlds.send_replace(world);
        tracing::info!("new settings are in force");
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
        Ask::ReadEpoch => Some(Event::Epoch(hands.world.epoch.read().await)),
        Ask::Swap { from, to } => Some(Event::Swapped(swap(&hands, &from, &to).await)),
        // The probers follow the pace; a plan's late answers are ignored by its id.
        Ask::ProbeNow | Ask::Forget(_) => None,
    }
}

async fn swap(hands: &Hands, from: &EpochSeen, to: &crate::units::EpochRecord) -> crate::units::Advance {
    hands.world.epoch.advance(from, to).await
}
