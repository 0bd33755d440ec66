//! The rules of what is kept, without a disk.

use proptest::prelude::*;

use super::super::manifest;
use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + seconds).expect("a time")
}

fn kept(kind: Kind, seconds: i64) -> Kept {
    Kept { id: format!("{}-{seconds}", kind.name()), kind, at: at(seconds) }
}

fn takeover(n: u32) -> Kind {
    Kind::Takeover(format!("P{n}"))
}

#[test]
fn the_oldest_go_and_never_the_newest_good_one_nor_what_may_be_the_only_copy() {
    let mut all: Vec<_> = (0..4).map(|n| kept(Kind::LastGood, n)).collect();
    all.extend([
        kept(takeover(1), 1),
        kept(takeover(2), 2),
        kept(Kind::BeforeRestore, 0),
        kept(Kind::BeforeRestore, 1),
    ]);
    assert_eq!(outdated(&all, 3, &[]), ["last-good-0"]);
    assert_eq!(outdated(&all, 100, &[]), [] as [&str; 0]);
    assert_eq!(outdated(&all, 0, &[]).len(), all.len() - 2, "none are kept, but what a service or a person may need");
    assert!(["takeover-2", "before-restore-1"].iter().all(|id| !outdated(&all, 0, &[]).contains(&(*id).to_owned())));
    let mut gone = Vec::new();
    let needed = ["takeover-1", "last-good-0"].map(str::to_owned);
    assert_eq!(outdated(&all, 3, &needed), [] as [&str; 0], "what a note names is needed");
    assert!(outdated(&all, 1, &[]).contains(&needed[0]) && !outdated(&all, 1, &needed).contains(&needed[0]));
    assert_eq!(goes_next(&all, &["before-restore-0".to_owned(), needed[1].clone()]), Some("last-good-1"));
    while let Some(next) = goes_next(&all, &[]).map(str::to_owned) {
        all.retain(|kept| kept.id != next);
        gone.push(next);
    }
    assert_eq!(gone, ["before-restore-0", "last-good-0", "last-good-1", "takeover-1", "last-good-2"]);
}

#[test]
fn what_does_not_change_gets_no_second_snapshot_and_what_does_soon_enough() {
    let measure = |config: &str, other: &str, live: &str| {
        let [config, other, live] = [config, other, live].map(str::to_owned);
        Measure { config, other, live, files: 1, bytes: 1 }
    };
    let old = measure("a", "b", "c");
    let due = |new: &Measure, age| is_due(new, Some((&old, at(0))), at(age));
    assert!(is_due(&old, None, at(0)));
    assert!(!due(&old, 1_000_000));
    let config = measure("x", "b", "c");
    assert!(!due(&config, 59) && due(&config, 60) && due(&config, -60), "also after the clock was set back");
    for other in [measure("a", "x", "c"), measure("a", "b", "x")] {
        assert!(!due(&other, 3599) && due(&other, 3600));
    }
}

#[test]
fn voicemail_recordings_and_call_records_are_listed_and_what_is_too_large_is_left_out() {
    assert_eq!(is_copied(Class::Config, FILE_MAX), Copied::Yes);
    assert_eq!(is_copied(Class::Other, FILE_MAX + 1), Copied::TooLarge);
    for class in [Class::Voicemail, Class::Recording, Class::Cdr] {
        assert_eq!(is_copied(class, 1), Copied::Listed);
    }
    assert!(is_database(b"db/astdb.sqlite3-wal") && is_database(b"core.db") && !is_database(b"a.dbx"));
}

#[test]
fn a_measure_differs_whenever_anything_does_but_a_database_is_no_other_moment() {
    let about = About { kind: manifest::Kind::File, size: 1, modified: (1, 2), mode: 0o644 };
    let base = Seen { dir: 0, path: b"a.conf", about, ino: 1, changed: (3, 4) };
    let of = |class, seen: Seen<'_>| {
        let mut measuring = Measuring::default();
        measuring.add(class, seen);
        measuring.end()
    };
    let one = of(Class::Config, base);
    for other in [
        Seen { dir: 1, ..base },
        Seen { path: b"b.conf", ..base },
        Seen { ino: 2, ..base },
        Seen { changed: (3, 5), ..base },
        Seen { about: About { size: 2, ..about }, ..base },
        Seen { about: About { modified: (1, 3), ..about }, ..base },
        Seen { about: About { mode: 0o600, ..about }, ..base },
    ] {
        assert!(!one.is_same_moment(&of(Class::Config, other)), "{other:?}");
    }
    let database = Seen { path: b"astdb.sqlite3", ..base };
    let (one, two) = (of(Class::Other, database), of(Class::Other, Seen { ino: 2, ..database }));
    assert!(one.is_same_moment(&two) && one != two);
    assert_eq!(of(Class::Voicemail, base).files, 0, "no voicemail is waited for");
}

#[test]
fn a_path_that_leads_out_is_refused() {
    assert_eq!(asked(b"./etc/pjsip.conf/"), Ok(b"etc/pjsip.conf".to_vec()));
    for bad in [&b""[..], b"/etc/passwd", b"..", b"a/../../b", b"a//b", b"."] {
        assert!(asked(bad).is_err(), "{bad:?}");
    }
    let only = [b"etc".to_vec()];
    assert!(is_asked(b"etc/a", &only) && is_asked(b"etc", &only) && !is_asked(b"etcetera", &only));
    assert!(is_asked(b"anything", &[]));
    assert!(is_id("good-20261126T030000Z") && !is_id("../x") && !is_id(".taking") && !is_id("") && !is_id("a/b"));
}

proptest! {
    #[test]
    fn a_list_is_read_back_whatever_the_names(
        path in proptest::collection::vec(any::<u8>(), 1..40), dir in proptest::collection::vec(any::<u8>(), 0..40),
        reason in proptest::option::of(".{1,40}"), owner: (u32, u32), ino: u64, seconds: i64, nanos in 0..1_000_000_000_u32,
    ) {
        let head = Head { kind: takeover(1), at: at(0), dirs: vec![dir, b"/b".to_vec()], reason };
        prop_assert_eq!(Head::read(head.write().split('\n')), Some(head));
        let about = About { kind: manifest::Kind::Link, size: 5, modified: (seconds, nanos), mode: 0o777 };
        let line = Line { dir: 1, path, about, digest: Some(shown(b"to c%")) };
        let item = Item { owner, stamp: (ino, (seconds, nanos)), line };
        prop_assert_eq!(Item::read(item.write().trim_end_matches('\n')), Ok(item));
    }

    #[test]
    fn no_text_makes_it_panic(text: String) {
        let _ = (Item::read(&text), Foot::read(&text), Head::read(text.split('\n')), asked(text.as_bytes()));
    }
}

#[test]
fn an_end_that_was_cut_anywhere_is_none() {
    let hex = "a".repeat(64);
    let measure = Measure { config: hex.clone(), other: hex.clone(), live: hex.clone(), files: 3, bytes: 4 };
    let foot = Foot { entries: 1, left_out: 2, measure };
    let line = foot.write(&hex);
    assert_eq!(Foot::read(line.trim_end()), Some((foot, hex)));
    for cut in 0..line.len() - 1 {
        assert_eq!(Foot::read(&line[..cut]), None, "{cut}");
    }
}
