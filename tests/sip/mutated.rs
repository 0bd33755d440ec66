//! A hundred thousand broken messages: no panic, no long time, nothing that breaks a line of ours.
//!
//! `MUTATIONS` sets another number of rounds; a failure names the round, which is the same on every machine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use pbx_failover::sip::client::SipEnd;
use pbx_failover::sip::meaning::judge;
use pbx_failover::sip::message::{Frames, Incoming, MESSAGE_BYTES_MAX, Method, Reply};
use pbx_failover::units::ProbeAnswer;

use crate::Asked;
use crate::corpus::{Kind, samples, seeds};
use crate::mutate::Mutator;

/// More than a hundred times the worst that was measured: the machine may be busy.
const LONGEST: Duration = Duration::from_secs(1);

fn rounds() -> u64 {
    std::env::var("MUTATIONS").ok().map_or(50_000, |text| text.parse().expect("MUTATIONS is a number"))
}

/// Reads a datagram, and the same bytes as a connection would bring them.
fn read(round: u64, bytes: &[u8]) -> Result<Incoming, String> {
    let start = Instant::now();
    let done = catch_unwind(AssertUnwindSafe(|| {
        let mut frames = Frames::default();
        for piece in bytes.chunks(1460) {
            if frames.push(piece).is_err() {
                break;
            }
        }
        Incoming::from_datagram(bytes)
    }));
    let took = start.elapsed();
    assert!(took < LONGEST, "round {round} takes {took:?}: {}", bytes.escape_ascii());
    done.unwrap_or_else(|_| panic!("round {round} panics: {}", bytes.escape_ascii()))
}

/// What is told of an answer stays in one short line.
fn told(round: u64, reply: Box<Reply>) {
    assert!((100..700).contains(&reply.code), "round {round}: {reply:?}");
    let end = SipEnd::Final { reply, certificate: None };
    let said = match judge(&end, &[]) {
        ProbeAnswer::Up { seen, warning } => seen + &warning.unwrap_or_default(),
        ProbeAnswer::Down(why) | ProbeAnswer::Unknown(why) => why,
    };
    assert!(!said.contains(char::is_control) && said.len() < 1000, "round {round}: {said:?}");
}

#[test]
fn mutated_answers_neither_panic_nor_take_long() {
    let asked = Asked::new(Method::Options);
    let answers = samples().into_iter().filter(|sample| sample.kind == Kind::Response);
    let mut mutator = Mutator::new(answers.map(|sample| asked.dress(&sample.bytes)).collect());
    let (mut answers, mut known) = (0, 0);
    for round in 0..rounds() {
        if let Ok(Incoming::Reply(reply)) = read(round, mutator.round(round)) {
            answers += 1;
            known += u64::from(asked.question.is_answered_by(&reply));
            told(round, reply);
        }
    }
    // Else the mutations are so wild that nothing behind the first line is reached.
    assert!(answers > rounds() / 10 && known > rounds() / 100, "only {answers} were read, {known} known");
}

#[test]
fn mutated_messages_of_every_kind_neither_panic_nor_take_long() {
    let mut mutator = Mutator::new(seeds());
    let mut requests = 0;
    for round in 0..rounds() {
        match read(round, mutator.round(round)) {
            Ok(Incoming::Reply(reply)) => told(round, reply),
            Ok(Incoming::Request(_) | Incoming::Fault(_)) => requests += 1,
            Err(_) => {}
        }
    }
    assert!(requests > rounds() / 10, "only {requests} requests were read");
}

#[test]
fn a_round_is_the_same_each_time_and_fits_into_what_is_read() {
    let (mut one, mut other) = (Mutator::new(seeds()), Mutator::new(seeds()));
    let (mut changed, mut large) = (0, 0);
    let originals = seeds();
    for round in (0..2_000).rev() {
        let bytes = one.round(round).to_vec();
        assert_eq!(bytes, other.round(round), "round {round}");
        assert!(bytes.len() <= MESSAGE_BYTES_MAX, "round {round}: {} bytes", bytes.len());
        changed += usize::from(!originals.contains(&bytes));
        large += usize::from(bytes.len() > 20_000);
        // What was made before must not show.
        other.round(round / 2);
    }
    assert!(changed > 1_500 && large > 0, "{changed} changed, {large} floods");
}
