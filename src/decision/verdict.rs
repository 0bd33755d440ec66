//! The verdict table: the first row that fits, from all inputs, on every event.

use std::time::Duration;

use crate::units::policy::{DownWhen, HalfDead, SiteCut};
use crate::units::{Sighting, Verdict};

use super::quorum::Quorum;
use super::votes::Votes;

/// Everything that a verdict is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inputs {
    /// Our own loop was stalled lately.
    pub stalled: bool,
    /// The Internet.
    pub internet: Quorum,
    /// The votes.
    pub votes: Votes,
    /// The witness at the primary's site.
    pub site: Sighting,
    /// Observers elsewhere.
    pub observers: Sighting,
    /// The primary's own agent.
    pub agent: AgentSays,
    /// `monitor.down_when`.
    pub down_when: DownWhen,
    /// `monitor.half_dead`.
    pub half_dead: HalfDead,
    /// `monitor.site_cut`.
    pub site_cut: SiteCut,
}

/// What the primary's own agent says of its PBX, when it was heard just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AgentSays {
    /// Nothing: there is none, it was not heard, or it does not know.
    #[default]
    Nothing,
    /// A SIP request from its own host was answered.
    Serves,
    /// It should run, and does not: it failed.
    Failed,
    /// It is stopped.
    Stopped,
}

/// May the robot act on a verdict?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// Yes.
    Act,
    /// Yes, once the verdict has stood for so long.
    ActAfter(Duration),
    /// No; the verdict or a policy forbids it.
    Not,
}

/// A verdict and what it allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// What it allows.
    pub may: May,
    /// Why, for people: the row's own sentence.
    pub because: &'static str,
}

/// The table. Rows are in the design's order; the first that fits counts.
pub fn judge(inputs: &Inputs) -> Judgement {
    let no = |verdict, because| Judgement { verdict, may: May::Not, because };
    if inputs.stalled {
        return no(Verdict::Unsure, "our own process or clock was stalled; what we counted is void");
    }
    match inputs.internet {
        Quorum::TooFew => {
            return no(Verdict::WeAreCutOff, "too few Internet targets answer: the fault may be ours");
        }
        Quorum::NotYet => return no(Verdict::Unsure, "the Internet targets have not answered yet"),
        Quorum::Ok => {}
    }
    match (inputs.votes, inputs.down_when) {
        (Votes::Untested, _) => no(Verdict::Unsure, "a check has never been up since it was configured"),
        (Votes::NoView, _) => no(Verdict::Unsure, "a check has no fresh result"),
        (Votes::AllUp, _) => no(Verdict::PrimaryUp, "every vote is up"),
        (Votes::SomeDown { deciding: true }, DownWhen::All) => Judgement {
            verdict: Verdict::HalfDead,
            may: match inputs.half_dead {
                HalfDead::TakeoverAfter(wait) => May::ActAfter(wait),
                HalfDead::Alert => May::Not,
            },
            because: match inputs.half_dead {
                HalfDead::TakeoverAfter(_) => "a deciding check is down, another vote is up",
                HalfDead::Alert => "a deciding check is down, another vote is up, and monitor.half_dead is alert",
            },
        },
        (Votes::SomeDown { deciding: false }, DownWhen::All) => {
            no(Verdict::HalfDead, "a vote is down, but those that decide are up")
        }
        (Votes::AllDown, _) | (Votes::SomeDown { .. }, DownWhen::Any) => all_down(inputs),
    }
}

