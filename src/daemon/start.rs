//! Starts and ends the daemon: store, journal, adapters, sockets, signals.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::adapters::pbx::Resident;
use crate::config::{self, Config, Files, Loading, Refused, Role, Surroundings};
use crate::control::{ControlSocket, Page};
use crate::engine::{Engine, Recovered};
use crate::host::{clock, tls};
use crate::store::{self, Store};
use crate::units::Verdict;
use crate::units::journal::{JournalEntry, JournalRecord};

use super::desk::DaemonDesk;
use super::tasks::Tasks;
use super::turn::{INPUTS_MAX, Input, Turn, Wires};
use super::watch::{Shared, Standing};
use super::world::World;
use super::{data, home, outbox, passive, service, settings, sync, watch as watches};

/// Why the daemon did not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The configuration is refused.
    #[error("{0}")]
    Config(#[from] Refused),
    /// Something that the robot cannot do without.
    #[error("{0}")]
    Cannot(String),
}

/// Is the daemon until SIGTERM or SIGINT; leaves the PBX as it is.
///
/// # Errors
/// [`Stopped`], before anything was changed.
pub async fn run(path: &Path) -> Result<(), Stopped> {
    tls::install_provider();
    let loaded = config::load(path, Loading::Online)?;
    for warning in &loaded.warnings {
        tracing::warn!(%warning, "the configuration loads, but");
    }
    let config = loaded.config;
    let signals = Signals::listen().map_err(|e| Stopped::Cannot(format!("signals cannot be heard: {e}")))?;
    match config.role {
        Role::Backup => robot(config, signals).await,
        Role::Primary => super::primary::run(config, signals).await,
        Role::Observer => super::observer::run(config, signals).await,
    }
}

/// Is the robot on the backup.
async fn robot(config: Config, signals: Signals) -> Result<(), Stopped> {
    let path = config.path.clone();
    let (store, found) = open_store(&config)?;
    let mut recovered = recovered(found);
    let resident = Resident::default();
    let plan_world = plan_world(&config, &recovered.journal, &resident);
    recovered.plan_settings = plan_world.as_ref().map(|world| settings::of(&world.config));
    let world = Arc::new(World::build(config, &resident).map_err(Stopped::Cannot)?);
    let engine = Engine::new(settings::of(&world.config), recovered, clock::now(), seed()).map_err(Stopped::Cannot)?;
    let control = ControlSocket::bind(&world.config.control).await.map_err(|e| Stopped::Cannot(e.to_string()))?;
    let page = match world.config.page {
        Some(address) => Some(Page::bind(address).await.map_err(|e| Stopped::Cannot(e.to_string()))?),
        None => None,
    };

    let (inputs, hears) = mpsc::channel(INPUTS_MAX);
    let worlds = watch::Sender::new(Arc::clone(&world));
    let first = Standing { state: engine.state(), armed: false, plan: None, must_serve: false, sync: None };
    let standing = watch::Sender::new(first);
    let news = watch::Sender::new(0_u64);
    let shared = Shared::default();
    let desk = Arc::new(DaemonDesk::new(inputs.clone(), worlds.subscribe(), store.clone(), Arc::clone(&shared)));

    let mut tasks = Tasks::default();
    tasks.spawn("control", control.serve(desk.clone()));
    if let Some(page) = page {
        tasks.spawn("page", page.serve(desk));
    }
    tasks.spawn("outbox", outbox::run(store.clone(), worlds.subscribe(), news.clone()));
    tasks.spawn("PBX", watches::pbx(Arc::clone(&shared), inputs.clone(), worlds.subscribe(), standing.subscribe()));
    tasks.spawn("dns", watches::dns(shared, store.clone(), worlds.subscribe(), standing.subscribe()));
    tasks.spawn("working directory", data::run(inputs.clone(), worlds.subscribe(), standing.subscribe()));
    tasks.spawn("ledger", home::baseline::follow(worlds.subscribe(), standing.subscribe()));
    tasks.spawn("passive", passive::run(inputs.clone(), worlds.subscribe(), standing.subscribe()));
    tasks.spawn("sync", sync::watch(inputs.clone(), worlds.subscribe(), standing.subscribe()));
    tasks.spawn("outbound heartbeat", watches::heartbeat(worlds.subscribe(), standing.subscribe()));
    tasks.spawn("conformance", watches::conformance(worlds.subscribe(), store.clone(), inputs.clone()));

    let (stop, stopped) = watch::channel(false);
    let reload = Reload { path, worlds: worlds.subscribe(), resident: resident.clone() };
    let told_as = |built: Result<World, String>| match built {
        Ok(world) => Input::Reconfigured(Box::new(world)),
        Err(why) => Input::ConfigRefused(why),
    };
    tasks.spawn("signals", signals.follow(reload, inputs.clone(), told_as, stop));

    let node = world.config.node.clone();
    let wires = Wires { inputs, worlds, standing, news };
    let mut turn = Turn::new(engine, world, plan_world, store.clone(), wires);
    service::tell(&[NotifyState::Ready, NotifyState::Status(&format!("watching, {}", Verdict::Unsure))]);
    tracing::info!(%node, version = env!("CARGO_PKG_VERSION"), "started");
    let ended = tasks.beside(turn.run(hears, stopped)).await;
    let farewell = turn.last_words();
    service::tell(&[NotifyState::Stopping, NotifyState::Status(&farewell)]);
    tracing::info!(farewell, "stopped");
    turn.end().await;
    tasks.shutdown().await;
    drop(turn);
    resident.end().await;
    let closed = store.close().await.map_err(|trouble| Stopped::Cannot(trouble.to_string()));
    ended.and(closed)
}

