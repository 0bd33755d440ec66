//! What `check` says about fail2ban: a robot that is banned believes that the primary is dead, and phones that come all
//! at once look like an attack.

use std::net::IpAddr;

use crate::adapters::inspect::fail2ban::{self, Seen, Watch};
use crate::config::{Config, Role};
use crate::units::finding::{Finding, Level};

const ABOUT: &str = "fail2ban";

/// Looks at the jails of this host.
pub async fn look(config: &Config, findings: &mut Vec<Finding>) {
    findings.extend(tell(config, &fail2ban::look().await));
}

fn tell(config: &Config, seen: &Seen) -> Vec<Finding> {
    let jails = match seen {
        Seen::Absent => return Vec::new(),
        Seen::Unknown(why) => {
            let text = format!("it is here, and whom it never bans is not known: {why}");
            let hint = format!("see that `ignoreip` of its jails holds {}", list(&strangers(config)));
            return vec![Finding::warning(ABOUT, text, hint)];
        }
        Seen::Jails(jails) => jails,
    };
    if jails.is_empty() {
        return vec![Finding::ok(ABOUT, "no jail that is on has the name of a PBX")];
    }
    jails.iter().map(|jail| one(config, jail)).collect()
}

fn one(config: &Config, watch: &Watch) -> Finding {
    let jail = &watch.jail;
    let mut missing: Vec<IpAddr> = strangers(config).into_iter().filter(|address| !watch.ignores(*address)).collect();
    let is_stranger_missing = !missing.is_empty();
    if !jail.ignores_self {
        missing.extend(own(config).into_iter().filter(|address| !watch.ignores(*address)));
    }
    if missing.is_empty() {
        return Finding::ok(ABOUT, format!("jail {} never bans {}", jail.name, list(&strangers(config))));
    }
    let mut whole = jail.ignored.clone();
    whole.extend(missing.iter().map(ToString::to_string));
    let hint = format!(
        "write `ignoreip = {}` into [{}] of /etc/fail2ban/jail.local, then `fail2ban-client reload {}`",
        whole.join(" "),
        jail.name,
        jail.name
    );
    if jail.asks_command {
        let text = format!("jail {} does not list {}; its ignorecommand may", jail.name, list(&missing));
        return Finding::warning(ABOUT, text, hint);
    }
    let (level, harm) = match (config.role, is_stranger_missing) {
        (Role::Primary, true) => (Level::Problem, "a robot that is banned here believes that this host is dead"),
        (_, true) => (Level::Warning, "after a takeover the other host's questions would look like an attack"),
        (_, false) => (Level::Problem, "the robot's own questions look like an attack, and ignoreself is off"),
    };
    let text = format!("jail {} may ban {}: {harm}", jail.name, list(&missing));
    Finding { level, ..Finding::warning(ABOUT, text, hint) }
}

/// The other host of the pair, as this one sees it.
fn strangers(config: &Config) -> Vec<IpAddr> {
    config.host(config.side.other()).addresses.clone()
}

fn own(config: &Config) -> Vec<IpAddr> {
    let host = config.host(config.side);
    vec![host.listen_address.unwrap_or_else(|| host.address())]
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
