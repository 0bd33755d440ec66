//! The driver `asterisk`: a unit that is started for a takeover, and spoken with over its manager interface (AMI).
//!
//! Passive is stopped, in both modes: that a running Asterisk holds no file of the working directory open and refuses
//! every REGISTER cannot be proved. `takeover: reload` is for one that runs all the same when the takeover comes. AMI
//! calls it a success when it reads half a file, so endpoints are counted (`baseline`) and our own SIP question has the
//! last word. `client` is the conversation, `said` what is asked in it, `findings` what `check` says.
//!
//! Whatever is wrong with AMI alone never keeps an Asterisk that answers phones from serving.

mod announced;
mod baseline;
mod client;
mod findings;
mod said;

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use self::baseline::Baseline;
use self::client::{Manager, Session, Trouble};
use self::said::Told;
use super::marker::Phase;
use super::passive::{self, Driven, Refusal};
use super::registrar::{Heard, PAUSE};
use super::unit::{State, Unit};
use super::{EFFECT_LIMIT, Site, calls_up, judge_trunks};
use crate::config::{Asterisk, Config, Host, WhenRunning};
use crate::ports::{Answer, Load, Pbx};
use crate::units::finding::Finding;
use crate::units::{Guarded, Look, Mode, PassiveLook, PbxStatus, Serving, Side, StepOutcome, TrunkKind, TrunkState};
use crate::wire::ami;

/// Where its settings stand.
pub const KEY: &str = "pbx.driver.asterisk";

/// Where the number of endpoints is kept, in the state directory.
const KEEP_FILE: &str = "asterisk-endpoints";

/// How long a running Asterisk may take to be ready for questions: it is, unless it is being started.
const READY_LIMIT: Duration = Duration::from_secs(3);

/// A registration that was refused is asked for again before it is believed: that takes a moment.
const REFUSAL_SETTLES: Duration = Duration::from_secs(4);

/// Asterisk does what it was asked to in a second or two; asking more often costs it.
const LOOK_PAUSE: Duration = Duration::from_millis(250);

/// A reload takes milliseconds, and seconds with thousands of endpoints.
const RELOAD_LIMIT: Duration = Duration::from_secs(20);

/// The driver.
#[derive(Debug)]
pub struct AsteriskPbx {
    site: Site,
    unit: Unit,
    manager: Manager,
    when_running: WhenRunning,
    baseline: Baseline,
    side: Side,
    /// This host, where its addresses are known.
    own: Option<Host>,
}

/// What was counted after a start.
enum Counted {
    /// Endpoints that it has loaded.
    Endpoints(u32),
    /// It could not be asked, and serves: why.
    Unasked(String),
}

impl AsteriskPbx {
    /// The driver with the settings `asterisk` of this configuration; `systemctl` drives its unit.
    pub fn new(site: Site, systemctl: PathBuf, config: &Config, asterisk: &Asterisk) -> Self {
        let keep = config.state_dir.join(KEEP_FILE);
        let own = Some(config.host(config.side).clone());
        Self { own, ..Self::with(site, systemctl, asterisk, &config.pbx.working_dirs, keep, config.side) }
    }

    /// The driver with these settings, for tests.
    pub fn with(
        site: Site,
        systemctl: PathBuf,
        asterisk: &Asterisk,
        working_dirs: &[PathBuf],
        keep: PathBuf,
        of: Side,
    ) -> Self {
        let places = working_dirs.iter().map(|dir| dir.join(&asterisk.config)).collect();
        let (place, username, password) = (&asterisk.ami, &asterisk.username, &asterisk.password);
        Self {
            site,
            unit: Unit::new(systemctl, asterisk.unit.clone(), KEY, asterisk.start_timeout),
            manager: Manager::new(place.clone(), username.clone(), password.clone()),
            when_running: asterisk.takeover,
            baseline: Baseline::new(places, keep),
            side: of,
            own: None,
        }
    }

