//! The robot as a whole, against real servers: what an administrator would see. The rigs lie in `tests/lab`.

#[path = "../lab/mod.rs"]
mod lab;

mod failback;
mod people;
mod process;
mod takeover;
