//! DNS records that move with the service.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Mode, Side, StepOutcome};

/// One RRset that moves: where it is updated, its name and its type.
///
/// The text form, used as the key in JSON maps, is `server zone name type`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RecordKey {
    /// The master, `ADDRESS:PORT`.
    pub server: String,
    /// The zone, lower case, without the final dot.
    pub zone: String,
    /// The owner name, lower case, without the final dot.
    pub name: String,
    /// `A`, `AAAA`, `SRV`, …
    pub rtype: String,
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.server, self.zone, self.name, self.rtype)
    }
}

impl FromStr for RecordKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(4, ' ').map(str::to_owned);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(server), Some(zone), Some(name), Some(rtype)) => Ok(Self { server, zone, name, rtype }),
            _ => Err(format!("not a record key: {text:?}")),
        }
    }
}

impl TryFrom<String> for RecordKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<RecordKey> for String {
    fn from(key: RecordKey) -> Self {
        key.to_string()
    }
}

/// The values of an RRset in presentation form, sorted; an empty list means that the RRset does not exist.
pub type RecordValues = Vec<String>;

/// What an RRset answered with when we last verified it.
pub type Verified = BTreeMap<RecordKey, RecordValues>;

/// The order to move the records to one side.
#[derive(Debug, Clone)]
pub struct Redirect {
    /// Whose lists the records shall bear.
    pub to: Side,
    /// Look only, or move and verify.
    pub mode: Mode,
    /// The epoch record that this plan wrote, byte for byte: a prerequisite in the epoch's zone, and read at its
    /// master immediately before a move in any other zone. `None` with the store `local`.
    pub epoch_raw: Option<String>,
    /// What each record last verified as; where missing, the other side's list stands for it.
    pub last_verified: Verified,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Redirected {
    /// Done when the master and every reachable name server answer with the wanted lists.
    pub outcome: StepOutcome,
    /// What was verified; to be remembered for the next move.
    pub verified: Verified,
    /// What each record answers with, for `status`.
    pub views: Vec<RecordView>,
    /// Name servers that did not answer; they are asked again for an hour.
    pub unreachable: Vec<String>,
}

/// One record as the name servers tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordView {
    /// Owner name.
    pub name: String,
    /// Record type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// `SERVER: VALUES` for each server asked.
    pub seen: Vec<String>,
    /// What shall stand there.
    pub expected: Vec<String>,
}
