//! Records that move, against BIND, Knot, PowerDNS and the demo's own server: prerequisites, other people's changes, every error.

mod mutated;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use pbx_failover::adapters::dns::{DnsEpoch, DnsRecords, Limits, rrset};
use pbx_failover::config::{Dns, DnsMode, DnsRecord, DnsUpdate, Epoch, IfChanged, PlainSecret, Secret};
use pbx_failover::ports::{EpochStore, Names};
use pbx_failover::units::names::{Redirect, Redirected, Verified};
use pbx_failover::units::{Advance, EpochRecord, EpochSeen, Mode, Side, StepOutcome};

use super::epoch::{on_each_server, record, run, short, update, with_server};
use crate::lab::dns::{DnsServer, EPOCH, Kind, Options, Proxy, Reaction, SECRET, ZONE, shift_clock};
use crate::lab::{free_port, have};

const PBX: &str = "pbx.lab.test";
const SRV: &str = "_sip._udp.lab.test";

fn moved(name: &str, rtype: &str, primary: &[&str], backup: &[&str]) -> DnsRecord {
    let list = |values: &[&str]| values.iter().map(ToString::to_string).collect();
    let (primary, backup) = (list(primary), list(backup));
    DnsRecord { name: name.into(), rtype: rtype.into(), ttl_s: 30.try_into().unwrap(), primary, backup }
}

/// The zone's settings: A, an AAAA that the backup does not have, and SRV.
fn zone(server: SocketAddr) -> DnsUpdate {
    let records = vec![
        moved(PBX, "A", &["10.77.0.11"], &["10.77.0.12"]),
        moved(PBX, "AAAA", &["fd77::11"], &[]),
        moved("sip.lab.test", "A", &["10.77.0.11"], &["10.77.0.12", "10.77.0.13"]),
        moved(SRV, "SRV", &["10 0 5060 PBX-A.lab.test"], &["10 0 5060 pbx-b.lab.test."]),
    ];
    DnsUpdate { records, ..update(server) }
}

fn names(updates: Vec<DnsUpdate>) -> DnsRecords {
    names_within(Limits::default(), updates)
}

fn names_within(limits: Limits, updates: Vec<DnsUpdate>) -> DnsRecords {
    let epoch = Epoch::Dns { record: EPOCH.into(), update: 0 };
    DnsRecords::with_limits(&Dns { mode: DnsMode::Replace, updates }, &epoch, limits)
}

fn order(to: Side, holder: &EpochRecord) -> Redirect {
    Redirect { to, mode: Mode::Act, epoch_raw: Some(holder.to_string()), last_verified: Verified::new() }
}

/// Takes the epoch at `server`, as the claim step does.
async fn claimed(server: SocketAddr) -> EpochRecord {
    let (store, to) = (DnsEpoch::new(&update(server), EPOCH), record(1, "pbx-b"));
    assert_eq!(store.advance(&store.read().await.unwrap(), &to).await, Advance::Done);
    to
}

fn done(redirected: &Redirected) -> &str {
    let StepOutcome::Done(proof) = &redirected.outcome else { panic!("{redirected:?}") };
    proof
}

fn refused(redirected: &Redirected) -> &str {
    let StepOutcome::Refused(why) = &redirected.outcome else { panic!("{redirected:?}") };
    why
}

fn failed(redirected: &Redirected) -> &str {
    let StepOutcome::Failed(why) = &redirected.outcome else { panic!("{redirected:?}") };
    assert!(!why.contains('\n') && !why.contains(SECRET), "{why}");
    why
}

fn unknown(redirected: &Redirected) -> &str {
    let StepOutcome::Unknown(why) = &redirected.outcome else { panic!("{redirected:?}") };
    why
}

fn serial(server: &DnsServer) -> String {
    server.query(ZONE, "SOA")[0].split(' ').nth(2).unwrap().to_owned()
}

fn stands_at_primary(server: &DnsServer) {
    assert_eq!(server.query(PBX, "A"), ["10.77.0.11"]);
    assert_eq!(server.query(PBX, "AAAA"), ["fd77::11"]);
    // A target is written as it is configured; its case means nothing (RFC 4343).
    assert_eq!(server.query(SRV, "SRV").join(",").to_lowercase(), "10 0 5060 pbx-a.lab.test.");
}

