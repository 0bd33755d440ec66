//! Measures registrars side by side: REGISTER with digest from one sipp, which loads each in the same way, in the same
//! run. `tests/bench/run registrar` starts it.
//!
//! A registrar is a [`Kind`]; to measure one more is to add it there. sipp shares the cores with it and begins at most
//! some 15,000 phones a second on two: processor time for each registration and the rate under a cap compare servers
//! best, and both grow when others keep the machine busy.

#[path = "../lab/mod.rs"]
mod lab;

#[path = "registrar/builtin.rs"]
mod builtin;
#[path = "registrar/cap.rs"]
mod cap;
mod figures;
mod goals;
#[path = "registrar/subject.rs"]
mod subject;

use std::process::ExitCode;
use std::time::Duration;

use cap::Cap;
use figures::{Samples, head};
use goals::{Goals, below};
use lab::crowd::{Crowd, Outcome, accounts};
use lab::sip::Algorithm;
use lab::suite::Suite;
use subject::Kind;

/// Accounts, each with one phone, but for the storm.
const ACCOUNTS: usize = 10_000;

/// Begun in a second while time and memory are measured: far from what any of them can, so that none is starved.
const STEADY_RATE: u32 = 2_000;

/// Phones that come at once, each with its account: a site that has lost its PBX, and power besides.
const STORM: usize = 50_000;

/// Begun in a second in the storm: more than sipp can, which then sends as fast as it can.
const STORM_RATE: u32 = 50_000;

/// How long a phone waits for an answer: 64 × T1, when a UDP phone gives up (RFC 3261 §17.1.2.2).
const PATIENCE: Duration = Duration::from_secs(32);

/// The processor time of a registration that must not be reached, µs: two thirds of Kamailio's on the machine that the
/// goal was set on (44 to 57 µs).
const CPU_US_MAX: f64 = 30.0;

/// The memory of a binding that must not be reached.
const BINDING_BYTES_MAX: f64 = 1024.0;

/// The share of one core that a capped server may use, per cent.
const CAP_PERCENT: u32 = 10;

/// How long each rate is tried under the cap, seconds: a server that cannot keep up falls back by more than sipp's first
/// retransmission (500 ms) well within it.
const TRY_S: u32 = 6;

/// The first rate tried under the cap.
const FIRST_TRY: u32 = 100;

/// The clean rate is sought until it is known this well.
const PRECISION: f64 = 1.1;

fn main() -> ExitCode {
    // cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if arguments.first().is_some_and(|first| first == builtin::WORD) {
        return builtin::serve(&arguments[1..]);
    }
    let named = |name: &str| arguments.iter().any(|argument| argument == name);
    let kinds: Vec<_> = Kind::ALL.into_iter().filter(|kind| named(kind.word())).collect();
    let kinds = if kinds.is_empty() { Kind::USUAL.to_vec() } else { kinds };
    let parts = ["steady", "capped", "storm", "alone"];
    let wanted = |part: &str| named(part) || !parts.iter().any(|part| named(part));
    let suite = Suite::forky().filter(|_| kinds.iter().all(|kind| kind.installed()));
    let Some(suite) = suite else {
        eprintln!("nothing was measured: tests/run installs the servers and sipp");
        return ExitCode::FAILURE;
    };
    let algorithm = if named("sha-256") { Algorithm::Sha256 } else { Algorithm::Md5 };
    let rounds = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(1);
    let bench = Bench { kinds, rounds, algorithm, suite };
    figures::machine();
    println!("REGISTER with digest {} over UDP on loopback", algorithm.name());
    if named("alone") {
        let each = builtin::without_sockets(&accounts(ACCOUNTS), algorithm);
        println!("The built-in one without sockets: {:.1} µs a registration", each.as_secs_f64() * 1e6);
    }
    let mut goals = Goals::default();
    if wanted("steady") {
        bench.steady(&mut goals);
    }
    if wanted("capped") {
        bench.capped();
    }
    if wanted("storm") {
        bench.storm();
    }
    for missed in goals.missed() {
        eprintln!("MISSED: {missed}");
    }
    if goals.missed().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A rate, and what came of it.
