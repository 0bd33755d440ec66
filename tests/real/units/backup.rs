//! The backup as a machine: the unit, the polkit rule and the drop-in with the marker.

use crate::lab::kamailio::{Kamailio, Setup};
use crate::lab::netns::Host;
use crate::lab::nspawn::Machine;
use crate::lab::{have, kamailio, wait_until};

use super::machines::{CONFIG, PATIENCE, World, install, install_robot, status, wait_status};
use crate::lab::robot::step;

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

/// What brings files to the backup, as far as systemd sees it: it does not end when it is asked to.
const PULL: &str = "[Service]\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'\nTimeoutStopSec=300\n\
    [Install]\nWantedBy=multi-user.target\n";

#[test]
fn the_sync_is_stopped_by_its_unit_also_one_that_does_not_end_and_no_boot_starts_it_while_this_node_serves() {
    if !have(&kamailio::PROGRAMS) {
        return;
    }
    let Some(world) = World::up() else { return };
    let setup = Setup::at(std::net::SocketAddr::new(Host::Primary.address(), 5060));
    let primary = Kamailio::started(setup.inside(world.net.exec(Host::Primary)));
    let mut machine = world.machine(Host::Backup);
    machine.write("/etc/systemd/system/lsyncd.service", PULL);
    machine.boot();
    install(&machine, "pbx.service.d/pbx-failover.conf", "/etc/systemd/system/pbx.service.d/pbx-failover.conf");
    install(&machine, "sync-fence.conf", "/etc/systemd/system/lsyncd.service.d/sync-fence.conf");
    install(&machine, "51-pbx-failover-sync.rules", "/etc/polkit-1/rules.d/51-pbx-failover-sync.rules");
    install_robot(&machine, Host::Backup, |yaml| {
        yaml.replace("sync: { settle: 0s }", "sync: { settle: 0s, fence: { units: [lsyncd.service] } }")
    });
    machine.must(&["systemctl", "enable", "--quiet", "--now", "lsyncd.service", "pbx-failover.service"]);
    wait_status(&machine, "armed, the sync runs", |s| {
        s["armed"]["ok"] == true && s["sync"]["runs"][0] == "lsyncd.service is active"
    });

    primary.signal("KILL");
    wait_served(&machine);
    assert!(!machine.active("lsyncd.service"));
    wait_status(&machine, "the sync rests", |s| s["sync"]["rests"].is_array() && s["sync"]["ok"] == true);
    let status = status(&machine).expect("a status");
    let proof = step(&status, "secure_data")["proof"].as_str().expect("a proof").to_owned();
    // Under the shipped unit other users' processes are hidden, and that is said.
    let unseen = "whether a sync tool of another user writes here is not seen by this user";
    assert!(proof.contains("lsyncd.service is stopped") && proof.contains(unseen), "{proof}");

    machine.reboot();
    wait_until("the boot is over", PATIENCE, || machine.active("multi-user.target"));
    wait_served(&machine);
    assert_eq!(machine.unit("lsyncd.service", "ConditionResult"), "no", "the boot did not start it");
    // A person who takes the condition away: the robot stops it again.
    machine.must(&["rm", "/var/lib/pbx-failover/sync-fenced"]);
    machine.must(&["systemctl", "start", "lsyncd.service"]);
    wait_until("it is stopped again", PATIENCE, || !machine.active("lsyncd.service"));

    primary.start();
    wait_status(&machine, "the primary is up", |s| s["verdict"] == "primary-up");
    machine.must(&["pbx-failover", "failback", "--yes", "--reason", "the primary is well"]);
    wait_status(&machine, "the sync runs again", |s| {
        s["state"] == "standby" && s["sync"]["runs"][0] == "lsyncd.service is active"
    });
    assert!(!machine.exec(&["test", "-e", "/var/lib/pbx-failover/sync-stopped"]).0);
}
