//! Steps that are being carried out, by plan: so that a dropped plan's acts have ended before another's begin.
//!
//! A start of the PBX that outlives its plan would undo the stop that follows it, and two would serve.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::units::PlanId;

/// At the daemon's end a step has so long: less than systemd waits before it kills (TimeoutStopSec).
const FINISH_WITHIN: Duration = Duration::from_secs(20);

/// The tasks of each plan's steps; clones share them.
#[derive(Clone, Default)]
pub struct UnderWay(Arc<Mutex<Plans>>);

#[derive(Default)]
struct Plans {
    tasks: BTreeMap<PlanId, Vec<JoinHandle<()>>>,
    /// The last plan that was ended: a step of it that was still waiting for its record to be written does not begin
    /// any more. Earlier ones have had a whole plan's time for that.
    ended: Option<PlanId>,
}

impl UnderWay {
    /// Begins a step's work.
    pub fn begin(&self, plan: PlanId, work: impl Future<Output = ()> + Send + 'static) {
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if plans.ended.is_some_and(|ended| plan == ended) {
            return;
        }
        plans.tasks.retain(|_, tasks| {
            tasks.retain(|task| !task.is_finished());
            !tasks.is_empty()
        });
        plans.tasks.entry(plan).or_default().push(tokio::spawn(work));
    }

    /// Ends what a dropped plan still does, with the processes that it started, and waits for that.
    pub async fn end(&self, plan: PlanId) {
        let tasks = {
            let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            plans.ended = Some(plan);
            plans.tasks.remove(&plan).unwrap_or_default()
        };
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
    }

    /// For the daemon's own end: lets what is under way finish, so that a PBX that is being started is not ended with
    /// the robot; after a while ends it.
    pub async fn finish(&self) {
        let all: Vec<_> = {
            let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut plans.tasks).into_values().flatten().collect()
        };
        let deadline = tokio::time::Instant::now() + FINISH_WITHIN;
        for mut task in all {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
                let _ = task.await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_plans_work_has_ended_before_another_begins() {
        struct Ended(tokio::sync::watch::Sender<bool>);
        impl Drop for Ended {
            fn drop(&mut self) {
                self.0.send_replace(true);
            }
        }
        let (ended, sees) = tokio::sync::watch::channel(false);
        let under_way = UnderWay::default();
        let plan = PlanId(ulid::Ulid::from_parts(1, 1));
        let held = Ended(ended);
        under_way.begin(plan, async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        under_way.end(plan).await;
        assert!(*sees.borrow());
        under_way.begin(plan, async { panic!("a step of an ended plan has begun") });
        assert!(under_way.0.lock().unwrap().tasks.is_empty());
    }
}
