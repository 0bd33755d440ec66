//! The two hosts, and which of them this one is.

use std::net::IpAddr;

use super::{Build, exactly_one};
use crate::config::cursor::Cursor;
use crate::config::hints::quote;
use crate::config::model::{Host, Role};
use crate::config::texts;
use crate::units::{NodeName, Side};

/// The pair, seen from this host.
pub struct Pair {
    pub node: NodeName,
    pub role: Role,
    pub side: Side,
    pub primary: Host,
    pub backup: Host,
}

/// Reads `node`, `role`, `primary`, `backup`.
pub fn pair<'a>(top: &Cursor<'a>, build: &mut Build<'a>) -> Option<Pair> {
    let (at_primary, at_backup) = (top.key("primary"), top.key("backup"));
    let (primary, backup) = (host(&at_primary, build), host(&at_backup, build));
    let own = own_name(&top.key("node"), build);
    let (primary, backup) = (primary?, backup?);
    if primary.node == backup.node {
        let fix = "give each host a name of its own; the epoch tells them apart by it";
        at_backup.key("node").error(&mut build.notes, "is the primary's name too", fix);
        return None;
    }
    if let Some(address) = primary.addresses.iter().find(|address| backup.addresses.contains(address)) {
        let what = format!("{address} is the primary's address too");
        let fix = "good for a lab on one machine only; give each host its own address";
        at_backup.warn(&mut build.notes, what, fix);
    }
    let (node, given) = own?;
    let role_at = top.key("role");
    let asked = role_at.text();
    // A host name is often written with its domain where the file has the first label only.
    let label = || node.as_str().split('.').next().unwrap_or_default().parse::<NodeName>().ok().filter(|_| !given);
    let found = side_of(&node, &primary, &backup).map(|side| (node.clone(), side));
    let found =
        found.or_else(|| label().and_then(|label| side_of(&label, &primary, &backup).map(|side| (label, side))));
    let (node, role, side) = match (found, asked) {
        (Some((node, Side::Primary)), None | Some("primary")) => (node, Role::Primary, Side::Primary),
        (Some((node, Side::Backup)), None | Some("backup")) => (node, Role::Backup, Side::Backup),
        (None, Some("observer")) => (node, Role::Observer, Side::Backup),
        (Some((node, side)), Some(asked)) => {
            let own = if side == Side::Primary { "primary" } else { "backup" };
            let what = format!("is {asked}, but {node} is the {own}'s name");
            let fix = match asked {
                "observer" => "give the observer a name of its own with node: NAME",
                _ => "delete role: it follows from node",
            };
            role_at.error(&mut build.notes, what, fix);
            return None;
        }
        (None, _) => {
            let whose = if given { "" } else { " (the host name)" };
            let what =
                format!("{node}{whose} is neither primary.node ({}) nor backup.node ({})", primary.node, backup.node);
            let fix = format!("write node: {} on the backup, or correct the names", backup.node);
            top.key("node").error(&mut build.notes, what, fix);
            return None;
        }
    };
    Some(Pair { node, role, side, primary, backup })
}

fn side_of(node: &NodeName, primary: &Host, backup: &Host) -> Option<Side> {
    if *node == backup.node {
        Some(Side::Backup)
    } else if *node == primary.node {
        Some(Side::Primary)
    } else {
        None
    }
}

/// Our name, and whether it was written in the file.
fn own_name<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<(NodeName, bool)> {
    if at.given {
        return Some((node_name(at, build)?, true));
    }
    let name = build.host_name.parse().ok();
    if name.is_none() {
        let what = "is not written, and the host name is no good node name";
        at.error(&mut build.notes, what, "write node: NAME, the name of this host in primary or backup");
    }
    Some((name?, false))
}

fn node_name<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<NodeName> {
    let text = at.text()?;
    let name = text.parse::<NodeName>().map_err(|_| {
        let what = format!("{} is no node name", quote(text));
        (what, "write 1 to 63 letters, digits, '-', '.' or '_'".to_owned())
    });
    at.take(&mut build.notes, name)
}

fn host<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Host> {
    if !at.is_map() {
        return None;
    }
    let node = node_name(&at.key("node"), build);
    let addresses = match exactly_one(at, &["address", "addresses"], &mut build.notes) {
        Some("address") => address(&at.key("address"), build).map(|address| vec![address]),
        Some(_) => addresses(&at.key("addresses"), build),
        None => None,
    };
    let listen = at.key("listen_address");
    let listen_address = listen.filled().and_then(|_| address(&listen, build));
    Some(Host { node: node?, addresses: addresses?, listen_address })
}

fn address<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<IpAddr> {
    at.take(&mut build.notes, texts::address(at.text()?))
}

fn addresses<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Vec<IpAddr>> {
    let mut found = Vec::new();
    for item in at.items() {
        let Some(address) = address(&item, build) else { continue };
        if found.contains(&address) {
            item.error(&mut build.notes, format!("{address} stands here twice"), "delete one");
        }
        found.push(address);
    }
    if at.is_list() && at.items().is_empty() {
        at.error(&mut build.notes, "holds no address", "write at least one");
    }
    (!found.is_empty()).then_some(found)
}
