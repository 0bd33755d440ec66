//! What witness, observers and the primary's own agent change: vetoes, a shorter hold-down, a switchover, warnings.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;

use super::world::{Host, World, failback, settings, takeover};
use crate::engine::{AgentAsked, Event, Settings};
use crate::units::beat::{DutyTold, PbxTold};
use crate::units::operator::Reply;
use crate::units::policy::SiteCut;
use crate::units::{
    Beat, Condition, Duty, EpochSeen, Guarded, Heard, PeerReading, ProbeAnswer, ProbeResult, State, Step, StepOutcome,
    Verdict,
};

fn with_agent() -> Settings {
    Settings { agent: AgentAsked::Yes(BTreeMap::from([("dns".to_owned(), "1".to_owned())])), ..settings() }
}

fn beat(condition: Condition, phones: u32) -> Beat {
    Beat {
        settings: BTreeMap::from([("dns".to_owned(), "1".to_owned())]),
        pbx: Some(PbxTold {
            driver: "systemd".into(),
            condition,
            registrations: Some(phones),
            calls: None,
            trunks: Vec::new(),
        }),
        duty: Some(DutyTold {
            duty: Duty::Serve,
            because: String::new(),
            starts_by_itself: false,
            guarded: Guarded::Yes,
            planned_stop_until: None,
        }),
        ..Beat::bare("pbx-a".parse().unwrap(), "primary", jiff::Timestamp::UNIX_EPOCH)
    }
}

/// All is well, and the agent tells so.
fn well() -> World {
    let mut w = World::with(with_agent());
    w.beat = Some(beat(Condition::Serves, 40));
    w.run_for(30);
    assert_eq!(w.engine.disarmed_because(), &[] as &[String]);
    w
}

#[test]
fn an_observer_that_sees_it_alive_forbids_a_takeover_until_it_does_not() {
    let mut w = World::with(Settings { observers: vec!["o".into()], ..settings() });
    w.observers = Some(true);
    w.run_for(30);
    w.primary = Host::Down;
    w.run_for(120);
    assert_eq!((w.state(), w.engine.verdict()), (State::Suspect, Verdict::PathCut));
    assert_eq!(w.engine.snapshot().hold_down_until, None, "nothing counts down");
    w.observers = Some(false);
    w.run_for(1);
    assert!(w.engine.snapshot().hold_down_until.is_some(), "now it does");
    w.run_until(State::Active, 30);
}

#[test]
fn an_observer_that_is_silent_forbids_nothing() {
    let mut w = World::with(Settings { observers: vec!["o".into()], ..settings() });
    w.observers = Some(true);
    w.run_for(30);
    w.observers = None;
    w.primary = Host::Down;
    w.run_until(State::Active, 60);
}

#[test]
fn an_observer_without_a_view_is_not_said_to_see_the_primary_dead() {
    let mut w = World::with(Settings { observers: vec!["o".into()], ..settings() });
    let told = |w: &mut World, answer| {
        let asked = w.now.boot;
        w.hear(Event::Observer { target: 0, result: ProbeResult { answer, latency: Duration::ZERO }, asked });
        let lines = w.engine.explain().inputs;
        let line = lines.into_iter().find(|line| line.starts_with("observer o")).expect("a line");
        (w.engine.snapshot().witness.expect("observers").observers[0].verdict.clone(), line)
    };
    let (verdict, line) = told(&mut w, ProbeAnswer::Unknown("its view is 40 s old".into()));
    assert_eq!(verdict, "unknown");
    assert!(line.contains("gives no view") && line.contains("40 s old"), "{line}");
    let (verdict, line) = told(&mut w, ProbeAnswer::Down("pbx-c: sip: no answer".into()));
    assert!(verdict == "down" && line.contains("does not see it alive"), "{line}");
}

#[test]
fn an_observer_that_sees_it_again_in_the_last_moment_stops_the_takeover() {
    let mut w = World::with(Settings { observers: vec!["o".into()], ..settings() });
    w.observers = Some(false);
    w.run_for(30);
    w.primary = Host::Down;
    w.run_until(State::Suspect, 10);
    w.run_for(9);
    w.observers = Some(true);
    w.run_for(20);
    assert_eq!((w.state(), w.holder().as_str()), (State::Suspect, "nobody"), "{}", w.story());
}

