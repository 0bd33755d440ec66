//! The PBX that is built into the robot, in the daemon: phones come to it when the primary dies, and stay when the
//! daemon does.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::failback::{primary_returns, quick, serving};
use crate::lab::baresip::{self, Baresip};
use crate::lab::dns::Kind;
use crate::lab::kamailio::{Kamailio, Setup};
use crate::lab::robot::Robot;
use crate::lab::scene::{self, BACKUP_NAMED, PRIMARY_NAMED, Scene, Wishes, possible};
use crate::lab::{have, wait_until};

/// Where the primary is on loopback; the backup is at 127.0.0.1.
const PRIMARY: [u8; 4] = [127, 0, 0, 11];
/// What is waited for on a busy machine.
const SOON: Duration = Duration::from_secs(60);

fn quick_builtin(yaml: String) -> String {
    scene::builtin(quick(yaml))
}

/// A primary that is a SIP server, and names that a phone on this host can follow.
fn on_loopback(yaml: String) -> String {
    let primary = IpAddr::from(PRIMARY).to_string();
    let yaml = quick_builtin(yaml);
    let port = yaml.split("probe: \"sip:127.0.0.1:").nth(1).and_then(|rest| rest.split('"').next()).expect("a probe");
    let check = format!("  checks: {{ sip: {{ sip: \"sip:pbx.lab.test:{port}\" }} }}");
    let yaml = yaml.replace("node: pbx-a, address: 127.0.0.1", &format!("node: pbx-a, address: {primary}"));
    let yaml = yaml.replace(PRIMARY_NAMED, &primary).replace(BACKUP_NAMED, "127.0.0.1");
    let line = |line: &str| match line {
        _ if line.starts_with("  checks: ") => check.clone(),
        _ if line.contains("type: AAAA") => String::new(),
        _ => line.to_owned(),
    };
    yaml.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_phone_of_a_killed_primary_is_back_at_the_built_in_pbx_by_itself() {
    if !possible() || !have(&baresip::PROGRAMS) {
        return;
    }
    let wishes = Wishes { edit: on_loopback, ..Wishes::on(Kind::Bind) };
    let Some(mut scene) = Scene::set(&wishes) else { return };
    let at = SocketAddr::from((PRIMARY, scene.pbx.address().port()));
    let primary = Kamailio::started(Setup::at(at).account("100", "pw100"));
    scene.dns.set("pbx.lab.test", "A", &[&at.ip().to_string()]);
    scene.dns.set("pbx.lab.test", "AAAA", &[]);
    scene.robot.start();
    scene.robot.wait_armed();
    let name = format!("pbx.lab.test:{}", at.port());
    let setup = baresip::Setup::new("100", "pw100", &name).dns(scene.dns.addr).interval(6).traced();
    let phone = Baresip::started(&setup);
    phone.wait_registered(SOON);
    assert!(phone.was_taken_by("kamailio") && !phone.was_taken_by("pbx-failover"), "{}", phone.said());
    // Just after a renewal: the next comes when the name leads to the backup.
    let left = || primary.bindings("100").first().map_or(0, |binding| binding.expires_s);
    wait_until("less is left of its registration", SOON, || left() < 4);
    wait_until("it has renewed", SOON, || left() > 4);
    let killed = Instant::now();
    primary.signal("KILL");
    scene.robot.wait("the backup serves", |status| status["state"] == "active");
    let served = killed.elapsed();
    wait_until("the phone is at the backup", SOON, || phone.was_taken_by("pbx-failover"));
    let back = killed.elapsed();
    eprintln!("killed; the backup served after {served:.1?}, the phone was back after {back:.1?}");
    assert!(back < Duration::from_secs(15), "served after {served:?}, back after {back:?}:\n{}", phone.said());
    let status = scene.robot.wait("the phone is seen", |status| status["pbx"]["registrations"] == 1);
    assert_eq!(status["pbx"]["serving"], true, "{status:#}");
    let log = scene.robot.log();
    assert!(log.contains("the built-in PBX listens"), "{log}");
    phone.stop();
    scene.robot.wait("the phone has given up", |status| status["pbx"]["registrations"] == 0);
}

#[test]
fn a_daemon_that_is_killed_or_stopped_serves_the_same_phones_and_trunks_again_and_gives_all_back() {
    let Some(mut scene) = serving(quick_builtin) else { return };
    let (at, phone) = (scene.pbx.address(), scene.phone.clone());
    phone.register(at).expect("the phone registers");
    // What changed is written within a second.
    let kept = || std::fs::read_to_string(scene.robot.path("state/builtin-bindings")).unwrap_or_default();
    wait_until("where it is was written", SOON, || kept().contains("sip:100@"));
    let trunk = scene.provider.contacts("carrier-user");
    assert_eq!(trunk, [format!("sip:carrier@{at}")]);
    for end in [Robot::kill, Robot::stop] {
        end(&mut scene.robot);
        assert_eq!(phone.knock(at), None, "it lives in the daemon, and ends with it");
        scene.robot.start();
        let status = scene.robot.wait("it has proved that the PBX serves", |status| {
            status["plan"]["name"] == "serve" && status["plan"]["ended"].is_string()
        });
        assert_eq!(status["state"], "active");
        scene.robot.wait("where the phone is was kept", |status| status["pbx"]["registrations"] == 1);
        assert_eq!(scene.provider.contacts("carrier-user"), trunk);
        phone.register(at).expect("the phone registers as before");
    }
    let log = scene.robot.log();
    assert!(log.contains("the built-in PBX ends with the robot"), "{log}");
    primary_returns(&mut scene);
    let (code, said) = scene.robot.asked(&["failback"]);
    assert_eq!(code, 0, "{said}");
    scene.robot.wait_state("standby");
    assert_eq!(phone.knock(at), None, "nobody answers phones at the backup");
    assert_eq!(scene.provider.contacts("carrier-user"), Vec::<String>::new(), "the trunk is given up");
}
