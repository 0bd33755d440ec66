//! What is looked at beside the decisions: the PBX's own status, the records, the epoch store's conformance, the
//! outbound heartbeat. Each in a task of its own; what they see feeds the snapshot.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::adapters::courier::dead_man;
use crate::config::{Config, Epoch};
use crate::engine::Event;
use crate::store::Store;
use crate::units::names::{RecordView, Redirect};
use crate::units::{Mode, PbxStatus, PlanKind, Serving, Side, State, SyncShould};

use super::steps::verified;
use super::turn::Input;
use super::world::World;

/// How often the PBX is asked while this node only watches.
const PBX_EVERY_STANDBY: Duration = Duration::from_secs(30);
/// How often while it serves.
const PBX_EVERY: Duration = Duration::from_secs(5);
/// How often the records are read back while this node serves.
const DNS_EVERY_ACTIVE: Duration = Duration::from_secs(30);
/// How often otherwise.
const DNS_EVERY: Duration = Duration::from_secs(300);
/// How often an epoch store that does not conform is tried again.
const CONFORMANCE_AGAIN: Duration = Duration::from_secs(30);

/// What the tasks saw last.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The PBX.
    pub pbx: Option<PbxStatus>,
    /// The records.
    pub dns: Vec<RecordView>,
    /// Messages in the queue.
    pub queued: u32,
}

/// Shared between the tasks and whoever prints a snapshot.
pub type Shared = Arc<Mutex<Seen>>;

/// What the loop tells these tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Where the robot stands.
    pub state: State,
    /// Whether it is armed.
    pub armed: bool,
    /// The plan that runs: what it moved is looked at again as soon as it has ended.
    pub plan: Option<PlanKind>,
    /// Whether it has to serve, with nothing under way that sees to that.
    pub must_serve: bool,
    /// What the sync should do; `None`: a plan changes it.
    pub sync: Option<SyncShould>,
}

/// Reads what was seen last.
pub fn seen(shared: &Shared) -> Seen {
    shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn note(shared: &Shared, change: impl FnOnce(&mut Seen)) {
    change(&mut shared.lock().unwrap_or_else(PoisonError::into_inner));
}

/// One look may meet a restart of the PBX; so many in a row are silence.
const SILENT_LOOKS: u32 = 3;

/// So many looks in a row that do not see it serve are silence too: it hangs, or cannot be seen. What follows looks first.
const UNSEEN_LOOKS: u32 = 6;

/// Asks the PBX, again and again; while this node must serve, its silence is told to the loop.
pub async fn pbx(
    shared: Shared,
    inputs: mpsc::Sender<Input>,
    worlds: watch::Receiver<Arc<World>>,
    mut standing: watch::Receiver<Standing>,
) {
    let (mut silent, mut unseen) = (0, 0);
    loop {
        let world = Arc::clone(&worlds.borrow());
        let status = world.pbx.status().await;
        let must_serve = standing.borrow().must_serve;
        let serving = status.serving.clone();
        note(&shared, |seen| seen.pbx = Some(status));
        silent = if must_serve && serving == Serving::No { silent + 1 } else { 0 };
        unseen = if must_serve && serving != Serving::Yes { unseen + 1 } else { 0 };
        let why = match serving {
            Serving::No if silent == SILENT_LOOKS => {
                Some(format!("driver {} says that it does not serve", world.pbx.driver()))
            }
            Serving::Unknown(why) if unseen >= UNSEEN_LOOKS => Some(why),
            _ => None,
        };
        if let Some(why) = why {
            (silent, unseen) = (0, 0);
            if inputs.send(Input::Heard(Event::Pbx(Err(why)))).await.is_err() {
                return;
            }
        }
        let state = standing.borrow_and_update().state;
        let pause = if matches!(state, State::Standby | State::Suspect) { PBX_EVERY_STANDBY } else { PBX_EVERY };
        if !rest(&mut standing, pause).await {
            return;
        }
    }
}

/// Reads the records, again and again.
pub async fn dns(
    shared: Shared,
    store: Store,
    worlds: watch::Receiver<Arc<World>>,
    mut standing: watch::Receiver<Standing>,
) {
    loop {
        let state = standing.borrow_and_update().state;
        let active = matches!(state, State::Active);
        let order = Redirect {
            to: if active { Side::Backup } else { Side::Primary },
            mode: Mode::Look,
            epoch_raw: None,
            last_verified: verified(&store).await,
        };
        let world = Arc::clone(&worlds.borrow());
        let seen = world.names.redirect(&order).await;
        let waiting = store.deliveries_waiting().await.unwrap_or_default();
        note(&shared, |shared| (shared.dns, shared.queued) = (seen.views, waiting));
        if !rest(&mut standing, if active { DNS_EVERY_ACTIVE } else { DNS_EVERY }).await {
            return;
        }
    }
}

/// Waits, or less when the state changes or a plan ends; false when the daemon ends.
async fn rest(standing: &mut watch::Receiver<Standing>, pause: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(pause) => true,
        changed = standing.changed() => changed.is_ok(),
    }
}

