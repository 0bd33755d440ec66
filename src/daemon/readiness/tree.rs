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
    let places: Vec<_> = found.places.iter().filter(|place| !is_beat(&place.path)).collect();
    for place in &places {
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
    if places.is_empty() && found.more == 0 && found.read > 0 {
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
    use std::path::PathBuf;

    use super::*;
    use crate::config::{Files, Surroundings, parse};

    #[tokio::test]
    async fn the_heartbeat_names_the_primary_and_is_no_line_of_the_pbx() {
        let dir = tempfile::tempdir().expect("directory");
        let text = format!(
            "node: pbx-b\nprimary: {{ node: pbx-a, address: 203.0.113.10 }}\n\
             backup: {{ node: pbx-b, address: 198.51.100.20 }}\n\
             pbx: {{ working_dir: \"{}\", driver: {{ systemd: {{ unit: pbx.service }} }} }}\n\
             monitor: {{ checks: {{ beat: {{ heartbeat: beat }}, sip: {{ sip: \"sip:pbx.example.com\" }} }} }}\n\
             dns: {{ updates: [{{ server: 192.0.2.53, zone: example.com, key: {{ name: k, secret: {{ file: /k }} }} }}] }}\n\
             epoch: {{ store: dns, record: _e.example.com }}\n",
            dir.path().display()
        );
        let surroundings = Surroundings { host_name: "pbx-b".into(), files: Files::Ignored };
        let config = parse(&text, &PathBuf::from("failover.yaml"), &surroundings).expect("a good file").config;
        let said = async || {
            let mut findings = Vec::new();
            look(&config, &mut findings).await;
            findings.into_iter().map(|finding| (finding.level, finding.text)).collect::<Vec<_>>()
        };
        std::fs::write(dir.path().join("beat"), "pbx-a 2026-11-20T10:00:00Z\n").expect("file");
        let alone = said().await;
        assert!(
            matches!(&alone[..], [(Level::Ok, text)] if text.starts_with("none of 1 files names pbx-a")),
            "{alone:?}"
        );
        std::fs::write(dir.path().join("sip.conf"), "externaddr=203.0.113.10\n").expect("file");
        let beside = said().await;
        assert!(matches!(&beside[..], [(Level::Problem, text)] if text.contains("sip.conf:1")), "{beside:?}");
    }

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
