//! An ActionURL made ready: its five fields as templates, checked at load and filled at delivery.
//!
//! Here a value is escaped for where it stands, so that it can never leave its place. Sending, and judging the
//! answer, is [`super::call`]'s.

use std::fmt::Write as _;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde_json::Value as Json;

use crate::config::{ActionUrl, Body, Encoding, HttpAuth};

use super::template::{Piece, Template, Values, samples};
use crate::units::EventName;

/// Longest URL that is sent: servers commonly refuse more than 8 or 16 KiB of request line.
const URL_BYTES_MAX: usize = 16 * 1024;

/// Largest body that is sent: our own texts stay far below.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Headers that the robot writes itself, or that would change how the request is framed.
const OWN_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "idempotency-key",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// An ActionURL whose templates are known to be good.
pub struct Prepared {
    method: Method,
    url: UrlTemplate,
    headers: Vec<(HeaderName, Template)>,
    body: BodyTemplate,
}

/// One request, filled.
pub struct Filled {
    /// The method.
    pub method: Method,
    /// The URL; it may hold secrets.
    pub url: Url,
    /// The configured headers, marked sensitive, and the content type.
    pub headers: HeaderMap,
    /// The body, if there is one.
    pub body: Option<String>,
}

impl Prepared {
    /// Checks every template of `action`.
    ///
    /// # Errors
    /// Each fault, one line each: which field, what is wrong, what to write instead.
    pub fn new(action: &ActionUrl) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let mut keep = |fault: String| faults.push(fault);
        let method = method(&action.method).map_err(&mut keep).ok();
        let url = UrlTemplate::parse(&action.url).map_err(|fault| keep(format!("url: {fault}"))).ok();
        let headers: Vec<_> = action
            .headers
            .iter()
            .filter_map(|(name, value)| {
                header(name, value, action.auth.as_ref())
                    .map_err(|fault| keep(format!("headers: {name:?}: {fault}")))
                    .ok()
            })
            .collect();
        let body =
            BodyTemplate::parse(&action.body, action.encoding).map_err(|fault| keep(format!("body: {fault}"))).ok();
        if let Some(HttpAuth::Basic { username, .. }) = &action.auth
            && (username.contains(':') || username.chars().any(char::is_control))
        {
            keep("auth: a user name with ':' or a control character cannot be sent (RFC 7617)".to_owned());
        }
        let (Some(method), Some(url), Some(body), true) = (method, url, body, faults.is_empty()) else {
            return Err(faults);
        };
        let prepared = Self { method, url, headers, body };
        // The parts are good; filled together they must make a request, whatever the event.
        for event in EventName::ALL {
            prepared.fill(&samples(event)).map_err(|fault| vec![fault])?;
        }
        Ok(prepared)
    }

    /// `HOST` or `HOST:PORT`, for people: the rest of a URL may hold secrets.
    pub fn place(&self) -> String {
        place(&self.url.origin)
    }

    /// Whether it travels under TLS.
    pub fn is_tls(&self) -> bool {
        self.url.origin.scheme() == "https"
    }

    /// The literal texts of URL, headers and body: whoever echoes one of them may be echoing a secret.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        let url = self.url.template.literals();
        let headers = self.headers.iter().flat_map(|(_, value)| value.literals());
        url.chain(headers).chain(self.body.literals())
    }

    /// Fills the holes with `values`.
    ///
    /// # Errors
    /// One line, without any value in it.
    pub fn fill(&self, values: &Values) -> Result<Filled, String> {
        let url = self.url.fill(values).map_err(|fault| format!("url: {fault}"))?;
        let mut headers = HeaderMap::new();
        if let Some(content_type) = self.body.content_type() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        for (name, template) in &self.headers {
            let text = template.fill(values, header_text).map_err(|fault| format!("headers: {name}: {fault}"))?;
            let mut value = HeaderValue::from_bytes(text.as_bytes())
                .map_err(|_| format!("headers: {name}: the value cannot stand in a header"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let body = self.body.fill(values).map_err(|fault| format!("body: {fault}"))?;
        if body.as_ref().is_some_and(|body| body.len() > BODY_BYTES_MAX) {
            return Err(format!("body: grows beyond {BODY_BYTES_MAX} bytes; shorten it"));
        }
        Ok(Filled { method: self.method.clone(), url, headers, body })
    }
}

/// `HOST` or `HOST:PORT` of a URL.
pub fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Percent-encodes all but RFC 3986's unreserved characters: good in a path segment, a query value and a form.
pub fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn method(text: &str) -> Result<Method, String> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if method != Method::CONNECT && method != Method::TRACE => Ok(method),
        _ => Err(format!("method: {text:?} is no method for this; write GET, POST, PUT, PATCH or DELETE")),
    }
}

