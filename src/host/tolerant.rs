//! TLS to a server whose life is asked for, not its papers: certificate trouble is noted and passed.
//!
//! For the checks of the primary and of our own PBX only. A certificate that is expired, for another name, or signed
//! by nobody we know is a warning: an answering server lives, and a takeover because of an expired certificate would
//! be an outage of its own making. Refusing an unknown issuer alone would gain nothing, since whoever can answer at
//! the primary's address can also show a valid certificate for a name of his own, which counts as up. The
//! handshake's signature is still verified: the server holds the key of the certificate that it shows.
//! Internet targets use [`super::tls::client`], which refuses.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};

use super::shown::{self, Judge, Papers};
use super::tls;

/// A TLS client that passes any certificate and remembers what is wrong with it.
///
/// It holds the note of the last handshake only: ask one question at a time through it.
#[derive(Debug, Clone)]
pub struct Tolerant {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    note: Arc<Mutex<Option<String>>>,
}

impl Tolerant {
    /// A client that expects a certificate for `host` (a name or an address) under `roots`.
    ///
    /// # Errors
    /// One line, when `host` can stand in no certificate.
    pub fn new(host: &str, roots: Arc<RootCertStore>) -> Result<Self, String> {
        let name = server_name(host)?;
        let note = Arc::new(Mutex::new(None));
        let papers = if roots.is_empty() {
            None // the builder refuses an empty store; then nobody is known
        } else {
            let built = WebPkiServerVerifier::builder_with_provider(roots, tls::provider()).build();
            Some(built.map_err(|e| format!("TLS cannot be set up: {e}"))?)
        };
        let config = shown::client(Notes { papers, expected: name.clone(), note: Arc::clone(&note) })?;
        Ok(Self { config: Arc::new(config), name, note })
    }

    /// The configuration, for connectors.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The name that is sent and expected.
    pub fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }

    /// What was wrong with the last certificate; asking clears it.
    pub fn take_note(&self) -> Option<String> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A host of the configuration as TLS knows it; an IPv6 address may stand in brackets.
///
/// # Errors
/// One line that names it.
pub fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(ServerName::from(address));
    }
    ServerName::try_from(bare.to_owned()).map_err(|_| format!("{host:?} is no host name that TLS can ask for"))
}

/// Checks like everybody, then writes down instead of refusing. What is remembered is of the last handshake, so each must show
/// its certificate: a resumed session would hide its trouble.
#[derive(Debug)]
struct Notes {
    papers: Option<Arc<WebPkiServerVerifier>>,
    expected: ServerName<'static>,
    note: Arc<Mutex<Option<String>>>,
}

impl Judge for Notes {
    fn judge(&self, shown: &Papers<'_>) -> Result<(), Error> {
        let Papers { own, intermediates, ocsp, now } = *shown;
        let found = match &self.papers {
            Some(papers) => papers.verify_server_cert(own, intermediates, &self.expected, ocsp, now).err(),
            None => Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        };
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = found.as_ref().map(trouble);
        Ok(())
    }
}

/// What [`trouble`] says of an unknown issuer, for callers that know a remedy.
pub const UNKNOWN_ISSUER: &str = "certificate is signed by nobody whom this host knows";

/// A certificate error as one phrase for people.
pub fn trouble(error: &Error) -> String {
    let Error::InvalidCertificate(kind) = error else { return format!("certificate: {error}") };
    match kind {
        CertificateError::ExpiredContext { not_after, .. } => format!("certificate expired on {}", day(*not_after)),
        CertificateError::Expired => "certificate expired".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("certificate is not valid before {}; is this host's clock right?", day(*not_before))
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("certificate is for {}, not for {}", whose(presented), expected.to_str())
        }
        CertificateError::NotValidForName => "certificate is for another name".to_owned(),
        // A known name with another key: the authority was made anew.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => UNKNOWN_ISSUER.to_owned(),
        other => format!("certificate: {other}"),
    }
}

/// The names of a foreign certificate: a few tell whose it is. rustls gives them as `DnsName("a.example")`.
fn whose(presented: &[String]) -> String {
    let bare = |name: &String| -> String {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest.trim_end_matches(')'));
        inner.chars().filter(|c| !c.is_control() && *c != '"').take(NAME_CHARS_MAX).collect()
    };
    match presented.iter().take(NAMES_MAX).map(bare).collect::<Vec<_>>() {
        names if names.is_empty() => "no name at all".to_owned(),
        names => names.join(", "),
    }
}

/// How many names of a foreign certificate are told, and how much of each: it may hold thousands.
const NAMES_MAX: usize = 3;
const NAME_CHARS_MAX: usize = 64;

fn day(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds)
        .map_or_else(|_| "a day far away".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_an_address_and_a_bracketed_address_can_be_asked_for() {
        for host in ["pbx.example.com", "192.0.2.1", "2001:db8::1", "[2001:db8::1]"] {
            assert!(server_name(host).is_ok(), "{host}");
        }
        assert!(server_name("no name at all").is_err());
    }

    #[test]
    fn a_host_without_any_root_still_asks() {
        let client = Tolerant::new("pbx.example.com", Arc::new(RootCertStore::empty()));
        assert!(client.is_ok(), "{client:?}");
    }
}
