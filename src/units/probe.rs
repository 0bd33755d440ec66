//! One question to the primary or to the Internet, and its answer.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A check's name, as the configuration gives it (`web`, `sip`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckName(pub String);

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a check asks, which decides what its vote weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckKind {
    /// The web server.
    Http,
    /// SIP OPTIONS.
    Sip,
    /// A TCP connection.
    Tcp,
    /// The heartbeat file in the working directory: evidence, never a vote.
    Heartbeat,
}

impl CheckKind {
    /// The name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Sip => "sip",
            Self::Tcp => "tcp",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// It lives. `warning` tells what is wrong all the same (an expired certificate, an overloaded server).
    Up {
        /// What was seen, for people: `200 OK`.
        seen: String,
        /// What is wrong although it lives.
        warning: Option<String>,
    },
    /// It does not serve: refused, silent, or answering that it cannot.
    Down(String),
    /// The question never left this host: no descriptor, no buffer, no route on our side. Says nothing of them.
    Unknown(String),
}

impl ProbeAnswer {
    /// An answer without a warning.
    pub fn up(seen: impl Into<String>) -> Self {
        Self::Up { seen: seen.into(), warning: None }
    }
}

/// An answer and how long it took from sending the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeResult {
    /// What came back.
    pub answer: ProbeAnswer,
    /// From the start of the question to the answer or the time-out.
    pub latency: Duration,
}

/// What others say about the primary or its site, when somebody is configured to say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sighting {
    /// Nobody is configured to say.
    #[default]
    NotConfigured,
    /// Not asked yet.
    NoView,
    /// This host could ask none of them: no word, as if nobody were configured.
    NotAsked,
    /// Seen alive.
    Alive,
    /// Seen silent.
    Silent,
}
