//! The primary as a machine, with guard, timer and agent: what comes up after a reboot and a power cut, and when.

use std::time::{Duration, Instant};

use crate::lab::kamailio::{Kamailio, Setup};
use crate::lab::netns::{Cut, Host};
use crate::lab::nspawn::Machine;
use crate::lab::robot::Robot;
use crate::lab::{dns, have, kamailio, wait_until};

use super::machines::{PATIENCE, World, peer, wait_status, yaml};

/// What is promised: so long after the record names it, the primary serves again.
const PROMISED: Duration = Duration::from_secs(15);
/// How often the timer asks, so that the promise holds with its accuracy and the run itself.
const CADENCE: Duration = Duration::from_secs(14);

/// `agent.epoch_unreadable`: as it is shipped.
const KEEP: &str = "{ after: 60s, do: keep }";
/// The other end: nothing starts that would have to stop soon.
const STOP: &str = "{ after: 20s, do: stop }";

/// The robot on the backup's host, with a PBX, armed; a plain process beside the machine.
fn backup(world: &World) -> (Kamailio, Robot) {
    let pbx = Kamailio::new(Setup::at(std::net::SocketAddr::new(Host::Backup.address(), 5060)).account("100", "pw100"));
    let text = peer(yaml(Host::Backup, &pbx.driver_yaml()))
        .replace("/srv/pbx", &pbx.work_dir().display().to_string())
        .replace("/etc/pbx-failover/tsig.key", "@DIR@/tsig.key");
    let mut robot = Robot::new(&text).inside(world.net.exec(Host::Backup));
    robot.secret("tsig.key", dns::SECRET);
    world.papers.files().for_each(|(name, text)| robot.secret(name, text));
    robot.start();
    robot.wait_armed();
    (pbx, robot)
}

/// Waits until the guard has held the PBX back in this boot, and sees that nothing of it runs.
fn is_held_back(world: &World, machine: &Machine, because: &str) {
    wait_until("the guard has answered", PATIENCE, || {
        machine.journal("pbx.service").contains(because) && machine.unit("pbx.service", "ActiveState") == "inactive"
    });
    assert!(!world.serves(Host::Primary), "{}", machine.journal("pbx.service"));
}

#[test]
fn a_primary_that_comes_back_while_the_backup_serves_stays_silent_and_serves_by_itself_after_the_failback() {
    if !have(&kamailio::PROGRAMS) {
        return;
    }
    let Some(world) = World::up() else { return };
    let mut machine = world.primary(KEEP);
    let (_pbx, robot) = backup(&world);
    machine.power_cut();
    robot.wait_served();
    assert!(world.epoch().starts_with("v=1 epoch=1 holder=pbx-b"), "{}", world.epoch());

    for start in [Machine::boot, Machine::reboot] {
        start(&mut machine);
        is_held_back(&world, &machine, "service held by pbx-b since");
        machine.must(&["systemctl", "restart", "pbx.service"]);
        assert_eq!(machine.unit("pbx.service", "ActiveState"), "inactive", "nor by a person's or a package's hand");
    }
    assert!(world.serves(Host::Backup));
    assert_eq!(robot.state(), "active");

    let (code, said) = robot.asked(&["failback"]);
    assert_eq!(code, 0, "{said}");
    wait_until("the epoch is handed over", PATIENCE, || world.epoch().starts_with("v=1 epoch=2 holder=pbx-a"));
    let handed = Instant::now();
    wait_until("the primary serves", PROMISED, || world.serves(Host::Primary));
    eprintln!("failback: the primary serves {:?} after the epoch names it", handed.elapsed());
    robot.wait_state("standby");
    assert!(!world.serves(Host::Backup));
}

