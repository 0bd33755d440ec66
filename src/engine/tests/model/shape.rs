//! What of the world decides its future, as one number: two histories that end in the same shape are one state.
//!
//! Times are relative to now, numbers of the epoch to the highest that ever stood, ids and records are renamed in the
//! order in which they are met, texts for people are left out. Where this merges states that differ, some histories
//! are not explored; where it keeps equal ones apart, they are explored twice.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;

use crate::engine::memory::Memory;
use crate::engine::{Ask, Engine, Order};
use crate::takeover::Run;
use crate::units::{EpochRead, EpochRecord, EpochSeen, Mode, PlanId};

use super::world::{Disk, Node, World};

/// Longer than anything that is waited for in a scene, but for the clocks below.
const AGE_MAX: Duration = Duration::from_secs(12);
/// A reading that was never answered is asked again after this.
const READ_AGE_MAX: Duration = Duration::from_secs(60);

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.shape);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape
    }
}

impl Eq for World {}

impl World {
    pub fn reshape(&mut self) {
        let mut canon = Canon {
            out: Vec::with_capacity(256),
            ids: Vec::new(),
            records: Vec::new(),
            highest: self.zone.stood.iter().map(|record| record.number).max().unwrap_or(0),
            world: self,
        };
        canon.world();
        self.shape = canon.out.iter().fold(0x9e37_79b9_7f4a_7c15, |hash: u64, word| {
            let mixed = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
            (mixed ^ (mixed >> 32)).wrapping_mul(0xc4ce_b9fe_1a85_ec53)
        });
    }
}

struct Canon<'a> {
    out: Vec<u64>,
    ids: Vec<PlanId>,
    records: Vec<(u64, PlanId, Timestamp)>,
    highest: u64,
    world: &'a World,
}

