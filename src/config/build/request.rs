//! Action URLs and webhooks: HTTP requests with templates in them.
//!
//! Nothing here quotes a URL, a header or a body: they may hold tokens.

use serde_json::Value as Json;

use super::{Build, Outside, Use, one_given};
use crate::config::cursor::Cursor;
use crate::config::model::{ActionUrl, Body, Encoding, HttpAuth};
use crate::config::{template, texts};
use crate::units::EventName;

/// More than this would not be sent in time.
const REQUESTS_MAX: usize = 100;
/// Headers that the robot or HTTP itself sets.
const HEADERS_OURS: [&str; 6] =
    ["host", "content-length", "transfer-encoding", "connection", "idempotency-key", "content-type"];
/// Parts of header names whose values are mostly secrets.
const HEADERS_SECRET: [&str; 5] = ["auth", "token", "key", "secret", "cookie"];

/// Reads `action_urls` or `notify.webhooks`.
pub fn action_urls<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Vec<ActionUrl>> {
    let items = at.items();
    if items.len() > REQUESTS_MAX {
        at.error(&mut build.notes, format!("holds more than {REQUESTS_MAX} requests"), "send fewer");
        return None;
    }
    let mut names: Vec<&str> = Vec::new();
    for item in &items {
        let name = item.key("name");
        let Some(text) = name.text() else { continue };
        if names.contains(&text) {
            name.error(&mut build.notes, "is the name of another one too", "give each a name of its own");
        }
        names.push(text);
    }
    let requests: Vec<_> = items.iter().map(|item| request(item, build)).collect();
    requests.into_iter().collect()
}

fn request<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<ActionUrl> {
    if !at.is_map() {
        return None;
    }
    let name_at = at.key("name");
    let name = name_at.text().and_then(|text| name_at.take(&mut build.notes, texts::plain_name(text)));
    let events = events(&at.key("events"), build);
    let retries = at.key("retries").whole();
    let request = unnamed(at, build);
    Some(ActionUrl { name: name?, events: events?, retries: retries?, ..request? })
}

/// Reads a request that is sent by its place in the file: no event fires it, and nobody but its caller tries again.
pub fn unnamed<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<ActionUrl> {
    if !at.is_map() {
        return None;
    }
    let url_at = at.key("url");
    let url = url_at.text().and_then(|text| url_at.take(&mut build.notes, url(text)));
    let auth_at = at.key("auth");
    let auth = if auth_at.given { auth(&auth_at, build).map(Some) } else { Some(None) };
    if url_at.text().is_some_and(|text| text.starts_with("http://")) && auth_at.given {
        let fix = "use https://, unless the server is on this host or in a lab";
        url_at.warn(&mut build.notes, "the secret travels in clear text", fix);
    }
    let headers = headers(&at.key("headers"), build);
    let encoding = match at.key("encoding").text()? {
        "form" => Encoding::Form,
        "text" => Encoding::Text,
        _ => Encoding::Json,
    };
    let body = body(&at.key("body"), encoding, build);
    let method_at = at.key("method");
    let has_body = !matches!(body, Some(Body::Empty));
    if method_at.text() == Some("GET") && has_body {
        method_at.error(&mut build.notes, "GET carries no body", "write method: POST, or delete body");
    }
    let method = method_at.text().unwrap_or(if has_body { "POST" } else { "GET" }).to_owned();
    let status_at = at.key("expect_status");
    let expect_status = status_at.take(&mut build.notes, texts::status_range(status_at.text()?));
    Some(ActionUrl {
        name: String::new(),
        events: Vec::new(),
        method,
        url: url?,
        auth: auth?,
        headers,
        encoding,
        body: body?,
        ca_file: build.ca_file(&at.key("ca_file")),
        expect_status: expect_status?,
        timeout: at.key("timeout").duration()?,
        retries: 0,
    })
}

