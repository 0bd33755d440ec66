//! BIND, Knot, PowerDNS and the demo's own server with the zone lab.test; between them and us, where wanted, a [`Proxy`].

pub mod demo;
mod forgetful;
mod proxy;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

#[allow(unused_imports)] // each test binary uses its own part of the rigs
pub use forgetful::without_prerequisites;
#[allow(unused_imports)] // each test binary uses its own part of the rigs
pub use proxy::{Forward, Proxy, Reaction, is_update};

use super::{Running, free_port, wait_until};

/// The zone of every rig.
pub const ZONE: &str = "lab.test";
/// Where the epoch's record lies.
pub const EPOCH: &str = "_pbx-failover.pbx.lab.test";
/// Where the conformance test works.
pub const PROBE: &str = "_pbx-failover-probe._pbx-failover.pbx.lab.test";
/// The robot's key.
pub const KEY: &str = "robot";
/// Its secret, long enough for every algorithm: the word "secret" again and again.
pub const SECRET: &str = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0";
/// A person's secret: a key that may change everything.
const ADMIN_SECRET: &str = "YWRtaW5hZG1pbmFkbWluYWRtaW5hZG1pbmFkbWluISE=";
/// What the robot's key may write at BIND and Knot: names in the zone, with types.
const WRITABLE: [(&str, &[&str]); 5] = [
    ("_pbx-failover.pbx", &["TXT"]),
    ("_pbx-failover-probe._pbx-failover.pbx", &["TXT"]),
    ("pbx", &["A", "AAAA", "TXT"]),
    ("sip", &["A", "AAAA", "CNAME"]),
    ("_sip._udp", &["SRV"]),
];

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ISC BIND 9.
    Bind,
    /// Knot DNS.
    Knot,
    /// PowerDNS Authoritative Server with its SQLite backend.
    PowerDns,
    /// The demo's own, as [`demo`] starts it.
    Demo,
}

impl Kind {
    /// All.
    pub const ALL: [Self; 4] = [Self::Bind, Self::Knot, Self::PowerDns, Self::Demo];
    /// Those that people run.
    pub const REAL: [Self; 3] = [Self::Bind, Self::Knot, Self::PowerDns];

    /// Whether it is installed, with what the rig needs besides.
    pub fn installed(self) -> bool {
        super::have(match self {
            Self::Bind => &["named", "nsupdate", "dig", "setpriv"],
            Self::Knot => &["knotd", "nsupdate", "dig", "setpriv"],
            Self::PowerDns => &["pdns_server", "pdnsutil", "sqlite3", "nsupdate", "dig", "setpriv"],
            Self::Demo => &["nsupdate", "dig", "setpriv"],
        })
    }
}

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens. BIND listens only at addresses that an interface has.
    pub address: IpAddr,
    /// Its port; 0: a free one of 127.0.0.1.
    pub port: u16,
    /// Put in front of every command, for example `["ip", "netns", "exec", "x"]`.
    pub prefix: Vec<String>,
    /// Shifts the server's clock, as faketime writes it: `+10m`. Not for BIND, whose allocator clashes with faketime.
    pub clock: Option<String>,
    /// The key's algorithm.
    pub algorithm: String,
    /// Lines of the zone, after SOA, NS and the name server's address.
    pub records: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            prefix: Vec::new(),
            clock: None,
            algorithm: "hmac-sha256".into(),
            records: [
                "pbx 30 IN A 10.77.0.11",
                "pbx 30 IN AAAA fd77::11",
                "sip 30 IN A 10.77.0.11",
                "_sip._udp 30 IN SRV 10 0 5060 pbx-a.lab.test.",
                "pbx-a IN A 10.77.0.11",
                "pbx-b IN A 10.77.0.12",
            ]
            .map(String::from)
            .to_vec(),
        }
    }
}

/// A running server.
pub struct DnsServer {
    /// Which.
    pub kind: Kind,
    /// Where it answers, over UDP and TCP.
    pub addr: SocketAddr,
    /// The process.
    pub process: Running,
    options: Options,
}

impl DnsServer {
    /// Starts it with its files in `dir`, and waits until it answers.
    pub fn start(kind: Kind, dir: &Path) -> Self {
        Self::start_with(kind, dir, Options::default())
    }

