//! Who may serve, when others write into the zone: the epoch's record and the A record, in standby and while serving.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::dns::{self, Kind, Reaction, is_update, without_prerequisites};
use crate::lab::http::{Receiver, Reply};
use crate::lab::scene::{BACKUP_NAMED, PRIMARY_NAMED};
use crate::lab::small::{Ground, Small};
use crate::lab::{have, wait_until};

/// Something that must happen, happens within this time.
const SOON: Duration = Duration::from_secs(30);

fn possible() -> bool {
    have(&["nginx", "setpriv"]) && Kind::Bind.installed()
}

/// A record as a person or another node would write it.
fn record(turn: u64, holder: &str) -> String {
    format!("\"v=1 epoch={turn} holder={holder} id=01ARZ3NDEKTSV4RRFFQ69G5FAV since=2026-11-20T10:00:00Z\"")
}

fn write(ground: &Ground, records: &[&str]) {
    ground.dns.set(dns::EPOCH, "TXT", records);
}

fn because(status: &Value) -> String {
    status["armed"]["because"].to_string()
}

fn active(ground: &mut Ground) -> Small {
    let small = Small::armed(ground);
    ground.web.kill();
    small.robot.wait_served();
    small
}

#[test]
fn in_standby_a_deleted_lowered_doubled_or_foreign_record_disarms_with_words() {
    if !possible() {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    write(&ground, &[&record(7, "pbx-a")]);
    let mut small = Small::armed(&ground);
    small.robot.stop();
    let (two, lower, clone) = (record(7, "pbx-x"), record(3, "pbx-a"), record(8, "pbx-b"));
    let stranger = record(8, "pbx-x");
    let cases: [(&[&str], &str); 6] = [
        (&[], "there is no record, but turn 7 was seen"),
        (&[&lower], "turn 3 of pbx-a stands there, but turn 7 was seen"),
        (&[&record(7, "pbx-a"), &two], "2 records stand there; delete all but the true one"),
        (&["\"v=9 epoch=8\""], "unknown version"),
        (&[&stranger], "the service is held by pbx-x, which is neither pbx-b nor pbx-a"),
        (&[&clone], "a host named pbx-b whose claim 01ARZ3NDEKTSV4RRFFQ69G5FAV is not ours"),
    ];
    for (records, words) in cases {
        write(&ground, records);
        // A start reads at once; a running robot in standby reads every quarter of a minute.
        small.robot.start();
        small.robot.wait(words, |status| because(status).contains(words));
        ground.web.kill();
        small.robot.wait("suspect", |s| s["state"] == "suspect" && s["verdict"] == "primary-dead");
        let explained = small.robot.explain().to_string();
        assert!(explained.contains(words), "{explained}");
        assert_eq!(ground.named(), PRIMARY_NAMED);
        assert_eq!(small.pbx.verbs(), [] as [&str; 0], "{words}");
        let (code, said) = small.robot.asked(&["takeover"]);
        assert!(code == 5 && said.contains(words) && said.contains("--without-claim"), "{code} {said}");
        ground.web.start();
        small.robot.stop();
    }
    assert!(small.was_told().iter().any(|told| told.contains("disarmed") && told.contains("turn 7 was seen")));
}

#[test]
fn while_serving_a_deleted_or_lowered_record_is_put_back_and_a_person_is_paged() {
    if !possible() {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    write(&ground, &[&record(7, "pbx-a")]);
    let small = active(&mut ground);
    let ours = ground.epoch();
    assert!(ours.contains("epoch=8 holder=pbx-b"), "{ours}");
    small.pbx.forget();
    let old = record(7, "pbx-a");
    for records in [&[] as &[&str], &[&old]] {
        write(&ground, records);
        wait_until("the record is put back", SOON, || ground.epoch() == ours);
    }
    let told = || small.was_told().iter().filter(|told| told.contains("epoch-trouble")).count();
    wait_until("a person is paged", SOON, || told() >= 1);
    assert!(told() <= 2, "{:?}", small.was_told());
    assert_eq!(small.robot.state(), "active");
    assert!(small.pbx.serves() && small.pbx.verbs().is_empty(), "{:?}", small.pbx.verbs());
    assert_eq!(ground.named(), BACKUP_NAMED);
}

#[test]
fn while_serving_a_doubled_record_is_told_and_nobody_steps_down() {
    if !possible() {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    let small = active(&mut ground);
    let ours = format!("\"{}\"", ground.epoch());
    write(&ground, &[&ours, &record(9, "pbx-x")]);
    wait_until("a person is told", SOON, || {
        small.was_told().iter().any(|told| told.contains("epoch-trouble") && told.contains("2 records stand there"))
    });
    assert_eq!(small.robot.state(), "active");
    assert!(small.pbx.serves());
    write(&ground, &[&ours]);
    small.robot.wait("the epoch is read again", |status| status["epoch"]["holder"] == "pbx-b");
    assert_eq!(small.robot.state(), "active");
}

#[test]
fn while_serving_a_newer_turn_of_another_makes_it_passive_and_nothing_else() {
    if !possible() {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    let small = active(&mut ground);
    small.pbx.forget();
    small.urls.take();
    ground.web.start();
    small.robot.wait("the primary is up", |status| status["verdict"] == "primary-up");
    write(&ground, &[&record(2, "pbx-a")]);
    small.robot.wait("passive", |s| {
        s["state"] != "active" && s["plan"]["name"] == "retreat" && s["plan"]["ended"].is_string()
    });
    assert_eq!(small.pbx.verbs(), ["passive"]);
    assert_eq!(ground.named(), BACKUP_NAMED, "the records belong to who serves now");
    assert_eq!(ground.epoch(), record(2, "pbx-a").replace('"', ""));
    assert!(small.urls.received().is_empty());
    wait_until("a person is told", SOON, || small.was_told().iter().any(|told| told.contains("epoch-trouble")));
}

#[test]
fn a_start_that_is_still_on_its_way_is_waited_for_before_the_stop_that_follows_it() {
    if !possible() {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    let small = Small::armed(&ground);
    std::fs::write(small.pbx.path("slow"), "").expect("file");
    ground.web.kill();
    wait_until("the start is on its way", SOON, || small.pbx.verbs().contains(&"reload".to_owned()));
    ground.web.start();
    small.robot.wait("the primary is up", |status| status["verdict"] == "primary-up");
    write(&ground, &[&record(2, "pbx-a")]);
    small.robot.wait("it retreats", |status| status["plan"]["name"] == "retreat");
    std::fs::remove_file(small.pbx.path("slow")).expect("file");
    small.robot.wait("passive", |s| s["plan"]["name"] == "retreat" && s["plan"]["ended"].is_string());
    assert!(!small.pbx.serves(), "{:?}", small.pbx.verbs());
    assert_eq!(small.pbx.verbs(), ["reload", "passive"]);
}

#[test]
fn an_action_url_that_waits_is_not_sent_any_more_when_another_holds_the_service() {
    if !possible() {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    let mut small = Small::armed(&ground);
    small.robot.stop();
    let slow = Receiver::plain(&[Reply::Status(503)]);
    let yaml = std::fs::read_to_string(small.robot.config()).expect("configuration");
    let yaml = yaml.replace(&format!(":{}/", small.urls.port), &format!(":{}/", slow.port));
    std::fs::write(small.robot.config(), yaml).expect("configuration");
    small.robot.start();
    small.robot.wait_armed();
    ground.web.kill();
    wait_until("it was tried", SOON, || !slow.received().is_empty());
    write(&ground, &[&record(2, "pbx-a")]);
    let tried = slow.received().len();
    wait_until("it is given up", SOON, || small.robot.log().contains("not sent: it belongs to turn 1, and pbx-a"));
    assert_eq!(slow.received().len(), tried);
}

#[test]
fn somebody_elses_change_of_the_a_record_is_not_overwritten() {
    if !possible() {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    let small = Small::armed(&ground);
    ground.dns.set("pbx.lab.test", "A", &["10.77.0.99"]);
    ground.web.kill();
    let status = small.robot.wait_served();
    let redirect = crate::lab::robot::step(&status, "redirect_dns");
    let error = redirect["error"].as_str().unwrap_or_default();
    assert!(
        redirect["state"] == "failed" && error.contains("somebody changed pbx.lab.test A to 10.77.0.99"),
        "{redirect}"
    );
    assert!(error.contains("set it to 10.77.0.12 by hand"), "{error}");
    assert_eq!(ground.named(), "10.77.0.99");
    assert_eq!(status["degraded"], true);
    assert!(small.pbx.serves());
    wait_until("a person is told", SOON, || {
        small.was_told().iter().any(|told| told.contains("step-given-up") && told.contains("somebody changed"))
    });
    // Home again: the person's value is left there, too.
    ground.web.start();
    small.robot.wait("the primary is up", |status| status["verdict"] == "primary-up");
    assert_eq!(small.robot.asked(&["failback"]).0, 0);
    small.robot.wait("handed back", |s| s["state"] == "standby" && s["plan"]["ended"].is_string());
    assert_eq!(ground.named(), "10.77.0.99");
}

#[test]
fn a_server_that_does_not_compare_is_refused_with_what_to_do() {
    if !possible() {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    let mut small = Small::on(&ground, |yaml| yaml);
    small.proxy.react(|request, forward| Reaction::Answer(without_prerequisites(request, forward)));
    small.robot.start();
    let words = "use a master that checks prerequisites (RFC 2136 §3.2)";
    small.robot.wait("refused", |s| because(s).contains(words) && s["verdict"] == "primary-up");
    ground.web.kill();
    small.robot.wait("suspect", |s| s["state"] == "suspect" && s["verdict"] == "primary-dead");
    assert!(small.robot.explain().to_string().contains(words));
    let (code, said) = small.robot.asked(&["takeover"]);
    assert!(code == 5 && said.contains(words), "{code} {said}");
    assert!(small.pbx.verbs().is_empty() && ground.epoch().is_empty());
    let checked = small.robot.cli(&["check"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    let said = said.split_whitespace().collect::<Vec<_>>().join(" "); // it is wrapped for a phone
    assert!(!checked.status.success() && said.contains(words), "{said}");
}

/// Both robots' first updates leave at the same instant.
fn let_both_start_at_once(one: &Small, other: &Small) {
    let ready = Arc::new(AtomicUsize::new(0));
    for small in [one, other] {
        let (ready, mut held) = (Arc::clone(&ready), false);
        small.proxy.react(move |request, forward| {
            if is_update(request) && !std::mem::replace(&mut held, true) {
                ready.fetch_add(1, Ordering::SeqCst);
                let start = Instant::now();
                while ready.load(Ordering::SeqCst) < 2 && start.elapsed() < SOON {
                    std::hint::spin_loop();
                }
            }
            Reaction::Answer(forward(request))
        });
    }
}

#[test]
fn of_two_robots_with_one_name_and_one_zone_one_wins_and_the_other_stays_passive_and_says_so() {
    if !possible() {
        return;
    }
    let mut ground = Ground::new(Kind::Bind);
    let mut first = 0;
    for round in 1..=10 {
        ground.renew();
        ground.web.start();
        let (one, other) = (Small::armed(&ground), Small::armed(&ground));
        let_both_start_at_once(&one, &other);
        ground.web.kill();
        let settled = |small: &Small| {
            small.robot.wait("settled", |s| {
                let retreated = s["plan"]["name"] == "retreat" && s["plan"]["ended"].is_string();
                retreated || (s["state"] == "active" && s["plan"]["ended"].is_string())
            })
        };
        let states = [&one, &other].map(|small| settled(small)["state"] == "active");
        assert!(states[0] != states[1], "round {round}: {states:?}");
        let (winner, loser) = if states[0] { (&one, &other) } else { (&other, &one) };
        first += usize::from(states[0]);
        assert!(winner.pbx.serves() && !loser.pbx.serves(), "round {round}");
        assert_eq!(loser.pbx.verbs(), ["passive"], "round {round}");
        let id = winner.robot.status()["epoch"]["id"].clone();
        assert!(ground.epoch().contains(&format!("epoch=1 holder=pbx-b id={}", id.as_str().unwrap_or("?"))));
        assert_eq!(ground.named(), BACKUP_NAMED);
        let told = loser.robot.status();
        assert!(because(&told).contains("a host named pbx-b whose claim"), "round {round}: {told:#}");
        assert!(loser.robot.rows().iter().any(|row| matches!(row, 20 | 32)), "round {round}: {:?}", loser.robot.rows());
        assert!(loser.urls.received().is_empty() && winner.urls.received().len() == 1, "round {round}");
    }
    eprintln!("the first robot won {first} of 10");
}
