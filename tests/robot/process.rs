//! The daemon as a process: signals, restarts, a reboot, systemd, its socket, its disk, its secrets.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::failback::{mails, primary_returns, quick, serving, slow_delta};
use crate::lab::dns::{self, Kind};
use crate::lab::robot::step;
use crate::lab::scene::{BACKUP_NAMED, Scene, Wishes, possible};
use crate::lab::{have, wait_until};

/// What servers are waited for.
const SOON: Duration = Duration::from_secs(20);

fn scene(edit: fn(String) -> String) -> Option<Scene> {
    if !possible() {
        return None;
    }
    Scene::set(&Wishes { kind: Kind::Bind, master: None, edit })
}

fn config(scene: &Scene) -> String {
    std::fs::read_to_string(scene.robot.config()).expect("configuration")
}

/// Writes another configuration and sends SIGHUP.
fn reload(scene: &mut Scene, yaml: &str) {
    std::fs::write(scene.robot.config(), yaml).expect("configuration");
    scene.robot.process().signal("HUP");
}

/// Waits until the newest line of history about the configuration says so.
fn told_of_settings(scene: &Scene, words: &str) -> String {
    let mut last = String::new();
    wait_until(&format!("the history says {words}"), SOON, || {
        let history = scene.robot.history();
        let event = history.iter().rfind(|event| event["kind"] == "config");
        last = event.map(ToString::to_string).unwrap_or_default();
        last.contains(words)
    });
    last
}

#[test]
fn new_settings_take_effect_and_bad_ones_leave_the_old_in_force() {
    let Some(mut scene) = scene(quick) else { return };
    scene.robot.start();
    scene.robot.wait_armed();
    let good = config(&scene);
    reload(&mut scene, &good.replace("rise: 2", "rise: 3"));
    told_of_settings(&scene, "new settings are in force");
    let status = scene.robot.wait_armed();
    assert_eq!(status["checks"][0]["rise"]["need"], 3);
    reload(&mut scene, &good.replace("fall: 3", "fall: 0\n  nonsense: 1"));
    let said = told_of_settings(&scene, "refused");
    assert!(said.contains("monitor.fall") && said.contains("nonsense"), "all errors, each with its key: {said}");
    reload(&mut scene, &good.replace("node: pbx-a", "node: pbx-q"));
    let said = told_of_settings(&scene, "restart");
    assert!(said.contains("primary.node changed"), "{said}");
    let status = scene.robot.wait_armed();
    assert_eq!((&status["checks"][0]["fall"]["need"], &status["checks"][0]["rise"]["need"]), (&3.into(), &3.into()));
    scene.web.kill();
    scene.robot.wait_served();
}

#[test]
fn new_settings_wait_while_a_plan_runs() {
    let Some(mut scene) = serving(slow_delta) else { return };
    primary_returns(&mut scene);
    assert_eq!(scene.robot.asked(&["failback"]).0, 0);
    scene.robot.wait("the last delta runs", |s| step(s, "return_delta")["state"] == "running");
    let changed = config(&scene).replace("rise: 2", "rise: 4");
    reload(&mut scene, &changed);
    told_of_settings(&scene, "new settings wait until the failback has ended");
    assert_eq!(scene.robot.status()["checks"][0]["rise"]["need"], 2);
    std::fs::write(scene.robot.path("go"), "").expect("file");
    scene.robot.wait_state("standby");
    told_of_settings(&scene, "new settings are in force");
    assert_eq!(scene.robot.status()["checks"][0]["rise"]["need"], 4);
}

/// What must not happen a second time.
fn once(scene: &Scene) -> (String, Vec<String>, usize, usize) {
    let pid = std::fs::read_to_string(scene.pbx.path("pid")).unwrap_or_default();
    (pid, scene.epoch(), scene.receiver.received().len(), mails(scene, "serves the phones now"))
}

#[test]
fn an_end_and_a_restart_leave_the_pbx_serving_and_repeat_nothing() {
    let Some(mut scene) = serving(quick) else { return };
    let before = once(&scene);
    scene.robot.stop();
    assert!(scene.robot.log().contains("the PBX on this node goes on serving"), "{}", scene.robot.log());
    scene.phone.register(scene.pbx.address()).expect("phones are served without a robot");
    for _ in 0..2 {
        scene.robot.start();
        scene.robot.wait("it has proved that the PBX serves", |s| {
            s["plan"]["name"] == "serve" && s["plan"]["ended"].is_string()
        });
        assert_eq!(scene.robot.state(), "active");
        assert_eq!(once(&scene), before, "same process, same claim, no message again");
        scene.robot.kill();
    }
    assert_eq!(scene.provider.contacts("carrier-user").len(), 1);
}

