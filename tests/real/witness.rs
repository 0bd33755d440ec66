//! Witnesses at the primary's site, asked over real networks: there, refusing, silent, gone, and never asked.
//!
//! The witness is the topology's primary or what lies behind its router; the robot's host is its backup.

use std::net::{IpAddr, TcpListener};
use std::time::Duration;

use pbx_failover::adapters::witness;
use pbx_failover::config::{SiteKind, SitePlace};
use pbx_failover::units::ProbeResult;

use crate::checks::{down, run_inside, runtime, unknown, up};
use crate::lab::have;
use crate::lab::netns::{Cut, Host, Topology};

/// Longer than a network in memory takes, shorter than ARP takes to give up.
const ENOUGH: Duration = Duration::from_millis(900);
/// Longer than ARP takes to give up.
const PATIENT: Duration = Duration::from_secs(6);

fn ask(kind: SiteKind, timeout: Duration) -> ProbeResult {
    let place = SitePlace { name: "it".to_owned(), kind };
    runtime().block_on(async { witness::probe(&place, timeout).ask().await })
}

fn tcp(host: Host) -> SiteKind {
    SiteKind::Tcp((host.address(), 443).into())
}

fn icmp(host: Host) -> SiteKind {
    SiteKind::Icmp(host.address())
}

/// Lets everybody on the backup ask for echoes, as systemd does on most hosts; a new namespace lets nobody.
fn allow_echo(topology: &Topology) {
    let (done, said) = topology.run(Host::Backup, &["sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647"]);
    assert!(done, "{said}");
}

/// Makes the hosts, prepares them, and runs the test `name` once more on the backup; `true` out here.
fn from_the_backup(name: &str, prepare: impl FnOnce(&Topology)) -> bool {
    // Inside the first host there is nothing to make: `run_inside` says so without running anything.
    if std::env::var_os("PBX_FAILOVER_TEST_INSIDE").is_some() {
        return false;
    }
    if !Topology::possible() {
        return true;
    }
    let topology = Topology::up();
    prepare(&topology);
    let prefix = topology.exec(Host::Backup);
    run_inside(&format!("witness::{name}"), &prefix.iter().map(String::as_str).collect::<Vec<_>>(), &[])
}

#[test]
fn a_connection_is_an_answer() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let result = ask(SiteKind::Tcp(server.local_addr().expect("an address")), PATIENT);
    assert_eq!(up(&result), ("connected", None));
}

#[test]
fn a_refusal_is_an_answer_and_so_is_an_echo() {
    if from_the_backup("a_refusal_is_an_answer_and_so_is_an_echo", allow_echo) {
        return;
    }
    assert!(up(&ask(tcp(Host::Primary), ENOUGH)).0.starts_with("refused"));
    let echo = ask(icmp(Host::Primary), ENOUGH);
    assert_eq!(up(&echo), ("echo", None));
    assert!(echo.latency < ENOUGH, "{echo:?}");
}

#[test]
fn an_echo_is_heard_over_ipv6_too() {
    const SCRIPT: &str = "set -e; ip link set lo up; sysctl -qw 'net.ipv4.ping_group_range=0 2147483647'; exec \"$@\"";
    let name = "witness::an_echo_is_heard_over_ipv6_too";
    if !have(&["unshare", "ip", "sysctl"]) || run_inside(name, &["unshare", "-n", "sh", "-c", SCRIPT, "sh"], &[]) {
        return;
    }
    assert_eq!(up(&ask(SiteKind::Icmp("::1".parse().expect("an address")), ENOUGH)).0, "echo");
}

