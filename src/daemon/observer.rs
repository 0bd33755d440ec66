//! `role: observer`: watches the primary from elsewhere with the same checks, and tells its view at its door.
//!
//! It decides nothing and moves nothing. Its loop makes a view each second; one that is frozen tells an old one, whose age
//! the backup sees.

use std::sync::{Arc, Mutex, PoisonError};

use sd_notify::NotifyState;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::probers::{Pace, Probers};
use super::start::{Signals, Stopped, Wish, open_store};
use super::tasks::Tasks;
use super::turn::Input;
use super::{service, settings};
use crate::adapters::checks;
use crate::config::{Config, Refused, Remark};
use crate::control::{AgentDesk, AgentDoor, ControlSocket, Desk, Orders, Page, Preview};
use crate::decision::observer::Observer;
use crate::decision::stall::TICK;
use crate::engine::{Event, checks_snapshot};
use crate::host::clock;
use crate::host::sequence::Sequence;
use crate::ports::{Answer, Probe};
use crate::store::Store;
use crate::units::beat::ViewTold;
use crate::units::journal::{HistoryEvent, HistoryQuery};
use crate::units::operator::{Reply, Request};
use crate::units::snapshot::{Check, Explanation, Pair, Status};
use crate::units::{
    Beat, CheckName, Heard, Now, PlanId, PlanKind, Sees, Serving, State, StepOutcome, StopOrder, Verdict,
};

/// What the loop saw last.
struct View {
    made: Now,
    sees: Sees,
    because: String,
    checks: Vec<Check>,
}

/// Is an observer until SIGTERM or SIGINT.
///
/// # Errors
/// [`Stopped`], before anything was told.
pub async fn run(config: Config, mut signals: Signals) -> Result<(), Stopped> {
    let cannot = |why: String| Stopped::Cannot(why);
    // As a refused configuration, so that systemd does not try it again and again.
    let door = config.agent.door.as_ref().ok_or_else(|| {
        let what = "agent.token is not set: an observer tells its view to nobody";
        let fix = "run `pbx-failover keys`, and write the lines that it prints";
        Stopped::Config(Refused { file: config.path.clone(), remarks: vec![Remark::about_file(what, fix)] })
    })?;
    let (store, _) = open_store(&config)?;
    let mut asked: Vec<(CheckName, Arc<dyn Probe>)> = Vec::new();
    for check in &config.monitor.checks {
        let probe = checks::probe(check, &config.primary, None)
            .map_err(|why| cannot(format!("check {}: {why}", check.name)))?;
        asked.push((check.name.clone(), Arc::from(probe)));
    }
    let sequence = Arc::new(Sequence::open(&config.state_dir));
    let door = AgentDoor::bind(door, config.backup.node.clone(), Orders::NotHere, sequence).await;
    let door = door.map_err(|e| cannot(e.to_string()))?;
    let control = ControlSocket::bind(&config.control).await.map_err(|e| cannot(e.to_string()))?;
    let page_door = match config.page {
        Some(address) => Some(Page::bind(address).await.map_err(|e| cannot(e.to_string()))?),
        None => None,
    };
    let (inputs, mut hears) = mpsc::channel(super::turn::INPUTS_MAX);
    let mut observer = Observer::new(settings::of(&config).checks, clock::now());
    let view = Arc::new(Mutex::new(look(&observer)));
    let desk = Arc::new(ObserverDesk { config: config.clone(), view: Arc::clone(&view), store: store.clone() });
    let mut tasks = Tasks::default();
    tasks.spawn("control", control.serve(desk.clone()));
    if let Some(page) = page_door {
        tasks.spawn("page", page.serve(desk.clone()));
    }
    tasks.spawn("door", door.serve(desk));
    let pace = watch::Sender::new(Pace::default());
    let probers = Probers::of_checks(&config, &asked, &pace, &inputs, &store);
    let (stop, mut stopped) = watch::channel(false);
    tasks.spawn("signals", async move {
        while signals.next().await == Wish::Reload {
            tracing::warn!("an observer takes new settings at its restart only");
        }
        stop.send_replace(true);
        std::future::pending::<()>().await;
    });
    service::tell(&[NotifyState::Ready, NotifyState::Status("observing")]);
    tracing::info!(node = %config.node, version = env!("CARGO_PKG_VERSION"), role = "observer", checks = probers.count(), "started");
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watching = async {
        while !*stopped.borrow_and_update() {
            tokio::select! {
                _ = stopped.changed() => {}
                _ = tick.tick() => {
                    observer.tick(clock::now());
                    service::mention(&NotifyState::Watchdog);
                }
                Some(input) = hears.recv() => {
                    if let Input::Result(Event::Check { name, result, asked }, heard) = input {
                        observer.check(&name, result, asked, clock::now());
                        let _ = heard.send(());
                    }
                }
            }
            *view.lock().unwrap_or_else(PoisonError::into_inner) = look(&observer);
        }
    };
    let ended = tasks.beside(watching).await;
    service::tell(&[NotifyState::Stopping]);
    tasks.shutdown().await;
    let closed = store.close().await.map_err(|trouble| cannot(trouble.to_string()));
    ended.and(closed)
}

