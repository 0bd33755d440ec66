//! Giving the service back, by hand: every step seen at the real servers, refused with a reason where it must be,
//! undone, timed out, halted by a call, abandoned.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::lab::dns::Kind;
use crate::lab::kamailio::Kamailio;
use crate::lab::robot::step;
use crate::lab::scene::{BACKUP_NAMED, PRIMARY_NAMED, Scene, Wishes, possible};
use crate::lab::sipp::Phone;
use crate::lab::{Running, wait_until};

/// What calls and servers are waited for.
const SOON: Duration = Duration::from_secs(20);

/// Checks five times a second, so that tests wait for the robot and not for its pace.
#[allow(clippy::needless_pass_by_value)] // the type of `Wishes::edit`
pub fn quick(yaml: String) -> String {
    yaml.replace("interval: 1s", "interval: 200ms")
}

/// A scene in which the backup serves.
pub fn serving(edit: fn(String) -> String) -> Option<Scene> {
    if !possible() {
        return None;
    }
    let mut scene = Scene::armed(&Wishes { kind: Kind::Bind, master: None, edit })?;
    scene.web.kill();
    scene.robot.wait_served();
    Some(scene)
}

/// The primary's web server is there again, and the robot believes it.
pub fn primary_returns(scene: &mut Scene) {
    scene.web.start();
    scene.robot.wait("the primary is up", |status| status["verdict"] == "primary-up");
}

fn urls(scene: &Scene) -> Vec<String> {
    let events = scene.receiver.received().into_iter().map(|r| r.target);
    events.map(|target| target.rsplit_once("&event=").expect("an event").1.to_owned()).collect()
}

/// How many mails had these words in their subject.
pub fn mails(scene: &Scene, words: &str) -> usize {
    let subject = |mail: &crate::lab::mail::Mail| mail.read()["headers"].to_string();
    scene.mail.mails().iter().filter(|mail| subject(mail).contains(words)).count()
}

fn the_primary_has_everything_back(scene: &Scene, turn: u32) {
    assert!(!scene.pbx.runs(), "the backup's PBX is stopped");
    assert_eq!(scene.phone.knock(scene.pbx.address()), None, "nobody answers phones at the backup");
    assert_eq!(scene.provider.contacts("carrier-user"), [] as [&str; 0], "the trunk is gone at the provider");
    let epoch = scene.epoch();
    assert!(epoch.len() == 1 && epoch[0].contains(&format!("epoch={turn} holder=pbx-a")), "{epoch:?}");
    assert_eq!(scene.dns.query("pbx.lab.test", "A"), [PRIMARY_NAMED]);
    assert_eq!(scene.dns.query("pbx.lab.test", "AAAA"), ["fd77::11"]);
    assert_eq!(scene.dns.query("_sip._udp.lab.test", "SRV"), ["10 0 5060 pbx-a.lab.test."]);
}

#[test]
fn the_service_goes_back_and_a_second_outage_is_handled_like_the_first() {
    let Some(mut scene) = serving(quick) else { return };
    scene.phone.register(scene.pbx.address()).expect("registers at the backup");
    primary_returns(&mut scene);
    let (code, said) = scene.robot.asked(&["failback"]);
    assert_eq!((code, said.contains("the service goes back to pbx-a")), (0, true), "{said}");
    let status = scene.robot.wait_state("standby");
    the_primary_has_everything_back(&scene, 2);
    for name in ["preflight", "drain", "unregister_trunks", "stop_accepting", "hand_over", "primary_serves"] {
        assert!(step(&status, name)["proof"].as_str().is_some_and(|proof| !proof.is_empty()), "{status:#}");
    }
    wait_until("ActionURL and mail came", SOON, || {
        mails(&scene, "serves the phones again") > 0 && urls(&scene).len() > 1
    });
    assert_eq!(urls(&scene), ["takeover", "failback"]);
    let last = scene.receiver.received().pop().expect("a request");
    assert!(last.target.contains("ip=127.0.0.1"), "the primary's address: {}", last.target);
    let rows = scene.robot.rows();
    assert!(rows.contains(&42) && rows.ends_with(&[47, 58, 4]), "both may serve, asked, handed back: {rows:?}");

    scene.robot.wait_armed();
    scene.web.kill();
    scene.robot.wait_served();
    assert_eq!(scene.dns.query("pbx.lab.test", "A"), [BACKUP_NAMED]);
    assert!(scene.epoch()[0].contains("epoch=3 holder=pbx-b"), "{:?}", scene.epoch());
    scene.phone.register(scene.pbx.address()).expect("registers again");
    assert_eq!(scene.provider.contacts("carrier-user").len(), 1);
    assert_eq!(urls(&scene), ["takeover", "failback", "takeover"]);
    assert_eq!(mails(&scene, "serves the phones again"), 1, "each mail came once");
    assert_eq!(mails(&scene, "serves the phones now"), 2);
}

