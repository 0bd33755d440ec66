//! The driver `kamailio`: a unit that is also asked over JSON-RPC.
//!
//! Passive is stopped, or a gate in its script ([`gate`]). What is told here holds for both; [`trunks`] knows the
//! registrations of its module uac, [`findings`] what `check` shows. Recorded from Kamailio 5.6.3.

mod account;
mod findings;
mod gate;
mod held;
mod rpc;
mod settings;
mod trunks;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::passive::{self, Driven, Refusal};
use super::registrar::{Heard, PAUSE};
use super::unit::Unit;
use super::{Site, calls_up, judge_trunks};
use crate::config::{Kamailio, KamailioPassive};
use crate::ports::{Answer, Load, Pbx};
use crate::units::finding::Finding;
use crate::units::{
    Guarded, Look, Mode, PassiveLook, PbxStatus, Serving, StepOutcome, TrunkKind, TrunkState, TrunkStatus,
};

pub use account::{account, sleeps};
use rpc::Trouble;
pub use rpc::{KEY, Rpc};

/// How long a Kamailio whose unit runs may take until it answers: it opens its sockets last.
const AWAKE_LIMIT: Duration = Duration::from_secs(10);

/// How long a trunk may take: the uac module looks at its records every `reg_timer_interval`, by default 90 s.
const TRUNKS_LIMIT: Duration = Duration::from_secs(95);

/// Where a trunk that Kamailio does not know should be named.
const WHERE_TO: &str = "write the l_uuid of its record in uacreg as its name in pbx.trunks";

/// A PBX that is Kamailio.
#[derive(Debug)]
pub struct KamailioPbx {
    site: Site,
    unit: Unit,
    rpc: Rpc,
    passive: KamailioPassive,
    reload: Vec<String>,
    working_dirs: Vec<PathBuf>,
    /// When `uac.reg_reload` was last asked. Held over the whole reload: two that overlap can crash Kamailio.
    reloaded: Mutex<Option<Instant>>,
    trunks_limit: Duration,
}

impl KamailioPbx {
    /// The Kamailio that `kamailio` describes, whose unit is asked through the program `systemctl`.
    pub fn new(site: Site, systemctl: PathBuf, kamailio: &Kamailio, working_dirs: Vec<PathBuf>) -> Self {
        Self {
            site,
            unit: Unit::new(systemctl, kamailio.unit.clone(), KEY, kamailio.start_timeout),
            rpc: Rpc::new(kamailio.jsonrpc.clone()),
            passive: kamailio.passive.clone(),
            reload: kamailio.reload.clone(),
            working_dirs,
            reloaded: Mutex::new(None),
            trunks_limit: TRUNKS_LIMIT,
        }
    }

    /// The same with less patience for answers and trunks, for tests.
    #[must_use]
    pub fn with_limits(mut self, answer: Duration, trunks: Duration) -> Self {
        self.rpc = self.rpc.with_limit(answer);
        self.trunks_limit = trunks;
        self
    }

    async fn ask(&self, method: &str, params: &[Value]) -> Result<Value, Trouble> {
        self.rpc.ask(method, params).await
    }

