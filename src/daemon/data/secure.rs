//! The data at a takeover: waits until nothing is under way, lets the gate judge, and does what follows.
//!
//! What follows is, in this order: a snapshot of what is there, the last good one in its place where the gate says so, and
//! the spools moved aside. None of it keeps the telephones waiting where it fails: it is said. But half of a snapshot is
//! never loaded: then the outcome is unknown, which for this step means that it is tried until all of it is there.
//!
//! Where this node served and nothing was brought since, what lies here is newer than anything that could be judged by: it
//! is loaded as it is.
//!
//! Phones wait meanwhile, so that the wait has an end. Only `sync.on_hold: hold` keeps what does not pass from being
//! loaded; then the step is tried again for ever (see `takeover::run`), and passes as soon as the data does.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::ports::{DataGate, Keep};
use crate::units::data::{Inbound, Outcome, size};
use crate::units::{DataLook, PlanId, StepOutcome};

/// What is under way is waited for so long. Nothing is worse than no telephone.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// It was waited for once already.
const WAIT_AGAIN_MAX: Duration = Duration::from_secs(10);
/// So often the inbound sync is to be stopped; then the takeover goes on without.
const STOP_TRIES: u32 = 3;
/// Pauses between two looks.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// Waits until nothing is under way, or the time for that is over; returns how long.
pub async fn wait_for_quiet(gate: &dyn DataGate, settle: Duration, attempt: u32) -> Duration {
    let began = Instant::now();
    let wait = if attempt > 1 { WAIT_AGAIN_MAX } else { WAIT_MAX.max(settle) };
    quiet_look(gate, settle, wait).await;
    began.elapsed()
}

/// Secures it. `stopped`: how long the end of a sync was waited for, and what came of stopping it. Without that what is
/// seen may change again, so that the step fails, after all else was done.
pub async fn data(
    gate: &dyn DataGate,
    settle: Duration,
    (plan, attempt): (PlanId, u32),
    (waited, stopped): (Duration, StepOutcome),
) -> StepOutcome {
    let completed = gate.complete(plan).await;
    completed_data(gate, settle, (plan, attempt), (waited, stopped), completed).await
}

/// The same once it is known what became of half a restore.
async fn completed_data(
    gate: &dyn DataGate,
    settle: Duration,
    (plan, attempt): (PlanId, u32),
    (waited, stopped): (Duration, StepOutcome),
    completed: Option<StepOutcome>,
) -> StepOutcome {
    if let Some(StepOutcome::Unknown(half)) = &completed {
        return nothing_is_loaded(half);
    }
    let began = Instant::now();
    // What was written until the stop settles; what a killed tool leaves behind counts as broken off after ten seconds.
    let look = quiet_look(gate, settle, WAIT_AGAIN_MAX.max(settle)).await;
    let mut judged = follow(gate, plan, &look, waited + began.elapsed()).await;
    if let (StepOutcome::Done(said), Some(completed)) = (&mut judged, &completed) {
        *said = format!("{}; {said}", warned(completed));
    }
    conclude(gate, judged, stopped, attempt).await
}

/// What this node left when it served, since when nothing was brought here: no snapshot is newer, what the primary vouches for
/// is older, and a spool holds what this node's own PBX put there.
pub async fn own(
    gate: &dyn DataGate,
    settle: Duration,
    (plan, attempt): (PlanId, u32),
    stopped: StepOutcome,
) -> StepOutcome {
    let said = "what this node left when it served is loaded as it is, since nothing was brought here since";
    let completed = gate.complete(plan).await;
    let loaded = match &completed {
        Some(StepOutcome::Unknown(half)) => return nothing_is_loaded(half),
        Some(completed) => format!("{}; {said}", warned(completed)),
        None => said.to_owned(),
    };
    if gate.half_done().await.is_some() {
        // Another snapshot in its place is what cures it.
        return completed_data(gate, settle, (plan, attempt), (Duration::ZERO, stopped), completed).await;
    }
    conclude(gate, StepOutcome::Done(loaded), stopped, attempt).await
}

