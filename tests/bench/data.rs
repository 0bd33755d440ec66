//! Measures one look at a large working directory beside `find -printf`, which asks the kernel for the same of each file
//! and judges nothing; a snapshot of its configuration, and the last good one put in place, beside `cp -a`; and the memory
//! of a look at a million files. `tests/bench/run data` starts it.

mod figures;
mod goals;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use figures::{Samples, head};
use goals::{Goals, below};
use pbx_failover::adapters::data::look::{Looker, Subject};
use pbx_failover::adapters::data::snapshot::Vault;
use pbx_failover::adapters::data::snapshot::copy::Stop;
use pbx_failover::adapters::data::snapshot::restore;
use pbx_failover::adapters::data::snapshot::take::{Order, measure};
use pbx_failover::data::Classes;
use pbx_failover::data::snapshot::Kind;

/// Files, a hundred in each directory: one directory in ten is configuration, the others voicemail.
const FILES: usize = 100_000;
/// The same for the memory of a look: ten times the files, as many of configuration.
const MANY: usize = 1_000_000;
/// What a look at so many may take more than before it, KiB.
const MANY_KIB_MAX: f64 = 16.0 * 1024.0;
/// Looks of each kind.
const RUNS: usize = 9;
/// Restores; each is of all files of configuration.
const RESTORES: usize = 5;
/// Half of what a takeover waits for.
const RESTORE_MS_MAX: f64 = 30_000.0;
/// A warm look must be below, milliseconds.
const WARM_MS_MAX: f64 = 2000.0;

