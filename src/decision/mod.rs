//! WHETHER: from answers of checks to a verdict, and whether anything stands against acting on it.
//!
//! Nothing here knows how a takeover is carried out. Start with [`verdict`]: the table is there; [`tally`] and
//! [`quorum`] make its inputs.

pub mod beats;
pub mod observer;
pub mod quorum;
pub mod stall;
pub mod tally;
pub mod verdict;
pub mod votes;

pub use quorum::{Quorum, Targets};
pub use stall::{StallGuard, WallClock};
pub use tally::{CheckSettings, Tally, View};
pub use verdict::{AgentSays, Inputs, Judgement, May, judge};
pub use votes::{VoteCount, Votes};