    async fn session(&self) -> Result<Session, Trouble> {
        self.manager.open(Instant::now() + READY_LIMIT).await
    }

    async fn with_files<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Baseline) -> T + Send + 'static,
    ) -> Result<T, StepOutcome> {
        let baseline = self.baseline.clone();
        let looked = spawn_blocking(move || look(&baseline)).await;
        looked.map_err(|_| StepOutcome::unknown("the configuration could not be looked at; see the log"))
    }

    async fn make_passive(&self) -> Result<StepOutcome, StepOutcome> {
        let outcome = self.unit.silence(&self.site).await?;
        // What it held when it last served, or holds at the robot's first start, is what a takeover should find.
        self.with_files(Baseline::follow).await?;
        Ok(outcome)
    }

    async fn load(&self, load: Load) -> Result<StepOutcome, StepOutcome> {
        let phase = self.site.phase().map_err(StepOutcome::Failed)?;
        let begun = matches!(phase, Some(Phase::Starting | Phase::Started));
        let mut should_hold = None;
        if !begun && load == Load::First {
            should_hold = self.with_files(Baseline::whole).await?.map_err(StepOutcome::Failed)?;
        }
        let proof = if phase.is_none() && self.when_running == WhenRunning::Reload && self.unit.state().await?.runs() {
            match self.session().await {
                Ok(session) => self.reload_running(session, load).await?,
                // One that cannot even be asked is no standby: it is started anew.
                Err(_) => self.start(load, should_hold).await?,
            }
        } else {
            self.start(load, should_hold).await?
        };
        Ok(StepOutcome::Done(proof))
    }

    /// Starts it and counts; one that lacks most of its endpoints is started once more, and then serves what it has.
    async fn start(&self, load: Load, should_hold: Option<u32>) -> Result<String, StepOutcome> {
        let (mut state, mut counted) = self.boot(load).await?;
        // Fewer may be the work of an administrator whose primary does not load them either; most must be there.
        let lacks_most = |counted: &Counted| match (should_hold, counted) {
            (Some(held), Counted::Endpoints(endpoints)) => *endpoints < held.div_ceil(2),
            _ => false,
        };
        let mut twice = "";
        if lacks_most(&counted) {
            self.unit.halt().await?;
            (state, counted) = self.boot(load).await?;
            // A third start would load no more, and cut off those whose phones it has.
            twice = if lacks_most(&counted) { ", also after a second start" } else { "" };
        }
        let proof = self.unit.started(&self.site, &state)?;
        let endpoints = match counted {
            Counted::Unasked(why) => return Ok(format!("{proof}; its endpoints are not counted: {why}")),
            Counted::Endpoints(endpoints) => endpoints,
        };
        let Some(held) = should_hold else {
            return Ok(format!("{proof}; {}", self.without_file(endpoints, load).await?));
        };
        self.with_files(move |baseline| baseline.keep(held)).await?;
        Ok(if endpoints < held {
            let (file, keep) = (self.baseline.place(), self.baseline.kept_at());
            format!(
                "{proof}; {endpoints} of {held} endpoints in {file}{twice}: its log names the others (the count is kept \
                 in {keep})"
            )
        } else {
            format!("{proof}; {endpoints} endpoints")
        })
    }

    async fn boot(&self, load: Load) -> Result<(State, Counted), StepOutcome> {
        let deadline = Instant::now() + self.unit.start_timeout();
        let state = self.unit.start(&self.site, load).await?;
        Ok((state, self.booted(deadline).await?))
    }

    /// Only what it had before can be compared with, where no file tells: its endpoints may be in a database. A loss is
    /// told and holds nothing: what it had may have been counted months ago.
    async fn without_file(&self, endpoints: u32, load: Load) -> Result<String, StepOutcome> {
        let lost_from = self
            .with_files(move |baseline| {
                if baseline.held().is_some() {
                    return None;
                }
                let lost_from = baseline.kept().filter(|had| baseline::shrunk(*had, endpoints));
                if lost_from.is_none() {
                    baseline.keep(endpoints);
                }
                lost_from
            })
            .await?;
        Ok(match lost_from {
            Some(had) if load == Load::First => format!(
                "{endpoints} endpoints, and {had} when it last served; see its database and its log, or if that is meant, \
                 remove {}",
                self.baseline.kept_at()
            ),
            _ => format!("{endpoints} endpoints"),
        })
    }

    /// It runs, and not with all that it should: the next attempt starts it anew.
    fn not_whole(&self, what: &str) -> StepOutcome {
        if let Err(why) = self.site.enter(Phase::Stopping) {
            return StepOutcome::Unknown(why);
        }
        StepOutcome::Failed(format!("asterisk {what}; see its log; it is started anew at the next attempt"))
    }

    /// Waits until it has fully booted, and counts its endpoints.
    async fn booted(&self, deadline: Instant) -> Result<Counted, StepOutcome> {
        loop {
            let trouble = match self.manager.open(deadline).await {
                Ok(mut session) => match said::endpoints(&mut session).await {
                    Ok(endpoints) => return Ok(Counted::Endpoints(endpoints)),
                    Err(trouble) => trouble,
                },
                Err(trouble) => trouble,
            };
            let in_vain = matches!(trouble, Trouble::Settings(_) | Trouble::Refused(_));
            if let Some(gone) = self.unit.gone().await {
                return Err(StepOutcome::Failed(gone));
            }
            if in_vain || Instant::now() >= deadline {
                return self.serves_all_the_same(trouble).await;
            }
            sleep(PAUSE).await;
        }
    }

    async fn serves_all_the_same(&self, trouble: Trouble) -> Result<Counted, StepOutcome> {
        if let StepOutcome::Done(_) =
            self.site.registrar.serves_within(EFFECT_LIMIT, || Box::pin(self.unit.gone())).await
        {
            return Ok(Counted::Unasked(trouble.to_string()));
        }
        let name = self.unit.name();
        if let Trouble::Hangs(why) = &trouble {
            return Err(self.not_whole(&format!("hangs: {why}")));
        }
        Err(StepOutcome::Failed(format!("{name} runs, and does not serve: {trouble}")))
    }

    /// `takeover: reload`. The marker is written last, so that one who dies meanwhile begins anew.
    async fn reload_running(&self, mut session: Session, load: Load) -> Result<String, StepOutcome> {
        let before = said::endpoints(&mut session).await.map_err(Trouble::outcome)?;
        drop(session);
        self.site.before_reload(load).await?;
        let mut session = self.session().await.map_err(Trouble::outcome)?;
        session.ask("Reload", &[], |_| {}).await.map_err(Trouble::outcome)?;
        let deadline = Instant::now() + RELOAD_LIMIT;
        let event = session.event(deadline, |packet| packet.is_event("Reload")).await.map_err(Trouble::outcome)?;
        let status = event.as_ref().map_or("", |event| event.text("Status"));
        if let Some(why) = said::reload_trouble(status) {
            return Err(self.not_whole(&format!("did not reload: {why}")));
        }
        let after = said::endpoints(&mut session).await.map_err(Trouble::outcome)?;
        if after < before {
            return Err(self.not_whole(&format!("had {before} endpoints before its reload, and has {after} after it")));
        }
        self.site.enter(Phase::Started).map_err(StepOutcome::Unknown)?;
        Ok(format!("{} was reloaded; {before} endpoints before, {after} after", self.unit.name()))
    }

    /// The trunks that are named, or why they are not known.
    async fn trunks(&self) -> Result<Vec<Told>, Trouble> {
        said::trunks(&mut self.session().await?, &self.site.trunks).await
    }

    fn judge(&self, told: Vec<Told>) -> StepOutcome {
        // What is not asked cannot be proved either way.
        let is_asked = |(trunk, _): &Told| trunk.state != TrunkState::Unknown;
        let (seen, words): (Vec<_>, Vec<_>) = told.into_iter().filter(is_asked).unzip();
        let where_to = "name it in pbx.trunks as its registration is called in pjsip.conf";
        judge_trunks(&self.site.trunks, &seen, |at| words.get(at).map(String::as_str), where_to)
    }

    async fn register(&self) -> Result<StepOutcome, Trouble> {
        let names = |kind: TrunkKind| self.site.trunks.iter().filter(move |trunk| trunk.kind == kind);
        let mut session = self.session().await?;
        let told = said::registrations(&mut session).await?;
        for trunk in names(TrunkKind::Register) {
            // One that is registered is left alone: asking again gives it up first.
            let state = told.iter().find(|told| told.name == trunk.name).map(said::Registration::state);
            if state.is_some_and(|state| state != TrunkState::Up) {
                said::register(&mut session, &trunk.name).await?;
            }
        }
        let asked = Instant::now();
        loop {
            let outcome = self.judge(said::trunks(&mut session, &self.site.trunks).await?);
            match outcome {
                StepOutcome::Done(_) => return Ok(outcome),
                StepOutcome::Refused(_) if asked.elapsed() >= REFUSAL_SETTLES => return Ok(outcome),
                _ if asked.elapsed() >= EFFECT_LIMIT => return Ok(outcome),
                _ => sleep(LOOK_PAUSE).await,
            }
        }
    }

    async fn give_up_trunks(&self) -> Result<StepOutcome, Trouble> {
        let mut session = self.session().await?;
        let told = said::registrations(&mut session).await?;
        for registration in &told {
            said::unregister(&mut session, &registration.name).await?;
        }
        let deadline = Instant::now() + EFFECT_LIMIT;
        loop {
            let left: Vec<_> = said::registrations(&mut session).await?;
            let left: Vec<_> = left.iter().filter(|left| left.state() == TrunkState::Up).collect();
            match left.first() {
                None => return Ok(StepOutcome::Done(format!("{} registrations given up", told.len()))),
                Some(first) if Instant::now() >= deadline => {
                    let name = ami::shown(&first.name);
                    let why = format!("{name} is still registered: its provider may go on sending calls here");
                    return Ok(StepOutcome::Unknown(why));
                }
                Some(_) => sleep(LOOK_PAUSE).await,
            }
        }
    }

    async fn calls(&self) -> Result<u32, Trouble> {
        said::calls(&mut self.session().await?).await
    }

    /// Whether the unit is stopped: then there is nobody to ask.
    async fn idle(&self) -> Option<String> {
        self.unit.gone().await
    }

    async fn tell(&self) -> PbxStatus {
        let state = match self.unit.state().await {
            Ok(state) => state,
            Err(outcome) => return PbxStatus::serving(Serving::Unknown(outcome.text().to_owned())),
        };
        if state.stopped() {
            let fault = state.failed().then(|| self.unit.idle(&state));
            let files = self.with_files(Baseline::follow).await.unwrap_or_else(|why| Some(why.text().to_owned()));
            return PbxStatus { trouble: fault.or(files), failed: state.failed(), ..PbxStatus::serving(Serving::No) };
        }
        let (heard, told) = tokio::join!(self.site.registrar.ask(), self.ask_all());
        let serving = match heard {
            Heard::Serves(_) => Serving::Yes,
            Heard::Refuses(why) | Heard::Nobody(why) | Heard::NotAsked(why) => {
                Serving::Unknown(format!("{} is {}, but {why}", self.unit.name(), state.word()))
            }
        };
        match told {
            Ok((phones, calls, trunks)) => PbxStatus {
                registrations: Some(phones),
                calls: Some(calls),
                trunks: trunks.into_iter().map(|(trunk, said)| trunk.saying(said)).collect(),
                ..PbxStatus::serving(serving)
            },
            Err(trouble) => PbxStatus {
                trunks: self.site.unseen_trunks(),
                trouble: Some(trouble.to_string()),
                ..PbxStatus::serving(serving)
            },
        }
    }

    /// Whether any trunk is registered, also of an Asterisk that was started outside of its unit.
    async fn trunk_up(&self) -> Look {
        let told = async { said::registrations(&mut self.session().await?).await };
        match told.await {
            Ok(told) => {
                let up = told.iter().find(|told| told.state() == TrunkState::Up);
                up.map_or(Look::Clear, |up| passive::trunk_up(&ami::shown(&up.name)))
            }
            // Where nobody is there, no trunk is.
            Err(Trouble::Absent(_)) => Look::Clear,
            Err(trouble) => Look::Unknown(trouble.to_string()),
        }
    }

    async fn ask_all(&self) -> Result<(u32, u32, Vec<Told>), Trouble> {
        let mut session = self.session().await?;
        let phones = said::phones(&mut session).await?;
        let calls = said::calls(&mut session).await?;
        Ok((phones, calls, said::trunks(&mut session, &self.site.trunks).await?))
    }
}

