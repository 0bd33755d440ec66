//! When it takes over, and when it must not.

use super::world::{Host, World, settings};
use crate::engine::{Event, Settings};
use crate::units::operator::Command;
use crate::units::policy::HalfDead;
use crate::units::{State, Step, StepOutcome, Verdict};

#[test]
fn a_dead_primary_is_taken_over_after_fall_and_hold_down() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.run_until(State::Suspect, 4);
    w.run_for(8);
    assert_eq!(w.state(), State::Suspect);
    w.run_until(State::Active, 5);
    assert_eq!(w.holder(), "1 pbx-b");
    assert!(w.serving && w.named);
    assert_eq!(w.engine.snapshot().plan.expect("a plan").ended.as_deref(), Some("done"), "{}", w.story());
}

#[test]
fn the_steps_come_in_the_order_of_the_table() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.run_until(State::Active, 30);
    w.run_for(2);
    let order = [Step::Claim, Step::SecureData, Step::Reload, Step::AcceptRegistrations];
    let acted: Vec<_> = w.acts.iter().filter(|s| order.contains(s)).copied().collect();
    assert_eq!(acted, [Step::Claim, Step::SecureData, Step::Reload], "accept was already proved by its look");
    for step in [Step::RegisterTrunks, Step::RedirectDns, Step::ActionUrls, Step::Notify] {
        assert_eq!(w.acted(step), 1, "{step}");
    }
}

#[test]
fn with_no_hold_down_the_third_failure_is_enough() {
    let mut w = World::with(Settings { hold_down: std::time::Duration::ZERO, ..settings() });
    w.run_for(30);
    w.primary = Host::Down;
    w.run_for(3);
    assert_eq!(w.state(), State::Active, "{}", w.story());
}

#[test]
fn a_cut_off_backup_never_takes_over() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.internet = false;
    w.run_for(600);
    assert_eq!(w.state(), State::Standby);
    assert_eq!(w.engine.verdict(), Verdict::WeAreCutOff);
    assert_eq!(w.acts, [] as [Step; 0]);
    assert!(w.engine.explain().answer.contains("we-are-cut-off"), "{:?}", w.engine.explain());
}

#[test]
fn the_internet_is_asked_once_more_before_the_claim() {
    let mut w = World::with(Settings { hold_down: std::time::Duration::ZERO, ..settings() });
    w.run_for(30);
    // The targets are seen up, then all goes dark at once: only the question of `confirm` finds out.
    let earlier = w.now.boot;
    w.now.boot += std::time::Duration::from_millis(2);
    w.primary = Host::Down;
    for _ in 0..3 {
        let asked = earlier;
        for name in ["web", "sip"] {
            let answer = crate::units::ProbeAnswer::Down("refused".into());
            let result = crate::units::ProbeResult { answer, latency: std::time::Duration::ZERO };
            w.hear(Event::Check { name: crate::units::CheckName(name.into()), result, asked });
        }
    }
    assert_eq!(w.state(), State::TakingOver);
    w.internet = false;
    w.answer_all();
    w.run_for(5);
    assert_eq!(w.state(), State::Standby, "{}", w.story());
    assert_eq!(w.acts, [] as [Step; 0]);
}

#[test]
fn a_primary_that_answers_once_at_confirm_is_left_alone() {
    let mut w = World::with(Settings { hold_down: std::time::Duration::ZERO, ..settings() });
    w.run_for(30);
    let earlier = w.now.boot;
    w.now.boot += std::time::Duration::from_millis(2);
    w.primary = Host::Down;
    let asked = earlier;
    for _ in 0..3 {
        for name in ["web", "sip"] {
            let answer = crate::units::ProbeAnswer::Down("refused".into());
            let result = crate::units::ProbeResult { answer, latency: std::time::Duration::ZERO };
            w.hear(Event::Check { name: crate::units::CheckName(name.into()), result, asked });
        }
    }
    assert_eq!(w.state(), State::TakingOver);
    w.primary = Host::Up;
    w.answer_all();
    assert!(w.rows().contains(&23), "{}", w.story());
    w.run_for(5);
    assert_eq!(w.state(), State::Standby);
    assert_eq!(w.acts, [] as [Step; 0]);
}

#[test]
fn two_failures_of_three_are_tolerated_for_ever() {
    let mut w = World::well();
    for i in 0..300 {
        w.primary = if i % 3 == 2 { Host::Up } else { Host::Down };
        w.run_for(1);
        assert_eq!(w.state(), State::Standby);
    }
}

#[test]
fn half_a_primary_is_taken_over_only_after_its_own_time() {
    let mut w = World::well();
    w.primary = Host::WebOnly;
    w.run_for(100);
    assert_eq!(w.state(), State::Suspect);
    assert_eq!(w.engine.verdict(), Verdict::HalfDead);
    w.run_until(State::Active, 60);
}

