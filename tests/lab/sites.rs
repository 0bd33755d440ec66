//! Two sites and what lies between them, in network namespaces: every wire and every path can be cut and healed in
//! milliseconds.
//!
//! ```text
//!   primary 10.78.1.11 ── router 10.78.1.1 ──┐            ┌── first target  10.78.5.1
//!                         (site, LAN phones) │            ├── other targets 10.78.6.2, 10.78.6.3
//!   backup 10.78.2.12 ───────────────────────┼─ backbone ─┼── master   10.78.4.53
//!   observer 10.78.3.13 ─────────────────────┘            └── provider 10.78.7.5
//! ```
//! Like [`super::netns`], which it borrows from, with another plan. A cut is silence, as behind a dead line: nobody is
//! told by ICMP. What arrives at the provider is counted there by source, so that a test can say who was heard when.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Paced;
use super::netns::{PREFIX, remove, remove_leftovers, run};

/// A host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Host {
    /// All lines meet here.
    Backbone,
    /// The primary's site: its router, and the phones of its LAN.
    Router,
    /// The primary.
    Primary,
    /// The backup.
    Backup,
    /// The observer.
    Observer,
    /// The DNS master.
    Master,
    /// An Internet target.
    FirstTarget,
    /// Two Internet targets.
    OtherTargets,
    /// The SIP provider.
    Provider,
}

/// SIP over UDP begins eight bytes after the UDP header with the method: the first four letters of two of them.
const METHODS: [(&str, &str); 2] = [("REGISTER", "0x52454749"), ("INVITE", "0x494e5649")];

impl Host {
    const ALL: [Self; 9] = [
        Self::Backbone,
        Self::Router,
        Self::Primary,
        Self::Backup,
        Self::Observer,
        Self::Master,
        Self::FirstTarget,
        Self::OtherTargets,
        Self::Provider,
    ];

    /// Its address; of the other targets the first.
    pub fn address(self) -> IpAddr {
        let (net, host) = match self {
            Self::Backbone => (9, 1),
            Self::Router => (1, 1),
            Self::Primary => (1, 11),
            Self::Backup => (2, 12),
            Self::Observer => (3, 13),
            Self::Master => (4, 53),
            Self::FirstTarget => (5, 1),
            Self::OtherTargets => (6, 2),
            Self::Provider => (7, 5),
        };
        IpAddr::V4(Ipv4Addr::new(10, 78, net, host))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Backbone => "backbone",
            Self::Router => "router",
            Self::Primary => "primary",
            Self::Backup => "backup",
            Self::Observer => "observer",
            Self::Master => "master",
            Self::FirstTarget => "first",
            Self::OtherTargets => "others",
            Self::Provider => "provider",
        }
    }

    /// The device at the other end of its line; its bare name may be a word of `ip`.
    fn port(self) -> String {
        format!("p-{}", self.name())
    }

    /// The host at the other end of its line.
    fn upstream(self) -> Self {
        if self == Self::Primary { Self::Router } else { Self::Backbone }
    }
}

/// Something that can be cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// The wire of a host.
    Wire(Host),
    /// Between two hosts nothing passes.
    Path(Host, Host),
}

/// The hosts and lines; taken down when dropped.
pub struct Sites {
    prefix: String,
}

impl Sites {
    /// Makes the hosts and connects them.
    pub fn up() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_leftovers();
        let prefix = format!("{PREFIX}-{}-s{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let sites = Self { prefix };
        sites.build();
        sites
    }

    fn namespace(&self, host: Host) -> String {
        format!("{}-{}", self.prefix, host.name())
    }

    /// What to put before a program to run it on that host.
    pub fn exec(&self, host: Host) -> Vec<String> {
        ["ip", "netns", "exec", &self.namespace(host)].map(str::to_owned).to_vec()
    }

