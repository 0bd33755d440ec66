//! Histories that the model check found: each was once a fault of the engine.

use std::time::Duration;

use super::world::{Host, World, failback};
use crate::engine::{Ask, Event};
use crate::units::operator::{Command, Reply};
use crate::units::{EpochSeen, State, Step, StepOutcome};

/// Lets time pass while every periodic reading of the epoch is lost; steps are carried out.
fn run_without_readings(w: &mut World, n: u64) {
    for _ in 0..n {
        w.now.boot += Duration::from_secs(1);
        w.now.wall += Duration::from_secs(1);
        w.hear(Event::Tick);
        w.probe_all();
        while let Some(ask) = w.asks.pop_front() {
            if ask != Ask::ReadEpoch {
                w.answer(ask);
            }
        }
    }
}

/// Takes over and is recalled, so often; no claim is answered. The first one's record.
fn claims_without_answer(w: &mut World, times: usize) -> EpochSeen {
    w.faults.insert(Step::Claim, StepOutcome::Unknown("no answer".into()));
    let mut first = None;
    for _ in 0..times {
        w.primary = Host::Down;
        w.run_until(State::TakingOver, 60);
        w.run_for(3);
        first.get_or_insert_with(|| w.engine.memory().written.clone().expect("a claim was sent"));
        w.primary = Host::Up;
        w.run_until(State::Standby, 30);
    }
    w.faults.clear();
    EpochSeen::held(first.expect("it was tried").parse().expect("our own record"))
}

#[test]
fn a_turn_that_stands_unread_is_not_written_a_second_time_for_the_other_node() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.lose_answer_of = Some(Step::Claim);
    w.run_until(State::TakingOver, 30);
    assert_eq!(w.holder(), "1 pbx-b");
    w.crash();
    w.asks.clear();
    w.primary = Host::Up;
    run_without_readings(&mut w, 320);
    assert_eq!(w.holder(), "2 pbx-a", "{}", w.story());
}

#[test]
fn a_claim_of_several_plans_ago_that_is_applied_late_is_known_and_handed_back() {
    let mut w = World::well();
    let first = claims_without_answer(&mut w, 3);
    w.epoch = Ok(first);
    w.run_for(40);
    assert_eq!(w.holder(), "2 pbx-a", "{}", w.story());
    assert_eq!(w.engine.disarmed_because(), &[] as &[String]);
}

#[test]
fn a_failback_whose_claim_never_stood_goes_on_once_the_primary_answers() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.faults.insert(Step::Claim, StepOutcome::Unknown("no answer".into()));
    w.run_until(State::TakingOver, 30);
    w.run_for(3);
    let wait = Command::Failback { wait: true, cut_calls: false, undo: false };
    assert!(matches!(w.ask(wait), Reply::Accepted(_)));
    w.faults.clear();
    w.primary = Host::Up;
    w.run_until(State::Standby, 60);
    assert_eq!(w.holder(), "1 pbx-a", "the next turn is the primary's: the claim that was sent is void\n{}", w.story());
}

#[test]
fn a_claim_that_was_sent_stays_known_although_the_disk_refuses_its_next_attempt() {
    let mut w = World::well();
    w.faults.insert(Step::Claim, StepOutcome::Unknown("no answer".into()));
    w.primary = Host::Down;
    w.run_until(State::TakingOver, 30);
    w.run_for(3);
    let first = w.engine.memory().written.clone().expect("a claim was sent");
    w.disk.broken = true;
    w.run_for(15);
    w.disk.broken = false;
    w.hear(Event::Store(Ok(())));
    w.primary = Host::Up;
    w.run_until(State::Standby, 30);
    w.faults.clear();
    w.epoch = Ok(EpochSeen::held(first.parse().expect("our own record")));
    w.run_for(40);
    assert_eq!(w.holder(), "2 pbx-a", "{}", w.story());
}

#[test]
fn dns_still_follows_a_hand_over_when_the_primary_fell_and_came_back_before_it_had() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.run_until(State::Active, 60);
    w.run_for(10);
    assert!(w.named, "DNS names the backup");
    w.primary = Host::Up;
    w.run_for(30);
    w.faults.insert(Step::RedirectDns, StepOutcome::Failed("the master refuses".into()));
    assert!(matches!(w.ask(failback()), Reply::Accepted(_)));
    w.run_until(State::Standby, 60);
    w.run_for(200);
    assert_eq!((w.holder().as_str(), w.named), ("2 pbx-a", true));
    // It is down just long enough for a takeover to be begun, which is dropped before its claim.
    w.faults.insert(Step::Claim, StepOutcome::Unknown("no answer".into()));
    w.primary = Host::Down;
    w.run_until(State::TakingOver, 300);
    w.primary = Host::Up;
    w.run_until(State::Standby, 60);
    w.faults.clear();
    w.run_for(60);
    assert_eq!((w.holder().as_str(), w.named), ("2 pbx-a", false), "{}", w.story());
}
