//! What we believe about the primary, and where the robot stands.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What we believe about the primary: a level, recomputed from all inputs on every event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All votes are up.
    PrimaryUp,
    /// Some votes are down, others up.
    HalfDead,
    /// All votes are down, and nothing says that it lives.
    PrimaryDead,
    /// All votes are down and the primary's whole site is silent.
    SiteCut,
    /// All votes are down here, but somebody else sees it alive: a veto.
    PathCut,
    /// Too few Internet targets answer: the fault may be ours.
    WeAreCutOff,
    /// Our evidence is missing or void.
    Unsure,
}

impl Verdict {
    /// Every verdict, in the order of the table.
    pub const ALL: [Self; 7] = [
        Self::PrimaryUp,
        Self::HalfDead,
        Self::PrimaryDead,
        Self::SiteCut,
        Self::PathCut,
        Self::WeAreCutOff,
        Self::Unsure,
    ];

    /// The name used in JSON, logs and `explain`.
    pub fn name(self) -> &'static str {
        match self {
            Self::PrimaryUp => "primary-up",
            Self::HalfDead => "half-dead",
            Self::PrimaryDead => "primary-dead",
            Self::SiteCut => "site-cut",
            Self::PathCut => "path-cut",
            Self::WeAreCutOff => "we-are-cut-off",
            Self::Unsure => "unsure",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where the robot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The primary serves; we watch.
    Standby,
    /// Something is wrong over there; the hold-down runs.
    Suspect,
    /// The takeover plan runs; phones are not served yet.
    TakingOver,
    /// This node serves.
    Active,
    /// The failback plan runs.
    FailingBack,
    /// A step must not be passed without a person.
    Halted,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Standby, Self::Suspect, Self::TakingOver, Self::Active, Self::FailingBack, Self::Halted];

    /// The name used in JSON, logs and the diagram.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Suspect => "suspect",
            Self::TakingOver => "taking-over",
            Self::Active => "active",
            Self::FailingBack => "failing-back",
            Self::Halted => "halted",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
