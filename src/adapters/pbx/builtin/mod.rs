//! The driver `builtin`: a survival PBX inside the robot, so that a backup host needs no PBX at all.
//!
//! It registers phones and trunks from the accounts that the working directory already holds. It connects no calls yet.
//! [`switchboard`] and what it stands on (`registrar`, `trunk`, `guard`, `nonces`, `bindings`) take messages and the
//! time and have no sockets; `sockets` carries bytes; `service` is the running thing. This file is the driver: it
//! starts and stops that, and proves it from outside.

pub mod accounts;
mod bindings;
pub mod flow;
mod guard;
mod keep;
mod nonces;
pub(in crate::adapters::pbx) mod providers;
pub mod registrar;
mod service;
mod sockets;
mod stun;
pub mod switchboard;
pub(in crate::adapters::pbx) mod trunk;

#[cfg(test)]
mod tests;

pub use service::{Handle, Plan, Service, View};

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::marker::Phase;
use super::passive::{Driven, Refusal};
use super::registrar::{Heard, PAUSE};
use super::{EFFECT_LIMIT, Site, judge_trunks};
use crate::config::{Builtin, Config};
use crate::ports::{Answer, Load, Pbx};
use crate::units::finding::Finding;
use crate::units::{Mode, PassiveLook, PbxStatus, Serving, StepOutcome};

/// Where bindings are kept, in the state directory.
const KEEP_FILE: &str = "builtin-bindings";
/// Our own registrar answers at once, or not at all.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Remarks on the accounts that `check` shows.
const REMARKS_MAX: usize = 20;

/// The survival PBX of this process: at most one. It outlives the drivers that changed settings replace.
#[derive(Debug, Clone, Default)]
pub struct Resident(Arc<Mutex<Option<Service>>>);

impl Resident {
    async fn handle(&self) -> Option<Handle> {
        self.0.lock().await.as_ref().map(Service::handle)
    }

    /// Ends it with the process, after it has written what it keeps.
    pub async fn end(&self) {
        let service = self.0.lock().await.take();
        if let Some(service) = service {
            service.stop().await;
        }
    }
}

/// The driver.
#[derive(Debug)]
pub struct BuiltinPbx {
    site: Site,
    plan: Plan,
    resident: Resident,
}

impl BuiltinPbx {
    /// The driver with the settings `builtin` of this configuration.
    pub fn new(site: Site, config: &Config, builtin: &Builtin, resident: Resident) -> Self {
        let directory = config.pbx.working_dirs.first().cloned().unwrap_or_default();
        let plan = Plan {
            settings: builtin.clone(),
            accounts: directory.join(&builtin.accounts),
            keep: config.state_dir.join(KEEP_FILE),
            reachable: config.host(config.side).address(),
            grace: switchboard::GRACE,
        };
        Self::with(site, plan, resident)
    }

    /// The driver with this plan.
    pub fn with(site: Site, plan: Plan, resident: Resident) -> Self {
        Self { site, plan, resident }
    }

    /// What it tells; `None` when it does not run.
    async fn view(&self) -> Option<View> {
        self.resident.handle().await?.view().await
    }

    fn listens(&self) -> String {
        let place = |listen: &crate::config::Listen| format!("{} {}", listen.transport, listen.address);
        self.plan.settings.listen.iter().map(place).collect::<Vec<_>>().join(", ")
    }

    async fn stop(&self) -> Result<StepOutcome, StepOutcome> {
        self.site.stopping().map_err(StepOutcome::Failed)?;
        self.resident.end().await;
        let proof = match self.site.registrar.ask().await {
            Heard::Serves(answer) => {
                let why = format!("the built-in PBX is stopped, yet {answer}; stop the other PBX that runs there");
                return Err(StepOutcome::Failed(why));
            }
            Heard::Refuses(why) | Heard::Nobody(why) | Heard::NotAsked(why) => why,
        };
        self.site.marker.clear().map_err(StepOutcome::Failed)?;
        Ok(StepOutcome::Done(format!("it does not listen; {proof}")))
    }

