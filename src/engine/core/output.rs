//! What an event's output carries to the disk and to people: memory, history, journal, happenings, ids.

use std::sync::Arc;

use ulid::Ulid;

use crate::engine::event::{Channels, Happening};
use crate::takeover::Run;
use crate::units::journal::{HistoryEvent, JournalEntry, JournalRecord};
use crate::units::{EventName, PlanId, PlanKind, Step};

use super::Engine;

impl Engine {
    /// Whether the asks of this output may begin only once it is on disk: always, until a claim was begun.
    pub(in crate::engine) fn must_be_durable(&self) -> bool {
        let begins_claim = self
            .out
            .batch
            .journal
            .iter()
            .any(|entry| matches!(entry.record, JournalRecord::Started { step: Step::Claim, .. }));
        begins_claim || self.run.as_ref().is_none_or(|run| run.kind() == PlanKind::Takeover && !Self::past_claim(run))
    }

    pub(in crate::engine) fn remember(&mut self) {
        if self.written_memory.as_deref() != Some(&self.memory) {
            self.written_memory = Some(Arc::new(self.memory.clone()));
            self.out.batch.memory = serde_json::to_value(&self.memory).ok();
        }
    }

    /// The last output did not reach the disk: say all of the memory again with the next one.
    pub fn forget_written(&mut self) {
        self.written_memory = None;
    }

    pub(in crate::engine) fn note(&mut self, kind: &str, what: String, because: String, row: Option<u16>) {
        self.out.batch.history.push(HistoryEvent {
            at: self.now.wall,
            kind: kind.to_owned(),
            state: self.memory.state,
            row,
            what,
            because,
        });
    }

    pub(in crate::engine) fn journal(&mut self, plan: PlanId, record: JournalRecord) {
        self.out.batch.journal.push(JournalEntry { plan, at: self.now.wall, record });
    }

    pub(in crate::engine) fn tell(&mut self, event: EventName, because: String, channels: Channels) {
        let step = self.run.as_ref().and_then(Run::halted_at);
        self.tell_of_step(event, step, because, channels);
    }

    pub(in crate::engine) fn tell_of_step(
        &mut self,
        event: EventName,
        step: Option<Step>,
        because: String,
        channels: Channels,
    ) {
        let key = format!("{}:{event}", self.new_id());
        self.out.happenings.push(Happening { event, because, step, channels, key });
    }

    /// A fresh ULID from the wall clock and the seed (splitmix64).
    pub(in crate::engine) fn new_id(&mut self) -> Ulid {
        let mut next = || {
            self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let random = (u128::from(next()) << 64) | u128::from(next());
        Ulid::from_parts(u64::try_from(self.now.wall.as_millisecond()).unwrap_or(0), random)
    }
}
