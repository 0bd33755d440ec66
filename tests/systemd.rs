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

/// A unit or drop-in as it stands, apart from what only an installed machine has: the program and its manual page.
fn for_analysis(dir: &Path, name: &str) -> PathBuf {
    let text = fs::read_to_string(shipped(name)).unwrap_or_else(|e| panic!("systemd/{name}: {e}"));
    let lines = text.lines().filter(|line| !line.starts_with("Documentation="));
    let text: String = lines.map(|line| line.replace("/usr/bin/pbx-failover", "/bin/true") + "\n").collect();
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("a directory")).expect("its folder");
    fs::write(&path, text).expect("a copy");
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
fn systemd_has_nothing_to_say_about_the_units() {
    if !have(&["systemd-analyze"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    for name in [
        "pbx-failover.service",
        "pbx-failover-guard.service",
        "pbx-failover-guard.timer",
        "pbx-failover-fail2ban-grace@.service",
    ] {
        assert_eq!(verify(&for_analysis(dir.path(), name)), (true, String::new()), "{name}");
    }

    // The same question finds a misspelt key, which systemd merely ignores.
    let unit = dir.path().join("pbx-failover.service");
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
    for name in ["pbx-failover.service", "pbx-failover-guard.service"] {
        let unit = for_analysis(dir.path(), name);
        let mut command = Command::new("systemd-analyze");
        let (_, text) = output_of(command.args(["security", "--offline=true", "--no-pager"]).arg(&unit));
        let level = text
            .lines()
            .find_map(|line| line.split_once(&format!("Overall exposure level for {name}: ")))
            .and_then(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok());
        let tight = level.is_some_and(|level| level <= EXPOSURE_MAX);
        assert!(tight, "{name}: exposure {level:?}, at most {EXPOSURE_MAX}:\n{text}");
    }
}

#[test]
fn the_drop_ins_for_the_pbx_are_understood() {
    if !have(&["systemd-analyze"]) {
        return;
    }
    let grace = "pbx.service.d/pbx-failover-fail2ban-grace.conf";
    for name in ["pbx.service.d/pbx-failover.conf", "pbx.service.d/pbx-failover-guard.conf", grace] {
        let dir = tempfile::tempdir().expect("a directory");
        let unit = dir.path().join("pbx.service");
        fs::write(&unit, "[Unit]\nDescription=a PBX\n[Service]\nExecStart=/bin/true\n").expect("a unit");
        for_analysis(dir.path(), "pbx-failover.service");
        for_analysis(dir.path(), "pbx-failover-fail2ban-grace@.service");
        for_analysis(dir.path(), name);
        assert_eq!(verify(&unit), (true, String::new()), "{name}");
    }
}

/// The lines of a unit's section that set something.
fn settings(name: &str, section: &str) -> Vec<String> {
    let text = fs::read_to_string(shipped(name)).unwrap_or_else(|e| panic!("systemd/{name}: {e}"));
    let lines = text.lines().skip_while(|line| *line != format!("[{section}]")).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.starts_with('#'));
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn the_guard_has_the_sandbox_of_the_robot() {
    let robot = settings("pbx-failover.service", "Service");
    let begin = robot.iter().position(|line| line.starts_with("ProtectSystem=")).expect("the sandbox's first line");
    let guard = settings("pbx-failover-guard.service", "Service");
    assert!(guard.ends_with(&robot[begin..]), "{:#?}", &robot[begin..]);
    // What ends with the guard's unit must not take the robot's files with it.
    for shared in robot.iter().filter(|line| line.contains("Directory")) {
        assert!(guard.contains(shared), "systemd/pbx-failover-guard.service lacks {shared}");
    }
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
