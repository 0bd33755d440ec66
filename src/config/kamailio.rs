//! The Kamailio of `pbx.driver.kamailio`: where it is asked, and what passive means to it.
//!
//! `build::kamailio` reads it; what is done with it is in `adapters::pbx::kamailio`.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

/// Kamailio over JSON-RPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kamailio {
    /// Where it is asked.
    pub jsonrpc: JsonRpc,
    /// Its unit.
    pub unit: String,
    /// How long its start may take.
    pub start_timeout: Duration,
    /// What passive means.
    pub passive: KamailioPassive,
    /// With a gate: the commands that make it read its tables again, in this order.
    pub reload: Vec<String>,
}

/// Where a JSON-RPC server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonRpc {
    /// Through its unix datagram socket.
    Unix(PathBuf),
    /// Over HTTP, on this host.
    Http(Url),
}

/// What passive means to Kamailio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KamailioPassive {
    /// Its unit is stopped.
    Stopped,
    /// It runs, and its script answers 503 unless this entry of a table is 1.
    Gate {
        /// The table (module htable).
        htable: String,
        /// The entry.
        key: String,
    },
}
