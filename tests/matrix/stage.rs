//! Real daemons between two sites: the robot, its PBX and the primary's servers, BIND as the zone's master, a provider
//! at which both PBXs register, each on a host of its own, and every line to cut.
//!
//! The robot is as fast as it may be: a question every 200 ms. What comes of a cut is awaited, never slept for.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::oracle::{Act, HalfDead, Place, Policies, Process, SiteCut, Used};
use super::plan::{Cut, Cuts};
use crate::lab::kamailio::{self, Kamailio, Setup};
use crate::lab::outside::{Agent, Outside, Settings, at};
use crate::lab::robot::Robot;
use crate::lab::sites::{Host, Line};
use crate::lab::{Paced, have};

/// How long a robot may believe a verdict before it acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HoldDown {
    /// It acts at once.
    None,
    /// It only watches.
    Hour,
}

/// Registrations of trunks are refreshed within so many seconds.
pub const TRUNK_EXPIRES_S: u32 = 4;

/// One answer may have been on its way when the line was cut; then `fall` of them, and one more.
const COUNTED: usize = 5;

/// Everything, running; the robot is dropped first, the network last.
pub struct Stage {
    /// On the backup.
    pub robot: Robot,
    /// On the primary, where policies have one.
    pub agent: Option<Robot>,
    /// On the third host, where policies have one.
    pub observer: Option<Robot>,
    /// The primary's PBX.
    pub sip: Kamailio,
    /// The backup's PBX.
    pub pbx: Kamailio,
    /// Where both PBXs register.
    pub provider: Kamailio,
    /// The zone's master, the web servers and the lines.
    pub outside: Outside,
}

impl Stage {
    /// All of it, the robot armed; `None`, said loudly, where that is not possible.
    pub fn armed(policies: Policies, hold_down: HoldDown) -> Option<Self> {
        let mut stage = Self::up(policies, hold_down)?;
        if let Some(observer) = &mut stage.observer {
            observer.start();
        }
        if let Some(agent) = &mut stage.agent {
            agent.start();
        }
        stage.robot.start();
        stage.robot.wait_armed();
        stage.wait_counted();
        Some(stage)
    }

    /// As [`Stage::armed`], with no robot started yet.
    pub fn up(policies: Policies, hold_down: HoldDown) -> Option<Self> {
        if !have(&kamailio::PROGRAMS) {
            return None;
        }
        let outside = Outside::up()?;
        let net = &outside.net;
        let provider = Setup::at(at(Host::Provider, 5060)).account("office", "pw").inside(net.exec(Host::Provider));
        let provider = Kamailio::started(provider);
        let pbx = |host| {
            Setup::at(at(host, 5060))
                .account("100", "pw100")
                .trunk("carrier", at(Host::Provider, 5060), "office", "pw")
                .trunks_expire(TRUNK_EXPIRES_S)
        };
        let sip = Kamailio::started(pbx(Host::Primary).inside(net.exec(Host::Primary)));
        sip.verb("register_trunks");
        // The robot starts it, and is on its host already.
        let pbx = Kamailio::new(pbx(Host::Backup));
        let daemon = |host, pbx: &Kamailio| outside.daemon(host, &settings(pbx, policies, hold_down), net.exec(host));
        let observer = (policies.observer == Used::Yes).then(|| daemon(Host::Observer, &pbx));
        let agent = policies.agent.map(|_| daemon(Host::Primary, &sip));
        let robot = daemon(Host::Backup, &pbx);
        Some(Self { robot, agent, observer, sip, pbx, provider, outside })
    }

    /// A phone beside each PBX calls somebody at the provider, again and again from now on.
    pub fn callers(&self) -> [Caller; 2] {
        let caller = |from: Host, to: Host| Caller::start(self.outside.net.exec(from), at(to, 5060));
        [caller(Host::Router, Host::Primary), caller(Host::Backup, Host::Backup)]
    }

    /// Cuts and kills, until the world is as `place` says; what lived and shall live goes on.
    pub fn make(&mut self, place: Place) {
        self.outside.net.cut(&lines(place.cuts));
        match (place.web, self.outside.web_runs()) {
            (Process::Runs, false) => self.outside.web.start(),
            (Process::Dead, true) => self.outside.web.kill(),
            _ => {}
        }
        match (place.pbx, self.sip.runs()) {
            // As `ExecCondition=` of its unit does.
            (Process::Runs, false)
                if self.agent.as_ref().is_none_or(|agent| agent.cli(&["guard"]).status.success()) =>
            {
                self.sip.start();
                self.sip.verb("register_trunks");
            }
            (Process::Dead, true) => self.sip.signal("KILL"),
            _ => {}
        }
    }

    /// The verdict now.
    pub fn verdict(&self) -> String {
        verdict(&self.robot.status()).to_owned()
    }

    /// Waits until every question has been asked and answered so often since now that each count has moved; the
    /// observer's first, so that its view has been told too.
    pub fn wait_counted(&self) {
        if let Some(observer) = &self.observer {
            rounds(observer, COUNTED);
            rounds(&self.robot, 2);
        } else {
            rounds(&self.robot, COUNTED);
        }
    }
}

/// Sends an INVITE twice a second, which its PBX passes on to the provider; what comes of the call does not matter.
pub struct Caller {
    _calling: Paced,
}

