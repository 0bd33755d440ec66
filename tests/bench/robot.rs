//! Measures the release build and prints the tables of docs/benchmarks.md; `tests/bench/run` builds and starts it.
//!
//! Every part runs against real servers on loopback or in namespaces (the rigs of `tests/lab`). Exit 1 when a goal is
//! missed, so that a machine can watch the numbers.

#[path = "../lab/mod.rs"]
mod lab;

mod figures;
mod goals;
mod guard;
mod overhead;
mod rest;
mod settings;
mod stand_in;
mod start;
mod takeover;

use std::process::ExitCode;

use figures::head;
use goals::{Goals, below};
use lab::robot::binary;

/// How long the robot is watched at rest unless the command line says otherwise, seconds.
const REST_S: u64 = 60;

/// The binary's size that must not be reached.
const BINARY_MB_MAX: f64 = 20.0;

fn main() -> ExitCode {
    // cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if stand_in::played(&arguments).is_some() {
        return ExitCode::SUCCESS;
    }
    if !lab::netns::Topology::possible() || !lab::have(&["named", "knotd", "pdns_server", "nginx", "curl", "nsupdate"])
    {
        eprintln!("nothing was measured: the bench needs root and the servers that tests/run installs");
        return ExitCode::FAILURE;
    }
    let part = arguments.first().map(String::as_str);
    let wanted = |name: &str| part.is_none_or(|part| part == name);
    let seconds = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(REST_S);
    let mut goals = Goals::default();
    figures::machine();
    if wanted("rest") || wanted("start") {
        println!("\n## At rest\n");
        head(&["what", "goal", "measured", ""]);
        binary_size(&mut goals);
    }
    if wanted("start") {
        start::measure(&mut goals);
    }
    if wanted("rest") {
        rest::measure(&mut goals, seconds);
    }
    if wanted("overhead") {
        overhead::measure(&mut goals);
    }
    if wanted("guard") {
        guard::measure();
    }
    if wanted("takeover") {
        takeover::measure();
    }
    for missed in goals.missed() {
        eprintln!("MISSED: {missed}");
    }
    if goals.missed().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn binary_size(goals: &mut Goals) {
    let bytes = std::fs::metadata(binary()).expect("the program is built").len();
    let mb = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / 1e6;
    goals.judge("binary, stripped", "< 20 MB", &format!("{mb:.1} MB"), below(mb, BINARY_MB_MAX));
}
