//! TLS to a host that shows exactly one known certificate, whatever its name, issuer or dates.
//!
//! The certificate was copied by hand from that host, so its bytes are the trust; a name or a date in it could only make
//! a good one fail on a bad day. The handshake's signature is verified as everywhere: the host holds its key.

use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, Error, OtherError, RootCertStore};

use super::shown::{self, Judge, Papers};
use super::{tls, tolerant};

/// The one certificate.
#[derive(Debug, Clone)]
pub struct Pinned(CertificateDer<'static>);

impl Pinned {
    /// The first certificate of a file (PEM).
    ///
    /// # Errors
    /// One line that names the file and what to do.
    pub fn read(path: &Path) -> Result<Self, String> {
        CertificateDer::from_pem_file(path)
            .map(Self)
            .map_err(|e| format!("{}: {e}; give a copy of that host's certificate (PEM)", path.display()))
    }

    /// A client that takes this certificate and no other.
    ///
    /// # Errors
    /// One line, when the TLS library cannot be set up.
    pub fn client(&self) -> Result<ClientConfig, String> {
        shown::client(Only { expected: self.0.clone() })
    }

    /// Its SHA-256 fingerprint, as `openssl x509 -fingerprint -sha256` prints it.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.0)
    }

    /// What is wrong with its dates at this moment: it is taken all the same.
    pub fn remark(&self, now: UnixTime) -> Option<String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.clone()).ok()?;
        let papers = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), tls::provider()).build().ok()?;
        let anyone = ServerName::try_from("host.invalid").ok()?;
        // Dates are looked at before issuer and name, which do not matter here.
        match papers.verify_server_cert(&self.0, &[], &anyone, &[], now) {
            Err(
                error @ Error::InvalidCertificate(
                    CertificateError::Expired
                    | CertificateError::ExpiredContext { .. }
                    | CertificateError::NotValidYet
                    | CertificateError::NotValidYetContext { .. },
                ),
            ) => Some(tolerant::trouble(&error)),
            _ => None,
        }
    }
}

/// Another certificate than the pinned one was shown.
#[derive(Debug)]
pub struct OtherCertificate {
    /// Fingerprint of the one that was shown.
    pub seen: String,
    /// Fingerprint of the pinned one.
    pub expected: String,
}

impl fmt::Display for OtherCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it shows the certificate {}, not {}", self.seen, self.expected)
    }
}

impl StdError for OtherCertificate {}

#[derive(Debug)]
struct Only {
    expected: CertificateDer<'static>,
}

impl Judge for Only {
    fn judge(&self, papers: &Papers<'_>) -> Result<(), Error> {
        if *papers.own == self.expected {
            return Ok(());
        }
        let other = OtherCertificate { seen: fingerprint(papers.own), expected: fingerprint(&self.expected) };
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(other)))))
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = digest::digest(&digest::SHA256, certificate);
    let mut text = String::new();
    for (place, byte) in digest.as_ref().iter().enumerate() {
        let colon = if place == 0 { "" } else { ":" };
        let _ = write!(text, "{colon}{byte:02X}");
    }
    text
}
