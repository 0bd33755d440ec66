//! Turns what went wrong on the way to a server into one line of advice.
//!
//! Shared by HTTP and mail; it prints the place that was asked, never a URL's path or anything that was sent.

use std::error::Error;
use std::io;

use rustls::CertificateError;

/// One line for `error`, which happened while asking `place`; `ca_key` names the setting for an own CA.
pub fn advice(error: &(dyn Error + 'static), place: &str, ca_key: &str) -> String {
    if let Some(tls) = find::<rustls::Error>(error) {
        return tls_advice(tls, place, ca_key);
    }
    let chain = chain(error);
    if chain.contains("dns error") || chain.contains("failed to lookup address") {
        return format!("the name in {place} cannot be looked up; check its spelling and this host's resolver");
    }
    match find::<io::Error>(error) {
        Some(io) => match io.kind() {
            io::ErrorKind::ConnectionRefused => {
                format!("{place} refused the connection; check that the server runs and the port is right")
            }
            io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
                format!("{place} closed the connection without an answer; it may have been carried out")
            }
            io::ErrorKind::TimedOut => format!("{place} did not answer in time; it may have been carried out"),
            io::ErrorKind::Other | io::ErrorKind::InvalidData => {
                format!("{place} gave no good answer: {}", plain(&io.to_string()))
            }
            _ => format!("{place} could not be reached: {}", plain(&io.to_string())),
        },
        None if chain.contains("before message completed") || chain.contains("incomplete response") => {
            format!("{place} closed the connection without an answer; it may have been carried out")
        }
        None => format!("{place} gave no good answer: {}", plain(&innermost(error).to_string())),
    }
}

fn tls_advice(error: &rustls::Error, place: &str, ca_key: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(fault) => match fault {
            CertificateError::UnknownIssuer => format!(
                "the certificate of {place} is signed by a CA that this host does not know; name the CA's PEM file in \
                 {ca_key}"
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the certificate of {place} has expired; renew it, or set this host's clock right")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("the certificate of {place} is not valid yet; set this host's clock right")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the certificate of {place} is for another name; write the name that it bears")
            }
            other => format!("the certificate of {place} is not good: {}", plain(&other.to_string())),
        },
        rustls::Error::InvalidMessage(_) => {
            format!("{place} does not speak TLS there; check the port, or how TLS is set")
        }
        other => format!("TLS with {place} failed: {}", plain(&other.to_string())),
    }
}

/// The first error of this type in the chain, also where an `io::Error` wraps it.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(found) = error.downcast_ref::<E>() {
            // A wrapper says less than what it wraps.
            if let Some(inner) = wrapped(error).and_then(|inner| find::<E>(inner)) {
                return Some(inner);
            }
            return Some(found);
        }
        if let Some(found) = wrapped(error).and_then(|inner| find::<E>(inner)) {
            return Some(found);
        }
        current = error.source();
    }
    None
}

fn wrapped<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let inner: &'a (dyn Error + Send + Sync + 'static) = error.downcast_ref::<io::Error>()?.get_ref()?;
    Some(inner)
}

fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut current = error.source();
    while let Some(source) = current {
        text.push_str(": ");
        text.push_str(&source.to_string());
        current = source.source();
    }
    text
}

/// Longest foreign text in a line for people.
const FOREIGN_CHARS_MAX: usize = 160;

/// A foreign text on one line, bounded, without control characters.
pub fn plain(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(FOREIGN_CHARS_MAX).collect()
}
