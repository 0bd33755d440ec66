//! The partition matrix: every set of cuts between two sites, what must come of it, and what does.
//!
//! `plan` is the network, `oracle` what must come of a set of cuts (from the design alone), `laws` what the oracle must
//! never say; `drive` is the real engine in virtual time, `subsets` compares it with the oracle. `stage` is real daemons
//! on real hosts, `real` compares them with the same oracle.

#[path = "../lab/mod.rs"]
mod lab;

mod drive;
mod laws;
mod oracle;
mod plan;
mod real;
mod stage;
mod subsets;
