//! What the agent has done in the world: the PBX looked at, started, stopped, without trunks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::seen::Seen;
use super::turn::Input;
use crate::adapters::beat_file::BeatFile;
use crate::config::Driver;
use crate::daemon::world::World;
use crate::ports::Load;
use crate::primary::{Act, Event};
use crate::units::{Condition, EpochRead, Guarded, Mode, PbxStatus, Serving, StepOutcome};

/// How often the PBX is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long one reading of the epoch may take; a master that does not answer in this time is not read.
pub const READ_MAX: Duration = Duration::from_secs(10);

/// Looks at the PBX, again and again, and at once after each act.
pub async fn look_at_pbx(seen: Seen, inputs: mpsc::Sender<Input>, worlds: watch::Receiver<Arc<World>>) {
    let mut nudged = seen.nudges();
    loop {
        nudged.borrow_and_update();
        let world = Arc::clone(&worlds.borrow());
        let status = world.pbx.status().await;
        let condition = condition(&status);
        seen.note_pbx(status);
        if inputs.send(Input::Heard(Event::Pbx(condition))).await.is_err() {
            return;
        }
        let _ = tokio::time::timeout(LOOK_EVERY, nudged.changed()).await;
    }
}

/// Looks whether the PBX asks the guard before it starts: someone may install it, or forget it at an upgrade.
pub async fn look_for_guard(seen: Seen, worlds: watch::Receiver<Arc<World>>) {
    const EVERY: Duration = Duration::from_secs(60);
    loop {
        let world = Arc::clone(&worlds.borrow());
        let guarded = match world.config.pbx.driver {
            // It lives in the agent, which rules what it may do.
            Driver::Builtin(_) => Guarded::Yes,
            _ => world.pbx.guarded().await,
        };
        seen.note_guarded(guarded);
        tokio::time::sleep(EVERY).await;
    }
}

/// Writes the heartbeat file, again and again, and soon where there is something new to vouch for; a trouble is said once.
pub async fn write_beats(file: BeatFile, seen: Seen, inputs: mpsc::Sender<Input>, every: Duration) {
    /// Each one is carried by the sync.
    const PAUSE: Duration = Duration::from_secs(1);
    let mut said = None;
    let mut nudged = seen.file_nudges();
    loop {
        nudged.borrow_and_update();
        let (answer, answered) = oneshot::channel();
        if inputs.send(Input::Beat(answer)).await.is_err() {
            return;
        }
        let Ok(beat) = answered.await else { return };
        let trouble = file.write(&beat).await.err();
        if let Some(why) = trouble.as_ref().filter(|why| said.as_ref() != Some(*why)) {
            tracing::warn!(why, "no heartbeat file");
        }
        said = trouble;
        tokio::time::sleep(PAUSE).await;
        let _ = tokio::time::timeout(every.saturating_sub(PAUSE), nudged.changed()).await;
    }
}

/// Whether the PBX serves, as the agent and the backup need to know it.
fn condition(status: &PbxStatus) -> Condition {
    match (&status.serving, status.failed) {
        (Serving::Yes, _) => Condition::Serves,
        (Serving::No, true) => Condition::Failed,
        (Serving::No, false) => Condition::Stopped,
        (Serving::Unknown(_), _) => Condition::Unknown,
    }
}

/// Does it; every act may be done twice.
pub async fn carry_out(world: &World, act: Act) -> StepOutcome {
    let pbx = &world.pbx;
    match act {
        Act::Stop => pbx.stop_accepting().await,
        Act::UnregisterTrunks => pbx.unregister_trunks().await,
        Act::RegisterTrunks => pbx.register_trunks(Mode::Act).await,
        Act::Drain => pbx.drain().await,
        Act::Start => start(world).await,
    }
}

/// Starts the PBX and sees it serve; its data is its own, so nothing is restored over it.
pub async fn start(world: &World) -> StepOutcome {
    let pbx = &world.pbx;
    // Somebody else may have been faster; a PBX that serves must not be started anew under its calls.
    if pbx.status().await.serving == Serving::Yes {
        return StepOutcome::done("it serves already");
    }
    match pbx.reload(Mode::Act, Load::Again).await {
        StepOutcome::Done(_) => {}
        other => return other,
    }
    match pbx.accept_registrations(Mode::Act).await {
        // Trunks that do not register by themselves; their state is in `status`, and no reason not to serve.
        done @ StepOutcome::Done(_) => {
            let _ = pbx.register_trunks(Mode::Act).await;
            done
        }
        other => other,
    }
}

/// Reads the epoch once.
pub async fn read_epoch(world: &World) -> EpochRead {
    tokio::time::timeout(READ_MAX, world.epoch.read())
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", READ_MAX.as_secs())))
}
