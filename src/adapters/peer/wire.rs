//! One question over HTTPS, and why there is no answer.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONNECTION, HeaderValue};
use reqwest::{Client, Response, StatusCode, redirect};
use rustls::CertificateError;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::decision::beats;
use crate::host::pinned::{OtherCertificate, Pinned};
use crate::host::{reach, tls, tolerant};
use crate::wire::sealed::SEALED_BYTES_MAX;

/// Why there is no answer that counts; one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// The question never reached the other end.
    NotSent(String),
    /// It may have, and no answer came.
    Silent(String),
    /// Something answered: it does not take what we say, or is not believed.
    Refused(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(why) | Self::Silent(why) | Self::Refused(why) => f.write_str(why),
        }
    }
}

/// What the door says when it does not answer.
#[derive(Deserialize)]
struct Problem {
    error: String,
}

/// Asks once, over a connection of its own; the answer's body when its status is 200, as far as it may be opened.
pub async fn post(
    url: &str,
    certificate: Option<&Path>,
    token: &SecretString,
    body: String,
    limit: Duration,
) -> Result<String, NoAnswer> {
    let not_sent = |why: String| NoAnswer::NotSent(why);
    let tls = match certificate {
        Some(path) => Pinned::read(path).and_then(|pinned| pinned.client()).map_err(not_sent)?,
        None => tls::client(None).map_err(not_sent)?,
    };
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .referer(false)
        .timeout(limit)
        .user_agent(concat!("pbx-failover/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| NoAnswer::NotSent(format!("the HTTP client cannot be set up: {error}")))?;
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
        .map_err(|_| NoAnswer::NotSent("the token holds characters that no HTTP header may hold".to_owned()))?;
    bearer.set_sensitive(true);
    let request = client.post(url).header(AUTHORIZATION, bearer).header(CONNECTION, "close").body(body);
    let response = request.send().await.map_err(|error| failed(&error, limit))?;
    let status = response.status();
    let text = text(response).await.map_err(|error| failed(&error, limit))?;
    if status == StatusCode::OK { Ok(text) } else { Err(problem(status, &text)) }
}

/// The body, up to one byte more than a sealed text may have: so much opens for nobody.
async fn text(mut response: Response) -> Result<String, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = SEALED_BYTES_MAX + 1 - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() > SEALED_BYTES_MAX {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn problem(status: StatusCode, body: &str) -> NoAnswer {
    if status == StatusCode::UNAUTHORIZED {
        let advice = "it does not take our token; copy agent.token from it to this host";
        return NoAnswer::Refused(format!("HTTP 401: {advice}"));
    }
    let told = serde_json::from_str(body).map_or_else(|_| "see the url, and its log".to_owned(), |p: Problem| p.error);
    let text = format!("HTTP {}: {}", status.as_u16(), beats::told(&told));
    if status.is_server_error() { NoAnswer::Silent(text) } else { NoAnswer::Refused(text) }
}

fn failed(error: &reqwest::Error, limit: Duration) -> NoAnswer {
    if let Some(error) = tls_cause(error) {
        return NoAnswer::Refused(no_tls(error));
    }
    if error.is_timeout() {
        let text = format!("no answer within {} s: see its agent, and the firewalls between", limit.as_secs());
        return if error.is_connect() { NoAnswer::NotSent(text) } else { NoAnswer::Silent(text) };
    }
    let why = match reach::io_cause(error) {
        Some(io) => reach::phrase(io),
        None => innermost(error),
    };
    let text = format!("{why}: see its agent, and the firewalls between");
    if error.is_connect() { NoAnswer::NotSent(text) } else { NoAnswer::Silent(text) }
}

/// What TLS says against it.
fn no_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            match other.0.downcast_ref::<OtherCertificate>() {
                Some(other) => format!("{other}; if it was made anew, copy its agent.crt to this host"),
                None => format!("certificate: {error}; see `certificate`"),
            }
        }
        rustls::Error::InvalidCertificate(_) => {
            format!("{}; pin it with `certificate: {{file: PATH}}`", tolerant::trouble(error))
        }
        error => format!("no TLS: {error}; see the url"),
    }
}

/// The TLS error inside, if one caused it. It travels in an I/O error, whose own cause leaves it out.
fn tls_cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
