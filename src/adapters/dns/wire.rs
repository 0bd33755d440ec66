//! DNS requests and the judgement of their answers: bytes in, bytes out, no socket and no clock.
//!
//! An answer is believed only when its id, its question and, where we signed, its signature fit. The TSIG error is
//! looked at before the signature, because BADKEY and BADSIG come without one (RFC 8945 §5.3.2).

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::tsig::{TSIG, TsigAlgorithm, TsigError};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigner};
use secrecy::{ExposeSecret, SecretString};

use crate::config;

/// How far clocks may differ, seconds (RFC 8945 §10 recommends 300).
pub const FUDGE_S: u16 = 300;

/// Longest message over TCP: its length is a u16 (RFC 1035 §4.2.2).
pub const MESSAGE_BYTES_MAX: usize = u16::MAX as usize;

/// Why there is no answer that can be believed; [`super::advice`] says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The key cannot be used; the text says why and never holds the secret.
    Key(String),
    /// A configured name or value is none, or lies outside the zone.
    Name(String),
    /// Nobody listens there.
    ConnectRefused,
    /// No connection, for the system's reason.
    Unreachable(String),
    /// No connection in time.
    ConnectTimeout,
    /// The request left, no answer came in time.
    AnswerTimeout,
    /// The request left, the connection ended without an answer.
    Closed,
    /// The answer is no DNS message, or a broken one.
    Malformed(String),
    /// The answer is to another question.
    Foreign,
    /// We signed, the answer is not signed.
    Unsigned(ResponseCode),
    /// The signature does not fit our key.
    BadMac,
    /// The signature is older or newer than the fudge, by so many seconds.
    Stale(i64),
    /// The server did not take our signature.
    Tsig(TsigError),
    /// The server's clock is so many seconds ahead of ours (negative: behind).
    BadTime(i64),
    /// A signed answer (or an unsigned one to an unsigned question) with this code.
    Rcode(ResponseCode),
    /// The server answers without authority.
    NotAuthoritative,
    /// The name is an alias (CNAME or DNAME).
    Alias(String),
}

impl Fault {
    /// Whether an update that met this fault was surely not applied. Everything else may still happen.
    pub fn surely_not_applied(&self) -> bool {
        match self {
            Self::Key(_)
            | Self::Name(_)
            | Self::ConnectRefused
            | Self::Unreachable(_)
            | Self::ConnectTimeout
            | Self::Tsig(_)
            | Self::BadTime(_)
            | Self::NotAuthoritative
            | Self::Alias(_) => true,
            Self::Rcode(code) => *code != ResponseCode::ServFail,
            Self::Unsigned(code) => matches!(code, ResponseCode::Refused | ResponseCode::NotAuth),
            Self::AnswerTimeout | Self::Closed | Self::Malformed(_) | Self::Foreign | Self::BadMac | Self::Stale(_) => {
                false
            }
        }
    }

    /// Whether a prerequisite was not met (RFC 2136 §3.2).
    pub fn prerequisite_failed(&self) -> bool {
        matches!(
            self,
            Self::Rcode(
                ResponseCode::NXRRSet | ResponseCode::YXRRSet | ResponseCode::NXDomain | ResponseCode::YXDomain
            )
        )
    }
}

/// A name in wire form, from the configuration's text (which has no final dot).
///
/// # Errors
/// The text is no domain name.
pub fn name(text: &str) -> Result<Name, Fault> {
    let mut name = Name::from_ascii(text).map_err(|_| Fault::Name(format!("{text:?} is not a domain name")))?;
    name.set_fqdn(true);
    Ok(name)
}

/// A name that lies in `zone`, which some helpers of the DNS library take for granted.
///
/// # Errors
/// The text is no domain name, or lies outside.
pub fn name_in(zone: &Name, text: &str) -> Result<Name, Fault> {
    let name = name(text)?;
    if zone.zone_of(&name) { Ok(name) } else { Err(Fault::Name(format!("{text} lies outside the zone {zone}"))) }
}

