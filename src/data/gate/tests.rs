//! What the gate says of surveys made by hand.

use super::*;
use crate::data::class::Class;
use crate::data::names::Tool;
use crate::data::survey::Fault;

const HOUR: i64 = 3600;

fn at(ago_s: i64) -> Timestamp {
    let now: Timestamp = "2026-11-26T03:00:00Z".parse().expect("a time");
    now.checked_sub(SignedDuration::from_secs(ago_s)).expect("in range")
}

fn place(path: &str) -> Place {
    Place { dir: 0, path: path.as_bytes().to_vec() }
}

fn rules(on_hold: OnHold) -> Rules {
    Rules {
        settle: Duration::from_secs(3),
        warn_age: Duration::from_secs(15 * 60),
        hold_age: Duration::from_secs(24 * 3600),
        on_hold,
        faults: vec![(Pattern::new("scratch/").expect("a pattern"), OnFault::Ignore)],
    }
}

/// Ten files of configuration, all of them whole, changed a minute ago.
fn whole() -> Survey {
    let mut survey = Survey::default();
    for n in 0..10 {
        let kept = Kept { size: 2000, changed: at(60), fault: None, ends_within_line: false };
        survey.count(Class::Config, kept.size);
        survey.keep(place(&format!("pjsip{n}.conf")), kept);
    }
    survey.change(at(60), at(60), || place("pjsip0.conf"));
    survey
}

fn judged(survey: &Survey, good: Option<&Survey>, on_hold: OnHold, snapshot: Snapshot) -> Report {
    judge(
        survey,
        &rules(on_hold),
        &Around {
            now: at(0),
            good,
            lost_since: None,
            beat: None,
            snapshot,
            dump: None,
            patience: Patience::Watching,
            vouch: None,
        },
    )
}

fn outcomes(survey: &Survey) -> [Outcome; 4] {
    let good = whole();
    let cases = [
        (OnHold::LastGood, Snapshot::Kept),
        (OnHold::LastGood, Snapshot::None),
        (OnHold::Hold, Snapshot::Kept),
        (OnHold::Go, Snapshot::Kept),
    ];
    cases.map(|(on_hold, snapshot)| judged(survey, Some(&good), on_hold, snapshot).outcome)
}

#[test]
fn what_is_whole_and_young_goes() {
    let report = judged(&whole(), Some(&whole()), OnHold::Hold, Snapshot::None);
    assert_eq!((report.outcome, report.because().as_str()), (Outcome::Go, ""));
    assert!(report.is_good());
    assert_eq!(judged(&whole(), None, OnHold::Hold, Snapshot::None).outcome, Outcome::Go, "the first look ever");
}

/// A whole survey with one file changed.
fn with(path: &str, kept: Kept) -> Survey {
    let mut survey = whole();
    survey.kept.insert(place(path), kept);
    survey
}

#[test]
fn a_file_that_was_just_emptied_cut_or_broken_holds_and_the_last_good_one_cures_it() {
    use Outcome::{GoWithWarning, Hold, LastGood};
    let young = Kept { size: 2000, changed: at(60), fault: None, ends_within_line: false };
    for (kept, said) in [
        (Kept { fault: Some(Fault::Empty), size: 0, ..young.clone() }, "pjsip3.conf is empty"),
        (Kept { fault: Some(Fault::Nul), ..young.clone() }, "pjsip3.conf is filled with NUL bytes"),
        (Kept { fault: Some(Fault::Malformed("line 3: no =".into())), ..young.clone() }, "cannot be read: line 3"),
        (Kept { size: 1000, ..young.clone() }, "has shrunk from 2000 to 1000 bytes"),
        (Kept { size: 1900, ends_within_line: true, ..young.clone() }, "ends within a line"),
    ] {
        let survey = with("pjsip3.conf", kept.clone());
        assert_eq!(outcomes(&survey), [LastGood, GoWithWarning, Hold, GoWithWarning], "{said}");
        let report = judged(&survey, Some(&whole()), OnHold::LastGood, Snapshot::Kept);
        assert!(report.because().contains(said), "{}", report.because());
        assert!(!report.is_good(), "no snapshot of that is a good one");
        // It stood so before, or for so long that it is meant.
        let again = judged(&survey, Some(&survey), OnHold::Hold, Snapshot::Kept);
        assert!(matches!(again.outcome, Outcome::Go | GoWithWarning), "{said}: {again:?}");
        let old = with("pjsip3.conf", Kept { changed: at(2 * HOUR), ..kept });
        assert_eq!(judged(&old, Some(&whole()), OnHold::Hold, Snapshot::Kept).outcome, GoWithWarning, "{said}");
    }
}

