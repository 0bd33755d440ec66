//! Snapshots as a node keeps them while it watches, and as a takeover uses them.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::adapters::data::look::Subject;
use crate::adapters::data::snapshot::take::measure;
use crate::data::Classes;
use crate::units::StepOutcome;

const PLAN: PlanId = PlanId(ulid::Ulid(7));

struct Rig {
    dir: tempfile::TempDir,
    keeper: Arc<Keeper>,
}

fn rig(keep: u32, hold_age: Duration) -> Rig {
    let dir = tempfile::tempdir().expect("directory");
    let (work, state) = (dir.path().join("work"), dir.path().join("state"));
    fs::create_dir(&work).expect("directory");
    fs::create_dir(&state).expect("directory");
    fs::write(work.join("a.conf"), "good").expect("file");
    let subject = Subject { dirs: vec![work], classes: Classes::default(), ignore: Vec::new() };
    let vault = Vault::of(&state, subject, keep, u64::MAX);
    let hold_back = vec![Pattern::new("*.call").expect("a pattern")];
    Rig { dir, keeper: Arc::new(Keeper::of(vault, hold_back, hold_age)) }
}

impl Rig {
    fn work(&self, name: &str) -> PathBuf {
        self.dir.path().join("work").join(name)
    }

    fn look(&self, is_good: bool) {
        let measured = measure(self.keeper.vault.subject(), &Stop::default()).expect("measured");
        self.told();
        self.keeper.looked(&measured, is_good);
    }

    async fn rest(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        while self.keeper.busy.load(Ordering::SeqCst) {
            assert!(Instant::now() < until, "it does not end");
            tokio::task::yield_now().await;
        }
    }

    fn take(&self) -> String {
        let stop = Stop::default();
        let lock = self.keeper.vault.lock(&stop).expect("lock");
        let measured = measure(self.keeper.vault.subject(), &stop).expect("measured");
        let order = Order { kind: Kind::LastGood, reason: None };
        self.keeper.vault.take(&lock, &order, &measured, &stop).expect("taken").id
    }

    fn told(&self) -> Snapshots {
        self.keeper.told(clock::now().wall).0
    }

