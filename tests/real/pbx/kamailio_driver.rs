//! The driver `kamailio` against real Kamailio: stopped and behind the gate of the recipe, well, dead, hung and refusing.

use std::os::unix::net::{UnixDatagram, UnixListener};

use pbx_failover::adapters::pbx::{Accounts, KamailioPbx, Proved};
use pbx_failover::config::{JsonRpc, KamailioPassive, OldBinding};
use pbx_failover::units::finding::{Finding, Level};
use pbx_failover::units::{Meant, Sign};

use super::*;
use crate::lab::kamailio::{Gate, Manner, Second};
use crate::pbx::providers::{Dead, carrier, here};

/// How long an answer may take here: a test that hangs it on purpose waits so long.
const ANSWER: Duration = Duration::from_millis(700);

const TRUNKS: Duration = Duration::from_secs(8);

impl Backup {
    /// The same provider and phone, with this Kamailio.
    fn with(self, change: impl FnOnce(Setup) -> Setup) -> Self {
        let setup = Setup::at(loopback()).account("100", "pw100");
        let setup = setup.trunk("carrier", self.provider.address(), "trunk1", "secret");
        Self { pbx: Kamailio::new(change(setup)), ..self }
    }

    fn socket(&self) -> JsonRpc {
        JsonRpc::Unix(self.pbx.path("rpc.sock"))
    }

    fn kamailio(&self, passive: KamailioPassive) -> KamailioPbx {
        self.kamailio_at(self.socket(), passive)
    }

    fn kamailio_at(&self, jsonrpc: JsonRpc, passive: KamailioPassive) -> KamailioPbx {
        let start = self.pbx.command("reload").join(" ");
        let program = systemctl(self.dir.path(), &start, &self.pbx.command("passive").join(" "));
        let kamailio = config::Kamailio {
            jsonrpc,
            unit: "pbx.service".to_owned(),
            start_timeout: Duration::from_secs(20),
            passive,
            reload: ["htable.reload", "domain.reload", "dispatcher.reload"].map(str::to_owned).to_vec(),
        };
        KamailioPbx::new(self.site(), program, &kamailio, vec![self.pbx.work_dir()]).with_limits(ANSWER, TRUNKS)
    }

    /// Its unit runs, as after a boot.
    fn boot(&self) {
        self.pbx.start();
        std::fs::write(self.dir.path().join("state"), "active").expect("state");
    }

    fn unit_state(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("state")).unwrap_or_default().trim().to_owned()
    }
}

fn gate() -> KamailioPassive {
    KamailioPassive::Gate { htable: "pbx_failover".to_owned(), key: "serve".to_owned() }
}

/// Everything up to a registered trunk.
async fn take_over(pbx: &KamailioPbx) {
    done(pbx.reload(Mode::Act, Load::First).await);
    done(pbx.accept_registrations(Mode::Act).await);
    done(pbx.register_trunks(Mode::Act).await);
}

