//! What a person asks: takeover, failback, pause, continue, abandon, ack.

use super::world::{Host, World, failback, takeover};
use crate::engine::event::{Event, StepReport};
use crate::units::operator::{Command, Reply, Request};
use crate::units::{Mode, State, Step, StepOutcome};

fn active() -> World {
    let mut w = World::well();
    w.primary = Host::Down;
    w.run_until(State::Active, 30);
    w.run_for(2);
    w
}

fn refused(reply: &Reply, word: &str) {
    match reply {
        Reply::Refused(text) => assert!(text.contains(word), "{text}"),
        Reply::Accepted(text) => panic!("accepted: {text}"),
    }
}

fn accepted(reply: &Reply) {
    assert!(matches!(reply, Reply::Accepted(_)), "{reply:?}");
}

#[test]
fn a_takeover_is_refused_while_the_primary_answers_unless_it_is_said_to_be_stopped() {
    let mut w = World::well();
    refused(&w.ask(takeover()), "--primary-is-stopped");
    accepted(&w.ask(Command::Takeover { primary_is_stopped: true, although_cut_off: false, without_claim: false }));
    w.run_until(State::Active, 5);
}

#[test]
fn a_takeover_is_refused_while_cut_off_unless_a_person_knows_better() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.internet = false;
    w.run_for(10);
    refused(&w.ask(takeover()), "--although-cut-off");
    accepted(&w.ask(Command::Takeover { primary_is_stopped: false, although_cut_off: true, without_claim: false }));
    w.run_until(State::Active, 5);
}

#[test]
fn a_takeover_without_a_readable_epoch_needs_a_word_and_is_then_not_mistaken_for_anothers() {
    let mut w = World::well();
    w.epoch = Ok(crate::units::EpochSeen::Absent);
    w.run_for(1);
    w.epoch = Err("no master".into());
    w.primary = Host::Down;
    w.run_for(60);
    refused(&w.ask(takeover()), "--without-claim");
    accepted(&w.ask(Command::Takeover { primary_is_stopped: false, although_cut_off: false, without_claim: true }));
    w.run_until(State::Active, 5);
    w.epoch = Ok(crate::units::EpochSeen::Absent);
    w.run_for(60);
    assert_eq!(w.state(), State::Active, "{}", w.story());
}

#[test]
fn a_claim_that_waits_can_be_passed_by_a_person() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.faults.insert(Step::Claim, StepOutcome::Unknown("no answer".into()));
    w.run_for(60);
    assert_eq!(w.state(), State::TakingOver);
    accepted(&w.ask(Command::Takeover { primary_is_stopped: false, although_cut_off: false, without_claim: true }));
    w.run_until(State::Active, 5);
}

#[test]
fn failback_gives_everything_back_in_order() {
    let mut w = active();
    w.primary = Host::Up;
    w.run_for(5);
    assert!(w.told.iter().any(|t| t.starts_with("both-may-serve")), "{:?}", w.told);
    w.acts.clear();
    accepted(&w.ask(failback()));
    w.run_until(State::Standby, 30);
    assert_eq!(
        w.acts,
        [
            Step::ReturnData,
            Step::Drain,
            Step::UnregisterTrunks,
            Step::StopAccepting,
            Step::ReturnDelta,
            Step::HandOver,
            Step::PrimaryServes,
            Step::ReturnRest,
            Step::RedirectDns,
            Step::Notify,
            Step::ActionUrls,
        ]
    );
    assert_eq!((w.holder().as_str(), w.serving, w.named), ("2 pbx-a", false, false));
    w.run_for(70);
    w.primary = Host::Down;
    w.run_until(State::Active, 40);
    assert_eq!(w.holder(), "3 pbx-b");
}

