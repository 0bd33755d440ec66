//! Passive is verified, not assumed: what follows when this node's PBX serves, or holds synced files, while it should not.
//!
//! People are told once when it begins and once when it ends. The robot does not stop the PBX: a person may be testing
//! it, and one that is started again by something else would be stopped without end. Nor does it disarm: a takeover
//! makes the PBX ours first (it stops what runs with old data), and a second server is no reason to leave phones
//! without any when the primary dies.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::units::snapshot::{Passive, PassiveSign};
use crate::units::{EventName, Look, PassiveLook, Sign, State, Step, StepState};

use super::core::Engine;
use super::event::Channels;

/// So many looks in a row must agree on a sign: one alone may have met a command (`asterisk -rx`), or a start that the
/// unit's own condition ends at once.
pub(super) const LOOKS: u32 = 2;

/// After so long without a look nothing is said of the PBX any more: the pause (15 s) and the longest look (45 s), and as
/// much again as a busy host may add.
const OLD: Duration = Duration::from_secs(90);

/// What the looks at this node's PBX saw, while it should be passive.
#[derive(Debug, Clone, Default)]
pub(super) struct PassiveWatch {
    /// Since when it should be; a look that was begun earlier is void.
    since: Option<Duration>,
    /// When the last look was begun.
    looked: Option<Duration>,
    seen: BTreeMap<Sign, Seen>,
    unseen: BTreeMap<Sign, String>,
    todo: String,
    /// Looks in a row after which no sign was left.
    clean: u32,
}

/// A sign that was seen, and not gone since.
#[derive(Debug, Clone, Default)]
struct Seen {
    what: String,
    /// Looks that saw it.
    looks: u32,
}

impl PassiveWatch {
    fn take(&mut self, look: PassiveLook, asked: Duration) {
        self.looked = Some(asked);
        self.unseen.clear();
        // A sign that this driver does not look for any more (it was changed) could never end.
        self.seen.retain(|sign, _| look.looks.contains_key(sign));
        for (sign, look) in look.looks {
            match look {
                Look::Seen(what) => {
                    let seen = self.seen.entry(sign).or_default();
                    *seen = Seen { what, looks: seen.looks.saturating_add(1) };
                }
                Look::Clear => drop(self.seen.remove(&sign)),
                // What could not be looked at is neither there nor gone.
                Look::Unknown(why) => drop(self.unseen.insert(sign, why)),
            }
        }
        self.todo = look.todo;
        self.clean = if self.seen.is_empty() { self.clean.saturating_add(1) } else { 0 };
    }

    /// Enough looks agree on one sign: two signs that were seen once each may be two chances.
    fn is_agreed(&self) -> bool {
        self.seen.values().any(|seen| seen.looks >= LOOKS)
    }

    fn signs(&self) -> String {
        self.seen.values().map(|seen| seen.what.as_str()).collect::<Vec<_>>().join("; ")
    }
}

impl Engine {
    /// Whether this node's PBX must be passive now. A failback enters Standby only once it has proved the stop; what its
    /// plan still does then (DNS, messages) may take an hour and concerns no PBX.
    fn must_be_passive(&self) -> bool {
        matches!(self.memory.state, State::Standby | State::Suspect) && !self.is_stopping()
    }

    /// Whether the robot itself is stopping the PBX, which may take some seconds: a retreat and a withdrawal do so in
    /// Standby. A stop that does not come to its end is told as a step that is tried again.
    fn is_stopping(&self) -> bool {
        let stop = self.run.as_ref().and_then(|run| run.step(Step::StopAccepting));
        stop.is_some_and(|stop| matches!(stop.state, StepState::Pending | StepState::Running | StepState::Unknown))
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
        self.passive.take(look, asked);
        let now: Vec<_> = self.passive.seen.keys().copied().collect();
        let (signs, todo) = (self.passive.signs(), self.passive.todo.clone());
        let known = self.memory.not_passive_since.is_some();
        if !known && self.passive.is_agreed() {
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
        let old = self.passive_is_old();
        if since.is_none() && old.is_none() && self.passive.looked.is_none() {
            return None;
        }
        let sign = |(name, seen): (&Sign, &Seen)| PassiveSign { name: *name, text: seen.what.clone() };
        let unseen = self.passive.unseen.iter().map(|(sign, why)| format!("{sign}: {why}"));
        Some(Passive {
            ok: since.is_none(),
            since,
            signs: self.passive.seen.iter().filter(|_| since.is_some()).map(sign).collect(),
            todo: since.map(|_| self.passive.todo.clone()).filter(|todo| !todo.is_empty()),
            old: old.is_some(),
            unseen: old.into_iter().chain(unseen).collect(),
        })
    }

    /// Why what was seen tells nothing of now, if it does not.
    fn passive_is_old(&self) -> Option<String> {
        let since = self.passive.since?;
        let age = self.now.since(self.passive.looked.unwrap_or(since));
        let seconds = age.as_secs();
        (age > OLD).then(|| match self.passive.looked {
            Some(_) => format!("the last look at it began {seconds} s ago; see the log"),
            None => format!("no look at it has ended in {seconds} s; see the log"),
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
            None if passive.old => lines.push("whether its own PBX is passive is not known".to_owned()),
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
