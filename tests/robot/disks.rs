//! Disks that fail under a running robot: a file system that may only be read from one moment to the next, and a file that
//! gives an error of its disk. Each is one line, the robot watches on, and takes over as far as it can be done.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::crashes::inject;
use crate::data::{ENDPOINT, LOOKS, scene, work};
use crate::lab::dns::Kind;
use crate::lab::have;
use crate::lab::robot::step;
use crate::lab::scene::possible;
use crate::lab::small::{Ground, Small};

fn wait_kept(small: &Small) {
    small.robot.wait_at_most("a good snapshot", LOOKS, |status| status["data"]["snapshots"]["good"]["id"].is_string());
}

fn reasons(status: &Value) -> String {
    status["data"]["reasons"].to_string()
}

fn possible_here() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED: mounting needs root");
    }
    is_root && possible()
}

#[test]
fn a_working_directory_that_may_only_be_read_is_loaded_with_a_warning_where_nothing_can_be_put_in_its_place() {
    if !possible_here() {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    let mut small = scene(&ground, "sync: { settle: 0s, hold_back: [outgoing/] }");
    fs::create_dir(work(&small, "outgoing")).expect("directory");
    fs::write(work(&small, "outgoing/x.call"), "Channel: x\n").expect("file");
    let dir = small.robot.path("work");
    let mount = format!("mount --bind {0} {0} && exec \"$@\"", dir.display());
    small.robot.under(&["unshare", "-m", "sh", "-c", &mount, "sh"]);
    small.robot.start();
    small.robot.wait_armed();
    wait_kept(&small);
    // For the robot alone: who changes the files below does so outside.
    let pid = small.robot.process().pid().to_string();
    let mut remount = Command::new("nsenter");
    remount.args(["-t", &pid, "-m", "mount", "-o", "remount,bind,ro"]).arg(&dir);
    assert!(remount.status().expect("nsenter runs").success());
    fs::write(work(&small, "3.conf"), "").expect("emptied");
    small.robot.wait_at_most("the look goes on", LOOKS, |status| reasons(status).contains("3.conf is empty"));
    ground.web.kill();
    let status = small.robot.wait_served();
    let proof = step(&status, "secure_data")["proof"].to_string();
    let why = "nothing can be held back: the robot may not write into";
    assert!(proof.contains("WARNING, loaded all the same: 3.conf is empty") && proof.contains(why), "{proof}");
    assert!(proof.contains("not moved: outgoing/x.call (Read-only file system"), "{proof}");
    assert_eq!(fs::read_to_string(work(&small, "outgoing/x.call")).expect("file"), "Channel: x\n");
}

#[test]
fn a_state_dir_that_may_only_be_read_is_said_before_it_is_needed_and_the_robot_arms_again_when_it_is_mended() {
    if !possible_here() || !have(&["strace"]) {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    let mut small = scene(&ground, "sync: { settle: 0s }");
    small.robot.start();
    small.robot.wait_armed();
    // A file system that the kernel makes read-only keeps what is open open.
    let read_only = inject(&mut small, "state/state.db-wal", "pwrite64,fsync,fdatasync", "error=EROFS");
    let status = small.robot.wait_at_most("it is said", LOOKS, |status| status["armed"]["ok"] == false);
    let because = status["armed"]["because"].to_string();
    assert!(because.contains("cannot write to the state directory"), "{because}");
    drop(read_only);
    small.robot.wait_at_most("armed again", LOOKS, |status| status["armed"]["ok"] == true);
    ground.web.kill();
    small.robot.wait_served();
}

#[test]
fn a_file_that_its_disk_does_not_give_is_named_and_the_takeover_loads_the_rest() {
    if !possible_here() || !have(&["strace"]) {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    let mut small = scene(&ground, "sync: { settle: 0s }");
    small.robot.start();
    small.robot.wait_armed();
    let _broken = inject(&mut small, "work/3.conf", "read,pread64,copy_file_range,ioctl", "error=EIO");
    fs::write(work(&small, "3.conf"), ENDPOINT.repeat(41)).expect("changed, so that it is read again");
    let status = small.robot.wait_at_most("it is named", LOOKS, |status| reasons(status).contains("3.conf"));
    assert_eq!(status["armed"]["ok"], true, "{status:#}");
    ground.web.kill();
    let status = small.robot.wait_served();
    let proof = step(&status, "secure_data")["proof"].to_string();
    let why = "WARNING, loaded all the same: not looked at: 3.conf (Input/output error";
    assert!(proof.contains(why) && proof.contains("3.conf could not be copied"), "{proof}");
}

#[test]
fn ten_gigabytes_are_looked_at_at_once_and_what_is_too_large_to_be_kept_is_said() {
    if !possible() {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    let mut small = scene(&ground, "sync: { settle: 0s }");
    for name in ["prompts.bin", "monitor/call.wav"] {
        fs::create_dir_all(work(&small, "monitor")).expect("directory");
        let file = fs::File::create(work(&small, name)).expect("file");
        file.set_len(10 << 30).expect("a sparse file");
    }
    small.robot.start();
    small.robot.wait_armed();
    let looked = |status: &Value| status["data"]["bytes"].as_u64().is_some_and(|bytes| bytes > 20 << 30);
    let status = small.robot.wait_at_most("it is looked at", LOOKS, looked);
    assert_eq!((&status["data"]["outcome"], &status["data"]["files"]), (&"go".into(), &12.into()), "{status:#}");
    ground.web.kill();
    let status = small.robot.wait_served();
    let proof = step(&status, "secure_data")["proof"].to_string();
    assert!(
        proof.contains("10 files, 14 kB, left out: prompts.bin") && proof.contains("ledger begun, 12 files"),
        "{proof}"
    );
}
