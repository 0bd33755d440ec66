//! A run as its journal leaves it: the only reader of journal records.

use std::time::Duration;

use jiff::Timestamp;

use crate::takeover::intent::Configured;
use crate::takeover::table::{Patience, Row};
use crate::units::journal::{JournalEntry, JournalRecord};
use crate::units::{Now, PlanKind, StepOutcome, StepState};

use super::{Limits, PAGE_AT_TRY, Plan, Run};

impl Run {
    /// The plan as its journal leaves it; `None` when the journal does not begin with `Opened`, or ends `Closed`.
    ///
    /// A step that was started and has no outcome is looked at before it is acted upon again, as every step is
    /// whose effect can be seen. Times that a plan may wait begin anew.
    pub fn resume(
        entries: &[JournalEntry],
        rows: fn(PlanKind) -> &'static [Row],
        configured: Configured,
        limits: Limits,
        now: Now,
    ) -> Option<Self> {
        let first = entries.first()?;
        let JournalRecord::Opened { kind, because, intent, .. } = &first.record else { return None };
        let intent = serde_json::from_value(intent.clone()).unwrap_or_default();
        let mut run = Self::open(
            Plan { kind: *kind, rows: rows(*kind) },
            first.plan,
            because.clone(),
            intent,
            configured,
            limits,
            now,
        );
        run.opened = first.at;
        for entry in &entries[1..] {
            if matches!(entry.record, JournalRecord::Closed { .. }) {
                return None;
            }
            run.replay(entry, now);
        }
        Some(run)
    }

    fn replay(&mut self, entry: &JournalEntry, now: Now) {
        let (JournalRecord::Started { step, .. }
        | JournalRecord::Ended { step, .. }
        | JournalRecord::GaveUp { step, .. }
        | JournalRecord::Halted { step, .. }
        | JournalRecord::Retried { step, .. }
        | JournalRecord::Skipped { step, .. }) = &entry.record
        else {
            return;
        };
        let Some(run) = self.steps.iter_mut().find(|s| s.row.step == *step) else { return };
        let since =
            |began: Option<Timestamp>| began.and_then(|began| Duration::try_from(entry.at.duration_since(began)).ok());
        run.began.get_or_insert(now.boot);
        match &entry.record {
            JournalRecord::Started { attempt, .. } => {
                run.state = StepState::Running;
                run.attempt = *attempt;
                run.began_wall.get_or_insert(entry.at);
                if self.halted == Some(*step) {
                    self.halted = None;
                }
            }
            JournalRecord::Ended { outcome, .. } => {
                outcome.text().clone_into(&mut run.text);
                if matches!(outcome, StepOutcome::Done(_)) {
                    run.state = StepState::Done;
                    run.elapsed = since(run.began_wall);
                    run.tries = 0;
                } else if run.row.patience == Patience::Background {
                    // Who was told of it before the restart is not told again.
                    run.tries += 1;
                    run.paged |= run.tries >= PAGE_AT_TRY;
                }
            }
            JournalRecord::GaveUp { because, .. } => {
                run.state = StepState::Failed;
                run.text.clone_from(because);
            }
            JournalRecord::Halted { because, .. } => {
                run.state = StepState::Failed;
                run.text.clone_from(because);
                self.halted = Some(*step);
            }
            JournalRecord::Skipped { because, .. } => {
                run.state = StepState::Skipped;
                run.text.clone_from(because);
                if self.halted == Some(*step) {
                    self.halted = None;
                }
            }
            JournalRecord::Retried { .. } => {
                run.state = StepState::Pending;
                self.halted = None;
            }
            JournalRecord::Opened { .. } | JournalRecord::Closed { .. } => {}
        }
    }
}
