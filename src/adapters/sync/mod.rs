//! What brings files here: stopped at a takeover, and seen to be stopped; started again once the primary serves.
//!
//! A sync that goes on after a takeover would put the primary's old files over what phones and callers leave here. So
//! three things are asked, each by its own effect: systemd whether a unit runs, Syncthing whether a folder is paused, and
//! the kernel whether a sync tool's process still writes below the working directories, whoever started it. `sync.stop` and
//! `sync.start`, the person's own commands, are run by the daemon. Read [`remembered`] for what outlives a restart.

mod remembered;
mod syncthing;
mod unit;
mod writers;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::config::Config;
use crate::ports::{Answer, SyncFence};
use crate::units::finding::Finding;
use crate::units::{StepOutcome, SyncLook};
use remembered::{Remembered, Stopped};
use syncthing::Syncthing;
use unit::SyncUnit;

/// A sync tool whose unit was stopped, or whose folder was paused, ends its writing within so long.
const WRITERS_END: Duration = Duration::from_secs(10);

/// How often it is looked whether it has.
const PAUSE: Duration = Duration::from_millis(200);

/// The inbound sync of one configuration.
pub struct InboundSync {
    units: Vec<SyncUnit>,
    syncthing: Option<Syncthing>,
    dirs: Vec<PathBuf>,
    remembered: Remembered,
    /// Whether anything is stopped at all, if only by a command.
    configured: bool,
    /// A stop that a look brought about must not end after the start of a failback.
    turn: Mutex<()>,
}

/// One thing that brings files here, and whether it does now.
enum Part<'a> {
    Unit(&'a SyncUnit),
    Folder(&'a Syncthing, &'a str),
}

/// How it stands.
enum Stand {
    Runs(String),
    Rests(String),
    /// Between two of its turns, as a unit that a timer starts.
    Waits,
    Unknown(String),
}

impl InboundSync {
    /// That of this configuration.
    ///
    /// # Errors
    /// One line: what this host lacks, and what to do.
    pub fn new(config: &Config) -> Result<Self, String> {
        let fence = &config.sync.fence;
        let units = fence.units.iter().map(|name| SyncUnit::new(name)).collect::<Result<_, _>>()?;
        Ok(Self {
            units,
            syncthing: fence.syncthing.clone().map(Syncthing::new),
            dirs: config.pbx.working_dirs.clone(),
            remembered: Remembered::in_dir(&config.state_dir),
            configured: config.sync.is_fenced(),
            turn: Mutex::new(()),
        })
    }

    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let folders = self.syncthing.iter().flat_map(|at| at.folders().map(move |folder| Part::Folder(at, folder)));
        self.units.iter().map(Part::Unit).chain(folders)
    }

    async fn halt(&self) -> StepOutcome {
        let _turn = self.turn.lock().await;
        let (mut found, mut seen) = (Stopped::default(), Vec::new());
        for part in self.parts() {
            let stand = part.stand().await;
            if let Stand::Runs(_) = &stand {
                found.add(&part);
            }
            seen.push((part, stand));
        }
        // Before anything is stopped: what is forgotten is started by nobody at the failback.
        let unremembered = if self.configured { self.remembered.add(&found).err() } else { None };
        let (mut said, mut failed) = (Vec::new(), unremembered.is_some());
        said.extend(unremembered);
        for (part, stand) in seen {
            let outcome = match stand {
                Stand::Rests(what) => Ok(what),
                Stand::Runs(_) | Stand::Waits | Stand::Unknown(_) => part.stop().await,
            };
            failed |= outcome.is_err();
            said.push(outcome.unwrap_or_else(|why| why));
        }
        match self.writers_end().await {
            Ok(()) => said.push("no sync tool writes here".to_owned()),
            Err(why) => {
                failed = true;
                said.push(why);
            }
        }
        let said = said.join("; ");
        if failed { StepOutcome::Failed(said) } else { StepOutcome::Done(said) }
    }

    /// Waits until no process of a sync tool writes here.
    async fn writers_end(&self) -> Result<(), String> {
        let deadline = Instant::now() + WRITERS_END;
        loop {
            let writing = writers::look(&self.dirs).await;
            match writing.runs.first() {
                None => return Ok(()),
                Some(first) if Instant::now() >= deadline => {
                    return Err(format!(
                        "{first}: end it, and name its unit in sync.fence.units or a command in sync.stop"
                    ));
                }
                Some(_) => sleep(PAUSE).await,
            }
        }
    }

    async fn resume(&self) -> StepOutcome {
        let _turn = self.turn.lock().await;
        let stopped = match self.remembered.read() {
            Ok(stopped) => stopped,
            Err(why) => return StepOutcome::Failed(why),
        };
        // The units' own condition looks at it, so that it goes first.
        if let Err(why) = self.remembered.lift() {
            return StepOutcome::Failed(why);
        }
        let (mut said, mut failed) = (Vec::new(), false);
        for part in self.parts() {
            // Nothing is remembered of a stop that an older version did, or a person: then all that is named runs.
            if stopped.as_ref().is_some_and(|stopped| !stopped.has(&part)) {
                continue;
            }
            let outcome = part.start().await;
            failed |= outcome.is_err();
            said.push(outcome.unwrap_or_else(|why| why));
        }
        if failed {
            return StepOutcome::Failed(said.join("; "));
        }
        if let Err(why) = self.remembered.forget() {
            return StepOutcome::Failed(why);
        }
        StepOutcome::Done(if said.is_empty() { "no sync was stopped".to_owned() } else { said.join("; ") })
    }

    async fn seen(&self) -> SyncLook {
        let mut look = writers::look(&self.dirs).await;
        for part in self.parts() {
            match part.stand().await {
                Stand::Runs(what) => look.runs.push(what),
                Stand::Rests(what) => look.rests.push(what),
                Stand::Waits => {}
                Stand::Unknown(why) => look.unknown.push(why),
            }
        }
        look
    }
}

impl SyncFence for InboundSync {
    fn stop(&self) -> Answer<'_, StepOutcome> {
        Box::pin(self.halt())
    }

    fn start(&self) -> Answer<'_, StepOutcome> {
        Box::pin(self.resume())
    }

    fn look(&self) -> Answer<'_, SyncLook> {
        Box::pin(self.seen())
    }

    fn findings(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(async {
            let mut found = Vec::new();
            for unit in &self.units {
                found.extend(unit.unfenced(self.remembered.fence()).await);
            }
            found
        })
    }

    fn is_fenced(&self) -> bool {
        self.remembered.fence().exists()
    }

    fn is_configured(&self) -> bool {
        self.configured
    }
}

impl Part<'_> {
    async fn stand(&self) -> Stand {
        match self {
            Self::Unit(unit) => unit.stand().await,
            Self::Folder(at, folder) => at.stand(folder).await,
        }
    }

    /// Stops it; what proves that, or why it is not.
    async fn stop(&self) -> Result<String, String> {
        match self {
            Self::Unit(unit) => unit.stop().await,
            Self::Folder(at, folder) => at.pause(folder).await,
        }
    }

    async fn start(&self) -> Result<String, String> {
        match self {
            Self::Unit(unit) => unit.start().await,
            Self::Folder(at, folder) => at.resume(folder).await,
        }
    }
}
