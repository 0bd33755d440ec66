//! The built-in PBX at providers that hold the dead primary's binding, and at those that know an address only.

use std::net::IpAddr;

use pbx_failover::adapters::pbx::{Accounts, Own as Here, Proved};
use pbx_failover::config::{OldBinding, Trunk};
use pbx_failover::units::finding::Level;

use super::*;
use crate::lab::kamailio::{Options, Removal, Second};
use crate::pbx::providers::{Dead, asked, carrier, here, told};

/// The built-in PBX at this provider, with what providers say.
struct Rig {
    own: Own,
    proved: Proved,
    resident: Resident,
}

impl Rig {
    fn at(provider: &Kamailio, trunk: Trunk, here: Here) -> Self {
        Self::with_password(provider, trunk, here, "secret")
    }

    fn with_password(provider: &Kamailio, named: Trunk, here: Here, password: &str) -> Self {
        let uri = format!("sip:{}", provider.address());
        let own = Own::new(&(phone("100", "pw100") + &trunk("carrier", &uri, "trunk1", password, "")));
        let marker = own.dir.path().join("run/active");
        let site = site_with(vec![named.clone()], &marker, own.address(), &[]);
        let resident = Resident::default();
        let inner = BuiltinPbx::with(site, own.plan.clone(), resident.clone());
        let accounts = Accounts::Pjsip(vec![own.plan.accounts.clone()]);
        let proved = Proved::with(Box::new(inner), vec![named], here, accounts);
        Self { own, proved, resident }
    }

    /// The PBX registers its trunk before anybody asks it to, as Asterisk does when it starts.
    async fn registers_itself(&self) {
        let marker = self.own.dir.path().join("run/active");
        let site = site_with(vec![carrier(OldBinding::Shown)], &marker, self.own.address(), &[]);
        let same = BuiltinPbx::with(site, self.own.plan.clone(), self.resident.clone());
        done(same.register_trunks(Mode::Act).await);
    }

    /// Its own contact at the provider.
    fn contact(&self) -> String {
        format!("sip:carrier@{}", self.own.address())
    }

