//! Half a restore: noted, seen, completed, undone, and what a takeover put in place given back before the sync starts.
//!
//! The scene is that of the tests around it; when the robot asks for which is `keeping`'s.

use std::os::fd::AsFd as _;

use super::*;

pub(super) const P1: &str = "P1";

fn lock(rig: &Rig) -> Lock {
    rig.vault.lock(&Stop::default()).expect("lock")
}

fn read(rig: &Rig, path: &str) -> String {
    fs::read_to_string(rig.work(path)).unwrap_or_else(|error| format!("({:?})", error.kind()))
}

/// A takeover of P1 puts the good one in place.
pub(super) fn take_over(rig: &Rig, good: &str) -> restore::Restored {
    let kept = rig.take(Kind::Takeover(P1.into())).expect("taken").id;
    let order = Restore { aside: format!("{P1}.replaced"), ..order(good, Some(&kept), Some(P1)) };
    rig.vault.restore(&lock(rig), &order, &Stop::default()).expect("restored")
}

/// A takeover of P1 begins to put this one in place, and breaks off.
fn breaks_off(rig: &Rig, id: &str) -> Restore {
    rig.write("etc/new.conf", "cannot be moved aside");
    let kept = rig.take(Kind::Takeover(P1.into())).expect("taken").id;
    fs::write(rig.state("held-back"), "a file in its place").expect("file");
    let ours = order(id, Some(&kept), Some(P1));
    rig.vault.restore(&lock(rig), &ours, &Stop::default()).expect_err("it breaks off");
    ours
}