/// The store, or one that is not there when the robot can still watch without.
pub(super) fn open_store(config: &Config) -> Result<(Store, store::Recovered), Stopped> {
    match Store::open(&config.state_dir) {
        Ok(opened) => Ok(opened),
        Err(error) if error.may_watch() => {
            tracing::error!(%error, "the store cannot be used: the robot watches, disarmed");
            Ok((Store::unavailable(&error), store::Recovered::default()))
        }
        Err(error) => Err(Stopped::Cannot(error.to_string())),
    }
}

fn recovered(found: store::Recovered) -> Recovered {
    let journal = found.open_plan.or(found.last_plan).map(|(_, journal)| journal).unwrap_or_default();
    Recovered { memory: found.memory, journal, plan_settings: None }
}

/// The world of an interrupted plan, when its configuration is not the present one.
fn plan_world(config: &Config, journal: &[JournalEntry], resident: &Resident) -> Option<Arc<World>> {
    let JournalRecord::Opened { config: text, .. } = &journal.first()?.record else { return None };
    if *text == config.text.0 || matches!(journal.last()?.record, JournalRecord::Closed { .. }) {
        return None;
    }
    let surroundings = Surroundings { files: Files::Ignored, ..Surroundings::here(Loading::Offline) };
    let frozen = config::parse(text, &config.path, &surroundings).map_err(|refused| refused.to_string());
    match frozen.and_then(|loaded| World::build(loaded.config, resident)) {
        Ok(world) => Some(Arc::new(world)),
        Err(why) => {
            tracing::warn!(
                why,
                "the interrupted plan's own configuration cannot be used; it goes on with the present one"
            );
            None
        }
    }
}

/// A seed for ids, from the operating system.
fn seed() -> u64 {
    let ulid = ulid::Ulid::new();
    u64::try_from(ulid.random() & u128::from(u64::MAX)).unwrap_or_default()
}

/// What the system tells this process.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// Follows them until the process shall end, which `stop` is told; what came of reading the settings again goes to the
    /// loop in its own `word`.
    pub(super) async fn follow<I: Send>(
        mut self,
        reload: Reload,
        inputs: mpsc::Sender<I>,
        word: fn(Result<World, String>) -> I,
        stop: watch::Sender<bool>,
    ) {
        while self.next().await == Wish::Reload {
            service::reloading();
            let built = rebuild(&reload.path, &reload.worlds, &reload.resident).await;
            let _ = inputs.send(word(built)).await;
            service::tell(&[NotifyState::Ready]);
        }
        stop.send_replace(true);
        // Whoever watches over this task knows the end from the loop's.
        std::future::pending::<()>().await;
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.term.recv() => Wish::End,
            _ = self.int.recv() => Wish::End,
            _ = self.hup.recv() => Wish::Reload,
        }
    }
}

/// What a reading of the settings needs.
pub(super) struct Reload {
    pub(super) path: PathBuf,
    pub(super) worlds: watch::Receiver<Arc<World>>,
    pub(super) resident: Resident,
}

/// What a signal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Read the settings again.
    Reload,
    /// End.
    End,
}

/// The world of the configuration as it stands now; refused where a change needs a restart.
async fn rebuild(path: &Path, worlds: &watch::Receiver<Arc<World>>, resident: &Resident) -> Result<World, String> {
    let path = path.to_owned();
    let loaded = tokio::task::spawn_blocking(move || config::load(&path, Loading::Online)).await;
    let loaded = loaded.map_err(|e| e.to_string())?.map_err(|refused| refused.to_string())?;
    let old = worlds.borrow().config.clone();
    let keys = config::restart_needed(&old, &loaded.config);
    if !keys.is_empty() {
        return Err(format!("{} changed, which needs a restart", keys.join(", ")));
    }
    World::build(loaded.config, resident)
}
