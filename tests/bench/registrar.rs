//! Measures registrars side by side: REGISTER with digest from one sipp, which loads each in the same way, in the same
//! run. `tests/bench/run registrar` starts it.
//!
//! A registrar is a [`Kind`]; to measure one more is to add it there. sipp shares the cores with it and begins at most
//! some 15,000 phones a second on two: processor time for each registration and the rate under a cap compare servers
//! best, and both grow when others keep the machine busy.

#[path = "../lab/mod.rs"]
mod lab;

#[path = "registrar/cap.rs"]
mod cap;
#[allow(dead_code)] // nothing has a goal here yet
mod figures;
#[path = "registrar/subject.rs"]
mod subject;

use std::process::ExitCode;
use std::time::Duration;

use cap::Cap;
use figures::head;
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
    let named = |name: &str| arguments.iter().any(|argument| argument == name);
    let kinds: Vec<_> = Kind::ALL.into_iter().filter(|kind| named(kind.word())).collect();
    let kinds = if kinds.is_empty() { Kind::USUAL.to_vec() } else { kinds };
    let parts = ["steady", "capped", "storm"];
    let wanted = |part: &str| named(part) || !parts.iter().any(|part| named(part));
    let suite = Suite::forky().filter(|_| kinds.iter().all(|kind| kind.installed()));
    let Some(suite) = suite else {
        eprintln!("nothing was measured: tests/run installs the servers and sipp");
        return ExitCode::FAILURE;
    };
    let algorithm = if named("sha-256") { Algorithm::Sha256 } else { Algorithm::Md5 };
    let bench = Bench { kinds, algorithm, suite };
    figures::machine();
    println!("REGISTER with digest {} over UDP on loopback", algorithm.name());
    if wanted("steady") {
        bench.steady();
    }
    if wanted("capped") {
        bench.capped();
    }
    if wanted("storm") {
        bench.storm();
    }
    ExitCode::SUCCESS
}

/// A rate, and what came of it.
type Try = (u32, Outcome);

struct Bench {
    kinds: Vec<Kind>,
    algorithm: Algorithm,
    suite: Suite,
}

impl Bench {
    /// First registrations of all accounts, then a refresh of all: time, processor time and memory.
    fn steady(&self) {
        let accounts = accounts(ACCOUNTS);
        println!("\n## {ACCOUNTS} phones, {STEADY_RATE} a second\n");
        head(&[
            "server",
            "",
            "registered",
            "failed",
            "sent again",
            "p50",
            "p99",
            "CPU each",
            "memory (PSS)",
            "each binding",
        ]);
        for kind in &self.kinds {
            let server = kind.start(&accounts, self.algorithm, &self.suite);
            let empty = server.memory();
            for what in ["first", "refresh"] {
                let cpu = server.cpu();
                let outcome = self.crowd(&accounts).at_rate(STEADY_RATE).register(server.address(), PATIENCE);
                let each = (server.cpu().saturating_sub(cpu)).as_secs_f64() * 1e6 / count(outcome.registered);
                let memory = server.memory();
                println!(
                    "| {} | {what} | {} | {} | {} | {:.0} ms | {:.0} ms | {each:.0} µs | {:.1} MB, empty {:.1} MB | {:.0} bytes |",
                    server.name(),
                    outcome.registered,
                    outcome.failed,
                    outcome.retransmissions,
                    outcome.wait_ms(500),
                    outcome.wait_ms(990),
                    memory / 1e6,
                    empty / 1e6,
                    (memory - empty) / count(outcome.registered),
                );
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
        ]);
        for kind in self.kinds.iter().filter(|kind| kind.loads_storm()) {
            let server = kind.start(&accounts, self.algorithm, &self.suite);
            let cpu = server.cpu();
            let outcome = self.crowd(&accounts).at_rate(STORM_RATE).register(server.address(), PATIENCE);
            println!(
                "| {} | {} | {} | {} | {} | {:.0} s | {:.0} ms | {:.0} ms | {:.0} µs | {:.1} MB |",
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
            );
        }
    }

    fn crowd<'a>(&self, accounts: &'a [(String, String)]) -> Crowd<'a> {
        // The newer sipp knows SHA-256, and its clock steps by 1 ms where the older one's steps by 4.
        Crowd::new(accounts).modern(&self.suite)
    }
}

fn count(registered: u64) -> f64 {
    f64::from(u32::try_from(registered.max(1)).expect("fewer than 2^32 phones"))
}
