//! Whether a beat is believed: by protocol, sender, freshness and clock. Its signature has been proved before.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::units::NodeName;
use crate::units::beat::{Beat, Heard, Ordered, PROTOCOL};

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
    /// It was told to us unasked: its sequence is above the highest that was heard, and its time is now.
    Rising {
        /// The highest that was heard; `None`: none since we started.
        heard: Option<u64>,
    },
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
    /// Another node told it: who, and who should have.
    Sender(NodeName, NodeName),
    /// An old one was sent again.
    Replayed,
    /// Its clock is so many seconds off.
    Skewed(i64),
    /// It is so many seconds old.
    Stale(i64),
    /// Its form is not that of its protocol.
    Unreadable(String),
}

impl fmt::Display for Disbelief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(theirs, version) => write!(
                f,
                "it speaks protocol {theirs} (version {version}), this program speaks {PROTOCOL} (version {}): install the \
                 same version on both hosts",
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
            Self::Unreadable(why) => {
                write!(f, "it cannot be read ({why}): install the same version of pbx-failover on both hosts")
            }
        }
    }
}

/// Reads a beat whose seal was proved. Its protocol is looked at first: the rest of another one may be read wrongly.
///
/// # Errors
/// [`Disbelief::Protocol`] or [`Disbelief::Unreadable`].
pub fn read(text: &str) -> Result<Beat, Disbelief> {
    same_protocol(&parsed(text)?)?;
    parsed(text)
}

/// Reads an order whose seal was proved, with the beat that came with it.
///
/// # Errors
/// As [`read`].
pub fn read_order<T: DeserializeOwned>(text: &str) -> Result<Ordered<T>, Disbelief> {
    #[derive(Deserialize)]
    struct Heads {
        beat: Head,
    }
    let heads: Heads = parsed(text)?;
    same_protocol(&heads.beat)?;
    parsed(text)
}

/// What every protocol has in common.
#[derive(Deserialize)]
struct Head {
    protocol: u32,
    #[serde(default)]
    version: String,
}

fn same_protocol(head: &Head) -> Result<(), Disbelief> {
    if head.protocol == PROTOCOL { Ok(()) } else { Err(Disbelief::Protocol(head.protocol, told(&head.version))) }
}

fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, Disbelief> {
    serde_json::from_str(text).map_err(|error| Disbelief::Unreadable(told(&error.to_string())))
}

/// Longest foreign text in a line of ours.
const TOLD_CHARS_MAX: usize = 120;

/// A foreign text that can stand in a line of ours.
fn told(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TOLD_CHARS_MAX).collect()
}

/// Judges one beat.
///
/// # Errors
/// [`Disbelief`], the first that applies.
pub fn believe(beat: Beat, expected: &Expected<'_>) -> Result<Heard, Disbelief> {
    if beat.protocol != PROTOCOL {
        return Err(Disbelief::Protocol(beat.protocol, told(&beat.version)));
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
        Freshness::Rising { heard } => {
            if heard.is_some_and(|heard| beat.sequence <= heard) {
                return Err(Disbelief::Replayed);
            }
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
