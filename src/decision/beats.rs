//! Whether a beat is believed: by protocol, sender, freshness and clock. Its signature has been proved before.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::units::NodeName;
use crate::units::beat::{self, Beat, Heard, Ordered, PROTOCOL};

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
    /// Its clock is so many seconds ahead of ours; negative: behind.
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
                write!(f, "{}: set both by NTP", beat::clock(SignedDuration::from_secs(*seconds)))
            }
            Self::Stale(seconds) => write!(f, "it is {seconds} s old: see the agent, and the sync that carries it"),
            Self::Unreadable(why) => {
                write!(f, "it cannot be read ({why}): install the same version of pbx-failover on both hosts")
            }
        }
    }
}

impl Disbelief {
    /// The same, for the log of the host that told it: there, "its clock" is that of the host which did not believe it.
    #[must_use]
    pub fn as_the_teller_reads_it(&self) -> Self {
        match self {
            Self::Skewed(seconds) => Self::Skewed(-seconds),
            other => other.clone(),
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
const TOLD_CHARS_MAX: usize = 300;

/// A foreign text that can stand in a line of ours.
pub fn told(text: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = "2026-11-26T10:00:00Z";

    fn at(seconds: i64) -> Timestamp {
        let asked: Timestamp = ASKED.parse().expect("a time");
        asked + SignedDuration::from_secs(seconds)
    }

    fn name(text: &str) -> NodeName {
        text.parse().expect("a name")
    }

    /// A beat of `pbx-a`, written so many seconds after it was asked for.
    fn beat(seconds: i64) -> Beat {
        Beat { sequence: 100, nonce: Some("n1".to_owned()), ..Beat::bare(name("pbx-a"), "primary", at(seconds)) }
    }

    /// Judged by a question of two seconds.
    fn judged(beat: Beat, freshness: Freshness<'_>) -> Result<SignedDuration, Disbelief> {
        let node = name("pbx-a");
        believe(beat, &Expected { node: &node, freshness, asked: at(0), came: at(2) }).map(|heard| heard.drift)
    }

    fn file(seen: u64) -> Freshness<'static> {
        Freshness::Sequence { seen, age_max: SignedDuration::from_secs(120) }
    }

    #[test]
    fn the_way_an_answer_took_is_no_drift() {
        for seconds in 0..=2 {
            assert_eq!(judged(beat(seconds), Freshness::Nonce("n1")), Ok(SignedDuration::ZERO));
        }
        assert_eq!(judged(beat(-7), Freshness::Nonce("n1")), Ok(SignedDuration::from_secs(-7)));
        assert_eq!(judged(beat(9), Freshness::Nonce("n1")), Ok(SignedDuration::from_secs(7)));
    }

    #[test]
    fn a_clock_that_is_off_by_more_than_a_name_server_takes_is_not_believed() {
        let most = DRIFT_MAX.as_secs();
        for freshness in [Freshness::Nonce("n1"), Freshness::Rising { heard: Some(99) }] {
            assert_eq!(judged(beat(2 + most), freshness), Ok(DRIFT_MAX));
            assert_eq!(judged(beat(-most), freshness), Ok(-DRIFT_MAX));
            assert_eq!(judged(beat(3 + most), freshness), Err(Disbelief::Skewed(most + 1)));
            assert_eq!(judged(beat(-1 - most), freshness), Err(Disbelief::Skewed(-most - 1)));
        }
        assert_eq!(judged(beat(3 + most), file(0)), Err(Disbelief::Skewed(most + 1)));
    }

    #[test]
    fn whose_clock_is_ahead_is_said_as_the_reader_sees_it() {
        let ahead = judged(beat(1000), Freshness::Nonce("n1")).expect_err("refused");
        assert!(ahead.to_string().contains("its clock is 998 s ahead of this host's"), "{ahead}");
        let told = ahead.as_the_teller_reads_it();
        assert!(told.to_string().contains("its clock is 998 s behind this host's"), "{told}");
        assert_eq!(Disbelief::Replayed.as_the_teller_reads_it(), Disbelief::Replayed);
    }

    #[test]
    fn an_answer_with_another_nonce_or_none_is_an_old_one() {
        assert_eq!(judged(beat(1), Freshness::Nonce("n2")), Err(Disbelief::Replayed));
        assert_eq!(judged(Beat { nonce: None, ..beat(1) }, Freshness::Nonce("n1")), Err(Disbelief::Replayed));
    }

    #[test]
    fn a_beat_that_is_told_unasked_must_be_above_the_highest_that_was_heard() {
        for (heard, believed) in [(None, true), (Some(99), true), (Some(100), false), (Some(u64::MAX), false)] {
            let judged = judged(beat(1), Freshness::Rising { heard });
            assert_eq!(judged.is_ok(), believed, "{heard:?}");
            assert!(believed || judged == Err(Disbelief::Replayed));
        }
    }

    #[test]
    fn a_beat_in_a_file_may_be_read_again_and_not_be_exchanged_for_an_older_one() {
        assert_eq!(judged(beat(0), file(100)), Ok(SignedDuration::ZERO));
        assert_eq!(judged(beat(0), file(101)), Err(Disbelief::Replayed));
        assert_eq!(judged(beat(-118), file(0)), Ok(SignedDuration::ZERO), "its age is no drift");
        assert_eq!(judged(beat(-119), file(0)), Err(Disbelief::Stale(121)));
    }

    #[test]
    fn another_node_and_another_protocol_are_told_by_name() {
        let told = judged(Beat { node: name("pbx-x"), ..beat(1) }, Freshness::Nonce("n1")).expect_err("refused");
        assert!(told.to_string().contains("told by pbx-x, not by pbx-a"), "{told}");
        // The protocol first: what else it says may mean something else there.
        let other = Beat { protocol: 2, version: "9\n.1".to_owned(), node: name("pbx-x"), ..beat(1) };
        let told = judged(other, Freshness::Nonce("n2")).expect_err("refused").to_string();
        assert!(told.contains("protocol 2 (version 9.1), this program speaks 1 (version "), "{told}");
        assert!(told.lines().count() == 1);
    }

    #[test]
    fn another_protocol_is_known_although_its_form_is_not() {
        let told = read(r#"{"protocol":2,"version":"2.0.0","host":{"name":"pbx-a"}}"#);
        assert_eq!(told, Err(Disbelief::Protocol(2, "2.0.0".to_owned())));
        let told = read_order::<String>(r#"{"beat":{"protocol":3},"what":7}"#).expect_err("refused");
        assert_eq!(told, Disbelief::Protocol(3, String::new()));
        for text in ["", "[]", "{}", r#"{"protocol":1}"#, r#"{"protocol":"1"}"#, "\u{0}"] {
            assert!(matches!(read(text), Err(Disbelief::Unreadable(_))), "{text:?}");
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let text = serde_json::to_string(&beat(1)).expect("JSON");
        assert_eq!(read(&text), Ok(beat(1)));
        let order = Ordered { beat: beat(1), order: "stop".to_owned() };
        assert_eq!(read_order(&serde_json::to_string(&order).expect("JSON")), Ok(order));
        // A field of a later version of the same protocol is passed over.
        assert_eq!(read(&text.replacen('{', r#"{"later":true,"#, 1)), Ok(beat(1)));
    }

    #[test]
    fn no_mutation_of_a_beat_makes_reading_or_judging_panic() {
        let good = serde_json::to_string(&beat(1)).expect("JSON");
        let mut rng = fastrand::Rng::with_seed(0xBEA7);
        let mut read_all_the_same = 0_u32;
        for _ in 0..20_000 {
            let mut bytes = good.clone().into_bytes();
            for _ in 0..=rng.usize(..2) {
                let place = rng.usize(..bytes.len());
                match rng.u8(..3) {
                    0 => bytes[place] = rng.u8(..),
                    1 => bytes[place] = b"0123456789-eE.\"{}"[rng.usize(..17)],
                    _ => drop(bytes.remove(place)),
                }
            }
            let Ok(beat) = read(&String::from_utf8_lossy(&bytes)) else { continue };
            read_all_the_same += 1;
            for freshness in [Freshness::Nonce("n1"), Freshness::Rising { heard: None }, file(100)] {
                let _ = judged(beat.clone(), freshness).map_err(|why| why.to_string());
            }
        }
        assert!(read_all_the_same > 1_000, "{read_all_the_same}");
    }

    #[test]
    fn a_member_that_this_program_does_not_know_is_passed_over() {
        let mut text = serde_json::to_value(beat(1)).expect("a beat");
        text["of-a-later-version"] = serde_json::json!({ "states": [1, 2] });
        assert_eq!(read(&text.to_string()), Ok(beat(1)));
    }
}
