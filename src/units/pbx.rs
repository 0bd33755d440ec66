//! What a PBX tells of itself, whichever driver asks.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Does the PBX serve phones?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serving {
    /// It runs and accepts registrations.
    Yes,
    /// It is passive.
    No,
    /// The driver could not find out.
    Unknown(String),
}

/// How a trunk reaches its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrunkKind {
    /// By registering.
    Register,
    /// The provider knows our address.
    Ip,
    /// The provider looks our name up.
    Fqdn,
}

/// What a trunk's driver sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrunkState {
    /// Registered, or its OPTIONS answered.
    Up,
    /// Trying.
    Trying,
    /// Refused by the provider.
    Rejected,
    /// Down, or not registered.
    Down,
    /// The driver does not tell.
    Unknown,
}

/// One trunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkStatus {
    /// Its name, as the PBX calls it.
    pub name: String,
    /// Where it stands.
    pub state: TrunkState,
    /// The provider's last SIP code, where the driver tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_code: Option<u16>,
    /// What a person may want to know beside that, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// What its provider holds of others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign: Vec<ForeignBinding>,
}

impl TrunkStatus {
    /// One of which no more is known.
    pub fn new(name: impl Into<String>, state: TrunkState, sip_code: Option<u16>) -> Self {
        Self { name: name.into(), state, sip_code, said: None, foreign: Vec::new() }
    }

    /// The same with these words, unless it is up: then nobody looks for them.
    #[must_use]
    pub fn saying(mut self, words: String) -> Self {
        self.said = (self.state != TrunkState::Up).then_some(words);
        self
    }
}

/// A contact that a provider holds for a trunk's account, and that is not this node's: calls may go there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignBinding {
    /// Its host, and port where it has one; the user's part may be a telephone number.
    pub place: String,
    /// When it ends by itself, unless it is renewed, seconds.
    pub expires_s: u32,
}

impl fmt::Display for ForeignBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} s left)", self.place, self.expires_s)
    }
}

/// The PBX as its driver sees it now; `None` where a driver cannot tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PbxStatus {
    /// Does it serve?
    pub serving: Serving,
    /// Registered phones.
    pub registrations: Option<u32>,
    /// Calls that are up.
    pub calls: Option<u32>,
    /// The trunks that the driver sees.
    pub trunks: Vec<TrunkStatus>,
    /// What a person should look at although it serves: one line.
    pub trouble: Option<String>,
    /// It does not run, by its own fault: its unit has failed. A person's stop is no fault, whatever trouble there is.
    pub failed: bool,
}

impl PbxStatus {
    /// A status that knows only whether the PBX serves.
    pub fn serving(serving: Serving) -> Self {
        Self { serving, registrations: None, calls: None, trunks: Vec::new(), trouble: None, failed: false }
    }
}
