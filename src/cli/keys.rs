//! `keys`: makes token, certificate and key for an agent or an observer, and says where each goes.
//!
//! It needs no daemon. Names and addresses come from the configuration; one that is not written yet or refused is no
//! obstacle, but what is assumed in its place is said. Making the files themselves is `host::keys`'s.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::exit::{Exit, Trouble};
use crate::config::{self, Files, Loaded, Loading, Surroundings, tree};
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
    /// What was assumed because the configuration did not say it, and why it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
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
/// Something is in the way, or cannot be written; or it is not known which host this is.
pub fn make(order: &Order, config_file: &Path) -> Result<Made, Trouble> {
    let told = Told::read(config_file);
    let failed = |why: String| {
        let (what, hint) = why.split_once("; ").unwrap_or((&why, "see --out"));
        Trouble::new(Exit::Failed, what).hint(hint)
    };
    let (node, part) = who(order, &told, config_file).map_err(failed)?;
    let addresses = if part == Part::Primary { told.addresses.as_slice() } else { &[] };
    let ours = told.node.as_ref().filter(|own| **own != node);
    let there = [TOKEN, CERTIFICATE, KEY].map(|name| order.out.join(name));
    if let (Some(own), Some(file)) = (ours, there.iter().find(|file| file.exists()))
        && (order.old == Old::Keep || order.out == Path::new(OUT_DEFAULT))
    {
        let what = format!("{} is there, and this host is {own}, not {node}", file.display());
        return Err(
            Trouble::new(Exit::Failed, what).hint(format!("make those of {node} in a folder of their own: --out DIR"))
        );
    }
    let made = keys::make(&order.out, &node, addresses, config_file, order.old).map_err(failed)?;
    let asked_by = told.backup.as_ref().map_or_else(|| "the backup".to_owned(), ToString::to_string);
    // Only the primary's own bear the plain name on the backup: what is an observer's, or might be, must not take its place.
    let stem = if part == Part::Primary { "agent" } else { node.as_str() };
    let out = |name: &str| order.out.join(name);
    let there = |end: &str| order.out.join(format!("{stem}.{end}"));
    let (token, certificate) = (there("token"), there("crt"));
    let asks = format!(
        "{{ url: \"{}\", token: {{ file: {} }}, certificate: {{ file: {} }} }}",
        url(&node, addresses, told.port),
        token.display(),
        certificate.display()
    );
    let tls = if order.out == Path::new(OUT_DEFAULT) {
        String::new()
    } else {
        format!(", tls: {{ certificate: {}, key: {} }}", out(CERTIFICATE).display(), out(KEY).display())
    };
    let answers = format!("agent: {{ token: {{ file: {} }}{tls} }}", out(TOKEN).display());
    let is_observer = part == Part::Observer;
    Ok(Made {
        note: note(&told, &node, part),
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

/// Which host the keys are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Primary,
    Observer,
    /// Nothing says so, but most hosts with keys are the primary.
    PrimaryAssumed,
}

/// What the configuration tells of the hosts.
#[derive(Default)]
struct Told {
    node: Option<NodeName>,
    role: Option<String>,
    primary: Option<NodeName>,
    backup: Option<NodeName>,
    addresses: Vec<IpAddr>,
    port: Option<u16>,
    /// Why it is not all of it, in one line.
    trouble: Option<String>,
}

impl Told {
    /// By its text alone. Of a refused file the names count all the same: it is most often refused because it is not finished.
    fn read(file: &Path) -> Self {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(why) => {
                return Self { trouble: Some(format!("{} cannot be read: {why}", file.display())), ..Self::default() };
            }
        };
        let surroundings = Surroundings { files: Files::Ignored, ..Surroundings::here(Loading::Offline) };
        match config::parse(&text, file, &surroundings) {
            Ok(Loaded { config, .. }) => Self {
                node: Some(config.node),
                role: Some(config.role.name().to_owned()),
                primary: Some(config.primary.node),
                backup: Some(config.backup.node),
                addresses: config.primary.addresses,
                port: config.agent.door.map(|door| door.listen.port()),
                trouble: None,
            },
            Err(refused) => {
                let said = refused.to_string();
                let first = said.lines().next().unwrap_or_default();
                let more = match said.lines().count() {
                    0 | 1 => String::new(),
                    count => format!(" (and {} more)", count - 1),
                };
                let root = tree::parse(&text).ok().map(|(root, _)| root);
                let scalar = |path: &[&str]| written(root.as_ref()?, path);
                let name = |path: &[&str]| scalar(path)?.parse().ok();
                Self {
                    node: name(&["node"]),
                    role: scalar(&["role"]).map(str::to_owned),
                    primary: name(&["primary", "node"]),
                    backup: name(&["backup", "node"]),
                    addresses: scalar(&["primary", "address"]).and_then(|text| text.parse().ok()).into_iter().collect(),
                    port: None,
                    trouble: Some(format!("the configuration is refused: {first}{more}")),
                }
            }
        }
    }
}

/// The text at this path of a file that may be wrong elsewhere.
fn written<'t>(node: &'t tree::Node, path: &[&str]) -> Option<&'t str> {
    match (&node.value, path) {
        (tree::Value::Map(entries), [key, rest @ ..]) => {
            written(&entries.iter().find(|entry| entry.key == *key)?.value, rest)
        }
        (tree::Value::Scalar { text, .. }, []) => Some(text.as_str()),
        _ => None,
    }
}