type Try = (u32, Outcome);

struct Bench {
    kinds: Vec<Kind>,
    /// How often each is measured, in turns.
    rounds: usize,
    algorithm: Algorithm,
    suite: Suite,
}

impl Bench {
    /// First registrations of all accounts, then a refresh of all: time, processor time and memory.
    fn steady(&self, goals: &mut Goals) {
        let accounts = accounts(ACCOUNTS);
        println!("\n## {ACCOUNTS} phones, {STEADY_RATE} a second\n");
        println!("Medians of {} rounds (least to most), and the ratio to {}.\n", self.rounds, self.kinds[0].name());
        head(&["server", "", "failed", "sent again", "p50", "p99", "CPU each", "each binding", "memory (PSS)"]);
        let mut measured: Vec<[Steady; 2]> = self.kinds.iter().map(|_| Default::default()).collect();
        for round in 1..=self.rounds {
            for (kind, steady) in self.kinds.iter().zip(&mut measured) {
                let server = kind.start(&accounts, self.algorithm, &self.suite);
                let crowd = self.crowd(&accounts).at_rate(STEADY_RATE);
                let empty = server.memory();
                for steady in steady {
                    let cpu = server.cpu();
                    let outcome = crowd.register(server.address(), PATIENCE);
                    steady.add(&outcome, server.cpu().saturating_sub(cpu), server.memory(), empty);
                }
                eprintln!("round {round}, {}: {}", kind.word(), server.counts());
            }
        }
        for (kind, steady) in self.kinds.iter().zip(&measured) {
            for (what, steady, first) in
                [("first", &steady[0], &measured[0][0]), ("refresh", &steady[1], &measured[0][1])]
            {
                println!(
                    "| {} | {what} | {} | {} | {:.0} ms | {:.0} ms | {} | {} | {:.1} MB |",
                    kind.name(),
                    steady.failed,
                    steady.sent_again,
                    steady.p50.median(),
                    steady.p99.median(),
                    beside(&steady.cpu_us, &first.cpu_us, "µs"),
                    beside(&steady.bytes, &first.bytes, "bytes"),
                    steady.memory.median() / 1e6,
                );
            }
        }
        for (_, steady) in self.kinds.iter().zip(&measured).filter(|(kind, _)| **kind == Kind::Builtin) {
            println!();
            head(&["the built-in one", "goal", "measured", ""]);
            for (what, steady) in ["first", "refresh"].iter().zip(steady) {
                let (cpu_us, bytes) = (steady.cpu_us.median(), steady.bytes.median());
                let said = (format!("{cpu_us:.0} µs"), format!("{bytes:.0} bytes"));
                goals.judge(&format!("CPU, {what}"), "< 30 µs", &said.0, below(cpu_us, CPU_US_MAX));
                goals.judge(&format!("a binding, {what}"), "< 1 KiB", &said.1, below(bytes, BINDING_BYTES_MAX));
            }
        }
    }