    async fn started(self) -> Self {
        done(self.proved.reload(Mode::Act, Load::First).await);
        self
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_allows_many_keeps_the_dead_primary_s_binding_which_is_told_and_removed_where_that_is_set() {
    if !have_all() {
        return;
    }
    let dead = Dead::at(Second::Kept);
    let rig = Rig::at(&dead.provider, carrier(OldBinding::Shown), here("127.0.0.1")).started().await;
    let proof = done(rig.proved.register_trunks(Mode::Act).await);
    assert!(
        proof.starts_with("carrier up (200); the provider of carrier ") && proof.contains(&dead.named()),
        "{proof}"
    );
    let status = rig.proved.status().await;
    assert_eq!((status.trunks[0].state, &status.trunks[0].foreign[0].place), (TrunkState::Up, &dead.place));
    assert!((3500..=3600).contains(&status.trunks[0].foreign[0].expires_s), "{status:?}");
    let mut both = [dead.contact.clone(), rig.contact()];
    let mut held = dead.held();
    both.sort();
    held.sort();
    assert_eq!(held, both, "shown is not removed");
    done(rig.proved.unregister_trunks().await);
    done(rig.proved.stop_accepting().await);

    let rig = Rig::at(&dead.provider, carrier(OldBinding::Cleared), here("127.0.0.1")).started().await;
    assert_eq!(rig.proved.status().await.trunks[0].state, TrunkState::Down);
    failed(rig.proved.register_trunks(Mode::Look).await);
    assert!(dead.held().contains(&dead.contact), "looking removes nothing");
    for _ in 0..2 {
        done(rig.proved.register_trunks(Mode::Act).await);
        assert_eq!(dead.held(), [rig.contact()], "only the dead one is gone, also when it is asked for again");
    }
    told(&rig.proved, "nothing of others is held", |status| status.trunks[0].foreign.is_empty()).await;
    done(rig.proved.stop_accepting().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_allows_one_registration_refuses_ours_until_the_dead_primary_s_is_removed() {
    if !have_all() {
        return;
    }
    let dead = Dead::at(Second::Refused);
    let rig = Rig::at(&dead.provider, carrier(OldBinding::Shown), here("127.0.0.1")).started().await;
    let outcome = rig.proved.register_trunks(Mode::Act).await;
    assert!(!matches!(outcome, StepOutcome::Done(_)), "{outcome:?}");
    println!("one registration, shown: {outcome:?}");
    assert!(outcome.text().contains(&dead.named()), "{outcome:?}");
    let status = rig.proved.status().await;
    println!("status: {:?}", status.trunks);
    assert!(outcome.text().ends_with("clear_old_binding: true has it removed"), "{outcome:?}");
    assert_ne!(status.trunks[0].state, TrunkState::Up);
    assert_eq!(status.trunks[0].said.as_deref(), Some("503 Service Unavailable"));
    assert_eq!(status.trunks[0].foreign[0].place, dead.place);
    assert_eq!(dead.held(), [dead.contact.as_str()]);
    done(rig.proved.stop_accepting().await);

    let rig = Rig::at(&dead.provider, carrier(OldBinding::Cleared), here("127.0.0.1")).started().await;
    let proof = done(rig.proved.register_trunks(Mode::Act).await);
    println!("one registration, cleared: {proof}");
    assert!(proof.contains(&format!("of carrier the old binding was removed: {} (3", dead.place)), "{proof}");
    assert_eq!(dead.held(), [rig.contact()]);
    let status = rig.proved.status().await;
    assert_eq!((status.trunks[0].state, &status.trunks[0].foreign), (TrunkState::Up, &Vec::new()));
    done(rig.proved.stop_accepting().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_removes_no_single_contact_is_told_to_remove_all_before_ours_is_there_and_never_after() {
    if !have_all() {
        return;
    }
    let dead = Dead::with(|setup| setup.second(Second::Refused).removal(Removal::AllOnly));
    let rig = Rig::at(&dead.provider, carrier(OldBinding::Cleared), here("127.0.0.1")).started().await;
    let proof = done(rig.proved.register_trunks(Mode::Act).await);
    assert!(proof.contains("of carrier the old binding was removed"), "{proof}");
    assert_eq!(dead.held(), [rig.contact()]);
    done(rig.proved.stop_accepting().await);

    let dead = Dead::with(|setup| setup.removal(Removal::AllOnly));
    let rig = Rig::at(&dead.provider, carrier(OldBinding::Cleared), here("127.0.0.1")).started().await;
    rig.registers_itself().await;
    let proof = done(rig.proved.register_trunks(Mode::Act).await);
    assert!(proof.contains(&format!("of carrier the provider still holds {}", dead.place)), "{proof}");
    assert_eq!(dead.held().len(), 2, "ours is not taken away with it");
    done(rig.proved.stop_accepting().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_whose_one_registration_is_replaced_holds_ours_alone_without_our_doing() {
    if !have_all() {
        return;
    }
    let dead = Dead::at(Second::Replaces);
    let rig = Rig::at(&dead.provider, carrier(OldBinding::Shown), here("127.0.0.1")).started().await;
    assert_eq!(done(rig.proved.register_trunks(Mode::Act).await), "carrier up (200)");
    assert_eq!(dead.held(), [rig.contact()]);
    assert_eq!(rig.proved.status().await.trunks[0].foreign, Vec::new());
    done(rig.proved.stop_accepting().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_binding_is_known_as_ours_none_is_removed_once_we_are_registered() {
    if !have_all() {
        return;
    }
    let dead = Dead::at(Second::Kept);
    // As behind NAT with an address that nobody wrote down: the PBX says one that this host does not know as its own.
    let mut own = Own::new("");
    let at = SocketAddr::from(([127, 0, 0, 3], free_port()));
    for listen in &mut own.plan.settings.listen {
        listen.address = at;
    }
    let uri = format!("sip:{}", dead.provider.address());
    own.write(&(phone("100", "pw100") + &trunk("carrier", &uri, "trunk1", "secret", "")));
    let site = site_with(vec![carrier(OldBinding::Cleared)], &own.dir.path().join("run/active"), at, &[]);
    let inner = BuiltinPbx::with(site, own.plan.clone(), Resident::default());
    done(inner.reload(Mode::Act, Load::First).await);
    done(inner.register_trunks(Mode::Act).await);
    let accounts = Accounts::Pjsip(vec![own.plan.accounts.clone()]);
    let proved = Proved::with(Box::new(inner), vec![carrier(OldBinding::Cleared)], here("127.0.0.1"), accounts);
    let proof = done(proved.register_trunks(Mode::Act).await);
    assert!(proof.contains("none of them is at an address of this host, and one must be"), "{proof}");
    assert_eq!(dead.held().len(), 2, "{:?}", dead.held());
    done(proved.stop_accepting().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_refuses_the_password_is_asked_three_times_and_then_left_alone() {
    if !have_all() {
        return;
    }
    let dead = Dead::at(Second::Kept);
    let rig = Rig::with_password(&dead.provider, carrier(OldBinding::Cleared), here("127.0.0.1"), "wrong");
    let registers = || {
        let said = dead.provider.rpc("stats.fetchn", &serde_json::json!(["core:rcv_requests_register"]));
        said.expect("kamailio runs")["core.rcv_requests_register"].as_u64().expect("a number")
    };
    let before = registers();
    for _ in 0..5 {
        rig.proved.findings().await;
    }
    // Each is two requests: one to be challenged, one with the password.
    assert_eq!(registers() - before, 6);
    let findings = rig.proved.findings().await;
    let said = findings.iter().find(|finding| finding.about == "trunk carrier").expect("told");
    assert!(said.text.contains("it refused 3 times; it is asked again in 10 minutes"), "{}", said.text);
    assert_eq!(dead.held(), [dead.contact.as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_by_address_is_up_where_its_provider_answers_our_address_and_refused_or_down_where_not() {
    if !have_all() {
        return;
    }
    let known = address("127.0.0.9");
    let provider = |options| Kamailio::started(Setup::at(loopback()).account("trunk1", "secret").options(options));
    for (options, listen, state, code, words) in [
        (
            Options::Only(known),
            "127.0.0.9",
            TrunkState::Up,
            Some(200),
            "answers OPTIONS with 200 OK, asked from 127.0.0.9",
        ),
        (
            Options::Only(known),
            "127.0.0.8",
            TrunkState::Rejected,
            Some(403),
            "answers OPTIONS with 403 Forbidden, asked from 127.0.0.8; the provider does not know this address: ask it to \
             allow 127.0.0.8",
        ),
        (
            Options::Only(known),
            "198.51.100.20",
            TrunkState::Rejected,
            Some(403),
            "asked from 127.0.0.1, as the kernel chose, because 198.51.100.20 is not on this host; the provider does not \
             know this address: ask it to allow 198.51.100.20",
        ),
        (
            Options::SilentBut(known),
            "127.0.0.8",
            TrunkState::Down,
            None,
            "does not answer OPTIONS within 4s, asked from 127.0.0.8; ask it to allow 127.0.0.8",
        ),
    ] {
        let provider = provider(options);
        let rig = Rig::at(&provider, asked(TrunkKind::Ip, &provider), here(listen)).started().await;
        let outcome = rig.proved.register_trunks(Mode::Act).await;
        match state {
            TrunkState::Up => assert!(matches!(outcome, StepOutcome::Done(_)), "{outcome:?}"),
            TrunkState::Rejected => assert!(matches!(outcome, StepOutcome::Refused(_)), "{outcome:?}"),
            _ => assert!(matches!(outcome, StepOutcome::Failed(_)), "{outcome:?}"),
        }
        assert!(outcome.text().starts_with("trunk carrier: ") && outcome.text().contains(words), "{outcome:?}");
        let status = rig.proved.status().await;
        let carrier = status.trunks.iter().find(|trunk| trunk.name == "carrier").expect("told");
        assert_eq!((carrier.state, carrier.sip_code), (state, code));
        assert!(carrier.said.as_ref().is_some_and(|said| said.contains(words)), "{carrier:?}");
        done(rig.proved.stop_accepting().await);
        let passive = rig.proved.status().await;
        assert_eq!((passive.serving, passive.trunks[0].state), (Serving::No, TrunkState::Down));

        let findings = rig.proved.findings().await;
        let level = if state == TrunkState::Up { Level::Ok } else { Level::Problem };
        let ours: Vec<_> = findings.iter().filter(|finding| finding.about == "trunk carrier").collect();
        assert_eq!(ours[0].level, level, "check tells the same while the PBX is passive: {ours:?}");
        assert!(ours[1].text.contains("still go to the primary's address"), "{ours:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_that_registers_and_is_proved_by_options_needs_both() {
    if !have_all() {
        return;
    }
    let provider = Kamailio::started(
        Setup::at(loopback()).account("trunk1", "secret").options(Options::Only(address("127.0.0.9"))),
    );
    let rig = Rig::at(&provider, asked(TrunkKind::Register, &provider), here("127.0.0.9")).started().await;
    let neither = failed(rig.proved.register_trunks(Mode::Look).await);
    assert!(neither.contains("carrier is down"), "{neither}");
    let proof = done(rig.proved.register_trunks(Mode::Act).await);
    assert!(proof.starts_with("carrier up (200); trunk carrier: ") && proof.contains("200 OK"), "{proof}");
    done(rig.proved.unregister_trunks().await);
    done(rig.proved.stop_accepting().await);

    let rig = Rig::at(&provider, asked(TrunkKind::Register, &provider), here("127.0.0.1")).started().await;
    let StepOutcome::Refused(why) = rig.proved.register_trunks(Mode::Act).await else { panic!("one is no proof") };
    assert!(why.contains("403 Forbidden"), "{why}");
    assert_eq!(provider.contacts("trunk1"), [rig.contact()], "it is registered all the same");
    assert_eq!(rig.proved.status().await.trunks[0].state, TrunkState::Rejected);
    done(rig.proved.stop_accepting().await);
}
