//! A unit of systemd: its state, its start with the working directory, its proved stop, and one line of advice for each
//! trouble.
//!
//! It speaks through `systemctl`, so that polkit decides what the robot may do. Drivers whose PBX runs as a unit stand on
//! it: `systemd`, which knows nothing more, and those that also speak with the PBX.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Site;
use super::marker::Phase;
use super::registrar::{Heard, PAUSE};
use crate::host::command::CommandEnd;
use crate::host::systemctl;
use crate::ports::Load;
use crate::units::finding::Finding;
use crate::units::{Guarded, StepOutcome};

/// How long systemd may take to tell a unit's state: it answers within milliseconds unless the bus is stuck.
const SHOW_LIMIT: Duration = Duration::from_secs(10);

/// How long a stop may take: systemd itself kills after `DefaultTimeoutStopSec` (90 s), and then answers.
const STOP_LIMIT: Duration = Duration::from_secs(100);

/// How long a stop waits for the unit's `ExecCondition=` to answer: the guard takes less than half of it.
const CONDITION_LIMIT: Duration = Duration::from_secs(10);

/// One that hung and was started anew is given so long before that is done again: evidence that is wrong every time must
/// not cut calls off again and again.
const HUNG_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// The absolute path of `systemctl`; `key` is the driver that needs it, as in `pbx.driver.systemd`.
///
/// # Errors
/// One line, when this host has none.
pub fn systemctl(key: &str) -> Result<PathBuf, String> {
    systemctl::find().ok_or_else(|| {
        format!("{key}: this host has no systemctl; use pbx.driver.command with the commands of its init system")
    })
}

/// A unit that is a PBX.
#[derive(Debug, Clone)]
pub struct Unit {
    systemctl: PathBuf,
    name: String,
    key: &'static str,
    start_timeout: Duration,
    /// When it was last halted because it hung.
    hung: Arc<Mutex<Option<Instant>>>,
}

/// A unit's state, as `systemctl show` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    load: String,
    active: String,
    sub: String,
    result: String,
    exit_status: String,
    group: String,
}

impl State {
    /// It runs.
    pub fn runs(&self) -> bool {
        matches!(self.active.as_str(), "active" | "reloading" | "refreshing")
    }

    /// It is stopped, or has failed.
    pub fn stopped(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "failed")
    }

    /// Its `ExecCondition=` is being asked whether it may start.
    fn is_asked(&self) -> bool {
        self.sub == "condition"
    }

    /// It has failed.
    pub fn failed(&self) -> bool {
        self.active == "failed"
    }

    /// The control group of its processes, while it has some.
    pub fn group(&self) -> Option<String> {
        (!self.group.is_empty()).then(|| self.group.clone())
    }

    /// systemd's word for it.
    pub fn word(&self) -> &str {
        &self.active
    }
}

