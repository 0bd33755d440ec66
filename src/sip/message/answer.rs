//! What is said to a request.
//!
//! The lines that an answer repeats (RFC 3261 §8.2.6.2) are taken over as they came, so that even a request which
//! cannot be understood can be answered; only the neighbour's hop gets what we know of him.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use sipx_sip::{HeaderName, Headers, Host, Via};

use super::{bracketed, first_hop};

/// More hops no request makes (RFC 3261 §8.1.1.6: Max-Forwards begins at 70).
const HOPS_MAX: usize = 70;

/// More than this is not repeated: so many hops fit in, and a flood is not answered with one of the same size, which
/// nobody could read (a header line has at most 8 KiB, [`super::limits`]).
const ECHO_BYTES_MAX: usize = 6 * 1024;

/// The header lines of a request that its answer repeats.
#[derive(Debug, Clone, Default)]
pub struct Echo {
    via: Vec<Vec<u8>>,
    /// The neighbour's hop, where it can be read.
    hop: Option<Hop>,
    from: Vec<u8>,
    to: Vec<u8>,
    call_id: Vec<u8>,
    cseq: Vec<u8>,
}

/// What the neighbour says of himself.
#[derive(Debug, Clone, Copy)]
struct Hop {
    /// His address, unless he gives a name.
    address: Option<IpAddr>,
    port: Option<u16>,
    asks_port: bool,
}

impl Hop {
    fn read(via: &[Vec<u8>]) -> Option<Self> {
        let via = Via::parse_one(first_hop(via.first()?)).ok()?;
        let address = if let Host::Ip(address) = via.host { Some(address) } else { None };
        Some(Self { address, port: via.port, asks_port: via.rport().is_some() })
    }
}

impl Echo {
    pub(super) fn of_headers(headers: &Headers) -> Self {
        let one = |name| headers.value(&name).map(|value| value.trim_ascii().to_vec()).unwrap_or_default();
        let via: Vec<_> =
            headers.get_all(&HeaderName::Via).map(|header| header.value().trim_ascii().to_vec()).collect();
        Self {
            hop: Hop::read(&via),
            via,
            from: one(HeaderName::From),
            to: one(HeaderName::To),
            call_id: one(HeaderName::CallId),
            cseq: one(HeaderName::CSeq),
        }
    }

    /// Finds the lines in a text that could not be read as a message; `None` when one of them is missing.
    pub(super) fn of_text(text: &[u8]) -> Option<Self> {
        let mut echo = Self::default();
        for line in text.split(|&b| b == b'\n').map(<[u8]>::trim_ascii).skip(1) {
            if line.is_empty() {
                break;
            }
            let Some(colon) = line.iter().position(|&b| b == b':') else { continue };
            let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
            let value = value.to_vec();
            match name.to_ascii_lowercase().as_slice() {
                b"via" | b"v" => echo.via.push(value),
                b"from" | b"f" => echo.from = value,
                b"to" | b"t" => echo.to = value,
                b"call-id" | b"i" => echo.call_id = value,
                b"cseq" => echo.cseq = value,
                _ => {}
            }
        }
        let lines = echo.via.iter().chain([&echo.from, &echo.to, &echo.call_id, &echo.cseq]);
        // What breaks a line for one reader and not for another must not go out again.
        let is_clean = lines.flatten().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
        echo.hop = Hop::read(&echo.via);
        let whole = is_clean && echo.is_whole() && echo.has_hop();
        whole.then_some(echo)
    }

    fn is_whole(&self) -> bool {
        let once = [&self.from, &self.to, &self.call_id, &self.cseq];
        (1..=HOPS_MAX).contains(&self.via.len())
            && once.iter().all(|line| !line.is_empty())
            && self.via.iter().chain(once).map(Vec::len).sum::<usize>() <= ECHO_BYTES_MAX
    }

    /// Whether the neighbour's hop can be read.
    pub(super) fn has_hop(&self) -> bool {
        self.hop.is_some()
    }

    /// Where a datagram with the answer goes (RFC 3261 §18.2.2, RFC 3581 §4).
    ///
    /// To the port it came from if `rport` asks for that, and also when a NAT stands between (as Asterisk does by
    /// default): the port in Via is then of another address.
    pub fn return_address(&self, source: SocketAddr) -> SocketAddr {
        match self.hop {
            Some(Hop { address, port, asks_port: false }) if address == Some(source.ip()) => {
                SocketAddr::new(source.ip(), port.unwrap_or(5060))
            }
            _ => source,
        }
    }
}

