//! Looks again and again whether this node's PBX is passive, while it should be; the engine judges what was seen.
//!
//! A task of its own: a driver's look may take seconds, and must not make the other looks late.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::engine::Event;
use crate::host::clock;
use crate::units::{PassiveLook, Sign, State};

use super::turn::Input;
use super::watch::Standing;
use super::world::World;

/// The pace: one SIP question, one `systemctl show` and one walk over `/proc` each time.
const EVERY: Duration = Duration::from_secs(15);

/// The second look comes sooner, so that people are told within twenty seconds of what lasts.
const AGAIN: Duration = Duration::from_secs(4);

/// Looks until the daemon ends.
pub async fn run(
    inputs: mpsc::Sender<Input>,
    worlds: watch::Receiver<Arc<World>>,
    mut standing: watch::Receiver<Standing>,
) {
    let mut last: Option<Vec<Sign>> = None;
    loop {
        let now = *standing.borrow_and_update();
        let watches = matches!(now.state, State::Standby | State::Suspect);
        let mut pause = EVERY;
        if watches {
            let asked = clock::now().boot;
            let world = Arc::clone(&worlds.borrow());
            let look = world.pbx.look_passive().await;
            let signs = Some(signs(&look));
            if signs != last {
                (pause, last) = (AGAIN, signs);
            }
            if inputs.send(Input::Heard(Event::Passive { look, asked })).await.is_err() {
                return;
            }
        } else {
            last = None;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = standing.changed() => if changed.is_err() { return },
        }
    }
}

/// Which signs were seen.
fn signs(look: &PassiveLook) -> Vec<Sign> {
    look.seen().map(|(sign, _)| sign).collect()
}
