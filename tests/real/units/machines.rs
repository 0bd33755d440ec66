//! Primary and backup as machines in the topology, set up by the commands that docs/systemd.md gives, with the zone's
//! master and the phones outside of them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::lab::dns::{self, DnsServer, Kind, Options};
use crate::lab::netns::{Host, Topology};
use crate::lab::nspawn::Machine;
use crate::lab::robot::binary;
use crate::lab::sipp::{self, Phone};
use crate::lab::web::{Site, Web};
use crate::lab::{have, wait_for, wait_until};

/// Where the settings lie, as the unit has it.
pub const CONFIG: &str = "/etc/pbx-failover/failover.yaml";

/// How long something is waited for.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// The PBX of every machine: Kamailio as a unit, which systemd restarts whenever it ends.
const PBX_UNIT: &str = "[Unit]\nDescription=PBX of the test\n\
    [Service]\nExecStart=/usr/sbin/kamailio -DD -E -m 16 -M 4 -Y /run -f /etc/pbx/kamailio.cfg\n\
    User=kamailio\nRestart=always\nRestartSec=200ms\n[Install]\nWantedBy=multi-user.target\n";

/// What is not a machine: the cables, the zone's master, the Internet and a phone.
pub struct World {
    /// The zone's master, in the Internet.
    pub dns: DnsServer,
    /// A phone with an account.
    pub phone: Phone,
    /// What the hosts know of each other.
    pub papers: Papers,
    _internet: Web,
    _dir: tempfile::TempDir,
    /// The cables.
    pub net: Topology,
}

impl World {
    /// All of it; `None`, said loudly, where that or machines are not possible.
    pub fn up() -> Option<Self> {
        if !have(&["named", "dig", "nginx"]) || !have(&sipp::PROGRAMS) || !Topology::possible() || !Machine::possible()
        {
            return None;
        }
        let net = Topology::up();
        let dir = tempfile::Builder::new().prefix("world").tempdir().expect("temporary directory");
        let options =
            Options { address: Host::Inet.address(), port: 53, prefix: net.exec(Host::Inet), ..Options::default() };
        let dns = DnsServer::start_with(Kind::Bind, dir.path(), options);
        let prefix = net.exec(Host::Inet);
        let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
        let internet = Site::on(SocketAddr::from(([0, 0, 0, 0], 80))).inside(&prefix).start();
        let phone = Phone::new("100", "pw100").inside(net.exec(Host::Phones), Host::Phones.address());
        Some(Self { dns, phone, papers: Papers::new(), _internet: internet, _dir: dir, net })
    }

    /// The epoch record, without its quotation marks.
    pub fn epoch(&self) -> String {
        self.dns.query(dns::EPOCH, "TXT").join(" | ").replace('"', "")
    }

    /// Whether the PBX of a host answers a phone's REGISTER.
    pub fn serves(&self, host: Host) -> bool {
        self.phone.knock(SocketAddr::new(host.address(), 5060)).is_some()
    }

    /// Writes the epoch record as a person would, or a robot elsewhere.
    pub fn write_epoch(&self, number: u64, holder: Host) {
        let id = format!("01M8BNAKKH8A2C9VPKV8FD{number:04}");
        let record = format!("v=1 epoch={number} holder={} id={id} since=2026-11-20T10:00:00Z", node(holder));
        self.dns.set(dns::EPOCH, "TXT", &[&format!("\"{record}\"")]);
    }

    /// The primary, booted and set up whole: guard, timer, agent and PBX are enabled and run.
    pub fn primary(&self, epoch_unreadable: &str) -> Machine {
        let mut machine = self.machine(Host::Primary);
        machine.boot();
        install_robot(&machine, Host::Primary, agent(epoch_unreadable));
        for (name, text) in self.papers.files() {
            secret(&machine, &format!("/etc/pbx-failover/{name}"), text);
        }
        install_guard(&machine);
        machine.must(&["systemctl", "enable", "--quiet", "--now", "pbx-failover.service", "pbx-failover-guard.timer"]);
        machine.must(&["systemctl", "enable", "--quiet", "--now", "pbx.service"]);
        wait_until("the primary serves", PATIENCE, || self.serves(Host::Primary));
        machine
    }

    /// A machine in the place of `host`, with the PBX's unit and the program; off.
    pub fn machine(&self, host: Host) -> Machine {
        let machine = Machine::new(node(host), Some(&self.net.namespace(host)));
        let machine = machine.binds(Path::new(&binary()), "/usr/bin/pbx-failover");
        machine.write("/etc/systemd/system/pbx.service", PBX_UNIT);
        let modules = ["/usr/lib/x86_64-linux-gnu/kamailio/modules/", "/usr/lib/aarch64-linux-gnu/kamailio/modules/"];
        let modules = modules.into_iter().find(|dir| Path::new(dir).exists()).expect("kamailio is installed");
        let config = include_str!("../../lab/nspawn/kamailio.cfg");
        let config = config.replace("@ADDRESS@", &host.address().to_string()).replace("@MODULES@", modules);
        machine.write("/etc/pbx/kamailio.cfg", &config);
        machine
    }
}

