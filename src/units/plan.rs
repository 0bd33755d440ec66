//! Plans, steps and their three-way outcomes.

use std::fmt;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// A plan's identity: a ULID, which the epoch record bears and each ActionURL carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanId(pub Ulid);

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for PlanId {
    type Err = ulid::DecodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Which table of steps a plan runs ([`crate::takeover`] holds the tables).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlanKind {
    /// Make this node serve.
    Takeover,
    /// Give the service back.
    Failback,
    /// After a restart while Active: see that the PBX serves, and make it so.
    Serve,
    /// Another serves: be passive here, touch nothing else.
    Retreat,
    /// Be passive here, then hand the epoch to the other node.
    Withdraw,
}

impl PlanKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Takeover, Self::Failback, Self::Serve, Self::Retreat, Self::Withdraw];

    /// The name used in JSON and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Takeover => "takeover",
            Self::Failback => "failback",
            Self::Serve => "serve",
            Self::Retreat => "retreat",
            Self::Withdraw => "withdraw",
        }
    }
}

impl fmt::Display for PlanKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A step's name, over all plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Ask Internet, votes and observers once more.
    Confirm,
    /// Have the primary's agent drain and stop its PBX: a switchover.
    StopPrimary,
    /// Take the epoch.
    Claim,
    /// Make certain that the primary cannot serve.
    Fence,
    /// Stop the sync, pass the gate, take a snapshot.
    SecureData,
    /// Make the PBX run this working directory.
    Reload,
    /// Make the PBX accept registrations, and see that it does.
    AcceptRegistrations,
    /// Register the trunks.
    RegisterTrunks,
    /// Move the DNS records.
    RedirectDns,
    /// Fire the ActionURLs.
    ActionUrls,
    /// Tell people.
    Notify,
    /// May failback begin: does the primary answer?
    Preflight,
    /// Carry changed files home while serving.
    ReturnData,
    /// Lower the records' TTL and wait the old one out.
    LowerTtl,
    /// Wait for a moment without calls.
    Drain,
    /// Give the trunks up.
    UnregisterTrunks,
    /// Make the PBX passive, and see that it is.
    StopAccepting,
    /// Carry the last delta home, while nobody serves.
    ReturnDelta,
    /// Give the epoch to the other node.
    HandOver,
    /// See the primary serve.
    PrimaryServes,
    /// Carry home what is large, once the primary serves.
    ReturnRest,
    /// Let the sync bring files here again.
    StartSync,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 22] = [
        Self::Confirm,
        Self::StopPrimary,
        Self::Claim,
        Self::Fence,
        Self::SecureData,
        Self::Reload,
        Self::AcceptRegistrations,
        Self::RegisterTrunks,
        Self::RedirectDns,
        Self::ActionUrls,
        Self::Notify,
        Self::Preflight,
        Self::ReturnData,
        Self::LowerTtl,
        Self::Drain,
        Self::UnregisterTrunks,
        Self::StopAccepting,
        Self::ReturnDelta,
        Self::HandOver,
        Self::PrimaryServes,
        Self::ReturnRest,
        Self::StartSync,
    ];

    /// The name used in JSON, logs and commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::StopPrimary => "stop_primary",
            Self::Claim => "claim",
            Self::Fence => "fence",
            Self::SecureData => "secure_data",
            Self::Reload => "reload",
            Self::AcceptRegistrations => "accept_registrations",
            Self::RegisterTrunks => "register_trunks",
            Self::RedirectDns => "redirect_dns",
            Self::ActionUrls => "action_urls",
            Self::Notify => "notify",
            Self::Preflight => "preflight",
            Self::ReturnData => "return_data",
            Self::LowerTtl => "lower_ttl",
            Self::Drain => "drain",
            Self::UnregisterTrunks => "unregister_trunks",
            Self::StopAccepting => "stop_accepting",
            Self::ReturnDelta => "return_delta",
            Self::HandOver => "hand_over",
            Self::PrimaryServes => "primary_serves",
            Self::ReturnRest => "return_rest",
            Self::StartSync => "start_sync",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a step is asked: only look whether it is already done, or do it and prove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Look at the effect; change nothing.
    Look,
    /// Do it, then prove it by its effect.
    Act,
}

/// What was seen that proves a step, as a line for people.
pub type Proof = String;

/// What came of a step. `Unknown` is a third answer: it may have happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// The effect was seen.
    Done(Proof),
    /// It did not happen. In `Look` mode: it is not done yet.
    Failed(String),
    /// It may have happened; look before acting again.
    Unknown(String),
    /// It did not happen, and trying again cannot help: a person must decide, or another holds the epoch.
    Refused(String),
}

impl StepOutcome {
    /// Done, with this proof.
    pub fn done(proof: impl Into<String>) -> Self {
        Self::Done(proof.into())
    }

    /// Failed, for this reason.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed(reason.into())
    }

    /// Perhaps done, for this reason not certain.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown(reason.into())
    }

    /// The proof or the reason.
    pub fn text(&self) -> &str {
        match self {
            Self::Done(text) | Self::Failed(text) | Self::Unknown(text) | Self::Refused(text) => text,
        }
    }
}

/// Where a step stands, as `status` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Begun, no outcome yet, or waiting for its next attempt.
    Running,
    /// Proved.
    Done,
    /// Given up.
    Failed,
    /// It may have happened.
    Unknown,
    /// Not configured, or passed over on purpose.
    Skipped,
}

impl StepState {
    /// The name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Skipped => "skipped",
        }
    }
}
