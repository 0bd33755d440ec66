//! A witness at the primary's site, asked by the real robot between real hosts: a dead primary is replaced, a dead site
//! is replaced only by policy.

use crate::lab::hosts::Hosts;
use crate::lab::netns::{Cut, Host};

/// The phones' host stands beside the primary here, and is what is asked.
fn beside_the_primary(place: &str) -> Option<Hosts> {
    asking(&[place], &["sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647"])
}

/// A robot with these witnesses that waits while the site is cut, on a backup where `prepare` was run.
fn asking(places: &[&str], prepare: &[&str]) -> Option<Hosts> {
    let witness = format!("witness: {{ primary_site: {places:?} }}\n");
    let mut hosts = Hosts::up(|yaml| yaml.replace("  half_dead: alert\n", "  site_cut: wait\n") + &witness)?;
    let (done, said) = hosts.net.run(Host::Backup, prepare);
    assert!(done, "{said}");
    hosts.robot.start();
    hosts.robot.wait_armed();
    Some(hosts)
}

/// The cable of the host beside the primary, at the switch.
fn cable(hosts: &Hosts, state: &str) {
    let (done, said) = hosts.net.run(Host::Switch, &["ip", "link", "set", "p-phones", state]);
    assert!(done, "{said}");
}

#[test]
fn a_silent_site_is_waited_for_and_a_primary_that_is_dead_alone_is_replaced() {
    for place in ["tcp://10.77.0.21:443", "icmp://10.77.0.21"] {
        let Some(hosts) = beside_the_primary(place) else { return };
        cable(&hosts, "down");
        hosts.net.cut(Cut::PrimaryPort);
        hosts.robot.wait(&format!("{place}: the site is cut"), |s| s["verdict"] == "site-cut");
        // Long after each check has failed more often than it needs: still nothing, as `site_cut: wait` says.
        hosts.robot.wait("many failures", |s| {
            let checks = s["checks"].as_array().cloned().unwrap_or_default();
            checks.iter().all(|check| check["fall"]["now"].as_u64() >= Some(12))
        });
        assert_eq!(hosts.robot.state(), "suspect");
        assert!(!hosts.pbx.runs());
        // The witness answers again, and the primary does not: now it is the primary that is dead.
        cable(&hosts, "up");
        hosts.robot.wait_served();
        assert!(hosts.pbx.runs());
        assert_eq!(hosts.dns.query("pbx.lab.test", "A"), [Host::Backup.address().to_string()], "{place}");
    }
}

/// What a command that only looks says, with its exit code.
fn told(hosts: &Hosts, command: &str) -> (i32, String) {
    let output = hosts.robot.cli(&[command]);
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn witnesses_that_this_host_cannot_ask_keep_no_dead_primary_in_its_place() {
    // Nobody may ask for an echo in a new namespace, and the other place lies where this host's own table forbids.
    let places = ["icmp://10.77.0.21", "tcp://198.51.100.7:443"];
    let Some(mut hosts) = asking(&places, &["ip", "route", "add", "unreachable", "198.51.100.0/24"]) else { return };
    let status = hosts.robot.wait("both unknown", |s| {
        let targets = s["witness"]["primary_site"].as_array().cloned().unwrap_or_default();
        targets.len() == 2 && targets.iter().all(|target| target["verdict"] == "unknown")
    });
    let why = |n: usize| status["witness"]["primary_site"][n]["last"]["error"].to_string();
    assert!(why(0).contains("ping_group_range") && why(1).contains("no route"), "{status:#}");
    let (_, said) = told(&hosts, "status");
    assert_eq!(said.matches("could not be asked").count(), 2, "{said}");
    let (code, said) = told(&hosts, "check");
    assert!(code != 0 && said.contains("witness icmp://10.77.0.21"), "{code}: {said}");
    let (_, said) = told(&hosts, "explain");
    assert!(said.contains("no witness at the primary's site could be asked"), "{said}");

    hosts.kill_primary();
    hosts.robot.wait_served();
    assert!(hosts.pbx.runs());
    let believed = hosts.robot.history_text();
    assert!(believed.contains("primary-dead") && !believed.contains("site-cut"), "{believed}");
}
