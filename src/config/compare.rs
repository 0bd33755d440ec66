//! What a change of the file means: which settings need a restart, which checks have to prove themselves again.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::model::{Check, CheckTarget, Config, Driver, Epoch, Role};

/// The keys whose change SIGHUP cannot carry into a running robot: who we are, where our memory and our doors
/// are, and who decides which node may serve. Everything else is taken over at once, or after a running plan.
pub fn restart_needed(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut keys = Vec::new();
    let mut changed = |key, is| {
        if is {
            keys.push(key);
        }
    };
    changed("node", old.node != new.node || old.role != new.role);
    changed("primary.node", old.primary.node != new.primary.node);
    changed("backup.node", old.backup.node != new.backup.node);
    changed("epoch", epoch_place(old) != epoch_place(new));
    changed("state_dir", old.state_dir != new.state_dir);
    changed("control", old.control != new.control);
    changed("agent", old.agent != new.agent && new.role != Role::Backup);
    changed("page", old.page != new.page);
    // It runs inside the robot, with its sockets open.
    changed("pbx.driver", old.pbx.driver != new.pbx.driver && [old, new].iter().any(|config| is_inside(config)));
    keys
}

fn is_inside(config: &Config) -> bool {
    matches!(config.pbx.driver, Driver::Builtin(_))
}

/// Where the epoch lives; its key may change without a restart.
fn epoch_place(config: &Config) -> Option<(&str, std::net::SocketAddr, &str)> {
    match &config.epoch {
        Epoch::Local => None,
        Epoch::Dns { record, update } => {
            let update = config.dns.updates.get(*update)?;
            Some((record, update.server, &update.zone))
        }
    }
}

/// What a check asks, as a text that changes exactly when it asks something else: such a check is untested until it
/// was up once. Its pace and counts do not belong to it.
pub fn digest_of_check(check: &Check, primary: IpAddr) -> String {
    match &check.target {
        CheckTarget::Http { url, expect_status, expect_body, ca_file } => {
            let (from, to) = (expect_status.start(), expect_status.end());
            format!("http {primary} {url} {from}-{to} {expect_body:?} {ca_file:?}")
        }
        CheckTarget::Sip { host, port, transport, alive } => {
            format!("sip {primary} {host}:{port} {transport} {alive:?}")
        }
        CheckTarget::Tcp { port } => format!("tcp {primary} {port}"),
        CheckTarget::Heartbeat { file, max_age } => format!("heartbeat {} {max_age:?}", file.display()),
    }
}

/// A digest of each section that must be the same on both hosts, by its key: of what it means, not of how it is
/// written, and of no secret.
pub fn digests(config: &Config) -> BTreeMap<String, String> {
    let records: Vec<_> = config
        .dns
        .updates
        .iter()
        .map(|update| {
            (update.server, &update.zone, &update.key.name, update.key.algorithm, update.ttl_s, &update.records)
        })
        .collect();
    let trunks: Vec<_> = config.pbx.trunks.iter().map(|trunk| (&trunk.name, trunk.kind, trunk.required)).collect();
    let sections = [
        ("primary", format!("{:?}", config.primary)),
        ("backup", format!("{:?}", config.backup)),
        ("epoch", format!("{:?}", epoch_place(config))),
        ("dns", format!("{:?} {records:?}", config.dns.mode)),
        ("pbx.working_dir", format!("{:?}", config.pbx.working_dirs)),
        ("pbx.trunks", format!("{trunks:?}")),
    ];
    sections.into_iter().map(|(key, text)| (key.to_owned(), short_digest(&text))).collect()
}

/// The first 16 hexadecimal digits of SHA-256: enough to see a difference.
fn short_digest(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let first = digest.as_ref().iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{first:016x}")
}
