//! What must never happen, judged from what was truly said and done, not from what an engine believes of it.
//!
//! [`Witnessed`] keeps the little that the rules need of the past. A rule that is broken stays broken, so that the
//! checker finds it in the state in which it happened.

use std::time::Duration;

use jiff::Timestamp;

use crate::decision::stall::DISTRUST;
use crate::engine::{Ask, Order, Output};
use crate::takeover::Intent;
use crate::units::journal::JournalRecord;
use crate::units::{EpochRecord, EpochSeen, Mode, PlanKind, State, Step};

use super::world::World;
use crate::engine::standing::Standing;

/// A rule, by what it forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Two records of one number, or two robots that each believe to hold it.
    TwoHolders,
    /// The number in the zone, or the highest that a robot remembers, fell.
    NumberFell,
    /// A PBX is started without a claim that was seen to stand, or a person's word.
    Unproved,
    /// A takeover that nobody asked for, while cut off, paused, unsure, or while the primary answers.
    NoGround,
    /// The epoch is handed over by a robot that served, and no person asked.
    HandedOverUnasked,
    /// The epoch is handed over by a robot whose PBX still serves.
    HandedOverServing,
    /// A record that is neither of this robot's nor absent is overwritten by a hand-over.
    HandedOverForeign,
    /// The epoch is handed to a node that is not of the pair, or to oneself.
    HandedAstray,
    /// An engine asks again and again without time passing.
    AsksWithoutEnd,
}

impl Rule {
    /// Its name among the properties.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TwoHolders => "never two holders of one epoch",
            Self::NumberFell => "the number never falls",
            Self::Unproved => "no serving without a proved claim",
            Self::NoGround => "no takeover while cut off, paused, unsure or while the primary answers",
            Self::HandedOverUnasked => "failback only by a person",
            Self::HandedOverServing => "passive before the epoch is handed over",
            Self::HandedOverForeign => "nobody hands over what is another's",
            Self::HandedAstray => "the epoch is handed to the other node",
            Self::AsksWithoutEnd => "an engine waits for time to pass",
        }
    }
}

/// What a robot was told and did, as the rules need it.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools)] // one fact a field
pub struct Witnessed {
    /// The last answer of each vote since the start.
    pub votes: [Option<bool>; 2],
    /// The last answer of the Internet since the start.
    pub internet: Option<bool>,
    /// An observer saw the primary alive just now.
    pub vetoed: bool,
    /// Nothing that was counted before the stall may be believed until then.
    pub distrust_until: Option<Duration>,
    pub ticked: Duration,
    pub paused_until: Option<Timestamp>,
    /// It was active in its present turn.
    pub served: bool,
    /// A person asked it to give the service up.
    pub told_to_give_up: bool,
    /// A person said to serve without a claim.
    pub told_without_claim: bool,
    /// The highest number that it remembered.
    pub highest: u64,
    /// A full disk refused what was to be remembered.
    pub unwritten: bool,
}

impl Witnessed {
    pub fn restarted(&mut self) {
        self.votes = [None; 2];
        self.internet = None;
        self.vetoed = false;
        self.distrust_until = None;
        self.ticked = Duration::ZERO;
        if self.unwritten {
            self.highest = 0;
        }
    }
}

impl World {
    fn break_rule(&mut self, rule: Rule) {
        self.broken.get_or_insert(rule);
    }

    /// Time passed for a robot: was it stalled meanwhile?
    pub fn witness_tick(&mut self, n: usize) {
        let now = self.now.boot;
        let witnessed = &mut self.nodes[n].witnessed;
        if witnessed.ticked != Duration::ZERO && now.saturating_sub(witnessed.ticked) > super::scene::seconds(3) {
            witnessed.distrust_until = Some(now + DISTRUST);
            witnessed.votes = [None; 2];
            witnessed.internet = None;
        }
        witnessed.ticked = now;
    }

    /// Looks at what an engine says and asks, before any of it happens.
    pub fn notice(&mut self, n: usize, output: &Output) {
        for row in output.batch.history.iter().filter_map(|event| event.row) {
            self.scene.fired.note(row);
        }
        for entry in &output.batch.journal {
            if let JournalRecord::Opened { kind: PlanKind::Takeover, intent, .. } = &entry.record
                && serde_json::from_value::<Intent>(intent.clone()).is_ok_and(|intent| intent.asked.is_none())
            {
                self.must_have_ground(n);
            }
        }
        for ask in &output.asks {
            self.notice_ask(n, ask);
        }
        let Some(engine) = self.nodes[n].engine.clone() else { return };
        let claim_proved = engine.memory.claim.as_ref().is_some_and(|claim| self.stood(claim));
        let witnessed = &mut self.nodes[n].witnessed;
        let highest = engine.memory.epoch_seen_max;
        let fell = highest < witnessed.highest;
        witnessed.highest = highest;
        if engine.state() == State::Active {
            witnessed.served = true;
            witnessed.told_to_give_up = false;
        } else if engine.memory.claim.is_none() {
            witnessed.served = false;
            witnessed.told_without_claim = false;
        }
        let unproved = engine.state() == State::Active && !claim_proved && !witnessed.told_without_claim;
        if fell {
            self.break_rule(Rule::NumberFell);
        }
        if unproved {
            self.break_rule(Rule::Unproved);
        }
    }

