//! A small quick scene on loopback for what is done many times: a primary that is only a web server, a real master of
//! the zone behind a [`Proxy`], and a PBX that is only a registrar with a list of what was asked of it. The large
//! scene with a real PBX is [`super::scene`].

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::dns::{self, DnsServer, Kind, Proxy};
use super::free_port;
use super::http::{Receiver, Reply};
use super::robot::Robot;
use super::scene::{BACKUP_NAMED, PRIMARY_NAMED};
use super::web::{Site, Web};

/// How often the registrar looks whether it shall serve.
const GLANCE: Duration = Duration::from_millis(5);

/// A robot with all that it needs; ended when dropped.
pub struct Small {
    /// Dropped first.
    pub robot: Robot,
    /// What it talks to as the zone's master.
    pub proxy: Proxy,
    /// The PBX beside the robot.
    pub pbx: Phantom,
    /// Where ActionURLs arrive.
    pub urls: Receiver,
    /// Where notifications arrive.
    pub told: Receiver,
    _internet: Receiver,
}

/// What robots share: the primary and the zone.
pub struct Ground {
    /// The zone's master.
    pub dns: DnsServer,
    /// The primary's web server.
    pub web: Web,
    _dir: tempfile::TempDir,
}

impl Ground {
    /// A living primary, and a zone that names it.
    pub fn new(kind: Kind) -> Self {
        let dir = tempfile::Builder::new().prefix("ground").tempdir().expect("temporary directory");
        let dns = DnsServer::start(kind, dir.path());
        let web = Site::on(SocketAddr::from(([127, 0, 0, 1], free_port()))).start();
        Self { dns, web, _dir: dir }
    }

    /// Where phones are sent.
    pub fn named(&self) -> String {
        self.dns.query("pbx.lab.test", "A").join(" ")
    }

    /// The epoch record as a person sees it, without its quotation marks.
    pub fn epoch(&self) -> String {
        self.dns.query(dns::EPOCH, "TXT").join(" | ").replace('"', "")
    }

    /// The zone as it was at first.
    pub fn renew(&self) {
        self.dns.set("pbx.lab.test", "A", &[PRIMARY_NAMED]);
        self.dns.set(dns::EPOCH, "TXT", &[]);
    }
}

impl Small {
    /// A robot that is configured and not started; `edit` changes its configuration's text.
    pub fn on(ground: &Ground, edit: impl Fn(String) -> String) -> Self {
        let proxy = Proxy::start(ground.dns.addr);
        let (urls, told) = (Receiver::plain(&[Reply::Status(200)]), Receiver::plain(&[Reply::Status(200)]));
        let internet = Receiver::plain(&[Reply::Status(200)]);
        let pbx = Phantom::new();
        let yaml = YAML
            .replace("@WEB@", &ground.web.listen.port().to_string())
            .replace("@INTERNET@", &internet.port.to_string())
            .replace("@MASTER@", &proxy.addr.to_string())
            .replace("@REGISTRAR@", &pbx.address.to_string())
            .replace("@DRIVER@", &pbx.driver_yaml())
            .replace("@URLS@", &urls.port.to_string())
            .replace("@TOLD@", &told.port.to_string())
            .replace("@EPOCH@", dns::EPOCH)
            .replace("@ZONE@", dns::ZONE)
            .replace("@KEY@", dns::KEY)
            .replace("@PRIMARY@", PRIMARY_NAMED)
            .replace("@BACKUP@", BACKUP_NAMED);
        let robot = Robot::new(&edit(yaml));
        robot.secret("tsig.key", dns::SECRET);
        Self { robot, proxy, pbx, urls, told, _internet: internet }
    }

    /// As [`Small::on`], started and armed.
    pub fn armed(ground: &Ground) -> Self {
        let mut small = Self::on(ground, |yaml| yaml);
        small.robot.start();
        small.robot.wait_armed();
        small
    }

    /// The subjects of what people were told.
    pub fn was_told(&self) -> Vec<String> {
        self.told.received().iter().map(|message| String::from_utf8_lossy(&message.body).into_owned()).collect()
    }
}

const YAML: &str = r#"node: pbx-b
primary: { node: pbx-a, address: 127.0.0.1 }
backup: { node: pbx-b, address: @BACKUP@, listen_address: 127.0.0.1 }
monitor:
  interval: 100ms
  fast_interval: 50ms
  timeout: 1s
  fall: 2
  rise: 2
  checks: { web: { http: "http://pbx.lab.test:@WEB@/" } }