fn main() -> ExitCode {
    let dir = tempfile::Builder::new().prefix("look").tempdir().expect("temporary directory");
    fill(dir.path(), FILES / 100, FILES / 1000);
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
    snapshots(dir.path(), &mut goals);
    restores(dir.path(), &mut goals);
    many(dir.path(), &mut goals);
    goals.missed().iter().for_each(|missed| eprintln!("missed: {missed}"));
    if goals.missed().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A snapshot of the configuration in it, the first and one after a change, beside a copy of the same files.
fn snapshots(work: &Path, goals: &mut Goals) {
    let state = tempfile::Builder::new().prefix("state").tempdir().expect("temporary directory");
    let subject = Subject { dirs: vec![work.to_owned()], classes: Classes::default(), ignore: Vec::new() };
    let vault = Vault::of(state.path(), subject.clone(), 3, u64::MAX);
    let stop = Stop::default();
    let take = |n: usize| {
        fs::write(work.join("etc/0/0.conf"), format!("[{n}]\ntype=endpoint\n")).expect("changed");
        let measure = measure(&subject, &stop).expect("measured");
        let order = Order { kind: Kind::LastGood, reason: None };
        let lock = vault.lock(&stop).expect("locked");
        let began = Instant::now();
        vault.take(&lock, &order, &measure, &stop).expect("taken");
        let took = ms(began);
        vault.prune(&lock);
        took
    };
    let first = take(0);
    let (mut next, mut copies) = (Samples::default(), Samples::default());
    for n in 1..=RUNS {
        next.push(take(n));
        let to = state.path().join(format!("copy{n}"));
        let began = Instant::now();
        let cloned = Command::new("cp").args(["-a", "--reflink=auto"]).arg(work.join("etc")).arg(&to).status();
        let synced = Command::new("sync").arg("-f").arg(state.path()).status();
        assert!(cloned.and(synced).expect("cp runs").success());
        copies.push(ms(began));
    }
    let text = |all: &Samples| format!("{:.0} ms ({:.0} to {:.0}), n = {RUNS}", all.median(), all.least(), all.most());
    println!("\n## A snapshot of 10,000 files of configuration among {FILES}, on disk at its end\n");
    head(&["what", "goal", "median (least to most)", ""]);
    goals.judge("the first, with digests", "none", &format!("{first:.0} ms"), goals::Met::Yes);
    goals.judge("the next, one file changed", "none", &text(&next), goals::Met::Yes);
    goals.judge("`cp -a` of these files, `sync -f`", "none", &text(&copies), goals::Met::Yes);
}

/// A sync has emptied all files of configuration: a takeover keeps them as they are, and puts the last good ones in place.
fn restores(work: &Path, goals: &mut Goals) {
    let state = tempfile::Builder::new().prefix("state").tempdir().expect("temporary directory");
    let subject = Subject { dirs: vec![work.to_owned()], classes: Classes::default(), ignore: Vec::new() };
    let vault = Vault::of(state.path(), subject.clone(), 3, u64::MAX);
    let (stop, etc) = (Stop::default(), work.join("etc"));
    let lock = vault.lock(&stop).expect("locked");
    let take = |kind| {
        let measure = measure(&subject, &stop).expect("measured");
        vault.take(&lock, &Order { kind, reason: None }, &measure, &stop).expect("taken").id
    };
    let good = take(Kind::LastGood);
    let copy = state.path().join("copy");
    let run = |program: &str, argv: &[&Path]| {
        assert!(Command::new(program).args(argv).status().expect("it runs").success());
    };
    run("cp", &[Path::new("-a"), &etc, &copy]);
    let (mut ours, mut copies) = (Samples::default(), Samples::default());
    for n in 0..RESTORES {
        empty(&etc);
        let began = Instant::now();
        let kept = take(Kind::Takeover(n.to_string()));
        let order = restore::Order {
            id: good.clone(),
            only: Vec::new(),
            aside: format!("{n}.replaced"),
            kept: Some(kept),
            plan: Some(n.to_string()),
            unless_changed: None,
        };
        let restored = vault.restore(&lock, &order, &stop).expect("restored");
        ours.push(ms(began));
        assert_eq!((restored.put.all, restored.aside.all), (FILES as u64 / 10, 0));
        empty(&etc);
        let began = Instant::now();
        run("cp", &[Path::new("-aT"), &copy, &etc]);
        run("sync", &[Path::new("-f"), state.path()]);
        copies.push(ms(began));
    }
    let text =
        |all: &Samples| format!("{:.0} ms ({:.0} to {:.0}), n = {RESTORES}", all.median(), all.least(), all.most());
    println!(
        "\n## All of 10,000 files of configuration are emptied: kept as they are, and the last good ones put in place\n"
    );
    head(&["what", "goal", "median (least to most)", ""]);
    let goal = below(ours.median(), RESTORE_MS_MAX);
    goals.judge("snapshot of the takeover, restore", "median < 30 s", &text(&ours), goal);
    goals.judge("`cp -aT` of a copy, `sync -f`", "none", &text(&copies), goals::Met::Yes);
}

/// Empties all files below this directory.
fn empty(dir: &Path) {
    for entry in fs::read_dir(dir).expect("listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { empty(&path) } else { fs::write(path, "").expect("emptied") }
    }
}

/// The memory of a look at a million files.
fn many(work: &Path, goals: &mut Goals) {
    fill(work, MANY / 100, FILES / 1000);
    let subject = Subject { dirs: vec![work.to_owned()], classes: Classes::default(), ignore: Vec::new() };
    let mut looker = Looker::new(subject);
    // What is known of the configuration stays between two looks, however many other files there are.
    looker.look();
    let before = resident_kib("VmRSS:");
    fs::write("/proc/self/clear_refs", "5").expect("the peak begins anew");
    let began = Instant::now();
    let files = looker.look().total().files;
    let (took, grown) = (ms(began), resident_kib("VmHWM:") - before);
    println!("\n## One look at a working directory of {files} files\n");
    head(&["what", "goal", "measured", ""]);
    goals.judge("time, warm", "none", &format!("{took:.0} ms"), goals::Met::Yes);
    let said = format!("{grown:.0} KiB");
    goals.judge("memory beyond what was there before", "< 16 MiB", &said, below(grown, MANY_KIB_MAX));
}

/// Resident memory, KiB: now (`VmRSS:`), or at most since the peak began anew (`VmHWM:`, proc(5)).
fn resident_kib(what: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let value = status.lines().find_map(|line| line.strip_prefix(what)).expect("a line of its own");
    value.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// So many directories of a hundred files, the first of them configuration.
fn fill(root: &Path, dirs: usize, of_configuration: usize) {
    for dir in 0..dirs {
        let configuration = dir < of_configuration;
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