fn stands_at_backup(server: &DnsServer) {
    assert_eq!(server.query(PBX, "A"), ["10.77.0.12"]);
    assert!(server.query(PBX, "AAAA").is_empty());
    let mut two = server.query("sip.lab.test", "A");
    two.sort();
    assert_eq!(two, ["10.77.0.12", "10.77.0.13"]);
    assert_eq!(server.query(SRV, "SRV"), ["10 0 5060 pbx-b.lab.test."]);
}

on_each_server! {
    a_and_srv_move_and_aaaa_goes_and_all_come_back(server) {
        let names = names(vec![zone(server.addr)]);
        assert!(names.unprotected().is_empty());
        let epoch = claimed(server.addr).await;
        let mut order = order(Side::Backup, &epoch);
        order.mode = Mode::Look;
        let before = serial(&server);
        let look = names.redirect(&order).await;
        assert!(failed(&look).contains("pbx.lab.test A is 10.77.0.11, not yet 10.77.0.12"), "{look:?}");
        assert!(look.verified.is_empty());
        assert_eq!(serial(&server), before, "looking changes nothing");
        order.mode = Mode::Act;
        let there = names.redirect(&order).await;
        assert!(done(&there).contains("pbx.lab.test AAAA = (none)"), "{there:?}");
        stands_at_backup(&server);
        assert_eq!(there.verified.len(), 4);
        assert_eq!(there.views[0].seen[0], format!("{}: 10.77.0.12", server.addr));
        assert_eq!(there.views[0].expected, ["10.77.0.12"]);
        // Again: all is right, nothing is touched.
        let after = serial(&server);
        done(&names.redirect(&order).await);
        order.mode = Mode::Look;
        done(&names.redirect(&order).await);
        assert_eq!(serial(&server), after);
        let home = Redirect { to: Side::Primary, mode: Mode::Act, last_verified: there.verified, ..order };
        done(&names.redirect(&home).await);
        stands_at_primary(&server);
    }

    somebody_elses_change_is_left_with_its_name_and_the_other_names_move(server) {
        let (names, epoch) = (names(vec![zone(server.addr)]), claimed(server.addr).await);
        server.set(PBX, "A", &["10.99.0.1"]);
        let redirected = names.redirect(&order(Side::Backup, &epoch)).await;
        let why = refused(&redirected);
        assert!(why.contains("somebody changed pbx.lab.test A to 10.99.0.1; left as it is"), "{why}");
        assert!(why.contains("set it to 10.77.0.12 by hand"), "{why}");
        assert_eq!(server.query(PBX, "A"), ["10.99.0.1"]);
        assert_eq!(server.query(PBX, "AAAA"), ["fd77::11"], "left with its name");
        assert_eq!(server.query(SRV, "SRV"), ["10 0 5060 pbx-b.lab.test."]);
        assert_eq!(redirected.verified.len(), 2, "only what we know is remembered");
    }

    somebody_elses_change_is_overwritten_where_that_is_configured(server) {
        let mut zone = zone(server.addr);
        zone.if_changed = IfChanged::Overwrite;
        let (names, epoch) = (names(vec![zone]), claimed(server.addr).await);
        server.set(PBX, "A", &["10.99.0.1", "10.99.0.2"]);
        server.set(SRV, "SRV", &[]);
        done(&names.redirect(&order(Side::Backup, &epoch)).await);
        stands_at_backup(&server);
    }

    a_change_between_our_look_and_our_move_is_not_overwritten(server) {
        let (proxy, epoch) = (Proxy::start(server.addr), claimed(server.addr).await);
        let server = std::sync::Arc::new(server);
        let person = server.clone();
        proxy.react_to_updates(1, move |request, forward| {
            person.set(PBX, "A", &["10.99.0.1"]);
            Reaction::Answer(forward(request))
        });
        let redirected = names(vec![zone(proxy.addr)]).redirect(&order(Side::Backup, &epoch)).await;
        assert!(refused(&redirected).contains("somebody changed pbx.lab.test A to 10.99.0.1"), "{redirected:?}");
        assert_eq!(server.query(PBX, "A"), ["10.99.0.1"]);
        assert_eq!(server.query("sip.lab.test", "A").len(), 2, "the others moved after it");
    }

    a_record_that_we_moved_and_a_person_moved_back_is_not_moved_again(server) {
        let (names, epoch) = (names(vec![zone(server.addr)]), claimed(server.addr).await);
        let order = order(Side::Backup, &epoch);
        let there = names.redirect(&order).await;
        done(&there);
        server.set(PBX, "A", &["10.77.0.11"]);
        let late = Redirect { last_verified: there.verified, ..order };
        assert!(refused(&names.redirect(&late).await).contains("somebody changed pbx.lab.test A to 10.77.0.11"));
        assert_eq!(server.query(PBX, "A"), ["10.77.0.11"]);
    }

    a_robot_that_lost_the_epoch_moves_nothing(server) {
        let (names, mine) = (names(vec![zone(server.addr)]), claimed(server.addr).await);
        let (store, theirs) = (DnsEpoch::new(&update(server.addr), EPOCH), record(2, "pbx-a"));
        assert_eq!(store.advance(&EpochSeen::held(mine.clone()), &theirs).await, Advance::Done);
        let why = names.redirect(&order(Side::Backup, &mine)).await;
        assert!(refused(&why).contains("another holds the epoch: pbx-a"), "{why:?}");
        server.set(EPOCH, "TXT", &[]);
        // A record that is gone is put back by the robot that serves: to be tried again.
        let gone = names.redirect(&order(Side::Backup, &mine)).await.outcome;
        assert!(matches!(&gone, StepOutcome::Failed(why) if why.contains("our epoch record is gone")), "{gone:?}");
        stands_at_primary(&server);
        // With the store local nothing guards.
        let unguarded = Redirect { epoch_raw: None, ..order(Side::Backup, &mine) };
        done(&names.redirect(&unguarded).await);
    }

    a_lost_answer_is_judged_by_what_stands_there(server) {
        let (proxy, epoch) = (Proxy::start(server.addr), claimed(server.addr).await);
        let (names, order) = (names(vec![zone(proxy.addr)]), order(Side::Backup, &epoch));
        proxy.lose_updates(1);
        let lost = names.redirect(&order).await;
        assert!(unknown(&lost).contains("ended the connection without an answer"), "{lost:?}");
        stands_at_primary(&server);
        proxy.lose_answers(1);
        done(&names.redirect(&order).await);
        stands_at_backup(&server);
    }

    a_server_that_ends_the_connection_after_each_answer_and_one_that_is_slow_will_do(server) {
        let (proxy, epoch) = (Proxy::start(server.addr), claimed(server.addr).await);
        proxy.react(|request, forward| Reaction::LastAnswer(forward(request)));
        let names = names(vec![zone(proxy.addr)]);
        done(&names.redirect(&order(Side::Backup, &epoch)).await);
        stands_at_backup(&server);
        proxy.delay(Duration::from_millis(50));
        done(&names.redirect(&order(Side::Primary, &epoch)).await);
        stands_at_primary(&server);
    }

    an_unsigned_or_forged_noerror_is_not_believed(server) {
        let (proxy, epoch) = (Proxy::start(server.addr), claimed(server.addr).await);
        let (names, order) = (names(vec![zone(proxy.addr)]), order(Side::Backup, &epoch));
        // Nothing is applied, and somebody between says NOERROR.
        proxy.react_to_updates(1, |request, _| Reaction::Answer(noerror(request, false)));
        let lie = names.redirect(&order).await;
        assert!(unknown(&lie).contains("unsigned NOERROR, which is not believed"), "{lie:?}");
        proxy.react_to_updates(1, |request, _| Reaction::Answer(noerror(request, true)));
        let lie = names.redirect(&order).await;
        assert!(unknown(&lie).contains("not signed with our secret"), "{lie:?}");
        // Answers to questions that nobody asked, and reads without a signature.
        proxy.react(|request, forward| {
            let mut answer = forward(request);
            answer[1] ^= 1;
            Reaction::Answer(answer)
        });
        assert!(failed(&names.redirect(&order).await).contains("answered another question"));
        proxy.react(|request, forward| {
            let mut answer = Message::from_vec(&forward(request)).unwrap();
            answer.take_signature();
            Reaction::Answer(answer.to_vec().unwrap())
        });
        assert!(failed(&names.redirect(&order).await).contains("unsigned NOERROR, which is not believed"));
        stands_at_primary(&server);
    }

    a_wrong_key_name_and_a_wrong_secret_are_told(server) {
        let epoch = claimed(server.addr).await;
        let order = order(Side::Backup, &epoch);
        let mut unknown_key = zone(server.addr);
        unknown_key.key.name = "nobody".into();
        let mut wrong_secret = zone(server.addr);
        wrong_secret.key.secret = Secret::Plain(PlainSecret("d3Jvbmd3cm9uZ3dyb25nd3Jvbmd3cm9uZ3dyb25nMTI=".into()));
        let mut no_base64 = zone(server.addr);
        no_base64.key.secret = Secret::Plain(PlainSecret("hunter2".into()));
        for (zone, expected) in [
            (unknown_key, if server.kind == Kind::PowerDns { "without a signature" } else { "(BADKEY)" }),
            (wrong_secret, if server.kind == Kind::PowerDns { "without a signature" } else { "(BADSIG)" }),
            (no_base64, "is not base64"),
        ] {
            let key = zone.key.name.clone();
            let redirected = names(vec![zone.clone()]).redirect(&order).await;
            let why = failed(&redirected);
            println!("{:?}: {why}", server.kind);
            assert!(why.contains(expected) && why.contains(&key) && why.contains(&server.addr.to_string()), "{why}");
            // The epoch store says the same.
            let epoch = DnsEpoch::new(&zone, EPOCH);
            assert!(epoch.read().await.unwrap_err().contains(expected));
            let advance = epoch.advance(&EpochSeen::Absent, &record(1, "x")).await;
            assert!(matches!(&advance, Advance::Unknown(why) if why.contains(expected)), "{advance:?}");
            assert!(epoch.conformance().await.unwrap_err().contains(expected));
        }
        stands_at_primary(&server);
    }

    a_name_that_the_key_may_not_write_is_told_with_the_line_to_add(server) {
        let mut zone = zone(server.addr);
        zone.records = vec![moved("pbx-a.lab.test", "A", &["10.77.0.11"], &["10.77.0.12"])];
        let epoch = claimed(server.addr).await;
        let redirected = names(vec![zone]).redirect(&order(Side::Backup, &epoch)).await;
        match server.kind {
            Kind::Bind => assert!(failed(&redirected).contains("grant robot name pbx-a.lab.test. A;"), "{redirected:?}"),
            Kind::Knot => {
                let why = failed(&redirected);
                assert!(why.contains("`update-owner-name` with pbx-a.lab.test A"), "{why}");
            }
            // A key of these may write the whole zone.
            Kind::PowerDns | Kind::Demo => drop(done(&redirected)),
        }
    }

    a_zone_that_is_not_there_and_a_name_outside_it_are_told(server) {
        let epoch = record(1, "pbx-b");
        let mut elsewhere = zone(server.addr);
        elsewhere.zone = "other.test".into();
        elsewhere.records = vec![moved("pbx.other.test", "A", &["10.77.0.11"], &["10.77.0.12"])];
        let unguarded = Redirect { epoch_raw: None, ..order(Side::Backup, &epoch) };
        let redirected = names(vec![elsewhere]).redirect(&unguarded).await;
        let why = failed(&redirected);
        println!("{:?}: {why}", server.kind);
        assert!(why.contains("other.test"), "{why}");
        let mut outside = zone(server.addr);
        outside.records = vec![moved("pbx.other.test", "A", &["10.77.0.11"], &["10.77.0.12"])];
        assert!(failed(&names(vec![outside]).redirect(&unguarded).await).contains("lies outside the zone lab.test"));
    }

    a_dead_and_a_hanging_server_are_told_within_bounds(server) {
        let unguarded = Redirect { epoch_raw: None, ..order(Side::Backup, &record(1, "x")) };
        let dead = SocketAddr::new(server.addr.ip(), free_port());
        let redirected = names_within(short(), vec![zone(dead)]).redirect(&unguarded).await;
        assert!(failed(&redirected).contains("refuses TCP connections"), "{redirected:?}");
        let start = Instant::now();
        server.process.signal("STOP");
        let redirected = names_within(short(), vec![zone(server.addr)]).redirect(&unguarded).await;
        server.process.signal("CONT");
        assert!(failed(&redirected).contains("gave no answer within"), "{redirected:?}");
        assert!(start.elapsed() < Duration::from_secs(5));
        // It hangs only at the update: perhaps it was applied.
        let proxy = Proxy::start(server.addr);
        proxy.react_to_updates(1, |_, _| Reaction::Hang);
        let redirected = names_within(short(), vec![zone(proxy.addr)]).redirect(&unguarded).await;
        assert!(unknown(&redirected).contains("gave no answer within"), "{redirected:?}");
        stands_at_primary(&server);
    }

    a_name_server_that_lags_is_waited_for_and_named(server) {
        let (epoch, dir) = (claimed(server.addr).await, tempfile::tempdir().unwrap());
        if !Kind::Bind.installed() { return }
        let second = DnsServer::start(Kind::Bind, dir.path());
        let mut zone = zone(server.addr);
        zone.verify = vec![second.addr, SocketAddr::new(second.addr.ip(), free_port())];
        let (names, order) = (names_within(short(), vec![zone]), order(Side::Backup, &epoch));
        let redirected = names.redirect(&order).await;
        let lagging = format!("{} still answers 10.77.0.11 for pbx.lab.test A", second.addr);
        assert!(failed(&redirected).contains(&lagging), "{redirected:?}");
        assert_eq!(redirected.verified.len(), 4, "the master has moved");
        assert_eq!(redirected.unreachable.len(), 1);
        assert!(redirected.unreachable[0].contains("refuses TCP connections"));
        second.set("sip.lab.test", "A", &["10.77.0.13", "10.77.0.12"]);
        second.set(PBX, "AAAA", &[]);
        second.set(SRV, "SRV", &["10 0 5060 pbx-b.lab.test."]);
        // The last one comes while we wait.
        let (redirected, ()) = tokio::join!(names.redirect(&order), async {
            tokio::task::spawn_blocking(move || { second.set(PBX, "A", &["10.77.0.12"]); second }).await.map(std::mem::forget).unwrap();
        });
        assert!(done(&redirected).contains("1 other name servers (not asked: "), "{redirected:?}");
    }

    a_lowered_ttl_keeps_the_values(server) {
        let (names, epoch) = (names(vec![zone(server.addr)]), claimed(server.addr).await);
        server.set_with_ttl(SRV, "SRV", 3600, &["10 0 5060 pbx-a.lab.test."]);
        server.set_with_ttl("sip.lab.test", "A", 3600, &["10.99.0.1"]);
        let order = order(Side::Backup, &epoch);
        let outcome = names.lower_ttl(&order, 5).await;
        assert!(matches!(outcome, StepOutcome::Done(_)), "{outcome:?}");
        stands_at_primary(&server);
        let before = serial(&server);
        assert!(matches!(names.lower_ttl(&order, 5).await, StepOutcome::Done(_)));
        assert_eq!(serial(&server), before);
        let stale = Redirect { epoch_raw: Some(record(1, "x").to_string()), ..order.clone() };
        assert!(matches!(names.lower_ttl(&stale, 2).await, StepOutcome::Refused(_)));
        // What is no one's known value kept its TTL, and is refused as ever.
        assert!(refused(&names.redirect(&order).await).contains("somebody changed sip.lab.test A to 10.99.0.1"));
    }
}

