//! What an administrator reads, and what happens to the service, when the zone's master fails: before the robot is
//! armed, during the claim, and after it. The adapters' own matrix is in tests/real.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::lab::dns::{self, Kind, Reaction, is_update};
use crate::lab::robot::{step, text};
use crate::lab::scene::{BACKUP_NAMED, PRIMARY_NAMED};
use crate::lab::small::{Ground, Small};
use crate::lab::{have, wait_until};

/// Something that must happen, happens within this time.
const SOON: Duration = Duration::from_secs(30);

fn possible(kind: Kind) -> bool {
    have(&["nginx", "setpriv", "faketime"]) && kind.installed()
}

macro_rules! on_each_server {
    ($($name:ident $body:expr;)*) => {$(
        mod $name {
            use super::*;
            fn on(kind: Kind) {
                if possible(kind) {
                    $body(kind);
                }
            }
            #[test] fn bind() { on(Kind::Bind) }
            #[test] fn knot() { on(Kind::Knot) }
            #[test] fn power_dns() { on(Kind::PowerDns) }
        }
    )*};
}

on_each_server! {
    a_fault_before_arming_disarms_with_one_line_of_advice before_arming;
    an_answer_lost_during_the_claim_is_settled_right answers_lost_during_the_claim;
    a_master_that_dies_at_the_claim_is_asked_for_ever_and_a_person_is_paged dead_at_the_claim;
    a_fault_after_the_claim_leaves_the_pbx_serving_and_dns_follows after_the_claim;
    a_clock_that_jumps_after_the_claim_is_named clock_after_the_claim;
}

fn because(status: &Value) -> String {
    status["armed"]["because"].to_string()
}

/// A robot whose wall clock is `shift` ahead; the file may be changed while it runs.
fn with_clock(small: &mut Small, shift: &str) {
    let file = small.robot.path("clock");
    std::fs::write(&file, shift).expect("file");
    let preload = format!("LD_PRELOAD={}", text(&dns::faketime_library()));
    let file = format!("FAKETIME_TIMESTAMP_FILE={}", text(&file));
    small.robot.under(&["env", &preload, &file, "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"]);
}

/// Starts it, and sees that it stays disarmed, and says so with these words, also when the primary dies.
fn stays_disarmed(ground: &mut Ground, small: &mut Small, words: &[&str]) {
    let says = |text: &str| words.iter().all(|word| text.contains(word));
    small.robot.start();
    let what = format!("disarmed with {words:?}");
    small.robot.wait(&what, |s| s["armed"]["ok"] == false && s["verdict"] == "primary-up" && says(&because(s)));
    wait_until("a person is told", SOON, || {
        small.was_told().iter().any(|told| told.contains("\"disarmed\"") && says(told))
    });
    ground.web.kill();
    small.robot.wait("suspect", |s| s["state"] == "suspect" && s["verdict"] == "primary-dead");
    let explained = small.robot.explain().to_string();
    assert!(says(&explained), "{explained}");
    assert!(!explained.contains(dns::SECRET) && !small.robot.log().contains(dns::SECRET));
    assert_eq!(small.pbx.verbs(), [] as [&str; 0]);
    assert_eq!((ground.named().as_str(), ground.epoch().as_str()), (PRIMARY_NAMED, ""));
    ground.web.start();
    small.robot.kill();
}

fn before_arming(kind: Kind) {
    let mut ground = Ground::new(kind);
    let (unsigned, power) = ("refuses without a signature", kind == Kind::PowerDns);

    let mut small = Small::on(&ground, |yaml| yaml.replace("name: robot", "name: stranger"));
    stays_disarmed(&mut ground, &mut small, &[if power { unsigned } else { "key" }, "stranger"]);

    let mut small = Small::on(&ground, |yaml| yaml);
    small.robot.secret("tsig.key", "d3Jvbmd3cm9uZ3dyb25nd3Jvbmd3cm9uZ3dyb25nd3I=");
    stays_disarmed(&mut ground, &mut small, &[if power { unsigned } else { "secret" }]);

    let mut small = Small::on(&ground, |yaml| yaml);
    with_clock(&mut small, "+10m");
    stays_disarmed(&mut ground, &mut small, &["set the clocks by NTP"]);

    // Something listens, and does not answer: dead. Then nobody listens.
    let mut small = Small::on(&ground, |yaml| yaml);
    small.proxy.react(|_, _| Reaction::Hang);
    stays_disarmed(&mut ground, &mut small, &["gave no answer within", "look at its log and load"]);

    let nobody = format!("127.0.0.1:{}", crate::lab::free_port());
    let mut small = Small::on(&ground, |yaml| yaml);
    let yaml = std::fs::read_to_string(small.robot.config()).expect("configuration");
    std::fs::write(small.robot.config(), yaml.replace(&small.proxy.addr.to_string(), &nobody)).expect("configuration");
    stays_disarmed(&mut ground, &mut small, &["refuses TCP connections; start it"]);
}

