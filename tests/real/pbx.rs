//! PBX drivers against real servers.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pbx_failover::adapters::pbx::{CommandPbx, Site, SystemdPbx};
use pbx_failover::config::{self, CommandDriver, Driver, SipProbe, SipTransport};
use pbx_failover::ports::Pbx;
use pbx_failover::units::{Mode, NodeName, Serving, StepOutcome, TrunkKind, TrunkState};

use crate::lab::kamailio::{self, Kamailio, Setup};
use crate::lab::netns::{Cut, Host, Topology};
use crate::lab::sipp::{self, Phone};
use crate::lab::{Running, free_port, have, wait_until};

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

#[test]
fn the_rig_of_namespaces_cuts_what_it_says_and_nothing_else() {
    if !Topology::possible() || !have(&["ping"]) {
        return;
    }
    let net = Topology::up();
    let ping = |from, to: &str| net.run(from, &["ping", "-c1", "-W0.3", to]).0;
    let seen = || {
        (
            ping(Host::Backup, "10.77.0.11"),
            ping(Host::Backup, "10.77.1.2"),
            ping(Host::Primary, "10.77.1.2"),
            ping(Host::Phones, "10.77.0.11"),
        )
    };
    let well = || seen() == (true, true, true, true);
    wait_until("all see each other", Duration::from_secs(5), well);
    for (cut, expected) in [
        (Cut::Lan, (false, true, true, true)),
        (Cut::LanOneWay, (false, true, true, true)),
        (Cut::InetBackup, (true, false, true, true)),
        (Cut::InetPrimary, (true, true, false, true)),
        (Cut::InetAll, (true, false, false, true)),
        (Cut::InetReject, (true, false, false, true)),
        (Cut::PrimaryPort, (false, true, false, false)),
        (Cut::PrimaryDown, (false, true, false, false)),
        (Cut::BackupPort, (false, false, true, true)),
        (Cut::BackupDown, (false, false, true, true)),
        (Cut::Web, (true, true, true, true)),
        (Cut::Sip, (true, true, true, true)),
    ] {
        net.cut(cut);
        assert_eq!(seen(), expected, "{cut:?}");
        net.heal();
        wait_until(&format!("healed after {cut:?}"), Duration::from_secs(5), well);
    }
    let (_, said) = net.run(Host::Backup, &["cat", "/etc/resolv.conf"]);
    assert_eq!(said, "nameserver 10.77.1.1\n");
}

#[test]
fn a_phone_in_the_rig_registers_across_hosts_and_cuts_of_sip_and_web_are_told_apart() {
    if !Topology::possible() || !have(&kamailio::PROGRAMS) || !have(&["sipp", "nginx", "curl"]) {
        return;
    }
    let net = Topology::up();
    let dir = tempfile::tempdir().expect("directory");
    let provider = SocketAddr::new("10.77.1.5".parse().expect("an address"), 5060);
    let provider = Kamailio::started(Setup::at(provider).inside(net.exec(Host::Inet)).account("trunk1", "secret"));
    let setup = Setup::at(SocketAddr::new(Host::Primary.address(), 5060)).inside(net.exec(Host::Primary));
    let primary =
        Kamailio::started(setup.account("100", "pw100").trunk("carrier", provider.address(), "trunk1", "secret"));
    primary.verb("register_trunks");
    assert_eq!(provider.contacts("trunk1"), ["sip:carrier@10.77.0.11:5060"]);
    let phone = Phone::new("100", "pw100").inside(net.exec(Host::Phones), Host::Phones.address());
    phone.register(primary.address()).expect("the phone registers");

    let config = dir.path().join("nginx.conf");
    let text = "daemon off; pid nginx.pid; error_log stderr; events {} http { access_log off; server { listen 80; \
                location / { return 200 well; } } }";
    std::fs::write(&config, text).expect("config");
    let mut argv = net.exec(Host::Primary);
    argv.extend(
        ["nginx", "-p", &dir.path().display().to_string(), "-c", &config.display().to_string()].map(str::to_owned),
    );
    let argv: Vec<_> = argv.iter().map(String::as_str).collect();
    let _web = Running::start(&argv, &dir.path().join("log"));
    let curl = || net.run(Host::Backup, &["curl", "-sS", "-m1", "http://10.77.0.11/"]);
    wait_until("nginx answers", Duration::from_secs(5), || curl() == (true, "well".to_owned()));

    net.cut(Cut::Sip);
    assert_eq!((phone.knock(primary.address()), curl().0), (None, true));
    net.heal();
    net.cut(Cut::Web);
    assert_eq!(phone.knock(primary.address()), Some(401));
    let (answered, said) = curl();
    assert!(!answered && said.contains("timed out"), "{said}");
    net.heal();
    net.cut(Cut::WebReset);
    let (answered, said) = curl();
    assert!(!answered && said.contains("connect to 10.77.0.11"), "{said}");
    net.heal();
    assert!(curl().0);
}

