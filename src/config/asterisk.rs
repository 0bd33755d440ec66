//! The settings of the driver `asterisk`, as values that cannot be wrong.

use std::path::PathBuf;
use std::time::Duration;

use super::model::Secret;

/// Asterisk, spoken with over its manager interface (AMI).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asterisk {
    /// Where AMI listens.
    pub ami: AmiPlace,
    /// The manager's user.
    pub username: String,
    /// Its password: `secret` in manager.conf.
    pub password: Secret,
    /// The unit.
    pub unit: String,
    /// How its start may take until it has fully booted.
    pub start_timeout: Duration,
    /// What a takeover does with an Asterisk that runs already.
    pub takeover: WhenRunning,
    /// pjsip.conf, as written: relative to the working directory that holds it.
    pub config: PathBuf,
}

/// Where AMI listens, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmiPlace {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// In the clear, or not.
    pub cover: AmiCover,
}

/// What stands around AMI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AmiCover {
    /// Nothing.
    Plain,
    /// TLS, with a certificate that one of the system's authorities signed for the host.
    Tls,
    /// TLS, with exactly the certificate in this file.
    Pinned(PathBuf),
}

/// What a takeover does with an Asterisk that runs already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenRunning {
    /// It is stopped and started.
    Restart,
    /// It is told to read its configuration again.
    Reload,
}
