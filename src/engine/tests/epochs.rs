//! The epoch: lost, lowered, taken, unreadable.

use super::world::{Host, World};
use crate::units::{EpochRecord, EpochSeen, PlanId, State, Step, StepOutcome};

fn record(number: u64, holder: &str) -> EpochSeen {
    EpochSeen::held(EpochRecord {
        number,
        holder: holder.parse().unwrap(),
        id: PlanId(ulid::Ulid::from_parts(1, u128::from(number))),
        since: jiff::Timestamp::UNIX_EPOCH,
    })
}

fn active() -> World {
    let mut w = World::well();
    w.primary = Host::Down;
    w.run_until(State::Active, 30);
    w.run_for(2);
    w
}

#[test]
fn an_unreadable_epoch_disarms_and_never_steps_down() {
    let mut w = World::well();
    w.epoch = Err("the master does not answer".into());
    w.run_for(20);
    w.primary = Host::Down;
    w.run_for(120);
    assert_eq!(w.state(), State::Suspect);
    assert_eq!(w.acts, [] as [Step; 0]);

    let mut w = active();
    w.epoch = Err("the master does not answer".into());
    w.run_for(3600);
    assert_eq!(w.state(), State::Active);
    assert!(w.serving);
}

#[test]
fn a_deleted_or_lowered_record_is_unknown_and_not_nobody() {
    for lowered in [EpochSeen::Absent, record(2, "pbx-a")] {
        let mut w = World::well();
        w.epoch = Ok(record(7, "pbx-a"));
        w.run_for(20);
        w.epoch = Ok(lowered);
        w.run_for(20);
        w.primary = Host::Down;
        w.run_for(120);
        assert_eq!(w.state(), State::Suspect, "{}", w.story());
        assert_eq!(w.acts, [] as [Step; 0]);
    }
}

#[test]
fn while_active_a_lost_record_is_put_back_and_a_person_is_paged() {
    let mut w = active();
    w.epoch = Ok(EpochSeen::Absent);
    w.run_for(10);
    assert_eq!((w.holder().as_str(), w.state()), ("1 pbx-b", State::Active));
    assert!(w.told.iter().any(|t| t.starts_with("epoch-trouble")), "{:?}", w.told);
}

#[test]
fn while_active_a_newer_turn_of_another_makes_us_passive_and_nothing_else() {
    let mut w = active();
    w.acts.clear();
    w.epoch = Ok(record(2, "pbx-a"));
    w.run_for(10);
    assert!(!w.serving && w.rows().contains(&40), "{}", w.story());
    assert_eq!(w.acts, [Step::StopAccepting], "no hand-over, no DNS, no ActionURL");
    assert_eq!(w.holder(), "2 pbx-a");
}

#[test]
fn a_clone_with_our_name_is_not_us() {
    let mut w = World::well();
    w.epoch = Ok(record(1, "pbx-b"));
    w.run_for(20);
    w.primary = Host::Down;
    w.run_for(120);
    assert_eq!(w.state(), State::Suspect);
    assert_eq!(w.acts, [] as [Step; 0]);
}

#[test]
fn a_claim_that_another_wins_ends_passive() {
    let mut w = World::well();
    w.primary = Host::Down;
    // The other robot is faster between our look and our swap.
    for _ in 0..40 {
        w.run_for(1);
        if w.state() != State::Standby {
            break;
        }
    }
    w.epoch = Ok(EpochSeen::Absent);
    w.faults.insert(Step::Claim, crate::units::StepOutcome::Refused("held by pbx-x".into()));
    w.run_for(12);
    w.epoch = Ok(record(1, "pbx-x"));
    w.run_for(20);
    assert!(!w.serving);
    assert_eq!(w.acted(Step::Reload), 0, "{}", w.story());
    assert!(w.rows().contains(&32), "{:?}", w.rows());
}

#[test]
fn the_number_never_falls_over_many_turns() {
    let mut w = World::well();
    let mut last = 0;
    for _ in 0..5 {
        w.primary = Host::Down;
        w.run_until(State::Active, 200);
        w.primary = Host::Up;
        w.run_for(10);
        w.ask(super::world::failback());
        w.run_until(State::Standby, 30);
        let number = w.epoch.as_ref().unwrap().record().unwrap().number;
        assert!(number > last, "{number} after {last}");
        last = number;
        w.run_for(70);
    }
    assert_eq!(w.holder(), "10 pbx-a");
}

