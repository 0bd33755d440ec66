//! The backup as a machine: the unit, the polkit rule and the drop-in with the marker.

use crate::lab::kamailio::{Kamailio, Setup};
use crate::lab::netns::Host;
use crate::lab::nspawn::Machine;
use crate::lab::{have, kamailio, wait_until};

use super::machines::{CONFIG, PATIENCE, World, install, install_robot, wait_status};

const MARKER: &str = "/run/pbx-failover/active";

/// A living primary, and the backup's machine with the robot armed; the PBX of the backup is passive.
/// In this order, so that the machine goes first: the end of its namespace would end it too.
fn armed() -> Option<(World, Kamailio, Machine)> {
    if !have(&kamailio::PROGRAMS) {
        return None;
    }
    let world = World::up()?;
    let setup = Setup::at(std::net::SocketAddr::new(Host::Primary.address(), 5060));
    let primary = Kamailio::started(setup.inside(world.net.exec(Host::Primary)));
    let mut machine = world.machine(Host::Backup);
    machine.boot();
    install(&machine, "pbx.service.d/pbx-failover.conf", "/etc/systemd/system/pbx.service.d/pbx-failover.conf");
    install_robot(&machine, Host::Backup, |yaml| yaml);
    machine.must(&["systemctl", "enable", "--quiet", "--now", "pbx-failover.service"]);
    wait_status(&machine, "armed", |s| s["verdict"] == "primary-up" && s["armed"]["ok"] == true);
    Some((world, primary, machine))
}

fn wait_served(machine: &Machine) {
    wait_status(machine, "active, plan ended", |s| s["state"] == "active" && s["plan"]["ended"].is_string());
}

fn has_marker(machine: &Machine) -> bool {
    machine.exec(&["test", "-e", MARKER]).0
}

#[test]
fn a_passive_pbx_stays_stopped_whoever_starts_it() {
    let Some((world, _primary, machine)) = armed() else { return };
    // A person, a package's postinst (deb-systemd-invoke calls these), a dependency of another unit, a boot.
    for verb in [["start"].as_slice(), &["restart"], &["try-restart"], &["reload-or-restart"], &["enable", "--now"]] {
        let argv = [&["systemctl", "--quiet"], verb, &["pbx.service"]].concat();
        machine.must(&argv);
        assert_eq!(machine.unit("pbx.service", "ActiveState"), "inactive", "{verb:?}");
        assert_eq!(machine.unit("pbx.service", "ConditionResult"), "no", "{verb:?}");
    }
    assert!(machine.journal("pbx.service").contains("ConditionPathExists=/run/pbx-failover/active"));
    assert!(!world.serves(Host::Backup));
}

#[test]
fn the_robot_starts_the_pbx_by_the_rule_and_both_outlive_what_happens_to_the_robot() {
    let Some((world, primary, mut machine)) = armed() else { return };
    assert!(!has_marker(&machine));
    primary.signal("KILL");
    wait_served(&machine);
    assert!(has_marker(&machine) && world.serves(Host::Backup));
    assert!(world.epoch().starts_with("v=1 epoch=1 holder=pbx-b"), "{}", world.epoch());
    let pbx = machine.unit("pbx.service", "MainPID");
    let robot = || machine.unit("pbx-failover.service", "MainPID");

    for end in [&["restart"][..], &["kill", "--signal=KILL"]] {
        let before = robot();
        machine.must(&[&["systemctl"], end, &["pbx-failover.service"]].concat());
        wait_until("another robot runs", PATIENCE, || {
            machine.active("pbx-failover.service") && !["0", &before].contains(&robot().as_str())
        });
        wait_served(&machine);
        assert!(has_marker(&machine), "{end:?}");
        assert_eq!(machine.unit("pbx.service", "MainPID"), pbx, "{end:?}");
    }
    machine.must(&["systemctl", "stop", "pbx-failover.service"]);
    assert!(has_marker(&machine) && world.serves(Host::Backup), "a stop of the robot stops no telephone");

    // The reboot empties /run: the PBX waits for the robot, which holds the epoch and starts it again.
    machine.must(&["systemctl", "enable", "--quiet", "pbx.service"]);
    machine.must(&["systemctl", "disable", "--quiet", "pbx-failover.service"]);
    machine.reboot();
    wait_until("the boot is over", PATIENCE, || machine.active("multi-user.target"));
    assert!(!has_marker(&machine));
    assert!(!machine.active("pbx.service"), "an enabled unit stays stopped too");
    assert!(machine.journal("pbx.service").contains("ConditionPathExists=/run/pbx-failover/active"));
    machine.must(&["systemctl", "enable", "--quiet", "--now", "pbx-failover.service"]);
    wait_served(&machine);
    assert!(has_marker(&machine) && world.serves(Host::Backup));
}

#[test]
fn the_robots_user_may_start_its_unit_and_no_other() {
    if !Machine::possible() {
        return;
    }
    let mut machine = Machine::new("pbx-b", None);
    for unit in ["pbx", "other"] {
        machine.write(&format!("/etc/systemd/system/{unit}.service"), "[Service]\nExecStart=/bin/sleep infinity\n");
    }
    machine.boot();
    install_robot(&machine, Host::Backup, |yaml| yaml);
    machine.must(&["systemctl", "start", "other.service"]);
    let asked = |verb: &str, unit: &str| {
        machine.exec(&["runuser", "-u", "pbx-failover", "--", "systemctl", "--no-ask-password", verb, unit])
    };
    for verb in ["start", "stop", "restart", "reset-failed"] {
        assert_eq!(asked(verb, "pbx.service"), (true, String::new()), "{verb}");
    }
    for (verb, unit) in [
        ("start", "other.service"),
        ("reset-failed", "other.service"),
        ("kill", "pbx.service"),
        ("enable", "pbx.service"),
    ] {
        let (done, said) = asked(verb, unit);
        assert!(!done && said.contains("ccess denied") || said.contains("authentication required"), "{verb}: {said}");
    }
    // The settings hold no secret from it, and none from nobody else.
    assert!(machine.exec(&["runuser", "-u", "pbx-failover", "--", "cat", CONFIG]).0);
    assert!(!machine.exec(&["runuser", "-u", "nobody", "--", "cat", CONFIG]).0);
}
