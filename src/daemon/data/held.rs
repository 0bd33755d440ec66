//! What is held back, for `status`, as long as any of it is; and what a person's command did, for the history.

use std::time::Duration;

use crate::adapters::data::snapshot::held::held_in;
use crate::adapters::data::snapshot::noted::noted_in;
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

/// What a person's command did since the last time, each with its reason.
pub async fn noted(config: &Config) -> Vec<(String, String)> {
    let state_dir = config.state_dir.clone();
    let noted = tokio::task::spawn_blocking(move || noted_in(&state_dir));
    tokio::time::timeout(LOOK_MAX, noted).await.ok().and_then(Result::ok).unwrap_or_default()
}
