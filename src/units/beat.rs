//! The beat: what one host of ours tells another about itself, and what came of asking for it.
//!
//! Primary, backup and observer use the same document. How it is signed and carried is not here.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::tree::TreeTold;
use super::{NodeName, PlanId, State, StepOutcome, TrunkKind, TrunkState, Verdict};

/// How long the host that an order is for may work on it before it answers that it goes on.
pub const ORDER_TIME_MAX: Duration = Duration::from_secs(10);

/// How long whoever gave an order waits for that answer: longer than it is worked on, by a handshake and the way there
/// and back, so that "it goes on" is heard and not taken for silence.
pub const ORDER_ANSWER_MAX: Duration = Duration::from_secs(ORDER_TIME_MAX.as_secs() + 5);

/// The protocol that this program speaks; another one is refused, with both named.
pub const PROTOCOL: u32 = 1;

/// What a host tells about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// [`PROTOCOL`] of the teller.
    pub protocol: u32,
    /// The teller's program version.
    pub version: String,
    /// Who tells.
    pub node: NodeName,
    /// `primary`, `backup` or `observer`.
    pub role: String,
    /// The teller's wall clock.
    pub time: Timestamp,
    /// Rises with each beat, also over a restart: an old one is known by it.
    pub sequence: u64,
    /// Which of the teller's programs speaks: each has numbers of its own.
    #[serde(default, skip_serializing_if = "Speaker::is_daemon")]
    pub speaker: Speaker,
    /// The question's nonce, where the beat answers one: such an answer cannot be an old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// The highest turn that the teller saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<EpochTold>,
    /// A digest of each section of the settings that must be the same on both hosts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// The teller's PBX; none on an observer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pbx: Option<PbxTold>,
    /// Of the primary: what its agent lets its PBX do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duty: Option<DutyTold>,
    /// Of the backup: where its robot stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub robot: Option<RobotTold>,
    /// Of an observer: what it sees of the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<ViewTold>,
    /// Of the primary: the states of its working directories that it vouches for. Older programs pass over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<TreeTold>,
}

/// A program that speaks for its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speaker {
    /// The robot, the agent, or the observer: one on each host.
    #[default]
    Daemon,
    /// `check`, which may ask while the daemon does.
    Check,
}

impl Speaker {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde asks by reference
    fn is_daemon(&self) -> bool {
        *self == Self::Daemon
    }
}

/// The highest turn that a host saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochTold {
    /// The turn.
    pub number: u64,
    /// Who holds it.
    pub holder: NodeName,
}

/// A PBX, as the host that it runs on knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PbxTold {
    /// The driver's name.
    pub driver: String,
    /// Whether it serves.
    pub condition: Condition,
    /// Registered phones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registrations: Option<u32>,
    /// Calls that are up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u32>,
    /// Its trunks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trunks: Vec<TrunkTold>,
}

/// Whether a PBX serves, as its own host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// A SIP request from its own host was answered.
    Serves,
    /// It is stopped.
    Stopped,
    /// It should run, and does not: it failed, and nobody starts it again.
    Failed,
    /// Not known: it runs and does not answer, or could not be asked.
    Unknown,
}

impl fmt::Display for Condition {
    /// What follows on "its PBX": the one wording for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Serves => "serves",
            Self::Stopped => "is stopped",
            Self::Failed => "has failed",
            Self::Unknown => "is not known to serve",
        })
    }
}

/// One trunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkTold {
    /// Its name.
    pub name: String,
    /// How it reaches its provider.
    pub kind: TrunkKind,
    /// Where it stands.
    pub state: TrunkState,
}

/// What the primary's agent lets its PBX do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DutyTold {
    /// Which.
    pub duty: Duty,
    /// Why, in one line.
    pub because: String,
    /// Whether the agent starts the PBX by itself as soon as it may serve.
    pub starts_by_itself: bool,
    /// Whether the PBX asks the guard before it starts.
    #[serde(default)]
    pub guarded: Guarded,
    /// Until when a stop of the PBX is planned: no reason to take over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned_stop_until: Option<Timestamp>,
}

