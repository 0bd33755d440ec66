//! Who may ask: failed passwords delay and then ban their source, floods are thinned out, scanners get no answer.
//!
//! A source is an address, not a phone: an office behind one NAT is one source, so every phone that registers makes up
//! for one that fails. In the grace time after a takeover, when accounts may not be the same yet and every phone comes
//! at once, no failure counts.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Failures that cost nothing: a person who types a password wrong.
const FREE_FAILURES: u32 = 5;
/// The delay after the first failure that costs something; it doubles with each further one.
const DELAY_FIRST: Duration = Duration::from_secs(1);
/// The longest delay: a ban.
const DELAY_MAX: Duration = Duration::from_secs(3600);

/// Requests that a source may have open at once, challenges that it has not answered included: a large office after a
/// power cut. One that leads to a registration is given back.
const BURST: f64 = 4000.0;
/// Requests a second that a source may ask beyond that, without a registration coming of them.
const PER_SECOND: f64 = 200.0;
/// In the grace time every source may ask so many times as much.
const GRACE_FACTOR: f64 = 25.0;

/// Sources in one generation; two are kept. 2 × 32,768 entries are some 5 MB, whoever asks.
const GENERATION_MAX: usize = 32_768;

/// What scanners call themselves (lower case).
const SCANNERS: [&str; 9] =
    ["friendly-scanner", "friendly-request", "sipvicious", "sundayddr", "sip-scan", "iwar", "sivus", "smap", "pplsip"];

/// Watches the sources.
pub struct Guard {
    young: HashMap<IpAddr, Source>,
    old: HashMap<IpAddr, Source>,
    grace_until: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    failures: u32,
    blocked_until: Duration,
    tokens: f64,
    filled_at: Duration,
}

impl Guard {
    /// Nobody is known; until `grace_until` (boot clock) no failure counts.
    pub fn new(grace_until: Duration) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), grace_until }
    }

    /// Whether a request of this source is looked at.
    pub fn admits(&mut self, address: IpAddr, now: Duration) -> bool {
        let factor = if now < self.grace_until { GRACE_FACTOR } else { 1.0 };
        let source = self.source(address, now);
        if now < source.blocked_until {
            return false;
        }
        let elapsed = now.saturating_sub(source.filled_at).as_secs_f64();
        source.tokens = (source.tokens + elapsed * PER_SECOND * factor).min(BURST * factor);
        source.filled_at = now;
        if source.tokens < 1.0 {
            return false;
        }
        source.tokens -= 1.0;
        true
    }

    /// A registration came of it: two requests (the first, and that with credentials) are given back.
    pub fn proved(&mut self, address: IpAddr, now: Duration) {
        let source = self.source(address, now);
        source.tokens = (source.tokens + 2.0).min(BURST * GRACE_FACTOR);
        source.failures = source.failures.saturating_sub(1);
    }

    /// A password was wrong. Gives the delay that follows, if one does.
    pub fn failed(&mut self, address: IpAddr, now: Duration) -> Option<Duration> {
        if now < self.grace_until {
            return None;
        }
        let source = self.source(address, now);
        source.failures = source.failures.saturating_add(1);
        let beyond = source.failures.checked_sub(FREE_FAILURES + 1)?;
        let delay = DELAY_FIRST.saturating_mul(1 << beyond.min(20)).min(DELAY_MAX);
        source.blocked_until = now + delay;
        Some(delay)
    }

    /// Whether this is the name of a program that looks for weak passwords.
    pub fn is_scanner(user_agent: &str) -> bool {
        let name = user_agent.to_ascii_lowercase();
        SCANNERS.iter().any(|scanner| name.contains(scanner))
    }

    /// The sources that are not listened to now.
    pub fn blocked(&self, now: Duration) -> usize {
        self.young.values().chain(self.old.values()).filter(|source| now < source.blocked_until).count()
    }

    /// The entry of a source; the least lately used generation is forgotten when there are too many.
    fn source(&mut self, address: IpAddr, now: Duration) -> &mut Source {
        let key = network(address);
        if !self.young.contains_key(&key) && self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        let known = self.old.remove(&key);
        let fresh = Source { failures: 0, blocked_until: Duration::ZERO, tokens: BURST, filled_at: now };
        let fresh = if now < self.grace_until { Source { tokens: BURST * GRACE_FACTOR, ..fresh } } else { fresh };
        self.young.entry(key).or_insert(known.unwrap_or(fresh))
    }
}

