//! What a takeover does with the snapshots: completes or undoes half a restore, keeps what is there, puts the last good one in
//! place, moves the spools aside; and gives back what it put in place before the sync is started again.

use std::sync::Arc;

use jiff::Timestamp;

use super::Keeper;
use crate::adapters::data::snapshot::Lock;
use crate::adapters::data::snapshot::copy::{Failed, Stop};
use crate::adapters::data::snapshot::held::first;
use crate::adapters::data::snapshot::restore::{Order as Restore, Stage};
use crate::adapters::data::snapshot::take::{Order, Taken, measure};
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
        let has_cure = !is_stuck && over == Over::IsBroken && self.has_good(clock::now().wall) == Snapshot::Kept;
        if is_over && has_cure {
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
            Err(Failed::CalledOff) => Err(Failed::CalledOff),
            // It counts as broken from here on, and the last good one takes its place.
            Ok(None) if has_cure => Ok(Some(format!("a restore that was broken off cannot be completed ({failed})"))),
            Err(undone) if has_cure => Ok(Some(format!(
                "a restore that was broken off can be neither completed ({failed}) nor undone ({undone})"
            ))),
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
    pub(super) fn kept_for(&self, plan: PlanId) -> Option<String> {
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

fn takeover(plan: PlanId) -> Kind {
    Kind::Takeover(plan.to_string())
}