#[test]
fn a_start_command_that_ends_late_does_not_take_the_place_of_the_proof() {
    let mut w = active();
    w.primary = Host::Up;
    w.run_for(5);
    w.faults.insert(Step::RedirectDns, StepOutcome::failed("no answer"));
    accepted(&w.ask(failback()));
    w.run_for(5);
    let plan = w.disk.last_plan.expect("a plan runs");
    let (step, outcome) = (Step::PrimaryServes, StepOutcome::done("start_primary: exit 0"));
    w.hear(Event::Step(StepReport { plan, step, attempt: 1, mode: Mode::Act, outcome, seen: None }));
    let steps = w.engine.snapshot().plan.expect("a plan").steps;
    let proof = steps.into_iter().find(|s| s.name == step).and_then(|s| s.proof);
    assert_eq!(proof.as_deref(), Some("web up, sip up"));
}

#[test]
fn failback_is_refused_while_the_primary_is_silent_and_waits_when_told_to() {
    let mut w = active();
    refused(&w.ask(failback()), "--wait");
    accepted(&w.ask(Command::Failback { wait: true, cut_calls: false, undo: false }));
    w.run_for(120);
    assert_eq!(w.state(), State::FailingBack);
    assert!(w.serving);
    w.primary = Host::Up;
    w.run_until(State::Standby, 30);
}

#[test]
fn failback_waits_for_calls_and_never_cuts_one_by_itself() {
    let mut w = active();
    w.primary = Host::Up;
    w.run_for(5);
    w.calls = 2;
    accepted(&w.ask(failback()));
    w.run_until(State::Halted, 90);
    assert!(w.serving, "calls and new calls go on");
    accepted(&w.ask(Command::Continue { fenced_by_hand: false }));
    w.run_for(70);
    assert_eq!((w.state(), w.serving), (State::Halted, true), "a call still up is not cut by `continue`");
    w.calls = 0;
    accepted(&w.ask(Command::Continue { fenced_by_hand: false }));
    w.run_until(State::Standby, 30);
}

#[test]
fn a_drain_that_halts_because_the_pbx_hangs_names_the_command_that_goes_on() {
    let mut w = active();
    w.primary = Host::Up;
    w.run_for(5);
    w.faults.insert(Step::Drain, StepOutcome::Unknown("did not answer within 5s; it hangs".into()));
    accepted(&w.ask(failback()));
    w.run_until(State::Halted, 90);
    let hints = w.engine.explain().hints.join("\n");
    for command in ["`pbx-failover failback --cut-calls`", "`pbx-failover continue`", "`pbx-failover abandon`"] {
        assert!(hints.contains(command), "{hints}");
    }
    accepted(&w.ask(Command::Continue { fenced_by_hand: false }));
    w.run_for(70);
    assert_eq!(w.state(), State::Halted, "{}", w.story());
    accepted(&w.ask(Command::Failback { wait: false, cut_calls: true, undo: false }));
    w.run_until(State::Standby, 30);
}

#[test]
fn cut_calls_ends_the_waiting() {
    let mut w = active();
    w.primary = Host::Up;
    w.run_for(5);
    w.calls = 2;
    accepted(&w.ask(failback()));
    w.run_for(3);
    refused(&w.ask(failback()), "--cut-calls");
    accepted(&w.ask(Command::Failback { wait: false, cut_calls: true, undo: false }));
    w.run_until(State::Standby, 30);
}

#[test]
fn a_step_that_was_passed_over_while_it_waited_does_not_keep_the_loop_awake() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.faults.insert(Step::Claim, StepOutcome::Unknown("no answer".into()));
    w.faults.insert(Step::RedirectDns, StepOutcome::Unknown("no answer".into()));
    w.run_for(60);
    accepted(&w.ask(Command::Takeover { primary_is_stopped: false, although_cut_off: false, without_claim: true }));
    w.run_for(30);
    assert!(w.engine.plan_kind().is_some(), "DNS is still tried: {}", w.story());
    let wake = w.engine.wake_at();
    assert!(wake.is_none_or(|at| at >= w.now.boot), "{wake:?} is over at {:?}: the loop would spin", w.now.boot);
}