#[test]
fn half_a_primary_with_policy_alert_is_never_taken_over() {
    let mut w = World::with(Settings { half_dead: HalfDead::Alert, ..settings() });
    w.run_for(30);
    w.primary = Host::WebOnly;
    w.run_for(3600);
    assert_eq!(w.state(), State::Suspect);
    assert_eq!(w.acts, [] as [Step; 0]);
    let blocked = w.disk.history.iter().filter(|e| e.kind == "blocked").count();
    assert_eq!(blocked, 1, "what blocks is said once\n{}", w.story());
}

#[test]
fn a_stalled_robot_distrusts_itself() {
    let mut w = World::with(Settings { hold_down: std::time::Duration::ZERO, ..settings() });
    w.run_for(30);
    w.primary = Host::Down;
    w.run_for(2);
    w.stall(20);
    w.run_for(1);
    assert_eq!(w.engine.verdict(), Verdict::Unsure, "{}", w.story());
    w.primary = Host::Up;
    w.run_for(60);
    assert_eq!(w.state(), State::Standby);
    assert_eq!(w.acts, [] as [Step; 0]);
}

#[test]
fn a_robot_that_starts_beside_a_dead_primary_takes_over() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.crash();
    w.run_until(State::Active, 30);
}

#[test]
fn a_primary_never_seen_up_is_never_taken_over() {
    let mut w = World::new();
    w.primary = Host::Down;
    w.run_for(3600);
    assert_eq!(w.state(), State::Standby);
    assert!(
        w.engine.disarmed_because().iter().any(|r| r.contains("never seen up")),
        "{:?}",
        w.engine.disarmed_because()
    );
}

#[test]
fn a_pbx_that_does_not_start_is_tried_for_ever_while_the_primary_is_dead() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.faults.insert(Step::Reload, StepOutcome::failed("unit failed"));
    w.run_for(1200);
    assert_eq!(w.state(), State::TakingOver);
    assert!(w.acted(Step::Reload) > 20);
    assert!(w.told.iter().any(|t| t.contains("reload is being tried again")), "{:?}", w.told);
    w.faults.clear();
    w.run_until(State::Active, 15);
}

#[test]
fn a_step_that_waits_for_another_wakes_nobody() {
    let mut w = World::well();
    w.primary = Host::Down;
    // The PBX dies as soon as it has started, and then does not start any more.
    w.faults.insert(Step::Reload, StepOutcome::done("started"));
    w.run_until(State::TakingOver, 30);
    w.run_for(20);
    w.faults.insert(Step::Reload, StepOutcome::failed("unit failed"));
    w.run_for(60); // the world asserts after each second that no wake-up lies in the past
    assert_eq!(w.state(), State::TakingOver);
    w.faults.clear();
    w.run_until(State::Active, 30);
}

#[test]
fn a_backup_that_does_not_come_up_does_not_keep_a_living_primary_down() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.faults.insert(Step::Reload, StepOutcome::failed("unit failed"));
    w.run_for(60);
    w.primary = Host::Up;
    w.run_for(300);
    assert_eq!(w.state(), State::Standby, "{}", w.story());
    assert_eq!(w.holder(), "2 pbx-a");
}

#[test]
fn background_steps_never_hold_the_service_up() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.faults.insert(Step::RedirectDns, StepOutcome::failed("BIND does not answer"));
    w.faults.insert(Step::RegisterTrunks, StepOutcome::Refused("403".into()));
    w.run_until(State::Active, 30);
    w.run_for(60);
    assert!(w.engine.snapshot().degraded);
    assert!(w.acted(Step::RegisterTrunks) <= 3, "a provider bans those who insist: {}", w.acted(Step::RegisterTrunks));
    w.faults.clear();
    w.run_for(700);
    assert!(!w.engine.snapshot().degraded, "{}", w.story());
}

/// What was told of steps that are tried again.
fn retries_told(w: &World) -> Vec<&str> {
    w.told.iter().filter(|told| told.starts_with("step-retries")).map(String::as_str).collect()
}

#[test]
fn a_background_step_that_fails_three_times_in_a_row_is_told_once() {
    for fault in [StepOutcome::failed("carrier: 503"), StepOutcome::Refused("carrier: 403".into())] {
        let mut w = World::well();
        w.faults.insert(Step::RegisterTrunks, fault.clone());
        w.primary = Host::Down;
        w.run_until(State::Active, 30);
        w.run_for(60);
        let said = format!("step-retries: register_trunks is being tried again: {}", fault.text());
        assert_eq!(retries_told(&w), [said.as_str()], "{}", w.story());
        let noted = |w: &World| w.disk.history.iter().filter(|e| e.what.contains("again and again")).count();
        assert_eq!(noted(&w), 1);
        w.crash();
        w.run_for(1500);
        assert_eq!(retries_told(&w), [said.as_str()], "neither by time nor by a restart\n{}", w.story());
        w.faults.clear();
        w.run_for(700);
        assert_eq!(retries_told(&w).len(), 1);
        assert!(!w.engine.snapshot().degraded, "{}", w.story());
    }
}