#[test]
fn a_failback_is_refused_while_the_primary_is_silent_and_waits_when_told_to() {
    let Some(mut scene) = serving(quick) else { return };
    let (code, said) = scene.robot.asked(&["failback"]);
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("pbx-a does not answer (web down)") && said.contains("--wait"), "{said}");
    assert_eq!(scene.robot.state(), "active");
    let (code, said) = scene.robot.asked(&["failback", "--wait"]);
    assert_eq!(code, 0, "{said}");
    let status = scene.robot.wait("it waits", |s| s["plan"]["name"] == "failback");
    assert_eq!(step(&status, "preflight")["state"], "running");
    scene.phone.register(scene.pbx.address()).expect("phones are served while it waits");
    primary_returns(&mut scene);
    scene.robot.wait_state("standby");
    the_primary_has_everything_back(&scene, 2);
}

/// A call through the backup's PBX that stays up until its phones are dropped.
struct Call {
    _callee: Running,
    _caller: Running,
    callee: Phone,
    dir: tempfile::TempDir,
}

impl Call {
    fn up(scene: &Scene) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let callee = scene.phone.clone();
        let answers = callee.answers_calls(dir.path());
        wait_until("the callee is registered", SOON, || callee.register(scene.pbx.address()).is_ok());
        let call = Phone::new("200", "").call(scene.pbx.address(), &callee.user, Duration::from_secs(120), dir.path());
        wait_until("the call is up", SOON, || calls(&scene.pbx) == 1);
        Self { _callee: answers, _caller: call, callee, dir }
    }

    /// Another short call to the same phone; panics when it does not go through.
    fn another(&self, server: SocketAddr) {
        let mut call =
            Phone::new("201", "").call(server, &self.callee.user, Duration::from_millis(100), self.dir.path());
        let began = Instant::now();
        let end = loop {
            if let Some(end) = call.exited() {
                break end;
            }
            assert!(began.elapsed() < SOON * 2, "the new call does not end: {}", call.said());
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(end.success(), "a new call goes through: {}", call.said());
    }
}

fn calls(pbx: &Kamailio) -> u64 {
    let status: serde_json::Value = serde_json::from_str(&pbx.verb("status")).expect("JSON");
    status["calls"].as_u64().unwrap_or_default()
}

fn long_drain(yaml: String) -> String {
    quick(yaml).replace("drain: 10s", "drain: 10m")
}

#[test]
fn a_call_holds_the_drain_while_new_calls_work_until_a_person_cuts_it() {
    let Some(mut scene) = serving(long_drain) else { return };
    let call = Call::up(&scene);
    primary_returns(&mut scene);
    assert_eq!(scene.robot.asked(&["failback"]).0, 0);
    let drains = |s: &serde_json::Value| s["state"] == "failing-back" && step(s, "drain")["state"] == "running";
    let status = scene.robot.wait("it drains and says why", |s| drains(s) && step(s, "drain")["error"].is_string());
    assert!(step(&status, "drain")["error"].as_str().unwrap_or_default().contains("1 call"), "{status:#}");
    call.another(scene.pbx.address());
    scene.phone.register(scene.pbx.address()).expect("phones are served while it drains");
    assert_eq!(scene.provider.contacts("carrier-user").len(), 1, "the trunk is up while it drains");
    assert!(drains(&scene.robot.status()), "the first call still holds it");
    let (code, said) = scene.robot.asked(&["failback"]);
    assert!(code == 5 && said.contains("--cut-calls") && said.contains("--undo"), "{said}");
    let (code, said) = scene.robot.asked(&["failback", "--cut-calls"]);
    assert_eq!(code, 0, "{said}");
    let status = scene.robot.wait_state("standby");
    assert_eq!(step(&status, "drain")["state"], "skipped");
    the_primary_has_everything_back(&scene, 2);
}

fn short_drain(yaml: String) -> String {
    quick(yaml).replace("drain: 10s", "drain: 1s")
}

/// A failback that has halted because a call does not end.
fn halted_at_drain() -> Option<(Scene, Call)> {
    let mut scene = serving(short_drain)?;
    let call = Call::up(&scene);
    primary_returns(&mut scene);
    assert_eq!(scene.robot.asked(&["failback"]).0, 0);
    scene.robot.wait_state("halted");
    Some((scene, call))
}

/// What a load balancer hears.
fn active(scene: &Scene) -> String {
    let socket = scene.robot.path("run/control.sock");
    let mut curl = std::process::Command::new("curl");
    curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket"]).arg(socket).arg("http://robot/active");
    String::from_utf8_lossy(&curl.output().expect("curl").stdout).into_owned()
}

