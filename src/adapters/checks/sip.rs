//! The SIP check: OPTIONS to the primary, judged by what an answer means for the life of the server.

use std::net::IpAddr;
use std::time::Duration;

use super::timed;
use crate::config::SipTransport;
use crate::ports::{Answer, Probe};
use crate::sip::client::{self, Endpoint};
use crate::sip::meaning;
use crate::units::ProbeResult;

/// Asks OPTIONS.
pub struct SipProbe {
    endpoint: Endpoint,
    alive: Vec<u16>,
    timeout: Duration,
}

impl SipProbe {
    /// `alive`: further final codes that count as alive.
    pub fn new(
        address: IpAddr,
        host: &str,
        port: u16,
        transport: SipTransport,
        alive: Vec<u16>,
        timeout: Duration,
    ) -> Result<Self, String> {
        Ok(Self { endpoint: Endpoint::with_system_roots(address, host, port, transport)?, alive, timeout })
    }
}

impl Probe for SipProbe {
    fn ask(&self) -> Answer<'_, ProbeResult> {
        // The client bounds its own time: only it can tell silence from a server that says 100 and no more.
        Box::pin(timed(async { meaning::judge(&client::options(&self.endpoint, self.timeout).await, &self.alive) }))
    }
}
