//! The check that only connects.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::within;
use crate::host::reach;
use crate::ports::{Answer, Probe};
use crate::units::{ProbeAnswer, ProbeResult};

/// Connects and hangs up.
pub struct TcpProbe {
    /// Where to.
    pub target: SocketAddr,
    /// How long it may take.
    pub timeout: Duration,
}

impl Probe for TcpProbe {
    fn ask(&self) -> Answer<'_, ProbeResult> {
        Box::pin(within(self.timeout, async {
            match TcpStream::connect(self.target).await {
                Ok(_) => ProbeAnswer::up("connected"),
                Err(error) => reach::fault(&error, self.target).into(),
            }
        }))
    }
}
