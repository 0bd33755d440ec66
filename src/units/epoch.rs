//! The epoch: a number that only rises and names who may serve.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{NodeName, PlanId};

/// Who holds the service, since when, by which plan.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The turn; the first claim ever writes 1.
    pub number: u64,
    /// The node that may serve.
    pub holder: NodeName,
    /// The plan that wrote the record: a cloned host has the same name, not the same id.
    pub id: PlanId,
    /// When it was written, by the writer's wall clock; whole seconds.
    pub since: Timestamp,
}

/// Why a text is no epoch record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEpochRecord {
    /// A newer or foreign format.
    #[error("the epoch record has an unknown version: {0:?} (this program writes v=1)")]
    Version(String),
    /// A field is missing, doubled or wrong.
    #[error("the epoch record has no good {0}")]
    Field(&'static str),
}

/// Longest record text: one DNS character-string.
pub const RECORD_BYTES_MAX: usize = 255;

/// The highest turn that is believed: a turn a second for a million years, so that the next one can always be written.
pub const NUMBER_MAX: u64 = 1 << 45;

impl fmt::Display for EpochRecord {
    /// `v=1 epoch=7 holder=pbx-b id=01K… since=2026-11-20T10:00:00Z`, the exact text in the zone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.since.strftime("%Y-%m-%dT%H:%M:%SZ");
        write!(f, "v=1 epoch={} holder={} id={} since={since}", self.number, self.holder, self.id)
    }
}

impl FromStr for EpochRecord {
    type Err = BadEpochRecord;

    /// Reads the text form. Unknown fields are let pass, so that v=1 can grow; doubled ones are not.
    fn from_str(text: &str) -> Result<Self, BadEpochRecord> {
        if text.len() > RECORD_BYTES_MAX {
            return Err(BadEpochRecord::Field("length"));
        }
        let field = |key: &'static str| -> Result<&str, BadEpochRecord> {
            let mut found = text.split(' ').filter_map(|part| part.strip_prefix(key)?.strip_prefix('='));
            match (found.next(), found.next()) {
                (Some(value), None) => Ok(value),
                _ => Err(BadEpochRecord::Field(key)),
            }
        };
        match field("v") {
            Ok("1") => {}
            Ok(other) => return Err(BadEpochRecord::Version(other.to_owned())),
            Err(_) => return Err(BadEpochRecord::Version(text.chars().take(40).collect())),
        }
        Ok(Self {
            number: field("epoch")?
                .parse()
                .ok()
                .filter(|n| (1..=NUMBER_MAX).contains(n))
                .ok_or(BadEpochRecord::Field("epoch"))?,
            holder: field("holder")?.parse().map_err(|_| BadEpochRecord::Field("holder"))?,
            id: field("id")?.parse().map_err(|_| BadEpochRecord::Field("id"))?,
            since: field("since")?.parse().map_err(|_| BadEpochRecord::Field("since"))?,
        })
    }
}

/// What stands at the store, as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EpochSeen {
    /// No record. Whether that means "nobody" depends on what this node remembers.
    Absent,
    /// One good record, with the exact bytes it was read from: they are the next swap's prerequisite.
    Held {
        /// The record.
        record: EpochRecord,
        /// Its text, byte for byte.
        raw: String,
    },
}

impl EpochSeen {
    /// The record as this program writes it.
    pub fn held(record: EpochRecord) -> Self {
        let raw = record.to_string();
        Self::Held { record, raw }
    }

    /// The record, if one stands there.
    pub fn record(&self) -> Option<&EpochRecord> {
        match self {
            Self::Absent => None,
            Self::Held { record, .. } => Some(record),
        }
    }
}

/// What came of reading: seen, or the line of advice that says why not.
pub type EpochRead = Result<EpochSeen, String>;

/// What came of one swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advance {
    /// Our record, with our id, was read back.
    Done,
    /// A third value stands there: somebody else was faster.
    Lost(EpochSeen),
    /// Not settled: the old value stands there still, or nothing could be read. Repeat the same swap.
    Unknown(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> EpochRecord {
        "v=1 epoch=7 holder=pbx-b id=01ARZ3NDEKTSV4RRFFQ69G5FAV since=2026-11-20T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_record_survives_its_text_form() {
        assert_eq!(record().to_string().parse::<EpochRecord>().unwrap(), record());
    }

    #[test]
    fn an_unknown_version_is_named() {
        let text = record().to_string().replace("v=1", "v=2");
        assert_eq!(text.parse::<EpochRecord>(), Err(BadEpochRecord::Version("2".into())));
    }

    #[test]
    fn a_doubled_or_missing_field_is_refused() {
        let text = record().to_string();
        assert_eq!(format!("{text} epoch=9").parse::<EpochRecord>(), Err(BadEpochRecord::Field("epoch")));
        assert_eq!(text.replace("holder=pbx-b ", "").parse::<EpochRecord>(), Err(BadEpochRecord::Field("holder")));
    }

    #[test]
    fn a_turn_after_which_no_other_could_be_written_is_refused() {
        let text = record().to_string().replace("epoch=7", &format!("epoch={}", u64::MAX));
        assert_eq!(text.parse::<EpochRecord>(), Err(BadEpochRecord::Field("epoch")));
    }
}