#[test]
fn a_file_that_was_always_empty_is_no_fault_and_at_the_first_look_nothing_holds() {
    let empty = Kept { size: 0, changed: at(60), fault: Some(Fault::Empty), ends_within_line: false };
    let survey = with("custom.conf", empty);
    for good in [None, Some(whole())] {
        let report = judged(&survey, good.as_ref(), OnHold::Hold, Snapshot::None);
        assert_eq!(report.outcome, Outcome::Go, "made empty, to be filled one day");
    }
    let nul = Kept { size: 9, changed: at(60), fault: Some(Fault::Nul), ends_within_line: false };
    let survey = with("new.conf", nul);
    assert_eq!(judged(&survey, None, OnHold::Hold, Snapshot::None).outcome, Outcome::GoWithWarning);
    assert_eq!(judged(&survey, Some(&whole()), OnHold::Hold, Snapshot::None).outcome, Outcome::Hold);
}

#[test]
fn a_rule_for_a_path_comes_before_what_is_usual() {
    let nul = Kept { size: 9, changed: at(60), fault: Some(Fault::Nul), ends_within_line: false };
    assert_eq!(outcomes(&with("scratch/a.conf", nul)), [Outcome::Go; 4]);
}

#[test]
fn files_that_vanish_hold_and_a_few_do_not() {
    let mut survey = whole();
    survey.kept.pop_first();
    survey.kept.pop_first();
    assert_eq!(outcomes(&survey)[2], Outcome::Go, "8 of 10");
    survey.kept.pop_first();
    assert_eq!(outcomes(&survey)[2], Outcome::Hold, "7 of 10");
    let because = judged(&survey, Some(&whole()), OnHold::Hold, Snapshot::Kept).because();
    assert!(because.starts_with("7 files of configuration where there were 10; gone: pjsip0.conf"), "{because}");
    assert_eq!(outcomes(&Survey::default())[0], Outcome::LastGood, "an empty directory");
    let good = whole();
    let since = |ago| Around {
        now: at(0),
        good: Some(&good),
        lost_since: Some(at(ago)),
        beat: None,
        snapshot: Snapshot::None,
        dump: None,
        patience: Patience::Watching,
        vouch: None,
    };
    assert_eq!(judge(&survey, &rules(OnHold::Hold), &since(60)).outcome, Outcome::Hold);
    let report = judge(&survey, &rules(OnHold::Hold), &since(2 * HOUR));
    assert!(report.outcome == Outcome::GoWithWarning && report.is_good(), "it is meant: {report:?}");
}

#[test]
fn a_sync_under_way_is_waited_for_and_one_that_died_is_a_warning() {
    let mut survey = whole();
    survey.writing(place(".pjsip0.conf.aB3xYz"), Tool::Rsync, at(2));
    let report = judged(&survey, Some(&whole()), OnHold::LastGood, Snapshot::Kept);
    assert!(report.is_under_way() && report.because() == "rsync is writing: .pjsip0.conf.aB3xYz", "{report:?}");
    assert_eq!(report.outcome, Outcome::LastGood);
    let mut survey = whole();
    survey.writing(place(".pjsip0.conf.aB3xYz"), Tool::Rsync, at(2 * HOUR));
    let report = judged(&survey, Some(&whole()), OnHold::Hold, Snapshot::Kept);
    assert!(!report.is_under_way() && report.outcome == Outcome::GoWithWarning, "{report:?}");
    let mut survey = whole();
    survey.change(at(60), at(1), || place("pjsip9.conf"));
    assert!(judged(&survey, Some(&whole()), OnHold::Hold, Snapshot::Kept).is_under_way(), "not settled");
    survey.change(at(60), at(-30), || place("pjsip9.conf"));
    assert!(
        judged(&survey, Some(&whole()), OnHold::Hold, Snapshot::Kept).is_under_way(),
        "a little ahead of our clock"
    );
    survey.change(at(60), at(-HOUR), || place("pjsip9.conf"));
    let report = judged(&survey, Some(&whole()), OnHold::Hold, Snapshot::Kept);
    assert!(!report.is_under_way() && report.because().contains("60 min from now"), "another clock: {report:?}");
}