    async fn runs_directory(&self) -> Result<StepOutcome, StepOutcome> {
        let Some(view) = self.view().await else { return Err(StepOutcome::failed("the built-in PBX does not run")) };
        if !self.site.begun().map_err(StepOutcome::Unknown)? {
            return Err(StepOutcome::failed("the built-in PBX runs, but its stop was begun"));
        }
        let phones = view.phones;
        Ok(StepOutcome::Done(format!("{phones} phones at {}, of {}", self.listens(), self.plan.accounts.display())))
    }

    async fn start(&self, load: Load) -> Result<StepOutcome, StepOutcome> {
        let begun = self.site.begun().map_err(StepOutcome::Failed)?;
        // Nothing is locked meanwhile: `pbx.before_reload` may take minutes, in which people want to see the status.
        if !begun || self.view().await.is_none() {
            self.resident.end().await;
            if !begun {
                self.site.prepare(load).await?;
            }
            let service = Service::start(self.plan.clone()).await.map_err(StepOutcome::Failed)?;
            *self.resident.0.lock().await = Some(service);
            self.site.enter(Phase::Started).map_err(StepOutcome::Unknown)?;
        }
        self.runs_directory().await
    }

    async fn register(&self) -> StepOutcome {
        if let Some(handle) = self.resident.handle().await {
            handle.register_trunks().await;
        }
        let deadline = Instant::now() + EFFECT_LIMIT;
        loop {
            match self.trunks().await {
                outcome @ (StepOutcome::Done(_) | StepOutcome::Refused(_)) => return outcome,
                outcome if Instant::now() >= deadline => return outcome,
                _ => sleep(PAUSE).await,
            }
        }
    }

    async fn trunks(&self) -> StepOutcome {
        let Some(view) = self.view().await else { return StepOutcome::failed("the built-in PBX does not run") };
        let (seen, said): (Vec<_>, Vec<_>) = view.trunks.into_iter().unzip();
        let where_to = format!("a registration of that name in {}", self.plan.accounts.display());
        judge_trunks(&self.site.trunks, &seen, |at| said.get(at).map(String::as_str), &where_to)
    }

    async fn accounts(&self, findings: &mut Vec<Finding>) {
        const ABOUT: &str = "pbx accounts";
        let path = self.plan.accounts.clone();
        let fix = "correct the file on the primary; the sync brings it here";
        let Ok(loaded) = spawn_blocking(move || accounts::load(&path, None)).await else { return };
        let (loaded, broken) = match loaded {
            Ok(loaded) => (loaded, None),
            Err(broken) => {
                let why = broken.to_string();
                (broken.rest, Some(why))
            }
        };
        let (phones, trunks) = (loaded.accounts.phones().len(), loaded.accounts.trunks());
        let text = format!("{phones} phones and {} trunks in {}", trunks.len(), self.plan.accounts.display());
        findings.push(match broken {
            Some(why) => Finding::problem(ABOUT, why, fix),
            None if phones == 0 => Finding::problem(ABOUT, text, "see pbx.driver.builtin.accounts"),
            None => Finding::ok(ABOUT, text),
        });
        let remarks = loaded.remarks.iter().take(REMARKS_MAX);
        findings.extend(remarks.map(|remark| Finding::warning(ABOUT, remark.to_string(), fix)));
        for trunk in self.site.trunks.iter().filter(|trunk| trunk.required) {
            if !trunks.iter().any(|there| there.name == trunk.name) {
                let text =
                    format!("the trunk {} is required, and the accounts have no registration of that name", trunk.name);
                findings.push(Finding::problem(ABOUT, text, "name it in pbx.trunks as its section is called"));
            }
        }
    }
}

