//! A request's body or query becomes a value, or one line that says what is wrong with it.
//!
//! Everything is checked here that can be checked without knowing the robot's state; unknown fields are refused, since
//! a flag with a slip in its name must not be ignored by a command that moves telephones.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::units::NodeName;
use crate::units::journal::{HistoryOrder, HistoryQuery};
use crate::units::operator::{Command, REASON_CHARS_MAX, Request};

/// Largest body: a reason of its full length in any script, escaped, fits several times.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

/// The commands, as they stand in the path after `/v1/`.
pub const REQUEST_NAMES: [&str; 7] = ["takeover", "failback", "pause", "unpause", "continue", "abandon", "ack"];

/// Lines of history when the query gives no limit.
const HISTORY_LIMIT_DEFAULT: u32 = 100;

/// Most lines of history in one answer.
const HISTORY_LIMIT_MAX: u32 = 1000;

/// Longest kind of a line of history.
const KIND_BYTES_MAX: usize = 40;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Takeover {
    reason: String,
    #[serde(default)]
    primary_is_stopped: bool,
    #[serde(default)]
    although_cut_off: bool,
    #[serde(default)]
    without_claim: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Failback {
    reason: String,
    #[serde(default)]
    wait: bool,
    #[serde(default)]
    cut_calls: bool,
    #[serde(default)]
    undo: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pause {
    reason: String,
    until: Timestamp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Continue {
    reason: String,
    #[serde(default)]
    fenced_by_hand: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Abandon {
    reason: String,
    #[serde(default)]
    to: Option<NodeName>,
}

/// For the commands that change nothing for the phones: they need no reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    #[serde(default)]
    reason: String,
}

/// Reads the body of `POST /v1/{name}`.
///
/// # Errors
/// One line that names the field.
pub fn request(name: &str, body: &[u8], by: String) -> Result<Request, String> {
    let (command, reason) = match name {
        "takeover" => {
            let Takeover { reason, primary_is_stopped, although_cut_off, without_claim } = json(body)?;
            (Command::Takeover { primary_is_stopped, although_cut_off, without_claim }, reason)
        }
        "failback" => {
            let Failback { reason, wait, cut_calls, undo } = json(body)?;
            (Command::Failback { wait, cut_calls, undo }, reason)
        }
        "pause" => {
            let Pause { reason, until } = json(body)?;
            let until = Timestamp::from_second(until.as_second()).map_err(|e| format!("until: {e}"))?;
            (Command::Pause { until }, reason)
        }
        "continue" => {
            let Continue { reason, fenced_by_hand } = json(body)?;
            (Command::Continue { fenced_by_hand }, reason)
        }
        "abandon" => {
            let Abandon { reason, to } = json(body)?;
            (Command::Abandon { to }, reason)
        }
        "unpause" | "ack" => {
            let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
            let command = if name == "ack" { Command::Ack } else { Command::Unpause };
            let Plain { reason } = json(body)?;
            return Ok(Request { command, reason: sound(&reason)?, by });
        }
        _ => return Err(format!("there is no command {name:?}")),
    };
    let reason = sound(&reason)?;
    if reason.is_empty() {
        return Err("reason: say in a few words why; it is recorded".to_owned());
    }
    Ok(Request { command, reason, by })
}

/// The query of `GET /v1/history`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryParameters {
    since: Option<Timestamp>,
    limit: Option<u32>,
    kind: Option<String>,
    #[serde(default)]
    order: HistoryOrder,
}

impl HistoryParameters {
    /// Checks them.
    ///
    /// # Errors
    /// One line that names the parameter.
    pub fn query(self) -> Result<HistoryQuery, String> {
        let limit = self.limit.unwrap_or(HISTORY_LIMIT_DEFAULT);
        if !(1..=HISTORY_LIMIT_MAX).contains(&limit) {
            return Err(format!("limit: 1 to {HISTORY_LIMIT_MAX}, not {limit}"));
        }
        if self.kind.as_ref().is_some_and(|kind| kind.len() > KIND_BYTES_MAX) {
            return Err(format!("kind: at most {KIND_BYTES_MAX} characters"));
        }
        Ok(HistoryQuery { since: self.since, kind: self.kind, order: self.order, limit })
    }
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let first = body.trim_ascii().first();
    if first.is_some_and(|first| *first != b'{') {
        // serde would read a list as fields in their order.
        return Err("the body is no JSON object".to_owned());
    }
    if first.is_none() {
        return Err("the body is empty; send a JSON object, with a reason at least: {\"reason\":\"…\"}".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| {
        let line = error.to_string();
        // The message quotes what was sent.
        line.chars().filter(|c| !c.is_control()).take(300).collect()
    })
}

/// A reason that can stand in a log line.
fn sound(reason: &str) -> Result<String, String> {
    let reason = reason.trim();
    if reason.chars().count() > REASON_CHARS_MAX {
        return Err(format!("reason: at most {REASON_CHARS_MAX} characters"));
    }
    if reason.chars().any(char::is_control) {
        return Err("reason: one line, without control characters".to_owned());
    }
    Ok(reason.to_owned())
}