    /// Likewise, with options.
    pub fn start_with(kind: Kind, dir: &Path, mut options: Options) -> Self {
        if options.port == 0 {
            options.port = free_port();
        }
        let addr = SocketAddr::new(options.address, options.port);
        let dir = dir.join(format!("{kind:?}-{}", options.port));
        std::fs::create_dir_all(&dir).expect("rig directory");
        let argv = match kind {
            Kind::Bind => bind(&dir, addr, &options),
            Kind::Knot => knot(&dir, addr, &options),
            Kind::PowerDns => power_dns(&dir, addr, &options),
            Kind::Demo => demo::argv(),
        };
        let argv: Vec<&str> =
            options.prefix.iter().map(String::as_str).chain(argv.iter().map(String::as_str)).collect();
        let process = Running::start_with(&argv, &dir.join("log"), |command| {
            if kind == Kind::Demo {
                command.envs(demo::environment(&zone_file(&dir, addr, &options), addr, &options.algorithm));
            }
            if let Some(shift) = &options.clock {
                assert_ne!(kind, Kind::Bind, "named cannot run under faketime; shift the clock of its client");
                shift_clock(command, shift);
            }
        });
        let server = Self { kind, addr, process, options };
        wait_until("the DNS server answers", Duration::from_secs(20), || !server.query(ZONE, "SOA").is_empty());
        server
    }

