//! What a person may ask of the robot, and what it answers.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::NodeName;

/// A command from a person, as it comes over the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum Command {
    /// Make this node serve.
    Takeover {
        /// Somebody saw to it that the primary's PBX is stopped.
        #[serde(default)]
        primary_is_stopped: bool,
        /// Even when the Internet does not answer.
        #[serde(default)]
        although_cut_off: bool,
        /// Even when no epoch can be claimed.
        #[serde(default)]
        without_claim: bool,
    },
    /// Give the service back.
    Failback {
        /// Wait for the primary instead of refusing while it does not answer.
        #[serde(default)]
        wait: bool,
        /// Do not wait for calls to end.
        #[serde(default)]
        cut_calls: bool,
        /// Take service back during a failback.
        #[serde(default)]
        undo: bool,
    },
    /// No automatic takeover until then.
    Pause {
        /// When the pause ends, whole seconds.
        until: Timestamp,
    },
    /// End the pause.
    Unpause,
    /// Go on after Halted.
    Continue {
        /// The person proved that the primary is off.
        #[serde(default)]
        fenced_by_hand: bool,
    },
    /// Give up after Halted.
    Abandon {
        /// To whom the epoch goes; default: the primary.
        #[serde(default)]
        to: Option<NodeName>,
    },
    /// Silence the repeating alarms.
    Ack,
}

impl Command {
    /// The command's name on the command line and in the control path.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Takeover { .. } => "takeover",
            Self::Failback { .. } => "failback",
            Self::Pause { .. } => "pause",
            Self::Unpause => "unpause",
            Self::Continue { .. } => "continue",
            Self::Abandon { .. } => "abandon",
            Self::Ack => "ack",
        }
    }
}

/// A command with who asked and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What is asked.
    #[serde(flatten)]
    pub command: Command,
    /// The person's reason, recorded.
    pub reason: String,
    /// Who asked: the peer of the control socket, `uid 1000`.
    #[serde(default)]
    pub by: String,
}

/// Longest reason that is kept.
pub const REASON_CHARS_MAX: usize = 500;

/// Longest pause: whoever needs more says so again.
pub const PAUSE_MAX: Duration = Duration::from_secs(14 * 24 * 3600);

/// What a person is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer", content = "text")]
pub enum Reply {
    /// Accepted: what happens now.
    Accepted(String),
    /// Refused in this state, why, and what to do.
    Refused(String),
}
