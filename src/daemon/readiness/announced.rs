//! The address that this node's PBX tells of itself while it serves, as far as its answers show it.
//!
//! An OPTIONS that is answered with 200 carries a Contact (RFC 3261 §11.2); a challenge carries none, and proves nothing.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::Config;
use crate::sip::client::{self, Endpoint, SipEnd};
use crate::sip::message::Target;
use crate::units::finding::{Finding, Level};

const ABOUT: &str = "pbx announces";

/// Our own host answers at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Asks the PBX that serves here.
pub async fn look(config: &Config, findings: &mut Vec<Finding>) {
    let probe = &config.pbx.probe;
    let own = config.host(config.side);
    let at = probe.host.trim_matches(['[', ']']).parse().unwrap_or(own.listen_address.unwrap_or_else(|| own.address()));
    let Ok(endpoint) = Endpoint::with_system_roots(at, &probe.host, probe.port, probe.transport) else { return };
    let end = client::options(&endpoint, ANSWER_LIMIT).await;
    let contacts = match &end {
        SipEnd::Final { reply, .. } => reply.contacts.iter().map(|(uri, _)| uri.as_str()).collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    findings.push(tell(config, &contacts));
}

fn tell(config: &Config, contacts: &[&str]) -> Finding {
    let own = config.host(config.side);
    let is_ours = |address: &IpAddr| address.is_loopback() || own.has(*address);
    let address = |uri: &&str| Target::read(uri).ok()?.host.parse().ok();
    let told: Vec<IpAddr> = contacts.iter().filter_map(address).collect();
    match told.iter().find(|address| !is_ours(address)) {
        Some(foreign) => Finding::warning(
            ABOUT,
            format!("it answers OPTIONS with Contact {foreign}, which is not {}'s: audio may be one-way", own.node),
            "see the lines above, and the file of each host outside the synced tree",
        ),
        None if told.is_empty() => {
            let text = "its answer to OPTIONS names no address: what it writes into SDP is seen in a call only";
            Finding { level: Level::Skipped, ..Finding::ok(ABOUT, text) }
        }
        None => Finding::ok(ABOUT, format!("Contact {} in its answer to OPTIONS", told[0])),
    }
}