fn answers_lost_during_the_claim(kind: Kind) {
    let mut ground = Ground::new(kind);
    let after = Small::armed(&ground);
    // The first three updates are applied, and nobody hears of it: the claim, and both moves of the record.
    after.proxy.lose_answers(3);
    ground.web.kill();
    let status = after.robot.wait_served();
    assert!(ground.epoch().contains("epoch=1 holder=pbx-b"), "{}", ground.epoch());
    assert_eq!(
        (ground.named().as_str(), step(&status, "redirect_dns")["state"].as_str()),
        (BACKUP_NAMED, Some("done"))
    );
    drop(after);

    ground.renew();
    ground.web.start();
    let before = Small::armed(&ground);
    before.proxy.lose_updates(6);
    ground.web.kill();
    let status = before.robot.wait_served();
    assert!(ground.epoch().contains("epoch=1 holder=pbx-b"), "{}", ground.epoch());
    assert_eq!(
        (ground.named().as_str(), step(&status, "redirect_dns")["state"].as_str()),
        (BACKUP_NAMED, Some("done"))
    );
    assert_eq!(before.urls.received().len(), 1);
}

fn dead_at_the_claim(kind: Kind) {
    let mut ground = Ground::new(kind);
    let small = Small::armed(&ground);
    let (dead, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (switch, count) = (Arc::clone(&dead), Arc::clone(&seen));
    // It dies with the first update of the takeover in its hands.
    small.proxy.react(move |request, forward| {
        if is_update(request) {
            count.fetch_add(1, Ordering::SeqCst);
            if count.load(Ordering::SeqCst) == 1 {
                switch.store(true, Ordering::SeqCst);
            }
        }
        if switch.load(Ordering::SeqCst) { Reaction::Close } else { Reaction::Answer(forward(request)) }
    });
    ground.web.kill();
    let words = "ended the connection without an answer; look at its log";
    small.robot.wait("it is said at the claim", |s| {
        s["state"] == "taking-over" && s["plan"]["steps"][1]["error"].as_str().is_some_and(|why| why.contains(words))
    });
    wait_until("a person is paged", SOON, || {
        small.was_told().iter().any(|told| told.contains("claim is being tried again") && told.contains(words))
    });
    assert!(small.robot.explain().to_string().contains("claim"));
    assert!(!small.pbx.serves() && small.pbx.verbs().is_empty(), "nobody serves without the claim");
    assert_eq!(ground.epoch(), "");
    dead.store(false, Ordering::SeqCst);
    small.robot.wait_served();
    assert!(ground.epoch().contains("epoch=1 holder=pbx-b"), "{}", ground.epoch());
    assert_eq!(ground.named(), BACKUP_NAMED);
    assert_eq!(small.urls.received().len(), 1);
}

fn after_the_claim(kind: Kind) {
    let mut ground = Ground::new(kind);
    let small = Small::armed(&ground);
    let dead = Arc::new(AtomicBool::new(true));
    let (switch, mut updates) = (Arc::clone(&dead), 0);
    // The claim passes, and nothing after it.
    small.proxy.react(move |request, forward| {
        updates += usize::from(is_update(request));
        let claimed = updates > 1 || (updates == 1 && !is_update(request) && named_record(request));
        if claimed && switch.load(Ordering::SeqCst) { Reaction::Close } else { Reaction::Answer(forward(request)) }
    });
    ground.web.kill();
    let words = "ended the connection without an answer; look at its log";
    let says = |s: &Value| step(s, "redirect_dns")["error"].as_str().is_some_and(|why| why.contains(words));
    let status = small.robot.wait("the PBX serves, DNS waits", |s| s["state"] == "active" && says(s));
    assert_eq!(step(&status, "redirect_dns")["state"], "running");
    assert_eq!(status["degraded"], true);
    assert!(small.pbx.serves());
    assert_eq!(ground.named(), PRIMARY_NAMED);
    small.robot.wait("the rest does not wait for it", |s| step(s, "action_urls")["state"] == "done");
    dead.store(false, Ordering::SeqCst);
    let status = small.robot.wait_served();
    assert_eq!(ground.named(), BACKUP_NAMED);
    assert_eq!((&status["degraded"], &step(&status, "redirect_dns")["state"]), (&Value::Bool(false), &"done".into()));
    assert_eq!(small.pbx.verbs(), ["reload", "register_trunks"]);
}

/// Whether it asks for the record that moves.
fn named_record(request: &[u8]) -> bool {
    request.windows(8).any(|label| label == b"\x03pbx\x04lab") && !request.windows(13).any(|l| l == b"_pbx-failover")
}

fn clock_after_the_claim(kind: Kind) {
    let mut ground = Ground::new(kind);
    let mut small = Small::on(&ground, |yaml| yaml);
    with_clock(&mut small, "+0");
    small.robot.start();
    small.robot.wait_armed();
    // The moment after the claim is held open by a slow start of the PBX.
    std::fs::write(small.pbx.path("slow"), "").expect("file");
    ground.web.kill();
    wait_until("the start is on its way", SOON, || small.pbx.verbs().contains(&"reload".to_owned()));
    std::fs::write(small.robot.path("clock"), "+10m").expect("file");
    std::fs::remove_file(small.pbx.path("slow")).expect("file");
    let says = |s: &Value| step(s, "redirect_dns")["error"].as_str().is_some_and(|why| why.contains("clocks by NTP"));
    let status = small.robot.wait("the PBX serves, DNS waits", |s| s["state"] == "active" && says(s));
    assert!(status["degraded"] == true && small.pbx.serves());
    assert_eq!(ground.named(), PRIMARY_NAMED);
    std::fs::write(small.robot.path("clock"), "+0").expect("file");
    small.robot.wait_served();
    assert_eq!(ground.named(), BACKUP_NAMED);
}
