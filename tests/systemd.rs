//! The files in `systemd/` as systemd itself reads them; nothing here starts a unit.
//!
//! `systemd-analyze verify` exits 0 on unknown keys, so that any output counts as a failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[path = "lab/process.rs"]
#[allow(dead_code)] // only `have` is used here
mod process;

use process::have;

/// Highest exposure level that `systemd-analyze security` may report.
const EXPOSURE_MAX: f64 = 2.0;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)
}

/// The unit as it stands, apart from what only an installed machine has: the program and its manual page.
fn unit_for_analysis(dir: &Path) -> PathBuf {
    let text = fs::read_to_string(shipped("pbx-failover.service")).expect("the unit");
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with("Documentation="))
        .map(|line| if line.starts_with("ExecStart=") { "ExecStart=/bin/true\n".into() } else { format!("{line}\n") })
        .collect();
    let path = dir.join("pbx-failover.service");
    fs::write(&path, text).expect("a copy of the unit");
    path
}

fn output_of(command: &mut Command) -> (bool, String) {
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn verify(unit: &Path) -> (bool, String) {
    output_of(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit))
}

#[test]
fn systemd_has_nothing_to_say_about_the_unit() {
    if !have(&["systemd-analyze"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let unit = unit_for_analysis(dir.path());
    assert_eq!(verify(&unit), (true, String::new()));

    // The same question finds a misspelt key, which systemd merely ignores.
    let text = fs::read_to_string(&unit).expect("the copy").replace("KillMode=", "KilMode=");
    fs::write(&unit, text).expect("a bad copy");
    assert!(verify(&unit).1.contains("KilMode"), "a misspelt key went unseen");
}

#[test]
fn the_sandbox_stays_tight() {
    if !have(&["systemd-analyze"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let unit = unit_for_analysis(dir.path());
    let (_, text) =
        output_of(Command::new("systemd-analyze").args(["security", "--offline=true", "--no-pager"]).arg(&unit));
    let level = text
        .lines()
        .find_map(|line| line.split_once("Overall exposure level for pbx-failover.service: "))
        .and_then(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok());
    assert!(level.is_some_and(|level| level <= EXPOSURE_MAX), "exposure {level:?}, at most {EXPOSURE_MAX}:\n{text}");
}

#[test]
fn the_drop_in_for_the_pbx_is_understood() {
    if !have(&["systemd-analyze"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let unit = dir.path().join("pbx.service");
    fs::write(&unit, "[Unit]\nDescription=a PBX\n[Service]\nExecStart=/bin/true\n").expect("a unit");
    let folder = dir.path().join("pbx.service.d");
    fs::create_dir(&folder).expect("its folder");
    fs::copy(shipped("pbx.service.d/pbx-failover.conf"), folder.join("pbx-failover.conf")).expect("the drop-in");
    assert_eq!(verify(&unit), (true, String::new()));
}

#[test]
fn the_user_is_created_by_sysusers() {
    if !have(&["systemd-sysusers"]) {
        return;
    }
    let root = tempfile::tempdir().expect("a directory");
    fs::create_dir(root.path().join("etc")).expect("etc");
    let mut command = Command::new("systemd-sysusers");
    command.arg("--root").arg(root.path()).arg(shipped("pbx-failover.sysusers.conf"));
    let (ok, said) = output_of(&mut command);
    assert!(ok, "{said}");
    let users = fs::read_to_string(root.path().join("etc/passwd")).expect("passwd");
    assert!(users.starts_with("pbx-failover:"), "{users}");
}

#[test]
fn the_robot_never_takes_the_pbx_down_with_it() {
    let unit = fs::read_to_string(shipped("pbx-failover.service")).expect("the unit");
    for line in [
        "Type=notify",
        "KillMode=process",
        "OOMPolicy=continue",
        "RuntimeDirectoryPreserve=yes",
        "Restart=on-failure",
        "RestartPreventExitStatus=2 3",
        "ExecReload=/bin/kill -HUP $MAINPID",
    ] {
        assert!(unit.lines().any(|l| l == line), "systemd/pbx-failover.service lacks {line}");
    }
    assert!(unit.lines().any(|l| l.starts_with("WatchdogSec=")), "systemd/pbx-failover.service lacks WatchdogSec=");
}
