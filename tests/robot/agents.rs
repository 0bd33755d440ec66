//! The primary's agent, the guard and an observer beside the robot: who steps down, who starts again, who says no.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::lab::dns::Kind;
use crate::lab::robot::Robot;
use crate::lab::small::{Ground, Phantom, Small};
use crate::lab::{free_port, have, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// The robot and its world, and the agent beside a PBX on the primary.
struct Pair {
    small: Small,
    agent: Robot,
    /// The primary's PBX.
    pbx: Phantom,
    ground: Ground,
    work: tempfile::TempDir,
}

impl Pair {
    /// Both configured by one file but for `node`; the agent runs, and the primary's PBX serves.
    fn new(edit: impl Fn(String) -> String) -> Option<Self> {
        if !have(&["named", "dig", "nginx"]) {
            return None;
        }
        let ground = Ground::new(Kind::Bind);
        let pbx = Phantom::new();
        let work = tempfile::Builder::new().prefix("work").tempdir().expect("temporary directory");
        let door = free_port();
        let sip = format!("sip: {{ sip: \"sip:pbx.lab.test:{}\" }}", pbx.address.port());
        let both = |yaml: String| {
            let yaml = yaml
                .replace("checks: { web:", &format!("checks: {{ {sip}, web:"))
                .replace("working_dir: \"@DIR@/work\"", &format!("working_dir: \"{}\"", work.path().display()));
            let agent = format!(
                "{{ listen: \"127.0.0.1:{door}\", token: {{ file: \"@KEYS@/agent.token\" }}, tls: {{ certificate: \"@KEYS@/agent.crt\", key: \"@KEYS@/agent.key\" }}, @AGENT@ }}"
            );
            let peer = format!(
                "{{ url: \"https://127.0.0.1:{door}\", token: {{ file: \"@KEYS@/agent.token\" }}, certificate: {{ file: \"@KEYS@/agent.crt\" }} }}"
            );
            let yaml = edit(format!("{yaml}agent: {agent}\npeer: {peer}\n"));
            yaml.replace("@KEYS@", &work.path().join("keys").display().to_string()).replace(", @AGENT@", "")
        };
        let small = Small::on(&ground, both);
        let keys = work.path().join("keys");
        let (code, said) = run(&small.robot, &["keys", "--out", keys.to_str()?, "--name", "pbx-a"]);
        assert_eq!(code, 0, "{said}");
        let text = std::fs::read_to_string(small.robot.config()).expect("configuration");
        let own = small.robot.path("").display().to_string();
        let text = text.lines().filter(|line| {
            !line.starts_with("state_dir:") && !line.starts_with("control:") && !line.starts_with("page:")
        });
        let text = text.collect::<Vec<_>>().join("\n") + "\n";
        let of_primary = text
            .replace("node: pbx-b\nprimary", "node: pbx-a\nprimary")
            .replace(&small.pbx.driver_yaml(), &pbx.driver_yaml())
            .replace(&format!("probe: \"sip:{}\"", small.pbx.address), &format!("probe: \"sip:{}\"", pbx.address))
            .replace(own.trim_end_matches('/'), "@DIR@");
        let agent = Robot::new(&of_primary);
        agent.secret("tsig.key", crate::lab::dns::SECRET);
        std::fs::write(pbx.path("serving"), "").expect("the primary's PBX serves");
        let mut pair = Self { small, agent, pbx, ground, work };
        pair.agent.start();
        Some(pair)
    }

    /// With the robot armed, and the agent heard.
    fn armed(edit: impl Fn(String) -> String) -> Option<Self> {
        let mut pair = Self::new(edit)?;
        pair.small.robot.start();
        pair.small.robot.wait_armed();
        pair.small.robot.wait("the agent is heard", |pair| pair["peer"]["contact"] == "heard");
        Some(pair)
    }

    /// The working directory of both hosts.
    fn work(&self) -> PathBuf {
        self.work.path().to_owned()
    }

    fn duty(&self) -> Value {
        self.agent.status()["duty"].clone()
    }

    fn guard(&self, flags: &[&str]) -> (i32, String) {
        let mut arguments = vec!["guard"];
        arguments.extend(flags);
        run(&self.agent, &arguments)
    }

    /// Nobody reaches the primary, though it lives and reaches the master.
    fn cut_off(&mut self) -> PathBuf {
        self.ground.web.kill();
        let serving = self.pbx.path("serving");
        std::fs::rename(&serving, self.pbx.path("hidden")).expect("it is not heard");
        serving
    }
}

/// Runs the program as the robot's host would, without its questions; exit code and all that it said.
fn run(robot: &Robot, arguments: &[&str]) -> (i32, String) {
    let output = robot.cli(arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), said)
}

