//! Requests that come: what a registrar has to know of them, and what is wrong with those that cannot be served.
//!
//! A request is read as far as every server must read it (RFC 3261 §8.2); what only some need (contacts, credentials)
//! is read when they ask.

use sipx_sip::error::ParseError;
use sipx_sip::{Address, Header, HeaderName, Headers, Method as Verb};

use super::answer::Echo;
use super::{call_id, cseq, first_hop, header_number, leading_number, one_line};

/// More contacts in one request than any phone has.
pub const CONTACTS_MAX: usize = 16;

/// A request that can be answered.
#[derive(Debug)]
pub struct Request {
    inner: sipx_sip::Request,
    echo: Echo,
    /// `CSeq`, the number.
    pub cseq: u32,
    /// `Call-ID`.
    pub call_id: String,
    /// The user part of `To`, unescaped; empty when there is none. For REGISTER: whose bindings (RFC 3261 §10.3, 5).
    pub to_user: String,
}

/// A request that is refused because of how it is written.
#[derive(Debug)]
pub struct Fault {
    /// 400, 416, 505: what to answer.
    pub code: u16,
    /// What is wrong, as a reason phrase.
    pub reason: &'static str,
    /// What goes back to the sender.
    pub echo: Echo,
}

/// What a REGISTER wants bound.
#[derive(Debug, PartialEq, Eq)]
pub enum Contacts {
    /// None: it asks which bindings there are (RFC 3261 §10.2.3).
    Query,
    /// `*`: remove all.
    All,
    /// These.
    These(Vec<Contact>),
}

/// One contact of a REGISTER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// The URI, as written.
    pub uri: String,
    /// Its own seconds, which count before the `Expires` of the request (RFC 3261 §10.2.1.1).
    pub expires_s: Option<u32>,
    /// `+sip.instance`, without the quotes (RFC 5626 §4.1).
    pub instance: Option<String>,
    /// `reg-id` (RFC 5626 §4.2).
    pub reg_id: Option<u32>,
}

impl Request {
    /// RFC 3261 §8.1.1, §8.2, and RFC 4475 for how it can be wrong.
    pub(super) fn new(inner: sipx_sip::Request) -> Result<Self, Box<Fault>> {
        let headers = &inner.headers;
        let echo = Echo::of_headers(headers);
        // An ACK is never answered, however it is written (RFC 3261 §17.1.1.3): without what an answer repeats, none is.
        let heard = if inner.method == Verb::Ack { Echo::default() } else { echo.clone() };
        let fault = |code, reason| Box::new(Fault { code, reason, echo: heard.clone() });
        let bad = |reason| fault(400, reason);
        if !inner.version.is_supported() {
            return Err(fault(505, "Version Not Supported"));
        }
        for (name, reason) in [
            (HeaderName::To, "Repeated To"),
            (HeaderName::From, "Repeated From"),
            (HeaderName::CallId, "Repeated Call-ID"),
            (HeaderName::CSeq, "Repeated CSeq"),
            (HeaderName::MaxForwards, "Repeated Max-Forwards"),
            (HeaderName::ContentLength, "Repeated Content-Length"),
        ] {
            if headers.count(&name) > 1 {
                return Err(bad(reason));
            }
        }
        if headers.get(&HeaderName::Via).is_none() {
            return Err(bad("Missing Via"));
        }
        if !echo.has_hop() {
            return Err(bad("Malformed Via"));
        }
        let to = headers.value(&HeaderName::To).ok_or_else(|| bad("Missing To"))?;
        let to = Address::parse(&to, "To").map_err(|_| bad("Malformed To"))?;
        let from = headers.value(&HeaderName::From).ok_or_else(|| bad("Missing From"))?;
        Address::parse(&from, "From").map_err(|_| bad("Malformed From"))?;
        let call_id = call_id(headers).ok_or_else(|| bad("Missing Call-ID"))?;
        let cseq = cseq(headers).ok_or_else(|| bad("Malformed CSeq"))?;
        if cseq.method != inner.method {
            return Err(bad("CSeq Names Another Method"));
        }
        if headers.typed::<sipx_sip::headers::MaxForwards>().is_some_and(|hops| hops.is_err()) {
            return Err(bad("Malformed Max-Forwards"));
        }
        if inner.uri.has_headers() {
            return Err(bad("Request-URI With Headers"));
        }
        if !inner.uri.scheme().is_sip() {
            return Err(fault(416, "Unsupported URI Scheme"));
        }
        if inner.method == Verb::Register && !to.uri.scheme().is_sip() {
            return Err(bad("To Is No SIP URI"));
        }
        let to_user = to.uri.decoded_user().map(|user| super::text(&user)).unwrap_or_default();
        drop(from);
        Ok(Self { to_user, cseq: cseq.sequence, call_id, echo, inner })
    }

    /// The method, as sent; methods are told apart by case (RFC 3261 §7.1).
    pub fn method(&self) -> &[u8] {
        self.inner.method.as_bytes()
    }

    /// Whether this is a REGISTER.
    pub fn is_register(&self) -> bool {
        self.inner.method == Verb::Register
    }

