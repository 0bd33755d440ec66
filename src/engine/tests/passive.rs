//! A PBX that is not passive in Standby: told once, with an end; not while it is meant to serve; never a reason to disarm.

use std::collections::BTreeMap;

use super::world::{Host, World, failback};
use crate::engine::Event;
use crate::units::{Look, Meant, PassiveLook, Sign, State};

const TODO: &str = "`systemctl stop pbx.service`";

fn look(looks: &[(Sign, Look)]) -> PassiveLook {
    let looks: BTreeMap<_, _> = looks.iter().cloned().collect();
    PassiveLook { looks, todo: TODO.into(), meant: Meant::Passive }
}

fn seen(sign: Sign) -> PassiveLook {
    look(&[(Sign::OpenFile, Look::Clear), (sign, Look::Seen(format!("{sign} was seen")))])
}

fn clear() -> PassiveLook {
    look(&[Sign::Answers, Sign::AcceptsRegister, Sign::TrunkUp, Sign::OpenFile].map(|sign| (sign, Look::Clear)))
}

/// The world looks so many times, a quarter of a minute apart.
fn looks(w: &mut World, look: &PassiveLook, times: u32) {
    for _ in 0..times {
        w.run_for(15);
        let asked = w.now.boot;
        w.hear(Event::Passive { look: look.clone(), asked });
    }
}

fn told(w: &World, event: &str) -> usize {
    w.told.iter().filter(|told| told.starts_with(event)).count()
}

fn noted(w: &World) -> Vec<String> {
    w.disk.history.iter().filter(|event| event.kind == "passive").map(|event| event.what.clone()).collect()
}

#[test]
fn each_sign_is_told_once_with_what_to_do_and_once_when_it_ends() {
    for sign in [Sign::Answers, Sign::AcceptsRegister, Sign::TrunkUp, Sign::OpenFile] {
        let mut w = World::well();
        looks(&mut w, &seen(sign), 20);
        let passive = w.engine.snapshot().passive.expect("it was looked at");
        assert!(!passive.ok && passive.since.is_some(), "{passive:?}");
        assert_eq!(passive.signs.iter().map(|s| s.name).collect::<Vec<_>>(), [sign]);
        assert_eq!(passive.todo.as_deref(), Some(TODO));
        let first = w.told.iter().find(|told| told.starts_with("not-passive")).expect("people are told").clone();
        assert!(first.contains(&format!("{sign} was seen")) && first.contains(TODO), "{first}");
        let explained = w.engine.explain();
        assert!(explained.inputs.iter().any(|line| line.contains("NOT passive")), "{:?}", explained.inputs);
        assert!(explained.hints.iter().any(|hint| hint.contains(TODO)), "{:?}", explained.hints);
        looks(&mut w, &clear(), 20);
        assert_eq!((told(&w, "not-passive"), told(&w, "passive-again")), (1, 1), "{sign}");
        assert!(w.engine.snapshot().passive.expect("it was looked at").ok);
        assert_eq!(noted(&w).len(), 2, "{:?}", noted(&w));
    }
}

#[test]
fn one_look_alone_neither_begins_nor_ends_it() {
    let mut w = World::well();
    for _ in 0..5 {
        looks(&mut w, &seen(Sign::OpenFile), 1);
        looks(&mut w, &clear(), 1);
    }
    assert_eq!(told(&w, "not-passive"), 0);
    looks(&mut w, &seen(Sign::OpenFile), 2);
    for _ in 0..5 {
        looks(&mut w, &clear(), 1);
        looks(&mut w, &seen(Sign::OpenFile), 1);
    }
    assert_eq!((told(&w, "not-passive"), told(&w, "passive-again")), (1, 0));
}

#[test]
fn what_could_not_be_looked_at_is_neither_there_nor_gone() {
    let unknown = look(&[(Sign::OpenFile, Look::Unknown("no right to see it".into()))]);
    let mut w = World::well();
    looks(&mut w, &unknown, 5);
    assert_eq!(told(&w, "not-passive"), 0);
    let passive = w.engine.snapshot().passive.expect("it was looked at");
    assert!(passive.ok && passive.unseen[0].contains("no right to see it"), "{passive:?}");
    looks(&mut w, &seen(Sign::OpenFile), 2);
    looks(&mut w, &unknown, 5);
    assert_eq!((told(&w, "not-passive"), told(&w, "passive-again")), (1, 0));
}

#[test]
fn a_sign_that_joins_another_is_noted_and_wakes_nobody_again() {
    let mut w = World::well();
    looks(&mut w, &seen(Sign::AcceptsRegister), 3);
    let both = [Sign::AcceptsRegister, Sign::TrunkUp].map(|sign| (sign, Look::Seen(sign.to_string())));
    looks(&mut w, &look(&both), 3);
    assert_eq!(told(&w, "not-passive"), 1);
    assert!(noted(&w)[1].contains("still not passive") && noted(&w)[1].contains("trunk-up"), "{:?}", noted(&w));
}

#[test]
fn it_does_not_disarm_and_the_takeover_follows() {
    let mut w = World::well();
    looks(&mut w, &seen(Sign::AcceptsRegister), 3);
    assert_eq!(w.engine.disarmed_because(), &[] as &[String]);
    w.primary = Host::Down;
    w.run_until(State::Active, 60);
    assert!(w.engine.snapshot().passive.is_none(), "a PBX that serves is meant to");
    looks(&mut w, &seen(Sign::AcceptsRegister), 5);
    assert_eq!((told(&w, "not-passive"), told(&w, "passive-again")), (1, 0));
    assert_eq!(noted(&w).len(), 2, "its end is noted: {:?}", noted(&w));
}

#[test]
fn a_look_that_began_before_the_failback_had_stopped_it_is_void() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.run_until(State::Active, 60);
    w.primary = Host::Up;
    w.run_for(30);
    let asked = w.now.boot;
    assert!(matches!(w.ask(failback()), crate::units::operator::Reply::Accepted { .. }));
    w.run_until(State::Standby, 60);
    for _ in 0..5 {
        w.hear(Event::Passive { look: seen(Sign::AcceptsRegister), asked });
    }
    assert_eq!(told(&w, "not-passive"), 0, "{}", w.story());
    looks(&mut w, &seen(Sign::AcceptsRegister), 2);
    assert_eq!(told(&w, "not-passive"), 1, "one that serves on after it is told");
}

#[test]
fn over_a_restart_of_the_robot_nobody_is_told_a_second_time() {
    let mut w = World::well();
    looks(&mut w, &seen(Sign::TrunkUp), 2);
    w.crash();
    assert!(!w.engine.snapshot().passive.expect("remembered").ok);
    looks(&mut w, &seen(Sign::TrunkUp), 3);
    assert_eq!(told(&w, "not-passive"), 1);
    w.crash();
    looks(&mut w, &clear(), 3);
    assert_eq!((told(&w, "not-passive"), told(&w, "passive-again")), (1, 1));
}