/// Sends the outbound heartbeat while armed.
pub async fn heartbeat(worlds: watch::Receiver<Arc<World>>, standing: watch::Receiver<Standing>) {
    /// Without a heartbeat in the configuration, it is looked for again so often.
    const NONE: Duration = Duration::from_secs(60);
    loop {
        let target = worlds.borrow().config.notify.dead_man.clone();
        let armed = standing.borrow().armed;
        if let Some(target) = target.as_ref().filter(|_| armed)
            && let Err(why) = dead_man::beat(target).await
        {
            tracing::warn!(why, "the outbound heartbeat was not accepted");
        }
        tokio::time::sleep(target.map_or(NONE, |target| target.every)).await;
        if standing.has_changed().is_err() {
            return;
        }
    }
}

/// Where a person's acceptance of the epoch record's name is kept: beside the store, so that `check` can write it
/// while the daemon holds the store.
pub const ACCEPTED_FILE: &str = "epoch-record";
const CONFORMANCE_FACT: &str = "epoch_conformance";
const RECORD_FACT: &str = "epoch_record";
const ACCEPTED_FACT: &str = "epoch_accepted";

/// Sees that the record's name is the remembered one and that the store compares and swaps.
///
/// A test that passed is remembered with the settings it depends on, and not repeated while they stay; a person's
/// acceptance is looked for again and again.
pub async fn conformance(mut worlds: watch::Receiver<Arc<World>>, store: Store, inputs: mpsc::Sender<Input>) {
    let mut said = None;
    loop {
        let world = Arc::clone(&worlds.borrow_and_update());
        let result = match &world.config.epoch {
            Epoch::Local => Ok(()),
            Epoch::Dns { record, .. } => prove(&world, &store, record, &inputs).await,
        };
        // A store that cannot answer says nothing about the zone; the last result stays.
        let result = match result {
            Err(Unproved::Store) => None,
            Err(Unproved::Epoch(why)) => Some(Err(why)),
            Ok(()) => Some(Ok(())),
        };
        if let Some(result) = result.filter(|result| said.as_ref() != Some(result)) {
            said = Some(result.clone());
            if inputs.send(Input::Heard(Event::Conformance(result))).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(CONFORMANCE_AGAIN) => {}
            changed = worlds.changed() => if changed.is_err() { return },
        }
    }
}

/// Why conformance is not proved.
enum Unproved {
    /// Our own store did not answer.
    Store,
    /// One line of advice about the epoch.
    Epoch(String),
}

async fn prove(world: &World, store: &Store, record: &str, inputs: &mpsc::Sender<Input>) -> Result<(), Unproved> {
    let fact = async |key: &str| store.fact(key.to_owned()).await.map_err(|_| Unproved::Store);
    let put = async |key: &str, value: &str| {
        store.put_fact(key.to_owned(), &serde_json::Value::from(value)).await.map_err(|_| Unproved::Store)
    };
    let accepted = accepted(&world.config.state_dir).filter(|accepted| accepted.lines().next() == Some(record));
    if let Some(accepted) = &accepted
        && fact(ACCEPTED_FACT).await? != Some(accepted.as_str().into())
    {
        // Heard twice it does no harm; forgotten it would leave a person's word unheard.
        let _ = inputs.send(Input::Heard(Event::AcceptAbsentEpoch)).await;
        put(RECORD_FACT, record).await?;
        put(ACCEPTED_FACT, accepted).await?;
    }
    match fact(RECORD_FACT).await? {
        None => put(RECORD_FACT, record).await?,
        Some(known) if known == record => {}
        Some(known) => {
            return Err(Unproved::Epoch(format!(
                "epoch.record is {record}, but this node remembers {}: two names are two services; if the change is meant, run `pbx-failover check --accept-epoch-record`",
                known.as_str().unwrap_or("another")
            )));
        }
    }
    let fingerprint = world.epoch.fingerprint();
    if fact(CONFORMANCE_FACT).await? == Some(fingerprint.as_str().into()) {
        return Ok(());
    }
    world.epoch.conformance().await.map_err(Unproved::Epoch)?;
    put(CONFORMANCE_FACT, &fingerprint).await
}

/// Whether the record's configured name is the one that this node remembers, if it remembers any.
///
/// # Errors
/// One line: both names, and what to do.
pub async fn known_record(config: &Config, store: &Store) -> Result<(), String> {
    let Epoch::Dns { record, .. } = &config.epoch else { return Ok(()) };
    match store.fact(RECORD_FACT.to_owned()).await {
        Ok(Some(known)) if known != record.as_str() => Err(format!(
            "epoch.record is {record}, but this node remembers {}: two names are two services; if the change is meant, run `pbx-failover check --accept-epoch-record`",
            known.as_str().unwrap_or("another")
        )),
        // A store that cannot be read remembers nothing; its own trouble is told elsewhere.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn accepted(state_dir: &Path) -> Option<String> {
    std::fs::read_to_string(state_dir.join(ACCEPTED_FILE)).ok().map(|text| text.trim().to_owned())
}
