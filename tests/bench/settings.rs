//! The robot's settings in the bench: a PBX that takes no time, so that only the robot's own share counts.

use std::net::{IpAddr, SocketAddr};

use crate::lab::dns;
use crate::lab::robot::Robot;

/// Where the backup is, for DNS.
pub const BACKUP: &str = "10.77.0.12";
/// Where the primary is, for DNS.
pub const PRIMARY: &str = "10.77.0.11";

/// What differs between the parts.
pub struct Settings {
    /// Whom the checks ask.
    pub primary: IpAddr,
    /// `interval`, and how fast once a check has failed.
    pub pace: [&'static str; 2],
    /// The checks, YAML.
    pub checks: String,
    /// The Internet targets, YAML, and how many must answer.
    pub internet: (String, u32),
    /// The zone's master.
    pub master: SocketAddr,
    /// The registrar that stands in for the backup's PBX.
    pub registrar: SocketAddr,
    /// The records that move, YAML.
    pub records: &'static str,
}

/// One name with one address: what the loop in naive.sh moves, too.
pub const ONE_RECORD: &str = "{ name: pbx.lab.test, type: A, primary: [10.77.0.11], backup: [10.77.0.12] }";

/// A, AAAA and SRV.
pub const THREE_RECORDS: &str = "{ name: pbx.lab.test, type: A, primary: [10.77.0.11], backup: [10.77.0.12] }, \
     { name: pbx.lab.test, type: AAAA, primary: [\"fd77::11\"], backup: [] }, \
     { name: _sip._udp.lab.test, type: SRV, primary: [\"10 0 5060 pbx-a.lab.test.\"], backup: [\"10 0 5060 pbx-b.lab.test.\"] }";

/// A robot with its configuration, not started.
pub fn robot(settings: &Settings) -> Robot {
    let Settings { primary, pace: [interval, fast], checks, internet: (targets, need), master, registrar, records } =
        settings;
    let robot = Robot::new(&format!(
        r#"node: pbx-b
primary: {{ node: pbx-a, address: {primary} }}
backup: {{ node: pbx-b, address: {BACKUP}, listen_address: 127.0.0.1 }}
monitor: {{ interval: {interval}, fast_interval: {fast}, timeout: 2s, fall: 3, rise: 1, checks: {{ {checks} }} }}
internet: {{ need: {need}, targets: [{targets}] }}
takeover: {{ hold_down: 0s, startup_grace: 0s, hold_off: 1s }}
epoch: {{ store: dns, record: {epoch} }}
pbx:
  working_dir: "@DIR@/work"
  driver: {{ command: {{ passive: ["true"], reload: ["true"], accept_registrations: ["true"], register_trunks: ["true"], stop_accepting: ["true"] }} }}
  probe: "sip:{registrar}"
sync: {{ settle: 0s }}
dns:
  updates:
    - server: "{master}"
      zone: {zone}
      key: {{ name: {key}, algorithm: hmac-sha256, secret: {{ file: "@DIR@/tsig.key" }} }}
      ttl: 30
      verify: ["{master}"]
      records: [{records}]
"#,
        epoch = dns::EPOCH,
        zone = dns::ZONE,
        key = dns::KEY,
    ));
    robot.secret("tsig.key", dns::SECRET);
    robot
}
