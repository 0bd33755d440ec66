//! The loop: one event at a time into the engine, its records to the disk, then its asks to the world.
//!
//! The loop never waits for anything but the next event. An output's asks begin in a task that has seen its batch on
//! disk; when the disk refuses, the engine has said whether they may begin all the same.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::decision::stall::TICK;
use crate::engine::{Ask, Durability, Engine, Event, Output};
use crate::host::{clock, guarded};
use crate::store::{Health, Store};
use crate::units::journal::JournalEntry;
use crate::units::operator::{Command, Reply, Request};
use crate::units::snapshot::{Explanation, Pair};
use crate::units::{PlanId, PlanKind, State, StepOutcome};

use super::probers::{Pace, Probers};
use super::steps::{self, Hands};
use super::under_way::UnderWay;
use super::watch::Standing;
use super::world::World;
use super::{messages, outbox, service, settings};
use crate::config::Driver;

/// What arrives at the loop.
pub enum Input {
    /// Something happened.
    Heard(Event),
    /// A result came in; its prober asks again only once it was heard, so that "ask now" is not asked too early.
    Result(Event, oneshot::Sender<()>),
    /// A person asks; the answer goes back when it is on disk.
    Asked(Request, oneshot::Sender<Reply>),
    /// Somebody wants to look.
    Look(Looking),
    /// What was asked for was not begun, because the disk refused; and why.
    Refused(Unwritten),
    /// New settings, already built.
    Reconfigured(Box<World>),
    /// A configuration was refused, and why.
    ConfigRefused(String),
}