#[test]
fn old_data_is_no_reason_for_older_data() {
    use Outcome::{GoWithWarning, Hold};
    let old = |ago| {
        let mut survey = whole();
        survey.newest = Some((at(ago), place("pjsip0.conf")));
        survey
    };
    assert_eq!(outcomes(&old(25 * HOUR)), [GoWithWarning; 4], "without a heartbeat a quiet weekend looks the same");
    assert_eq!(outcomes(&old(HOUR)), [Outcome::Go; 4]);
    let stale = |on_hold, snapshot| {
        let around = Around {
            now: at(0),
            good: None,
            lost_since: None,
            beat: Some(at(25 * HOUR)),
            snapshot,
            dump: None,
            patience: Patience::Watching,
            vouch: None,
        };
        judge(&whole(), &rules(on_hold), &around).outcome
    };
    assert_eq!(stale(OnHold::LastGood, Snapshot::Kept), GoWithWarning, "an older copy is no younger");
    // What the primary wrote a minute ago has come: then an old change is only a quiet night.
    let around = Around {
        now: at(0),
        good: None,
        lost_since: None,
        beat: Some(at(60)),
        snapshot: Snapshot::None,
        dump: None,
        patience: Patience::Watching,
        vouch: None,
    };
    assert_eq!(judge(&old(25 * HOUR), &rules(OnHold::Hold), &around).outcome, Outcome::Go);
    let around = Around { beat: Some(at(25 * HOUR)), ..around };
    let report = judge(&whole(), &rules(OnHold::Hold), &around);
    assert_eq!(report.outcome, Hold);
    assert!(report.because().contains("newest heartbeat is 25 h old (sync.max_age.hold)"), "{report:?}");
}

#[test]
fn conflicts_troubles_and_links_are_said_with_one_name_and_a_number() {
    let mut survey = whole();
    for n in 0..30 {
        survey.conflicts.add((place(&format!("a.sync-conflict-{n}")), Tool::Syncthing));
    }
    survey.troubles.add((place(""), "No such file".to_owned()));
    survey.links_out.add(place("etc"));
    let report = judged(&survey, Some(&whole()), OnHold::Hold, Snapshot::None);
    assert_eq!(report.outcome, Outcome::GoWithWarning);
    let because = report.because();
    assert!(because.contains("Syncthing kept both: a.sync-conflict-0 and 29 more"), "{because}");
    assert!(because.contains("not looked at: a working directory (No such file)"), "{because}");
}

/// Judged beside what the primary vouches for; its newest beat is so many seconds old.
fn beside(survey: &Survey, likeness: Likeness, beat: i64, on_hold: OnHold, snapshot: Snapshot) -> Report {
    let good = whole();
    let seen = TreeSeen { node: "pbx-a".parse().expect("a name"), likeness };
    let vouch = Some(Vouch { seen: &seen, fresh: Duration::from_secs(120) });
    let around = Around {
        now: at(0),
        good: Some(&good),
        lost_since: None,
        beat: Some(at(beat)),
        snapshot,
        dump: None,
        patience: Patience::Watching,
        vouch,
    };
    judge(survey, &rules(on_hold), &around)
}

#[test]
fn what_the_primary_never_had_is_waited_for_while_it_beats_and_broken_when_nothing_more_comes() {
    use Outcome::{GoWithWarning, Hold, LastGood};
    let mixed = |since| Likeness::Unequal { since: at(since) };
    let under_way = beside(&whole(), mixed(5), 12, OnHold::LastGood, Snapshot::Kept);
    assert!(under_way.is_under_way() && !under_way.is_good(), "{under_way:?}");
    assert!(under_way.because().contains("as no state that pbx-a vouched for, for 5 s"), "{under_way:?}");
    let broken = beside(&whole(), mixed(5), 130, OnHold::LastGood, Snapshot::Kept);
    assert!(!broken.is_under_way() && !broken.is_good() && broken.outcome == LastGood, "{broken:?}");
    assert_eq!(broken.reasons[0].weight, Weight::Broken);
    for (on_hold, snapshot, outcome) in [
        (OnHold::LastGood, Snapshot::None, GoWithWarning),
        (OnHold::Hold, Snapshot::Kept, Hold),
        (OnHold::Go, Snapshot::Kept, GoWithWarning),
    ] {
        assert_eq!(beside(&whole(), mixed(5), 130, on_hold, snapshot).outcome, outcome);
        assert_eq!(beside(&whole(), mixed(5), 12, on_hold, snapshot).outcome, outcome, "where it does not end");
    }
    let meant = beside(&whole(), mixed(HOUR), 12, OnHold::Hold, Snapshot::Kept);
    assert!(meant.outcome == GoWithWarning && meant.is_good(), "the sync lives and leaves it so: {meant:?}");
    let dead = beside(&whole(), mixed(HOUR), 130, OnHold::Hold, Snapshot::Kept);
    assert_eq!(dead.outcome, Hold, "a sync that died an hour ago has not meant it");
    let stood = beside(&whole(), mixed(3 * HOUR), HOUR, OnHold::Hold, Snapshot::Kept);
    assert!(stood.outcome == GoWithWarning && stood.is_good(), "it was meant while the primary lived: {stood:?}");
    assert!(stood.because().contains("for 2 h with the sync alive"), "{stood:?}");
}

