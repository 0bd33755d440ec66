//! The working directory: walks it, reads what it must, and never writes into it unasked.
//!
//! What follows from what is seen is decided in [`crate::data`].

pub mod compare;
pub mod gate;
mod hints;
pub mod keeping;
pub mod ledger;
pub mod look;
pub mod snapshot;
pub mod vouch;
pub mod walk;
