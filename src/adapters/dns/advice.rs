//! Turns every fault of BIND, Knot and PowerDNS into one line: what failed, and what to do.
//!
//! It names the server, the zone and the key, never the secret.

use std::net::SocketAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::tsig::TsigError;

use super::Limits;
use super::master::Key;
use super::wire::Fault;
use crate::config;

/// Whom we talk to, about what, with which key.
#[derive(Debug, Clone)]
pub struct Where {
    server: SocketAddr,
    zone: String,
    key: String,
    algorithm: &'static str,
    limits: Limits,
}

/// What we were about.
#[derive(Debug, Clone, Copy)]
pub enum Doing<'a> {
    /// Asking.
    Read,
    /// Updating these names.
    Write(&'a [Key]),
}

/// The name of an algorithm as the servers' configurations write it.
pub fn algorithm(algorithm: config::TsigAlgorithm) -> &'static str {
    match algorithm {
        config::TsigAlgorithm::HmacSha256 => "hmac-sha256",
        config::TsigAlgorithm::HmacSha384 => "hmac-sha384",
        config::TsigAlgorithm::HmacSha512 => "hmac-sha512",
    }
}

impl Where {
    /// From the configuration.
    pub fn of(update: &config::DnsUpdate, limits: Limits) -> Self {
        Self {
            server: update.server,
            zone: update.zone.clone(),
            key: update.key.name.clone(),
            algorithm: algorithm(update.key.algorithm),
            limits,
        }
    }

    /// The master as people know it.
    pub fn server(&self) -> String {
        self.server.to_string()
    }

    /// The one line.
    pub fn advice(&self, fault: &Fault, doing: Doing<'_>) -> String {
        let Self { server, zone, key, algorithm, limits } = self;
        match fault {
            Fault::Key(why) => format!("cannot sign for the DNS server {server}: {why}"),
            Fault::Name(why) => format!("zone {zone} at {server}: {why}; correct it in `dns` of failover.yaml"),
            Fault::ConnectRefused => format!(
                "the DNS server {server} refuses TCP connections; start it, or let it listen for TCP at this address and port (zone {zone})"
            ),
            Fault::Unreachable(why) => {
                format!("the DNS server {server} cannot be reached: {why}; look at the route to it (zone {zone})")
            }
            Fault::ConnectTimeout => format!(
                "no TCP connection to the DNS server {server} within {:?}; is it up, and does every firewall between let TCP pass? (zone {zone})",
                limits.connect
            ),
            Fault::AnswerTimeout => format!(
                "the DNS server {server} took the connection but gave no answer within {:?}; look at its log and load (zone {zone})",
                limits.answer
            ),
            Fault::Closed => format!(
                "the DNS server {server} ended the connection without an answer; look at its log and its limit of TCP clients (zone {zone})"
            ),
            Fault::Malformed(what) => {
                format!("the DNS server {server} gave a broken answer ({what}); does anything between rewrite DNS?")
            }
            Fault::Foreign => {
                format!("the DNS server {server} answered another question; does anything between rewrite DNS?")
            }
            Fault::Unsigned(code) => self.unsigned(*code),
            Fault::BadMac => format!(
                "the answer of the DNS server {server} is not signed with our secret of the key {key} ({algorithm}); compare the secret on both sides, and see whether anything between rewrites DNS"
            ),
            Fault::Stale(off_s) => format!(
                "the answer of the DNS server {server} was signed {}; set the clocks by NTP on both hosts",
                off(*off_s)
            ),
            Fault::BadTime(off_s) => format!(
                "the DNS server {server} refuses our signature by the key {key}: its clock is {}; set the clocks by NTP on both hosts",
                off(*off_s)
            ),
            Fault::Tsig(error) => self.tsig(*error, doing),
            Fault::Rcode(code) => self.rcode(*code, doing),
            Fault::NotAuthoritative => format!(
                "the DNS server {server} answers for {zone} without authority; `server` must be the zone's master itself, not a resolver, and the zone must be loaded there"
            ),
            Fault::Alias(name) => format!(
                "{name} is an alias (CNAME or DNAME) at {server}; remove the alias, records beside it cannot be kept"
            ),
        }
    }

    fn unsigned(&self, code: ResponseCode) -> String {
        let Self { server, zone, key, algorithm, .. } = self;
        match code {
            ResponseCode::NoError => format!(
                "the DNS server {server} answers our signed request with an unsigned NOERROR, which is not believed; it must know the key {key} ({algorithm}) and sign its answers"
            ),
            ResponseCode::Refused | ResponseCode::NotAuth | ResponseCode::ServFail => format!(
                "the DNS server {server} refuses without a signature ({}), as PowerDNS does for an unknown key, a wrong secret or a wrong clock; \
                 compare the key {key} ({algorithm}) with `pdnsutil list-tsig-keys`, set `pdnsutil set-meta {zone} TSIG-ALLOW-DNSUPDATE {key}`, \
                 `dnsupdate=yes` and `allow-dnsupdate-from`, and set the clocks by NTP",
                mnemonic(code)
            ),
            _ => format!(
                "the DNS server {server} gives up without a signature ({}); is the zone {zone} mastered there, and does it take updates (PowerDNS: `dnsupdate=yes`)?",
                mnemonic(code)
            ),
        }
    }

