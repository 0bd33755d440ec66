//! From a dead primary to a serving backup.

use crate::lab::dns::{self, Kind};
use crate::lab::robot::step;
use crate::lab::scene::{self, BACKUP_NAMED, Scene, Wishes, possible};

fn a_dead_primary_is_replaced(wishes: &Wishes) {
    if !possible() {
        return;
    }
    let Some(mut scene) = Scene::armed(wishes) else { return };
    assert_eq!(scene.phone.knock(scene.pbx.address()), None, "the backup is passive before");
    scene.web.kill();
    let status = scene.robot.wait_served();
    assert_eq!(scene.dns.query("pbx.lab.test", "A"), [BACKUP_NAMED]);
    assert_eq!(scene.dns.query("pbx.lab.test", "AAAA"), [] as [&str; 0]);
    assert_eq!(scene.dns.query("_sip._udp.lab.test", "SRV"), ["10 0 5060 pbx-b.lab.test."]);
    let epoch = scene.dns.query(dns::EPOCH, "TXT");
    assert!(epoch.len() == 1 && epoch[0].contains("epoch=1 holder=pbx-b"), "{epoch:?}");
    scene.phone.register(scene.pbx.address()).expect("the phone registers at the backup");
    assert_eq!(scene.provider.contacts("carrier-user").len(), 1, "the trunk is registered at the provider");
    for name in [
        "confirm",
        "claim",
        "reload",
        "accept_registrations",
        "register_trunks",
        "redirect_dns",
        "action_urls",
        "notify",
    ] {
        let step = step(&status, name);
        assert_eq!(step["state"], "done", "{step}");
        assert!(step["proof"].as_str().is_some_and(|proof| !proof.is_empty()), "{step}");
    }
    let urls: Vec<_> = scene.receiver.received().into_iter().map(|r| r.target).collect();
    assert_eq!(urls, [format!("/update?name=pbx.lab.test&ip={BACKUP_NAMED}&event=takeover")]);
    let subjects: Vec<_> = scene.mail.mails().iter().map(|mail| mail.read()["headers"].to_string()).collect();
    let served = subjects.iter().filter(|s| s.contains("serves the phones now")).count();
    assert_eq!(served, 1, "{subjects:?}");
}

#[test]
fn a_dead_primary_is_replaced_with_bind() {
    a_dead_primary_is_replaced(&Wishes::on(Kind::Bind));
}

#[test]
fn a_dead_primary_is_replaced_with_knot() {
    a_dead_primary_is_replaced(&Wishes::on(Kind::Knot));
}

#[test]
fn a_dead_primary_is_replaced_with_powerdns() {
    a_dead_primary_is_replaced(&Wishes::on(Kind::PowerDns));
}

#[test]
fn a_dead_primary_is_replaced_with_the_demos_own_server() {
    a_dead_primary_is_replaced(&Wishes::on(Kind::Demo));
}

#[test]
fn a_dead_primary_is_replaced_with_the_built_in_pbx() {
    a_dead_primary_is_replaced(&Wishes { edit: scene::builtin, ..Wishes::on(Kind::Bind) });
}
