//! Who is where: addresses and ports of one demo, its folder, and every file in it.
//!
//! All addresses are of the loopback network (127.0.0.0/8), which needs no rights; a demo takes networks of its own at
//! random, so that several can run beside each other and beside whatever else listens on this host.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::config::{PlainSecret, Secret, TsigAlgorithm, TsigKey};

/// The name that phones use.
pub const PBX_NAME: &str = "pbx.demo.test";
/// The zone.
pub const ZONE: &str = "demo.test";
/// The extensions, with their passwords made up anew each time.
pub const PHONES: [&str; 5] = ["101", "102", "103", "104", "105"];
/// The trunk, as the PBX calls it.
pub const TRUNK: &str = "carrier";
/// Its user at the provider.
pub const TRUNK_USER: &str = "trunk1";
/// A socket's path has at most 107 bytes (unix(7)); the longest name in the folder takes some of them.
const FOLDER_BYTES_MAX: usize = 107 - "/start-primary.sock".len();
/// How often a free port is looked for.
const PORT_TRIES: usize = 100;

/// Everything that one demo needs to know of itself.
pub struct Scene {
    folder: TempDir,
    /// Passwords of phones, trunk and key: nobody can guess them, and nobody has to type them.
    secret: String,
    /// Where the primary's web server listens.
    pub web: SocketAddr,
    /// Where the primary's PBX listens.
    pub primary: SocketAddr,
    /// Where the backup's PBX listens, once it does: the same port.
    pub backup: SocketAddr,
    /// Where the provider listens.
    pub provider: SocketAddr,
    /// Where the zone's master listens.
    pub dns: SocketAddr,
    /// Where its other name server listens: phones ask there.
    pub other_dns: SocketAddr,
    /// Where ActionURLs go.
    pub receiver: SocketAddr,
    /// Two strangers that stand for the Internet.
    pub internet: [SocketAddr; 2],
}

impl Scene {
    /// Chooses addresses and ports that are free, and writes every file.
    ///
    /// # Errors
    /// The system's, with what was tried.
    pub fn set() -> Result<Self, String> {
        let cannot = |what: &str, error: io::Error| format!("{what}: {error}");
        let folder = tempfile::Builder::new().prefix("pbx-failover-demo-").tempdir();
        let folder = folder.map_err(|error| cannot("no temporary folder can be made; set TMPDIR to one", error))?;
        if folder.path().as_os_str().len() > FOLDER_BYTES_MAX {
            return Err(format!(
                "{} is too long for sockets in it; set TMPDIR to a shorter path",
                folder.path().display()
            ));
        }
        // 127.64.0.0 and above: what else uses loopback addresses (resolvers, containers) uses the lower ones. Each
        // site is a network of its own, as in the world.
        let (second, third) = (fastrand::u8(64..=254), fastrand::u8(..=240));
        let host = |site: u8, last: u8| IpAddr::V4(Ipv4Addr::new(127, second, third + site, last));
        let alone = |address: IpAddr| free(&[address]).map(|port| SocketAddr::new(address, port));
        let (primary, backup) = (host(1, 10), host(2, 20));
        let sip = free(&[primary, backup])?;
        let scene = Self {
            secret: secret()?,
            primary: SocketAddr::new(primary, sip),
            backup: SocketAddr::new(backup, sip),
            web: alone(primary)?,
            provider: alone(host(3, 30))?,
            dns: alone(host(4, 40))?,
            other_dns: alone(host(5, 41))?,
            receiver: alone(host(6, 50))?,
            internet: [alone(host(7, 60))?, alone(host(8, 61))?],
            folder,
        };
        scene.write().map_err(|error| cannot("the demo's files cannot be written", error))?;
        Ok(scene)
    }

    /// The demo's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// The robot's settings.
    pub fn config(&self) -> PathBuf {
        self.path("failover.yaml")
    }

    /// The robot's control socket.
    pub fn control(&self) -> PathBuf {
        self.path("control.sock")
    }

    /// Where the robot's own command asks for the primary to be started.
    pub fn bell(&self) -> PathBuf {
        self.path("start-primary.sock")
    }

    /// What the primary's process reads.
    pub fn primary_file(&self) -> PathBuf {
        self.path("primary.json")
    }

    /// The log of a process.
    pub fn log(&self, of: &str) -> PathBuf {
        self.path(&format!("{of}.log"))
    }

    /// The accounts of the provider.
    pub fn provider_accounts(&self) -> PathBuf {
        self.path("provider/pjsip.conf")
    }

    /// The password of a phone or of the trunk.
    pub fn password(&self, user: &str) -> String {
        format!("{user}-{}", &self.secret[..16])
    }

    /// The key that may change the zone.
    pub fn key(&self) -> TsigKey {
        TsigKey {
            name: "demo-key".to_owned(),
            algorithm: TsigAlgorithm::HmacSha256,
            secret: Secret::Plain(PlainSecret(self.secret.clone())),
        }
    }

    /// The zone as it is while all is well.
    pub fn zone(&self) -> String {
        let (ns, primary) = (self.dns.ip(), self.primary.ip());
        format!("@ 60 IN SOA ns hostmaster 1 3600 600 86400 1\n@ 60 IN NS ns\nns 60 IN A {ns}\npbx 1 IN A {primary}\n")
    }