#[test]
fn a_note_that_does_not_read_is_half_a_restore_and_one_that_would_not_is_never_written() {
    let rig = Rig::new();
    rig.write("etc/a.conf", "good");
    let id = rig.good().id;
    fs::write(rig.state("restore-under-way"), "{\"id\":\"good-1\",").expect("cut");
    let half = rig.vault.half_done().expect("nobody knows");
    assert!(half.contains("does not read") && half.contains("remove the note"), "{half}");
    assert!(rig.vault.complete(&lock(&rig), Some(P1), &Stop::default()).is_err());
    let failed = rig.restore_of(&id, &["nowhere"], None).expect_err("nothing there");
    assert!(rig.vault.half_done() == Some(half), "{failed}: it stays as it was");
    rig.restore(&id).expect("restored");
    assert_eq!(rig.vault.half_done(), None, "a whole one leaves nothing of it");
    let many: Vec<String> =
        (0..20_000).map(|n| format!("etc/a-name-as-long-as-they-come-and-then-some-more/{n:08}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let refused = rig.restore_of(&id, &many, None).expect_err("too long").to_string();
    assert!(refused.contains("name fewer paths"), "{refused}");
    assert_eq!((rig.vault.under_way(), rig.vault.half_done()), (Ok(None), None));
}

#[test]
fn what_would_be_moved_aside_to_another_file_system_must_fit_there_before_the_first_file_is_changed() {
    let elsewhere = tempfile::tempdir_in("/dev/shm").expect("another file system");
    let mut rig = Rig::new();
    let (work, there) = (rig.dir.path().metadata().expect("there"), elsewhere.path().metadata().expect("there"));
    assert_ne!(work.dev(), there.dev(), "the two must differ for this test");
    rig.vault.state_dir = elsewhere.path().to_owned();
    rig.write("etc/a.conf", "good");
    rig.write("etc/b.conf", "good");
    let id = rig.good().id;
    rig.write("etc/b.conf", "newer, and nobody has it");
    rig.write("etc/c.conf", "appeared");
    let before = rig.tree("work");
    rig.vault.reserve = u64::MAX / 2;
    let refused = rig.restore_of(&id, &[], None).expect_err("it does not fit").to_string();
    assert!(refused.contains("of which the robot needs"), "{refused}");
    assert_eq!((rig.tree("work"), rig.vault.half_done()), (before, None));
    // What the robot holds back meanwhile must fit as well, and be no giant.
    rig.write("1.call", "Channel: SIP/1");
    let patterns = [Pattern::new("*.call").expect("a pattern")];
    let held = |rig: &Rig| rig.vault.hold_back(&patterns, P1, &Stop::default());
    let stayed = held(&rig).stayed;
    assert!(stayed.all == 1 && stayed.named[0].contains("of which the robot needs"), "{stayed:?}");
    rig.vault.reserve = RESERVE_BYTES;
    let giant = File::create(rig.work("2.call")).expect("file");
    giant.set_len(crate::data::snapshot::FILE_MAX + 1).expect("sparse");
    let moved = held(&rig);
    assert_eq!((moved.files.named, moved.stayed.all), (vec!["1.call".to_owned()], 1));
    fs::remove_file(rig.work("2.call")).expect("removed");
    let restored = rig.restore_of(&id, &[], None).expect("restored");
    assert_eq!((restored.put.all, restored.aside.all), (1, 2), "{restored:?}");
    let aside = elsewhere.path().join("held-back/aside/tree/0/etc/b.conf");
    assert_eq!(fs::read_to_string(aside).expect("kept"), "newer, and nobody has it");
}

#[test]
fn what_is_called_off_while_it_is_copied_to_another_file_system_stays_where_it_was() {
    let elsewhere = tempfile::tempdir_in("/dev/shm").expect("another file system");
    let rig = Rig::new();
    rig.write("1.call", "Channel: SIP/1");
    let (from, into) = (at::root(&rig.work("")).expect("opened"), at::root(elsewhere.path()).expect("opened"));
    let stop = Stop::default();
    stop.call_off();
    let name = OsStr::new("1.call");
    let carried = held::carry(from.as_fd(), name, into.as_fd(), name, &stop);
    assert_eq!(carried.map_err(|error| error.kind()), Err(ErrorKind::Interrupted));
    assert_eq!(
        (read(&rig, "1.call").as_str(), fs::read_dir(elsewhere.path()).expect("listed").count()),
        ("Channel: SIP/1", 0)
    );
    // One that is copied at once is called off as well, before it is removed where it was.
    symlink("1.call", rig.work("2.call")).expect("link");
    let link = OsStr::new("2.call");
    let carried = held::carry(from.as_fd(), link, into.as_fd(), link, &stop);
    assert_eq!(carried.map_err(|error| error.kind()), Err(ErrorKind::Interrupted));
    assert!(rig.work("2.call").is_symlink() && fs::read_dir(elsewhere.path()).expect("listed").count() == 0);
    held::carry(from.as_fd(), name, into.as_fd(), name, &Stop::default()).expect("carried");
    assert!(!rig.work("1.call").exists() && elsewhere.path().join("1.call").exists());
}

#[test]
fn half_a_restore_of_which_no_snapshot_was_taken_is_undone_from_what_was_moved_aside() {
    let rig = Rig::new();
    for name in ["a", "b", "c"] {
        rig.write(format!("etc/{name}.conf"), "good");
    }
    let id = rig.good().id;
    rig.write("etc/a.conf", "newer");
    rig.write("etc/b.conf", "newer");
    rig.write("etc/new.conf", "newer");
    let before = rig.tree("work");
    // It breaks off at the second: a directory lies where it is moved aside to.
    fs::create_dir_all(rig.state("held-back/aside/tree/0/etc/new.conf")).expect("directory");
    fs::create_dir_all(rig.state("held-back/aside/tree/0/etc/b.conf")).expect("directory");
    fs::write(rig.state("held-back/aside/tree-2"), "in the way").expect("file");
    let stop = Stop::default();
    let broke = rig.vault.restore(&lock(&rig), &order(&id, None, Some(P1)), &stop).expect_err("it breaks off");
    assert!(stop.is_beyond() && rig.vault.half_done().is_some(), "{broke}");
    assert_eq!((read(&rig, "etc/a.conf").as_str(), read(&rig, "etc/b.conf").as_str()), ("good", "newer"), "half of it");
    fs::remove_file(rig.state("held-back/aside/tree-2")).expect("removed");
    let said = rig.vault.undo(&lock(&rig), Some(P1), &Stop::default()).expect("undone").expect("something holds it");
    assert!(said.contains("1 files put back from held-back/aside"), "{said}");
    assert_eq!((rig.tree("work"), rig.vault.half_done()), (before, None));
}

#[test]
fn a_restore_into_another_half_leaves_that_half_when_it_is_undone() {
    let rig = Rig::new();
    rig.write("etc/a.conf", "good");
    let id = rig.good().id;
    rig.write("etc/a.conf", "mixture");
    note(&rig, order(&id, None, Some("P0")), 600, Stage::Committing);
    let half = rig.vault.under_way();
    let ours = breaks_off(&rig, &id);
    assert_eq!(rig.vault.under_way().map(|note| note.map(|note| note.order)), Ok(Some(ours)));
    assert!(rig.vault.complete(&lock(&rig), Some(P1), &Stop::default()).is_err(), "nor the second time");
    rig.vault.undo(&lock(&rig), Some(P1), &Stop::default()).expect("undone").expect("held");
    assert_eq!((read(&rig, "etc/a.conf").as_str(), rig.vault.under_way()), ("mixture", half));
    // A part of it mends no half; all of it does.
    fs::remove_file(rig.state("held-back")).expect("removed");
    rig.restore_of(&id, &["etc/a.conf"], None).expect("restored");
    assert!(rig.vault.half_done().is_some());
    rig.restore_of(&id, &[], None).expect("restored");
    assert_eq!(rig.vault.half_done(), None);
}

#[test]
fn an_undo_that_was_killed_ends_as_one_that_was_not_whoever_goes_on_with_it() {
    for beneath in [Some("P0"), None] {
        for next in ["its takeover", "another takeover", "the sync", "the good one after all"] {
            let rig = Rig::new();
            rig.write("etc/a.conf", "good");
            let id = rig.good().id;
            rig.write("etc/a.conf", "mixture");
            if beneath.is_some() {
                note(&rig, order(&id, None, beneath), 600, Stage::Committing);
            }
            let half = rig.vault.under_way();
            let ours = breaks_off(&rig, &id);
            rig.write("etc/late.conf", "nor can this");
            rig.vault.undo(&lock(&rig), Some(P1), &Stop::default()).expect_err("so does its undo");
            assert!(rig.vault.half_told().is_some_and(|told| told.contains(&format!("undoing a restore of {id}"))));
            fs::remove_file(rig.state("held-back")).expect("removed");
            let stop = Stop::default();
            match next {
                "its takeover" => {
                    assert_eq!(rig.vault.undo(&lock(&rig), Some(P1), &stop), Ok(None), "it goes back already");
                    rig.vault.complete(&lock(&rig), Some(P1), &stop).expect("completed").expect("a note");
                }
                "another takeover" => {
                    rig.vault.undo(&lock(&rig), Some("P2"), &stop).expect("undone").expect("a note");
                }
                "the sync" => assert_eq!(rig.vault.give_back(&lock(&rig), &stop).is_err(), beneath.is_some()),
                _ => {
                    rig.vault.restore(&lock(&rig), &ours, &stop).expect("restored");
                    assert_eq!((read(&rig, "etc/a.conf").as_str(), rig.vault.under_way()), ("good", Ok(None)));
                    assert_eq!(rig.vault.put_in_place(), Ok(Some(ours)));
                    continue;
                }
            }
            assert_eq!((read(&rig, "etc/a.conf").as_str(), rig.vault.under_way()), ("mixture", half), "{next}");
            assert_eq!(rig.vault.put_in_place(), Ok(None), "{next}");
        }
    }
}

#[test]
fn a_person_who_has_changed_nothing_yet_keeps_nobody_waiting_and_asks_before_the_first_file() {
    let rig = Rig::new();
    rig.write("etc/a.conf", "good");
    let id = rig.good().id;
    rig.write("etc/a.conf", "newer");
    let before = rig.tree("work");
    let held = rig.vault.lock_for(Work::PersonRestores, &Stop::default()).expect("lock");
    let mut asked = 0;
    let refused = rig.vault.restore_if(&held, &order(&id, None, None), &Stop::default(), &mut || {
        asked += 1;
        assert!(rig.vault.half_done().is_some_and(|half| half.contains("where it hangs, end it")), "from here on");
        Err(Failed::CalledOff)
    });
    assert_eq!((refused, asked), (Err(Failed::CalledOff), 1));
    assert_eq!((rig.tree("work"), rig.vault.half_done()), (before, None));
}

#[test]
fn a_name_of_ours_under_which_a_directory_lies_hinders_no_restore() {
    let rig = Rig::new();
    rig.write("etc/a.conf", "good");
    let id = rig.good().id;
    rig.write("etc/a.conf", "newer");
    for n in 0..3 {
        fs::create_dir_all(rig.work(format!("etc/.pbx-failover-restore-{n}"))).expect("directory");
    }
    assert_eq!(rig.restore(&id).expect("restored").put.all, 1);
}

#[test]
fn a_directory_that_a_killed_restore_made_and_did_not_dress_is_dressed_by_the_next() {
    let rig = Rig::new();
    for path in ["etc/sub/a.conf", "etc/theirs/b.conf"] {
        rig.write(path, "good");
    }
    let mode = |name: &str, mode| {
        fs::set_permissions(rig.work(name), fs::Permissions::from_mode(mode)).expect("mode");
    };
    mode("etc/sub", 0o2750);
    let before = rig.tree("work");
    let id = rig.good().id;
    fs::remove_file(rig.work("etc/sub/a.conf")).expect("removed");
    mode("etc/sub", 0o700);
    mode("etc/theirs", 0o700);
    rig.restore(&id).expect("restored");
    assert_eq!(rig.tree("work")["etc/sub"], before["etc/sub"]);
    assert_eq!(rig.tree("work")["etc/theirs"], "directory 700", "what holds something is somebody's");
}

#[test]
fn what_a_takeover_put_in_place_is_given_back_before_the_sync_starts_and_what_changed_since_stays() {
    let rig = Rig::new();
    for name in ["a", "b", "gone"] {
        rig.write(format!("etc/{name}.conf"), "good");
    }
    let id = rig.good().id;
    // The primary's newer ones, one of them broken; one more, and one fewer.
    rig.write("etc/a.conf", "newer");
    rig.write("etc/b.conf", "");
    rig.write("etc/new.conf", "newer");
    fs::remove_file(rig.work("etc/gone.conf")).expect("removed");
    let newer = rig.tree("work");
    take_over(&rig, &id);
    assert_eq!(read(&rig, "etc/a.conf"), "good");
    let said = rig.vault.give_back(&lock(&rig), &Stop::default()).expect("given back").expect("there was something");
    assert!(said.contains("is as it was"), "{said}");
    assert_eq!(rig.tree("work"), newer);
    assert_eq!(rig.vault.give_back(&lock(&rig), &Stop::default()), Ok(None), "once");

    // The same, and people change something while this node serves.
    fs::remove_dir_all(rig.state("snapshots").join(format!("takeover-{P1}"))).expect("removed");
    take_over(&rig, &id);
    rig.write("etc/a.conf", "changed here");
    rig.write("etc/here.conf", "made here");
    fs::remove_file(rig.work("etc/b.conf")).expect("removed here");
    rig.vault.give_back(&lock(&rig), &Stop::default()).expect("given back").expect("there was something");
    let texts = ["a", "here", "b", "gone", "new"].map(|name| read(&rig, &format!("etc/{name}.conf")));
    assert_eq!(texts, ["changed here", "made here", "(NotFound)", "(NotFound)", "newer"]);
}

#[test]
fn what_a_restore_put_in_place_at_its_second_try_is_given_back_as_well() {
    let rig = Rig::new();
    rig.write("etc/a.conf", "good");
    let id = rig.good().id;
    rig.write("etc/a.conf", "newer");
    let kept = rig.take(Kind::Takeover(P1.into())).expect("taken").id;
    let ours = Restore { aside: format!("{P1}.replaced"), ..order(&id, Some(&kept), Some(P1)) };
    // The last thing that can go wrong is its end: a directory lies where what appeared is moved aside to.
    rig.write("etc/new.conf", "newer");
    fs::write(rig.state("held-back"), "a file in its place").expect("file");
    rig.vault.restore(&lock(&rig), &ours, &Stop::default()).expect_err("it breaks off");
    fs::remove_file(rig.state("held-back")).expect("removed");
    fs::remove_file(rig.work("etc/new.conf")).expect("removed");
    assert!(rig.vault.restore(&lock(&rig), &ours, &Stop::default()).expect("restored").is_nothing());
    assert_eq!((read(&rig, "etc/a.conf").as_str(), rig.vault.half_done()), ("good", None));
    rig.vault.give_back(&lock(&rig), &Stop::default()).expect("given back").expect("there was something");
    assert_eq!(read(&rig, "etc/a.conf"), "newer");
}

/// A takeover of P1 of which no snapshot was taken, whose state lies on another file system.
fn taken_over_without_a_copy(rig: &mut Rig, elsewhere: &tempfile::TempDir) {
    rig.vault.state_dir = elsewhere.path().to_owned();
    for name in ["etc/a.conf", "etc/x/b.conf", "etc/z.sqlite3"] {
        rig.write(name, "good");
    }
    let id = rig.good().id;
    for name in ["etc/a.conf", "etc/x/b.conf", "etc/z.sqlite3", "etc/z.sqlite3-wal"] {
        rig.write(name, "newer");
    }
    rig.vault.restore(&lock(rig), &order(&id, None, Some(P1)), &Stop::default()).expect("restored");
    assert_eq!(texts(rig), ["good", "good", "good", "(NotFound)"]);
}

fn texts(rig: &Rig) -> [String; 4] {
    ["etc/a.conf", "etc/x/b.conf", "etc/z.sqlite3", "etc/z.sqlite3-wal"].map(|name| read(rig, name))
}

#[test]
fn giving_back_that_broke_off_between_two_files_is_half_a_restore_and_goes_on() {
    for next in ["the sync", "another takeover"] {
        let elsewhere = tempfile::tempdir_in("/dev/shm").expect("another file system");
        let mut rig = Rig::new();
        taken_over_without_a_copy(&mut rig, &elsewhere);
        let off = Stop::default();
        off.call_off();
        assert_eq!(rig.vault.give_back(&lock(&rig), &off), Err(Failed::CalledOff));
        assert_eq!((texts(&rig)[0].as_str(), rig.vault.half_done()), ("good", None), "before the first file");
        // Nothing can be copied to where the second one goes.
        fs::create_dir(rig.work("etc/x/.pbx-failover-moving")).expect("directory");
        let stop = Stop::default();
        rig.vault.give_back(&lock(&rig), &stop).expect_err("it breaks off");
        assert_eq!(texts(&rig), ["newer", "good", "good", "(NotFound)"]);
        let half = rig.vault.half_done().expect("it is half done");
        assert!(stop.is_beyond() && half.contains("giving back what a takeover put in place (good-"), "{half}");
        assert!(rig.vault.half_told().is_some_and(|told| told.contains("goes on before the sync is started")));
        fs::remove_dir(rig.work("etc/x/.pbx-failover-moving")).expect("removed");
        let said = match next {
            "the sync" => rig.vault.give_back(&lock(&rig), &Stop::default()),
            _ => rig.vault.complete(&lock(&rig), Some("P2"), &Stop::default()),
        };
        assert!(said.as_ref().is_ok_and(Option::is_some), "{next}: {said:?}");
        assert_eq!((texts(&rig), rig.vault.half_done()), (["newer"; 4].map(str::to_owned), None), "{next}");
        assert_eq!(rig.vault.put_in_place(), Ok(None), "{next}");
    }
}

#[test]
fn no_log_comes_back_beside_another_database_than_its_own_wherever_the_robot_is_killed() {
    let elsewhere = tempfile::tempdir_in("/dev/shm").expect("another file system");
    let mut rig = Rig::new();
    taken_over_without_a_copy(&mut rig, &elsewhere);
    fs::create_dir(rig.work("etc/.pbx-failover-moving")).expect("directory");
    fs::remove_file(elsewhere.path().join("held-back/aside/tree/0/etc/a.conf")).expect("removed");
    rig.vault.give_back(&lock(&rig), &Stop::default()).expect_err("it breaks off at the log");
    assert_eq!(texts(&rig)[2..], ["(NotFound)", "(NotFound)"], "what was put there makes room first");
    fs::remove_dir(rig.work("etc/.pbx-failover-moving")).expect("removed");
    // Killed after the log.
    let log = elsewhere.path().join("held-back/aside/tree/0/etc/z.sqlite3-wal");
    fs::copy(&log, rig.work("etc/z.sqlite3-wal")).expect("copied");
    fs::remove_file(log).expect("removed");
    rig.vault.give_back(&lock(&rig), &Stop::default()).expect("given back");
    assert_eq!(texts(&rig)[1..], ["newer", "newer", "newer"]);
    // A database that was changed since keeps what is beside it: nothing.
    let elsewhere = tempfile::tempdir_in("/dev/shm").expect("another file system");
    let mut rig = Rig::new();
    taken_over_without_a_copy(&mut rig, &elsewhere);
    rig.write("etc/z.sqlite3", "changed here");
    rig.vault.give_back(&lock(&rig), &Stop::default()).expect("given back");
    assert_eq!(texts(&rig), ["newer", "newer", "changed here", "(NotFound)"]);
}

#[test]
fn of_two_files_of_one_name_that_were_moved_aside_the_newer_is_given_back_with_its_own_log() {
    let elsewhere = tempfile::tempdir_in("/dev/shm").expect("another file system");
    let mut rig = Rig::new();
    taken_over_without_a_copy(&mut rig, &elsewhere);
    let good = rig.vault.newest_good().expect("kept").id;
    for name in ["etc/a.conf", "etc/z.sqlite3"] {
        rig.write(name, "newer still");
    }
    rig.vault.restore(&lock(&rig), &order(&good, None, Some(P1)), &Stop::default()).expect("restored");
    let held = held_in(elsewhere.path());
    assert_eq!((held.len(), held[0].files.all), (1, 6), "{held:?}");
    rig.vault.give_back(&lock(&rig), &Stop::default()).expect("given back").expect("there was something");
    assert_eq!(texts(&rig), ["newer still", "newer", "newer still", "(NotFound)"]);
    assert_eq!(fs::read_dir(rig.work("etc")).expect("listed").count(), 3, "and nothing beside them");
    // What is left is held, and a person gets it where its place is free; a log not beside another database.
    let stayed = rig.vault.put_back("aside", &[]).expect("asked");
    assert_eq!((stayed.files.all, stayed.stayed.all), (0, 3), "{stayed:?}");
    assert!(stayed.stayed.named.iter().any(|name| name.contains("its database is held still")), "{stayed:?}");
    for name in ["etc/a.conf", "etc/z.sqlite3"] {
        fs::remove_file(rig.work(name)).expect("removed");
    }
    assert_eq!(rig.vault.put_back("aside", &[]).expect("asked").files.all, 3);
    assert_eq!((texts(&rig), held_in(elsewhere.path())), (["newer"; 4].map(str::to_owned), Vec::new()));
}

#[test]
fn what_giving_back_needs_is_never_pruned_and_without_it_nothing_is_moved_or_forgotten() {
    let rig = Rig::with(1, u64::MAX);
    rig.write("etc/a.conf", "good");
    let id = rig.good().id;
    rig.write("etc/a.conf", "newer");
    take_over(&rig, &id);
    for n in 2..4 {
        rig.write("etc/b.conf", &n.to_string());
        rig.good();
        rig.take(Kind::Takeover(format!("P{n}"))).expect("taken");
    }
    rig.vault.prune(&lock(&rig));
    let takeover = format!("takeover-{P1}");
    assert!(rig.ids().contains(&id) && rig.ids().contains(&takeover) && rig.ids().len() == 4, "{:?}", rig.ids());
    for gone in [&id, &takeover] {
        let (there, away) = (rig.state("snapshots").join(gone), rig.state("away"));
        fs::rename(&there, &away).expect("moved");
        let refused = rig.vault.give_back(&lock(&rig), &Stop::default()).expect_err("nobody can tell").to_string();
        assert!(refused.contains(&format!("without the list of snapshot {gone}")), "{refused}");
        assert_eq!((read(&rig, "etc/a.conf").as_str(), rig.vault.half_done()), ("good", None));
        fs::rename(&away, &there).expect("moved");
    }
    rig.vault.give_back(&lock(&rig), &Stop::default()).expect("given back").expect("there was something");
    assert_eq!(read(&rig, "etc/a.conf"), "newer");
    rig.vault.prune(&lock(&rig));
    assert_eq!(rig.ids().len(), 2, "nothing needs them any more");
}

#[test]
fn undoing_a_half_that_is_over_leaves_what_was_changed_since() {
    let rig = Rig::new();
    for name in ["a", "b", "c"] {
        rig.write(format!("etc/{name}.conf"), "good");
    }
    let id = rig.good().id;
    for name in ["a", "b", "c"] {
        rig.write(format!("etc/{name}.conf"), "newer");
    }
    let kept = rig.take(Kind::Takeover("P0".into())).expect("taken").id;
    let half = |plan| {
        rig.write("etc/a.conf", "good");
        rig.write("etc/b.conf", "newer");
        rig.write("etc/c.conf", "the sync brought it since");
        note(&rig, order(&id, Some(&kept), plan), 60, Stage::Committing);
        rig.vault.undo(&lock(&rig), Some(P1), &Stop::default()).expect("undone").expect("something holds it");
        assert_eq!(rig.vault.half_done(), None);
        ["a", "b", "c"].map(|name| read(&rig, &format!("etc/{name}.conf")))
    };
    for over in [Some("P0"), None] {
        assert_eq!(half(over), ["newer", "newer", "the sync brought it since"], "{over:?}");
    }
    assert_eq!(half(Some(P1)), ["newer"; 3], "its own");
}

#[test]
fn half_of_a_takeovers_restore_is_undone_before_the_sync_starts_and_of_a_persons_it_does_not() {
    let rig = Rig::new();
    rig.write("etc/a.conf", "good");
    rig.write("etc/b.conf", "good");
    let id = rig.good().id;
    rig.write("etc/a.conf", "newer");
    rig.write("etc/b.conf", "newer");
    let kept = rig.take(Kind::Takeover(P1.into())).expect("taken").id;
    rig.write("etc/a.conf", "good");
    note(&rig, order(&id, Some(&kept), None), 1, Stage::Committing);
    let refused = rig.vault.give_back(&lock(&rig), &Stop::default()).expect_err("a person's");
    assert!(refused.to_string().contains("that a person broke off is half done"), "{refused}");
    note(&rig, order(&id, Some(&kept), Some(P1)), 600, Stage::Committing);
    rig.vault.give_back(&lock(&rig), &Stop::default()).expect("undone").expect("there was something");
    assert_eq!((read(&rig, "etc/a.conf").as_str(), rig.vault.half_done()), ("newer", None));
    // Nor is it undone what was broken off while it was given back: whoever comes next goes on with it.
    for next in ["the sync", "another takeover"] {
        rig.write("etc/a.conf", "good");
        let back = Restore { unless_changed: Some(id.clone()), ..order(&kept, Some(&id), Some(P1)) };
        note(&rig, back, 600, Stage::Committing);
        assert_eq!(rig.vault.undo(&lock(&rig), Some(P1), &Stop::default()), Ok(None));
        let said = match next {
            "the sync" => rig.vault.give_back(&lock(&rig), &Stop::default()),
            _ => rig.vault.complete(&lock(&rig), Some("P2"), &Stop::default()),
        };
        assert!(said.is_ok_and(|said| said.is_some()) && rig.vault.half_done().is_none(), "{next}");
        assert_eq!(read(&rig, "etc/a.conf"), "newer", "{next}");
    }
}