#[test]
fn after_a_reboot_of_the_backup_it_serves_again() {
    let Some(mut scene) = serving(quick) else { return };
    let (_, epoch, urls, told) = once(&scene);
    scene.robot.kill();
    scene.pbx.signal("KILL");
    wait_until("the PBX is gone", SOON, || !scene.pbx.runs());
    // What lies in /run does not survive.
    assert!(scene.robot.path("run/active").exists());
    std::fs::remove_dir_all(scene.robot.path("run")).expect("the socket and the marker");
    scene.robot.start();
    scene.robot.wait("it serves again", |s| s["plan"]["name"] == "serve" && s["plan"]["ended"].is_string());
    scene.phone.register(scene.pbx.address()).expect("phones are served again");
    assert_eq!(scene.provider.contacts("carrier-user").len(), 1);
    let (_, epoch_now, urls_now, told_now) = once(&scene);
    assert_eq!((epoch_now, urls_now, told_now), (epoch, urls, told));
}

/// Hears what systemd would hear.
struct Manager {
    heard: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    fn at(path: &std::path::Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("socket");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                kept.lock().expect("list").push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
        });
        Self { heard }
    }

    fn all(&self) -> Vec<String> {
        self.heard.lock().expect("list").clone()
    }

    /// Waits for these words, after the first `from` messages; gives the message.
    fn hears(&self, words: &str, from: usize) -> String {
        wait_until(&format!("systemd hears {words}"), SOON, || self.all()[from..].iter().any(|m| m.contains(words)));
        self.all()[from..].iter().find(|m| m.contains(words)).cloned().unwrap_or_default()
    }
}

#[test]
fn systemd_is_told_that_it_is_ready_where_it_stands_and_that_its_loop_turns() {
    let Some(mut scene) = scene(quick) else { return };
    let path = scene.robot.path("notify");
    let systemd = Manager::at(&path);
    scene.robot.under(&["env", &format!("NOTIFY_SOCKET={}", path.display())]);
    scene.robot.start();
    systemd.hears("READY=1", 0);
    assert!(systemd.all()[0].contains("READY=1"), "nothing before it is ready: {:?}", systemd.all());
    systemd.hears("WATCHDOG=1", 0);
    systemd.hears("STATUS=standby, primary-up, armed", 0);
    let from = systemd.all().len();
    scene.robot.process().signal("HUP");
    assert!(systemd.hears("RELOADING=1", from).contains("MONOTONIC_USEC="));
    systemd.hears("READY=1", from);
    assert_eq!(scene.robot.asked(&["pause", "--for", "1h"]).0, 0);
    systemd.hears("NOT armed", from);
    assert_eq!(scene.robot.asked(&["takeover", "--primary-is-stopped"]).0, 0);
    systemd.hears("STATUS=active", from);
    scene.robot.process().signal("TERM");
    let last = systemd.hears("STOPPING=1", from);
    assert!(last.contains("the PBX on this node goes on serving"), "{last}");
}

#[test]
fn a_system_manager_that_hangs_does_not_keep_it_from_taking_over() {
    let Some(mut scene) = scene(quick) else { return };
    let path = scene.robot.path("notify");
    let _never_read = UnixDatagram::bind(&path).expect("socket");
    scene.robot.under(&["env", &format!("NOTIFY_SOCKET={}", path.display())]);
    scene.robot.start();
    scene.robot.wait_armed();
    // More than such a socket's queue holds (net.unix.max_dgram_qlen).
    let full = std::fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").expect("a limit");
    let full = full.trim().parse::<usize>().expect("a number");
    let sender = UnixDatagram::unbound().expect("socket");
    sender.set_nonblocking(true).expect("mode");
    assert!((0..=full * 2).any(|_| sender.send_to(b"X=1", &path).is_err()), "the queue can be filled");
    scene.web.kill();
    scene.robot.wait_served();
}

