//! The rigs of registrars and phones: every phone of the lab registers at every registrar of the lab, as it would at
//! home, so that what is tested with them is tested against the real world.

use std::net::{Ipv6Addr, SocketAddr};
use std::slice;
use std::time::Duration;

use crate::lab::asterisk::{self, Asterisk};
use crate::lab::baresip::{self, Baresip, Over};
use crate::lab::crowd::{self, Crowd};
use crate::lab::kamailio::{self, Kamailio, Manner, Nonces};
use crate::lab::sip::Algorithm;
use crate::lab::sipp::{self, INSTANCE, Phone, Wish};
use crate::lab::suite::Suite;
use crate::lab::web::Authority;
use crate::lab::{free_port, have, wait_until};

/// Long enough for a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

fn kamailio_and_phones() -> bool {
    have(&kamailio::PROGRAMS) && have(&sipp::PROGRAMS)
}

#[test]
fn asterisk_registers_phones_keeps_them_over_a_restart_and_gives_them_up() {
    if !have(&sipp::PROGRAMS) {
        return;
    }
    let Some(forky) = Suite::forky() else { return };
    for suite in [Some(forky), Suite::bullseye()].into_iter().flatten() {
        let setup = asterisk::Setup::at(&suite, loopback()).account("100", "pw;100").max_contacts(3);
        let mut registrar = Asterisk::started(setup);
        let (at, phone) = (registrar.address(), Phone::new("100", "pw;100"));
        phone.register(at).expect("over UDP");
        phone.clone().over_tcp().register(at).expect("over TCP");
        assert_eq!(registrar.contacts("100"), [format!("sip:100@127.0.0.1:{}", phone.port)]);
        Phone::new("100", "wrong").register(at).expect_err("a wrong password is refused");
        Phone::new("200", "pw;100").register(at).expect_err("nobody else is there");
        registrar.stop();
        assert_eq!(phone.knock(at), None, "nobody answers after the stop");
        registrar.start();
        assert_eq!(registrar.bindings("100").len(), 1);
        phone.unregister(at).expect("it gives its registration up");
        assert_eq!(registrar.bindings("100"), []);
        registrar.kill();
        assert_eq!(phone.knock(at), None, "nobody answers after the kill");
    }
}

#[test]
fn asterisk_reads_the_files_that_a_test_gives_it() {
    if !have(&sipp::PROGRAMS) {
        return;
    }
    let Some(suite) = Suite::forky() else { return };
    let dir = tempfile::tempdir().expect("directory");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file");
    write(
        "pjsip.conf",
        "#include pjsip.auth.conf\n[300]\ntype=endpoint\naors=300\nauth=300\n[300]\ntype=aor\nmax_contacts=1\n",
    );
    write("pjsip.auth.conf", "[300]\ntype=auth\nusername=300\npassword=pw300\n");
    let registrar = Asterisk::started(asterisk::Setup::at(&suite, loopback()).pjsip(dir.path()));
    let phone = Phone::new("300", "pw300");
    phone.register(registrar.address()).expect("it is registered");
    write("pjsip.auth.conf", "[300]\ntype=auth\nusername=300\npassword=other\n");
    std::fs::copy(dir.path().join("pjsip.auth.conf"), registrar.path("etc/pjsip.auth.conf")).expect("a file");
    registrar.reload();
    let registered =
        |password: &str| Phone { password: password.to_owned(), ..phone.clone() }.register(registrar.address()).is_ok();
    wait_until("it has read its files again", LIMIT, || registered("other"));
    assert!(!registered("pw300"));
}

#[test]
fn a_phone_answers_challenges_of_md5_and_sha_256_at_kamailio_and_at_asterisk() {
    if !kamailio_and_phones() {
        return;
    }
    let Some(suite) = Suite::forky() else { return };
    for algorithm in Algorithm::ALL {
        let setup = kamailio::Setup::at(loopback()).account("100", "pw100").algorithm(algorithm).realm("a realm");
        let kamailio = Kamailio::started(setup);
        let setup = asterisk::Setup::at(&suite, loopback()).account("100", "pw100").algorithm(algorithm);
        let asterisk = Asterisk::started(setup);
        let old = Phone::new("100", "pw100");
        let phone = old.clone().modern(&suite);
        let contacts: [&dyn Fn() -> Vec<String>; 2] = [&|| kamailio.contacts("100"), &|| asterisk.contacts("100")];
        for (at, contacts) in [kamailio.address(), asterisk.address()].into_iter().zip(contacts) {
            // This is what the newer one is here for.
            assert_eq!(old.register(at).is_ok(), algorithm == Algorithm::Md5, "{at} {algorithm:?}");
            phone.register(at).expect("the newer sipp answers both");
            Phone::new("100", "wrong").modern(&suite).register(at).expect_err("a wrong password is refused");
            assert_eq!(contacts(), [format!("sip:100@127.0.0.1:{}", phone.port)]);
        }
    }
}