/// The signer of a configured key, with the secret that was just read.
///
/// # Errors
/// The secret is not base64, or the name is none.
pub fn signer(key: &config::TsigKey, secret: &SecretString) -> Result<TSigner, Fault> {
    let bytes = base64(secret.expose_secret()).ok_or_else(|| {
        Fault::Key(format!("the secret of the key {} is not base64; copy the text between the quotes", key.name))
    })?;
    let algorithm = match key.algorithm {
        config::TsigAlgorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
        config::TsigAlgorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
        config::TsigAlgorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
    };
    TSigner::new(bytes, algorithm, name(&key.name)?.to_lowercase(), FUDGE_S)
        .map_err(|e| Fault::Key(format!("the key {} cannot be used: {e}", key.name)))
}

/// One request, as it goes out, with what its answer is judged by.
pub struct Request {
    /// The message, without the length in front.
    pub bytes: Vec<u8>,
    id: u16,
    op_code: OpCode,
    question: Query,
    signed: Option<(TSigner, Vec<u8>)>,
}

impl Request {
    /// A question with RD=0, signed where a key is given.
    ///
    /// # Errors
    /// The message cannot be built.
    pub fn query(name: &Name, rtype: RecordType, key: Option<&TSigner>, now_s: i64) -> Result<Self, Fault> {
        Self::build(OpCode::Query, Query::query(name.clone(), rtype), Vec::new(), Vec::new(), key, now_s)
    }

    /// An update of `zone` (RFC 2136 §2), always signed.
    ///
    /// # Errors
    /// The message cannot be built, for example because it is too long.
    pub fn update(
        zone: &Name,
        prerequisites: Vec<Record>,
        updates: Vec<Record>,
        key: &TSigner,
        now_s: i64,
    ) -> Result<Self, Fault> {
        let zone = Query::query(zone.clone(), RecordType::SOA);
        Self::build(OpCode::Update, zone, prerequisites, updates, Some(key), now_s)
    }

    fn build(
        op_code: OpCode,
        question: Query,
        prerequisites: Vec<Record>,
        updates: Vec<Record>,
        key: Option<&TSigner>,
        now_s: i64,
    ) -> Result<Self, Fault> {
        let mut message = Message::query();
        message.metadata.op_code = op_code;
        message.metadata.recursion_desired = false;
        message.add_query(question.clone());
        message.answers = prerequisites;
        message.authorities = updates;
        let signed = match key {
            None => None,
            Some(key) => {
                message.finalize(key, u64::try_from(now_s).unwrap_or(0)).map_err(|e| Fault::Key(e.to_string()))?;
                let mac = message.signature().map(|record| record.data.mac.clone()).unwrap_or_default();
                Some((key.clone(), mac))
            }
        };
        let bytes = message.to_vec().map_err(|e| Fault::Name(format!("the request cannot be written: {e}")))?;
        // The encoder marks what did not fit as truncated, and leaves it out: such a message must never be sent.
        if bytes.len() > MESSAGE_BYTES_MAX || bytes.get(2).is_none_or(|flags| flags & 0x02 != 0) {
            return Err(Fault::Name("the update is longer than 64 KiB; move fewer records".to_owned()));
        }
        Ok(Self { bytes, id: message.metadata.id, op_code, question, signed })
    }

    /// Whether these bytes begin with our id: how answers on one connection are told apart.
    pub fn is_answered_by(&self, bytes: &[u8]) -> bool {
        bytes.first_chunk::<2>() == Some(&self.id.to_be_bytes())
    }

    /// Decodes an answer, and believes it or not.
    ///
    /// # Errors
    /// Every reason not to believe it. The response code is not looked at, except to tell of it.
    pub fn judge(&self, bytes: &[u8], now_s: i64) -> Result<Message, Fault> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(Fault::Malformed("too long".to_owned()));
        }
        let answer = Message::from_vec(bytes).map_err(|e| Fault::Malformed(e.to_string()))?;
        if answer.id != self.id || answer.message_type != MessageType::Response || answer.op_code != self.op_code {
            return Err(Fault::Foreign);
        }
        let echoed = match answer.queries.as_slice() {
            [one] => *one == self.question,
            // A refusal may leave the question out, and so may any answer to an update (RFC 2136 §3.8).
            [] => self.op_code == OpCode::Update || answer.response_code != ResponseCode::NoError,
            _ => false,
        };
        if !echoed {
            return Err(Fault::Foreign);
        }
        if let Some((key, mac)) = &self.signed {
            let tsig = &answer.signature().ok_or(Fault::Unsigned(answer.response_code))?.data;
            if let Some(error) = tsig.error {
                return Err(refused_signature(error, tsig, now_s));
            }
            verify(key, mac, tsig, bytes, now_s)?;
        }
        if answer.truncation {
            return Err(Fault::Malformed("truncated, although over TCP".to_owned()));
        }
        Ok(answer)
    }
}

