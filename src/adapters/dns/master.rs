//! One zone at its one configured master: asks with our key and authority, updates with prerequisites.
//!
//! It never sends an update twice and never guesses: what a lost answer means is judged by who asked.

use std::net::SocketAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigner};

use super::Limits;
use super::advice::{Doing, Where};
use super::line::Line;
use super::rrset::VALUES_MAX;
use super::wire::{self, Fault, Request};
use crate::config;
use crate::host::{clock, secret};

/// A name and a type.
pub type Key = (Name, RecordType);

/// A conversation with the master, for the length of one call: the secret is read at its beginning.
pub struct Master {
    /// The zone, checked.
    pub zone: Name,
    /// For advice.
    pub at: Where,
    key: TSigner,
    line: Line,
}

/// What a question was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The values, in the server's order.
    pub values: Vec<RData>,
    /// Their TTL, seconds; 0 when there are none.
    pub ttl_s: u32,
    /// What came along: glue.
    pub additionals: Vec<Record>,
}

impl Master {
    /// Reads the secret; connects at the first request.
    ///
    /// # Errors
    /// The line of advice.
    pub fn open(update: &config::DnsUpdate, limits: Limits) -> Result<Self, String> {
        let at = Where::of(update, limits);
        let key = secret::read(&update.key.secret)
            .map_err(Fault::Key)
            .and_then(|secret| Ok((wire::name(&update.zone)?, wire::signer(&update.key, &secret)?)));
        let (zone, key) = key.map_err(|fault| at.advice(&fault, Doing::Read))?;
        Ok(Self { zone, key, line: Line::new(update.server, limits), at })
    }

    /// A configured name, which must lie in the zone.
    ///
    /// # Errors
    /// It does not.
    pub fn name(&self, text: &str) -> Result<Name, Fault> {
        wire::name_in(&self.zone, text)
    }

    /// Asks for RRsets, all at once; signed, RD=0.
    ///
    /// # Errors
    /// The first fault.
    pub async fn ask(&mut self, keys: &[Key]) -> Result<Vec<Answered>, Fault> {
        ask(&mut self.line, keys, Some(&self.key)).await
    }

    /// Sends one update. `Ok` only for a signed NOERROR.
    ///
    /// # Errors
    /// Everything else; [`Fault::surely_not_applied`] tells what it means.
    pub async fn update(&mut self, prerequisites: Vec<Record>, updates: Vec<Record>) -> Result<(), Fault> {
        let request = Request::update(&self.zone, prerequisites, updates, &self.key, now_s())?;
        let bytes = self.line.once(&request).await?;
        match request.judge(&bytes, now_s())?.response_code {
            ResponseCode::NoError => Ok(()),
            code => Err(Fault::Rcode(code)),
        }
    }
}

/// Asks any name server for RRsets over TCP with RD=0; only answers with authority count.
///
/// # Errors
/// The first fault.
pub async fn ask(line: &mut Line, keys: &[Key], key: Option<&TSigner>) -> Result<Vec<Answered>, Fault> {
    let requests: Vec<Request> =
        keys.iter().map(|(name, rtype)| Request::query(name, *rtype, key, now_s())).collect::<Result<_, _>>()?;
    let answers = line.ask(&requests).await?;
    let judged = requests.iter().zip(&answers).zip(keys);
    judged.map(|((request, bytes), key)| read(request, bytes, key)).collect()
}

/// Reads the answer to one question; pure but for the clock that the signature is held against.
fn read(request: &Request, bytes: &[u8], (name, rtype): &Key) -> Result<Answered, Fault> {
    let answer = request.judge(bytes, now_s())?;
    match answer.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        code => return Err(Fault::Rcode(code)),
    }
    if !answer.authoritative {
        return Err(Fault::NotAuthoritative);
    }
    let alias = |record: &&Record| {
        matches!(record.record_type(), RecordType::CNAME | RecordType::DNAME) && record.record_type() != *rtype
    };
    if let Some(alias) = answer.answers.iter().find(alias) {
        return Err(Fault::Alias(alias.name.to_ascii()));
    }
    let ours =
        |record: &&Record| record.name == *name && record.record_type() == *rtype && record.dns_class == DNSClass::IN;
    let records: Vec<&Record> = answer.answers.iter().filter(ours).collect();
    if records.len() > VALUES_MAX {
        return Err(Fault::Malformed(format!("{} records of one name and type", records.len())));
    }
    Ok(Answered {
        ttl_s: records.iter().map(|record| record.ttl).min().unwrap_or(0),
        values: records.into_iter().map(|record| record.data.clone()).collect(),
        additionals: answer.additionals,
    })
}

/// The master's address, for records of what was verified where.
pub fn label(server: SocketAddr) -> String {
    server.to_string()
}

fn now_s() -> i64 {
    clock::now().wall.as_second()
}
