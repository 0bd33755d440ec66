//! What `check` says about certificates: those that the backup's PBX will show, and those that both hosts show now.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;

use super::tree::host_of;
use crate::adapters::inspect::certificates::{self, Named};
use crate::adapters::inspect::tree::Certificate;
use crate::config::{CheckTarget, Config, Driver, SipTransport};
use crate::host::clock;
use crate::units::finding::Finding;

/// A server that is there shows its certificate at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// Small files are read at once.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// A certificate's file, where it is named, and by whom.
type File = (PathBuf, String, Named);

/// Looks at the files that the settings name (`found` are those of the PBX's own), then at what is shown.
pub async fn look(config: &Config, found: Vec<Certificate>, serves: Serves, findings: &mut Vec<Finding>) {
    let now = clock::now().wall;
    let names = names(config);
    let mut files: Vec<File> = Vec::new();
    for path in &config.pbx.certificates {
        files.push((path.clone(), "pbx.certificates".to_owned(), Named::ByPerson));
    }
    if let Driver::Builtin(builtin) = &config.pbx.driver
        && let Some(tls) = &builtin.tls
    {
        files.push((tls.certificate.clone(), "pbx.driver.builtin.tls".to_owned(), Named::ByPerson));
    }
    for one in found {
        if !files.iter().any(|(path, ..)| *path == one.path) {
            files.push((one.path, one.named_at, Named::BySetting));
        }
    }
    let read = move || {
        let judge = |(path, named_at, named): &File| certificates::file(path, named_at, &names, now, *named);
        files.iter().map(judge).collect::<Vec<_>>()
    };
    // A file system that does not answer keeps a thread, and not the person who asked.
    match timeout(READ_LIMIT, tokio::task::spawn_blocking(read)).await {
        Ok(judged) => findings.extend(judged.unwrap_or_default()),
        Err(_) => findings.push(Finding::warning(
            "certificate",
            format!("the files were not read within {READ_LIMIT:?}"),
            "see the file system that they lie on",
        )),
    }
    primary(config, now, findings).await;
    if serves == Serves::Yes {
        own(config, now, findings).await;
    }
}

/// Whether this node's PBX is there to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// It serves.
    Yes,
    /// It does not, or it is not known.
    No,
}

/// The names that phones and browsers ask for under TLS: those of the checks, else those of the records.
fn names(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut add = |name: &str| {
        if name.parse::<std::net::IpAddr>().is_err() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    };
    for (host, _) in secure(config) {
        add(&host);
    }
    if names.is_empty() {
        for record in config.dns.updates.iter().flat_map(|update| &update.records) {
            if matches!(record.rtype.as_str(), "A" | "AAAA" | "CNAME")
                && names.iter().all(|known| *known != record.name)
            {
                names.push(record.name.clone());
            }
        }
    }
    names
}

/// The checks that speak TLS: host and port.
fn secure(config: &Config) -> Vec<(String, u16)> {
    let of = |target: &CheckTarget| match target {
        CheckTarget::Http { url, .. } => {
            let rest = url.strip_prefix("https://")?;
            let place = rest.split(['/', '?', '#']).next()?;
            let after = place.rsplit_once(']').map_or(place, |(_, after)| after);
            let port = after.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(443);
            Some((host_of(url)?.to_owned(), port))
        }
        CheckTarget::Sip { host, port, transport: SipTransport::Tls, .. } => Some((host.clone(), *port)),
        _ => None,
    };
    config.monitor.checks.iter().filter_map(|check| of(&check.target)).collect()
}

/// What the primary shows now: its end is an outage that no robot mends.
async fn primary(config: &Config, now: Timestamp, findings: &mut Vec<Finding>) {
    for (host, port) in secure(config) {
        let at = SocketAddr::new(config.primary.address(), port);
        let what = format!("that of {} for {host}:{port}", config.primary.node);
        findings.push(certificates::shown(&what, at, &host, ANSWER_LIMIT, now).await);
    }
}

/// What our own PBX shows while it serves.
async fn own(config: &Config, now: Timestamp, findings: &mut Vec<Finding>) {
    let probe = &config.pbx.probe;
    if probe.transport != SipTransport::Tls {
        return;
    }
    let own = config.host(config.side).listen_address.unwrap_or_else(|| config.host(config.side).address());
    let ip = probe.host.trim_matches(['[', ']']).parse().unwrap_or(own);
    for host in names(config) {
        let what = format!("that of this node's PBX for {host}");
        let at = SocketAddr::new(ip, probe.port);
        findings.push(certificates::shown(&what, at, &host, ANSWER_LIMIT, now).await);
    }
}