/// What both hosts know so that the backup may ask the primary's agent: names below /etc/pbx-failover, and texts.
pub struct Papers(Vec<(&'static str, String)>);

impl Papers {
    /// A token, and the agent's certificate and key.
    pub fn new() -> Self {
        let names = vec![node(Host::Primary).to_owned(), Host::Primary.address().to_string()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let token = "a token of the tests, long enough".to_owned();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        Self(vec![("agent.token", token), ("agent.crt", certificate), ("agent.key", key)])
    }

    /// Each file's name and text.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, text)| (*name, text.as_str()))
    }
}

/// The settings of the primary's agent; `epoch_unreadable` as YAML.
pub fn agent(epoch_unreadable: &str) -> impl FnOnce(String) -> String {
    let agent = format!(
        "agent:\n  token: {{ file: /etc/pbx-failover/agent.token }}\n  \
         tls: {{ certificate: /etc/pbx-failover/agent.crt, key: /etc/pbx-failover/agent.key }}\n  \
         epoch_unreadable: {epoch_unreadable}\n"
    );
    move |yaml| yaml + &agent
}

/// The settings that let the backup ask it; `@DIR@` is where its files lie.
pub fn peer(yaml: String) -> String {
    let url = format!("https://{}:8471", Host::Primary.address());
    let token = "token: { file: \"@DIR@/agent.token\" }";
    yaml + &format!("peer: {{ url: \"{url}\", {token}, certificate: {{ file: \"@DIR@/agent.crt\" }} }}\n")
}

/// Writes what only the robot's user may read.
pub fn secret(machine: &Machine, path: &str, text: &str) {
    machine.write_with(path, text, 0o640);
    machine.must(&["chgrp", "pbx-failover", path]);
}

/// What a host is called.
pub fn node(host: Host) -> &'static str {
    if host == Host::Primary { "pbx-a" } else { "pbx-b" }
}

/// Puts a file of `systemd/` onto a machine that is off or on.
pub fn install(machine: &Machine, name: &str, place: &str) {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name));
    machine.write(place, &text.unwrap_or_else(|e| panic!("systemd/{name}: {e}")));
}

/// What the primary has besides: the drop-in, and the service with its timer; nothing is enabled.
pub fn install_guard(machine: &Machine) {
    let drop_in = "/etc/systemd/system/pbx.service.d/pbx-failover-guard.conf";
    install(machine, "pbx.service.d/pbx-failover-guard.conf", drop_in);
    for name in ["pbx-failover-guard.service", "pbx-failover-guard.timer"] {
        install(machine, name, &format!("/usr/lib/systemd/system/{name}"));
    }
    machine.must(&["systemctl", "daemon-reload"]);
}

/// What both hosts have: the unit, the user, the rule, the secret and the settings, with `edit`ed text.
pub fn install_robot(machine: &Machine, host: Host, edit: impl FnOnce(String) -> String) {
    install(machine, "pbx-failover.service", "/usr/lib/systemd/system/pbx-failover.service");
    install(machine, "pbx-failover.sysusers.conf", "/usr/lib/sysusers.d/pbx-failover.conf");
    install(machine, "50-pbx-failover.rules", "/etc/polkit-1/rules.d/50-pbx-failover.rules");
    machine.must(&["systemd-sysusers"]);
    machine.must(&["systemctl", "daemon-reload"]);
    let settings = edit(yaml(host, "{ systemd: { unit: pbx.service } }") + "page: \"\"\n");
    for (path, text) in [("/etc/pbx-failover/tsig.key", dns::SECRET), (CONFIG, &settings)] {
        secret(machine, path, text);
    }
    machine.must(&["mkdir", "-p", "/srv/pbx"]);
}

/// What the robot of a machine says of itself.
///
/// # Errors
/// What it said instead.
pub fn status(machine: &Machine) -> Result<Value, String> {
    let out = machine.output(&["pbx-failover", "--config", CONFIG, "status", "--json"]);
    let status = serde_json::from_slice::<Value>(&out.stdout).ok().and_then(|s| s.get("pairs")?.get(0).cloned());
    status.ok_or_else(|| format!("{}: {}", out.status, String::from_utf8_lossy(&out.stderr)))
}

/// Waits until `holds` of the status of a machine's robot.
pub fn wait_status(machine: &Machine, what: &str, holds: impl Fn(&Value) -> bool) {
    wait_for(PATIENCE, || {
        let status = status(machine);
        let is_so = status.as_ref().is_ok_and(&holds);
        if is_so { Ok(()) } else { Err(move || format!("{what}: {:#}", status.unwrap_or_else(Value::String))) }
    });
}

/// The settings of a host, whose PBX is this driver: they are the same on both but for the name and the driver.
pub fn yaml(host: Host, driver: &str) -> String {
    format!(
        r#"node: {node}
primary: {{ node: pbx-a, address: {primary} }}
backup: {{ node: pbx-b, address: {backup} }}
monitor:
  interval: 200ms
  fast_interval: 100ms
  timeout: 200ms
  fall: 3
  rise: 2
  checks:
    sip: {{ sip: "sip:pbx.lab.test" }}
internet: {{ need: 2, targets: ["tcp://10.77.1.2:80", "http://10.77.1.3/", "dns://10.77.1.1:53"] }}
takeover: {{ hold_down: 0s, startup_grace: 0s, hold_off: 1s }}
epoch: {{ store: dns, record: {epoch} }}
pbx: {{ working_dir: /srv/pbx, driver: {driver} }}
sync: {{ settle: 0s }}
dns:
  updates:
    - server: "10.77.1.1:53"
      zone: {zone}
      key: {{ name: {key}, algorithm: hmac-sha256, secret: {{ file: /etc/pbx-failover/tsig.key }} }}
      ttl: 30
      verify: ["10.77.1.1:53"]
      records: [pbx.lab.test]
failback: {{ drain: 1s, wait_for_primary: 60s }}
"#,
        node = node(host),
        primary = Host::Primary.address(),
        backup = Host::Backup.address(),
        epoch = dns::EPOCH,
        zone = dns::ZONE,
        key = dns::KEY,
    )
}
