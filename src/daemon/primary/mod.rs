//! The agent's daemon on the primary: [`crate::primary::Agent`] with its one loop and one clock.
//!
//! `turn` is the loop, `hands` what it has done in the world, `seen` what is told of all that: status, beat. `desk` answers
//! people and the backup. The memory that it shares with the guard is kept by `keeper`, off the loop.

mod desk;
mod hands;
mod keeper;
mod seen;
mod turn;
mod vouch;

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{mpsc, watch};

pub use self::hands::{READ_MAX, start as start_pbx};
pub use self::turn::MEMORY_WAIT;

use self::desk::PrimaryDesk;
use self::seen::Seen;
use self::turn::{Input, Turn};
use super::start::{Reload, Signals, Stopped, open_store};
use super::tasks::Tasks;
use super::world::World;
use super::{outbox, service};
use crate::adapters::beat_file::BeatFile;
use crate::adapters::pbx::Resident;
use crate::config::{Config, Driver};
use crate::control::{AgentDoor, ControlSocket, Orders, Page};
use crate::host::clock;
use crate::host::sequence::Sequence;
use crate::primary::{Agent, HeldBack, Policy};
use crate::store::PrimaryFile;

/// How many inputs may wait: a burst of looks and a few people.
const INPUTS_MAX: usize = 256;

/// How often the heartbeat file is written: a sync carries it, and its age is told in minutes.
const BEAT_FILE_EVERY: Duration = Duration::from_secs(15);

/// Is the agent until SIGTERM or SIGINT; leaves the PBX as it is.
///
/// # Errors
/// [`Stopped`], before anything was changed.
pub async fn run(config: Config, signals: Signals) -> Result<(), Stopped> {
    let (store, _) = open_store(&config)?;
    let file = PrimaryFile::of(&config.state_dir);
    let known = file.read().map_err(Stopped::Cannot)?;
    let mut memory = known.clone();
    memory.read_in(clock::boot_id());
    if matches!(config.pbx.driver, Driver::Builtin(_)) && memory.held_back.is_none() {
        // It lives in this process, and ended with the last one.
        let because = "the built-in PBX ends with the agent".to_owned();
        memory.held_back = Some(HeldBack { since: clock::now().wall, because });
    }
    let resident = Resident::default();
    let path = config.path.clone();
    let node = config.node.clone();
    let agent = Agent::new(node.clone(), policy(&config), config.notify.repeat, memory, clock::now());
    let world = Arc::new(World::build(config, &resident).map_err(Stopped::Cannot)?);
    let config = &world.config;
    let control = ControlSocket::bind(&config.control).await.map_err(|e| Stopped::Cannot(e.to_string()))?;
    let page = match config.page {
        Some(address) => Some(Page::bind(address).await.map_err(|e| Stopped::Cannot(e.to_string()))?),
        None => None,
    };
    let sequence = Arc::new(Sequence::open(&config.state_dir));
    let door = if let Some(door) = &config.agent.door {
        let asked_by = config.backup.node.clone();
        let bound = AgentDoor::bind(door, asked_by, Orders::Taken, Arc::clone(&sequence)).await;
        Some(bound.map_err(|e| Stopped::Cannot(e.to_string()))?)
    } else {
        tracing::warn!("agent.token is not set: the agent watches the epoch and answers nobody");
        None
    };

    let (inputs, hears) = mpsc::channel(INPUTS_MAX);
    let worlds = watch::Sender::new(Arc::clone(&world));
    let seen = Seen::default();
    let news = watch::Sender::new(0_u64);
    let desk = Arc::new(PrimaryDesk::new(inputs.clone(), worlds.subscribe(), store.clone(), seen.clone()));
    let mut tasks = Tasks::default();
    tasks.spawn("control", control.serve(desk.clone()));
    if let Some(page) = page {
        tasks.spawn("page", page.serve(desk.clone()));
    }
    if let Some(door) = door {
        tasks.spawn("door", door.serve(desk));
    }
    tasks.spawn("outbox", outbox::run(store.clone(), worlds.subscribe(), news.clone()));
    if let Some(door) = &config.agent.door
        && let Some(file) = BeatFile::new(config, door.token.clone(), Arc::clone(&sequence))
    {
        tasks.spawn("heartbeat file", hands::write_beats(file, seen.clone(), inputs.clone(), BEAT_FILE_EVERY));
    }
    if config.agent.door.is_some() {
        tasks.spawn("working directory", vouch::run(seen.clone(), worlds.subscribe()));
    }
    tasks.spawn("PBX", hands::look_at_pbx(seen.clone(), inputs.clone(), worlds.subscribe()));
    tasks.spawn("guard", hands::look_for_guard(seen.clone(), worlds.subscribe()));
    let (keeper, keeper_ends) = keeper::start(file, known, inputs.clone());
    tasks.spawn("keeper", keeper_ends);

    let (stop, stopped) = watch::channel(false);
    let reload = Reload { path, worlds: worlds.subscribe(), resident: resident.clone() };
    let told_as = |built: Result<World, String>| match built {
        Ok(world) => Input::Reconfigured(Box::new(world)),
        Err(why) => Input::ConfigRefused(why),
    };
    tasks.spawn("signals", signals.follow(reload, inputs.clone(), told_as, stop));

    let mut turn = Turn {
        state: (seen::state(&agent), clock::now().wall),
        agent,
        world,
        store: store.clone(),
        inputs,
        worlds,
        seen,
        news,
        keeper,
        status: String::new(),
    };
    service::tell(&[NotifyState::Ready, NotifyState::Status("watching the epoch")]);
    tracing::info!(%node, version = env!("CARGO_PKG_VERSION"), role = "primary", "started");
    let ended = tasks.beside(turn.run(hears, stopped)).await;
    service::tell(&[NotifyState::Stopping, NotifyState::Status("the PBX is left as it is")]);
    tracing::info!("stopped; the PBX is left as it is, and nothing makes it step down until the agent runs again");
    tasks.shutdown().await;
    drop(turn);
    resident.end().await;
    let closed = store.close().await.map_err(|trouble| Stopped::Cannot(trouble.to_string()));
    ended.and(closed)
}

fn policy(config: &Config) -> Policy {
    let agent = &config.agent;
    Policy { step_down: agent.step_down, unreadable_after: agent.unreadable_after, unreadable: agent.unreadable }
}
