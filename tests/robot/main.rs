//! The robot as a whole, against real servers: what an administrator would see. The rigs lie in `tests/lab`.

#[path = "../lab/mod.rs"]
mod lab;

mod crashes;
mod dns_faults;
mod epoch;
mod takeover;