    /// Runs a program on a host to its end: whether it succeeded, and its output.
    pub fn run(&self, host: Host, argv: &[&str]) -> (bool, String) {
        let namespace = self.namespace(host);
        let argv = [&["netns", "exec", namespace.as_str()], argv].concat();
        let out = Command::new("ip").args(argv).output().unwrap_or_else(|e| panic!("cannot run ip: {e}"));
        let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
        (out.status.success(), said.into_owned())
    }

    /// From now on exactly these lines are cut.
    pub fn cut(&self, lines: &[Line]) {
        for at in [Host::Backbone, Host::Router] {
            let mut rules = String::from("flush chain inet cut enter; flush chain inet cut leave; ");
            for line in lines {
                match *line {
                    Line::Wire(host) if host.upstream() == at => {
                        let device = host.port();
                        let _ = write!(rules, "add rule inet cut enter iifname {device} drop; ");
                        let _ = write!(rules, "add rule inet cut leave oifname {device} drop; ");
                    }
                    Line::Path(one, other) if at == Host::Backbone => {
                        let (one, other) = (one.address(), other.address());
                        let _ = write!(rules, "add rule inet cut enter ip saddr {one} ip daddr {other} drop; ");
                        let _ = write!(rules, "add rule inet cut enter ip saddr {other} ip daddr {one} drop; ");
                    }
                    Line::Wire(_) | Line::Path(..) => {}
                }
            }
            self.nft(at, &rules);
        }
    }

    /// From now on a host's SIP port hears nothing of what comes over this device (`eth0`, `lo`); all else goes on.
    pub fn deafen(&self, host: Host, device: &str) {
        let chain = "add chain inet deaf input { type filter hook input priority 0; policy accept; }";
        let drop = |over: &str| format!("add rule inet deaf input iifname {device} {over} dport 5060 drop");
        self.nft(host, &format!("add table inet deaf; {chain}; {}; {}", drop("udp"), drop("tcp")));
    }

    /// It hears again.
    pub fn cure(&self, host: Host) {
        self.nft(host, "delete table inet deaf");
    }

    /// How many INVITEs have arrived at the provider from a host so far.
    pub fn invites_from(&self, host: Host) -> u64 {
        counted(&self.namespace(Host::Provider), host, &METHODS[1..])
    }

    /// Listens at the provider from now on.
    pub fn ear(&self) -> Ear {
        Ear::at(self.namespace(Host::Provider))
    }

