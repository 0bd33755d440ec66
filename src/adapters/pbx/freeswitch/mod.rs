//! The driver `freeswitch`: a unit of systemd that is also asked over its event socket.
//!
//! **Experimental**: written from FreeSWITCH's source and documentation, and never run against a real one.
//!
//! Passive is a stopped unit, or, where the settings say so, FreeSWITCH's own standby mode: it runs, answers phones with
//! `503 System Paused` and leaves its gateways alone. [`session`] holds the conversation, [`trunks`] what gateways mean,
//! [`super::unit`] the unit, [`crate::wire::esl`] the format.

mod session;
mod trunks;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Site;
use super::registrar::{Heard, PAUSE};
use super::unit::Unit;
use crate::config::{Freeswitch, WhilePassive};
use crate::ports::{Answer, Load, Pbx};
use crate::units::finding::Finding;
use crate::units::{Guarded, Mode, PbxStatus, Serving, StepOutcome};
use crate::wire::esl;
use session::{Esl, Session};

/// Where its settings stand.
pub const KEY: &str = "pbx.driver.freeswitch";

/// What a running standby keeps open or writes to: `global_getvar` names the directories.
const OWN_DIRS: [&str; 4] = ["db_dir", "log_dir", "storage_dir", "recordings_dir"];

/// FreeSWITCH behind its unit and its event socket.
#[derive(Debug)]
pub struct FreeswitchPbx {
    site: Site,
    unit: Unit,
    esl: Esl,
    profiles: Vec<String>,
    passive: WhilePassive,
    working_dirs: Vec<PathBuf>,
    effect_limit: Duration,
}

impl FreeswitchPbx {
    /// The one that `settings` describe, its unit asked through the program `systemctl`.
    pub fn new(site: Site, systemctl: PathBuf, settings: &Freeswitch, working_dirs: Vec<PathBuf>) -> Self {
        Self {
            site,
            unit: Unit::new(systemctl, settings.unit.clone(), KEY, settings.start_timeout),
            esl: Esl::new(settings.esl, settings.password.clone()),
            profiles: settings.profiles.clone(),
            passive: settings.passive,
            working_dirs,
            effect_limit: super::EFFECT_LIMIT,
        }
    }

    /// The same with less patience for answers and effects, for tests.
    #[must_use]
    pub fn with_limits(mut self, answer: Duration, effect: Duration) -> Self {
        self.esl = self.esl.with_answer_limit(answer);
        self.effect_limit = effect;
        self
    }

    async fn make_passive(&self) -> Result<StepOutcome, StepOutcome> {
        if self.passive == WhilePassive::Stopped || self.unit.state().await?.stopped() {
            return self.unit.silence(&self.site).await;
        }
        self.site.stopping().map_err(StepOutcome::Failed)?;
        let mut session = self.esl.open().await?;
        session.obeyed("sofia global standby on", "+OK").await?;
        self.holds_nothing(&mut session).await?;
        let proof = match self.site.registrar.ask().await {
            Heard::Refuses(why) | Heard::Nobody(why) => why,
            Heard::Serves(answer) => {
                return Err(StepOutcome::Failed(format!(
                    "it is on standby, yet {answer}; is pbx.probe the address of one of its profiles?"
                )));
            }
            // The unit runs: only an answer proves that it refuses.
            Heard::NotAsked(why) => return Err(StepOutcome::Unknown(format!("it is on standby; {why}"))),
        };
        self.site.marker.clear().map_err(StepOutcome::Failed)?;
        Ok(StepOutcome::Done(format!("{} is on standby; {proof}", self.unit.name())))
    }

    /// A standby whose database lies in the synced tree would go on with a file that the sync has replaced.
    async fn holds_nothing(&self, session: &mut Session) -> Result<(), StepOutcome> {
        for variable in OWN_DIRS {
            let answer = session.api(&format!("global_getvar {variable}")).await?;
            let dir = Path::new(answer.trim());
            if let Some(synced) = self.working_dirs.iter().find(|synced| dir.is_absolute() && dir.starts_with(synced)) {
                return Err(StepOutcome::Failed(format!(
                    "its {variable} {} lies in the working directory {}: a standby would work on with files that the sync \
                     replaces; move it (freeswitch -db, -log, -storage, -recordings), or write passive: stopped",
                    dir.display(),
                    synced.display()
                )));
            }
        }
        Ok(())
    }

