//! What the primary's PBX may do now: one ruling from all that is known, worked out anew on every event.

use std::time::Duration;

use jiff::Timestamp;

use crate::units::policy::{StepDown, Unreadable};
use crate::units::{Duty, NodeName};

use super::memory::Memory;
use super::standing::Standing;

/// What the configuration decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Policy {
    /// `agent.step_down`.
    pub step_down: StepDown,
    /// `agent.epoch_unreadable.after`.
    pub unreadable_after: Duration,
    /// `agent.epoch_unreadable.do`.
    pub unreadable: Unreadable,
}

/// A duty and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// What the PBX may do.
    pub duty: Duty,
    /// Why, in one line.
    pub because: String,
    /// Another holds the service, and a policy or a person lets this one go on: both may serve.
    pub beside_another: bool,
}

/// The ruling. `unread_for`: since the record was last read and meant something.
pub fn rule(
    standing: &Standing,
    memory: &Memory,
    node: &NodeName,
    policy: Policy,
    unread_for: Duration,
    now: Timestamp,
) -> Ruling {
    let ruling = |duty, because: String| Ruling { duty, because, beside_another: false };
    if let Some(forced) = memory.forced() {
        let beside_another = matches!(standing, Standing::Other(_));
        return Ruling { duty: Duty::Serve, because: format!("a person said so: {}", forced.reason), beside_another };
    }
    let asked = memory.stop_asked(now);
    match standing {
        Standing::Other(who) if policy.step_down == StepDown::Alert => Ruling {
            duty: beside(policy),
            because: format!("{who}, but agent.step_down is alert"),
            beside_another: true,
        },
        Standing::Other(who) => ruling(beside(policy), who.clone()),
        _ if asked.is_some() => {
            let plan = asked.map_or_else(String::new, |asked| asked.plan.to_string());
            ruling(Duty::Stop, format!("asked for by the switchover {plan}"))
        }
        Standing::Ours(turn) => ruling(Duty::Serve, format!("this node holds the service (turn {turn})")),
        Standing::Nobody => ruling(Duty::Serve, "nobody ever claimed the service".to_owned()),
        Standing::Unknown(why) => unknown(why, memory, node, policy, unread_for),
    }
}

/// What the PBX may do while another holds the service.
fn beside(policy: Policy) -> Duty {
    match policy.step_down {
        StepDown::Stop => Duty::Stop,
        StepDown::UnregisterTrunks => Duty::WithoutTrunks,
        // It goes on as it is; what was given up or stopped while the record could not be read is not given back.
        StepDown::Alert => Duty::AsItIs,
    }
}

fn unknown(why: &str, memory: &Memory, node: &NodeName, policy: Policy, unread_for: Duration) -> Ruling {
    let ruling = |duty, because: String| Ruling { duty, because, beside_another: false };
    let seconds = policy.unreadable_after.as_secs();
    match &memory.seen {
        // It stepped down, and nothing has given the service back since.
        Some(seen) if seen.holder != *node => {
            ruling(beside(policy), format!("{why}; {} held the service last", seen.holder))
        }
        seen => {
            // Before the first claim ever nobody holds the service: what runs goes on, and the policy counts as ever.
            let (meanwhile, who) = match seen {
                Some(_) => (Duty::Serve, "this node held the service last"),
                None => (Duty::AsItIs, "no record was ever seen here"),
            };
            let over = format!("{why}, for more than {seconds} s (agent.epoch_unreadable)");
            match (policy.unreadable, unread_for >= policy.unreadable_after) {
                (Unreadable::Keep, _) => ruling(meanwhile, format!("{why}; {who}")),
                (Unreadable::UnregisterTrunks, false) => {
                    ruling(meanwhile, format!("{why}; trunks are given up after {seconds} s"))
                }
                (Unreadable::UnregisterTrunks, true) => ruling(Duty::WithoutTrunks, over),
                // What runs may run on for a while; nothing is started that would have to be stopped soon.
                (Unreadable::Stop, false) => ruling(Duty::AsItIs, format!("{why}; the PBX stops after {seconds} s")),
                (Unreadable::Stop, true) => ruling(Duty::Stop, over),
            }
        }
    }
}
