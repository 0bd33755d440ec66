//! The driver `freeswitch` against a stand-in that plays the answers of its source; never run against a real one.

use pbx_failover::adapters::pbx::FreeswitchPbx;
use pbx_failover::config::{Freeswitch, PlainSecret, Secret, WhilePassive};

use super::*;
use crate::lab::freeswitch::{FreeSwitch, Manner};

const PATIENCE: Duration = Duration::from_secs(10);

struct Rig {
    freeswitch: FreeSwitch,
    dir: tempfile::TempDir,
    settings: Freeswitch,
}

impl Rig {
    fn new(passive: WhilePassive) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let freeswitch = FreeSwitch::new(dir.path());
        let password = freeswitch.state().password.clone();
        let settings = Freeswitch {
            esl: freeswitch.esl,
            password: Secret::Plain(PlainSecret(password)),
            profiles: ["external", "internal"].map(str::to_owned).to_vec(),
            unit: "pbx.service".to_owned(),
            start_timeout: PATIENCE,
            passive,
        };
        systemctl(dir.path(), &freeswitch.start_command(), &freeswitch.stop_command());
        Self { freeswitch, dir, settings }
    }

    /// As after the boot of a host whose standby is warm.
    fn warm() -> Self {
        let rig = Self::new(WhilePassive::Standby);
        rig.freeswitch.state().standby = true;
        rig.run();
        rig
    }

    /// Starts it as systemd does.
    fn run(&self) {
        let status = std::process::Command::new(self.systemctl()).args(["start", "pbx.service"]).status();
        assert!(status.expect("the stand-in runs").success());
    }

    fn systemctl(&self) -> PathBuf {
        self.dir.path().join("systemctl")
    }

    fn marker(&self) -> PathBuf {
        self.dir.path().join("run/active")
    }

    /// How often its unit was stopped.
    fn stops(&self) -> usize {
        let calls = std::fs::read_to_string(self.dir.path().join("state.calls")).expect("calls");
        calls.lines().filter(|call| call.starts_with("stop ")).count()
    }

    fn driver(&self) -> FreeswitchPbx {
        let site = site(&self.marker(), self.freeswitch.sip, &[]);
        let driver = FreeswitchPbx::new(site, self.systemctl(), &self.settings, vec!["/srv/a".into()]);
        driver.with_limits(Duration::from_millis(500), Duration::from_secs(2))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_it_starts_serves_and_stops_each_verb_twice() {
    let rig = Rig::new(WhilePassive::Stopped);
    let pbx = rig.driver();
    for _ in 0..2 {
        done(pbx.passive().await);
    }
    assert_eq!(pbx.status().await.serving, Serving::No);
    failed(pbx.reload(Mode::Look, Load::First).await);
    failed(pbx.accept_registrations(Mode::Look).await);
    assert!(!matches!(pbx.register_trunks(Mode::Look).await, StepOutcome::Done(_)));
    assert_eq!(done(pbx.drain().await), "no call is up: pbx.service is inactive");
    assert_eq!(rig.freeswitch.acts(), Vec::<String>::new());

    for _ in 0..2 {
        let proof = done(pbx.reload(Mode::Act, Load::First).await);
        assert_eq!(proof, "pbx.service is active; profiles external, internal");
    }
    assert!(rig.marker().exists());
    done(pbx.reload(Mode::Look, Load::First).await);
    for mode in [Mode::Act, Mode::Act, Mode::Look] {
        let proof = done(pbx.accept_registrations(mode).await);
        assert!(proof.ends_with("answers REGISTER with 400 Missing Contact Header"), "{proof}");
    }
    for mode in [Mode::Act, Mode::Act, Mode::Look] {
        assert_eq!(done(pbx.register_trunks(mode).await), "carrier up");
    }
    let acts = rig.freeswitch.acts();
    let expected = ["sofia global standby off", "sofia global standby off", "sofia profile external register carrier"];
    assert_eq!(acts, expected, "a registered gateway is left alone");

    let status = pbx.status().await;
    assert_eq!((&status.serving, status.registrations, status.calls), (&Serving::Yes, Some(3), Some(0)));
    assert_eq!((status.trunks[0].name.as_str(), status.trunks[0].state), ("carrier", TrunkState::Up));
    assert_eq!(status.trouble, None);

    for (calls, said) in [(1, "1 call is up"), (2, "2 calls are up")] {
        rig.freeswitch.state().calls = calls;
        assert_eq!(failed(pbx.drain().await), said);
    }
    rig.freeswitch.state().calls = 0;
    for _ in 0..2 {
        assert_eq!(done(pbx.drain().await), "no call is up");
        done(pbx.unregister_trunks().await);
    }
    assert_eq!(pbx.status().await.trunks[0].state, TrunkState::Down);
    for _ in 0..2 {
        done(pbx.stop_accepting().await);
    }
    assert!(!rig.marker().exists());
    done(pbx.unregister_trunks().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_standby_it_refuses_phones_and_a_takeover_reads_anew_before_it_lets_them_in() {
    let rig = Rig::warm();
    rig.freeswitch.state().profiles.insert("internal".to_owned(), false);
    let pbx = rig.driver();
    for _ in 0..2 {
        let proof = done(pbx.passive().await);
        assert!(proof.starts_with("pbx.service is on standby; ") && proof.contains("503 System Paused"), "{proof}");
    }
    assert_eq!(pbx.status().await.serving, Serving::No);
    let why = failed(pbx.reload(Mode::Look, Load::First).await);
    assert_eq!(why, "pbx.service runs, but not by us: with old data");
    failed(pbx.accept_registrations(Mode::Look).await);
    rig.freeswitch.acts();

    done(pbx.reload(Mode::Act, Load::First).await);
    done(pbx.reload(Mode::Look, Load::First).await);
    assert!(rig.freeswitch.state().standby, "phones are let in by the next step, not by this one");
    assert!(rig.marker().exists());
    done(pbx.accept_registrations(Mode::Act).await);
    done(pbx.register_trunks(Mode::Act).await);
    let acts = rig.freeswitch.acts();
    let expected = [
        "reloadxml",
        "sofia profile external rescan",
        "sofia profile internal start",
        "sofia global standby off",
        "sofia profile external register carrier",
    ];
    assert_eq!(acts, expected);
    assert_eq!(pbx.status().await.serving, Serving::Yes);

    for _ in 0..2 {
        done(pbx.stop_accepting().await);
        assert!(!rig.marker().exists());
    }
    let expected = [
        "sofia global standby on",
        "sofia profile external unregister all",
        "sofia profile internal unregister all",
        "sofia global standby on",
    ];
    assert_eq!(rig.freeswitch.acts(), expected, "what is not registered is left alone");
    assert_eq!(rig.stops(), 0, "a warm standby that is proved is not stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_cannot_be_proved_is_stopped_instead() {
    type Spoil = fn(&mut Rig);
    let cases: [(Spoil, &str); 5] = [
        (
            |rig| rig.freeswitch.state().db_dir = "/srv/a/db".to_owned(),
            "its db_dir /srv/a/db lies in the working directory /srv/a: ",
        ),
        (|rig| rig.freeswitch.state().manner = Manner::HangsAt("standby on"), "no answer to `sofia global standby on`"),
        (|rig| rig.freeswitch.state().manner = Manner::Silent, "says nothing within 3s"),
        (
            |rig| rig.settings.password = Secret::Plain(PlainSecret("as it was before".to_owned())),
            "refuses the password",
        ),
        (|rig| rig.freeswitch.state().keeps_registered = true, "trunk carrier is REGED after 2s"),
    ];
    for (spoil, why) in cases {
        let mut rig = Rig::warm();
        rig.freeswitch.state().gateways.insert("carrier".to_owned(), vec!["REGED"]);
        spoil(&mut rig);
        let pbx = rig.driver();
        let proof = done(pbx.passive().await);
        assert!(proof.starts_with("stopped instead, because ") && proof.contains(why), "{why}: {proof}");
        assert!(proof.contains("; pbx.service is inactive; "), "{proof}");
        assert_eq!(pbx.status().await.serving, Serving::No);
        assert!(!rig.marker().exists());
    }
    let rig = Rig::warm();
    rig.freeswitch.state().db_dir = "/srv/abc/db".to_owned();
    assert!(done(rig.driver().passive().await).starts_with("pbx.service is on standby; "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_with_a_registered_trunk_is_not_passive_until_it_is_given_up() {
    let rig = Rig::warm();
    let pbx = rig.driver();
    assert_eq!(pbx.status().await.serving, Serving::No);
    rig.freeswitch.state().gateways.insert("carrier".to_owned(), vec!["REGED"]);
    let expected = Serving::Unknown("it is on standby, yet trunk carrier may be registered".to_owned());
    assert_eq!(pbx.status().await.serving, expected);
    done(pbx.passive().await);
    assert_eq!(pbx.status().await.serving, Serving::No);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_whose_phones_another_one_lets_in_is_stopped_and_still_not_passive() {
    let rig = Rig::warm();
    // Another one runs where the probe asks.
    let dir = tempfile::tempdir().expect("directory");
    let other = FreeSwitch::new(dir.path());
    let started = std::process::Command::new("sh").args(["-c", &other.start_command()]).status();
    assert!(started.expect("sh runs").success());
    let site = site(&rig.marker(), other.sip, &[]);
    let pbx = FreeswitchPbx::new(site, rig.systemctl(), &rig.settings, Vec::new());
    let why = failed(pbx.passive().await);
    assert!(why.starts_with("pbx.service is inactive, yet sip:"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_trouble_at_the_event_socket_is_one_line_of_advice() {
    let mut rig = Rig::new(WhilePassive::Stopped);
    rig.run();
    let esl = rig.freeswitch.esl;
    let asks = async |rig: &Rig| rig.driver().drain().await;

    rig.settings.password = Secret::Plain(PlainSecret("ClueCon".to_owned()));
    let why = failed(asks(&rig).await);
    assert!(why.starts_with("pbx.driver.freeswitch.password is the stock password, which everybody knows; "), "{why}");
    assert_eq!(rig.freeswitch.state().passwords, Vec::<String>::new(), "it is never sent");
    rig.settings.password = Secret::Plain(PlainSecret("wrong\n\napi fsctl shutdown".to_owned()));
    let why = failed(asks(&rig).await);
    assert!(why.contains("holds a line end") && !why.contains("shutdown"), "{why}");
    assert_eq!(rig.freeswitch.state().passwords, Vec::<String>::new());
    rig.settings.password = Secret::Plain(PlainSecret("wrong".to_owned()));
    let why = failed(asks(&rig).await);
    let said =
        format!("the event socket at {esl} refuses the password; pbx.driver.freeswitch.password must be the one in ");
    assert!(why.starts_with(&said), "{why}");
    rig.settings.password = Secret::Plain(PlainSecret(rig.freeswitch.state().password.clone()));

    rig.settings.esl = loopback();
    let why = failed(asks(&rig).await);
    assert!(why.starts_with(&format!("no event socket at {}: ", rig.settings.esl)), "{why}");
    assert!(
        why.ends_with("see listen-ip and listen-port in event_socket.conf.xml, and whether FreeSWITCH runs"),
        "{why}"
    );
    rig.settings.esl = esl;

    for (manner, said) in [
        (
            Manner::Silent,
            format!("{esl} says nothing within 3s: FreeSWITCH hangs, or pbx.driver.freeswitch.esl is another"),
        ),
        (
            Manner::Says("SSH-2.0-OpenSSH_9.2\r\n"),
            format!("{esl} is no event socket of FreeSWITCH (it speaks another protocol); "),
        ),
        (
            Manner::Says("Content-Type: text/rude-rejection\nContent-Length: 24\n\nAccess Denied, go away.\n"),
            format!("the event socket at {esl} refuses this address; let apply-inbound-acl"),
        ),
        (Manner::Says(""), format!("the event socket at {esl} hung up; see whether FreeSWITCH runs")),
        (Manner::Bare, "FreeSWITCH does not know `show`; load the module that brings it".to_owned()),
    ] {
        rig.freeswitch.state().manner = manner.clone();
        let why = failed(asks(&rig).await);
        assert!(why.starts_with(&said), "{manner:?}: {why}");
    }
    // These may have been done: the question had left.
    for (manner, said) in [
        (Manner::Denies, "the event socket does not obey `show calls count` (-ERR permission denied); "),
        (Manner::HangsAt("show calls"), "no answer to `show calls count` within 500ms; see whether FreeSWITCH hangs"),
    ] {
        rig.freeswitch.state().manner = manner.clone();
        let why = unknown(asks(&rig).await);
        assert!(why.starts_with(said), "{manner:?}: {why}");
        let status = rig.driver().status().await;
        assert_eq!(status.serving, Serving::Yes, "phones are served whatever its event socket says");
        assert!(status.trouble.is_some(), "{manner:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_that_is_not_up_says_what_its_gateway_says() {
    let rig = Rig::new(WhilePassive::Stopped);
    rig.run();
    let pbx = rig.driver();
    let becomes = |states: &[&'static str]| rig.freeswitch.state().registering = states.to_vec();

    becomes(&["TRYING", "FAIL_WAIT"]);
    let start = Instant::now();
    let outcome = pbx.register_trunks(Mode::Act).await;
    let refused =
        StepOutcome::Refused("trunk carrier is refused by its provider: FAIL_WAIT, asks again: 28s".to_owned());
    assert_eq!(outcome, refused);
    assert!(start.elapsed() < Duration::from_secs(2), "a refusal is not waited upon");
    assert_eq!(rig.freeswitch.acts(), ["sofia profile external register carrier"], "and not repeated");
    assert_eq!(pbx.status().await.trunks[0].state, TrunkState::Rejected);

    becomes(&["TRYING"]);
    let why = failed(pbx.register_trunks(Mode::Act).await);
    assert!(why.contains("carrier") && why.contains("TRYING"), "{why}");

    rig.freeswitch.state().gateways.insert("carrier".to_owned(), vec!["NOREG"]);
    rig.freeswitch.acts();
    let why = failed(pbx.register_trunks(Mode::Act).await);
    assert!(why.contains("NOREG: it does not register (register=false), or was unregistered"), "{why}");
    assert_eq!(rig.freeswitch.acts(), Vec::<String>::new(), "it would be refused");

    rig.freeswitch.state().gateways.clear();
    let why = failed(pbx.register_trunks(Mode::Act).await);
    assert!(why.contains("there is no gateway carrier: "), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_does_not_come_up_is_named_and_a_dead_unit_is_not_waited_for() {
    let mut rig = Rig::new(WhilePassive::Stopped);
    rig.settings.start_timeout = Duration::from_secs(1);
    rig.freeswitch.state().profiles.insert("internal".to_owned(), false);
    let why = failed(rig.driver().reload(Mode::Act, Load::First).await);
    assert!(
        why.starts_with("the profile internal does not run; try `sofia profile internal start` in fs_cli"),
        "{why}"
    );
    rig.freeswitch.state().profiles.insert("internal".to_owned(), true);
    done(rig.driver().reload(Mode::Act, Load::First).await);

    rig.settings.start_timeout = Duration::from_secs(60);
    rig.freeswitch.state().standby = true;
    std::fs::write(rig.dir.path().join("state"), "failed").expect("state");
    let start = Instant::now();
    rig.freeswitch.state().manner = Manner::HangsAt("standby");
    let why = failed(rig.driver().accept_registrations(Mode::Act).await);
    assert!(why.starts_with("pbx.service is failed (success); "), "{why}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_from_standby_that_hangs_midway_is_unknown_and_goes_on_when_it_answers_again() {
    for at in ["reloadxml", "rescan"] {
        let rig = Rig::warm();
        let pbx = rig.driver();
        rig.freeswitch.state().manner = Manner::HangsAt(at);
        let why = unknown(pbx.reload(Mode::Act, Load::First).await);
        assert!(why.contains(at), "{why}");
        rig.freeswitch.state().manner = Manner::Well;
        let why = failed(pbx.reload(Mode::Look, Load::First).await);
        assert_eq!(why, "its reload was begun, and not seen to end");
        done(pbx.reload(Mode::Act, Load::First).await);
        done(pbx.reload(Mode::Look, Load::First).await);
        rig.freeswitch.state().manner = Manner::HangsAt("standby off");
        unknown(pbx.accept_registrations(Mode::Act).await);
        rig.freeswitch.state().manner = Manner::Well;
        done(pbx.accept_registrations(Mode::Act).await);
        assert_eq!(rig.stops(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_cannot_be_told_to_read_anew_is_started_anew() {
    // It hangs for the second time.
    let rig = Rig::warm();
    let pbx = rig.driver();
    rig.freeswitch.state().manner = Manner::HangsAt("reloadxml");
    unknown(pbx.reload(Mode::Act, Load::First).await);
    let proof = done(pbx.reload(Mode::Act, Load::First).await);
    assert_eq!((proof.as_str(), rig.stops()), ("pbx.service is active; profiles external, internal", 1));

    // It says nothing at all: before the reload, and in the middle of it.
    for begun in [false, true] {
        let mut rig = Rig::warm();
        rig.settings.start_timeout = Duration::from_secs(1);
        if begun {
            rig.freeswitch.state().manner = Manner::HangsAt("reloadxml");
            unknown(rig.driver().reload(Mode::Act, Load::First).await);
        }
        rig.freeswitch.state().manner = Manner::Silent;
        failed(rig.driver().reload(Mode::Act, Load::First).await);
        assert_eq!(rig.stops(), 1, "{begun}");
        // As one that its start lets phones into: they are worth more.
        rig.freeswitch.state().standby = false;
        let proof = done(rig.driver().reload(Mode::Act, Load::First).await);
        assert!(proof.starts_with("pbx.service is active; its profiles are not seen: "), "{proof}");
        assert_eq!(rig.stops(), 1, "one that answers phones is not stopped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_that_it_is_experimental_and_what_does_not_fit() {
    let rig = Rig::new(WhilePassive::Stopped);
    let texts = async |rig: &Rig| rig.driver().findings().await.into_iter().map(|f| f.text).collect::<Vec<_>>();
    let cold = texts(&rig).await;
    assert!(cold[0].ends_with("it is experimental"), "{cold:?}");
    rig.run();
    assert_eq!(texts(&rig).await.last().map(String::as_str), Some("its event socket answers, and its profiles run"));
    rig.freeswitch.state().profiles.remove("external");
    assert_eq!(texts(&rig).await.last().map(String::as_str), Some("the profile external does not run"));
}