#[test]
fn its_socket_is_for_owner_and_group_and_its_state_for_one_robot() {
    let Some(mut scene) = scene(quick) else { return };
    scene.robot.start();
    let mode = |name: &str| std::fs::metadata(scene.robot.path(name)).expect(name).permissions().mode() & 0o777;
    assert_eq!((mode("run/control.sock"), mode("state"), mode("state/state.db")), (0o660, 0o700, 0o600));
    let other = scene.robot.path("other.yaml");
    std::fs::write(&other, config(&scene).replace("/run/control.sock", "/run2/control.sock")).expect("configuration");
    let run = |file: &std::path::Path| {
        let mut second = Command::new(env!("CARGO_BIN_EXE_pbx-failover"));
        let out = second.arg("run").arg(file).output().expect("it runs");
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (code, said) = run(&other);
    let pid = std::fs::read_to_string(scene.robot.path("state/lock")).expect("lock");
    assert!(code == Some(1) && said.contains("is in use by") && said.contains(pid.trim()), "{code:?} {said}");
    let (code, said) = run(&scene.robot.config());
    assert!(code == Some(1) && said.contains("in use"), "{code:?} {said}");
    assert!(scene.robot.try_status().is_some(), "the first one is not disturbed");
}

/// User and system time of a process, in clock ticks (10 ms).
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let after = stat.rsplit_once(')').expect("a name").1;
    after.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().expect("a number")).sum()
}

#[test]
fn a_damaged_store_disarms_is_told_and_the_robot_keeps_watching() {
    let Some(mut scene) = scene(quick) else { return };
    scene.robot.start();
    scene.robot.wait_armed();
    scene.robot.stop();
    let file = scene.robot.path("state/state.db");
    let damaged = vec![0x5a; 8192];
    std::fs::write(&file, &damaged).expect("damage");
    scene.robot.start();
    let status = scene.robot.wait("it watches", |s| s["verdict"] == "primary-up");
    let because = status["armed"]["because"].to_string();
    assert!(status["armed"]["ok"] == false && because.contains("is damaged") && because.contains("aside"), "{because}");
    wait_until("people are told, although nothing can be queued", SOON, || {
        mails(&scene, "could not take over now") == 1
    });
    scene.web.kill();
    let status = scene.robot.wait("it sees the outage", |s| s["state"] == "suspect" && s["verdict"] == "primary-dead");
    assert!(status["armed"]["ok"] == false);
    wait_until("that is told too", SOON, || mails(&scene, "does not answer as it should") == 1);
    let (code, said) = scene.robot.asked(&["takeover"]);
    assert!(code == 5 && said.contains("no takeover can be journalled") && said.contains("damaged"), "{said}");
    let pid = scene.robot.process().pid();
    let (ticks, seen) = (cpu_ticks(pid), std::time::Instant::now());
    wait_until("a second has passed", SOON, || seen.elapsed() > Duration::from_secs(1));
    let used = cpu_ticks(pid) - ticks;
    assert!(used < 30, "{used} % of a core at rest: the loop spins around its broken store");
    assert_eq!(scene.epoch(), [] as [&str; 0]);
    assert_eq!(mails(&scene, "could not take over now"), 1, "told once");
    assert_eq!(std::fs::read(&file).expect("file"), damaged, "what was found is left for a person");
}

#[test]
fn a_full_disk_disarms_and_room_arms_it_again() {
    let Some(mut scene) = scene(quick) else { return };
    if !have(&["unshare", "mount"]) || !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: mounting a small tmpfs needs root");
        return;
    }
    let state = scene.robot.path("state");
    std::fs::create_dir(&state).expect("directory");
    let mount = format!("mount -t tmpfs -o size=24m,mode=700 tmpfs {} && exec \"$@\"", state.display());
    scene.robot.under(&["unshare", "--mount", "--propagation", "private", "sh", "-c", &mount, "sh"]);
    scene.robot.start();
    scene.robot.wait_armed();
    let inside = format!("/proc/{}/root{}/ballast", scene.robot.process().pid(), state.display());
    let mut ballast = std::fs::File::create(&inside).expect("a file on the robot's own disk");
    while std::io::Write::write_all(&mut ballast, &[1; 4096]).is_ok() {}
    drop(ballast);
    scene.web.kill();
    let full = |s: &serde_json::Value| s["armed"]["because"].to_string().contains("full");
    scene.robot.wait("it says why it does not act", |s| s["verdict"] == "primary-dead" && full(s));
    wait_until("people are told", SOON, || mails(&scene, "could not take over now") == 1);
    assert!(!scene.pbx.runs());
    assert_eq!(scene.epoch(), [] as [&str; 0], "nothing was begun that could not be journalled");
    std::fs::remove_file(&inside).expect("room");
    scene.robot.wait_served();
    assert_eq!(scene.dns.query("pbx.lab.test", "A"), [BACKUP_NAMED]);
}

/// Passwords that stand in the configuration of the next test.
const PASSWORDS: [&str; 3] = ["hush-url-7141", "hush-token-7142", "hush-plain-7143"];

