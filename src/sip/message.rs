//! SIP messages: builds the requests that we ask with, reads the answers.
//!
//! The only file that knows the SIP library. It opens no socket and reads no clock; [`super::client`] does.

use std::net::{IpAddr, SocketAddr};

use sipx_sip::headers::{CSeq, CallId};
use sipx_sip::{Header, HeaderName, Headers, Limits, Message, RequestBuilder, StreamParser, Uri, Via};
use ulid::Ulid;

use crate::config::SipTransport;

/// The largest answer that is read: an OPTIONS answer has some hundred bytes, a large one a few thousand.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How much of a reason phrase is kept: it is printed in one line.
const REASON_CHARS_MAX: usize = 80;

/// What we ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Are you there, what can you do (RFC 3261 §11)?
    Options,
    /// Without a Contact: which bindings are there (RFC 3261 §10.2.3)? Changes nothing.
    Register,
}

impl Method {
    /// As it stands on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Options => "OPTIONS",
            Self::Register => "REGISTER",
        }
    }

    fn library(self) -> sipx_sip::Method {
        match self {
            Self::Options => sipx_sip::Method::Options,
            Self::Register => sipx_sip::Method::Register,
        }
    }
}

/// A request, ready to send, and the marks by which its answer is known.
#[derive(Debug, Clone)]
pub struct Question {
    /// The bytes.
    pub bytes: Vec<u8>,
    branch: String,
    call_id: String,
    method: Method,
}

impl Question {
    /// Builds a request from `local` to `host`:`port`, with a new branch, Call-ID and From-tag (RFC 3261 §8.1.1).
    ///
    /// # Errors
    /// One line, when `host` cannot stand in a SIP URI.
    pub fn new(
        method: Method,
        host: &str,
        port: u16,
        transport: SipTransport,
        local: SocketAddr,
    ) -> Result<Self, String> {
        let unfit = || format!("{host:?} cannot stand in a SIP URI; give a host name or an address");
        let (via, uri_parameter, default_port) = match transport {
            SipTransport::Udp => ("UDP", "", 5060),
            SipTransport::Tcp => ("TCP", ";transport=tcp", 5060),
            SipTransport::Tls => ("TLS", ";transport=tls", 5061),
        };
        let id = Ulid::new().to_string().to_lowercase();
        let branch = format!("z9hG4bK{id}");
        let call_id = format!("{id}@pbx-failover");
        let host_port = match (uri_host(host).ok_or_else(unfit)?, port) {
            (host, port) if port == default_port => host,
            (host, port) => format!("{host}:{port}"),
        };
        let uri = Uri::parse(format!("sip:{host_port}{uri_parameter}").into()).map_err(|_| unfit())?;
        let local = format!("{}:{}", bracketed(local.ip()), local.port());
        let ours = format!("sip:pbx-failover@{local}{uri_parameter}");
        let (from, to) = match method {
            Method::Options => (format!("<{ours}>;tag={id}"), format!("<sip:{host_port}>")),
            // A registrar looks at the address of record in To: it must be one of its own domain.
            Method::Register => {
                let record = format!("<sip:pbx-failover@{host_port}>");
                (format!("{record};tag={id}"), record)
            }
        };
        let build = || -> Result<_, sipx_sip::BuildError> {
            let mut request = RequestBuilder::new(method.library(), uri)
                .header(HeaderName::Via, format!("SIP/2.0/{via} {local};rport;branch={branch}"))?
                .max_forwards(70)
                .header(HeaderName::From, from)?
                .header(HeaderName::To, to)?
                .header(HeaderName::CallId, call_id.clone())?
                .cseq(1, &method.library())?;
            if method == Method::Options {
                request = request
                    .header(HeaderName::Contact, format!("<{ours}>"))?
                    .header(HeaderName::Accept, "application/sdp")?;
            }
            Ok(request.header(HeaderName::UserAgent, concat!("pbx-failover/", env!("CARGO_PKG_VERSION")))?.build())
        };
        let request = build().map_err(|_| unfit())?;
        let mut bytes = Vec::new();
        request.write_to(&mut bytes);
        Ok(Self { bytes, branch, call_id, method })
    }