#[test]
fn the_rig_of_kamailio_registers_phones_and_its_trunk() {
    if !have(&kamailio::PROGRAMS) || !have(&sipp::PROGRAMS) {
        return;
    }
    let provider = Kamailio::started(Setup::at(loopback()).account("trunk1", "secret"));
    let pbx = Kamailio::new(Setup::at(loopback()).with_tcp().account("100", "pw100").trunk(
        "carrier",
        provider.address(),
        "trunk1",
        "secret",
    ));
    let phone = Phone::new("100", "pw100");
    assert_eq!(phone.knock(pbx.address()), None, "nobody answers before the start");
    for verb in ["reload", "accept_registrations"] {
        pbx.verb(verb);
        pbx.verb(verb);
    }
    assert_eq!(provider.contacts("trunk1"), Vec::<String>::new(), "the trunk waits for its verb");
    pbx.verb("register_trunks");
    pbx.verb("register_trunks");
    assert_eq!(provider.contacts("trunk1"), [format!("sip:carrier@{}", pbx.address())]);
    phone.register(pbx.address()).expect("the phone registers");
    phone.clone().over_tcp().register(pbx.address()).expect("over TCP too");
    assert_eq!(phone.knock(pbx.address()), Some(401));
    Phone::new("100", "wrong").register(pbx.address()).expect_err("a wrong password is refused");
    assert_eq!(
        pbx.verb("status"),
        r#"{"serving": true, "registrations": 1, "calls": 0, "trunks": [{"name": "carrier", "state": "up"}]}"#
    );
    pbx.verb("unregister_trunks");
    pbx.verb("unregister_trunks");
    assert_eq!(provider.contacts("trunk1"), Vec::<String>::new());
    pbx.verb("register_trunks");
    assert_eq!(provider.contacts("trunk1").len(), 1, "it can be registered again");
    pbx.signal_main("KILL");
    assert_eq!(phone.knock(pbx.address()), Some(401), "the children of a killed Kamailio go on serving");
    pbx.stop();
    pbx.stop();
    assert_eq!(phone.knock(pbx.address()), None, "nobody answers after the stop");
}

/// A provider, the backup's PBX with a phone and a trunk (not running), and a place for the marker.
struct Backup {
    provider: Kamailio,
    pbx: Kamailio,
    phone: Phone,
    dir: tempfile::TempDir,
}

impl Backup {
    fn new() -> Option<Self> {
        if !have(&kamailio::PROGRAMS) || !have(&sipp::PROGRAMS) {
            return None;
        }
        let provider = Kamailio::started(Setup::at(loopback()).account("trunk1", "secret"));
        let setup = Setup::at(loopback()).account("100", "pw100");
        let pbx = Kamailio::new(setup.trunk("carrier", provider.address(), "trunk1", "secret"));
        let dir = tempfile::tempdir().expect("directory");
        Some(Self { provider, pbx, phone: Phone::new("100", "pw100"), dir })
    }

    fn marker(&self) -> PathBuf {
        self.dir.path().join("run/active")
    }

    fn site(&self) -> Site {
        site(&self.marker(), self.pbx.address(), &[])
    }

    fn verbs(&self) -> CommandDriver {
        let command = |verb| self.pbx.command(verb);
        CommandDriver {
            passive: command("passive"),
            reload: command("reload"),
            accept_registrations: command("accept_registrations"),
            register_trunks: command("register_trunks"),
            status: command("status"),
            drain: command("drain"),
            unregister_trunks: command("unregister_trunks"),
            stop_accepting: command("stop_accepting"),
        }
    }

    fn systemd(&self) -> SystemdPbx {
        let start =
            format!("{}; {}", self.pbx.command("reload").join(" "), self.pbx.command("register_trunks").join(" "));
        let program = systemctl(self.dir.path(), &start, &self.pbx.command("passive").join(" "));
        SystemdPbx::new(self.site(), program, "pbx.service".to_owned(), Duration::from_secs(20))
    }
}

