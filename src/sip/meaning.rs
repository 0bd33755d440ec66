//! What the end of a SIP question means for the life of the server.
//!
//! It asks nothing; [`super::client`] does.

use super::client::SipEnd;
use super::message::Reply;
use crate::units::ProbeAnswer;

/// Judges an end; final codes in `alive` count as life whatever they are.
///
/// Any final answer is life: a healthy PBX answers a stranger with 401, 403 or 404. Only what says "I cannot" is
/// not: 408, 500, 502, 504, and a 503 that gives no reason to believe that it works at its limit.
pub fn judge(end: &SipEnd, alive: &[u16]) -> ProbeAnswer {
    match end {
        SipEnd::Final { reply, certificate } => match (life(reply, alive), certificate) {
            (ProbeAnswer::Up { seen, warning: None }, Some(trouble)) => {
                ProbeAnswer::Up { seen, warning: Some(trouble.clone()) }
            }
            (ProbeAnswer::Up { seen, warning: Some(first) }, Some(trouble)) => {
                ProbeAnswer::Up { seen, warning: Some(format!("{first}; {trouble}")) }
            }
            (answer, _) => answer,
        },
        SipEnd::Refused(why) => ProbeAnswer::Down(why.clone()),
        SipEnd::Silent { after, provisional: None } => {
            ProbeAnswer::Down(format!("no answer within {after:?}: dead, frozen, or this host is banned there"))
        }
        SipEnd::Silent { after, provisional: Some(code) } => {
            ProbeAnswer::Down(format!("said {code} and then nothing within {after:?}"))
        }
        SipEnd::Malformed(why) => ProbeAnswer::Down(format!("answers, but not with SIP: {why}")),
        SipEnd::NotSent(why) => ProbeAnswer::Unknown(why.clone()),
    }
}

fn life(reply: &Reply, alive: &[u16]) -> ProbeAnswer {
    let seen = format!("{} {}", reply.code, reply.reason).trim_end().to_owned();
    if alive.contains(&reply.code) {
        return ProbeAnswer::up(seen);
    }
    match reply.code {
        408 | 500 | 502 | 504 => ProbeAnswer::Down(format!("refusing: {seen}")),
        503 => match load(reply) {
            Some(warning) => ProbeAnswer::Up { seen, warning: Some(warning) },
            None => ProbeAnswer::Down(format!("refusing: {seen}")),
        },
        _ => ProbeAnswer::up(seen),
    }
}

/// The warning, when a 503 comes from a server at its limit and not from one that does not serve.
///
/// FreeSWITCH says "Maximum Calls In Progress" and "System Busy" when full, "System Paused" when on standby.
fn load(reply: &Reply) -> Option<String> {
    let reason = reply.reason.to_ascii_lowercase();
    if reason.contains("system paused") {
        return None;
    }
    let full = reason.contains("maximum calls") || reason.contains("system busy");
    match reply.retry_after_s {
        Some(seconds) => Some(format!("overloaded, asks to come back in {seconds} s")),
        None if full => Some("overloaded".to_owned()),
        None => None,
    }
}