#[test]
fn both_hosts_show_both_hosts() {
    let Some(pair) = Pair::armed(|yaml| yaml) else { return };
    let backup = pair.small.robot.status();
    assert_eq!(backup["peer"]["beat"]["node"], "pbx-a", "{backup}");
    assert_eq!(backup["peer"]["beat"]["pbx"]["condition"], "serves");
    assert_eq!(backup["peer"].get("troubles"), None, "{}", backup["peer"]);
    let primary = pair.agent.wait("the robot is heard", |status| status["peer"]["beat"]["robot"]["state"] == "standby");
    assert_eq!((&primary["role"], &primary["state"]), (&"primary".into(), &"active".into()));
    assert_eq!(pair.duty()["duty"], "serve");
}

#[test]
fn a_primary_that_was_cut_off_stops_within_what_check_says_and_starts_again_after_the_failback() {
    let Some(mut pair) = Pair::armed(|yaml| yaml) else { return };
    pair.agent.stop();
    let serving = pair.cut_off();
    pair.small.robot.wait_served();
    std::fs::rename(pair.pbx.path("hidden"), &serving).expect("it is heard again");
    let (code, said) = pair.guard(&[]);
    assert_eq!(code, 10, "{said}");
    assert!(said.contains("must NOT serve: service held by pbx-b"), "{said}");
    pair.agent.start();
    wait_until("the agent has stopped the PBX", SOON, || !pair.pbx.serves());
    pair.agent.wait("it says why", |status| {
        status["duty"]["duty"] == "stop" && status["duty"]["because"].to_string().contains("held by pbx-b")
    });
    pair.small.robot.wait("the robot hears it", |status| status["peer"]["beat"]["duty"]["duty"] == "stop");
    pair.ground.web.start();
    let (code, said) = pair.small.robot.asked(&["failback"]);
    assert_eq!(code, 0, "{said}");
    pair.small.robot.wait_state("standby");
    assert!(pair.pbx.serves() && !pair.small.pbx.serves());
    assert_eq!(pair.guard(&[]).0, 0);
}

#[test]
fn while_its_agent_says_that_the_pbx_serves_a_primary_that_we_do_not_reach_is_not_replaced() {
    let Some(mut pair) = Pair::armed(|yaml| yaml) else { return };
    std::fs::write(pair.pbx.path("banned"), "").expect("our address is banned there");
    pair.ground.web.kill();
    let status = pair.small.robot.wait("it sees the cut", |status| status["verdict"] == "path-cut");
    assert!(status["verdict_because"].to_string().contains("banned"), "{status}");
    pair.small.robot.wait("it says why it waits", |status| status["stands_against"].to_string().contains("banned"));
    assert!(pair.ground.epoch().is_empty() && pair.pbx.serves());
    // The agent alone has kept it from acting.
    pair.agent.kill();
    pair.small.robot.wait_served();
}

#[test]
fn a_switchover_stops_the_primary_first_and_moves_the_service() {
    let Some(pair) = Pair::armed(|yaml| yaml) else { return };
    let (code, said) = pair.small.robot.asked(&["takeover"]);
    assert_eq!(code, 0, "{said}");
    let status = pair.small.robot.wait_served();
    let steps = status["plan"]["steps"].as_array().cloned().unwrap_or_default();
    let stop = steps.iter().find(|step| step["name"] == "stop_primary").cloned().unwrap_or_default();
    assert_eq!(stop["state"], "done", "{stop}");
    assert!(!pair.pbx.serves() && pair.small.pbx.serves());
    let (code, said) = pair.small.robot.asked(&["failback"]);
    assert_eq!(code, 0, "{said}");
    pair.small.robot.wait_state("standby");
    assert!(pair.pbx.serves() && !pair.small.pbx.serves());
}