#[test]
fn an_epoch_left_over_from_a_dropped_plan_is_handed_back() {
    let mut w = World::well();
    w.primary = Host::Down;
    // The swap is applied, but its answer never comes and the robot dies with its journal.
    w.run_until(State::Active, 30);
    w.disk.journal.clear();
    w.disk.last_plan = None;
    let mut memory = w.disk.memory.clone().unwrap();
    memory["state"] = "standby".into();
    w.disk.memory = Some(memory);
    w.primary = Host::Up;
    w.crash();
    w.run_for(20);
    assert_eq!((w.state(), w.holder().as_str(), w.serving), (State::Standby, "2 pbx-a", false), "{}", w.story());
}

#[test]
fn a_claim_that_is_repeated_is_the_same_record_byte_for_byte() {
    let mut w = World::well();
    w.faults.insert(Step::Claim, StepOutcome::Unknown("no answer".into()));
    w.primary = Host::Down;
    w.run_until(State::TakingOver, 30);
    w.run_for(3);
    let first = w.engine.memory().written.clone().expect("a claim was sent");
    w.run_for(60);
    assert!(w.acted(Step::Claim) > 3);
    assert_eq!(w.engine.memory().written.as_ref(), Some(&first), "another text would not be known as ours");
    // The first one was applied, late: the moves of DNS are guarded by what stands in the zone.
    w.epoch = Ok(EpochSeen::held(first.parse().unwrap()));
    w.run_until(State::Active, 30);
    assert_eq!(w.engine.memory().written, Some(first));
    assert_eq!(w.holder(), "1 pbx-b");
}

#[test]
fn another_with_the_number_of_our_claim_has_won_it() {
    let mut w = active();
    w.acts.clear();
    w.epoch = Ok(record(1, "pbx-a"));
    w.run_for(10);
    assert!(!w.serving && w.rows().contains(&40), "{}", w.story());
    assert_eq!(w.acts, [Step::StopAccepting]);
}

#[test]
fn a_lost_race_for_a_turn_is_not_claimed_anew_after_a_restart() {
    let mut w = World::well();
    w.faults.insert(Step::Claim, StepOutcome::Unknown("no answer".into()));
    w.primary = Host::Down;
    w.run_until(State::TakingOver, 30);
    w.run_for(3);
    w.faults.clear();
    w.epoch = Ok(record(1, "pbx-a"));
    w.acts.clear();
    w.crash();
    w.run_for(3);
    assert!(w.rows().contains(&20), "{}", w.story());
    assert_eq!(w.holder(), "1 pbx-a");
    assert!(!w.serving);
}

#[test]
fn a_record_that_cannot_be_put_back_is_not_told_of_again_and_again() {
    let mut w = active();
    w.epoch = Ok(EpochSeen::Absent);
    w.refuse_swaps = Some("refused".into());
    w.run_for(600);
    let told = w.told.iter().filter(|t| t.starts_with("epoch-trouble")).count();
    assert!(told <= 2, "{told} times: {:?}", w.told);
    w.refuse_swaps = None;
    w.run_for(20);
    assert_eq!(w.holder(), "1 pbx-b");
}

#[test]
fn a_reading_from_before_a_swap_is_not_taken_for_an_old_copy_of_the_zone() {
    let mut w = active();
    let before = w.epoch.clone();
    w.primary = Host::Up;
    w.run_for(4);
    // A reading is on its way, and slow, while the turn is handed over.
    let waits = |w: &World| w.asks.contains(&crate::engine::Ask::ReadEpoch);
    while !waits(&w) {
        w.now.boot += std::time::Duration::from_secs(1);
        w.now.wall += jiff::SignedDuration::from_secs(1);
        w.hear(crate::engine::Event::Tick);
    }
    w.asks.clear();
    w.ask(super::world::failback());
    assert_eq!(w.holder(), "2 pbx-a", "{}", w.story());
    w.hear(crate::engine::Event::Epoch(before));
    w.run_for(20);
    assert!(!w.told.iter().any(|t| t.starts_with("epoch-trouble")), "{:?}", w.told);
}
