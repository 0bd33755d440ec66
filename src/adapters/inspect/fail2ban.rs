//! Asks fail2ban's own reader whom its jails never ban. It starts nothing and needs no right but to read the settings.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::host::command::{self, CommandEnd};
use crate::wire::fail2ban::{Jail, jails};

/// It takes 0.2 s; a busy host may need longer.
const LIMIT: Duration = Duration::from_secs(10);
const LOOKUP_LIMIT: Duration = Duration::from_secs(2);
/// More names in one list are not resolved.
const NAMES_MAX: usize = 8;
const DIR: &str = "/etc/fail2ban";

/// Of all that it prints, what is read: the whole can be megabytes of patterns.
const ASK: &str = "fail2ban-client -d | grep -E \"^\\['add'|'(addignoreip|ignoreself|ignorecommand)'\"";

/// What is known of fail2ban on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It is not installed.
    Absent,
    /// Its settings could not be read.
    Unknown(String),
    /// The jails that are on and watch telephony.
    Jails(Vec<Watch>),
}

/// A jail, and what the host names in its list mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// As fail2ban has it.
    pub jail: Jail,
    /// The addresses of its host names.
    pub resolved: Vec<IpAddr>,
}

impl Watch {
    /// Whether it never bans this address.
    pub fn ignores(&self, address: IpAddr) -> bool {
        self.jail.ignores(address) || self.resolved.contains(&address)
    }
}

/// Looks.
pub async fn look() -> Seen {
    let argv = ["/bin/sh", "-c", ASK].map(str::to_owned);
    let end = command::run(&argv, &[], LIMIT).await;
    let CommandEnd::Exited { stdout, stderr, .. } = &end else { return Seen::Unknown(end.line()) };
    if stdout.len() >= command::OUTPUT_BYTES_MAX {
        return Seen::Unknown("it has too many jails".to_owned());
    }
    let all = jails(stdout);
    if all.is_empty() {
        if !Path::new(DIR).exists() {
            return Seen::Absent;
        }
        // Its complaints come before the orders: without one it has simply no jail.
        return match stderr.lines().find(|line| line.contains("ERROR") || line.contains("not found")) {
            Some(line) => Seen::Unknown(line.chars().take(200).collect()),
            None => Seen::Jails(Vec::new()),
        };
    }
    let mut watches = Vec::new();
    for jail in all.into_iter().filter(Jail::is_telephony) {
        let mut resolved = Vec::new();
        for name in jail.names().take(NAMES_MAX) {
            if let Ok(Ok(found)) = timeout(LOOKUP_LIMIT, lookup_host((name, 0))).await {
                resolved.extend(found.map(|place| place.ip()));
            }
        }
        watches.push(Watch { jail, resolved });
    }
    Seen::Jails(watches)
}
