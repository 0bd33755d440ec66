//! Bytes ⇄ values: formats that other programs write. No I/O, no clock, and nothing of the project is imported.
//!
//! Adapters and control read through it. What a value means to us is decided by whoever asks.

pub mod ami;
pub mod asterisk_conf;
pub mod bound;
pub mod esl;
pub mod fail2ban;
pub mod json_rpc;
pub mod rsync;
pub mod sealed;
pub mod x509;