#[test]
fn one_lost_echo_is_no_silence() {
    // The router drops the first echo that it sees.
    const DROP: &str = "add table inet once { set seen { type ipv4_addr; flags dynamic; }; chain on { type filter hook \
                        input priority 0; ip protocol icmp ip saddr != @seen add @seen { ip saddr } drop; }; }";
    let prepare = |topology: &Topology| {
        allow_echo(topology);
        let (done, said) = topology.run(Host::Switch, &["nft", DROP]);
        assert!(done, "{said}");
    };
    if from_the_backup("one_lost_echo_is_no_silence", prepare) {
        return;
    }
    let echo = ask(icmp(Host::Switch), ENOUGH);
    assert_eq!(up(&echo).0, "echo");
    assert!(echo.latency >= ENOUGH / 3, "the first one was not lost: {echo:?}");
}

#[test]
fn silence_is_down_and_takes_no_longer_than_the_time_out() {
    let prepare = |topology: &Topology| {
        allow_echo(topology);
        topology.cut(Cut::LanOneWay);
    };
    if from_the_backup("silence_is_down_and_takes_no_longer_than_the_time_out", prepare) {
        return;
    }
    for kind in [tcp(Host::Primary), icmp(Host::Primary)] {
        let result = ask(kind, ENOUGH);
        assert_eq!(down(&result), "no answer within 900ms", "{kind:?}");
        assert!(result.latency < ENOUGH * 2, "{result:?}");
    }
}

#[test]
fn a_host_that_is_gone_is_down() {
    let prepare = |topology: &Topology| {
        allow_echo(topology);
        topology.cut(Cut::PrimaryDown);
    };
    if from_the_backup("a_host_that_is_gone_is_down", prepare) {
        return;
    }
    // A neighbour that does not answer ARP: the kernel tells of it over TCP, and over ICMP keeps silent.
    assert_eq!(down(&ask(tcp(Host::Primary), PATIENT)), "no route to host");
    assert!(down(&ask(icmp(Host::Primary), ENOUGH)).starts_with("no answer within"));
}

#[test]
fn a_router_that_says_no_is_down_with_its_word() {
    let prepare = |topology: &Topology| {
        allow_echo(topology);
        let reject = "add rule inet cut forward reject with icmp type admin-prohibited";
        let (done, said) = topology.run(Host::Switch, &["nft", reject]);
        assert!(done, "{said}");
    };
    if from_the_backup("a_router_that_says_no_is_down_with_its_word", prepare) {
        return;
    }
    for kind in [tcp(Host::Inet), icmp(Host::Inet)] {
        assert_eq!(down(&ask(kind, ENOUGH)), "no route to host", "{kind:?}");
    }
}

#[test]
fn without_a_way_out_of_this_host_nothing_is_known() {
    let prepare = |topology: &Topology| {
        allow_echo(topology);
        topology.cut(Cut::BackupDown);
    };
    if from_the_backup("without_a_way_out_of_this_host_nothing_is_known", prepare) {
        return;
    }
    for kind in [tcp(Host::Primary), icmp(Host::Primary)] {
        assert!(unknown(&ask(kind, ENOUGH)).contains("no route to 10.77.0.11"), "{kind:?}");
    }
}

#[test]
fn what_our_own_firewall_drops_is_not_known() {
    let prepare = |topology: &Topology| {
        allow_echo(topology);
        let rules = "add table inet own { chain out { type filter hook output priority 0; ip protocol icmp drop; }; }";
        let (done, said) = topology.run(Host::Backup, &["nft", rules]);
        assert!(done, "{said}");
    };
    if from_the_backup("what_our_own_firewall_drops_is_not_known", prepare) {
        return;
    }
    assert!(unknown(&ask(icmp(Host::Primary), ENOUGH)).contains("firewall"));
}

#[test]
fn where_the_system_allows_no_echo_it_says_what_to_set() {
    // A new namespace allows nobody; so not even root may.
    if from_the_backup("where_the_system_allows_no_echo_it_says_what_to_set", |_| {}) {
        return;
    }
    for address in [Host::Primary.address(), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])] {
        let result = ask(SiteKind::Icmp(address), ENOUGH);
        let said = unknown(&result);
        assert!(said.contains("net.ipv4.ping_group_range") && said.contains("tcp://"), "{said}");
    }
}
