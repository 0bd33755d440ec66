//! A witness at the primary's site, asked by the real robot between real hosts: a dead primary is replaced, a dead site
//! is replaced only by policy.

use crate::lab::hosts::Hosts;
use crate::lab::netns::{Cut, Host};

/// The phones' host stands beside the primary here, and is what is asked.
fn beside_the_primary(place: &str) -> Option<Hosts> {
    let witness = format!("witness: {{ primary_site: [\"{place}\"] }}\n");
    let mut hosts = Hosts::up(|yaml| yaml.replace("  half_dead: alert\n", "  site_cut: wait\n") + &witness)?;
    let (done, said) = hosts.net.run(Host::Backup, &["sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647"]);
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
