//! The PBX drivers: one contract ([`crate::ports::Pbx`]), one file per driver.
//!
//! [`marker`] remembers what this node means, [`registrar`] asks our own SIP port, `report` reads a status command's
//! JSON, `provider` stands before every driver and asks the trunks' providers. What a step's failure leads to is decided above.

mod asterisk;
pub mod builtin;
mod command;
mod freeswitch;
mod kamailio;
pub mod marker;
pub mod open_files;
mod passive;
mod provider;
pub mod registrar;
mod report;
mod systemd;
mod unit;

pub use asterisk::AsteriskPbx;
pub use builtin::{BuiltinPbx, Resident};
pub use command::CommandPbx;
pub use freeswitch::FreeswitchPbx;
pub use kamailio::KamailioPbx;
pub use provider::{Accounts, Own, Proved};
pub use systemd::SystemdPbx;

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{self, Config, Driver, Trunk};
use crate::host::clock;
use crate::host::command::{self as program, CommandEnd};
use crate::ports::{Load, Pbx};
use crate::units::{NodeName, StepOutcome, TrunkKind, TrunkState, TrunkStatus};

use marker::{Marker, MarkerFile, Phase};
use registrar::Registrar;

/// How long `pbx.before_reload` may take: it restores a database dump, while nobody has a telephone.
pub const BEFORE_RELOAD_LIMIT: Duration = Duration::from_secs(300);

/// How long the PBX may take to do what it was told to.
pub const EFFECT_LIMIT: Duration = Duration::from_secs(30);

/// A command that exits with this code (`EX_TEMPFAIL` of sysexits.h) could not find out what it did.
const EXIT_UNKNOWN: i32 = 75;

/// The driver that the configuration names; `resident` is what runs in this process whatever the configuration says.
///
/// # Errors
/// One line: what this host lacks for it, and what to do.
pub fn driver(config: &Config, resident: &Resident) -> Result<Box<dyn Pbx>, String> {
    let site = Site::new(&config.node, config.marker(), &config.pbx);
    let pbx: Box<dyn Pbx> = match &config.pbx.driver {
        Driver::Systemd { unit, start_timeout } => {
            Box::new(SystemdPbx::new(site, unit::systemctl(systemd::KEY)?, unit.clone(), *start_timeout))
        }
        Driver::Kamailio(kamailio) => {
            let dirs = config.pbx.working_dirs.clone();
            Box::new(KamailioPbx::new(site, unit::systemctl(kamailio::KEY)?, kamailio, dirs))
        }
        Driver::Command(verbs) => Box::new(CommandPbx::new(site, (**verbs).clone())),
        Driver::Freeswitch(settings) => {
            let systemctl = unit::systemctl(freeswitch::KEY)?;
            Box::new(FreeswitchPbx::new(site, systemctl, settings, config.pbx.working_dirs.clone()))
        }
        Driver::Asterisk(asterisk) => {
            Box::new(AsteriskPbx::new(site, unit::systemctl(asterisk::KEY)?, config, asterisk))
        }
        Driver::Builtin(builtin) => Box::new(BuiltinPbx::new(site, config, builtin, resident.clone())),
    };
    if config.pbx.trunks.is_empty() {
        return Ok(pbx);
    }
    Ok(Box::new(Proved::new(pbx, config, accounts(&config.pbx))))
}

/// Whether the marker says that the PBX here is meant to serve, where nobody can be asked who knows.
///
/// # Errors
/// One line: the marker cannot be read.
pub fn means_to_serve(config: &Config) -> Result<bool, String> {
    let marker = MarkerFile::at(config.marker()).read(&config.node)?;
    Ok(marker.is_some_and(|marker| marker.means_to_serve()))
}

/// Where the trunks' passwords lie, as far as the driver can know.
fn accounts(pbx: &config::Pbx) -> Accounts {
    let file = match &pbx.driver {
        Driver::Builtin(builtin) => &builtin.accounts,
        Driver::Asterisk(asterisk) => &asterisk.config,
        Driver::Kamailio(settings) => return Accounts::uac(settings.jsonrpc.clone()),
        Driver::Systemd { .. } | Driver::Command(_) | Driver::Freeswitch(_) => return Accounts::Elsewhere,
    };
    Accounts::Pjsip(pbx.working_dirs.iter().map(|dir| dir.join(file)).collect())
}

/// What every driver shares: this node's marker, registrar and trunks.
#[derive(Debug)]
pub struct Site {
    node: NodeName,
    marker: MarkerFile,
    registrar: Registrar,
    trunks: Vec<Trunk>,
    working_dirs: Vec<PathBuf>,
    before_reload: Vec<String>,
    env: Vec<(String, String)>,
}