impl Caller {
    fn start(prefix: Vec<String>, to: SocketAddr) -> Self {
        let dir = tempfile::Builder::new().prefix("caller").tempdir().expect("temporary directory");
        let mut n = 0;
        let calling = Paced::every(Duration::from_millis(500), move || {
            // One datagram: a shell's own printf would send each line by itself.
            let file = dir.path().join("invite");
            std::fs::write(&file, invite(to, n)).expect("a file");
            n += 1;
            let say = format!("cat {} > /dev/udp/{}/{}", file.display(), to.ip(), to.port());
            let _ = Command::new(&prefix[0]).args(&prefix[1..]).args(["bash", "-c", &say]).output();
        });
        Self { _calling: calling }
    }
}

fn invite(to: SocketAddr, n: u32) -> String {
    let provider = at(Host::Provider, 5060);
    format!(
        "INVITE sip:outside@{provider} SIP/2.0\r\nVia: SIP/2.0/UDP 10.78.0.1:5099;branch=z9hG4bK{n};rport\r\nMax-Forwards: 20\r\n\
         From: <sip:phone@lab>;tag={n}\r\nTo: <sip:outside@lab>\r\nCall-ID: {n}-{to}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:phone@10.78.0.1>\r\nContent-Length: 0\r\n\r\n"
    )
}

fn rounds(robot: &Robot, count: usize) {
    let mut seen = answers(&robot.status());
    for _ in 0..count {
        let all_new = |status: &Value| {
            let now = answers(status);
            now.len() == seen.len() && now.iter().zip(&seen).all(|(now, seen)| now != seen)
        };
        seen = answers(&robot.wait("every question answered again", all_new));
    }
}

/// When each question was last answered.
fn answers(status: &Value) -> Vec<Value> {
    let lists = [
        &status["checks"],
        &status["internet"]["targets"],
        &status["witness"]["primary_site"],
        &status["witness"]["observers"],
    ];
    lists.into_iter().filter_map(Value::as_array).flatten().map(|question| question["last"]["at"].clone()).collect()
}

/// The verdict in a status.
pub fn verdict(status: &Value) -> &str {
    status["verdict"].as_str().unwrap_or_default()
}

/// The agent's policies. It reads the epoch every 5 s whatever is configured.
fn agent_yaml(policies: Policies) -> String {
    let Some(agent) = policies.agent else { return String::new() };
    let name = |act, nothing: &'static str| match act {
        Act::Stop => "stop",
        Act::UnregisterTrunks => "unregister_trunks",
        Act::Nothing => nothing,
    };
    let (step_down, unreadable) = (name(agent.step_down, "alert"), name(agent.unreadable, "keep"));
    format!(", step_down: {step_down}, epoch_unreadable: {{ after: 3s, do: {unreadable} }}")
}

/// The lines that a set of cuts means.
fn lines(cuts: Cuts) -> Vec<Line> {
    let line = |cut| match cut {
        Cut::PrimaryWire => Line::Wire(Host::Primary),
        Cut::SiteWire => Line::Wire(Host::Router),
        Cut::BackupWire => Line::Wire(Host::Backup),
        Cut::ObserverWire => Line::Wire(Host::Observer),
        Cut::MasterWire => Line::Wire(Host::Master),
        Cut::FirstTargetWire => Line::Wire(Host::FirstTarget),
        Cut::OtherTargetsWire => Line::Wire(Host::OtherTargets),
        Cut::ProviderWire => Line::Wire(Host::Provider),
        Cut::PrimaryBackup => Line::Path(Host::Primary, Host::Backup),
        Cut::PrimaryMaster => Line::Path(Host::Primary, Host::Master),
        Cut::PrimaryProvider => Line::Path(Host::Primary, Host::Provider),
        Cut::BackupMaster => Line::Path(Host::Backup, Host::Master),
        Cut::BackupProvider => Line::Path(Host::Backup, Host::Provider),
        Cut::BackupRouter => Line::Path(Host::Backup, Host::Router),
        Cut::ObserverPrimary => Line::Path(Host::Observer, Host::Primary),
        Cut::ObserverBackup => Line::Path(Host::Observer, Host::Backup),
    };
    cuts.list().into_iter().map(line).collect()
}

fn settings(pbx: &Kamailio, policies: Policies, hold_down: HoldDown) -> Settings {
    let primary_site = match policies.witness {
        Used::Yes => Some(format!("tcp://{}:80", Host::Router.address())),
        // A new namespace lets nobody ask for an echo.
        Used::InVain => Some(format!("icmp://{}", Host::Router.address())),
        Used::No => None,
    };
    let (work, driver) = (pbx.work_dir(), pbx.driver_yaml());
    let trunks = "{ carrier: { kind: register, required: true } }";
    Settings {
        half_dead: match policies.half_dead {
            HalfDead::Takeover => "{ takeover_after: 1s }",
            HalfDead::Alert => "alert",
        },
        site_cut: match policies.site_cut {
            SiteCut::Takeover => "takeover",
            SiteCut::Wait => "wait",
        },
        hold_down: match hold_down {
            HoldDown::None => "0s",
            HoldDown::Hour => "1h",
        },
        primary_site: primary_site.into_iter().collect(),
        observers: if policies.observer == Used::Yes { vec![Host::Observer] } else { Vec::new() },
        agent: if policies.agent.is_some() { Agent::Asked } else { Agent::Absent },
        agent_policies: agent_yaml(policies),
        ..Settings::with(format!("working_dir: {}, driver: {driver}, trunks: {trunks}", work.display()))
    }
}