fn look(observer: &Observer) -> View {
    let made = clock::now();
    let checks = checks_snapshot(observer.tallies(), made);
    View { made, sees: observer.sees(made), because: observer.because(made), checks }
}

struct ObserverDesk {
    config: Config,
    view: Arc<Mutex<View>>,
    store: Store,
}

impl ObserverDesk {
    fn with<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn pair(&self) -> Pair {
        let primary = &self.config.primary.node;
        let (sees, because, checks, made) =
            self.with(|view| (view.sees, view.because.clone(), view.checks.clone(), view.made.wall));
        let (verdict, what) = match sees {
            Sees::Alive => (Verdict::PrimaryUp, format!("{primary} is seen alive: {because}")),
            Sees::Down => (Verdict::PrimaryDead, format!("{primary} is not seen alive: {because}")),
            Sees::Nothing => (Verdict::Unsure, format!("no view of {primary}: {because}")),
        };
        let mut pair = Pair::bare(self.config.node.clone(), self.config.role.name(), State::Standby, made);
        (pair.verdict, pair.verdict_because, pair.checks) = (Some(verdict), Some(what), checks);
        pair
    }

    fn nothing_here(&self) -> String {
        format!("{} is an observer, which only watches; give it on {}", self.config.node, self.config.backup.node)
    }
}

impl AgentDesk for ObserverDesk {
    fn beat(&self, _asker: Heard) -> Answer<'_, Beat> {
        Box::pin(async {
            let now = clock::now();
            let view = self.with(|view| ViewTold {
                sees: view.sees,
                because: view.because.clone(),
                age_ms: u64::try_from(now.since(view.made.boot).as_millis()).unwrap_or(u64::MAX),
            });
            Beat { view: Some(view), ..Beat::bare(self.config.node.clone(), self.config.role.name(), now.wall) }
        })
    }

    fn stop(&self, _order: StopOrder) -> Answer<'_, StepOutcome> {
        Box::pin(async { StepOutcome::failed(self.nothing_here()) })
    }

    fn resume(&self, _plan: PlanId) -> Answer<'_, StepOutcome> {
        Box::pin(async { StepOutcome::failed(self.nothing_here()) })
    }
}

impl Desk for ObserverDesk {
    fn status(&self) -> Answer<'_, Status> {
        Box::pin(async { Status { version: env!("CARGO_PKG_VERSION").to_owned(), pairs: vec![self.pair()] } })
    }

    fn explain(&self) -> Answer<'_, Explanation> {
        Box::pin(async {
            let answer = self.pair().verdict_because.unwrap_or_default();
            Explanation { answer, inputs: Vec::new(), blocks: Vec::new(), hints: Vec::new() }
        })
    }

    fn history(&self, query: HistoryQuery) -> Answer<'_, Result<Vec<HistoryEvent>, String>> {
        Box::pin(async { self.store.history(query).await.map_err(|trouble| trouble.to_string()) })
    }

    fn preview(&self, plan: PlanKind) -> Answer<'_, Result<Preview, String>> {
        let refused = Some(self.nothing_here());
        Box::pin(async move {
            Ok(Preview {
                plan,
                steps: Vec::new(),
                carried_s: None,
                without_service_s: None,
                refused,
                stands_against: Vec::new(),
            })
        })
    }

    fn operate(&self, _request: Request) -> Answer<'_, Reply> {
        Box::pin(async { Reply::Refused(self.nothing_here()) })
    }

    fn serving(&self) -> Answer<'_, Serving> {
        Box::pin(async { Serving::No })
    }

    fn alive(&self) -> Answer<'_, ()> {
        Box::pin(async {})
    }
}
