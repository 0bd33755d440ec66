//! One check's counts: consecutive results that flip its view (fall, rise), staleness, and whether it was ever up.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::units::{CheckKind, CheckName, Now, ProbeAnswer, ProbeResult};

/// What the decision needs to know of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckSettings {
    /// Its name.
    pub name: CheckName,
    /// What it asks.
    pub kind: CheckKind,
    /// What it asks exactly, as text: when it changes, the check is untested again.
    pub definition: String,
    /// Failures in a row that flip it to down.
    pub fall: NonZeroU32,
    /// Successes in a row that flip it to up.
    pub rise: NonZeroU32,
    /// The longest time from one result to the next while all goes as it should: the interval, or the time-out plus
    /// the pause where that is longer. Three of them without a result are no view.
    pub period: Duration,
}

impl CheckSettings {
    /// Whether its result is a vote; a heartbeat never is.
    pub fn votes(&self) -> bool {
        self.kind != CheckKind::Heartbeat
    }
}

/// What a check believes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Nothing, yet or any more.
    None,
    /// It has never been up since its definition last changed.
    Untested,
    /// Up.
    Up,
    /// Down.
    Down,
}

impl View {
    /// The name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "no-view",
            Self::Untested => "untested",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// The last result, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// When it came, by the wall clock.
    pub at: Timestamp,
    /// What it was.
    pub result: ProbeResult,
}

/// So many periods without a result, and a check has no view.
const PERIODS_WITHOUT_VIEW: u32 = 3;

/// One check's counts.
#[derive(Debug, Clone)]
pub struct Tally {
    settings: Arc<CheckSettings>,
    flipped: Option<Flip>,
    failures: u32,
    successes: u32,
    tested: bool,
    answered_at: Option<Duration>,
    asked_at: Option<Duration>,
    void_before: Duration,
    last: Option<Arc<Last>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flip {
    Up,
    Down,
}

impl Tally {
    /// A check without any result. `tested`: it was up before, under this very definition.
    pub fn new(settings: CheckSettings, tested: bool) -> Self {
        Self {
            settings: Arc::new(settings),
            flipped: None,
            failures: 0,
            successes: 0,
            tested,
            answered_at: None,
            asked_at: None,
            void_before: Duration::ZERO,
            last: None,
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &CheckSettings {
        &self.settings
    }

    /// Counts a result whose question was asked at `asked`. Unknown moves neither count and is no result; what was
    /// asked before the evidence became void is not heard at all.
    pub fn record(&mut self, result: ProbeResult, asked: Duration, now: Now) {
        if asked < self.void_before {
            return;
        }
        match result.answer {
            ProbeAnswer::Up { .. } => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                if self.successes >= self.settings.rise.get() {
                    self.flipped = Some(Flip::Up);
                    self.tested = true;
                }
                self.answered(asked, now);
            }
            ProbeAnswer::Down(_) => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                if self.failures >= self.settings.fall.get() {
                    self.flipped = Some(Flip::Down);
                }
                self.answered(asked, now);
            }
            ProbeAnswer::Unknown(_) => {}
        }
        self.last = Some(Arc::new(Last { at: now.wall, result }));
    }

    fn answered(&mut self, asked: Duration, now: Now) {
        self.answered_at = Some(now.boot);
        self.asked_at = Some(asked);
    }

    /// Forgets what failed, because we were cut off; what answered did answer.
    pub fn forget_failures(&mut self, now: Now) {
        self.void_before = now.boot;
        self.failures = 0;
        if self.flipped == Some(Flip::Down) {
            self.reset(now);
        }
    }

    /// Forgets the counts and the view, because our evidence is void; that it was tested stays.
    pub fn reset(&mut self, now: Now) {
        self.void_before = now.boot;
        self.flipped = None;
        self.failures = 0;
        self.successes = 0;
        self.answered_at = None;
        self.asked_at = None;
    }

    /// What it believes now.
    pub fn view(&self, now: Now) -> View {
        let fresh = self
            .answered_at
            .is_some_and(|at| now.since(at) <= self.settings.period.saturating_mul(PERIODS_WITHOUT_VIEW));
        match (self.tested, fresh, self.flipped) {
            (false, ..) => View::Untested,
            (true, true, Some(Flip::Up)) => View::Up,
            (true, true, Some(Flip::Down)) => View::Down,
            (true, ..) => View::None,
        }
    }

    /// Whether it has been up under this definition.
    pub fn tested(&self) -> bool {
        self.tested
    }

    /// Whether it shall be asked fast: from the first failure to the verdict.
    pub fn hurried(&self) -> bool {
        self.failures > 0 && self.flipped != Some(Flip::Down)
    }

    /// The last answer, if its question was asked at `since` or later.
    pub fn answer_since(&self, since: Duration) -> Option<&ProbeAnswer> {
        let asked = self.asked_at.filter(|asked| *asked >= since);
        asked.and(self.last.as_ref()).map(|last| &last.result.answer)
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Successes in a row.
    pub fn successes(&self) -> u32 {
        self.successes
    }

    /// The last result.
    pub fn last(&self) -> Option<&Last> {
        self.last.as_deref()
    }
}
