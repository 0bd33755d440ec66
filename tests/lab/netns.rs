//! Hosts in network namespaces, with a switch, an "Internet" behind a router, and cuts between them.
//!
//! ```text
//!   primary 10.77.0.11 ─┐
//!   backup  10.77.0.12 ─┤ switch (bridge and router, 10.77.0.1) ─── inet 10.77.1.1 … 10.77.1.5
//!   phones  10.77.0.21 ─┘
//! ```
//! Every topology has its own namespaces, so tests run in parallel with the same addresses; nothing is made in the
//! root namespace. A server in it is any program with [`Topology::exec`] in front. Needs root.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The programs that the rig needs, for [`super::have`].
pub const PROGRAMS: [&str; 3] = ["ip", "nft", "sysctl"];

/// All our namespaces begin so; then the test's process id, a number, and the host.
pub(super) const PREFIX: &str = "pbxfo";

/// A host of the topology.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Host {
    /// The primary.
    Primary,
    /// The backup: the robot's host.
    Backup,
    /// Phones and people.
    Phones,
    /// Everything behind the router: DNS, reachability targets, the SIP provider.
    Inet,
    /// The switch and router itself.
    Switch,
}

impl Host {
    const ALL: [Self; 5] = [Self::Switch, Self::Primary, Self::Backup, Self::Phones, Self::Inet];

    /// Its address; `Inet` has 10.77.1.1 to 10.77.1.5, and this is the first.
    pub fn address(self) -> IpAddr {
        IpAddr::V4(match self {
            Self::Primary => Ipv4Addr::new(10, 77, 0, 11),
            Self::Backup => Ipv4Addr::new(10, 77, 0, 12),
            Self::Phones => Ipv4Addr::new(10, 77, 0, 21),
            Self::Inet => Ipv4Addr::new(10, 77, 1, 1),
            Self::Switch => Ipv4Addr::new(10, 77, 0, 1),
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
            Self::Phones => "phones",
            Self::Inet => "inet",
            Self::Switch => "switch",
        }
    }
}

/// What is cut. Cuts add up until [`Topology::heal`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// Between primary and backup; both still see phones and Internet.
    Lan,
    /// What the primary sends to the backup is lost.
    LanOneWay,
    /// The backup alone has no Internet.
    InetBackup,
    /// The primary alone has no Internet.
    InetPrimary,
    /// Nobody has Internet.
    InetAll,
    /// Nobody has Internet, and is told so by ICMP.
    InetReject,
    /// The primary's cable is pulled at the switch: silence for all others.
    PrimaryPort,
    /// The primary's own interface is down.
    PrimaryDown,
    /// The backup's cable is pulled at the switch.
    BackupPort,
    /// The backup's own interface is down: "Network is unreachable" there.
    BackupDown,
    /// UDP and TCP port 5060 to the primary.
    Sip,
    /// Ports 80, 443 and 8088 to the primary are silent.
    Web,
    /// Ports 80, 443 and 8088 of the primary answer with a reset, as if the web server had stopped.
    WebReset,
    /// So many per cent (1 to 99) of all LAN frames are lost.
    Loss(u8),
}

/// The hosts, up; taken down when dropped.
pub struct Topology {
    prefix: String,
}

impl Topology {
    /// Whether namespaces can be made here. Says so loudly when not; under `CI` that fails the test.
    pub fn possible() -> bool {
        if !super::have(&PROGRAMS) {
            return false;
        }
        if rustix::process::geteuid().is_root() {
            return true;
        }
        assert!(std::env::var_os("CI").is_none(), "network namespaces need root");
        eprintln!("SKIPPED: network namespaces need root");
        false
    }

    /// Makes the hosts and connects them, after removing what dead test processes left.
    pub fn up() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_leftovers();
        let prefix = format!("{PREFIX}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let topology = Self { prefix };
        topology.build();
        topology
    }

    /// The namespace of a host, for `ip netns` and `--network-namespace-path`.
    pub fn namespace(&self, host: Host) -> String {
        format!("{}-{}", self.prefix, host.name())
    }

    /// What to put before a program to run it on that host: it execs, so the process id is the program's.
    pub fn exec(&self, host: Host) -> Vec<String> {
        ["ip", "netns", "exec", &self.namespace(host)].map(str::to_owned).to_vec()
    }

    /// Runs a program on a host to its end: whether it succeeded, and its output.
    pub fn run(&self, host: Host, argv: &[&str]) -> (bool, String) {
        let out = Command::new("ip")
            .args(["netns", "exec", &self.namespace(host)])
            .args(argv)
            .output()
            .unwrap_or_else(|e| panic!("cannot run ip: {e}"));
        let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
        (out.status.success(), said.into_owned())
    }

