//! The driver `systemd`: anything that runs as a unit, where starting is reloading.
//!
//! It speaks through `systemctl`, so that polkit decides what the robot may do. Trunks and calls are not visible to
//! it: a unit registers its trunks by itself once it runs, and gives them up when it stops.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Site;
use super::marker::Phase;
use super::registrar::{Heard, PAUSE};
use crate::host::command::{self, CommandEnd};
use crate::ports::{Answer, Load, Pbx};
use crate::units::{Guarded, Mode, PbxStatus, Serving, StepOutcome, TrunkState, TrunkStatus};

/// How long systemd may take to tell a unit's state: it answers within milliseconds unless the bus is stuck.
const SHOW_LIMIT: Duration = Duration::from_secs(10);

/// How long a stop may take: systemd itself kills after `DefaultTimeoutStopSec` (90 s), and then answers.
const STOP_LIMIT: Duration = Duration::from_secs(100);

/// Where `systemctl` lies on any distribution, when `PATH` does not say.
const PROGRAM_DIRS: &str = "/usr/bin:/bin:/usr/local/bin";

/// The absolute path of `systemctl`.
///
/// # Errors
/// One line, when this host has none.
pub fn systemctl() -> Result<PathBuf, String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path.split(':').chain(PROGRAM_DIRS.split(':')).filter(|dir| dir.starts_with('/'));
    found.map(|dir| Path::new(dir).join("systemctl")).find(|program| program.is_file()).ok_or_else(|| {
        "pbx.driver.systemd: this host has no systemctl; use pbx.driver.command with the commands of its init system"
            .to_owned()
    })
}

/// A PBX that is a unit.
#[derive(Debug)]
pub struct SystemdPbx {
    site: Site,
    systemctl: PathBuf,
    unit: String,
    start_timeout: Duration,
}

/// A unit's state, as `systemctl show` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unit {
    load: String,
    active: String,
    result: String,
}

impl Unit {
    fn runs(&self) -> bool {
        matches!(self.active.as_str(), "active" | "reloading" | "refreshing")
    }

    fn stopped(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "failed")
    }
}

impl SystemdPbx {
    /// The unit `unit`, asked through the program `systemctl`.
    pub fn new(site: Site, systemctl: PathBuf, unit: String, start_timeout: Duration) -> Self {
        Self { site, systemctl, unit, start_timeout }
    }

    async fn call(&self, arguments: &[&str], limit: Duration) -> CommandEnd {
        let mut argv = vec![self.systemctl.display().to_string()];
        // Nobody is there to type a password.
        argv.extend(["--no-ask-password"].iter().chain(arguments).map(|&word| word.to_owned()));
        argv.extend(["--".to_owned(), self.unit.clone()]);
        command::run(&argv, &[("LC_ALL".to_owned(), "C".to_owned())], limit).await
    }

    async fn unit(&self) -> Result<Unit, StepOutcome> {
        let end = self.call(&["show", "--property=LoadState,ActiveState,Result"], SHOW_LIMIT).await;
        let CommandEnd::Exited { code: Some(0), stdout, .. } = &end else { return Err(self.advise("ask for", &end)) };
        let value = |name: &str| {
            let found = stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            found.unwrap_or_default().to_owned()
        };
        let unit = Unit { load: value("LoadState"), active: value("ActiveState"), result: value("Result") };
        match unit.load.as_str() {
            "loaded" | "masked" => Ok(unit),
            "not-found" => Err(StepOutcome::Failed(format!(
                "there is no unit {}; correct pbx.driver.systemd.unit, or install the PBX's unit",
                self.unit
            ))),
            other => Err(StepOutcome::Failed(format!(
                "the unit {0} is unusable ({other}); see what `systemd-analyze verify {0}` says",
                self.unit
            ))),
        }
    }

    /// The one line of advice for a `systemctl` that did not do as asked. Its words are systemd 252's.
    fn advise(&self, verb: &str, end: &CommandEnd) -> StepOutcome {
        let unit = &self.unit;
        let said = match end {
            CommandEnd::Exited { code: Some(_), stderr, .. } => stderr.as_str(),
            CommandEnd::Exited { code: None, .. } | CommandEnd::TimedOut => {
                return StepOutcome::Unknown(format!("systemctl {verb} {unit}: {}", end.line()));
            }
            CommandEnd::NotStarted(why) => return StepOutcome::Failed(format!("cannot {verb} {unit}: {why}")),
        };
        let advice = if said.contains("Access denied") || said.contains("authentication required") {
            "the robot may not; let polkit allow org.freedesktop.systemd1.manage-units for its user and this unit"
        } else if said.contains("not been booted with systemd") || said.contains("Failed to connect to bus") {
            "systemd does not answer here; use pbx.driver.command on a host without it"
        } else if said.contains("is masked") {
            "unmask it with `systemctl unmask`"
        } else if said.contains("not found") || said.contains("not loaded") {
            "correct pbx.driver.systemd.unit, or install the PBX's unit"
        } else {
            "see its `journalctl -u`"
        };
        let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing said");
        let first = first.trim().trim_end_matches('.');
        StepOutcome::Failed(format!("cannot {verb} {unit}: {first}; {advice}"))
    }

