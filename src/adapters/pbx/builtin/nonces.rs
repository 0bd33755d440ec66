//! Nonces that need no table: each carries its age and our key's mark, which is of the source that asked for it; what
//! was used is remembered per account.
//!
//! RFC 7616 §5.4 and §5.9: a server should see a nonce's age and refuse a count that was used before. A table of all
//! that were handed out would grow with every stranger; so only an account whose password was proved remembers.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::hmac;

use super::guard::network;

/// How long a nonce may be used: long enough for a renewal, short enough that a copied one is soon worthless.
pub const AGE_MAX: Duration = Duration::from_secs(600);

/// How many nonces of one account are remembered: one for each of its phones, and some for those that restart.
const REMEMBERED_MAX: usize = 16;

/// Counts may arrive in another order than they were sent (RFC 7616 §5.9), as far apart as this.
const WINDOW: u32 = 64;

/// How much of the mark is sent: 64 bits cannot be guessed within a nonce's age.
const MARK_BYTES: usize = 8;

/// Makes nonces, and knows its own.
pub struct Nonces {
    key: hmac::Key,
    serial: u32,
}

/// What a nonce turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nonce {
    /// Ours, young enough: its number, which rises with time.
    Ours(u64),
    /// Ours and too old or of another source, or another server's (of the primary, or of ourselves before a restart).
    Stale,
}

impl Nonces {
    /// Nonces under a key that nobody else has.
    pub fn new(key: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), serial: 0 }
    }

    /// A new one for this source, made now (boot clock): 32 hex digits.
    ///
    /// Elsewhere it is stale: else a stranger could answer it wrongly under a forged address until the guard bans that.
    pub fn make(&mut self, source: IpAddr, now: Duration) -> String {
        self.serial = self.serial.wrapping_add(1);
        let seconds = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        let id = (u64::from(seconds) << 32) | u64::from(self.serial);
        let mark = self.sign(id, source);
        let mark = mark.as_ref().iter().take(MARK_BYTES).fold(0_u64, |mark, byte| (mark << 8) | u64::from(*byte));
        format!("{id:016x}{mark:016x}")
    }

    fn sign(&self, id: u64, source: IpAddr) -> hmac::Tag {
        let source = match network(source) {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        hmac::sign(&self.key, &[&id.to_be_bytes()[..], &source.octets()].concat())
    }

    /// What this text is, when it comes from this source.
    pub fn read(&self, text: &[u8], source: IpAddr, now: Duration) -> Nonce {
        let parsed = || {
            let (id, mark) = std::str::from_utf8(text).ok()?.split_at_checked(16)?;
            Some((u64::from_str_radix(id, 16).ok()?, u64::from_str_radix(mark, 16).ok().filter(|_| mark.len() == 16)?))
        };
        let Some((id, mark)) = parsed() else { return Nonce::Stale };
        let ours = self.sign(id, source);
        if !ours.as_ref().starts_with(&mark.to_be_bytes()) {
            return Nonce::Stale;
        }
        if now.saturating_sub(made(id)) > AGE_MAX { Nonce::Stale } else { Nonce::Ours(id) }
    }
}

/// When a nonce was made, by its number.
fn made(id: u64) -> Duration {
    Duration::from_secs(id >> 32)
}

/// Which nonces an account has used, and how often.
#[derive(Debug, Default)]
pub struct Uses {
    /// By age, the oldest first; with no room to spare, as every account has such a list.
    seen: Vec<Use>,
    /// Nonces up to this number are forgotten, and so never admitted again.
    forgotten: u64,
}

#[derive(Debug)]
struct Use {
    id: u64,
    /// The highest count.
    top: u32,
    /// Bit n: `top - n` was used.
    window: u64,
    /// The mark of the request that had the highest count.
    mark: u64,
}

/// Whether a use of a nonce is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is the first use with this count.
    New,
    /// It is the last request once more, sent again because its answer was lost.
    Again,
    /// It was used before: somebody copied it, or we have forgotten; the client must ask for a new nonce.
    Used,
}

