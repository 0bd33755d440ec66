//! What a takeover does with the snapshots: completes or undoes half a restore, keeps what is there, puts the last good one in
//! place, moves the spools aside; and gives back what it put in place before the sync is started again.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Keeper, LOCK_MAX};
use crate::adapters::data::snapshot::copy::{Failed, Stop};
use crate::adapters::data::snapshot::held::first;
use crate::adapters::data::snapshot::restore::{Order as Restore, Stage, UnderWay};
use crate::adapters::data::snapshot::take::{Order, Taken, measure};
use crate::adapters::data::snapshot::{Lock, Work};
use crate::data::gate::Snapshot;
use crate::data::snapshot::Kind;
use crate::host::clock;
use crate::units::{PlanId, StepOutcome};

/// What becomes of half a restore that is over: another takeover's, or a person's of a while ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// It counts as broken, so that the last good one takes its place, where there is one.
    IsBroken,
    /// What was there before is put back.
    IsUndone,
}

impl Keeper {
    /// Why what lies there may be half of a snapshot, so that nothing of it may be loaded, with what to do.
    pub async fn half_done(self: &Arc<Self>) -> Option<String> {
        self.half_told("").await
    }

    /// What did not succeed: where it leaves half of a snapshot, the step must not pass.
    async fn not_done(self: &Arc<Self>, why: String) -> StepOutcome {
        match self.half_told(&format!(": {why}; mend what it names")).await {
            Some(half) => StepOutcome::unknown(half),
            None => StepOutcome::failed(why),
        }
    }