    /// Stops the unit and sees it stopped.
    async fn halt(&self) -> Result<Unit, StepOutcome> {
        if !self.unit().await?.stopped() {
            let end = self.call(&["stop"], STOP_LIMIT).await;
            if !end.succeeded() {
                return Err(self.advise("stop", &end));
            }
        }
        let unit = self.unit().await?;
        if unit.stopped() {
            return Ok(unit);
        }
        Err(StepOutcome::Failed(format!(
            "{} is {} after its stop; see what starts it again: `systemctl status {0}`",
            self.unit, unit.active
        )))
    }

    async fn stop(&self) -> Result<StepOutcome, StepOutcome> {
        self.site.stopping().map_err(StepOutcome::Failed)?;
        let unit = self.halt().await?;
        let proof = match self.site.registrar.ask().await {
            Heard::Serves(answer) => {
                return Err(StepOutcome::Failed(format!(
                    "{} is {}, yet {answer}; stop the other PBX that runs there",
                    self.unit, unit.active
                )));
            }
            Heard::Refuses(why) | Heard::Nobody(why) | Heard::NotAsked(why) => why,
        };
        self.site.marker.clear().map_err(StepOutcome::Failed)?;
        Ok(StepOutcome::Done(format!("{} is {}; {proof}", self.unit, unit.active)))
    }

    async fn runs_directory(&self) -> Result<StepOutcome, StepOutcome> {
        let unit = self.unit().await?;
        let begun = self.site.begun().map_err(StepOutcome::Unknown)?;
        Ok(match (unit.runs(), begun) {
            (true, true) => StepOutcome::Done(format!("{} is {}", self.unit, unit.active)),
            (true, false) => StepOutcome::Failed(format!("{} runs, but not by us: with old data", self.unit)),
            (false, _) => StepOutcome::Failed(self.idle(&unit)),
        })
    }

    async fn start(&self, load: Load) -> Result<StepOutcome, StepOutcome> {
        let unit = self.unit().await?;
        if unit.load == "masked" {
            return Err(StepOutcome::Failed(self.idle(&unit)));
        }
        if !self.site.begun().map_err(StepOutcome::Failed)? {
            // What runs now holds old data. Stopped first, so that whatever runs beside a marker is ours, also if we
            // die at this line, or if the start takes longer than we wait for it.
            self.halt().await?;
            self.site.prepare(load).await?;
        }
        if self.unit().await?.stopped() {
            // A unit that hit its start limit is refused until somebody resets it, and nobody is there at night. What it
            // answers is of no account: a unit that it keeps back after all is told by its start.
            self.call(&["reset-failed"], SHOW_LIMIT).await;
        }
        let deadline = Instant::now() + self.start_timeout;
        let end = self.call(&["start"], self.start_timeout).await;
        if end == CommandEnd::TimedOut {
            return Err(StepOutcome::Unknown(format!(
                "{} is still starting after {:?}; see `systemctl status {0}`, or raise pbx.driver.systemd.start_timeout",
                self.unit, self.start_timeout
            )));
        }
        if !end.succeeded() {
            return Err(self.advise("start", &end));
        }
        loop {
            let unit = self.unit().await?;
            if unit.runs() {
                self.site.enter(Phase::Started).map_err(StepOutcome::Unknown)?;
                return Ok(StepOutcome::Done(format!("{} is {}", self.unit, unit.active)));
            }
            if unit.active == "inactive" {
                // systemd calls it a success when a condition of the unit did not hold.
                return Err(StepOutcome::Failed(format!(
                    "{} was not started: one of its conditions did not hold; see `systemctl status {0}`",
                    self.unit
                )));
            }
            if unit.stopped() {
                return Err(StepOutcome::Failed(self.idle(&unit)));
            }
            if Instant::now() >= deadline {
                return Err(StepOutcome::Unknown(format!(
                    "{} is {} after {:?}; see `systemctl status {0}`",
                    self.unit, unit.active, self.start_timeout
                )));
            }
            sleep(PAUSE).await;
        }
    }

