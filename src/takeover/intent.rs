//! What a plan was asked for, and what the configuration gives it: all that decides which steps are passed over.

use serde::{Deserialize, Serialize};

use crate::units::{NodeName, PlanKind, Step};

/// What was asked, by whom; journaled with the plan.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools)] // one flag of the command line a field, never passed on as a bare bool
pub struct Intent {
    /// The person's reason; `None`: the robot acts by itself.
    pub asked: Option<String>,
    /// Claim nothing.
    pub without_claim: bool,
    /// Act although cut off.
    pub although_cut_off: bool,
    /// A person says that the primary's PBX is stopped.
    pub primary_is_stopped: bool,
    /// The primary serves, and its agent is asked to stop it first.
    pub switchover: bool,
    /// Wait for the primary instead of refusing.
    pub wait: bool,
    /// Do not wait for calls to end.
    pub cut_calls: bool,
    /// To whom a hand-over goes; default: the other node.
    pub hand_to: Option<NodeName>,
}

/// Is there a fence, and must it work?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fencing {
    /// None.
    #[default]
    NotConfigured,
    /// Its failure is said, and passed.
    Optional,
    /// Its failure halts.
    Required,
}

/// What becomes of a takeover whose working directory does not pass its gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnsafeData {
    /// It goes on with what there is.
    #[default]
    IsPassed,
    /// It waits, for ever: nothing is loaded that does not pass.
    Holds,
}

/// Which optional steps the configuration gives work to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)] // one independent fact a field, never passed on as a bare bool
pub struct Configured {
    /// `fence`.
    pub fencing: Fencing,
    /// `sync.on_hold`.
    pub unsafe_data: UnsafeData,
    /// `pbx.trunks` or a driver that registers them.
    pub trunks: bool,
    /// `dns.mode: replace` with records.
    pub dns: bool,
    /// An ActionURL listens to `takeover`.
    pub takeover_urls: bool,
    /// An ActionURL listens to `failback`.
    pub failback_urls: bool,
    /// A notification channel exists.
    pub notify: bool,
    /// `failback.return_data` or `failback.return_to`.
    pub return_data: bool,
    /// `failback.return_to` or `failback.return_rest`.
    pub return_rest: bool,
    /// `sync.fence`, or the commands `sync.stop` and `sync.start`.
    pub sync: bool,
    /// `failback.lower_ttl_first`.
    pub lower_ttl: bool,
}

impl Configured {
    /// Why a step is passed over, if it is.
    pub fn skips(&self, kind: PlanKind, step: Step, intent: &Intent) -> Option<&'static str> {
        match step {
            Step::StopPrimary if !intent.switchover => Some("no switchover: the primary is not asked to stop"),
            Step::Claim if intent.without_claim => Some("a person went on without a claim"),
            Step::Fence if self.fencing == Fencing::NotConfigured => Some("no fence is configured"),
            Step::RedirectDns if !self.dns => Some("no DNS record is configured to move"),
            Step::ActionUrls if kind == PlanKind::Takeover && !self.takeover_urls => {
                Some("no ActionURL listens to takeover")
            }
            Step::ActionUrls if kind == PlanKind::Failback && !self.failback_urls => {
                Some("no ActionURL listens to failback")
            }
            Step::Notify if !self.notify => Some("nobody is configured to be told"),
            Step::ReturnData | Step::ReturnDelta if !self.return_data => Some("failback.return_to is not set"),
            Step::ReturnRest if !self.return_rest => Some("failback.return_to is not set"),
            Step::StartSync if !self.sync => Some("neither sync.fence nor sync.stop and sync.start are set"),
            Step::LowerTtl if !self.lower_ttl || !self.dns => Some("failback.lower_ttl_first is off"),
            Step::Drain if intent.cut_calls => Some("a person said not to wait for calls"),
            Step::RegisterTrunks | Step::UnregisterTrunks if !self.trunks => Some("no trunk is configured"),
            _ => None,
        }
    }
}
