//! What the configuration lets the robot do on a verdict that leaves a choice.

use std::time::Duration;

/// When do the votes say "down"?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownWhen {
    /// All of them are down.
    All,
    /// Any is.
    Any,
}

/// What half a primary leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HalfDead {
    /// A takeover, when a deciding check stayed down for so long.
    TakeoverAfter(Duration),
    /// An alert only.
    Alert,
}

/// What a silent site leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiteCut {
    /// A takeover.
    Takeover,
    /// Waiting for a person.
    Wait,
}

/// What the primary's PBX does when the epoch names another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepDown {
    /// It stops.
    Stop,
    /// It gives its trunks up, and serves its own phones.
    UnregisterTrunks,
    /// It goes on; people are told.
    Alert,
}

/// What the primary's PBX does once the epoch could not be read for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unreadable {
    /// It goes on.
    Keep,
    /// It gives its trunks up, and serves its own phones.
    UnregisterTrunks,
    /// It stops.
    Stop,
}