    /// Waits until it answers over JSON-RPC.
    async fn awake(&self) -> Result<String, Trouble> {
        let deadline = Instant::now() + AWAKE_LIMIT;
        loop {
            match self.ask("core.version", &[]).await {
                Ok(version) => return Ok(version.as_str().unwrap_or("it").trim().to_owned() + " answers"),
                // It opens its socket some moments after its unit counts as started.
                Err(Trouble::Nobody(_)) if Instant::now() < deadline && self.unit.gone().await.is_none() => {
                    sleep(PAUSE).await;
                }
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// Starts the unit and sees it answer; one that hangs is started once more.
    async fn start(&self, load: Load) -> Result<String, StepOutcome> {
        let mut state = self.unit.start(&self.site, load).await?;
        let mut awake = self.awake().await;
        if matches!(awake, Err(Trouble::Silent(_))) && self.is_deaf().await {
            // Neither its control nor its SIP port answers phones: waiting helps nobody.
            self.unit.halt().await?;
            state = self.unit.start(&self.site, load).await?;
            awake = self.awake().await;
        }
        let said = match awake {
            Ok(said) => said,
            // Phones are worth more than our view of it.
            Err(trouble) if self.serves().await => format!("phones are answered, but {}", trouble.line()),
            Err(trouble) => return Err(trouble.outcome()),
        };
        Ok(format!("{}; {said}", self.unit.started(&self.site, &state)?))
    }

    async fn serves(&self) -> bool {
        matches!(self.site.registrar.ask().await, Heard::Serves(_))
    }

    /// Whether phones are certainly not served: a question that never left proves nothing, and halts nobody.
    async fn is_deaf(&self) -> bool {
        matches!(self.site.registrar.ask().await, Heard::Nobody(_) | Heard::Refuses(_))
    }

    /// Registered contacts, over all location tables; `None` without the module usrloc or kex.
    async fn contacts(&self) -> Option<u32> {
        let told = self.ask("stats.fetchn", &[Value::from("usrloc:")]).await.ok()?;
        let counts = told.as_object()?.iter().filter(|(name, _)| name.ends_with("_contacts"));
        let counts: Vec<_> = counts.filter_map(|(_, count)| count.as_u64()).collect();
        (!counts.is_empty()).then(|| u32::try_from(counts.iter().sum::<u64>()).unwrap_or(u32::MAX))
    }

    /// Calls that are up or being set up, as the module dialog counts them.
    async fn calls(&self) -> Result<u32, Trouble> {
        let told = self.ask("dlg.stats_active", &[]).await?;
        let all = told.get("all").and_then(Value::as_u64);
        all.and_then(|all| u32::try_from(all).ok()).ok_or_else(|| {
            Trouble::Strange("kamailio's dlg.stats_active tells no number of calls; see what it says".to_owned())
        })
    }

    async fn calls_ended(&self) -> StepOutcome {
        match self.calls().await {
            Ok(calls) => calls_up(calls),
            Err(Trouble::NoCommand(line)) => StepOutcome::Done(format!("not waited for: nobody counts calls ({line})")),
            Err(Trouble::Nobody(line)) => match self.unit.gone().await {
                Some(idle) => StepOutcome::Done(format!("no call is up: {idle}")),
                None => StepOutcome::Failed(line),
            },
            Err(trouble) => trouble.outcome(),
        }
    }

    /// How its trunks stand, and whether any may register at all.
    async fn look_at_trunks(&self) -> StepOutcome {
        match self.records().await {
            Ok(seen) => self.judge(&seen),
            Err(trouble) => trouble.outcome(),
        }
    }

    fn judge(&self, seen: &[trunks::Record]) -> StepOutcome {
        let statuses: Vec<_> = seen.iter().map(trunks::Record::status).collect();
        judge_trunks(&self.site.trunks, &statuses, |at| seen[at].said(), WHERE_TO)
    }

    async fn seen(&self) -> PbxStatus {
        let mut status = PbxStatus { trunks: self.site.unseen_trunks(), ..PbxStatus::serving(Serving::No) };
        match self.unit.state().await {
            Ok(state) if state.stopped() => {
                status.failed = state.failed();
                status.trouble = state.failed().then(|| self.unit.idle(&state));
                return status;
            }
            Ok(_) => {}
            // Where systemd cannot be asked, Kamailio itself can.
            Err(outcome) => status.trouble = Some(outcome.text().to_owned()),
        }
        let records = self.records().await;
        match &records {
            Ok(records) => {
                let status_of = |unseen: TrunkStatus| {
                    records.iter().find(|record| record.name == unseen.name).map_or(unseen, trunks::Record::status)
                };
                status.trunks = status.trunks.into_iter().map(status_of).collect();
                (status.registrations, status.calls) = (self.contacts().await, self.calls().await.ok());
            }
            Err(trouble) => status.trouble = Some(trouble.line().to_owned()),
        }
        let heard = self.site.registrar.ask().await;
        status.serving = match (heard, &records) {
            (Heard::Serves(_), _) => Serving::Yes,
            (Heard::Refuses(_), Ok(records)) if self.is_gate() => {
                match records.iter().find(|record| record.state() == TrunkState::Up) {
                    None => Serving::No,
                    Some(up) => Serving::Unknown(format!("its gate is shut, yet trunk {} is registered", up.name)),
                }
            }
            (Heard::Refuses(why) | Heard::Nobody(why) | Heard::NotAsked(why), _) => {
                Serving::Unknown(format!("{} runs, but {why}", self.unit.name()))
            }
        };
        // Only of one that serves: beside "no" a trouble means that it has failed.
        if status.serving == Serving::Yes
            && let Some(record) = records.iter().flatten().find(|record| record.is_disabled())
        {
            let why = record.said().unwrap_or_default();
            status.trouble.get_or_insert_with(|| format!("trunk {}: {why}", record.name));
        }
        status
    }

    fn is_gate(&self) -> bool {
        matches!(self.passive, KamailioPassive::Gate { .. })
    }

    /// The trunks that register.
    fn registering(&self) -> impl Iterator<Item = &str> {
        let registers = self.site.trunks.iter().filter(|trunk| trunk.kind == TrunkKind::Register);
        registers.map(|trunk| trunk.name.as_str())
    }

    async fn make_passive(&self) -> StepOutcome {
        let outcome = match &self.passive {
            KamailioPassive::Stopped => self.unit.silence(&self.site).await,
            KamailioPassive::Gate { htable, key } => self.shut(htable, key).await,
        };
        outcome.unwrap_or_else(|outcome| outcome)
    }
}

impl Pbx for KamailioPbx {
    fn driver(&self) -> &'static str {
        "kamailio"
    }

    fn passive(&self) -> Answer<'_, StepOutcome> {
        Box::pin(self.make_passive())
    }

    fn reload(&self, mode: Mode, load: Load) -> Answer<'_, StepOutcome> {
        Box::pin(async move {
            let outcome = match (&self.passive, mode) {
                (KamailioPassive::Stopped, Mode::Look) => self.unit.runs_directory(&self.site).await,
                (KamailioPassive::Stopped, Mode::Act) => self.start(load).await.map(StepOutcome::Done),
                (KamailioPassive::Gate { .. }, Mode::Look) => self.has_loaded().await,
                (KamailioPassive::Gate { htable, .. }, Mode::Act) => {
                    self.load(htable, load).await.map(StepOutcome::Done)
                }
            };
            outcome.unwrap_or_else(|outcome| outcome)
        })
    }