#[test]
fn without_an_agent_the_timer_alone_starts_what_was_held_back_and_leaves_alone_what_a_person_stopped() {
    let Some(world) = World::up() else { return };
    let mut machine = world.primary(KEEP);
    // Its absence stops nothing.
    machine.must(&["systemctl", "disable", "--quiet", "--now", "pbx-failover.service"]);
    machine.must(&["systemctl", "mask", "--quiet", "pbx-failover.service"]);
    machine.reboot();
    wait_until("the primary serves", PATIENCE, || world.serves(Host::Primary));

    world.write_epoch(1, Host::Backup);
    machine.reboot();
    is_held_back(&world, &machine, "service held by pbx-b since");
    // A whole round of the timer changes nothing.
    let runs = || machine.unit("pbx-failover-guard.timer", "LastTriggerUSecMonotonic");
    let round = || {
        let before = runs();
        wait_until("the timer has run", PATIENCE, || {
            runs() != before && machine.unit("pbx-failover-guard.service", "ActiveState") == "inactive"
        });
        Instant::now()
    };
    let first = round();
    let second = round();
    let cadence = second - first;
    assert!(cadence.abs_diff(CADENCE) < Duration::from_millis(1500), "it asks every {cadence:?}");
    assert!(!machine.active("pbx.service"));
    assert_eq!(machine.unit("pbx-failover-guard.service", "Result"), "success", "a no is no failure");

    world.write_epoch(2, Host::Primary);
    let named = Instant::now();
    wait_until("the primary serves", PROMISED + Duration::from_secs(2), || world.serves(Host::Primary));
    eprintln!("timer alone: every {cadence:?}; the primary serves {:?} after the record names it", named.elapsed());

    wait_until("the run that started it has ended", PATIENCE, || {
        machine
            .journal("pbx-failover-guard.service")
            .contains("the PBX is started: sip:10.77.0.11:5060 answers REGISTER")
    });
    machine.must(&["systemctl", "stop", "pbx.service"]);
    let often = "[Timer]\nOnUnitActiveSec=\nOnActiveSec=100ms\nOnUnitActiveSec=1s\n";
    machine.write("/etc/systemd/system/pbx-failover-guard.timer.d/often.conf", often);
    machine.must(&["systemctl", "daemon-reload"]);
    machine.must(&["systemctl", "restart", "pbx-failover-guard.timer"]);
    for _ in 0..3 {
        round();
    }
    let journal = machine.journal("pbx-failover-guard.service");
    assert!(!machine.active("pbx.service"), "a person stopped it: {journal}");
    assert!(!journal.contains("nothing to start"), "as long as all is well the timer says nothing: {journal}");
}

/// A primary that held the service last when the power went, with its router dark.
fn dark(world: &World, policy: &str) -> Machine {
    world.write_epoch(2, Host::Primary);
    let mut machine = world.primary(policy);
    let memory = || machine.exec(&["cat", "/var/lib/pbx-failover/primary.json"]).1;
    wait_until("the agent has seen the record", PATIENCE, || memory().contains("\"duty\": \"serve\""));
    world.net.cut(Cut::InetPrimary);
    machine.power_cut();
    machine.boot();
    machine
}

#[test]
fn after_a_power_cut_a_primary_with_the_policy_keep_serves_before_the_router_is_up_and_steps_down_if_it_must() {
    let Some(world) = World::up() else { return };
    let mut machine = dark(&world, KEEP);
    let booted = Instant::now();
    wait_until("the primary serves in the dark", PATIENCE, || world.serves(Host::Primary));
    eprintln!("keep: the primary serves {:?} after its boot, without a record", booted.elapsed());
    let journal = machine.journal("pbx.service");
    assert!(journal.contains("this node held the service last (turn 2)"), "{journal}");
    let pbx = machine.unit("pbx.service", "MainPID");
    world.net.heal();
    wait_status(&machine, "the agent reads the record again", |s| {
        s["duty"].to_string().contains("this node holds the service (turn 2)")
    });
    assert_eq!(machine.unit("pbx.service", "MainPID"), pbx, "it was not restarted");

    // The same, but meanwhile the backup took over.
    world.net.cut(Cut::InetPrimary);
    machine.power_cut();
    world.write_epoch(3, Host::Backup);
    machine.boot();
    wait_until("the primary serves in the dark", PATIENCE, || world.serves(Host::Primary));
    world.net.heal();
    let healed = Instant::now();
    wait_until("it steps down", PATIENCE, || machine.unit("pbx.service", "ActiveState") == "inactive");
    eprintln!("keep: stepped down {:?} after the record could be read", healed.elapsed());
    assert!(!world.serves(Host::Primary));
}

#[test]
fn after_a_power_cut_a_primary_with_the_policy_stop_waits_for_the_record_and_recovers_without_a_person() {
    let Some(world) = World::up() else { return };
    let machine = dark(&world, STOP);
    is_held_back(&world, &machine, "must not serve now");
    let runs = || machine.unit("pbx-failover-guard.timer", "LastTriggerUSecMonotonic");
    let before = runs();
    wait_until("the timer has asked too", PATIENCE, || {
        runs() != before && machine.unit("pbx-failover-guard.service", "ActiveState") == "inactive"
    });
    assert!(!machine.active("pbx.service"), "{}", machine.journal("pbx.service"));
    world.net.heal();
    let healed = Instant::now();
    wait_until("the primary serves", PROMISED, || world.serves(Host::Primary));
    eprintln!("stop: the primary serves {:?} after the record can be read", healed.elapsed());
}
