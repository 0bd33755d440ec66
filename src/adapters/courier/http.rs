//! One HTTP request: ActionURLs and webhooks.
//!
//! Sends what [`super::request`] has filled, and judges the answer. No redirect is followed, no proxy of the
//! environment is used, no connection is kept: each attempt stands for itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, Request, RequestBuilder, Response, StatusCode, Url};
use secrecy::ExposeSecret;

use crate::config::{ActionUrl, HttpAuth};
use crate::host::{secret, tls};
use crate::ports::{Answer, Courier};
use crate::units::{Delivery, DeliveryOutcome};

use super::redact::Redactor;
use super::request::{Prepared, place};
use super::{trouble, values_of};

/// How we name ourselves.
pub const USER_AGENT: &str = concat!("pbx-failover/", env!("CARGO_PKG_VERSION"));

/// The same over all attempts of a delivery, so that a server can tell a repetition
/// (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How much of an answer's body is read: only its first line is shown, and it may be endless.
const ANSWER_BYTES_MAX: usize = 4096;

/// How much of an answer's body is shown.
const ANSWER_CHARS_MAX: usize = 120;

/// Carries messages to one URL.
pub struct HttpCourier {
    prepared: Prepared,
    action: ActionUrl,
}

impl HttpCourier {
    /// Makes it ready.
    ///
    /// # Errors
    /// Each fault of the templates, one line each.
    pub fn new(action: &ActionUrl) -> Result<Self, Vec<String>> {
        Ok(Self { prepared: Prepared::new(action)?, action: action.clone() })
    }

    async fn attempt(&self, delivery: &Delivery) -> DeliveryOutcome {
        let ca_file = self.action.ca_file.clone();
        let client = match client(self.prepared.is_tls(), ca_file, self.action.timeout).await {
            Ok(client) => client,
            Err(line) => return DeliveryOutcome::Retry(line),
        };
        let (request, mut redactor) = match self.request(&client, delivery) {
            Ok(ready) => ready,
            Err(outcome) => return outcome,
        };
        match client.execute(request).await {
            Ok(response) => self.judge(response, &mut redactor).await,
            Err(error) => DeliveryOutcome::Retry(self.trouble(&error)),
        }
    }

    /// The filled request, and what must not be seen of it.
    fn request(&self, client: &Client, delivery: &Delivery) -> Result<(Request, Redactor), DeliveryOutcome> {
        let filled = self.prepared.fill(&values_of(delivery)).map_err(DeliveryOutcome::Rejected)?;
        let mut request = Request::new(filled.method, filled.url);
        *request.headers_mut() = filled.headers;
        let key = HeaderValue::try_from(delivery.key.as_str())
            .map_err(|_| DeliveryOutcome::Rejected("the delivery's key cannot stand in a header".to_owned()))?;
        request.headers_mut().insert(IDEMPOTENCY_KEY, key);
        *request.body_mut() = filled.body.map(Into::into);
        let mut redactor = Redactor::default();
        self.prepared.literals().for_each(|literal| redactor.literal(literal));
        if let Some(auth) = &self.action.auth {
            // A secret that cannot be read now may be there at the next attempt.
            request = authorized(client, request, auth, &mut redactor).map_err(DeliveryOutcome::Retry)?;
        }
        Ok((request, redactor))
    }

    async fn judge(&self, response: Response, redactor: &mut Redactor) -> DeliveryOutcome {
        let status = response.status();
        let from = self.prepared.place();
        if self.action.expect_status.contains(&status.as_u16()) {
            return DeliveryOutcome::Accepted(format!("HTTP {}", status.as_u16()));
        }
        let line = if status.is_redirection() {
            let to = response
                .headers()
                .get(LOCATION)
                .and_then(|location| Url::parse(location.to_str().ok()?).ok())
                .map(|url| format!(" (it points to {})", place(&url)))
                .unwrap_or_default();
            format!("HTTP {} from {from}{to}; redirects are not followed: write the final address", status.as_u16())
        } else {
            let said = first_line(response).await.map(|line| redactor.clean(&line)).unwrap_or_default();
            let said: String = said.chars().take(ANSWER_CHARS_MAX).collect();
            let said = if said.is_empty() { said } else { format!(": {said}") };
            format!("HTTP {} from {from}{}{said}", status.as_u16(), hint(status))
        };
        if may_change(status) { DeliveryOutcome::Retry(line) } else { DeliveryOutcome::Rejected(line) }
    }

    fn trouble(&self, error: &reqwest::Error) -> String {
        trouble(error, &self.prepared.place(), self.action.timeout)
    }
}