    /// Why a unit that should run does not, and where to look.
    fn idle(&self, unit: &Unit) -> String {
        let (name, Unit { load, active, result }) = (&self.unit, unit);
        match (load.as_str(), active.as_str()) {
            ("masked", _) => format!("{name} is masked; unmask it with `systemctl unmask {name}`"),
            (_, "failed") => format!("{name} is failed ({result}); see `journalctl -u {name}`"),
            _ => format!("{name} is {active}"),
        }
    }

    async fn gone(&self) -> Option<String> {
        match self.unit().await {
            Ok(unit) if unit.stopped() => Some(self.idle(&unit)),
            _ => None,
        }
    }

    /// Done with this proof while the unit runs.
    async fn while_running(&self, proof: String) -> StepOutcome {
        match self.unit().await {
            Ok(unit) if unit.runs() => StepOutcome::Done(proof),
            Ok(unit) => StepOutcome::Failed(self.idle(&unit)),
            Err(outcome) => outcome,
        }
    }
}

impl Pbx for SystemdPbx {
    fn driver(&self) -> &'static str {
        "systemd"
    }

    fn passive(&self) -> Answer<'_, StepOutcome> {
        Box::pin(async { self.stop().await.unwrap_or_else(|outcome| outcome) })
    }

    fn reload(&self, mode: Mode, load: Load) -> Answer<'_, StepOutcome> {
        Box::pin(async move {
            let outcome = match mode {
                Mode::Look => self.runs_directory().await,
                Mode::Act => self.start(load).await,
            };
            outcome.unwrap_or_else(|outcome| outcome)
        })
    }

    fn accept_registrations(&self, mode: Mode) -> Answer<'_, StepOutcome> {
        Box::pin(self.site.registrar.accepts(mode, self.start_timeout, || Box::pin(self.gone())))
    }

    fn register_trunks(&self, _mode: Mode) -> Answer<'_, StepOutcome> {
        Box::pin(async {
            if self.site.trunks.is_empty() {
                return StepOutcome::done("no trunk configured");
            }
            self.while_running(format!("{} registers them by itself; this driver cannot see that", self.unit)).await
        })
    }

    fn status(&self) -> Answer<'_, PbxStatus> {
        Box::pin(async {
            let mut trouble = None;
            let serving = match self.unit().await {
                Ok(unit) if unit.runs() => match self.site.registrar.ask().await {
                    Heard::Serves(_) => Serving::Yes,
                    Heard::Refuses(why) | Heard::Nobody(why) | Heard::NotAsked(why) => {
                        Serving::Unknown(format!("{} is {}, but {why}", self.unit, unit.active))
                    }
                },
                Ok(unit) if unit.stopped() => {
                    trouble = (unit.active == "failed").then(|| self.idle(&unit));
                    Serving::No
                }
                Ok(unit) => Serving::Unknown(format!("{} is {}", self.unit, unit.active)),
                Err(outcome) => Serving::Unknown(outcome.text().to_owned()),
            };
            let unseen = |name: &String| TrunkStatus { name: name.clone(), state: TrunkState::Unknown, sip_code: None };
            let trunks = self.site.trunks.iter().map(|trunk| unseen(&trunk.name)).collect();
            PbxStatus { trunks, trouble, ..PbxStatus::serving(serving) }
        })
    }

    fn drain(&self) -> Answer<'_, StepOutcome> {
        Box::pin(async { StepOutcome::done("not waited for: this driver cannot see calls") })
    }

    fn unregister_trunks(&self) -> Answer<'_, StepOutcome> {
        Box::pin(async { StepOutcome::Done(format!("{} gives them up when it stops", self.unit)) })
    }

    fn stop_accepting(&self) -> Answer<'_, StepOutcome> {
        Box::pin(async { self.stop().await.unwrap_or_else(|outcome| outcome) })
    }

    fn guarded(&self) -> Answer<'_, Guarded> {
        Box::pin(async {
            match self.call(&["show", "--property=ExecCondition"], SHOW_LIMIT).await {
                CommandEnd::Exited { code: Some(0), stdout, .. } if stdout.contains(" guard") => Guarded::Yes,
                CommandEnd::Exited { code: Some(0), .. } => Guarded::No,
                _ => Guarded::Unknown,
            }
        })
    }
}
