//! What lies around a primary and a backup that a test puts onto the hosts of [`super::sites`]: BIND as the zone's master,
//! web servers, the agents' papers, and one text of settings for robot, agent and observer. No PBX and no provider.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::dns::{self, DnsServer, Kind, Options};
use super::have;
use super::netns::Topology;
use super::robot::Robot;
use super::sites::{Host, Sites};
use super::web::{Site, Web};

/// All of it, running; the network goes last.
pub struct Outside {
    /// The primary's web server, port 80.
    pub web: Web,
    /// The zone's master.
    pub dns: DnsServer,
    papers: Papers,
    _webs: Vec<Web>,
    _dir: tempfile::TempDir,
    /// The lines.
    pub net: Sites,
}

/// A port of a host.
pub fn at(host: Host, port: u16) -> SocketAddr {
    SocketAddr::new(host.address(), port)
}

impl Outside {
    /// Starts it; `None`, said loudly, where that is not possible.
    pub fn up() -> Option<Self> {
        if !have(&["named", "dig", "nginx"]) || !Topology::possible() {
            return None;
        }
        let net = Sites::up();
        let dir = tempfile::Builder::new().prefix("outside").tempdir().expect("temporary directory");
        let records = [
            format!("pbx 5 IN A {}", Host::Primary.address()),
            format!("pbx-a IN A {}", Host::Primary.address()),
            format!("pbx-b IN A {}", Host::Backup.address()),
        ];
        let options = Options {
            address: Host::Master.address(),
            port: 53,
            prefix: net.exec(Host::Master),
            records: records.to_vec(),
            ..Options::default()
        };
        let dns = DnsServer::start_with(Kind::Bind, dir.path(), options);
        let web_at = |host: Host, address: SocketAddr| {
            let prefix = net.exec(host);
            Site::on(address).inside(&prefix.iter().map(String::as_str).collect::<Vec<_>>()).start()
        };
        let web = web_at(Host::Primary, at(Host::Primary, 80));
        let everywhere = SocketAddr::from(([0, 0, 0, 0], 80));
        let webs = [Host::Router, Host::FirstTarget, Host::OtherTargets].map(|host| web_at(host, everywhere));
        Some(Self { web, dns, papers: Papers::new(), _webs: webs.into(), _dir: dir, net })
    }

    /// The daemon of a host with these settings and all secrets, run by what `prefix` puts before it; not started.
    pub fn daemon(&self, host: Host, settings: &Settings, prefix: Vec<String>) -> Robot {
        let robot = Robot::new(&settings.text(host)).inside(prefix);
        robot.secret("tsig.key", dns::SECRET);
        robot.secret("token", TOKEN);
        robot.secret("door.key", &self.papers.key);
        std::fs::write(robot.path("door.crt"), &self.papers.certificate).expect("certificate");
        robot
    }

    /// Whether the primary's web server answers on its own host.
    pub fn web_runs(&self) -> bool {
        let (host, port) = (self.web.listen.ip().to_string(), self.web.listen.port().to_string());
        let knock = format!("exec 3<>/dev/tcp/{host}/{port}");
        self.net.run(Host::Primary, &["timeout", "1", "bash", "-c", &knock]).0
    }

    /// Whom the zone's record names.
    pub fn holder(&self) -> Option<String> {
        let found = self.dns.query(dns::EPOCH, "TXT").join(" ").replace('"', "");
        found.split(' ').find_map(|part| part.strip_prefix("holder=")).map(str::to_owned)
    }
}

/// What all hosts know each other by.
const TOKEN: &str = "a token of the tests, long enough";

/// One certificate for every door, since every asker pins it.
struct Papers {
    certificate: String,
    key: String,
}

