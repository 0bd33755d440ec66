//! What others tell the engine: the primary's own agent. Witness and observers are counted like Internet targets.
//!
//! An agent's word is evidence, never a vote. Only what was told just now, over the authenticated way, is here at all;
//! what makes a beat believable is in [`crate::decision::beats`].

use std::time::Duration;

use crate::decision::AgentSays;
use crate::units::{Condition, Heard, Now, PeerReading};

use super::core::Engine;

/// So many periods without an answer, and the agent says nothing any more.
const PERIODS_FRESH: u32 = 3;

/// What the primary's agent told last.
#[derive(Debug, Clone, Default)]
pub(super) struct Agent {
    /// What it told, and when by the boot clock that was asked for and came.
    heard: Option<(Heard, Duration, Duration)>,
    /// Why nothing came of the last question; `None`: something did.
    pub(super) trouble: Option<PeerReading>,
    void_before: Duration,
}

impl Agent {
    /// Forgets what was told, because our evidence is void.
    pub(super) fn forget(&mut self, now: Now) {
        self.heard = None;
        self.void_before = now.boot;
    }

    /// What it told, if that is fresh.
    pub(super) fn fresh(&self, period: Duration, now: Now) -> Option<&Heard> {
        let (heard, _, at) = self.heard.as_ref()?;
        (now.since(*at) <= period.saturating_mul(PERIODS_FRESH)).then_some(heard)
    }
}

impl Engine {
    pub(super) fn peer_was_asked(&mut self, reading: PeerReading, asked: Duration) {
        if asked < self.agent.void_before {
            return;
        }
        match reading {
            PeerReading::Heard(heard) => {
                self.agent.trouble = None;
                self.agent.heard = Some((*heard, asked, self.now.boot));
            }
            other => self.agent.trouble = Some(other),
        }
    }

    /// What the agent told, if that is fresh.
    pub(super) fn heard(&self) -> Option<&Heard> {
        self.agent.fresh(self.settings.others_period, self.now)
    }

    /// What it says of its PBX.
    pub(super) fn agent_says(&self) -> AgentSays {
        let condition = self.heard().and_then(|heard| heard.beat.pbx.as_ref()).map(|pbx| pbx.condition);
        match condition {
            Some(Condition::Serves) => AgentSays::Serves,
            Some(Condition::Failed) => AgentSays::Failed,
            Some(Condition::Stopped | Condition::Unknown) | None => AgentSays::Nothing,
        }
    }
}
