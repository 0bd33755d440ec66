//! The inbound sync, real: a folder of Syncthing is paused at a takeover and brings nothing while this node serves, and an
//! rsync that somebody pushes meanwhile is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::data::{ENDPOINT, work};
use crate::lab::dns::Kind;
use crate::lab::robot::step;
use crate::lab::scene::possible;
use crate::lab::small::{Ground, Small};
use crate::lab::syncthing::Pair;
use crate::lab::{Running, free_port, have, wait_until};
use crate::snapshots::wait_kept;

/// Two looks at the robot's own pace, on a busy machine.
const LOOKS: Duration = Duration::from_secs(60);

/// What Syncthing takes to bring a file, on a busy machine.
const BROUGHT: Duration = Duration::from_secs(40);

fn told(small: &Small, event: &str) -> Vec<String> {
    small.was_told().into_iter().filter(|told| told.contains(&format!("\"{event}\""))).collect()
}

fn serving(ground: &mut Ground, small: &mut Small) -> serde_json::Value {
    ground.web.kill();
    small.robot.wait_served()
}

/// The primary's directory, Syncthing on both sides of it, and a robot that fences it.
fn with_syncthing(ground: &Ground) -> (tempfile::TempDir, Pair, Small) {
    let home = tempfile::Builder::new().prefix("primary").tempdir().expect("directory");
    let port = free_port();
    let fence = format!(
        "sync: {{ settle: 0s, fence: {{ syncthing: {{ url: \"http://127.0.0.1:{port}\", \
         api_key: {{ file: \"@DIR@/st.key\" }}, folders: [pbx] }} }} }}"
    );
    let small = Small::on(ground, |yaml| yaml.replace("sync: { settle: 0s }", &fence));
    let pair = Pair::start(home.path(), &small.robot.path("work"), port);
    small.robot.secret("st.key", Pair::KEY);
    (home, pair, small)
}

