//! The whole story with hosts: a primary (nginx and Kamailio), a backup (the robot, and Kamailio as its PBX), phones,
//! and an Internet (BIND as the zone's master, and targets), each in a network namespace of its own, with cuts between.

use std::net::{IpAddr, SocketAddr};

use super::dns::{self, DnsServer, Kind, Options};
use super::kamailio::{self, Kamailio, Setup};
use super::netns::{Host, Topology};
use super::robot::Robot;
use super::sipp::{self, Phone};
use super::web::{Site, Web};
use super::{have, wait_until};

/// All hosts, running; ended when dropped, the robot first.
pub struct Hosts {
    /// On the backup.
    pub robot: Robot,
    /// The primary's web server, port 80.
    pub web: Web,
    /// The primary's SIP server, port 5060 over UDP and TCP.
    pub sip: Kamailio,
    /// The backup's PBX; passive until the robot starts it.
    pub pbx: Kamailio,
    /// The zone's master, in the Internet.
    pub dns: DnsServer,
    /// A phone with an account.
    pub phone: Phone,
    _internet: Web,
    _dir: tempfile::TempDir,
    /// The cables.
    pub net: Topology,
}

fn at(host: Host, port: u16) -> SocketAddr {
    SocketAddr::new(host.address(), port)
}

impl Hosts {
    /// Starts all of them, and the robot with `edit`ed settings, and waits until it is armed.
    /// `None`, said loudly, where that is not possible.
    pub fn armed(edit: impl FnOnce(String) -> String) -> Option<Self> {
        let mut hosts = Self::up(edit)?;
        hosts.robot.start();
        hosts.robot.wait_armed();
        Some(hosts)
    }

    /// As [`Hosts::armed`], with the robot not started yet.
    pub fn up(edit: impl FnOnce(String) -> String) -> Option<Self> {
        let servers = have(&["named", "dig", "nginx"]) && have(&kamailio::PROGRAMS) && have(&sipp::PROGRAMS);
        if !servers || !Topology::possible() {
            return None;
        }
        let net = Topology::up();
        let dir = tempfile::Builder::new().prefix("hosts").tempdir().expect("temporary directory");
        let options =
            Options { address: Host::Inet.address(), port: 53, prefix: net.exec(Host::Inet), ..Options::default() };
        let dns = DnsServer::start_with(Kind::Bind, dir.path(), options);
        let web_at = |host, address| {
            let prefix = net.exec(host);
            let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
            Site::on(address).inside(&prefix).start()
        };
        let web = web_at(Host::Primary, at(Host::Primary, 80));
        let internet = web_at(Host::Inet, SocketAddr::from(([0, 0, 0, 0], 80)));
        let registrar = |host| Setup::at(at(host, 5060)).account("100", "pw100");
        let sip = Kamailio::started(registrar(Host::Primary).with_tcp().inside(net.exec(Host::Primary)));
        // The robot starts it, and is on its host already.
        let pbx = Kamailio::new(registrar(Host::Backup));
        let robot = Robot::new(&edit(yaml(&pbx))).inside(net.exec(Host::Backup));
        robot.secret("tsig.key", dns::SECRET);
        let phone = Phone::new("100", "pw100").inside(net.exec(Host::Phones), Host::Phones.address());
        Some(Self { robot, web, sip, pbx, dns, phone, _internet: internet, _dir: dir, net })
    }

    /// The primary's two servers die.
    pub fn kill_primary(&mut self) {
        self.web.kill();
        self.sip.signal("KILL");
    }

    /// What a phone does that follows DNS: asks for the PBX's address, and registers there.
    ///
    /// # Errors
    /// As [`Phone::register`].
    pub fn register_by_name(&self) -> Result<SocketAddr, String> {
        let found = self.dns.query("pbx.lab.test", "A");
        let address: IpAddr = found.first().and_then(|a| a.parse().ok()).ok_or(format!("no address: {found:?}"))?;
        self.phone.register(SocketAddr::new(address, 5060))?;
        Ok(SocketAddr::new(address, 5060))
    }

    /// Waits until a phone that follows DNS is registered at `host`.
    pub fn wait_registered_at(&self, host: Host) {
        wait_until("the phone is registered by name", std::time::Duration::from_secs(20), || {
            self.register_by_name() == Ok(at(host, 5060))
        });
    }
}

fn yaml(pbx: &Kamailio) -> String {
    format!(
        r#"node: pbx-b
primary: {{ node: pbx-a, address: {primary} }}
backup: {{ node: pbx-b, address: {backup} }}
monitor:
  interval: 200ms
  fast_interval: 100ms
  timeout: 200ms
  fall: 3
  rise: 2
  half_dead: alert
  checks:
    web: {{ http: "http://pbx.lab.test/" }}
    sip: {{ sip: "sip:pbx.lab.test" }}
internet: {{ need: 2, targets: ["tcp://10.77.1.2:80", "http://10.77.1.3/", "dns://10.77.1.1:53"] }}
takeover: {{ hold_down: 0s, startup_grace: 0s, hold_off: 1s }}
epoch: {{ store: dns, record: {epoch} }}
pbx: {{ working_dir: {work}, driver: {driver} }}
sync: {{ settle: 0s }}
dns:
  updates:
    - server: "10.77.1.1:53"
      zone: {zone}
      key: {{ name: {key}, algorithm: hmac-sha256, secret: {{ file: "@DIR@/tsig.key" }} }}
      ttl: 30
      verify: ["10.77.1.1:53"]
      records: [pbx.lab.test]
"#,
        primary = Host::Primary.address(),
        backup = Host::Backup.address(),
        epoch = dns::EPOCH,
        work = pbx.work_dir().display(),
        driver = pbx.driver_yaml(),
        zone = dns::ZONE,
        key = dns::KEY,
    )
}
