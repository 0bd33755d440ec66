//! The dead man's heartbeat: a sign of life to a monitor elsewhere, which raises the alarm when it stays away.
//!
//! When to send it is the daemon's business: only while armed.

use std::time::Duration;

use reqwest::Url;

use crate::config::DeadMan;
use crate::host::http::{self, place};

/// How long one beat may take; the next one is seconds away, so that nothing is lost by giving up early.
const BEAT_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends one beat: a GET, answered with any 2xx.
///
/// # Errors
/// One line; never the URL, whose path is commonly the monitor's secret.
pub async fn beat(dead_man: &DeadMan) -> Result<(), String> {
    let url = Url::parse(&dead_man.url).map_err(|error| format!("notify.dead_man.url: {error}"))?;
    let place = place(&url);
    let client = http::client(url.scheme() == "https", None, BEAT_TIMEOUT).await?;
    let response = client.get(url).send().await.map_err(|error| http::unanswered(&error, &place, BEAT_TIMEOUT))?;
    let status = response.status();
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("HTTP {} from {place} to the dead man's heartbeat, check notify.dead_man.url", status.as_u16()))
    }
}
