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

use super::marker::Phase;
use super::passive::{Driven, Refusal};
use super::registrar::{Heard, PAUSE};
use super::unit::Unit;
use super::{Site, calls_up};
use crate::config::{Freeswitch, WhilePassive};
use crate::ports::{Answer, Load, Pbx};
use crate::units::finding::Finding;
use crate::units::{Guarded, Look, Mode, PassiveLook, PbxStatus, Serving, StepOutcome};
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
        if self.passive == WhilePassive::Stopped || self.unit.gone().await.is_some() {
            return self.unit.silence(&self.site).await;
        }
        self.site.stopping().map_err(StepOutcome::Failed)?;
        match self.prove_standby().await {
            Ok(proof) => {
                self.site.marker.clear().map_err(StepOutcome::Failed)?;
                Ok(StepOutcome::Done(proof))
            }
            // A second server is worse than a cold one, also where only the event socket is at fault.
            Err(why) => match self.unit.silence(&self.site).await? {
                StepOutcome::Done(proof) => {
                    Ok(StepOutcome::Done(format!("stopped instead, because {}; {proof}", why.text())))
                }
                other => Ok(other),
            },
        }
    }

    /// Puts it on standby, gives its gateways up, and proves that it is passive.
    ///
    /// # Errors
    /// Why it is not.
    async fn prove_standby(&self) -> Result<String, StepOutcome> {
        let mut session = self.esl.open().await?;
        session.obeyed("sofia global standby on", "+OK").await?;
        // Only what is registered is given up: an older version could not register again what it once unregistered.
        let seen = trunks::look(&mut session, &self.site.trunks).await?;
        if seen.is_empty() || seen.iter().any(trunks::Seen::may_be_registered) {
            match trunks::unregister(&self.esl, &self.site.trunks, &self.profiles, self.effect_limit).await? {
                StepOutcome::Done(_) => {}
                other => return Err(other),
            }
        }
        self.holds_nothing(&mut session).await?;
        match self.site.registrar.ask().await {
            Heard::Refuses(why) | Heard::Nobody(why) => Ok(format!("{} is on standby; {why}", self.unit.name())),
            Heard::Serves(answer) => Err(StepOutcome::Failed(format!(
                "it is on standby, yet {answer}; is pbx.probe the address of one of its profiles?"
            ))),
            // The unit runs: only an answer proves that it refuses.
            Heard::NotAsked(why) => Err(StepOutcome::Unknown(format!("it is on standby; {why}"))),
        }
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
        let loaded = if is_warm { self.load_warm(load).await? } else { self.start(load).await? };
        let state = self.unit.state().await?;
        let said = self.unit.started(&self.site, &state)?;
        Ok(StepOutcome::Done(format!("{said}; {loaded}")))
    }

    /// Starts the unit, and waits for its profiles.
    async fn start(&self, load: Load) -> Result<String, StepOutcome> {
        let deadline = Instant::now() + self.unit.start_timeout();
        self.unit.start(&self.site, load).await?;
        self.profiles_by(deadline).await
    }

    /// Makes a standby read anew; one that cannot be told to is started, which reads everything.
    async fn load_warm(&self, load: Load) -> Result<String, StepOutcome> {
        let begun = self.site.begun().map_err(StepOutcome::Failed)?;
        match self.esl.open().await {
            Ok(_) => {
                if !begun {
                    self.site.prepare(load).await?;
                }
                match self.read_anew().await {
                    Ok(()) => return Ok(self.all_profiles()),
                    // The answer is out for the second time: it hangs.
                    Err(StepOutcome::Unknown(_)) if begun => self.halt_unless_it_serves().await?,
                    Err(outcome) => return Err(outcome),
                }
            }
            // With old data it is stopped by its start.
            Err(trouble) if begun && trouble.is_silence() => self.halt_unless_it_serves().await?,
            Err(_) => {}
        }
        self.start(load).await
    }

    async fn halt_unless_it_serves(&self) -> Result<(), StepOutcome> {
        match self.site.registrar.ask().await {
            Heard::Refuses(_) | Heard::Nobody(_) => self.unit.halt().await.map(drop),
            Heard::Serves(_) | Heard::NotAsked(_) => Ok(()),
        }
    }

    /// Whether it runs the working directory: of a standby that runs all the time, only the end of its reload tells.
    async fn has_loaded(&self) -> Result<StepOutcome, StepOutcome> {
        let runs = self.unit.runs_directory(&self.site).await?;
        let phase = self.site.phase().map_err(StepOutcome::Unknown)?;
        if matches!(runs, StepOutcome::Done(_))
            && self.passive == WhilePassive::Standby
            && phase != Some(Phase::Started)
        {
            return Err(StepOutcome::failed("its reload was begun, and not seen to end"));
        }
        Ok(runs)
    }

    fn all_profiles(&self) -> String {
        format!("profiles {}", self.profiles.join(", "))
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

    /// Waits until every profile runs: the unit is active long before that. Phones that are answered are worth more than
    /// an event socket that is not.
    async fn profiles_by(&self, deadline: Instant) -> Result<String, StepOutcome> {
        loop {
            let looked = self.missing_profile().await;
            if let Ok(None) = &looked {
                return Ok(self.all_profiles());
            }
            if let Some(why) = self.unit.gone().await {
                return Err(StepOutcome::Failed(why));
            }
            if Instant::now() < deadline {
                sleep(PAUSE).await;
                continue;
            }
            return match looked {
                Err(outcome) if matches!(self.site.registrar.ask().await, Heard::Serves(_)) => {
                    Ok(format!("its profiles are not seen: {}", outcome.text()))
                }
                Err(outcome) => Err(outcome),
                Ok(missing) => Err(StepOutcome::Failed(format!(
                    "the profile {0} does not run; try `sofia profile {0} start` in fs_cli, or correct {KEY}.profiles",
                    missing.unwrap_or_default()
                ))),
            };
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
        Ok(calls_up(self.calls().await?))
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
        let mut status = PbxStatus::serving(Serving::No);
        let registered = self.fill(&mut status).await;
        if let Err(outcome) = &registered {
            status.trouble = Some(outcome.text().to_owned());
        }
        status.serving = match (self.site.registrar.ask().await, &registered) {
            (Heard::Serves(_), _) => Serving::Yes,
            (Heard::Refuses(_), Ok(registered)) if self.passive == WhilePassive::Standby && state.runs() => {
                match registered {
                    None => Serving::No,
                    Some(trunk) => Serving::Unknown(format!("it is on standby, yet trunk {trunk} may be registered")),
                }
            }
            (Heard::Refuses(why) | Heard::Nobody(why) | Heard::NotAsked(why), _) => {
                Serving::Unknown(format!("{} is {}, but {why}", self.unit.name(), state.word()))
            }
        };
        status
    }

    /// Asks for all that the status shows; the answer is a trunk that is registered.
    async fn fill(&self, status: &mut PbxStatus) -> Result<Option<String>, StepOutcome> {
        let mut session = self.esl.open().await?;
        status.registrations = esl::total(&session.api("show registrations count").await?);
        status.calls = esl::total(&session.api("show calls count").await?);
        let seen = trunks::look(&mut session, &self.site.trunks).await?;
        let registered = seen.iter().find(|seen| seen.may_be_registered()).map(|seen| seen.status.name.clone());
        status.trunks = seen.into_iter().map(|seen| seen.status).collect();
        Ok(registered)
    }

    /// Whether a gateway is registered, also of a FreeSWITCH that was started outside of its unit.
    async fn trunk_up(&self) -> Look {
        let told = async {
            let mut session = self.esl.open().await?;
            trunks::look(&mut session, &self.site.trunks).await
        };
        match told.await {
            Ok(seen) => self.site.registered(&seen.into_iter().map(|seen| seen.status).collect::<Vec<_>>()),
            // Where nothing runs, nobody is there to be asked.
            Err(_) if self.unit.gone().await.is_some() => Look::Clear,
            Err(trouble) => Look::Unknown(StepOutcome::from(trouble).text().to_owned()),
        }
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
                Mode::Look => self.has_loaded().await,
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

    fn look_passive(&self) -> Answer<'_, PassiveLook> {
        Box::pin(async {
            let trunks = self.trunk_up().await;
            let refusal = if self.passive == WhilePassive::Standby { Refusal::IsPassive } else { Refusal::IsRunning };
            self.site.look_passive(Driven::Unit(&self.unit), refusal, Some(trunks)).await
        })
    }

    fn guarded(&self) -> Answer<'_, Guarded> {
        Box::pin(self.unit.guarded())
    }

    fn findings(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(self.look_around())
    }
}