    /// Cuts.
    pub fn cut(&self, cut: Cut) {
        let (primary, backup) = (Host::Primary.address(), Host::Backup.address());
        let forward = |rule: String| self.nft(Host::Switch, &format!("add rule bridge cut forward {rule}"));
        let route = |rule: &str| self.nft(Host::Switch, &format!("add rule inet cut forward {rule}"));
        match cut {
            Cut::Lan => {
                forward(format!("ip saddr {primary} ip daddr {backup} drop"));
                forward(format!("ip saddr {backup} ip daddr {primary} drop"));
            }
            Cut::LanOneWay => forward(format!("ip saddr {primary} ip daddr {backup} drop")),
            Cut::InetBackup => route(&format!("ip saddr {backup} drop")),
            Cut::InetPrimary => route(&format!("ip saddr {primary} drop")),
            Cut::InetAll => route("drop"),
            Cut::InetReject => route("reject"),
            Cut::PrimaryPort => self.link(Host::Switch, "p-primary", "down"),
            Cut::PrimaryDown => self.link(Host::Primary, "eth0", "down"),
            Cut::BackupPort => self.link(Host::Switch, "p-backup", "down"),
            Cut::BackupDown => self.link(Host::Backup, "eth0", "down"),
            Cut::Sip => {
                forward(format!("ip daddr {primary} udp dport 5060 drop"));
                forward(format!("ip daddr {primary} tcp dport 5060 drop"));
            }
            Cut::Web => forward(format!("ip daddr {primary} tcp dport {{ 80, 443, 8088 }} drop")),
            // The bridge family cannot reject in every kernel: the host itself does.
            Cut::WebReset => {
                self.nft(Host::Primary, "add rule inet cut input tcp dport { 80, 443, 8088 } reject with tcp reset");
            }
            Cut::Loss(percent) => forward(format!("numgen random mod 100 < {percent} drop")),
        }
    }

    /// Ends every cut.
    pub fn heal(&self) {
        self.nft(Host::Primary, "flush chain inet cut input");
        self.nft(Host::Switch, "flush chain bridge cut forward; flush chain inet cut forward");
        for host in [Host::Primary, Host::Backup] {
            self.link(Host::Switch, &format!("p-{}", host.name()), "up");
            self.link(host, "eth0", "up");
            // The route goes with the interface.
            self.ip(host, &format!("route replace default via {}", Host::Switch.address()));
        }
    }

    fn build(&self) {
        for host in Host::ALL {
            let name = self.namespace(host);
            run("ip", &["netns", "add", &name]);
            self.link(host, "lo", "up");
            // `ip netns exec` binds this over /etc/resolv.conf.
            let etc = format!("/etc/netns/{name}");
            std::fs::create_dir_all(&etc).expect("/etc/netns");
            std::fs::write(format!("{etc}/resolv.conf"), "nameserver 10.77.1.1\n").expect("resolv.conf");
        }
        let router = Host::Switch.address();
        self.ip(Host::Switch, "link add br0 type bridge");
        self.link(Host::Switch, "br0", "up");
        self.ip(Host::Switch, &format!("addr add {router}/24 dev br0"));
        for host in [Host::Primary, Host::Backup, Host::Phones, Host::Inet] {
            let port = format!("p-{}", host.name());
            self.ip(Host::Switch, &format!("link add {port} type veth peer name eth0 netns {}", self.namespace(host)));
            self.link(Host::Switch, &port, "up");
            let gateway = if host == Host::Inet {
                self.ip(Host::Switch, &format!("addr add 10.77.1.254/24 dev {port}"));
                (1..=5).for_each(|n| self.ip(host, &format!("addr add 10.77.1.{n}/24 dev eth0")));
                "10.77.1.254".to_owned()
            } else {
                self.ip(Host::Switch, &format!("link set {port} master br0"));
                self.ip(host, &format!("addr add {}/24 dev eth0", host.address()));
                router.to_string()
            };
            self.link(host, "eth0", "up");
            self.ip(host, &format!("route add default via {gateway}"));
        }
        let (done, said) = self.run(Host::Switch, &["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
        assert!(done, "{said}");
        // Where br_netfilter is there, bridged frames also walk the inet chains, and an Internet cut would cut the
        // LAN too. Where it is not, the names are missing, and all is well.
        for name in ["iptables", "ip6tables", "arptables"] {
            self.run(Host::Switch, &["sysctl", "-qw", &format!("net.bridge.bridge-nf-call-{name}=0")]);
        }
        for (host, family, hook) in
            [(Host::Switch, "bridge", "forward"), (Host::Switch, "inet", "forward"), (Host::Primary, "inet", "input")]
        {
            self.nft(
                host,
                &format!(
                    "add table {family} cut; add chain {family} cut {hook} \
                     {{ type filter hook {hook} priority 0; policy accept; }}"
                ),
            );
        }
    }

    fn ip(&self, host: Host, arguments: &str) {
        let name = self.namespace(host);
        let mut argv = vec!["-n", &name];
        argv.extend(arguments.split_whitespace());
        run("ip", &argv);
    }

    fn link(&self, host: Host, device: &str, state: &str) {
        self.ip(host, &format!("link set {device} {state}"));
    }

    fn nft(&self, host: Host, rules: &str) {
        run("ip", &["netns", "exec", &self.namespace(host), "nft", rules]);
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        for host in Host::ALL {
            remove(&self.namespace(host));
        }
    }
}

pub(super) fn run(program: &str, argv: &[&str]) {
    let out = Command::new(program).args(argv).output().unwrap_or_else(|e| panic!("cannot run {program}: {e}"));
    assert!(out.status.success(), "{program} {argv:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Ends what still runs in the namespace, which would keep it alive, and removes it.
pub(super) fn remove(namespace: &str) {
    if let Ok(out) = Command::new("ip").args(["netns", "pids", namespace]).output() {
        for pid in String::from_utf8_lossy(&out.stdout).split_whitespace() {
            let _ = Command::new("kill").args(["-s", "KILL", pid]).output();
        }
    }
    let _ = Command::new("ip").args(["netns", "del", namespace]).output();
    let _ = std::fs::remove_dir_all(format!("/etc/netns/{namespace}"));
}

/// Removes the namespaces of test processes that live no more (killed before they could clean up).
pub(super) fn remove_leftovers() {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1)).map(str::to_owned);
        if let Some(owner) = owner.filter(|pid| pid.parse::<u32>().is_ok())
            && !std::path::Path::new("/proc").join(owner).exists()
        {
            remove(&name);
        }
    }
}