/// An answer under construction.
#[derive(Debug)]
pub struct Answer {
    text: Vec<u8>,
}

impl Answer {
    /// Begins an answer to the request with this `echo`, which came from `source`; `tag` marks us as who answers.
    ///
    /// `None` when the request lacks what an answer must repeat: nobody waits for one.
    pub fn new(echo: &Echo, source: SocketAddr, code: u16, reason: &str, tag: &str) -> Option<Self> {
        if !echo.is_whole() {
            return None;
        }
        let mut text = Vec::with_capacity(600);
        let _ = write!(text, "SIP/2.0 {code} {reason}\r\n");
        for (index, via) in echo.via.iter().enumerate() {
            text.extend_from_slice(b"Via: ");
            if index == 0 {
                let first = first_hop(via);
                match echo.hop {
                    Some(hop) => stamp(&mut text, first, hop, source),
                    None => text.extend_from_slice(first),
                }
                text.extend_from_slice(&via[first.len()..]);
            } else {
                text.extend_from_slice(via);
            }
            text.extend_from_slice(b"\r\n");
        }
        let mut answer = Self { text };
        answer.line("From", &echo.from);
        answer.text.extend_from_slice(b"To: ");
        answer.text.extend_from_slice(&echo.to);
        if !has_tag(&echo.to) {
            let _ = write!(answer.text, ";tag={tag}");
        }
        answer.text.extend_from_slice(b"\r\n");
        answer.line("Call-ID", &echo.call_id);
        answer.line("CSeq", &echo.cseq);
        Some(answer)
    }

    fn line(&mut self, name: &str, value: &[u8]) {
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b": ");
        self.text.extend_from_slice(value);
        self.text.extend_from_slice(b"\r\n");
    }

    /// Adds a header. A value that came from outside cannot break its line: what is no printable text is left out.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if value.chars().any(char::is_control) {
            let value: String = value.chars().filter(|c| !c.is_control()).collect();
            self.line(name, value.as_bytes());
        } else {
            self.line(name, value.as_bytes());
        }
        self
    }

    /// The bytes, without a body.
    pub fn finish(mut self) -> Vec<u8> {
        self.line("Server", super::question::USER_AGENT.as_bytes());
        self.text.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        self.text
    }
}

/// The neighbour's hop with where it really came from: `received` (RFC 3261 §18.2.1) and `rport` (RFC 3581 §4).
fn stamp(text: &mut Vec<u8>, via: &[u8], hop: Hop, source: SocketAddr) {
    // The parameters are cut at their semicolons; ours are replaced, whatever the sender wrote into them.
    for (index, part) in split_outside_quotes(via).into_iter().map(<[u8]>::trim_ascii).enumerate() {
        let name = part.split(|&b| b == b'=').next().unwrap_or_default().trim_ascii();
        if index == 0 {
            text.extend_from_slice(part);
        } else if !name.eq_ignore_ascii_case(b"rport") && !name.eq_ignore_ascii_case(b"received") {
            text.push(b';');
            text.extend_from_slice(part);
        }
    }
    if hop.asks_port || hop.address != Some(source.ip()) {
        let _ = write!(text, ";received={}", source.ip());
    }
    if hop.asks_port {
        let _ = write!(text, ";rport={}", source.port());
    }
}

fn split_outside_quotes(text: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' if !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Whether the value of To has a tag: a parameter behind the URI, not a part of it.
fn has_tag(to: &[u8]) -> bool {
    // Most have none, and need not be read once more for that.
    let may = to.windows(3).any(|word| word.eq_ignore_ascii_case(b"tag"));
    may && sipx_sip::Address::parse(to, "To").is_ok_and(|address| address.tag().is_some())
}

/// A contact as it stands in the answer to a REGISTER (RFC 3261 §10.3, 8).
pub fn binding(uri: &str, expires_s: u64, instance: Option<&str>, reg_id: Option<u32>) -> String {
    let mut text = format!("<{uri}>;expires={expires_s}");
    if let Some(instance) = instance {
        let _ = write!(text, ";+sip.instance=\"{}\"", instance.replace(['"', '\\'], ""));
    }
    if let Some(reg_id) = reg_id {
        let _ = write!(text, ";reg-id={reg_id}");
    }
    text
}

/// The host and port of an address as they stand in a URI.
pub fn host_port(address: SocketAddr) -> String {
    format!("{}:{}", bracketed(address.ip()), address.port())
}
