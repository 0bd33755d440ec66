//! Certificates before the bad day: in a file, or as a server shows it, is it for our name, and does it last?
//!
//! Who signed it is not judged: phones of a site may know an authority that this host does not.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::fs::{Mode, OFlags};
use rustls::Error;
use rustls::client::verify_server_name;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ParsedCertificate;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::tree;
use crate::host::shown::{self, Judge, Papers};
use crate::host::tolerant::{server_name, trouble};
use crate::units::finding::{Finding, Level};
use crate::wire::x509;

const ABOUT: &str = "certificate";

/// What renews by itself renews earlier: certbot 30 days before the end.
const LASTS_MIN: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Longer is no chain of certificates.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How bad a certificate for another name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A person said that phones are shown it.
    ByPerson,
    /// A setting of the PBX names it, maybe for another use.
    BySetting,
}

/// Judges the first certificate of a PEM file; `named_at` says where it is named.
pub fn file(path: &Path, named_at: &str, names: &[String], now: Timestamp, by: Named) -> Finding {
    let what = format!("{} (named at {named_at})", tree::shown(path));
    let level = if by == Named::ByPerson { Level::Problem } else { Level::Warning };
    let bad = |text: String, hint: &str| Finding { level, ..Finding::warning(ABOUT, text, hint) };
    let mut pem = Vec::new();
    match open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut pem)) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let hint = "let the robot's user read it; it holds no secret unless the key stands in the same file";
            return Finding::warning(ABOUT, format!("{what} may not be read: whether it is good is not known"), hint);
        }
        Err(error) => {
            let hint = "bring it to this host too: without it the PBX takes no phone over TLS after a takeover";
            return bad(format!("{what}: {error}"), hint);
        }
    }
    match CertificateDer::from_pem_slice(&pem) {
        Ok(certificate) => judge(&what, &certificate, names, now, level),
        Err(error) => bad(format!("{what} holds no certificate: {error}"), "write a PEM file"),
    }
}

/// Opens a file that somebody else has named: looked at before, since only to open a device may set something off, and
/// after, since it may have been replaced. A link is followed: those who renew certificates change what it leads to.
fn open(path: &Path) -> io::Result<File> {
    let regular = |about: &fs::Metadata| about.is_file().then_some(()).ok_or_else(|| io::Error::other("it is no file"));
    regular(&fs::metadata(path)?)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Judges what a server shows.
pub async fn shown(what: &str, at: SocketAddr, host: &str, limit: Duration, now: Timestamp) -> Finding {
    match timeout(limit, take(at, host)).await {
        Ok(Ok(certificate)) => judge(what, &certificate, &[host.to_owned()], now, Level::Warning),
        Ok(Err(why)) => Finding { level: Level::Skipped, ..Finding::ok(ABOUT, format!("{what} was not seen: {why}")) },
        Err(_) => Finding { level: Level::Skipped, ..Finding::ok(ABOUT, format!("{what} was not seen: no answer")) },
    }
}

/// `level`: how bad it is when phones would refuse it.
fn judge(what: &str, certificate: &CertificateDer<'_>, names: &[String], now: Timestamp, level: Level) -> Finding {
    let bad = |text: String, hint: &str| Finding { level, ..Finding::warning(ABOUT, text, hint) };
    let (Some(valid), Ok(parsed)) = (x509::validity(certificate), ParsedCertificate::try_from(certificate)) else {
        return bad(format!("{what} is no certificate that can be read"), "make it anew");
    };
    let renew = "renew it on this host too: by DNS-01, since HTTP-01 works only where the name leads (docs/recipes/around-the-pbx.md)";
    let day = valid.until.strftime("%Y-%m-%d");
    if valid.until <= now {
        return bad(format!("{what} ended on {day}: phones that look refuse it"), renew);
    }
    if valid.from > now {
        let from = valid.from.strftime("%Y-%m-%d");
        return bad(format!("{what} is not valid before {from}"), "see the clock of this host, then renew it");
    }
    for name in names {
        let Ok(expected) = server_name(name) else { continue };
        if let Err(error) = verify_server_name(&parsed, &expected) {
            let hint = format!("let it be for {name}: phones keep that name after a takeover");
            return bad(format!("{what}: {}", trouble(&error)), &hint);
        }
    }
    let days = now.duration_until(valid.until).as_hours() / 24;
    if now.duration_until(valid.until) < LASTS_MIN {
        return Finding::warning(ABOUT, format!("{what} ends on {day}, in {days} days"), renew);
    }
    let covers = if names.is_empty() { String::new() } else { format!("is for {}, ", names.join(", ")) };
    Finding::ok(ABOUT, format!("{what} {covers}ends on {day}, in {days} days"))
}

/// What a server shows in a handshake, whatever it is worth.
async fn take(at: SocketAddr, host: &str) -> Result<CertificateDer<'static>, String> {
    let seen = Arc::new(Mutex::new(None));
    let config = shown::client(Keeps(Arc::clone(&seen)))?;
    let tcp = TcpStream::connect(at).await.map_err(|error| error.to_string())?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(server_name(host)?, tcp).await;
    // A server that wants a certificate of ours shows its own first.
    let kept = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    kept.ok_or_else(|| handshake.err().map_or_else(|| "it shows none".to_owned(), |error| error.to_string()))
}

#[derive(Debug)]
struct Keeps(Arc<Mutex<Option<CertificateDer<'static>>>>);

impl Judge for Keeps {
    fn judge(&self, papers: &Papers<'_>) -> Result<(), Error> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(papers.own.clone().into_owned());
        Ok(())
    }
}
