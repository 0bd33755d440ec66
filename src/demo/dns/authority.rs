//! Answers one request: bytes and the time in, bytes out. Judges TSIG before all else, and signs what it answers.

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::TSIG;
use hickory_proto::rr::rdata::tsig::{TsigError, make_tsig_record, signed_bitmessage_to_buf};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigner};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::update::{is_meta, updated};
use super::zone::{RrSet, Zone};
use crate::adapters::dns::wire::{FUDGE_S, MESSAGE_BYTES_MAX};

/// Most bytes over UDP: what passes every path without fragments (RFC 9715 §3.1); we say so in our OPT.
const UDP_BYTES_MAX: u16 = 1_232;

/// Most aliases that one answer follows, more than anybody writes; also what ends a circle of them.
const ALIASES_MAX: usize = 8;

/// How a request came, which says how long its answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// At most what the client takes (RFC 6891 §6.2.3), else truncated.
    Udp,
    /// At most 64 KiB.
    Tcp,
}

/// The zone and who may change it.
pub struct Authority {
    zone: Zone,
    keys: Vec<TSigner>,
}

/// What the TSIG of an answer will be.
struct Seal {
    name: Name,
    tsig: TSIG,
    request_mac: Vec<u8>,
    /// Without one the answer has an empty MAC (RFC 8945 §5.3.2).
    key: Option<TSigner>,
}

impl Authority {
    /// Every one of the keys may change the whole zone.
    pub fn new(zone: Zone, keys: Vec<TSigner>) -> Self {
        Self { zone, keys }
    }

    /// The zone as it is now.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The answer to a request. `None` for what no server answers: an answer, or less than a header.
    pub fn answer(&mut self, request: &[u8], transport: Transport, now_s: u64) -> Option<Vec<u8>> {
        let header: &[u8; 12] = request.first_chunk()?;
        if header[2] & 0x80 != 0 {
            return None;
        }
        Some(self.try_answer(header, request, transport, now_s).unwrap_or_else(|code| bare(header, code)))
    }

    /// # Errors
    /// The code of an answer that has nothing but a header.
    fn try_answer(
        &mut self,
        header: &[u8; 12],
        bytes: &[u8],
        transport: Transport,
        now_s: u64,
    ) -> Result<Vec<u8>, ResponseCode> {
        // One question (RFC 9619), one zone (RFC 2136 §3.1.1): looked at before memory is taken for more.
        if header[4..6] != [0, 1] {
            return Err(ResponseCode::FormErr);
        }
        let mut decoder = BinDecoder::new(bytes);
        let request = Message::read(&mut decoder).map_err(|_| ResponseCode::FormErr)?;
        let ([question], true) = (request.queries.as_slice(), decoder.is_empty()) else {
            return Err(ResponseCode::FormErr);
        };
        let seal = match request.signature() {
            None => None,
            Some(record) => Some(self.seal(record, &request, bytes, now_s).ok_or(ResponseCode::FormErr)?),
        };
        let mut answer = Message::response(request.id, request.op_code);
        answer.metadata.recursion_desired = request.recursion_desired;
        answer.add_query(question.clone());
        answer.edns = request.edns.as_ref().map(|theirs| {
            let mut ours = Edns::new();
            ours.set_max_payload(UDP_BYTES_MAX).set_dnssec_ok(theirs.flags().dnssec_ok);
            ours
        });
        answer.metadata.response_code = if seal.as_ref().is_some_and(|seal| seal.tsig.error.is_some()) {
            ResponseCode::NotAuth
        } else if request.version() > 0 {
            ResponseCode::BADVERS
        } else {
            match request.op_code {
                OpCode::Query => self.query(question, &mut answer),
                OpCode::Update => self.update(question, &request, seal.is_some()),
                _ => ResponseCode::NotImp,
            }
        };
        let limit = match transport {
            Transport::Udp => usize::from(request.max_payload().min(UDP_BYTES_MAX)),
            Transport::Tcp => MESSAGE_BYTES_MAX,
        };
        let whole = encode(&answer, seal.as_ref(), limit);
        whole.or_else(|| encode(&answer.truncate(), seal.as_ref(), limit)).ok_or(ResponseCode::ServFail)
    }

    /// Judges a request's TSIG in the order of RFC 8945 §5.2. `None`: no request has such a one (§4.2, §5.2.2.1).
    fn seal(&self, record: &Record<TSIG>, request: &Message, bytes: &[u8], now_s: u64) -> Option<Seal> {
        let asked = &record.data;
        if record.dns_class != DNSClass::ANY || asked.error.is_some() {
            return None;
        }
        let seal = |key: Option<&TSigner>, time_s: u64, error: Option<TsigError>, other: Vec<u8>| Seal {
            name: record.name.clone(),
            tsig: TSIG::new(asked.algorithm.clone(), time_s, FUDGE_S, Vec::new(), request.id, error, other),
            request_mac: asked.mac.clone(),
            key: key.cloned(),
        };
        let fits = |key: &&TSigner| {
            *key.signer_name() == record.name && key.algorithm().to_name() == asked.algorithm.to_name()
        };
        let Some(key) = self.keys.iter().find(fits) else {
            return Some(seal(None, now_s, Some(TsigError::BadKey), Vec::new()));
        };
        let (signed, _) = signed_bitmessage_to_buf(bytes, None, true).ok()?;
        let length = key.sign(&signed).ok()?.len();
        if !((length / 2).max(10)..=length).contains(&asked.mac.len()) {
            return None;
        }
        // In constant time. A truncated MAC is refused like a wrong one, and a TTL that is not 0 was signed by nobody.
        if record.ttl != 0 || key.verify(&signed, &asked.mac).is_err() {
            return Some(seal(None, now_s, Some(TsigError::BadSig), Vec::new()));
        }
        if asked.time.abs_diff(now_s) > u64::from(asked.fudge) {
            // §5.2.3: signed, with the client's time, and ours as six bytes beside it.
            return Some(seal(Some(key), asked.time, Some(TsigError::BadTime), now_s.to_be_bytes()[2..].to_vec()));
        }
        Some(seal(Some(key), now_s, None, Vec::new()))
    }

