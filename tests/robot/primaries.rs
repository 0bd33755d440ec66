//! Primaries that are ill in other ways than dead, and a robot that was away itself.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::dns::Kind;
use crate::lab::kamailio::{Kamailio, Setup};
use crate::lab::robot::Robot;
use crate::lab::scene::{Scene, Wishes, possible};
use crate::lab::web::{Authority, Site, Web};
use crate::lab::{free_port, have, wait_until};

/// Ten checks a second.
const FAST: fn(String) -> String = |yaml| {
    yaml.replace("  interval: 1s\n  fast_interval: 1s\n", "  interval: 100ms\n  fast_interval: 100ms\n")
        .replace("timeout: 1s", "timeout: 300ms")
};

fn scene() -> Option<Scene> {
    if !possible() {
        return None;
    }
    Scene::armed(&Wishes { edit: FAST, ..Wishes::on(Kind::Bind) })
}

fn explained(robot: &Robot) -> String {
    let said = robot.cli(&["explain"]).stdout;
    String::from_utf8_lossy(&said).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn failures(status: &Value) -> u64 {
    status["checks"][0]["fall"]["now"].as_u64().unwrap_or_default()
}

fn never_suspected(scene: &Scene) {
    assert_eq!(scene.robot.rows(), [] as [u64; 0], "{}", scene.robot.history_text());
}

/// For `length`, the web server stands still for `still` of every half second.
fn stutter(web: &Web, length: Duration, still: Duration) {
    let start = Instant::now();
    while start.elapsed() < length {
        web.hang();
        std::thread::sleep(still);
        web.resume();
        std::thread::sleep(Duration::from_millis(500).saturating_sub(still));
    }
}

#[test]
fn a_primary_that_is_slow_or_flaps_within_what_is_tolerated_is_left_alone() {
    if !possible() {
        return;
    }
    // Time enough to bring a web server back between two failures.
    let edit = |yaml: String| yaml.replace("interval: 1s\n", "interval: 400ms\n");
    let Some(mut scene) = Scene::armed(&Wishes { edit, ..Wishes::on(Kind::Bind) }) else { return };
    // Slower than usual, but within the time-out.
    stutter(&scene.web, Duration::from_secs(3), Duration::from_millis(200));
    never_suspected(&scene);
    // Two failures of three, again and again.
    for _ in 0..8 {
        scene.web.kill();
        wait_until("it has failed", Duration::from_secs(5), || failures(&scene.robot.status()) >= 1);
        scene.web.start();
        scene.robot.wait("it has answered", |s| failures(s) == 0);
    }
    let status = scene.robot.status();
    assert_eq!(status["verdict"], "primary-up");
    never_suspected(&scene);
}

fn replaced(why: &str, ail: impl FnOnce(&Scene)) {
    let Some(scene) = scene() else { return };
    ail(&scene);
    let status = scene.robot.wait_served();
    let last = &status["checks"][0]["last"];
    assert!(last["error"].as_str().is_some_and(|said| said.contains(why)), "{why}: {last}");
    let said = explained(&scene.robot);
    assert!(said.contains("pbx-b serves") && said.contains("primary-dead"), "{said}");
}

#[test]
fn a_primary_that_answers_503_is_replaced() {
    replaced("503", |scene| scene.web.unavailable(true));
}

#[test]
fn a_primary_that_hangs_is_replaced() {
    replaced("no answer within", |scene| scene.web.hang());
}

#[test]
fn a_robot_that_was_stopped_while_the_primary_was_away_distrusts_itself() {
    let Some(mut scene) = scene() else { return };
    // It has begun to count failures when it is stopped.
    scene.web.hang();
    scene.robot.wait("a failure", |s| failures(s) >= 1);
    scene.robot.process().signal("STOP");
    scene.web.kill();
    std::thread::sleep(Duration::from_secs(20));
    scene.web.start();
    scene.robot.process().signal("CONT");
    let woken = Instant::now();
    let status = scene.robot.wait("unsure", |s| s["verdict"] == "unsure");
    assert_eq!(status["armed"]["ok"], false, "{}", status["armed"]);
    assert!(failures(&status) <= 1, "the counts begin anew: {}", status["checks"]);
    let said = explained(&scene.robot);
    assert!(said.contains("pbx-b does not take over: unsure, because our own process or clock was stalled"), "{said}");
    scene.robot.wait_armed();
    let distrusted = woken.elapsed();
    assert!((29..=33).contains(&distrusted.as_secs()), "{distrusted:?}");
    assert!(scene.robot.history_text().contains("our own loop was stalled for 2"), "{}", scene.robot.history_text());
    never_suspected(&scene);
}

#[test]
fn a_robot_that_starts_beside_a_primary_that_it_knows_and_that_is_dead_takes_over() {
    let Some(mut scene) = scene() else { return };
    scene.robot.stop();
    scene.web.kill();
    scene.robot.start();
    scene.robot.wait_served();
}

#[test]
fn a_primary_that_was_never_seen_up_is_never_replaced_and_status_says_so() {
    if !possible() {
        return;
    }
    let Some(mut scene) = Scene::set(&Wishes { edit: FAST, ..Wishes::on(Kind::Bind) }) else { return };
    scene.web.kill();
    scene.robot.start();
    let status = scene.robot.wait("many failures", |s| failures(s) >= 30);
    assert_eq!((status["state"].as_str(), status["verdict"].as_str()), (Some("standby"), Some("unsure")));
    assert_eq!(status["armed"]["because"][0], "never seen up since configured: web");
    assert_eq!(status["checks"][0]["verdict"], "untested");
    let said = explained(&scene.robot);
    assert!(said.contains("unsure, because a check has never been up since it was configured"), "{said}");
    // The first time that it is seen up arms the robot, and from then on its death counts.
    scene.web.start();
    scene.robot.wait_armed();
    scene.web.kill();
    scene.robot.wait_served();
}

/// A robot that only watches `checks` on loopback.
fn watcher(checks: &str, internet: u16) -> Robot {
    let mut robot = idle(checks, internet);
    robot.start();
    robot
}

/// The same, not started yet.
fn idle(checks: &str, internet: u16) -> Robot {
    Robot::new(&format!(
        r#"node: pbx-b
primary: {{ node: pbx-a, address: 127.0.0.1 }}
backup: {{ node: pbx-b, address: 10.77.0.12, listen_address: 127.0.0.1 }}
monitor: {{ interval: 100ms, fast_interval: 100ms, timeout: 1s, fall: 3, rise: 2, checks: {{ {checks} }} }}
internet: {{ need: 1, targets: ["tcp://127.0.0.1:{internet}"] }}
takeover: {{ hold_down: 1h, startup_grace: 0s }}
epoch: {{ store: local }}
dns: {{ mode: none }}
pbx: {{ working_dir: "@DIR@/work", driver: {{ command: {{ reload: ["true"], stop_accepting: ["true"], passive: ["true"] }} }} }}
"#
    ))
}

#[test]
fn https_with_an_own_authority_is_up_and_an_expired_certificate_is_up_with_a_warning() {
    if !have(&["nginx"]) {
        return;
    }
    let authority = Authority::new();
    let dir = tempfile::tempdir().expect("directory");
    let ca = authority.file(&dir);
    let good = Site::new().tls(authority.good(&["pbx.lab.test"])).start();
    let expired = Site::new().tls(authority.expired(&["pbx.lab.test"])).start();
    let check = |name: &str, web: &Web| {
        format!(
            r#"{name}: {{ http: "https://pbx.lab.test:{}/", expect_body: works, ca_file: "{}" }}"#,
            web.listen.port(),
            ca.display()
        )
    };
    let checks = format!("{}, {}", check("good", &good), check("old", &expired));
    let robot = watcher(&checks, good.listen.port());
    let status = robot.wait("both up", |s| s["verdict"] == "primary-up");
    let last = |i: usize| &status["checks"][i]["last"];
    assert!(last(0)["warning"].is_null(), "{}", last(0));
    assert!(last(1)["warning"].as_str().is_some_and(|said| said.contains("expired")), "{}", last(1));
    let shown = String::from_utf8_lossy(&robot.cli(&["status"]).stdout).into_owned();
    assert!(shown.contains("warning: ") && shown.contains("expired"), "{shown}");
    assert!(explained(&robot).contains("expired"), "{}", explained(&robot));
    assert_eq!(good.requests(1)[0], format!("/ 200 host=pbx.lab.test:{} sni=pbx.lab.test", good.listen.port()));
}

#[test]
fn a_sip_server_that_hangs_is_down_and_up_again_when_it_answers() {
    if !have(&crate::lab::kamailio::PROGRAMS) || !have(&["nginx"]) {
        return;
    }
    let sip = Kamailio::started(Setup::at(([127, 0, 0, 1], free_port()).into()).with_tcp());
    let web = Site::new().start();
    let port = sip.address().port();
    let checks = format!(
        r#"web: {{ http: "http://pbx.lab.test:{}/" }}, udp: {{ sip: "sip:pbx.lab.test:{port}" }}, tcp: {{ sip: "sip:pbx.lab.test:{port};transport=tcp" }}"#,
        web.listen.port()
    );
    let robot = watcher(&checks, web.listen.port());
    robot.wait("all up", |s| s["verdict"] == "primary-up");
    sip.signal("STOP");
    let status = robot.wait("half dead", |s| {
        s["verdict"] == "half-dead" && s["checks"][1]["verdict"] == "down" && s["checks"][2]["verdict"] == "down"
    });
    assert_eq!(status["checks"][0]["decides"], false, "the web check only votes beside SIP checks");
    sip.signal("CONT");
    robot.wait("all up again", |s| s["verdict"] == "primary-up");
}

#[test]
fn a_step_of_the_wall_clock_changes_nothing_but_the_history() {
    let found = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().find_map(|entry| {
        let library = entry.path().join("faketime/libfaketime.so.1");
        library.exists().then_some(library)
    });
    let (Some(library), true) = (found, have(&["nginx", "faketime"])) else { return };
    let web = Site::new().start();
    let checks = format!(r#"web: {{ http: "http://pbx.lab.test:{}/" }}"#, web.listen.port());
    let mut robot = idle(&checks, web.listen.port());
    let shift = robot.path("shift");
    std::fs::write(&shift, "+0").expect("file");
    robot.under(&[
        "env",
        "FAKETIME_NO_CACHE=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
        &format!("FAKETIME_TIMESTAMP_FILE={}", shift.display()),
        &format!("LD_PRELOAD={}", library.display()),
    ]);
    robot.start();
    robot.wait_armed();
    for (step, told) in [("-30d", "stepped by -259"), ("+30d", "stepped by 518")] {
        // At once: it is read while it is written.
        std::fs::write(robot.path("next"), step).expect("file");
        std::fs::rename(robot.path("next"), &shift).expect("file");
        wait_until("the step is told", Duration::from_secs(10), || robot.history_text().contains(told));
        let status = robot.status();
        assert_eq!((&status["verdict"], &status["armed"]["ok"]), (&"primary-up".into(), &true.into()), "{status:#}");
    }
    // The checks go on by the other clock.
    web.unavailable(true);
    robot.wait("dead", |s| s["verdict"] == "primary-dead");
    assert_eq!(robot.rows(), [1], "{}", robot.history_text());
}
