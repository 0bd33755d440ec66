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
