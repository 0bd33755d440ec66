//! What the engine must remember over a restart; one JSON value, written in the transaction of the event that
//! changed it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::units::{EpochRecord, PlanId, State, SyncShould};

/// The engine's memory. Fields may be added; an unknown or missing one is no error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The state.
    pub state: State,
    /// Since when.
    pub state_since: Timestamp,
    /// The highest epoch number ever seen; 0: none.
    #[serde(default)]
    pub epoch_seen_max: u64,
    /// A person accepted that there is no record.
    #[serde(default)]
    pub absent_accepted: bool,
    /// The claim that we hold, or believe to hold.
    #[serde(default)]
    pub claim: Option<EpochRecord>,
    /// Earlier claims that stand at the store, or may yet: the one that we held when the present one was begun, and
    /// those whose swap was sent and whose answer was lost.
    #[serde(default)]
    pub claims_before: Vec<EpochRecord>,
    /// This node has served in this turn: the working directory holds changes of its own.
    #[serde(default)]
    pub served_in_turn: bool,
    /// The record that the last plan wrote, byte for byte: the guard of its DNS moves.
    #[serde(default)]
    pub written: Option<String>,
    /// The service was handed over, and the plan that was to move DNS along was left for another.
    #[serde(default)]
    pub names_owed: bool,
    /// Until when automatic takeovers are paused.
    #[serde(default)]
    pub paused_until: Option<Timestamp>,
    /// Until when no takeover begins, because the service was given back.
    #[serde(default)]
    pub hold_off_until: Option<Timestamp>,
    /// Each check that has been up, with the definition under which it was.
    #[serde(default)]
    pub tested: BTreeMap<String, String>,
    /// The plan that runs, or the last one.
    #[serde(default)]
    pub plan: Option<PlanId>,
    /// Phones that were registered at the primary when it was last well.
    #[serde(default)]
    pub expected_registrations: Option<u32>,
    /// Until when the primary has announced that its PBX is stopped.
    #[serde(default)]
    pub planned_stop_until: Option<Timestamp>,
    /// Since when this node's PBX is not passive although it should be; people were told of it.
    #[serde(default)]
    pub not_passive_since: Option<Timestamp>,
    /// Since when the working directory does not pass its gate; people were told of it.
    #[serde(default)]
    pub data_trouble_since: Option<Timestamp>,
    /// That the sync does not do what it should; people were told of it.
    #[serde(default)]
    pub sync_trouble: Option<SyncTrouble>,
    /// Alarms that repeat until acknowledged, by event name.
    #[serde(default)]
    pub alarms: BTreeMap<String, Alarm>,
}

/// The sync did not do what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncTrouble {
    /// What it should have done.
    pub should: SyncShould,
    /// Since when it did not.
    pub since: Timestamp,
}

/// An alarm that repeats until somebody acknowledges it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// What is wrong.
    pub text: String,
    /// Since when.
    pub since: Timestamp,
    /// Has somebody acknowledged it?
    pub acknowledged: bool,
    /// How often it was said.
    pub said: u32,
    /// When it is said again.
    pub next: Timestamp,
}

/// So many lost claims are remembered: each takes a plan that was dropped while the zone stood still.
const CLAIMS_BEFORE_MAX: usize = 16;

impl Memory {
    /// Whether a record is one that this node claimed: by its id, since a cloned host has our name.
    pub fn claimed(&self, record: &EpochRecord) -> bool {
        self.claim.iter().chain(&self.claims_before).any(|claim| claim.id == record.id)
    }

    /// The present claim is not the one that is meant any more, but it may stand at the store, or yet come to.
    pub fn put_claim_by(&mut self) {
        self.claims_before.extend(self.claim.take());
        let surplus = self.claims_before.len().saturating_sub(CLAIMS_BEFORE_MAX);
        self.claims_before.drain(..surplus);
    }

    /// A record was read: a claim of its turn or an earlier one that is not it can never be applied.
    pub fn saw(&mut self, record: &EpochRecord) {
        self.epoch_seen_max = self.epoch_seen_max.max(record.number);
        self.claims_before.retain(|claim| claim.id == record.id || claim.number > record.number);
    }

    /// The memory of a robot that was never started.
    pub fn first(now: Timestamp) -> Self {
        Self {
            state: State::Standby,
            state_since: now,
            epoch_seen_max: 0,
            absent_accepted: false,
            claim: None,
            claims_before: Vec::new(),
            served_in_turn: false,
            written: None,
            names_owed: false,
            paused_until: None,
            hold_off_until: None,
            tested: BTreeMap::new(),
            plan: None,
            expected_registrations: None,
            planned_stop_until: None,
            not_passive_since: None,
            data_trouble_since: None,
            sync_trouble: None,
            alarms: BTreeMap::new(),
        }
    }
}
