//! What brings files here: stopped at a takeover, and seen to be stopped; started again once the primary serves.
//!
//! A sync that goes on after a takeover would put the primary's old files over what phones and callers leave here. So
//! three things are asked, each by its own effect: systemd whether a unit runs, Syncthing whether a folder is paused, and
//! the kernel whether a sync tool's process still writes below the working directories, whoever started it. `sync.stop` and
//! `sync.start`, the person's own commands, are run by the daemon. `remembered.rs` keeps what outlives a restart.

mod remembered;
mod syncthing;
mod unit;
mod writers;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::config::Config;
use crate::host::disk;
use crate::ports::{Answer, SyncFence};
use crate::units::finding::Finding;
use crate::units::{StepOutcome, SyncLook, Whose};
use remembered::{Remembered, Stopped};
use syncthing::Syncthing;
use unit::SyncUnit;

/// A sync tool whose unit was stopped, or whose folder was paused, ends its writing within so long.
const WRITERS_END: Duration = Duration::from_secs(10);

/// How often it is looked whether it has.
const PAUSE: Duration = Duration::from_millis(200);

/// Two small files are written within so long, or the disk hangs.
const DISK_MAX: Duration = Duration::from_secs(10);

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
        let stands = join_all(self.parts().map(async |part| (part.stand().await, part))).await;
        let mut found = Stopped::default();
        for (stand, part) in &stands {
            // What could not be asked may run.
            if matches!(stand, Stand::Runs(_) | Stand::Unknown(_)) {
                found.add(part);
            }
        }
        // Before anything is stopped: what is forgotten is started by nobody at the failback.
        let unremembered =
            if self.configured { self.on_disk(move |files| files.add(&found)).await.err() } else { None };
        let stopped = join_all(stands.iter().map(async |(stand, part)| match stand {
            Stand::Rests(what) => Ok(what.clone()),
            Stand::Runs(_) | Stand::Waits | Stand::Unknown(_) => part.stop().await,
        }));
        let mut outcomes: Vec<_> = unremembered.into_iter().map(Err).chain(stopped.await).collect();
        outcomes.push(self.writers_end().await);
        told(outcomes)
    }

    /// Waits until no process of a sync tool writes here.
    async fn writers_end(&self) -> Result<String, String> {
        let deadline = Instant::now() + WRITERS_END;
        loop {
            let writing = writers::look(&self.dirs).await;
            match (writing.runs.first(), writing.unseen.first()) {
                (None, None) => return Ok("no sync tool writes here".to_owned()),
                (None, Some(why)) => return Ok(format!("WARNING, {why}")),
                (Some(first), _) if Instant::now() >= deadline => {
                    return Err(format!(
                        "{first}: end it, and name its unit in sync.fence.units or a command in sync.stop"
                    ));
                }
                (Some(_), _) => sleep(PAUSE).await,
            }
        }
    }

    async fn resume(&self, may: &(dyn Fn() -> bool + Sync)) -> StepOutcome {
        let _turn = self.turn.lock().await;
        if !may() {
            return StepOutcome::Failed("the sync is not started: this node may have to serve".to_owned());
        }
        // The units' own condition looks at the fence, so that it goes first.
        let stopped = match self.on_disk(Remembered::lift).await {
            Ok(stopped) => stopped,
            Err(why) => return StepOutcome::Failed(why),
        };
        // Nothing is remembered of a stop that an older version did, or a person: then all that is named runs.
        let owed = self.parts().filter(|part| stopped.as_ref().is_none_or(|stopped| stopped.has(part)));
        let outcomes = join_all(owed.map(async |part| part.start().await)).await;
        if outcomes.is_empty() { StepOutcome::done("sync.fence had stopped nothing") } else { told(outcomes) }
    }

    async fn seen(&self) -> SyncLook {
        let mut look = writers::look(&self.dirs).await;
        for stand in join_all(self.parts().map(async |part| part.stand().await)).await {
            match stand {
                Stand::Runs(what) => look.runs.push(what),
                Stand::Rests(what) => look.rests.push(what),
                Stand::Waits => {}
                Stand::Unknown(why) => look.unknown.push(why),
            }
        }
        look
    }

    /// Work on the files that outlive a restart, off the loop.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Remembered) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let files = self.remembered.clone();
        disk::within(DISK_MAX, move || work(&files)).await.map_err(|why| format!("state_dir: {why}"))
    }
}

/// Done only where all are.
fn told(outcomes: Vec<Result<String, String>>) -> StepOutcome {
    let failed = outcomes.iter().any(Result::is_err);
    let said = outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|why| why)).collect::<Vec<_>>().join("; ");
    if failed { StepOutcome::Failed(said) } else { StepOutcome::Done(said) }
}

impl SyncFence for InboundSync {
    fn stop(&self) -> Answer<'_, StepOutcome> {
        Box::pin(self.halt())
    }

    fn start<'a>(&'a self, may: &'a (dyn Fn() -> bool + Sync)) -> Answer<'a, StepOutcome> {
        Box::pin(self.resume(may))
    }

    fn forget(&self) -> Answer<'_, Result<(), String>> {
        Box::pin(self.on_disk(Remembered::forget))
    }

    fn note(&self, whose: Whose) -> Answer<'_, Result<(), String>> {
        Box::pin(async move {
            // What nothing stops may bring files all the while.
            if self.configured { self.on_disk(move |files| files.note(whose)).await } else { Ok(()) }
        })
    }

    fn whose(&self) -> Answer<'_, Whose> {
        Box::pin(async {
            let stopped = self.on_disk(Remembered::read).await.ok().flatten();
            stopped.map_or(Whose::Brought, |stopped| stopped.whose())
        })
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

    fn is_owed(&self) -> bool {
        self.remembered.is_owed()
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
