//! The epoch stores against real servers: exact reads, exact swaps, one winner.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pbx_failover::adapters::dns::{DnsEpoch, Limits};
use pbx_failover::adapters::epoch_local::LocalEpoch;
use pbx_failover::config::{DnsUpdate, IfChanged, PlainSecret, Secret, TsigKey};
use pbx_failover::ports::EpochStore;
use pbx_failover::units::{Advance, EpochRecord, EpochSeen, PlanId};
use ulid::Ulid;

use crate::lab::dns::{
    DnsServer, EPOCH, KEY, Kind, Options, PROBE, Proxy, Reaction, SECRET, ZONE, without_prerequisites,
};
use crate::lab::wait_until;

/// One test per server: the body gets a running one.
macro_rules! on_each_server {
    ($($name:ident($server:ident) $body:block)*) => {$(
        mod $name {
            use super::*;
            async fn body($server: DnsServer) $body
            #[test] fn bind() { with_server(Kind::Bind, body) }
            #[test] fn knot() { with_server(Kind::Knot, body) }
            #[test] fn power_dns() { with_server(Kind::PowerDns, body) }
            #[test] fn demo() { with_server(Kind::Demo, body) }
        }
    )*};
}
pub(crate) use on_each_server;

pub(crate) fn with_server<F: Future<Output = ()>>(kind: Kind, body: impl FnOnce(DnsServer) -> F) {
    if kind.installed() {
        let dir = tempfile::tempdir().unwrap();
        run(body(DnsServer::start(kind, dir.path())));
    }
}

pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

/// The settings of a zone without records.
pub(crate) fn update(server: std::net::SocketAddr) -> DnsUpdate {
    DnsUpdate {
        server,
        zone: ZONE.into(),
        key: TsigKey {
            name: KEY.into(),
            algorithm: pbx_failover::config::TsigAlgorithm::HmacSha256,
            secret: Secret::Plain(PlainSecret(SECRET.into())),
        },
        ttl_s: 30.try_into().unwrap(),
        if_changed: IfChanged::Stop,
        verify: Vec::new(),
        records: Vec::new(),
    }
}

/// Short enough for a test that waits for them to pass.
pub(crate) fn short() -> Limits {
    Limits {
        connect: Duration::from_secs(1),
        answer: Duration::from_millis(1500),
        settle: Duration::from_millis(700),
        swap: Duration::from_secs(3),
    }
}

fn store(server: &DnsServer) -> DnsEpoch {
    DnsEpoch::new(&update(server.addr), EPOCH)
}

pub(crate) fn record(number: u64, holder: &str) -> EpochRecord {
    EpochRecord {
        number,
        holder: holder.parse().unwrap(),
        id: PlanId(Ulid::new()),
        since: "2026-11-20T10:00:00Z".parse().unwrap(),
    }
}

fn unknown(advance: &Advance) -> &str {
    let Advance::Unknown(why) = advance else { panic!("{advance:?}") };
    why
}