fn refused_signature(error: TsigError, tsig: &TSIG, now_s: i64) -> Fault {
    // Six bytes: the server's time (RFC 8945 §5.2.3).
    match <[u8; 6]>::try_from(tsig.other.as_slice()) {
        Ok(time) if error == TsigError::BadTime => {
            let server_s = time.iter().fold(0_i64, |seconds, byte| seconds << 8 | i64::from(*byte));
            Fault::BadTime(server_s - now_s)
        }
        _ => Fault::Tsig(error),
    }
}

fn verify(key: &TSigner, mac: &[u8], tsig: &TSIG, bytes: &[u8], now_s: i64) -> Result<(), Fault> {
    // The library subtracts the fudge from the time without looking.
    if tsig.time < u64::from(tsig.fudge) {
        return Err(Fault::BadMac);
    }
    let (_, signed_s, _) = key.verify_message_byte(bytes, Some(mac), true).map_err(|_| Fault::BadMac)?;
    let off_s = i64::try_from(signed_s).unwrap_or(i64::MAX).saturating_sub(now_s);
    if off_s.unsigned_abs() > u64::from(FUDGE_S) { Err(Fault::Stale(off_s)) } else { Ok(()) }
}

/// "These exact values, and no others" (RFC 2136 §2.4.2), or "no such RRset" (§2.4.3) when there are none.
pub fn require(name: &Name, rtype: RecordType, values: &[RData]) -> Vec<Record> {
    if values.is_empty() {
        return vec![empty(name, rtype, DNSClass::NONE)];
    }
    // The TTL of a prerequisite is 0, whatever the record's is.
    values.iter().map(|value| Record::from_rdata(name.clone(), 0, value.clone())).collect()
}

/// Replaces an RRset: deletes it (RFC 2136 §2.5.2), then adds each value (§2.5.1).
pub fn replace(name: &Name, rtype: RecordType, ttl_s: u32, values: &[RData]) -> Vec<Record> {
    let added = values.iter().map(|value| Record::from_rdata(name.clone(), ttl_s, value.clone()));
    std::iter::once(empty(name, rtype, DNSClass::ANY)).chain(added).collect()
}

fn empty(name: &Name, rtype: RecordType, class: DNSClass) -> Record {
    let mut record = Record::update0(name.clone(), 0, rtype);
    record.dns_class = class;
    record
}

/// RFC 4648 §4, as the key files of BIND, Knot and PowerDNS write it: padded, perhaps broken over lines.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let body = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(&text);
    if text.is_empty() || !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for quad in body.chunks(4) {
        let mut bits = 0_u32;
        for byte in quad {
            let six = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(six);
        }
        bits <<= 6 * (4 - quad.len());
        let whole = quad.len() * 6 / 8;
        bytes.extend(bits.to_be_bytes().into_iter().skip(1).take(whole));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_key_files_write_it() {
        assert_eq!(base64("c2VjcmV0").unwrap(), b"secret");
        assert_eq!(base64("c2Vj\n cmU=").unwrap(), b"secre");
        assert_eq!(base64("c2VjcmV0cw==").unwrap(), b"secrets");
        for bad in ["", "c2V", "c2V!", "c2Vjcm=0", "===="] {
            assert!(base64(bad).is_none_or(|b| b.is_empty()), "{bad}");
        }
    }

    #[test]
    fn a_name_outside_the_zone_is_refused_before_any_helper_sees_it() {
        let zone = name("example.com").unwrap();
        assert!(name_in(&zone, "pbx.example.com").is_ok());
        assert!(name_in(&zone, "example.com").is_ok());
        assert!(matches!(name_in(&zone, "pbx.example.net"), Err(Fault::Name(_))));
        assert!(matches!(name_in(&zone, "pbx..example.com"), Err(Fault::Name(_))));
        assert!(matches!(name_in(&zone, "badexample.com"), Err(Fault::Name(_))));
    }
}