internet: { need: 1, targets: ["tcp://127.0.0.1:@INTERNET@"] }
takeover: { hold_down: 0s, startup_grace: 0s, hold_off: 0s }
epoch: { store: dns, record: @EPOCH@ }
pbx:
  working_dir: "@DIR@/work"
  driver: @DRIVER@
  probe: "sip:@REGISTRAR@"
  trunks: { carrier: { kind: register, required: true } }
sync: { settle: 0s }
dns:
  updates:
    - server: "@MASTER@"
      zone: @ZONE@
      key: { name: @KEY@, algorithm: hmac-sha256, secret: { file: "@DIR@/tsig.key" } }
      ttl: 30
      verify: ["@MASTER@"]
      records:
        - { name: pbx.lab.test, type: A, primary: [@PRIMARY@], backup: [@BACKUP@] }
action_urls:
  - { name: provider, events: [takeover, failback], url: "http://127.0.0.1:@URLS@/{{ event }}?id={{ id }}&epoch={{ epoch }}" }
notify:
  webhooks: [{ name: ops, method: POST, url: "http://127.0.0.1:@TOLD@/{{ event }}", body: { event: "{{ event }}", reason: "{{ reason }}" } }]
failback: { drain: 10s, wait_for_primary: 20s }
"#;

/// A PBX that is a registrar and nothing else; it serves while its file `serving` is there.
pub struct Phantom {
    /// Where it answers.
    pub address: SocketAddr,
    dir: tempfile::TempDir,
    ended: Arc<AtomicBool>,
}

impl Phantom {
    /// One that does not serve yet.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("phantom").tempdir().expect("temporary directory");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let script = include_str!("small/pbx.sh").replace("@DIR@", &dir.path().display().to_string());
        std::fs::write(dir.path().join("pbx.sh"), script).expect("script");
        let ended = Arc::new(AtomicBool::new(false));
        let (own, over) = (dir.path().to_owned(), Arc::clone(&ended));
        std::thread::spawn(move || serve(address, &own, &over));
        Self { address, dir, ended }
    }

    /// Whether it serves.
    pub fn serves(&self) -> bool {
        self.path("serving").exists()
    }

    /// The verbs that it was asked for, but `status`, in order.
    pub fn verbs(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("verbs")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Forgets them.
    pub fn forget(&self) {
        let _ = std::fs::remove_file(self.path("verbs"));
    }

    /// A file in its own directory; `slow` there makes `reload` wait until it is gone, and with `banned` there it does not
    /// answer those who ask for pbx.lab.test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The driver's part of a configuration.
    pub fn driver_yaml(&self) -> String {
        let script = self.path("pbx.sh");
        let verb = |verb: &str| format!("{verb}: [sh, \"{}\", {verb}]", script.display());
        let verbs = ["passive", "reload", "register_trunks", "status", "drain", "unregister_trunks", "stop_accepting"];
        format!("{{ command: {{ {} }} }}", verbs.map(verb).join(", "))
    }
}

impl Drop for Phantom {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

fn serve(address: SocketAddr, dir: &Path, over: &AtomicBool) {
    let (serving, banned) = (dir.join("serving"), dir.join("banned"));
    let mut socket: Option<UdpSocket> = None;
    let mut request = [0; 4096];
    while !over.load(Ordering::SeqCst) {
        match (&socket, serving.exists()) {
            (None, true) => {
                let bound = UdpSocket::bind(address).ok();
                socket = bound.filter(|bound| bound.set_read_timeout(Some(GLANCE)).is_ok());
            }
            (Some(_), false) => socket = None,
            (None, false) => std::thread::sleep(GLANCE),
            (Some(bound), true) => {
                if let Ok((size, from)) = bound.recv_from(&mut request) {
                    let text = String::from_utf8_lossy(&request[..size]);
                    if banned.exists() && text.lines().next().is_some_and(|line| line.contains("pbx.lab.test")) {
                        continue;
                    }
                    let kept = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
                    let lines = text.lines().filter(|line| kept.iter().any(|name| line.starts_with(name)));
                    let answer = lines.fold("SIP/2.0 401 Unauthorized\r\n".to_owned(), |all, line| all + line + "\r\n");
                    let rest = "WWW-Authenticate: Digest realm=\"lab\", nonce=\"1\"\r\nContent-Length: 0\r\n\r\n";
                    let _ = bound.send_to((answer + rest).as_bytes(), from);
                }
            }
        }
    }
}