fn texts(findings: &[Finding], level: Level) -> Vec<&str> {
    findings.iter().filter(|finding| finding.level == level).map(|finding| finding.text.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_kamailio_keeps_the_contract_stopped() {
    let Some(backup) = Backup::new() else { return };
    contract(&backup, &backup.kamailio(KamailioPassive::Stopped)).await;
    assert_eq!(backup.provider.contacts("trunk1"), Vec::<String>::new(), "the trunk was given up at the provider");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_kamailio_keeps_the_contract_behind_its_gate() {
    let Some(backup) = Backup::new() else { return };
    let backup = backup.with(|setup| setup.gate(Gate::Asked));
    backup.boot();
    let main = std::fs::read_to_string(backup.pbx.path("pid")).expect("pid");
    contract_behind(Some(503), &backup, &backup.kamailio(gate())).await;
    assert_eq!(backup.provider.contacts("trunk1"), Vec::<String>::new());
    assert_eq!(std::fs::read_to_string(backup.pbx.path("pid")).expect("pid"), main, "it was never restarted");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_its_shut_gate_it_is_passive_and_where_it_should_be_stopped_the_same_answer_is_a_sign() {
    let Some(backup) = Backup::new() else { return };
    let backup = backup.with(|setup| setup.gate(Gate::Asked));
    backup.boot();
    let warm = backup.kamailio(gate());
    done(warm.passive().await);
    let look = warm.look_passive().await;
    assert_eq!(look.seen().collect::<Vec<_>>(), [], "{look:?}");
    let cold = backup.kamailio(KamailioPassive::Stopped).look_passive().await;
    let seen: Vec<_> = cold.seen().collect();
    assert!(matches!(seen[..], [(Sign::Answers, said)] if said.contains("503")), "{seen:?}");
    assert!(cold.todo.contains("`systemctl stop pbx.service`"), "{}", cold.todo);
    take_over(&warm).await;
    let look = warm.look_passive().await;
    let seen: Vec<_> = look.seen().map(|(sign, _)| sign).collect();
    assert_eq!((seen, look.meant), (vec![Sign::AcceptsRegister, Sign::TrunkUp], Meant::Serving), "{look:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_kamailio_keeps_the_contract_over_http() {
    let Some(backup) = Backup::new() else { return };
    let backup = backup.with(Setup::with_http);
    let url = |path: &str| JsonRpc::Http(format!("http://{}/{path}", backup.pbx.address()).parse().expect("a URL"));
    contract(&backup, &backup.kamailio_at(url("RPC"), KamailioPassive::Stopped)).await;
    backup.boot();
    let findings = backup.kamailio_at(url("elsewhere"), KamailioPassive::Stopped).findings().await;
    let problem = texts(&findings, Level::Problem).join("; ");
    assert!(problem.contains("HTTP 404") && problem.contains("jsonrpc_dispatch()"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn phones_calls_and_trunks_are_seen_and_a_call_is_waited_for() {
    let Some(backup) = Backup::new() else { return };
    let backup = backup.with(|setup| setup.account("101", "pw101"));
    let pbx = backup.kamailio(KamailioPassive::Stopped);
    done(pbx.reload(Mode::Act, Load::First).await);
    let status = pbx.status().await;
    assert_eq!((status.registrations, status.calls, status.trunks[0].state), (Some(0), Some(0), TrunkState::Down));
    done(pbx.register_trunks(Mode::Act).await);
    let (registrar, called) = (backup.pbx.address(), Phone::new("101", "pw101"));
    backup.phone.register(registrar).expect("the phone registers");
    called.register(registrar).expect("the other phone registers");
    let status = pbx.status().await;
    assert_eq!((status.registrations, status.trunks[0].state, status.trouble), (Some(2), TrunkState::Up, None));

    let _answers = called.answers_calls(backup.dir.path());
    let _call = backup.phone.call(registrar, "101", Duration::from_secs(2), backup.dir.path());
    let mut seen = StepOutcome::done("");
    crate::lab::wait_until("the call is up", Duration::from_secs(5), || {
        seen = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(pbx.drain()));
        matches!(seen, StepOutcome::Failed(_))
    });
    assert_eq!(failed(seen), "1 call is up");
    wait_until("the call has ended", Duration::from_secs(15), || {
        let outcome = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(pbx.drain()));
        matches!(outcome, StepOutcome::Done(_))
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_the_gate_new_accounts_are_read_while_it_runs_and_a_second_takeover_overlaps_no_reload() {
    let Some(backup) = Backup::new() else { return };
    let mut backup = backup.with(|setup| setup.gate(Gate::Asked));
    backup.boot();
    let pbx = backup.kamailio(gate());
    done(pbx.passive().await);
    // db_text tells files apart by the second.
    let old = std::fs::metadata(backup.pbx.work_dir().join("accounts/htable")).and_then(|m| m.modified()).expect("age");
    wait_until("another second", Duration::from_secs(3), || old.elapsed().is_ok_and(|age| age.as_millis() > 1100));
    backup.pbx.sync_accounts(&[("200", "pw200")]);
    let new_phone = Phone::new("200", "pw200");
    let proof = done(pbx.reload(Mode::Act, Load::First).await);
    assert_eq!(proof, "read again: htable accounts (1 entries, 1 before), trunks");
    take_over(&pbx).await;
    new_phone.register(backup.pbx.address()).expect("the synced account is served");

    done(pbx.stop_accepting().await);
    assert_eq!(backup.provider.contacts("trunk1"), Vec::<String>::new());
    let proof = done(pbx.reload(Mode::Act, Load::First).await);
    assert!(proof.contains("one by one"), "{proof}");
    done(pbx.accept_registrations(Mode::Act).await);
    done(pbx.register_trunks(Mode::Act).await);
    assert_eq!(backup.provider.contacts("trunk1").len(), 1);
    // A robot that was restarted does not know of the first one: Kamailio refuses, once, and nothing is lost by it.
    done(pbx.stop_accepting().await);
    let pbx = backup.kamailio(gate());
    take_over(&pbx).await;
    assert_eq!(backup.pbx.log().matches("shifting in-memory table").count(), 1, "{}", backup.pbx.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kamailio_whose_reload_reads_nothing_is_restarted_instead() {
    let Some(backup) = Backup::new() else { return };
    let mut backup = backup.with(|setup| setup.gate(Gate::Asked).keeps_tables());
    backup.boot();
    let pbx = backup.kamailio(gate());
    done(pbx.passive().await);
    let findings = pbx.findings().await;
    assert!(texts(&findings, Level::Warning).iter().any(|text| text.contains("db_text keeps")), "{findings:?}");
    backup.pbx.sync_accounts(&[("200", "pw200")]);
    take_over(&pbx).await;
    Phone::new("200", "pw200").register(backup.pbx.address()).expect("the synced account is served");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_were_cut_in_half_are_refused_and_the_gate_stays_shut() {
    let Some(backup) = Backup::new() else { return };
    let backup = backup.with(|setup| setup.gate(Gate::Asked));
    backup.boot();
    let pbx = backup.kamailio(gate());
    let table = backup.pbx.work_dir().join("accounts/htable");
    let whole = std::fs::read_to_string(&table).expect("a table");
    let age = || std::fs::metadata(&table).and_then(|m| m.modified()).expect("age").elapsed().unwrap_or_default();
    wait_until("another second", Duration::from_secs(3), || age().as_millis() > 1100);
    std::fs::write(&table, &whole[..whole.len() / 3]).expect("written");
    let why = failed(pbx.reload(Mode::Act, Load::First).await);
    assert!(why.starts_with("kamailio refuses htable.reload: ") && why.contains("see its log"), "{why}");
    assert_eq!(backup.phone.knock(backup.pbx.address()), Some(503));
    wait_until("another second", Duration::from_secs(3), || age().as_millis() > 1100);
    std::fs::write(&table, whole).expect("written");
    take_over(&pbx).await;
    backup.phone.register(backup.pbx.address()).expect("the phone registers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_nobody_asks_or_that_is_not_there_is_no_gate_and_the_unit_is_stopped_instead() {
    for (kind, said) in [(Gate::Forgotten, "its script does not ask"), (Gate::None, "No such htable (pbx_failover)")] {
        let Some(backup) = Backup::new() else { return };
        let backup = backup.with(|setup| setup.gate(kind));
        backup.boot();
        let pbx = backup.kamailio(gate());
        let findings = pbx.findings().await;
        assert_eq!(texts(&findings, Level::Problem).len(), 1, "{findings:?}");
        let proof = done(pbx.passive().await);
        assert!(proof.starts_with("stopped instead, because ") && proof.contains(said), "{proof}");
        assert_eq!((backup.phone.knock(backup.pbx.address()), backup.unit_state()), (None, "inactive".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_working_directory_that_it_holds_open_is_named_and_the_unit_is_stopped_instead() {
    let Some(backup) = Backup::new() else { return };
    let backup = backup.with(|setup| setup.gate(Gate::Asked));
    // Its log lies where the sync replaces files.
    let log = backup.pbx.work_dir().join("kamailio.log");
    std::os::unix::fs::symlink(&log, backup.pbx.path("kamailio.log")).expect("link");
    backup.boot();
    let pbx = backup.kamailio(gate());
    let findings = pbx.findings().await;
    let problem = texts(&findings, Level::Problem).join("; ");
    assert!(problem.contains("work/kamailio.log open while passive"), "{findings:?}");
    let proof = done(pbx.passive().await);
    assert!(proof.contains("work/kamailio.log of the working directory open"), "{proof}");
    assert_eq!(backup.unit_state(), "inactive");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_trunk_is_told_as_disabled_and_registers_once_its_provider_is_well() {
    let Some(backup) = Backup::new() else { return };
    let backup = backup.with(Setup::trunks_never_retry);
    backup.provider.behave(Manner::Refuses(403, ""));
    let pbx = backup.kamailio(KamailioPassive::Stopped);
    done(pbx.reload(Mode::Act, Load::First).await);
    let StepOutcome::Refused(why) = pbx.register_trunks(Mode::Act).await else { panic!("it is not refused") };
    assert!(why.contains("set reg_retry_interval"), "{why}");
    backup.phone.register(backup.pbx.address()).expect("phones do not care");
    let status = pbx.status().await;
    assert_eq!((status.serving, status.trunks[0].state), (Serving::Yes, TrunkState::Rejected));
    assert!(status.trouble.is_some_and(|trouble| trouble.starts_with("trunk carrier: kamailio has disabled it")));
    let findings = pbx.findings().await;
    let warnings = texts(&findings, Level::Warning);
    assert!(warnings.iter().any(|text| text.starts_with("reg_retry_interval of kamailio")), "{findings:?}");
    backup.provider.behave(Manner::Serves);
    done(pbx.register_trunks(Mode::Act).await);
    assert_eq!(backup.provider.contacts("trunk1").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_that_kamailio_tries_again_by_itself_fails_the_step_and_is_not_pushed() {
    let Some(backup) = Backup::new() else { return };
    backup.provider.behave(Manner::Refuses(403, ""));
    let pbx = backup.kamailio(KamailioPassive::Stopped);
    done(pbx.reload(Mode::Act, Load::First).await);
    let why = failed(pbx.register_trunks(Mode::Act).await);
    assert_eq!(why, "trunk carrier is down: its last REGISTER failed; see kamailio's log");
    backup.provider.behave(Manner::Serves);
    wait_until("it registers by itself", Duration::from_secs(10), || backup.provider.contacts("trunk1").len() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_without_a_record_is_named_with_what_to_do() {
    let Some(backup) = Backup::new() else { return };
    let pbx = Backup { pbx: Kamailio::new(Setup::at(loopback())), ..backup };
    let pbx = (pbx.kamailio(KamailioPassive::Stopped), pbx);
    done(pbx.0.reload(Mode::Act, Load::First).await);
    let why = unknown(pbx.0.register_trunks(Mode::Act).await);
    assert!(why.contains("trunk carrier is not in the status; write the l_uuid"), "{why}");
    let findings = pbx.0.findings().await;
    assert!(texts(&findings, Level::Problem).contains(&"kamailio has no trunk carrier"), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kamailio_that_hangs_is_told_as_unknown_made_passive_by_its_unit_and_started_again() {
    hangs(KamailioPassive::Stopped, Gate::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kamailio_that_hangs_behind_its_gate_is_told_as_unknown_stopped_instead_and_started_again() {
    hangs(gate(), Gate::Asked).await;
}

async fn hangs(passive: KamailioPassive, kind: Gate) {
    let Some(backup) = Backup::new() else { return };
    let backup = backup.with(|setup| setup.gate(kind));
    let pbx = backup.kamailio(passive);
    take_over(&pbx).await;
    backup.pbx.signal("STOP");
    for why in [
        unknown(pbx.register_trunks(Mode::Act).await),
        unknown(pbx.register_trunks(Mode::Look).await),
        unknown(pbx.unregister_trunks().await),
        unknown(pbx.drain().await),
    ] {
        assert!(why.contains("did not answer within 700ms; it hangs"), "{why}");
    }
    failed(pbx.accept_registrations(Mode::Look).await);
    let status = pbx.status().await;
    assert!(matches!(status.serving, Serving::Unknown(_)) && status.trouble.is_some(), "{status:?}");
    backup.pbx.signal("CONT");
    wait_until("it answers again", Duration::from_secs(5), || backup.phone.knock(backup.pbx.address()) == Some(401));
    take_over(&pbx).await;

    backup.pbx.signal("STOP");
    done(pbx.passive().await);
    assert_eq!(backup.unit_state(), "inactive");
    take_over(&pbx).await;
    backup.phone.register(backup.pbx.address()).expect("the phone registers");
    // Hung while it serves: nobody waits for it for ever.
    backup.pbx.signal("STOP");
    take_over(&pbx).await;
    backup.phone.register(backup.pbx.address()).expect("the phone registers");
    done(pbx.stop_accepting().await);

    // Hung before the takeover reaches it.
    backup.boot();
    backup.pbx.signal("STOP");
    take_over(&pbx).await;
    backup.phone.register(backup.pbx.address()).expect("the phone registers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kamailio_that_was_killed_is_told_as_gone_and_started_again() {
    for (passive, kind) in [(KamailioPassive::Stopped, Gate::None), (gate(), Gate::Asked)] {
        let Some(backup) = Backup::new() else { return };
        let backup = backup.with(|setup| setup.gate(kind));
        let pbx = backup.kamailio(passive);
        take_over(&pbx).await;
        backup.pbx.signal("KILL");
        wait_until("its processes have ended", Duration::from_secs(5), || backup.pbx.pids().is_empty());
        std::fs::write(backup.dir.path().join("state"), "failed").expect("state");
        let why = failed(pbx.register_trunks(Mode::Act).await);
        assert!(why.starts_with("kamailio is not there: nobody listens at "), "{why}");
        failed(pbx.accept_registrations(Mode::Act).await);
        assert!(done(pbx.drain().await).starts_with("no call is up: pbx.service is failed"));
        assert!(done(pbx.unregister_trunks().await).contains("so it registers nothing"));
        assert_eq!(pbx.status().await.serving, Serving::No);
        take_over(&pbx).await;
        backup.phone.register(backup.pbx.address()).expect("the phone registers");
        backup.pbx.signal("KILL");
        std::fs::write(backup.dir.path().join("state"), "failed").expect("state");
        done(pbx.stop_accepting().await);
        assert!(!backup.marker().exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_place_is_one_line_of_advice_and_keeps_no_phone_from_being_served() {
    let Some(backup) = Backup::new() else { return };
    backup.boot();
    let stream = backup.dir.path().join("ctl");
    let _listener = UnixListener::bind(&stream).expect("socket");
    for (path, said) in [
        (backup.dir.path().join("none"), "write in pbx.driver.kamailio.jsonrpc what its jsonrpcs has as dgram_socket"),
        (stream, "is no datagram socket; write in pbx.driver.kamailio.jsonrpc the dgram_socket of jsonrpcs"),
    ] {
        let pbx = backup.kamailio_at(JsonRpc::Unix(path), KamailioPassive::Stopped);
        let findings = pbx.findings().await;
        let problem = texts(&findings, Level::Problem).join("; ");
        assert!(problem.contains(said), "{problem}");
        assert!(pbx.status().await.trouble.is_some_and(|trouble| trouble.contains(said)));
        let proof = done(pbx.reload(Mode::Act, Load::First).await);
        assert!(proof.contains("phones are answered, but ") && proof.contains(said), "{proof}");
        done(pbx.accept_registrations(Mode::Act).await);
        assert!(!matches!(pbx.register_trunks(Mode::Act).await, StepOutcome::Done(_)));
        done(pbx.stop_accepting().await);
        backup.boot();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_the_gate_a_provider_that_is_silent_keeps_nobody_from_being_passive() {
    let Some(backup) = Backup::new() else { return };
    let backup = backup.with(|setup| setup.gate(Gate::Asked));
    backup.boot();
    let pbx = backup.kamailio(gate());
    done(pbx.passive().await);
    assert_eq!(pbx.status().await.serving, Serving::No);
    take_over(&pbx).await;
    assert_eq!(pbx.status().await.serving, Serving::Yes);
    backup.provider.behave(Manner::Silent);
    let proof = done(pbx.stop_accepting().await);
    assert!(proof.contains("the provider of trunk carrier does not answer"), "{proof}");
    let serves = (backup.phone.knock(backup.pbx.address()), backup.unit_state());
    assert_eq!(serves, (Some(503), "active".to_owned()), "it runs on behind its gate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_that_somebody_registers_behind_the_shut_gate_is_not_called_passive() {
    let Some(backup) = Backup::new() else { return };
    let backup = backup.with(|setup| setup.gate(Gate::Asked));
    backup.boot();
    let pbx = backup.kamailio(gate());
    done(pbx.register_trunks(Mode::Act).await);
    let Serving::Unknown(why) = pbx.status().await.serving else { panic!("it was called passive") };
    assert_eq!(why, "its gate is shut, yet trunk carrier is registered");
    done(pbx.passive().await);
    assert_eq!((pbx.status().await.serving, backup.provider.contacts("trunk1").len()), (Serving::No, 0));
}

/// A driver whose control socket is answered with `answer`, whatever is asked: `ID` stands for the question's. Its unit is
/// a file, and its phones are asked at `probe`.
fn answered_with(answer: Option<&'static str>, dir: &Path, probe: &str) -> KamailioPbx {
    let path = dir.join("rpc.sock");
    let server = UnixDatagram::bind(&path).expect("socket");
    std::thread::spawn(move || {
        let mut question = vec![0; 4096];
        while let Ok((length, from)) = server.recv_from(&mut question) {
            let asked: serde_json::Value = serde_json::from_slice(&question[..length]).expect("JSON");
            if let Some(answer) = answer {
                let _ = server.send_to_addr(answer.replace("ID", &asked["id"].to_string()).as_bytes(), &from);
            }
        }
    });
    let kamailio = config::Kamailio {
        jsonrpc: JsonRpc::Unix(path),
        unit: "pbx.service".to_owned(),
        start_timeout: Duration::from_secs(5),
        passive: KamailioPassive::Stopped,
        reload: Vec::new(),
    };
    let site = site_asking(probe, &dir.join("run/active"));
    KamailioPbx::new(site, systemctl(dir, "true", "true"), &kamailio, Vec::new()).with_limits(ANSWER, ANSWER)
}

fn site_asking(probe: &str, marker: &Path) -> Site {
    let pbx = config::Pbx {
        working_dirs: Vec::new(),
        certificates: Vec::new(),
        before_reload: Vec::new(),
        give_up_after: Duration::from_secs(300),
        driver: Driver::Command(Box::default()),
        probe: SipProbe { host: probe.to_owned(), port: free_port(), transport: SipTransport::Udp },
        trunks: Vec::new(),
    };
    Site::new(&node(), marker.to_owned(), &pbx)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_starts_is_halted_only_when_it_hangs_and_certainly_answers_no_phone() {
    const NOBODY: &str = "127.0.0.1";
    const NOT_ASKED: &str = "no..such..name";
    for (answer, probe, stops) in [(None, NOBODY, 1), (None, NOT_ASKED, 0), (Some("hello"), NOBODY, 0)] {
        let dir = tempfile::tempdir().expect("directory");
        let why = unknown(answered_with(answer, dir.path(), probe).reload(Mode::Act, Load::First).await);
        let calls = std::fs::read_to_string(dir.path().join("state.calls")).expect("calls");
        let stopped = calls.lines().filter(|call| *call == "stop pbx.service").count();
        assert_eq!(stopped, stops, "{answer:?} {probe}: {why}");
        assert_eq!(why.contains("hangs"), answer.is_none(), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_not_told_as_a_number_are_unknown_and_only_a_missing_module_is_not_waited_for() {
    let dir = || tempfile::tempdir().expect("directory");
    let (odd, missing) = (dir(), dir());
    let answer = r#"{"jsonrpc":"2.0","result":{"all":"many"},"id":ID}"#;
    let why = unknown(answered_with(Some(answer), odd.path(), "127.0.0.1").drain().await);
    assert_eq!(why, "kamailio's dlg.stats_active tells no number of calls; see what it says");
    let answer = r#"{"jsonrpc":"2.0","error":{"code":500,"message":"Method Not Found"},"id":ID}"#;
    let proof = done(answered_with(Some(answer), missing.path(), "127.0.0.1").drain().await);
    assert!(proof.starts_with("not waited for: nobody counts calls"), "{proof}");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_provider_of_one_registration_kamailio_is_refused_until_the_dead_primary_s_is_removed() {
    let Some(backup) = Backup::new() else { return };
    let dead = Dead::at(Second::Refused);
    let setup = Setup::at(loopback()).account("100", "pw100");
    let pbx = Kamailio::new(setup.trunk("carrier", dead.provider.address(), "trunk1", "secret"));
    let backup = Backup { pbx, ..backup };
    let proved = |old| {
        let driver = Box::new(backup.kamailio(KamailioPassive::Stopped));
        Proved::with(driver, vec![carrier(old)], here("127.0.0.1"), Accounts::uac(backup.socket()))
    };
    let pbx = proved(OldBinding::Shown);
    let skipped = pbx.findings().await;
    assert!(texts(&skipped, Level::Skipped).iter().any(|text| text.contains("does not run here now")), "{skipped:?}");
    done(pbx.reload(Mode::Act, Load::First).await);
    let outcome = pbx.register_trunks(Mode::Act).await;
    assert!(!matches!(outcome, StepOutcome::Done(_)), "{outcome:?}");
    assert!(outcome.text().contains(&dead.named()), "{outcome:?}");
    assert_eq!(pbx.status().await.trunks[0].foreign[0].place, dead.place);
    assert_eq!(dead.held(), [dead.contact.as_str()]);

    let pbx = proved(OldBinding::Cleared);
    let outcome = pbx.register_trunks(Mode::Act).await;
    let removed = format!("of carrier the old binding was removed: {} (3", dead.place);
    assert!(outcome.text().contains(&removed), "{outcome:?}");
    // uac was refused a moment ago, and tries again by itself.
    let is_up = async || matches!(pbx.register_trunks(Mode::Look).await, StepOutcome::Done(_)).then_some(());
    until("the trunk is up", is_up).await;
    assert_eq!(dead.held(), [format!("sip:carrier@{}", backup.pbx.address())]);
    done(pbx.stop_accepting().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_that_was_given_up_is_not_registered_though_the_provider_holds_another_s() {
    let Some(backup) = Backup::new() else { return };
    let dead = Dead::at(Second::Kept);
    let setup = Setup::at(loopback()).account("100", "pw100");
    let pbx = Kamailio::new(setup.trunk("carrier", dead.provider.address(), "trunk1", "secret"));
    let backup = Backup { pbx, ..backup };
    let pbx = backup.kamailio(KamailioPassive::Stopped);
    take_over(&pbx).await;
    assert_eq!(dead.held().len(), 2, "the provider keeps both");
    // It answers with the other's contact, which uac takes for what is left of its own.
    done(pbx.unregister_trunks().await);
    assert_eq!(dead.held(), [dead.contact.as_str()]);
    assert_eq!(pbx.status().await.trunks[0].state, TrunkState::Down);
    done(pbx.stop_accepting().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_while_it_serves_is_started_anew_and_not_again_and_again() {
    let Some(backup) = Backup::new() else { return };
    let pbx = backup.kamailio(KamailioPassive::Stopped);
    take_over(&pbx).await;
    let before = backup.pbx.pids();
    backup.pbx.signal("STOP");
    assert!(matches!(pbx.accept_registrations(Mode::Look).await, StepOutcome::Failed(_)));
    done(pbx.accept_registrations(Mode::Act).await);
    let after = backup.pbx.pids();
    assert!(after.iter().all(|pid| !before.contains(pid)), "{before:?} {after:?}");
    // Evidence that says so each time must not cut calls off again and again.
    backup.pbx.signal("STOP");
    assert!(matches!(pbx.accept_registrations(Mode::Act).await, StepOutcome::Failed(_)));
    assert!(backup.pbx.pids().iter().all(|pid| after.contains(pid)), "{after:?} {:?}", backup.pbx.pids());
    backup.pbx.signal("CONT");
    done(pbx.stop_accepting().await);
}