#[test]
fn what_the_primary_had_or_cannot_be_compared_has_no_weight() {
    for likeness in [Likeness::Equal { at: at(3600) }, Likeness::NeverEqual, Likeness::OtherRules] {
        let report = beside(&whole(), likeness, 12, OnHold::Hold, Snapshot::None);
        assert_eq!((report.outcome, report.because().as_str()), (Outcome::Go, ""));
    }
}

#[test]
fn a_leftover_beside_files_that_are_vouched_for_holds_up_no_takeover() {
    let mut survey = whole();
    survey.writing(place(".msg0000.wav.aB3xYz"), Tool::Rsync, at(15));
    let equal = beside(&survey, Likeness::Equal { at: at(60) }, 12, OnHold::Hold, Snapshot::None);
    assert!(!equal.is_under_way() && equal.outcome == Outcome::GoWithWarning, "{equal:?}");
    assert!(beside(&survey, Likeness::NeverEqual, 12, OnHold::Hold, Snapshot::None).is_under_way());
    let mut survey = whole();
    survey.writing(place(".msg0000.wav.aB3xYz"), Tool::Rsync, at(2));
    let equal = beside(&survey, Likeness::Equal { at: at(60) }, 12, OnHold::LastGood, Snapshot::Kept);
    assert!(equal.is_under_way(), "waited for: {equal:?}");
    assert_eq!(equal.outcome, Outcome::GoWithWarning, "no older configuration is better than what is vouched for");
    let hold = beside(&survey, Likeness::Equal { at: at(60) }, 12, OnHold::Hold, Snapshot::None);
    assert_eq!(hold.outcome, Outcome::GoWithWarning);
}

#[test]
fn a_sync_that_died_with_the_primary_is_not_waited_for_in_a_takeover_and_what_it_left_is_broken() {
    let at_takeover = |ago, on_hold, snapshot| {
        let mut survey = whole();
        survey.writing(place(".pjsip.conf.aB3xYz"), Tool::Rsync, at(ago));
        let (good, patience) = (whole(), Patience::TakingOver);
        let around = Around {
            now: at(0),
            good: Some(&good),
            lost_since: None,
            beat: None,
            snapshot,
            dump: None,
            patience,
            vouch: None,
        };
        judge(&survey, &rules(on_hold), &around)
    };
    assert!(at_takeover(2, OnHold::LastGood, Snapshot::Kept).is_under_way());
    let off = at_takeover(15, OnHold::LastGood, Snapshot::Kept);
    assert!(!off.is_under_way() && off.outcome == Outcome::LastGood, "{off:?}");
    assert!(off.because().contains("rsync broke off 15 s ago: .pjsip.conf.aB3xYz"), "{}", off.because());
    assert_eq!(at_takeover(15, OnHold::Hold, Snapshot::Kept).outcome, Outcome::Hold);
    assert_eq!(at_takeover(700, OnHold::Hold, Snapshot::Kept).outcome, Outcome::GoWithWarning, "a leftover");
}

#[test]
fn that_more_files_lie_there_than_are_looked_into_is_said() {
    let mut survey = whole();
    survey.not_kept = 7;
    let report = judged(&survey, None, OnHold::Hold, Snapshot::None);
    assert_eq!(report.outcome, Outcome::GoWithWarning);
    assert!(report.because().contains("the first 10 are looked into, 7 more are not"), "{report:?}");
}

#[test]
fn half_of_a_snapshot_is_as_broken_as_a_file_that_was_cut() {
    let half = |weight, on_hold, snapshot| {
        let report = judged(&whole(), Some(&whole()), on_hold, snapshot);
        with_half(report, Some((weight, "a restore of good-1 is half done".to_owned())), on_hold, snapshot)
    };
    let cured = half(Weight::Broken, OnHold::LastGood, Snapshot::Kept);
    assert!(cured.outcome == Outcome::LastGood && !cured.is_good(), "{cured:?}");
    assert_eq!(half(Weight::Broken, OnHold::LastGood, Snapshot::None).outcome, Outcome::GoWithWarning);
    assert_eq!(half(Weight::Broken, OnHold::Hold, Snapshot::Kept).outcome, Outcome::Hold);
    let at_work = half(Weight::UnderWay, OnHold::LastGood, Snapshot::Kept);
    assert!(at_work.is_under_way() && !at_work.is_good(), "{at_work:?}");
}
