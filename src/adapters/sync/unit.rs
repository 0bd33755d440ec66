//! A unit of systemd that brings files here: `lsyncd.service`, `rsync.service`, a timer and the service that it starts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{PAUSE, Stand};
use crate::host::command::CommandEnd;
use crate::host::systemctl;
use crate::units::finding::Finding;

/// systemd answers within milliseconds unless the bus is stuck.
const SHOW_LIMIT: Duration = Duration::from_secs(10);

/// Phones wait meanwhile, so that a tool that does not end is killed: what it leaves has a temporary name.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// A killed unit is gone within so long.
const KILLED_AFTER: Duration = Duration::from_secs(5);

/// How long its start may take.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The unit.
#[derive(Debug)]
pub struct SyncUnit {
    systemctl: PathBuf,
    name: String,
}

struct State {
    active: String,
    kind: String,
    triggers: String,
}

impl State {
    fn is_stopped(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "failed")
    }

    /// Whether it runs only for a while, when something says so: a timer, or who starts it.
    fn has_turns(&self) -> bool {
        self.kind == "oneshot" || !self.triggers.is_empty()
    }

    /// One that is being stopped does not.
    fn is_started(&self) -> bool {
        matches!(self.active.as_str(), "active" | "activating" | "reloading" | "refreshing")
    }
}

impl SyncUnit {
    /// The unit of this name.
    ///
    /// # Errors
    /// One line, when this host has no systemd.
    pub fn new(name: &str) -> Result<Self, String> {
        let systemctl = systemctl::find().ok_or_else(|| {
            "sync.fence.units: this host has no systemctl; use sync.stop with the command of its init system".to_owned()
        })?;
        Ok(Self { systemctl, name: name.to_owned() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    async fn call(&self, arguments: &[&str], limit: Duration) -> CommandEnd {
        systemctl::call(&self.systemctl, arguments, &self.name, limit).await
    }

    async fn state(&self) -> Result<State, String> {
        let end = self.call(&["show", "--property=LoadState,ActiveState,Type,TriggeredBy"], SHOW_LIMIT).await;
        let CommandEnd::Exited { code: Some(0), stdout, .. } = &end else {
            return Err(format!("cannot ask for {}: {}", self.name, end.line()));
        };
        let value = |name: &str| {
            let found = stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            found.unwrap_or_default().to_owned()
        };
        if value("LoadState") == "not-found" {
            return Err(format!("there is no unit {}; correct sync.fence.units", self.name));
        }
        Ok(State { active: value("ActiveState"), kind: value("Type"), triggers: value("TriggeredBy") })
    }

    /// How it stands.
    pub async fn stand(&self) -> Stand {
        match self.state().await {
            Ok(state) if !state.is_stopped() => Stand::Runs(format!("{} is {}", self.name, state.active)),
            Ok(state) if state.active == "inactive" && state.has_turns() => Stand::Waits,
            Ok(state) => Stand::Rests(format!("{} is {}", self.name, state.active)),
            Err(why) => Stand::Unknown(why),
        }
    }

    /// Stops it, kills what does not end, and sees it stopped.
    pub async fn stop(&self) -> Result<String, String> {
        let before = self.state().await?;
        if !before.is_stopped() {
            let end = self.call(&["stop"], STOP_LIMIT).await;
            if !self.state().await?.is_stopped() {
                tracing::warn!(unit = self.name, said = end.line(), "a sync does not end; its processes are killed");
                self.call(&["kill", "--signal=KILL"], SHOW_LIMIT).await;
                let deadline = Instant::now() + KILLED_AFTER;
                while !self.state().await?.is_stopped() && Instant::now() < deadline {
                    sleep(PAUSE).await;
                }
            }
            let state = self.state().await?;
            if !state.is_stopped() {
                return Err(format!(
                    "{} is {} after its stop ({}); let polkit allow the robot's user \
                     org.freedesktop.systemd1.manage-units for it, and see `systemctl status {0}`",
                    self.name,
                    state.active,
                    end.line()
                ));
            }
        }
        let name = &self.name;
        match before.triggers.as_str() {
            "" => Ok(format!("{name} is stopped")),
            others => {
                Ok(format!("{name} is stopped (name {others} in sync.fence.units too, if it is not: it starts it)"))
            }
        }
    }

    /// Starts it and sees it run.
    pub async fn start(&self) -> Result<String, String> {
        let name = &self.name;
        let before = self.state().await?;
        if before.has_turns() {
            // It may bring files for hours.
            let end = self.call(&["start", "--no-block"], SHOW_LIMIT).await;
            return if end.succeeded() { Ok(format!("{name} is started")) } else { Err(self.not_started(&end)) };
        }
        if !before.is_started() {
            let end = self.call(&["start"], START_LIMIT).await;
            if !end.succeeded() {
                return Err(self.not_started(&end));
            }
        }
        let state = self.state().await?;
        if !state.is_started() {
            return Err(format!("{name} is {} after its start; see `journalctl -u {name}`", state.active));
        }
        Ok(format!("{name} is {}", state.active))
    }

    /// What `check` says of a unit that a boot would start while this node serves.
    pub async fn unfenced(&self, fence: &Path) -> Option<Finding> {
        let CommandEnd::Exited { code: Some(0), stdout, .. } = self.call(&["cat"], SHOW_LIMIT).await else {
            return None;
        };
        let condition = format!("ConditionPathExists=!{}", fence.display());
        if stdout.lines().any(|line| line.trim() == condition) {
            return None;
        }
        let text = format!("{} has no {condition}: a boot starts it while this node serves", self.name);
        let todo = format!("install systemd/sync-fence.conf as /etc/systemd/system/{}.d/sync-fence.conf", self.name);
        Some(Finding::warning("sync", text, todo))
    }

    fn not_started(&self, end: &CommandEnd) -> String {
        format!("cannot start {}: {}; see `journalctl -u {0}`", self.name, end.line())
    }
}
