//! The primary's drop-in, service and timer: what systemd makes of the guard's answer, and how often it asks again.

use crate::lab::nspawn::Machine;
use crate::lab::wait_until;

use super::machines::{PATIENCE, install_guard};

/// A PBX that systemd would start again whenever it ends.
const PBX: &str = "[Service]\nExecStart=/bin/sleep infinity\nRestart=always\nRestartSec=100ms\n\
                   [Install]\nWantedBy=multi-user.target\n";

#[test]
fn a_start_that_the_guard_refuses_is_skipped_without_a_failure_or_a_restart() {
    if !Machine::possible() {
        return;
    }
    let mut machine = Machine::new("pbx-a", None);
    machine.write("/etc/systemd/system/pbx.service", PBX);
    // In place of the program: only the exit code counts here, and the real one never crashes when it is asked to.
    machine.write_with(
        "/usr/bin/pbx-failover",
        "#!/bin/sh\necho \"reason $(cat /var/answer), as $(id -un)\"; exit $(cat /var/answer)\n",
        0o755,
    );
    machine.write("/var/answer", "10");
    machine.boot();
    install_guard(&machine);
    machine.must(&["systemctl", "enable", "--quiet", "pbx.service"]);
    machine.reboot();
    wait_until("the boot is over", PATIENCE, || machine.active("multi-user.target"));
    let state = |property: &str| machine.unit("pbx.service", property);
    for code in ["10", "11"] {
        machine.write("/var/answer", code);
        assert_eq!(machine.exec(&["systemctl", "start", "pbx.service"]), (true, String::new()), "{code}");
        assert_eq!(state("ActiveState"), "inactive", "{code}");
        assert_eq!((state("Result"), state("NRestarts")), ("exec-condition".to_owned(), "0".to_owned()), "{code}");
        let journal = machine.journal("pbx.service");
        assert!(journal.contains(&format!("reason {code}, as root")), "{journal}");
    }
    // A crash is a failure, and there Restart= does fire, until the guard answers.
    machine.write("/var/answer", "255");
    assert!(!machine.exec(&["systemctl", "start", "pbx.service"]).0);
    machine.write("/var/answer", "0");
    wait_until("it is started again", PATIENCE, || machine.active("pbx.service"));
    assert_ne!(state("NRestarts"), "0");
}
