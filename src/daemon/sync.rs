//! Looks again and again whether the sync does what it should: it runs while this node watches, and rests while it serves.
//!
//! One that runs while this node serves is stopped again: a boot, an upgrade of its package or a person has started it, and
//! it would put the primary's old files over new ones. One that a failback left stopped, since files waited here to be
//! carried home, is started once none does. What is told follows from the engine.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::engine::Event;
use crate::units::{State, SyncLook};

use super::home;
use super::turn::Input;
use super::watch::Standing;
use super::world::World;

/// The pace: one `systemctl show` of each unit, one request for each folder, and one walk over `/proc`.
const EVERY: Duration = Duration::from_secs(15);

/// After one that saw something new: the look that has to agree with it comes sooner.
const AGAIN: Duration = Duration::from_secs(4);

/// Looks until the daemon ends.
pub async fn run(
    inputs: mpsc::Sender<Input>,
    worlds: watch::Receiver<Arc<World>>,
    mut standing: watch::Receiver<Standing>,
) {
    let mut last = SyncLook::default();
    loop {
        let Ok(now) = standing.wait_for(|now| looks(now.state)).await.map(|now| *now) else { return };
        let (state, world) = (now.state, Arc::clone(&worlds.borrow()));
        if state == State::Standby && now.plan.is_none() && world.sync.is_fenced() {
            start_late(&world).await;
        }
        let look = world.sync.look().await;
        if state == State::Active && !look.runs.is_empty() && world.sync.is_configured() {
            let outcome = world.sync.stop().await;
            tracing::warn!(ran = look.runs.join("; "), stop = outcome.text(), "the sync ran while this node serves");
        }
        let pause = if look == last { EVERY } else { AGAIN };
        last = look.clone();
        if inputs.send(Input::Heard(Event::Sync(look))).await.is_err() {
            return;
        }
        tokio::select! {
            () = sleep(pause) => {}
            // The first look at a node that has just begun to serve, or was started while it does, comes at once.
            other = standing.wait_for(|now| (now.state == State::Active) != (state == State::Active)) => {
                if other.is_err() {
                    return;
                }
            }
        }
    }
}

/// No plan starts it any more: its step was given up while something waited to be carried home, or the robot died.
async fn start_late(world: &World) {
    match home::waits(&world.config).await {
        Ok(Some(_)) if home::has_a_way(&world.config) => {}
        Ok(_) => {
            let outcome = world.sync.start().await;
            tracing::warn!(outcome = outcome.text(), "the sync had not been started again after this node served");
        }
        Err(why) => tracing::warn!(why, "whether the sync may be started is not known"),
    }
}

fn looks(state: State) -> bool {
    matches!(state, State::Standby | State::Suspect | State::Active)
}
