//! When a request goes out again over UDP (RFC 3261 §17.1.2.2): timers of a client's transaction, without a clock.

use std::time::Duration;

/// The estimated round trip, after which a datagram is sent again (RFC 3261 §17.1.1.1).
pub const T1: Duration = Duration::from_millis(500);
/// The longest pause between two sendings.
pub const T2: Duration = Duration::from_secs(4);
/// Timer F: after so long nobody will answer any more.
pub const TIMER_F: Duration = Duration::from_secs(32);

/// Timer E: the pauses between the sendings of one request.
#[derive(Debug, Clone)]
pub struct Resend {
    pause: Duration,
}

impl Default for Resend {
    fn default() -> Self {
        Self { pause: T1 }
    }
}

impl Resend {
    /// The pause after the sending that was just made; while the server works on it (1xx), it stands at T2.
    pub fn pause(&mut self, provisional: bool) -> Duration {
        let now = if provisional { T2 } else { self.pause };
        self.pause = (self.pause * 2).min(T2);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_double_up_to_four_seconds_and_stay_there_while_the_server_works() {
        let mut resend = Resend::default();
        let pauses: Vec<_> = (0..6).map(|_| resend.pause(false).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 4000, 4000]);
        assert_eq!(Resend::default().pause(true), T2);
    }
}