impl Site {
    /// The site of the PBX that `pbx` describes, on this node.
    pub fn new(node: &NodeName, marker: PathBuf, pbx: &config::Pbx) -> Self {
        let directories: Vec<_> = pbx.working_dirs.iter().map(|d| d.display().to_string()).collect();
        let env = [
            // Several directories are joined as in PATH.
            ("PBX_FAILOVER_WORKING_DIR", directories.join(":")),
            ("PBX_FAILOVER_NODE", node.to_string()),
            ("PBX_FAILOVER_MARKER", marker.display().to_string()),
        ];
        Self {
            node: node.clone(),
            marker: MarkerFile::at(marker),
            registrar: Registrar::new(pbx.probe.clone()),
            trunks: pbx.trunks.iter().filter(|trunk| !trunk.is_only_asked()).cloned().collect(),
            working_dirs: pbx.working_dirs.clone(),
            before_reload: pbx.before_reload.clone(),
            env: env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }

    fn phase(&self) -> Result<Option<Phase>, String> {
        Ok(self.marker.read(&self.node)?.map(|marker| marker.phase))
    }

    /// Whether the start of a PBX with the present directory was begun, and no stop since.
    fn begun(&self) -> Result<bool, String> {
        Ok(matches!(self.phase()?, Some(Phase::Starting | Phase::Started)))
    }

    fn enter(&self, phase: Phase) -> Result<(), String> {
        self.marker.write(&Marker { phase, node: self.node.clone(), at: clock::now().wall })
    }

    /// Its trunks where nothing tells how they stand.
    fn unseen_trunks(&self) -> Vec<TrunkStatus> {
        self.trunks.iter().map(|trunk| TrunkStatus::new(trunk.name.clone(), TrunkState::Unknown, None)).collect()
    }

    /// Begins a stop: from now on a running PBX is not believed to be meant.
    fn stopping(&self) -> Result<(), String> {
        match self.phase()? {
            None => Ok(()),
            Some(_) => self.enter(Phase::Stopping),
        }
    }

    /// Runs `pbx.before_reload`, and then says in the marker that the PBX is about to start.
    ///
    /// Not asked again while the marker stands, nor when this node has served before (a reboot takes the marker away):
    /// restoring the synced dump would then wipe out what changed here while we served.
    async fn prepare(&self, load: Load) -> Result<(), StepOutcome> {
        self.before_reload(load).await?;
        self.enter(Phase::Starting).map_err(StepOutcome::Failed)
    }

    async fn before_reload(&self, load: Load) -> Result<(), StepOutcome> {
        if load == Load::First && !self.before_reload.is_empty() {
            let end = program::run(&self.before_reload, &self.env, BEFORE_RELOAD_LIMIT).await;
            match verdict("pbx.before_reload", &end) {
                StepOutcome::Done(_) => {}
                other => return Err(other),
            }
        }
        Ok(())
    }
}

/// What so many calls mean to a drain.
fn calls_up(calls: u32) -> StepOutcome {
    match calls {
        0 => StepOutcome::done("no call is up"),
        1 => StepOutcome::failed("1 call is up"),
        calls => StepOutcome::Failed(format!("{calls} calls are up")),
    }
}

/// Is every required trunk up? `said` adds what happened to the trunk at a place of `seen`; `where_to` is where one that
/// is not seen should be named.
fn judge_trunks<'a>(
    trunks: &[Trunk],
    seen: &[TrunkStatus],
    said: impl Fn(usize) -> Option<&'a str>,
    where_to: &str,
) -> StepOutcome {
    let mut up = Vec::new();
    for Trunk { name, kind, .. } in trunks.iter().filter(|trunk| trunk.required) {
        let Some(at) = seen.iter().position(|seen| seen.name == *name) else {
            // Without a registration there may be nothing to tell.
            if *kind != TrunkKind::Register {
                up.push(format!("{name} not told"));
                continue;
            }
            return StepOutcome::Unknown(format!("trunk {name} is not in the status; {where_to}"));
        };
        let code = seen[at].sip_code.map(|code| format!(" ({code})")).unwrap_or_default();
        let more = said(at).map(|said| format!(": {said}")).unwrap_or_default();
        match seen[at].state {
            TrunkState::Up => up.push(format!("{name} up{code}")),
            // A provider bans those who insist: the engine asks seldom after a refusal.
            TrunkState::Rejected => {
                return StepOutcome::Refused(format!("trunk {name} is refused by its provider{code}{more}"));
            }
            state => return StepOutcome::Failed(format!("trunk {name} is {}{code}{more}", word(state))),
        }
    }
    StepOutcome::Done(if up.is_empty() { "no trunk is required".to_owned() } else { up.join(", ") })
}

fn word(state: TrunkState) -> &'static str {
    match state {
        TrunkState::Up => "up",
        TrunkState::Trying => "trying",
        TrunkState::Rejected => "rejected",
        TrunkState::Down => "down",
        TrunkState::Unknown => "in an unknown state",
    }
}

/// What the end of a command means: 0 done, 75 or a violent end unknown, else failed.
fn verdict(key: &str, end: &CommandEnd) -> StepOutcome {
    match end {
        CommandEnd::Exited { code: Some(0), stdout, stderr } => StepOutcome::Done(proof(stdout, stderr)),
        CommandEnd::Exited { code: Some(EXIT_UNKNOWN) | None, .. } | CommandEnd::TimedOut => {
            StepOutcome::Unknown(format!("{key}: {}", end.line()))
        }
        CommandEnd::Exited { .. } => StepOutcome::Failed(format!("{key}: {}", end.line())),
        CommandEnd::NotStarted(_) => {
            StepOutcome::Failed(format!("{key}: {}; give an absolute path to a program that may be run", end.line()))
        }
    }
}

/// The last line that a command said, as its proof.
fn proof(stdout: &str, stderr: &str) -> String {
    /// As much as a line for people may hold.
    const PROOF_CHARS_MAX: usize = 200;
    let last = [stdout, stderr].into_iter().find_map(|text| text.lines().rev().find(|line| !line.trim().is_empty()));
    last.map_or_else(|| "exit 0".to_owned(), |line| line.trim().chars().take(PROOF_CHARS_MAX).collect())
}
