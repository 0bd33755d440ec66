//! The PBX never loads a mixture: real sync tools carry a tree that changes all the time, die at a random instant together
//! with their primary, and the real robot takes over. What its PBX then reads is all of one generation, or the step said
//! WARNING and why.
//!
//! Some runs of each tool; `SYNC_RUNS=34` makes 34 of each, and `SYNC_TABLE=FILE` appends a line for each run to a file.

#[path = "../lab/mod.rs"]
mod lab;

mod primary;
mod run;
mod tools;

use lab::have;
use run::{Run, Tally};
use tools::Tool;

/// Runs of each tool where nobody says otherwise: a minute in all.
const RUNS: u64 = 2;

fn carried_by(tool: Tool) {
    if !have(tool.programs()) || !have(&["python3"]) {
        return;
    }
    let runs = std::env::var("SYNC_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
    let first: u64 = std::env::var("SYNC_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut tally = Tally::default();
    for seed in first..first + runs {
        tally.add(&Run::of(tool, seed).ends());
    }
    println!("{tally}");
    assert!(tally.loads() >= runs, "each run ends with a load: {tally}");
}

#[test]
fn rsync_that_dies_leaves_no_mixture_that_is_loaded_unsaid() {
    carried_by(Tool::Rsync);
}

#[test]
fn rsync_in_place_that_dies_leaves_no_mixture_that_is_loaded_unsaid() {
    carried_by(Tool::RsyncInPlace);
}

#[test]
fn rsync_that_delays_its_updates_and_dies_leaves_no_mixture_that_is_loaded_unsaid() {
    carried_by(Tool::RsyncDelayed);
}

#[test]
fn syncthing_that_dies_leaves_no_mixture_that_is_loaded_unsaid() {
    carried_by(Tool::Syncthing);
}

#[test]
fn lsyncd_that_dies_leaves_no_mixture_that_is_loaded_unsaid() {
    carried_by(Tool::Lsyncd);
}

#[test]
fn unison_that_dies_leaves_no_mixture_that_is_loaded_unsaid() {
    carried_by(Tool::Unison);
}
