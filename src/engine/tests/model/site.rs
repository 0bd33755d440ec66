//! The primary's host in scenes that give it a guard and an agent: the real ones, with the zone as they see it.
//!
//! Its PBX is started only through the guard, as its unit would be, and the agent's asks are carried out at once: what
//! is explored is the pair, and how late the primary learns of a claim is the agent's own clock.

use std::collections::VecDeque;
use std::time::Duration;

use crate::primary::guard::guard;
use crate::primary::{Act, Agent, AgentRuns, Answer, Ask, Event, HeldBack, Memory, Policy};
use crate::units::{Condition, EpochRead, StepOutcome};

use super::world::{Host, World};

/// So many answers on one event are a fault of the agent.
const ANSWERS_MAX: usize = 50;

/// The host.
#[derive(Debug, Clone)]
pub struct Site {
    pub policy: Policy,
    /// Its way to everything else is cut.
    pub cut: bool,
    /// Its PBX serves.
    pub pbx: bool,
    pub agent: Option<Agent>,
    pub memory: Memory,
}

impl Site {
    pub fn new(policy: Policy) -> Self {
        Self { policy, cut: false, pbx: false, agent: None, memory: Memory::default() }
    }

    /// The host ends, with all that ran on it.
    pub fn ends(&mut self) {
        self.pbx = false;
        self.agent = None;
    }
}

impl World {
    /// Whether the primary's PBX serves; without an agent in the scene it does while its host is up.
    pub fn primary_serves(&self) -> bool {
        self.primary == Host::Up && self.site.as_ref().is_none_or(|site| site.pbx)
    }

    fn site_reads(&self) -> EpochRead {
        let reaches = self.zone.answers && self.site.as_ref().is_some_and(|site| !site.cut);
        if reaches { Ok(self.zone.record.clone()) } else { Err("no answer".into()) }
    }

    /// The host starts: its PBX, if the guard lets it, and its agent.
    pub fn site_starts(&mut self) {
        if self.site.is_none() {
            return;
        }
        self.starts_through_guard(&AgentRuns::No("it starts just now".into()));
        let (node, now) = (self.scene.settings.peer.clone(), self.now);
        let Some(site) = &mut self.site else { return };
        // The model's clock goes on over a reboot.
        site.memory.unread_since = site.memory.unread_since.map(|_| now.boot);
        site.memory.unread_at = site.memory.unread_at.map(|_| now.boot);
        if !site.pbx {
            site.memory.held_back = Some(HeldBack { since: now.wall, because: "the guard".into() });
        }
        site.agent = Some(Agent::new(node, site.policy, Duration::from_secs(900), site.memory.clone(), now));
    }

    /// `ExecCondition=` of the PBX's unit.
    fn starts_through_guard(&mut self, agent: &AgentRuns) {
        let read = self.site_reads();
        let node = &self.scene.settings.peer;
        let Some(site) = &mut self.site else { return };
        site.pbx |= matches!(guard(&read, &site.memory, node, agent, self.now.wall), Answer::MayServe(_));
    }

    /// `failback.start_primary`.
    pub fn site_is_started(&mut self) -> bool {
        self.starts_through_guard(&AgentRuns::Yes);
        self.primary_serves()
    }

    /// A second passes for the agent.
    pub fn site_second(&mut self) {
        let Some(site) = self.site.as_ref().filter(|site| site.agent.is_some()) else { return };
        let condition = if site.pbx { Condition::Serves } else { Condition::Stopped };
        let mut events = VecDeque::from([Event::Tick, Event::Pbx(condition)]);
        for _ in 0..ANSWERS_MAX {
            let Some(event) = events.pop_front() else { return };
            let Some(Site { agent: Some(agent), memory, .. }) = &mut self.site else { return };
            let output = agent.handle(event, self.now);
            if output.remember {
                *memory = agent.memory().clone();
            }
            for ask in output.asks {
                match ask {
                    Ask::ReadEpoch => events.push_back(Event::Epoch(self.site_reads())),
                    Ask::Act(act) => events.push_back(Event::Acted(act, self.site_acts(act))),
                    Ask::Tell(..) | Ask::Note(..) => {}
                }
            }
        }
    }

    fn site_acts(&mut self, act: Act) -> StepOutcome {
        match act {
            Act::Start => self.starts_through_guard(&AgentRuns::Yes),
            Act::Stop => self.site.iter_mut().for_each(|site| site.pbx = false),
            Act::UnregisterTrunks | Act::RegisterTrunks | Act::Drain => {}
        }
        let serves = self.site.as_ref().is_some_and(|site| site.pbx);
        if act == Act::Start && !serves { StepOutcome::failed("the guard said no") } else { StepOutcome::done("seen") }
    }
}
