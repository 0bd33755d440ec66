//! The whole story on loopback: a primary with a web server, a master of the zone, a backup PBX with a trunk to a
//! provider, phones, an ActionURL receiver, a mail sink, and the robot beside the backup.

use std::net::SocketAddr;

use super::dns::{self, DnsServer, Kind};
use super::http::{Receiver, Reply};
use super::kamailio::{Kamailio, Setup};
use super::mail::{Relay, Sink};
use super::robot::Robot;
use super::sipp::Phone;
use super::web::{Site, Web};
use super::{free_port, have};

/// Where DNS says that the primary is; nothing listens there.
pub const PRIMARY_NAMED: &str = "10.77.0.11";
/// Where DNS says that the backup is.
pub const BACKUP_NAMED: &str = "10.77.0.12";

/// Everything, running; ended when dropped.
pub struct Scene {
    /// Dropped first.
    pub robot: Robot,
    /// The zone's master.
    pub dns: DnsServer,
    /// The primary's web server.
    pub web: Web,
    /// The backup's PBX; passive until the robot starts it.
    pub pbx: Kamailio,
    /// The trunk provider.
    pub provider: Kamailio,
    /// Where ActionURLs arrive.
    pub receiver: Receiver,
    /// Where mail arrives.
    pub mail: Sink,
    /// A phone with an account.
    pub phone: Phone,
    _internet: Receiver,
    _dir: tempfile::TempDir,
}

/// What a scene may be told before it starts.
pub struct Wishes {
    /// Which DNS server.
    pub kind: Kind,
    /// Where the robot is told that the master is, when not there.
    pub master: Option<SocketAddr>,
    /// Changes the configuration's text.
    pub edit: fn(String) -> String,
}

impl Wishes {
    /// A plain scene on this DNS server.
    pub fn on(kind: Kind) -> Self {
        Self { kind, master: None, edit: |yaml| yaml }
    }
}

/// Whether everything that a scene needs is installed.
pub fn possible() -> bool {
    have(&["named", "knotd", "pdns_server", "nginx", "kamailio", "kamcmd", "sipp", "setpriv"])
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Scene {
    /// Builds everything and writes the robot's configuration; the robot is not started yet.
    pub fn set(wishes: &Wishes) -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("scene").tempdir().expect("temporary directory");
        let dns = DnsServer::start(wishes.kind, dir.path());
        let mail = Sink::start(&Relay::default())?;
        let provider = Kamailio::started(Setup::at(loopback(free_port())).account("carrier-user", "carrier-pw"));
        let pbx = Kamailio::new(Setup::at(loopback(free_port())).account("100", "pw100").trunk(
            "carrier",
            provider.address(),
            "carrier-user",
            "carrier-pw",
        ));
        std::fs::write(pbx.work_dir().join("pjsip.conf"), pjsip(provider.address())).expect("accounts");
        let web = Site::on(loopback(free_port())).start();
        let receiver = Receiver::plain(&[Reply::Status(200)]);
        let internet = Receiver::plain(&[Reply::Status(200)]);
        let yaml = (wishes.edit)(yaml(&Addresses {
            web: web.listen,
            internet: loopback(internet.port),
            master: wishes.master.unwrap_or(dns.addr),
            pbx: &pbx,
            receiver: loopback(receiver.port),
            mail: loopback(mail.port),
        }));
        let robot = Robot::new(&yaml);
        robot.secret("tsig.key", dns::SECRET);
        let phone = Phone::new("100", "pw100");
        Some(Self { robot, dns, web, pbx, provider, receiver, mail, phone, _internet: internet, _dir: dir })
    }

    /// As [`Scene::set`], with the robot started and armed.
    pub fn armed(wishes: &Wishes) -> Option<Self> {
        let mut scene = Self::set(wishes)?;
        scene.robot.start();
        scene.robot.wait_armed();
        Some(scene)
    }

    /// The epoch record at the master.
    pub fn epoch(&self) -> Vec<String> {
        self.dns.query(dns::EPOCH, "TXT")
    }
}