#[test]
fn a_silent_site_is_judged_by_its_policy() {
    for (policy, state) in [(SiteCut::Takeover, State::Active), (SiteCut::Wait, State::Suspect)] {
        let mut w = World::with(Settings { site: vec!["router".into()], site_cut: policy, ..settings() });
        w.site = Some(true);
        w.run_for(30);
        w.primary = Host::Down;
        w.site = Some(false);
        w.run_for(60);
        assert_eq!(w.engine.verdict(), Verdict::SiteCut, "{policy:?}");
        assert_eq!(w.state(), state, "{policy:?}");
    }
}

#[test]
fn while_its_agent_says_that_it_serves_a_primary_that_we_do_not_reach_is_not_replaced() {
    let mut w = well();
    w.primary = Host::Down;
    w.run_for(120);
    assert_eq!((w.state(), w.engine.verdict()), (State::Suspect, Verdict::PathCut));
    w.beat = None;
    w.run_until(State::Active, 40);
}

#[test]
fn an_agent_that_says_that_its_pbx_failed_shortens_the_hold_down() {
    let mut w = World::with(Settings { hold_down: Duration::from_secs(60), ..with_agent() });
    w.beat = Some(beat(Condition::Serves, 40));
    w.run_for(30);
    w.primary = Host::Down;
    w.beat = Some(beat(Condition::Unknown, 0));
    w.run_until(State::Suspect, 10);
    w.run_for(20);
    assert_eq!(w.state(), State::Suspect);
    w.beat = Some(beat(Condition::Failed, 0));
    w.run_until(State::Active, 3);
}

#[test]
fn the_phones_that_the_primary_had_are_remembered_when_it_tells_nothing_any_more() {
    let mut w = well();
    w.beat = None;
    w.primary = Host::Down;
    w.run_until(State::Active, 60);
    let expected = w.engine.snapshot().pbx.and_then(|pbx| pbx.expected_registrations);
    assert_eq!(expected, Some(40));
    w.crash();
    assert_eq!(w.engine.memory().expected_registrations, Some(40));
}

#[test]
fn an_announced_stop_disarms_until_its_end() {
    let mut w = well();
    let until = w.now.wall + SignedDuration::from_secs(600);
    let mut announcing = beat(Condition::Serves, 40);
    announcing.duty.as_mut().unwrap().planned_stop_until = Some(until);
    w.beat = Some(announcing);
    w.run_for(2);
    w.beat = None;
    w.primary = Host::Down;
    w.run_for(300);
    assert_eq!(w.state(), State::Suspect, "{}", w.story());
    w.crash();
    w.run_until(State::Active, 400);
    assert!(w.now.wall >= until, "its end is kept over a restart");
}

#[test]
fn what_the_agent_has_to_warn_of_is_told_once() {
    let mut w = well();
    w.told.clear();
    let mut other = beat(Condition::Serves, 40);
    other.settings.insert("dns".into(), "2".into());
    w.beat = Some(other);
    w.run_for(60);
    let told: Vec<_> = w.told.iter().filter(|told| told.starts_with("peer-trouble")).collect();
    assert!(told.len() == 1 && told[0].contains("in: dns"), "{told:?}");
    let troubles = w.engine.snapshot().peer.map(|peer| peer.troubles).unwrap_or_default();
    assert_eq!(troubles.len(), 1);
    w.beat = None;
    let skewed = Heard { beat: beat(Condition::Serves, 40), drift: SignedDuration::from_secs(-250) };
    w.hear(Event::Peer { reading: PeerReading::Heard(Box::new(skewed)), asked: w.now.boot });
    assert!(w.told.last().is_some_and(|told| told.contains("its clock is 250 s behind this host's")), "{:?}", w.told);
    for _ in 0..25 {
        let reading = PeerReading::Refused("an old beat was sent again".into());
        w.hear(Event::Peer { reading, asked: w.now.boot });
        w.run_for(1);
    }
    assert!(w.told.last().is_some_and(|told| told.contains("sent again")), "{:?}", w.told);
}

#[test]
fn a_person_moves_the_service_and_the_primary_is_stopped_first() {
    let mut w = well();
    assert!(matches!(w.ask(takeover()), Reply::Accepted(_)));
    w.run_until(State::Active, 30);
    let at = |step| w.acts.iter().position(|act| *act == step);
    assert!(at(Step::StopPrimary) < at(Step::Claim) && at(Step::StopPrimary).is_some(), "{:?}", w.acts);
}

