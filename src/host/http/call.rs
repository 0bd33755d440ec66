//! One configured request, sent once, and its answer in words.
//!
//! A request that never left and one whose answer was lost are told apart: after the second it may have been carried
//! out.

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, Request, RequestBuilder, Response, StatusCode, Url};
use secrecy::ExposeSecret;

use crate::config::{ActionUrl, HttpAuth};
use crate::host::secret;

use super::redact::Redactor;
use super::{Prepared, Values, client, place, unanswered};

/// The same over all attempts, so that a server can tell a repetition (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How much of an answer's body is read where only its first line is shown: it may be endless.
const LINE_BYTES_MAX: usize = 4096;

/// How much of an answer's body is shown.
const LINE_CHARS_MAX: usize = 120;

/// A request of the configuration, made ready.
pub struct Call {
    prepared: Prepared,
    action: ActionUrl,
}

/// What came of sending.
pub enum Sent {
    /// It can never be sent so: a template, a key.
    Malformed(String),
    /// It did not leave this host, or found nobody: nothing was carried out.
    NotSent(String),
    /// It left, and no answer came: it may have been carried out.
    Unanswered(String),
    /// It was answered.
    Answered(Answered),
}

/// Why a request cannot be sent.
enum Unfit {
    Ever(String),
    Now(String),
}

/// An answer that was begun; its body is still to be read.
pub struct Answered {
    response: Response,
    redactor: Redactor,
    from: String,
    is_expected: bool,
}

impl Call {
    /// Makes it ready.
    ///
    /// # Errors
    /// Each fault of the templates, one line each.
    pub fn new(action: &ActionUrl) -> Result<Self, Vec<String>> {
        Ok(Self { prepared: Prepared::new(action)?, action: action.clone() })
    }

    /// `HOST` or `HOST:PORT`.
    pub fn place(&self) -> String {
        self.prepared.place()
    }

    /// Fills it with `values` and sends it; `key` is its Idempotency-Key, for one that must not be carried out twice.
    pub async fn send(&self, values: &Values, key: Option<&str>) -> Sent {
        let client = match client(self.prepared.is_tls(), self.action.ca_file.clone(), self.action.timeout).await {
            Ok(client) => client,
            Err(line) => return Sent::NotSent(line),
        };
        let (request, redactor) = match self.request(&client, values, key) {
            Ok(ready) => ready,
            Err(Unfit::Ever(line)) => return Sent::Malformed(line),
            Err(Unfit::Now(line)) => return Sent::NotSent(line),
        };
        match client.execute(request).await {
            Ok(response) => {
                let is_expected = self.action.expect_status.contains(&response.status().as_u16());
                Sent::Answered(Answered { response, redactor, from: self.place(), is_expected })
            }
            Err(error) => {
                let line = unanswered(&error, &self.place(), self.action.timeout);
                // Without a connection nothing was sent; after one, nobody knows.
                if error.is_connect() || error.is_builder() { Sent::NotSent(line) } else { Sent::Unanswered(line) }
            }
        }
    }

    /// The filled request, and what must not be seen of it.
    fn request(&self, client: &Client, values: &Values, key: Option<&str>) -> Result<(Request, Redactor), Unfit> {
        let filled = self.prepared.fill(values).map_err(Unfit::Ever)?;
        let mut request = Request::new(filled.method, filled.url);
        *request.headers_mut() = filled.headers;
        if let Some(key) = key {
            let key = HeaderValue::try_from(key)
                .map_err(|_| Unfit::Ever("the request's key cannot stand in a header".to_owned()))?;
            request.headers_mut().insert(IDEMPOTENCY_KEY, key);
        }
        *request.body_mut() = filled.body.map(Into::into);
        let mut redactor = Redactor::default();
        self.prepared.literals().for_each(|literal| redactor.literal(literal));
        if let Some(auth) = &self.action.auth {
            // A secret that cannot be read now may be there at the next attempt.
            request = authorized(client, request, auth, &mut redactor).map_err(Unfit::Now)?;
        }
        Ok((request, redactor))
    }
}

impl Answered {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Whether `expect_status` holds it.
    pub fn is_expected(&self) -> bool {
        self.is_expected
    }

    /// One line for a status that was not expected: what the server said, without what may be a secret, and a hint.
    pub async fn refusal(mut self) -> String {
        let (status, from) = (self.status(), &self.from);
        if status.is_redirection() {
            let to = self
                .response
                .headers()
                .get(LOCATION)
                .and_then(|location| Url::parse(location.to_str().ok()?).ok())
                .map(|url| format!(" (it points to {})", place(&url)))
                .unwrap_or_default();
            return format!(
                "HTTP {} from {from}{to}; redirects are not followed: write the final address",
                status.as_u16()
            );
        }
        let said = first_line(self.response).await.map(|line| self.redactor.clean(&line)).unwrap_or_default();
        let said: String = said.chars().take(LINE_CHARS_MAX).collect();
        let said = if said.is_empty() { said } else { format!(": {said}") };
        format!("HTTP {} from {from}{}{said}", status.as_u16(), hint(status))
    }

    /// The whole body, which may hold secrets.
    ///
    /// # Errors
    /// One line: it broke off, or is larger than `bytes_max`.
    pub async fn body(mut self, bytes_max: usize) -> Result<String, String> {
        let mut body = Vec::new();
        loop {
            match self.response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= bytes_max => body.extend_from_slice(&chunk),
                Ok(Some(_)) => return Err(format!("the answer of {} is larger than {bytes_max} bytes", self.from)),
                Ok(None) => return Ok(String::from_utf8_lossy(&body).into_owned()),
                Err(_) => return Err(format!("the answer of {} broke off", self.from)),
            }
        }
    }
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

/// The first line of the body with something on it; `None` where it broke off, because half a secret is not found.
async fn first_line(mut response: Response) -> Option<String> {
    let mut body = Vec::new();
    while body.len() < LINE_BYTES_MAX {
        match response.chunk().await.ok()? {
            Some(chunk) => body.extend_from_slice(&chunk[..chunk.len().min(LINE_BYTES_MAX - body.len())]),
            None => break,
        }
    }
    let text = String::from_utf8_lossy(&body);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}