impl Courier for HttpCourier {
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Answer<'a, DeliveryOutcome> {
        Box::pin(self.attempt(delivery))
    }
}

/// Whether the same request may be answered otherwise later; the queue bounds how often it is tried.
///
/// Besides what is temporary by its meaning (RFC 9110, RFC 8470 for 425, RFC 6585 for 429, RFC 4918 for 423) that is
/// 401 and 403, because a secret is read anew at each attempt and a person can mend it meanwhile; 404, which
/// gateways answer while a service behind them starts; and 409, which the draft on idempotency keys prescribes
/// while the first request is still worked on. Every other 4xx speaks of the request itself, and a 2xx or 3xx
/// outside `expect_status` of the configuration: repeating changes nothing.
fn may_change(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 401 | 403 | 404 | 408 | 409 | 421 | 423 | 425 | 429)
}

fn hint(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..300 => ", which is not in expect_status",
        401 => ", check auth",
        403 => ", check auth and whether this host's address is allowed",
        404 | 410 => ", check url",
        405 => ", check method",
        415 => ", check encoding",
        _ => "",
    }
}

/// Adds the header, marked sensitive, and has the secret taken out of what is shown.
fn authorized(client: &Client, request: Request, auth: &HttpAuth, redactor: &mut Redactor) -> Result<Request, String> {
    let builder = RequestBuilder::from_parts(client.clone(), request);
    let (builder, secret) = match auth {
        HttpAuth::Bearer(token) => {
            let token = secret::read(token)?;
            (builder.bearer_auth(token.expose_secret()), token)
        }
        HttpAuth::Basic { username, password } => {
            let password = secret::read(password)?;
            (builder.basic_auth(username, Some(password.expose_secret())), password)
        }
    };
    // The library's own error could quote the header.
    let request = builder
        .build()
        .map_err(|_| "the secret in auth holds a line break or control character; store it anew".to_owned())?;
    redactor.secret(secret.expose_secret());
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some((_scheme, encoded)) = header.and_then(|value| value.split_once(' ')) {
        redactor.secret(encoded);
    }
    Ok(request)
}

/// The client for one request. Trust roots are read each time: a renewed `ca_file` counts at once, and nothing
/// of them stays in memory between two events.
///
/// # Errors
/// One line that names `ca_file` where it is at fault.
pub async fn client(is_tls: bool, ca_file: Option<PathBuf>, timeout: Duration) -> Result<Client, String> {
    let config = tokio::task::spawn_blocking(move || tls_config(is_tls, ca_file.as_deref()))
        .await
        .map_err(|_| "TLS could not be set up".to_owned())??;
    Client::builder()
        .tls_backend_preconfigured(config)
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .http1_only()
        .pool_max_idle_per_host(0)
        .timeout(timeout)
        .build()
        .map_err(|error| format!("an HTTP client could not be made: {}", trouble::plain(&error.to_string())))
}

fn tls_config(is_tls: bool, ca_file: Option<&Path>) -> Result<rustls::ClientConfig, String> {
    tls::install_provider();
    if is_tls {
        return tls::client(ca_file);
    }
    // Plain HTTP: no root is needed, and reading them all would only cost time.
    let builder = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

/// One line for a request that got no answer; never the URL, which may hold secrets.
pub fn trouble(error: &reqwest::Error, place: &str, timeout: Duration) -> String {
    if error.is_timeout() {
        return format!("{place} did not answer within {timeout:?}; it may have been carried out");
    }
    trouble::advice(error, place, "ca_file")
}

/// The first line of the body with something on it; `None` where it broke off, because half a secret is not found.
async fn first_line(mut response: Response) -> Option<String> {
    let mut body = Vec::new();
    while body.len() < ANSWER_BYTES_MAX {
        match response.chunk().await.ok()? {
            Some(chunk) => body.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES_MAX - body.len())]),
            None => break,
        }
    }
    let text = String::from_utf8_lossy(&body);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_change_is_tried_again_and_what_speaks_of_the_request_is_not() {
        for code in [401, 403, 404, 408, 409, 421, 423, 425, 429, 500, 502, 503, 504, 599] {
            assert!(may_change(StatusCode::from_u16(code).unwrap()), "{code}");
        }
        for code in [200, 204, 301, 302, 307, 400, 402, 405, 406, 410, 413, 414, 415, 422, 451] {
            assert!(!may_change(StatusCode::from_u16(code).unwrap()), "{code}");
        }
    }
}
