//! The ledger on a real disk.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::data::Classes;
use crate::data::ledger::{Change, Entry};

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
    assert_eq!(rig.ledger().begin("one", now(), &Wanted::default()), Ok(Begun::Taken(4, 0)));
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
    rig.ledger().begin("one", now(), &Wanted::default()).expect("begun");
    for (path, text) in [("a", "22"), ("b", "22"), ("d", "22")] {
        rig.write(path, text);
    }
    rig.ledger().look(now()).expect("looked");
    let carried: Vec<_> = rig.entries().into_iter().filter(|entry| entry.now.line.path != b"d").collect();
    let beside = vec![(carried[0].clone(), b"a.from-pbx-b".to_vec())];
    let told = rig.ledger().settle(&carried, &[], &beside, Some(7)).expect("settled");
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
    rig.ledger().begin("one", now(), &Wanted::default()).expect("begun");
    rig.write("b", "1");
    assert_eq!(
        rig.ledger().begin("one", now(), &Wanted::default()),
        Ok(Begun::Taken(2, 0)),
        "tried again before anything was loaded"
    );
    rig.write("c", "1");
    rig.ledger().look(now()).expect("looked");
    assert_eq!(rig.ledger().begin("two", now(), &Wanted::default()), Ok(Begun::GoesOn));
    rig.ledger().look(now()).expect("looked");
    assert_eq!(rig.names(), ["added other c"]);
}

#[test]
fn a_file_system_that_is_not_mounted_any_more_is_no_end_of_what_waits() {
    let mut rig = Rig::new(&[]);
    rig.dir = tempfile::tempdir_in("/dev/shm").expect("a file system of its own");
    rig.write("etc/a", "1");
    rig.write("spool/a", "1");
    rig.ledger().begin("one", now(), &Wanted::default()).expect("begun");
    rig.write("etc/b", "1");
    rig.write("spool/b", "1");
    let told = rig.ledger().look(now()).expect("looked").expect("a ledger");
    assert_eq!((told.files, told.trouble), (2, None));
    let about = rig.dir.path().join("ledger/about");
    let before = fs::read_to_string(&about).expect("read");
    assert!(before.contains("\"/dev/shm\""), "{before}");
    // After a boot another one that had been mounted at the spool is late.
    let (spool, aside) = (rig.dir.path().join("work/spool"), rig.dir.path().join("late"));
    let missing = before.replace("/dev/shm\"", &format!("{}\"", spool.display()));
    fs::write(&about, missing).expect("written");
    fs::rename(&spool, &aside).expect("gone");
    fs::create_dir(&spool).expect("an empty directory");
    let told = rig.ledger().look(now()).expect("looked").expect("a ledger");
    assert!(told.trouble.as_ref().is_some_and(|why| why.ends_with("is not mounted now: mount it")), "{told:?}");
    assert_eq!((rig.names(), told.removed), (vec!["added other etc/b".to_owned()], 0), "all else goes on");
    assert_eq!(rig.ledger().unmounted(), Ok(vec![spool.clone()]));
    let why = rig.ledger().close("one", now()).expect_err("refused");
    assert!(why.contains("mount it; or, where that is as it should be"), "{why}");
    assert_eq!(rig.ledger().told().expect("read").expect("open").phase, Phase::Serving);
    // It is there.
    fs::remove_dir(&spool).expect("empty");
    fs::rename(&aside, &spool).expect("back");
    fs::write(&about, before).expect("written");
    let told = rig.ledger().close("one", now()).expect("closed").expect("a ledger");
    assert_eq!((rig.names().len(), told.files, told.trouble, told.gap), (2, 2, None, None));
}

#[test]
fn what_waits_on_a_file_system_that_is_not_mounted_is_a_gap_in_the_next_ledger_and_all_else_stays_in_it() {
    let rig = Rig::new(&[("etc/a", "1")]);
    rig.ledger().begin("one", now(), &Wanted::default()).expect("begun");
    rig.write("etc/b", "1");
    rig.write("spool/b", "1");
    rig.ledger().close("one", now()).expect("closed");
    let about = rig.dir.path().join("ledger/about");
    let spool = rig.dir.path().join("work/spool");
    let text = fs::read_to_string(&about).expect("read");
    let text = text.replacen("\"dirs\": [", &format!("\"mounts\": [\"{}\"],\n  \"dirs\": [", spool.display()), 1);
    fs::write(&about, text).expect("written");
    fs::remove_file(spool.join("b")).expect("not mounted");
    assert_eq!(rig.ledger().begin("two", now(), &Wanted::default()), Ok(Begun::Taken(1, 1)));
    let told = rig.ledger().look(now()).expect("looked").expect("a ledger");
    assert_eq!((rig.names(), told.files), (vec!["added other etc/b".to_owned()], 1));
    assert!(told.gap.is_some_and(|why| why.contains("is not mounted now")));
}