    /// `then`: what follows the half, before how a person ends it.
    async fn half_told(self: &Arc<Self>, then: &str) -> Option<String> {
        let work = |keeper: &Self, _: &Stop| Ok(keeper.vault.half_done().map(|half| (half, keeper.vault.half_ends())));
        let (half, ends) = self.within(work).await.unwrap_or_else(|why| Some((why, None)))?;
        let ends = ends.map(|ends| if then.is_empty() { format!("; {ends}") } else { format!(", or {ends}") });
        Some(format!("{half}{then}{}", ends.unwrap_or_default()))
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
    pub(super) fn complete_or_undo(
        &self,
        lock: &Lock,
        (plan, over): (PlanId, Over),
        stop: &Stop,
    ) -> Result<Option<String>, Failed> {
        let note = self.vault.under_way();
        if note == Ok(None) {
            return Ok(None);
        }
        self.go_beyond_half(stop)?;
        let (ours, cure) = (plan.to_string(), self.cure(plan, over));
        let failed = match next(&note, &ours, cure) {
            Next::GivesWay => {
                return note.map_or_else(|odd| Ok(Some(odd)), |_| self.vault.complete(lock, Some(&ours), stop));
            }
            Next::GoesOn => match self.vault.complete(lock, Some(&ours), stop) {
                Err(failed) if failed != Failed::CalledOff => failed,
                completed => return completed,
            },
            Next::GoesBack => {
                let text = "half of it may lie there, and nothing else is whole".to_owned();
                Failed::Trouble(self.vault.broken_off().map_or(text, |half| format!("{half}, and over")))
            }
        };
        let is_ours = note.is_ok_and(|note| note.is_some_and(|note| note.order.plan.as_ref() == Some(&ours)));
        let undone = match self.vault.undo(lock, Some(&ours), stop) {
            Ok(Some(said)) => {
                if is_ours {
                    self.memory(|memory| memory.undone = Some((plan, failed.to_string())));
                }
                return Ok(Some(format!(
                    "a restore that was broken off cannot be completed ({failed}) and is undone: {said}"
                )));
            }
            Err(Failed::CalledOff) => return Err(Failed::CalledOff),
            Ok(None) => None,
            Err(undone) => Some(undone),
        };
        match (cure, undone) {
            // It counts as broken from here on, and the last good one takes its place.
            (Snapshot::Kept, None) => Ok(Some(format!("a restore that was broken off cannot be completed ({failed})"))),
            (Snapshot::Kept, Some(undone)) => Ok(Some(format!(
                "a restore that was broken off can be neither completed ({failed}) nor undone ({undone})"
            ))),
            (Snapshot::None, undone) => {
                // What kept the good one from taking its place may have passed.
                self.memory(|memory| memory.stuck = None);
                Err(undone.map_or(failed.clone(), |undone| {
                    Failed::Trouble(format!("{failed}; nor can it be undone: {undone}"))
                }))
            }
        }
    }

    /// Nothing is loaded before what lies there is whole, so that calling it off would only begin it anew.
    fn go_beyond_half(&self, stop: &Stop) -> Result<(), Failed> {
        if self.vault.broken_off().is_some() { stop.go_beyond() } else { Ok(()) }
    }

    /// Whether a good one can take the place of half a restore now.
    fn cure(&self, plan: PlanId, over: Over) -> Snapshot {
        let is_stuck = self.memory(|memory| memory.stuck == Some(plan));
        if is_stuck || over == Over::IsUndone { Snapshot::None } else { self.has_good(clock::now().wall) }
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
            keeper.go_beyond_half(stop)?;
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
        let lock = self.vault.lock_within(Work::Robot, LOCK_MAX, stop)?;
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
    pub(super) fn kept_for(&self, plan: PlanId) -> Option<String> {
        self.vault.list().0.into_iter().find(|one| one.head.kind == takeover(plan)).map(|one| one.id)
    }

    /// Puts the newest good one that is whole in place.
    pub async fn restore_last_good(self: &Arc<Self>, plan: PlanId) -> StepOutcome {
        let work = move |keeper: &Self, stop: &Stop| {
            let restored = keeper.restore(plan, stop);
            // Who was called off, or waited for somebody, has not learned that it cannot be done.
            if matches!(restored, Err(Failed::Trouble(_) | Failed::Moved(_))) {
                keeper.memory(|memory| memory.stuck = Some(plan));
            }
            restored
        };
        match self.within(work).await {
            Ok(proof) => StepOutcome::Done(proof),
            Err(why) => self.not_done(why).await,
        }
    }

    fn restore(&self, plan: PlanId, stop: &Stop) -> Result<String, Failed> {
        let lock = self.vault.lock_within(Work::Robot, LOCK_MAX, stop)?;
        let undone = self.memory(|memory| memory.undone.clone()).filter(|(of, _)| *of == plan);
        // Where half of yet another one lies there nothing can be loaded without it.
        if let Some((_, why)) = undone.filter(|_| self.vault.broken_off().is_none()) {
            return Err(Failed::Trouble(format!("it broke off and was undone: {why}")));
        }
        self.go_beyond_half(stop)?;
        let mut why = Failed::Trouble("there is none".to_owned());
        for good in self.usable(clock::now().wall) {
            let kept = self.kept_for(plan);
            let plan = plan.to_string();
            let aside = format!("{plan}.replaced");
            let order =
                Restore { id: good.id.clone(), only: Vec::new(), aside, kept, plan: Some(plan), unless_changed: None };
            let mut has_begun = false;
            let mut begins = || {
                has_begun = true;
                Ok(())
            };
            match self.vault.restore_if(&lock, &order, stop, &mut begins) {
                Ok(restored) => return Ok(restored.told(&good.id, &order.aside)),
                Err(Failed::CalledOff) => return Err(Failed::CalledOff),
                Err(failed) if has_begun => return Err(failed),
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

/// What becomes of half a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It goes on until all of it is there, or ends, where it had changed nothing yet.
    GoesOn,
    /// It is over: the look says that it is broken, and the last good one takes its place.
    GivesWay,
    /// It is over, and no good one can take its place: what was there before is put back.
    GoesBack,
}

fn next(note: &Result<Option<UnderWay>, String>, ours: &str, cure: Snapshot) -> Next {
    let is_over = match note {
        Ok(Some(note)) => note.stage == Stage::Committing && note.is_over(Some(ours)),
        Ok(None) => false,
        // Nobody knows what was begun.
        Err(_) => true,
    };
    match (is_over, cure) {
        (false, _) => Next::GoesOn,
        (true, Snapshot::Kept) => Next::GivesWay,
        (true, Snapshot::None) => Next::GoesBack,
    }
}

fn takeover(plan: PlanId) -> Kind {
    Kind::Takeover(plan.to_string())
}