on_each_server! {
    a_first_claim_a_second_swap_and_a_stale_one(server) {
        let store = store(&server);
        assert_eq!(store.read().await.unwrap(), EpochSeen::Absent);
        let first = record(1, "pbx-a");
        assert_eq!(store.advance(&EpochSeen::Absent, &first).await, Advance::Done);
        assert_eq!(server.query(EPOCH, "TXT"), [format!("\"{first}\"")]);
        let held = store.read().await.unwrap();
        assert_eq!(held, EpochSeen::held(first));
        // "Nobody holds it" is stale now.
        assert_eq!(store.advance(&EpochSeen::Absent, &record(1, "pbx-b")).await, Advance::Lost(held.clone()));
        let second = record(2, "pbx-b");
        assert_eq!(store.advance(&held, &second).await, Advance::Done);
        // The same swap again finds itself done.
        assert_eq!(store.advance(&held, &second).await, Advance::Done);
        assert_eq!(store.advance(&held, &record(2, "pbx-a")).await, Advance::Lost(EpochSeen::held(second)));
    }

    a_swap_whose_answer_is_lost_is_done(server) {
        let proxy = Proxy::start(server.addr);
        let store = DnsEpoch::new(&update(proxy.addr), EPOCH);
        proxy.lose_answers(1);
        assert_eq!(store.advance(&EpochSeen::Absent, &record(1, "pbx-b")).await, Advance::Done);
        let held = store.read().await.unwrap();
        proxy.lose_answers(1);
        assert_eq!(store.advance(&held, &record(2, "pbx-a")).await, Advance::Done);
    }

    a_swap_that_is_lost_on_its_way_is_repeated(server) {
        let proxy = Proxy::start(server.addr);
        let store = DnsEpoch::new(&update(proxy.addr), EPOCH);
        proxy.lose_updates(2);
        assert_eq!(store.advance(&EpochSeen::Absent, &record(1, "pbx-b")).await, Advance::Done);
        // When none gets through it is unknown, and nothing was claimed.
        let held = store.read().await.unwrap();
        proxy.lose_updates(100);
        let advance = store.advance(&held, &record(2, "pbx-a")).await;
        assert!(unknown(&advance).contains("ended the connection"), "{advance:?}");
        assert_eq!(store.read().await.unwrap(), held);
    }

    a_swap_that_loses_its_answer_and_then_the_epoch_is_lost(server) {
        // Ours was applied, but before we look another has taken the next turn.
        let (proxy, own) = (Proxy::start(server.addr), record(1, "pbx-a"));
        let (theirs, held) = (record(2, "pbx-b"), EpochSeen::held(own.clone()));
        let other = store(&server);
        let (swap, from) = (theirs.clone(), held.clone());
        proxy.react_to_updates(1, move |request, forward| {
            forward(request);
            assert_eq!(std::thread::scope(|s| s.spawn(|| run(other.advance(&from, &swap))).join().unwrap()), Advance::Done);
            Reaction::Close
        });
        let store = DnsEpoch::new(&update(proxy.addr), EPOCH);
        assert_eq!(store.advance(&EpochSeen::Absent, &own).await, Advance::Lost(EpochSeen::held(theirs)));
    }

    a_silent_server_leaves_the_swap_unknown_within_bounds(server) {
        let store = store(&server).with_limits(short());
        server.process.signal("STOP");
        let start = Instant::now();
        let advance = store.advance(&EpochSeen::Absent, &record(1, "pbx-b")).await;
        assert!(unknown(&advance).contains("gave no answer within"), "{advance:?}");
        assert!(store.read().await.unwrap_err().contains("gave no answer within"));
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        server.process.signal("CONT");
    }

    the_conformance_test_passes_and_leaves_nothing(server) {
        let store = store(&server);
        store.conformance().await.unwrap();
        assert!(server.query(PROBE, "TXT").is_empty());
        assert_eq!(store.read().await.unwrap(), EpochSeen::Absent);
        // A run that was killed long ago, and something that nobody knows.
        for left in ["\"pbx-failover probe=01ARZ3NDEKTSV4RRFFQ69G5FAV\"", "\"else\" \"where\""] {
            server.set(PROBE, "TXT", &[left]);
            store.conformance().await.unwrap();
            assert!(server.query(PROBE, "TXT").is_empty());
        }
        // A record that holds is not touched.
        let held = record(3, "pbx-a");
        assert_eq!(store.advance(&EpochSeen::Absent, &held).await, Advance::Done);
        let (one, two) = tokio::join!(store.conformance(), store.conformance());
        one.unwrap();
        two.unwrap();
        assert_eq!(store.read().await.unwrap(), EpochSeen::held(held));
    }

    a_server_that_does_not_compare_fails_the_conformance_test(server) {
        let proxy = Proxy::start(server.addr);
        proxy.react(|request, forward| Reaction::Answer(without_prerequisites(request, forward)));
        let advice = DnsEpoch::new(&update(proxy.addr), EPOCH).conformance().await.unwrap_err();
        assert!(advice.contains("cannot keep the epoch: creating a record that exists"), "{advice}");
        assert!(server.query(PROBE, "TXT").is_empty(), "cleaned up all the same");
    }

    a_record_that_is_not_exactly_ours_is_unreadable(server) {
        let store = store(&server);
        let good = record(7, "pbx-a").to_string();
        let quoted = format!("\"{good}\"");
        let cases: [(&[&str], &str); 5] = [
            (&[&quoted, "\"second\""], "2 records stand there"),
            (&["\"v=1\" \"epoch=7\""], "2 strings"),
            (&["\"v=spf1 -all\""], "unknown version"),
            (&[&quoted.replace("v=1", "v=2")], "unknown version"),
            (&[&quoted.replace("epoch=7", "epoch=0")], "no good epoch"),
        ];
        for (values, why) in cases {
            server.set(EPOCH, "TXT", values);
            let advice = store.read().await.unwrap_err();
            assert!(advice.contains(why) && advice.contains(EPOCH), "{advice}");
            let advance = store.advance(&EpochSeen::held(record(7, "pbx-a")), &record(8, "pbx-b")).await;
            assert!(matches!(advance, Advance::Unknown(_)), "{advance:?}");
        }
        // Deleted and lowered are readable: what they mean is the engine's question.
        server.set(EPOCH, "TXT", &[&quoted.replace("epoch=7", "epoch=3")]);
        assert_eq!(store.read().await.unwrap().record().unwrap().number, 3);
        server.set(EPOCH, "TXT", &[]);
        assert_eq!(store.read().await.unwrap(), EpochSeen::Absent);
    }

    an_epoch_made_by_a_wildcard_is_not_believed(server) {
        let store = store(&server);
        let wild = format!("\"{}\"", record(7, "pbx-a"));
        server.set("*.pbx.lab.test", "TXT", &[&wild]);
        assert_eq!(server.query(EPOCH, "TXT"), [wild]);
        let advice = store.read().await.unwrap_err();
        assert!(advice.contains("a wildcard"), "{advice}");
        // Beside a wildcard of another kind the real record is believed.
        server.set("*.pbx.lab.test", "TXT", &["\"v=spf1 -all\""]);
        let held = record(1, "pbx-a");
        assert_eq!(store.advance(&EpochSeen::Absent, &held).await, Advance::Done);
        assert_eq!(store.read().await.unwrap(), EpochSeen::held(held));
    }

    a_swap_does_not_wait_for_a_delayed_acknowledgement(server) {
        // A server holds its second answer back until the first is acknowledged, which takes 40 ms if left to itself.
        let (store, mut fastest) = (store(&server), Duration::MAX);
        for number in 1..=20 {
            let (from, to) = (store.read().await.unwrap(), record(number, "pbx-b"));
            let start = Instant::now();
            assert_eq!(store.advance(&from, &to).await, Advance::Done);
            fastest = fastest.min(start.elapsed());
        }
        assert!(fastest < Duration::from_millis(30), "{fastest:?}");
    }

    every_race_of_two_and_of_four_has_one_winner(server) {
        let mut from = EpochSeen::Absent;
        for number in 1..=100 {
            let racers = if number % 2 == 0 { 2 } else { 4 };
            let tos: Vec<EpochRecord> = (0..racers).map(|i| record(number, &format!("pbx-{i}"))).collect();
            let mut racing = tokio::task::JoinSet::new();
            for to in &tos {
                let (store, from, to) = (store(&server), from.clone(), to.clone());
                racing.spawn(async move { (to.clone(), store.advance(&from, &to).await) });
            }
            let results = racing.join_all().await;
            let won: Vec<_> = results.iter().filter(|(_, advance)| *advance == Advance::Done).map(|(to, _)| to).collect();
            assert_eq!(won.len(), 1, "race {number}: {results:?}");
            let winner = EpochSeen::held(won[0].clone());
            for (to, advance) in &results {
                assert!(to == won[0] || *advance == Advance::Lost(winner.clone()), "race {number}: {advance:?}");
            }
            assert_eq!(store(&server).read().await.unwrap(), winner);
            from = winner;
        }
    }
}

