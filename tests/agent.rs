//! The door of an agent and of an observer, and those who ask at it: over real TLS on loopback, with good and bad tokens,
//! certificates, seals, clocks and numbers.

#[path = "agent/files.rs"]
mod files;
#[path = "agent/keys.rs"]
mod keys;
#[path = "agent/rig.rs"]
mod rig;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use pbx_failover::adapters::peer::{Host, Observer};
use pbx_failover::control::agent::{AGENT_CONNECTIONS_MAX, HANDSHAKE_MAX, Orders};
use pbx_failover::host::sequence::Sequence;
use pbx_failover::ports::{Peer as _, Probe as _};
use pbx_failover::units::beat::{Ordered, PROTOCOL, Speaker, ViewTold};
use pbx_failover::units::{Beat, Heard, PeerReading, PlanId, ProbeAnswer, Sees, StepOutcome, StopOrder};
use pbx_failover::wire::sealed::{self, Purpose, SEALED_BYTES_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::rig::{Papers, Rig, TOKEN, stranger};

fn heard(reading: PeerReading) -> Heard {
    match reading {
        PeerReading::Heard(heard) => *heard,
        other => panic!("not heard: {other:?}"),
    }
}

fn refused(reading: PeerReading) -> String {
    match reading {
        PeerReading::Refused(why) => why,
        other => panic!("not refused: {other:?}"),
    }
}

fn order() -> StopOrder {
    StopOrder { plan: plan(), drain_s: 60, for_s: 600, reason: "a switchover".to_owned() }
}

fn plan() -> PlanId {
    "01KAV5Q5B2H7Z0M3R4T6W8Y9XA".parse().expect("a plan")
}

#[tokio::test]
async fn two_hosts_with_one_token_hear_each_other() {
    let rig = Rig::new();
    let at = rig.open(Orders::Taken).await;
    let host = rig.asks(at);
    let first = heard(host.exchange(&Rig::ours()).await);
    let second = heard(host.exchange(&Rig::ours()).await);
    assert_eq!(first.beat.node.as_str(), "pbx-a");
    assert!(second.beat.sequence > first.beat.sequence, "{first:?} {second:?}");
    assert!(first.drift.abs() < SignedDuration::from_secs(1), "{first:?}");
    let asked = rig.clerk.heard.lock().unwrap().clone();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].beat.node.as_str(), "pbx-b");
    assert!(asked[1].beat.sequence > asked[0].beat.sequence);
    assert!(asked.iter().all(|asker| asker.beat.nonce.as_ref().is_some_and(|nonce| nonce.len() == 32)));
}

#[tokio::test]
async fn an_order_comes_through_once_and_its_outcome_back() {
    let rig = Rig::new();
    let at = rig.open(Orders::Taken).await;
    let host = rig.asks(at);
    assert_eq!(host.stop(&order()).await, StepOutcome::done("stopped 1"));
    assert_eq!(host.stop(&order()).await, StepOutcome::done("stopped 2"));
    assert_eq!(host.resume(plan()).await, StepOutcome::done("resumed"));
    assert_eq!(rig.clerk.orders.lock().unwrap()[0], order());
}