fn site(marker: &Path, registrar: SocketAddr, before_reload: &[&str]) -> Site {
    let pbx = config::Pbx {
        working_dirs: vec!["/srv/a".into(), "/srv/b".into()],
        before_reload: before_reload.iter().map(|&word| word.to_owned()).collect(),
        give_up_after: Duration::from_secs(300),
        driver: Driver::Command(Box::default()),
        probe: SipProbe { host: registrar.ip().to_string(), port: registrar.port(), transport: SipTransport::Udp },
        trunks: vec![config::Trunk {
            name: "carrier".to_owned(),
            kind: TrunkKind::Register,
            required: true,
            move_url: None,
        }],
    };
    Site::new(&node(), marker.to_owned(), &pbx)
}

fn node() -> NodeName {
    "pbx-b".parse().expect("a node name")
}

/// The stand-in for systemctl, whose `pbx.service` is these two commands.
fn systemctl(dir: &Path, start: &str, stop: &str) -> PathBuf {
    let program = dir.join("systemctl");
    let script = include_str!("../lab/systemctl/systemctl.sh")
        .replace("@STATE@", &dir.join("state").display().to_string())
        .replace("@START@", start)
        .replace("@STOP@", stop);
    std::fs::write(&program, script).expect("script");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("may be run");
    program
}

fn sh(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).to_vec()
}

#[track_caller]
fn done(outcome: StepOutcome) -> String {
    match outcome {
        StepOutcome::Done(proof) => proof,
        other => panic!("not done: {other:?}"),
    }
}

#[track_caller]
fn failed(outcome: StepOutcome) -> String {
    match outcome {
        StepOutcome::Failed(why) => why,
        other => panic!("not failed: {other:?}"),
    }
}

#[track_caller]
fn unknown(outcome: StepOutcome) -> String {
    match outcome {
        StepOutcome::Unknown(why) => why,
        other => panic!("not unknown: {other:?}"),
    }
}

