//! SIP: the one door to its messages, what both sides of a registration share, and the client that asks whether a
//! server lives.
//!
//! [`message`] alone knows the library that reads and writes bytes, so that the library can be exchanged; [`digest`]
//! proves passwords; [`resend`] has a transaction's timers. [`client`] asks one question and waits; [`meaning`] says
//! what an answer means. It keeps no dialog and serves no call. The checks of the primary, the PBX drivers' own probe
//! and the built-in PBX all speak through it.

pub mod client;
pub mod digest;
pub mod meaning;
pub mod message;
pub mod resend;