impl Canon<'_> {
    fn put(&mut self, word: u64) {
        self.out.push(word);
    }

    fn flags(&mut self, flags: &[bool]) {
        self.put(flags.iter().fold(1, |bits, flag| bits << 1 | u64::from(*flag)));
    }

    fn world(&mut self) {
        let world = self.world;
        self.put(world.broken.map_or(99, |rule| rule as u64));
        world.left.0.iter().for_each(|left| self.put(u64::from(*left)));
        self.put(world.primary as u64);
        if let Some(site) = &world.site {
            // How long ago the agent read is left out: the next reading is at most five seconds away.
            self.flags(&[site.cut, site.pbx, site.agent.is_some(), site.memory.held_back.is_some()]);
            self.flags(&[site.memory.unread_since.is_some()]);
            if let Some(record) = &site.memory.seen {
                self.record(record);
            }
            if let Some(agent) = &site.agent {
                self.put(agent.ruling().duty as u64);
                self.put(agent.done().map_or(99, |duty| duty as u64));
                self.put(agent.unread_for().min(AGE_MAX).as_secs() / 6);
            }
        }
        self.put(world.named.map_or(99, |n| n as u64));
        self.flags(&[world.call, world.zone.answers, world.zone.fell]);
        self.seen(&world.zone.record);
        for (from, to) in &world.zone.late {
            self.seen(from);
            self.record(to);
        }
        for node in &world.nodes {
            self.put(7);
            self.node(node);
        }
        // Where a zone may fall back, what stood there before the present record matters.
        if world.zone.fell || world.left.has(super::scene::Trouble::ZoneFalls) {
            world.zone.stood.iter().rev().take(2).for_each(|record| self.record(record));
        }
    }

    fn node(&mut self, node: &Node) {
        let witnessed = &node.witnessed;
        self.flags(&[
            node.serving,
            node.disk_full,
            node.internet,
            node.path,
            witnessed.served,
            witnessed.told_to_give_up,
            witnessed.told_without_claim,
            witnessed.unwritten,
            witnessed.vetoed,
        ]);
        self.put(node.pbx as u64);
        let answers = [witnessed.votes[0], witnessed.votes[1], witnessed.internet];
        for answer in answers {
            self.put(answer.map_or(2, u64::from));
        }
        let now = self.world.now;
        self.put(witnessed.distrust_until.map_or(0, |until| milliseconds(until.saturating_sub(now.boot))));
        self.wall(witnessed.paused_until);
        match &node.engine {
            Some(engine) => self.engine(engine),
            None => self.disk(&node.disk),
        }
        if node.disk_full {
            self.disk(&node.disk);
        }
        for waiting in &node.waiting {
            self.flags(&[waiting.held, waiting.taken.is_some()]);
            if let Some(taken) = &waiting.taken {
                self.read(taken);
            }
            self.ask(&waiting.ask, node.engine.as_deref());
        }
    }

    fn disk(&mut self, disk: &Disk) {
        self.put(disk.late.len() as u64);
        if let Some(memory) = &disk.memory {
            self.memory(memory);
        }
        let scene = &self.world.scene;
        let (configured, limits) = (scene.settings.configured, scene.settings.limits);
        let run = Run::resume(&disk.journal, scene.tables.plans, configured, limits, self.world.now);
        self.run(run.as_ref());
    }

    fn memory(&mut self, memory: &Memory) {
        self.put(memory.state as u64);
        self.number(memory.epoch_seen_max);
        self.flags(&[memory.absent_accepted, memory.served_in_turn, memory.written.is_some(), memory.names_owed]);
        self.put(u64::from(memory.claim.is_some()));
        memory.claim.iter().chain(&memory.claims_before).for_each(|record| self.record(record));
        if let Some(written) = &memory.written {
            self.text(written);
        }
        self.wall(memory.paused_until);
        self.wall(memory.hold_off_until);
        self.put(memory.tested.len() as u64);
        for (name, alarm) in &memory.alarms {
            let name = name.bytes().fold(u64::from(alarm.acknowledged), |h, b| h.wrapping_mul(131) + u64::from(b));
            self.put(name);
        }
        match memory.plan {
            Some(plan) => self.id(plan),
            None => self.put(99),
        }
    }

    fn engine(&mut self, engine: &Engine) {
        let now = self.world.now;
        self.memory(&engine.memory);
        self.run(engine.run.as_ref());
        if let Some(run) = &engine.run {
            self.id(run.id());
        }
        self.flags(&[
            engine.interrupted,
            engine.unproved,
            engine.epoch_reading,
            engine.epoch_reading_void,
            engine.unreadable_said,
            engine.swapping,
            engine.store.is_err(),
            engine.pbx_silent.is_some(),
            engine.primary_back_said.is_some() && engine.primary_back_said == engine.run.as_ref().map(Run::id),
            engine.stall.stalled(now),
            engine.armed.is_empty(),
        ]);
        match &engine.epoch_read {
            Some(read) => self.read(read),
            None => self.put(99),
        }
        match &engine.claim_from {
            Some(seen) => self.seen(seen),
            None => self.put(98),
        }
        self.put(u64::from(engine.epoch_failures.min(3)));
        self.put(engine.epoch_asked.map_or(99, |at| now.since(at).min(READ_AGE_MAX).as_secs()));
        self.put(engine.judgement.verdict as u64);
        for since in [engine.allowed_since, engine.claimed_at] {
            self.put(since.map_or(99, |at| now.since(at).min(AGE_MAX).as_secs()));
        }
        self.put(engine.hold_down_until.map_or(99, |until| until.saturating_sub(now.boot).as_secs()));
        for tally in &engine.tallies {
            self.put(tally.view(now) as u64);
            self.put(u64::from(tally.failures().min(3)) << 2 | u64::from(tally.successes().min(3)));
            let last = now.boot.saturating_sub(Duration::from_secs(1));
            self.flags(&[tally.tested(), tally.answer_since(now.boot).is_some(), tally.answer_since(last).is_some()]);
        }
        for sighting in [engine.site.sighting(now), engine.observers.sighting(now)] {
            self.put(sighting as u64);
        }
        self.put(engine.targets.level(now) as u64);
        self.put(engine.targets.level_since(now.boot) as u64);
    }

    fn run(&mut self, run: Option<&Run>) {
        match run {
            Some(run) => run.shape(self.world.now, &mut self.out),
            None => self.put(97),
        }
    }

    fn ask(&mut self, ask: &Ask, engine: Option<&Engine>) {
        match ask {
            Ask::Step { plan, kind, step, attempt, mode, order } => {
                let run = engine.and_then(|engine| engine.run.as_ref()).filter(|run| run.id() == *plan);
                self.flags(&[*mode == Mode::Act, run.is_some_and(|run| run.waits_for(*step, *attempt, *mode))]);
                self.put((*kind as u64) << 8 | *step as u64);
                self.id(*plan);
                match order {
                    Order::Swap { from, to } => {
                        self.seen(from);
                        self.record(to);
                    }
                    Order::Names { to, epoch_raw } => {
                        self.put(*to as u64);
                        if let Some(raw) = epoch_raw {
                            self.text(raw);
                        }
                    }
                    Order::ServedBefore => self.put(1),
                    Order::StopPrimary(_) => self.put(2),
                    Order::Turn(_) => self.put(3),
                    Order::Plain | Order::Messages(_) => self.put(0),
                }
            }
            Ask::Swap { from, to } => {
                self.put(95);
                self.seen(from);
                self.record(to);
            }
            Ask::ReadEpoch => self.put(94),
            Ask::ProbeNow | Ask::Forget(_) => self.put(93),
        }
    }

    fn read(&mut self, read: &EpochRead) {
        match read {
            Ok(seen) => self.seen(seen),
            Err(_) => self.put(96),
        }
    }

    fn seen(&mut self, seen: &EpochSeen) {
        match seen.record() {
            Some(record) => self.record(record),
            None => self.put(0),
        }
    }

    fn record(&mut self, record: &EpochRecord) {
        let key = (record.number, record.id, record.since);
        let place = self.records.iter().position(|known| *known == key).unwrap_or_else(|| {
            self.records.push(key);
            self.records.len() - 1
        });
        self.number(record.number);
        self.put(place as u64 * 2 + u64::from(record.holder == self.world.scene.settings.node));
        self.id(record.id);
        let stood = self.world.zone.stood.contains(record);
        self.flags(&[stood]);
    }

    /// A record as text. Reading it is slow and there are few, so that each is read once.
    fn text(&mut self, text: &str) {
        thread_local! {
            static READ: RefCell<HashMap<String, Option<EpochRecord>>> = RefCell::default();
        }
        let record = READ.with_borrow_mut(|read| match read.get(text) {
            Some(record) => record.clone(),
            None => read.entry(text.to_owned()).or_insert(text.parse().ok()).clone(),
        });
        if let Some(record) = record {
            self.record(&record);
        }
    }

    fn number(&mut self, number: u64) {
        // 0 is "none was ever seen", which nothing else is like.
        self.put(if number == 0 { 1000 } else { self.highest.wrapping_sub(number) });
    }

    fn id(&mut self, id: PlanId) {
        let place = self.ids.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.ids.push(id);
            self.ids.len() - 1
        });
        self.put(place as u64);
    }

    fn wall(&mut self, until: Option<Timestamp>) {
        let left = until.map(|until| until.duration_since(self.world.now.wall).as_secs().max(0));
        self.put(left.map_or(99, |left| u64::try_from(left).unwrap_or(0)));
    }
}

/// A span of the model: some minutes at most.
fn milliseconds(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
