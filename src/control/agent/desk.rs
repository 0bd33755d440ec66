//! What an agent or an observer must answer.

use crate::ports::Answer;
use crate::units::{Beat, Heard, PlanId, StepOutcome, StopOrder};

/// Whoever answers what is asked at the agent's door. Each call may take long; the door gives up on it after its time.
pub trait AgentDesk: Send + Sync {
    /// What this host tells, to a host that has just told this and is believed. Sequence and nonce are set by the door.
    fn beat(&self, asker: Heard) -> Answer<'_, Beat>;

    /// Drains and stops the PBX. It may be said again and again: an answer within a few seconds that tells how far it is
    /// (`Failed`: "two calls are up") is better than one at the end, which may come too late to be heard.
    fn stop(&self, order: StopOrder) -> Answer<'_, StepOutcome>;

    /// Takes such a stop back.
    fn resume(&self, plan: PlanId) -> Answer<'_, StepOutcome>;
}
