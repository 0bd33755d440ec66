//! SIP messages: reads what comes, writes what goes.
//!
//! The only folder that knows the SIP library; no type of the library leaves it. It opens no socket and reads no
//! clock; [`super::client`] and the registrar's sockets do. [`request`] reads requests, [`answer`] writes what is said
//! to them; [`question`] writes requests, [`reply`] reads what is said to those.

pub mod answer;
pub mod question;
pub mod reply;
pub mod request;

use std::net::IpAddr;

use sipx_sip::headers::{CSeq, CallId};
use sipx_sip::{HeaderName, Headers, Limits, Message, StreamParser, Uri};

use crate::config::SipTransport;

pub use answer::Answer;
pub use question::{Method, Question, Registration};
pub use reply::Reply;
pub use request::{Contact, Contacts, Fault, Request};

/// The largest message that is read: a REGISTER has some hundred bytes, the answer to one with many contacts a few
/// thousand.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// What came.
#[derive(Debug)]
pub enum Incoming {
    /// Somebody asks.
    Request(Box<Request>),
    /// Somebody answers.
    Reply(Box<Reply>),
    /// Somebody asks in a way that is answered with a refusal.
    Fault(Box<Fault>),
}

impl Incoming {
    /// Reads one datagram.
    ///
    /// # Errors
    /// What is wrong with it, when it is nothing that anybody waits for an answer to.
    pub fn from_datagram(datagram: &[u8]) -> Result<Self, String> {
        match sipx_sip::parse_datagram(datagram.to_vec().into(), &limits()) {
            Ok(message) => Ok(Self::from_message(message)),
            Err(error) => match Fault::of_unreadable(datagram, &error) {
                Some(fault) => Ok(Self::Fault(Box::new(fault))),
                None => Err(error.to_string()),
            },
        }
    }

    fn from_message(message: Message) -> Self {
        match message {
            Message::Request(request) => match Request::new(request) {
                Ok(request) => Self::Request(Box::new(request)),
                Err(fault) => Self::Fault(fault),
            },
            Message::Response(response) => Self::Reply(Box::new(Reply::new(&response))),
        }
    }
}

/// Cuts messages out of a byte stream.
pub struct Frames {
    parser: StreamParser,
    /// Line ends since the last message: those of one ping may come in two pieces.
    line_ends: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self { parser: StreamParser::new(limits()), line_ends: 0 }
    }
}

impl Frames {
    /// Takes the next bytes; gives the messages that they complete, in order.
    ///
    /// # Errors
    /// What is wrong with them; the stream cannot be read on, and must be closed.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Incoming>, String> {
        let messages = self.parser.push(bytes).map_err(|e| e.to_string())?;
        if !messages.is_empty() {
            self.line_ends = 0;
        }
        self.line_ends += self.parser.take_keepalives();
        Ok(messages.into_iter().map(Incoming::from_message).collect())
    }

    /// Whether a keep-alive (two line ends, RFC 5626 §4.4.1) came since this was asked last: it wants one line end.
    pub fn take_ping(&mut self) -> bool {
        let is_ping = self.line_ends >= 2;
        if is_ping {
            self.line_ends = 0;
        }
        is_ping
    }

    /// How many bytes wait for the rest of their message.
    pub fn pending(&self) -> usize {
        self.parser.pending()
    }
}

fn limits() -> Limits {
    Limits { max_message_bytes: MESSAGE_BYTES_MAX, max_body_bytes: MESSAGE_BYTES_MAX, ..Limits::datagram() }
}

fn call_id(headers: &Headers) -> Option<String> {
    headers.typed::<CallId>().and_then(Result::ok).map(|id| text(&id.0))
}

fn cseq(headers: &Headers) -> Option<CSeq> {
    headers.typed::<CSeq>().and_then(Result::ok)
}

fn first_hop(value: &[u8]) -> &[u8] {
    // Only the first hop is of the neighbour; what stands behind it is not looked at, however odd.
    &value[..sipx_sip::headers::via::first_hop_end(value).min(value.len())]
}

/// A number of seconds: what follows its digits (a comment, parameters) is passed over.
fn leading_number(value: &[u8]) -> Option<u32> {
    // Retry-After: 18000;duration=3600 (comment): RFC 3261 §20.33.
    let value = value.trim_ascii_start();
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&value[..digits]).ok()?.parse().ok()
}

fn header_number(headers: &Headers, name: &HeaderName) -> Option<u32> {
    headers.value(name).and_then(|value| leading_number(&value))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// As much of a text as fits in one line for people, without control characters.
fn one_line(bytes: &[u8]) -> String {
    /// How much of a reason phrase or a product's name is kept.
    const CHARS_MAX: usize = 80;
    let text = String::from_utf8_lossy(bytes);
    text.trim().chars().filter(|c| !c.is_control()).take(CHARS_MAX).collect()
}

/// Where a SIP URI leads (RFC 3263 §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host name or address, an IPv6 one without brackets.
    pub host: String,
    /// The port, where it is given.
    pub port: Option<u16>,
    /// The transport, where it is given, or forced by `sips`.
    pub transport: Option<SipTransport>,
}

impl Target {
    /// Reads a `sip` or `sips` URI.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub fn read(uri: &str) -> Result<Self, String> {
        let bad = |what: &str| format!("{uri:?} {what}");
        let parsed = Uri::parse(uri.as_bytes().to_vec().into()).map_err(|e| bad(&format!("is no URI: {e}")))?;
        let host = parsed.host().filter(|_| parsed.scheme().is_sip()).ok_or_else(|| bad("is no SIP URI"))?;
        let transport = match parsed.transport().map(<[u8]>::to_ascii_lowercase).as_deref() {
            _ if parsed.scheme().is_secure() => Some(SipTransport::Tls),
            None => None,
            Some(b"udp") => Some(SipTransport::Udp),
            Some(b"tcp") => Some(SipTransport::Tcp),
            Some(b"tls") => Some(SipTransport::Tls),
            Some(_) => return Err(bad("names a transport that is not spoken here; write udp, tcp or tls")),
        };
        let host = host.to_string().trim_matches(['[', ']']).to_owned();
        Ok(Self { host, port: parsed.port(), transport })
    }
}

/// An address as it stands in a URI.
pub fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// A host as it stands in a URI; `None` for what could break out of its place there.
fn uri_host(host: &str) -> Option<String> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse() {
        return Some(bracketed(address));
    }
    let is_name = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    is_name.then(|| host.to_owned())
}

#[cfg(test)]
mod tests;
