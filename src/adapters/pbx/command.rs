//! The driver `command`: the administrator's own command per verb.
//!
//! The environment tells a command what it works for: `PBX_FAILOVER_WORKING_DIR` (several joined by `:`),
//! `PBX_FAILOVER_NODE`, `PBX_FAILOVER_MARKER` and `PBX_FAILOVER_VERB`. Exit 0 is done, 75 unknown, anything else
//! failed; the last line printed is the proof. What the command claims is then looked at: by the status command, where
//! there is one, and by our own SIP question.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::marker::Phase;
use super::passive::{Driven, Refusal};
use super::registrar::{Heard, PAUSE};
use super::{EFFECT_LIMIT, Site, calls_up, judge_trunks, report, verdict};
use crate::config::CommandDriver;
use crate::host::command::{self, CommandEnd};
use crate::ports::{Answer, Load, Pbx};
use crate::units::{Look, Mode, PassiveLook, PbxStatus, Serving, Sign, StepOutcome};

/// How long the command of a verb may take: as long as a unit may by default (60 s) for the start of a large PBX.
pub const VERB_LIMIT: Duration = Duration::from_secs(60);

/// How long the status command may take; it is asked often.
pub const STATUS_LIMIT: Duration = Duration::from_secs(10);

/// A PBX behind commands.
#[derive(Debug)]
pub struct CommandPbx {
    site: Site,
    verbs: CommandDriver,
    effect_limit: Duration,
}

impl CommandPbx {
    /// The commands `verbs` for this site.
    pub fn new(site: Site, verbs: CommandDriver) -> Self {
        Self { site, verbs, effect_limit: EFFECT_LIMIT }
    }

    /// The same with less patience for effects, for tests.
    #[must_use]
    pub fn with_effect_limit(mut self, limit: Duration) -> Self {
        self.effect_limit = limit;
        self
    }

    async fn run(&self, verb: &str, argv: &[String]) -> StepOutcome {
        if argv.is_empty() {
            return StepOutcome::Done(format!("no command given for {verb}"));
        }
        let end = self.end(verb, argv, VERB_LIMIT).await;
        verdict(&format!("pbx.driver.command.{verb}"), &end)
    }

    async fn end(&self, verb: &str, argv: &[String], limit: Duration) -> CommandEnd {
        let mut env = self.site.env.clone();
        env.push(("PBX_FAILOVER_VERB".to_owned(), verb.to_owned()));
        command::run(argv, &env, limit).await
    }

    /// What the status command tells; `None` without one.
    async fn report(&self) -> Option<PbxStatus> {
        if self.verbs.status.is_empty() {
            return None;
        }
        let end = self.end("status", &self.verbs.status, STATUS_LIMIT).await;
        Some(match &end {
            CommandEnd::Exited { code: Some(0), stdout, .. } => report::read(stdout),
            _ => PbxStatus::serving(Serving::Unknown(format!("pbx.driver.command.status: {}", end.line()))),
        })
    }

    /// Does it serve? By its status command, else by our own question.
    async fn serving(&self) -> StepOutcome {
        match self.report().await.map(|status| status.serving) {
            Some(Serving::Yes) => StepOutcome::done("its status says serving"),
            Some(Serving::No) => StepOutcome::failed("its status says not serving"),
            Some(Serving::Unknown(why)) => StepOutcome::Unknown(why),
            None => self.site.registrar.looks(self.site.registrar.ask().await),
        }
    }

    async fn stop(&self, verb: &str, argv: &[String]) -> StepOutcome {
        if let Err(why) = self.site.stopping() {
            return StepOutcome::Failed(why);
        }
        let said = match self.run(verb, argv).await {
            StepOutcome::Done(said) => said,
            other => return other,
        };
        let deadline = Instant::now() + self.effect_limit;
        loop {
            match self.silent().await {
                StepOutcome::Done(proof) => {
                    return match self.site.marker.clear() {
                        Ok(()) => StepOutcome::Done(format!("{said}; {proof}")),
                        Err(why) => StepOutcome::Failed(why),
                    };
                }
                other if Instant::now() >= deadline => return other,
                _ => sleep(PAUSE).await,
            }
        }
    }

    /// Is it passive? Its status command must say so, and nobody may answer a phone.
    async fn silent(&self) -> StepOutcome {
        let told = match self.report().await.map(|status| status.serving) {
            Some(Serving::Yes) => return StepOutcome::failed("its status still says serving"),
            Some(Serving::Unknown(why)) => return StepOutcome::Unknown(why),
            Some(Serving::No) => Some("its status says not serving".to_owned()),
            None => None,
        };
        match (self.site.registrar.ask().await, told) {
            (Heard::Serves(answer), _) => StepOutcome::Failed(format!("it should be passive, yet {answer}")),
            (Heard::Refuses(why) | Heard::Nobody(why), _) => StepOutcome::Done(why),
            (Heard::NotAsked(_), Some(told)) => StepOutcome::Done(told),
            (Heard::NotAsked(why), None) => {
                let name = self.site.registrar.name();
                StepOutcome::Unknown(format!("{name} was not asked: {why}; give pbx.driver.command.status"))
            }
        }
    }

    async fn runs_directory(&self) -> StepOutcome {
        match self.site.phase() {
            Ok(Some(Phase::Started)) => self.serving().await,
            Ok(_) => StepOutcome::failed("not seen to run this directory"),
            Err(why) => StepOutcome::Unknown(why),
        }
    }

