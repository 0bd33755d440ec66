//! The one place that reads the clocks, and tells which boot the boot-time clock counts from.

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

/// Which boot it is (random(4)): a boot time that was written down means something in the same boot only. Empty where the
/// kernel does not tell; all boots are the same then.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
