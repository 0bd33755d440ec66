//! The partition matrix: every set of cuts between two sites, what must come of it, and what does.
//!
//! `plan` is the network, `oracle` what must come of a set of cuts (from the design alone).

mod laws;
mod oracle;
mod plan;