/// The host that shall show the certificate, and what it is.
fn who(order: &Order, told: &Told, file: &Path) -> Result<(NodeName, Part), String> {
    let written = order.name.clone().or_else(|| told.node.clone());
    let node = match &written {
        Some(node) => node.clone(),
        None => own_name(told)?,
    };
    if told.backup.as_ref() == Some(&node) {
        return Err(format!(
            "{node} is the backup: it asks, and is asked by nobody; run it on the primary or on an observer, or give --name"
        ));
    }
    let is_told_of = order.name.is_none() || order.name == told.node;
    let part = match &told.primary {
        Some(primary) if *primary == node => Part::Primary,
        Some(_) if written.is_some() => Part::Observer,
        None if is_told_of && told.role.as_deref() == Some("observer") => Part::Observer,
        None => Part::PrimaryAssumed,
        Some(primary) => {
            return Err(format!(
                "{node} (the host name) is not the primary ({primary}), and nothing says what it is; write node: NAME into {}, on an observer with role: observer, or give --name",
                file.display()
            ));
        }
    };
    Ok((node, part))
}

/// The host name, or its first label where the file has that one only.
fn own_name(told: &Told) -> Result<NodeName, String> {
    let host_name = Surroundings::here(Loading::Offline).host_name;
    let node: NodeName = host_name.parse().map_err(|why| format!("{why}; give --name"))?;
    let label = host_name.split('.').next().and_then(|label| label.parse().ok());
    let is_named = |name: &NodeName| [&told.primary, &told.backup].contains(&&Some(name.clone()));
    Ok(label.filter(is_named).unwrap_or(node))
}

/// What was not known, and what was assumed for it.
fn note(told: &Told, node: &NodeName, part: Part) -> Option<String> {
    let trouble = told.trouble.as_ref()?;
    Some(match part {
        Part::Primary => format!("{trouble}; taken from what stands in it: {node} is the primary"),
        Part::Observer => format!("{trouble}; taken from what stands in it: {node} is an observer"),
        Part::PrimaryAssumed => format!(
            "{trouble}; assumed: {node} is the primary. If it is an observer, obey none of this: write node: {node} and role: observer there, and run this again with --replace"
        ),
    })
}

fn url(node: &NodeName, addresses: &[IpAddr], port: Option<u16>) -> String {
    let port = port.unwrap_or(PORT);
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