    fn tsig(&self, error: TsigError, doing: Doing<'_>) -> String {
        let Self { server, zone, key, algorithm, .. } = self;
        match error {
            TsigError::BadKey => format!(
                "the DNS server {server} does not accept the key {key} ({algorithm}) for {} (BADKEY); name and algorithm must match the server's exactly; \
                 Knot says so too when no acl of {zone} has `key: {key}`, `action: update` and, where given, \
                 `update-type` and `update-owner-name` with {}",
                what(doing),
                granted(doing)
            ),
            TsigError::BadSig => format!(
                "the DNS server {server} finds our signature wrong (BADSIG); the secret of the key {key} ({algorithm}) is not the server's: copy it again"
            ),
            TsigError::BadTime => {
                format!("the DNS server {server} finds our time wrong (BADTIME); set the clocks by NTP on both hosts")
            }
            TsigError::BadTrunc | TsigError::Unknown(_) => format!(
                "the DNS server {server} refuses our signature by the key {key} ({algorithm}) with TSIG error {}; look at its log",
                u16::from(error)
            ),
        }
    }

    fn rcode(&self, code: ResponseCode, doing: Doing<'_>) -> String {
        let Self { server, zone, key, .. } = self;
        match (code, doing) {
            (ResponseCode::Refused, Doing::Write(_)) => format!(
                "the DNS server {server} does not let the key {key} write {}; in BIND add to zone {zone}: `update-policy {{ {} }};`, in PowerDNS `pdnsutil set-meta {zone} TSIG-ALLOW-DNSUPDATE {key}`",
                what(doing),
                grants(key, doing)
            ),
            (ResponseCode::Refused, Doing::Read) => format!(
                "the DNS server {server} refuses to answer for {zone}; is the zone there, and may we ask (BIND: `allow-query`)?"
            ),
            (ResponseCode::NotAuth, _) => format!(
                "the DNS server {server} is not the master of {zone} or does not let the key {key} in (NOTAUTH); name the zone's master, and the zone itself, not a name in it"
            ),
            (ResponseCode::NotZone, _) => format!(
                "the DNS server {server} says that {} lies outside the zone {zone} (NOTZONE); is there a zone cut between?",
                what(doing)
            ),
            (ResponseCode::ServFail, Doing::Write(_)) => format!(
                "the DNS server {server} could not carry the update out (SERVFAIL); look at its log: may it write the zone's journal and directory, is the disk full?"
            ),
            (ResponseCode::ServFail, Doing::Read) => {
                format!(
                    "the DNS server {server} cannot answer for {zone} (SERVFAIL); look at its log: is the zone loaded?"
                )
            }
            (ResponseCode::NotImp, _) => {
                format!("the DNS server {server} does no DNS UPDATE (NOTIMP); turn it on (PowerDNS: `dnsupdate=yes`)")
            }
            (ResponseCode::NXRRSet | ResponseCode::YXRRSet | ResponseCode::NXDomain | ResponseCode::YXDomain, _) => {
                format!(
                    "the DNS server {server} says that {} is not what it just answered ({}); does a wildcard answer for the name, or does the zone's signing lag?",
                    what(doing),
                    mnemonic(code)
                )
            }
            (other, _) => format!("the DNS server {server} answers {} for {zone}; look at its log", mnemonic(other)),
        }
    }
}

/// A response code as every DNS tool prints it.
pub fn mnemonic(code: ResponseCode) -> String {
    let known = match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::YXDomain => "YXDOMAIN",
        ResponseCode::YXRRSet => "YXRRSET",
        ResponseCode::NXRRSet => "NXRRSET",
        ResponseCode::NotAuth => "NOTAUTH",
        ResponseCode::NotZone => "NOTZONE",
        other => return format!("RCODE {}", u16::from(other)),
    };
    known.to_owned()
}

fn off(off_s: i64) -> String {
    format!("{} s {} ours", off_s.unsigned_abs(), if off_s < 0 { "behind" } else { "ahead of" })
}

fn plain(name: &hickory_proto::rr::Name) -> String {
    name.to_ascii().trim_end_matches('.').to_owned()
}

fn what(doing: Doing<'_>) -> String {
    match doing {
        Doing::Read => "this question".to_owned(),
        Doing::Write(keys) => {
            let names: Vec<String> = keys.iter().map(|(name, rtype)| format!("{} {rtype}", plain(name))).collect();
            names.join(", ")
        }
    }
}

fn granted(doing: Doing<'_>) -> String {
    match doing {
        Doing::Read => "the names that move".to_owned(),
        Doing::Write(_) => what(doing),
    }
}

fn grants(key: &str, doing: Doing<'_>) -> String {
    let Doing::Write(keys) = doing else { return String::new() };
    let grants: Vec<String> =
        keys.iter().map(|(name, rtype)| format!("grant {key} name {}. {rtype};", plain(name))).collect();
    grants.join(" ")
}