/// With what came of stopping the sync.
async fn conclude(gate: &dyn DataGate, judged: StepOutcome, stopped: StepOutcome, attempt: u32) -> StepOutcome {
    if let StepOutcome::Unknown(half) = &judged {
        return nothing_is_loaded(half);
    }
    // Asked last: whatever was given up above may still be at work.
    if let Some(half) = gate.half_done().await {
        return nothing_is_loaded(&half);
    }
    let stop = stopped.text().to_owned();
    match (stopped, judged) {
        (StepOutcome::Done(_), StepOutcome::Done(said)) => StepOutcome::done(format!("{stop}; {said}")),
        // Only data that does not pass is waited for without end.
        (_, StepOutcome::Done(said)) if attempt >= STOP_TRIES => StepOutcome::done(format!("WARNING, {stop}; {said}")),
        (StepOutcome::Unknown(_), StepOutcome::Done(said)) => StepOutcome::unknown(format!("{stop}; {said}")),
        (_, judged) => StepOutcome::failed(format!("{stop}; {}", judged.text())),
    }
}

/// A mixture of two states is worse than what was there, and looks well: it is tried again for ever.
fn nothing_is_loaded(half: &str) -> StepOutcome {
    StepOutcome::unknown(format!("nothing is loaded: {half}"))
}

/// The first look that sees nothing under way, or the last within the limit.
async fn quiet_look(gate: &dyn DataGate, settle: Duration, limit: Duration) -> DataLook {
    let began = Instant::now();
    loop {
        let look = gate.look(Keep::ForATakeover).await;
        let left = limit.saturating_sub(began.elapsed());
        // What has come to a stop does not end by itself.
        if !look.is_under_way() || look.inbound == Inbound::Silent || left.is_zero() {
            return look;
        }
        sleep(settle.clamp(PAUSE.0, PAUSE.1).min(left)).await;
    }
}

/// What follows from a look, past the claim: here alone the working directory is written.
async fn follow(gate: &dyn DataGate, plan: PlanId, look: &DataLook, waited: Duration) -> StepOutcome {
    let kept = if look.outcome == Outcome::Hold { None } else { gate.keep_for(plan).await };
    if let Some(half @ StepOutcome::Unknown(_)) = kept {
        return half;
    }
    let mut said = match load(gate, plan, look, waited).await {
        StepOutcome::Done(said) => said,
        other => return other,
    };
    let held = gate.hold_back(plan).await;
    for outcome in [kept, held].iter().flatten() {
        said = format!("{said}; {}", warned(outcome));
    }
    StepOutcome::Done(said)
}

/// What is said of a part that keeps nobody waiting.
fn warned(outcome: &StepOutcome) -> String {
    match outcome {
        StepOutcome::Done(said) => said.clone(),
        other => format!("WARNING, {}", other.text()),
    }
}

