//! What `check` says about the working directory: lines that belong to the primary alone, and would be wrong here.
//!
//! The directory is equal on both hosts, so an address in it is the primary's on the backup too: phones register, and
//! hear nothing. [`crate::adapters::inspect::tree`] looks.

use std::path::Path;

use crate::adapters::inspect::tree::{self, Found, Limits, shown};
use crate::adapters::inspect::{ALLOW, Names};
use crate::config::{CheckTarget, Config, Host};
use crate::units::Side;
use crate::units::finding::{Finding, Level};

const ABOUT: &str = "host in tree";

/// Looks through the working directories, off this task; gives the certificates that they name.
pub async fn look(config: &Config, findings: &mut Vec<Finding>) -> Vec<tree::Certificate> {
    let (dirs, names) = (config.pbx.working_dirs.clone(), primary(config));
    let wanted = names.clone();
    let looked = tokio::task::spawn_blocking(move || tree::look(&dirs, &wanted, Limits::default())).await;
    let found = looked.unwrap_or_default();
    tell(&found, &names, config, findings);
    found.certificates
}

/// What the primary alone is called by.
fn primary(config: &Config) -> Names {
    let mut names = called(config, Side::Primary);
    // The agent is asked at its own host, not at the service's name.
    if let Some(host) = config.peer.as_ref().and_then(|peer| host_of(&peer.url)) {
        names.host(host);
    }
    let mut others = called(config, Side::Backup);
    for check in &config.monitor.checks {
        match &check.target {
            CheckTarget::Http { url, .. } => others.host(host_of(url).unwrap_or_default()),
            CheckTarget::Sip { host, .. } if host.parse::<std::net::IpAddr>().is_err() => others.host(host),
            _ => {}
        }
    }
    for record in config.dns.updates.iter().flat_map(|update| &update.records) {
        others.host(&record.name);
    }
    names.without(&others);
    names
}

fn called(config: &Config, side: Side) -> Names {
    let Host { node, addresses, listen_address } = config.host(side);
    let mut names = Names::default();
    for address in addresses.iter().chain(listen_address) {
        names.address(*address);
    }
    // A node that is called `primary` or `asterisk` would be found in every file.
    if node.as_str().contains(|c: char| matches!(c, '-' | '.') || c.is_ascii_digit()) {
        names.host(node.as_str());
    }
    for record in config.dns.updates.iter().flat_map(|update| &update.records) {
        if matches!(record.rtype.as_str(), "A" | "AAAA" | "CNAME" | "SRV") {
            for value in record.values(side) {
                names.host(value.split_whitespace().last().unwrap_or_default());
            }
        }
    }
    names
}

/// The host of `https://pbx.example.com:8443/path`, without brackets.
pub(super) fn host_of(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let place = rest.split(['/', '?', '#']).next()?;
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    if let Some(inside) = place.strip_prefix('[') {
        return inside.split(']').next();
    }
    place.split(':').next().filter(|host| !host.is_empty())
}

fn tell(found: &Found, names: &Names, config: &Config, findings: &mut Vec<Finding>) {
    let node = &config.primary.node;
    let hint = format!(
        "keep the line in a file of each host outside the synced tree, and include it; or end it with a comment `{ALLOW}`"
    );
    let mut worst = Level::Warning;
    // The agent's own file says who wrote it, and no PBX reads it.
    let is_beat = |path: &Path| {
        let targets = config.monitor.checks.iter().map(|check| &check.target);
        targets.into_iter().any(|target| matches!(target, CheckTarget::Heartbeat { file, .. } if file == path))
    };
    for place in found.places.iter().filter(|place| !is_beat(&place.path)) {
        let at = format!("{}:{}", shown(&place.path), place.hit.line);
        let word = &place.hit.word;
        findings.push(if let Some(key) = place.hit.announced_by {
            worst = Level::Problem;
            let text = format!(
                "{at}: {key} names {word}, which is {node}'s: this host will announce the wrong address, so that REGISTER works and audio is one-way, or not start"
            );
            Finding::problem(ABOUT, text, &hint)
        } else {
            Finding::warning(ABOUT, format!("{at}: {word} is {node}'s: on this host it is the wrong one"), &hint)
        });
    }
    if found.more > 0 {
        let text = format!("and {} more lines that name {node}", found.more);
        findings.push(Finding { level: worst, ..Finding::warning(ABOUT, text, &hint) });
    }
    if let Some(why) = found.cut {
        let text = format!("not all was looked at: {why} ({} were read)", found.read);
        let hint = "name in pbx.working_dir only what the PBX's configuration needs, or look for the rest by grep";
        findings.push(Finding::warning(ABOUT, text, hint));
    }
    if let Some(first) = &found.first_closed
        // The directories themselves are told of already.
        && !config.pbx.working_dirs.contains(first)
    {
        let text = format!("{} of it cannot be read by this user, such as {}", found.closed, shown(first));
        let hint = "put the robot's user into the group of these files (usermod -aG GROUP pbx-failover)";
        findings.push(Finding::warning(ABOUT, text, hint));
    }
    if found.places.is_empty() && found.read > 0 {
        let large = match found.large {
            0 => String::new(),
            large => format!("; {large} larger than 1 MB were not read"),
        };
        let text = format!("none of {} files names {node} ({}){large}", found.read, names.list().join(", "));
        findings.push(Finding::ok(ABOUT, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_url_is_found_in_every_form() {
        for (url, host) in [
            ("https://pbx-a.example.com:8471", Some("pbx-a.example.com")),
            ("https://u:p@pbx-a/x?y", Some("pbx-a")),
            ("https://[2001:db8::10]:8471/", Some("2001:db8::10")),
            ("nonsense", None),
            ("https:///x", None),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }
}
