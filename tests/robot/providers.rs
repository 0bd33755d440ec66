//! What a person sees of a provider that still holds the dead primary's registration, and what each setting does.

use std::net::SocketAddr;
use std::time::Duration;

use crate::failback::quick;
use crate::lab::dns::Kind;
use crate::lab::kamailio::{Kamailio, Setup};
use crate::lab::robot::step;
use crate::lab::scene::{self, Scene, Wishes, possible};
use crate::lab::{free_port, wait_until};

/// What is waited for on a busy machine.
const SOON: Duration = Duration::from_secs(60);

fn with_trunk(yaml: String, more: &str) -> String {
    scene::builtin(quick(yaml)).replace("kind: register, required: true", &format!("kind: register, {more}"))
}

fn shown(yaml: String) -> String {
    with_trunk(yaml, "move: provider")
}

fn cleared(yaml: String) -> String {
    with_trunk(yaml, "clear_old_binding: true")
}

/// A scene whose primary has registered the trunk, and dies; with the place of its contact.
fn after_a_death(edit: fn(String) -> String) -> Option<(Scene, SocketAddr)> {
    if !possible() {
        return None;
    }
    let mut scene = Scene::set(&Wishes { edit, ..Wishes::on(Kind::Bind) })?;
    let place = SocketAddr::from(([127, 0, 0, 11], free_port()));
    let trunk = Setup::at(place).trunk("carrier", scene.provider.address(), "carrier-user", "carrier-pw");
    let primary = Kamailio::started(trunk.trunks_expire(3600));
    primary.verb("register_trunks");
    assert_eq!(scene.provider.contacts("carrier-user"), [format!("sip:carrier@{place}")]);
    scene.robot.start();
    scene.robot.wait_armed();
    let check = said(&scene, "check");
    assert!(check.contains(&format!("holds {place} (3")), "check tells it before the bad day: {check}");
    assert_eq!(scene.provider.contacts("carrier-user").len(), 1, "and changes nothing");
    primary.signal("KILL");
    wait_until("the primary is dead", SOON, || primary.pids().is_empty());
    scene.web.kill();
    scene.robot.wait_served();
    scene.robot.wait("its steps are over", |status| status["plan"]["ended"].is_string());
    Some((scene, place))
}

/// What a command prints, without its line ends.
fn said(scene: &Scene, command: &str) -> String {
    let out = scene.robot.cli(&[command]);
    String::from_utf8_lossy(&out.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn after_a_takeover_status_and_explain_tell_that_the_provider_also_holds_the_dead_primary() {
    let Some((scene, place)) = after_a_death(shown) else { return };
    let status = scene.robot.wait("it is told", |status| !status["pbx"]["trunks"][0]["foreign"].is_null());
    let carrier = &status["pbx"]["trunks"][0];
    assert_eq!((&carrier["state"], &carrier["foreign"][0]["place"]), (&"up".into(), &place.to_string().into()));
    let holds = format!("its provider also holds {place} (3");
    for command in ["status", "explain"] {
        let said = said(&scene, command);
        assert!(said.contains(&holds) && !said.contains("carrier-pw"), "{said}");
    }
    assert!(said(&scene, "status").contains("provider was told: "), "{}", said(&scene, "status"));
    let proof = step(&status, "register_trunks").to_string();
    assert!(proof.contains(&format!("the provider of carrier also holds {place}")), "{proof}");
    assert_eq!(scene.provider.contacts("carrier-user").len(), 2);
}

#[test]
fn with_clear_old_binding_the_takeover_removes_the_dead_primary_at_the_provider_and_says_so() {
    let Some((scene, place)) = after_a_death(cleared) else { return };
    let status = scene.robot.status();
    let proof = step(&status, "register_trunks").to_string();
    assert!(proof.contains(&format!("of carrier the old binding was removed: {place} (3")), "{proof}");
    assert_eq!(scene.provider.contacts("carrier-user"), [format!("sip:carrier@{}", scene.pbx.address())]);
    assert!(!said(&scene, "status").contains("also holds"));
}
