//! What the agent's tasks saw last, and what is told of it: the pair for people, the beat for the backup.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::config::{self, Config};
use crate::daemon::desk::pbx_snapshot;
use crate::daemon::world::World;
use crate::decision::beats::DRIFT_WARN;
use crate::host::clock;
use crate::primary::{Agent, Standing};
use crate::units::beat::{DutyTold, EpochTold, PbxTold, TrunkTold};
use crate::units::snapshot::{DutyStatus, Epoch, Pair, PeerStatus};
use crate::units::tree::TreeTold;
use crate::units::{Beat, Condition, Duty, Guarded, Heard, PbxStatus, State, TrunkState};

/// A backup that has not asked for so long is silent; it asks every few seconds.
const SILENT_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// A look at the PBX counts for so long: several times what one takes.
const LOOK_FRESH: std::time::Duration = std::time::Duration::from_secs(60);

/// Shared between the tasks and whoever tells; clones are the same.
#[derive(Clone, Default)]
pub struct Seen(Arc<Inner>);

#[derive(Default)]
struct Inner {
    last: Mutex<Last>,
    nudge: watch::Sender<u64>,
    nudge_file: watch::Sender<u64>,
}

#[derive(Default)]
struct Last {
    pbx: Option<PbxStatus>,
    looked: Option<std::time::Duration>,
    backup: Option<(Heard, Timestamp)>,
    guarded: Guarded,
    tree: Option<TreeTold>,
}

