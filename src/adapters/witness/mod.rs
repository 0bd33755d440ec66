//! Witnesses at the primary's site: whether anything there answers, which tells a dead primary from a dead site.
//!
//! One answer is enough, so every answer counts, a refused connection too; how many say so, and what follows, belongs
//! to [`crate::decision`]. A question that never left this host is `Unknown` ([`crate::host::reach`] knows). The echo
//! itself is `echo`'s.

mod echo;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::config::{SiteKind, SitePlace};
use crate::host::reach;
use crate::ports::{Answer, Probe};
use crate::units::{ProbeAnswer, ProbeResult};

/// The probe of one place; an answer may take `timeout`.
pub fn probe(place: &SitePlace, timeout: Duration) -> Box<dyn Probe> {
    match place.kind {
        SiteKind::Tcp(target) => Box::new(Connection { target, timeout }),
        SiteKind::Icmp(target) => Box::new(Echo { target, timeout }),
    }
}

/// Connects and hangs up.
struct Connection {
    target: SocketAddr,
    timeout: Duration,
}

impl Probe for Connection {
    fn ask(&self) -> Answer<'_, ProbeResult> {
        Box::pin(within(self.timeout, async {
            match TcpStream::connect(self.target).await {
                Ok(_) => ProbeAnswer::up("connected"),
                // Whoever refuses is there.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    ProbeAnswer::up("refused, so somebody is there")
                }
                Err(error) => reach::fault(&error, self.target).into(),
            }
        }))
    }
}

/// Asks for an echo.
struct Echo {
    target: IpAddr,
    timeout: Duration,
}

impl Probe for Echo {
    fn ask(&self) -> Answer<'_, ProbeResult> {
        Box::pin(within(self.timeout, echo::ask(self.target, self.timeout)))
    }
}

/// Measures a question and ends it at `limit`.
async fn within(limit: Duration, question: impl Future<Output = ProbeAnswer>) -> ProbeResult {
    let start = Instant::now();
    let answer = tokio::time::timeout(limit, question)
        .await
        .unwrap_or_else(|_| ProbeAnswer::Down(format!("no answer within {limit:?}")));
    ProbeResult { answer, latency: start.elapsed() }
}
