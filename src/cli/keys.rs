//! `keys`: makes token, certificate and key for an agent or an observer, and says where each goes.
//!
//! It needs no daemon. Where the configuration can be read, names and addresses come from it; a configuration that is not
//! written yet, or refused because these very files are missing, is no obstacle.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::exit::{Exit, Trouble};
use crate::config::{self, Config, Files, Loading, Surroundings};
use crate::host::keys::{self, CERTIFICATE, KEY, Old, TOKEN};
use crate::units::NodeName;

/// Where the files go unless the command line says otherwise; there the configuration looks for them by itself.
pub const OUT_DEFAULT: &str = "/etc/pbx-failover";

/// Where the door listens unless the configuration says otherwise.
const PORT: u16 = 8471;

/// What `keys` was told on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Where the files go.
    pub out: PathBuf,
    /// The host that shows the certificate; `None`: this one.
    pub name: Option<NodeName>,
    /// What to do with files that are there.
    pub old: Old,
}

/// What was made, and what is to be done with it. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Made {
    /// The host that shows the certificate.
    pub node: String,
    /// The host that asks it.
    pub asked_by: String,
    /// The files, in the order token, certificate, key.
    pub files: Vec<PathBuf>,
    /// SHA-256, as openssl prints it.
    pub certificate_sha256: String,
    /// The day on which the certificate says that it expires.
    pub until: String,
    /// Which file goes where on the asking host.
    pub copies: Vec<Copied>,
    /// What to write into failover.yaml on the host that answers.
    pub yaml_here: String,
    /// And on the host that asks.
    pub yaml_there: String,
}

/// A file and its place on the other host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Here.
    pub from: PathBuf,
    /// There.
    pub to: PathBuf,
}

/// Makes them.
///
/// # Errors
/// Something is in the way, or cannot be written.
pub fn make(order: &Order, config_file: &Path) -> Result<Made, Trouble> {
    let config = read(config_file);
    let failed = |why: String| {
        let (what, hint) = why.split_once("; ").unwrap_or((&why, "see --out"));
        Trouble::new(Exit::Failed, what).hint(hint)
    };
    let host_name = Surroundings::here(Loading::Offline).host_name;
    let node = match (&order.name, &config) {
        (Some(name), _) => name.clone(),
        (None, Some(config)) => config.node.clone(),
        (None, None) => host_name.parse().map_err(|why| failed(format!("{why}; give --name")))?,
    };
    let pair = config.as_ref().map(|config| (&config.primary, &config.backup));
    if pair.is_some_and(|(_, backup)| backup.node == node) {
        let hint = "run it on the primary or on an observer, or give --name";
        return Err(
            Trouble::new(Exit::Failed, format!("{node} is the backup: it asks, and is asked by nobody")).hint(hint)
        );
    }
    let addresses: &[IpAddr] = match pair {
        Some((primary, _)) if primary.node == node => &primary.addresses,
        _ => &[],
    };
    let made = keys::make(&order.out, &node, addresses, config_file, order.old).map_err(failed)?;
    let is_observer = pair.is_some_and(|(primary, _)| primary.node != node);
    let asked_by = pair.map_or_else(|| "the backup".to_owned(), |(_, backup)| backup.node.to_string());
    let url = url(&node, addresses, config.as_ref());
    // Beside the primary's own on the backup, an observer's bear its name.
    let stem = if is_observer { node.as_str() } else { "agent" };
    let out = |name: &str| order.out.join(name);
    let there = |end: &str| order.out.join(format!("{stem}.{end}"));
    let (token, certificate) = (there("token"), there("crt"));
    let asks = format!(
        "{{ url: \"{url}\", token: {{ file: {} }}, certificate: {{ file: {} }} }}",
        token.display(),
        certificate.display()
    );
    let tls = if order.out == Path::new(OUT_DEFAULT) {
        String::new()
    } else {
        format!(", tls: {{ certificate: {}, key: {} }}", out(CERTIFICATE).display(), out(KEY).display())
    };
    let answers = format!("agent: {{ token: {{ file: {} }}{tls} }}", out(TOKEN).display());
    Ok(Made {
        node: node.to_string(),
        asked_by,
        files: vec![out(TOKEN), out(CERTIFICATE), out(KEY)],
        certificate_sha256: made.fingerprint,
        until: made.until.to_string(),
        copies: vec![Copied { from: out(TOKEN), to: token }, Copied { from: out(CERTIFICATE), to: certificate }],
        yaml_here: if is_observer { format!("role: observer\n{answers}") } else { answers },
        yaml_there: if is_observer { format!("witness: {{ observers: [{asks}] }}") } else { format!("peer: {asks}") },
    })
}

/// The configuration by its text alone, if it is good.
fn read(file: &Path) -> Option<Config> {
    let text = std::fs::read_to_string(file).ok()?;
    let surroundings = Surroundings { files: Files::Ignored, ..Surroundings::here(Loading::Offline) };
    config::parse(&text, file, &surroundings).ok().map(|loaded| loaded.config)
}

fn url(node: &NodeName, addresses: &[IpAddr], config: Option<&Config>) -> String {
    let door = config.and_then(|config| config.agent.door.as_ref());
    let port = door.map_or(PORT, |door| door.listen.port());
    match addresses.first() {
        Some(IpAddr::V6(address)) => format!("https://[{address}]:{port}"),
        Some(IpAddr::V4(address)) => format!("https://{address}:{port}"),
        None => format!("https://{node}:{port}"),
    }
}

/// What a person reads.
pub fn render(made: &Made) -> String {
    let Made { node, asked_by, certificate_sha256, until, .. } = made;
    let path = |place: usize| made.files.get(place).map_or_else(String::new, |path| path.display().to_string());
    let mut text = String::new();
    let mut line = |said: String| {
        let _ = writeln!(text, "{said}");
    };
    line(format!("made for {node}:"));
    line(format!("  {}  256 random bits; {node} and {asked_by} hold the same, nobody else", path(0)));
    line(format!("  {}    good until {until}, SHA-256", path(1)));
    line(format!("    {certificate_sha256}"));
    line(format!("  {}    its private key; it stays on {node}", path(2)));
    line(format!("copy to {asked_by}, over a way that nobody else reads:"));
    for copy in &made.copies {
        line(format!("  {} to {}", copy.from.display(), copy.to.display()));
    }
    line("  there the robot's user must be able to read both: chgrp pbx-failover, chmod 640".to_owned());
    for (host, yaml) in [(node, &made.yaml_here), (asked_by, &made.yaml_there)] {
        line(format!("in failover.yaml on {host}:"));
        for yaml in yaml.lines() {
            line(format!("  {yaml}"));
        }
    }
    line(format!("then restart pbx-failover on both, and run `pbx-failover check` on {asked_by}"));
    text
}