#[tokio::test]
async fn an_observer_takes_no_orders() {
    let rig = Rig::new();
    let at = rig.open(Orders::NotHere).await;
    let told = rig.asks(at).stop(&order()).await;
    assert!(matches!(&told, StepOutcome::Failed(why) if why.contains("HTTP 404")), "{told:?}");
    assert_eq!(rig.clerk.stops.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_wrong_token_is_told_to_copy_the_right_one_and_learns_nothing() {
    let rig = Rig::new();
    let at = rig.open(Orders::Taken).await;
    rig.write("asker.token", "another token, of the same length");
    let why = refused(rig.asks(at).exchange(&Rig::ours()).await);
    assert!(why.contains("401") && why.contains("copy agent.token"), "{why}");
    let stopped = rig.asks(at).stop(&order()).await;
    assert!(matches!(&stopped, StepOutcome::Failed(why) if why.contains("401")), "{stopped:?}");
    for path in ["/v1/beat", "/v1/stop", "/nowhere"] {
        for token in ["", "Bearer", "Bearer x", "Basic eDp5", &format!("Bearer {TOKEN}x")] {
            let (status, body) = rig.says(at, path, token, "").await;
            assert_eq!(status, 401, "{path} {token}: {body}");
            assert!(!body.contains("pbx-a") && body.lines().count() == 1, "{body}");
        }
    }
    assert!(rig.clerk.heard.lock().unwrap().is_empty());
    rig.write("asker.token", TOKEN);
    heard(rig.asks(at).exchange(&Rig::ours()).await);
}

#[tokio::test]
async fn another_certificate_is_refused_by_its_fingerprint_before_the_token_is_sent() {
    let rig = Rig::new();
    let at = rig.open(Orders::Taken).await;
    let other = Papers::new(&["pbx-a"], 2099);
    rig.write("pinned.crt", &other.certificate);
    let why = refused(rig.asks(at).exchange(&Rig::ours()).await);
    let (seen, expected) = (rig.papers.fingerprint(), other.fingerprint());
    assert!(why.contains(&seen) && why.contains(&expected) && why.contains("agent.crt"), "{why}");
    // Not pinned, it is one that nobody vouches for.
    let why = refused(rig.asks_unpinned(at).exchange(&Rig::ours()).await);
    assert!(why.contains("signed by nobody") && why.contains("pin it"), "{why}");
    assert!(rig.clerk.heard.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_expired_certificate_for_another_name_is_taken_when_it_is_the_pinned_one() {
    let rig = Rig::with(Papers::new(&["elsewhere.example"], 2020));
    let at = rig.open(Orders::Taken).await;
    let host = rig.asks(at);
    heard(host.exchange(&Rig::ours()).await);
    let findings = host.findings("peer");
    assert!(findings.iter().any(|finding| finding.text.contains("expired on 2020-01-01")), "{findings:?}");
    let rig = Rig::new();
    assert!(rig.asks(at).findings("peer").is_empty());
}

#[tokio::test]
async fn a_question_that_is_forged_replayed_skewed_or_of_another_protocol_is_refused_each_with_its_line() {
    let rig = Rig::new();
    let at = rig.open(Orders::Taken).await;
    let good = Rig::question();
    let (status, answer) = rig.speaks(at, "/v1/beat", &Rig::sealed(&good)).await;
    assert_eq!(status, 200, "{answer}");
    let answer = sealed::open(&answer, Purpose::BeatAnswer, TOKEN).expect("sealed").to_owned();
    assert!(answer.contains(good.nonce.as_deref().unwrap()), "{answer}");

    let later = |good: &Beat, n: u64| Beat { sequence: good.sequence + n, ..good.clone() };
    let (hour, text) = (SignedDuration::from_hours(1), |beat: &Beat| serde_json::to_string(beat).unwrap());
    let stranger = Beat { node: "pbx-x".parse().unwrap(), ..later(&good, 1) };
    let old = Beat { protocol: PROTOCOL + 1, version: "9.9.9".to_owned(), ..later(&good, 1) };
    let other_form = sealed::seal(r#"{"protocol":2,"version":"9.9.9","new":[]}"#, Purpose::BeatQuestion, TOKEN);
    let cases = [
        (Rig::sealed(&good), 409, "sent again"),
        (Rig::sealed(&Beat { sequence: good.sequence - 1, ..good.clone() }), 409, "sent again"),
        (Rig::sealed(&Beat { time: good.time - hour, ..later(&good, 1) }), 409, "s ahead of this host's"),
        (Rig::sealed(&Beat { time: good.time + hour, ..later(&good, 1) }), 409, "s behind this host's"),
        (Rig::sealed(&stranger), 409, "told by pbx-x, not by pbx-b"),
        (Rig::sealed(&old), 409, "protocol 2 (version 9.9.9), this program speaks 1"),
        (other_form, 409, "protocol 2 (version 9.9.9)"),
        (sealed::seal("{}", Purpose::BeatQuestion, TOKEN), 409, "cannot be read"),
        (sealed::seal(&text(&later(&good, 1)), Purpose::BeatQuestion, "another token"), 403, "seal is not ours"),
        (sealed::seal(&text(&later(&good, 1)), Purpose::BeatAnswer, TOKEN), 403, "seal is not ours"),
        (text(&later(&good, 1)), 403, "bears no seal"),
        (String::new(), 403, "bears no seal"),
        ("x".repeat(SEALED_BYTES_MAX + 1), 413, "length limit"),
    ];
    for (body, status, line) in cases {
        let (code, told) = rig.speaks(at, "/v1/beat", &body).await;
        assert_eq!(code, status, "{line}: {told}");
        assert!(told.contains(line) && told.lines().count() == 1, "{line}: {told}");
    }
    assert_eq!(rig.clerk.heard.lock().unwrap().len(), 1, "only the first was taken");
    let (status, told) = rig.speaks(at, "/v1/beat", &Rig::sealed(&later(&good, 1))).await;
    assert_eq!(status, 200, "what was refused has not moved the number: {told}");
}

#[tokio::test]
async fn an_order_that_is_replayed_or_overtaken_by_its_end_is_harmless() {
    let rig = Rig::new();
    let at = rig.open(Orders::Taken).await;
    let beat = Rig::question();
    let numbered = |n: u64| Beat { sequence: beat.sequence + n, ..beat.clone() };
    let stop = |n, purpose| {
        let text = serde_json::to_string(&Ordered { beat: numbered(n), order: order() }).unwrap();
        sealed::seal(&text, purpose, TOKEN)
    };
    let (status, _) = rig.speaks(at, "/v1/stop", &stop(1, Purpose::Stop)).await;
    assert_eq!((status, rig.clerk.stops.load(Ordering::Relaxed)), (200, 1));
    let (status, told) = rig.speaks(at, "/v1/stop", &stop(1, Purpose::Stop)).await;
    assert!(status == 409 && told.contains("sent again"), "{told}");
    let resume = serde_json::to_string(&Ordered { beat: numbered(3), order: plan() }).unwrap();
    let (status, _) = rig.speaks(at, "/v1/resume", &sealed::seal(&resume, Purpose::Resume, TOKEN)).await;
    assert_eq!(status, 200);
    let (status, told) = rig.speaks(at, "/v1/stop", &stop(2, Purpose::Stop)).await;
    assert!(status == 409, "a stop that comes after it was taken back: {told}");
    let (status, told) = rig.speaks(at, "/v1/stop", &stop(4, Purpose::Resume)).await;
    assert!(status == 403, "{told}");
    let late = Beat { time: beat.time - SignedDuration::from_hours(1), ..numbered(5) };
    let late = serde_json::to_string(&Ordered { beat: late, order: order() }).unwrap();
    let (status, told) = rig.speaks(at, "/v1/stop", &sealed::seal(&late, Purpose::Stop, TOKEN)).await;
    assert!(status == 409 && told.contains("s ahead of this host's"), "{told}");
    assert_eq!(rig.clerk.stops.load(Ordering::Relaxed), 1);
    // Orders and beats are numbered apart: a beat that left earlier is still heard.
    let (status, told) = rig.speaks(at, "/v1/beat", &Rig::sealed(&beat)).await;
    assert_eq!(status, 200, "{told}");
}

#[tokio::test]
async fn an_order_that_was_heard_before_a_restart_is_refused_after_it_and_a_new_one_is_taken() {
    let rig = Rig::new();
    let at = rig.open(Orders::Taken).await;
    let sealed_stop = || {
        let beat = Beat { sequence: u64::MAX / 2, ..Rig::question() };
        sealed::seal(&serde_json::to_string(&Ordered { beat, order: order() }).unwrap(), Purpose::Stop, TOKEN)
    };
    let captured = sealed_stop();
    let (status, told) = rig.speaks(at, "/v1/stop", &captured).await;
    assert_eq!(status, 200, "{told}");
    let again = rig.open(Orders::Taken).await;
    let (status, told) = rig.speaks(again, "/v1/stop", &captured).await;
    assert!(status == 503 && told.contains("before this agent's start") && told.contains("sent again"), "{told}");
    assert_eq!(rig.clerk.stops.load(Ordering::Relaxed), 1);
    let (status, told) = rig.speaks(again, "/v1/stop", &sealed_stop()).await;
    assert_eq!((status, rig.clerk.stops.load(Ordering::Relaxed)), (200, 2), "{told}");
}

#[tokio::test]
async fn a_check_that_asks_while_the_daemon_does_disturbs_neither() {
    let rig = Rig::new();
    let at = rig.open(Orders::Taken).await;
    // A clock that was set back: both go on from what was told before, and would from one file give the same numbers.
    let ahead = (jiff::Timestamp::now() + SignedDuration::from_hours(1)).as_microsecond();
    for file in ["beat-sequence", "beat-sequence-check"] {
        rig.write(file, &ahead.to_string());
    }
    let speaks = |speaker| {
        let sequence = Arc::new(Sequence::of(speaker, rig.dir.path()));
        Host::agent(&rig.config(), &rig.peer(at), sequence)
    };
    let daemon = speaks(Speaker::Daemon);
    for _ in 0..10 {
        // Each check is a process of its own.
        let check = speaks(Speaker::Check);
        let ours = Rig::ours();
        let (one, other) = tokio::join!(daemon.exchange(&ours), check.exchange(&ours));
        heard(one);
        heard(other);
        heard(daemon.exchange(&ours).await);
    }
}

#[tokio::test]
async fn an_answer_that_is_forged_replayed_skewed_or_of_another_protocol_is_refused_each_with_its_line() {
    let rig = Rig::new();
    let good = Beat { sequence: 7, ..Beat::bare("pbx-a".parse().unwrap(), "primary", jiff::Timestamp::now()) };
    let hour = SignedDuration::from_hours(1);
    let with = |change: fn(&mut Beat)| {
        let mut beat = good.clone();
        change(&mut beat);
        beat
    };
    let future = Beat { time: good.time + hour, ..good.clone() };
    let past = Beat { time: good.time - hour, ..good.clone() };
    let cases = [
        (future, Purpose::BeatAnswer, TOKEN, "s ahead of this host's"),
        (past, Purpose::BeatAnswer, TOKEN, "s behind this host's"),
        (with(|beat| beat.protocol = 2), Purpose::BeatAnswer, TOKEN, "it speaks protocol 2"),
        (with(|beat| beat.node = "pbx-x".parse().unwrap()), Purpose::BeatAnswer, TOKEN, "told by pbx-x, not by pbx-a"),
        (good.clone(), Purpose::BeatAnswer, "another token", "its seal is not ours"),
        (good.clone(), Purpose::BeatQuestion, TOKEN, "its seal is not ours"),
        (good.clone(), Purpose::BeatFile, TOKEN, "its seal is not ours"),
    ];
    for (beat, purpose, token, line) in cases {
        let at = rig.answers(move |nonce| {
            let beat = Beat { nonce: Some(nonce.to_owned()), ..beat.clone() };
            (200, sealed::seal(&serde_json::to_string(&beat).unwrap(), purpose, token))
        });
        let why = refused(rig.asks(at.await).exchange(&Rig::ours()).await);
        assert!(why.contains(line), "{line}: {why}");
    }
    let replayed = Beat { nonce: Some("0".repeat(32)), ..good.clone() };
    let replayed = sealed::seal(&serde_json::to_string(&replayed).unwrap(), Purpose::BeatAnswer, TOKEN);
    let at = rig.answers(move |_| (200, replayed.clone())).await;
    let why = refused(rig.asks(at).exchange(&Rig::ours()).await);
    assert!(why.contains("sent again"), "{why}");
    let at = rig.answers(|_| (200, "x".repeat(SEALED_BYTES_MAX * 4))).await;
    let why = refused(rig.asks(at).exchange(&Rig::ours()).await);
    assert!(why.contains("longer than"), "{why}");
    let at = rig.answers(|_| (302, String::new())).await;
    let why = refused(rig.asks(at).exchange(&Rig::ours()).await);
    assert!(why.contains("HTTP 302"), "{why}");
    let at = rig.answers(|_| (503, String::new())).await;
    let reading = rig.asks(at).exchange(&Rig::ours()).await;
    assert!(matches!(&reading, PeerReading::Silent(why) if why.contains("503")), "{reading:?}");
}

#[tokio::test]
async fn what_came_of_an_order_is_not_known_when_its_answer_is_not_believed() {
    let rig = Rig::new();
    let at = rig.answers(|_| (200, "stopped".to_owned())).await;
    let told = rig.asks(at).stop(&order()).await;
    assert!(matches!(&told, StepOutcome::Unknown(why) if why.contains("may have been obeyed")), "{told:?}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let told = rig.asks(nobody).stop(&order()).await;
    assert!(matches!(&told, StepOutcome::Failed(why) if why.contains("connection refused")), "{told:?}");
    let reading = rig.asks(nobody).exchange(&Rig::ours()).await;
    assert!(matches!(&reading, PeerReading::Silent(why) if why.contains("connection refused")), "{reading:?}");
}

#[tokio::test]
async fn an_observers_view_is_up_down_or_none() {
    let rig = Rig::new();
    let at = rig.open(Orders::NotHere).await;
    let sequence = Arc::new(Sequence::open(rig.dir.path()));
    let observer = Observer::new(&rig.config(), &rig.peer(at), sequence);
    let says = async |role: &str, view: Option<ViewTold>| {
        *rig.clerk.tells.lock().unwrap() = (role.to_owned(), view);
        observer.ask().await.answer
    };
    let view = |sees, age_ms| Some(ViewTold { sees, because: "web: 200 OK".to_owned(), age_ms });
    let answer = says("observer", view(Sees::Alive, 100)).await;
    assert_eq!(answer, ProbeAnswer::up("pbx-a: web: 200 OK"));
    assert!(matches!(says("observer", view(Sees::Down, 100)).await, ProbeAnswer::Down(_)));
    let none = [
        (says("observer", view(Sees::Alive, 60_000)).await, "60 s old"),
        (says("observer", view(Sees::Nothing, 0)).await, "web"),
        (says("observer", None).await, "no view"),
        (says("primary", view(Sees::Alive, 0)).await, "is no observer, its role is primary"),
    ];
    for (answer, line) in none {
        assert!(matches!(&answer, ProbeAnswer::Unknown(why) if why.contains(line)), "{line}: {answer:?}");
    }
    rig.write("asker.token", "another token");
    let answer = observer.ask().await.answer;
    assert!(matches!(&answer, ProbeAnswer::Unknown(why) if why.contains("401")), "{answer:?}");
}

#[tokio::test]
async fn a_hundred_idle_connections_and_more_do_not_keep_a_good_one_out() {
    let rig = Rig::new();
    let at = rig.open(Orders::Taken).await;
    let mut idle = Vec::new();
    for n in 0..AGENT_CONNECTIONS_MAX + 100 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        if n % 3 == 1 {
            stream.write_all(b"\x16\x03\x01").await.unwrap();
        }
        idle.push(stream);
    }
    let began = Instant::now();
    heard(rig.asks(at).exchange(&Rig::ours()).await);
    assert!(began.elapsed() < HANDSHAKE_MAX / 2, "{:?}", began.elapsed());
    // The first ones have made room; the last ones end with their handshake's time.
    let ended = async |stream: &mut TcpStream| {
        let mut byte = [0; 1];
        tokio::time::timeout(HANDSHAKE_MAX * 2, stream.read(&mut byte)).await.is_ok()
    };
    assert!(ended(&mut idle[0]).await);
    assert!(ended(idle.last_mut().unwrap()).await);
}

#[tokio::test]
async fn connections_under_tls_that_never_show_the_token_make_room_as_well() {
    let rig = Rig::new();
    let at = rig.open(Orders::Taken).await;
    let mut idle = Vec::new();
    for _ in 0..AGENT_CONNECTIONS_MAX {
        let mut stream = stranger(at, &rig.papers).await;
        stream.write_all(b"POST /v1/beat HTTP/1.1\r\nHost: x\r\nContent-Le").await.unwrap();
        stream.flush().await.unwrap();
        idle.push(stream);
    }
    let began = Instant::now();
    heard(rig.asks(at).exchange(&Rig::ours()).await);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(3), idle[0].read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "the oldest one made room");
}

#[tokio::test]
async fn garbage_under_tls_leaves_the_door_open() {
    let rig = Rig::new();
    let at = rig.open(Orders::Taken).await;
    let good = Rig::sealed(&Rig::question());
    let mut rng = fastrand::Rng::with_seed(0xD00F);
    for _ in 0..300 {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..=rng.usize(..3) {
            let place = rng.usize(..bytes.len());
            // Never the byte that was there: a text that came out unchanged would rightly be taken.
            bytes[place] ^= rng.u8(1..);
        }
        if bytes == good.as_bytes() {
            continue;
        }
        let (status, told) = rig.speaks_bytes(at, "/v1/beat", bytes).await;
        assert!([400, 403].contains(&status), "{status}: {told}");
    }
    assert!(rig.clerk.heard.lock().unwrap().is_empty());
    heard(rig.asks(at).exchange(&Rig::ours()).await);
}

#[tokio::test]
async fn the_heartbeat_file_that_one_host_writes_the_other_believes_and_an_old_copy_it_does_not() {
    let rig = Rig::new();
    let (file, probe) = rig.heartbeat();
    let told = async || probe.ask().await.answer;
    assert!(matches!(told().await, ProbeAnswer::Down(why) if why.contains("does not exist")));
    file.write(&Rig::tells()).await.expect("written");
    assert!(matches!(told().await, ProbeAnswer::Up { seen, warning: None } if seen.starts_with("0 s old")));
    let path = rig.dir.path().join("working/beat");
    let old = std::fs::read_to_string(&path).unwrap();
    assert!(!old.contains(TOKEN));
    file.write(&Rig::tells()).await.expect("written");
    assert!(matches!(told().await, ProbeAnswer::Up { .. }));
    std::fs::write(&path, &old).unwrap();
    assert!(matches!(told().await, ProbeAnswer::Down(why) if why.contains("sent again")));
    rig.write("working/beat", &old.replace("primary", "observer"));
    assert!(matches!(told().await, ProbeAnswer::Down(why) if why.contains("seal is not ours")));
    let ahead = jiff::Timestamp::now() + SignedDuration::from_hours(1);
    file.write(&Beat { time: ahead, ..Rig::tells() }).await.expect("written");
    assert!(matches!(told().await, ProbeAnswer::Down(why) if why.contains("s ahead of this host's")));
    file.write(&Rig::tells()).await.expect("written");
    assert!(matches!(told().await, ProbeAnswer::Up { .. }), "what was not believed has not moved the number");
    std::fs::remove_dir_all(rig.dir.path().join("working")).unwrap();
    let why = file.write(&Rig::tells()).await.expect_err("refused");
    assert!(why.contains("working/beat") && why.contains("create the folder"), "{why}");
}

#[tokio::test]
async fn a_door_without_a_token_or_with_papers_that_do_not_fit_is_not_opened() {
    let rig = Rig::new();
    rig.write("agent.token", "");
    let why = rig.bind(Orders::Taken).await.err().expect("refused").to_string();
    assert!(why.contains("agent.token") && why.contains("pbx-failover keys"), "{why}");
    let rig = Rig::new();
    rig.write("agent.key", &Papers::new(&["x"], 2099).key);
    let why = rig.bind(Orders::Taken).await.err().expect("refused").to_string();
    assert!(why.contains("agent.tls") && why.contains("its own key"), "{why}");
}

#[tokio::test]
async fn a_token_that_was_exchanged_on_both_hosts_counts_at_once() {
    let rig = Rig::new();
    let at = rig.open(Orders::Taken).await;
    let host = rig.asks(at);
    heard(host.exchange(&Rig::ours()).await);
    rig.write("agent.token", "a new token of the tests");
    refused(host.exchange(&Rig::ours()).await);
    rig.write("asker.token", "a new token of the tests");
    heard(host.exchange(&Rig::ours()).await);
}
