//! The partition matrix: every set of cuts between two sites, what must come of it, and what does.
//!
//! `plan` is the network, `oracle` what must come of a set of cuts (from the design alone), `laws` what the oracle must
//! never say; `drive` is the real engine in virtual time, `subsets` compares it with the oracle. `stage` is real daemons
//! on real hosts, `real` compares their verdicts with the same oracle, `serving` what they do. `page` writes docs/partition-matrix.md.

#[path = "../lab/mod.rs"]
mod lab;

mod drive;
mod laws;
mod oracle;
mod page;
mod plan;
mod real;
mod serving;
mod stage;
mod subsets;
