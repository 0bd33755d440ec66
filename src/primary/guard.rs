//! `guard`: may the PBX of this node be started now? One question was asked, nothing is waited for.

use jiff::Timestamp;

use crate::units::{Duty, EpochRead, NodeName};

use super::memory::Memory;
use super::standing::{Standing, stand};

/// Whether the agent of this node runs: where the record cannot be read, it is what will step down once it can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentRuns {
    /// It answered.
    Yes,
    /// It answered, but has only just started and has not read the record yet.
    Fresh,
    /// It did not, and what came of asking.
    No(String),
}

/// The guard's answer; each with why, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The PBX may start.
    MayServe(String),
    /// It must not.
    MustNot(String),
    /// It could not be found out: it must not start now.
    NotKnown(String),
}

impl Answer {
    /// The reason.
    pub fn because(&self) -> &str {
        match self {
            Self::MayServe(because) | Self::MustNot(because) | Self::NotKnown(because) => because,
        }
    }
}

/// Whether there is nothing that a person's word could add: the record, read now, lets this node serve.
pub fn needs_no_word(read: &EpochRead, memory: &Memory, node: &NodeName, now: Timestamp) -> bool {
    memory.stop_asked(now).is_none() && matches!(stand(read, memory, node), Standing::Ours(_))
}

/// The answer to one reading.
pub fn guard(read: &EpochRead, memory: &Memory, node: &NodeName, agent: &AgentRuns, now: Timestamp) -> Answer {
    let standing = stand(read, memory, node);
    let turn = read.as_ref().ok().and_then(|seen| seen.record()).map_or(0, |record| record.number);
    if let Some(forced) = memory.forced_at(turn) {
        let beside = match &standing {
            Standing::Other(who) => format!("; {who}: if that one serves, both serve now"),
            _ => String::new(),
        };
        return Answer::MayServe(format!("a person said so: {}{beside}", forced.reason));
    }
    if let Some(asked) = memory.stop_asked(now)
        && !matches!(standing, Standing::Other(_))
    {
        return Answer::MustNot(format!(
            "a switchover is under way ({}); it ends by itself at {}",
            asked.plan, asked.until
        ));
    }
    match standing {
        Standing::Ours(turn) => Answer::MayServe(format!("this node holds the service (turn {turn})")),
        Standing::Nobody => Answer::MayServe("nobody ever claimed the service".to_owned()),
        Standing::Other(who) => Answer::MustNot(who),
        Standing::Unknown(why) => unknown(&why, memory, node, agent),
    }
}

fn unknown(why: &str, memory: &Memory, node: &NodeName, agent: &AgentRuns) -> Answer {
    match &memory.seen {
        None => {
            Answer::NotKnown(format!("{why}; no record was ever seen here, so nothing says that this node may serve"))
        }
        Some(seen) if seen.holder != *node => {
            Answer::MustNot(format!("{why}; {} held the service last (turn {})", seen.holder, seen.number))
        }
        Some(seen) => match (agent, memory.duty) {
            (AgentRuns::No(what), _) => Answer::NotKnown(format!(
                "{why}; this node held the service last (turn {}), but its agent, which would step down, does not run: {what}",
                seen.number
            )),
            (AgentRuns::Yes | AgentRuns::Fresh, Some(Duty::Serve | Duty::WithoutTrunks)) => Answer::MayServe(format!(
                "{why}; this node held the service last (turn {}), and its agent steps down once the record names another",
                seen.number
            )),
            (AgentRuns::Fresh, _) => Answer::NotKnown(format!(
                "{why}; this node held the service last (turn {}), but its agent has only just started and has not read the record either: it decides within seconds, and starts the PBX itself if that may serve",
                seen.number
            )),
            (AgentRuns::Yes, _) => Answer::NotKnown(format!(
                "{why}; this node held the service last (turn {}), but agent.epoch_unreadable says to wait",
                seen.number
            )),
        },
    }
}
