//! When snapshots are taken, and what a takeover does with them: the way from the gate to the vault.
//!
//! A good one is taken beside the looks, on a thread of its own, and called off by a takeover. Nothing here is waited for
//! without end: a file system may hang.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::snapshot::copy::{Failed, Stop};
use super::snapshot::held::first;
use super::snapshot::restore::{Order as Restore, Stage};
use super::snapshot::take::{Order, Taken, measure};
use super::snapshot::{Known, Lock, Vault};
use crate::config::Config;
use crate::data::Pattern;
use crate::data::gate::{Snapshot, Weight, age};
use crate::data::snapshot::{Kind, Measure, is_due};
use crate::host::clock;
use crate::ports::Keep;
use crate::units::data::{GoodSnapshot, Snapshots};
use crate::units::{PlanId, StepOutcome};

/// A takeover waits so long for its snapshot, for a restore, for the spools.
const WORK_MAX: Duration = Duration::from_secs(60);
/// A restore that has begun to change files is waited for so long at once; then a person is told, and it is waited for again.
const CHANGES_MAX: Duration = Duration::from_secs(600);
/// One that could not be taken is tried again so late: it may have filled a disk.
const AGAIN: Duration = Duration::from_secs(300);
/// So often is it noted that the newest one is still what is there.
const CONFIRM_EVERY: Duration = Duration::from_secs(600);

/// What becomes of half a restore that is over: another takeover's, or a person's of a while ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// It counts as broken, so that the last good one takes its place, where there is one.
    IsBroken,
    /// What was there before is put back.
    IsUndone,
}

/// Keeps the snapshots of one configuration.
pub struct Keeper {
    vault: Vault,
    hold_back: Vec<Pattern>,
    hold_age: Duration,
    busy: AtomicBool,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// What the last look measured.
    measure: Option<Measure>,
    /// What keeps good snapshots from being taken.
    trouble: Option<String>,
    tried: Option<Instant>,
    /// The newest good one when it was told last.
    newest: Option<Known>,
    bytes: u64,
    is_measured: bool,
    /// The good one that is being taken.
    taking: Arc<Stop>,
    /// The takeover whose restore broke off and was undone, with why: the next try would break off again.
    undone: Option<(PlanId, String)>,
    /// The takeover that could put no good one in the place of half a restore that is over.
    stuck: Option<PlanId>,
}

impl Keeper {
    /// That of this configuration.
    pub fn new(config: &Config) -> Self {
        Self::of(Vault::new(config), config.sync.hold_back.clone(), config.sync.max_age.hold)
    }

    /// With its own parts; for tests.
    pub fn of(vault: Vault, hold_back: Vec<Pattern>, hold_age: Duration) -> Self {
        Self { vault, hold_back, hold_age, busy: AtomicBool::new(false), memory: Mutex::default() }
    }