impl Seen {
    fn with<T>(&self, look: impl FnOnce(&mut Last) -> T) -> T {
        look(&mut self.0.last.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes what the PBX told.
    pub fn note_pbx(&self, status: PbxStatus) {
        self.with(|last| (last.pbx, last.looked) = (Some(status), Some(clock::now().boot)));
    }

    /// Notes whether the PBX asks the guard.
    pub fn note_guarded(&self, guarded: Guarded) {
        self.with(|last| last.guarded = guarded);
    }

    /// Notes what the backup told.
    pub fn note_backup(&self, heard: Heard) {
        let now = clock::now().wall;
        self.with(|last| last.backup = Some((heard, now)));
    }

    /// Notes what this host vouches for.
    pub fn note_tree(&self, tree: Option<TreeTold>) {
        self.with(|last| last.tree = tree);
    }

    /// A heartbeat file shall be written soon.
    pub fn nudge_file(&self) {
        self.0.nudge_file.send_modify(|n| *n += 1);
    }

    /// Changes when a heartbeat file shall be written soon.
    pub fn file_nudges(&self) -> watch::Receiver<u64> {
        self.0.nudge_file.subscribe()
    }

    /// The PBX's last status.
    pub fn pbx(&self) -> Option<PbxStatus> {
        self.with(|last| last.pbx.clone())
    }

    /// The PBX shall be looked at now.
    pub fn nudge(&self) {
        self.0.nudge.send_modify(|n| *n += 1);
    }

    /// Changes when the PBX shall be looked at now.
    pub fn nudges(&self) -> watch::Receiver<u64> {
        self.0.nudge.subscribe()
    }

    fn backup(&self) -> Option<PeerStatus> {
        let (heard, at) = self.with(|last| last.backup.clone())?;
        let quiet = clock::now().wall.duration_since(at) > SILENT_AFTER;
        let contact = if quiet { "silent" } else { "heard" };
        let drift = heard.drift;
        Some(PeerStatus {
            contact: contact.to_owned(),
            error: quiet.then(|| "it has not asked for more than a minute".to_owned()),
            drift_ms: Some(heard.drift_ms()),
            beat: Some(heard.beat),
            at: Some(at),
            troubles: apart(drift).into_iter().collect(),
        })
    }
}

/// What is wrong with the clocks, if anything: beyond 300 s neither the backup nor a name server believes this host.
fn apart(drift: SignedDuration) -> Option<String> {
    let seconds = drift.as_secs();
    (drift.abs() > DRIFT_WARN).then(|| {
        format!(
            "the backup's clock and this host's differ by {seconds} s, and beyond 300 s nothing signed is believed: set both by NTP"
        )
    })
}

/// The agent's state in the words of the robot's: it serves, or it stands by.
pub fn state(agent: &Agent) -> State {
    match (agent.ruling().duty, agent.pbx()) {
        (Duty::Stop, _) | (_, Some(Condition::Stopped | Condition::Failed)) => State::Standby,
        _ => State::Active,
    }
}

/// The pair as this host sees it.
pub fn pair(agent: &Agent, since: Timestamp, world: &World, seen: &Seen) -> Pair {
    let ruling = agent.ruling();
    let memory = agent.memory();
    let config = &world.config;
    Pair {
        duty: Some(DutyStatus {
            duty: ruling.duty,
            because: ruling.because,
            done: is_done(agent),
            error: agent.trouble().map(str::to_owned),
            held_back_since: memory.held_back.as_ref().map(|held| held.since),
            planned_stop_until: memory.planned_stop_until,
            epoch_unread_s: agent.unread_for().as_secs(),
            epoch_was_read: agent.has_read(),
        }),
        epoch: Some(epoch(agent, config)),
        peer: seen.backup(),
        pbx: Some(pbx_snapshot(world, seen.pbx().as_ref())),
        ..Pair::bare(config.node.clone(), config.role.name(), state(agent), since)
    }
}

fn is_done(agent: &Agent) -> bool {
    match agent.ruling().duty {
        Duty::Stop => matches!(agent.pbx(), Some(Condition::Stopped | Condition::Failed)),
        Duty::WithoutTrunks => agent.done() == Some(Duty::WithoutTrunks),
        Duty::Serve => agent.pbx() == Some(Condition::Serves),
        Duty::AsItIs => true,
    }
}

fn epoch(agent: &Agent, config: &Config) -> Epoch {
    let seen = agent.memory().seen.as_ref();
    let store = match config.epoch {
        config::Epoch::Local => "local",
        config::Epoch::Dns { .. } => "dns",
    };
    Epoch {
        number: seen.map(|record| record.number),
        holder: seen.map(|record| record.holder.clone()),
        id: seen.map(|record| record.id),
        since: seen.map(|record| record.since),
        store: store.to_owned(),
        error: match agent.standing() {
            Standing::Unknown(why) => Some(why),
            Standing::Ours(_) | Standing::Nobody | Standing::Other(_) => None,
        },
    }
}

/// What this host tells of itself; sequence and nonce are set on the way.
pub fn beat(agent: &Agent, world: &World, seen: &Seen) -> Beat {
    let config = &world.config;
    let ruling = agent.ruling();
    let memory = agent.memory();
    let status = seen.pbx();
    // Its word can forbid a takeover: an old look is none.
    let looked = seen.with(|last| last.looked);
    let fresh = looked.is_some_and(|at| clock::now().since(at) <= LOOK_FRESH);
    let trunks = config.pbx.trunks.iter().map(|trunk| {
        let told = status.iter().flat_map(|status| &status.trunks).find(|told| told.name == trunk.name);
        TrunkTold {
            name: trunk.name.clone(),
            kind: trunk.kind,
            state: told.map_or(TrunkState::Unknown, |told| told.state),
        }
    });
    Beat {
        epoch: memory.seen.as_ref().map(|seen| EpochTold { number: seen.number, holder: seen.holder.clone() }),
        settings: config::digests(config),
        pbx: Some(PbxTold {
            driver: world.pbx.driver().to_owned(),
            condition: agent.pbx().filter(|_| fresh).unwrap_or(Condition::Unknown),
            registrations: status.as_ref().and_then(|status| status.registrations),
            calls: status.as_ref().and_then(|status| status.calls),
            trunks: trunks.collect(),
        }),
        duty: Some(DutyTold {
            duty: ruling.duty,
            because: ruling.because,
            starts_by_itself: memory.held_back.is_some() && memory.planned_stop(clock::now().wall).is_none(),
            guarded: seen.with(|last| last.guarded),
            planned_stop_until: memory.planned_stop_until,
        }),
        tree: seen.with(|last| last.tree.clone()),
        ..Beat::bare(config.node.clone(), config.role.name(), clock::now().wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_a_trouble_in_the_primarys_status() {
        let seen = Seen::default();
        let drifted = |seconds| {
            let beat = Beat::bare("pbx-b".parse().expect("a name"), "backup", clock::now().wall);
            seen.note_backup(Heard { beat, drift: SignedDuration::from_secs(seconds) });
            seen.backup().expect("the backup").troubles
        };
        assert_eq!(drifted(1), Vec::<String>::new());
        for seconds in [60, -60] {
            let troubles = drifted(seconds);
            assert!(troubles.iter().any(|text| text.contains(&format!("differ by {seconds} s"))), "{troubles:?}");
        }
    }
}
