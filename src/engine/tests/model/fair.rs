//! What must come about in the end: from a state, all heals but what the sentence names, and a fair world runs on.
//!
//! The checker cannot see "in the end" in a graph with loops, so each sampled state is run on by itself: every
//! question is answered, every swap that was late arrives, a dead process is started, and a person who is needed
//! does what the documentation says. The goal must be reached within a bound of virtual time.

use crate::engine::Event;
use crate::engine::standing::Standing;
use crate::takeover::Fencing;
use crate::units::{PlanKind, State, Step};

use super::scene::{Left, Says};
use super::world::{Host, Pbx, World};

/// The longest distrust, the longest pause between tries and two lost readings, with some air.
const BOUND_S: u64 = 300;
/// The agent reads every 5 s; a reading that was lost before is asked again after 60.
const BOTH_MAX_S: u64 = 75;
/// A person looks so often.
const PERSON_EVERY_S: u64 = 10;
/// And gives a plan up that does not go on for so long.
const PERSON_PATIENCE_S: u64 = 60;

impl World {
    /// The same moment, but from now on nothing fails any more.
    fn healed(&self, primary: Host) -> Self {
        let mut world = self.clone();
        world.left = Left::of(&[]);
        world.primary_becomes(primary);
        world.site.iter_mut().for_each(|site| site.cut = false);
        world.zone.answers = true;
        world.call = false;
        for (from, to) in std::mem::take(&mut world.zone.late) {
            world.apply(&from, &to);
        }
        for n in 0..world.nodes.len() {
            let node = &mut world.nodes[n];
            (node.internet, node.path, node.pbx) = (true, true, Pbx::Well);
            if std::mem::take(&mut node.disk_full) {
                world.hear(n, Event::Store(Ok(())));
            }
        }
        world
    }

    fn fair_second(&mut self) {
        for n in 0..self.nodes.len() {
            if self.nodes[n].engine.is_none() {
                self.start(n);
            }
        }
        self.answer_all();
        self.second();
        self.answer_all();
    }

    /// Whether the goal is reached; a person sees to what waits for one.
    fn comes_about(
        mut self,
        bound_s: u64,
        person: fn(&mut Self, u64),
        goal: fn(&Self) -> bool,
    ) -> Result<u64, Box<Self>> {
        for s in 0..bound_s {
            if goal(&self) {
                return Ok(s);
            }
            person(&mut self, s);
            self.fair_second();
            if self.broken.is_some() {
                return Err(Box::new(self));
            }
        }
        if goal(&self) { Ok(bound_s) } else { Err(Box::new(self)) }
    }

    /// A person at a robot that waits for one.
    fn person_at_the_halted(&mut self, s: u64) {
        for n in 0..self.nodes.len() {
            if s.is_multiple_of(PERSON_EVERY_S) && self.state(n) == Some(State::Halted) {
                let says = if s < PERSON_PATIENCE_S { Says::Continue } else { Says::Abandon };
                self.say(n, says);
            }
        }
        self.person_at_the_zone(s);
    }

    /// Nothing is believed of a zone that fell until a person puts the last record back.
    fn person_at_the_zone(&mut self, s: u64) {
        // A robot that holds the service puts it back by itself.
        let low = |world: &Self, n| {
            world.engine(n).is_some_and(|engine| {
                let at_it = engine.state() == State::Active;
                !at_it && matches!(engine.standing(), Standing::Low(_))
            })
        };
        if s >= PERSON_PATIENCE_S
            && s.is_multiple_of(PERSON_EVERY_S)
            && self.zone.fell
            && (0..self.nodes.len()).any(|n| low(self, n))
        {
            let highest = self.zone.stood.iter().max_by_key(|record| record.number).cloned();
            if let Some(record) = highest {
                self.zone.record = crate::units::EpochSeen::held(record);
            }
        }
    }

    fn person_ends_the_pause(&mut self, s: u64) {
        if s == 0 {
            for n in 0..self.nodes.len() {
                self.say(n, Says::Unpause);
            }
        }
        // Whoever asked to give back what nobody can take sees it, and undoes it.
        for n in 0..self.nodes.len() {
            let waits = self.state(n) == Some(State::FailingBack)
                && self.engine(n).is_some_and(|e| e.run.as_ref().is_some_and(|run| !run.is_begun(Step::HandOver)));
            if s == PERSON_PATIENCE_S && waits && self.primary == Host::Down {
                self.say(n, Says::Undo);
            }
        }
        self.person_at_the_halted(s);
    }

