//! When snapshots are taken and what is told of them: the way from the gate to the vault. What a takeover does with them is
//! `takeover.rs`.
//!
//! A good one is taken beside the looks, on a thread of its own, and called off by a takeover. Nothing here is waited for
//! without end: a file system may hang.

mod takeover;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::snapshot::copy::{Failed, Stop};
use super::snapshot::take::Order;
use super::snapshot::{Known, Vault};
use crate::config::Config;
use crate::data::Pattern;
use crate::data::gate::{Snapshot, Weight, age};
use crate::data::snapshot::{Kind, Measure, is_due};
use crate::host::clock;
use crate::ports::Keep;
use crate::units::PlanId;
use crate::units::data::{GoodSnapshot, Snapshots};
pub use takeover::Over;

/// A takeover waits so long for its snapshot, for a restore, for the spools.
const WORK_MAX: Duration = Duration::from_secs(60);
/// Of that so long for whoever works there: a file system that others fill may take its time, and what is given up is not
/// tried again.
const LOCK_MAX: Duration = Duration::from_secs(25);
/// A restore that has begun to change files is waited for so long at once; then a person is told, and it is waited for again.
const CHANGES_MAX: Duration = Duration::from_secs(600);
/// One that could not be taken is tried again so late: it may have filled a disk.
const AGAIN: Duration = Duration::from_secs(300);
/// So often is it noted that the newest one is still what is there.
const CONFIRM_EVERY: Duration = Duration::from_secs(600);

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
    /// The takeover that could put no good one in the place of half a restore: it is to be undone before that is tried again.
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

#[cfg(test)]
mod tests;
