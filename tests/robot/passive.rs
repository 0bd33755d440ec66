//! Somebody starts the backup's PBX by hand while the primary serves: it is seen, told once, and its end is told once.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::failback::{mails, quick};
use crate::lab::dns::Kind;
use crate::lab::scene::{Scene, Wishes, possible};
use crate::lab::wait_until;

/// Two looks at the robot's own pace.
const TWO_LOOKS: Duration = Duration::from_secs(60);

const BEGINS: &str = "is not passive although";
const ENDS: &str = "is passive again";

fn armed() -> Option<Scene> {
    if !possible() {
        return None;
    }
    Scene::armed(&Wishes { kind: Kind::Bind, master: None, edit: quick })
}

fn signs(status: &Value) -> Vec<String> {
    let signs = status["passive"]["signs"].as_array().cloned().unwrap_or_default();
    signs.iter().filter_map(|sign| sign["name"].as_str().map(str::to_owned)).collect()
}

fn text_of(status: &Value, name: &str) -> String {
    let signs = status["passive"]["signs"].as_array().cloned().unwrap_or_default();
    let found = signs.iter().find(|sign| sign["name"] == name).unwrap_or_else(|| panic!("no {name} in {status:#}"));
    found["text"].as_str().unwrap_or_default().to_owned()
}

fn wait_passive(scene: &Scene) -> Value {
    scene.robot.wait_at_most("it is passive again", TWO_LOOKS, |status| status["passive"]["ok"] == true)
}

fn told_once(scene: &Scene, words: &str) {
    wait_until(&format!("a mail says {words}"), TWO_LOOKS, || mails(scene, words) > 0);
    assert_eq!(mails(scene, words), 1, "{words}");
}

/// What the history tells of it, oldest first.
fn noted(scene: &Scene) -> Vec<String> {
    let passive = |event: &Value| event["kind"] == "passive";
    let history = scene.robot.history();
    history.iter().filter(|event| passive(event)).map(|event| event["what"].to_string()).collect()
}

/// What `check` says of it.
fn checked(scene: &Scene) -> Vec<Value> {
    let output = scene.robot.cli(&["check", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("check prints JSON");
    let all = report["findings"].as_array().cloned().expect("findings");
    all.into_iter().filter(|finding| finding["about"] == "pbx passive").collect()
}

#[test]
fn a_pbx_that_somebody_starts_by_hand_is_told_once_and_so_is_its_end() {
    let Some(scene) = armed() else { return };
    wait_passive(&scene);
    let found = checked(&scene);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["level"], "ok", "{found:?}");
    scene.pbx.start();
    scene.pbx.verb("register_trunks");
    let both = |status: &Value| signs(status) == ["accepts-register", "trunk-up"];
    let status = scene.robot.wait_at_most("both signs are seen", TWO_LOOKS, both);
    assert_eq!((&status["passive"]["ok"], &status["state"]), (&false.into(), &"standby".into()));
    assert_eq!(status["armed"]["ok"], true, "two servers hurt, and a dead primary hurts more: {status:#}");
    assert!(text_of(&status, "accepts-register").contains("401"), "{status:#}");
    assert!(text_of(&status, "trunk-up").contains("trunk carrier is registered from here"), "{status:#}");
    let shown = String::from_utf8_lossy(&scene.robot.cli(&["status"]).stdout).into_owned();
    assert!(shown.contains("NOT passive") && shown.contains("pbx.driver.command.passive"), "{shown}");
    let explained = scene.robot.explain().to_string();
    assert!(explained.contains("its own PBX is NOT passive") && explained.contains("unless somebody is testing it"));
    let found = checked(&scene);
    assert!(found.len() == 2 && found.iter().all(|finding| finding["level"] == "problem"), "{found:?}");
    told_once(&scene, BEGINS);
    assert!(scene.pbx.runs(), "the robot leaves it alone: somebody may be testing");
    scene.pbx.stop();
    wait_passive(&scene);
    told_once(&scene, ENDS);
    assert_eq!(mails(&scene, BEGINS), 1);
    let noted = noted(&scene);
    assert!(noted.first().is_some_and(|line| line.contains("not passive")), "{noted:?}");
    assert!(noted.last().is_some_and(|line| line.contains("passive again")), "{noted:?}");
}

#[test]
fn a_pbx_program_that_holds_a_synced_file_is_named_and_what_the_sync_runs_is_not() {
    let Some(scene) = armed() else { return };
    let file = scene.pbx.work_dir().join("pjsip.conf");
    let start = |name: &str| {
        let program = scene.robot.path(name);
        std::fs::copy("/bin/sleep", &program).expect("a program");
        let held = std::fs::File::open(&file).expect("a synced file");
        Command::new(program).arg("600").stdin(held).stdout(Stdio::null()).spawn().expect("it starts")
    };
    let (mut sync, mut pbx) = (start("rsync"), start("asterisk"));
    let held = |status: &Value| signs(status) == ["open-file"];
    let status = scene.robot.wait_at_most("the held file is seen", TWO_LOOKS, held);
    let text = text_of(&status, "open-file");
    assert!(text.contains(&format!("asterisk ({}) holds", pbx.id())) && text.contains("pjsip.conf"), "{text}");
    told_once(&scene, BEGINS);
    pbx.kill().expect("ours");
    pbx.wait().expect("ended");
    wait_passive(&scene);
    told_once(&scene, ENDS);
    sync.kill().expect("ours");
    sync.wait().expect("ended");
}