/// What came of a batch that the disk refused.
pub struct Unwritten {
    /// Steps that were therefore not begun.
    not_begun: Vec<Ask>,
    /// The journal's share of it, to be written with the next batch: without it a plan could not be resumed.
    journal: Vec<JournalEntry>,
    /// Why.
    why: String,
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

/// How many journal records wait for a disk that refuses: a plan has some fifty.
const UNWRITTEN_MAX: usize = 500;

/// A stop that is taken back is told so often while nobody answers for sure; its loan would end it only much later.
const RESUME_TRIES: u32 = 5;
/// And with this pause.
const RESUME_PAUSE: Duration = Duration::from_secs(2);

/// How many inputs may wait: a burst of results and a few people.
pub const INPUTS_MAX: usize = 1024;

/// The loop's own belongings.
pub struct Turn {
    engine: Engine,
    world: Arc<World>,
    /// The world of the plan that runs, when it is not the present one.
    plan_world: Option<Arc<World>>,
    /// The plan that it belongs to.
    plan_of_world: Option<PlanId>,
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
    /// A batch did not reach the disk.
    unwritten: bool,
    /// The journal records that it held.
    late_journal: Vec<JournalEntry>,
    /// What the plans' steps do now.
    under_way: UnderWay,
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
            plan_of_world: engine.plan_id(),
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
            unwritten: false,
            late_journal: Vec::new(),
            under_way: UnderWay::default(),
            status: String::new(),
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
                    self.write_again();
                    self.hear(Event::Tick);
                    service::mention(&NotifyState::Watchdog);
                    service::mention(&NotifyState::Status(&self.status));
                }
                Ok(()) = health.changed() => {
                    let state = state_of(&health.borrow_and_update());
                    self.hear(Event::Store(state));
                }
                Some(input) = inputs.recv() => self.take(input),
                () = tokio::time::sleep(wake) => self.hear(Event::Tick),
                Some(_) = self.tasks.join_next() => {}
            }
        }
    }

    fn refused(&mut self, Unwritten { not_begun, journal, why }: Unwritten) {
        self.unwritten = true;
        let room = UNWRITTEN_MAX.saturating_sub(self.late_journal.len());
        self.late_journal.extend(journal.into_iter().take(room));
        for ask in not_begun {
            if let Ask::Step { plan, step, .. } = ask {
                self.hear(Event::NotBegun { plan, step });
            }
        }
        self.hear(Event::Store(Err(why)));
    }

    /// Once a second, and not at once: a disk that refuses must not be asked in a circle.
    fn write_again(&mut self) {
        if !std::mem::take(&mut self.unwritten) {
            return;
        }
        self.engine.forget_written();
        let state = state_of(&self.store.health().borrow());
        if state.is_ok() {
            self.hear(Event::Store(state));
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
            Input::Result(event, heard) => {
                self.hear(event);
                let _ = heard.send(());
            }
            Input::Asked(request, answer) => {
                let output = self.engine.handle(Event::Request(request), clock::now());
                self.dispatch(output, Some(answer));
            }
            Input::Look(looking) => self.look(looking),
            Input::Refused(refused) => self.refused(refused),
            Input::Reconfigured(world) => self.reconfigure(world),
            Input::ConfigRefused(why) => {
                tracing::error!(why, "the new configuration is refused, the old one stays");
                let because = why.lines().collect::<Vec<_>>().join("; ");
                self.hear(Event::Settings("new settings are refused, the old ones stay".to_owned(), because));
            }
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
        let deliveries = batch.deliveries.clone();
        self.follow(&asks);
        let answer = answer.zip(reply);
        if batch.is_empty() && asks.is_empty() && answer.is_none() {
            return;
        }
        if !batch.is_empty() {
            batch.journal.splice(0..0, self.late_journal.drain(..));
        }
        let journal = batch.journal.clone();
        let written = (!batch.is_empty()).then(|| self.store.commit(batch));
        let hands = self.hands();
        let (inputs, news, under_way) = (self.inputs.clone(), self.news.clone(), self.under_way.clone());
        self.tasks.spawn(async move {
            let trouble = match written {
                Some(written) => written.await.err(),
                None => None,
            };
            if let Some((answer, reply)) = answer {
                let begins = asks.iter().any(|ask| matches!(ask, Ask::Step { .. }));
                let _ = answer.send(match (&trouble, reply) {
                    (Some(trouble), _) if durability == Durability::Required && begins => {
                        Reply::Refused(format!("not begun: {trouble}"))
                    }
                    (Some(trouble), Reply::Accepted(text)) => Reply::Accepted(format!(
                        "{text}; WARNING, it is not written down, so that a restart forgets it: {trouble}"
                    )),
                    (_, reply) => reply,
                });
            }
            if !deliveries.is_empty() && trouble.is_none() {
                news.send_modify(|n| *n += 1);
            }
            let mut begin = asks;
            if let Some(trouble) = trouble {
                // What cannot be queued is sent from memory, under the same key.
                let world = Arc::clone(&hands.world);
                tokio::spawn(async move { outbox::send_unqueued(&world, deliveries).await });
                let not_begun = match durability {
                    Durability::Required => begin.extract_if(.., |ask| matches!(ask, Ask::Step { .. })).collect(),
                    Durability::Wanted => Vec::new(),
                };
                let unwritten = Unwritten { not_begun, journal, why: trouble.to_string() };
                let _ = inputs.send(Input::Refused(unwritten)).await;
            }
            for ask in &begin {
                if let Ask::Forget(plan) = ask {
                    under_way.end(*plan).await;
                }
            }
            for ask in begin {
                let plan = match &ask {
                    Ask::Step { plan, .. } => Some(*plan),
                    _ => None,
                };
                let (hands, inputs) = (hands.clone(), inputs.clone());
                let lost = steps::lost(&ask);
                let work = async move {
                    let event = guarded::unless_it_panics(begin_ask(hands, ask)).await.unwrap_or(lost);
                    if let Some(event) = event {
                        let _ = inputs.send(Input::Heard(event)).await;
                    }
                };
                match plan {
                    Some(plan) => under_way.begin(plan, work),
                    None => drop(tokio::spawn(work)),
                }
            }
        });
    }

    fn hands(&self) -> Hands {
        let world = self.plan_world.as_ref().unwrap_or(&self.world);
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
        let (state, plan) = (self.engine.state(), self.engine.plan_kind());
        let standing = Standing {
            state,
            armed: self.engine.disarmed_because().is_empty(),
            plan,
            must_serve: state == State::Active && (plan.is_none() || self.engine.serves_in_background()),
            sync: self.engine.sync_should(),
        };
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
        if self.engine.plan_id() != self.plan_of_world {
            self.plan_world = None;
        }
        if self.engine.plan_kind().is_none()
            && let Some(world) = self.postponed.take()
        {
            self.reconfigure(world);
        }
    }

    fn reconfigure(&mut self, world: Box<World>) {
        if let Some(kind) = self.engine.plan_kind() {
            tracing::info!(%kind, "new settings wait until the plan has ended");
            let what = format!("new settings wait until the {kind} has ended");
            self.hear(Event::Settings(what, "the configuration was read again".to_owned()));
            self.postponed = Some(world);
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

    /// Ends what is under way; the journal says what was begun.
    pub async fn end(&mut self) {
        self.under_way.finish().await;
        self.tasks.shutdown().await;
    }

    /// Where the robot stands at its end, for the last words.
    pub fn last_words(&self) -> String {
        match self.engine.state() {
            State::Active if matches!(self.world.config.pbx.driver, Driver::Builtin(_)) => {
                "the built-in PBX ends with the robot, and serves again at the next start".to_owned()
            }
            State::Active => "the PBX on this node goes on serving".to_owned(),
            State::TakingOver | State::FailingBack => {
                let kind = self.engine.plan_kind().map_or("plan", PlanKind::name);
                format!("the {kind} goes on at the next start; the PBX is left as it is")
            }
            state => format!("the PBX is left as it is ({state})"),
        }
    }
}

/// What the engine is told of the store.
fn state_of(health: &Health) -> Result<(), String> {
    match (&health.trouble, health.is_good()) {
        (Some(trouble), _) => Err(trouble.to_string()),
        (None, true) => Ok(()),
        (None, false) => Err("no space is held for a plan's journal; make room in state_dir".to_owned()),
    }
}

/// Does what is asked; the event that answers it, if there is one.
async fn begin_ask(hands: Hands, ask: Ask) -> Option<Event> {
    match ask {
        Ask::Step { .. } => steps::carry_out(hands, ask).await,
        Ask::ReadEpoch => Some(Event::Epoch(steps::read_epoch(&hands).await)),
        Ask::Swap { from, to } => Some(Event::Swapped(steps::advance_epoch(&hands, &from, &to).await)),
        // A dropped plan's work was ended before; what it lent itself from the primary goes back at once.
        Ask::Forget(plan) => {
            if hands.world.config.peer.is_some() {
                for _ in 0..RESUME_TRIES {
                    if !matches!(hands.world.peer.resume(plan).await, StepOutcome::Unknown(_)) {
                        break;
                    }
                    tokio::time::sleep(RESUME_PAUSE).await;
                }
            }
            None
        }
        // The probers follow the pace by themselves.
        Ask::ProbeNow => None,
    }
}
