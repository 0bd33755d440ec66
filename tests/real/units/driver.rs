//! The driver `systemd` itself against a real systemd, as the robot's user under the real polkit rule: jobs, readiness,
//! failures. The driver runs here and its `systemctl` in the machine.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use pbx_failover::adapters::pbx::{Site, SystemdPbx};
use pbx_failover::config::{self, Driver, SipProbe, SipTransport};
use pbx_failover::ports::{Load, Pbx};
use pbx_failover::units::{Mode, Serving, StepOutcome};

use crate::lab::free_port;
use crate::lab::netns::Host;
use crate::lab::nspawn::Machine;

use super::machines::{PATIENCE, install, install_robot};

/// A machine whose `pbx.service` has these lines, and the driver that the robot's user would be there.
struct Rig {
    machine: Machine,
    dir: tempfile::TempDir,
}

impl Rig {
    /// `None`, said loudly, where machines are not possible.
    fn up(service: &str) -> Option<Self> {
        if !Machine::possible() {
            return None;
        }
        let mut machine = Machine::new("pbx-b", None);
        machine.write("/etc/systemd/system/pbx.service", service);
        install(&machine, "pbx.service.d/pbx-failover.conf", "/etc/systemd/system/pbx.service.d/pbx-failover.conf");
        machine.boot();
        install_robot(&machine, Host::Backup, |yaml| yaml);
        Some(Self { machine, dir: tempfile::tempdir().expect("directory") })
    }

    fn driver(&self, start_timeout: Duration) -> SystemdPbx {
        let program = self.dir.path().join("systemctl");
        let enter = self.machine.entrance().join(" ");
        let script = format!("#!/bin/sh\nexec {enter} runuser -u pbx-failover -- systemctl \"$@\"\n");
        std::fs::write(&program, script).expect("script");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("may be run");
        let pbx = config::Pbx {
            working_dirs: vec!["/srv/pbx".into()],
            certificates: Vec::new(),
            before_reload: Vec::new(),
            give_up_after: Duration::from_secs(300),
            driver: Driver::Command(Box::default()),
            // Nobody is there: what serves is shown by the tests with phones.
            probe: SipProbe { host: "127.0.0.1".to_owned(), port: free_port(), transport: SipTransport::Udp },
            trunks: Vec::new(),
        };
        let marker = self.machine.file("/run/pbx-failover/active");
        let site = Site::new(&"pbx-b".parse().expect("a node name"), marker, &pbx);
        SystemdPbx::new(site, program, "pbx.service".to_owned(), start_timeout)
    }

    fn has_marker(&self) -> bool {
        self.machine.exec(&["test", "-e", "/run/pbx-failover/active"]).0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_done_when_the_unit_says_that_it_is_ready_and_not_before() {
    let Some(rig) = Rig::up(
        "[Service]\nType=notify\nNotifyAccess=all\nTimeoutStartSec=60\n\
         ExecStart=/bin/sh -c 'while ! test -e /run/gate; do sleep 0.1; done; systemd-notify --ready; sleep infinity'\n",
    ) else {
        return;
    };
    let hasty = rig.driver(Duration::from_secs(1));
    let outcome = hasty.reload(Mode::Act, Load::First).await;
    assert!(
        matches!(&outcome, StepOutcome::Unknown(why) if why.starts_with("pbx.service is still starting after 1s; ")),
        "{outcome:?}"
    );
    let state = |property: &str| rig.machine.unit("pbx.service", property);
    assert_eq!(state("ActiveState"), "activating", "what was not waited for goes on");
    assert!(matches!(hasty.status().await.serving, Serving::Unknown(_)));
    assert!(!matches!(hasty.reload(Mode::Look, Load::First).await, StepOutcome::Done(_)));
    let begun = state("ExecMainStartTimestamp");

    rig.machine.write("/run/gate", "");
    let patient = rig.driver(PATIENCE);
    for _ in 0..2 {
        let outcome = patient.reload(Mode::Act, Load::First).await;
        assert_eq!(outcome, StepOutcome::done("pbx.service is active"));
        assert_eq!(state("SubState"), "running");
    }
    assert_eq!(state("ExecMainStartTimestamp"), begun, "the second attempt joined the running start");
    assert_eq!(patient.reload(Mode::Look, Load::First).await, StepOutcome::done("pbx.service is active"));
    for _ in 0..2 {
        let outcome = patient.passive().await;
        assert!(
            matches!(&outcome, StepOutcome::Done(proof) if proof.starts_with("pbx.service is inactive; ")),
            "{outcome:?}"
        );
        assert!(!rig.has_marker());
    }
    assert_eq!(patient.status().await.serving, Serving::No);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_fails_says_how_and_where_to_look_and_is_tried_again_when_systemd_would_not() {
    let Some(rig) = Rig::up(
        "[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=1h\n\
         [Service]\nType=notify\nNotifyAccess=all\n\
         ExecStart=/bin/sh -c 'test -e /etc/cured || { echo no licence >&2; exit 7; }; systemd-notify --ready; sleep infinity'\n",
    ) else {
        return;
    };
    let driver = rig.driver(PATIENCE);
    for _ in 0..4 {
        let outcome = driver.reload(Mode::Act, Load::First).await;
        assert_eq!(
            outcome,
            StepOutcome::failed("pbx.service is failed (exit-code 7); see `journalctl -u pbx.service`")
        );
    }
    let status = driver.status().await;
    assert_eq!(status.serving, Serving::No);
    assert_eq!(status.trouble.as_deref(), Some("pbx.service is failed (exit-code 7); see `journalctl -u pbx.service`"));
    assert_eq!(rig.machine.journal("pbx.service").matches("no licence").count(), 4, "each try was one of the PBX");

    // The same unit without the robot: systemd has had enough of it, and says so.
    for _ in 0..3 {
        rig.machine.exec(&["systemctl", "start", "pbx.service"]);
    }
    assert!(rig.machine.journal("pbx.service").contains("Start request repeated too quickly"));
    rig.machine.write("/etc/cured", "");
    assert!(!rig.machine.exec(&["systemctl", "start", "pbx.service"]).0, "also when its trouble is over");
    assert_eq!(driver.reload(Mode::Act, Load::First).await, StepOutcome::done("pbx.service is active"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_rule_one_line_says_what_polkit_must_allow() {
    let Some(rig) = Rig::up("[Service]\nExecStart=/bin/sleep infinity\n") else { return };
    let driver = rig.driver(PATIENCE);
    assert_eq!(driver.reload(Mode::Act, Load::First).await, StepOutcome::done("pbx.service is active"));
    rig.machine.must(&["rm", "/etc/polkit-1/rules.d/50-pbx-failover.rules"]);
    rig.machine.must(&["systemctl", "restart", "polkit.service"]);
    for _ in 0..2 {
        let outcome = driver.passive().await;
        let advised =
            matches!(&outcome, StepOutcome::Failed(why) if why.contains("; the robot may not; let polkit allow "));
        assert!(advised, "{outcome:?}");
    }
    assert!(rig.machine.active("pbx.service"));
    assert!(rig.has_marker(), "what was not stopped is still meant to have been ours");
}