    fn person_fails_back(&mut self, s: u64) {
        for n in 0..self.nodes.len() {
            if s.is_multiple_of(PERSON_EVERY_S) && self.state(n) == Some(State::Active) {
                self.say(n, Says::FailbackWaiting);
            }
        }
        self.person_ends_the_pause(s);
    }

    fn holder(&self) -> Option<&crate::units::EpochRecord> {
        self.zone.record.record()
    }

    /// A dead primary is replaced.
    pub fn a_dead_primary_is_replaced(&self) -> Result<u64, Box<Self>> {
        let replaced = |world: &Self| {
            let serving: Vec<_> = (0..world.nodes.len()).filter(|n| world.nodes[*n].serving).collect();
            let [n] = serving[..] else { return false };
            let unclaimed = world.nodes[n].witnessed.told_without_claim;
            let holds = world.holder().is_some_and(|record| record.holder == world.scene.settings.node);
            let settled = matches!(world.state(n), Some(State::Active | State::FailingBack | State::Halted));
            settled && (unclaimed || (holds && world.named == Some(n)))
        };
        self.healed(Host::Down).comes_about(BOUND_S, Self::person_ends_the_pause, replaced)
    }

    /// A backup that never comes up gives the service back to a primary that could serve.
    pub fn a_dead_backup_gives_way(&self) -> Result<u64, Box<Self>> {
        let concerned = self.nodes.iter().all(|node| {
            let engine = node.engine.as_deref();
            let excused = engine.is_some_and(|engine| {
                let run = engine.run.as_ref();
                matches!(engine.state(), State::Active | State::Halted | State::FailingBack)
                    || run.is_some_and(|run| run.intent().primary_is_stopped || run.intent().without_claim)
            });
            !excused && engine.is_some() && !node.witnessed.served && !node.witnessed.told_without_claim
        });
        // A fence that must work halts for a person instead: that is what required means.
        let fenced = self.scene.settings.configured.fencing == Fencing::Required;
        if !concerned || fenced || self.zone.fell {
            return Ok(0);
        }
        let mut world = self.healed(Host::Up);
        for node in &mut world.nodes {
            (node.pbx, node.serving) = (Pbx::WontStart, false);
        }
        let gave_way = |world: &Self| {
            let ours = world.holder().is_some_and(|record| record.holder == world.scene.settings.node);
            let states = (0..world.nodes.len()).filter_map(|n| world.state(n));
            !ours
                && world.primary_serves()
                && !states.into_iter().any(|state| matches!(state, State::TakingOver | State::Active))
        };
        world.comes_about(BOUND_S, nobody, gave_way)
    }

    /// Where the primary has an agent, not both serve for long.
    pub fn one_serves(&self) -> Result<u64, Box<Self>> {
        if self.site.is_none() || self.nodes.iter().any(|node| node.witnessed.told_without_claim) {
            return Ok(0);
        }
        let one = |world: &Self| !(world.primary_serves() && world.nodes.iter().any(|node| node.serving));
        self.healed(Host::Up).comes_about(BOTH_MAX_S, nobody, one)
    }

    /// Every state can be left for the one of rest: the primary serves, the backup is armed.
    pub fn all_comes_to_rest(&self) -> Result<u64, Box<Self>> {
        let at_rest = |world: &Self| {
            let ours = world.holder().is_some_and(|record| record.holder == world.scene.settings.node);
            let rests = |node: &super::world::Node| {
                !node.serving
                    && node.engine.as_ref().is_some_and(|engine| {
                        let busy = engine.run.as_ref().is_some_and(|run| run.kind() != PlanKind::Failback);
                        engine.state() == State::Standby && engine.disarmed_because().is_empty() && !busy
                    })
            };
            !ours && world.primary_serves() && world.named.is_none() && world.nodes.iter().all(rests)
        };
        self.healed(Host::Up).comes_about(BOUND_S, Self::person_fails_back, at_rest)
    }
}

/// No person is there.
fn nobody(_: &mut World, _: u64) {}
