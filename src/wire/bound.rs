//! What in a text belongs to one host: addresses and host names, found as whole words, outside comments and allowed lines.
//!
//! It knows how comments look in the files of PBXs, by their ending, and which keys a PBX announces an address with. It
//! gives back the key, never the line: a line may hold a password. Who walks the tree is `adapters::inspect`.

mod comments;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

pub use comments::Kind;

/// A person's word, in a comment on the line, that this line may name the host.
pub const ALLOW: &str = "pbx-failover: allow";

/// A longer line is data, not configuration: what follows is not looked at.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Keys whose value a PBX listens at, or writes into Contact, Via or SDP: Asterisk (both SIP channels, HTTP, RTP),
/// FreeSWITCH, Kamailio, rtpengine.
const ANNOUNCE: [&str; 24] = [
    "external_signaling_address",
    "external_media_address",
    "media_address",
    "bind",
    "bindaddr",
    "udpbindaddr",
    "tcpbindaddr",
    "tlsbindaddr",
    "externip",
    "externaddr",
    "externhost",
    "external_rtp_ip",
    "external_sip_ip",
    "ext-rtp-ip",
    "ext-sip-ip",
    "rtp-ip",
    "sip-ip",
    "bind_rtp_ip",
    "bind_sip_ip",
    "rtp_ip",
    "listen",
    "advertise",
    "advertised_address",
    "interface",
];

/// Keys that name a certificate's file.
const CERTIFICATE: [&str; 3] = ["cert_file", "tlscertfile", "certificate"];

/// What one host is called by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    addresses: HashSet<IpAddr>,
    hosts: HashSet<String>,
}

impl Names {
    /// An address; one that says "any" or "this host" belongs to nobody.
    pub fn address(&mut self, address: IpAddr) {
        let address = address.to_canonical();
        if !address.is_unspecified() && !address.is_loopback() {
            self.addresses.insert(address);
        }
    }

    /// A host's name; the final dot and the case do not matter.
    pub fn host(&mut self, name: &str) {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Ok(address) = name.trim_matches(['[', ']']).parse() {
            self.address(address);
        } else if !name.is_empty() {
            self.hosts.insert(name);
        }
    }

    /// Takes away what `other` is called by too: it tells the two hosts not apart.
    pub fn without(&mut self, other: &Self) {
        self.addresses.retain(|address| !other.addresses.contains(address));
        self.hosts.retain(|host| !other.hosts.contains(host));
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.hosts.is_empty()
    }

    /// All of them, for people.
    pub fn list(&self) -> Vec<String> {
        let mut all: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        all.sort();
        let mut hosts: Vec<String> = self.hosts.iter().cloned().collect();
        hosts.sort();
        all.extend(hosts);
        all
    }

    /// Whether this is one of the addresses.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address.to_canonical())
    }

    /// Which of them the word is, if any; `203.0.113.1:5060` is the address before its port.
    fn named<'w>(&self, word: &'w str) -> Option<&'w str> {
        if word.bytes().filter(|byte| *byte == b':').count() >= 2
            && let Ok(address) = word.trim_end_matches('.').parse::<Ipv6Addr>()
        {
            return self.holds(address.into()).then_some(word);
        }
        word.split(':').map(|part| part.trim_matches('.')).find(|part| {
            let first = part.as_bytes().first();
            if first.is_some_and(u8::is_ascii_digit)
                && let Ok(address) = part.parse::<IpAddr>()
            {
                return self.holds(address);
            }
            // A few names: comparing costs less than a lower-case copy of every word of a tree.
            self.hosts.iter().any(|host| host.eq_ignore_ascii_case(part))
        })
    }
}

/// Where a text names the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// From 1.
    pub line: usize,
    /// As it stands there.
    pub word: String,
    /// The key that announces it, where it is one.
    pub announced_by: Option<&'static str>,
}

/// A certificate's file that a text names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// From 1.
    pub line: usize,
    /// Its path, as written.
    pub path: String,
}

/// What a text holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Lines that name the host, each once.
    pub hits: Vec<Hit>,
    /// Certificates.
    pub certificates: Vec<Named>,
}

/// Looks through a text, each line once.
pub fn look(bytes: &[u8], path: &Path, names: &Names) -> Seen {
    let mut seen = Seen::default();
    let mut comments = Kind::of(path).reader();
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = &line[..line.len().min(LINE_BYTES_MAX)];
        let code = comments.code(line);
        let code = String::from_utf8_lossy(&code);
        if let Some(path) = certificate(&code) {
            seen.certificates.push(Named { line: at + 1, path });
        }
        let Some(word) = words(&code).find_map(|candidate| names.named(candidate)) else { continue };
        if contains(line, ALLOW.as_bytes()) {
            continue;
        }
        let key = |candidate: &str| ANNOUNCE.iter().find(|key| candidate.eq_ignore_ascii_case(key)).copied();
        let announced_by = words(&code).find_map(key);
        seen.hits.push(Hit { line: at + 1, word: word.to_owned(), announced_by });
    }
    seen
}

/// Runs of what addresses, names and keys are made of. Every other character ends a word.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | ':' | '-' | '_'))).filter(|word| !word.is_empty())
}

/// The certificate that the line `cert_file = /etc/keys/pbx.pem` names.
fn certificate(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    CERTIFICATE.iter().find(|one| key.trim().eq_ignore_ascii_case(one))?;
    let path = value.trim_start_matches('>').trim().trim_matches(['"', '\'', ';']).trim();
    path.starts_with('/').then(|| path.to_owned())
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}
