//! Measures one look at a large working directory beside `find -printf`, which asks the kernel for the same of each file
//! and judges nothing. `tests/bench/run data` starts it.

mod figures;
mod goals;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use figures::{Samples, head};
use goals::{Goals, below};
use pbx_failover::adapters::data::look::{Looker, Subject};
use pbx_failover::data::Classes;

/// Files, a hundred in each directory: one in ten is configuration, the others voicemail.
const FILES: usize = 100_000;
/// Looks of each kind.
const RUNS: usize = 9;
/// A warm look must be below, milliseconds.
const WARM_MS_MAX: f64 = 2000.0;

fn main() -> ExitCode {
    let dir = tempfile::Builder::new().prefix("look").tempdir().expect("temporary directory");
    fill(dir.path());
    let subject = Subject { dirs: vec![dir.path().to_owned()], classes: Classes::default(), ignore: Vec::new() };
    let mut looker = Looker::new(subject);
    let began = Instant::now();
    assert_eq!(looker.look().total().files, FILES as u64);
    let first = ms(began);
    let mut looks = Samples::default();
    let mut finds = Samples::default();
    for _ in 0..RUNS {
        let began = Instant::now();
        assert_eq!(looker.look().total().files, FILES as u64);
        looks.push(ms(began));
        let began = Instant::now();
        let find =
            Command::new("find").arg(dir.path()).args(["-printf", "%s %T@ %C@ %p\\n"]).stdout(Stdio::null()).status();
        assert!(find.expect("find runs").success());
        finds.push(ms(began));
    }
    let mut goals = Goals::default();
    figures::machine();
    println!("\n## One look at a working directory of {FILES} files\n");
    head(&["what", "goal", "median (least to most)", ""]);
    let text = |all: &Samples| format!("{:.0} ms ({:.0} to {:.0}), n = {RUNS}", all.median(), all.least(), all.most());
    goals.judge("a warm look", "median < 2 s", &text(&looks), below(looks.median(), WARM_MS_MAX));
    goals.judge("the first look, which reads 10,000 files", "none", &format!("{first:.0} ms"), goals::Met::Yes);
    goals.judge("`find -printf`", "none", &text(&finds), goals::Met::Yes);
    goals.missed().iter().for_each(|missed| eprintln!("missed: {missed}"));
    if goals.missed().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn fill(root: &Path) {
    for dir in 0..FILES / 100 {
        let configuration = dir % 10 == 0;
        let name = if configuration { format!("etc/{dir}") } else { format!("spool/voicemail/default/{dir}") };
        let into = root.join(name);
        fs::create_dir_all(&into).expect("directory");
        for file in 0..100 {
            let (name, text) = if configuration {
                (format!("{file}.conf"), "[100]\ntype=endpoint\ncontext=phones\n".repeat(20))
            } else {
                (format!("msg{file:04}.wav"), "RIFF".to_owned())
            };
            fs::write(into.join(name), text).expect("file");
        }
    }
}

#[allow(clippy::cast_precision_loss)] // milliseconds of a look are few
fn ms(began: Instant) -> f64 {
    began.elapsed().as_micros() as f64 / 1000.0
}
