//! Passive behind a gate: Kamailio runs, and its script answers 503 to phones unless an entry of a table is 1.
//!
//! That it is passive is proved each time, and where it cannot be proved the unit is stopped instead. The route that
//! asks the entry is in docs/recipes/kamailio.md.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::rpc::Trouble;
use super::settings::{Param, param};
use super::{KamailioPbx, held};
use crate::adapters::pbx::marker::Phase;
use crate::adapters::pbx::registrar::Heard;
use crate::host::open_files;
use crate::ports::Load;
use crate::units::StepOutcome;

/// Between two `uac.reg_reload`: newer versions refuse sooner ones (5.6: 150 s), older ones can crash.
const RELOAD_PAUSE: Duration = Duration::from_secs(30);

/// How the gate shall stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Phones are served.
    Open,
    /// Phones are refused.
    Shut,
}

/// Whether its reload commands read the files again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rereads {
    /// Nothing says otherwise.
    Yes,
    /// They say "Ok" and change nothing: db_text keeps what it read, unless its `db_mode` is 1.
    No,
}

impl KamailioPbx {
    /// Turns the gate, and reads back that it stands so.
    pub(super) async fn turn(&self, htable: &str, key: &str, turn: Turn) -> Result<(), Trouble> {
        let wanted = u8::from(turn == Turn::Open);
        let advise = |trouble| match trouble {
            Trouble::Refused { code, line } => {
                let hint =
                    "give kamailio.cfg the gate of docs/recipes/kamailio.md, or correct pbx.driver.kamailio.gate";
                Trouble::Refused { code, line: format!("{line} ({htable}); {hint}") }
            }
            other => other,
        };
        self.ask("htable.seti", &[htable.into(), key.into(), wanted.into()]).await.map_err(advise)?;
        let told = self.ask("htable.get", &[htable.into(), key.into()]).await.map_err(advise)?;
        if told["item"]["value"].as_u64() == Some(u64::from(wanted)) {
            return Ok(());
        }
        let line =
            format!("the gate {htable}=>{key} does not keep what it is set to; use a table that nothing else writes");
        Err(Trouble::Refused { code: 0, line })
    }

    /// Shuts the gate, gives the trunks up, and proves that it is passive; else stops the unit.
    pub(super) async fn shut(&self, htable: &str, key: &str) -> Result<StepOutcome, StepOutcome> {
        self.site.stopping().map_err(StepOutcome::Failed)?;
        if self.unit.gone().await.is_some() {
            return self.unit.silence(&self.site).await;
        }
        match self.prove_shut(htable, key).await {
            Ok(proof) => {
                self.site.marker.clear().map_err(StepOutcome::Failed)?;
                Ok(StepOutcome::Done(proof))
            }
            Err(why) => match self.unit.silence(&self.site).await? {
                StepOutcome::Done(proof) => Ok(StepOutcome::Done(format!("stopped instead, because {why}; {proof}"))),
                other => Ok(other),
            },
        }
    }

    /// # Errors
    /// Why it is not passive, in one line.
    async fn prove_shut(&self, htable: &str, key: &str) -> Result<String, String> {
        self.turn(htable, key, Turn::Shut).await.map_err(|trouble| trouble.line().to_owned())?;
        let given = match self.give_up().await {
            Ok(given) => given,
            Err(outcome) => return Err(outcome.text().to_owned()),
        };
        let refusal = match self.site.registrar.ask().await {
            Heard::Refuses(why) => why,
            Heard::Serves(answer) => {
                return Err(format!("{answer} although the gate is shut: its script does not ask {htable}=>{key}"));
            }
            Heard::Nobody(why) | Heard::NotAsked(why) => return Err(format!("its gate cannot be seen: {why}")),
        };
        if let Some(path) = self.held().await? {
            return Err(format!("it holds {} of the working directory open", open_files::shown(&path)));
        }
        let trunks = given.line();
        Ok(format!("its gate is shut: {refusal}; {trunks}; it holds no file of the working directory"))
    }

