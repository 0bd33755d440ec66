//! RFC 2136 UPDATE with TSIG (RFC 8945) over TCP: moves records and keeps the epoch.
//!
//! It decides nothing: who may serve is the engine's question. Only the configured master is believed, only with
//! our key's signature, only with authority. `wire` turns bytes into judged answers without I/O, `line` frames
//! them over TCP, `master` asks and updates one zone, `rrset` compares values, `settle` asks the other name
//! servers, `advice` turns every fault into one line. Read [`epoch`] for the swap and [`records`] for the move.

pub mod advice;
mod conformance;
pub mod epoch;
mod line;
mod master;
pub mod records;
pub mod rrset;
mod settle;
mod site;
pub mod wire;

pub use epoch::DnsEpoch;
pub use records::DnsRecords;
pub use site::same_site_warning;

use std::time::Duration;

/// How long one call may take; the engine tries again after it.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until a TCP connection stands: two SYN retransmissions (1 s + 2 s) fit.
    pub connect: Duration,
    /// Until the answer to a request is there: Knot was seen to take a second now and then, and a slow disk needs more.
    pub answer: Duration,
    /// Until an accepted change is seen at the master and every reachable name server.
    pub settle: Duration,
    /// Until a swap is settled; after it the swap is `Unknown` and the engine repeats it.
    pub swap: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(4),
            answer: Duration::from_secs(5),
            settle: Duration::from_secs(5),
            swap: Duration::from_secs(12),
        }
    }
}