impl Pbx for BuiltinPbx {
    fn driver(&self) -> &'static str {
        "builtin"
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
        Box::pin(self.site.registrar.accepts(mode, ANSWER_LIMIT, || Box::pin(self.gone())))
    }

    fn register_trunks(&self, mode: Mode) -> Answer<'_, StepOutcome> {
        Box::pin(async move {
            match mode {
                Mode::Look => self.trunks().await,
                Mode::Act => self.register().await,
            }
        })
    }

    fn status(&self) -> Answer<'_, PbxStatus> {
        Box::pin(async {
            let Some(view) = self.view().await else { return PbxStatus::serving(self.elsewhere().await) };
            let blocked = (view.blocked > 0).then(|| {
                let who = if view.blocked == 1 {
                    "1 address is".to_owned()
                } else {
                    format!("{} addresses are", view.blocked)
                };
                format!("{who} not listened to after wrong passwords: the log names them")
            });
            PbxStatus {
                serving: Serving::Yes,
                registrations: u32::try_from(view.registrations).ok(),
                calls: Some(0),
                trunks: view.trunks.into_iter().map(|(trunk, said)| trunk.saying(said)).collect(),
                trouble: view.trouble.or(blocked),
                failed: false,
            }
        })
    }

    fn look_passive(&self) -> Answer<'_, PassiveLook> {
        const HOW: &str = "end the other SIP server on this host (`ss -lnp` names it): the built-in PBX needs its port";
        Box::pin(async {
            let view = self.view().await;
            let trunks: Vec<_> = view.into_iter().flat_map(|view| view.trunks).map(|(trunk, _)| trunk).collect();
            let trunks = self.site.registered(&trunks);
            self.site.look_passive(Driven::Otherwise(HOW), Refusal::IsRunning, Some(trunks)).await
        })
    }

    fn drain(&self) -> Answer<'_, StepOutcome> {
        Box::pin(async { StepOutcome::done("no call is up: the built-in PBX connects none") })
    }

    fn unregister_trunks(&self) -> Answer<'_, StepOutcome> {
        Box::pin(async {
            let Some(handle) = self.resident.handle().await else { return StepOutcome::done("it does not run") };
            match handle.release_trunks().await {
                Ok(()) => StepOutcome::done("the providers hold nothing of us"),
                Err(why) => StepOutcome::Unknown(format!("a provider may still send calls here: {why}")),
            }
        })
    }

    fn stop_accepting(&self) -> Answer<'_, StepOutcome> {
        Box::pin(async { self.stop().await.unwrap_or_else(|outcome| outcome) })
    }

    fn findings(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(async {
            let mut findings = vec![Finding::problem(
                "pbx calls",
                "the built-in PBX registers phones and trunks, and connects no calls: nobody could dial 112",
                "use another driver wherever people must be able to telephone",
            )];
            self.accounts(&mut findings).await;
            if self.started() {
                findings.push(Finding::ok("pbx listen", "not tried: this node serves"));
            } else if self.view().await.is_none() {
                findings.push(match service::can_listen(&self.plan.settings) {
                    Ok(()) => Finding::ok("pbx listen", format!("free: {}", self.listens())),
                    Err(why) => {
                        let (what, hint) = why.split_once("; ").unwrap_or((&why, "see pbx.driver.builtin.listen"));
                        Finding::problem("pbx listen", what, hint)
                    }
                });
            }
            findings
        })
    }
}

impl BuiltinPbx {
    fn started(&self) -> bool {
        self.site.phase() == Ok(Some(Phase::Started))
    }

    /// It does not run in this process. `check` is another process than the robot, and must not call a PBX passive that
    /// serves there.
    async fn elsewhere(&self) -> Serving {
        match (self.started(), self.site.registrar.ask().await) {
            (true, Heard::Serves(answer)) => Serving::Unknown(format!("not in this process, but {answer}")),
            _ => Serving::No,
        }
    }

    async fn gone(&self) -> Option<String> {
        self.view().await.is_none().then(|| "the built-in PBX has ended".to_owned())
    }
}
