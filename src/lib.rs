//! pbx-failover: turns on a backup PBX when the primary dies, and proves every step.

pub mod adapters;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod decision;
pub mod engine;
pub mod host;
pub mod ports;
pub mod sip;
pub mod store;
pub mod takeover;
pub mod units;
