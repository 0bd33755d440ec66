//! What a PBX tells of itself, whichever driver asks.

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
