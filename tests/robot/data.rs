//! The working directory on a real disk, damaged as a sync or a person damages it: each fault is told with its line while
//! the robot watches, and a takeover waits for what is under way and loads nothing that does not pass where it must not.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::lab::dns::Kind;
use crate::lab::robot::step;
use crate::lab::scene::possible;
use crate::lab::small::{Ground, Small};
use crate::lab::wait_until;

/// Two looks at the robot's own pace, on a busy machine.
pub const LOOKS: Duration = Duration::from_secs(60);

/// What a file of the scene has forty times.
pub const ENDPOINT: &str = "[100]\ntype=endpoint\ncontext=phones\n";

/// A robot whose working directory has ten files of configuration; `sync` is that section.
pub fn scene(ground: &Ground, sync: &str) -> Small {
    let small = Small::on(ground, |yaml| yaml.replace("sync: { settle: 0s }", sync));
    for n in 0..10 {
        fs::write(work(&small, format!("{n}.conf")), ENDPOINT.repeat(40)).expect("file");
    }
    small
}

/// A place in its working directory.
pub fn work(small: &Small, name: impl AsRef<OsStr>) -> PathBuf {
    small.robot.path("work").join(name.as_ref())
}

fn reasons(status: &Value) -> String {
    let reasons = status["data"]["reasons"].as_array().cloned().unwrap_or_default();
    let reasons: Vec<_> = reasons.iter().map(|reason| format!("{}: {}", reason["weight"], reason["text"])).collect();
    reasons.join("\n").replace('"', "")
}

fn wait_reason(small: &Small, words: &str) -> Value {
    small.robot.wait_at_most(words, LOOKS, |status| reasons(status).contains(words))
}

fn wait_well(small: &Small) -> Value {
    let well = |status: &Value| {
        let data = &status["data"];
        data["outcome"] == "go" && data["trouble_since"].is_null()
    };
    small.robot.wait_at_most("the data is well", LOOKS, well)
}

fn told(small: &Small, event: &str) -> Vec<String> {
    let told = small.was_told();
    told.into_iter().filter(|told| told.contains(&format!("\"{event}\""))).collect()
}

#[test]
fn each_fault_of_a_real_directory_is_told_with_its_line_and_what_is_broken_wakes_people_once() {
    if !possible() {
        return;
    }
    let ground = Ground::new(Kind::Bind);
    let mut small = scene(&ground, "sync: { settle: 0s, rules: [{ path: cache/, on_fault: ignore }] }");
    // Root reads everything: without these two rights it is as any user.
    small.robot.under(&["setpriv", "--bounding-set=-dac_override,-dac_read_search"]);
    small.robot.start();
    small.robot.wait_armed();
    let status = wait_well(&small);
    assert_eq!((&status["data"]["files"], &status["data"]["classes"][0]["name"]), (&10.into(), &"config".into()));

    // Warnings: said, and nobody is woken.
    let odd = work(&small, OsStr::from_bytes(b"a\nb\xff.sync-conflict-20261120-101112-ABCDEFG.conf"));
    fs::write(&odd, ENDPOINT).expect("conflict copy");
    let hidden = work(&small, "9.conf");
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o000)).expect("mode");
    std::os::unix::fs::symlink("/etc/hostname", work(&small, "out")).expect("link");
    let status = wait_reason(&small, "a link leads out of the working directory");
    let said = reasons(&status);
    assert!(said.contains("a%0Ab%FF.sync-conflict-20261120-101112-ABCDEFG.conf"), "{said}");
    assert!(said.contains("not looked at: 9.conf (Permission denied"), "{said}");
    assert!(said.lines().all(|line| line.starts_with("warn: ")), "{said}");
    assert_eq!(told(&small, "data-trouble"), [] as [&str; 0]);
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o644)).expect("mode");
    fs::remove_file(&odd).and_then(|()| fs::remove_file(work(&small, "out"))).expect("removed");
    wait_well(&small);

    // Broken: cut, emptied, and many that are gone.
    fs::write(work(&small, "3.conf"), &ENDPOINT.repeat(40)[..300]).expect("cut");
    let status = wait_reason(&small, "broken: 3.conf has shrunk from 1400 to 300 bytes");
    assert_eq!(status["armed"]["ok"], true, "older data is better than no telephone: {status:#}");
    wait_until("people are told", LOOKS, || told(&small, "data-trouble").len() == 1);
    assert!(told(&small, "data-trouble")[0].contains("3.conf has shrunk"), "{:?}", told(&small, "data-trouble"));
    let explained = small.robot.explain().to_string();
    assert!(explained.contains("broken: 3.conf has shrunk") && explained.contains("mend it at the primary"));
    let checked = String::from_utf8_lossy(&small.robot.cli(&["check"]).stdout).into_owned();
    assert!(checked.contains("3.conf has shrunk"), "{checked}");
    small.robot.stop();
    small.robot.start();
    fs::write(work(&small, "3.conf"), "").expect("emptied");
    wait_reason(&small, "broken: 3.conf is empty");
    assert_eq!(told(&small, "data-trouble").len(), 1, "also over a restart");
    for n in 0..3 {
        fs::rename(work(&small, format!("{n}.conf")), small.robot.path(&format!("{n}.conf"))).expect("moved away");
    }
    wait_reason(&small, "broken: 7 files of configuration where there were 10; gone: 0.conf, 1.conf, 2.conf");
    for n in 0..3 {
        fs::rename(small.robot.path(&format!("{n}.conf")), work(&small, format!("{n}.conf"))).expect("back");
    }
    fs::write(work(&small, "3.conf"), ENDPOINT.repeat(40)).expect("mended");
    wait_well(&small);
    wait_until("people are told of the end", LOOKS, || told(&small, "data-well").len() == 1);
    assert_eq!(told(&small, "data-trouble").len(), 1);

    // Old: the newest change is two days ago.
    let old = std::time::SystemTime::now() - Duration::from_secs(48 * 3600);
    for n in 0..10 {
        let file = fs::File::options().append(true).open(work(&small, format!("{n}.conf"))).expect("file");
        file.set_modified(old).expect("time");
    }
    // Without a heartbeat a quiet weekend looks the same: it is shown, and wakes nobody.
    wait_reason(&small, "warn: the newest change is 2 days old (sync.max_age.hold)");
    assert_eq!(told(&small, "data-trouble").len(), 1);
}

