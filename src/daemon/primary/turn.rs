//! The agent's loop: one event at a time into its mind, its memory to the disk, then what it asks to the world.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use jiff::Timestamp;
use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::keeper::Job;
use super::seen::{self, Seen};
use super::{hands, policy};
use crate::daemon::world::World;
use crate::daemon::{messages, outbox, service};
use crate::decision::stall::TICK;
use crate::engine::{Channels, Happening};
use crate::host::{clock, guarded};
use crate::primary::{Act, Agent, Ask, Event, Output};
use crate::store::Store;
use crate::units::journal::{Batch, HistoryEvent};
use crate::units::snapshot::Pair;
use crate::units::{Beat, EventName, PlanId, State, StepOutcome};

/// The memory is waited for so long before what it goes before is done: a dead disk must not keep a PBX serving.
pub const MEMORY_WAIT: Duration = Duration::from_secs(3);

/// What arrives at the loop.
pub enum Input {
    /// Something happened.
    Heard(Event),
    /// Somebody wants to look.
    Look(oneshot::Sender<Pair>),
    /// The backup asks for our beat.
    Beat(oneshot::Sender<Beat>),
    /// The backup asks how far the stop is that it ordered; the order itself has been heard before.
    StopOutcome(PlanId, oneshot::Sender<StepOutcome>),
    /// New settings, already built.
    Reconfigured(Box<World>),
    /// A configuration was refused, and why.
    ConfigRefused(String),
}

/// The loop's belongings.
pub struct Turn {
    pub agent: Agent,
    pub world: Arc<World>,
    pub store: Store,
    pub inputs: mpsc::Sender<Input>,
    pub worlds: watch::Sender<Arc<World>>,
    pub seen: Seen,
    pub news: watch::Sender<u64>,
    pub keeper: Sender<Job>,
    pub status: String,
    pub state: (State, Timestamp),
}

impl Turn {
    /// Turns until `stop` says so.
    pub async fn run(&mut self, mut inputs: mpsc::Receiver<Input>, mut stop: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow_and_update() {
            tokio::select! {
                biased;
                _ = stop.changed() => {}
                _ = tick.tick() => {
                    self.hear(Event::Tick);
                    service::mention(&NotifyState::Watchdog);
                    service::mention(&NotifyState::Status(&self.status));
                }
                Some(input) = inputs.recv() => self.take(input),
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Heard(event) => self.hear(event),
            // Whoever asked may have gone.
            Input::Look(answer) => drop(answer.send(self.pair())),
            Input::Beat(answer) => drop(answer.send(seen::beat(&self.agent, &self.world, &self.seen))),
            Input::StopOutcome(plan, answer) => drop(answer.send(self.agent.stop_outcome(plan))),
            Input::Reconfigured(world) => {
                self.world = Arc::from(world);
                self.agent.reconfigure(policy(&self.world.config), self.world.config.notify.repeat);
                self.worlds.send_replace(Arc::clone(&self.world));
                tracing::info!("new settings are in force");
                self.note("new settings are in force", "the configuration was read again");
            }
            Input::ConfigRefused(why) => {
                tracing::error!(why, "new settings are refused, the old ones stay");
                self.note("new settings are refused, the old ones stay", &why);
            }
        }
    }

    fn pair(&self) -> Pair {
        seen::pair(&self.agent, self.state.1, &self.world, &self.seen)
    }

    fn hear(&mut self, event: Event) {
        let output = self.agent.handle(event, clock::now());
        let state = seen::state(&self.agent);
        if state != self.state.0 {
            self.state = (state, clock::now().wall);
        }
        let ruling = self.agent.ruling();
        self.status = format!("the PBX may: {}; {}", ruling.duty.name(), ruling.because);
        self.dispatch(output);
    }

    /// Writes what must be remembered, then does what was asked; nothing here waits.
    fn dispatch(&mut self, output: Output) {
        let Output { remember, asks } = output;
        let written = remember.then(|| {
            let (done, written) = oneshot::channel();
            // A keeper that has gone is a process that ends.
            let _ = self.keeper.send((self.agent.memory().clone(), done));
            written
        });
        let mut work = Vec::new();
        for ask in asks {
            match ask {
                Ask::Note(what, why) => self.note(&what, &why),
                Ask::Tell(event, because, act) => self.tell(event, because, act),
                Ask::ReadEpoch | Ask::Act(_) => work.push(ask),
            }
        }
        if work.is_empty() {
            return;
        }
        let (world, inputs, seen) = (Arc::clone(&self.world), self.inputs.clone(), self.seen.clone());
        tokio::spawn(async move {
            if let Some(written) = written {
                let _ = tokio::time::timeout(MEMORY_WAIT, written).await;
            }
            for ask in work {
                let (world, inputs, seen) = (Arc::clone(&world), inputs.clone(), seen.clone());
                tokio::spawn(async move {
                    let event = answer(&world, &ask).await;
                    let _ = inputs.send(Input::Heard(event)).await;
                    if matches!(ask, Ask::Act(_)) {
                        seen.nudge();
                    }
                });
            }
        });
    }

    fn note(&self, what: &str, why: &str) {
        tracing::info!(what, because = why, "noted");
        let event = HistoryEvent {
            at: clock::now().wall,
            kind: "agent".to_owned(),
            state: self.state.0,
            row: None,
            what: what.to_owned(),
            because: why.to_owned(),
        };
        // What cannot be written stands in the log.
        drop(self.store.commit(Batch { history: vec![event], ..Batch::default() }));
    }

    fn tell(&self, event: EventName, because: String, act: Option<Act>) {
        let key = format!("{}:{event}", ulid::Ulid::new());
        let happening = Happening { event, because, step: act.map(Act::step), channels: Channels::Notifications, key };
        let deliveries = messages::deliveries(&happening, &self.world.config, &self.pair());
        if deliveries.is_empty() {
            return;
        }
        let written = self.store.commit(Batch { deliveries: deliveries.clone(), ..Batch::default() });
        let (world, news) = (Arc::clone(&self.world), self.news.clone());
        tokio::spawn(async move {
            match written.await {
                Ok(()) => news.send_modify(|n| *n += 1),
                // What cannot be queued is sent from memory, under the same key.
                Err(_) => outbox::send_unqueued(&world, deliveries).await,
            }
        });
    }
}

/// What came of it; work that ends without an answer is an unknown outcome.
async fn answer(world: &Arc<World>, ask: &Ask) -> Event {
    const LOST: &str = "its work ended without an answer, which is a fault of this program";
    let world = Arc::clone(world);
    if let Ask::Act(act) = *ask {
        let outcome = guarded::unless_it_panics(async move { hands::carry_out(&world, act).await }).await;
        return Event::Acted(act, outcome.unwrap_or_else(|| StepOutcome::unknown(LOST)));
    }
    let read = guarded::unless_it_panics(async move { hands::read_epoch(&world).await }).await;
    Event::Epoch(read.unwrap_or_else(|| Err(LOST.to_owned())))
}
