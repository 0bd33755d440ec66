//! The primary's SIP port is dead, and all else of it alive: web server, manager, agent, the PBX itself.

use crate::lab::robot::Robot;
use crate::lab::sites::Host;
use crate::lab::suite::Suite;
use crate::lab::wait_until;
use crate::office::{Office, SOON, asterisks};

#[test]
fn a_primary_whose_sip_alone_is_dead_is_one_alert_or_a_takeover_as_the_policy_says() {
    let Some(suite) = Suite::forky() else { return };
    let Some(mut office) = Office::open(asterisks(&suite), |settings| settings) else { return };
    office.outside.net.deafen(Host::Primary, "eth0");
    office.robot().wait("the verdict", |status| status["verdict"] == "half-dead");
    let status = office.robot().wait_state("suspect");
    assert_eq!(status["peer"]["contact"], "heard", "the agent is there: {status:#}");
    assert!(office.primary.runs() && office.outside.web_runs());
    wait_until("people are told", SOON, || !office.told("primary-down").is_empty());
    answered_again(office.robot(), 12);
    assert_eq!(office.robot().state(), "suspect");
    assert_eq!(office.told("primary-down").len(), 1, "{:?}", office.told("primary-down"));
    assert_eq!(office.outside.holder(), None, "nothing was claimed");
    let answer = office.robot().explain()["answer"].to_string();
    assert!(answer.contains("half-dead") && answer.contains("monitor.half_dead is alert"), "{answer}");
    office.outside.net.cure(Host::Primary);
    office.robot().wait_armed();

    office.configure_backup(|settings| settings.half_dead = "{ takeover_after: 1s }");
    office.outside.net.deafen(Host::Primary, "eth0");
    office.robot().wait_served();
    office.wait_trunk_at(Host::Backup);
    // The agent reads the record, and nobody serves twice.
    wait_until("the primary has stepped down", SOON, || !office.primary.runs());
    office.outside.net.cure(Host::Primary);
    office.go_home();
}

/// Waits until the SIP check was answered, or not, so many times more.
fn answered_again(robot: &Robot, times: usize) {
    let last = |status: &serde_json::Value| {
        let checks = status["checks"].as_array().expect("checks");
        checks.iter().find(|check| check["name"] == "sip").expect("a SIP check")["last"]["at"].clone()
    };
    let mut seen = last(&robot.status());
    for _ in 0..times {
        seen = last(&robot.wait("another answer", |status| last(status) != seen));
    }
}