#[test]
fn an_announced_stop_of_the_primary_is_no_reason_to_take_over() {
    let Some(mut pair) = Pair::armed(|yaml| yaml) else { return };
    assert_eq!(pair.agent.asked(&["pause", "--for", "1h"]).0, 0);
    pair.small
        .robot
        .wait("the robot has heard of it", |status| status["armed"]["because"].to_string().contains("announced"));
    pair.agent.kill();
    pair.cut_off();
    let status = pair.small.robot.wait("it sees the outage", |status| status["verdict"] == "primary-dead");
    assert_eq!(status["state"], "suspect");
    assert!(pair.ground.epoch().is_empty(), "{}", pair.ground.epoch());
}

#[test]
fn a_persons_word_lets_the_primary_serve_and_both_are_told() {
    let Some(mut pair) = Pair::armed(|yaml| yaml) else { return };
    pair.agent.stop();
    let serving = pair.cut_off();
    pair.small.robot.wait_served();
    std::fs::rename(pair.pbx.path("hidden"), &serving).expect("it is heard again");
    pair.agent.start();
    wait_until("the agent has stopped the PBX", SOON, || !pair.pbx.serves());
    let (code, said) = pair.guard(&["--force", "--reason", "the other site burns"]);
    assert_eq!(code, 0, "{said}");
    wait_until("it serves by a person's word", SOON, || pair.pbx.serves());
    pair.agent.wait("it says why", |status| status["duty"]["because"].to_string().contains("the other site burns"));
    let history = run(&pair.agent, &["history"]).1;
    assert!(history.contains("the other site burns"), "{history}");
}

#[test]
fn the_agent_vouches_for_its_files_and_the_robot_sees_that_others_are_none_of_its_states() {
    let beat = |yaml: String| {
        yaml.replace("checks: { sip:", "checks: { beat: { heartbeat: .pbx-failover-heartbeat, max_age: 2m }, sip:")
    };
    let Some(mut pair) = Pair::armed(beat) else { return };
    let work = pair.work();
    for n in 0..10 {
        std::fs::write(work.join(format!("{n}.conf")), "[a]\n").expect("file");
    }
    let vouched = |status: &Value, is: &str| status["data"]["vouched"]["is"] == is;
    let config = |status: &Value| {
        let classes = status["data"]["classes"].as_array().cloned().unwrap_or_default();
        classes.iter().find(|class| class["name"] == "config").map(|class| class["files"].clone())
    };
    let whole = |status: &Value| vouched(status, "equal") && config(status) == Some(10.into());
    let status = pair.small.robot.wait_at_most("it is one of its states", SOON, whole);
    assert_eq!((&status["data"]["vouched"]["node"], &status["data"]["outcome"]), (&"pbx-a".into(), &"go".into()));
    let text = std::fs::read_to_string(work.join(".pbx-failover-heartbeat")).expect("a heartbeat file");
    assert!(text.contains("\"tree\":{\"rules\":"), "{text}");
    let explained = pair.small.robot.explain().to_string();
    assert!(explained.contains("as pbx-a vouched for at"), "{explained}");
    // What comes when nobody vouches any more.
    pair.agent.kill();
    std::fs::write(work.join("3.conf"), "[b]\n").expect("file");
    let status = pair.small.robot.wait_at_most("it is none of them", SOON, |status| vouched(status, "unequal"));
    let reason = &status["data"]["reasons"][0];
    assert_eq!(reason["weight"], "under-way", "the heartbeat is young: {status:#}");
    assert!(reason["text"].to_string().contains("as no state that pbx-a vouched for"), "{reason}");
    std::fs::write(work.join("3.conf"), "[a]\n").expect("file");
    pair.small.robot.wait_at_most("it is one of them again", SOON, |status| vouched(status, "equal"));
}
