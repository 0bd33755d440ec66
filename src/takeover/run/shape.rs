//! What of a run decides its future, as numbers: the model checker takes two runs of one shape for the same.
//!
//! Texts, ids and the time of day are left out; times are relative to now and end where nothing hangs on them any
//! more. A field that a decision rests on belongs here, or the model merges states that differ.

use std::time::Duration;

use crate::units::{Now, Step};

use super::{Flight, Run};
use crate::units::Mode;

/// The pause before another try does not grow beyond this one.
const TRIES_MAX: u32 = 7;
/// Longer than any limit of a model's plan.
const WAITED_MAX: Duration = Duration::from_secs(12);

impl Run {
    /// Writes the shape.
    pub(crate) fn shape(&self, now: Now, out: &mut Vec<u64>) {
        out.push(self.kind as u64);
        let intent = &self.intent;
        let flags = [
            intent.asked.is_some(),
            intent.without_claim,
            intent.although_cut_off,
            intent.primary_is_stopped,
            intent.wait,
            intent.cut_calls,
            intent.switchover,
            self.over,
        ];
        out.push(flags.iter().fold(0, |bits, flag| bits << 1 | u64::from(*flag)));
        out.push(self.halted.map_or(99, |step| step as u64));
        for step in &self.steps {
            let flight = match step.flight {
                Flight::None => 0,
                Flight::Asked(Mode::Look) => 1,
                Flight::Asked(Mode::Act) => 2,
                Flight::Judged => 3,
            };
            let waits = matches!(step.row.step, Step::Confirm | Step::Drain | Step::PrimaryServes);
            let waited = step.began.filter(|_| waits).map_or(99, |began| now.since(began).min(WAITED_MAX).as_secs());
            let next = step.next_try.map_or(0, |at| {
                u64::try_from(at.saturating_sub(now.boot).as_millis()).unwrap_or(u64::MAX).saturating_add(1)
            });
            let counts = u64::from(step.tries.min(TRIES_MAX)) << 8 | u64::from(step.refusals.min(3));
            let begun = u64::from(step.attempt > 0) << 1 | u64::from(step.done_before);
            // Only a stop on loan is counted from its proof.
            let lent = step.proved.filter(|_| step.row.step == Step::StopPrimary);
            let lent = lent.map_or(99, |at| now.since(at).min(WAITED_MAX).as_secs());
            out.extend([step.state as u64, flight << 8 | begun, waited, next, counts, lent]);
        }
    }

    /// Whether an answer to this attempt would be heard.
    pub(crate) fn waits_for(&self, step: Step, attempt: u32, mode: Mode) -> bool {
        self.step(step).is_some_and(|s| s.attempt == attempt && s.flight == Flight::Asked(mode))
    }
}