#[test]
fn a_key_that_may_not_write_the_probe_is_told_which_line_to_add() {
    // The rig's keys may not write beside this name.
    for (kind, line) in [
        (Kind::Bind, "grant robot name _pbx-failover-probe._pbx-failover.www.lab.test. TXT;"),
        (Kind::Knot, "`update-owner-name` with _pbx-failover-probe._pbx-failover.www.lab.test TXT"),
    ] {
        with_server(kind, async |server| {
            let advice =
                DnsEpoch::new(&update(server.addr), "_pbx-failover.www.lab.test").conformance().await.unwrap_err();
            assert!(advice.contains(line), "{advice}");
        });
    }
}

#[test]
fn every_algorithm_works_on_every_server() {
    use pbx_failover::config::TsigAlgorithm::{HmacSha256, HmacSha384, HmacSha512};
    for kind in Kind::ALL.into_iter().filter(|kind| kind.installed()) {
        for (name, algorithm) in [("hmac-sha256", HmacSha256), ("hmac-sha384", HmacSha384), ("hmac-sha512", HmacSha512)]
        {
            let dir = tempfile::tempdir().unwrap();
            let options = Options { algorithm: name.into(), ..Options::default() };
            let server = DnsServer::start_with(kind, dir.path(), options);
            let mut update = update(server.addr);
            update.key.algorithm = algorithm;
            let store = DnsEpoch::new(&update, EPOCH);
            assert_eq!(run(store.advance(&EpochSeen::Absent, &record(1, "pbx-a"))), Advance::Done, "{kind:?} {name}");
            assert!(store.fingerprint().contains(name) && store.fingerprint().contains(EPOCH));
            assert!(!format!("{store:?}{}", store.fingerprint()).contains(SECRET));
        }
    }
}

