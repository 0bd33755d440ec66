//! Phones at the built-in PBX: sipp, a softphone, and their accounts while they change on disk.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;
use crate::lab::baresip::{self, Baresip, Over};
use crate::lab::sipp::{INSTANCE, Wish};
use crate::lab::suite::Suite;

/// Lines of an auth that takes SHA-256 and nothing else.
const SHA_256: &str = "supported_algorithms_uas=SHA-256\n";
/// Lines of an AOR with room for more than one contact.
const THREE: &str = "max_contacts=3\n";

#[tokio::test(flavor = "multi_thread")]
async fn phones_register_with_md5_and_sha_256_over_udp_and_tcp_and_give_up() {
    if !have_all() {
        return;
    }
    let Some(suite) = Suite::forky() else { return };
    let modern = phone_with("200", "pw200", SHA_256, THREE);
    let both = phone_with("300", "pw300", "supported_algorithms_uas=SHA-256,MD5\n", THREE);
    let own = Own::new(&(phone("100", "pw100") + &modern + &both));
    let (pbx, at) = (own.start().await, own.address());
    for over in [Phone::over_tcp, |phone| phone] {
        let old = over(Phone::new("100", "pw100"));
        let new = over(Phone::new("200", "pw200").modern(&suite));
        for phone in [&old, &new] {
            phone.register(at).expect("it registers");
            let contact = format!("sip:{}@127.0.0.1:{}", phone.user, phone.port);
            assert_eq!(pbx.handle().contacts(&phone.user).await, [contact]);
        }
        over(Phone::new("300", "pw300").modern(&suite)).register(at).expect("by the better of two");
        over(Phone::new("200", "pw200"))
            .register(at)
            .expect_err("one that knows only MD5 is not let in where it is not taken");
        for phone in [old, new] {
            phone.unregister(at).expect("it gives its registration up");
            assert_eq!(pbx.handle().contacts(&phone.user).await, Vec::<String>::new());
        }
    }
    pbx.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_with_compact_folded_headers_and_two_contacts_is_understood_and_may_remove_all() {
    if !have_all() {
        return;
    }
    let own = Own::new(&phone_with("100", "pw100", "", THREE));
    let (pbx, phone) = (own.start().await, Phone::new("100", "pw100"));
    let first = format!("sip:100@127.0.0.1:{}", phone.port);
    let both = [first.clone(), format!("{first};transport=tcp")];
    for _ in 0..2 {
        let answer = phone.send(own.address(), &Wish::lasting(300).oddly()).expect("it registers").text;
        assert!(answer.contains(INSTANCE) && answer.contains(";reg-id=1"), "{answer}");
        assert!(answer.contains("Require: outbound"), "{answer}");
        assert_eq!(pbx.handle().contacts("100").await, both);
    }
    let other = Phone::new("100", "pw100");
    other.register(own.address()).expect("a third contact has room");
    Phone::new("100", "pw100").register(own.address()).expect_err("a fourth has none");
    let answer = other.send(own.address(), &Wish::remove_all()).expect("all are removed").text;
    assert!(!answer.contains("Contact:"), "{answer}");
    assert_eq!(pbx.handle().contacts("100").await, Vec::<String>::new());
    pbx.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn phones_of_both_families_find_it_where_it_listens_at_every_address() {
    if !have_all() {
        return;
    }
    // A phone of IPv4 has an account for IPv4 addresses, and is not taken for one of IPv6.
    let only_v4 =
        phone_with("100", "pw100", "", THREE).replacen("auth=100", "deny=0.0.0.0/0\npermit=127.0.0.0/8\nauth=100", 1);
    let mut own = Own::new(&(only_v4 + &phone("200", "pw200")));
    let port = own.address().port();
    let every = |address: IpAddr| SocketAddr::new(address, port);
    for listen in &mut own.plan.settings.listen {
        listen.address = every(Ipv4Addr::UNSPECIFIED.into());
    }
    let any = every(Ipv6Addr::UNSPECIFIED.into());
    let own = own.and_at(SipTransport::Udp, any).and_at(SipTransport::Tcp, any);
    let pbx = own.start().await;
    let (v4, v6) = (Phone::new("100", "pw100"), Phone::new("200", "pw200").over_ipv6());
    let (at_v4, at_v6) = (every(Ipv4Addr::LOCALHOST.into()), every(Ipv6Addr::LOCALHOST.into()));
    for _ in 0..2 {
        v4.register(at_v4).expect("over IPv4");
        v4.clone().over_tcp().register(at_v4).expect("over IPv4 and TCP");
        v6.register(at_v6).expect("over IPv6");
        v6.clone().over_tcp().register(at_v6).expect("over IPv6 and TCP");
    }
    assert_eq!(pbx.handle().contacts("100").await, [format!("sip:100@127.0.0.1:{}", v4.port)]);
    assert_eq!(pbx.handle().contacts("200").await, [format!("sip:200@[::1]:{}", v6.port)]);
    pbx.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_softphone_registers_over_udp_tcp_and_tls_keeps_itself_registered_and_gives_up_at_its_end() {
    if !have(&baresip::PROGRAMS) {
        return;
    }
    let papers = Authority::new().good(&["127.0.0.1"]);
    let (mut own, tls) = Own::new(&phone("100", "pw100")).and_tls(&papers);
    // This softphone tries a wrong password fifteen times within milliseconds.
    own.plan.grace = Duration::from_secs(300);
    let pbx = own.start().await;
    for (over, at) in [(Over::Udp, own.address()), (Over::Tcp, own.address()), (Over::Tls, tls)] {
        let before = pbx.handle().view().await.expect("it runs").counts;
        let setup = baresip::Setup::new("100", "pw100", &at.to_string()).over(over).interval(6);
        let phone = Baresip::started(&setup);
        phone.wait_registered(SOON);
        let view = seen(&pbx.handle(), "it has renewed", |view| view.counts.accepted >= before.accepted + 2).await;
        assert_eq!((view.registrations, view.counts.wrong), (1, 0), "{over:?}");
        let contact = pbx.handle().contacts("100").await;
        let transport = format!(";transport={over:?}").to_lowercase();
        assert!(contact[0].contains(&transport) || over == Over::Udp, "{contact:?}");
        phone.stop();
        seen(&pbx.handle(), "it has given up", |view| view.registrations == 0).await;
    }
    let phone = Baresip::started(&baresip::Setup::new("100", "wrong", &own.address().to_string()));
    wait_until("it is refused", SOON, || phone.state().is_some_and(|state| state.starts_with("401 ")));
    pbx.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_registers_over_tls_with_sha_256_and_its_connection_stays() {
    let Some(suite) = Suite::forky() else { return };
    let papers = Authority::new().good(&["127.0.0.1"]);
    let (own, tls) = Own::new(&phone_with("200", "pw200", SHA_256, THREE)).and_tls(&papers);
    let pbx = own.start().await;
    let phone = Phone::new("200", "pw200").modern(&suite).over_tls();
    phone.register(tls).expect("over TLS");
    phone.register(tls).expect("and again, over another connection");
    assert_eq!(pbx.handle().contacts("200").await.len(), 1);
    // What speaks no TLS there is let go, and takes nothing from others.
    let mut plain = connected(tls);
    plain.write_all(b"REGISTER sip:127.0.0.1 SIP/2.0\r\n\r\n").expect("sent");
    let _ = plain.read_to_end(&mut Vec::new());
    phone.register(tls).expect("as before");
    pbx.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_cost_their_source_ever_more_time_and_nobody_else_any() {
    if !have_all() {
        return;
    }
    let own = Own::new(&phone("100", "pw100"));
    let (pbx, at) = (own.start().await, own.address());
    let (wrong, stranger) = (Phone::new("100", "wrong"), Phone::new("nobody", "pw100"));
    let elsewhere = Phone { local: IpAddr::from([127, 0, 0, 2]), ..Phone::new("100", "pw100") };
    for attempt in 0..6 {
        let phone = if attempt % 2 == 0 { &wrong } else { &stranger };
        let why = phone.register(at).expect_err("refused");
        assert_eq!(why, format!("{at} answered REGISTER with [401, 401]"), "attempt {attempt}");
    }
    for delay in [Duration::from_secs(1), Duration::from_secs(2)] {
        let begin = Instant::now();
        assert_eq!(pbx.handle().view().await.expect("it runs").blocked, 1);
        assert!(elsewhere.register(at).is_ok(), "nobody else pays for it");
        seen(&pbx.handle(), "it is listened to again", |view| view.blocked == 0).await;
        let waited = begin.elapsed();
        assert!(waited + Duration::from_millis(500) > delay, "{waited:?} of {delay:?}");
        wrong.register(at).expect_err("refused");
    }
    assert_eq!(wrong.knock(at), None, "silence, not even a challenge");
    let view = seen(&pbx.handle(), "it is listened to again", |view| view.blocked == 0).await;
    assert_eq!((view.counts.wrong, view.counts.accepted), (8, 2));
    Phone::new("100", "pw100").register(at).expect("who then gives the right password is let in");
    pbx.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_grace_time_wrong_passwords_are_refused_and_cost_nothing() {
    if !have_all() {
        return;
    }
    let mut own = Own::new(&phone("100", "pw100"));
    own.plan.grace = Duration::from_secs(300);
    let pbx = own.start().await;
    for _ in 0..8 {
        Phone::new("100", "wrong").register(own.address()).expect_err("refused");
    }
    Phone::new("100", "pw100").register(own.address()).expect("let in at once");
    let view = pbx.handle().view().await.expect("it runs");
    assert_eq!((view.counts.wrong, view.blocked), (8, 0));
    pbx.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_change_on_disk_are_taken_and_broken_ones_leave_the_last_good_ones() {
    if !have_all() {
        return;
    }
    let (old, new) = (phone("100", "pw100"), phone("200", "pw200"));
    let own = Own::new(&old);
    let pbx = own.driver();
    done(pbx.reload(Mode::Act, Load::First).await);
    let (at, second) = (own.address(), Phone::new("200", "pw200"));
    second.register(at).expect_err("nobody of that name is there yet");
    own.write(&(old.clone() + &new));
    wait_until("the new phone can register", SOON, || second.register(at).is_ok());

    // Half of a file: the copy is under way, or went wrong.
    let half = old.clone() + &new[..new.len() / 2];
    own.write(&half);
    let told = until("the accounts are said to be broken", async || pbx.status().await.trouble).await;
    assert!(told.starts_with(&format!("{}:", own.plan.accounts.display())), "{told}");
    second.register(at).expect("the last good accounts stay");
    let status = pbx.status().await;
    assert_eq!((status.serving, status.registrations), (Serving::Yes, Some(1)));

    own.write(&(old + &phone("200", "other")));
    let changed = Phone { password: "other".to_owned(), ..second.clone() };
    wait_until("the new password is taken", SOON, || changed.register(at).is_ok());
    second.register(at).expect_err("the old password is not");
    let told = pbx.status().await.trouble;
    assert!(told.as_ref().is_none_or(|told| told.contains("after wrong passwords")), "the file is good: {told:?}");
    done(pbx.stop_accepting().await);
}