#[test]
fn a_takeover_waits_for_a_sync_and_where_it_must_not_load_what_is_broken_it_waits_until_it_is_mended() {
    if !possible() {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    let mut small = scene(&ground, "sync: { settle: 0s, on_hold: hold }");
    small.robot.start();
    small.robot.wait_armed();
    wait_well(&small);
    fs::write(work(&small, "3.conf"), "").expect("emptied");
    let disarmed = |status: &Value| status["armed"]["because"].to_string().contains("3.conf is empty");
    small.robot.wait_at_most("disarmed", LOOKS, disarmed);
    ground.web.kill();
    small.robot.wait("suspect", |status| status["state"] == "suspect");
    assert_eq!(small.pbx.verbs(), [] as [&str; 0]);
    // A person takes over all the same: the claim is written, and nothing is loaded.
    let (code, said) = small.robot.asked(&["takeover"]);
    assert_eq!(code, 0, "{said}");
    let held = |status: &Value| {
        let step = step(status, "secure_data");
        step["attempt"].as_u64() >= Some(3) && step["error"].to_string().contains("3.conf is empty")
    };
    let plan = |status: &Value| !status["plan"].is_null() && held(status);
    let status = small.robot.wait_at_most("it is tried again", LOOKS, plan);
    assert_eq!(status["state"], "taking-over", "{status:#}");
    assert!(!small.pbx.serves());
    wait_until("people are told", LOOKS, || told(&small, "step-retries").iter().any(|told| told.contains("3.conf")));
    // Mended, while the sync still writes.
    let temporary = work(&small, ".4.conf.aB3xYz");
    fs::write(&temporary, ENDPOINT).expect("temporary file");
    fs::write(work(&small, "3.conf"), ENDPOINT.repeat(40)).expect("mended");
    fs::rename(&temporary, work(&small, "4.conf")).expect("the sync ends");
    fs::write(work(&small, "4.conf"), ENDPOINT.repeat(40)).expect("whole");
    let status = small.robot.wait_served();
    let proof = step(&status, "secure_data")["proof"].to_string();
    assert!(proof.contains("10 files") && proof.contains("the data passes its gate"), "{proof}");
}
