//! The address that this node's PBX tells of itself while it serves, as far as its answers show it.
//!
//! An OPTIONS that is answered with 200 carries a Contact (RFC 3261 §11.2); a challenge carries none, and proves nothing.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::Config;
use crate::sip::client::{self, Endpoint, SipEnd};
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
    let is_ours = |address: &IpAddr| {
        own.addresses.contains(address) || address.is_loopback() || own.listen_address == Some(*address)
    };
    let told: Vec<IpAddr> = contacts.iter().filter_map(|uri| address(uri)).collect();
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

/// The address in the URI `sip:pbx@[2001:db8::1]:5060;transport=tcp`.
fn address(uri: &str) -> Option<IpAddr> {
    let rest = uri.split_once(':')?.1;
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if let Some(inside) = rest.strip_prefix('[') {
        return inside.split(']').next()?.parse().ok();
    }
    rest.split([':', ';', '>', '?']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_contact_is_read_in_every_form() {
        for (uri, expected) in [
            ("sip:203.0.113.1", Some("203.0.113.1")),
            ("sip:pbx@203.0.113.1:5060;transport=tcp", Some("203.0.113.1")),
            ("sips:[2001:db8::1]:5061", Some("2001:db8::1")),
            ("sip:pbx.example.com", None),
            ("nonsense", None),
        ] {
            assert_eq!(address(uri), expected.map(|text| text.parse().expect("address")), "{uri}");
        }
    }
}