    async fn start(&self, load: Load) -> StepOutcome {
        match self.site.begun() {
            Ok(true) => {}
            Ok(false) => {
                if let Err(outcome) = self.site.prepare(load).await {
                    return outcome;
                }
            }
            Err(why) => return StepOutcome::Failed(why),
        }
        let outcome = self.run("reload", &self.verbs.reload).await;
        if matches!(outcome, StepOutcome::Done(_))
            && let Err(why) = self.site.enter(Phase::Started)
        {
            return StepOutcome::Unknown(why);
        }
        outcome
    }

    async fn accept(&self) -> StepOutcome {
        match self.run("accept_registrations", &self.verbs.accept_registrations).await {
            StepOutcome::Done(_) => {
                self.site.registrar.serves_within(self.effect_limit, || Box::pin(async { None })).await
            }
            other => other,
        }
    }

    /// Is every required trunk up? `None` when there is no status command to tell.
    async fn trunks(&self) -> Option<StepOutcome> {
        let status = self.report().await?;
        if let Serving::Unknown(why) = status.serving {
            return Some(StepOutcome::Unknown(why));
        }
        let where_to = "print it in pbx.driver.command.status under the name that pbx.trunks gives it";
        Some(judge_trunks(&self.site.trunks, &status.trunks, |_| None, where_to))
    }

    async fn register(&self) -> StepOutcome {
        let said = match self.run("register_trunks", &self.verbs.register_trunks).await {
            StepOutcome::Done(said) => said,
            other => return other,
        };
        let deadline = Instant::now() + self.effect_limit;
        loop {
            match self.trunks().await {
                None => return StepOutcome::Done(said),
                Some(StepOutcome::Done(proof)) => return StepOutcome::Done(proof),
                Some(other) if Instant::now() >= deadline => return other,
                Some(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Calls are counted by the status command where it tells them, and the command `drain` must agree.
    async fn calls_ended(&self) -> StepOutcome {
        let said = match self.run("drain", &self.verbs.drain).await {
            StepOutcome::Done(said) => said,
            other => return other,
        };
        match self.report().await.map(|status| (status.calls, status.serving)) {
            Some((Some(calls), _)) => calls_up(calls),
            Some((None, Serving::Unknown(why))) => StepOutcome::Unknown(why),
            Some((None, _)) | None if self.verbs.drain.is_empty() => {
                StepOutcome::done("not waited for: nothing tells of calls")
            }
            Some((None, _)) | None => StepOutcome::Done(said),
        }
    }
}

impl Pbx for CommandPbx {
    fn driver(&self) -> &'static str {
        "command"
    }

    fn passive(&self) -> Answer<'_, StepOutcome> {
        Box::pin(self.stop("passive", &self.verbs.passive))
    }

    fn reload(&self, mode: Mode, load: Load) -> Answer<'_, StepOutcome> {
        Box::pin(async move {
            match mode {
                Mode::Look => self.runs_directory().await,
                Mode::Act => self.start(load).await,
            }
        })
    }

    fn accept_registrations(&self, mode: Mode) -> Answer<'_, StepOutcome> {
        Box::pin(async move {
            match mode {
                Mode::Look => self.site.registrar.looks(self.site.registrar.ask().await),
                Mode::Act => self.accept().await,
            }
        })
    }

    fn register_trunks(&self, mode: Mode) -> Answer<'_, StepOutcome> {
        Box::pin(async move {
            match mode {
                Mode::Act => self.register().await,
                Mode::Look => self.trunks().await.unwrap_or_else(|| {
                    StepOutcome::failed("cannot be looked at without pbx.driver.command.status; will be asked again")
                }),
            }
        })
    }

    fn status(&self) -> Answer<'_, PbxStatus> {
        Box::pin(async {
            if let Some(status) = self.report().await {
                return status;
            }
            PbxStatus::serving(match self.site.registrar.ask().await {
                Heard::Serves(_) => Serving::Yes,
                Heard::Refuses(_) | Heard::Nobody(_) => Serving::No,
                Heard::NotAsked(why) => Serving::Unknown(why),
            })
        })
    }

    fn look_passive(&self) -> Answer<'_, PassiveLook> {
        const HOW: &str = "stop it as pbx.driver.command.passive does, or end the process that was started by hand \
                           (`ss -lnp` names it)";
        Box::pin(async {
            let report = self.report().await;
            let trunks = report.as_ref().map(|status| match &status.serving {
                Serving::Unknown(why) if status.trunks.is_empty() => Look::Unknown(why.clone()),
                _ => self.site.registered(&status.trunks),
            });
            let mut look = self.site.look_passive(Driven::Otherwise(HOW), Refusal::IsPassive, trunks).await;
            // Its own word counts where our question heard nobody.
            let heard_none = look.looks.get(&Sign::AcceptsRegister).is_some_and(|look| !matches!(look, Look::Seen(_)));
            if heard_none && report.is_some_and(|status| status.serving == Serving::Yes) {
                let said = "pbx.driver.command.status says that it serves".to_owned();
                look.looks.insert(Sign::Answers, Look::Seen(said));
            }
            look
        })
    }

    fn drain(&self) -> Answer<'_, StepOutcome> {
        Box::pin(self.calls_ended())
    }

    fn unregister_trunks(&self) -> Answer<'_, StepOutcome> {
        Box::pin(self.run("unregister_trunks", &self.verbs.unregister_trunks))
    }

    fn stop_accepting(&self) -> Answer<'_, StepOutcome> {
        // Whoever gives only `passive` means it for both.
        let empty = self.verbs.stop_accepting.is_empty();
        let argv = if empty { &self.verbs.passive } else { &self.verbs.stop_accepting };
        Box::pin(self.stop("stop_accepting", argv))
    }
}