#[test]
fn what_an_earlier_service_left_waits_in_the_next_ledger_unless_the_sync_has_replaced_it() {
    let rig = Rig::new(&[("a", "1"), ("b", "1")]);
    rig.ledger().begin("one", now(), &Wanted::default()).expect("begun");
    for (path, text) in [("a", "22"), ("b", "22"), ("big.wav", "22"), ("gone", "22")] {
        rig.write(path, text);
    }
    rig.ledger().look(now()).expect("looked");
    rig.ledger().close("one", now()).expect("closed");
    rig.write("b", "from home");
    rig.write("new", "from home");
    fs::remove_file(rig.dir.path().join("work/gone")).expect("removed");
    assert_eq!(rig.ledger().begin("two", now(), &Wanted::default()), Ok(Begun::Taken(3, 2)), "a as it was, b, new");
    assert_eq!(rig.ledger().begin("two", now(), &Wanted::default()), Ok(Begun::Taken(3, 2)), "tried again");
    rig.ledger().look(now()).expect("looked");
    assert_eq!(rig.names(), ["changed other a", "added other big.wav"]);
    let Change::Changed(was) = &rig.entries()[0].change else { panic!("changed") };
    assert_eq!(was.line.about.size, 1, "what home has is what both had at first");
}

#[test]
fn a_configuration_that_was_rewritten_with_its_date_kept_is_a_change_and_a_new_link_to_it_is_none() {
    let rig = Rig::new(&[("a.conf", "one"), ("b.conf", "one")]);
    rig.ledger().begin("one", now(), &Wanted::default()).expect("begun");
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
    rig.ledger().begin("one", now(), &Wanted::default()).expect("begun");
    fs::rename(rig.dir.path().join("work"), rig.dir.path().join("elsewhere")).expect("moved away");
    let told = rig.ledger().look(now()).expect("looked").expect("a ledger");
    assert_eq!((told.files, told.removed), (0, 0));
    assert!(told.trouble.is_some_and(|why| why.starts_with("not looked through: ")));
}

#[test]
fn one_that_ended_can_be_asked_until_the_next_has_ended() {
    let rig = Rig::new(&[("a", "1")]);
    rig.ledger().begin("one", now(), &Wanted::default()).expect("begun");
    rig.write("b", "1");
    rig.ledger().look(now()).expect("looked");
    rig.ledger().end(Ending::Word).expect("ended");
    assert_eq!(rig.ledger().told(), Ok(None));
    assert!(rig.ledger().last_told().expect("told").is_some_and(|told| told.ended && told.service == "one"));
    assert_eq!(rig.ledger().last_entries().expect("a list").0.count(), 1);
    rig.ledger().begin("two", now(), &Wanted::default()).expect("begun");
    rig.ledger().end(Ending::Word).expect("ended");
    assert!(rig.ledger().last_told().expect("told").is_some_and(|told| told.service == "two"));
}

#[test]
fn a_list_that_was_cut_is_said_and_nothing_is_taken_from_it() {
    let rig = Rig::new(&[("a", "1"), ("b", "1")]);
    rig.ledger().begin("one", now(), &Wanted::default()).expect("begun");
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
    let why = rig.ledger().begin("one", now(), &Wanted::default()).expect_err("refused");
    assert!(why.starts_with("cannot make ") && !why.contains('\n'), "{why}");
}

#[test]
fn a_baseline_that_nobody_waits_for_any_more_is_dropped_and_the_gap_stays_until_a_persons_word() {
    let rig = Rig::new(&[("a", "1")]);
    let late = Wanted::default();
    late.withdraw();
    let why = rig.ledger().begin("one", now(), &late).expect_err("too late");
    rig.ledger().note_gap("one", &why, now()).expect("noted");
    let told = rig.ledger().look(now()).expect("nothing to compare with").expect("a ledger");
    assert_eq!((told.phase, told.looked_at), (Phase::Serving, None));
    assert_eq!(told.gap.as_deref(), Some("it was not done in time"));
    let told = rig.ledger().close("one", now()).expect("closed").expect("a ledger");
    assert_eq!((told.phase, told.gap.is_some()), (Phase::Home, true));
    rig.ledger().note_trouble(None).expect("noted");
    rig.ledger().begin("two", now(), &Wanted::default()).expect("begun");
    assert!(rig.ledger().told().expect("told").expect("a ledger").gap.is_some(), "of the service before");
    rig.ledger().end(Ending::Word).expect("a person's word");
    assert_eq!(rig.ledger().told(), Ok(None));
}

