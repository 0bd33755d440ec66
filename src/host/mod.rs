//! What this machine offers to adapters: secrets, commands, HTTP requests, trust roots, clocks, the disk, single files
//! and their locks, the sequence of our beats.
//!
//! A line below the adapters, so that none of them has to import a sibling.

pub mod clock;
pub mod command;
pub mod disk;
pub mod file;
pub mod guarded;
pub mod here;
pub mod http;
pub mod keys;
pub mod lock;
pub mod open_files;
pub mod pinned;
pub mod reach;
pub mod secret;
pub mod sequence;
pub mod shown;
pub mod systemctl;
pub mod tls;
pub mod tolerant;