    async fn load(&self, load: Load) -> Result<StepOutcome, StepOutcome> {
        let is_warm = self.passive == WhilePassive::Standby && self.unit.state().await?.runs();
        let state = if is_warm {
            if !self.site.begun().map_err(StepOutcome::Failed)? {
                self.site.prepare(load).await?;
            }
            self.read_anew().await?;
            self.unit.state().await?
        } else {
            let deadline = Instant::now() + self.unit.start_timeout();
            let state = self.unit.start(&self.site, load).await?;
            self.profiles_by(deadline).await?;
            state
        };
        let said = self.unit.started(&self.site, &state)?;
        Ok(StepOutcome::Done(format!("{said}; profiles {}", self.profiles.join(", "))))
    }

    /// Makes a running one read its files and bring its profiles up.
    async fn read_anew(&self) -> Result<(), StepOutcome> {
        let mut session = self.esl.open().await?;
        session.obeyed("reloadxml", "+OK").await?;
        for profile in &self.profiles {
            if runs(&mut session, profile).await? {
                session.obeyed(&format!("sofia profile {profile} rescan"), "+OK").await?;
            } else {
                session.obeyed(&format!("sofia profile {profile} start"), "started successfully").await?;
            }
        }
        Ok(())
    }

    /// Waits until every profile runs: the unit is active long before that.
    async fn profiles_by(&self, deadline: Instant) -> Result<(), StepOutcome> {
        loop {
            let missing = match self.missing_profile().await {
                Ok(None) => return Ok(()),
                Ok(Some(profile)) => StepOutcome::Failed(format!(
                    "the profile {profile} does not run; try `sofia profile {profile} start` in fs_cli, or correct {KEY}.profiles"
                )),
                Err(outcome) => outcome,
            };
            if let Some(why) = self.unit.gone().await {
                return Err(StepOutcome::Failed(why));
            }
            if Instant::now() >= deadline {
                return Err(missing);
            }
            sleep(PAUSE).await;
        }
    }

    async fn missing_profile(&self) -> Result<Option<String>, StepOutcome> {
        let mut session = self.esl.open().await?;
        for profile in &self.profiles {
            if !runs(&mut session, profile).await? {
                return Ok(Some(profile.clone()));
            }
        }
        Ok(None)
    }

    async fn accept(&self) -> Result<StepOutcome, StepOutcome> {
        // Also of one that was just started: `profile-standby` in a profile lets it begin on standby.
        let left = async { self.esl.open().await?.obeyed("sofia global standby off", "+OK").await };
        let left = left.await;
        if self.passive == WhilePassive::Standby {
            left?;
        }
        // Its own answer to a phone is the proof, also where the event socket is not to be had.
        let gone = || -> Answer<'_, Option<String>> { Box::pin(self.unit.gone()) };
        Ok(self.site.registrar.serves_within(self.unit.start_timeout(), gone).await)
    }

    async fn calls(&self) -> Result<u32, StepOutcome> {
        let answer = self.esl.open().await?.api("show calls count").await?;
        esl::total(&answer).ok_or_else(|| {
            StepOutcome::Unknown(
                "`show calls count` tells no number; try it in fs_cli: is mod_commands loaded?".to_owned(),
            )
        })
    }

    async fn drained(&self) -> Result<StepOutcome, StepOutcome> {
        let state = self.unit.state().await?;
        if state.stopped() {
            return Ok(StepOutcome::Done(format!("no call is up: {} is {}", self.unit.name(), state.word())));
        }
        Ok(match self.calls().await? {
            0 => StepOutcome::done("no call is up"),
            1 => StepOutcome::failed("1 call is up"),
            calls => StepOutcome::Failed(format!("{calls} calls are up")),
        })
    }

    async fn seen(&self) -> PbxStatus {
        let state = match self.unit.state().await {
            Ok(state) => state,
            Err(outcome) => return PbxStatus::serving(Serving::Unknown(outcome.text().to_owned())),
        };
        if state.stopped() {
            let trouble = state.failed().then(|| self.unit.idle(&state));
            return PbxStatus { trouble, failed: state.failed(), ..PbxStatus::serving(Serving::No) };
        }
        let serving = match (self.site.registrar.ask().await, self.passive) {
            (Heard::Serves(_), _) => Serving::Yes,
            (Heard::Refuses(_), WhilePassive::Standby) if state.runs() => Serving::No,
            (Heard::Refuses(why) | Heard::Nobody(why) | Heard::NotAsked(why), _) => {
                Serving::Unknown(format!("{} is {}, but {why}", self.unit.name(), state.word()))
            }
        };
        let mut status = PbxStatus::serving(serving);
        if let Err(outcome) = self.fill(&mut status).await {
            status.trouble = Some(outcome.text().to_owned());
        }
        status
    }

