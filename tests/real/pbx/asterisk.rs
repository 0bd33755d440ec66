//! The driver `asterisk` with real Asterisk 22, and 16 where it is unpacked, whose unit is the stand-in for systemctl.

mod providers;

use std::fs;

use pbx_failover::adapters::pbx::AsteriskPbx;
use pbx_failover::config::{AmiCover, AmiPlace, Asterisk as Settings, PlainSecret, Secret, WhenRunning};
use pbx_failover::units::{Look, Side, Sign};

use super::*;
use crate::lab::asterisk::{Asterisk, MANAGER, Setup as Pbx22};
use crate::lab::suite::Suite;

/// A provider, an Asterisk that is not running with a phone and a trunk, and a place for marker and state.
struct Rig {
    provider: Kamailio,
    pbx: Asterisk,
    ami: SocketAddr,
    phone: Phone,
    dir: tempfile::TempDir,
}

impl Rig {
    fn new(suite: &Suite) -> Self {
        Self::with(suite, |setup| setup)
    }

    fn with(suite: &Suite, more: impl FnOnce(Pbx22) -> Pbx22) -> Self {
        let provider = Kamailio::started(Setup::at(loopback()).account("trunk1", "secret"));
        let ami = loopback();
        let setup =
            Pbx22::at(suite, loopback()).account("100", "pw100").account("101", "pw101").account("102", "pw102");
        let setup = setup.trunk("carrier", provider.address(), "trunk1", "secret").manager(ami);
        let pbx = Asterisk::prepared(more(setup));
        Self { provider, pbx, ami, phone: Phone::new("100", "pw100"), dir: tempfile::tempdir().expect("directory") }
    }

    fn marker(&self) -> PathBuf {
        self.dir.path().join("run/active")
    }

    fn keep(&self) -> PathBuf {
        self.dir.path().join("asterisk-endpoints")
    }

    fn settings(&self) -> Settings {
        Settings {
            ami: AmiPlace { host: "127.0.0.1".to_owned(), port: self.ami.port(), cover: AmiCover::Plain },
            username: MANAGER.0.to_owned(),
            password: Secret::Plain(PlainSecret(MANAGER.1.to_owned())),
            unit: "pbx.service".to_owned(),
            start_timeout: Duration::from_secs(20),
            takeover: WhenRunning::Restart,
            config: "pjsip.conf".into(),
        }
    }

    fn driver(&self) -> AsteriskPbx {
        self.driver_with(&self.settings())
    }

    fn driver_with(&self, settings: &Settings) -> AsteriskPbx {
        self.driver_at(site(&self.marker(), self.pbx.address(), &[]), settings)
    }

    /// The driver for this trunk instead.
    fn driver_naming(&self, trunk: &str) -> AsteriskPbx {
        self.driver_at(site_with_trunk(trunk, &self.marker(), self.pbx.address(), &[]), &self.settings())
    }

    fn driver_at(&self, site: Site, settings: &Settings) -> AsteriskPbx {
        let program = systemctl(self.dir.path(), &self.pbx.start_command(), &self.pbx.stop_command());
        AsteriskPbx::with(site, program, settings, &[self.pbx.path("etc")], self.keep(), Side::Backup)
    }

    /// As somebody does who starts the unit by hand.
    fn started_by_hand(&self) {
        let program = self.dir.path().join("systemctl");
        let status = std::process::Command::new(program).args(["start", "pbx.service"]).status().expect("sh runs");
        assert!(status.success());
        wait_until("asterisk serves", Duration::from_secs(20), || self.phone.knock(self.pbx.address()).is_some());
    }
}

/// Waits until a drain says this.
async fn drains(pbx: &AsteriskPbx, expected: &StepOutcome) {
    until(expected.text(), async || Some(pbx.drain().await).filter(|said| said == expected)).await;
}

/// A text up to this place, and its line end.
fn before<'a>(text: &'a str, place: &str) -> &'a str {
    &text[..=text.find(place).expect("the place is there")]
}

