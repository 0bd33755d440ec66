//! What the voting checks say together.

use crate::units::{CheckKind, Now};

use super::tally::{Tally, View};

/// What the votes say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Votes {
    /// A vote has no view.
    NoView,
    /// A vote has never been up.
    Untested,
    /// All are up.
    AllUp,
    /// Some are down; `deciding`: one of those that decide is.
    SomeDown {
        /// A deciding check is among the down.
        deciding: bool,
    },
    /// All are down.
    AllDown,
}

/// The votes and how many say what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoteCount {
    /// How many are up.
    pub up: usize,
    /// How many vote.
    pub of: usize,
    /// Together.
    pub votes: Votes,
}

/// Whether a check decides: if there is a sip check, the sip checks do; else every vote does.
pub fn decides(kind: CheckKind, tallies: &[Tally]) -> bool {
    let sip = tallies.iter().any(|t| t.settings().kind == CheckKind::Sip);
    match kind {
        CheckKind::Heartbeat => false,
        CheckKind::Sip => true,
        CheckKind::Http | CheckKind::Tcp => !sip,
    }
}

/// Counts the votes.
pub fn count(tallies: &[Tally], now: Now) -> VoteCount {
    let voting: Vec<_> = tallies.iter().filter(|t| t.settings().votes()).collect();
    let of = voting.len();
    let with = |view: View| voting.iter().filter(|t| t.view(now) == view).count();
    let up = with(View::Up);
    let down = with(View::Down);
    let votes = if with(View::Untested) > 0 {
        Votes::Untested
    } else if with(View::None) > 0 || of == 0 {
        Votes::NoView
    } else if down == 0 {
        Votes::AllUp
    } else if up == 0 {
        Votes::AllDown
    } else {
        let deciding = voting.iter().any(|t| t.view(now) == View::Down && decides(t.settings().kind, tallies));
        Votes::SomeDown { deciding }
    };
    VoteCount { up, of, votes }
}
