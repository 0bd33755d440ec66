//! What is held back, for `status`: a person must hear of it for as long as any of it is.

use std::time::Duration;

use crate::adapters::data::snapshot::held::held_in;
use crate::config::Config;
use crate::units::data::HeldBack;

/// A state directory that answers later says nothing now.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// So many names are told of each.
const NAMES: usize = 5;

/// Looks once.
pub async fn look(config: &Config) -> Vec<HeldBack> {
    let state_dir = config.state_dir.clone();
    let looked = tokio::task::spawn_blocking(move || held_in(&state_dir));
    let held = tokio::time::timeout(LOOK_MAX, looked).await;
    let held = held.ok().and_then(Result::ok).unwrap_or_default();
    held.into_iter()
        .map(|held| {
            let first = held.files.named.into_iter().take(NAMES).collect();
            HeldBack { name: held.name, files: held.files.all, first }
        })
        .collect()
}
