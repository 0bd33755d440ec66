//! The web check: asks for a URL at the primary's address, whatever DNS says of the URL's host.
//!
//! After a takeover the PBX's name points at ourselves: a check that asked the name would find the primary alive.
//! The name still stands in the Host header and in TLS. No redirect is followed, since it could lead anywhere.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{CONNECTION, HOST, HeaderValue};
use reqwest::{Client, ClientBuilder, Response, Url, redirect};

use super::within;
use crate::host::reach;
use crate::host::tls;
use crate::host::tolerant::{Tolerant, UNKNOWN_ISSUER};
use crate::ports::{Answer, Probe};
use crate::units::{ProbeAnswer, ProbeResult};

/// How much of a body is searched for the expected text: a login page has some ten thousand bytes.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// What a good answer is.
#[derive(Debug, Clone)]
pub struct Expect {
    /// Good status codes.
    pub status: RangeInclusive<u16>,
    /// A text that the first [`BODY_BYTES_MAX`] bytes of the body must hold; empty: the body is not read.
    pub body: String,
}

/// Asks for one URL.
pub struct HttpProbe {
    client: Client,
    url: Url,
    host: HeaderValue,
    target: SocketAddr,
    tolerant: Option<Tolerant>,
    expect: Expect,
    timeout: Duration,
}

impl HttpProbe {
    /// `ca_file`: an own CA (PEM), beside the system's.
    pub fn new(
        url: &str,
        address: IpAddr,
        expect: Expect,
        ca_file: Option<&Path>,
        timeout: Duration,
    ) -> Result<Self, String> {
        // The URL itself is not printed: it may hold a password.
        let unfit = || "its URL is no http or https URL with a host".to_owned();
        let mut url = Url::parse(url).map_err(|_| unfit())?;
        let name = url.host_str().ok_or_else(unfit)?.to_owned();
        let port = url.port_or_known_default().ok_or_else(unfit)?;
        let target = SocketAddr::new(address, port);
        let host = match url.port() {
            Some(port) => format!("{name}:{port}"),
            None => name.clone(),
        };
        let host = HeaderValue::from_str(&host).map_err(|_| unfit())?;
        let tolerant = match url.scheme() {
            "https" => Some(Tolerant::new(&name, tls::roots(ca_file)?)?),
            "http" => None,
            _ => return Err(unfit()),
        };
        let config = match &tolerant {
            Some(tolerant) => tolerant.config().as_ref().clone(),
            None => tls::client_without_roots()?,
        };
        // A name in the URL is resolved to the primary's address; an address in it, which no resolver is asked for,
        // is exchanged. The Host header and the certificate's name stay the URL's.
        let builder = bare_client(config).resolve(&name, target);
        if url.domain().is_none() {
            url.set_ip_host(address).map_err(|()| unfit())?;
        }
        let client = builder.build().map_err(|e| format!("the HTTP client cannot be set up: {e}"))?;
        Ok(Self { client, url, host, target, tolerant, expect, timeout })
    }

    async fn put(&self) -> ProbeAnswer {
        let request = self.client.get(self.url.clone()).header(HOST, self.host.clone()).header(CONNECTION, "close");
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return failed(&error, self.target),
        };
        let status = response.status();
        if !self.expect.status.contains(&status.as_u16()) {
            let (low, high) = (self.expect.status.start(), self.expect.status.end());
            return ProbeAnswer::Down(format!("{status}, expected {low}-{high}"));
        }
        if !self.expect.body.is_empty() {
            match holds(response, self.expect.body.as_bytes()).await {
                Ok(true) => {}
                Ok(false) => {
                    return ProbeAnswer::Down(format!(
                        "{status}, but the text {:?} is not in its first {BODY_BYTES_MAX} bytes",
                        self.expect.body
                    ));
                }
                Err(error) => return failed(&error, self.target),
            }
        }
        ProbeAnswer::Up { seen: status.to_string(), warning: self.certificate() }
    }

    fn certificate(&self) -> Option<String> {
        let note = self.tolerant.as_ref()?.take_note()?;
        if note == UNKNOWN_ISSUER {
            return Some(format!("{note}; give its CA as ca_file"));
        }
        Some(note)
    }
}

impl Probe for HttpProbe {
    fn ask(&self) -> Answer<'_, ProbeResult> {
        Box::pin(within(self.timeout, self.put()))
    }
}

/// A client that carries nothing from one question to the next, follows nothing, and asks no proxy.
pub(super) fn bare_client(tls: rustls::ClientConfig) -> ClientBuilder {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .referer(false)
        .user_agent(concat!("pbx-failover/", env!("CARGO_PKG_VERSION")))
}

/// Whose fault it was that no answer came.
pub(super) fn failed(error: &reqwest::Error, target: SocketAddr) -> ProbeAnswer {
    if let Some(io) = reach::io_cause(error) {
        return reach::fault(io, target).into();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    ProbeAnswer::Down(format!("no HTTP answer: {cause}"))
}

/// Reads the body until `text` was seen, at most [`BODY_BYTES_MAX`] bytes of it.
async fn holds(mut response: Response, text: &[u8]) -> Result<bool, reqwest::Error> {
    let mut body = Vec::new();
    while body.len() < BODY_BYTES_MAX {
        let Some(chunk) = response.chunk().await? else { break };
        // Only what may begin a match that this chunk completes has to be searched again.
        let from = body.len().saturating_sub(text.len());
        body.extend_from_slice(&chunk[..chunk.len().min(BODY_BYTES_MAX - body.len())]);
        if body[from..].windows(text.len()).any(|window| window == text) {
            return Ok(true);
        }
    }
    Ok(false)
}