    /// The highest rate at which a server that has a tenth of a core fails nobody and lets nobody ask twice.
    fn capped(&self) {
        if !Cap::possible() {
            eprintln!("not measured under a cap: it needs root and the cgroup controller `cpu`");
            return;
        }
        let accounts = accounts(ACCOUNTS);
        println!("\n## At most {CAP_PERCENT} % of one core\n");
        head(&["server", "clean up to", "p99 there", "at the next rate tried"]);
        for kind in &self.kinds {
            let run = |rate: u32| {
                // A new one each time: what was left in its queue by the last run would count.
                let server = kind.start(&accounts, self.algorithm, &self.suite);
                let _cap = Cap::hold(&server.pids(), CAP_PERCENT);
                let registrations = usize::try_from(rate * TRY_S).expect("fits");
                let crowd = self.crowd(&accounts).at_rate(rate).registrations(registrations);
                crowd.register(server.address(), PATIENCE)
            };
            let (mut clean, mut unclean): (Option<Try>, Option<Try>) = (None, None);
            let mut rate = FIRST_TRY;
            loop {
                let outcome = run(rate);
                eprintln!(
                    "{} at {rate}/s: {} sent again, {} failed",
                    kind.word(),
                    outcome.retransmissions,
                    outcome.failed
                );
                let place = if outcome.is_clean() { &mut clean } else { &mut unclean };
                *place = Some((rate, outcome));
                rate = match (&clean, &unclean) {
                    (Some((low, _)), Some((high, _))) if f64::from(*high) / f64::from(*low) < PRECISION => break,
                    (Some((low, _)), Some((high, _))) => low.midpoint(*high),
                    (Some((low, _)), None) => low * 2,
                    (None, _) if rate < 2 => break,
                    (None, _) => rate / 2,
                };
            }
            let (low, best) = clean.unwrap_or_default();
            let (high, bad) = unclean.unwrap_or_default();
            println!(
                "| {} | {low}/s | {:.0} ms | {high}/s: {} of {} failed, {} sent again |",
                kind.name(),
                best.wait_ms(990),
                bad.failed,
                bad.failed + bad.registered,
                bad.retransmissions
            );
        }
    }

    /// Many phones at once.
    fn storm(&self) {
        let accounts = accounts(STORM);
        println!("\n## {STORM} phones at once\n");
        head(&[
            "server",
            "registered",
            "failed",
            "sent again",
            "99 % after",
            "all after",
            "p50",
            "p99",
            "CPU each",
            "memory (PSS)",
            "says",
        ]);
        for kind in self.kinds.iter().filter(|kind| kind.loads_storm()) {
            let server = kind.start(&accounts, self.algorithm, &self.suite);
            let cpu = server.cpu();
            let outcome = self.crowd(&accounts).at_rate(STORM_RATE).register(server.address(), PATIENCE);
            println!(
                "| {} | {} | {} | {} | {} | {:.0} s | {:.0} ms | {:.0} ms | {:.0} µs | {:.1} MB | {} |",
                server.name(),
                outcome.registered,
                outcome.failed,
                outcome.retransmissions,
                outcome.after_s(990).map_or("never".to_owned(), |seconds| format!("{seconds:.0} s")),
                outcome.seconds,
                outcome.wait_ms(500),
                outcome.wait_ms(990),
                server.cpu().saturating_sub(cpu).as_secs_f64() * 1e6 / count(outcome.registered),
                server.memory() / 1e6,
                server.counts(),
            );
        }
    }

    fn crowd<'a>(&self, accounts: &'a [(String, String)]) -> Crowd<'a> {
        // The newer sipp knows SHA-256, and its clock steps by 1 ms where the older one's steps by 4.
        Crowd::new(accounts).modern(&self.suite)
    }
}

/// What one server needed for so many registrations, round by round.
#[derive(Default)]
struct Steady {
    failed: u64,
    sent_again: u64,
    p50: Samples,
    p99: Samples,
    cpu_us: Samples,
    bytes: Samples,
    memory: Samples,
}

impl Steady {
    fn add(&mut self, outcome: &Outcome, cpu: Duration, memory: f64, empty: f64) {
        self.failed += outcome.failed;
        self.sent_again += outcome.retransmissions;
        self.p50.push(outcome.wait_ms(500));
        self.p99.push(outcome.wait_ms(990));
        self.cpu_us.push(cpu.as_secs_f64() * 1e6 / count(outcome.registered));
        self.bytes.push((memory - empty) / count(outcome.registered));
        self.memory.push(memory);
    }
}

/// A median, its range, and how many times that of the first server it is.
fn beside(samples: &Samples, first: &Samples, unit: &str) -> String {
    let (median, least, most) = (samples.median(), samples.least(), samples.most());
    format!("{median:.0} {unit} ({least:.0} to {most:.0}), ×{:.2}", median / first.median())
}

fn count(registered: u64) -> f64 {
    f64::from(u32::try_from(registered.max(1)).expect("fewer than 2^32 phones"))
}
