//! The whole robot without I/O: events and `now` in, records and asks out.
//!
//! One rule: [`Engine::handle`] is the only door. It notes the event, lets the plan go on, and then walks the state
//! table until no row fits. It never waits and reads no clock. Read [`table`] first, then `core`.

mod conditions;
mod core;
mod data;
mod epoch;
pub mod event;
mod explain;
pub mod fsm;
pub mod ignored;
mod judging;
pub mod memory;
mod operator;
mod others;
mod passive;
mod readiness;
pub mod settings;
mod snapshot;
pub mod standing;
mod steps;
mod sync;
pub mod table;
mod transitions;

pub use self::snapshot::checks_snapshot;
pub use core::{Engine, Recovered};
pub use event::{Ask, Channels, Durability, Event, Happening, Order, Output, StepReport};
pub use memory::Memory;
pub use settings::{AgentAsked, Automatic, EpochStoreKind, InternetSettings, PrimaryStart, Settings};

#[cfg(test)]
mod tests;