impl Uses {
    /// Admits the use of the nonce `id` with `count`, in a request whose mark (a hash of all of it) is this.
    pub fn admit(&mut self, id: u64, count: u32, mark: u64) -> Admission {
        let at = match self.seen.binary_search_by_key(&id, |used| used.id) {
            Ok(at) => at,
            Err(_) if id <= self.forgotten => return Admission::Used,
            Err(at) => {
                self.seen.reserve_exact(1);
                self.seen.insert(at, Use { id, top: count, window: 1, mark });
                // What is so much older than this one is stale by now.
                let is_stale = |used: &Use| made(id).saturating_sub(made(used.id)) > AGE_MAX;
                while let Some(oldest) = self.seen.first()
                    && (self.seen.len() > REMEMBERED_MAX || is_stale(oldest))
                {
                    self.forgotten = self.forgotten.max(oldest.id);
                    self.seen.remove(0);
                }
                return Admission::New;
            }
        };
        let used = &mut self.seen[at];
        if count > used.top {
            let ahead = count - used.top;
            used.window = if ahead < WINDOW { (used.window << ahead) | 1 } else { 1 };
            (used.top, used.mark) = (count, mark);
            return Admission::New;
        }
        let behind = used.top - count;
        if behind == 0 && mark == used.mark {
            return Admission::Again;
        }
        if behind >= WINDOW || used.window & (1 << behind) != 0 {
            return Admission::Used;
        }
        used.window |= 1 << behind;
        Admission::New
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFICE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_nonce_is_known_until_it_is_too_old_and_only_by_who_made_it() {
        let mut ours = Nonces::new(&[1; 32]);
        let (first, second) = (ours.make(OFFICE, MINUTE), ours.make(OFFICE, MINUTE));
        assert_ne!(first, second);
        assert!(matches!(ours.read(first.as_bytes(), OFFICE, MINUTE + AGE_MAX), Nonce::Ours(_)));
        assert_eq!(ours.read(first.as_bytes(), OFFICE, 2 * MINUTE + AGE_MAX), Nonce::Stale);
        assert_eq!(Nonces::new(&[2; 32]).read(first.as_bytes(), OFFICE, MINUTE), Nonce::Stale);
        assert_eq!(ours.read(first.as_bytes(), [192, 0, 2, 2].into(), MINUTE), Nonce::Stale, "another source");
        for at in 0..first.len() {
            let mut forged = first.clone().into_bytes();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(ours.read(&forged, OFFICE, MINUTE), Nonce::Stale, "digit {at}");
        }
        for odd in ["", "abc", "é", &first[..31], &format!("{first}0"), &first.replace(&first[..1], "+")] {
            assert_eq!(ours.read(odd.as_bytes(), OFFICE, MINUTE), Nonce::Stale, "{odd}");
        }
    }

    #[test]
    fn each_count_is_admitted_once_in_any_order_within_the_window() {
        let mut uses = Uses::default();
        for (count, expected) in [
            (1, Admission::New),
            (1, Admission::Used),
            (3, Admission::New),
            (2, Admission::New),
            (2, Admission::Used),
            (3, Admission::Used),
            (100, Admission::New),
            (37, Admission::New),
            (36, Admission::Used),
            (u32::MAX, Admission::New),
            (100, Admission::Used),
        ] {
            assert_eq!(
                uses.admit(7, count, u64::from(count) + 1000 * u64::from(expected == Admission::Used)),
                expected,
                "{count}"
            );
        }
    }

    #[test]
    fn the_last_request_once_more_is_told_from_a_copy() {
        let mut uses = Uses::default();
        assert_eq!(uses.admit(7, 1, 11), Admission::New);
        assert_eq!(uses.admit(7, 1, 11), Admission::Again);
        assert_eq!(uses.admit(7, 1, 12), Admission::Used);
    }

    #[test]
    fn what_is_forgotten_is_not_admitted_again() {
        let mut uses = Uses::default();
        for id in 1..=100 {
            assert_eq!(uses.admit(id, 1, id), Admission::New);
        }
        assert_eq!(uses.seen.len(), REMEMBERED_MAX);
        for id in 1..=84 {
            assert_eq!(uses.admit(id, 2, id), Admission::Used, "{id}");
        }
        assert_eq!(uses.admit(100, 2, 0), Admission::New);
    }

    #[test]
    fn what_is_stale_takes_no_room_and_is_not_admitted_again() {
        let mut uses = Uses::default();
        let made_at = |minute: u64| (minute * 60) << 32;
        for minute in 1..=100 {
            assert_eq!(uses.admit(made_at(minute), 1, 0), Admission::New);
        }
        assert_eq!(uses.seen.len(), 11, "of the last ten minutes");
        assert_eq!(uses.admit(made_at(89), 2, 0), Admission::Used);
        assert_eq!(uses.admit(made_at(90), 2, 0), Admission::New);
    }
}