impl Pbx for AsteriskPbx {
    fn driver(&self) -> &'static str {
        "asterisk"
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
            let accepts = self.site.registrar.accepts(mode, self.unit.start_timeout(), || Box::pin(self.unit.gone()));
            let (proof, own) = match (accepts.await, self.own.clone()) {
                (StepOutcome::Done(proof), Some(own)) => (proof, own),
                (outcome, _) => return outcome,
            };
            // Phones register at a wrong address too, so it is no reason to hold the service back.
            let wrong = self.with_files(move |baseline| announced::wrong(baseline, &own)).await.ok().flatten();
            StepOutcome::Done(match wrong {
                Some(wrong) => format!("{proof}; but {wrong}"),
                None => proof,
            })
        })
    }

    fn register_trunks(&self, mode: Mode) -> Answer<'_, StepOutcome> {
        Box::pin(async move {
            if self.site.trunks.is_empty() {
                return StepOutcome::done("no trunk configured");
            }
            if let Some(idle) = self.idle().await {
                return StepOutcome::Failed(idle);
            }
            let outcome = match mode {
                Mode::Look => self.trunks().await.map(|told| self.judge(told)),
                Mode::Act => self.register().await,
            };
            outcome.unwrap_or_else(Trouble::outcome)
        })
    }

    fn status(&self) -> Answer<'_, PbxStatus> {
        Box::pin(self.tell())
    }

    fn drain(&self) -> Answer<'_, StepOutcome> {
        Box::pin(async {
            match self.calls().await {
                Ok(calls) => calls_up(calls),
                Err(trouble) => match self.idle().await {
                    Some(idle) => StepOutcome::Done(format!("no call is up: {idle}")),
                    None => StepOutcome::Unknown(trouble.to_string()),
                },
            }
        })
    }

    fn unregister_trunks(&self) -> Answer<'_, StepOutcome> {
        Box::pin(async {
            match self.give_up_trunks().await {
                Ok(outcome) => outcome,
                Err(trouble) => match self.idle().await {
                    Some(idle) => StepOutcome::Done(idle),
                    None => StepOutcome::Unknown(trouble.to_string()),
                },
            }
        })
    }

    fn stop_accepting(&self) -> Answer<'_, StepOutcome> {
        Box::pin(async { self.make_passive().await.unwrap_or_else(|outcome| outcome) })
    }

    fn look_passive(&self) -> Answer<'_, PassiveLook> {
        Box::pin(async {
            let trunks = self.trunk_up().await;
            self.site.look_passive(Driven::Unit(&self.unit), Refusal::IsRunning, Some(trunks)).await
        })
    }

    fn guarded(&self) -> Answer<'_, Guarded> {
        Box::pin(self.unit.guarded())
    }

    fn findings(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(self.find())
    }
}