    /// Which file of the working directory it holds open.
    pub(super) async fn held(&self) -> Result<Option<std::path::PathBuf>, String> {
        let told = self.ask("core.psx", &[]).await.map_err(|trouble| trouble.line().to_owned())?;
        let pid = |process: &Value| process.get("PID").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok());
        let pids: Vec<_> = told.as_array().into_iter().flatten().filter_map(pid).collect();
        if pids.is_empty() {
            return Err("kamailio does not name its processes".to_owned());
        }
        let dirs = self.working_dirs.clone();
        tokio::task::spawn_blocking(move || held::look(&pids, &dirs))
            .await
            .map_err(|_| "the look at its open files broke off".to_owned())?
    }

    /// Whether it has read the working directory in this turn of service.
    pub(super) async fn has_loaded(&self) -> Result<StepOutcome, StepOutcome> {
        match self.site.phase().map_err(StepOutcome::Unknown)? {
            Some(Phase::Started) => {}
            Some(Phase::Starting) => return Err(StepOutcome::failed("its reload was begun, and not seen to end")),
            Some(Phase::Stopping) | None => return Err(StepOutcome::failed("it has the data of an earlier time")),
        }
        match self.awake().await {
            Ok(said) => Ok(StepOutcome::Done(format!("{said}, and has read the working directory"))),
            Err(trouble) => Err(trouble.outcome()),
        }
    }

    /// Makes it read the working directory: by its commands while it runs, else by its start.
    pub(super) async fn load(&self, htable: &str, load: Load) -> Result<String, StepOutcome> {
        let mut reloaded = self.reloaded.lock().await;
        if let Ok(StepOutcome::Done(said)) = self.has_loaded().await {
            return Ok(said);
        }
        let runs = self.unit.state().await.is_ok_and(|state| state.runs());
        if !runs {
            return self.start(load).await;
        }
        match self.awake().await {
            Ok(_) if self.rereads().await == Rereads::No => {
                self.unit.halt().await?;
                return self.start(load).await;
            }
            Ok(_) => {}
            // Phones are worth more than our view of it.
            Err(trouble @ (Trouble::Silent(_) | Trouble::Nobody(_))) if self.serves().await => {
                return Ok(format!("phones are answered, but {}", trouble.line()));
            }
            // It hangs, or has lost its socket: it cannot be told to reload, but a start reads everything.
            Err(Trouble::Silent(_) | Trouble::Nobody(_)) => {
                self.unit.halt().await?;
                return self.start(load).await;
            }
            Err(trouble) => return Err(trouble.outcome()),
        }
        if !self.site.begun().map_err(StepOutcome::Failed)? {
            self.site.prepare(load).await?;
        }
        let mut said = self.reload_tables(htable).await?;
        said.extend(self.reload_trunks(&mut reloaded).await?);
        self.site.enter(Phase::Started).map_err(StepOutcome::Unknown)?;
        Ok(if said.is_empty() {
            "nothing to read again".to_owned()
        } else {
            format!("read again: {}", said.join(", "))
        })
    }

    /// Whether a reload would be one.
    pub(super) async fn rereads(&self) -> Rereads {
        let Ok(modules) = self.ask("core.modules", &[]).await else { return Rereads::Yes };
        let keeps = modules.as_array().into_iter().flatten().any(|module| module.as_str() == Some("db_text"));
        let text = if keeps { self.config_text().await } else { None };
        match text.map(|text| param(&text, "db_text", "db_mode")) {
            Some(Param::Absent | Param::Number(0)) => Rereads::No,
            _ => Rereads::Yes,
        }
    }

    /// Asks the configured commands that this Kamailio has; the gate's own table is left alone.
    async fn reload_tables(&self, gate: &str) -> Result<Vec<String>, StepOutcome> {
        let fail = |trouble: Trouble| match trouble {
            Trouble::Refused { line, .. } => StepOutcome::Failed(format!(
                "{line}; see its log, or take the command out of pbx.driver.kamailio.reload"
            )),
            other => other.outcome(),
        };
        let mut said = Vec::new();
        for method in &self.reload {
            if method == "htable.reload" {
                let before = self.entries().await;
                let tables = self.tables(gate).await.map_err(fail)?;
                for table in &tables {
                    self.ask(method, &[Value::from(table.as_str())]).await.map_err(fail)?;
                }
                // It says "Ok" to half a table too: a person should see the numbers.
                let after = self.entries().await;
                let count =
                    |counts: &Value, table: &str| counts[table].as_u64().map_or("?".to_owned(), |n| n.to_string());
                let told = |table: &String| {
                    format!("htable {table} ({} entries, {} before)", count(&after, table), count(&before, table))
                };
                said.extend(tables.iter().map(told));
                continue;
            }
            match self.ask(method, &[]).await {
                Ok(_) => said.push(method.clone()),
                Err(Trouble::NoCommand(_)) => {}
                Err(trouble) => return Err(fail(trouble)),
            }
        }
        Ok(said)
    }

    /// How many entries each table has, by its name; `Null` where that is not told.
    async fn entries(&self) -> Value {
        let told = self.ask("htable.stats", &[]).await.unwrap_or_default();
        let tables = told.as_array().into_iter().flatten();
        tables.filter_map(|table| Some((table["name"].as_str()?.to_owned(), table["all"].clone()))).collect()
    }

    /// The tables that lie in a database, and can therefore be read again.
    async fn tables(&self, gate: &str) -> Result<Vec<String>, Trouble> {
        let told = match self.ask("htable.listTables", &[]).await {
            Err(Trouble::NoCommand(_)) => Value::Null,
            other => other?,
        };
        let text = |table: &Value, field: &str| table.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let stored = told.as_array().into_iter().flatten().filter(|table| !text(table, "dbtable").is_empty());
        Ok(stored.map(|table| text(table, "name")).filter(|name| name != gate).collect())
    }

    /// Makes it read the trunks again: all at once, or one by one where that was done a moment ago.
    async fn reload_trunks(&self, last: &mut Option<Instant>) -> Result<Option<String>, StepOutcome> {
        if self.registering().next().is_none() {
            return Ok(None);
        }
        if last.is_none_or(|last| last.elapsed() >= RELOAD_PAUSE) {
            // Also when its answer is lost: it may be under way.
            *last = Some(Instant::now());
            match self.ask("uac.reg_reload", &[]).await {
                Ok(_) => return Ok(Some("trunks".to_owned())),
                // "Failed to shift records": too soon after another. Asking again would only fill its log.
                Err(Trouble::Refused { line, .. }) if line.contains("shift") => {}
                Err(trouble) => return Err(trouble.outcome()),
            }
        }
        for name in self.registering() {
            match self.refresh(name).await {
                // That it has no such record is said by register_trunks.
                Ok(()) | Err(Trouble::Refused { .. }) => {}
                Err(trouble) => return Err(trouble.outcome()),
            }
        }
        Ok(Some("trunks (one by one: all at once only every reg_gc_interval)".to_owned()))
    }
}
