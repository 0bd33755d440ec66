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
    answer: Option<Heard>,
    last: Option<Arc<Last>>,
}

/// What counts of an answer.
#[derive(Debug, Clone, Copy)]
struct Heard {
    asked: Duration,
    came: Duration,
    view: TargetView,
}

/// What one target says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetView {
    /// Not asked since the start, or since all answers were forgotten.
    None,
    /// Its answer is too old to count.
    Old,
    /// The question never left this host.
    Unknown,
    /// It answered.
    Up,
    /// It did not.
    Down,
}

impl TargetView {
    /// The name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::None | Self::Old => "no-view",
            Self::Unknown => "unknown",
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
        let target = |name: String| Target { name: name.into(), answer: None, last: None };
        let targets = names.into_iter().map(target).collect();
        Self { need, fresh_for: period.saturating_mul(PERIODS_FRESH), void_before: now.boot, targets }
    }

    /// Notes an answer to a question that was asked at `asked`.
    pub fn record(&mut self, index: usize, result: ProbeResult, asked: Duration, now: Now) {
        if asked < self.void_before {
            return;
        }
        if let Some(target) = self.targets.get_mut(index) {
            let view = match result.answer {
                ProbeAnswer::Up { .. } => TargetView::Up,
                ProbeAnswer::Down(_) => TargetView::Down,
                ProbeAnswer::Unknown(_) => TargetView::Unknown,
            };
            target.answer = Some(Heard { asked, came: now.boot, view });
            target.last = Some(Arc::new(Last { at: now.wall, result }));
        }
    }

    /// Forgets all answers, because our evidence is void.
    pub fn reset(&mut self, now: Now) {
        self.void_before = now.boot;
        for target in &mut self.targets {
            target.answer = None;
        }
    }

    /// The level now.
    pub fn level(&self, now: Now) -> Quorum {
        self.count(|target| self.view(target, now))
    }

    /// What they say together where one answer is enough: a witness, or observers. What could not be asked says nothing,
    /// so that a host which may not ask never takes a site for silent.
    pub fn sighting(&self, now: Now) -> Sighting {
        let views: Vec<_> = self.targets.iter().map(|target| self.view(target, now)).collect();
        let any = |view| views.contains(&view);
        if views.is_empty() {
            Sighting::NotConfigured
        } else if any(TargetView::Up) {
            Sighting::Alive
        } else if any(TargetView::None) {
            Sighting::NoView
        } else if any(TargetView::Down) {
            Sighting::Silent
        } else {
            Sighting::NotAsked
        }
    }

    /// Whether every target has answered a question asked at `since` or later.
    pub fn all_answered_since(&self, since: Duration) -> bool {
        self.targets.iter().all(|target| target.view_since(since) != TargetView::None)
    }

    /// The level of answers to questions asked at `since` or later.
    pub fn level_since(&self, since: Duration) -> Quorum {
        self.count(|target| target.view_since(since))
    }

    /// Old and unknown are as good as no answer: the Internet was not seen.
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

    /// Each target: its name, what it says now, its last result.
    pub fn each(&self, now: Now) -> impl Iterator<Item = (&str, TargetView, Option<&Last>)> {
        self.targets.iter().map(move |target| (&*target.name, self.view(target, now), target.last.as_deref()))
    }

    fn view(&self, target: &Target, now: Now) -> TargetView {
        match target.answer {
            None => TargetView::None,
            Some(heard) if now.since(heard.came) > self.fresh_for => TargetView::Old,
            Some(heard) => heard.view,
        }
    }
}

impl Target {
    fn view_since(&self, since: Duration) -> TargetView {
        self.answer.filter(|heard| heard.asked >= since).map_or(TargetView::None, |heard| heard.view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { boot: Duration::from_secs(seconds), wall: jiff::Timestamp::UNIX_EPOCH }
    }

    fn up() -> ProbeAnswer {
        ProbeAnswer::up("it")
    }

    fn down() -> ProbeAnswer {
        ProbeAnswer::Down("silent".to_owned())
    }

    fn unknown() -> ProbeAnswer {
        ProbeAnswer::Unknown("no right to ask".to_owned())
    }

    /// One target for each answer, asked and answered at second 1.
    fn heard(answers: &[Option<ProbeAnswer>]) -> Targets {
        let names = (0..answers.len()).map(|n| n.to_string());
        let mut targets = Targets::new(NonZeroU32::MIN, Duration::from_secs(1), names, at(0));
        for (index, answer) in answers.iter().enumerate() {
            if let Some(answer) = answer.clone() {
                targets.record(index, ProbeResult { answer, latency: Duration::ZERO }, at(1).boot, at(1));
            }
        }
        targets
    }

    #[test]
    fn a_witness_is_silent_only_by_targets_that_were_truly_asked() {
        for (answers, expected) in [
            (vec![], Sighting::NotConfigured),
            (vec![None], Sighting::NoView),
            (vec![Some(down())], Sighting::Silent),
            (vec![Some(unknown())], Sighting::NotAsked),
            (vec![Some(unknown()), Some(unknown())], Sighting::NotAsked),
            (vec![Some(unknown()), Some(down())], Sighting::Silent),
            (vec![Some(unknown()), Some(up())], Sighting::Alive),
            (vec![Some(down()), Some(up())], Sighting::Alive),
            (vec![Some(unknown()), None], Sighting::NoView),
            (vec![Some(down()), None], Sighting::NoView),
        ] {
            assert_eq!(heard(&answers).sighting(at(2)), expected, "{answers:?}");
        }
    }

    #[test]
    fn what_could_not_be_asked_is_no_internet() {
        assert_eq!(heard(&[Some(unknown())]).level(at(2)), Quorum::TooFew);
        assert_eq!(heard(&[Some(unknown()), None]).level(at(2)), Quorum::NotYet);
        assert_eq!(heard(&[Some(unknown()), Some(up())]).level(at(2)), Quorum::Ok);
    }

    #[test]
    fn an_old_answer_is_told_and_counted_as_none_whatever_it_was() {
        for answer in [up(), down(), unknown()] {
            let targets = heard(&[Some(answer)]);
            let views: Vec<_> = targets.each(at(5)).map(|(_, view, _)| view).collect();
            assert_eq!(views, [TargetView::Old]);
            assert_eq!((targets.level(at(5)), targets.sighting(at(5))), (Quorum::TooFew, Sighting::NotAsked));
        }
    }
}