fn with_secrets(yaml: String) -> String {
    let auth = "    auth: { basic: { username: robot, password: { file: \"@DIR@/url.pw\" } } }\n    headers: { X-Token: \"hush-token-7142\" }\n";
    let hook =
        "  webhooks: [{ name: desk, url: \"http://127.0.0.1:9/hook\", auth: { bearer: \"hush-plain-7143\" } }]\n";
    quick(yaml)
        .replace("    events: [takeover, failback]\n", &format!("    events: [takeover, failback]\n{auth}"))
        .replace("failback: {", &format!("{hook}failback: {{"))
}

#[test]
fn no_secret_is_seen_in_log_history_answers_or_process_list() {
    let Some(mut scene) = scene(with_secrets) else { return };
    scene.robot.secret("failover.yaml", &config(&scene));
    scene.robot.secret("url.pw", PASSWORDS[0]);
    scene.robot.under(&["sh", "-c", "exec \"$@\" -vv", "sh"]);
    scene.robot.start();
    scene.robot.wait_armed();
    scene.web.kill();
    scene.robot.wait("the phones are served", |s| s["state"] == "active" && step(s, "action_urls")["state"] == "done");
    let sent = scene.receiver.received().pop().expect("the ActionURL");
    assert!(
        sent.header("authorization").is_some() && sent.header("x-token").as_deref() == Some(PASSWORDS[1]),
        "{sent:?}"
    );
    wait_until("the webhook was tried in vain", SOON, || scene.robot.log().contains("webhook:desk"));
    let bad = config(&scene).replace("bearer:", "bearerr:") + "nonsense: true\n";
    reload(&mut scene, &bad);
    told_of_settings(&scene, "refused");
    let mut said = scene.robot.log();
    for arguments in [
        &["status"][..],
        &["explain"],
        &["history"],
        &["check"],
        &["takeover", "--dry-run"],
        &["test", "notify", "desk"],
    ] {
        for json in [&[][..], &["--json"]] {
            let output = scene.robot.cli(&[arguments, json].concat());
            said += &String::from_utf8_lossy(&output.stdout);
            said += &String::from_utf8_lossy(&output.stderr);
        }
    }
    for process in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        said += &String::from_utf8_lossy(&line);
    }
    assert!(said.len() > 10_000, "something was looked through");
    for secret in PASSWORDS.into_iter().chain([dns::SECRET, &dns::SECRET[..24], "cm9ib3Q6aHVzaC11cmw"]) {
        let place = said.find(secret).map(|at| said[at.saturating_sub(200)..].chars().take(300).collect::<String>());
        assert_eq!(place, None, "{secret} is seen");
    }
}

#[test]
fn a_changed_name_of_the_epoch_record_is_used_only_after_a_person_accepted_it() {
    let Some(mut scene) = serving(quick) else { return };
    scene.robot.stop();
    let yaml = config(&scene).replace(&format!("record: {}", dns::EPOCH), "record: pbx.lab.test");
    std::fs::write(scene.robot.config(), &yaml).expect("configuration");
    scene.robot.start();
    let status = scene.robot.wait("the record counts as unreadable", |s| s["epoch"]["error"].is_string());
    let error = status["epoch"]["error"].to_string();
    assert!(error.contains("--accept-epoch-record") && error.contains(dns::EPOCH), "{error}");
    assert_eq!(status["state"], "active", "it does not step down for that");
    wait_until("people are told", SOON, || mails(&scene, "the record of who may serve") >= 1);
    assert_eq!(scene.dns.query("pbx.lab.test", "TXT"), [] as [&str; 0], "nothing is written under the new name");
    scene.phone.register(scene.pbx.address()).expect("phones are served all the while");
    let output = scene.robot.cli(&["check", "--accept-epoch-record"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("pbx.lab.test is accepted"), "{said}");
    scene.robot.stop();
    scene.robot.start();
    scene.robot.wait("the new name is read", |s| s["epoch"]["error"].is_null());
}

#[test]
fn a_pbx_that_dies_while_this_node_serves_is_started_again() {
    if !possible() {
        return;
    }
    let Some(mut scene) = Scene::armed(&Wishes::on(Kind::Bind)) else { return };
    scene.web.kill();
    scene.robot.wait_served();
    scene.pbx.signal("KILL");
    wait_until("it is dead", Duration::from_secs(10), || {
        !scene.pbx.runs() || scene.phone.knock(scene.pbx.address()).is_none()
    });
    wait_until("it serves again", Duration::from_secs(60), || scene.phone.knock(scene.pbx.address()).is_some());
    assert!(scene.robot.rows().contains(&49), "{}", scene.robot.history_text());
    assert_eq!(scene.receiver.received().len(), 1, "no ActionURL is fired for it");
}
