//! BIND, Knot and PowerDNS with the zone lab.test, and a DNS-aware TCP proxy that loses, delays or changes messages.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
}

impl Kind {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Bind, Self::Knot, Self::PowerDns];

    /// Whether it is installed, with what the rig needs besides.
    pub fn installed(self) -> bool {
        super::have(match self {
            Self::Bind => &["named", "nsupdate", "dig", "setpriv"],
            Self::Knot => &["knotd", "nsupdate", "dig", "setpriv"],
            Self::PowerDns => &["pdns_server", "pdnsutil", "sqlite3", "nsupdate", "dig", "setpriv"],
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
    /// Shifts the server's clock, as faketime writes it: `+10m`.
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
        };
        let argv: Vec<&str> =
            options.prefix.iter().map(String::as_str).chain(argv.iter().map(String::as_str)).collect();
        let process = Running::start_with(&argv, &dir.join("log"), |command| {
            if let Some(shift) = &options.clock {
                command.env("LD_PRELOAD", faketime_library()).env("FAKETIME", shift);
                command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
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
        let mut script = format!("server {} {}\nzone {ZONE}\n", self.addr.ip(), self.addr.port());
        script += &format!("update delete {name}. {rtype}\n");
        for value in values {
            script += &format!("update add {name}. {ttl_s} {rtype} {value}\n");
        }
        script += "send\n";
        let key = format!("{}:admin:{ADMIN_SECRET}", "hmac-sha256");
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
    let grants: String =
        WRITABLE.iter().map(|(name, types)| format!("grant {KEY} name {name}.{ZONE}. {}; ", types.join(" "))).collect();
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

/// The library that the program faketime preloads; used without the program, which would stay between us and the server.
fn faketime_library() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().find_map(|entry| {
        let library = entry.path().join("faketime/libfaketimeMT.so.1");
        library.exists().then_some(library)
    });
    found.expect("libfaketime; tests/run installs faketime")
}

/// What a proxy does with one request.
pub enum Reaction {
    /// Gives this answer.
    Answer(Vec<u8>),
    /// Ends the connection.
    Close,
    /// Says nothing more.
    Hang,
}

/// Hands a request to the server behind the proxy, and brings its answer.
pub type Forward<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;

type Script = dyn FnMut(&[u8], Forward<'_>) -> Reaction + Send;

/// A TCP proxy that understands DNS framing and reacts to each request as a script says.
pub struct Proxy {
    /// Where it listens.
    pub addr: SocketAddr,
    script: Arc<Mutex<Box<Script>>>,
    ended: Arc<AtomicBool>,
}

impl Proxy {
    /// Listens on loopback; forwards everything until told otherwise.
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let addr = listener.local_addr().expect("address");
        let script: Arc<Mutex<Box<Script>>> =
            Arc::new(Mutex::new(Box::new(|request, forward| Reaction::Answer(forward(request)))));
        let ended = Arc::new(AtomicBool::new(false));
        let proxy = Self { addr, script: script.clone(), ended: ended.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (script, ended) = (script.clone(), ended.clone());
                std::thread::spawn(move || serve(client, upstream, &script, &ended));
            }
        });
        proxy
    }

    /// From now on this happens to each request.
    pub fn react(&self, script: impl FnMut(&[u8], Forward<'_>) -> Reaction + Send + 'static) {
        *self.script.lock().expect("script") = Box::new(script);
    }

    /// This happens to the first `times` updates; everything else is forwarded.
    pub fn react_to_updates(
        &self,
        times: usize,
        mut script: impl FnMut(&[u8], Forward<'_>) -> Reaction + Send + 'static,
    ) {
        let mut left = times;
        self.react(move |request, forward| {
            if left > 0 && is_update(request) {
                left -= 1;
                script(request, forward)
            } else {
                Reaction::Answer(forward(request))
            }
        });
    }

    /// The answers to the first `times` updates are lost after the server applied them.
    pub fn lose_answers(&self, times: usize) {
        self.react_to_updates(times, |request, forward| {
            forward(request);
            Reaction::Close
        });
    }

    /// The first `times` updates are lost before they reach the server.
    pub fn lose_updates(&self, times: usize) {
        self.react_to_updates(times, |_, _| Reaction::Close);
    }

    /// Every answer comes so much later.
    pub fn delay(&self, by: Duration) {
        self.react(move |request, forward| {
            std::thread::sleep(by);
            Reaction::Answer(forward(request))
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
    }
}

/// Whether a request is an UPDATE (opcode 5).
pub fn is_update(request: &[u8]) -> bool {
    request.get(2).is_some_and(|flags| flags >> 3 & 0xf == 5)
}

fn serve(mut client: TcpStream, upstream: SocketAddr, script: &Mutex<Box<Script>>, ended: &AtomicBool) {
    while let Some(request) = read_frame(&mut client) {
        let forward = |request: &[u8]| {
            let mut server = TcpStream::connect(upstream).expect("the server behind the proxy");
            write_frame(&mut server, request);
            read_frame(&mut server).expect("the answer of the server behind the proxy")
        };
        let reaction = (script.lock().expect("script"))(&request, &forward);
        match reaction {
            Reaction::Answer(answer) => write_frame(&mut client, &answer),
            Reaction::Close => {
                let _ = client.shutdown(Shutdown::Both);
                return;
            }
            Reaction::Hang => {
                while !ended.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return;
            }
        }
    }
}

fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

fn write_frame(stream: &mut TcpStream, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("a DNS message");
    let _ = stream.write_all(&[&length.to_be_bytes(), bytes].concat());
}