#[test]
fn a_primary_that_refuses_to_stop_keeps_the_service() {
    let mut w = well();
    w.faults.insert(Step::StopPrimary, StepOutcome::Refused("its agent was told otherwise".into()));
    w.ask(takeover());
    w.run_for(30);
    assert_eq!((w.state(), w.holder().as_str(), w.acted(Step::Claim)), (State::Standby, "nobody", 0), "{}", w.story());
    assert_eq!(w.resumed.len(), 1, "what it may have stopped is given back");
}

#[test]
fn a_switchover_whose_drain_does_not_end_is_dropped_and_nothing_has_changed() {
    let mut w = well();
    w.faults.insert(Step::StopPrimary, StepOutcome::unknown("2 calls are up"));
    w.ask(takeover());
    w.run_for(60);
    assert_eq!(w.state(), State::TakingOver);
    w.run_for(180);
    assert_eq!((w.state(), w.holder().as_str()), (State::Standby, "nobody"), "{}", w.story());
}

/// A switchover whose primary has just stopped its PBX on loan, for 300 s.
fn lent(swaps_refused: Swaps) -> World {
    let mut w = well();
    w.faults.insert(Step::StopPrimary, StepOutcome::unknown("1 call is up"));
    assert!(matches!(w.ask(takeover()), Reply::Accepted(_)));
    w.run_for(3);
    w.faults.remove(&Step::StopPrimary);
    match swaps_refused {
        Swaps::Refused => w.refuse_swaps = true,
        Swaps::NeverSent => w.epoch = Err("no answer".into()),
    }
    w.run_for(2);
    assert_eq!(w.acted(Step::Claim) > 0, swaps_refused == Swaps::Refused, "{:?}", w.acts);
    assert_eq!(w.state(), State::TakingOver);
    w
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Swaps {
    /// The master is asked, and nobody knows what came of it.
    Refused,
    /// The master does not even answer a question.
    NeverSent,
}

#[test]
fn a_switchover_whose_master_is_silent_is_dropped_before_the_primary_starts_again() {
    let mut w = lent(Swaps::NeverSent);
    w.run_for(140);
    assert_eq!(w.state(), State::TakingOver, "{}", w.story());
    w.run_for(20);
    assert_eq!((w.state(), w.acted(Step::Claim), w.resumed.len()), (State::Standby, 0, 1), "{}", w.story());
    assert!(w.story().contains("the primary's agent lets its PBX serve again"), "{}", w.story());
    w.epoch = Ok(EpochSeen::Absent);
    w.run_for(60);
    assert_eq!((w.state(), w.holder().as_str()), (State::Standby, "nobody"), "{}", w.story());
}

#[test]
fn a_switchover_whose_master_answers_in_time_goes_on() {
    let mut w = lent(Swaps::NeverSent);
    w.run_for(130);
    w.epoch = Ok(EpochSeen::Absent);
    w.run_until(State::Active, 15);
}

#[test]
fn a_claim_of_a_switchover_that_may_have_been_applied_is_looked_at_and_not_sent_again_too_late() {
    let mut w = lent(Swaps::Refused);
    w.epoch = Err("no answer".into());
    w.run_for(600);
    assert_eq!(w.state(), State::TakingOver, "{}", w.story());
    let sent = w.acted(Step::Claim);
    (w.epoch, w.refuse_swaps) = (Ok(EpochSeen::Absent), false);
    w.run_for(15);
    assert_eq!((w.state(), w.holder().as_str()), (State::Standby, "nobody"), "{}", w.story());
    assert_eq!((w.acted(Step::Claim), w.resumed.len()), (sent, 1));
}

#[test]
fn a_claim_of_a_switchover_that_was_applied_after_all_is_served() {
    let mut w = lent(Swaps::Refused);
    w.epoch = Err("no answer".into());
    w.run_for(600);
    w.epoch = Ok(EpochSeen::held(w.engine.memory().claim.clone().expect("a claim was sent")));
    w.run_until(State::Active, 15);
}

#[test]
fn after_a_restart_the_stop_of_a_switchover_counts_as_over() {
    let mut w = lent(Swaps::NeverSent);
    w.crash();
    w.run_for(15);
    assert_eq!((w.state(), w.acted(Step::Claim)), (State::Standby, 0), "{}", w.story());
    let mut w = lent(Swaps::Refused);
    w.epoch = Err("no answer".into());
    w.crash();
    w.run_for(30);
    assert_eq!(w.state(), State::TakingOver, "{}", w.story());
    (w.epoch, w.refuse_swaps) = (Ok(EpochSeen::Absent), false);
    w.run_for(15);
    assert_eq!((w.state(), w.holder().as_str()), (State::Standby, "nobody"), "{}", w.story());
}

#[test]
fn a_claim_that_cuts_nobody_is_tried_for_ever() {
    let mut w = well();
    (w.primary, w.beat, w.refuse_swaps) = (Host::Down, None, true);
    w.run_until(State::TakingOver, 60);
    w.run_for(600);
    assert_eq!(w.state(), State::TakingOver, "{}", w.story());
    w.refuse_swaps = false;
    w.run_until(State::Active, 15);
}

#[test]
fn a_backup_that_gave_the_service_back_because_it_did_not_come_up_waits_before_it_tries_again() {
    for (hold_off, waits) in [(0, 30), (60, 60)] {
        let (hold_off, hold_down) = (Duration::from_secs(hold_off), Duration::from_secs(1));
        let mut w = World::with(Settings { hold_down, hold_off, ..settings() });
        w.run_for(30);
        w.faults.insert(Step::Reload, StepOutcome::failed("it does not start"));
        w.primary = Host::WebOnly;
        w.run_until(State::TakingOver, 200);
        w.run_until(State::Suspect, 330);
        assert!(w.holder().ends_with("pbx-a"), "{}", w.story());
        let armed = w.engine.snapshot().armed.expect("told").because;
        assert!(armed.iter().any(|why| why.contains("given back just now")), "{armed:?}");
        w.run_for(waits - 2);
        assert_eq!(w.state(), State::Suspect, "{}", w.story());
        w.run_until(State::TakingOver, 5);
    }
}

#[test]
fn where_only_the_web_server_is_asked_the_agents_word_says_whether_both_may_serve() {
    let mut w = World::with(Settings { checks: settings().checks[..1].to_vec(), ..with_agent() });
    let alarmed = |w: &World| w.engine.snapshot().alarms.iter().any(|alarm| alarm.name == "both-may-serve");
    w.beat = Some(beat(Condition::Serves, 40));
    w.run_for(30);
    (w.primary, w.beat) = (Host::Down, None);
    w.run_until(State::Active, 60);
    (w.primary, w.beat) = (Host::Up, Some(beat(Condition::Stopped, 0)));
    w.run_for(60);
    assert!(!alarmed(&w), "its web server answers, and its agent says that its PBX is stopped\n{}", w.story());
    w.beat = None;
    w.run_for(10);
    assert!(!alarmed(&w), "its word is fresh yet");
    w.run_for(5);
    assert!(alarmed(&w), "a word that is stale is none");
    w.beat = Some(beat(Condition::Unknown, 0));
    w.run_for(5);
    assert!(alarmed(&w), "it may serve");
    w.beat = Some(beat(Condition::Stopped, 0));
    w.run_for(2);
    assert!(!alarmed(&w), "{}", w.story());
    w.beat = Some(beat(Condition::Serves, 0));
    w.run_for(2);
    assert!(alarmed(&w));
}

#[test]
fn without_an_agent_a_living_primary_is_not_taken_over() {
    let mut w = World::well();
    assert!(matches!(w.ask(takeover()), Reply::Refused(why) if why.contains("no agent")));
}

#[test]
fn a_primary_whose_agent_holds_its_pbx_back_gets_the_service_although_it_does_not_answer() {
    let mut w = well();
    w.primary = Host::Down;
    w.beat = None;
    w.run_until(State::Active, 60);
    assert!(matches!(w.ask(failback()), Reply::Refused(_)), "nobody says that it will serve");
    let mut waiting = beat(Condition::Stopped, 0);
    let duty = waiting.duty.as_mut().unwrap();
    (duty.duty, duty.starts_by_itself) = (Duty::Stop, true);
    w.beat = Some(waiting);
    w.run_for(5);
    assert!(matches!(w.ask(failback()), Reply::Accepted(_)));
    w.run_for(5);
    w.primary = Host::Up;
    w.beat = Some(beat(Condition::Serves, 0));
    w.run_until(State::Standby, 60);
    assert!(w.holder().ends_with("pbx-a"), "{}", w.holder());
}