#[test]
fn syncthings_folder_is_paused_while_this_node_serves_and_resumed_after_the_failback() {
    if !possible() || !have(&Pair::PROGRAMS) {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    let (home, pair, mut small) = with_syncthing(&ground);
    let work = small.robot.path("work");
    let at_home = |name: &str| home.path().join(name);
    let here = |name: &str| work.join(name);
    fs::write(at_home("a.conf"), "[general]\n").expect("written");
    wait_until("it is brought", BROUGHT, || here("a.conf").exists());

    small.robot.start();
    small.robot.wait_armed();
    let runs = |s: &serde_json::Value| s["sync"]["runs"][0] == "Syncthing syncs the folder pbx";
    small.robot.wait_at_most("the sync is seen", LOOKS, runs);
    let status = serving(&mut ground, &mut small);
    let proof = step(&status, "secure_data")["proof"].as_str().unwrap_or_default().to_owned();
    assert!(proof.contains("Syncthing's folder pbx is paused; no sync tool writes here"), "{proof}");
    assert_eq!(pair.is_paused(), Some(true));
    assert!(!small.robot.log().contains(Pair::KEY) && !small.robot.history_text().contains(Pair::KEY));

    // Somebody lets it sync again: paused anew, and told where it lasts.
    pair.pause(false);
    wait_until("it is paused again", LOOKS, || pair.is_paused() == Some(true));
    fs::write(at_home("old.conf"), "from a primary that came back\n").expect("written");
    fs::write(here("voicemail.wav"), "left here\n").expect("written");
    pair.wait_scanned();

    ground.web.start();
    small.robot.wait("the primary is up", |status| status["verdict"] == "primary-up");
    assert!(!here("old.conf").exists(), "nothing came while this node served");
    let (code, said) = small.robot.asked(&["failback"]);
    assert_eq!(code, 0, "{said}");
    small.robot.wait_state("standby");
    wait_until("it syncs again, both ways", BROUGHT, || here("old.conf").exists() && at_home("voicemail.wav").exists());
    let left = |name: &str| small.robot.path("state").join(name).exists();
    wait_until("nothing is left of the fence", LOOKS, || !left("sync-fenced") && !left("sync-stopped"));

    // Somebody pauses it while this node watches: told, and its end.
    pair.pause(true);
    wait_until("it is told", LOOKS, || told(&small, "sync-trouble").iter().any(|told| told.contains("is paused")));
    pair.pause(false);
    wait_until("its end is told", LOOKS, || !told(&small, "sync-well").is_empty());
}

#[test]
fn what_a_takeover_put_in_place_of_newer_files_is_not_carried_home_by_a_sync_that_goes_both_ways() {
    if !possible() || !have(&Pair::PROGRAMS) {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    let (home, pair, mut small) = with_syncthing(&ground);
    let work = small.robot.path("work");
    let at_home = |name: &str| home.path().join(name);
    let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let (old, new) = (ENDPOINT.repeat(40), ENDPOINT.repeat(41));
    for n in 0..6 {
        fs::write(at_home(&format!("{n}.conf")), &old).expect("written");
    }
    wait_until("all are brought", BROUGHT, || (0..6).all(|n| text(work.join(format!("{n}.conf"))) == old));
    small.robot.start();
    small.robot.wait_armed();
    wait_kept(&small);
    // The primary's last words: one file is bad, another is newer, one is new.
    for (name, text) in [("0.conf", ""), ("1.conf", &new), ("new.conf", &new)] {
        fs::write(at_home(name), text).expect("written");
    }
    let brought = || {
        text(work.join("0.conf")).is_empty() && ["1.conf", "new.conf"].iter().all(|name| text(work.join(name)) == new)
    };
    wait_until("they are brought", BROUGHT, brought);
    let status = serving(&mut ground, &mut small);
    let proof = step(&status, "secure_data")["proof"].as_str().unwrap_or_default().to_owned();
    assert!(proof.contains("its last good snapshot") && text(work.join("1.conf")) == old, "{proof}");
    fs::write(work.join("2.conf"), &new).expect("changed here");

    ground.web.start();
    small.robot.wait("the primary is up", |status| status["verdict"] == "primary-up");
    let (code, said) = small.robot.asked(&["failback"]);
    assert_eq!(code, 0, "{said}");
    small.robot.wait_state("standby");
    wait_until("what was changed here is at home", BROUGHT, || text(at_home("2.conf")) == new);
    pair.wait_scanned();
    fs::write(at_home("last.conf"), "both have been compared").expect("written");
    wait_until("it syncs again, both ways", BROUGHT, || work.join("last.conf").exists());
    for side in [home.path(), &work] {
        let names = ["0.conf", "1.conf", "new.conf"].map(|name| text(side.join(name)));
        assert_eq!(names, [String::new(), new.clone(), new.clone()], "{}", side.display());
    }
    let history = small.robot.history_text();
    assert!(history.contains("what the takeover had put in place is as it was"), "{history}");
}

#[test]
fn a_sync_that_only_a_command_starts_is_told_while_that_fails_and_starts_by_itself_once_it_can() {
    if !possible() {
        return;
    }
    let ground = Ground::new(Kind::Bind);
    let sync = "sync: { settle: 0s, stop: [\"true\"], start: [/bin/sh, -c, \"test -e @DIR@/may\"] }";
    let mut small = Small::on(&ground, |yaml| yaml.replace("sync: { settle: 0s }", sync));
    // As a robot leaves it whose plan has given the start up.
    let left = |name: &str| small.robot.path("state").join(name);
    fs::create_dir_all(small.robot.path("state")).expect("directory");
    fs::write(left("sync-stopped"), r#"{"units":[],"folders":[]}"#).expect("written");
    fs::write(left("sync-fenced"), "").expect("written");
    small.robot.start();
    small.robot.wait_armed();
    wait_until("it is told", LOOKS, || told(&small, "sync-trouble").iter().any(|told| told.contains("sync.start: ")));
    fs::write(small.robot.path("may"), "").expect("written");
    wait_until("its end is told", LOOKS * 3, || !told(&small, "sync-well").is_empty());
    let left = |name: &str| small.robot.path("state").join(name).exists();
    assert!(!left("sync-fenced") && !left("sync-stopped"));
}

/// An rsync that brings files into `to`, slowly; a real one.
fn pushing(from: &Path, to: &Path, log: &Path) -> Running {
    let big: PathBuf = from.join("recording.wav");
    fs::write(&big, vec![7; 4 << 20]).expect("written");
    let (from, to) = (format!("{}/", from.display()), format!("{}/", to.display()));
    Running::start(&["rsync", "-a", "--whole-file", "--bwlimit=20", &from, &to], log)
}

#[test]
fn an_rsync_that_is_pushed_here_while_this_node_serves_is_told_with_its_process() {
    if !possible() || !have(&["rsync"]) {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    let mut small = Small::on(&ground, |yaml| yaml);
    let (work, home) = (small.robot.path("work"), tempfile::tempdir().expect("directory"));
    fs::write(work.join("a.conf"), "[general]\n").expect("written");
    small.robot.start();
    small.robot.wait_armed();
    serving(&mut ground, &mut small);
    let mut rsync = pushing(home.path(), &work, &small.robot.path("rsync.log"));
    wait_until("it is told", LOOKS, || {
        told(&small, "sync-trouble").iter().any(|told| told.contains("rsync (") && told.contains("writes in"))
    });
    let seen = small.robot.status()["sync"].clone();
    assert!(seen["ok"] == false && seen["should_run"] == false && seen["since"].is_string(), "{seen:#}");
    rsync.kill();
    wait_until("its end is told", LOOKS, || !told(&small, "sync-well").is_empty());
    assert_eq!(told(&small, "sync-trouble").len(), 1);
}

#[test]
fn a_service_that_is_taken_back_loads_what_this_node_left_and_not_an_older_snapshot() {
    if !possible() {
        return;
    }
    let script = "[ -e @DIR@/first ] || { touch @DIR@/first; exit 0; }; until [ -e @DIR@/go ]; do sleep 0.05; done";
    let failback =
        format!("failback: {{ wait_for_primary: 1s, return_limit: 1m, return_data: [sh, -c, \"{script}\"], ");
    let mut ground = Ground::new(Kind::Bind);
    let sync = "sync: { settle: 0s, hold_back: [\"*.call\"], stop: [\"true\"], start: [\"true\"] }";
    let mut small = Small::on(&ground, |yaml| {
        let yaml = yaml.replace("sync: { settle: 0s }", sync).replace("wait_for_primary: 20s", "");
        yaml.replace("failback: { ", &failback)
    });
    for n in 0..10 {
        fs::write(work(&small, format!("{n}.conf")), ENDPOINT.repeat(40)).expect("file");
    }
    small.robot.start();
    small.robot.wait_armed();
    let good = |status: &serde_json::Value| status["data"]["snapshots"]["good"]["id"].is_string();
    small.robot.wait_at_most("a good snapshot", LOOKS, good);
    serving(&mut ground, &mut small);
    // A new phone, one that was taken away, and a call that somebody ordered here.
    let [added, emptied, spool] = ["10.conf", "3.conf", "wake-up.call"].map(|name| work(&small, name));
    fs::write(&added, ENDPOINT).and_then(|()| fs::write(&emptied, "")).expect("changed");
    fs::write(&spool, "Channel: x\n").expect("a call file");
    small.robot.wait_at_most("the ledger is told", LOOKS, |status| status["ledger"]["files"] == 3);

    ground.web.start();
    small.robot.wait("the primary is up", |status| status["verdict"] == "primary-up");
    assert_eq!(small.robot.asked(&["failback"]).0, 0);
    small.robot.wait("the last delta runs", |status| step(status, "return_delta")["state"] == "running");
    ground.web.kill();
    fs::write(small.robot.path("go"), "").expect("file");
    small.robot.wait("active again", |status| status["state"] == "active" && status["plan"]["name"] == "takeover");
    let status = small.robot.wait_served();
    let proof = step(&status, "secure_data")["proof"].to_string();
    assert!(proof.contains("loaded as it is"), "{proof}");
    assert_eq!(fs::read_to_string(&emptied).expect("there"), "");
    assert!(added.exists() && spool.exists());
}