/// One source: an IPv4 address, or an IPv6 network of 64 bits, of which one host has as many addresses as it likes.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFICE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const SECOND: Duration = Duration::from_secs(1);
    /// Long after any grace.
    const LATER: Duration = Duration::from_secs(10_000);

    #[test]
    fn failures_delay_longer_and_longer_up_to_a_ban() {
        let mut guard = Guard::new(Duration::ZERO);
        let delays: Vec<_> = (0..20).map(|_| guard.failed(OFFICE, LATER)).collect();
        assert_eq!(delays[..5], [None; 5]);
        assert_eq!(delays[5..8], [Some(SECOND), Some(2 * SECOND), Some(4 * SECOND)]);
        assert_eq!(delays[19], Some(DELAY_MAX));
        assert!(!guard.admits(OFFICE, LATER + (DELAY_MAX / 2)) && guard.blocked(LATER) == 1);
        assert!(guard.admits(OFFICE, LATER + DELAY_MAX));
        assert!(guard.admits("192.0.2.2".parse().expect("an address"), LATER), "nobody else pays for it");
    }

    #[test]
    fn an_office_with_one_wrong_phone_is_not_banned() {
        let mut guard = Guard::new(Duration::ZERO);
        for round in 0..1000_u32 {
            let now = LATER + SECOND * round;
            assert_eq!(guard.failed(OFFICE, now), None);
            guard.proved(OFFICE, now);
            assert!(guard.admits(OFFICE, now));
        }
    }

    #[test]
    fn in_the_grace_time_no_failure_counts() {
        let mut guard = Guard::new(LATER);
        for _ in 0..1000 {
            assert_eq!(guard.failed(OFFICE, SECOND), None);
        }
        assert!(guard.admits(OFFICE, LATER));
    }

    #[test]
    fn a_flood_is_thinned_out_and_registrations_are_not() {
        let mut guard = Guard::new(Duration::ZERO);
        let flood = (0..100_000).filter(|_| guard.admits(OFFICE, LATER)).count();
        assert_eq!(flood, 4000);
        let second_later = (0..1000).filter(|_| guard.admits(OFFICE, LATER + SECOND)).count();
        assert_eq!(second_later, 200);
        let mut guard = Guard::new(Duration::ZERO);
        for phone in 0..50_000 {
            assert!(guard.admits(OFFICE, LATER) && guard.admits(OFFICE, LATER), "phone {phone}");
            guard.proved(OFFICE, LATER);
        }
    }

    #[test]
    fn one_network_is_one_source_and_the_table_is_bounded() {
        let mut guard = Guard::new(Duration::ZERO);
        for host in 0..10_u128 {
            guard.failed(IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) | host)), LATER);
        }
        assert_eq!(guard.blocked(LATER), 1);
        for host in 0..200_000_u32 {
            guard.admits(IpAddr::V4(std::net::Ipv4Addr::from_bits(host)), LATER);
        }
        assert!(guard.young.len() + guard.old.len() <= 2 * GENERATION_MAX);
    }

    #[test]
    fn scanners_are_known_by_their_names() {
        assert!(Guard::is_scanner("friendly-scanner") && Guard::is_scanner("SIPVicious 0.3"));
        assert!(!Guard::is_scanner("Yealink SIP-T46S 66.86.0.15") && !Guard::is_scanner(""));
    }
}
