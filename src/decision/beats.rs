//! Whether a beat is believed: by protocol, sender, freshness and clock. Its signature has been proved before.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use crate::units::NodeName;
use crate::units::beat::{Beat, Heard, PROTOCOL};

/// A clock that differs by so much is worth a warning.
pub const DRIFT_WARN: SignedDuration = SignedDuration::from_secs(5);
/// By so much: near the 300 s beyond which a name server refuses a signed message (RFC 8945 §10), so people are told.
pub const DRIFT_ALERT: SignedDuration = SignedDuration::from_secs(240);
/// By more: such a beat is not believed.
pub const DRIFT_MAX: SignedDuration = SignedDuration::from_secs(300);

/// What the asker knows.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Who shall have told it.
    pub node: &'a NodeName,
    /// How its freshness is known.
    pub freshness: Freshness<'a>,
    /// Our wall clock when it was asked for.
    pub asked: Timestamp,
    /// Our wall clock when it came.
    pub came: Timestamp,
}

/// How a beat is known to be no old one.
#[derive(Debug, Clone, Copy)]
pub enum Freshness<'a> {
    /// It bears the nonce of the question.
    Nonce(&'a str),
    /// It was carried by others (a file): its sequence is above the highest that was seen, and it is not older than that.
    Sequence {
        /// The highest that was seen; a beat with this very one is the same beat, read again.
        seen: u64,
        /// How old it may be.
        age_max: SignedDuration,
    },
}

/// Why a beat is not believed; each says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disbelief {
    /// It speaks another protocol: theirs, with its program version.
    Protocol(u32, String),
    /// Another node told it.
    Sender(NodeName, NodeName),
    /// An old one was sent again.
    Replayed,
    /// Its clock is so many seconds off.
    Skewed(i64),
    /// It is so many seconds old.
    Stale(i64),
}

impl fmt::Display for Disbelief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(theirs, version) => write!(
                f,
                "it speaks protocol {theirs} (version {version}), this program speaks {PROTOCOL} (version {}): install the same version on both hosts",
                env!("CARGO_PKG_VERSION")
            ),
            Self::Sender(told, expected) => {
                write!(f, "it was told by {told}, not by {expected}: see the url, and whose token that is")
            }
            Self::Replayed => f.write_str("an old beat was sent again: somebody replays it, or a copy was restored"),
            Self::Skewed(seconds) => {
                write!(f, "its clock and ours differ by {seconds} s: set both by NTP")
            }
            Self::Stale(seconds) => write!(f, "it is {seconds} s old: see the agent, and the sync that carries it"),
        }
    }
}

/// Judges one beat.
///
/// # Errors
/// [`Disbelief`], the first that applies.
pub fn believe(beat: Beat, expected: &Expected<'_>) -> Result<Heard, Disbelief> {
    if beat.protocol != PROTOCOL {
        return Err(Disbelief::Protocol(beat.protocol, beat.version));
    }
    if beat.node != *expected.node {
        return Err(Disbelief::Sender(beat.node, expected.node.clone()));
    }
    let drift = match expected.freshness {
        Freshness::Nonce(nonce) => {
            if beat.nonce.as_deref() != Some(nonce) {
                return Err(Disbelief::Replayed);
            }
            // It was written at some moment between question and answer.
            outside(beat.time, expected.asked, expected.came)
        }
        Freshness::Sequence { seen, age_max } => {
            if beat.sequence < seen {
                return Err(Disbelief::Replayed);
            }
            let age = expected.came.duration_since(beat.time);
            if age > age_max {
                return Err(Disbelief::Stale(age.as_secs()));
            }
            // On its way it may have aged; only a future is certain to be a clock's fault.
            outside(beat.time, Timestamp::MIN, expected.came)
        }
    };
    if drift.abs() > DRIFT_MAX {
        return Err(Disbelief::Skewed(drift.as_secs()));
    }
    Ok(Heard { beat, drift })
}

/// How far a time lies outside of a span; before it, negative.
fn outside(time: Timestamp, from: Timestamp, to: Timestamp) -> SignedDuration {
    if time < from {
        time.duration_since(from)
    } else if time > to {
        time.duration_since(to)
    } else {
        SignedDuration::ZERO
    }
}
