//! A question that never left this host is `Unknown`; what came back over the network is `Down`.

use std::net::SocketAddr;

use super::*;

/// One check or target of every kind that sends something, asked at `address`.
async fn ask_everything(address: IpAddr) -> Vec<(String, ProbeResult)> {
    let (http, web) = ("http://pbx.test/".to_owned(), 200..=399);
    let sip = |transport| CheckTarget::Sip { host: "pbx.test".to_owned(), port: 5060, transport, alive: Vec::new() };
    let host_of = || address.to_string();
    let checked = [
        CheckTarget::Http { url: http, expect_status: web, expect_body: String::new(), ca_file: None },
        CheckTarget::Tcp { port: 443 },
        sip(SipTransport::Udp),
        sip(SipTransport::Tcp),
        sip(SipTransport::Tls),
    ];
    let targets = [
        InternetKind::Tls { host: host_of(), port: 443 },
        InternetKind::Tcp { host: host_of(), port: 443 },
        InternetKind::Dns { host: host_of(), port: 53 },
        InternetKind::Http { url: format!("http://{}/", SocketAddr::new(address, 80)) },
    ];
    tls::install_provider();
    let mut probes = Vec::new();
    for target in checked {
        let name = format!("{target:?}");
        probes.push((name, checks::probe(&check(target, ENOUGH), &host(address), None).expect("a good check")));
    }
    for kind in targets {
        let name = format!("{kind:?}");
        let target = InternetTarget { name: name.clone(), kind };
        probes.push((name, checks::internet::probe(&target, ENOUGH).expect("a good target")));
    }
    let held = exhaust_if_limited();
    let mut results = Vec::new();
    for (name, probe) in probes {
        results.push((name, probe.ask().await));
    }
    drop(held);
    results
}

/// Longer than a local error takes, shorter than ARP takes to give up.
const ENOUGH: Duration = Duration::from_millis(800);
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const LIMITED: &str = "PBX_FAILOVER_TEST_EXHAUST";

/// Opens files until no descriptor is left, where the test asks for it.
fn exhaust_if_limited() -> Vec<std::fs::File> {
    if std::env::var_os(LIMITED).is_none() {
        return Vec::new();
    }
    std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect()
}

#[test]
fn without_a_route_every_answer_is_unknown() {
    let name = "checks::whose_fault::without_a_route_every_answer_is_unknown";
    if !have(&["unshare"]) || run_inside(name, &["unshare", "-n"], &[]) {
        return;
    }
    runtime().block_on(async {
        for address in [ELSEWHERE, "2001:db8::1".parse().expect("address")] {
            for (kind, result) in ask_everything(address).await {
                assert_eq!(unknown(&result), format!("this host has no route to {address}"), "{kind}");
            }
        }
    });
}

#[test]
fn without_a_free_descriptor_every_answer_is_unknown() {
    let name = "checks::whose_fault::without_a_free_descriptor_every_answer_is_unknown";
    if !have(&["prlimit"]) || run_inside(name, &["prlimit", "--nofile=64:64"], &[(LIMITED, "1")]) {
        return;
    }
    runtime().block_on(async {
        for (kind, result) in ask_everything(LOOPBACK).await {
            assert!(unknown(&result).contains("no free file descriptor"), "{kind}: {result:?}");
        }
    });
}

/// This host, a router, and nothing behind it: the router's ICMP "net unreachable" gives the same ENETUNREACH as a
/// missing route of our own.
const ROUTER: &str = r#"
set -e
unshare -n sleep 60 & router=$!
trap 'kill $router' EXIT
until [ "$(readlink /proc/$router/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do :; done
ip link add here type veth peer name there netns $router
ip addr add 10.99.0.1/24 dev here; ip link set here up; ip route add default via 10.99.0.2
nsenter -t $router -n sh -c 'ip addr add 10.99.0.2/24 dev there; ip link set there up
    ip route add default via 10.99.0.1
    echo 1 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/icmp_ratelimit
    nft "table ip lab { chain on { type filter hook forward priority 0; reject with icmp type net-unreachable; }; }"'
"$@"
"#;

#[test]
fn a_received_icmp_unreachable_is_down() {
    let name = "checks::whose_fault::a_received_icmp_unreachable_is_down";
    if !have(&["unshare", "ip", "nsenter", "nft"])
        || run_inside(name, &["unshare", "-n", "sh", "-c", ROUTER, "sh"], &[])
    {
        return;
    }
    runtime().block_on(async {
        for (kind, result) in ask_everything(ELSEWHERE).await {
            let why = down(&result);
            // Over UDP Linux keeps this ICMP message to itself: silence, which is down as well.
            let silent = kind.contains("Udp") || kind.contains("Dns");
            assert!(why == "network is unreachable" || silent && why.starts_with("no answer"), "{kind}: {why}");
        }
    });
}

/// Our own firewall drops what we send; UDP tells it with EPERM.
const FIREWALL: &str = r#"
set -e
ip link set lo up
nft 'table inet lab { chain out { type filter hook output priority 0; udp dport { 53, 5060 } drop; }; }'
exec "$@"
"#;

#[test]
fn what_our_own_firewall_drops_is_unknown_over_udp() {
    let name = "checks::whose_fault::what_our_own_firewall_drops_is_unknown_over_udp";
    if !have(&["unshare", "ip", "nft"]) || run_inside(name, &["unshare", "-n", "sh", "-c", FIREWALL, "sh"], &[]) {
        return;
    }
    runtime().block_on(async {
        for (kind, result) in ask_everything(LOOPBACK).await {
            if kind.contains("Udp") || kind.contains("Dns") {
                assert!(unknown(&result).contains("firewall"), "{kind}: {result:?}");
            } else {
                assert_eq!(down(&result), "connection refused", "{kind}");
            }
        }
    });
}
