//! A TLS client whose server's certificate is judged by us instead of by the library.
//!
//! One verifier for all such clients: the judge says whether the shown certificate is taken; that the server holds its key
//! is proved here as everywhere. [`super::pinned`] and [`super::tolerant`] are the judges.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::tls;

/// What a server shows in a handshake.
pub struct Papers<'a> {
    /// Its certificate.
    pub own: &'a CertificateDer<'a>,
    /// Those that lead to an authority.
    pub intermediates: &'a [CertificateDer<'a>],
    /// A stapled answer of the authority; may be empty.
    pub ocsp: &'a [u8],
    /// When.
    pub now: UnixTime,
}

/// Says whether what a server shows is taken.
pub trait Judge: fmt::Debug + Send + Sync + 'static {
    /// Takes it, or says why not.
    ///
    /// # Errors
    /// What the handshake fails with.
    fn judge(&self, papers: &Papers<'_>) -> Result<(), Error>;
}

/// A client that asks `judge` at each handshake.
///
/// # Errors
/// One line, when the TLS library cannot be set up.
pub fn client(judge: impl Judge) -> Result<ClientConfig, String> {
    let algorithms = tls::provider().signature_verification_algorithms;
    let mut config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS cannot be set up: {e}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { judge, algorithms }))
        .with_no_client_auth();
    // A resumed session shows no certificate, so there would be nothing to judge.
    config.resumption = Resumption::disabled();
    Ok(config)
}

#[derive(Debug)]
struct Verifier<J> {
    judge: J,
    algorithms: WebPkiSupportedAlgorithms,
}

impl<J: Judge> ServerCertVerifier for Verifier<J> {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _connected_as: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge.judge(&Papers { own, intermediates, ocsp, now }).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
