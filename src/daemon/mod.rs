//! The daemon: the one loop and the one clock around the engine.
//!
//! [`run`] reads the configuration and the store, builds the adapters ([`world`]) and turns the loop (`turn`) until it
//! is told to stop. Nothing slow happens on the loop: probes ask in tasks of their own (`probers`), batches are
//! written by the store's thread, steps are carried out in `steps`, messages leave through `outbox`.

mod data;
mod desk;
pub mod guard;
pub mod home;
mod messages;
mod observer;
mod outbox;
mod passive;
mod peer;
mod primary;
mod probers;
pub mod readiness;
mod service;
pub mod settings;
mod start;
mod steps;
mod sync;
mod tasks;
mod trunks;
mod turn;
mod under_way;
mod watch;
pub mod world;

pub use service::start_log;
pub use start::{Stopped, run};
