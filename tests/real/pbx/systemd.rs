//! The driver `systemd`, with a stand-in for systemctl that answers in the words of the real one.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_systemd_keeps_the_contract_with_kamailio_as_its_unit() {
    let Some(backup) = Backup::new() else { return };
    contract(&backup, &backup.systemd()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_somebody_started_with_old_data_is_restarted_and_then_left_alone() {
    let Some(mut backup) = Backup::new() else { return };
    let pbx = backup.systemd();
    backup.pbx.start();
    std::fs::write(backup.dir.path().join("state"), "active").expect("state");
    backup.pbx.sync_accounts(&[("200", "pw200")]);
    let new_phone = Phone::new("200", "pw200");
    new_phone.register(backup.pbx.address()).expect_err("the running PBX has the old accounts");
    let why = failed(pbx.reload(Mode::Look, Load::First).await);
    assert_eq!(why, "pbx.service runs, but not by us: with old data");
    done(pbx.reload(Mode::Act, Load::First).await);
    new_phone.register(backup.pbx.address()).expect("after the reload it has the synced ones");
    done(pbx.reload(Mode::Act, Load::First).await);
    done(pbx.reload(Mode::Look, Load::First).await);
    let calls = std::fs::read_to_string(backup.dir.path().join("state.calls")).expect("calls");
    let acts: Vec<_> = calls.lines().filter(|call| !call.starts_with("show")).collect();
    // The last one is the second reload: the start of a running unit changes nothing.
    assert_eq!(acts, ["stop pbx.service", "start pbx.service", "start pbx.service"]);
}

#[tokio::test]
async fn each_trouble_with_a_unit_is_one_line_of_advice() {
    let dir = tempfile::tempdir().expect("directory");
    let program = systemctl(dir.path(), "true", "true");
    let unit = |name: &str| {
        let site = site(&dir.path().join("active"), loopback(), &[]);
        SystemdPbx::new(site, program.clone(), format!("{name}.service"), Duration::from_millis(300))
    };
    for (name, advice) in [
        ("missing", "there is no unit missing.service; correct pbx.driver.systemd.unit, or install the PBX's unit"),
        ("masked", "masked.service is masked; unmask it with `systemctl unmask masked.service`"),
        ("bad", "the unit bad.service is unusable (bad-setting); see what `systemd-analyze verify bad.service` says"),
        (
            "denied",
            "cannot start denied.service: Failed to start denied.service: Access denied; the robot may not; let polkit \
             allow org.freedesktop.systemd1.manage-units for its user and this unit",
        ),
        (
            "cond",
            "cond.service was not started: one of its conditions did not hold; see `systemctl status cond.service`",
        ),
        (
            "nobus",
            "cannot ask for nobus.service: System has not been booted with systemd as init system (PID 1). Can't \
             operate; systemd does not answer here; use pbx.driver.command on a host without it",
        ),
    ] {
        assert_eq!(failed(unit(name).reload(Mode::Act, Load::First).await), advice);
    }
    let why = failed(unit("crash").reload(Mode::Act, Load::First).await);
    assert_eq!(why, "crash.service is failed (exit-code 7); see `journalctl -u crash.service`");
    let start = Instant::now();
    let why = unknown(unit("slow").reload(Mode::Act, Load::First).await);
    assert!(why.starts_with("slow.service is still starting after 300ms; "), "{why}");
    assert!(start.elapsed() < Duration::from_secs(5));
    // Its second attempt joins the running start instead of beginning it anew.
    let calls = || std::fs::read_to_string(dir.path().join("state.calls")).expect("calls");
    let halts = |calls: &str| calls.matches("stop slow.service").count();
    let before = halts(&calls());
    unknown(unit("slow").reload(Mode::Act, Load::First).await);
    assert_eq!(halts(&calls()), before);
    let why = failed(unit("stuck").passive().await);
    assert!(why.starts_with("stuck.service is active after its stop; "), "{why}");
    for name in ["masked", "crash"] {
        done(unit(name).passive().await);
    }
    failed(unit("missing").passive().await);
    let gone = SystemdPbx::new(
        site(&dir.path().join("active"), loopback(), &[]),
        "/nowhere/systemctl".into(),
        "pbx.service".to_owned(),
        Duration::from_secs(1),
    );
    failed(gone.reload(Mode::Act, Load::First).await);
}

#[tokio::test]
async fn a_unit_that_hit_its_start_limit_is_reset_and_started() {
    let dir = tempfile::tempdir().expect("directory");
    let program = systemctl(dir.path(), "true", "true");
    let site = site(&dir.path().join("active"), loopback(), &[]);
    let pbx = SystemdPbx::new(site, program, "limit.service".to_owned(), Duration::from_secs(60));
    assert_eq!(done(pbx.reload(Mode::Act, Load::First).await), "limit.service is active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_dies_after_its_start_ends_the_waiting_for_registrations_at_once() {
    let dir = tempfile::tempdir().expect("directory");
    let program = systemctl(dir.path(), "true", "true");
    let site = site(&dir.path().join("active"), loopback(), &[]);
    let pbx = SystemdPbx::new(site, program, "pbx.service".to_owned(), Duration::from_secs(60));
    done(pbx.reload(Mode::Act, Load::First).await);
    std::fs::write(dir.path().join("state"), "failed").expect("state");
    let start = Instant::now();
    let why = failed(pbx.accept_registrations(Mode::Act).await);
    assert!(why.starts_with("pbx.service is failed (success); "), "{why}");
    assert!(start.elapsed() < Duration::from_secs(10));
}