#[test]
fn a_baseline_that_succeeds_before_anything_is_served_leaves_no_gap_of_its_own() {
    let rig = Rig::new(&[("a", "1")]);
    rig.ledger().note_gap("one", "the disk did not answer", now()).expect("noted");
    assert_eq!(rig.ledger().begin("one", now(), &Wanted::default()), Ok(Begun::Taken(1, 0)));
    assert_eq!(rig.ledger().told().expect("told").expect("a ledger").gap, None);
}

#[test]
fn without_a_baseline_of_its_own_a_service_is_compared_with_the_last_one() {
    let rig = Rig::new(&[("a", "1")]);
    rig.ledger().begin("one", now(), &Wanted::default()).expect("begun");
    rig.ledger().close("one", now()).expect("closed");
    rig.ledger().note_gap("two", "the disk did not answer", now()).expect("noted");
    rig.write("voicemail/b", "1");
    rig.ledger().look(now()).expect("looked");
    assert_eq!(rig.names(), ["added voicemail voicemail/b"]);
    assert_eq!(rig.ledger().begin("three", now(), &Wanted::default()), Ok(Begun::GoesOn));
}

#[test]
fn what_came_after_the_last_look_is_seen_before_it_is_closed_and_what_no_look_sees_is_a_gap() {
    let rig = Rig::new(&[("a", "1")]);
    rig.ledger().begin("one", now(), &Wanted::default()).expect("begun");
    rig.ledger().look(now()).expect("looked");
    rig.write("b", "1");
    let told = rig.ledger().close("one", now()).expect("closed").expect("a ledger");
    assert_eq!((told.phase, told.files, told.gap), (Phase::Home, 1, None));

    let rig = Rig::new(&[("a", "1")]);
    rig.ledger().begin("one", now(), &Wanted::default()).expect("begun");
    fs::rename(rig.dir.path().join("work"), rig.dir.path().join("elsewhere")).expect("moved away");
    let told = rig.ledger().close("one", now()).expect("closed").expect("a ledger");
    assert!(told.gap.is_some_and(|why| why.starts_with("not looked through: ")));
    fs::write(rig.dir.path().join("ledger/baseline"), "cut").expect("damaged");
    rig.ledger().begin("two", now(), &Wanted::default()).expect("begun");
    fs::write(rig.dir.path().join("ledger/baseline"), "cut").expect("damaged");
    assert!(rig.ledger().close("two", now()).is_err_and(|why| why.contains("is damaged")));
    let told = rig.ledger().told().expect("told").expect("a ledger");
    assert_eq!(told.phase, Phase::Serving, "a look that fails closes nothing");
}

#[test]
fn other_working_directories_are_said_again_and_again_and_end_in_a_gap() {
    let rig = Rig::new(&[("a", "1")]);
    fs::create_dir(rig.dir.path().join("second")).expect("directory");
    let mut both = rig.ledger();
    both.subject.dirs.push(rig.dir.path().join("second"));
    both.begin("one", now(), &Wanted::default()).expect("begun");
    fs::write(rig.dir.path().join("second/b"), "1").expect("file");
    both.look(now()).expect("looked");
    let entries: Vec<_> = both.entries().expect("a list").collect::<Result<_, _>>().expect("whole");
    let one = rig.ledger();
    one.note_trouble(Some("x".to_owned())).expect("noted");
    for _ in 0..2 {
        assert!(one.look(now()).is_err_and(|why| why.contains("are not those of the ledger any more")));
    }
    assert!(one.entries().is_err() && one.settle(&entries, &[], &[], None).is_err());
    let (_, dirs) = one.last_entries().expect("a list for people");
    assert_eq!(dirs, both.subject.dirs, "with the names that it had");
    assert_eq!(one.begin("two", now(), &Wanted::default()), Ok(Begun::Taken(1, 0)));
    let told = one.look(now()).expect("looked").expect("a ledger");
    assert!(told.gap.is_some_and(|why| why.contains("are not those of the ledger any more")));
}

#[test]
fn a_file_that_was_touched_after_the_last_look_is_struck_off_once_it_is_carried() {
    let rig = Rig::new(&[]);
    rig.ledger().begin("one", now(), &Wanted::default()).expect("begun");
    rig.write("a", "1");
    rig.ledger().look(now()).expect("looked");
    let mut carried = rig.entries();
    let listed = vec![carried[0].now.line.clone()];
    carried[0].now.line.about.modified.0 += 7;
    let told = rig.ledger().settle(&carried, &[], &[], None).expect("settled");
    assert_eq!(told.files, 1, "the list may have been made anew meanwhile");
    assert_eq!(rig.ledger().settle(&carried, &listed, &[], None).expect("settled").files, 0);
}

