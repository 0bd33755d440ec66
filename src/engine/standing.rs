//! What an epoch record means to this node: the number never falls, and "nobody" is believed only by a
//! node that never saw one.

use crate::units::{EpochRead, EpochSeen, NodeName};

use super::memory::Memory;

/// What the record at the store means to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Not read yet.
    NotRead,
    /// It could not be read, and why.
    Unreadable(String),
    /// There is none, and this node never saw one.
    Nobody,
    /// Ours: our name, and the id of our claim.
    Ours,
    /// Held by the other node of the pair; `newer`: by a turn that came after everything we did.
    Peer {
        /// The turn came after our claim, or instead of it.
        newer: bool,
    },
    /// Held by somebody who is not of this pair, or by a host with our name that is not us; and who.
    Stranger(String),
    /// Absent or lower than remembered: an old copy of the zone, or a person's hand; and what stands there.
    Low(String),
}

/// Judges a reading.
pub fn stand(read: Option<&EpochRead>, memory: &Memory, node: &NodeName, peer: &NodeName) -> Standing {
    let seen = match read {
        None => return Standing::NotRead,
        Some(Err(why)) => return Standing::Unreadable(why.clone()),
        Some(Ok(seen)) => seen,
    };
    let EpochSeen::Held { record, .. } = seen else {
        return if memory.epoch_seen_max == 0 || memory.absent_accepted {
            Standing::Nobody
        } else {
            Standing::Low(format!("there is no record, but turn {} was seen", memory.epoch_seen_max))
        };
    };
    if record.number < memory.epoch_seen_max {
        return Standing::Low(format!(
            "turn {} of {} stands there, but turn {} was seen",
            record.number, record.holder, memory.epoch_seen_max
        ));
    }
    // Of two records of one turn only one was ever written: another's beside our written claim means that we lost.
    let newer = memory.claim.as_ref().is_none_or(|claim| {
        record.number > claim.number || (record.number == claim.number && memory.written.is_some())
    });
    if record.holder == *node {
        if memory.claimed(record) {
            Standing::Ours
        } else {
            Standing::Stranger(format!("a host named {node} whose claim {} is not ours", record.id))
        }
    } else if record.holder == *peer {
        Standing::Peer { newer }
    } else {
        Standing::Stranger(format!("{}, which is neither {node} nor {peer}", record.holder))
    }
}

/// Why nothing can be claimed now; `None`: it can.
pub fn not_claimable(standing: &Standing) -> Option<String> {
    match standing {
        Standing::Nobody | Standing::Ours | Standing::Peer { .. } => None,
        Standing::NotRead => Some("the epoch has not been read yet".to_owned()),
        Standing::Unreadable(why) => Some(format!("the epoch cannot be read: {why}")),
        Standing::Stranger(who) => Some(format!(
            "the service is held by {who}; find that host, or, if this one has lost its state directory and nobody serves, take over by hand with --without-claim"
        )),
        Standing::Low(what) => Some(format!(
            "the epoch record is not as it was: {what}; see who changed the zone, then put the record back"
        )),
    }
}