/// An edit: the PBX that is built into the robot, in place of the other and with its accounts.
pub fn builtin(mut yaml: String) -> String {
    let place = |name: &str| {
        let from = yaml.find(&format!("\n  {name}: ")).expect("a line of that name") + 1;
        from..from + yaml[from..].find('\n').expect("its end")
    };
    let (driver, probe) = (place("driver"), place("probe"));
    let address = yaml[probe].split("sip:").nth(1).expect("an address").trim_end_matches('"');
    let listen = format!("[\"udp://{address}\", \"tcp://{address}\"]");
    yaml.replace_range(driver, &format!("  driver: {{ builtin: {{ lab: true, listen: {listen}, min_expires: 5s }} }}"));
    yaml
}

/// The accounts of the backup's PBX, as Asterisk writes them.
fn pjsip(provider: SocketAddr) -> String {
    format!(
        "[100]\ntype=endpoint\nauth=100\naors=100\n\
         [100]\ntype=auth\nusername=100\npassword=pw100\n\
         [100]\ntype=aor\nmax_contacts=1\nremove_existing=yes\n\
         [carrier]\ntype=registration\noutbound_auth=carrier\nserver_uri=sip:{provider}\n\
         client_uri=sip:carrier-user@{provider}\ncontact_user=carrier\n\
         [carrier]\ntype=auth\nusername=carrier-user\npassword=carrier-pw\n"
    )
}

struct Addresses<'a> {
    web: SocketAddr,
    internet: SocketAddr,
    master: SocketAddr,
    pbx: &'a Kamailio,
    receiver: SocketAddr,
    mail: SocketAddr,
}

fn yaml(at: &Addresses) -> String {
    let Addresses { web, internet, master, pbx, receiver, mail } = at;
    format!(
        r#"node: pbx-b
primary: {{ node: pbx-a, address: 127.0.0.1 }}
backup: {{ node: pbx-b, address: 10.77.0.12, listen_address: 127.0.0.1 }}
monitor:
  interval: 1s
  fast_interval: 1s
  timeout: 1s
  fall: 3
  rise: 2
  checks: {{ web: {{ http: "http://pbx.lab.test:{web_port}/" }} }}
internet: {{ need: 1, targets: ["tcp://{internet}"] }}
takeover: {{ hold_down: 0s, startup_grace: 0s, hold_off: 1s }}
epoch: {{ store: dns, record: {epoch} }}
pbx:
  working_dir: {work}
  driver: {driver}
  probe: "sip:{pbx_address}"
  trunks: {{ carrier: {{ kind: register, required: true }} }}
sync: {{ settle: 0s }}
dns:
  updates:
    - server: "{master}"
      zone: {zone}
      key: {{ name: {key}, algorithm: hmac-sha256, secret: {{ file: "@DIR@/tsig.key" }} }}
      ttl: 30
      verify: ["{master}"]
      records:
        - {{ name: pbx.lab.test, type: A, primary: [{primary}], backup: [{backup}] }}
        - {{ name: pbx.lab.test, type: AAAA, primary: ["fd77::11"], backup: [] }}
        - {{ name: _sip._udp.lab.test, type: SRV, primary: ["10 0 5060 pbx-a.lab.test."], backup: ["10 0 5060 pbx-b.lab.test."] }}
action_urls:
  - name: provider
    events: [takeover, failback]
    url: "http://{receiver}/update?name={{{{ dns_name }}}}&ip={{{{ active_address }}}}&event={{{{ event }}}}"
notify:
  email: {{ smtp: "{mail}", tls: none, from: robot@lab.test, to: [ops@lab.test] }}
failback: {{ drain: 10s, wait_for_primary: 10s }}
"#,
        web_port = web.port(),
        epoch = dns::EPOCH,
        work = pbx.work_dir().display(),
        driver = pbx.driver_yaml(),
        pbx_address = pbx.address(),
        zone = dns::ZONE,
        key = dns::KEY,
        primary = PRIMARY_NAMED,
        backup = BACKUP_NAMED,
    )
}