#[test]
fn asterisk_registers_its_trunk_at_kamailio_with_either_algorithm_and_gives_it_up_when_asked() {
    if !have(&kamailio::PROGRAMS) {
        return;
    }
    let Some(suite) = Suite::forky() else { return };
    for algorithm in Algorithm::ALL {
        let setup = kamailio::Setup::at(loopback()).account("trunk1", "secret").algorithm(algorithm);
        let provider = Kamailio::started(setup);
        let setup = asterisk::Setup::at(&suite, loopback()).algorithm(algorithm);
        let mut pbx = Asterisk::started(setup.trunk("carrier", provider.address(), "trunk1", "secret"));
        wait_until("the trunk is registered", LIMIT, || pbx.trunk_state("carrier") == "Registered");
        assert_eq!(provider.contacts("trunk1"), [format!("sip:carrier@{}", pbx.address())]);
        pbx.stop();
        assert_eq!(provider.contacts("trunk1").len(), 1, "a stopped Asterisk leaves its trunk where it is");
        pbx.start();
        wait_until("the trunk is registered again", LIMIT, || pbx.trunk_state("carrier") == "Registered");
        pbx.unregister_trunks();
        wait_until("it is given up when asked for", LIMIT, || provider.contacts("trunk1").is_empty());
    }
}

#[test]
fn a_provider_that_is_slow_refuses_or_is_silent_is_so_until_it_is_told_otherwise() {
    if !kamailio_and_phones() {
        return;
    }
    let provider = Kamailio::started(kamailio::Setup::at(loopback()).account("100", "pw100"));
    let (at, phone) = (provider.address(), Phone::new("100", "pw100"));
    let wish = Wish::lasting(300);
    provider.behave(Manner::Slow(Duration::from_millis(300)));
    let took = phone.register(at).expect("late, but it comes");
    assert!(took >= Duration::from_millis(600), "two answers, each 300 ms late, in {took:?}");
    for code in [403, 503] {
        provider.behave(Manner::Refuses(code, "Retry-After: 7"));
        let why = phone.send(at, &wish).expect_err("refused");
        assert_eq!(why, format!("{at} answered REGISTER with [{code}]"));
        assert!(phone.knock(at) == Some(code));
    }
    provider.behave(Manner::Silent);
    assert_eq!(phone.knock(at), None);
    provider.behave(Manner::Serves);
    phone.register(at).expect("as before");
}

#[test]
fn nonces_go_stale_or_are_good_once_as_they_are_asked_for() {
    if !kamailio_and_phones() {
        return;
    }
    let started = |nonces| Kamailio::started(kamailio::Setup::at(loopback()).account("100", "pw100").nonces(nonces));
    let (lasting, once, short) = (started(Nonces::For(300)), started(Nonces::Once), started(Nonces::For(1)));
    let phone = Phone::new("100", "pw100");
    let twice = Wish::lasting(300).times(2);
    phone.send(lasting.address(), &twice).expect("a nonce that lasts is good for a refresh");
    let why = phone.send(once.address(), &twice).expect_err("a nonce that is good once is not");
    assert!(why.ends_with("with [401, 200, 401], stale=true"), "{why}");
    let slowly = Wish::lasting(300).after(Duration::from_millis(2_100));
    phone.send(lasting.address(), &slowly).expect("a phone may take its time");
    let why = phone.send(short.address(), &slowly).expect_err("the nonce has gone stale");
    assert!(why.ends_with("with [401, 401], stale=true"), "{why}");
}

