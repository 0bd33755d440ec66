//! The ledger on a real disk.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::data::Classes;

struct Rig {
    dir: tempfile::TempDir,
}

fn now() -> Timestamp {
    "2026-11-26T20:00:00Z".parse().expect("a time")
}

impl Rig {
    fn new(files: &[(&str, &str)]) -> Self {
        let rig = Self { dir: tempfile::tempdir().expect("directory") };
        fs::create_dir(rig.dir.path().join("work")).expect("directory");
        for (path, text) in files {
            rig.write(path, text);
        }
        rig
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join("work").join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
        fs::write(path, text).expect("file");
    }

    fn ledger(&self) -> Ledger {
        let subject =
            Subject { dirs: vec![self.dir.path().join("work")], classes: Classes::default(), ignore: Vec::new() };
        let state = self.dir.path();
        Ledger { dir: state.join("ledger"), archive: state.join("ledger.last"), subject }
    }

    fn entries(&self) -> Vec<Entry> {
        self.ledger().entries().expect("a list").collect::<Result<_, _>>().expect("whole")
    }

    fn names(&self) -> Vec<String> {
        let name = |entry: &Entry| format!("{} {} {}", entry.name(), entry.class, shown(&entry.now.line.path));
        self.entries().iter().map(name).collect()
    }
}

#[test]
fn what_is_added_changed_and_removed_since_is_listed_and_outlives_the_process() {
    let rig = Rig::new(&[("a.conf", "1"), ("b/voicemail/x", "1"), ("cdr/Master.csv", "1\n"), ("old", "1")]);
    assert_eq!(rig.ledger().begin("one", now()), Ok(Begun::Taken(4, 0)));
    rig.write("b/voicemail/new.wav", "RIFF");
    rig.write("cdr/Master.csv", "1\n2\n");
    rig.write(".pjsip.conf.aB3xYz", "of rsync");
    fs::remove_file(rig.dir.path().join("work/old")).expect("removed");
    let told = rig.ledger().look(now()).expect("looked").expect("a ledger");
    assert_eq!(rig.names(), ["added voicemail b/voicemail/new.wav", "changed cdr cdr/Master.csv", "removed other old"]);
    assert_eq!((told.files, told.bytes, told.removed), (2, 8, 1));
    assert_eq!(rig.ledger().told(), Ok(Some(told)), "also for another process");
}

#[test]
fn what_was_carried_is_no_more_in_it_until_it_changes_again() {
    let rig = Rig::new(&[("a", "1"), ("c", "1")]);
    rig.ledger().begin("one", now()).expect("begun");
    for (path, text) in [("a", "22"), ("b", "22"), ("d", "22")] {
        rig.write(path, text);
    }
    rig.ledger().look(now()).expect("looked");
    let carried: Vec<_> = rig.entries().into_iter().filter(|entry| entry.now.line.path != b"d").collect();
    let beside = vec![(carried[0].clone(), b"a.from-pbx-b".to_vec())];
    let told = rig.ledger().settle(&carried, &beside, Some(7)).expect("settled");
    assert_eq!((told.files, told.carried_files, told.carried_bytes, told.kept_twice), (1, 2, 4, 1));
    assert_eq!(rig.names(), ["added other d"]);
    assert_eq!(rig.ledger().look(now()).expect("looked").expect("a ledger").files, 1);
    rig.write("b", "333");
    rig.ledger().look(now()).expect("looked");
    assert_eq!(rig.names(), ["changed other b", "added other d"]);
    assert!(rig.ledger().twice()[0].ends_with("work/a -> a.from-pbx-b"), "{:?}", rig.ledger().twice());
}

#[test]
fn a_service_that_was_taken_back_goes_on_with_its_ledger() {
    let rig = Rig::new(&[("a", "1")]);
    rig.ledger().begin("one", now()).expect("begun");
    rig.write("b", "1");
    assert_eq!(rig.ledger().begin("one", now()), Ok(Begun::Taken(2, 0)), "tried again before anything was loaded");
    rig.write("c", "1");
    rig.ledger().look(now()).expect("looked");
    assert_eq!(rig.ledger().begin("two", now()), Ok(Begun::GoesOn));
    rig.ledger().look(now()).expect("looked");
    assert_eq!(rig.names(), ["added other c"]);
}