#[test]
fn a_background_step_that_fails_twice_is_told_to_nobody() {
    let mut w = World::well();
    w.faults.insert(Step::RedirectDns, StepOutcome::failed("SERVFAIL"));
    w.primary = Host::Down;
    w.run_until(State::Active, 30);
    let mut seconds = 0;
    while w.acted(Step::RedirectDns) < 2 {
        w.run_for(1);
        seconds += 1;
        assert!(seconds < 10, "{}", w.story());
    }
    assert_eq!(w.acted(Step::RedirectDns), 2);
    w.faults.clear();
    w.run_for(60);
    assert!(w.named && retries_told(&w).is_empty(), "{:?}", w.told);
}

#[test]
fn a_full_disk_disarms_before_the_claim_and_does_not_stop_after_it() {
    let mut w = World::well();
    w.disk.broken = true;
    w.primary = Host::Down;
    w.run_for(60);
    assert!(w.acts.is_empty(), "{:?}", w.acts);
    assert_ne!(w.state(), State::Active);
    w.disk.broken = false;
    w.hear(Event::Store(Ok(())));
    w.run_until(State::Active, 30);
}

#[test]
fn a_claim_that_was_never_seen_to_stand_is_not_pressed_against_a_living_primary() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.faults.insert(Step::Claim, StepOutcome::unknown("no answer"));
    w.run_for(60);
    assert_eq!(w.state(), State::TakingOver);
    w.primary = Host::Up;
    w.run_for(10);
    assert_eq!(w.state(), State::Standby, "{}", w.story());
    // The swap that was sent long ago is applied after all: it is handed back.
    let late = w.engine.memory().claim.clone().expect("the claim is remembered by its id");
    w.epoch = Ok(crate::units::EpochSeen::held(late));
    w.faults.clear();
    w.run_for(30);
    assert_eq!(
        (w.state(), w.holder().as_str(), w.acted(Step::Reload)),
        (State::Standby, "2 pbx-a", 0),
        "{}",
        w.story()
    );
}

#[test]
fn data_of_which_half_was_put_in_place_is_tried_for_ever_and_what_only_failed_is_passed_over() {
    for (fault, state) in [
        (StepOutcome::Unknown("half of it".into()), State::TakingOver),
        (StepOutcome::Failed("no".into()), State::Active),
    ] {
        let mut w = World::well();
        w.faults.insert(Step::SecureData, fault);
        w.primary = Host::Down;
        w.run_until(State::TakingOver, 30);
        w.run_for(300);
        assert_eq!(w.state(), state, "{}", w.story());
    }
}

#[test]
fn a_step_that_was_passed_over_wakes_nobody_any_more() {
    let mut w = World::well();
    w.faults.insert(Step::Claim, StepOutcome::Unknown("no answer".into()));
    w.faults.insert(Step::RegisterTrunks, StepOutcome::Failed("503".into()));
    w.primary = Host::Down;
    w.run_until(State::TakingOver, 30);
    w.run_for(10);
    w.epoch = Err("no master".into());
    w.ask(Command::Takeover { primary_is_stopped: false, although_cut_off: false, without_claim: true });
    // The world sees to it that the engine is never woken for a time that is over.
    w.run_for(30);
    assert_eq!(w.state(), State::Active, "{}", w.story());
}

/// The PBX dies: it is started again, and nothing else is repeated.
fn its_silence_is_ended(w: &mut World) {
    w.serving = false;
    w.acts.clear();
    w.hear(Event::Pbx(Err("seen silent".into())));
    w.answer_all();
    w.run_for(2);
    assert!(w.serving && w.state() == State::Active, "{}", w.story());
    assert_eq!((w.acted(Step::Reload), w.acted(Step::Claim), w.acted(Step::ActionUrls)), (1, 0, 0));
    assert!(w.told.iter().any(|t| t.contains("does not serve any more")), "{:?}", w.told);
}

#[test]
fn a_pbx_that_dies_while_the_takeover_has_work_in_the_background_left_is_started_again() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.faults.insert(Step::RedirectDns, StepOutcome::failed("ns2 does not answer"));
    w.run_until(State::Active, 30);
    w.run_for(3);
    assert!(w.engine.plan_kind().is_some(), "{}", w.story());
    its_silence_is_ended(&mut w);
}

#[test]
fn a_pbx_that_dies_while_this_node_serves_is_started_again() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.run_until(State::Active, 30);
    w.run_for(3);
    its_silence_is_ended(&mut w);
}
