//! A small authoritative name server for one zone, so that the demo's robot meets what it meets at BIND: queries,
//! RFC 2136 UPDATE with prerequisites, TSIG (RFC 8945).
//!
//! It is for loopback and for a dozen records: no zone transfer, no delegation, no DNSSEC, no file. `zone` holds the
//! records, `update` the rules of UPDATE, `authority` turns a request's bytes into an answer's; none of them has a
//! socket or a clock. `serve` carries bytes over UDP and TCP.

mod authority;
mod serve;
mod update;
mod zone;

pub use authority::{Authority, Transport};
pub use serve::Server;
pub use zone::Zone;

#[cfg(test)]
mod tests;
