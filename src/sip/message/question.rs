//! Requests that we ask with, and the marks by which their answers are known.

use std::net::SocketAddr;

use sipx_sip::{BuildError, HeaderName, RequestBuilder, Uri};
use ulid::Ulid;

use super::{Reply, bracketed, uri_host};
use crate::config::SipTransport;

/// What we say of ourselves.
pub const USER_AGENT: &str = concat!("pbx-failover/", env!("CARGO_PKG_VERSION"));

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

/// How a transport is written in Via (RFC 3261 §20.42) and in a URI, and its port when none is given.
pub fn spelling(transport: SipTransport) -> (&'static str, &'static str, u16) {
    match transport {
        SipTransport::Udp => ("UDP", "", 5060),
        SipTransport::Tcp => ("TCP", ";transport=tcp", 5060),
        SipTransport::Tls => ("TLS", ";transport=tls", 5061),
    }
}

/// A new branch (RFC 3261 §8.1.1.7): no other request has it.
pub fn new_branch() -> String {
    format!("z9hG4bK{}", Ulid::new().to_string().to_lowercase())
}

/// A request, ready to send, and the marks by which its answer is known.
#[derive(Debug, Clone)]
pub struct Question {
    /// The bytes.
    pub bytes: Vec<u8>,
    pub(super) branch: String,
    pub(super) call_id: String,
    pub(super) method: Method,
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
        let (_, uri_parameter, default_port) = spelling(transport);
        let id = Ulid::new().to_string().to_lowercase();
        let host_port = match (uri_host(host).ok_or_else(unfit)?, port) {
            (host, port) if port == default_port => host,
            (host, port) => format!("{host}:{port}"),
        };
        let ours = format!("sip:pbx-failover@{}:{}{uri_parameter}", bracketed(local.ip()), local.port());
        let (from, to) = match method {
            Method::Options => (format!("<{ours}>;tag={id}"), format!("<sip:{host_port}>")),
            // A registrar looks at the address of record in To: it must be one of its own domain.
            Method::Register => {
                let record = format!("<sip:pbx-failover@{host_port}>");
                (format!("{record};tag={id}"), record)
            }
        };
        let outline = Outline {
            method,
            uri: &format!("sip:{host_port}{uri_parameter}"),
            transport,
            local,
            from,
            to,
            call_id: format!("{id}@pbx-failover"),
            cseq: 1,
        };
        let more = |request: RequestBuilder| match method {
            Method::Options => {
                request.header(HeaderName::Contact, format!("<{ours}>"))?.header(HeaderName::Accept, "application/sdp")
            }
            Method::Register => Ok(request),
        };
        outline.write(more).ok_or_else(unfit)
    }

    /// Whether `reply` answers this very request (RFC 3261 §17.1.3, and the Call-ID beside it).
    pub fn is_answered_by(&self, reply: &Reply) -> bool {
        reply.branch.as_deref() == Some(self.branch.as_str())
            && reply.call_id.as_deref() == Some(self.call_id.as_str())
            && reply.cseq_method.as_deref() == Some(self.method.name())
    }
}

/// What every request has (RFC 3261 §8.1.1).
struct Outline<'a> {
    method: Method,
    uri: &'a str,
    transport: SipTransport,
    local: SocketAddr,
    from: String,
    to: String,
    call_id: String,
    cseq: u32,
}

impl Outline<'_> {
    /// The request with what `more` adds; `None` when something cannot stand where it should.
    fn write(self, more: impl FnOnce(RequestBuilder) -> Result<RequestBuilder, BuildError>) -> Option<Question> {
        let branch = new_branch();
        let (via, ..) = spelling(self.transport);
        let hop = format!("SIP/2.0/{via} {}:{};rport;branch={branch}", bracketed(self.local.ip()), self.local.port());
        let method = self.method.library();
        let uri = Uri::parse(self.uri.as_bytes().to_vec().into()).ok()?;
        let build = || -> Result<_, BuildError> {
            let request = RequestBuilder::new(method.clone(), uri)
                .header(HeaderName::Via, hop)?
                .max_forwards(70)
                .header(HeaderName::From, self.from)?
                .header(HeaderName::To, self.to)?
                .header(HeaderName::CallId, self.call_id.clone())?
                .cseq(self.cseq, &method)?;
            Ok(more(request)?.header(HeaderName::UserAgent, USER_AGENT)?.build())
        };
        let request = build().ok()?;
        let mut bytes = Vec::new();
        request.write_to(&mut bytes);
        Some(Question { bytes, branch, call_id: self.call_id, method: self.method })
    }
}

/// Every contact of an address of record (RFC 3261 §10.2.2).
pub const ALL: &str = "*";

/// A client's REGISTER (RFC 3261 §10.2): all of one registration have its Call-ID and tag, and rising numbers.
#[derive(Debug, Clone)]
pub struct Registration<'a> {
    /// The registrar's URI.
    pub registrar: &'a str,
    /// The address of record: a URI.
    pub record: &'a str,
    /// The URIs that are bound to it, or `*` for all. None: it only asks which there are (RFC 3261 §10.2.3).
    pub contacts: &'a [&'a str],
    /// For how long; 0 gives the bindings up.
    pub expires_s: u32,
    /// Call-ID of the registration.
    pub call_id: &'a str,
    /// From-tag of the registration.
    pub tag: &'a str,
    /// Higher than in every earlier request of it.
    pub cseq: u32,
    /// What answers the last challenge: the code it came with (401 or 407), and the header's value.
    pub authorization: Option<(u16, &'a str)>,
}

impl Registration<'_> {
    /// The request, sent from `local` over `transport`.
    ///
    /// # Errors
    /// One line, when one of the URIs cannot stand in a SIP message.
    pub fn question(&self, transport: SipTransport, local: SocketAddr) -> Result<Question, String> {
        let Self { registrar, record, contacts, tag, .. } = self;
        let outline = Outline {
            method: Method::Register,
            uri: registrar,
            transport,
            local,
            from: format!("<{record}>;tag={tag}"),
            to: format!("<{record}>"),
            call_id: self.call_id.to_owned(),
            cseq: self.cseq,
        };
        let more = |mut request: RequestBuilder| {
            if let Some((code, value)) = self.authorization {
                let name = if code == 407 { HeaderName::ProxyAuthorization } else { HeaderName::Authorization };
                request = request.header(name, value.to_owned())?;
            }
            for contact in *contacts {
                let value = if *contact == ALL { ALL.to_owned() } else { format!("<{contact}>") };
                request = request.header(HeaderName::Contact, value)?;
            }
            if contacts.is_empty() {
                return Ok(request);
            }
            request.header(HeaderName::Expires, self.expires_s.to_string())
        };
        let unfit = || format!("{registrar}, {record} or {} cannot stand in a SIP message", contacts.join(", "));
        outline.write(more).ok_or_else(unfit)
    }
}
