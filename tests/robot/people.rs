//! What a person asks and is told: takeover by hand with each of its flags, pause, alarms and `ack`, test messages,
//! `check`, exit codes, dry runs, JSON.

use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::failback::{mails, primary_returns, quick, serving};
use crate::lab::dns::Kind;
use crate::lab::http::{Receiver, Reply};
use crate::lab::robot::step;
use crate::lab::scene::{BACKUP_NAMED, PRIMARY_NAMED, Scene, Wishes, possible};
use crate::lab::wait_until;

/// What mails and servers are waited for.
const SOON: Duration = Duration::from_secs(20);

fn armed(edit: fn(String) -> String) -> Option<Scene> {
    if !possible() {
        return None;
    }
    Scene::armed(&Wishes { kind: Kind::Bind, master: None, edit })
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn code(scene: &Scene, arguments: &[&str]) -> (i32, String) {
    let output = scene.robot.cli(arguments);
    (output.status.code().unwrap_or(-1), text(&output))
}

fn json(scene: &Scene, arguments: &[&str]) -> Value {
    let output = scene.robot.cli(&[arguments, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {}", text(&output)))
}

#[test]
fn each_exit_code_says_what_kind_of_no_it_is() {
    if !possible() {
        return;
    }
    let wishes = Wishes { kind: Kind::Bind, master: None, edit: quick };
    let Some(mut scene) = Scene::set(&wishes) else { return };
    for arguments in [&["status"][..], &["takeover", "--yes", "--reason", "x"], &["ack"], &["failback", "--dry-run"]] {
        let (exit, said) = code(&scene, arguments);
        assert!(exit == 4 && said.contains("no daemon answers"), "{arguments:?}: {exit} {said}");
    }
    scene.robot.start();
    scene.robot.wait_armed();
    let usage: [&[&str]; 6] = [
        &["takeover", "--primary-is-stopped"],
        &["takeover", "--primary-is-stopped", "--yes"],
        &["takeover", "--primary-is-stopped", "--reason", "no terminal, and not agreed to"],
        &["failback", "--wait", "--undo"],
        &["pause"],
        &["pause", "--for", "15d"],
    ];
    for arguments in usage {
        let (exit, said) = code(&scene, arguments);
        assert_eq!(exit, 2, "{arguments:?}: {said}");
    }
    let refused: [(&[&str], &str); 6] = [
        (&["takeover"], "--primary-is-stopped"),
        (&["failback"], "nothing to give back"),
        (&["failback", "--wait"], "nothing to give back"),
        (&["failback", "--undo"], "no failback is under way"),
        (&["continue"], "nothing is halted"),
        (&["abandon"], "nothing is halted"),
    ];
    for (arguments, why) in refused {
        let (exit, said) = scene.robot.asked(arguments);
        assert!(exit == 5 && said.contains(why), "{arguments:?}: {exit} {said}");
    }
    assert_eq!(scene.robot.asked(&["unpause"]).0, 0);
    let (exit, said) = code(&scene, &["check", "--config", "/nonexistent.yaml"]);
    assert_eq!(exit, 3, "{said}");
    assert_eq!((scene.robot.state().as_str(), scene.epoch().len()), ("standby", 0), "nothing of it did anything");
}

#[test]
fn a_dry_run_prints_the_plan_and_changes_nothing_and_everything_speaks_json() {
    let Some(scene) = armed(quick) else { return };
    let before = scene.robot.history().len();
    let (exit, said) = code(&scene, &["takeover", "--dry-run"]);
    assert_eq!(exit, 5, "refused while the primary answers: {said}");
    for part in ["claim", "redirect_dns", "pbx.lab.test A", "register 1 trunks", "--primary-is-stopped"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(code(&scene, &["takeover", "--dry-run", "--primary-is-stopped"]).0, 0);
    for arguments in [&["abandon", "--dry-run"][..], &["continue", "--dry-run"], &["pause", "--for", "1h", "--dry-run"]]
    {
        assert_eq!(code(&scene, arguments).0, 0, "{arguments:?}");
    }
    assert_eq!(json(&scene, &["takeover", "--dry-run"])["steps"][2]["name"], "claim");
    assert_eq!(json(&scene, &["failback", "--dry-run"])["plan"], "failback");
    for verb in ["continue", "abandon", "ack", "unpause"] {
        assert_eq!(json(&scene, &[verb, "--dry-run"])["command"]["command"], verb);
    }
    assert_eq!(scene.robot.history().len(), before, "{}", scene.robot.history_text());
    assert_eq!(scene.robot.status()["armed"]["ok"], true);
    assert_eq!(json(&scene, &["status"])["pairs"][0]["state"], "standby");
    assert!(json(&scene, &["explain"])["answer"].is_string());
    assert!(json(&scene, &["history"]).is_array());
    assert!(json(&scene, &["schema"]).is_object());
    assert_eq!(json(&scene, &["pause", "--for", "1h", "--reason", "x"])["answer"], "accepted");
    assert_eq!(json(&scene, &["unpause"])["answer"], "accepted");
    assert_eq!(json(&scene, &["ack"])["answer"], "accepted");
    let yes = ["takeover", "--primary-is-stopped", "--yes", "--reason", "planned"];
    let watched = json(&scene, &yes);
    assert_eq!((&watched["answer"], &watched["outcome"]), (&"accepted".into(), &"done".into()), "{watched:#}");
    assert_eq!(scene.robot.state(), "active");
    let told = scene.robot.history_text();
    let against = "accepted: this node takes over; the robot by itself would not: primary-up: ";
    assert!(told.contains(against) && told.contains("(\"planned\")"), "{told}");
}

#[test]
fn a_takeover_by_hand_needs_the_word_that_the_primary_is_stopped() {
    let Some(scene) = armed(quick) else { return };
    let (exit, said) = scene.robot.asked(&["takeover"]);
    assert!(exit == 5 && said.contains("pbx-a still answers (web)"), "{said}");
    let (exit, said) = scene.robot.asked(&["takeover", "--primary-is-stopped"]);
    assert_eq!(exit, 0, "{said}");
    let status = scene.robot.wait_served();
    assert_eq!(scene.dns.query("pbx.lab.test", "A"), [BACKUP_NAMED]);
    scene.phone.register(scene.pbx.address()).expect("the phone registers");
    let confirm = step(&status, "confirm")["proof"].to_string();
    assert!(confirm.contains("a test") && confirm.contains("web up"), "who asked, and against which votes: {confirm}");
    let (exit, said) = scene.robot.asked(&["takeover"]);
    assert!(exit == 5 && said.contains("serves already"), "{said}");
}

/// A target of a test's own in place of the scene's, so that the Internet can be taken away.
fn own_internet(scene: &Scene) -> Receiver {
    let internet = Receiver::plain(&[Reply::Status(200)]);
    let yaml = std::fs::read_to_string(scene.robot.config()).expect("configuration");
    let (before, rest) = yaml.split_once("targets: [\"tcp://127.0.0.1:").expect("a target");
    let (_, after) = rest.split_once('"').expect("its end");
    let yaml = format!("{before}targets: [\"tcp://127.0.0.1:{}\"{after}", internet.port);
    std::fs::write(scene.robot.config(), yaml).expect("configuration");
    internet
}

#[test]
fn a_node_that_is_cut_off_takes_over_only_by_a_persons_word() {
    if !possible() {
        return;
    }
    let Some(mut scene) = Scene::set(&Wishes { kind: Kind::Bind, master: None, edit: quick }) else { return };
    let internet = own_internet(&scene);
    scene.robot.start();
    scene.robot.wait_armed();
    drop(internet);
    scene.web.kill();
    scene.robot.wait("cut off", |s| s["verdict"] == "we-are-cut-off");
    scene.robot.wait("web is down", |s| s["checks"][0]["verdict"] == "down");
    let (exit, said) = scene.robot.asked(&["takeover"]);
    assert!(exit == 5 && said.contains("--although-cut-off"), "{said}");
    assert_eq!(scene.epoch(), [] as [&str; 0]);
    assert_eq!(scene.robot.asked(&["takeover", "--although-cut-off"]).0, 0);
    scene.robot.wait_served();
    assert!(scene.epoch()[0].contains("holder=pbx-b"));
}

#[test]
fn a_takeover_without_a_claim_needs_its_word_and_says_what_is_missing() {
    let Some(mut scene) = armed(quick) else { return };
    scene.dns.process.kill();
    scene.robot.wait("the epoch is seen to be unreadable", |s| s["epoch"]["error"].is_string());
    scene.web.kill();
    scene.robot.wait("it does not act", |s| s["state"] == "suspect" && s["armed"]["ok"] == false);
    let (exit, said) = scene.robot.asked(&["takeover"]);
    assert!(exit == 5 && said.contains("cannot be read") && said.contains("--without-claim"), "{said}");
    assert!(!scene.pbx.runs());
    assert_eq!(scene.robot.asked(&["takeover", "--without-claim"]).0, 0);
    let status = scene.robot.wait("serves, degraded", |s| s["state"] == "active" && s["degraded"] == true);
    assert_eq!(step(&status, "claim")["state"], "skipped");
    scene.phone.register(scene.pbx.address()).expect("the phone registers");
    let (_, told) = code(&scene, &["status"]);
    assert!(told.contains("redirect_dns"), "{told}");
}

#[test]
fn a_pause_holds_a_takeover_back_and_its_end_lets_it_go() {
    let Some(mut scene) = armed(quick) else { return };
    let (exit, said) = scene.robot.asked(&["pause", "--for", "2h"]);
    assert!(exit == 0 && said.contains("no automatic takeover until"), "{said}");
    let status = scene.robot.status();
    assert!(status["paused_until"].is_string() && status["armed"]["ok"] == false, "{status:#}");
    wait_until("people are told", SOON, || mails(&scene, "could not take over now") == 1);
    scene.web.kill();
    scene.robot.wait("it says what blocks", |s| s["state"] == "suspect" && s["verdict"] == "primary-dead");
    let answer = scene.robot.explain()["answer"].to_string();
    assert!(answer.contains("paused by a person"), "{answer}");
    assert_eq!(scene.dns.query("pbx.lab.test", "A"), [PRIMARY_NAMED]);
    assert_eq!(scene.robot.asked(&["unpause"]).0, 0);
    scene.robot.wait_served();
    let told = scene.robot.history_text();
    assert!(told.contains("asked for pause: accepted") && told.contains("asked for unpause"), "{told}");
}

fn nagging(yaml: String) -> String {
    quick(yaml).replace("notify:\n", "notify:\n  repeat: 1s\n")
}

#[test]
fn both_may_serve_is_said_again_and_again_until_somebody_acknowledges_it() {
    const SUBJECT: &str = "both may serve phones";
    let Some(mut scene) = serving(nagging) else { return };
    primary_returns(&mut scene);
    wait_until("it was said three times", SOON, || mails(&scene, SUBJECT) >= 3);
    assert_eq!(scene.robot.state(), "active", "failback is manual");
    let text = scene.mail.mails().last().expect("a mail").read()["text"].to_string();
    assert!(text.contains("pbx-failover failback") && text.contains("pbx-failover ack"), "{text}");
    let (exit, said) = scene.robot.asked(&["ack"]);
    assert!(exit == 0 && said.contains("1 alarm is silenced"), "{said}");
    scene.robot.wait("nothing waits in the queue", |s| s["queued_deliveries"] == 0);
    let before = mails(&scene, SUBJECT);
    // A dozen looks at the primary are more than two seconds: two repeats, were it not silenced.
    let seen = scene.web.requests(1).len();
    scene.web.requests(seen + 12);
    assert_eq!(mails(&scene, SUBJECT), before);
    assert_eq!(scene.robot.status()["alarms"][0]["acknowledged"], true);
    assert!(scene.robot.asked(&["ack"]).1.contains("no alarm is repeating"));
    // It dies again: we serve alone. It comes back: that is news.
    scene.web.kill();
    scene.robot.wait("the alarm is over", |s| s["alarms"].as_array().is_some_and(Vec::is_empty));
    primary_returns(&mut scene);
    wait_until("it is said anew", SOON, || mails(&scene, SUBJECT) > before);
    let rows = scene.robot.rows();
    assert_eq!(rows.iter().filter(|row| matches!(row, 42 | 43)).collect::<Vec<_>>(), [&42, &43, &42]);
}

#[test]
fn a_test_message_goes_out_at_once_and_says_how_it_was_taken() {
    let Some(scene) = armed(quick) else { return };
    let (exit, said) = code(&scene, &["test", "action-url", "provider"]);
    assert!(exit == 0 && said.contains("accepted"), "{said}");
    let targets: Vec<_> = scene.receiver.received().into_iter().map(|r| r.target).collect();
    assert!(targets.len() == 1 && targets[0].ends_with("event=test"), "{targets:?}");
    let (exit, said) = code(&scene, &["test", "notify", "email"]);
    assert!(exit == 0 && mails(&scene, "test message from pbx-b") == 1, "{said}");
    assert!(json(&scene, &["test", "notify", "email"]).is_object());
    let (exit, said) = code(&scene, &["test", "action-url", "provder"]);
    assert!(exit == 1 && said.contains("provider"), "it names those that there are: {said}");
    assert_eq!(scene.robot.state(), "standby");
}

#[test]
fn check_finds_a_good_scene_good_and_names_what_is_not() {
    let Some(mut scene) = armed(quick) else { return };
    let findings = json(&scene, &["check"]);
    let all = findings["findings"].as_array().expect("a list");
    let problems: Vec<_> = all.iter().filter(|f| f["level"] == "problem").collect();
    let same_site = |f: &Value| f["text"].as_str().is_some_and(|t| t.contains("the primary's own address"));
    let no_agent = |f: &Value| f["text"].as_str().is_some_and(|t| t.contains("has no agent that is asked"));
    assert!(
        problems.len() == 2 && same_site(problems[0]) && no_agent(problems[1]),
        "only that all hosts of a lab are one, and that the primary has no agent: {problems:#?}"
    );
    let of = |findings: &Value, about: &str| {
        let all = findings["findings"].as_array().cloned().unwrap_or_default();
        let one = all.iter().find(|f| f["about"] == about && !same_site(f)).cloned();
        one.unwrap_or_else(|| panic!("nothing about {about}: {findings:#}"))
    };
    for about in ["config", "check web", "internet", "pbx", "epoch", "epoch store", "dns", "action-url provider"] {
        let finding = of(&findings, about);
        assert!(finding["level"] == "ok" || about == "config", "{finding:#}");
    }
    assert!(of(&findings, "worst outage")["text"].as_str().is_some_and(|t| t.contains("30 s of DNS TTL")));
    scene.web.kill();
    scene.dns.process.kill();
    let (exit, said) = code(&scene, &["check"]);
    assert_eq!(exit, 1, "{said}");
    let findings = json(&scene, &["check"]);
    for about in ["check web", "epoch", "epoch store"] {
        let finding = of(&findings, about);
        assert!(finding["level"] == "problem" && finding["hint"].is_string(), "{finding:#}");
    }
}