/// NOERROR to `request`, unsigned or with a signature that fits no key.
fn noerror(request: &[u8], forged: bool) -> Vec<u8> {
    let mut message = Message::from_vec(request).unwrap().into_response();
    message.answers.clear();
    message.authorities.clear();
    if !forged {
        message.take_signature();
    }
    message.to_vec().unwrap()
}

#[test]
fn a_server_whose_clock_is_ten_minutes_ahead_is_told() {
    // BIND cannot run under faketime (its allocator reads the clock first): the next test shifts us instead.
    for kind in
        [Kind::Knot, Kind::PowerDns, Kind::Demo].into_iter().filter(|kind| kind.installed() && have(&["faketime"]))
    {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { clock: Some("+10m".into()), ..Options::default() };
        let server = DnsServer::start_with(kind, dir.path(), options);
        let redirected = run(names(vec![zone(server.addr)]).redirect(&order(Side::Backup, &record(1, "x"))));
        assert_clock_is_told(kind, failed(&redirected), "ahead of ours");
        stands_at_primary(&server);
    }
}

fn assert_clock_is_told(kind: Kind, why: &str, direction: &str) {
    println!("{kind:?}: {why}");
    assert!(why.contains("by NTP"), "{why}");
    let distance = |s: u32| why.contains(&format!("its clock is {s} s {direction}"));
    assert!(kind == Kind::PowerDns || (590..=610).any(distance), "{why}");
}

