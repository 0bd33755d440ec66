//! What the daemon must answer. Each call may take long; the server gives up on it after its own time-out.

use serde::{Deserialize, Serialize};

use crate::ports::Answer;
use crate::units::journal::{HistoryEvent, HistoryQuery};
use crate::units::operator::{Reply, Request};
use crate::units::snapshot::{Explanation, Status};
use crate::units::{PlanKind, Serving, Step};

/// Whoever answers what is asked at the socket.
pub trait Desk: Send + Sync {
    /// Where we stand.
    fn status(&self) -> Answer<'_, Status>;

    /// Why, or why not.
    fn explain(&self) -> Answer<'_, Explanation>;

    /// What happened. `Err` is one line: what is wrong with the store.
    fn history(&self, query: HistoryQuery) -> Answer<'_, Result<Vec<HistoryEvent>, String>>;

    /// What a takeover or failback would do now. `Err` is one line: why it cannot be told.
    fn preview(&self, plan: PlanKind) -> Answer<'_, Result<Preview, String>>;

    /// A command of a person.
    fn operate(&self, request: Request) -> Answer<'_, Reply>;

    /// Does this node serve? What a load balancer asks.
    fn serving(&self) -> Answer<'_, Serving>;

    /// Answers when the daemon's loop turns.
    fn alive(&self) -> Answer<'_, ()>;
}

/// What a plan would do, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// Which plan.
    pub plan: PlanKind,
    /// Its steps, in order.
    pub steps: Vec<PreviewStep>,
    /// How long phones would be without service, seconds, as far as it can be foreseen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_service_s: Option<u32>,
    /// How much of that is expected for carrying home what changed last, seconds: the rest is at most a wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried_s: Option<u32>,
    /// Why it would be refused now, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Why the robot would not do it by itself now; a person may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stands_against: Vec<String>,
}

/// One step, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewStep {
    /// The step.
    pub name: Step,
    /// What it will do, in one line.
    pub does: String,
    /// How long it is expected to take, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
}
