//! The primary's side without I/O: may its PBX start ([`guard`]), may it go on ([`agent`]).
//!
//! Both judge the same record by the same rule ([`standing`]) and share one memory ([`memory`]). Nothing here knows of a
//! backup's plans: the epoch record is all that the two sides have in common, and a request to stop is only a request.
//! Read [`standing`] first, then [`agent`].

pub mod agent;
pub mod duty;
pub mod guard;
pub mod memory;
pub mod standing;

pub use agent::{Act, Agent, Ask, Event, Output};
pub use duty::{Policy, Ruling};
pub use guard::{AgentRuns, Answer};
pub use memory::{Forced, HeldBack, Learned, Memory, StopAsked};
pub use standing::{Standing, stand};

#[cfg(test)]
mod tests;