fn events<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Vec<EventName>> {
    let items = at.items();
    if at.is_list() && items.is_empty() {
        at.error(&mut build.notes, "holds no event: it would never be sent", "write [takeover, failback]");
    }
    let mut events = Vec::new();
    for item in items {
        let event = EventName::ALL.into_iter().find(|event| item.text() == Some(event.name()))?;
        if events.contains(&event) {
            item.error(&mut build.notes, "stands here twice", "delete one");
        }
        events.push(event);
    }
    Some(events)
}

/// The URL, kept as it is written. What stands in `{{ }}` could be anything, so the rest is judged without it.
fn url(text: &str) -> texts::Read<String> {
    template::check(text)?;
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        plain.push_str(before);
        plain.push('x');
        rest = after.split_once("}}").map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    texts::http_url(&plain).map(|_| text.to_owned())
}

fn auth<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<HttpAuth> {
    if !at.is_map() {
        return None;
    }
    // None or several are remarked upon by `walk`.
    if one_given(at, &["basic", "bearer"])? == "bearer" {
        return build.needed_secret(&at.key("bearer"), Use::Password).map(HttpAuth::Bearer);
    }
    let basic = at.key("basic");
    let user_at = basic.key("username");
    let username = user_at.text();
    if username.is_some_and(|name| name.contains(':')) {
        user_at.error(&mut build.notes, "holds a colon, which basic authentication cannot carry", "use bearer");
    }
    let password = basic.is_map().then(|| build.needed_secret(&basic.key("password"), Use::Password)).flatten();
    Some(HttpAuth::Basic { username: username?.to_owned(), password: password? })
}

fn headers<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, value_at) in at.named() {
        let lower = name.to_ascii_lowercase();
        let good =
            (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if !good {
            value_at.error(
                &mut build.notes,
                "is no good header name",
                "write letters, digits and '-', then a colon and a blank",
            );
        } else if lower == "content-type" {
            value_at.error(
                &mut build.notes,
                "follows from encoding",
                "delete it, and write encoding: form, json or text",
            );
        } else if HEADERS_OURS.contains(&lower.as_str()) {
            value_at.error(&mut build.notes, "is set by the robot", "delete it");
        }
        let Some(value) = value_at.text() else { continue };
        if value.chars().any(char::is_control) || !value.is_ascii() {
            value_at.error(&mut build.notes, "holds more than plain ASCII", "write the value in plain ASCII");
        }
        let template = template::check(value);
        value_at.take(&mut build.notes, template);
        if HEADERS_SECRET.iter().any(|part| lower.contains(part)) {
            build.outside.push((value_at, Outside::PlainText));
        }
        headers.push((name.to_owned(), value.to_owned()));
    }
    headers
}

fn body<'a>(at: &Cursor<'a>, encoding: Encoding, build: &mut Build<'a>) -> Option<Body> {
    if !at.given {
        return Some(Body::Empty);
    }
    let json = at.json();
    if let Err((what, fix)) = template::check_all(&json) {
        at.error(&mut build.notes, what, fix);
    }
    match (json, encoding) {
        (Json::String(text), _) if text.is_empty() => Some(Body::Empty),
        (Json::String(text), Encoding::Text) => Some(Body::Text(text)),
        (Json::Object(fields), Encoding::Form) if fields.values().any(|v| v.is_object() || v.is_array()) => {
            at.error(&mut build.notes, "a form holds no maps and lists", "write texts, or encoding: json");
            None
        }
        (Json::Object(fields), Encoding::Form | Encoding::Json) => Some(Body::Fields(fields)),
        (_, Encoding::Text) => {
            at.error(&mut build.notes, "is no text, which encoding: text wants", "write a text, or encoding: json");
            None
        }
        _ => {
            let fix = "write names and values, such as { event: \"{{ event }}\" }, or encoding: text";
            at.error(&mut build.notes, "is no map of names and values", fix);
            None
        }
    }
}
