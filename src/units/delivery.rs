//! Messages that leave the robot: ActionURLs and notifications.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What happened that somebody is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventName {
    /// This node serves.
    Takeover,
    /// The service was given back.
    Failback,
    /// The primary is believed dead, or partly so.
    PrimaryDown,
    /// The primary answers again.
    PrimaryBack,
    /// A takeover could not happen now.
    Disarmed,
    /// A takeover could happen again.
    Armed,
    /// A step is being tried again.
    StepRetries,
    /// A step was given up; the plan goes on without it.
    StepGivenUp,
    /// This node did not come up, and the epoch goes back to the primary.
    BackupFailed,
    /// The primary did not come up in time, and this node takes the service back.
    TakenBack,
    /// A person must decide.
    Halted,
    /// The primary answers while we serve.
    BothMayServe,
    /// The epoch is not as this node remembers it, or names another.
    EpochTrouble,
    /// The primary's agent stopped its PBX, or took its trunks away.
    SteppedDown,
    /// The primary's PBX may serve again.
    ServesAgain,
    /// What the other host tells is not as it should be.
    PeerTrouble,
    /// The PBX on this node serves, or holds synced files, while it should be passive.
    NotPassive,
    /// It is passive again.
    PassiveAgain,
    /// The working directory would not be loaded as it is.
    DataTrouble,
    /// It would again.
    DataWell,
    /// The sync between the hosts runs while the backup serves, or rests while it watches.
    SyncTrouble,
    /// The sync is as it should be again.
    SyncWell,
    /// A rehearsal.
    Drill,
    /// Somebody asked for a test message.
    Test,
}

impl EventName {
    /// Every event.
    pub const ALL: [Self; 24] = [
        Self::Takeover,
        Self::Failback,
        Self::PrimaryDown,
        Self::PrimaryBack,
        Self::Disarmed,
        Self::Armed,
        Self::StepRetries,
        Self::StepGivenUp,
        Self::BackupFailed,
        Self::TakenBack,
        Self::Halted,
        Self::BothMayServe,
        Self::EpochTrouble,
        Self::SteppedDown,
        Self::ServesAgain,
        Self::PeerTrouble,
        Self::NotPassive,
        Self::PassiveAgain,
        Self::DataTrouble,
        Self::DataWell,
        Self::SyncTrouble,
        Self::SyncWell,
        Self::Drill,
        Self::Test,
    ];

    /// The name used in `events:`, JSON and templates.
    pub fn name(self) -> &'static str {
        match self {
            Self::Takeover => "takeover",
            Self::Failback => "failback",
            Self::PrimaryDown => "primary-down",
            Self::PrimaryBack => "primary-back",
            Self::Disarmed => "disarmed",
            Self::Armed => "armed",
            Self::StepRetries => "step-retries",
            Self::StepGivenUp => "step-given-up",
            Self::BackupFailed => "backup-failed",
            Self::TakenBack => "taken-back",
            Self::Halted => "halted",
            Self::BothMayServe => "both-may-serve",
            Self::EpochTrouble => "epoch-trouble",
            Self::SteppedDown => "stepped-down",
            Self::ServesAgain => "serves-again",
            Self::PeerTrouble => "peer-trouble",
            Self::NotPassive => "not-passive",
            Self::PassiveAgain => "passive-again",
            Self::DataTrouble => "data-trouble",
            Self::DataWell => "data-well",
            Self::SyncTrouble => "sync-trouble",
            Self::SyncWell => "sync-well",
            Self::Drill => "drill",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a message goes: `action-url:NAME`, `email`, `webhook:NAME`, `command`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Target(pub String);

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One message to one target, queued on disk until its answer is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Unique and stable over retries and restarts: the `Idempotency-Key`, and the mail's Message-ID.
    pub key: String,
    /// Where it goes.
    pub target: Target,
    /// What happened.
    pub event: EventName,
    /// One line.
    pub subject: String,
    /// The whole message, for channels that carry text.
    pub text: String,
    /// The ActionURL variables, by name.
    pub variables: BTreeMap<String, String>,
}

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryOutcome {
    /// Accepted; the proof is the HTTP status or the server's id.
    Accepted(String),
    /// Not accepted, or not known to be: try again.
    Retry(String),
    /// Never going to be accepted (a bad address, 4xx): do not try again.
    Rejected(String),
}
