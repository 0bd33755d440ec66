//! The one notion of "now", read in one place (the daemon) and handed down.

use std::time::Duration;

use jiff::Timestamp;

/// One reading of the clocks.
///
/// Every interval, timer and staleness rule uses `boot`; `wall` is only written into records that people and
/// other hosts read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Time since boot, counting suspend (`CLOCK_BOOTTIME`): a frozen machine sees its own gap.
    pub boot: Duration,
    /// Wall-clock time, UTC. It may step.
    pub wall: Timestamp,
}

impl Now {
    /// The time from `earlier` (on the boot clock) to this reading, never negative.
    pub fn since(&self, earlier: Duration) -> Duration {
        self.boot.saturating_sub(earlier)
    }
}