#[test]
fn a_phone_with_compact_folded_headers_and_two_contacts_is_understood() {
    if !kamailio_and_phones() {
        return;
    }
    let Some(suite) = Suite::forky() else { return };
    let kamailio = Kamailio::started(kamailio::Setup::at(loopback()).account("100", "pw100"));
    let asterisk = Asterisk::started(asterisk::Setup::at(&suite, loopback()).account("100", "pw100").max_contacts(3));
    let phone = Phone::new("100", "pw100");
    for (at, contacts) in [
        (kamailio.address(), &(|| kamailio.contacts("100")) as &dyn Fn() -> Vec<String>),
        (asterisk.address(), &|| asterisk.contacts("100")),
    ] {
        let answer = phone.send(at, &Wish::lasting(300).oddly()).expect("it is registered");
        let first = format!("sip:100@127.0.0.1:{}", phone.port);
        let mut held = contacts();
        held.sort();
        assert_eq!(held, [first.clone(), format!("{first};transport=tcp")]);
        if at == kamailio.address() {
            assert!(answer.text.contains(INSTANCE) && answer.text.contains("reg-id=1"), "{}", answer.text);
        }
        phone.send(at, &Wish::remove_all()).expect("all at once are removed");
        assert_eq!(contacts(), Vec::<String>::new());
    }
}

#[test]
fn phones_register_over_ipv6() {
    if !kamailio_and_phones() {
        return;
    }
    let Some(suite) = Suite::forky() else { return };
    let at = || SocketAddr::from((Ipv6Addr::LOCALHOST, free_port()));
    let kamailio = Kamailio::started(kamailio::Setup::at(at()).account("100", "pw100"));
    let asterisk = Asterisk::started(asterisk::Setup::at(&suite, at()).account("100", "pw100"));
    let phone = Phone::new("100", "pw100").over_ipv6();
    let contact = format!("sip:100@[::1]:{}", phone.port);
    phone.register(kamailio.address()).expect("at kamailio");
    assert_eq!(kamailio.contacts("100"), slice::from_ref(&contact));
    phone.register(asterisk.address()).expect("at asterisk");
    assert_eq!(asterisk.contacts("100"), [contact]);
}

#[test]
fn many_phones_register_at_once() {
    if !kamailio_and_phones() {
        return;
    }
    let accounts = crowd::accounts(200);
    let mut setup = kamailio::Setup::at(loopback());
    setup.accounts.clone_from(&accounts);
    let registrar = Kamailio::started(setup);
    let outcome = Crowd::new(&accounts).at_rate(1_000).register(registrar.address(), LIMIT);
    assert_eq!((outcome.registered, outcome.failed), (200, 0), "{outcome:?}");
    assert!(accounts.iter().all(|(user, _)| registrar.contacts(user).len() == 1));
    let wrong: Vec<_> = accounts.iter().map(|(user, _)| (user.clone(), "wrong".to_owned())).collect();
    let outcome = Crowd::new(&wrong).at_rate(1_000).register(registrar.address(), LIMIT);
    assert_eq!((outcome.registered, outcome.failed), (0, 200), "{outcome:?}");
}

#[test]
fn a_softphone_registers_over_udp_and_tcp_keeps_itself_registered_and_gives_up_at_its_end() {
    if !have(&kamailio::PROGRAMS) || !have(&baresip::PROGRAMS) {
        return;
    }
    let registrar = Kamailio::started(kamailio::Setup::at(loopback()).with_tcp().account("100", "pw100"));
    let at = registrar.address().to_string();
    for over in [Over::Tcp, Over::Udp] {
        let phone = Baresip::started(&baresip::Setup::new("100", "pw100", &at).over(over).interval(10));
        phone.wait_registered(LIMIT);
        if over == Over::Udp {
            let left = || registrar.bindings("100")[0].expires_s;
            let begin = left();
            wait_until("less is left of its registration", LIMIT, || left() < begin);
            wait_until("it has registered again", LIMIT, || left() == begin);
        }
        phone.stop();
        assert_eq!(registrar.contacts("100"), Vec::<String>::new(), "{over:?}");
    }
    let phone = Baresip::started(&baresip::Setup::new("100", "wrong", &at));
    wait_until("it is refused", LIMIT, || phone.state().is_some_and(|state| state.starts_with("401 ")));
}

#[test]
fn a_softphone_and_a_phone_register_at_asterisk_over_tls() {
    if !have(&baresip::PROGRAMS) {
        return;
    }
    let Some(suite) = Suite::forky() else { return };
    let tls = loopback();
    let setup = asterisk::Setup::at(&suite, loopback()).account("100", "pw100").account("200", "pw200");
    let registrar = Asterisk::started(setup.tls(tls, Authority::new().good(&["127.0.0.1"])));
    let phone = Baresip::started(&baresip::Setup::new("100", "pw100", &tls.to_string()).over(Over::Tls));
    phone.wait_registered(LIMIT);
    assert!(registrar.contacts("100")[0].contains("transport=tls"));
    Phone::new("200", "pw200").modern(&suite).over_tls().register(tls).expect("over TLS");
    assert_eq!(registrar.contacts("200").len(), 1);
}