    /// What it answers over TCP, as `dig +short` prints it.
    pub fn query(&self, name: &str, rtype: &str) -> Vec<String> {
        let (ip, port) = (format!("@{}", self.addr.ip()), self.addr.port().to_string());
        let options = ["+short", "+tcp", "+norecurse", "+tries=1", "+time=2"];
        let output = self.command("dig").args(options).args([&ip, "-p", &port, name, rtype]).output().expect("dig");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| !line.starts_with(';')).map(String::from).collect()
    }

    /// A person's change: replaces an RRset; no values delete it.
    pub fn set(&self, name: &str, rtype: &str, values: &[&str]) {
        self.set_with_ttl(name, rtype, 30, values);
    }

    /// Likewise, with a TTL.
    pub fn set_with_ttl(&self, name: &str, rtype: &str, ttl_s: u32, values: &[&str]) {
        let added: Vec<String> =
            values.iter().map(|value| format!("update add {name}. {ttl_s} {rtype} {value}\n")).collect();
        let script = format!(
            "server {} {}\nzone {ZONE}\nupdate delete {name}. {rtype}\n{}send\n",
            self.addr.ip(),
            self.addr.port(),
            added.concat()
        );
        let key = format!("hmac-sha256:admin:{ADMIN_SECRET}");
        let mut command = self.command("nsupdate");
        command.args(["-v", "-y", &key]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("nsupdate");
        child.stdin.take().expect("stdin").write_all(script.as_bytes()).expect("nsupdate reads");
        let output = child.wait_with_output().expect("nsupdate");
        assert!(output.status.success(), "nsupdate: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn command(&self, program: &str) -> Command {
        match self.options.prefix.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        }
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

fn zone_file(dir: &Path, addr: SocketAddr, options: &Options) -> PathBuf {
    let address = if addr.is_ipv4() { "A" } else { "AAAA" };
    let file = dir.join("lab.test.zone");
    write(
        &file,
        &format!(
            "$ORIGIN {ZONE}.\n$TTL 60\n@ IN SOA ns.{ZONE}. hostmaster.{ZONE}. 1 3600 600 86400 60\n@ IN NS ns.{ZONE}.\nns IN {address} {}\n{}\n",
            addr.ip(),
            options.records.join("\n")
        ),
    );
    file
}

fn bind(dir: &Path, addr: SocketAddr, options: &Options) -> Vec<String> {
    let zone = zone_file(dir, addr, options);
    let grants =
        WRITABLE.map(|(name, types)| format!("grant {KEY} name {name}.{ZONE}. {};", types.join(" "))).join(" ");
    let (on, off) = if addr.is_ipv4() { ("listen-on", "listen-on-v6") } else { ("listen-on-v6", "listen-on") };
    let (work, alg, ip, port) = (dir.display(), &options.algorithm, addr.ip(), addr.port());
    write(
        &dir.join("named.conf"),
        &format!(
            r#"key "{KEY}" {{ algorithm {alg}; secret "{SECRET}"; }};
key "admin" {{ algorithm hmac-sha256; secret "{ADMIN_SECRET}"; }};
options {{ directory "{work}"; pid-file "{work}/named.pid"; session-keyfile "{work}/session.key";
  {on} port {port} {{ {ip}; }}; {off} {{ none; }}; recursion no; dnssec-validation no; notify no; }};
controls {{ }};
zone "{ZONE}" {{ type primary; file "{}"; update-policy {{ {grants} grant admin zonesub ANY; }}; }};
"#,
            zone.display()
        ),
    );
    ["/usr/sbin/named", "-g", "-c", &dir.join("named.conf").display().to_string()].map(String::from).to_vec()
}

fn knot(dir: &Path, addr: SocketAddr, options: &Options) -> Vec<String> {
    zone_file(dir, addr, options);
    let names = WRITABLE.map(|(name, _)| name).join(", ");
    let (work, alg, ip, port) = (dir.display(), &options.algorithm, addr.ip(), addr.port());
    write(
        &dir.join("knot.conf"),
        &format!(
            r#"server:
    rundir: "{work}"
    listen: {ip}@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stdout
    any: info
database:
    storage: "{work}"
key:
  - id: {KEY}
    algorithm: {alg}
    secret: {SECRET}
  - id: admin
    algorithm: hmac-sha256
    secret: {ADMIN_SECRET}
acl:
  - id: robot
    key: {KEY}
    action: update
    update-owner: name
    update-owner-match: equal
    update-owner-name: [ {names} ]
    update-type: [ A, AAAA, SRV, TXT, CNAME ]
  - id: admin
    key: admin
    action: update
zone:
  - domain: {ZONE}
    storage: "{work}"
    file: lab.test.zone
    zonefile-sync: -1
    journal-content: all
    zonefile-load: difference-no-serial
    acl: [ robot, admin ]
"#
        ),
    );
    ["/usr/sbin/knotd", "-c", &dir.join("knot.conf").display().to_string()].map(String::from).to_vec()
}

fn power_dns(dir: &Path, addr: SocketAddr, options: &Options) -> Vec<String> {
    let zone = zone_file(dir, addr, options);
    let (work, ip, port) = (dir.display(), addr.ip(), addr.port());
    write(
        &dir.join("pdns.conf"),
        &format!(
            "launch=gsqlite3\ngsqlite3-database={work}/db.sqlite\ngsqlite3-dnssec=yes\nlocal-address={ip}\nlocal-port={port}\n\
             socket-dir={work}\nconfig-dir={work}\ndnsupdate=yes\nallow-dnsupdate-from=127.0.0.0/8,10.0.0.0/8,::1/128,fd00::/8\n\
             cache-ttl=0\nquery-cache-ttl=0\nnegquery-cache-ttl=0\n"
        ),
    );
    let schema = "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql";
    run(Command::new("sqlite3").arg(dir.join("db.sqlite")).arg(format!(".read {schema}")));
    let config = format!("--config-dir={work}");
    let util = |args: &[&str]| run(Command::new("pdnsutil").arg(&config).args(args));
    util(&["load-zone", ZONE, &zone.display().to_string()]);
    util(&["import-tsig-key", KEY, &options.algorithm, SECRET]);
    util(&["import-tsig-key", "admin", "hmac-sha256", ADMIN_SECRET]);
    util(&["set-meta", ZONE, "TSIG-ALLOW-DNSUPDATE", KEY, "admin"]);
    ["/usr/sbin/pdns_server", &config, "--guardian=no", "--daemon=no", "--disable-syslog"].map(String::from).to_vec()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Shifts a program's wall clock, as faketime writes it: `+10m`.
///
/// It sets what the program faketime sets, without that program, which would stay between us and the server.
pub fn shift_clock(command: &mut Command, shift: &str) {
    command.env("LD_PRELOAD", faketime_library()).env("FAKETIME", shift).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
}

/// The library that shifts a program's clock.
pub fn faketime_library() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().find_map(|entry| {
        let library = entry.path().join("faketime/libfaketimeMT.so.1");
        library.exists().then_some(library)
    });
    found.expect("libfaketime; tests/run installs faketime")
}