impl Papers {
    fn new() -> Self {
        let names = [Host::Primary, Host::Observer].map(|host| host.address().to_string());
        let key = rcgen::KeyPair::generate().expect("key");
        let params = rcgen::CertificateParams::new(names.to_vec()).expect("names");
        let certificate = params.self_signed(&key).expect("certificate");
        Self { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// Whether the backup asks the primary's agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Agent {
    /// It does.
    Asked,
    /// There is none.
    Absent,
}

/// What the tests do not all write alike. A robot is as fast as it may be: a question every 200 ms.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `monitor.half_dead`.
    pub half_dead: &'static str,
    /// `monitor.site_cut`.
    pub site_cut: &'static str,
    /// `takeover.hold_down`.
    pub hold_down: &'static str,
    /// Entries of `witness.primary_site`.
    pub primary_site: Vec<String>,
    /// Hosts that are observers.
    pub observers: Vec<Host>,
    /// The primary's agent.
    pub agent: Agent,
    /// Further keys of the primary's `agent`, each after a comma.
    pub agent_policies: String,
    /// The keys of `pbx`, in one line.
    pub pbx: String,
    /// The keys of `sync`, in one line.
    pub sync: String,
    /// How long a resolver may keep the records that move, seconds.
    pub ttl_s: u32,
    /// Further sections.
    pub more: String,
}

impl Settings {
    /// With a witness at the primary's site and its agent, acting at once, with this `pbx`.
    pub fn with(pbx: String) -> Self {
        Self {
            half_dead: "alert",
            site_cut: "takeover",
            sync: "settle: 0s".to_owned(),
            hold_down: "0s",
            primary_site: vec![format!("tcp://{}:80", Host::Router.address())],
            observers: Vec::new(),
            agent: Agent::Asked,
            agent_policies: String::new(),
            pbx,
            ttl_s: 30,
            more: String::new(),
        }
    }

    /// `failover.yaml` of a host.
    pub fn text(&self, host: Host) -> String {
        let Self { half_dead, site_cut, hold_down, agent_policies, pbx, sync, ttl_s, more, .. } = self;
        let door = "listen: \"0.0.0.0:8471\", token: { file: \"@DIR@/token\" }, \
                    tls: { certificate: \"@DIR@/door.crt\", key: \"@DIR@/door.key\" }";
        let own = match host {
            Host::Primary => format!("node: pbx-a\nagent: {{ {door}{agent_policies} }}\n"),
            Host::Observer => format!("node: eyes\nrole: observer\nagent: {{ {door} }}\n"),
            _ => "node: pbx-b\n".to_owned(),
        };
        let asked = |host: Host| {
            let secrets = "token: { file: \"@DIR@/token\" }, certificate: { file: \"@DIR@/door.crt\" }";
            format!("{{ url: \"https://{}:8471\", {secrets} }}", host.address())
        };
        let mut witness = String::new();
        if !self.primary_site.is_empty() {
            let _ = write!(witness, "primary_site: {:?}, ", self.primary_site);
        }
        if !self.observers.is_empty() {
            let observers: Vec<_> = self.observers.iter().copied().map(asked).collect();
            let _ = write!(witness, "observers: [{}]", observers.join(", "));
        }
        let peer = match self.agent {
            Agent::Asked => format!("peer: {}", asked(Host::Primary)),
            Agent::Absent => String::new(),
        };
        let (primary, backup, master) = (Host::Primary.address(), Host::Backup.address(), Host::Master.address());
        let (epoch, zone, key) = (dns::EPOCH, dns::ZONE, dns::KEY);
        format!(
            r#"{own}primary: {{ node: pbx-a, address: {primary} }}
backup: {{ node: pbx-b, address: {backup} }}
monitor:
  interval: 200ms
  fast_interval: 100ms
  timeout: 300ms
  fall: 3
  rise: 2
  half_dead: {half_dead}
  site_cut: {site_cut}
  checks:
    web: {{ http: "http://pbx.lab.test/" }}
    sip: {{ sip: "sip:pbx.lab.test" }}
internet: {{ need: 2, targets: ["tcp://10.78.5.1:80", "tcp://10.78.6.2:80", "tcp://10.78.6.3:80"] }}
witness: {{ {witness} }}
{peer}
takeover: {{ hold_down: {hold_down}, startup_grace: 0s, hold_off: 1s }}
epoch: {{ store: dns, record: {epoch} }}
pbx: {{ {pbx} }}
sync: {{ {sync} }}
dns:
  updates:
    - server: "{master}:53"
      zone: {zone}
      key: {{ name: {key}, algorithm: hmac-sha256, secret: {{ file: "@DIR@/tsig.key" }} }}
      ttl: {ttl_s}
      verify: ["{master}:53"]
      records: [pbx.lab.test]
{more}"#
        )
    }
}
