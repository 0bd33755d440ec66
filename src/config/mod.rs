//! `failover.yaml` → values that cannot be wrong.
//!
//! [`model`] holds the checked values that the rest of the program reads. Nothing here talks to the network.

pub mod model;

pub use model::*;