    /// Whether the method is one that RFC 3261 or an extension of it defines.
    pub fn has_known_method(&self) -> bool {
        !matches!(self.inner.method, Verb::Other(_))
    }

    /// What goes back to the sender with every answer.
    pub fn echo(&self) -> &Echo {
        &self.echo
    }

    /// The contacts (RFC 3261 §10.3, 6).
    ///
    /// # Errors
    /// What is wrong with them, as a reason phrase.
    pub fn contacts(&self) -> Result<Contacts, &'static str> {
        let values: Vec<_> = self.inner.headers.get_all(&HeaderName::Contact).map(Header::value).collect();
        let mut contacts = Vec::new();
        for value in &values {
            if value.trim_ascii() == b"*" {
                let alone = values.len() == 1 && self.expires_s() == Some(0);
                return alone.then_some(Contacts::All).ok_or("Contact * Wants Expires 0 Alone");
            }
            let addresses = Address::parse_list(value, "Contact").map_err(|_| "Malformed Contact")?;
            for address in addresses {
                if contacts.len() == CONTACTS_MAX {
                    return Err("Too Many Contacts");
                }
                contacts.push(Contact::new(&address)?);
            }
        }
        Ok(if contacts.is_empty() { Contacts::Query } else { Contacts::These(contacts) })
    }

    /// `Expires`, seconds; what cannot be read counts as absent (RFC 3261 §10.2.1.1).
    pub fn expires_s(&self) -> Option<u32> {
        header_number(&self.inner.headers, &HeaderName::Expires)
    }

    /// The values of every `Authorization`, in order: a client may answer several realms.
    pub fn authorizations(&self) -> impl Iterator<Item = Vec<u8>> {
        self.inner.headers.get_all(&HeaderName::Authorization).map(|header| header.value().into_owned())
    }

    /// The options of `Require` that are not in `known` (RFC 3261 §8.2.2.3).
    pub fn unknown_requirements(&self, known: &[&str]) -> Vec<String> {
        let required = tokens(&self.inner.headers, &HeaderName::Require);
        required.into_iter().filter(|option| !known.iter().any(|k| option.eq_ignore_ascii_case(k))).collect()
    }

    /// Whether `Supported` names this option.
    pub fn supports(&self, option: &str) -> bool {
        tokens(&self.inner.headers, &HeaderName::Supported).iter().any(|known| known.eq_ignore_ascii_case(option))
    }

    /// The values of every `Path`, from top to bottom, as written (RFC 3327 §5.3).
    pub fn path(&self) -> Vec<String> {
        let values = self.inner.headers.get_all(&HeaderName::Path);
        values.map(|header| super::text(header.value().trim_ascii())).collect()
    }

    /// How many hops stand in Via: one when the phone speaks to us itself (RFC 5626 §6).
    pub fn hops(&self) -> usize {
        let values = self.inner.headers.get_all(&HeaderName::Via).map(Header::value);
        values.map(|value| 1 + usize::from(first_hop(&value).len() < value.len())).sum()
    }

    /// What the client calls itself, as one line.
    pub fn user_agent(&self) -> Option<String> {
        self.inner.headers.value(&HeaderName::UserAgent).map(|value| one_line(&value))
    }
}

impl Contact {
    fn new(address: &Address) -> Result<Self, &'static str> {
        if !address.uri.scheme().is_sip() {
            return Err("Contact Is No SIP URI");
        }
        let text = |name| address.param(name).map(super::text);
        Ok(Self {
            uri: address.uri.to_string(),
            expires_s: address.param("expires").and_then(leading_number),
            instance: text("+sip.instance"),
            reg_id: address.param("reg-id").and_then(leading_number).filter(|id| *id > 0),
        })
    }

    /// Whether both are the same contact (RFC 3261 §19.1.4).
    pub fn is_same_uri(one: &str, other: &str) -> bool {
        let parse = |uri: &str| sipx_sip::Uri::parse(uri.as_bytes().to_vec().into());
        one == other || matches!((parse(one), parse(other)), (Ok(one), Ok(other)) if one.equivalent(&other))
    }
}

impl Fault {
    /// What to answer to a datagram that is no message: nothing, unless it is a request whose sender can be told.
    pub(super) fn of_unreadable(datagram: &[u8], error: &ParseError) -> Option<Self> {
        if datagram.starts_with(b"SIP/") || datagram.starts_with(b"ACK ") {
            return None;
        }
        let (code, reason) = match error {
            ParseError::StartLine(_) => (400, "Malformed Request-Line"),
            ParseError::HeaderSyntax { .. } => (400, "Malformed Header"),
            ParseError::Framing(_) => (400, "Malformed Body Length"),
            // A flood of headers or bytes is not answered with one of the same size.
            _ => return None,
        };
        Some(Self { code, reason, echo: Echo::of_text(datagram)? })
    }
}

fn tokens(headers: &Headers, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).map(Header::value);
    let texts = values.map(|value| super::text(&value));
    texts
        .flat_map(|text| text.split(',').map(|t| t.trim().to_owned()).collect::<Vec<_>>())
        .filter(|t| !t.is_empty())
        .collect()
}
