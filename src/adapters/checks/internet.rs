//! Internet targets: is the rest of the world there?
//!
//! Stricter than the checks of the primary: an answer with a bad certificate is a captive portal, not the Internet.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::CONNECTION;
use reqwest::{Client, Url};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::lookup::Lookup;
use super::{dns, http, within};
use crate::config::{InternetKind, InternetTarget};
use crate::host::reach::{self, Fault};
use crate::host::tls;
use crate::host::tolerant::{server_name, trouble};
use crate::ports::{Answer, Probe};
use crate::units::{ProbeAnswer, ProbeResult};

/// Builds the probe of one target.
///
/// # Errors
/// One line, when it cannot be asked at all: a host that is none, a system without CA certificates.
pub fn probe(target: &InternetTarget, timeout: Duration) -> Result<Box<dyn Probe>, String> {
    let (lookup, way) = match &target.kind {
        InternetKind::Tls { host, port } => {
            let name = server_name(host)?;
            (Lookup::new(host, *port), Way::Tls { connector: TlsConnector::from(Arc::new(checked_tls()?)), name })
        }
        InternetKind::Tcp { host, port } => (Lookup::new(host, *port), Way::Tcp),
        InternetKind::Dns { host, port } => (Lookup::new(host, *port), Way::Dns),
        InternetKind::Http { url } => {
            let unfit = || format!("internet target {}: no http or https URL with a host", target.name);
            let url = Url::parse(url).map_err(|_| unfit())?;
            let port = url.port_or_known_default().ok_or_else(unfit)?;
            let lookup = Lookup::new(url.host_str().ok_or_else(unfit)?, port);
            let tls = if url.scheme() == "https" { checked_tls()? } else { tls::client_without_roots()? };
            let builder = http::bare_client(tls).dns_resolver(lookup.clone());
            let client = builder.build().map_err(|e| format!("the HTTP client cannot be set up: {e}"))?;
            (lookup, Way::Http { client, url })
        }
    };
    Ok(Box::new(Target { lookup, way, timeout }))
}

fn checked_tls() -> Result<rustls::ClientConfig, String> {
    if tls::system_roots().is_empty() {
        return Err("this system has no CA certificates: install ca-certificates, or use tcp:// targets".to_owned());
    }
    tls::client(None)
}

struct Target {
    lookup: Lookup,
    way: Way,
    timeout: Duration,
}

enum Way {
    Tls { connector: TlsConnector, name: ServerName<'static> },
    Tcp,
    Dns,
    Http { client: Client, url: Url },
}

impl Probe for Target {
    fn ask(&self) -> Answer<'_, ProbeResult> {
        Box::pin(within(self.timeout, self.put()))
    }
}

impl Target {
    async fn put(&self) -> ProbeAnswer {
        let deadline = Instant::now() + self.timeout;
        let addresses = match self.lookup.addresses().await {
            Ok(addresses) => addresses,
            Err(why) => return ProbeAnswer::Down(why),
        };
        let asked = match &self.way {
            Way::Tls { connector, name } => {
                first_answer(&addresses, deadline, |target| handshake(connector, name, target)).await
            }
            Way::Tcp => first_answer(&addresses, deadline, connect).await,
            Way::Dns => first_answer(&addresses, deadline, dns::ask).await,
            Way::Http { client, url } => return fetch(client, url, addresses[0]).await,
        };
        asked.map_or_else(ProbeAnswer::from, ProbeAnswer::up)
    }
}

/// Asks one address after the other, each within its share of the time that is left.
///
/// Theirs outweighs ours: a host without IPv6 shall not call a dead IPv4 address unknown.
async fn first_answer<F: Future<Output = Result<String, Fault>>>(
    addresses: &[SocketAddr],
    deadline: Instant,
    ask: impl Fn(SocketAddr) -> F,
) -> Result<String, Fault> {
    let mut worst = None;
    for (asked, target) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - asked).unwrap_or(u32::MAX);
        let now = Instant::now();
        let share = deadline.saturating_duration_since(now) / left;
        let fault = match timeout_at(now + share, ask(*target)).await {
            Ok(Ok(seen)) => return Ok(seen),
            Ok(Err(fault)) => fault,
            Err(_) => Fault::Theirs("no answer in time".to_owned()),
        };
        if !matches!(worst, Some(Fault::Theirs(_))) {
            worst = Some(fault);
        }
    }
    Err(worst.unwrap_or_else(|| Fault::Theirs("no address".to_owned())))
}

async fn connect(target: SocketAddr) -> Result<String, Fault> {
    TcpStream::connect(target).await.map_err(|e| reach::fault(&e, target))?;
    Ok("connected".to_owned())
}

async fn handshake(connector: &TlsConnector, name: &ServerName<'static>, target: SocketAddr) -> Result<String, Fault> {
    let stream = TcpStream::connect(target).await.map_err(|e| reach::fault(&e, target))?;
    match connector.connect(name.clone(), stream).await {
        Ok(_) => Ok("certificate good".to_owned()),
        Err(error) => Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(bad @ rustls::Error::InvalidCertificate(_)) => Fault::Theirs(portal(bad)),
            _ => reach::fault(&error, target),
        }),
    }
}

async fn fetch(client: &Client, url: &Url, target: SocketAddr) -> ProbeAnswer {
    match client.get(url.clone()).header(CONNECTION, "close").send().await {
        Ok(response) if response.status().as_u16() < 500 => ProbeAnswer::up(response.status().to_string()),
        Ok(response) => ProbeAnswer::Down(response.status().to_string()),
        Err(error) => match bad_certificate(&error) {
            Some(bad) => ProbeAnswer::Down(portal(bad)),
            None => http::failed(&error, target),
        },
    }
}

fn portal(bad: &rustls::Error) -> String {
    format!("{} (a captive portal?)", trouble(bad))
}

fn bad_certificate(error: &reqwest::Error) -> Option<&rustls::Error> {
    let inner = reach::io_cause(error)?.get_ref()?;
    inner.downcast_ref::<rustls::Error>().filter(|e| matches!(e, rustls::Error::InvalidCertificate(_)))
}