/// Run by the next test as a process of its own, whose clock is ten minutes ahead.
#[test]
#[ignore = "the child of the clock test"]
fn clock_child() {
    let Ok(server) = std::env::var("CLOCK_SERVER") else { return };
    let server = server.parse().unwrap();
    let kind = Kind::ALL.into_iter().find(|kind| std::env::var("CLOCK_KIND").unwrap() == format!("{kind:?}")).unwrap();
    run(async {
        let redirected = names(vec![zone(server)]).redirect(&order(Side::Backup, &record(1, "x"))).await;
        assert_clock_is_told(kind, failed(&redirected), "behind ours");
        let advance = DnsEpoch::new(&update(server), EPOCH).advance(&EpochSeen::Absent, &record(1, "x")).await;
        let Advance::Unknown(why) = advance else { panic!("{advance:?}") };
        assert_clock_is_told(kind, &why, "behind ours");
    });
}

#[test]
fn our_own_clock_that_is_ten_minutes_ahead_is_told() {
    for kind in Kind::ALL.into_iter().filter(|kind| kind.installed() && have(&["faketime"])) {
        with_server(kind, async |server| {
            let mut child = std::process::Command::new("timeout");
            child.arg("60").arg(std::env::current_exe().unwrap()).args(["--exact", "dns::clock_child", "--ignored"]);
            child.env("CLOCK_SERVER", server.addr.to_string()).env("CLOCK_KIND", format!("{kind:?}"));
            shift_clock(&mut child, "+10m");
            let output = child.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
            stands_at_primary(&server);
        });
    }
}