    fn write(&self) -> io::Result<()> {
        // The same working directory on both hosts: the work of a sync tool.
        for host in ["pbx-a", "pbx-b"] {
            fs::create_dir(self.path(host))?;
            private(&self.path(host).join("pjsip.conf"), &self.accounts())?;
        }
        fs::create_dir(self.path("provider"))?;
        private(&self.provider_accounts(), &account(TRUNK_USER, &self.password(TRUNK_USER), ""))?;
        private(&self.config(), &self.settings())?;
        let primary = super::parts::Primary {
            web: self.web,
            sip: self.primary,
            accounts: self.path("pbx-a/pjsip.conf"),
            keep: self.path("pbx-a-bindings"),
        };
        private(&self.primary_file(), &serde_json::to_string_pretty(&primary).map_err(io::Error::other)?)
    }

    fn accounts(&self) -> String {
        let mut text = String::from("; the accounts as Asterisk keeps them, the same on both hosts\n");
        for (number, user) in PHONES.iter().enumerate() {
            // One phone that wants the newer digest, among those that know only the old one.
            let digest = if number == 0 { "supported_algorithms_uas=SHA-256,MD5\n" } else { "" };
            text.push_str(&account(user, &self.password(user), digest));
        }
        let (provider, password) = (self.provider, self.password(TRUNK_USER));
        text + &format!(
            "\n[{TRUNK}]\ntype=registration\nserver_uri=sip:{provider}\nclient_uri=sip:{TRUNK_USER}@{provider}\n\
             contact_user={TRUNK}\noutbound_auth={TRUNK}\nexpiration=120\n\
             [{TRUNK}]\ntype=auth\nusername={TRUNK_USER}\npassword={password}\n"
        )
    }

    fn settings(&self) -> String {
        let Self { web, primary, backup, dns, other_dns, receiver, internet: [one, other], secret, .. } = self;
        let (a, b, sip) = (primary.ip(), backup.ip(), primary.port());
        let exe = std::env::current_exe().unwrap_or_else(|_| "pbx-failover".into());
        let folder = self.folder().display();
        format!(
            "# The demo's robot. Everything is as in production but the times, which are short.\n\
             node: pbx-b\n\
             primary: {{ node: pbx-a, address: {a} }}\n\
             backup: {{ node: pbx-b, address: {b} }}\n\
             monitor:\n  interval: 200ms\n  fast_interval: 100ms\n  timeout: 1s\n  rise: 2\n  checks:\n\
             \x20   web: {{ http: \"http://{PBX_NAME}:{web_port}/\" }}\n\
             \x20   sip: {{ sip: \"sip:{PBX_NAME}:{sip}\" }}\n\
             internet: {{ need: 2, targets: [\"tcp://{one}\", \"tcp://{other}\"] }}\n\
             takeover: {{ hold_down: 1s, startup_grace: 0s, hold_off: 0s }}\n\
             epoch: {{ store: dns, record: _pbx-failover.{PBX_NAME} }}\n\
             pbx:\n  working_dir: {folder}/pbx-b\n\
             \x20 driver: {{ builtin: {{ lab: true, listen: [\"udp://{backup}\", \"tcp://{backup}\"], min_expires: 1s }} }}\n\
             \x20 trunks: {{ {TRUNK}: {{}} }}\n\
             sync: {{ settle: 0s }}\n\
             dns:\n  updates:\n  - server: {dns}\n    zone: {ZONE}\n\
             \x20   key: {{ name: demo-key, secret: \"{secret}\" }}\n    ttl: 1\n    verify: [\"{other_dns}\"]\n    records: [{PBX_NAME}]\n\
             action_urls:\n- name: provider\n  events: [takeover, failback]\n\
             \x20 url: \"http://{receiver}/update?name={{{{ dns_name }}}}&ip={{{{ active_address }}}}\"\n\
             \x20 body: {{ event: \"{{{{ event }}}}\", epoch: \"{{{{ epoch }}}}\" }}\n\
             notify:\n  webhooks:\n  - {{ name: pager, url: \"http://{receiver}/page\", body: {{ text: \"{{{{ subject }}}}\" }} }}\n\
             failback:\n  drain: 5s\n  wait_for_primary: 10s\n  start_primary: [\"{exe}\", demo-part, start-primary, \"{bell}\"]\n\
             state_dir: {folder}/state\ncontrol: {control}\npage: \"\"\n",
            web_port = web.port(),
            exe = exe.display(),
            bell = self.bell().display(),
            control = self.control().display(),
        )
    }
}

fn account(user: &str, password: &str, digest: &str) -> String {
    format!(
        "\n[{user}]\ntype=endpoint\nauth={user}\naors={user}\n[{user}]\ntype=auth\nusername={user}\npassword={password}\n\
         {digest}[{user}]\ntype=aor\nmax_contacts=2\nremove_existing=yes\n"
    )
}

/// A text that nobody can guess, and that is base64 as a TSIG secret has to be.
fn secret() -> Result<String, String> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system gives no random numbers".to_owned())?;
    // Sixteen letters, two for each byte.
    Ok(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|half| char::from(b'a' + half)).collect())
}

fn private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())
}

/// A port that is free for datagrams and connections at each of these addresses.
fn free(addresses: &[IpAddr]) -> Result<u16, String> {
    let is_free = |port: u16| {
        addresses.iter().all(|ip| TcpListener::bind((*ip, port)).is_ok() && UdpSocket::bind((*ip, port)).is_ok())
    };
    let found = (0..PORT_TRIES).map(|_| fastrand::u16(20_000..60_000)).find(|port| is_free(*port));
    found.ok_or_else(|| format!("no free port at {addresses:?}: does this host have the loopback network 127.0.0.0/8?"))
}