/// The origin is fixed at load: no hole stands in scheme, host or port.
struct UrlTemplate {
    template: Template,
    origin: Url,
}

impl UrlTemplate {
    fn parse(text: &str) -> Result<Self, String> {
        let template = Template::parse(text)?;
        let head = match template.pieces().first() {
            Some(Piece::Literal(head)) => head.as_str(),
            _ => "",
        };
        let rest = head
            .strip_prefix("https://")
            .or_else(|| head.strip_prefix("http://"))
            .ok_or("must begin with https:// or http://, written out")?;
        for literal in template.literals() {
            literal_is_plain(literal)?;
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        if end == rest.len() && template.pieces().len() > 1 {
            return Err("host and port must be written out, without {{ … }}; a value can stand after the host's '/' \
                        or '?'"
                .to_owned());
        }
        if rest[..end].contains('@') {
            return Err("a password in the URL is printed by servers; use auth: {basic: …}".to_owned());
        }
        let origin = Url::parse(&head[..head.len() - rest.len() + end]).map_err(|error| error.to_string())?;
        Ok(Self { template, origin })
    }

    fn fill(&self, values: &Values) -> Result<Url, String> {
        let text = self.template.fill(values, percent)?;
        if text.len() > URL_BYTES_MAX {
            return Err(format!("grows beyond {URL_BYTES_MAX} bytes; put long values into the body"));
        }
        let path = text.split('?').next().unwrap_or_default();
        // RFC 3986 §5.2.4: every URL library removes such segments, escaped or not, and would send another path.
        if path.split('/').any(|segment| matches!(segment.replace("%2e", ".").replace("%2E", ".").as_str(), "." | ".."))
        {
            return Err(
                "a path segment would be '.' or '..' and lead elsewhere; put the value into the query".to_owned()
            );
        }
        let url = Url::parse(&text).map_err(|error| error.to_string())?;
        if url.origin() != self.origin.origin() || url.has_authority() != self.origin.has_authority() {
            return Err("a value would change the host".to_owned());
        }
        Ok(url)
    }
}

/// A literal part of a URL that no parser rewrites or cuts off, and that cannot swallow the value behind it.
fn literal_is_plain(literal: &str) -> Result<(), String> {
    if literal.contains('#') {
        return Err("what follows '#' is never sent; write %23 for the character itself".to_owned());
    }
    if literal.contains('\\') || literal.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("a backslash, space or control character cannot stand in a URL; write %20 for a space".to_owned());
    }
    let percent_is_whole = |(at, _): (usize, &str)| {
        literal.as_bytes().get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    };
    if !literal.match_indices('%').all(percent_is_whole) {
        return Err("'%' must be followed by two hexadecimal digits; write %25 for the character itself".to_owned());
    }
    Ok(())
}

fn header(name: &str, value: &str, auth: Option<&HttpAuth>) -> Result<(HeaderName, Template), String> {
    let name = HeaderName::try_from(name).map_err(|_| "is no header name".to_owned())?;
    if OWN_HEADERS.contains(&name.as_str()) {
        return Err("is written by the robot itself; leave it out".to_owned());
    }
    if name == reqwest::header::AUTHORIZATION && auth.is_some() {
        return Err("is made from auth; give one of the two".to_owned());
    }
    let template = Template::parse(value)?;
    if template.literals().any(|literal| literal.chars().any(char::is_control)) {
        return Err("holds a line break or control character".to_owned());
    }
    Ok((name, template))
}

