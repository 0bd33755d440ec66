//! What `check` looks at beside the real things that it asks: files, certificates, other programs' settings.
//!
//! Everything here reads, within limits, and changes nothing. What it means is said in `daemon::readiness`.

pub mod certificates;
pub mod fail2ban;
pub mod tree;

pub use crate::wire::bound::{ALLOW, Names};