/// Whether a PBX asks the guard before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guarded {
    /// It does.
    Yes,
    /// It does not: after a reboot it serves, whoever holds the service.
    No,
    /// Not known.
    #[default]
    Unknown,
}

/// What a PBX on the primary may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duty {
    /// Serve phones and trunks.
    Serve,
    /// Serve its phones, without trunks.
    WithoutTrunks,
    /// Be stopped.
    Stop,
    /// Go on if it runs, and not be started: not enough is known.
    AsItIs,
}

impl Duty {
    /// The name used in JSON and in text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::WithoutTrunks => "without-trunks",
            Self::Stop => "stop",
            Self::AsItIs => "as-it-is",
        }
    }
}

/// Where a robot stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RobotTold {
    /// Its state.
    pub state: State,
    /// What it believes about the primary.
    pub verdict: Verdict,
    /// Why it could not take over now; empty: it could.
    pub disarmed_because: Vec<String>,
}

/// What an observer sees of the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewTold {
    /// Whether the checks that decide are up.
    pub sees: Sees,
    /// Each check and what it says, in one line.
    pub because: String,
    /// How old the view is: milliseconds since the observer's loop made it.
    pub age_ms: u64,
}

/// Whether the primary is seen alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sees {
    /// Its deciding checks are up.
    Alive,
    /// They are not.
    Down,
    /// Not known: just started, or stalled.
    Nothing,
}

/// What came of asking another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerReading {
    /// It told, and it is believed.
    Heard(Box<Heard>),
    /// No answer; and why.
    Silent(String),
    /// An answer that is not believed; one line that says why, and what to do.
    Refused(String),
}

/// A beat that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// What was told.
    pub beat: Beat,
    /// Its clock minus ours; what the way there may have cost is in its favour.
    pub drift: SignedDuration,
}

impl Heard {
    /// How its clock stands to that of the host that reads this, for people.
    pub fn clock(&self) -> String {
        clock(self.drift)
    }

    /// The drift in milliseconds, as a snapshot tells it.
    pub fn drift_ms(&self) -> i64 {
        i64::try_from(self.drift.as_millis()).unwrap_or(i64::MAX)
    }
}

/// How another host's clock stands to that of the host that reads this; `drift`: its clock minus ours.
pub fn clock(drift: SignedDuration) -> String {
    let word = if drift.is_negative() { "behind" } else { "ahead of" };
    format!("its clock is {} s {word} this host's", drift.as_secs().unsigned_abs())
}

/// What the backup asks of the primary's agent in a switchover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopOrder {
    /// The plan that asks.
    pub plan: PlanId,
    /// How long to wait for a moment without calls, seconds.
    pub drain_s: u64,
    /// The stop ends by itself after so long, seconds, unless the epoch has moved: a backup that dies meanwhile must not
    /// keep a living primary down.
    pub for_s: u64,
    /// The person's reason.
    pub reason: String,
}

/// An order on its way: what is asked, and the beat of who asks it, which says when it was said and after what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered<T> {
    /// Who asks, with sequence and nonce; the rest of it may be empty.
    pub beat: Beat,
    /// What is asked.
    pub order: T,
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderAnswer {
    /// The order's nonce.
    pub nonce: String,
    /// What came of it.
    pub outcome: StepOutcome,
}

impl Beat {
    /// A beat that tells who speaks and when, and nothing else.
    pub fn bare(node: NodeName, role: &str, time: Timestamp) -> Self {
        Self {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node,
            role: role.to_owned(),
            time,
            sequence: 0,
            speaker: Speaker::Daemon,
            nonce: None,
            epoch: None,
            settings: BTreeMap::new(),
            pbx: None,
            duty: None,
            robot: None,
            view: None,
            tree: None,
        }
    }
}
