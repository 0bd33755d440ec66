//! Checks of the primary, and the Internet targets: each asks one question and bounds its own time.
//!
//! They count nothing, repeat nothing and decide nothing: fall, rise and the verdict belong to [`crate::decision`], when
//! to ask to the daemon. What never left this host is `Unknown` ([`crate::host::reach`] knows). A probe is built
//! once, with its TLS roots and its client, and asked many times, one question at a time.

mod dns;
mod heartbeat;
mod http;
pub mod internet;
mod lookup;
mod sip;
mod tcp;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Check, CheckTarget, Config, Host, Secret};
use crate::ports::Probe;
use crate::units::tree::BeatSeen;
use crate::units::{ProbeAnswer, ProbeResult};

/// Builds the probe of one check; it asks `primary`'s address, whatever DNS says of the names in the check. With the
/// token of its agent the primary's heartbeat is judged by what it holds, not by its file's time.
///
/// # Errors
/// One line, when the check cannot be asked at all: an unreadable CA file, a host name that is none.
pub fn probe(check: &Check, primary: &Host, token: Option<&Secret>) -> Result<Box<dyn Probe>, String> {
    let address = primary.address();
    let built: Result<Box<dyn Probe>, String> = match &check.target {
        CheckTarget::Http { url, expect_status, expect_body, ca_file } => {
            let expect = http::Expect { status: expect_status.clone(), body: expect_body.clone() };
            http::HttpProbe::new(url, address, expect, ca_file.as_deref(), check.timeout)
                .map(|probe| Box::new(probe) as Box<dyn Probe>)
        }
        CheckTarget::Sip { host, port, transport, alive } => {
            sip::SipProbe::new(address, host, *port, *transport, alive.clone(), check.timeout)
                .map(|probe| Box::new(probe) as Box<dyn Probe>)
        }
        CheckTarget::Tcp { port } => {
            Ok(Box::new(tcp::TcpProbe { target: SocketAddr::new(address, *port), timeout: check.timeout }))
        }
        CheckTarget::Heartbeat { file, max_age } => {
            let teller = token.map(|token| Arc::new(heartbeat::Teller::new(primary.node.clone(), token.clone())));
            let (file, max_age, timeout) = (file.clone(), *max_age, check.timeout);
            Ok(Box::new(heartbeat::HeartbeatProbe { file, max_age, timeout, teller }))
        }
    };
    built.map_err(|why| format!("check {}: {why}", check.name))
}

/// The newest of the primary's heartbeat files, as far as the sync has brought them.
pub fn beat_seen(config: &Config) -> Option<BeatSeen> {
    let token = config.peer.as_ref().map(|peer| &peer.token);
    let files = config.monitor.checks.iter().filter_map(|check| match &check.target {
        CheckTarget::Heartbeat { file, .. } => Some(file),
        _ => None,
    });
    files.filter_map(|file| heartbeat::seen(file, &config.primary.node, token)).max_by_key(|beat| beat.written)
}

/// Measures a question that bounds itself.
async fn timed(question: impl Future<Output = ProbeAnswer>) -> ProbeResult {
    let start = Instant::now();
    let answer = question.await;
    ProbeResult { answer, latency: start.elapsed() }
}

/// Measures a question and ends it at `limit`.
async fn within(limit: Duration, question: impl Future<Output = ProbeAnswer>) -> ProbeResult {
    timed(async {
        match tokio::time::timeout(limit, question).await {
            Ok(answer) => answer,
            Err(_) => ProbeAnswer::Down(format!("no answer within {limit:?}")),
        }
    })
    .await
}
