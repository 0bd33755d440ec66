//! Trust roots and the one TLS provider.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::config::CertificateFiles;

/// Makes aws-lc-rs the process's provider; may be called more than once.
pub fn install_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The provider, for builders that want it by value.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The system's trust roots, loaded once, when first needed, and shared: a store costs time and memory.
pub fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    Arc::clone(ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let (_, _unusable) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    }))
}

/// The system's trust roots, and those of `ca_file` (PEM) beside them.
///
/// # Errors
/// One line that names the file and what to do.
pub fn roots(ca_file: Option<&Path>) -> Result<Arc<RootCertStore>, String> {
    let mut roots = system_roots();
    if let Some(path) = ca_file {
        let roots = Arc::make_mut(&mut roots);
        let certs: Vec<_> = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|e| format!("ca_file {}: {e}; give a file with PEM certificates", path.display()))?;
        if certs.is_empty() {
            return Err(format!("ca_file {} holds no certificate; give a file with PEM certificates", path.display()));
        }
        for cert in certs {
            roots.add(cert).map_err(|e| format!("ca_file {}: {e}", path.display()))?;
        }
    }
    Ok(roots)
}

/// A client that checks certificates against [`roots`].
///
/// # Errors
/// As [`roots`].
pub fn client(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    checking(roots(ca_file)?)
}

/// A client for plain HTTP: it knows no root, so that none is loaded for what needs none.
///
/// An HTTP client without a given TLS configuration loads the system's roots once more, in tens of milliseconds.
///
/// # Errors
/// One line, when the TLS library cannot be set up.
pub fn client_without_roots() -> Result<ClientConfig, String> {
    checking(Arc::new(RootCertStore::empty()))
}

fn checking(roots: Arc<RootCertStore>) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS cannot be set up: {e}"))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A server that shows the certificate in `files`; `key` is where they stand in the configuration.
///
/// # Errors
/// One line that names the file and what to do.
pub fn server(key: &str, files: &CertificateFiles) -> Result<Arc<ServerConfig>, String> {
    let unread = |what: &str, path: &Path, why: pem::Error| {
        format!("{key}.{what}: {}: {why}; give a file with PEM that the robot may read", path.display())
    };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|e| unread("certificate", &files.certificate, e))?;
    let private = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| unread("key", &files.key, e))?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, private))
        .map_err(|e| {
            let (certificate, private) = (files.certificate.display(), files.key.display());
            format!("{key}: {certificate} and {private} do not serve: {e}; give a certificate and its own key")
        })?;
    Ok(Arc::new(config))
}