#[test]
fn the_local_store_swaps_only_what_was_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalEpoch::new(dir.path());
    run(async {
        store.conformance().await.unwrap();
        assert_eq!(store.read().await.unwrap(), EpochSeen::Absent);
        let first = record(1, "pbx-a");
        assert_eq!(store.advance(&EpochSeen::Absent, &first).await, Advance::Done);
        assert_eq!(store.advance(&EpochSeen::Absent, &first).await, Advance::Done);
        let held = store.read().await.unwrap();
        assert_eq!(store.advance(&EpochSeen::Absent, &record(1, "pbx-b")).await, Advance::Lost(held.clone()));
        assert_eq!(store.advance(&held, &record(2, "pbx-b")).await, Advance::Done);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside the file");
    });
}

#[test]
fn a_damaged_local_record_is_unreadable_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalEpoch::new(dir.path());
    let good = format!("{}\n", record(1, "pbx-a"));
    for bad in ["", "\n", "\0\0\0\0", &good[..20], good.trim_end(), &good.replace("v=1", "v=9"), &"x".repeat(100_000)] {
        std::fs::write(dir.path().join("epoch"), bad).unwrap();
        let advice = run(store.read()).unwrap_err();
        assert!(advice.contains("epoch") && !advice.contains('\n'), "{advice}");
        assert!(matches!(run(store.advance(&EpochSeen::Absent, &record(1, "pbx-b"))), Advance::Unknown(_)));
        assert_eq!(std::fs::read_to_string(dir.path().join("epoch")).unwrap(), bad);
    }
    let missing = LocalEpoch::new(&dir.path().join("missing"));
    assert!(run(missing.conformance()).unwrap_err().contains("let the robot write there"));
}

/// Run by the next test as a process of its own: advances for ever, and says which number it has done.
#[test]
#[ignore = "the child of the kill test"]
fn local_epoch_child() {
    let Some(dir) = std::env::var_os("LOCAL_EPOCH_DIR") else { return };
    let store = LocalEpoch::new(Path::new(&dir));
    run(async {
        let mut seen = store.read().await.unwrap();
        loop {
            let to = record(seen.record().map_or(1, |record| record.number + 1), "pbx-b");
            assert_eq!(store.advance(&seen, &to).await, Advance::Done);
            std::fs::write(Path::new(&dir).join("said"), to.number.to_string()).unwrap();
            seen = EpochSeen::held(to);
        }
    });
}

#[test]
fn a_killed_process_leaves_the_old_local_record_or_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut highest = 0;
    for round in 0..20 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "epoch::local_epoch_child", "--ignored"]).env("LOCAL_EPOCH_DIR", dir.path());
        let mut child =
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        let said = || std::fs::read_to_string(dir.path().join("said")).ok().and_then(|s| s.parse().ok()).unwrap_or(0);
        wait_until("the child advances", Duration::from_secs(20), || said() > highest + round % 7);
        child.kill().unwrap();
        child.wait().unwrap();
        let number = run(LocalEpoch::new(dir.path()).read()).unwrap().record().unwrap().number;
        assert!(number >= said() && number > highest, "{number} after {highest}");
        highest = number;
    }
}
