//! A sync that runs while this node serves, or rests while it watches: told once, with an end.

use super::world::{Host, World};
use crate::engine::Event;
use crate::units::{State, Step, StepOutcome, SyncLook};

fn look(runs: &[&str], rests: &[&str]) -> SyncLook {
    let texts = |of: &[&str]| of.iter().map(ToString::to_string).collect();
    SyncLook { runs: texts(runs), rests: texts(rests), ..SyncLook::default() }
}

fn looks(w: &mut World, look: &SyncLook, times: u32) {
    for _ in 0..times {
        w.run_for(15);
        w.hear(Event::Sync(look.clone()));
    }
}

fn told(w: &World, event: &str) -> usize {
    w.told.iter().filter(|told| told.starts_with(event)).count()
}

#[test]
fn one_that_rests_while_this_node_watches_is_told_once_and_its_end_too() {
    let mut w = World::well();
    looks(&mut w, &look(&["lsyncd.service is active"], &[]), 3);
    looks(&mut w, &look(&[], &["lsyncd.service is inactive"]), 1);
    assert_eq!(told(&w, "sync-trouble"), 0, "one look may have met its restart");
    looks(&mut w, &look(&[], &["lsyncd.service is inactive"]), 30);
    assert_eq!(told(&w, "sync-trouble"), 1);
    let text = w.told.iter().find(|told| told.starts_with("sync-trouble")).expect("told");
    assert!(text.contains("lsyncd.service is inactive") && text.contains("grows old"), "{text}");
    assert_eq!(w.engine.disarmed_because(), &[] as &[String], "older data is better than no telephone");
    assert!(w.engine.snapshot().sync.is_some_and(|sync| !sync.ok && sync.since.is_some()));
    assert!(w.engine.explain().inputs.iter().any(|line| line.contains("the sync to this node rests")));
    looks(&mut w, &look(&["lsyncd.service is active"], &[]), 30);
    assert_eq!((told(&w, "sync-trouble"), told(&w, "sync-well")), (1, 1));
}

#[test]
fn one_that_rests_since_files_wait_to_go_home_is_not_to_be_started() {
    let mut w = World::well();
    let waits = "2 files, 1.1 MB to carry home; `pbx-failover ledger --carry` goes on";
    looks(&mut w, &SyncLook { waits: Some(waits.to_owned()), ..look(&[], &["lsyncd.service is inactive"]) }, 3);
    let text = w.told.iter().find(|told| told.starts_with("sync-trouble")).expect("told");
    assert!(text.contains("do not start it") && text.contains("ledger --carry"), "{text}");
}

#[test]
fn one_that_comes_back_while_a_takeover_is_still_under_way_is_told() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.faults.insert(Step::Reload, StepOutcome::failed("it does not start"));
    w.run_until(State::TakingOver, 60);
    looks(&mut w, &look(&["rsync (4711) writes in work"], &[]), 10);
    assert_eq!(w.engine.snapshot().state, State::TakingOver);
    assert_eq!(told(&w, "sync-trouble"), 1);
}

#[test]
fn what_is_never_seen_of_the_processes_keeps_no_trouble_from_its_end() {
    let mut w = World::well();
    let unseen = |look: SyncLook| SyncLook { unseen: vec!["other users' are not seen".to_owned()], ..look };
    looks(&mut w, &unseen(look(&[], &["lsyncd.service is inactive"])), 3);
    assert!(w.engine.snapshot().sync.is_some_and(|sync| sync.unknown.is_empty()), "while it watches nobody asks");
    looks(&mut w, &unseen(look(&["lsyncd.service is active"], &[])), 3);
    assert_eq!((told(&w, "sync-trouble"), told(&w, "sync-well")), (1, 1));
    w.primary = Host::Down;
    w.run_until(State::Active, 60);
    looks(&mut w, &unseen(look(&[], &[])), 3);
    assert!(w.engine.snapshot().sync.is_some_and(|sync| sync.ok && sync.unknown.len() == 1));
}

#[test]
fn one_that_runs_while_this_node_serves_is_told_and_one_that_rests_then_is_not() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.run_until(State::Active, 60);
    looks(&mut w, &look(&[], &["lsyncd.service is inactive"]), 10);
    assert_eq!(told(&w, "sync-trouble"), 0);
    looks(&mut w, &look(&["rsync (4711) writes in work"], &[]), 30);
    assert_eq!(told(&w, "sync-trouble"), 1);
    let text = w.told.iter().find(|told| told.starts_with("sync-trouble")).expect("told");
    assert!(text.contains("rsync (4711)") && text.contains("while this node serves"), "{text}");
    looks(&mut w, &look(&[], &["lsyncd.service is inactive"]), 30);
    assert_eq!((told(&w, "sync-trouble"), told(&w, "sync-well")), (1, 1));
}
