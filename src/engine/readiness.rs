//! The one gate that decides whether the robot may act: what the verdict allows, and what it is armed with.

use std::time::Duration;

use jiff::Timestamp;

use crate::decision::{May, Votes};
use crate::units::{EventName, State, Verdict};

use super::core::{Engine, UNREADABLE_READS, signed};
use super::settings::Automatic;
use super::standing::not_claimable;

/// `unsure` for so long is an alert.
const UNSURE_ALERT: Duration = Duration::from_secs(300);

/// One thing that stands against a takeover.
struct Obstacle {
    what: String,
    /// Expected and passing by itself: nobody is woken for it.
    passing: bool,
}

impl Engine {
    /// Whether a takeover may begin now by itself.
    pub(super) fn may_act(&self) -> bool {
        self.verdict_blocks().is_none() && self.armed.is_empty()
    }

    /// Everything that stands against a takeover now.
    pub(super) fn blocks(&self) -> Vec<String> {
        self.verdict_blocks().into_iter().chain(self.armed.iter().cloned()).collect()
    }

    /// Why the verdict forbids a takeover now, if it does.
    pub(super) fn verdict_blocks(&self) -> Option<String> {
        let stood = self.allowed_since.map_or(Duration::ZERO, |since| self.now.since(since));
        match self.judgement.may {
            May::Act => None,
            May::ActAfter(wait) if stood >= wait => None,
            May::ActAfter(wait) => Some(format!(
                "{}: acts only when it has stood for {} s (monitor.half_dead.takeover_after)",
                self.judgement.verdict,
                wait.as_secs()
            )),
            May::Not => Some(format!("{}: {}", self.judgement.verdict, self.judgement.because)),
        }
    }

    /// Whether a pause stands.
    pub(super) fn paused(&self) -> bool {
        self.memory.paused_until.is_some_and(|until| self.now.wall < until)
    }

    /// Longer than it can last means that the wall clock was set back meanwhile: that must not disarm for a year.
    fn holds_off(&self, until: Timestamp) -> bool {
        let left = until.duration_since(self.now.wall);
        left.is_positive() && left <= signed(self.hold_off_max())
    }

    /// The hold-off where nobody saw the primary serve: it has at least as long to come up as a failback gives it, or a
    /// node that does not come up would take the service from it again and again.
    pub(super) fn hold_off_max(&self) -> Duration {
        self.settings.hold_off.max(self.settings.limits.wait_for_primary)
    }

    fn obstacles(&self) -> Vec<Obstacle> {
        let mut found = Vec::new();
        let mut add = |what: String, passing| found.push(Obstacle { what, passing });
        if let Some(until) = self.memory.paused_until.filter(|_| self.paused()) {
            add(format!("paused by a person until {until}; `pbx-failover unpause` ends it"), false);
        }
        if let Some(until) = self.planned_stop() {
            let node = &self.settings.peer;
            add(
                format!("{node} announced a stop of its PBX until {until}; `pbx-failover unpause` there ends it"),
                false,
            );
        }
        if self.settings.automatic == Automatic::Off {
            add("takeover.automatic is off: the robot alerts only".to_owned(), false);
        }
        let grace = self.settings.startup_grace;
        if self.started_for() < grace {
            let left = grace.saturating_sub(self.started_for()).as_secs() + 1;
            add(format!("started just now: waits {left} s more (takeover.startup_grace)"), true);
        }
        if let Some(until) = self.memory.hold_off_until.filter(|until| self.holds_off(*until)) {
            let until = until.strftime("%H:%M:%S UTC");
            add(
                format!(
                    "the service was given back just now: waits until {until} (takeover.hold_off; after a takeover that failed, failback.wait_for_primary if that is longer)"
                ),
                true,
            );
        }
        self.evidence_obstacle(&mut add);
        if let Some(why) = self.data_holds() {
            add(format!("the working directory does not pass its gate: {why}"), false);
        }
        if let Err(why) = &self.store {
            add(format!("the store cannot write: {why}"), false);
        }
        match &self.conformance {
            Some(Ok(())) => {
                if let Some(why) = not_claimable(&self.standing()) {
                    // One failed reading is a lost packet: it disarms, and wakes nobody.
                    let lost = (1..UNREADABLE_READS).contains(&self.epoch_failures);
                    add(why, self.epoch_read.is_none() || lost);
                }
            }
            Some(Err(why)) => add(format!("the epoch store does not conform: {why}"), false),
            None => add("the epoch store has not passed its conformance test yet".to_owned(), true),
        }
        found
    }

    fn evidence_obstacle(&self, add: &mut impl FnMut(String, bool)) {
        let untested: Vec<_> = self
            .tallies
            .iter()
            .filter(|t| t.settings().votes() && !t.tested())
            .map(|t| t.settings().name.0.clone())
            .collect();
        if self.judgement.verdict == Verdict::Unsure {
            let young = self.now.since(self.verdict_since) < UNSURE_ALERT;
            if self.votes().votes != Votes::Untested {
                add(format!("unsure: {}", self.judgement.because), young);
            }
        }
        if !untested.is_empty() {
            let young = self.started_for() < UNSURE_ALERT;
            add(format!("never seen up since configured: {}", untested.join(", ")), young);
        }
    }

    /// Looks again at what the robot is armed with; becoming disarmed is an alert by itself.
    pub(super) fn refresh_armed(&mut self) {
        if self.memory.paused_until.is_some_and(|until| self.now.wall >= until) {
            self.memory.paused_until = None;
            self.note("pause", "the pause is over".to_owned(), "its time has come".to_owned(), None);
        }
        let obstacles = self.obstacles();
        let alert = obstacles.iter().any(|o| !o.passing);
        let reasons: Vec<String> = obstacles.into_iter().map(|o| o.what).collect();
        let watching = matches!(self.memory.state, State::Standby | State::Suspect);
        if self.armed.is_empty() != reasons.is_empty() {
            let (kind, what) = if reasons.is_empty() { ("armed", "armed") } else { ("disarmed", "disarmed") };
            self.note(kind, what.to_owned(), reasons.join("; "), None);
        }
        if watching && alert && self.armed_told {
            self.armed_told = false;
            self.tell(EventName::Disarmed, reasons.join("; "), super::event::Channels::All);
        } else if watching && reasons.is_empty() && !self.armed_told {
            self.armed_told = true;
            self.tell(EventName::Armed, "a takeover could happen again".to_owned(), super::event::Channels::All);
        }
        self.armed = reasons;
    }

    /// Why the robot is not armed; empty: it is.
    pub fn disarmed_because(&self) -> &[String] {
        &self.armed
    }

    /// Why no takeover would follow even if the present verdict lasts.
    pub fn stands_against(&self) -> Vec<String> {
        let verdict = match self.judgement.may {
            May::Not => self.verdict_blocks(),
            May::Act | May::ActAfter(_) => None,
        };
        verdict.into_iter().chain(self.armed.iter().cloned()).collect()
    }
}
