//! What is kept of the working directory: taken while the robot watches, put in place in a takeover, listed, read back and
//! restored by a person; on full and read-only disks, and killed at any instant.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::data::{ENDPOINT, LOOKS, scene, work};
use crate::lab::dns::Kind;
use crate::lab::robot::{binary, step};
use crate::lab::scene::possible;
use crate::lab::small::{Ground, Small};
use crate::lab::{have, wait_until};

/// Kills at so many instants.
const ROUNDS: u64 = 15;

/// Waits for a good snapshot, and gives its name.
pub fn wait_kept(small: &Small) -> String {
    let good = |status: &Value| status["data"]["snapshots"]["good"]["id"].is_string();
    let status = small.robot.wait_at_most("a good snapshot", LOOKS, good);
    status["data"]["snapshots"]["good"]["id"].as_str().expect("its name").to_owned()
}

fn json(small: &Small, arguments: &[&str]) -> Value {
    let output = small.robot.cli(arguments);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// Every name below a directory, with its content or target.
fn tree(top: &Path) -> BTreeMap<PathBuf, String> {
    let (mut all, mut folders) = (BTreeMap::new(), vec![top.to_owned()]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("listed").map(|entry| entry.expect("entry").path()) {
            let about = fs::symlink_metadata(&path).expect("there");
            let text = if about.is_symlink() {
                format!("-> {}", fs::read_link(&path).expect("link").display())
            } else if about.is_dir() {
                folders.push(path.clone());
                "directory".to_owned()
            } else {
                String::from_utf8_lossy(&fs::read(&path).expect("file")).into_owned()
            };
            all.insert(path.strip_prefix(top).expect("below").to_owned(), text);
        }
    }
    all
}

#[test]
fn the_robot_loads_its_last_good_snapshot_when_a_file_was_emptied_just_before_and_moves_the_spools_aside() {
    if !possible() {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    let mut small = scene(&ground, "sync: { settle: 0s, hold_back: [\"*.call\"] }");
    fs::create_dir_all(work(&small, "spool/outgoing")).expect("directory");
    fs::write(work(&small, "spool/outgoing/wake-up.call"), "Channel: SIP/100\n").expect("call file");
    small.robot.start();
    small.robot.wait_armed();
    let good = wait_kept(&small);
    let explained = small.robot.explain().to_string();
    assert!(explained.contains(&format!("last good snapshot: {good}")), "{explained}");
    let checked = String::from_utf8_lossy(&small.robot.cli(&["check"]).stdout).into_owned();
    assert!(checked.contains(&good), "{checked}");

    ground.web.kill();
    fs::write(work(&small, "3.conf"), "").expect("emptied");
    fs::write(work(&small, "half.conf"), ENDPOINT).expect("appeared");
    let status = small.robot.wait_served();
    let proof = step(&status, "secure_data")["proof"].to_string();
    for said in [
        "3.conf is empty; its last good snapshot: ",
        &format!("{good}: 1 files put in place (3.conf)"),
        "1 moved aside to held-back/",
        "; snapshot takeover-",
        "1 files held back in held-back/",
    ] {
        assert!(proof.contains(said), "{said}: {proof}");
    }
    assert!(small.robot.history_text().contains("1 files held back"), "named in history");
    assert_eq!(fs::read_to_string(work(&small, "3.conf")).expect("file"), ENDPOINT.repeat(40));
    assert!(!work(&small, "half.conf").exists(), "no mixture");
    assert!(work(&small, "spool/outgoing").is_dir() && !work(&small, "spool/outgoing/wake-up.call").exists());

    // What was there is kept, and a person sees all of it, while this node serves.
    let plan = status["plan"]["id"].as_str().expect("a plan").to_owned();
    let listed = json(&small, &["snapshots", "--json"]);
    let ids: Vec<_> = listed["snapshots"].as_array().expect("a list").iter().map(|one| one["id"].to_string()).collect();
    assert_eq!(ids, [format!("\"{good}\""), format!("\"takeover-{plan}\"")], "{listed:#}");
    let before = small.robot.path(&format!("state/snapshots/takeover-{plan}/tree/0"));
    assert_eq!(fs::read_to_string(before.join("3.conf")).expect("kept"), "");
    assert_eq!(fs::read_to_string(before.join("half.conf")).expect("kept"), ENDPOINT);
    let held = status["held_back"].to_string();
    assert!(held.contains("wake-up.call") && held.contains("half.conf"), "{held}");
    let said = String::from_utf8_lossy(&small.robot.cli(&["status"]).stdout).into_owned();
    assert!(said.contains(&format!("moved aside in held-back/{plan}")), "{said}");
    let output = small.robot.cli(&["snapshots", "verify"]);
    assert!(output.status.success(), "{output:?}");

    let refused = small.robot.cli(&["snapshots", "restore", &good, "--yes", "--reason", "a test"]);
    assert_eq!(refused.status.code(), Some(5), "{refused:?}");
    let to = small.robot.path("elsewhere");
    let copied = small.robot.cli(&["snapshots", "restore", &good, "--to", to.to_str().expect("a path"), "3.conf"]);
    assert!(copied.status.success() && to.join("3.conf").exists() && !to.join("4.conf").exists(), "{copied:?}");
    let name = format!("held-back/{plan}");
    let back = small.robot.cli(&["snapshots", "restore", &name, "--yes", "--reason", "the calls are wanted"]);
    assert!(back.status.success() && work(&small, "spool/outgoing/wake-up.call").exists(), "{back:?}");
    let status = small.robot.status();
    assert!(!status["held_back"].to_string().contains("wake-up.call"), "{status:#}");
}

#[test]
fn what_cannot_be_kept_is_one_line_and_the_robot_watches_and_takes_over_all_the_same() {
    if !possible() || !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: mounting a small tmpfs needs root");
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    let mut small = scene(&ground, "sync: { settle: 0s }");
    // The robot's own journal fits; a snapshot of 12 MB leaves less than the robot needs.
    fs::write(work(&small, "prompts.bin"), vec![7; 12 << 20]).expect("file");
    let state = small.robot.path("state");
    fs::create_dir_all(&state).expect("directory");
    let mount = format!("mount -t tmpfs -o size=40m,mode=700 tmpfs {} && exec \"$@\"", state.display());
    small.robot.under(&["unshare", "-m", "sh", "-c", &mount, "sh"]);
    small.robot.start();
    small.robot.wait_armed();
    let said = |status: &Value| status["data"]["reasons"].to_string();
    let full = |status: &Value| said(status).contains("of which the robot needs");
    let status = small.robot.wait_at_most("what fails is said", LOOKS, full);
    assert_eq!(status["data"]["outcome"], "go-with-warning", "{status:#}");
    assert!(status["data"]["snapshots"]["kept"] == 0 && status["armed"]["ok"] == true, "{status:#}");
    let explained = small.robot.explain().to_string();
    assert!(explained.contains("snapshots: ") && explained.contains("see the free space"), "{explained}");
    ground.web.kill();
    let status = small.robot.wait_served();
    let proof = step(&status, "secure_data")["proof"].to_string();
    assert!(proof.contains("WARNING, no snapshot of it: "), "{proof}");
}

/// The program with this configuration, beside no daemon.
fn alone(small: &Small, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("--config").arg(small.robot.config()).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Names and modes as sync tools and people leave them.
fn fill(small: &Small) {
    for dir in 0..12 {
        fs::create_dir_all(work(small, format!("etc/{dir}"))).expect("directory");
        for n in 0..20 {
            let file = work(small, format!("etc/{dir}/{n}.conf"));
            fs::write(&file, format!("[{dir}-{n}]\n{ENDPOINT}")).expect("file");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("mode");
        }
    }
    fs::write(work(small, OsStr::from_bytes(b"etc/a\nb\xff.conf")), ENDPOINT).expect("file");
    symlink("0/1.conf", work(small, "etc/link.conf")).expect("link");
    symlink("/etc/hostname", work(small, "etc/out")).expect("link");
}

fn damage(small: &Small, round: u64) {
    let mut random = fastrand::Rng::with_seed(round);
    for _ in 0..60 {
        let file = work(small, format!("etc/{}/{}.conf", random.u8(..12), random.u8(..20)));
        match random.u8(..3) {
            0 => drop(fs::remove_file(file)),
            1 => fs::write(file, "").expect("emptied"),
            _ => fs::write(file, "x".repeat(random.usize(..5000))).expect("written"),
        }
    }
    fs::write(work(small, format!("etc/{round}-new.conf")), "new").expect("appeared");
}

#[test]
fn a_restore_that_is_killed_at_any_instant_is_complete_after_the_next_one_and_a_snapshot_is_whole_or_none() {
    if !possible() {
        return;
    }
    let ground = Ground::new(Kind::Bind);
    let mut small = scene(&ground, "sync: { settle: 0s }");
    fill(&small);
    small.robot.start();
    small.robot.wait_armed();
    let good = wait_kept(&small);
    small.robot.stop();
    let before = tree(&small.robot.path("work"));
    let arguments = ["snapshots", "restore", &good, "--yes", "--reason", "a test"];
    let code = |arguments: &[&str]| alone(&small, arguments).output().expect("it runs").status.code();
    assert_eq!(code(&["snapshots", "restore", &good]), Some(2), "nobody can be asked");
    assert_eq!(code(&["snapshots", "restore", "good-1", "--yes", "--reason", "a test"]), Some(1));
    assert_eq!(code(&["snapshots", "restore", &good, "../x", "--yes", "--reason", "a test"]), Some(2));
    assert_eq!(code(&["snapshots", "restore", &good, "--dry-run"]), Some(0));
    damage(&small, 0);
    let began = Instant::now();
    let done = alone(&small, &arguments).output().expect("it runs");
    assert!(done.status.success(), "{done:?}");
    let whole = began.elapsed();
    assert_eq!(tree(&small.robot.path("work")), before);
    let mut killed = 0;
    for round in 1..=ROUNDS {
        damage(&small, round);
        let mut child = alone(&small, &arguments).spawn().expect("it runs");
        let until = Instant::now() + whole * u32::try_from(round).expect("few") / u32::try_from(ROUNDS).expect("few");
        while Instant::now() < until && child.try_wait().expect("asked").is_none() {
            std::thread::yield_now();
        }
        child.kill().expect("killed");
        killed += u32::from(!child.wait().expect("ended").success());
        let done = alone(&small, &arguments).output().expect("it runs");
        assert!(done.status.success(), "seed {round}: {done:?}");
        assert_eq!(tree(&small.robot.path("work")), before, "seed {round}");
        let verified = alone(&small, &["snapshots", "verify"]).output().expect("it runs");
        assert!(verified.status.success(), "seed {round}: {}", String::from_utf8_lossy(&verified.stdout));
        assert!(!small.robot.path("state/restore-under-way").exists(), "seed {round}");
    }
    eprintln!("{killed} of {ROUNDS} were killed, a whole one takes {whole:?}");
    assert!(killed > 5, "{killed}");
    small.robot.start();
    let told = || small.robot.history_text().contains("files put in place");
    wait_until("what a person did stands in the history", LOOKS, told);
    // What was killed while it was being taken is gone.
    let names = fs::read_dir(small.robot.path("state/snapshots")).expect("listed").flatten();
    let hidden = names.filter(|name| name.file_name().to_string_lossy().starts_with(".taking")).count();
    assert_eq!(hidden, 0);
}

#[test]
fn a_takeover_that_is_killed_in_the_midst_of_a_restore_loads_no_mixture_afterwards() {
    if !possible() || !have(&["strace"]) {
        return;
    }
    let mut broken_off = 0;
    // The first three are of files in the state directory.
    for nth in [3, 5, 10] {
        let mut ground = Ground::new(Kind::Bind);
        let mut small = scene(&ground, "sync: { settle: 0s }");
        small.robot.start();
        small.robot.wait_armed();
        wait_kept(&small);
        small.robot.stop();
        let before = tree(&small.robot.path("work"));
        // Each file is put in place by one of these; the n-th kills the robot.
        let inject = format!("inject=renameat:signal=KILL:when={nth}");
        small.robot.under(&["strace", "-f", "-o", "/dev/null", "-e", "trace=renameat", "-e", &inject]);
        small.robot.start();
        small.robot.wait_armed();
        for n in 0..10 {
            fs::write(work(&small, format!("{n}.conf")), "").expect("emptied");
        }
        ground.web.kill();
        wait_until("the robot was killed", LOOKS, || small.robot.has_ended());
        let half = tree(&small.robot.path("work"));
        assert!(half != before, "in the midst of it");
        assert!(!small.pbx.serves());
        small.robot.under(&[]);
        small.robot.start();
        let status = small.robot.wait_served();
        let proof = step(&status, "secure_data")["proof"].to_string();
        broken_off += u32::from(proof.contains("a restore that was broken off is complete: good-"));
        assert!(proof.contains("files put in place"), "{nth}: {proof}");
        assert_eq!(tree(&small.robot.path("work")), before, "{nth}");
    }
    assert!(broken_off >= 2, "{broken_off}");
}

#[test]
fn a_restore_that_is_run_again_keeps_what_was_there_before_the_first_and_one_that_changes_nothing_keeps_nothing() {
    if !possible() || !have(&["strace"]) {
        return;
    }
    let ground = Ground::new(Kind::Bind);
    let mut small = scene(&ground, "sync: { settle: 0s, keep_snapshots: 1 }");
    small.robot.start();
    small.robot.wait_armed();
    let good = wait_kept(&small);
    small.robot.stop();
    let before = tree(&small.robot.path("work"));
    for n in 0..10 {
        fs::write(work(&small, format!("{n}.conf")), format!("mine {n}")).expect("written");
    }
    // The first of these are of files in the state directory.
    let strace = ["-f", "-o", "/dev/null", "-e", "trace=renameat", "-e", "inject=renameat:signal=KILL:when=6"];
    let mut killed = Command::new("strace");
    killed.args(strace).arg(binary()).arg("--config").arg(small.robot.config());
    let arguments = ["snapshots", "restore", &good, "--yes", "--reason", "a test", "--json"];
    let killed = killed.args(arguments).stdin(Stdio::null()).output().expect("it runs");
    assert!(!killed.status.success(), "{killed:?}");
    let note = fs::read_to_string(small.robot.path("state/restore-under-way")).expect("a note");
    assert!(note.contains("committing") && tree(&small.robot.path("work")) != before, "{note}");
    let listed = || -> Vec<String> {
        let listed = json(&small, &["snapshots", "--json"]);
        let ids = listed["snapshots"].as_array().expect("a list").iter();
        ids.map(|one| one["id"].as_str().expect("its name").to_owned()).collect()
    };
    for round in 0..2 {
        let done: Value = json(&small, &arguments);
        assert_eq!(done["before"].is_null(), round == 1, "{done:#}");
        assert_eq!(tree(&small.robot.path("work")), before);
        let ids = listed();
        assert!(ids.len() == 2 && ids[0] == good && ids[1].starts_with("before-restore-"), "{ids:?}");
        for n in 0..10 {
            let copy = small.robot.path(&format!("state/snapshots/{}/tree/0/{n}.conf", ids[1]));
            assert_eq!(fs::read_to_string(copy).expect("kept"), format!("mine {n}"), "round {round}");
        }
    }
}