fn all_down(inputs: &Inputs) -> Judgement {
    let path_cut = |because| Judgement { verdict: Verdict::PathCut, may: May::Not, because };
    let primary_dead = |because| Judgement { verdict: Verdict::PrimaryDead, may: May::Act, because };
    // Where somebody chose that any check decides, a PBX that serves beside a dead web server is down to him.
    let deciding = matches!(inputs.votes, Votes::AllDown | Votes::SomeDown { deciding: true });
    match (inputs.observers, inputs.site) {
        (Sighting::Alive, _) => path_cut("we do not reach it, but an observer sees it alive: a veto"),
        _ if inputs.agent == AgentSays::Serves && deciding => path_cut(
            "our checks fail, but its own agent reaches us and says that its PBX serves: is our address banned there?",
        ),
        (_, Sighting::NoView) => Judgement {
            verdict: Verdict::Unsure,
            may: May::Not,
            because: "the witness at the primary's site has not been asked yet",
        },
        (_, Sighting::Silent) => Judgement {
            verdict: Verdict::SiteCut,
            may: match inputs.site_cut {
                SiteCut::Takeover => May::Act,
                SiteCut::Wait => May::Not,
            },
            because: match inputs.site_cut {
                SiteCut::Takeover => "the votes are down, and the primary's whole site is silent",
                SiteCut::Wait => "the votes are down, the primary's whole site is silent, and monitor.site_cut is wait",
            },
        },
        (_, Sighting::NotConfigured | Sighting::Alive) => {
            primary_dead("the votes are down, and nothing says that it lives")
        }
        // A witness that this host cannot ask must not keep a dead primary for ever, whatever `site_cut` says.
        (_, Sighting::NotAsked) => primary_dead(
            "the votes are down, and nothing says that it lives; no witness at its site could be asked, as if none were configured",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Inputs = Inputs {
        stalled: false,
        internet: Quorum::Ok,
        votes: Votes::AllUp,
        site: Sighting::NotConfigured,
        observers: Sighting::NotConfigured,
        agent: AgentSays::Nothing,
        down_when: DownWhen::All,
        half_dead: HalfDead::TakeoverAfter(Duration::from_secs(120)),
        site_cut: SiteCut::Takeover,
    };

    fn verdict(inputs: Inputs) -> (Verdict, May) {
        let judgement = judge(&inputs);
        (judgement.verdict, judgement.may)
    }

    #[test]
    fn each_row_of_the_design_in_its_order() {
        let dead = Inputs { votes: Votes::AllDown, ..WELL };
        let half = Inputs { votes: Votes::SomeDown { deciding: true }, ..WELL };
        let rows = [
            (Inputs { stalled: true, ..dead }, Verdict::Unsure, May::Not),
            (Inputs { internet: Quorum::TooFew, ..dead }, Verdict::WeAreCutOff, May::Not),
            (Inputs { internet: Quorum::NotYet, ..dead }, Verdict::Unsure, May::Not),
            (Inputs { votes: Votes::NoView, ..WELL }, Verdict::Unsure, May::Not),
            (Inputs { votes: Votes::Untested, ..WELL }, Verdict::Unsure, May::Not),
            (WELL, Verdict::PrimaryUp, May::Not),
            (half, Verdict::HalfDead, May::ActAfter(Duration::from_secs(120))),
            (Inputs { half_dead: HalfDead::Alert, ..half }, Verdict::HalfDead, May::Not),
            (Inputs { votes: Votes::SomeDown { deciding: false }, ..WELL }, Verdict::HalfDead, May::Not),
            (Inputs { down_when: DownWhen::Any, ..half }, Verdict::PrimaryDead, May::Act),
            (Inputs { observers: Sighting::Alive, ..dead }, Verdict::PathCut, May::Not),
            (Inputs { agent: AgentSays::Serves, ..dead }, Verdict::PathCut, May::Not),
            (Inputs { agent: AgentSays::Failed, ..dead }, Verdict::PrimaryDead, May::Act),
            (Inputs { agent: AgentSays::Stopped, ..dead }, Verdict::PrimaryDead, May::Act),
            (Inputs { observers: Sighting::NoView, ..dead }, Verdict::PrimaryDead, May::Act),
            (Inputs { site: Sighting::NoView, ..dead }, Verdict::Unsure, May::Not),
            (Inputs { site: Sighting::Silent, ..dead }, Verdict::SiteCut, May::Act),
            (Inputs { site: Sighting::Silent, site_cut: SiteCut::Wait, ..dead }, Verdict::SiteCut, May::Not),
            (Inputs { site: Sighting::NotAsked, site_cut: SiteCut::Wait, ..dead }, Verdict::PrimaryDead, May::Act),
            (Inputs { site: Sighting::Alive, ..dead }, Verdict::PrimaryDead, May::Act),
            (dead, Verdict::PrimaryDead, May::Act),
        ];
        for (inputs, expected, may) in rows {
            assert_eq!(verdict(inputs), (expected, may), "{inputs:?}");
        }
    }

    #[test]
    fn nothing_allows_acting_while_cut_off_stalled_or_without_evidence() {
        for votes in [Votes::NoView, Votes::Untested, Votes::AllUp, Votes::AllDown] {
            for internet in [Quorum::TooFew, Quorum::NotYet] {
                for stalled in [false, true] {
                    assert_eq!(judge(&Inputs { stalled, internet, votes, ..WELL }).may, May::Not);
                }
            }
        }
    }
}
