//! An observer's view of the primary: the same checks, counted in the same way, and nothing decided.

use crate::units::{CheckName, Now, ProbeResult, Sees};

use super::stall::{Gap, StallGuard};
use super::tally::{CheckSettings, Tally, View};
use super::votes;

/// What an observer believes.
#[derive(Debug)]
pub struct Observer {
    tallies: Vec<Tally>,
    stall: StallGuard,
}

impl Observer {
    /// One that has seen nothing yet. Unlike the robot it trusts a check that was never up: nothing is done on "down".
    pub fn new(checks: impl IntoIterator<Item = CheckSettings>, now: Now) -> Self {
        Self { tallies: checks.into_iter().map(|check| Tally::new(check, true)).collect(), stall: StallGuard::new(now) }
    }

    /// A second has passed.
    pub fn tick(&mut self, now: Now) {
        self.look(now);
        self.stall.tick(now);
    }

    /// A check has a result; `asked` is the boot time of the question.
    pub fn check(&mut self, name: &CheckName, result: ProbeResult, asked: std::time::Duration, now: Now) {
        self.look(now);
        if let Some(tally) = self.tallies.iter_mut().find(|tally| tally.settings().name == *name) {
            tally.record(result, asked, now);
        }
    }

    fn look(&mut self, now: Now) {
        if matches!(self.stall.look(now), Gap::Stalled(_)) {
            self.tallies.iter_mut().for_each(|tally| tally.reset(now));
        }
    }

    /// What it sees: alive where every check that decides is up.
    pub fn sees(&self, now: Now) -> Sees {
        let deciding = self.tallies.iter().filter(|t| votes::decides(t.settings().kind, &self.tallies));
        let views: Vec<View> = deciding.map(|tally| tally.view(now)).collect();
        if self.stall.stalled(now) || views.is_empty() || views.iter().any(|v| matches!(v, View::None | View::Untested))
        {
            Sees::Nothing
        } else if views.iter().all(|view| *view == View::Up) {
            Sees::Alive
        } else {
            Sees::Down
        }
    }

    /// Each check and what it says, in one line.
    pub fn because(&self, now: Now) -> String {
        let each = self.tallies.iter().map(|t| format!("{} {}", t.settings().name, t.view(now).name()));
        each.collect::<Vec<_>>().join(", ")
    }

    /// The checks' counts, in the file's order.
    pub fn tallies(&self) -> &[Tally] {
        &self.tallies
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::units::{CheckKind, ProbeAnswer};

    fn check(name: &str, kind: CheckKind) -> CheckSettings {
        let two = NonZeroU32::new(2).unwrap();
        let period = Duration::from_secs(1);
        CheckSettings { name: CheckName(name.into()), kind, definition: String::new(), fall: two, rise: two, period }
    }

    fn at(seconds: u64) -> Now {
        Now { boot: Duration::from_secs(seconds), wall: jiff::Timestamp::UNIX_EPOCH }
    }

    /// Seconds 100 to `until`, each check answering as said.
    fn watched(until: u64, sip: bool, web: bool) -> Observer {
        let checks = [check("web", CheckKind::Http), check("sip", CheckKind::Sip)];
        let mut observer = Observer::new(checks, at(100));
        for second in 101..=until {
            observer.tick(at(second));
            for (name, up) in [("web", web), ("sip", sip)] {
                let answer = if up { ProbeAnswer::up("ok") } else { ProbeAnswer::Down("no".into()) };
                let result = ProbeResult { answer, latency: Duration::ZERO };
                observer.check(&CheckName(name.into()), result, at(second).boot, at(second));
            }
        }
        observer
    }

    #[test]
    fn it_sees_the_primary_alive_when_the_checks_that_decide_are_up() {
        assert_eq!(watched(101, true, true).sees(at(101)), Sees::Nothing, "one answer is none");
        assert_eq!(watched(103, true, true).sees(at(103)), Sees::Alive);
        assert_eq!(watched(103, true, false).sees(at(103)), Sees::Alive, "the web server does not decide");
        assert_eq!(watched(103, false, true).sees(at(103)), Sees::Down);
    }

    #[test]
    fn a_view_that_is_old_or_was_frozen_is_none() {
        assert_eq!(watched(103, true, true).sees(at(107)), Sees::Nothing);
        let mut frozen = watched(103, true, true);
        frozen.tick(at(600));
        assert_eq!(frozen.sees(at(600)), Sees::Nothing);
    }
}
