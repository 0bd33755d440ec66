//! The primary is cut off before the backup serves, or it is not, and a person decides; and what `check` finds of the
//! fence and of a witness beforehand.

use std::time::Duration;

use serde_json::Value;

use crate::failback::{mails, quick};
use crate::lab::dns::Kind;
use crate::lab::robot::step;
use crate::lab::scene::{PRIMARY_NAMED, Scene, Wishes, possible};
use crate::lab::wait_until;

/// What mails are waited for.
const SOON: Duration = Duration::from_secs(20);

/// Cuts, and tells what it was told; read back: the file `off` is there.
const GOOD: &str = r#"
fence:
  command: [sh, -c, "env > @DIR@/env; touch @DIR@/off"]
  read_back: { command: [sh, -c, "test -e @DIR@/off && echo outlet 3 is off || exit 1"] }
  required: true
  timeout: 10s
"#;

fn good(yaml: String) -> String {
    quick(yaml) + GOOD
}

/// The outlet's switch does not answer, and its reading says on.
fn broken_and_required(yaml: String) -> String {
    quick(yaml) + &GOOD.replace("env > @DIR@/env; touch @DIR@/off", "echo no route to the switch >&2; exit 3")
}

fn broken_and_optional(yaml: String) -> String {
    broken_and_required(yaml).replace("required: true", "required: false")
}

fn armed(edit: fn(String) -> String) -> Option<Scene> {
    if !possible() {
        return None;
    }
    Scene::armed(&Wishes { kind: Kind::Bind, master: None, edit })
}

#[test]
fn the_primary_is_cut_off_after_the_claim_and_before_the_backup_serves() {
    let Some(mut scene) = armed(good) else { return };
    scene.web.kill();
    let status = scene.robot.wait_served();
    let fence = step(&status, "fence");
    assert_eq!(fence["state"], "done", "{fence}");
    let proof = fence["proof"].as_str().unwrap_or_default();
    assert!(proof.contains("pbx-a reads off") && proof.contains("outlet 3 is off"), "{fence}");
    let env = std::fs::read_to_string(scene.robot.path("env")).expect("the fence ran");
    let of = |name: &str| env.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    assert_eq!(of("PBX_FAILOVER_EPOCH="), "1", "it ran after the claim: {env}");
    let id = of("PBX_FAILOVER_ID=");
    assert!(!id.is_empty() && scene.epoch()[0].contains(&format!("id={id}")), "{id} {:?}", scene.epoch());
    assert_eq!(of("PBX_FAILOVER_PRIMARY_NODE="), "pbx-a");
}

#[test]
fn a_required_fence_that_fails_halts_the_takeover_until_a_person_vouches() {
    let Some(mut scene) = armed(broken_and_required) else { return };
    scene.web.kill();
    let status = scene.robot.wait_state("halted");
    let fence = step(&status, "fence");
    assert_eq!((&fence["state"], &fence["attempt"]), (&"failed".into(), &3.into()), "{fence}");
    let said = fence["error"].as_str().unwrap_or_default();
    assert!(said.contains("no route to the switch") && said.contains("pbx-a reads on"), "{fence}");
    assert!(!scene.pbx.runs(), "nobody is served by two");
    assert_eq!(scene.dns.query("pbx.lab.test", "A"), [PRIMARY_NAMED]);
    assert!(scene.epoch()[0].contains("holder=pbx-b"), "{:?}", scene.epoch());
    wait_until("the mail of the halt came", SOON, || mails(&scene, "has halted at fence") == 1);
    let (exit, said) = scene.robot.asked(&["continue"]);
    assert!(exit == 5 && said.contains("--fenced-by-hand"), "{exit} {said}");
    assert_eq!(scene.robot.state(), "halted");
    let (exit, said) = scene.robot.asked(&["continue", "--fenced-by-hand"]);
    assert_eq!(exit, 0, "{said}");
    let status = scene.robot.wait_served();
    let fence = step(&status, "fence");
    assert_eq!(fence["state"], "skipped", "{fence}");
    assert!(scene.pbx.runs());
    let told = scene.robot.history_text();
    assert!(told.contains("fence counts as done by your word"), "{told}");
}

#[test]
fn an_optional_fence_that_fails_is_said_and_passed() {
    let Some(mut scene) = armed(broken_and_optional) else { return };
    scene.web.kill();
    let status = scene.robot.wait_served();
    let fence = step(&status, "fence");
    assert_eq!(fence["state"], "failed", "{fence}");
    assert!(fence["error"].as_str().is_some_and(|said| said.contains("no route to the switch")), "{fence}");
    assert!(scene.pbx.runs());
    wait_until("the mail came", SOON, || mails(&scene, "gave fence up") == 1);
}

#[test]
fn check_reads_the_fence_back_and_asks_the_witness_and_cuts_nobody_off() {
    if !possible() {
        return;
    }
    let Some(mut scene) = Scene::set(&Wishes { kind: Kind::Bind, master: None, edit: good }) else { return };
    let finding = |scene: &Scene, about: &str| -> Value {
        let output = scene.robot.cli(&["check", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let all = report["findings"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|f| f["about"] == about).unwrap_or_else(|| panic!("nothing about {about}: {report:#}"))
    };
    let level_and_text = |scene: &Scene, about: &str| {
        let found = finding(scene, about);
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        (text("level"), text("text"))
    };
    let (level, text) = level_and_text(&scene, "fence");
    assert!(level == "ok" && text.contains("pbx-a reads on"), "{level} {text}");
    assert!(!scene.robot.path("off").exists(), "check cuts nobody off");

    // It says "off" whatever happens: such a fence would count as done while the primary serves.
    std::fs::write(scene.robot.path("off"), "").expect("a file");
    let (level, text) = level_and_text(&scene, "fence");
    assert!(level == "problem" && text.contains("reads off although it answers"), "{level} {text}");
    scene.web.kill();
    let (level, text) = level_and_text(&scene, "fence");
    assert!(level == "ok" && text.contains("pbx-a reads off"), "{level} {text}");

    let written = std::fs::read_to_string(scene.robot.config()).expect("the configuration");
    let with = |from: &str, to: &str| {
        assert!(written.contains(from), "{from}");
        std::fs::write(scene.robot.config(), written.replace(from, to)).expect("the configuration");
    };
    with("&& echo outlet 3 is off || exit 1", "&& exit 7");
    let (level, text) = level_and_text(&scene, "fence");
    assert!(level == "problem" && text.contains("not known whether pbx-a is off"), "{level} {text}");
    let unread = "  read_back: {";
    with(unread, "  #");
    let (level, text) = level_and_text(&scene, "fence");
    assert!(level == "warning" && text.contains("by its own word"), "{level} {text}");

    let witness = format!("witness: {{ primary_site: [\"tcp://{}\", \"icmp://127.0.0.1\"] }}\nfence:", scene.dns.addr);
    with("fence:", &witness);
    let (level, text) = level_and_text(&scene, &format!("witness tcp://{}", scene.dns.addr));
    assert!(level == "ok" && text == "connected", "{level} {text}");
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").expect("Linux");
    let (level, text) = level_and_text(&scene, "witness icmp://127.0.0.1");
    if range.split_whitespace().collect::<Vec<_>>() == ["1", "0"] {
        assert!(level == "problem" && text.contains("ping_group_range"), "{level} {text}");
    } else {
        assert!(level == "ok" && text == "echo", "{level} {text}");
    }
}
