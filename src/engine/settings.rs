//! What the engine needs of the configuration.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::decision::CheckSettings;
use crate::takeover::{Configured, Limits};
use crate::units::NodeName;
use crate::units::policy::{DownWhen, HalfDead, SiteCut};

/// The engine's share of the configuration, checked by the loader.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node.
    pub node: NodeName,
    /// The other node: the primary.
    pub peer: NodeName,
    /// The checks, in order.
    pub checks: Vec<CheckSettings>,
    /// `internet`.
    pub internet: InternetSettings,
    /// `witness.primary_site`, by name.
    pub site: Vec<String>,
    /// `witness.observers`, by URL.
    pub observers: Vec<String>,
    /// Whether the primary has an agent that is asked.
    pub agent: AgentAsked,
    /// The longest time from one answer of site, observers and agent to the next.
    pub others_period: Duration,
    /// `monitor.down_when`.
    pub down_when: DownWhen,
    /// `monitor.half_dead`.
    pub half_dead: HalfDead,
    /// `monitor.site_cut`.
    pub site_cut: SiteCut,
    /// `takeover.automatic`.
    pub automatic: Automatic,
    /// `takeover.hold_down`.
    pub hold_down: Duration,
    /// `takeover.startup_grace`.
    pub startup_grace: Duration,
    /// `takeover.hold_off`.
    pub hold_off: Duration,
    /// `pbx.give_up_after`.
    pub give_up_after: Duration,
    /// `notify.repeat`.
    pub repeat: Duration,
    /// Where the epoch lives.
    pub epoch_store: EpochStoreKind,
    /// How long `confirm` may wait for fresh answers: the longest time-out, and a second.
    pub confirm_within: Duration,
    /// Who starts the primary at failback.
    pub primary_start: PrimaryStart,
    /// Which optional steps have work.
    pub configured: Configured,
    /// How long the waits of a plan may take.
    pub limits: Limits,
    /// The verbatim text of the configuration, frozen into each plan's journal.
    pub config_text: String,
}

/// The Internet quorum's settings.
#[derive(Debug, Clone)]
pub struct InternetSettings {
    /// How many must answer.
    pub need: NonZeroU32,
    /// The targets' names.
    pub targets: Vec<String>,
    /// The longest time from one answer to the next.
    pub period: Duration,
}

/// Is there an agent on the primary that is asked?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentAsked {
    /// `peer` is not configured.
    No,
    /// It is; the digest of each section of our settings that must be the same there.
    Yes(BTreeMap<String, String>),
}

/// Does the robot act by itself?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Automatic {
    /// Yes.
    On,
    /// It alerts only.
    Off,
}

/// Where the epoch lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochStoreKind {
    /// On this node only.
    Local,
    /// In a zone.
    Dns,
}

impl EpochStoreKind {
    /// The name used in the configuration and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Dns => "dns",
        }
    }
}

/// Who starts the primary at failback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrimaryStart {
    /// `failback.start_primary`.
    ByCommand,
    /// A person, or its own guard.
    ByItself,
}