#[test]
fn what_an_earlier_service_left_waits_in_the_next_ledger_unless_the_sync_has_replaced_it() {
    let rig = Rig::new(&[("a", "1"), ("b", "1")]);
    rig.ledger().begin("one", now()).expect("begun");
    for (path, text) in [("a", "22"), ("b", "22"), ("big.wav", "22"), ("gone", "22")] {
        rig.write(path, text);
    }
    rig.ledger().look(now()).expect("looked");
    rig.ledger().mark(Phase::Home, None).expect("marked");
    rig.write("b", "from home");
    rig.write("new", "from home");
    fs::remove_file(rig.dir.path().join("work/gone")).expect("removed");
    assert_eq!(rig.ledger().begin("two", now()), Ok(Begun::Taken(3, 2)), "a as it was, b, new");
    assert_eq!(rig.ledger().begin("two", now()), Ok(Begun::Taken(3, 2)), "tried again");
    rig.ledger().look(now()).expect("looked");
    assert_eq!(rig.names(), ["changed other a", "added other big.wav"]);
    let Change::Changed(was) = &rig.entries()[0].change else { panic!("changed") };
    assert_eq!(was.line.about.size, 1, "what home has is what both had at first");
}

#[test]
fn a_configuration_that_was_rewritten_with_its_date_kept_is_a_change_and_a_new_link_to_it_is_none() {
    let rig = Rig::new(&[("a.conf", "one"), ("b.conf", "one")]);
    rig.ledger().begin("one", now()).expect("begun");
    let file = rig.dir.path().join("work/a.conf");
    let date = fs::metadata(&file).and_then(|about| about.modified()).expect("a date");
    fs::write(&file, "two").expect("written");
    fs::File::options().append(true).open(&file).and_then(|file| file.set_modified(date)).expect("dated");
    fs::hard_link(rig.dir.path().join("work/b.conf"), rig.dir.path().join("link")).expect("a link");
    rig.ledger().look(now()).expect("looked");
    assert_eq!(rig.names(), ["changed config a.conf"]);
}

#[test]
fn what_cannot_be_looked_through_does_not_count_as_removed() {
    let rig = Rig::new(&[("a", "1"), ("b", "1")]);
    rig.ledger().begin("one", now()).expect("begun");
    fs::rename(rig.dir.path().join("work"), rig.dir.path().join("elsewhere")).expect("moved away");
    let told = rig.ledger().look(now()).expect("looked").expect("a ledger");
    assert_eq!((told.files, told.removed), (0, 0));
    assert!(told.trouble.is_some_and(|why| why.starts_with("not looked through: ")));
}

#[test]
fn one_that_ended_can_be_asked_until_the_next_has_ended() {
    let rig = Rig::new(&[("a", "1")]);
    rig.ledger().begin("one", now()).expect("begun");
    rig.write("b", "1");
    rig.ledger().look(now()).expect("looked");
    rig.ledger().end().expect("ended");
    assert_eq!(rig.ledger().told(), Ok(None));
    assert!(rig.ledger().last_told().expect("told").is_some_and(|told| told.ended && told.service == "one"));
    assert_eq!(rig.ledger().last_entries().expect("a list").count(), 1);
    rig.ledger().begin("two", now()).expect("begun");
    rig.ledger().end().expect("ended");
    assert!(rig.ledger().last_told().expect("told").is_some_and(|told| told.service == "two"));
}

#[test]
fn a_list_that_was_cut_is_said_and_nothing_is_taken_from_it() {
    let rig = Rig::new(&[("a", "1"), ("b", "1")]);
    rig.ledger().begin("one", now()).expect("begun");
    let file = rig.dir.path().join("ledger/baseline");
    let text = fs::read_to_string(&file).expect("text");
    for end in [text.len() - 1, text.len() / 2, 10, 0] {
        fs::write(&file, &text[..end]).expect("cut");
        let told = rig.ledger().look(now());
        assert!(told.as_ref().is_err_and(|why| why.contains("is damaged")), "cut at {end}: {told:?}");
    }
}

#[test]
fn a_state_directory_that_cannot_be_written_is_one_line() {
    let rig = Rig::new(&[("a", "1")]);
    let dir = rig.dir.path().join("ledger");
    fs::write(&dir, "no directory").expect("file");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o600)).expect("mode");
    let why = rig.ledger().begin("one", now()).expect_err("refused");
    assert!(why.starts_with("cannot make ") && !why.contains('\n'), "{why}");
}
