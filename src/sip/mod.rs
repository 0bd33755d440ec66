//! SIP: the one door to its messages, and the client that asks whether a server lives.
//!
//! [`message`] alone knows the library that reads and writes bytes, so that the library can be exchanged;
//! [`client`] asks and waits; [`meaning`] says what an answer means. It authenticates nowhere, keeps no dialog and
//! serves no call. Both the checks of the primary and the PBX drivers' own probe ask through it.

pub mod client;
pub mod meaning;
pub mod message;
