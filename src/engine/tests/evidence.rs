//! What counts as evidence, for how long it must have stood, and what the clocks may do meanwhile.

use std::time::Duration;

use jiff::SignedDuration;

use super::world::{Host, World, failback, result, settings};
use crate::engine::{Event, Settings};
use crate::units::{CheckName, State, Step, Verdict};

fn hold_down(seconds: u64) -> Settings {
    Settings { hold_down: Duration::from_secs(seconds), ..settings() }
}

#[test]
fn what_failed_while_we_were_cut_off_says_nothing_of_the_primary() {
    let mut w = World::with(hold_down(0));
    w.run_for(30);
    w.primary = Host::Down;
    w.internet = false;
    w.run_for(60);
    assert_eq!(w.engine.verdict(), Verdict::WeAreCutOff);
    // All is there again, but the Internet targets are heard first; then a check's answer to a question of before.
    let asked = w.now.boot;
    w.now.boot += Duration::from_millis(100);
    for target in 0..3 {
        w.hear(Event::Internet { target, result: result(true), asked: w.now.boot });
    }
    w.hear(Event::Check { name: CheckName("web".into()), result: result(false), asked });
    assert_eq!(w.engine.verdict(), Verdict::Unsure, "{}", w.story());
    assert_eq!(w.engine.snapshot().checks[0].fall.now, 0);
    w.primary = Host::Up;
    w.internet = true;
    w.run_for(10);
    assert_eq!(w.engine.verdict(), Verdict::PrimaryUp);
    assert_eq!(w.rows(), [] as [u16; 0], "nobody was told that the primary is down\n{}", w.story());
}

#[test]
fn a_primary_that_died_while_we_were_cut_off_is_replaced_by_what_fails_afterwards() {
    let mut w = World::with(hold_down(0));
    w.run_for(30);
    w.primary = Host::Down;
    w.internet = false;
    w.run_for(60);
    w.internet = true;
    w.run_for(2);
    assert_eq!(w.state(), State::Standby);
    w.run_until(State::Active, 2);
}

#[test]
fn a_cut_that_leaves_us_the_primary_takes_nothing_from_what_answered() {
    let mut w = World::well();
    w.internet = false;
    w.run_for(5);
    assert_eq!(w.engine.verdict(), Verdict::WeAreCutOff);
    w.internet = true;
    w.run_for(1);
    assert_eq!(w.engine.verdict(), Verdict::PrimaryUp);
    assert_eq!(w.engine.disarmed_because(), &[] as &[String]);
}

#[test]
fn a_question_that_was_under_way_when_we_were_stalled_is_not_counted() {
    let mut w = World::well();
    let asked = w.now.boot;
    w.stall(20);
    w.hear(Event::Check { name: CheckName("web".into()), result: result(false), asked });
    assert_eq!(w.engine.snapshot().checks[0].fall.now, 0);
}

#[test]
fn the_hold_down_is_of_the_verdict_that_allows_and_not_of_any_trouble_before_it() {
    // At whatever moment within the hold-down that goes round and round beside a dead web server.
    for before in 20..32 {
        let mut w = World::well();
        w.primary = Host::SipOnly;
        w.run_for(before);
        assert_eq!(w.state(), State::Suspect);
        w.primary = Host::Down;
        w.run_for(11);
        assert_eq!(w.state(), State::Suspect, "after {before} s\n{}", w.story());
        w.run_for(3);
        assert_eq!(w.state(), State::Active, "after {before} s\n{}", w.story());
    }
}

#[test]
fn a_flapping_web_server_does_not_keep_a_dead_sip_server_in_office() {
    let mut w = World::with(hold_down(60));
    w.run_for(30);
    for _ in 0..8 {
        w.primary = Host::WebOnly;
        w.run_for(8);
        w.primary = Host::Down;
        w.run_for(8);
    }
    assert_eq!(w.state(), State::Active, "{}", w.story());
}

#[test]
fn half_a_primary_is_taken_over_after_its_time_and_not_after_the_next_hold_down() {
    let mut w = World::with(hold_down(90));
    w.run_for(30);
    w.primary = Host::WebOnly;
    w.run_for(3 + 118);
    assert_eq!(w.state(), State::Suspect);
    w.run_for(4);
    assert_eq!(w.state(), State::Active, "{}", w.story());
}

#[test]
fn a_step_of_the_wall_clock_is_only_a_warning() {
    for step in [SignedDuration::from_hours(1000), SignedDuration::from_hours(-1000)] {
        let mut w = World::well();
        w.now.wall += step;
        w.run_for(3);
        assert_eq!(w.engine.verdict(), Verdict::PrimaryUp);
        assert_eq!(w.engine.disarmed_because(), &[] as &[String]);
        let said = w.disk.history.iter().filter(|event| event.kind == "clock").count();
        assert_eq!(said, 1, "{}", w.story());
        assert_eq!(w.acts, [] as [Step; 0]);
    }
}

#[test]
fn a_clock_that_is_set_back_after_a_failback_does_not_disarm_for_longer_than_the_hold_off() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.run_until(State::Active, 30);
    w.primary = Host::Up;
    w.run_for(30);
    w.ask(failback());
    w.run_until(State::Standby, 60);
    w.run_for(1);
    assert!(w.engine.disarmed_because().iter().any(|why| why.contains("hold_off")));
    w.now.wall -= SignedDuration::from_hours(1000);
    w.run_for(60);
    assert_eq!(w.engine.disarmed_because(), &[] as &[String]);
}

#[test]
fn one_failed_reading_of_the_epoch_neither_disarms_nor_wakes_anybody() {
    let mut w = World::well();
    let told = |w: &World| w.told.iter().filter(|t| t.starts_with("disarmed")).count();
    for _ in 0..30 {
        w.hear(Event::Epoch(Err("no answer".into())));
        assert_eq!(w.engine.disarmed_because(), &[] as &[String]);
        w.run_for(6);
    }
    assert_eq!(told(&w), 0, "{:?}", w.told);
    w.epoch = Err("no answer".into());
    w.run_for(60);
    assert_eq!(told(&w), 1, "{:?}", w.told);
}