    fn build(&self) {
        for host in Host::ALL {
            run("ip", &["netns", "add", &self.namespace(host)]);
            self.ip(host, "link set lo up");
            // `ip netns exec` binds this over /etc/resolv.conf.
            let etc = format!("/etc/netns/{}", self.namespace(host));
            std::fs::create_dir_all(&etc).expect("/etc/netns");
            let resolver = format!("nameserver {}\n", Host::Master.address());
            std::fs::write(format!("{etc}/resolv.conf"), resolver).expect("resolv.conf");
        }
        for host in Host::ALL.into_iter().filter(|host| *host != Host::Backbone) {
            self.connect(host);
        }
        self.ip(Host::OtherTargets, "addr add 10.78.6.3/24 dev eth0");
        self.ip(Host::Backbone, "route add 10.78.1.0/24 via 10.78.9.2");
        for at in [Host::Backbone, Host::Router] {
            let (done, said) = self.run(at, &["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
            assert!(done, "{said}");
            let chain = |name: &str, hook: &str| {
                format!("add chain inet cut {name} {{ type filter hook {hook} priority 0; policy accept; }}")
            };
            let chains = [chain("enter", "prerouting"), chain("leave", "postrouting")].join("; ");
            self.nft(at, &format!("add table inet cut; {chains}"));
        }
        let chain = "add chain inet heard input { type filter hook input priority 0; policy accept; }";
        self.nft(Host::Provider, &format!("add table inet heard; {chain}"));
        for source in [Host::Primary, Host::Backup] {
            for (_, letters) in METHODS {
                let from = format!("ip saddr {} udp dport 5060 @th,64,32 {letters}", source.address());
                self.nft(Host::Provider, &format!("add rule inet heard input {from} counter"));
            }
        }
    }

    /// Lays a host's line. The router of the site has one network on each side.
    fn connect(&self, host: Host) {
        let (upstream, port) = (host.upstream(), host.port());
        let peer = self.namespace(host);
        self.ip(upstream, &format!("link add {port} type veth peer name eth0 netns {peer}"));
        let (address, gateway) = match (host, host.address()) {
            (Host::Router, _) => ("10.78.9.2".to_owned(), "10.78.9.1".to_owned()),
            (_, IpAddr::V4(v4)) => (v4.to_string(), format!("10.78.{}.1", v4.octets()[2])),
            (_, IpAddr::V6(_)) => unreachable!("the plan has only IPv4"),
        };
        // The first target bears the number that gateways have.
        let gateway = if host == Host::FirstTarget { "10.78.5.254".to_owned() } else { gateway };
        self.ip(upstream, &format!("addr add {gateway}/24 dev {port}"));
        self.ip(upstream, &format!("link set {port} up"));
        self.ip(host, &format!("addr add {address}/24 dev eth0"));
        self.ip(host, "link set eth0 up");
        self.ip(host, &format!("route add default via {gateway}"));
    }

    fn ip(&self, host: Host, arguments: &str) {
        let name = self.namespace(host);
        let mut argv = vec!["-n", &name];
        argv.extend(arguments.split_whitespace());
        run("ip", &argv);
    }

    fn nft(&self, host: Host, rules: &str) {
        run("ip", &["netns", "exec", &self.namespace(host), "nft", rules]);
    }
}

/// Hears, at the provider, who sends REGISTER or INVITE, and when; it looks five times a second.
pub struct Ear {
    heard: Arc<Mutex<Vec<(Instant, Host)>>>,
    _listening: Paced,
}

/// How often the counters are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Ear {
    fn at(namespace: String) -> Self {
        let heard = Arc::<Mutex<Vec<_>>>::default();
        let told = Arc::clone(&heard);
        let hosts = [Host::Primary, Host::Backup];
        let mut before = hosts.map(|host| counted(&namespace, host, &METHODS));
        let listening = Paced::every(LOOK_EVERY, move || {
            for (host, before) in hosts.into_iter().zip(&mut before) {
                let now = counted(&namespace, host, &METHODS);
                if now > *before {
                    told.lock().expect("no panic there").push((Instant::now(), host));
                }
                *before = now;
            }
        });
        Self { heard, _listening: listening }
    }

    /// When each of them was heard, in order.
    pub fn heard(&self) -> Vec<(Instant, Host)> {
        self.heard.lock().expect("no panic there").clone()
    }

    /// Whether a host was heard since then.
    pub fn heard_since(&self, since: Instant, host: Host) -> bool {
        self.heard().iter().any(|(at, who)| *who == host && *at >= since)
    }
}

/// How many requests of these methods have arrived from a host so far.
fn counted(namespace: &str, host: Host, methods: &[(&str, &str)]) -> u64 {
    let argv = ["netns", "exec", namespace, "nft", "list", "chain", "inet", "heard", "input"];
    let out = Command::new("ip").args(argv).output().unwrap_or_else(|e| panic!("cannot run ip: {e}"));
    let said = String::from_utf8_lossy(&out.stdout);
    let address = format!("saddr {} ", host.address());
    let packets = |line: &str| line.split("packets ").nth(1)?.split(' ').next()?.parse::<u64>().ok();
    let ours = |line: &&str| line.contains(&address) && methods.iter().any(|(_, letters)| line.contains(letters));
    said.lines().filter(ours).filter_map(packets).sum()
}

impl Drop for Sites {
    fn drop(&mut self) {
        for host in Host::ALL {
            remove(&self.namespace(host));
        }
    }
}