    fn accept_registrations(&self, mode: Mode) -> Answer<'_, StepOutcome> {
        Box::pin(async move {
            if let (KamailioPassive::Gate { htable, key }, Mode::Act) = (&self.passive, mode)
                && let Err(trouble) = self.turn(htable, key, gate::Turn::Open).await
            {
                return trouble.outcome();
            }
            self.site.registrar.accepts(mode, self.unit.start_timeout(), || Box::pin(self.unit.gone())).await
        })
    }

    fn register_trunks(&self, mode: Mode) -> Answer<'_, StepOutcome> {
        Box::pin(async move {
            match mode {
                Mode::Look => self.look_at_trunks().await,
                Mode::Act => self.register().await,
            }
        })
    }

    fn status(&self) -> Answer<'_, PbxStatus> {
        Box::pin(self.seen())
    }

    fn drain(&self) -> Answer<'_, StepOutcome> {
        Box::pin(self.calls_ended())
    }

    fn unregister_trunks(&self) -> Answer<'_, StepOutcome> {
        Box::pin(self.unregister())
    }

    fn stop_accepting(&self) -> Answer<'_, StepOutcome> {
        Box::pin(self.make_passive())
    }

    fn look_passive(&self) -> Answer<'_, PassiveLook> {
        Box::pin(async {
            let trunks = match self.records().await {
                Ok(records) => {
                    let up = records.iter().find(|record| record.state() == TrunkState::Up);
                    up.map_or(Look::Clear, |up| passive::trunk_up(&up.name))
                }
                // Where nobody is there, or no module registers, no trunk is.
                Err(Trouble::Nobody(_) | Trouble::NoCommand(_)) => Look::Clear,
                Err(trouble) => Look::Unknown(trouble.line().to_owned()),
            };
            let refusal = if self.is_gate() { Refusal::IsPassive } else { Refusal::IsRunning };
            self.site.look_passive(Driven::Unit(&self.unit), refusal, Some(trunks)).await
        })
    }

    fn guarded(&self) -> Answer<'_, Guarded> {
        Box::pin(self.unit.guarded())
    }

    fn findings(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(self.find())
    }
}
