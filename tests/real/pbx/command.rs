//! The driver `command`: with real Kamailio, and with commands that end in every way.

use pbx_failover::units::{Look, Sign};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_command_keeps_the_contract_with_kamailio() {
    let Some(backup) = Backup::new() else { return };
    contract(&backup, &CommandPbx::new(backup.site(), backup.verbs())).await;
    assert_eq!(backup.provider.contacts("trunk1"), Vec::<String>::new(), "the trunk was given up at the provider");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_command_tells_phones_calls_and_trunks() {
    let Some(backup) = Backup::new() else { return };
    let pbx = CommandPbx::new(backup.site(), backup.verbs());
    done(pbx.reload(Mode::Act, Load::First).await);
    done(pbx.accept_registrations(Mode::Act).await);
    let before = pbx.status().await;
    assert_eq!((before.registrations, before.trunks[0].state), (Some(0), TrunkState::Down));
    let proof = done(pbx.register_trunks(Mode::Act).await);
    assert_eq!(proof, "carrier up");
    backup.phone.register(backup.pbx.address()).expect("the phone registers");
    let status = pbx.status().await;
    assert_eq!((status.registrations, status.calls), (Some(1), Some(0)));
    assert_eq!(status.trunks[0].state, TrunkState::Up);
    done(pbx.unregister_trunks().await);
    assert_eq!(backup.provider.contacts("trunk1"), Vec::<String>::new());
    backup.phone.register(backup.pbx.address()).expect("phones are still served");
    done(pbx.stop_accepting().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_that_its_provider_refuses_fails_the_step_and_not_the_phones() {
    let Some(backup) = Backup::new() else { return };
    let setup = Setup::at(loopback()).account("100", "pw100");
    let setup = setup.trunk("carrier", backup.provider.address(), "trunk1", "wrong");
    let backup = Backup { pbx: Kamailio::new(setup), ..backup };
    // The script gives its own verdict; without it the status decides.
    let verbs = CommandDriver { register_trunks: sh("exit 0"), ..backup.verbs() };
    let pbx = CommandPbx::new(backup.site(), verbs).with_effect_limit(Duration::from_millis(500));
    done(pbx.reload(Mode::Act, Load::First).await);
    let why = failed(pbx.register_trunks(Mode::Act).await);
    assert!(why.starts_with("trunk carrier is "), "{why}");
    let why = failed(CommandPbx::new(backup.site(), backup.verbs()).register_trunks(Mode::Act).await);
    assert!(why.starts_with("pbx.driver.command.register_trunks: exit 1: trunk carrier is "), "{why}");
    backup.phone.register(backup.pbx.address()).expect("the phone registers");
}

#[tokio::test(flavor = "multi_thread")]
async fn passive_is_not_believed_while_somebody_still_answers() {
    let Some(backup) = Backup::new() else { return };
    backup.pbx.start();
    // A stop that ends only the main process: the children of Kamailio go on serving.
    let only_main = format!("kill -s KILL $(cat {})", backup.pbx.path("pid").display());
    for status in [Vec::new(), sh(r#"echo '{"serving": false}'"#)] {
        let verbs = CommandDriver { passive: sh(&format!("{only_main}; true")), status, ..CommandDriver::default() };
        let pbx = CommandPbx::new(backup.site(), verbs).with_effect_limit(Duration::from_millis(300));
        let why = failed(pbx.passive().await);
        assert!(why.starts_with("it should be passive, yet sip:127.0.0.1:"), "{why}");
    }
    std::fs::create_dir_all(backup.marker().parent().expect("directory")).expect("directory");
    std::fs::write(backup.marker(), "started pbx-b 2026-11-20T10:00:00Z\n").expect("marker");
    let pbx = SystemdPbx::new(
        backup.site(),
        systemctl(backup.dir.path(), "true", &only_main),
        "pbx.service".to_owned(),
        Duration::from_secs(5),
    );
    let why = failed(pbx.passive().await);
    assert!(why.starts_with("pbx.service is inactive, yet sip:127.0.0.1:"), "{why}");
    let left = std::fs::read_to_string(backup.marker()).expect("the marker stays until the stop is proved");
    assert!(left.starts_with("stopping "), "{left}");
    backup.pbx.stop();
    done(pbx.passive().await);
    assert!(!backup.marker().exists());
}

#[tokio::test]
async fn before_reload_runs_once_for_each_service_and_holds_the_start_when_it_fails() {
    let dir = tempfile::tempdir().expect("directory");
    let (marker, log) = (dir.path().join("run/active"), dir.path().join("log"));
    let verbs =
        || CommandDriver { reload: sh(&format!("echo reload >> {}", log.display())), ..CommandDriver::default() };
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let with = |script: &str| CommandPbx::new(site(&marker, loopback(), &["sh", "-c", script]), verbs());
    let why = failed(with("echo no dump >&2; exit 1").reload(Mode::Act, Load::First).await);
    assert_eq!(why, "pbx.before_reload: exit 1: no dump");
    assert!(!marker.exists() && said().is_empty(), "nothing is started");
    let pbx = with(&format!("echo restore $PBX_FAILOVER_WORKING_DIR >> {}", log.display()));
    done(pbx.reload(Mode::Act, Load::First).await);
    done(pbx.reload(Mode::Act, Load::First).await);
    assert_eq!(said(), "restore /srv/a:/srv/b\nreload\nreload\n", "a dump restored twice would undo our own changes");
    done(pbx.passive().await);
    done(pbx.reload(Mode::Act, Load::First).await);
    assert_eq!(said().matches("restore").count(), 2);
}

#[tokio::test]
async fn each_end_of_a_command_has_its_outcome_and_its_line() {
    let dir = tempfile::tempdir().expect("directory");
    let run = async |argv: Vec<String>| {
        let verbs = CommandDriver { unregister_trunks: argv, ..CommandDriver::default() };
        CommandPbx::new(site(&dir.path().join("active"), loopback(), &[]), verbs).unregister_trunks().await
    };
    let key = "pbx.driver.command.unregister_trunks";
    assert_eq!(done(run(vec![]).await), "no command given for unregister_trunks");
    assert_eq!(done(run(sh("echo one; echo two; echo; echo note >&2")).await), "two");
    assert_eq!(
        done(run(sh("echo $PBX_FAILOVER_VERB $PBX_FAILOVER_NODE $PBX_FAILOVER_MARKER")).await),
        format!("unregister_trunks pbx-b {}", dir.path().join("active").display())
    );
    assert_eq!(failed(run(sh("echo no such trunk >&2; exit 3")).await), format!("{key}: exit 3: no such trunk"));
    assert_eq!(unknown(run(sh("echo asked; exit 75")).await), format!("{key}: exit 75: asked"));
    assert_eq!(unknown(run(sh("kill -s KILL $$")).await), format!("{key}: ended by a signal: nothing said"));
    let why = failed(run(vec!["/nowhere/pbxctl".to_owned()]).await);
    assert!(why.ends_with("give an absolute path to a program that may be run"), "{why}");
}

// Paused time jumps over every wait, so that the limits are met at once.
#[tokio::test(start_paused = true)]
async fn a_verb_that_hangs_is_unknown_after_its_limit() {
    let dir = tempfile::tempdir().expect("directory");
    let hang = sh("sleep 600");
    let verbs = CommandDriver {
        passive: hang.clone(),
        reload: hang.clone(),
        accept_registrations: hang.clone(),
        register_trunks: hang.clone(),
        status: vec![],
        drain: hang.clone(),
        unregister_trunks: hang.clone(),
        stop_accepting: hang,
    };
    let pbx = CommandPbx::new(site(&dir.path().join("active"), loopback(), &[]), verbs);
    let line = |verb: &str| format!("pbx.driver.command.{verb}: still running at the time-out, killed");
    assert_eq!(unknown(pbx.passive().await), line("passive"));
    assert_eq!(unknown(pbx.reload(Mode::Act, Load::First).await), line("reload"));
    assert_eq!(unknown(pbx.accept_registrations(Mode::Act).await), line("accept_registrations"));
    assert_eq!(unknown(pbx.register_trunks(Mode::Act).await), line("register_trunks"));
    assert_eq!(unknown(pbx.drain().await), line("drain"));
    assert_eq!(unknown(pbx.unregister_trunks().await), line("unregister_trunks"));
    assert_eq!(unknown(pbx.stop_accepting().await), line("stop_accepting"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_answers_a_status_command_that_fails_with_its_pbx_leaves_no_trunk_in_doubt() {
    let Some(backup) = Backup::new() else { return };
    let verbs = CommandDriver { status: sh("echo no such socket >&2; exit 1"), ..CommandDriver::default() };
    let pbx = CommandPbx::new(backup.site(), verbs);
    let look = pbx.look_passive().await;
    assert_eq!(look.looks[&Sign::TrunkUp], Look::Clear, "{look:?}");
    backup.pbx.start();
    let look = pbx.look_passive().await;
    assert!(matches!(&look.looks[&Sign::TrunkUp], Look::Unknown(why) if why.contains("no such socket")), "{look:?}");
    backup.pbx.stop();
}

#[tokio::test]
async fn a_status_that_is_no_json_is_unknown_and_proves_nothing() {
    let dir = tempfile::tempdir().expect("directory");
    for script in ["echo running", "exit 1", "exit 0"] {
        let verbs = CommandDriver { status: sh(script), ..CommandDriver::default() };
        let pbx =
            CommandPbx::new(site(&dir.path().join("active"), loopback(), &[]), verbs).with_effect_limit(Duration::ZERO);
        assert!(matches!(pbx.status().await.serving, Serving::Unknown(_)), "{script}");
        unknown(pbx.passive().await);
        unknown(pbx.register_trunks(Mode::Act).await);
        unknown(pbx.drain().await);
    }
}

#[tokio::test]
async fn without_a_status_command_drain_believes_the_commands_exit_code() {
    let dir = tempfile::tempdir().expect("directory");
    let pbx = |drain: Vec<String>, status: Vec<String>| {
        let verbs = CommandDriver { drain, status, ..CommandDriver::default() };
        CommandPbx::new(site(&dir.path().join("active"), loopback(), &[]), verbs)
    };
    assert_eq!(
        failed(pbx(sh("echo 2 calls; exit 1"), vec![]).drain().await),
        "pbx.driver.command.drain: exit 1: 2 calls"
    );
    assert_eq!(done(pbx(sh("echo quiet"), vec![]).drain().await), "quiet");
    assert_eq!(done(pbx(vec![], vec![]).drain().await), "not waited for: nothing tells of calls");
    let calls = sh(r#"echo '{"serving": true, "calls": 2}'"#);
    assert_eq!(failed(pbx(vec![], calls).drain().await), "2 calls are up");
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_waits_for_a_real_call() {
    let Some(mut backup) = Backup::new() else { return };
    backup.pbx.sync_accounts(&[("100", "pw100"), ("200", "pw200")]);
    let pbx = CommandPbx::new(backup.site(), backup.verbs());
    done(pbx.reload(Mode::Act, Load::First).await);
    done(pbx.accept_registrations(Mode::Act).await);
    done(pbx.drain().await);
    let (registrar, callee) = (backup.pbx.address(), Phone::new("200", "pw200"));
    callee.register(registrar).expect("the callee registers");
    let _ringing = callee.answers_calls(backup.dir.path());
    let mut call = backup.phone.call(registrar, "200", Duration::from_secs(2), backup.dir.path());
    wait_until("the call is up", Duration::from_secs(5), || backup.pbx.verb("status").contains("\"calls\": 1"));
    assert_eq!(failed(pbx.drain().await), "1 call is up");
    wait_until("the call ends", Duration::from_secs(10), || call.exited().is_some());
    assert!(call.exited().is_some_and(|end| end.success()), "{}", call.said());
    let mut outcome = pbx.drain().await;
    for _ in 0..50 {
        if matches!(outcome, StepOutcome::Done(_)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        outcome = pbx.drain().await;
    }
    assert_eq!(done(outcome), "no call is up");
}
