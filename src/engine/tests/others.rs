//! What witness, observers and the primary's own agent change: vetoes, a shorter hold-down, a switchover, warnings.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;

use super::world::{Host, World, failback, settings, takeover};
use crate::engine::{AgentAsked, Event, Settings};
use crate::units::beat::{DutyTold, PbxTold};
use crate::units::operator::Reply;
use crate::units::policy::SiteCut;
use crate::units::{Beat, Condition, Duty, Guarded, Heard, PeerReading, State, Step, StepOutcome, Verdict};

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
    w.observers = Some(false);
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
    assert!(w.told.last().is_some_and(|told| told.contains("differ by -250 s")), "{:?}", w.told);
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