/// A header ends at a line break and may hold no control character (RFC 9110 §5.5): each becomes a space.
fn header_text(value: &str) -> String {
    value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The body's shape, with its holes in known places.
enum BodyTemplate {
    Empty,
    Form(Vec<(String, Template)>),
    Json(JsonTemplate),
    Text(Template),
}

impl BodyTemplate {
    fn parse(body: &Body, encoding: Encoding) -> Result<Self, String> {
        match (body, encoding) {
            (Body::Empty, _) => Ok(Self::Empty),
            (Body::Fields(fields), Encoding::Form) => fields
                .iter()
                .map(|(name, value)| {
                    let value = match value {
                        Json::String(text) => text.clone(),
                        Json::Null => String::new(),
                        Json::Bool(_) | Json::Number(_) => value.to_string(),
                        Json::Array(_) | Json::Object(_) => {
                            return Err(format!("{name}: a form holds no nested values; use encoding: json"));
                        }
                    };
                    no_hole(name)?;
                    Ok((name.clone(), Template::parse(&value).map_err(|fault| format!("{name}: {fault}"))?))
                })
                .collect::<Result<_, _>>()
                .map(Self::Form),
            (Body::Fields(fields), Encoding::Json) => {
                JsonTemplate::parse(&Json::Object(fields.clone()), 0).map(Self::Json)
            }
            // The holes of a JSON text stand inside its strings, so that it parses as it is.
            (Body::Text(text), Encoding::Json) => match serde_json::from_str(text) {
                Ok(value) => JsonTemplate::parse(&value, 0).map(Self::Json),
                Err(error) => {
                    Err(format!("is no JSON: {error}; {{{{ … }}}} must stand inside a string, with \\\" for quotes"))
                }
            },
            (Body::Text(text), Encoding::Text) => Template::parse(text).map(Self::Text),
            (Body::Text(_), Encoding::Form) => Err("a form needs names and values, or use encoding: text".to_owned()),
            (Body::Fields(_), Encoding::Text) => {
                Err("encoding: text needs one text; for names and values use form or json".to_owned())
            }
        }
    }

    fn content_type(&self) -> Option<&'static str> {
        match self {
            Self::Empty => None,
            Self::Form(_) => Some("application/x-www-form-urlencoded"),
            Self::Json(_) => Some("application/json"),
            Self::Text(_) => Some("text/plain; charset=utf-8"),
        }
    }

    fn fill(&self, values: &Values) -> Result<Option<String>, String> {
        let text = match self {
            Self::Empty => return Ok(None),
            Self::Form(fields) => fields
                .iter()
                .map(|(name, value)| {
                    // The whole text is encoded, its literal parts too: as with a form that a person fills in.
                    let text = value.fill(values, str::to_owned).map_err(|fault| format!("{name}: {fault}"))?;
                    Ok(format!("{}={}", percent(name), percent(&text)))
                })
                .collect::<Result<Vec<_>, String>>()?
                .join("&"),
            Self::Json(template) => template.fill(values)?.to_string(),
            Self::Text(template) => template.fill(values, str::to_owned)?,
        };
        Ok(Some(text))
    }

    fn literals(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Empty => Box::new(std::iter::empty()),
            Self::Form(fields) => Box::new(fields.iter().flat_map(|(_, value)| value.literals())),
            Self::Json(template) => template.literals(),
            Self::Text(template) => Box::new(template.literals()),
        }
    }
}

/// JSON with templates for strings; the serialiser escapes what is filled in.
enum JsonTemplate {
    Fixed(Json),
    Text(Template),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// How deep a body may nest; as deep as the parser of JSON texts goes.
const JSON_DEPTH_MAX: usize = 127;

impl JsonTemplate {
    fn parse(value: &Json, depth: usize) -> Result<Self, String> {
        if depth > JSON_DEPTH_MAX {
            return Err(format!("nests deeper than {JSON_DEPTH_MAX}"));
        }
        Ok(match value {
            Json::String(text) => Self::Text(Template::parse(text)?),
            Json::Array(items) => {
                Self::List(items.iter().map(|item| Self::parse(item, depth + 1)).collect::<Result<_, _>>()?)
            }
            Json::Object(fields) => Self::Object(
                fields
                    .iter()
                    .map(|(name, field)| {
                        no_hole(name)?;
                        let field = Self::parse(field, depth + 1).map_err(|fault| format!("{name}: {fault}"))?;
                        Ok((name.clone(), field))
                    })
                    .collect::<Result<_, String>>()?,
            ),
            fixed => Self::Fixed(fixed.clone()),
        })
    }

    fn fill(&self, values: &Values) -> Result<Json, String> {
        Ok(match self {
            Self::Fixed(value) => value.clone(),
            Self::Text(template) => Json::String(template.fill(values, str::to_owned)?),
            Self::List(items) => Json::Array(items.iter().map(|item| item.fill(values)).collect::<Result<_, _>>()?),
            Self::Object(fields) => Json::Object(
                fields
                    .iter()
                    .map(|(name, field)| Ok((name.clone(), field.fill(values)?)))
                    .collect::<Result<_, String>>()?,
            ),
        })
    }

    fn literals(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Fixed(_) => Box::new(std::iter::empty()),
            Self::Text(template) => Box::new(template.literals()),
            Self::List(items) => Box::new(items.iter().flat_map(Self::literals)),
            Self::Object(fields) => Box::new(fields.iter().flat_map(|(_, field)| field.literals())),
        }
    }
}

fn no_hole(name: &str) -> Result<(), String> {
    if name.contains("{{") {
        Err(format!("{name:?}: a name cannot hold {{{{ … }}}}, only a value can"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
