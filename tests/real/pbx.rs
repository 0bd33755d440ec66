//! PBX drivers against real servers: one contract for all of them; what is particular to each lies below.

mod asterisk;
mod builtin;
mod command;
mod freeswitch;
mod kamailio_driver;
mod providers;
mod rigs;
mod systemd;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pbx_failover::adapters::pbx::{CommandPbx, Site, SystemdPbx};
use pbx_failover::config::{self, CommandDriver, Driver, SipProbe, SipTransport};
use pbx_failover::ports::{Load, Pbx};
use pbx_failover::units::{Mode, NodeName, Serving, StepOutcome, TrunkKind, TrunkState};

use crate::lab::kamailio::{self, Kamailio, Setup};
use crate::lab::netns::{Cut, Host, Topology};
use crate::lab::sipp::{self, Phone};
use crate::lab::unit::Unit;
use crate::lab::web::Authority;
use crate::lab::{Running, free_port, have, wait_until};

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer; gives it.
async fn until<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begin.elapsed() < SOON, "waited {SOON:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
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
    site_with_trunk("carrier", marker, registrar, before_reload)
}

fn site_with_trunk(trunk: &str, marker: &Path, registrar: SocketAddr, before_reload: &[&str]) -> Site {
    site_with(vec![config::Trunk::new(trunk, TrunkKind::Register)], marker, registrar, before_reload)
}

fn site_with(trunks: Vec<config::Trunk>, marker: &Path, registrar: SocketAddr, before_reload: &[&str]) -> Site {
    let pbx = config::Pbx {
        working_dirs: vec!["/srv/a".into(), "/srv/b".into()],
        certificates: Vec::new(),
        before_reload: before_reload.iter().map(|&word| word.to_owned()).collect(),
        give_up_after: Duration::from_secs(300),
        driver: Driver::Command(Box::default()),
        probe: SipProbe { host: registrar.ip().to_string(), port: registrar.port(), transport: SipTransport::Udp },
        trunks,
    };
    Site::new(&node(), marker.to_owned(), &pbx)
}

fn node() -> NodeName {
    "pbx-b".parse().expect("a node name")
}

/// The stand-in for systemctl, whose `pbx.service` is these two commands.
fn systemctl(dir: &Path, start: &str, stop: &str) -> PathBuf {
    Unit { start, stop, alive: "true" }.write(dir)
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
    contract_behind(None, backup, pbx).await;
}

/// The same, where a phone that knocks at a passive PBX is answered so: `None` when it is stopped.
async fn contract_behind(passive: Option<u16>, backup: &Backup, pbx: &dyn Pbx) {
    let (registrar, marker) = (backup.pbx.address(), backup.marker());
    contract_at(registrar, passive, &backup.phone, &marker, &backup.provider, pbx).await;
}

/// The same with another server than Kamailio at `registrar`.
async fn contract_at(
    registrar: SocketAddr,
    passive: Option<u16>,
    phone: &Phone,
    marker: &Path,
    provider: &Kamailio,
    pbx: &dyn Pbx,
) {
    for _ in 0..2 {
        done(pbx.passive().await);
    }
    assert_eq!(phone.knock(registrar), passive, "passive means that nobody takes a REGISTER");
    assert!(!marker.exists());
    assert_eq!(pbx.status().await.serving, Serving::No);
    failed(pbx.reload(Mode::Look, Load::First).await);
    failed(pbx.accept_registrations(Mode::Look).await);
    assert!(!matches!(pbx.register_trunks(Mode::Look).await, StepOutcome::Done(_)));
    assert_eq!(phone.knock(registrar), passive, "looking changes nothing");

    for _ in 0..2 {
        done(pbx.reload(Mode::Act, Load::First).await);
    }
    assert!(marker.exists());
    done(pbx.reload(Mode::Look, Load::First).await);
    for mode in [Mode::Act, Mode::Act, Mode::Look] {
        let proof = done(pbx.accept_registrations(mode).await);
        assert!(proof.contains("answers REGISTER with 401"), "{proof}");
    }
    phone.register(registrar).expect("the phone registers");
    for mode in [Mode::Act, Mode::Act, Mode::Look] {
        done(pbx.register_trunks(mode).await);
    }
    assert_eq!(provider.contacts("trunk1").len(), 1);
    assert_eq!(pbx.status().await.serving, Serving::Yes);

    for _ in 0..2 {
        done(pbx.drain().await);
        done(pbx.unregister_trunks().await);
    }
    phone.register(registrar).expect("until the stop phones are served");
    for _ in 0..2 {
        done(pbx.stop_accepting().await);
    }
    assert_eq!(phone.knock(registrar), passive);
    assert!(!marker.exists());
    failed(pbx.reload(Mode::Look, Load::First).await);
}