#[test]
fn undo_takes_the_service_back_with_a_new_claim() {
    let mut w = active();
    w.primary = Host::Up;
    w.run_for(5);
    w.calls = 1;
    accepted(&w.ask(failback()));
    w.run_for(3);
    accepted(&w.ask(Command::Failback { wait: false, cut_calls: false, undo: true }));
    w.run_until(State::Active, 5);
    assert_eq!(w.holder(), "2 pbx-b");
}

#[test]
fn a_primary_that_does_not_come_up_in_time_loses_the_service_again() {
    let mut w = active();
    w.primary = Host::Up;
    w.run_for(5);
    w.faults.insert(Step::ReturnDelta, StepOutcome::done("slow"));
    accepted(&w.ask(failback()));
    w.primary = Host::Down;
    // The hand-over has happened by now, or happens in the next second.
    w.run_for(5);
    assert_ne!(w.state(), State::Standby, "the votes of before the hand-over were believed\n{}", w.story());
    w.run_until(State::Active, 60);
    assert_eq!(w.holder(), "3 pbx-b");
    assert!(w.serving && w.named);
}

#[test]
fn a_silent_primary_is_not_believed_dead_again_while_we_are_cut_off() {
    let mut w = active();
    w.primary = Host::Up;
    w.run_for(5);
    w.hear(Event::Request(Request { command: failback(), reason: "a test".into(), by: String::new() }));
    w.primary = Host::Down;
    w.internet = false;
    w.run_for(300);
    assert_eq!((w.state(), w.holder().as_str()), (State::FailingBack, "2 pbx-a"), "{}", w.story());
    w.internet = true;
    w.run_until(State::Active, 30);
}

#[test]
fn a_stop_that_is_not_proved_is_never_passed_over() {
    let mut w = active();
    w.primary = Host::Up;
    w.run_for(5);
    w.faults.insert(Step::StopAccepting, StepOutcome::failed("permission denied"));
    accepted(&w.ask(failback()));
    w.run_until(State::Halted, 60);
    accepted(&w.ask(Command::Continue { fenced_by_hand: true }));
    w.run_for(60);
    assert_eq!((w.state(), w.holder().as_str()), (State::Halted, "1 pbx-b"));
    w.faults.clear();
    accepted(&w.ask(Command::Continue { fenced_by_hand: false }));
    w.run_until(State::Standby, 10);
    assert_eq!((w.serving, w.holder().as_str()), (false, "2 pbx-a"));
}

#[test]
fn a_person_takes_over_during_a_pause() {
    let mut w = World::well();
    let until = w.now.wall + std::time::Duration::from_secs(300);
    accepted(&w.ask(Command::Pause { until }));
    w.primary = Host::Down;
    w.run_for(5);
    accepted(&w.ask(takeover()));
    w.run_until(State::Active, 5);
}

#[test]
fn a_reason_given_once_does_not_colour_a_later_takeover() {
    let mut w = active();
    w.primary = Host::Up;
    w.run_for(5);
    w.calls = 1;
    accepted(&w.ask(failback()));
    w.run_for(3);
    accepted(&w.ask(Command::Failback { wait: false, cut_calls: true, undo: false }));
    w.run_until(State::Standby, 30);
    w.run_for(70);
    w.primary = Host::Down;
    w.run_until(State::Active, 40);
    let confirm = w.disk.history.iter().rfind(|e| e.what == "confirm is done").expect("it confirmed");
    assert!(confirm.because.contains("asked once more"), "{}", confirm.because);
}

#[test]
fn failback_is_refused_while_the_epoch_could_not_be_handed_over() {
    let mut w = active();
    w.primary = Host::Up;
    w.epoch = Err("no master".into());
    w.run_for(20);
    refused(&w.ask(failback()), "handed over");
    assert!(w.serving);
}