    fn notice_ask(&mut self, n: usize, ask: &Ask) {
        let Some(engine) = self.nodes[n].engine.clone() else { return };
        let witnessed = self.nodes[n].witnessed;
        match ask {
            Ask::Step { kind, step: Step::Claim, mode: Mode::Act, order: Order::Swap { from, to }, .. } => {
                self.must_rise(from, to);
                if *kind == PlanKind::Takeover && engine.run.as_ref().is_some_and(|run| run.intent().asked.is_none()) {
                    self.must_have_ground(n);
                    self.must_see_it_down(n);
                }
            }
            Ask::Step { kind, step: Step::HandOver, mode: Mode::Act, order: Order::Swap { from, to }, .. } => {
                self.must_rise(from, to);
                if to.holder != engine.settings.peer {
                    self.break_rule(Rule::HandedAstray);
                }
                let node = &engine.settings.node;
                let foreign = from.record().is_some_and(|from| from.holder == *node && !engine.memory.claimed(from));
                // A zone that fell back may show an old turn of our own, long forgotten.
                if foreign && !self.zone.fell {
                    self.break_rule(Rule::HandedOverForeign);
                }
                if self.nodes[n].serving {
                    self.break_rule(Rule::HandedOverServing);
                }
                if (witnessed.served || *kind == PlanKind::Failback) && !witnessed.told_to_give_up {
                    self.break_rule(Rule::HandedOverUnasked);
                }
            }
            Ask::Step { step: Step::Reload, mode: Mode::Act, .. } => {
                let proved = engine.memory.claim.as_ref().is_some_and(|claim| self.stood(claim));
                if !proved && !witnessed.told_without_claim {
                    self.break_rule(Rule::Unproved);
                }
            }
            Ask::Swap { from, to } if from.record().is_some_and(|from| from.number > to.number) || !self.stood(to) => {
                self.break_rule(Rule::NumberFell);
            }
            _ => {}
        }
    }

    fn must_rise(&mut self, from: &EpochSeen, to: &EpochRecord) {
        if from.record().is_some_and(|from| to.number <= from.number) {
            self.break_rule(Rule::NumberFell);
        }
    }

    fn stood(&self, claim: &EpochRecord) -> bool {
        self.zone.stood.iter().any(|record| record.id == claim.id && record.number == claim.number)
    }

    /// A takeover that nobody asked for needs fresh answers that all allow it.
    fn must_have_ground(&mut self, n: usize) {
        let witnessed = &self.nodes[n].witnessed;
        let ground = witnessed.internet == Some(true)
            && witnessed.votes.iter().all(Option::is_some)
            && witnessed.distrust_until.is_none_or(|until| self.now.boot >= until)
            && witnessed.paused_until.is_none_or(|until| self.now.wall >= until);
        if !ground {
            self.break_rule(Rule::NoGround);
        }
    }

    /// And a claim needs that the last answers, asked anew, do not see it alive.
    fn must_see_it_down(&mut self, n: usize) {
        let witnessed = &self.nodes[n].witnessed;
        let vetoed = witnessed.vetoed && witnessed.votes == [Some(false); 2];
        if vetoed || !witnessed.votes.contains(&Some(false)) {
            self.break_rule(Rule::NoGround);
        }
    }

    /// A record is about to be written into the zone.
    pub fn notice_write(&mut self, to: &EpochRecord) {
        let doubled = self.zone.stood.iter().any(|r| r.number == to.number && r.id != to.id);
        let fell = self.zone.record.record().is_some_and(|r| r.number > to.number);
        // After the zone lost its record, a robot that never saw one begins at 1 again, as it must.
        if doubled && !self.zone.fell {
            self.break_rule(Rule::TwoHolders);
        }
        if fell {
            self.break_rule(Rule::NumberFell);
        }
    }

    /// Two robots that each read the zone and found themselves in it.
    pub fn notice_beliefs(&mut self) {
        let holders = self.nodes.iter().filter_map(|node| node.engine.as_ref()).filter_map(|engine| {
            let read = engine.epoch_read.as_ref()?.as_ref().ok()?.record()?;
            (engine.standing() == Standing::Ours).then_some((read.number, read.id))
        });
        let holders: Vec<_> = holders.collect();
        let two = holders.iter().any(|(number, id)| holders.iter().any(|(n, i)| n == number && i != id));
        let unproved = holders
            .iter()
            .any(|(number, id)| !self.zone.stood.iter().any(|record| record.number == *number && record.id == *id));
        if (two || unproved) && !self.zone.fell {
            self.break_rule(Rule::TwoHolders);
        }
    }
}
