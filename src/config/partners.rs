//! The checked configuration of what stands around the pair: the primary's agent, who else sees the primary, the fence.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::model::{ActionUrl, CertificateFiles, Secret};
pub use crate::units::policy::{StepDown, Unreadable};

/// Who else sees the primary, or its site.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Witness {
    /// What stands beside the primary; none: nobody tells a dead primary from a dead site.
    pub primary_site: Vec<SitePlace>,
    /// Robots elsewhere.
    pub observers: Vec<Peer>,
}

/// Something beside the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SitePlace {
    /// As written in the file.
    pub name: String,
    /// How it is asked.
    pub kind: SiteKind,
}

/// How a place at the primary's site is asked. By address: a name could lead elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiteKind {
    /// A TCP connection; a refusal is an answer too.
    Tcp(SocketAddr),
    /// An echo (RFC 792, RFC 4443), where the system allows one without root.
    Icmp(IpAddr),
}

/// Another host of ours that tells about itself: the primary's agent, or an observer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// `https://HOST:PORT`, nothing behind it.
    pub url: String,
    /// What proves each to the other.
    pub token: Secret,
    /// Its certificate and no other; `None`: one that the system's authorities vouch for.
    pub certificate: Option<PathBuf>,
}

/// How the primary is cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// What cuts it off.
    pub cut: FenceWay,
    /// What tells whether it is off; `None`: the cut's own word counts.
    pub read_back: Option<ReadBack>,
    /// Whether the takeover may go on without.
    pub need: FenceNeed,
    /// How long it may take until the primary is seen to be off.
    pub timeout: Duration,
}

/// What cuts the primary off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FenceWay {
    /// A command; exit 0: done.
    Command(Vec<String>),
    /// A request; an expected status: done.
    Http(Box<ActionUrl>),
}

/// What tells whether the primary is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadBack {
    /// A command; exit 0: off, 1: on, else not known.
    Command(Vec<String>),
    /// A request.
    Http {
        /// The request.
        request: Box<ActionUrl>,
        /// The answer holds this text when the primary is off.
        expect_body: String,
    },
}

/// Whether the takeover may go on without its fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceNeed {
    /// It may, and says so.
    Optional,
    /// It halts for a person.
    Required,
}

/// What the primary's agent does; on an observer only `door` counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Where it answers; `None` without a token: it watches the epoch, and tells nobody.
    pub door: Option<AgentDoor>,
    /// When the epoch names another.
    pub step_down: StepDown,
    /// For how long the epoch may be unreadable.
    pub unreadable_after: Duration,
    /// And what is done then.
    pub unreadable: Unreadable,
}

/// Where and with what an agent or an observer answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentDoor {
    /// Address and port.
    pub listen: SocketAddr,
    /// What a caller must know.
    pub token: Secret,
    /// What it shows.
    pub tls: CertificateFiles,
}
