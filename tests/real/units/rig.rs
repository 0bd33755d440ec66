//! The rig itself: what a machine keeps over a reboot and a power cut, and that two of them do not meet.

use crate::lab::netns::{Host, Topology};
use crate::lab::nspawn::Machine;

/// A unit that says on its stop that it was stopped: only an orderly end lets it.
const WITNESS: &str = "[Service]\nExecStart=/bin/sleep infinity\nExecStop=/bin/sh -c 'echo stopped >>/var/lib/witness'\n\
                       [Install]\nWantedBy=multi-user.target\n";

#[test]
fn a_machine_keeps_its_disk_and_journal_over_a_reboot_and_a_power_cut_and_loses_what_lay_in_run() {
    if !Machine::possible() {
        return;
    }
    let mut machine = Machine::new("pbx-x", None);
    machine.write("/etc/systemd/system/witness.service", WITNESS);
    machine.boot();
    assert_eq!(machine.must(&["cat", "/proc/1/comm"]), "systemd");
    machine.must(&["systemctl", "enable", "--quiet", "--now", "witness.service"]);
    let id = machine.must(&["cat", "/etc/machine-id"]);
    let boots = |machine: &Machine| machine.must(&["journalctl", "--list-boots", "--no-pager"]).lines().count();
    let first = boots(&machine);
    for (times, end) in [Machine::reboot, Machine::power_cut].into_iter().enumerate() {
        machine.must(&["touch", "/run/volatile"]);
        machine.must(&["sh", "-c", "echo said before | systemd-cat; journalctl --sync"]);
        end(&mut machine);
        if times == 1 {
            machine.boot();
        }
        assert!(!machine.exec(&["test", "-e", "/run/volatile"]).0, "a boot empties /run");
        assert_eq!(machine.must(&["cat", "/etc/machine-id"]), id);
        assert!(machine.active("witness.service"), "what was enabled starts by itself");
        assert_eq!(boots(&machine), first + times + 1);
        assert_eq!(machine.must(&["cat", "/var/lib/witness"]), "stopped", "a power cut stops nothing in order");
    }
    assert_eq!(machine.must(&["journalctl", "--output=cat", "--grep=said before"]).lines().count(), 2);
}

#[test]
fn machines_stand_in_their_namespaces_and_do_not_see_one_another() {
    if !Machine::possible() || !Topology::possible() {
        return;
    }
    let net = Topology::up();
    let hosts = [Host::Primary, Host::Backup];
    let mut machines = hosts.map(|host| Machine::new("pbx-x", Some(&net.namespace(host))));
    machines.iter_mut().for_each(Machine::boot);
    for (machine, host) in machines.iter().zip(hosts) {
        let addresses = machine.must(&["cat", "/proc/net/fib_trie"]);
        for other in hosts {
            assert_eq!(addresses.contains(&format!("{}\n", other.address())), other == host, "{host:?}: {addresses}");
        }
    }
    machines[0].must(&["touch", "/etc/here"]);
    assert!(!machines[1].exec(&["test", "-e", "/etc/here"]).0);
    machines[0].power_cut();
    assert!(machines[1].active("basic.target"), "the other one still runs");
    machines[0].boot();
    machines[0].must(&["test", "-e", "/etc/here"]);
}