    /// Fills the sections (RFC 1034 §4.3.2, RFC 2308 §2).
    fn query(&self, question: &Query, answer: &mut Message) -> ResponseCode {
        let (zone, rtype) = (&self.zone, question.query_type());
        let transfer = matches!(rtype, RecordType::AXFR | RecordType::IXFR);
        if question.query_class() != DNSClass::IN || !zone.holds(question.name()) || transfer {
            return ResponseCode::Refused;
        }
        if is_meta(rtype) && rtype != RecordType::ANY {
            return ResponseCode::NotImp;
        }
        answer.metadata.authoritative = true;
        let mut name = question.name().clone();
        for _ in 0..ALIASES_MAX {
            let Some(node) = zone.look_up(&name) else { return self.deny(answer, ResponseCode::NXDomain) };
            let wanted = node.iter().filter(|(present, _)| rtype == RecordType::ANY || **present == rtype);
            let before = answer.answers.len();
            answer.add_answers(wanted.flat_map(|(_, set)| records(&name, set)));
            if answer.answers.len() > before {
                answer.additionals = self.addresses(&answer.answers);
                return ResponseCode::NoError;
            }
            let Some(alias) = node.get(&RecordType::CNAME) else { return self.deny(answer, ResponseCode::NoError) };
            answer.add_answers(records(&name, alias));
            match alias.values.first() {
                Some(RData::CNAME(target)) if zone.holds(target) => name = target.0.clone(),
                _ => return ResponseCode::NoError,
            }
        }
        // A circle is told as an error (RFC 1034 §3.6.2).
        ResponseCode::ServFail
    }

    /// Adds the SOA, whose TTL says how long the denial may be kept.
    fn deny(&self, answer: &mut Message, code: ResponseCode) -> ResponseCode {
        if let Some((ttl_s, soa)) = self.zone.soa() {
            let ttl_s = ttl_s.min(soa.minimum);
            answer.add_authority(Record::from_rdata(self.zone.origin().clone(), ttl_s, RData::SOA(soa.clone())));
        }
        code
    }

    /// The addresses of the name servers and SRV targets in an answer, as far as we know them.
    fn addresses(&self, answers: &[Record]) -> Vec<Record> {
        let targets = answers.iter().filter_map(|record| match &record.data {
            RData::NS(server) => Some(&server.0),
            RData::SRV(service) => Some(&service.target),
            _ => None,
        });
        let sets = |target| [RecordType::A, RecordType::AAAA].map(|rtype| (target, self.zone.set(target, rtype)));
        let known = targets.flat_map(sets).filter_map(|(target, set)| Some((target, set?)));
        known.flat_map(|(target, set)| records(target, set)).collect()
    }

    /// RFC 2136 §3.1, then §3.3 ahead of §3.2: for who has no key, nothing is compared.
    fn update(&mut self, zone: &Query, request: &Message, signed: bool) -> ResponseCode {
        if zone.query_type() != RecordType::SOA {
            return ResponseCode::FormErr;
        }
        if zone.query_class() != DNSClass::IN || zone.name() != self.zone.origin() {
            return ResponseCode::NotAuth;
        }
        if !signed {
            return ResponseCode::Refused;
        }
        match updated(&self.zone, &request.answers, &request.authorities) {
            Ok(next) => {
                self.zone = next;
                ResponseCode::NoError
            }
            Err(code) => code,
        }
    }
}

fn records<'a>(name: &'a Name, set: &'a RrSet) -> impl Iterator<Item = Record> + 'a {
    set.values.iter().map(|value| Record::from_rdata(name.clone(), set.ttl_s, value.clone()))
}

/// Writes and signs an answer. `None` when it is longer than the limit.
fn encode(answer: &Message, seal: Option<&Seal>, limit: usize) -> Option<Vec<u8>> {
    let mut bytes = answer.to_vec().ok()?;
    if let Some(Seal { name, tsig, request_mac, key }) = seal {
        let mac = match key {
            None => Vec::new(),
            Some(key) => key.sign(&key.encode_response_tbs(request_mac, &bytes, tsig).ok()?).ok()?,
        };
        let mut signed = answer.clone();
        signed.set_signature(Box::new(make_tsig_record(name.clone(), tsig.clone().set_mac(mac))));
        bytes = signed.to_vec().ok()?;
    }
    // The encoder leaves out what does not fit and marks the message, which we did not.
    let cut = bytes.get(2).is_none_or(|flags| flags & 0x02 != 0) && !answer.truncation;
    (bytes.len() <= limit && !cut).then_some(bytes)
}

/// A header alone, with the request's id, opcode and RD.
fn bare(request: &[u8; 12], code: ResponseCode) -> Vec<u8> {
    let mut header = vec![0; 12];
    header[..2].copy_from_slice(&request[..2]);
    header[2] = 0x80 | (request[2] & 0x79);
    header[3] = code.low();
    header
}