async fn load(gate: &dyn DataGate, plan: PlanId, look: &DataLook, waited: Duration) -> StepOutcome {
    let (because, waited) = (look.because(), waited.as_secs());
    let vouched = look.vouched.as_ref().map(|vouched| format!(", {}", vouched.text())).unwrap_or_default();
    let seen = format!("{} files, {}{vouched}, after {waited} s", look.files, size(look.bytes));
    match look.outcome {
        Outcome::Go => StepOutcome::done(format!("{seen}: the data passes its gate")),
        Outcome::GoWithWarning => StepOutcome::done(format!("{seen}: WARNING, loaded all the same: {because}")),
        Outcome::LastGood => match gate.restore_last_good(plan).await {
            StepOutcome::Done(proof) => {
                StepOutcome::done(format!("{seen}: {because}; its last good snapshot: {proof}"))
            }
            // Half of it lies there.
            half @ StepOutcome::Unknown(_) => half,
            other => StepOutcome::done(format!(
                "{seen}: WARNING, loaded all the same: {because}; its last good snapshot is not used: {}",
                other.text()
            )),
        },
        Outcome::Hold => {
            let todo = look.reasons.first().map(|reason| reason.todo.as_str()).unwrap_or_default();
            StepOutcome::failed(format!("{seen}: nothing is loaded (sync.on_hold: hold): {because}; {todo}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use jiff::Timestamp;

    use super::*;
    use crate::ports::Answer;
    use crate::units::data::{Reason, Weight};

    const PLAN: PlanId = PlanId(ulid::Ulid(7));

    /// Answers with one after the other, the last for ever.
    struct Scripted {
        looks: Mutex<Vec<DataLook>>,
        snapshot: Option<StepOutcome>,
        half: Option<String>,
    }

    impl DataGate for Scripted {
        fn look(&self, keep: Keep) -> Answer<'_, DataLook> {
            assert_eq!(keep, Keep::ForATakeover, "what a takeover sees is no measure for later");
            let mut looks = self.looks.lock().expect("not poisoned");
            let look = if looks.len() > 1 { looks.remove(0) } else { looks[0].clone() };
            Box::pin(async { look })
        }

        fn half_done(&self) -> Answer<'_, Option<String>> {
            Box::pin(async { self.half.clone() })
        }

        fn restore_last_good(&self, _: PlanId) -> Answer<'_, StepOutcome> {
            let outcome = self.snapshot.clone().unwrap_or_else(|| StepOutcome::failed("there is none"));
            Box::pin(async { outcome })
        }
    }

    /// Half a restore that can be neither completed nor undone, until the last good one takes its place.
    #[derive(Default)]
    struct Incurable {
        completes: Mutex<u32>,
        is_cured: Mutex<Option<()>>,
    }

    impl DataGate for Incurable {
        fn look(&self, _: Keep) -> Answer<'_, DataLook> {
            Box::pin(async { look(Outcome::LastGood, Some(Weight::Broken)) })
        }

        fn complete(&self, _: PlanId) -> Answer<'_, Option<StepOutcome>> {
            *self.completes.lock().expect("not poisoned") += 1;
            Box::pin(async { Some(StepOutcome::done("it can be neither completed nor undone")) })
        }

        fn half_done(&self) -> Answer<'_, Option<String>> {
            let cured = *self.is_cured.lock().expect("not poisoned");
            Box::pin(async move { if cured.is_some() { None } else { Some("half of it".to_owned()) } })
        }

        fn restore_last_good(&self, _: PlanId) -> Answer<'_, StepOutcome> {
            *self.is_cured.lock().expect("not poisoned") = Some(());
            Box::pin(async { StepOutcome::done("put back") })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_a_restore_over_what_this_node_left_is_completed_once_and_what_came_of_it_is_said() {
        let gate = Incurable::default();
        let said = own(&gate, Duration::ZERO, (PLAN, 1), stopped()).await;
        assert!(
            matches!(&said, StepOutcome::Done(text) if text.contains("neither completed") && text.contains("put back")),
            "{said:?}"
        );
        assert_eq!(*gate.completes.lock().expect("not poisoned"), 1);
    }

    fn look(outcome: Outcome, weight: Option<Weight>) -> DataLook {
        let reason = |weight| Reason { weight, text: "a.conf is empty".into(), todo: "mend it".into() };
        DataLook::bare(Timestamp::UNIX_EPOCH, outcome, weight.map(reason).into_iter().collect())
    }

    async fn secured(looks: Vec<DataLook>, snapshot: Option<StepOutcome>, stopped: StepOutcome) -> StepOutcome {
        let (gate, settle) = (Scripted { looks: Mutex::new(looks), snapshot, half: None }, Duration::from_secs(3));
        let waited = wait_for_quiet(&gate, settle, 1).await;
        data(&gate, settle, (PLAN, 1), (waited, stopped)).await
    }

    fn stopped() -> StepOutcome {
        StepOutcome::done("sync.stop is not set")
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_is_waited_for_and_then_judged() {
        let busy = || look(Outcome::Hold, Some(Weight::UnderWay));
        let said = secured(vec![busy(), busy(), look(Outcome::Go, None)], None, stopped()).await;
        assert!(
            matches!(&said, StepOutcome::Done(text) if text.contains("after 4 s") && text.contains("passes")),
            "{said:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_sync_that_does_not_end_is_waited_for_one_minute_before_it_is_stopped_and_ten_seconds_after() {
        let began = Instant::now();
        let said = secured(vec![look(Outcome::GoWithWarning, Some(Weight::UnderWay))], None, stopped()).await;
        assert!(matches!(&said, StepOutcome::Done(text) if text.contains("WARNING")), "{said:?}");
        assert_eq!(began.elapsed().as_secs(), 70);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_fails_the_step_with_the_reason_and_what_to_do() {
        let said = secured(vec![look(Outcome::Hold, Some(Weight::Broken))], None, stopped()).await;
        assert!(
            matches!(&said, StepOutcome::Failed(text) if text.contains("a.conf is empty") && text.contains("mend it")),
            "{said:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_snapshot_is_put_in_place_and_where_that_fails_what_is_there_is_loaded() {
        let broken = || vec![look(Outcome::LastGood, Some(Weight::Broken))];
        let said = secured(broken(), Some(StepOutcome::done("2 files put back")), stopped()).await;
        assert!(
            matches!(&said, StepOutcome::Done(text) if text.contains("2 files put back") && !text.contains("WARNING")),
            "{said:?}"
        );
        let said = secured(broken(), None, stopped()).await;
        assert!(
            matches!(&said, StepOutcome::Done(text) if text.contains("WARNING") && text.contains("there is none")),
            "{said:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_a_snapshot_is_never_loaded_however_often_it_was_tried() {
        let broke = || Some(StepOutcome::unknown("a restore of good-1 is half done"));
        let said = secured(vec![look(Outcome::LastGood, Some(Weight::Broken))], broke(), stopped()).await;
        assert!(matches!(&said, StepOutcome::Unknown(text) if text.starts_with("nothing is loaded: ")), "{said:?}");
        let half = Some("a person's restore is at work".to_owned());
        let gate = Scripted { looks: Mutex::new(vec![look(Outcome::Go, None)]), snapshot: None, half };
        let said = data(&gate, Duration::ZERO, (PLAN, 9), (Duration::ZERO, stopped())).await;
        assert!(matches!(&said, StepOutcome::Unknown(text) if text.contains("a person's restore")), "{said:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_this_node_left_when_it_served_is_not_judged_and_half_of_a_snapshot_is_still_not_loaded() {
        // It would be put aside for the last good snapshot.
        let broken = || Mutex::new(vec![look(Outcome::LastGood, Some(Weight::Broken))]);
        let mut gate = Scripted { looks: broken(), snapshot: Some(StepOutcome::done("put back")), half: None };
        let said = own(&gate, Duration::ZERO, (PLAN, 1), stopped()).await;
        assert!(matches!(&said, StepOutcome::Done(text) if text.contains("loaded as it is")), "{said:?}");
        let failed = StepOutcome::failed("sync.stop: exit status 1");
        assert!(matches!(own(&gate, Duration::ZERO, (PLAN, 1), failed).await, StepOutcome::Failed(_)));
        gate.half = Some("a person's restore is at work".to_owned());
        assert!(matches!(own(&gate, Duration::ZERO, (PLAN, 1), stopped()).await, StepOutcome::Unknown(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sync_that_could_not_be_stopped_fails_the_step_after_all_else_was_done() {
        let failed = StepOutcome::failed("sync.stop: exit status 1");
        let said = secured(vec![look(Outcome::Go, None)], None, failed).await;
        assert!(matches!(&said, StepOutcome::Failed(text) if text.contains("exit status 1")), "{said:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sync_that_cannot_be_stopped_holds_no_data_back_that_passes() {
        let third = async |outcome, weight, stopped| {
            let gate = Scripted { looks: Mutex::new(vec![look(outcome, weight)]), snapshot: None, half: None };
            data(&gate, Duration::ZERO, (PLAN, 3), (Duration::ZERO, stopped)).await
        };
        // One that timed out, as an ssh to the dead primary does, is no better.
        for stopped in [StepOutcome::failed("sync.stop: exit status 1"), StepOutcome::unknown("sync.stop: timed out")] {
            let said = third(Outcome::Go, None, stopped.clone()).await;
            assert!(matches!(&said, StepOutcome::Done(text) if text.contains("WARNING, sync.stop")), "{said:?}");
            assert!(matches!(third(Outcome::Hold, Some(Weight::Broken), stopped).await, StepOutcome::Failed(_)));
        }
    }
}
