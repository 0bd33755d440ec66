//! Passive is verified, not assumed: what follows when this node's PBX serves, or holds synced files, while it should not.
//!
//! People are told once when it begins and once when it ends. The robot does not stop the PBX: a person may be testing
//! it, and one that is started again by something else would be stopped without end. Nor does it disarm: a takeover
//! makes the PBX ours first (it stops what runs with old data), and a second server is no reason to leave phones
//! without any when the primary dies.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::units::snapshot::{Passive, PassiveSign};
use crate::units::{EventName, Look, PassiveLook, Sign, State};

use super::core::Engine;
use super::event::Channels;

/// So many looks in a row must agree: one alone may have met a command (`asterisk -rx`), or a start that the unit's own
/// condition ends at once.
pub(super) const LOOKS: u32 = 2;

/// What the looks at this node's PBX saw, while it should be passive.
#[derive(Debug, Clone, Default)]
pub(super) struct PassiveWatch {
    /// Since when it should be; a look that was begun earlier is void.
    since: Option<Duration>,
    looked: bool,
    seen: BTreeMap<Sign, String>,
    unseen: BTreeMap<Sign, String>,
    todo: String,
    /// Looks in a row that saw a sign.
    dirty: u32,
    /// Looks in a row that saw none.
    clean: u32,
}

impl PassiveWatch {
    fn take(&mut self, look: PassiveLook) {
        self.looked = true;
        self.unseen.clear();
        for (sign, look) in look.looks {
            match look {
                Look::Seen(what) => drop(self.seen.insert(sign, what)),
                Look::Clear => drop(self.seen.remove(&sign)),
                // What could not be looked at is neither there nor gone.
                Look::Unknown(why) => drop(self.unseen.insert(sign, why)),
            }
        }
        self.todo = look.todo;
        if self.seen.is_empty() {
            (self.dirty, self.clean) = (0, self.clean.saturating_add(1));
        } else {
            (self.dirty, self.clean) = (self.dirty.saturating_add(1), 0);
        }
    }

    fn signs(&self) -> String {
        self.seen.values().map(String::as_str).collect::<Vec<_>>().join("; ")
    }
}

impl Engine {
    /// Whether this node's PBX must be passive now. A failback enters Standby only once it has proved the stop; what its
    /// plan still does then (DNS, messages) may take an hour and concerns no PBX.
    fn must_be_passive(&self) -> bool {
        matches!(self.memory.state, State::Standby | State::Suspect)
    }

    /// Begins anew whenever the PBX has to be passive again.
    pub(super) fn follow_passive(&mut self) {
        match (self.must_be_passive(), self.passive.since) {
            (true, None) => self.passive = PassiveWatch { since: Some(self.now.boot), ..PassiveWatch::default() },
            (false, Some(_)) => self.passive = PassiveWatch::default(),
            _ => {}
        }
        // A takeover that came to nothing leaves the condition as it was, so that nobody is told of it twice.
        if self.memory.state == State::Active && self.memory.not_passive_since.take().is_some() {
            self.note("passive", "its PBX is meant to serve now".to_owned(), "this node serves".to_owned(), None);
        }
    }

    pub(super) fn passive_was_looked_at(&mut self, look: PassiveLook, asked: Duration) {
        if self.passive.since.is_none_or(|since| asked <= since) {
            return;
        }
        let before: Vec<_> = self.passive.seen.keys().copied().collect();
        self.passive.take(look);
        let now: Vec<_> = self.passive.seen.keys().copied().collect();
        let (signs, todo) = (self.passive.signs(), self.passive.todo.clone());
        let known = self.memory.not_passive_since.is_some();
        if !known && self.passive.dirty >= LOOKS {
            self.memory.not_passive_since = Some(self.now.wall);
            self.note("passive", format!("its PBX is not passive: {signs}"), todo.clone(), None);
            self.tell(EventName::NotPassive, format!("{signs}; {todo}"), Channels::All);
        } else if known && self.passive.clean >= LOOKS {
            self.memory.not_passive_since = None;
            let because = "nothing shows any more that it serves or holds files".to_owned();
            self.note("passive", "its PBX is passive again".to_owned(), because.clone(), None);
            self.tell(EventName::PassiveAgain, because, Channels::All);
        } else if known && !now.is_empty() && !before.is_empty() && now != before {
            self.note("passive", format!("its PBX is still not passive: {signs}"), todo, None);
        }
    }

    pub(super) fn passive_snapshot(&self) -> Option<Passive> {
        let since = self.memory.not_passive_since.filter(|_| self.must_be_passive());
        if since.is_none() && !self.passive.looked {
            return None;
        }
        let sign = |(name, text): (&Sign, &String)| PassiveSign { name: *name, text: text.clone() };
        Some(Passive {
            ok: since.is_none(),
            since,
            signs: self.passive.seen.iter().filter(|_| since.is_some()).map(sign).collect(),
            todo: since.map(|_| self.passive.todo.clone()).filter(|todo| !todo.is_empty()),
            unseen: self.passive.unseen.iter().map(|(sign, why)| format!("{sign}: {why}")).collect(),
        })
    }

    /// What is seen of it, for `explain`.
    pub(super) fn passive_text(&self) -> Vec<String> {
        let Some(passive) = self.passive_snapshot() else { return Vec::new() };
        let mut lines = Vec::new();
        match passive.since {
            Some(since) => {
                let since = since.strftime("%Y-%m-%d %H:%M:%S UTC");
                lines.push(format!("its own PBX is NOT passive, since {since}; that does not disarm:"));
                lines.extend(passive.signs.iter().map(|sign| format!("  {}: {}", sign.name, sign.text)));
            }
            None => lines.push("its own PBX is passive".to_owned()),
        }
        lines.extend(passive.unseen.iter().map(|unseen| format!("  not seen, {unseen}")));
        lines
    }

    /// What to do about it, for `explain`.
    pub(super) fn passive_hint(&self) -> Option<String> {
        self.passive_snapshot()?.todo.map(|todo| format!("unless somebody is testing it: {todo}"))
    }
}