/// The suites that are there: 22 always, where tests may run at all.
fn suites() -> Vec<Suite> {
    if !have(&kamailio::PROGRAMS) || !have(&sipp::PROGRAMS) {
        return Vec::new();
    }
    Suite::forky().into_iter().chain(Suite::bullseye()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asterisk_that_was_started_outside_of_its_stopped_unit_is_not_called_passive() {
    for suite in suites() {
        let mut rig = Rig::new(&suite);
        let pbx = rig.driver();
        let look = pbx.look_passive().await;
        assert_eq!(look.seen().collect::<Vec<_>>(), [], "nobody is there: {look:?}");
        assert!(
            look.looks[&Sign::TrunkUp] == Look::Clear && look.looks[&Sign::AcceptsRegister] == Look::Clear,
            "{look:?}"
        );
        rig.pbx.start();
        let both = async || {
            let look = pbx.look_passive().await;
            Some(look.clone()).filter(|_| look.seen().count() == 2)
        };
        let look = until("both signs are seen", both).await;
        let seen: Vec<_> = look.seen().collect();
        assert_eq!(seen.iter().map(|(sign, _)| *sign).collect::<Vec<_>>(), [Sign::AcceptsRegister, Sign::TrunkUp]);
        assert!(seen[0].1.contains("401") && seen[1].1.contains("trunk carrier is registered from here"), "{seen:?}");
        assert!(look.todo.contains("pbx.service is inactive, so it runs outside of its unit"), "{}", look.todo);
        assert_eq!(pbx.status().await.serving, Serving::No, "its unit alone tells nothing of it");
        rig.pbx.stop();
        assert_eq!(pbx.look_passive().await.seen().collect::<Vec<_>>(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_asterisk_keeps_the_contract_with_both_versions() {
    for suite in suites() {
        let rig = Rig::new(&suite);
        contract_at(rig.pbx.address(), None, &rig.phone, &rig.marker(), &rig.provider, &rig.driver()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_status_tells_phones_calls_and_trunks_and_drain_waits_for_a_call_while_new_ones_work() {
    for suite in suites() {
        let rig = Rig::with(&suite, Pbx22::calls);
        let pbx = rig.driver();
        assert_eq!(pbx.status().await.serving, Serving::No);
        let proof = done(pbx.reload(Mode::Act, Load::First).await);
        assert!(proof.contains("; 3 endpoints"), "{proof}");
        done(pbx.register_trunks(Mode::Act).await);
        let status = pbx.status().await;
        assert_eq!((status.registrations, status.calls, &status.trouble), (Some(0), Some(0), &None));
        assert_eq!(status.trunks[0].state, TrunkState::Up);
        rig.phone.register(rig.pbx.address()).expect("the phone registers");
        assert_eq!(pbx.status().await.registrations, Some(1));
        done(pbx.drain().await);

        let (server, dir) = (rig.pbx.address(), rig.dir.path());
        let length = Duration::from_secs(6);
        let mut first = Phone::new("101", "pw101").call_with_login(server, "600", length, dir);
        drains(&pbx, &StepOutcome::failed("1 call is up")).await;
        // Nothing keeps a new call, such as 112, from going through meanwhile; of two channels it makes one call.
        let _ringing = rig.phone.answers_calls(dir);
        let mut second = Phone::new("102", "pw102").call_with_login(server, "100", length, dir);
        wait_until("all three channels are up", Duration::from_secs(10), || {
            rig.pbx.cli("core show channels count").contains("3 active channels")
        });
        assert_eq!(failed(pbx.drain().await), "2 calls are up");
        assert_eq!(pbx.status().await.calls, Some(2));
        for call in [&mut first, &mut second] {
            wait_until("the call ends", Duration::from_secs(20), || call.exited().is_some());
            assert!(call.exited().is_some_and(|end| end.success()), "{}", call.said());
        }
        drains(&pbx, &StepOutcome::done("no call is up")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_that_its_provider_refuses_is_told_as_such_and_registered_ones_are_left_alone() {
    let Some(suite) = suites().into_iter().next() else { return };
    let provider = Kamailio::started(Setup::at(loopback()).account("trunk1", "another"));
    let address = provider.address();
    let rig = Rig::with(&suite, |setup| setup.trunk("refused", address, "trunk1", "secret"));
    let pbx = rig.driver_naming("refused");
    done(pbx.reload(Mode::Act, Load::First).await);
    for mode in [Mode::Act, Mode::Look] {
        match pbx.register_trunks(mode).await {
            StepOutcome::Refused(why) => {
                assert_eq!(why, "trunk refused is refused by its provider: Asterisk tells no code; its log does");
            }
            other => panic!("not refused: {other:?}"),
        }
    }
    let status = pbx.status().await;
    assert_eq!((status.serving, status.trunks[0].state), (Serving::Yes, TrunkState::Rejected));
    let unnamed = unknown(rig.driver_naming("nowhere").register_trunks(Mode::Look).await);
    assert!(unnamed.contains("name it in pbx.trunks as its registration is called in pjsip.conf"), "{unnamed}");

    let pbx = rig.driver();
    done(pbx.register_trunks(Mode::Act).await);
    // Asking for one that is up would give it up first: a provider that is gone shows whether it was asked.
    rig.provider.stop();
    done(pbx.register_trunks(Mode::Act).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_cut_holds_the_takeover_and_a_whole_one_lets_it_go_on() {
    for suite in suites() {
        let rig = Rig::new(&suite);
        let pbx = rig.driver();
        done(pbx.passive().await);
        assert_eq!(fs::read_to_string(rig.keep()).expect("kept").trim(), "3");
        let whole = fs::read_to_string(rig.pbx.pjsip_conf()).expect("pjsip.conf");
        for (left, words) in [
            (before(&whole, "\n[101]"), "holds 1 endpoints, and held 3: it looks cut; let the sync end"),
            (
                &whole[..whole.len() / 2],
                ": the file ends here, and neither a section nor a key with its value; copy it",
            ),
        ] {
            fs::write(rig.pbx.pjsip_conf(), left).expect("cut");
            let trouble = pbx.status().await.trouble.expect("told while passive");
            assert!(trouble.contains(words), "{trouble}");
            for _ in 0..2 {
                assert_eq!(failed(pbx.reload(Mode::Act, Load::First).await), trouble);
            }
        }
        assert_eq!(rig.phone.knock(rig.pbx.address()), None, "it was not started");
        fs::write(rig.pbx.pjsip_conf(), &whole).expect("the sync ends");
        done(pbx.reload(Mode::Act, Load::First).await);
        done(pbx.accept_registrations(Mode::Act).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_it_does_not_load_are_told_and_cost_one_more_start_at_most() {
    let Some(suite) = suites().into_iter().next() else { return };
    let rig = Rig::new(&suite);
    let count_starts = || {
        let calls = fs::read_to_string(rig.dir.path().join("state.calls")).expect("calls");
        calls.lines().filter(|call| *call == "start pbx.service").count()
    };
    let unit = systemctl(rig.dir.path(), &rig.pbx.start_command(), &rig.pbx.stop_command());
    let driver = |dir: PathBuf| {
        let place = site(&rig.marker(), rig.pbx.address(), &[]);
        AsteriskPbx::with(place, unit.clone(), &rig.settings(), &[dir], rig.keep(), Side::Backup)
    };

    // As with endpoints in a database, most of which were removed since the last service.
    fs::write(rig.keep(), "10\n").expect("kept");
    let pbx = driver(rig.dir.path().join("absent"));
    let proof = done(pbx.reload(Mode::Act, Load::First).await);
    let keep = rig.keep().display().to_string();
    assert!(proof.contains("; 3 endpoints, and 10 when it last served; see its database"), "{proof}");
    assert!(proof.ends_with(&format!("remove {keep}")), "{proof}");
    assert_eq!(count_starts(), 1);
    done(pbx.reload(Mode::Look, Load::First).await);
    done(pbx.stop_accepting().await);
    fs::remove_file(rig.keep()).expect("removed, as the line says");
    let proof = done(pbx.reload(Mode::Act, Load::First).await);
    assert_eq!(proof, "pbx.service is active; 3 endpoints");
    done(pbx.stop_accepting().await);

    // A file with more than it loads, as one in which a template is missing.
    let dir = rig.dir.path().join("more");
    fs::create_dir(&dir).expect("directory");
    let more: Vec<_> = (0..7).map(|n| format!("[{n}]\ntype=endpoint\n")).collect();
    fs::write(dir.join("pjsip.conf"), more.concat()).expect("written");
    let (pbx, before) = (driver(dir), count_starts());
    let proof = done(pbx.reload(Mode::Act, Load::First).await);
    assert!(proof.contains("; 3 of 7 endpoints in ") && proof.contains(", also after a second start: "), "{proof}");
    assert!(proof.contains(&keep), "{proof}");
    assert_eq!(count_starts(), before + 2);
    done(pbx.reload(Mode::Act, Load::First).await);
    done(pbx.accept_registrations(Mode::Act).await);
    assert_eq!(count_starts(), before + 3, "a repetition starts nothing anew: systemctl is asked, and does nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_asterisk_is_reloaded_where_that_is_asked_for_and_started_anew_when_it_lost_endpoints() {
    for suite in suites() {
        let rig = Rig::new(&suite);
        let settings = Settings { takeover: WhenRunning::Reload, ..rig.settings() };
        let pbx = rig.driver_with(&settings);
        rig.started_by_hand();
        failed(pbx.reload(Mode::Look, Load::First).await);
        let phones = "[200]\ntype=endpoint\ncontext=phones\nauth=200\naors=200\n[200]\ntype=auth\nauth_type=userpass\n\
                      username=200\npassword=pw200\n[200]\ntype=aor\nmax_contacts=1\n";
        let whole = fs::read_to_string(rig.pbx.pjsip_conf()).expect("pjsip.conf");
        fs::write(rig.pbx.pjsip_conf(), format!("{whole}{phones}")).expect("synced");
        let proof = done(pbx.reload(Mode::Act, Load::First).await);
        assert_eq!(proof, "pbx.service was reloaded; 3 endpoints before, 4 after");
        Phone::new("200", "pw200").register(rig.pbx.address()).expect("the new phone registers");
        done(pbx.reload(Mode::Act, Load::First).await);
        done(pbx.reload(Mode::Look, Load::First).await);
        done(pbx.stop_accepting().await);

        // Nothing is remembered, so that only the count before the reload can tell.
        fs::remove_file(rig.keep()).expect("removed");
        rig.started_by_hand();
        fs::write(rig.pbx.pjsip_conf(), before(&whole, "\n[101]")).expect("cut");
        let why = failed(pbx.reload(Mode::Act, Load::First).await);
        assert!(why.starts_with("asterisk had 4 endpoints before its reload, and has 1 after it; "), "{why}");
        fs::write(rig.pbx.pjsip_conf(), &whole).expect("the sync ends");
        let proof = done(pbx.reload(Mode::Act, Load::First).await);
        assert_eq!(proof, "pbx.service is active; 3 endpoints");
        rig.phone.register(rig.pbx.address()).expect("the phone registers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_trouble_with_ami_is_one_line_of_advice_and_keeps_no_asterisk_from_serving() {
    let Some(suite) = suites().into_iter().next() else { return };
    let tls = loopback();
    let papers = Authority::new().good(&["localhost"]);
    let certificate = papers.certificate.clone();
    let rig = Rig::with(&suite, |setup| setup.manager_over_tls(tls, papers));
    let pinned = rig.dir.path().join("manager.crt");
    fs::write(&pinned, certificate).expect("written");
    done(rig.driver().reload(Mode::Act, Load::First).await);
    let at = |port: u16, cover| AmiPlace { host: "127.0.0.1".to_owned(), port, cover };
    let with = |ami| Settings { ami, ..rig.settings() };
    let closed = free_port();
    let wrong = Settings { password: Secret::Plain(PlainSecret("wrong".to_owned())), ..rig.settings() };
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let other = stranger.local_addr().expect("address").port();
    std::thread::spawn(move || {
        for mut stream in stranger.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"SSH-2.0-OpenSSH_9.2\r\n");
        }
    });
    for (settings, advice) in [
        (
            wrong,
            "does not take the user robot: authentication failed; compare pbx.driver.asterisk.username and password",
        ),
        (
            with(at(closed, AmiCover::Plain)),
            ": connection refused; see whether it runs, `enabled`, `port` and `bindaddr`",
        ),
        (with(at(tls.port(), AmiCover::Plain)), "accepts, and does not greet: Asterisk hangs, or this is its TLS port"),
        (
            with(at(rig.ami.port(), AmiCover::Tls)),
            "does not speak TLS there; write pbx.driver.asterisk.ami without tls://",
        ),
        (with(at(tls.port(), AmiCover::Tls)), "; pin it with pbx.driver.asterisk.certificate: {file: PATH}"),
        (
            with(at(other, AmiCover::Plain)),
            "is not Asterisk's manager: it greets with \"SSH-2.0-OpenSSH_9.2\"; correct",
        ),
    ] {
        let pbx = rig.driver_with(&settings);
        let status = pbx.status().await;
        assert_eq!(status.serving, Serving::Yes);
        let trouble = status.trouble.expect("told");
        assert!(trouble.contains(advice), "{trouble}");
        assert!(!trouble.contains('\n'), "{trouble}");
        let why = failed(pbx.register_trunks(Mode::Act).await);
        assert_eq!(why, trouble);
    }
    let pbx = rig.driver_with(&with(at(tls.port(), AmiCover::Pinned(pinned))));
    assert_eq!(pbx.status().await.trouble, None);
    done(pbx.stop_accepting().await);
    let wrong = Settings { username: "nobody".to_owned(), ..rig.settings() };
    let proof = done(rig.driver_with(&wrong).reload(Mode::Act, Load::First).await);
    assert!(proof.contains("pbx.service is active; its endpoints are not counted: AMI at"), "{proof}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_its_class_is_told_which_one() {
    for suite in suites() {
        for (classes, advice) in
            [("call", "needs `read = system`"), ("system\nwrite=call", "does not permit PJSIPShow")]
        {
            let rig = Rig::with(&suite, |setup| setup.classes(classes));
            let pbx = rig.driver_with(&Settings { start_timeout: Duration::from_secs(5), ..rig.settings() });
            let proof = done(pbx.reload(Mode::Act, Load::First).await);
            assert!(proof.contains(advice), "{proof}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_or_hung_during_a_verb_it_ends_in_a_clear_state_and_recovers() {
    for suite in suites() {
        let rig = Rig::new(&suite);
        let pbx = rig.driver();
        done(pbx.reload(Mode::Act, Load::First).await);
        done(pbx.accept_registrations(Mode::Act).await);

        rig.pbx.signal_started("STOP");
        let status = pbx.status().await;
        assert!(matches!(status.serving, Serving::Unknown(_)), "{status:?}");
        assert!(status.trouble.expect("told").contains("does not greet: Asterisk hangs"));
        for outcome in [pbx.register_trunks(Mode::Act).await, pbx.drain().await, pbx.unregister_trunks().await] {
            assert!(outcome.text().contains("does not greet"), "{outcome:?}");
        }
        failed(pbx.accept_registrations(Mode::Look).await);
        rig.pbx.signal_started("CONT");
        done(pbx.register_trunks(Mode::Act).await);

        rig.pbx.signal_started("STOP");
        done(pbx.stop_accepting().await);
        assert_eq!(rig.phone.knock(rig.pbx.address()), None);
        done(pbx.reload(Mode::Act, Load::Again).await);

        rig.pbx.signal_started("KILL");
        wait_until("it is dead", Duration::from_secs(5), || rig.phone.knock(rig.pbx.address()).is_none());
        fs::write(rig.dir.path().join("state"), "failed").expect("as systemd sees it");
        let why = failed(pbx.register_trunks(Mode::Act).await);
        assert!(why.starts_with("pbx.service is failed"), "{why}");
        assert_eq!(pbx.status().await.serving, Serving::No);
        done(pbx.drain().await);
        done(pbx.unregister_trunks().await);
        done(pbx.reload(Mode::Act, Load::Again).await);
        done(pbx.accept_registrations(Mode::Act).await);
        done(pbx.register_trunks(Mode::Act).await);
    }
}
