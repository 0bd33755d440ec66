//! What the primary's agent tells the engine, and what follows from it. Witness and observers are counted like Internet
//! targets and weigh in the verdict; an agent's word moves no count: "my PBX serves" is a veto like a sighting, and "has
//! failed" shortens the hold-down.
//!
//! Only what was told just now, over the authenticated way, arrives here: what makes a beat believable is in
//! [`crate::decision::beats`]. A heartbeat file is a check of its own kind, and too old to weigh.

use std::time::Duration;

use jiff::Timestamp;

use crate::decision::AgentSays;
use crate::decision::beats::{DRIFT_ALERT, DRIFT_WARN};
use crate::decision::quorum::{PERIODS_FRESH, TargetView};
use crate::units::operator::PAUSE_MAX;
use crate::units::snapshot::PeerStatus;
use crate::units::{Beat, Condition, Duty, EventName, Heard, Now, PeerReading, Sighting, Verdict};

use super::core::{Engine, signed};
use super::event::Channels;
use super::settings::AgentAsked;

/// An agent that is silent for so long, while its host is well, is no safeguard any more.
const SILENT_ALERT: Duration = Duration::from_secs(300);
/// What is not believed for so long is told: a single one may be two questions that have overtaken each other.
const REFUSED_ALERT: Duration = Duration::from_secs(20);
/// When the agent says that the PBX has failed, nobody restarts it: there is no restart to wait for.
const HOLD_DOWN_FAILED: Duration = Duration::from_secs(5);

/// What the primary's agent told last.
#[derive(Debug, Clone, Default)]
pub(super) struct Agent {
    heard: Option<Told>,
    /// What came of the last question, where it was not heard.
    trouble: Option<PeerReading>,
    /// Since when it has not been heard.
    silent_since: Option<Duration>,
    void_before: Duration,
    /// The end of an announced stop, as it was told last; the outer `None`: nothing was told since the start.
    #[allow(clippy::option_option)] // each is its own answer
    told_stop: Option<Option<Timestamp>>,
    /// The troubles that people were told of.
    said: Vec<&'static str>,
}

#[derive(Debug, Clone)]
struct Told {
    heard: Heard,
    asked: Duration,
    came: Now,
}