    /// Whether `reply` answers this very request (RFC 3261 §17.1.3, and the Call-ID beside it).
    pub fn is_answered_by(&self, reply: &Reply) -> bool {
        reply.branch.as_deref() == Some(self.branch.as_str())
            && reply.call_id.as_deref() == Some(self.call_id.as_str())
            && reply.cseq_method.as_deref() == Some(self.method.name())
    }
}

/// An answer, as far as anybody here needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code, 100 to 699.
    pub code: u16,
    /// The reason phrase, lossy UTF-8, without control characters, bounded; may be empty.
    pub reason: String,
    /// `Retry-After`, seconds, where it is there and readable.
    pub retry_after_s: Option<u32>,
    branch: Option<String>,
    call_id: Option<String>,
    cseq_method: Option<String>,
}

impl Reply {
    /// Reads one datagram. `None`: well-formed, but a request.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_datagram(datagram: &[u8]) -> Result<Option<Self>, String> {
        let message = sipx_sip::parse_datagram(datagram.to_vec().into(), &limits()).map_err(|e| e.to_string())?;
        Ok(Self::from_message(&message))
    }

    fn from_message(message: &Message) -> Option<Self> {
        let response = message.as_response()?;
        let headers = &response.headers;
        Some(Self {
            code: response.status.code(),
            reason: one_line(&response.reason),
            retry_after_s: headers.value(&HeaderName::RetryAfter).and_then(|value| leading_number(&value)),
            branch: top_branch(headers),
            call_id: headers.typed::<CallId>().and_then(Result::ok).map(|id| text(&id.0)),
            cseq_method: headers.typed::<CSeq>().and_then(Result::ok).map(|cseq| text(cseq.method.as_bytes())),
        })
    }

    /// Whether it ends the transaction (RFC 3261 §7.2: 1xx does not).
    pub fn is_final(&self) -> bool {
        self.code >= 200
    }
}

/// Cuts answers out of a byte stream.
pub struct ReplyStream {
    parser: StreamParser,
    taken: usize,
}

impl Default for ReplyStream {
    fn default() -> Self {
        Self { parser: StreamParser::new(limits()), taken: 0 }
    }
}

impl ReplyStream {
    /// Takes the next bytes; gives the answers that they complete, in order.
    ///
    /// # Errors
    /// What is wrong with them; the stream cannot be read on.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Reply>, String> {
        self.taken += bytes.len();
        if self.taken > ANSWER_BYTES_MAX {
            return Err(format!("more than {ANSWER_BYTES_MAX} bytes"));
        }
        let messages = self.parser.push(bytes).map_err(|e| e.to_string())?;
        Ok(messages.iter().filter_map(Reply::from_message).collect())
    }
}

fn limits() -> Limits {
    Limits { max_message_bytes: ANSWER_BYTES_MAX, max_body_bytes: ANSWER_BYTES_MAX, ..Limits::datagram() }
}

fn top_branch(headers: &Headers) -> Option<String> {
    let value = headers.get(&HeaderName::Via).map(Header::value)?;
    // Only the first hop is ours; what stands behind it is not looked at, however odd.
    let first = &value[..sipx_sip::headers::via::first_hop_end(&value).min(value.len())];
    Via::parse_one(first).ok()?.branch().map(text)
}

fn leading_number(value: &[u8]) -> Option<u32> {
    // Retry-After: 18000;duration=3600 (comment): RFC 3261 §20.33.
    let value = value.trim_ascii_start();
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&value[..digits]).ok()?.parse().ok()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim().chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect()
}

fn bracketed(address: IpAddr) -> String {
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
