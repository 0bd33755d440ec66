//! The robot as a whole, against real servers: what an administrator would see. The rigs lie in `tests/lab`.

#[path = "../lab/mod.rs"]
mod lab;

mod agents;
mod builtin;
mod crashes;
mod cuts;
mod data;
mod disks;
mod dns_faults;
mod docs;
mod epoch;
mod failback;
mod fence;
mod home;
mod passive;
mod people;
mod primaries;
mod process;
mod providers;
mod readiness;
mod snapshots;
mod sync;
mod takeover;
mod witness;
