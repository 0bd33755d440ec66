//! What the epoch record means on the primary. The number never falls, and "nobody" is believed only by a node that never
//! saw a record.

use crate::units::{EpochRead, EpochSeen, NodeName};

use super::memory::Memory;

/// What the record says to this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// This node holds the service, and since which turn.
    Ours(u64),
    /// Nobody ever claimed it: the primary serves, as it always did.
    Nobody,
    /// Another node holds it; who, for people.
    Other(String),
    /// Not known, and why.
    Unknown(String),
}

/// Judges a reading.
///
/// The primary goes by the holder's name alone: the id in a record handed over is that of the backup's plan.
pub fn stand(read: &EpochRead, memory: &Memory, node: &NodeName) -> Standing {
    let record = match read {
        Err(why) => return Standing::Unknown(format!("the epoch cannot be read: {why}")),
        Ok(EpochSeen::Held { record, .. }) => record,
        Ok(EpochSeen::Absent) => {
            return match &memory.seen {
                None => Standing::Nobody,
                Some(seen) => Standing::Unknown(format!(
                    "there is no epoch record, but turn {} was seen: the zone was changed by hand or restored",
                    seen.number
                )),
            };
        }
    };
    match &memory.seen {
        Some(seen) if record.number < seen.number => Standing::Unknown(format!(
            "turn {} of {} stands in the record, but turn {} was seen: the zone was changed by hand or restored",
            record.number, record.holder, seen.number
        )),
        Some(seen) if record.number == seen.number && record.id != seen.id => Standing::Unknown(format!(
            "turn {} stands in the record with another id than was seen: the zone was changed by hand",
            record.number
        )),
        _ if record.holder == *node => Standing::Ours(record.number),
        _ => Standing::Other(format!(
            "service held by {} since {} (turn {})",
            record.holder,
            record.since.strftime("%Y-%m-%d %H:%M:%S UTC"),
            record.number
        )),
    }
}
