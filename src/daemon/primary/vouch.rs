//! Looks at the primary's working directories again and again, so that its beats vouch for the states that they had.
//!
//! What is new is put into a heartbeat file at once: the shorter files are there without it, the less a backup waits.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::seen::Seen;
use crate::adapters::data::vouch::VouchedDirs;
use crate::daemon::data::{pace, soon};
use crate::daemon::world::World;
use crate::data::vouch::Vouched;

/// Looks until the agent ends.
pub async fn run(seen: Seen, mut worlds: watch::Receiver<Arc<World>>) {
    loop {
        let world = Arc::clone(&worlds.borrow_and_update());
        let dirs = VouchedDirs::new(&world.config);
        seen.note_tree(None);
        tokio::select! {
            () = watch_over(&dirs, &world, &seen) => {}
            changed = worlds.changed() => if changed.is_err() { return },
        }
    }
}

async fn watch_over(dirs: &VouchedDirs, world: &World, seen: &Seen) {
    let settle = world.config.sync.settle;
    let mut said = None;
    loop {
        let began = Instant::now();
        let looked = dirs.look().await;
        let took = began.elapsed();
        let became = looked.as_ref().map(|looked| looked.became);
        let (told, trouble) = looked.map_or_else(
            || (None, Some("the file system of the working directory does not answer".to_owned())),
            |looked| (looked.told, looked.trouble),
        );
        seen.note_tree(told);
        if became == Some(Vouched::News) {
            seen.nudge_file();
        }
        if let Some(why) = trouble.as_ref().filter(|why| said.as_ref() != Some(*why)) {
            tracing::warn!(why, "the files of configuration are not vouched for; let the agent's user read them");
        }
        said = trouble;
        let ended = Instant::now();
        let hinted = ended + soon(took, settle).min(pace(took));
        if became == Some(Vouched::NotYet) {
            tokio::time::sleep_until(hinted).await;
            continue;
        }
        let hint = async {
            dirs.changed().await;
            tokio::time::sleep_until(hinted).await;
        };
        tokio::select! {
            () = tokio::time::sleep_until(ended + pace(took)) => {}
            () = hint => {}
        }
    }
}
