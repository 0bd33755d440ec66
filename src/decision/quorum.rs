//! Is the rest of the Internet there? k of n targets must answer, or the fault may be ours.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::units::{Now, ProbeAnswer, ProbeResult, Sighting};

use super::tally::Last;

/// The quorum's level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quorum {
    /// Enough answer.
    Ok,
    /// Not known yet: enough may still answer.
    NotYet,
    /// Too few answer.
    TooFew,
}

/// The targets and what they last answered.
#[derive(Debug, Clone)]
pub struct Targets {
    need: NonZeroU32,
    fresh_for: Duration,
    void_before: Duration,
    targets: Vec<Target>,
}

#[derive(Debug, Clone)]
struct Target {
    name: Arc<str>,
    asked_at: Option<Duration>,
    answered_at: Option<Duration>,
    up: bool,
    last: Option<Arc<Last>>,
}

impl Target {
    /// Whether its last answer says anything: a target that could not be asked, and an observer that is silent, stale or
    /// not believed, say neither yes nor no.
    fn has_view(&self) -> bool {
        !self.last.as_ref().is_some_and(|last| matches!(last.result.answer, ProbeAnswer::Unknown(_)))
    }
}

/// What one target believes, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetView {
    /// Not asked since the start, the answer is too old, or none was to be had.
    None,
    /// It answered.
    Up,
    /// It did not.
    Down,
}

impl TargetView {
    /// The name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "no-view",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// An answer counts for so many periods.
pub const PERIODS_FRESH: u32 = 3;

impl Targets {
    /// Targets that were not asked yet; an answer counts for three `period`s. What was asked before `now` is not
    /// theirs: it was asked of other targets, before the settings changed.
    pub fn new(need: NonZeroU32, period: Duration, names: impl IntoIterator<Item = String>, now: Now) -> Self {
        let target =
            |name: String| Target { name: name.into(), asked_at: None, answered_at: None, up: false, last: None };
        let targets = names.into_iter().map(target).collect();
        Self { need, fresh_for: period.saturating_mul(PERIODS_FRESH), void_before: now.boot, targets }
    }

    /// Notes an answer. Unknown (it never left this host) is as good as none: the Internet was not seen.
    pub fn record(&mut self, index: usize, result: ProbeResult, asked: Duration, now: Now) {
        if asked < self.void_before {
            return;
        }
        if let Some(target) = self.targets.get_mut(index) {
            target.up = matches!(result.answer, ProbeAnswer::Up { .. });
            target.asked_at = Some(asked);
            target.answered_at = Some(now.boot);
            target.last = Some(Arc::new(Last { at: now.wall, result }));
        }
    }

    /// Forgets all answers, because our evidence is void.
    pub fn reset(&mut self, now: Now) {
        self.void_before = now.boot;
        for target in &mut self.targets {
            target.answered_at = None;
            target.asked_at = None;
            target.up = false;
        }
    }

    /// The level now.
    pub fn level(&self, now: Now) -> Quorum {
        self.count(|target| match target.answered_at {
            None => TargetView::None,
            Some(at) if target.up && now.since(at) <= self.fresh_for => TargetView::Up,
            Some(_) => TargetView::Down,
        })
    }

    /// What they say together where one answer is enough: a witness, or observers.
    pub fn sighting(&self, now: Now) -> Sighting {
        if self.targets.is_empty() {
            return Sighting::NotConfigured;
        }
        match self.level(now) {
            Quorum::Ok => Sighting::Alive,
            Quorum::NotYet => Sighting::NoView,
            Quorum::TooFew => Sighting::Silent,
        }
    }

    /// Whether every target has answered a question asked at `since` or later.
    pub fn all_answered_since(&self, since: Duration) -> bool {
        self.targets.iter().all(|target| target.asked_at.is_some_and(|asked| asked >= since))
    }

    /// The level of answers to questions asked at `since` or later.
    pub fn level_since(&self, since: Duration) -> Quorum {
        self.count(|target| match target.asked_at {
            Some(asked) if asked >= since && target.up => TargetView::Up,
            Some(asked) if asked >= since => TargetView::Down,
            _ => TargetView::None,
        })
    }

    fn count(&self, view: impl Fn(&Target) -> TargetView) -> Quorum {
        let need = self.need.get() as usize;
        let up = self.targets.iter().filter(|t| view(t) == TargetView::Up).count();
        let open = self.targets.iter().filter(|t| view(t) == TargetView::None).count();
        if up >= need {
            Quorum::Ok
        } else if up + open >= need {
            Quorum::NotYet
        } else {
            Quorum::TooFew
        }
    }

    /// How many must answer.
    pub fn need(&self) -> u32 {
        self.need.get()
    }

    /// Each target: its name, whether it answers, its last result.
    pub fn each(&self, now: Now) -> impl Iterator<Item = (&str, TargetView, Option<&Last>)> {
        self.targets.iter().map(move |target| {
            let view = match target.answered_at {
                None => TargetView::None,
                Some(at) if now.since(at) > self.fresh_for || !target.has_view() => TargetView::None,
                Some(_) if target.up => TargetView::Up,
                Some(_) => TargetView::Down,
            };
            (&*target.name, view, target.last.as_deref())
        })
    }
}