/// One thing that is not as it should be: its kind, which is told once, and its text.
type Trouble = (&'static str, String);

impl Agent {
    /// Forgets what was told, because our evidence is void.
    pub(super) fn forget(&mut self, now: Now) {
        self.heard = None;
        self.silent_since = None;
        self.void_before = now.boot;
    }

    fn fresh(&self, period: Duration, now: Now) -> Option<&Told> {
        self.heard.as_ref().filter(|told| now.since(told.came.boot) <= period.saturating_mul(PERIODS_FRESH))
    }
}

impl Engine {
    pub(super) fn peer_was_asked(&mut self, reading: PeerReading, asked: Duration) {
        if asked < self.agent.void_before {
            return;
        }
        match reading {
            PeerReading::Heard(heard) => {
                self.remember_told(&heard.beat);
                self.agent.trouble = None;
                self.agent.silent_since = None;
                self.agent.heard = Some(Told { heard: *heard, asked, came: self.now });
            }
            other => {
                self.agent.silent_since.get_or_insert(self.now.boot);
                self.agent.trouble = Some(other);
            }
        }
        self.tell_of_agent();
    }

    /// What must be known when the primary tells nothing any more.
    fn remember_told(&mut self, beat: &Beat) {
        if self.judgement.verdict == Verdict::PrimaryUp
            && let Some(phones) = beat.pbx.as_ref().and_then(|pbx| pbx.registrations)
        {
            self.memory.expected_registrations = Some(phones);
        }
        // A stop has an end, whatever is told.
        let told = beat.duty.as_ref().and_then(|duty| duty.planned_stop_until);
        if self.agent.told_stop.replace(told) == Some(told) {
            return;
        }
        let latest = self.now.wall.checked_add(signed(PAUSE_MAX)).unwrap_or(Timestamp::MAX);
        let until = told.map(|until| until.min(latest));
        if until != self.memory.planned_stop_until {
            let node = &self.settings.peer;
            let what = match until {
                Some(until) => format!("{node} announced a stop of its PBX until {until}"),
                None => format!("{node} takes its announced stop back"),
            };
            self.note("peer", what, "told by its agent".to_owned(), None);
            self.memory.planned_stop_until = until;
        }
    }

    /// What the agent told, if that is fresh.
    pub(super) fn heard(&self) -> Option<&Heard> {
        self.agent.fresh(self.settings.others_period, self.now).map(|told| &told.heard)
    }

    /// What it told on a question asked at `since` or later.
    pub(super) fn heard_since(&self, since: Duration) -> Option<&Heard> {
        self.agent.heard.as_ref().filter(|told| told.asked >= since).map(|told| &told.heard)
    }

    /// What it says of its PBX.
    pub(super) fn agent_says(&self) -> AgentSays {
        let condition = self.heard().and_then(|heard| heard.beat.pbx.as_ref()).map(|pbx| pbx.condition);
        match condition {
            Some(Condition::Serves) => AgentSays::Serves,
            Some(Condition::Failed) => AgentSays::Failed,
            Some(Condition::Stopped) => AgentSays::Stopped,
            Some(Condition::Unknown) | None => AgentSays::Nothing,
        }
    }

    /// Whether it says, now, that its PBX does not serve: a web server that answers proves no telephone.
    pub(super) fn agent_denies_service(&self) -> bool {
        matches!(self.agent_says(), AgentSays::Stopped | AgentSays::Failed)
    }

    /// Whether its agent starts the primary's PBX by itself, once the service is handed over.
    pub(super) fn agent_starts(&self) -> bool {
        let duty = self.heard().and_then(|heard| heard.beat.duty.as_ref());
        duty.is_some_and(|duty| duty.duty != Duty::Serve && duty.starts_by_itself)
    }

    /// How long the hold-down is: shorter where the primary's own agent says that the PBX has failed.
    pub(super) fn hold_down(&self) -> Duration {
        match self.agent_says() {
            AgentSays::Failed => self.settings.hold_down.min(HOLD_DOWN_FAILED),
            AgentSays::Serves | AgentSays::Stopped | AgentSays::Nothing => self.settings.hold_down,
        }
    }

    /// The primary's announced stop, while it lasts.
    pub(super) fn planned_stop(&self) -> Option<Timestamp> {
        self.memory.planned_stop_until.filter(|until| self.now.wall < *until)
    }

    fn troubles(&self) -> Vec<Trouble> {
        let node = &self.settings.peer;
        let mut found = Vec::new();
        let unheard = self.agent.silent_since.map_or(Duration::ZERO, |since| self.now.since(since));
        if let Some(PeerReading::Refused(why)) = &self.agent.trouble
            && unheard >= REFUSED_ALERT
        {
            found.push(("refused", format!("what the agent of {node} tells is not believed: {why}")));
        }
        if unheard >= SILENT_ALERT && self.judgement.verdict == Verdict::PrimaryUp {
            found.push((
                "silent",
                format!("the agent of {node} does not answer: nothing would make its PBX step down after a takeover"),
            ));
        }
        let Some(heard) = self.heard() else { return found };
        if heard.drift.abs() >= DRIFT_ALERT {
            found.push((
                "drift",
                format!("{}; beyond 300 s name servers refuse signed updates: set both by NTP", heard.clock()),
            ));
        }
        let differing = self.differing(&heard.beat);
        if !differing.is_empty() {
            found.push((
                "settings",
                format!("failover.yaml is not the same on both hosts in: {differing}; copy it from one to the other"),
            ));
        }
        found
    }

    /// The sections of the settings that are not the same on both hosts.
    fn differing(&self, beat: &Beat) -> String {
        let AgentAsked::Yes(ours) = &self.settings.agent else { return String::new() };
        let other = |(section, digest): &(&String, &String)| beat.settings.get(*section) != Some(digest);
        ours.iter().filter(other).map(|(section, _)| section.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn tell_of_agent(&mut self) {
        let troubles = self.troubles();
        let kinds: Vec<_> = troubles.iter().map(|(kind, _)| *kind).collect();
        for (kind, text) in troubles {
            if !self.agent.said.contains(&kind) {
                self.note("peer", text.clone(), kind.to_owned(), None);
                self.tell(EventName::PeerTrouble, text, Channels::All);
            }
        }
        self.agent.said = kinds;
    }

    pub(super) fn peer_snapshot(&self) -> Option<PeerStatus> {
        if self.settings.agent == AgentAsked::No {
            return None;
        }
        let told = self.agent.heard.as_ref();
        let (contact, error) = match &self.agent.trouble {
            Some(PeerReading::Refused(why)) => ("refused", Some(why.clone())),
            Some(PeerReading::Silent(why)) => ("silent", Some(why.clone())),
            _ if told.is_some() => ("heard", None),
            _ => ("not-asked", None),
        };
        let mut troubles: Vec<_> = self.troubles().into_iter().map(|(_, text)| text).collect();
        if let Some(heard) = self.heard().filter(|heard| (DRIFT_WARN..DRIFT_ALERT).contains(&heard.drift.abs())) {
            troubles.push(format!("{}: set both by NTP", heard.clock()));
        }
        Some(PeerStatus {
            contact: contact.to_owned(),
            error,
            beat: told.map(|told| told.heard.beat.clone()),
            at: told.map(|told| told.came.wall),
            drift_ms: told.map(|told| told.heard.drift_ms()),
            troubles,
        })
    }

    /// What the others say, for `explain`.
    pub(super) fn others_text(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (what, [up, down, unknown], targets) in [
            ("witness at the primary's site", ["answers", "is silent", "could not be asked"], &self.site),
            ("observer", ["sees it alive", "does not see it alive", "gives no view"], &self.observers),
        ] {
            for (name, view, last) in targets.each(self.now) {
                let answer = last.map(|last| super::explain::told(&last.result.answer)).unwrap_or_default();
                let view = match view {
                    TargetView::Up => up,
                    TargetView::Down => down,
                    TargetView::Unknown => unknown,
                    TargetView::None | TargetView::Old => "gives no view",
                };
                lines.push(format!("{what} {name}: {view}{answer}"));
            }
        }
        if self.site.sighting(self.now) == Sighting::NotAsked {
            lines.push(
                "no witness at the primary's site could be asked: it has no word, as if none were configured"
                    .to_owned(),
            );
        }
        if self.settings.agent != AgentAsked::No {
            let pbx = self.heard().and_then(|heard| heard.beat.pbx.as_ref());
            let said = match (pbx, &self.agent.trouble) {
                (Some(pbx), _) => format!("its PBX {}", pbx.condition),
                (None, Some(PeerReading::Silent(why) | PeerReading::Refused(why))) => format!("not heard: {why}"),
                (None, _) => "not heard lately".to_owned(),
            };
            lines.push(format!("the primary's own agent (evidence): {said}"));
        }
        if let Some(until) = self.planned_stop() {
            lines.push(format!("the primary announced a stop of its PBX until {until}"));
        }
        lines
    }
}
