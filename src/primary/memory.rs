//! What the primary must remember over a restart; guard and agent read and write the same.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::units::{Duty, EpochRecord, PlanId};

/// The memory. Fields may be added; an unknown or missing one is no error.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// The highest record that was ever seen here.
    pub seen: Option<EpochRecord>,
    /// The PBX was kept from starting, or stopped, by us: it is started again as soon as it may serve.
    pub held_back: Option<HeldBack>,
    /// A person said that it shall serve.
    pub forced: Option<Forced>,
    /// The backup asked for a stop, for a switchover.
    pub stop_asked: Option<StopAsked>,
    /// Until when a person has announced that the PBX is stopped.
    pub planned_stop_until: Option<Timestamp>,
    /// What the agent allows; the guard goes by it where the record cannot be read.
    pub duty: Option<Duty>,
    /// Since when the record cannot be read, on the clock of `boot`: a step of the wall clock must not end a time, nor
    /// an agent's restart begin it anew.
    pub unread_since: Option<Duration>,
    /// When it was last seen not to be readable, on the same clock, roughly.
    pub unread_at: Option<Duration>,
    /// The boot whose clock that is.
    pub boot: String,
}

/// The PBX was kept from serving.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HeldBack {
    /// Since when.
    pub since: Timestamp,
    /// Why, in one line.
    pub because: String,
}

/// A person's word that this node shall serve, whatever stands in the record now.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Forced {
    /// The turn that it was said against: a newer one ends it. 0: no record was ever seen.
    pub turn: u64,
    /// When it was said.
    pub at: Timestamp,
    /// The reason.
    pub reason: String,
}

/// The backup asked for a stop.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StopAsked {
    /// The backup's plan.
    pub plan: PlanId,
    /// The turn when it was asked for: a newer one ends it.
    pub turn: u64,
    /// Calls are waited for until then.
    pub drain_until: Timestamp,
    /// It ends by itself then.
    pub until: Timestamp,
}

impl Memory {
    /// Reads it in the boot `id`. A reboot stopped the PBX, so what counts of an unreadable record is the time since
    /// then, all of it.
    pub fn read_in(&mut self, id: String) {
        if self.boot != id {
            self.unread_since = self.unread_since.map(|_| Duration::ZERO);
            self.unread_at = self.unread_at.map(|_| Duration::ZERO);
            self.boot = id;
        }
    }

    /// The highest turn that was seen; 0: none.
    pub fn turn(&self) -> u64 {
        self.seen.as_ref().map_or(0, |seen| seen.number)
    }

    /// A person's word, if no newer turn has ended it.
    pub fn forced(&self) -> Option<&Forced> {
        self.forced_at(self.turn())
    }

    /// As [`Memory::forced`], where this turn has just been read.
    pub fn forced_at(&self, turn: u64) -> Option<&Forced> {
        self.forced.as_ref().filter(|forced| forced.turn >= turn.max(self.turn()))
    }

    /// The backup's request, if neither time nor a newer turn has ended it.
    pub fn stop_asked(&self, now: Timestamp) -> Option<&StopAsked> {
        self.stop_asked.as_ref().filter(|asked| asked.turn >= self.turn() && now < asked.until)
    }

    /// Until when a person has announced that the PBX is stopped, while that lasts.
    pub fn planned_stop(&self, now: Timestamp) -> Option<Timestamp> {
        self.planned_stop_until.filter(|until| now < *until)
    }

    /// Takes over what another writer has learned.
    pub fn learn(&mut self, learned: Learned) {
        let Learned { seen, forced, held_back } = learned;
        if let Some(seen) = seen.filter(|seen| seen.number > self.turn()) {
            self.seen = Some(seen);
        }
        if let Some(forced) = forced {
            self.forced = forced;
        }
        if let Some(held_back) = held_back {
            self.held_back = held_back;
        }
    }
}

/// What another writer of the memory (the guard beside the agent) has changed; `None`: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Learned {
    /// A higher record was seen.
    pub seen: Option<EpochRecord>,
    /// A person's word.
    pub forced: Option<Option<Forced>>,
    /// The PBX was kept from starting, or was started again.
    pub held_back: Option<Option<HeldBack>>,
}

impl Learned {
    /// What `theirs` has changed since both had `base`.
    pub fn between(base: &Memory, theirs: &Memory) -> Self {
        Self {
            seen: theirs.seen.clone().filter(|seen| seen.number > base.turn()),
            forced: (theirs.forced != base.forced).then(|| theirs.forced.clone()),
            held_back: (theirs.held_back != base.held_back).then(|| theirs.held_back.clone()),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
