//! The sync that keeps the working directory equal, and what the gate asks of its work; checked values.

use std::path::PathBuf;
use std::time::Duration;

use super::model::Secret;
use crate::data::gate::{OnFault, OnHold};
use crate::data::{Classes, Pattern};

/// The synced directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// No change for so long before the directory counts as whole.
    pub settle: Duration,
    /// How old the data may be.
    pub max_age: MaxAge,
    /// What happens when the data does not pass the gate.
    pub on_hold: OnHold,
    /// Moved aside before the reload.
    pub hold_back: Vec<Pattern>,
    /// What of the inbound sync the robot stops and starts itself.
    pub fence: SyncFence,
    /// Run at takeover, to stop the inbound sync.
    pub stop: Vec<String>,
    /// Run at failback.
    pub start: Vec<String>,
    /// How many snapshots of a kind are kept.
    pub keep_snapshots: u32,
    /// Bytes of all of them.
    pub snapshots_max: u64,
    /// What is not looked at.
    pub ignore: Vec<Pattern>,
    /// What a broken file means; the first that fits counts.
    pub rules: Vec<(Pattern, OnFault)>,
    /// What a file is.
    pub classes: Classes,
    /// A database dump that must be young and whole.
    pub dump: Option<Dump>,
}

impl Sync {
    /// Whether anything stops what brings files here, and starts it again.
    pub fn is_fenced(&self) -> bool {
        let fence = &self.fence;
        let commands = !self.stop.is_empty() || !self.start.is_empty();
        commands || !fence.units.is_empty() || fence.syncthing.is_some()
    }
}

/// What brings files here, as the robot knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncFence {
    /// Units of systemd, with the timers that start them.
    pub units: Vec<String>,
    /// Syncthing on this host.
    pub syncthing: Option<Syncthing>,
}

/// Syncthing's REST interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syncthing {
    /// Its address, without a path or a slash at the end.
    pub url: String,
    /// An own CA (PEM), beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The key of its interface.
    pub api_key: Secret,
    /// The ids of the folders that lie in the working directories.
    pub folders: Vec<String>,
}

/// How old the data may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxAge {
    /// Older is a warning.
    pub warn: Duration,
    /// Older does not pass.
    pub hold: Duration,
}

/// A database dump in the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// Its whole path.
    pub file: PathBuf,
    /// An older one does not pass.
    pub max_age: Duration,
}
