//! Trunks of the built-in PBX at real providers: Kamailio and Asterisk 22, in good and in bad health.

use std::net::Ipv6Addr;

use serde_json::json;

use super::*;
use crate::lab::asterisk::{self, Asterisk};
use crate::lab::kamailio::{Manner, Nonces};
use crate::lab::sip::Algorithm;
use crate::lab::suite::Suite;

/// A registration that is renewed within seconds.
const BRIEF: &str = "expiration=7\n";

fn to(provider: &Kamailio) -> String {
    format!("sip:{}", provider.address())
}

/// A provider with one account.
fn with_one_account(at: SocketAddr) -> Kamailio {
    Kamailio::started(Setup::at(at).account("trunk1", "secret"))
}

/// A phone, and a trunk at that account with this password.
fn carrier(provider: &Kamailio, password: &str) -> String {
    phone("100", "pw100") + &trunk("carrier", &to(provider), "trunk1", password, "")
}

/// How many REGISTERs came to it.
fn asked(provider: &Kamailio) -> u64 {
    let said = provider.rpc("stats.fetchn", &json!(["core:rcv_requests_register"])).expect("kamailio runs");
    said["core.rcv_requests_register"].as_u64().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn trunks_register_at_kamailio_and_asterisk_with_md5_and_sha_256_over_udp_and_tcp_and_leave_nothing() {
    if !have_all() {
        return;
    }
    let Some(suite) = Suite::forky() else { return };
    let name = |who: &str, algorithm, over: &str| format!("{who}-{algorithm:?}-{over}").to_lowercase();
    let mut accounts = phone("100", "pw100");
    let start = |algorithm: Algorithm| {
        let setup = Setup::at(loopback()).with_tcp().algorithm(algorithm).realm("a provider");
        let kamailio = Kamailio::started(setup.account("udp", "se cret").account("tcp", "secret"));
        let setup = asterisk::Setup::at(&suite, loopback()).algorithm(algorithm);
        let asterisk = Asterisk::started(setup.account("udp", "se cret").account("tcp", "secret"));
        for (who, at) in [("kamailio", kamailio.address()), ("asterisk", asterisk.address())] {
            accounts += &trunk(&name(who, algorithm, "udp"), &format!("sip:{at}"), "udp", "se cret", "");
            let uri = format!("sip:{at}\\;transport=tcp");
            accounts += &trunk(&name(who, algorithm, "tcp"), &uri, "tcp", "secret", "");
        }
        (algorithm, kamailio, asterisk)
    };
    let providers = Algorithm::ALL.map(start);
    // What each trunk's provider holds for it.
    let held = || {
        providers.iter().flat_map(|(algorithm, kamailio, asterisk)| {
            ["udp", "tcp"].into_iter().flat_map(move |over| {
                let of = |who, contacts| (name(who, *algorithm, over), contacts);
                [of("kamailio", kamailio.contacts(over)), of("asterisk", asterisk.contacts(over))]
            })
        })
    };
    let own = Own::new(&accounts);
    let pbx = own.start().await;
    let handle = pbx.handle();
    assert!(handle.view().await.expect("it runs").trunks.iter().all(|(t, _)| t.state == TrunkState::Down));
    for round in 0..2 {
        handle.register_trunks().await;
        let up = |view: &View| view.trunks.len() == 8 && view.trunks.iter().all(|(t, _)| t.state == TrunkState::Up);
        seen(&handle, "all are registered", up).await;
        for (name, contacts) in held() {
            let parameter = if name.ends_with("tcp") { ";transport=tcp" } else { "" };
            assert_eq!(contacts, [format!("sip:{name}@{}{parameter}", own.address())], "round {round}");
        }
        handle.release_trunks().await.expect("all are given up");
        for (name, contacts) in held() {
            assert_eq!(contacts, Vec::<String>::new(), "{name}, round {round}");
        }
    }
    pbx.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_of_ipv6_is_told_an_address_of_ipv6_and_without_one_the_reason_is_said() {
    if !have_all() {
        return;
    }
    let provider = with_one_account(SocketAddr::from((Ipv6Addr::LOCALHOST, free_port())));
    let own = Own::new(&carrier(&provider, "secret"));
    let pbx = own.start().await;
    pbx.handle().register_trunks().await;
    let unfit = |view: &View| told(view, "carrier").0 == TrunkState::Down;
    let view = seen(&pbx.handle(), "it says why it cannot", unfit).await;
    let (_, code, said) = told(&view, "carrier");
    assert!(code.is_none() && said.contains("pbx.driver.builtin.listen"), "{said}");
    pbx.stop().await;

    let ours = SocketAddr::from((Ipv6Addr::LOCALHOST, free_port()));
    let own = own.and_at(SipTransport::Udp, ours);
    let pbx = own.start().await;
    pbx.handle().register_trunks().await;
    seen(&pbx.handle(), "it is registered", |view| told(view, "carrier").0 == TrunkState::Up).await;
    assert_eq!(provider.contacts("trunk1"), [format!("sip:carrier@{ours}")]);
    pbx.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_tried_three_times_and_a_corrected_one_at_once() {
    if !have_all() {
        return;
    }
    let provider = with_one_account(loopback());
    let own = Own::new(&carrier(&provider, "wrong"));
    let pbx = own.driver();
    done(pbx.reload(Mode::Act, Load::First).await);
    let begin = Instant::now();
    for mode in [Mode::Act, Mode::Look, Mode::Act] {
        let StepOutcome::Refused(why) = pbx.register_trunks(mode).await else { panic!("not refused") };
        assert!(
            why.starts_with(
                "trunk carrier is refused by its provider (401): 401 Unauthorized: user name or password is wrong"
            ),
            "{why}"
        );
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "a refusal is told at once: {:?}", begin.elapsed());
    // Each attempt is two requests: one to be challenged, one with the password.
    wait_until("it has been tried three times", SOON, || asked(&provider) == 6);
    let status = pbx.status().await;
    assert_eq!((status.trunks[0].state, status.trunks[0].sip_code), (TrunkState::Rejected, Some(401)));
    let StepOutcome::Refused(why) = pbx.register_trunks(Mode::Act).await else { panic!("not refused") };
    assert!(why.ends_with("the next attempt comes in 10 minutes"), "{why}");
    assert_eq!(asked(&provider), 6, "nobody insists");
    own.write(&carrier(&provider, "secret"));
    wait_until("the corrected password is used", SOON, || provider.contacts("trunk1").len() == 1);
    done(pbx.register_trunks(Mode::Look).await);
    done(pbx.unregister_trunks().await);
    assert_eq!(provider.contacts("trunk1"), Vec::<String>::new());
    done(pbx.stop_accepting().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_refuses_for_a_while_is_told_with_its_code_and_asked_again() {
    if !have_all() {
        return;
    }
    let provider = with_one_account(loopback());
    let own = Own::new(&carrier(&provider, "secret"));
    let pbx = own.start().await;
    let handle = pbx.handle();
    for (manner, state, code) in [
        (Manner::Refuses(503, "Retry-After: 3"), TrunkState::Down, 503),
        (Manner::Refuses(403, ""), TrunkState::Rejected, 403),
    ] {
        provider.behave(manner);
        handle.register_trunks().await;
        let so = |view: &View| told(view, "carrier").0 == state && told(view, "carrier").1 == Some(code);
        let view = seen(&handle, "it is refused", so).await;
        assert!(told(&view, "carrier").2.starts_with(&format!("{code} Refused")), "{view:?}");
    }
    provider.behave(Manner::Serves);
    seen(&handle, "it is registered", |view| told(view, "carrier").0 == TrunkState::Up).await;
    provider.behave(Manner::Refuses(503, ""));
    let why = handle.release_trunks().await.expect_err("the provider keeps it");
    assert!(why.starts_with("carrier: 503 Refused"), "{why}");
    assert_eq!(provider.contacts("trunk1").len(), 1);
    pbx.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_provider_is_waited_for() {
    if !have_all() {
        return;
    }
    let provider = with_one_account(loopback());
    let own = Own::new(&carrier(&provider, "secret"));
    let pbx = own.start().await;
    let handle = pbx.handle();
    provider.behave(Manner::Slow(Duration::from_millis(1_500)));
    handle.register_trunks().await;
    let tries = |view: &View| matches!(told(view, "carrier").0, TrunkState::Trying | TrunkState::Up);
    let view = seen(&handle, "it is registered", |view| {
        assert!(tries(view), "{view:#?}");
        told(view, "carrier").0 == TrunkState::Up
    })
    .await;
    assert_eq!(told(&view, "carrier").1, Some(200));
    assert_eq!(provider.contacts("trunk1").len(), 1);
    pbx.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonces_that_expire_or_are_good_once_are_no_refusals() {
    if !have_all() {
        return;
    }
    let started = |nonces| Kamailio::started(Setup::at(loopback()).account("trunk1", "secret").nonces(nonces));
    let providers = [started(Nonces::For(1)), started(Nonces::Once)];
    let names = ["expires", "once"];
    let trunks = names.iter().zip(&providers).map(|(name, p)| trunk(name, &to(p), "trunk1", "secret", BRIEF));
    let own = Own::new(&(phone("100", "pw100") + &trunks.collect::<String>()));
    let pbx = own.start().await;
    let handle = pbx.handle();
    handle.register_trunks().await;
    let all_up = |view: &View| names.iter().all(|name| told(view, name).0 == TrunkState::Up);
    seen(&handle, "all are registered", all_up).await;
    assert!(providers.iter().all(|provider| asked(provider) == 2), "one challenge, one answer");
    // A renewal comes with the old nonce, is challenged anew, and answers that.
    seen(&handle, "all are renewed", |view| {
        assert!(all_up(view), "{view:#?}");
        providers.iter().all(|provider| asked(provider) == 4)
    })
    .await;
    seen(&handle, "all are up", all_up).await;
    handle.release_trunks().await.expect("all are given up");
    assert!(providers.iter().all(|provider| provider.contacts("trunk1").is_empty()));
    pbx.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_killed_and_comes_back_is_registered_at_without_anybody_asking() {
    if !have_all() {
        return;
    }
    let provider = Kamailio::new(Setup::at(loopback()).with_tcp().account("udp", "secret").account("tcp", "secret"));
    let udp = trunk("udp", &to(&provider), "udp", "secret", BRIEF);
    let tcp = trunk("tcp", &format!("{}\\;transport=tcp", to(&provider)), "tcp", "secret", BRIEF);
    let other = trunk("tcp2", &format!("{}\\;transport=tcp", to(&provider)), "tcp", "secret", BRIEF);
    let own = Own::new(&(phone("100", "pw100") + &udp + &tcp + &other));
    let pbx = own.start().await;
    let handle = pbx.handle();
    // Nobody is there: over TCP that is known at once.
    handle.register_trunks().await;
    let down = |view: &View| ["tcp", "tcp2"].iter().all(|name| told(view, name).0 == TrunkState::Down);
    let view = seen(&handle, "nobody takes the connection", down).await;
    assert_eq!(told(&view, "tcp").2, format!("{}: Connection refused (os error 111)", provider.address()));
    assert_eq!(told(&view, "udp").0, TrunkState::Trying);
    let up = |view: &View| view.trunks.iter().all(|(trunk, _)| trunk.state == TrunkState::Up);
    provider.start();
    seen(&handle, "it is registered", up).await;
    provider.signal("KILL");
    wait_until("it is dead", SOON, || provider.pids().is_empty());
    let lost = |view: &View| view.trunks.iter().all(|(trunk, _)| trunk.state != TrunkState::Up);
    let view = seen(&handle, "the loss is seen at the renewal", lost).await;
    assert!(told(&view, "tcp").2.contains("refused"), "{view:#?}");
    provider.start();
    seen(&handle, "it is registered again", up).await;
    assert_eq!([provider.contacts("udp").len(), provider.contacts("tcp").len()], [1, 2]);
    handle.release_trunks().await.expect("all are given up");
    assert!(provider.contacts("udp").is_empty() && provider.contacts("tcp").is_empty());
    pbx.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_whose_certificate_nobody_knows_is_not_trusted_and_the_line_says_what_to_do() {
    let Some(suite) = Suite::forky() else { return };
    let tls = loopback();
    let setup = asterisk::Setup::at(&suite, loopback()).account("trunk1", "secret");
    let provider = Asterisk::started(setup.tls(tls, Authority::new().good(&["127.0.0.1"])));
    let uri = format!("sip:{tls}\\;transport=tls");
    let own = Own::new(&(phone("100", "pw100") + &trunk("carrier", &uri, "trunk1", "secret", "")));
    let pbx = own.start().await;
    pbx.handle().register_trunks().await;
    let down = |view: &View| told(view, "carrier").0 == TrunkState::Down;
    let view = seen(&pbx.handle(), "it is not trusted", down).await;
    let line = format!(
        "{tls}: certificate is signed by nobody whom this host knows; give its authority to this host \
         (update-ca-certificates)"
    );
    assert_eq!(told(&view, "carrier"), (TrunkState::Down, None, line.as_str()));
    assert_eq!(provider.contacts("trunk1"), Vec::<String>::new());
    pbx.stop().await;
}
