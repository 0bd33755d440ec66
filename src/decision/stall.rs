//! The stall guard: a loop that was frozen must not trust what it believes.
//!
//! A suspended laptop, a stopped process, a starved host: results of before the gap and time-outs of during it say
//! nothing about the primary.

use std::time::Duration;

use jiff::SignedDuration;

use crate::units::Now;

/// The decision loop ticks so often.
pub const TICK: Duration = Duration::from_secs(1);

/// A tick that comes so much late means that we were stalled.
pub const LATE_MAX: Duration = Duration::from_secs(2);

/// For so long after a stall the verdict is `unsure`.
pub const DISTRUST: Duration = Duration::from_secs(30);

/// Watches the gap between ticks on the boot-time clock.
#[derive(Debug, Clone)]
pub struct StallGuard {
    last_tick: Duration,
    distrust_until: Option<Duration>,
}

/// What one look at the clock said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// In time.
    InTime,
    /// We were stalled for so long; whatever was counted is void.
    Stalled(Duration),
}

impl StallGuard {
    /// Starts watching.
    pub fn new(now: Now) -> Self {
        Self { last_tick: now.boot, distrust_until: None }
    }

    /// Looks at the clock on any event, so that a result that was queued during the gap is not believed before the
    /// late tick arrives.
    pub fn look(&mut self, now: Now) -> Gap {
        let gap = now.since(self.last_tick);
        if gap <= TICK + LATE_MAX {
            return Gap::InTime;
        }
        self.last_tick = now.boot;
        self.distrust_until = Some(now.boot + DISTRUST);
        Gap::Stalled(gap)
    }

    /// Notes a tick.
    pub fn tick(&mut self, now: Now) {
        self.last_tick = now.boot;
    }

    /// Whether we still distrust ourselves.
    pub fn stalled(&self, now: Now) -> bool {
        self.distrust_until.is_some_and(|until| now.boot < until)
    }
}

/// The wall clock runs beside the boot-time clock; so much at once is a step, not a slew.
const STEP_MIN: SignedDuration = SignedDuration::from_secs(2);

/// Watches the wall clock. A step is only a warning: nothing is decided by that clock.
#[derive(Debug, Clone)]
pub struct WallClock {
    last: Now,
}

impl WallClock {
    /// Starts watching.
    pub fn new(now: Now) -> Self {
        Self { last: now }
    }

    /// How far it was stepped since the last look, if it was.
    pub fn look(&mut self, now: Now) -> Option<SignedDuration> {
        let passed = SignedDuration::try_from(now.since(self.last.boot)).unwrap_or(SignedDuration::MAX);
        let step = now.wall.duration_since(self.last.wall).saturating_sub(passed);
        self.last = now;
        (step.abs() >= STEP_MIN).then_some(step)
    }
}
