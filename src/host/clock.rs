//! The one place that reads the clocks.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::units::Now;

/// Reads the boot-time clock (which counts suspend) and the wall clock.
pub fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(boot.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(boot.tv_nsec).unwrap_or(0);
    Now { boot: Duration::new(seconds, nanos), wall: Timestamp::now() }
}
