//! The driver `systemd`: anything that runs as a unit, where starting is reloading.
//!
//! What it does with the unit is in [`super::unit`]. Trunks and calls are not visible to it: a unit registers its trunks
//! by itself once it runs, and gives them up when it stops.

use std::path::PathBuf;
use std::time::Duration;

use super::Site;
use super::passive::{Driven, Refusal};
use super::registrar::Heard;
use super::unit::Unit;
use crate::ports::{Answer, Load, Pbx};
use crate::units::{Guarded, Mode, PassiveLook, PbxStatus, Serving, StepOutcome};

/// Where its settings stand.
pub const KEY: &str = "pbx.driver.systemd";

/// A PBX that is a unit.
#[derive(Debug)]
pub struct SystemdPbx {
    site: Site,
    unit: Unit,
}

impl SystemdPbx {
    /// The unit `unit`, asked through the program `systemctl`.
    pub fn new(site: Site, systemctl: PathBuf, unit: String, start_timeout: Duration) -> Self {
        Self { site, unit: Unit::new(systemctl, unit, KEY, start_timeout) }
    }

    async fn start(&self, load: Load) -> Result<StepOutcome, StepOutcome> {
        let state = self.unit.start(&self.site, load).await?;
        Ok(StepOutcome::Done(self.unit.started(&self.site, &state)?))
    }

    /// Done with this proof while the unit runs.
    async fn while_running(&self, proof: String) -> StepOutcome {
        match self.unit.state().await {
            Ok(state) if state.runs() => StepOutcome::Done(proof),
            Ok(state) => StepOutcome::Failed(self.unit.idle(&state)),
            Err(outcome) => outcome,
        }
    }
}

impl Pbx for SystemdPbx {
    fn driver(&self) -> &'static str {
        "systemd"
    }

    fn passive(&self) -> Answer<'_, StepOutcome> {
        Box::pin(async { self.unit.silence(&self.site).await.unwrap_or_else(|outcome| outcome) })
    }

    fn reload(&self, mode: Mode, load: Load) -> Answer<'_, StepOutcome> {
        Box::pin(async move {
            let outcome = match mode {
                Mode::Look => self.unit.runs_directory(&self.site).await,
                Mode::Act => self.start(load).await,
            };
            outcome.unwrap_or_else(|outcome| outcome)
        })
    }

    fn accept_registrations(&self, mode: Mode) -> Answer<'_, StepOutcome> {
        Box::pin(self.site.registrar.accepts(mode, self.unit.start_timeout(), || Box::pin(self.unit.gone())))
    }

    fn register_trunks(&self, _mode: Mode) -> Answer<'_, StepOutcome> {
        Box::pin(async {
            if self.site.trunks.is_empty() {
                return StepOutcome::done("no trunk configured");
            }
            self.while_running(format!("{} registers them by itself; this driver cannot see that", self.unit.name()))
                .await
        })
    }

    fn status(&self) -> Answer<'_, PbxStatus> {
        Box::pin(async {
            let mut trouble = None;
            let serving = match self.unit.state().await {
                Ok(state) if state.runs() => match self.site.registrar.ask().await {
                    Heard::Serves(_) => Serving::Yes,
                    Heard::Refuses(why) | Heard::Nobody(why) | Heard::NotAsked(why) => {
                        Serving::Unknown(format!("{} is {}, but {why}", self.unit.name(), state.word()))
                    }
                },
                Ok(state) if state.stopped() => {
                    trouble = state.failed().then(|| self.unit.idle(&state));
                    Serving::No
                }
                Ok(state) => Serving::Unknown(format!("{} is {}", self.unit.name(), state.word())),
                Err(outcome) => Serving::Unknown(outcome.text().to_owned()),
            };
            PbxStatus {
                trunks: self.site.unseen_trunks(),
                failed: trouble.is_some(),
                trouble,
                ..PbxStatus::serving(serving)
            }
        })
    }

    fn drain(&self) -> Answer<'_, StepOutcome> {
        Box::pin(async { StepOutcome::done("not waited for: this driver cannot see calls") })
    }

    fn unregister_trunks(&self) -> Answer<'_, StepOutcome> {
        Box::pin(async { StepOutcome::Done(format!("{} gives them up when it stops", self.unit.name())) })
    }

    fn stop_accepting(&self) -> Answer<'_, StepOutcome> {
        Box::pin(async { self.unit.silence(&self.site).await.unwrap_or_else(|outcome| outcome) })
    }

    fn look_passive(&self) -> Answer<'_, PassiveLook> {
        Box::pin(self.site.look_passive(Driven::Unit(&self.unit), Refusal::IsRunning, None))
    }

    fn guarded(&self) -> Answer<'_, Guarded> {
        Box::pin(self.unit.guarded())
    }
}