    fn kept(&self) -> u32 {
        self.told().kept
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn what_a_look_finds_good_is_kept_once_and_what_it_does_not_never() {
    let rig = rig(3, DAY);
    rig.look(false);
    rig.rest().await;
    assert_eq!((rig.kept(), rig.keeper.has_good(clock::now().wall)), (0, Snapshot::None));
    for _ in 0..2 {
        rig.look(true);
        rig.rest().await;
        assert_eq!((rig.kept(), rig.keeper.has_good(clock::now().wall)), (1, Snapshot::Kept));
    }
    fs::write(rig.work("a.conf"), "changed again and again").expect("file");
    rig.look(true);
    rig.rest().await;
    assert_eq!(rig.kept(), 1, "not within a minute");
    let later = clock::now().wall + jiff::SignedDuration::from_hours(25);
    assert_eq!(rig.keeper.has_good(later), Snapshot::None, "too old to be a cure");
}

#[tokio::test]
async fn where_none_are_wanted_none_is_taken() {
    let rig = rig(0, DAY);
    rig.look(true);
    rig.rest().await;
    assert_eq!((rig.kept(), rig.keeper.keep_for(PLAN).await), (0, None));
}

#[tokio::test]
async fn what_keeps_them_from_being_taken_is_said_and_leaves_nothing_behind() {
    let rig = rig(3, DAY);
    fs::write(rig.dir.path().join("state/snapshots"), "a file in its place").expect("file");
    rig.look(true);
    rig.rest().await;
    let trouble = rig.told().trouble.expect("it is said");
    assert!(trouble.contains("snapshots: ") && !trouble.contains('\n'), "{trouble}");
    let failed = rig.keeper.keep_for(PLAN).await.expect("an answer");
    assert!(failed.text().contains("no snapshot of it: "), "{failed:?}");
}

#[tokio::test]
async fn a_takeover_is_kept_once_and_a_damaged_snapshot_is_passed_over_for_the_one_before() {
    let rig = rig(3, DAY);
    let older = rig.take();
    fs::write(rig.work("a.conf"), "newer").expect("file");
    let newer = rig.take();
    fs::write(rig.dir.path().join("state/snapshots").join(&newer).join("tree/0/a.conf"), "x").expect("damaged");
    fs::write(rig.work("a.conf"), "").expect("emptied");
    fs::write(rig.work("1.call"), "Channel: SIP/1").expect("file");
    let first = rig.keeper.keep_for(PLAN).await.expect("an answer");
    assert!(matches!(&first, StepOutcome::Done(said) if said.starts_with("snapshot takeover-")), "{first:?}");
    let restored = rig.keeper.restore_last_good(PLAN).await;
    assert!(matches!(&restored, StepOutcome::Done(said) if said.starts_with(&older)), "{restored:?}");
    assert_eq!(fs::read_to_string(rig.work("a.conf")).expect("file"), "good");
    let held = rig.keeper.hold_back(PLAN).await.expect("an answer");
    assert!(matches!(&held, StepOutcome::Done(said) if said.contains("1 files held back")), "{held:?}");
    let again = rig.keeper.keep_for(PLAN).await.expect("an answer");
    assert!(again.text().contains("is there already"), "{again:?}");
    assert_eq!(rig.keeper.complete(PLAN, Over::IsBroken).await, None);
}

#[tokio::test]
async fn a_restore_that_breaks_off_is_unknown_and_is_undone_where_it_cannot_be_completed() {
    let rig = rig(3, DAY);
    rig.take();
    fs::write(rig.work("a.conf"), "").expect("emptied");
    fs::write(rig.work("new.conf"), "new").expect("appeared");
    rig.keeper.keep_for(PLAN).await.expect("an answer");
    // Nothing can be moved aside.
    let folder = rig.dir.path().join("state/held-back");
    fs::write(&folder, "a file in its place").expect("file");
    let broke = rig.keeper.restore_last_good(PLAN).await;
    assert!(matches!(&broke, StepOutcome::Unknown(said) if said.contains("is half done")), "{broke:?}");
    let note = rig.dir.path().join("state/restore-under-way");
    let todo = format!("; mend what it names, or remove {} to have what lies there loaded", note.display());
    assert!(broke.text().contains(&todo), "{broke:?}");
    assert!(rig.keeper.half_done().await.is_some_and(|half| half.contains("is half done; remove ")));
    let kept = rig.keeper.keep_for(PLAN).await;
    assert!(matches!(kept, Some(StepOutcome::Done(_))), "{kept:?}");
    let undone = rig.keeper.complete(PLAN, Over::IsBroken).await.expect("an answer");
    assert!(matches!(&undone, StepOutcome::Done(said) if said.contains("is undone")), "{undone:?}");
    assert_eq!(fs::read_to_string(rig.work("a.conf")).expect("file"), "");
    assert!(rig.work("new.conf").exists() && rig.keeper.half_done().await.is_none());
    let again = rig.keeper.restore_last_good(PLAN).await;
    assert!(matches!(&again, StepOutcome::Failed(said) if said.contains("was undone")), "{again:?}");
}

/// A takeover's restore of what is good broke off: `a.conf` was put in place, `b.conf` was not.
async fn half_of(rig: &Rig, plan: PlanId) {
    fs::write(rig.work("b.conf"), "good").expect("file");
    rig.take();
    fs::write(rig.work("a.conf"), "newer").expect("file");
    fs::write(rig.work("b.conf"), "newer").expect("file");
    rig.keeper.keep_for(plan).await.expect("an answer");
    fs::write(rig.work("new.conf"), "cannot be moved aside").expect("appeared");
    fs::write(rig.dir.path().join("state/held-back"), "a file in its place").expect("file");
    let broke = rig.keeper.restore_last_good(plan).await;
    assert!(matches!(broke, StepOutcome::Unknown(_)), "{broke:?}");
    fs::write(rig.work("b.conf"), "newer").expect("file");
    fs::remove_file(rig.dir.path().join("state/held-back")).expect("removed");
}

const LATER: PlanId = PlanId(ulid::Ulid(8));

fn text(rig: &Rig, name: &str) -> String {
    fs::read_to_string(rig.work(name)).expect("file")
}

#[tokio::test]
async fn half_of_a_takeovers_restore_is_said_while_watching_and_never_becomes_what_is_good() {
    let rig = rig(3, DAY);
    half_of(&rig, PLAN).await;
    let kept = rig.kept();
    let half = rig.keeper.half(None, Keep::WhatIsGood).expect("it is seen");
    assert!(half.0 == Weight::Broken && half.1.contains("is half done"), "{half:?}");
    assert!(rig.told().trouble.is_some_and(|why| why.contains("a takeover's restore of good-")));
    fs::write(rig.work("other.conf"), "changed").expect("file");
    let measured = measure(rig.keeper.vault.subject(), &Stop::default()).expect("measured");
    rig.keeper.take_good(&measured, &Stop::default());
    assert_eq!(rig.kept(), kept, "whoever finds it good");
    // While somebody is at it, it is under way.
    let lock = rig.keeper.vault.lock(&Stop::default()).expect("lock");
    assert_eq!(rig.keeper.half(None, Keep::WhatIsGood).map(|half| half.0), Some(Weight::UnderWay));
    drop(lock);
    // The primary's own state, as it was before and since.
    let now = clock::now().wall;
    let ago = now - jiff::SignedDuration::from_hours(1);
    assert!(rig.keeper.half(Some(ago), Keep::WhatIsGood).is_some());
    let soon = now + jiff::SignedDuration::from_secs(1);
    assert_eq!(rig.keeper.half(Some(soon), Keep::Nothing), None);
    assert!(rig.keeper.half_done().await.is_some(), "a look for `check` changes nothing");
    assert_eq!(rig.keeper.half(Some(soon), Keep::WhatIsGood), None);
    assert_eq!(rig.keeper.half_done().await, None);
}

#[tokio::test]
async fn half_of_an_earlier_takeovers_restore_gives_way_to_the_last_good_one_or_is_undone() {
    let rig = rig(3, DAY);
    half_of(&rig, PLAN).await;
    let left = rig.keeper.complete(LATER, Over::IsBroken).await.expect("an answer");
    assert!(left.text().contains("is not completed: it is over"), "{left:?}");
    assert!(rig.keeper.half_done().await.is_some(), "nothing of it is loaded");
    let restored = rig.keeper.restore_last_good(LATER).await;
    assert!(matches!(restored, StepOutcome::Done(_)), "{restored:?}");
    assert_eq!((text(&rig, "a.conf").as_str(), text(&rig, "b.conf").as_str()), ("good", "good"));
    assert_eq!(rig.keeper.half_done().await, None);

    let rig = self::rig(3, DAY);
    half_of(&rig, PLAN).await;
    let undone = rig.keeper.complete(LATER, Over::IsUndone).await.expect("an answer");
    assert!(matches!(&undone, StepOutcome::Done(said) if said.contains("is undone")), "{undone:?}");
    assert_eq!((text(&rig, "a.conf").as_str(), text(&rig, "b.conf").as_str()), ("newer", "newer"));
    assert_eq!(rig.keeper.half_done().await, None);
}

#[tokio::test]
async fn half_of_an_earlier_takeovers_restore_is_undone_where_no_good_one_can_take_its_place() {
    let rig = rig(3, DAY);
    half_of(&rig, PLAN).await;
    let good = rig.keeper.vault.newest_good().expect("kept").id;
    fs::write(rig.dir.path().join("state/snapshots").join(good).join("tree/0/b.conf"), "x").expect("damaged");
    rig.keeper.complete(LATER, Over::IsBroken).await.expect("an answer");
    let failed = rig.keeper.restore_last_good(LATER).await;
    assert!(matches!(&failed, StepOutcome::Unknown(said) if said.contains("is damaged")), "{failed:?}");
    let undone = rig.keeper.complete(LATER, Over::IsBroken).await.expect("an answer");
    assert!(matches!(&undone, StepOutcome::Done(said) if said.contains("is undone")), "{undone:?}");
    assert_eq!((text(&rig, "a.conf").as_str(), rig.keeper.half_done().await), ("newer", None));
}

#[tokio::test]
async fn a_way_back_that_can_never_be_completed_gives_way_to_the_last_good_one() {
    let rig = rig(3, DAY);
    rig.take();
    for name in ["a.conf", "b.conf"] {
        fs::write(rig.work(name), "newer").expect("file");
    }
    rig.keeper.keep_for(PLAN).await.expect("an answer");
    assert!(matches!(rig.keeper.restore_last_good(PLAN).await, StepOutcome::Done(_)));
    let kept = rig.keeper.kept_for(PLAN).expect("kept");
    fs::write(rig.dir.path().join("state/snapshots").join(kept).join("tree/0/a.conf"), "x").expect("damaged");
    let why = rig.keeper.give_back().await.expect_err("it breaks off");
    assert!(why.contains("is damaged") && rig.keeper.half_done().await.is_some(), "{why}");

    let left = rig.keeper.complete(LATER, Over::IsUndone).await.expect("an answer");
    assert!(matches!(left, StepOutcome::Unknown(_)), "{left:?}: where a person wants no last good one");
    let left = rig.keeper.complete(LATER, Over::IsBroken).await.expect("an answer");
    assert!(matches!(&left, StepOutcome::Done(said) if said.contains("cannot be completed")), "{left:?}");
    let restored = rig.keeper.restore_last_good(LATER).await;
    assert!(matches!(restored, StepOutcome::Done(_)), "{restored:?}");
    assert_eq!((text(&rig, "a.conf").as_str(), rig.keeper.half_done().await), ("good", None));
}

/// Half of a restore of which nobody knows anything, and a good snapshot.
fn unreadable_half(rig: &Rig) -> PathBuf {
    let good = rig.take();
    fs::write(rig.work("a.conf"), "newer").expect("file");
    fs::write(rig.dir.path().join("state/restore-under-way"), "{\"id\":").expect("cut");
    rig.dir.path().join("state/snapshots").join(good).join("tree/0/a.conf")
}

#[tokio::test]
async fn a_good_one_that_could_not_be_put_in_place_for_a_while_is_tried_again_where_the_half_cannot_be_undone() {
    let rig = rig(3, DAY);
    let copy = unreadable_half(&rig);
    fs::rename(&copy, rig.work("away")).expect("moved");
    let complete = || rig.keeper.complete(PLAN, Over::IsBroken);
    for _ in 0..2 {
        let left = complete().await.expect("an answer");
        assert!(matches!(left, StepOutcome::Done(_)), "{left:?}: the good one is to take its place");
        let failed = rig.keeper.restore_last_good(PLAN).await;
        assert!(matches!(&failed, StepOutcome::Unknown(said) if said.contains("is damaged")), "{failed:?}");
        let failed = complete().await.expect("an answer");
        assert!(matches!(failed, StepOutcome::Unknown(_)), "{failed:?}: nor can it be undone");
    }
    fs::rename(rig.work("away"), &copy).expect("moved");
    complete().await.expect("an answer");
    let restored = rig.keeper.restore_last_good(PLAN).await;
    assert!(matches!(restored, StepOutcome::Done(_)), "{restored:?}");
    assert_eq!((text(&rig, "a.conf").as_str(), rig.keeper.half_done().await), ("good", None));
}

#[tokio::test]
async fn who_only_waited_for_somebody_else_has_not_learned_that_no_good_one_can_be_put_in_place() {
    let rig = rig(3, DAY);
    unreadable_half(&rig);
    let held = rig.keeper.vault.lock(&Stop::default()).expect("lock");
    tokio::time::pause();
    let keeper = Arc::clone(&rig.keeper);
    let waiting = tokio::spawn(async move { keeper.restore_last_good(PLAN).await });
    while !waiting.is_finished() {
        tokio::time::advance(WORK_MAX / 4).await;
        tokio::task::yield_now().await;
    }
    let waited = waiting.await.expect("ended");
    assert!(matches!(waited, StepOutcome::Unknown(_)), "{waited:?}");
    tokio::time::resume();
    drop(held);
    let left = rig.keeper.complete(PLAN, Over::IsBroken).await.expect("an answer");
    assert!(matches!(left, StepOutcome::Done(_)), "{left:?}");
    assert!(matches!(rig.keeper.restore_last_good(PLAN).await, StepOutcome::Done(_)));
}

#[tokio::test]
async fn half_a_restore_is_worked_on_beyond_the_minute_since_nothing_else_can_be_loaded_meanwhile() {
    let rig = rig(3, DAY);
    half_of(&rig, PLAN).await;
    let good = rig.keeper.vault.newest_good().expect("kept").id;
    let kept = rig.keeper.kept_for(PLAN).expect("kept");
    for (id, name) in [(&good, "b.conf"), (&kept, "a.conf")] {
        fs::write(rig.dir.path().join("state/snapshots").join(id).join("tree/0").join(name), "x").expect("damaged");
    }
    let (lock, stop) = (rig.keeper.vault.lock(&Stop::default()).expect("lock"), Stop::default());
    let failed = rig.keeper.complete_or_undo(&lock, (PLAN, Over::IsUndone), &stop).expect_err("neither is whole");
    assert!(stop.is_beyond(), "{failed}");
    let off = Stop::default();
    off.call_off();
    let failed = rig.keeper.complete_or_undo(&lock, (PLAN, Over::IsUndone), &off);
    assert_eq!(failed, Err(Failed::CalledOff), "what is not waited for any more is not begun");
}

#[tokio::test]
async fn what_keeps_snapshots_from_being_taken_stands_until_one_is_taken() {
    let rig = rig(3, DAY);
    rig.keeper.memory(|memory| memory.trouble = Some("the disk is full".into()));
    let measured = measure(rig.keeper.vault.subject(), &Stop::default()).expect("measured");
    let trouble = || rig.told().trouble;
    let off = Stop::default();
    off.call_off();
    rig.keeper.take_good(&measured, &off);
    assert!(trouble().is_some(), "called off");
    fs::write(rig.work("b.conf"), "moves").expect("file");
    rig.keeper.take_good(&measured, &Stop::default());
    assert!(trouble().is_some(), "of no moment");
    rig.look(true);
    rig.rest().await;
    assert_eq!((trouble(), rig.kept()), (None, 1));
    let lock = rig.keeper.vault.lock(&Stop::default()).expect("lock");
    assert!(matches!(rig.keeper.vault.lock(&off), Err(Failed::CalledOff | Failed::Busy)));
    drop(lock);
}

#[tokio::test]
async fn work_whose_caller_was_dropped_is_called_off_and_changes_nothing() {
    let rig = rig(3, DAY);
    let (go, wait) = std::sync::mpsc::channel();
    let (begins, begun) = tokio::sync::oneshot::channel();
    let (ends, ended) = tokio::sync::oneshot::channel();
    let work = move |_: &Keeper, stop: &Stop| {
        let _ = begins.send(());
        let _ = wait.recv_timeout(Duration::from_secs(20));
        let _ = ends.send(stop.go_beyond());
        Ok(())
    };
    let keeper = Arc::clone(&rig.keeper);
    let waiting = tokio::spawn(async move { keeper.within(work).await });
    begun.await.expect("it begins");
    waiting.abort();
    assert!(waiting.await.is_err_and(|error| error.is_cancelled()));
    go.send(()).expect("it waits");
    assert_eq!(ended.await.expect("it ends"), Err(Failed::CalledOff));
}

#[tokio::test]
async fn a_takeover_gives_up_on_no_restore_that_has_begun_to_change_files() {
    let rig = rig(3, DAY);
    tokio::time::pause();
    let (go, wait) = std::sync::mpsc::channel();
    let (begins, begun) = tokio::sync::oneshot::channel();
    let work = move |_: &Keeper, stop: &Stop| {
        stop.go_beyond()?;
        let _ = begins.send(());
        wait.recv_timeout(Duration::from_secs(20)).map_err(|error| Failed::Trouble(error.to_string()))
    };
    let keeper = Arc::clone(&rig.keeper);
    let waiting = tokio::spawn(async move { keeper.within(work).await });
    begun.await.expect("it begins");
    for _ in 0..4 {
        tokio::time::advance(WORK_MAX).await;
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    go.send(()).expect("it waits");
    assert_eq!(waiting.await.expect("ended"), Ok(()));
}