#[test]
fn records_of_another_zone_move_only_while_the_epoch_is_ours() {
    if !(Kind::Bind.installed() && Kind::Knot.installed()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (home, other) = (DnsServer::start(Kind::Bind, dir.path()), DnsServer::start(Kind::Knot, dir.path()));
    run(async {
        let mine = claimed(home.addr).await;
        let names = names(vec![update(home.addr), zone(other.addr)]);
        assert_eq!(names.unprotected().len(), 4);
        assert!(names.unprotected()[0].starts_with("pbx.lab.test A: the epoch lies in lab.test at "));
        let mut stale = order(Side::Backup, &mine);
        stale.epoch_raw = Some(record(1, "pbx-b").to_string());
        assert!(refused(&names.redirect(&stale).await).contains("another holds the epoch: pbx-b"));
        stands_at_primary(&other);
        done(&names.redirect(&order(Side::Backup, &mine)).await);
        stands_at_backup(&other);
    });
}

#[test]
fn a_dead_master_of_one_zone_does_not_hold_up_the_other() {
    with_server(Kind::Bind, async |server| {
        let epoch = claimed(server.addr).await;
        let dead = zone(SocketAddr::new(server.addr.ip(), free_port()));
        let redirected = names(vec![zone(server.addr), dead]).redirect(&order(Side::Backup, &epoch)).await;
        assert!(failed(&redirected).contains("refuses TCP connections"), "{redirected:?}");
        stands_at_backup(&server);
    });
}

#[test]
fn every_name_server_of_the_zone_is_asked_but_the_master() {
    for kind in Kind::ALL.into_iter().filter(|kind| kind.installed()) {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::default();
        // One that does not answer, and one whose address nobody knows.
        options.records.extend(["@ IN NS ns2", "ns2 IN A 127.0.0.99", "@ IN NS ns3.invalid."].map(String::from));
        let server = DnsServer::start_with(kind, dir.path(), options);
        let redirected = run(async {
            let epoch = claimed(server.addr).await;
            names(vec![zone(server.addr)]).redirect(&order(Side::Backup, &epoch)).await
        });
        done(&redirected);
        let mut unreachable = redirected.unreachable.clone();
        unreachable.sort();
        assert_eq!(unreachable.len(), 2, "{kind:?}: {unreachable:?}");
        assert!(unreachable[0].starts_with("ns2.lab.test (127.0.0.99): "), "{unreachable:?}");
        assert!(unreachable[1].starts_with("ns3.invalid: its address cannot be found"), "{unreachable:?}");
    }
}

#[test]
fn what_is_not_configured_to_move_does_not_move() {
    for mode in [DnsMode::None, DnsMode::StaticSrv] {
        let dns = Dns { mode, updates: vec![zone("127.0.0.1:1".parse().unwrap())] };
        let names = DnsRecords::new(&dns, &Epoch::Local);
        let redirected = run(names.redirect(&order(Side::Backup, &record(1, "x"))));
        assert_eq!(done(&redirected), "not configured to move");
    }
}

#[test]
fn an_srv_in_capitals_is_the_same_srv() {
    // The zone's text may be written in another case than the configuration's.
    for kind in Kind::ALL.into_iter().filter(|kind| kind.installed()) {
        with_server(kind, async |server| {
            server.set(SRV, "SRV", &["10 0 5060 PBX-A.Lab.Test."]);
            let epoch = claimed(server.addr).await;
            done(&names(vec![zone(server.addr)]).redirect(&order(Side::Backup, &epoch)).await);
            stands_at_backup(&server);
        });
    }
    assert_eq!(rrset::rtype("SRV").unwrap(), RecordType::SRV);
}