#[test]
fn whatever_is_damaged_a_persons_word_ends_it_and_the_next_service_begins_with_a_gap() {
    for file in ["about", "baseline", "changes"] {
        let rig = Rig::new(&[("a", "1")]);
        rig.ledger().begin("one", now(), &Wanted::default()).expect("begun");
        rig.write("b", "1");
        rig.ledger().close("one", now()).expect("closed");
        fs::write(rig.dir.path().join("ledger").join(file), "cut").expect("damaged");
        // The list of changes says all that the next baseline needs of the one before.
        let (left, gap) = if file == "baseline" { (1, false) } else { (0, true) };
        let begun = rig.ledger().begin("two", now(), &Wanted::default());
        assert_eq!(begun, Ok(Begun::Taken(2 - left, left)), "{file}");
        assert_eq!(rig.ledger().told().expect("told").expect("a ledger").gap.is_some(), gap, "{file}");
        fs::write(rig.dir.path().join("ledger").join(file), "cut").expect("damaged");
        rig.ledger().end(Ending::Word).expect("ended");
        assert_eq!(rig.ledger().told(), Ok(None));
        assert!(rig.ledger().last_told().is_ok(), "{file}");
    }
}

#[test]
fn a_configuration_that_was_carried_is_compared_by_its_digest_from_then_on() {
    let rig = Rig::new(&[]);
    rig.ledger().begin("one", now(), &Wanted::default()).expect("begun");
    rig.write("a.conf", "one");
    rig.ledger().look(now()).expect("looked");
    rig.ledger().settle(&rig.entries(), &[], &[], None).expect("settled");
    let file = rig.dir.path().join("work/a.conf");
    let date = fs::metadata(&file).and_then(|about| about.modified()).expect("a date");
    fs::write(&file, "two").expect("written");
    fs::File::options().append(true).open(&file).and_then(|file| file.set_modified(date)).expect("dated");
    rig.ledger().look(now()).expect("looked");
    assert_eq!(rig.names(), ["changed config a.conf"]);
}

#[test]
fn what_is_held_stays_as_it_was_whatever_a_look_writes_meanwhile() {
    let rig = Rig::new(&[]);
    rig.ledger().begin("one", now(), &Wanted::default()).expect("begun");
    assert_eq!(rig.ledger().hold().expect("nothing").count(), 0);
    rig.write("a", "1");
    rig.ledger().look(now()).expect("looked");
    assert_eq!(rig.ledger().hold().expect("held").count(), 1);
    rig.write("b", "1");
    rig.ledger().look(now()).expect("looked");
    assert_eq!((rig.ledger().held().expect("held").count(), rig.entries().len()), (1, 2));
}

#[test]
fn what_ends_the_ledger_of_one_service_does_not_end_the_next() {
    let rig = Rig::new(&[("a", "1")]);
    rig.ledger().begin("one", now(), &Wanted::default()).expect("begun");
    let refused = || Err(SERVES_AGAIN.to_owned());
    assert_eq!(rig.ledger().end(Ending::Carried("one")), refused(), "it is this node's turn still");
    rig.ledger().close("one", now()).expect("closed");
    rig.ledger().begin("two", now(), &Wanted::default()).expect("begun");
    rig.write("b", "1");
    assert_eq!(rig.ledger().close("one", now()).map(drop), refused());
    assert_eq!(rig.ledger().end(Ending::Carried("one")), refused());
    let told = rig.ledger().close("two", now()).expect("closed").expect("a ledger");
    assert_eq!((told.phase, told.files), (Phase::Home, 1));
    assert_eq!(rig.ledger().end(Ending::Carried("one")), refused());
    assert_eq!(rig.ledger().end(Ending::Carried("two")), Ok(()));
}

#[test]
fn what_root_writes_belongs_to_the_owner_of_the_state_directory() {
    use std::os::unix::fs::MetadataExt as _;
    const ROBOT: u32 = 64_123;
    let rig = Rig::new(&[("a", "1")]);
    if !rustix::process::geteuid().is_root() {
        return;
    }
    std::os::unix::fs::chown(rig.dir.path(), Some(ROBOT), Some(ROBOT)).expect("owner");
    let ledger = rig.ledger();
    ledger.begin("one", now(), &Wanted::default()).expect("begun");
    rig.write("b", "1");
    ledger.look(now()).expect("looked");
    ledger.lock(Lock::Carry).expect("locked");
    ledger.hold().expect("held");
    ledger.give().and_then(List::finish).expect("given");
    let beside = vec![(rig.entries()[0].clone(), b"b.from-pbx-b".to_vec())];
    ledger.settle(&rig.entries(), &[], &beside, None).expect("settled");
    ledger.note_gap("one", "x", now()).expect("noted");
    let files: Vec<_> = fs::read_dir(ledger.dir()).expect("listed").flatten().collect();
    assert!(files.len() >= 8, "{files:?}");
    let of_root: Vec<_> = files.iter().filter(|file| file.metadata().expect("there").uid() != ROBOT).collect();
    assert!(of_root.is_empty() && fs::metadata(ledger.dir()).expect("there").uid() == ROBOT, "{of_root:?}");
}