/// What every driver must hold to, from passive over serving to passive, each verb twice.
async fn contract(backup: &Backup, pbx: &dyn Pbx) {
    let (phone, registrar) = (&backup.phone, backup.pbx.address());
    for _ in 0..2 {
        done(pbx.passive().await);
    }
    assert_eq!(phone.knock(registrar), None, "passive means that nobody answers a REGISTER");
    assert!(!backup.marker().exists());
    assert_eq!(pbx.status().await.serving, Serving::No);
    failed(pbx.reload(Mode::Look).await);
    failed(pbx.accept_registrations(Mode::Look).await);
    assert!(!matches!(pbx.register_trunks(Mode::Look).await, StepOutcome::Done(_)));
    assert_eq!(phone.knock(registrar), None, "looking changes nothing");

    for _ in 0..2 {
        done(pbx.reload(Mode::Act).await);
    }
    assert!(backup.marker().exists());
    done(pbx.reload(Mode::Look).await);
    for mode in [Mode::Act, Mode::Act, Mode::Look] {
        let proof = done(pbx.accept_registrations(mode).await);
        assert!(proof.contains("answers REGISTER with 401"), "{proof}");
    }
    phone.register(registrar).expect("the phone registers");
    for mode in [Mode::Act, Mode::Act, Mode::Look] {
        done(pbx.register_trunks(mode).await);
    }
    assert_eq!(backup.provider.contacts("trunk1").len(), 1);
    assert_eq!(pbx.status().await.serving, Serving::Yes);

    for _ in 0..2 {
        done(pbx.drain().await);
        done(pbx.unregister_trunks().await);
    }
    phone.register(registrar).expect("until the stop phones are served");
    for _ in 0..2 {
        done(pbx.stop_accepting().await);
    }
    assert_eq!(phone.knock(registrar), None);
    assert!(!backup.marker().exists());
    failed(pbx.reload(Mode::Look).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_command_keeps_the_contract_with_kamailio() {
    let Some(backup) = Backup::new() else { return };
    contract(&backup, &CommandPbx::new(backup.site(), backup.verbs())).await;
    assert_eq!(backup.provider.contacts("trunk1"), Vec::<String>::new(), "the trunk was given up at the provider");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_systemd_keeps_the_contract_with_kamailio_as_its_unit() {
    let Some(backup) = Backup::new() else { return };
    contract(&backup, &backup.systemd()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_command_tells_phones_calls_and_trunks() {
    let Some(backup) = Backup::new() else { return };
    let pbx = CommandPbx::new(backup.site(), backup.verbs());
    done(pbx.reload(Mode::Act).await);
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
    done(pbx.reload(Mode::Act).await);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_somebody_started_with_old_data_is_restarted_and_then_left_alone() {
    let Some(mut backup) = Backup::new() else { return };
    let pbx = backup.systemd();
    backup.pbx.start();
    std::fs::write(backup.dir.path().join("state"), "active").expect("state");
    backup.pbx.sync_accounts(&[("200", "pw200")]);
    let new_phone = Phone::new("200", "pw200");
    new_phone.register(backup.pbx.address()).expect_err("the running PBX has the old accounts");
    let why = failed(pbx.reload(Mode::Look).await);
    assert_eq!(why, "pbx.service runs, but not by us: with old data");
    done(pbx.reload(Mode::Act).await);
    new_phone.register(backup.pbx.address()).expect("after the reload it has the synced ones");
    done(pbx.reload(Mode::Act).await);
    done(pbx.reload(Mode::Look).await);
    let calls = std::fs::read_to_string(backup.dir.path().join("state.calls")).expect("calls");
    let acts: Vec<_> = calls.lines().filter(|call| !call.starts_with("show")).collect();
    // The last one is the second reload: the start of a running unit changes nothing.
    assert_eq!(acts, ["stop pbx.service", "start pbx.service", "start pbx.service"]);
}

#[tokio::test]
async fn before_reload_runs_once_for_each_service_and_holds_the_start_when_it_fails() {
    let dir = tempfile::tempdir().expect("directory");
    let (marker, log) = (dir.path().join("run/active"), dir.path().join("log"));
    let verbs =
        || CommandDriver { reload: sh(&format!("echo reload >> {}", log.display())), ..CommandDriver::default() };
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let with = |script: &str| CommandPbx::new(site(&marker, loopback(), &["sh", "-c", script]), verbs());
    let why = failed(with("echo no dump >&2; exit 1").reload(Mode::Act).await);
    assert_eq!(why, "pbx.before_reload: exit 1: no dump");
    assert!(!marker.exists() && said().is_empty(), "nothing is started");
    let pbx = with(&format!("echo restore $PBX_FAILOVER_WORKING_DIR >> {}", log.display()));
    done(pbx.reload(Mode::Act).await);
    done(pbx.reload(Mode::Act).await);
    assert_eq!(said(), "restore /srv/a:/srv/b\nreload\nreload\n", "a dump restored twice would undo our own changes");
    done(pbx.passive().await);
    done(pbx.reload(Mode::Act).await);
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
        assert_eq!(failed(unit(name).reload(Mode::Act).await), advice);
    }
    let why = failed(unit("crash").reload(Mode::Act).await);
    assert!(why.ends_with("error code; see its `journalctl -u`"), "{why}");
    let start = Instant::now();
    let why = unknown(unit("slow").reload(Mode::Act).await);
    assert!(why.starts_with("slow.service is still starting after 300ms; "), "{why}");
    assert!(start.elapsed() < Duration::from_secs(5));
    // Its second attempt joins the running start instead of beginning it anew.
    let calls = || std::fs::read_to_string(dir.path().join("state.calls")).expect("calls");
    let halts = |calls: &str| calls.matches("stop slow.service").count();
    let before = halts(&calls());
    unknown(unit("slow").reload(Mode::Act).await);
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
    failed(gone.reload(Mode::Act).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_dies_after_its_start_ends_the_waiting_for_registrations_at_once() {
    let dir = tempfile::tempdir().expect("directory");
    let program = systemctl(dir.path(), "true", "true");
    let site = site(&dir.path().join("active"), loopback(), &[]);
    let pbx = SystemdPbx::new(site, program, "pbx.service".to_owned(), Duration::from_secs(60));
    done(pbx.reload(Mode::Act).await);
    std::fs::write(dir.path().join("state"), "failed").expect("state");
    let start = Instant::now();
    let why = failed(pbx.accept_registrations(Mode::Act).await);
    assert!(why.starts_with("pbx.service is failed (success); "), "{why}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_waits_for_a_real_call() {
    let Some(mut backup) = Backup::new() else { return };
    backup.pbx.sync_accounts(&[("100", "pw100"), ("200", "pw200")]);
    let pbx = CommandPbx::new(backup.site(), backup.verbs());
    done(pbx.reload(Mode::Act).await);
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
