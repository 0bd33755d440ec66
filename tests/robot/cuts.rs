//! Hosts with cuts between them: which cut leads to which verdict, and which of them to a takeover.

use std::time::Duration;

use serde_json::Value;

use crate::lab::hosts::Hosts;
use crate::lab::netns::{Cut, Host};
use crate::lab::wait_until;

/// `explain`, as a person reads it, on one line.
fn explained(hosts: &Hosts) -> String {
    let said = hosts.robot.cli(&["explain"]).stdout;
    String::from_utf8_lossy(&said).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn verdict(status: &Value) -> &str {
    status["verdict"].as_str().unwrap_or_default()
}

/// Waits for a verdict, and until `explain` answers with each of these: not every question that was asked when the cut came
/// has ended when enough of them have.
fn told(hosts: &Hosts, what: &str, wanted: &str, sentences: &[&str]) {
    hosts.robot.wait(&format!("{what}: {wanted}"), |status| verdict(status) == wanted);
    wait_until(&format!("{what}: explain says {sentences:?}"), Duration::from_secs(10), || {
        let said = explained(hosts);
        sentences.iter().all(|sentence| said.contains(sentence))
    });
}

/// A robot that watches, and would act only after an hour.
fn watching() -> Option<Hosts> {
    Hosts::armed(|yaml| yaml.replace("hold_down: 0s", "hold_down: 1h"))
}

#[test]
fn each_cut_has_its_verdict_and_explain_says_which() {
    let Some(hosts) = watching() else { return };
    // Without a witness or an observer nobody can tell a dead primary from a dead path to it: the documented limit.
    let dead = ["primary-dead", "the votes are down, and nothing says that it lives"];
    let cut_off = ["pbx-b does not take over: we-are-cut-off, because too few Internet targets answer"];
    let ours = ["pbx-b does not take over: we-are-cut-off", "0 targets answer, 2 are needed", "no route to 10.77.1.2"];
    let up = ["pbx-b does not take over: pbx-a is up"];
    let cuts: [(Cut, &str, &[&str]); 12] = [
        (Cut::Lan, "primary-dead", &dead),
        (Cut::LanOneWay, "primary-dead", &dead),
        (Cut::InetBackup, "we-are-cut-off", &cut_off),
        (Cut::InetPrimary, "primary-up", &up),
        (Cut::InetAll, "we-are-cut-off", &cut_off),
        (Cut::InetReject, "we-are-cut-off", &cut_off),
        (Cut::PrimaryPort, "primary-dead", &dead),
        (Cut::PrimaryDown, "primary-dead", &dead),
        (Cut::BackupPort, "we-are-cut-off", &cut_off),
        (Cut::BackupDown, "we-are-cut-off", &ours),
        (Cut::Sip, "half-dead", &["half-dead: a deciding check is down, another vote is up"]),
        (Cut::WebReset, "half-dead", &["half-dead: a vote is down, but those that decide are up"]),
    ];
    for (cut, wanted, sentences) in cuts {
        let answered = |s: &Value| s["checks"][0]["rise"]["now"].as_u64().unwrap_or_default();
        let before = answered(&hosts.robot.status());
        hosts.net.cut(cut);
        if wanted == "primary-up" {
            hosts.robot.wait("asked on and on", |s| answered(s) > before + 5);
        }
        told(&hosts, &format!("{cut:?}"), wanted, sentences);
        hosts.net.heal();
        told(&hosts, &format!("{cut:?} healed"), "primary-up", &up);
        hosts.robot.wait_armed();
    }
    assert!(hosts.robot.rows().iter().all(|row| [1, 10, 11].contains(row)), "{}", hosts.robot.history_text());
    assert_eq!(hosts.dns.query("pbx.lab.test", "A"), [Host::Primary.address().to_string()]);
}

#[test]
fn a_cut_off_backup_never_takes_over_from_a_primary_that_really_died() {
    for cut in [Cut::InetAll, Cut::InetReject, Cut::BackupDown] {
        let Some(mut hosts) = Hosts::armed(|yaml| yaml) else { return };
        hosts.net.cut(cut);
        hosts.kill_primary();
        told(&hosts, "both", "we-are-cut-off", &["the fault may be ours"]);
        // Long after each check has failed more often than it needs: still nothing.
        if cut != Cut::BackupDown {
            hosts.robot.wait("many failures", |s| {
                let checks = s["checks"].as_array().cloned().unwrap_or_default();
                checks.iter().all(|check| check["fall"]["now"].as_u64() >= Some(12))
            });
        }
        assert_eq!(hosts.robot.state(), "standby");
        assert_eq!(hosts.robot.rows(), [] as [u64; 0], "{}", hosts.robot.history_text());
        assert_eq!(hosts.phone.knock(hosts.pbx.address()), None, "the backup is passive");
        // It becomes what it should as soon as the Internet is there again.
        hosts.net.heal();
        hosts.robot.wait_served();
        hosts.wait_registered_at(Host::Backup);
    }
}

#[test]
fn when_all_is_cut_at_one_instant_there_is_never_a_takeover_nor_an_alarm() {
    let Some(hosts) = Hosts::armed(|yaml| yaml) else { return };
    for round in 0..10_u32 {
        // Another phase of the checks and targets each time.
        std::thread::sleep(Duration::from_millis(u64::from(round) * 23));
        if round % 2 == 0 {
            hosts.net.cut(Cut::BackupPort);
        } else {
            hosts.net.cut(Cut::BackupDown);
        }
        hosts.robot.wait("cut off", |s| verdict(s) == "we-are-cut-off" && s["checks"][0]["verdict"] != "up");
        hosts.net.heal();
        hosts.robot.wait_armed();
    }
    // Not even a suspicion, neither at the cut nor at the healing: nobody was told that the primary is down.
    assert_eq!(hosts.robot.rows(), [] as [u64; 0], "{}", hosts.robot.history_text());
}

#[test]
fn when_primary_and_internet_go_together_the_question_before_the_claim_finds_out() {
    // The worst case: one refusal is enough and comes at once, the Internet was seen a moment ago and falls silent, and
    // no master of a zone stands between.
    let worst = |yaml: String| {
        yaml.replace("fall: 3", "fall: 1")
            .replace(&format!("store: dns, record: {}", crate::lab::dns::EPOCH), "store: local")
            .replace("    sip: { sip: \"sip:pbx.lab.test\" }\n", "")
            .replace("timeout: 200ms", "timeout: 500ms")
    };
    let Some(hosts) = Hosts::armed(worst) else { return };
    for round in 0..10_u32 {
        // Another phase of the checks and targets each time.
        std::thread::sleep(Duration::from_millis(u64::from(round) * 23));
        hosts.net.cut(if round % 2 == 0 { Cut::InetAll } else { Cut::InetBackup });
        hosts.net.cut(Cut::WebReset);
        hosts
            .robot
            .wait("cut off", |s| verdict(s) == "we-are-cut-off" && s["checks"][0]["fall"]["now"].as_u64() > Some(3));
        hosts.net.heal();
        hosts.robot.wait_armed();
    }
    let rows = hosts.robot.rows();
    assert!(rows.contains(&12), "the race was not met: {}", hosts.robot.history_text());
    assert!(rows.contains(&23) || rows.contains(&25), "{}", hosts.robot.history_text());
    let story = hosts.robot.history_text();
    assert!(!story.contains("confirm is done"), "{story}");
    assert!(!hosts.pbx.runs(), "{story}");
}

#[test]
fn phones_follow_the_name_from_a_primary_without_its_cable_to_the_backup() {
    for cut in [Cut::PrimaryPort, Cut::PrimaryDown] {
        let Some(hosts) = Hosts::armed(|yaml| yaml) else { return };
        hosts.wait_registered_at(Host::Primary);
        hosts.net.cut(cut);
        hosts.robot.wait_served();
        hosts.wait_registered_at(Host::Backup);
        assert_eq!(hosts.pbx.contacts("100").len(), 1);
        // Its cable is back: both may serve, a person is told, and nothing moves by itself.
        hosts.net.heal();
        let status = hosts.robot.wait("an alarm", |s| s["alarms"].as_array().is_some_and(|alarms| !alarms.is_empty()));
        assert_eq!(status["state"], "active");
        assert_eq!(status["alarms"][0]["name"], "both-may-serve");
    }
}

/// The limit that only a witness or an observer lifts: to us a cut between the two hosts looks like a dead primary.
#[test]
fn a_cut_between_the_two_hosts_alone_is_taken_for_a_dead_primary() {
    let Some(hosts) = Hosts::armed(|yaml| yaml) else { return };
    hosts.net.cut(Cut::LanOneWay);
    hosts.robot.wait_served();
    hosts.wait_registered_at(Host::Backup);
}

#[test]
fn half_a_primary_is_taken_over_only_by_policy_and_only_for_its_sip() {
    let Some(mut hosts) = Hosts::armed(|yaml| yaml) else { return };
    let stays = |check: usize| {
        move |s: &Value| verdict(s) == "half-dead" && s["checks"][check]["fall"]["now"].as_u64() >= Some(25)
    };
    // By the policy `alert`, never.
    hosts.net.cut(Cut::Sip);
    let status = hosts.robot.wait("five seconds without SIP", stays(1));
    assert_eq!(status["state"], "suspect");
    assert!(explained(&hosts).contains("half-dead: a deciding check is down"), "{}", explained(&hosts));
    hosts.net.heal();
    hosts.robot.wait_armed();
    let settings = std::fs::read_to_string(hosts.robot.config()).expect("configuration");
    let settings = settings.replace("half_dead: alert", "half_dead: { takeover_after: 3s }");
    std::fs::write(hosts.robot.config(), settings).expect("configuration");
    hosts.robot.process().signal("HUP");
    wait_until("the new policy is in force", Duration::from_secs(10), || {
        hosts.robot.log().contains("new settings are in force")
    });
    hosts.robot.wait_armed();
    // The web server alone is an alert for ever.
    hosts.net.cut(Cut::WebReset);
    hosts.robot.wait("five seconds without the web", stays(0));
    assert_eq!(hosts.robot.state(), "suspect");
    assert!(explained(&hosts).contains("those that decide are up"), "{}", explained(&hosts));
    hosts.net.heal();
    hosts.robot.wait_armed();
    // Its SIP server decides.
    let start = std::time::Instant::now();
    hosts.net.cut(Cut::Sip);
    hosts.robot.wait("suspect", |s| s["state"] == "suspect");
    assert!(explained(&hosts).contains("monitor.half_dead.takeover_after"), "{}", explained(&hosts));
    hosts.robot.wait_served();
    assert!(start.elapsed() > Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(hosts.robot.rows().contains(&12), "{}", hosts.robot.history_text());
}