impl Unit {
    /// The unit `name`, asked through the program `systemctl`; `key` is where it stands in the configuration, without
    /// `.unit`.
    pub fn new(systemctl: PathBuf, name: String, key: &'static str, start_timeout: Duration) -> Self {
        Self { systemctl, name, key, start_timeout, hung: Arc::default() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Halts one that hangs, so that it can be started anew; false where that was done a moment ago.
    ///
    /// # Errors
    /// As [`Unit::halt`].
    pub async fn halt_hung(&self) -> Result<bool, StepOutcome> {
        let again = |last: &Instant| last.elapsed() < HUNG_AGAIN_AFTER;
        {
            let mut hung = self.hung.lock().unwrap_or_else(PoisonError::into_inner);
            if hung.as_ref().is_some_and(again) {
                return Ok(false);
            }
            *hung = Some(Instant::now());
        }
        self.halt().await?;
        Ok(true)
    }

    /// What `check` says of a unit that cannot be asked for or is not there: no takeover would succeed.
    pub async fn missing(&self) -> Option<Finding> {
        let outcome = self.state().await.err()?;
        Some(Finding::problem("pbx", outcome.text(), "no takeover would succeed: see the line"))
    }

    /// How long its start may take.
    pub fn start_timeout(&self) -> Duration {
        self.start_timeout
    }

    async fn call(&self, arguments: &[&str], limit: Duration) -> CommandEnd {
        systemctl::call(&self.systemctl, arguments, &self.name, limit).await
    }

    /// How it stands.
    ///
    /// # Errors
    /// The outcome of a step that cannot go on, with advice.
    pub async fn state(&self) -> Result<State, StepOutcome> {
        const ASKED: &str = "--property=LoadState,ActiveState,SubState,Result,ExecMainStatus,ControlGroup";
        let end = self.call(&["show", ASKED], SHOW_LIMIT).await;
        let CommandEnd::Exited { code: Some(0), stdout, .. } = &end else { return Err(self.advise("ask for", &end)) };
        let value = |name: &str| {
            let found = stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            found.unwrap_or_default().to_owned()
        };
        let state = State {
            load: value("LoadState"),
            active: value("ActiveState"),
            sub: value("SubState"),
            result: value("Result"),
            exit_status: value("ExecMainStatus"),
            group: value("ControlGroup"),
        };
        match state.load.as_str() {
            "loaded" | "masked" => Ok(state),
            "not-found" => Err(StepOutcome::Failed(format!(
                "there is no unit {}; correct {}.unit, or install the PBX's unit",
                self.name, self.key
            ))),
            other => Err(StepOutcome::Failed(format!(
                "the unit {0} is unusable ({other}); see what `systemd-analyze verify {0}` says",
                self.name
            ))),
        }
    }

    /// The one line of advice for a `systemctl` that did not do as asked. Its words are systemd 252's.
    fn advise(&self, verb: &str, end: &CommandEnd) -> StepOutcome {
        let Self { name, key, .. } = self;
        let said = match end {
            CommandEnd::Exited { code: Some(_), stderr, .. } => stderr.as_str(),
            CommandEnd::Exited { code: None, .. } | CommandEnd::TimedOut => {
                return StepOutcome::Unknown(format!("systemctl {verb} {name}: {}", end.line()));
            }
            CommandEnd::NotStarted(why) => return StepOutcome::Failed(format!("cannot {verb} {name}: {why}")),
        };
        let install = format!("correct {key}.unit, or install the PBX's unit");
        let journal = format!("see `journalctl -u {name}`");
        let advice = if said.contains("Access denied") || said.contains("authentication required") {
            "the robot may not; let polkit allow org.freedesktop.systemd1.manage-units for its user and this unit"
        } else if said.contains("not been booted with systemd") || said.contains("Failed to connect to bus") {
            "systemd does not answer here; use pbx.driver.command on a host without it"
        } else if said.contains("is masked") {
            "unmask it with `systemctl unmask`"
        } else if said.contains("not found") || said.contains("not loaded") {
            &install
        } else {
            &journal
        };
        let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing said");
        let first = first.trim().trim_end_matches('.');
        StepOutcome::Failed(format!("cannot {verb} {name}: {first}; {advice}"))
    }

    /// Stops it and sees it stopped.
    ///
    /// # Errors
    /// The outcome of a step that cannot go on, with advice.
    pub async fn halt(&self) -> Result<State, StepOutcome> {
        // A condition that is ended by the stop leaves a failed unit, and its journal without the reason.
        let deadline = Instant::now() + CONDITION_LIMIT;
        while self.state().await?.is_asked() && Instant::now() < deadline {
            sleep(PAUSE).await;
        }
        if !self.state().await?.stopped() {
            let end = self.call(&["stop"], STOP_LIMIT).await;
            if !end.succeeded() {
                return Err(self.advise("stop", &end));
            }
        }
        let state = self.state().await?;
        if state.stopped() {
            return Ok(state);
        }
        Err(StepOutcome::Failed(format!(
            "{} is {} after its stop; see what starts it again: `systemctl status {0}`",
            self.name, state.active
        )))
    }

    /// Makes the PBX passive: stopped, silent at its SIP port, its marker gone.
    ///
    /// # Errors
    /// The outcome of a step that cannot go on, with advice.
    pub async fn silence(&self, site: &Site) -> Result<StepOutcome, StepOutcome> {
        site.stopping().map_err(StepOutcome::Failed)?;
        let state = self.halt().await?;
        let proof = match site.registrar.ask().await {
            Heard::Serves(answer) => {
                return Err(StepOutcome::Failed(format!(
                    "{} is {}, yet {answer}; stop the other PBX that runs there",
                    self.name, state.active
                )));
            }
            Heard::Refuses(why) | Heard::Nobody(why) | Heard::NotAsked(why) => why,
        };
        site.marker.clear().map_err(StepOutcome::Failed)?;
        Ok(StepOutcome::Done(format!("{} is {}; {proof}", self.name, state.active)))
    }

    /// Whether it runs the working directory, as the marker has it.
    ///
    /// # Errors
    /// The outcome of a step that cannot go on, with advice.
    pub async fn runs_directory(&self, site: &Site) -> Result<StepOutcome, StepOutcome> {
        let state = self.state().await?;
        let begun = site.begun().map_err(StepOutcome::Unknown)?;
        Ok(match (state.runs(), begun) {
            (true, true) => StepOutcome::Done(format!("{} is {}", self.name, state.active)),
            (true, false) => StepOutcome::Failed(format!("{} runs, but not by us: with old data", self.name)),
            (false, _) => StepOutcome::Failed(self.idle(&state)),
        })
    }

    /// Stops what runs with old data, prepares the working directory, and starts it. The marker says "starting".
    ///
    /// # Errors
    /// The outcome of a step that cannot go on, with advice.
    pub async fn start(&self, site: &Site, load: Load) -> Result<State, StepOutcome> {
        let state = self.state().await?;
        if state.load == "masked" {
            return Err(StepOutcome::Failed(self.idle(&state)));
        }
        if !site.begun().map_err(StepOutcome::Failed)? {
            // What runs now holds old data. Stopped first, so that whatever runs beside a marker is ours, also if we
            // die at this line, or if the start takes longer than we wait for it.
            self.halt().await?;
            site.prepare(load).await?;
        }
        if state.failed() {
            // systemd refuses a unit that was started too often, also when its trouble is over by now. An older polkit
            // rule may forbid this: then the start says what there is to say.
            self.call(&["reset-failed"], SHOW_LIMIT).await;
        }
        let deadline = Instant::now() + self.start_timeout;
        let end = self.call(&["start"], self.start_timeout).await;
        if end == CommandEnd::TimedOut {
            return Err(StepOutcome::Unknown(format!(
                "{} is still starting after {:?}; see `systemctl status {0}`, or raise {}.start_timeout",
                self.name, self.start_timeout, self.key
            )));
        }
        if !end.succeeded() {
            return Err(match self.state().await {
                // Its own end says more than systemctl, which only says that there was one.
                Ok(state) if state.failed() => StepOutcome::Failed(self.idle(&state)),
                _ => self.advise("start", &end),
            });
        }
        loop {
            let state = self.state().await?;
            if state.runs() {
                return Ok(state);
            }
            if state.active == "inactive" {
                // systemd calls it a success when a condition of the unit did not hold.
                return Err(StepOutcome::Failed(format!(
                    "{} was not started: one of its conditions did not hold; see `systemctl status {0}`",
                    self.name
                )));
            }
            if state.stopped() {
                return Err(StepOutcome::Failed(self.idle(&state)));
            }
            if Instant::now() >= deadline {
                return Err(StepOutcome::Unknown(format!(
                    "{} is {} after {:?}; see `systemctl status {0}`",
                    self.name, state.active, self.start_timeout
                )));
            }
            sleep(PAUSE).await;
        }
    }

    /// Writes down that it was seen to run the working directory.
    ///
    /// # Errors
    /// Unknown, when the marker cannot be written.
    pub fn started(&self, site: &Site, state: &State) -> Result<String, StepOutcome> {
        site.enter(Phase::Started).map_err(StepOutcome::Unknown)?;
        Ok(format!("{} is {}", self.name, state.active))
    }

    /// Why a unit that should run does not, and where to look.
    pub fn idle(&self, state: &State) -> String {
        let (name, State { load, active, result, exit_status, .. }) = (&self.name, state);
        match (load.as_str(), active.as_str()) {
            ("masked", _) => format!("{name} is masked; unmask it with `systemctl unmask {name}`"),
            (_, "failed") => {
                let status = if result == "exit-code" { format!(" {exit_status}") } else { String::new() };
                format!("{name} is failed ({result}{status}); see `journalctl -u {name}`")
            }
            _ => format!("{name} is {active}"),
        }
    }

    /// Why waiting for it is in vain: it is stopped.
    pub async fn gone(&self) -> Option<String> {
        match self.state().await {
            Ok(state) if state.stopped() => Some(self.idle(&state)),
            _ => None,
        }
    }

    /// Whether the machine's boot starts it, as `systemctl is-enabled` says; `None` when that is not to be found out.
    pub async fn enabled_at_boot(&self) -> Option<String> {
        match self.call(&["is-enabled"], SHOW_LIMIT).await {
            // The exit code says the same as the word, and differs between versions.
            CommandEnd::Exited { code: Some(_), stdout, .. } => {
                stdout.lines().next().map(|word| word.trim().to_owned()).filter(|word| !word.is_empty())
            }
            _ => None,
        }
    }

    /// Whether it asks the guard before it starts.
    pub async fn guarded(&self) -> Guarded {
        match self.call(&["show", "--property=ExecCondition"], SHOW_LIMIT).await {
            CommandEnd::Exited { code: Some(0), stdout, .. } if stdout.contains(" guard") => Guarded::Yes,
            CommandEnd::Exited { code: Some(0), .. } => Guarded::No,
            _ => Guarded::Unknown,
        }
    }
}
