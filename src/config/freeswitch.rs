//! The FreeSWITCH of `pbx.driver.freeswitch`: where it is asked, and what passive means to it.
//!
//! `build::freeswitch` reads it; what is done with it is in `adapters::pbx::freeswitch`.

use std::net::SocketAddr;
use std::time::Duration;

use super::model::Secret;

/// FreeSWITCH: its unit and its event socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeswitch {
    /// Where its event socket listens.
    pub esl: SocketAddr,
    /// The event socket's password.
    pub password: Secret,
    /// Its SIP profiles, at least one.
    pub profiles: Vec<String>,
    /// Its unit.
    pub unit: String,
    /// How long its start may take, until its profiles run.
    pub start_timeout: Duration,
    /// What it does while this node is passive.
    pub passive: WhilePassive,
}

/// What a PBX does while this node is passive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhilePassive {
    /// Its unit is stopped.
    Stopped,
    /// It runs and refuses phones.
    Standby,
}
