//! Requests that the configuration words: filled, sent once, answered. Couriers and the fence send them.
//!
//! What an answer means is theirs, and so is trying again. Nothing here prints a URL, a header or a body, which may
//! hold secrets. Read `request` for how a template is filled, `call` for how a request is sent.

mod call;
mod redact;
mod request;
mod template;
mod trouble;

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Client;

use super::tls;

pub use call::{Answered, Call, Sent};
pub use request::{Prepared, percent, place};
pub use template::Values;
pub use trouble::{advice, plain};

/// How we name ourselves.
const USER_AGENT: &str = concat!("pbx-failover/", env!("CARGO_PKG_VERSION"));

/// The client for one request. Trust roots are read each time: a renewed `ca_file` counts at once, and nothing
/// of them stays in memory between two events. No redirect is followed, no proxy of the environment is used, no
/// connection is kept.
///
/// # Errors
/// One line that names `ca_file` where it is at fault.
pub async fn client(is_tls: bool, ca_file: Option<PathBuf>, timeout: Duration) -> Result<Client, String> {
    let config = tokio::task::spawn_blocking(move || tls_config(is_tls, ca_file.as_deref()))
        .await
        .map_err(|_| "TLS could not be set up".to_owned())??;
    Client::builder()
        .tls_backend_preconfigured(config)
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .http1_only()
        .pool_max_idle_per_host(0)
        .timeout(timeout)
        .build()
        .map_err(|error| format!("an HTTP client could not be made: {}", plain(&error.to_string())))
}

fn tls_config(is_tls: bool, ca_file: Option<&Path>) -> Result<rustls::ClientConfig, String> {
    tls::install_provider();
    if is_tls {
        return tls::client(ca_file);
    }
    // Plain HTTP: no root is needed, and reading them all would only cost time.
    let builder = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

/// One line for a request that got no answer; never the URL, which may hold secrets.
pub fn unanswered(error: &reqwest::Error, place: &str, timeout: Duration) -> String {
    if error.is_timeout() {
        return format!("{place} did not answer within {timeout:?}; it may have been carried out");
    }
    advice(error, place, "ca_file")
}