    async fn fill(&self, status: &mut PbxStatus) -> Result<(), StepOutcome> {
        let mut session = self.esl.open().await?;
        status.registrations = esl::total(&session.api("show registrations count").await?);
        status.calls = esl::total(&session.api("show calls count").await?);
        status.trunks =
            trunks::look(&mut session, &self.site.trunks).await?.into_iter().map(|seen| seen.status).collect();
        Ok(())
    }

    async fn look_around(&self) -> Vec<Finding> {
        const ABOUT: &str = "pbx freeswitch";
        let mut findings = vec![Finding::warning(
            ABOUT,
            "this driver was never run against a real FreeSWITCH: it is experimental",
            "rehearse a takeover and a failback in a quiet hour before you rely on it",
        )];
        let at_boot = self.unit.enabled_at_boot().await;
        match (self.passive, at_boot.as_deref()) {
            (WhilePassive::Stopped, Some("enabled")) => findings.push(Finding::warning(
                ABOUT,
                format!("the boot starts {}", self.unit.name()),
                format!("`systemctl disable {}`; the robot starts it", self.unit.name()),
            )),
            (WhilePassive::Standby, Some("disabled")) => findings.push(Finding::warning(
                ABOUT,
                format!("no boot starts {}: after a reboot the standby is cold", self.unit.name()),
                format!("`systemctl enable {}`, and profile-standby=true in its profiles", self.unit.name()),
            )),
            _ => {}
        }
        if self.unit.state().await.is_ok_and(|state| state.runs()) {
            let seen = async {
                let mut session = self.esl.open().await?;
                for profile in &self.profiles {
                    if !runs(&mut session, profile).await? {
                        return Err(StepOutcome::Failed(format!("the profile {profile} does not run")));
                    }
                }
                if self.passive == WhilePassive::Standby { self.holds_nothing(&mut session).await } else { Ok(()) }
            };
            findings.push(match seen.await {
                Ok(()) => Finding::ok(ABOUT, "its event socket answers, and its profiles run"),
                Err(outcome) => Finding::problem(ABOUT, outcome.text(), format!("see {KEY}")),
            });
        }
        findings
    }
}

/// Whether a profile runs.
async fn runs(session: &mut Session, profile: &str) -> Result<bool, StepOutcome> {
    Ok(session.api(&format!("sofia xmlstatus profile {profile}")).await?.contains("<profile"))
}

impl Pbx for FreeswitchPbx {
    fn driver(&self) -> &'static str {
        "freeswitch"
    }

    fn passive(&self) -> Answer<'_, StepOutcome> {
        Box::pin(async { self.make_passive().await.unwrap_or_else(|outcome| outcome) })
    }

    fn reload(&self, mode: Mode, load: Load) -> Answer<'_, StepOutcome> {
        Box::pin(async move {
            let outcome = match mode {
                Mode::Look => self.unit.runs_directory(&self.site).await,
                Mode::Act => self.load(load).await,
            };
            outcome.unwrap_or_else(|outcome| outcome)
        })
    }

    fn accept_registrations(&self, mode: Mode) -> Answer<'_, StepOutcome> {
        Box::pin(async move {
            match mode {
                Mode::Look => self.site.registrar.looks(self.site.registrar.ask().await),
                Mode::Act => self.accept().await.unwrap_or_else(|outcome| outcome),
            }
        })
    }

    fn register_trunks(&self, mode: Mode) -> Answer<'_, StepOutcome> {
        Box::pin(async move {
            let outcome = match mode {
                Mode::Look => trunks::up(&self.esl, &self.site.trunks).await,
                Mode::Act => trunks::register(&self.esl, &self.site.trunks, &self.profiles, self.effect_limit).await,
            };
            outcome.unwrap_or_else(|outcome| outcome)
        })
    }

    fn status(&self) -> Answer<'_, PbxStatus> {
        Box::pin(self.seen())
    }

    fn drain(&self) -> Answer<'_, StepOutcome> {
        Box::pin(async { self.drained().await.unwrap_or_else(|outcome| outcome) })
    }

    fn unregister_trunks(&self) -> Answer<'_, StepOutcome> {
        Box::pin(async {
            match self.unit.state().await {
                Ok(state) if state.stopped() => {
                    StepOutcome::Done(format!("{} is {}: it has given them up", self.unit.name(), state.word()))
                }
                Ok(_) => trunks::unregister(&self.esl, &self.site.trunks, &self.profiles, self.effect_limit)
                    .await
                    .unwrap_or_else(|outcome| outcome),
                Err(outcome) => outcome,
            }
        })
    }

    fn stop_accepting(&self) -> Answer<'_, StepOutcome> {
        self.passive()
    }

    fn guarded(&self) -> Answer<'_, Guarded> {
        Box::pin(self.unit.guarded())
    }

    fn findings(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(self.look_around())
    }
}
