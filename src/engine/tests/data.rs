//! A working directory that would not pass its gate: told once, with an end; what is under way only when it does not end.

use super::world::World;
use crate::engine::Event;
use crate::units::DataLook;
use crate::units::data::{Outcome, Reason, Weight};

fn look(w: &World, outcome: Outcome, weights: &[Weight]) -> DataLook {
    let reason = |weight: &Weight| Reason { weight: *weight, text: format!("seen {weight:?}"), todo: "mend it".into() };
    DataLook::bare(w.now.wall, outcome, weights.iter().map(reason).collect())
}

/// The world looks so many times, ten seconds apart.
fn looks(w: &mut World, outcome: Outcome, weights: &[Weight], times: u32) {
    for _ in 0..times {
        w.run_for(10);
        let look = look(w, outcome, weights);
        w.hear(Event::Data(Box::new(look)));
    }
}

fn told(w: &World, event: &str) -> usize {
    w.told.iter().filter(|told| told.starts_with(event)).count()
}

#[test]
fn what_is_broken_or_old_is_told_at_once_and_once_and_its_end_too() {
    for weight in [Weight::Broken, Weight::Stale] {
        let mut w = World::well();
        looks(&mut w, Outcome::GoWithWarning, &[weight, Weight::Warn], 1);
        assert_eq!(told(&w, "data-trouble"), 1);
        let first = w.told.iter().find(|told| told.starts_with("data-trouble")).expect("people are told");
        assert!(first.contains(&format!("seen {weight:?}")) && first.contains("mend it"), "{first}");
        assert!(!first.contains("seen Warn"), "{first}");
        looks(&mut w, Outcome::GoWithWarning, &[weight], 30);
        assert_eq!(w.engine.disarmed_because(), &[] as &[String], "older data is better than no telephone");
        assert!(w.engine.snapshot().data.expect("looked at").trouble_since.is_some());
        let explained = w.engine.explain();
        assert!(
            explained.inputs.iter().any(|line| line.contains("working directory: it would be loaded all the same"))
        );
        assert!(explained.hints.iter().any(|hint| hint.contains("mend it")), "{:?}", explained.hints);
        looks(&mut w, Outcome::Go, &[], 1);
        assert_eq!(told(&w, "data-well"), 0, "one look is not the end");
        looks(&mut w, Outcome::Go, &[], 30);
        assert_eq!((told(&w, "data-trouble"), told(&w, "data-well")), (1, 1));
        assert!(w.engine.snapshot().data.expect("looked at").trouble_since.is_none());
    }
}

#[test]
fn what_is_under_way_is_told_after_a_quarter_of_an_hour_and_not_where_it_ends() {
    let mut w = World::well();
    for _ in 0..20 {
        looks(&mut w, Outcome::Hold, &[Weight::UnderWay, Weight::Broken], 80);
        looks(&mut w, Outcome::Go, &[], 1);
    }
    assert_eq!((told(&w, "data-trouble"), told(&w, "disarmed")), (0, 0), "a sync at work is daily business");
    looks(&mut w, Outcome::GoWithWarning, &[Weight::UnderWay], 92);
    assert_eq!(told(&w, "data-trouble"), 1);
}

#[test]
fn a_warning_wakes_nobody() {
    let mut w = World::well();
    looks(&mut w, Outcome::GoWithWarning, &[Weight::Warn], 100);
    assert_eq!(told(&w, "data-trouble"), 0);
    assert!(w.engine.explain().inputs.iter().any(|line| line.contains("warning: seen Warn")));
}

#[test]
fn where_nothing_would_be_loaded_the_robot_disarms_until_the_data_passes() {
    let mut w = World::well();
    looks(&mut w, Outcome::Hold, &[Weight::Broken], 2);
    let armed = w.engine.disarmed_because().join(";");
    assert!(armed.contains("does not pass its gate: seen Broken"), "{armed}");
    assert_eq!((told(&w, "disarmed"), told(&w, "data-trouble")), (1, 0), "told once, as that");
    looks(&mut w, Outcome::Go, &[], 2);
    assert_eq!(w.engine.disarmed_because(), &[] as &[String]);
    assert_eq!((told(&w, "armed"), told(&w, "data-well")), (1, 0));
}

#[test]
fn a_restart_tells_nobody_twice() {
    let mut w = World::well();
    looks(&mut w, Outcome::GoWithWarning, &[Weight::Broken], 3);
    w.crash();
    looks(&mut w, Outcome::GoWithWarning, &[Weight::Broken], 3);
    assert_eq!(told(&w, "data-trouble"), 1);
    looks(&mut w, Outcome::Go, &[], 3);
    assert_eq!(told(&w, "data-well"), 1);
}