#[test]
fn calls_that_do_not_end_halt_the_failback_and_a_person_goes_on() {
    let Some((scene, call)) = halted_at_drain() else { return };
    call.another(scene.pbx.address());
    assert_eq!(active(&scene), "200", "a load balancer keeps the phones where they are served");
    let answer = scene.robot.explain()["answer"].to_string();
    assert!(answer.contains("waits for a person") && answer.contains("drain"), "{answer}");
    wait_until("the mail of the halt came", SOON, || mails(&scene, "has halted at drain") == 1);
    let told = scene.mail.mails().iter().map(|m| m.read()["text"].to_string()).find(|t| t.contains("halted at drain"));
    let told = told.expect("its text");
    assert!(told.contains("pbx-b still serves the phones") && told.contains("pbx-failover continue"), "{told}");
    let (code, said) = scene.robot.asked(&["continue"]);
    assert_eq!(code, 0, "{said}");
    scene.robot.wait_state("failing-back");
    scene.robot.wait_state("halted");
    assert_eq!(active(&scene), "200", "`continue` waits once more, and cuts nobody off");
    let (code, said) = scene.robot.asked(&["failback", "--cut-calls"]);
    assert_eq!(code, 0, "{said}");
    scene.robot.wait_state("standby");
    the_primary_has_everything_back(&scene, 2);
    assert_eq!(active(&scene), "503");
}

#[test]
fn a_halted_failback_can_be_abandoned_to_the_primary() {
    let Some((scene, _call)) = halted_at_drain() else { return };
    let (code, said) = scene.robot.asked(&["abandon", "--to", "pbx-q"]);
    assert!(code == 5 && said.contains("not of this pair"), "{said}");
    let (code, said) = scene.robot.asked(&["abandon"]);
    assert_eq!(code, 0, "{said}");
    scene.robot.wait_state("standby");
    the_primary_has_everything_back(&scene, 2);
    assert!(scene.robot.history_text().contains("asked for abandon: accepted"), "{}", scene.robot.history_text());
}

#[test]
fn undo_takes_the_service_back_without_touching_a_call() {
    let Some(mut scene) = serving(long_drain) else { return };
    let _call = Call::up(&scene);
    primary_returns(&mut scene);
    let pid = std::fs::read_to_string(scene.pbx.path("pid")).expect("pid");
    assert_eq!(scene.robot.asked(&["failback"]).0, 0);
    scene.robot.wait("it drains", |s| s["state"] == "failing-back" && step(s, "drain")["state"] == "running");
    let (code, said) = scene.robot.asked(&["failback", "--undo"]);
    assert_eq!(code, 0, "{said}");
    scene.robot.wait_served();
    assert_eq!(std::fs::read_to_string(scene.pbx.path("pid")).expect("pid"), pid, "the PBX was not restarted");
    assert_eq!(calls(&scene.pbx), 1, "the call is still up");
    assert!(scene.epoch()[0].contains("epoch=2 holder=pbx-b"), "{:?}", scene.epoch());
    assert_eq!(scene.dns.query("pbx.lab.test", "A"), [BACKUP_NAMED]);
    assert_eq!(urls(&scene).iter().filter(|event| *event == "failback").count(), 0);
}

/// The last delta waits for a file, so that a test knows where the plan stands; so does the time-out.
pub fn slow_delta(yaml: String) -> String {
    let script = "[ -e @DIR@/first ] || { touch @DIR@/first; exit 0; }; until [ -e @DIR@/go ]; do sleep 0.05; done";
    quick(yaml).replace(
        "failback: { drain: 10s, wait_for_primary: 10s }",
        &format!(
            "failback: {{ drain: 10s, wait_for_primary: 1s, return_data: [sh, -c, \"{script}\"], return_limit: 1m }}"
        ),
    )
}

#[test]
fn a_primary_that_does_not_come_up_in_time_loses_the_service_again() {
    let Some(mut scene) = serving(slow_delta) else { return };
    primary_returns(&mut scene);
    assert_eq!(scene.robot.asked(&["failback"]).0, 0);
    scene.robot.wait("the last delta runs", |s| step(s, "return_delta")["state"] == "running");
    assert!(!scene.pbx.runs());
    scene.web.kill();
    std::fs::write(scene.robot.path("go"), "").expect("file");
    scene.robot.wait("active again", |s| s["state"] == "active" && s["plan"]["name"] == "takeover");
    let status = scene.robot.wait_served();
    assert!(status["plan"]["because"].as_str().unwrap_or_default().contains("did not come up in time"), "{status:#}");
    assert!(scene.epoch()[0].contains("epoch=3 holder=pbx-b"), "{:?}", scene.epoch());
    assert_eq!(scene.dns.query("pbx.lab.test", "A"), [BACKUP_NAMED]);
    scene.phone.register(scene.pbx.address()).expect("phones are served again");
    assert!(scene.robot.rows().contains(&53));
    assert_eq!(
        urls(&scene).iter().filter(|event| *event == "failback").count(),
        0,
        "nothing was said to have gone back"
    );
    assert_eq!(
        mails(&scene, "record of who may serve"),
        0,
        "the record is as it should be; nobody is sent to look at it"
    );
}