#[test]
fn a_dead_mail_relay_does_not_keep_a_failback_open() {
    let mut w = active();
    w.primary = Host::Up;
    w.run_for(5);
    w.faults.insert(Step::Notify, StepOutcome::failed("relay down"));
    w.faults.insert(Step::ActionUrls, StepOutcome::failed("receiver down"));
    accepted(&w.ask(failback()));
    w.run_until(State::Standby, 10);
    w.run_for(70);
    w.primary = Host::Down;
    w.run_until(State::Active, 40);
}

#[test]
fn after_a_reboot_without_the_epoch_a_person_can_have_it_serve() {
    let mut w = active();
    w.epoch = Err("no master".into());
    w.serving = false;
    w.crash();
    w.run_for(30);
    refused(&w.ask(takeover()), "--without-claim");
    accepted(&w.ask(Command::Takeover { primary_is_stopped: false, although_cut_off: false, without_claim: true }));
    w.run_for(5);
    assert!(w.serving && w.state() == State::Active, "{}", w.story());
}

#[test]
fn a_pause_forbids_takeovers_and_ends_by_itself() {
    let mut w = World::well();
    let until = w.now.wall + std::time::Duration::from_secs(300);
    accepted(&w.ask(Command::Pause { until }));
    w.primary = Host::Down;
    w.run_for(200);
    assert_eq!((w.state(), w.acts.len()), (State::Suspect, 0));
    w.run_until(State::Active, 150);
}

#[test]
fn a_pause_does_not_stop_a_takeover_that_a_person_asks_for() {
    let mut w = World::well();
    let until = w.now.wall + std::time::Duration::from_secs(300);
    accepted(&w.ask(Command::Pause { until }));
    accepted(&w.ask(Command::Takeover { primary_is_stopped: true, although_cut_off: false, without_claim: false }));
    w.run_until(State::Active, 5);
}

#[test]
fn unpause_ends_it_at_once() {
    let mut w = World::well();
    let until = w.now.wall + std::time::Duration::from_secs(86_400);
    accepted(&w.ask(Command::Pause { until }));
    w.primary = Host::Down;
    w.run_for(60);
    accepted(&w.ask(Command::Unpause));
    w.run_until(State::Active, 15);
}

#[test]
fn abandon_makes_passive_and_hands_over() {
    let mut w = active();
    w.primary = Host::Up;
    w.run_for(5);
    w.calls = 2;
    accepted(&w.ask(failback()));
    w.run_until(State::Halted, 90);
    refused(&w.ask(Command::Abandon { to: Some("pbx-q".parse().unwrap()) }), "not of this pair");
    accepted(&w.ask(Command::Abandon { to: None }));
    w.run_until(State::Standby, 10);
    assert_eq!((w.holder().as_str(), w.serving, w.named), ("2 pbx-a", false, false));
}

#[test]
fn an_alarm_repeats_until_it_is_acknowledged() {
    let mut w = active();
    w.primary = Host::Up;
    w.run_for(3600);
    let said = |w: &World| w.told.iter().filter(|t| t.starts_with("both-may-serve")).count();
    assert_eq!(said(&w), 4, "{:?}", w.told);
    accepted(&w.ask(Command::Ack));
    w.run_for(3600);
    assert_eq!(said(&w), 4);
}

#[test]
fn what_is_not_possible_is_refused_with_the_tables_own_reason() {
    let mut w = World::well();
    refused(&w.ask(failback()), "nothing to give back");
    refused(&w.ask(Command::Continue { fenced_by_hand: false }), "nothing is halted");
    refused(&w.ask(Command::Abandon { to: None }), "nothing is halted");
    refused(&w.ask(Command::Failback { wait: false, cut_calls: false, undo: true }), "no failback");
    let mut w = active();
    refused(&w.ask(takeover()), "serves already");
}
