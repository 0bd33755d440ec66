//! What is vouched for, and how a tree is compared with it.

use super::*;

fn at(s: i64) -> Timestamp {
    let start: Timestamp = "2026-11-26T03:00:00Z".parse().expect("a time");
    start.checked_add(SignedDuration::from_secs(s)).expect("in range")
}

/// A tree of one file of this content.
fn tree(text: &str) -> Tree {
    let mut hasher = TreeHasher::default();
    hasher.add(0, b"a.conf", &content(text.len() as u64, text.as_bytes()));
    hasher.end()
}

const SETTLE: Duration = Duration::from_secs(3);

#[test]
fn no_two_lists_of_files_have_one_digest() {
    let of = |files: &[(usize, &str, &str)]| {
        let mut hasher = TreeHasher::default();
        for (dir, path, text) in files {
            hasher.add(*dir, path.as_bytes(), &content(1, text.as_bytes()));
        }
        hasher.end().digest
    };
    let all = [
        of(&[]),
        of(&[(0, "a", "x")]),
        of(&[(1, "a", "x")]),
        of(&[(0, "b", "x")]),
        of(&[(0, "a", "y")]),
        of(&[(0, "a", "x"), (0, "b", "x")]),
        of(&[(0, "ab", "x")]),
    ];
    let different: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len());
    assert_ne!(content(5, b"x"), content(6, b"x"), "files that begin alike");
}

#[test]
fn nobody_vouches_for_a_tree_that_changes() {
    let mut voucher = Voucher::new("r".into());
    let (one, two) = (tree("1"), tree("2"));
    assert_eq!(voucher.seen(Some(&one), Some(at(0)), SETTLE, at(1)), Vouched::NotYet, "one look proves nothing");
    assert_eq!(voucher.seen(Some(&one), Some(at(0)), SETTLE, at(2)), Vouched::NotYet, "written a moment ago");
    assert_eq!(voucher.told(), None);
    assert_eq!(voucher.seen(Some(&one), Some(at(0)), SETTLE, at(4)), Vouched::News);
    let told = voucher.told().expect("told");
    assert_eq!((told.states[0].at, told.states.len()), (at(2), 1), "of the moment between the two looks");
    assert_eq!(voucher.seen(Some(&two), Some(at(5)), SETTLE, at(9)), Vouched::NotYet);
    assert_eq!(voucher.seen(None, Some(at(5)), SETTLE, at(10)), Vouched::NotYet, "not all could be read");
    assert_eq!(voucher.told(), None, "what it had before is no news of what it has");
    assert_eq!(voucher.seen(Some(&two), Some(at(5)), SETTLE, at(11)), Vouched::NotYet);
    assert_eq!(
        voucher.seen(Some(&two), Some(at(900)), SETTLE, at(12)),
        Vouched::News,
        "another clock's time says nothing"
    );
    assert_eq!(voucher.seen(Some(&two), Some(at(5)), SETTLE, at(20)), Vouched::Again);
    let told = voucher.told().expect("told");
    assert_eq!((told.states.len(), told.states[0].at, told.states[1].at), (2, at(12), at(2)));
    for n in 0..20 {
        let tree = tree(&format!("more {n}"));
        voucher.seen(Some(&tree), None, SETTLE, at(30 + n));
        voucher.seen(Some(&tree), None, SETTLE, at(31 + n));
    }
    assert_eq!(voucher.told().map(|told| told.states.len()), Some(STATES_MAX));
}

fn told(states: &[(i64, &str)]) -> TreeTold {
    let state = |(s, text): &(i64, &str)| TreeState { at: at(*s), files: 1, digest: tree(text).digest };
    TreeTold { rules: "r".into(), states: states.iter().map(state).collect() }
}

#[test]
fn any_state_that_was_vouched_for_is_equal_and_a_difference_counts_only_after_that() {
    let mut known = Known::new("r".into());
    let seen = |known: &mut Known, text: &str, s| known.compare(Some(&tree(text)), at(s)).0;
    assert_eq!(seen(&mut known, "1", 0), None, "nobody vouches");
    assert_eq!(known.hear(at(1), Some(&told(&[(0, "1")]))), News::Some);
    assert_eq!(known.hear(at(2), Some(&told(&[(1, "1")]))), News::None, "the same state");
    assert_eq!(seen(&mut known, "x", 3), Some(Likeness::NeverEqual));
    assert_eq!(known.compare(Some(&tree("1")), at(4)), (Some(Likeness::Equal { at: at(1) }), News::Some));
    assert_eq!(known.compare(Some(&tree("1")), at(5)), (Some(Likeness::Equal { at: at(1) }), News::None));
    assert_eq!(seen(&mut known, "2", 6), Some(Likeness::Unequal { since: at(6) }));
    assert_eq!(seen(&mut known, "2", 7), Some(Likeness::Unequal { since: at(6) }));
    assert_eq!(seen(&mut known, "half 2", 8), Some(Likeness::Unequal { since: at(6) }), "changed, and no nearer");
    known.hear(at(9), Some(&told(&[(8, "3"), (7, "2")])));
    assert_eq!(seen(&mut known, "2", 10), Some(Likeness::Equal { at: at(7) }), "one that the beat only names");
    assert_eq!(seen(&mut known, "1", 10), Some(Likeness::Equal { at: at(1) }), "an earlier beat's");
    assert_eq!(known.compare(None, at(11)).0, None, "not all could be read");
    // Over a restart.
    let kept = serde_json::to_string(&known).expect("text");
    let mut again: Known = serde_json::from_str(&kept).expect("read");
    assert!(again.is_about("r") && !again.is_about("s"));
    assert_eq!(again.compare(Some(&tree("x")), at(12)), (Some(Likeness::Unequal { since: at(12) }), News::Some));
    let kept = serde_json::to_string(&again).expect("text");
    let mut again: Known = serde_json::from_str(&kept).expect("read");
    assert_eq!(again.compare(Some(&tree("x")), at(99)), (Some(Likeness::Unequal { since: at(12) }), News::None));
    assert_eq!(again.compare(Some(&tree("1")), at(100)).1, News::Some, "equal again");
}

#[test]
fn who_looks_by_other_rules_or_does_not_vouch_any_more_is_no_measure() {
    let mut known = Known::new("r".into());
    known.hear(at(1), Some(&told(&[(0, "1")])));
    known.compare(Some(&tree("1")), at(1));
    known.hear(at(60), None);
    assert!(matches!(known.compare(Some(&tree("2")), at(61)).0, Some(Likeness::Unequal { .. })), "it has just started");
    let others = TreeTold { rules: "s".into(), ..told(&[(70, "1")]) };
    assert_eq!((known.hear(at(70), Some(&others)), known.hear(at(71), Some(&others))), (News::Some, News::None));
    assert_eq!(known.compare(Some(&tree("1")), at(72)).0, Some(Likeness::OtherRules));
    known.hear(at(80), Some(&told(&[(79, "1")])));
    assert_eq!(known.compare(Some(&tree("2")), at(81)).0, Some(Likeness::NeverEqual), "begun anew");
    assert_eq!(known.hear(at(81 + 301), None), News::Some);
    assert_eq!(known.compare(Some(&tree("2")), at(400)).0, None);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut known = Known::new("r".into());
    for n in 0..1000 {
        known.hear(at(n), Some(&told(&[(n, &n.to_string())])));
    }
    assert_eq!((known.states.len(), known.states[0].at), (KNOWN_MAX, at(999)));
}
