//! Looks at the working directory again and again while this node watches; the engine judges what follows.
//!
//! A change that the kernel tells of is a hint that a look is due; the look itself is the truth, and is taken without a
//! hint as well: network file systems tell nothing, and events get lost.

pub mod held;
pub mod secure;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::engine::Event;
use crate::ports::Keep;
use crate::units::State;

use super::turn::Input;
use super::watch::Standing;
use super::world::World;

/// The pace, also when a look costs nothing.
const EVERY_MIN: Duration = Duration::from_secs(10);
/// However long a look takes, a dead sync is seen within so long.
const EVERY_MAX: Duration = Duration::from_secs(300);
/// A look may cost one part in so many of one processor's time.
const COST: u32 = 20;
/// After a hint a look comes as soon as the writing may be over, and never sooner than this: many changes are one.
const HINT_MIN: Duration = Duration::from_secs(1);

/// Looks until the daemon ends.
pub async fn run(
    inputs: mpsc::Sender<Input>,
    mut worlds: watch::Receiver<Arc<World>>,
    mut standing: watch::Receiver<Standing>,
) {
    loop {
        if standing.wait_for(|standing| watches(*standing)).await.is_err() {
            return;
        }
        let world = Arc::clone(&worlds.borrow_and_update());
        let began = Instant::now();
        let mut look = world.gate.look(Keep::WhatIsGood).await;
        let took = began.elapsed();
        look.noted = held::noted(&world.config).await;
        let settles = look.is_under_way();
        if inputs.send(Input::Heard(Event::Data(Box::new(look)))).await.is_err() {
            return;
        }
        let settle = world.config.sync.settle;
        let ended = Instant::now();
        let due = ended + pace(took);
        // What is under way is looked at again once it may be over.
        let hinted = ended + soon(took, settle).min(pace(took));
        let hint = async {
            if !settles {
                world.gate.changed().await;
                // The first of many changes, as a rule: the others belong to the same look.
                tokio::time::sleep(settle).await;
            }
            tokio::time::sleep_until(hinted).await;
        };
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = hint => {}
            changed = worlds.changed() => if changed.is_err() { return },
            lives = left(&mut standing) => if !lives { return },
        }
    }
}

fn watches(standing: Standing) -> bool {
    matches!(standing.state, State::Standby | State::Suspect)
}

/// Returns when this node does not watch any more; false when the daemon ends.
async fn left(standing: &mut watch::Receiver<Standing>) -> bool {
    standing.wait_for(|standing| !watches(*standing)).await.is_ok()
}

/// From the end of a look to the next.
pub(super) fn pace(took: Duration) -> Duration {
    (took * COST).clamp(EVERY_MIN, EVERY_MAX)
}

/// The same after a hint.
pub(super) fn soon(took: Duration, settle: Duration) -> Duration {
    (took * COST).clamp(HINT_MIN, EVERY_MAX).max(settle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_big_tree_costs_one_part_in_twenty_and_a_small_one_is_looked_at_every_ten_seconds() {
        let s = Duration::from_secs;
        assert_eq!([pace(Duration::ZERO), pace(s(2)), pace(s(100))], [s(10), s(40), s(300)]);
        assert_eq!([soon(Duration::ZERO, s(3)), soon(s(2), s(3)), soon(Duration::ZERO, s(0))], [s(3), s(40), s(1)]);
    }
}