    fn memory<T>(&self, with: impl FnOnce(&mut Memory) -> T) -> T {
        with(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Good ones that are young enough to be a cure, the newest first.
    fn usable(&self, now: Timestamp) -> Vec<Known> {
        let mut good = self.vault.good();
        good.retain(|one| age(now, one.confirmed) <= self.hold_age);
        good.reverse();
        good
    }

    /// Whether there is a good one to go back to.
    pub fn has_good(&self, now: Timestamp) -> Snapshot {
        self.way_out(&self.usable(now))
    }

    fn way_out(&self, usable: &[Known]) -> Snapshot {
        // What cannot be put in place is no way out.
        let is_useless = usable.is_empty() || self.vault.unwritable().is_some();
        if is_useless { Snapshot::None } else { Snapshot::Kept }
    }

    /// Whether what lies there may be half of a snapshot, with the weight that has. `equal`: when the primary had its
    /// configuration as it lies here; what it had after the restore began is no half.
    pub fn half(&self, equal: Option<Timestamp>, keep: Keep) -> Option<(Weight, String)> {
        let half = self.vault.broken_off()?;
        if self.vault.is_at_work() {
            return Some((Weight::UnderWay, "a snapshot is being put in place".to_owned()));
        }
        let note = self.vault.under_way().ok().flatten();
        if let Some(began) = note.as_ref().and_then(|note| note.at)
            && equal.is_some_and(|at| at > began)
            // What the primary vouches for is its configuration, and says nothing of a database.
            && note.as_ref().is_some_and(|note| self.vault.is_of_configuration_alone(&note.order))
        {
            let at_once = Stop::default();
            at_once.call_off();
            // One that began meanwhile has another note.
            if keep != Keep::Nothing
                && let Ok(lock) = self.vault.lock(&at_once)
                && self.vault.under_way().ok().flatten() == note
            {
                self.vault.forget_half(&lock);
            }
            return None;
        }
        Some((Weight::Broken, half))
    }

    /// What is kept, for people, and what that is worth in a takeover.
    pub fn told(&self, now: Timestamp) -> (Snapshots, Snapshot) {
        let (known, odd) = self.vault.list();
        let kept = u32::try_from(known.len()).unwrap_or(u32::MAX);
        let mut usable = self.vault.good_of(known);
        let good =
            usable.last().map(|good| GoodSnapshot { id: good.id.clone(), at: good.head.at, confirmed: good.confirmed });
        self.memory(|memory| memory.newest = usable.last().cloned());
        usable.retain(|one| age(now, one.confirmed) <= self.hold_age);
        let is_measured = self.memory(|memory| std::mem::replace(&mut memory.is_measured, true));
        if !is_measured && kept > 0 {
            let bytes = self.vault.bytes();
            self.memory(|memory| memory.bytes = bytes);
        }
        let (bytes, trouble) = self.memory(|memory| (memory.bytes, memory.trouble.clone()));
        let damaged = odd.first().map(|(id, why)| format!("snapshot {id} is not used: {why}"));
        let broken_off = self.vault.half_told();
        let unwritable = self.vault.unwritable();
        let wish = unwritable.as_ref().filter(|_| !self.hold_back.is_empty());
        let wish =
            wish.map(|dir| format!("nothing can be held back: the robot may not write into {dir} (docs/snapshots.md)"));
        let trouble = broken_off.or(trouble).or(wish).or(damaged);
        let way_out = self.way_out(&usable);
        (Snapshots { kept, bytes, good, unwritable, trouble }, way_out)
    }

    /// A look has found what it measured good, and told: a snapshot of it is taken, unless there is one.
    pub fn looked(self: &Arc<Self>, measured: &Measure, is_good: bool) {
        self.memory(|memory| memory.measure = Some(measured.clone()));
        if !is_good || self.vault.keep() == 0 || self.busy.load(Ordering::SeqCst) {
            return;
        }
        let now = clock::now().wall;
        let newest = self.memory(|memory| memory.newest.clone());
        if let Some(newest) = newest.as_ref().filter(|newest| newest.foot.measure.is_same_moment(measured)) {
            self.memory(|memory| memory.trouble = None);
            if age(now, newest.confirmed) >= CONFIRM_EVERY {
                self.vault.confirm(&newest.id);
            }
        }
        let waits = self.memory(|memory| memory.tried.is_some_and(|at| at.elapsed() < AGAIN));
        if waits || !is_due(measured, newest.as_ref().map(|newest| (&newest.foot.measure, newest.head.at)), now) {
            return;
        }
        self.busy.store(true, Ordering::SeqCst);
        let (keeper, measured, stop) = (Arc::clone(self), measured.clone(), Arc::new(Stop::default()));
        self.memory(|memory| memory.taking = Arc::clone(&stop));
        tokio::task::spawn_blocking(move || {
            let _busy = Busy(&keeper.busy);
            keeper.take_good(&measured, &stop);
        });
    }

    fn take_good(&self, measured: &Measure, stop: &Stop) {
        let order = Order { kind: Kind::LastGood, reason: None };
        let taken = self.vault.lock(stop).and_then(|lock| {
            // Somebody may have begun to put one in place since the look.
            if self.vault.broken_off().is_some() {
                return Err(Failed::CalledOff);
            }
            let taken = self.vault.take(&lock, &order, measured, stop);
            self.vault.prune(&lock);
            taken
        });
        let bytes = self.vault.bytes();
        let trouble = match &taken {
            Ok(taken) => {
                tracing::info!(
                    snapshot = taken.told(),
                    linked = taken.linked,
                    "the working directory is kept as it is"
                );
                None
            }
            // Whatever moves comes to rest; the next look tries again. It proves nothing of what was wrong before.
            Err(Failed::Moved(_) | Failed::CalledOff | Failed::Busy) => {
                self.memory(|memory| memory.bytes = bytes);
                return;
            }
            Err(Failed::Trouble(why)) => Some(why.clone()),
        };
        self.memory(|memory| {
            memory.bytes = bytes;
            memory.tried = trouble.is_some().then(Instant::now);
            if trouble != memory.trouble {
                if let Some(why) = &trouble {
                    tracing::warn!(why, "no snapshot of the working directory can be taken");
                }
                memory.trouble = trouble;
            }
        });
    }

    /// Does this on a thread of its own, for so long at most; a good one that is being taken gives way.
    async fn within<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, &Stop) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, String> {
        self.memory(|memory| Arc::clone(&memory.taking)).call_off();
        let (keeper, stop) = (Arc::clone(self), Arc::new(Stop::default()));
        let own = Arc::clone(&stop);
        // Whoever is no longer waited for, because its caller was dropped, must not go on to change files.
        let _unwaited = Unwaited(Arc::clone(&stop));
        let mut done = tokio::task::spawn_blocking(move || work(&keeper, &own));
        let (mut ended, mut waited) = (tokio::time::timeout(WORK_MAX, &mut done).await, WORK_MAX);
        if ended.is_err() {
            stop.call_off();
            if stop.is_beyond() {
                (ended, waited) = (tokio::time::timeout(CHANGES_MAX, done).await, WORK_MAX + CHANGES_MAX);
            }
        }
        match ended {
            Ok(Ok(done)) => done.map_err(|failed| failed.to_string()),
            Ok(Err(_)) => Err("its work broke off; see the log".to_owned()),
            Err(_) => Err(format!("it did not end within {} s: its file system hangs, or is slow", waited.as_secs())),
        }
    }

    /// Why what lies there may be half of a snapshot, so that nothing of it may be loaded.
    pub async fn half_done(self: &Arc<Self>) -> Option<String> {
        self.within(|keeper, _| Ok(keeper.vault.half_done())).await.unwrap_or_else(Some)
    }

    /// What did not succeed: where it leaves half of a snapshot, the step must not pass.
    async fn not_done(self: &Arc<Self>, why: String) -> StepOutcome {
        match self.half_done().await {
            Some(half) => StepOutcome::unknown(format!("{half}: {why}")),
            None => StepOutcome::failed(why),
        }
    }

    /// Completes a restore that was broken off, for this takeover or for a person; `None`: there was none. `over`: what
    /// becomes of the half of one that is over.
    pub async fn complete(self: &Arc<Self>, plan: PlanId, over: Over) -> Option<StepOutcome> {
        let work = move |keeper: &Self, stop: &Stop| {
            let is_staging = match keeper.vault.under_way() {
                Ok(None) => return Ok(None),
                Ok(Some(note)) => note.stage == Stage::Staging,
                Err(_) => false,
            };
            // What has changed nothing yet asks before it does.
            if is_staging && keeper.vault.person_restores().is_some() {
                return Ok(None);
            }
            let lock = keeper.vault.lock(stop)?;
            keeper.complete_or_undo(&lock, (plan, over), stop)
        };
        match self.within(work).await {
            Ok(done) => done.map(StepOutcome::done),
            Err(why) => Some(self.not_done(format!("a restore that was broken off is not complete: {why}")).await),
        }
    }

    /// What cannot be completed is undone, so that it is whole either way.
    fn complete_or_undo(
        &self,
        lock: &Lock,
        (plan, over): (PlanId, Over),
        stop: &Stop,
    ) -> Result<Option<String>, Failed> {
        let ours = plan.to_string();
        let note = self.vault.under_way();
        let is_over = note.as_ref().map_or(true, |note| {
            note.as_ref().is_some_and(|note| note.stage == Stage::Committing && note.is_over(Some(&ours)))
        });
        let is_stuck = self.memory(|memory| memory.stuck == Some(plan));
        if is_over && !is_stuck && over == Over::IsBroken && self.has_good(clock::now().wall) == Snapshot::Kept {
            // The look says that it is broken, and the last good one takes its place.
            return note.map_or_else(|odd| Ok(Some(odd)), |_| self.vault.complete(lock, Some(&ours), stop));
        }
        let failed = if is_over {
            let text = "half of it may lie there, and nothing else is whole".to_owned();
            Failed::Trouble(self.vault.broken_off().map_or(text, |half| format!("{half}, and over")))
        } else {
            match self.vault.complete(lock, Some(&ours), stop) {
                Err(failed) if failed != Failed::CalledOff => failed,
                completed => return completed,
            }
        };
        let is_ours = note.is_ok_and(|note| note.is_some_and(|note| note.order.plan.as_ref() == Some(&ours)));
        match self.vault.undo(lock, Some(&ours), stop) {
            Ok(Some(said)) => {
                if is_ours {
                    self.memory(|memory| memory.undone = Some((plan, failed.to_string())));
                }
                Ok(Some(format!("a restore that was broken off cannot be completed ({failed}) and is undone: {said}")))
            }
            Ok(None) => Err(failed),
            Err(undone) => Err(Failed::Trouble(format!("{failed}; nor can it be undone: {undone}"))),
        }
    }

    /// Before the sync is started: what a takeover has put in place is as it was before; `None`: there was nothing.
    ///
    /// # Errors
    /// One line: the sync must not be started.
    pub async fn give_back(self: &Arc<Self>) -> Result<Option<String>, String> {
        let work = |keeper: &Self, stop: &Stop| {
            if matches!((keeper.vault.under_way(), keeper.vault.put_in_place()), (Ok(None), Ok(None))) {
                return Ok(None);
            }
            let lock = keeper.vault.lock(stop)?;
            keeper.vault.give_back(&lock, stop)
        };
        self.within(work).await
    }

    /// Keeps what is there, once for each takeover, before anything of it is changed.
    pub async fn keep_for(self: &Arc<Self>, plan: PlanId) -> Option<StepOutcome> {
        if self.vault.keep() == 0 {
            return None;
        }
        let kept = self.within(move |keeper, stop| keeper.take_for(plan, stop)).await;
        Some(match kept {
            Ok(Some(taken)) => StepOutcome::done(taken.told()),
            Ok(None) => {
                StepOutcome::done(format!("snapshot {} is there already", takeover(plan).id(Timestamp::UNIX_EPOCH)))
            }
            Err(why) => self.not_done(format!("no snapshot of it: {why}")).await,
        })
    }

    fn take_for(&self, plan: PlanId, stop: &Stop) -> Result<Option<Taken>, Failed> {
        let lock = self.vault.lock(stop)?;
        if self.kept_for(plan).is_some() {
            return Ok(None);
        }
        let measured = match self.memory(|memory| memory.measure.clone()) {
            Some(measured) => measured,
            None => measure(self.vault.subject(), stop)?,
        };
        self.vault.take(&lock, &Order { kind: takeover(plan), reason: None }, &measured, stop).map(Some)
    }

    /// The snapshot that was taken for this takeover.
    fn kept_for(&self, plan: PlanId) -> Option<String> {
        self.vault.list().0.into_iter().find(|one| one.head.kind == takeover(plan)).map(|one| one.id)
    }

    /// Puts the newest good one that is whole in place.
    pub async fn restore_last_good(self: &Arc<Self>, plan: PlanId) -> StepOutcome {
        match self.within(move |keeper, stop| keeper.restore(plan, stop)).await {
            Ok(proof) => StepOutcome::Done(proof),
            Err(why) => {
                self.memory(|memory| memory.stuck = Some(plan));
                self.not_done(why).await
            }
        }
    }

    fn restore(&self, plan: PlanId, stop: &Stop) -> Result<String, Failed> {
        if let Some((_, why)) = self.memory(|memory| memory.undone.clone()).filter(|(of, _)| *of == plan) {
            return Err(Failed::Trouble(format!("it broke off and was undone: {why}")));
        }
        let lock = self.vault.lock(stop)?;
        let mut why = Failed::Trouble("there is none".to_owned());
        for good in self.usable(clock::now().wall) {
            let kept = self.kept_for(plan);
            let plan = plan.to_string();
            let aside = format!("{plan}.replaced");
            let order =
                Restore { id: good.id.clone(), only: Vec::new(), aside, kept, plan: Some(plan), unless_changed: None };
            match self.vault.restore(&lock, &order, stop) {
                Ok(restored) => return Ok(restored.told(&good.id, &order.aside)),
                Err(Failed::CalledOff) => return Err(Failed::CalledOff),
                Err(failed) if stop.is_beyond() => return Err(failed),
                Err(failed) => why = failed,
            }
        }
        Err(why)
    }

    /// Moves aside what would act on start; `None`: nothing is to be.
    pub async fn hold_back(self: &Arc<Self>, plan: PlanId) -> Option<StepOutcome> {
        if self.hold_back.is_empty() {
            return None;
        }
        let work =
            move |keeper: &Self, stop: &Stop| Ok(keeper.vault.hold_back(&keeper.hold_back, &plan.to_string(), stop));
        Some(match self.within(work).await {
            Err(why) => StepOutcome::failed(format!("sync.hold_back: {why}")),
            Ok(moved) if !moved.stayed.is_empty() => {
                let stayed = first(&moved.stayed);
                StepOutcome::failed(format!(
                    "sync.hold_back: {} files moved aside, not moved: {stayed}",
                    moved.files.all
                ))
            }
            Ok(moved) if moved.files.is_empty() => StepOutcome::done("sync.hold_back: there was nothing to hold back"),
            Ok(moved) => StepOutcome::done(format!(
                "{} files held back in held-back/{plan} ({})",
                moved.files.all,
                moved.named()
            )),
        })
    }
}

/// Whatever becomes of the work, another can begin after it.
struct Busy<'a>(&'a AtomicBool);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Calls the work off once nobody waits for it, which does nothing to what has ended or has begun to change files.
struct Unwaited(Arc<Stop>);

impl Drop for Unwaited {
    fn drop(&mut self) {
        self.0.call_off();
    }
}

fn takeover(plan: PlanId) -> Kind {
    Kind::Takeover(plan.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::adapters::data::look::Subject;
    use crate::data::Classes;

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
}
