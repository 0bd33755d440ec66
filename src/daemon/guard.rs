//! `guard`: the question of one moment, asked from outside of the agent, as `ExecCondition=` of the primary's PBX unit.
//!
//! It never waits: one question to the master, one to the agent, both bounded. What it saw and what it denied is
//! remembered, so that the agent, or the timer's `guard --retry`, starts the PBX as soon as it may serve.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::primary::start_pbx;
use super::world::{World, epoch_store};
use crate::adapters::pbx::Resident;
use crate::config::{Config, Driver, Role};
use crate::control::client::Client;
use crate::host::{clock, tls};
use crate::primary::{AgentRuns, Answer, Forced, HeldBack, guard};
use crate::store::PrimaryFile;
use crate::units::snapshot::Status;
use crate::units::{EpochRead, StepOutcome};

/// How long the master may take: systemd waits for us, and phones wait for systemd.
const MASTER_MAX: Duration = Duration::from_secs(5);
/// How long the agent on this host may take.
const AGENT_MAX: Duration = Duration::from_secs(2);

/// What is wanted of the guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardOrder {
    /// May the PBX start?
    Ask,
    /// Start it, if it was held back and may serve now.
    Retry,
    /// It may, by a person's word; the reason.
    Force(String),
}

/// May this node serve?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum May {
    /// It may.
    Serve,
    /// It must not.
    NotServe,
    /// It could not be found out, so it must not now.
    NotKnown,
}

/// The guard's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardReport {
    /// May this node serve?
    pub may: May,
    /// Why, in one line.
    pub because: String,
    /// For `--retry` and `--force`: what came of starting a PBX that was held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
}

impl GuardReport {
    fn new(answer: &Answer) -> Self {
        let may = match answer {
            Answer::MayServe(_) => May::Serve,
            Answer::MustNot(_) => May::NotServe,
            Answer::NotKnown(_) => May::NotKnown,
        };
        Self { may, because: answer.because().to_owned(), start: None }
    }
}

/// Asks, and remembers what was answered.
pub async fn ask(config: Config, order: GuardOrder) -> GuardReport {
    tls::install_provider();
    let not_known = |because: String| GuardReport::new(&Answer::NotKnown(because));
    if config.role != Role::Primary {
        return not_known(format!(
            "{} is not the primary ({}): the guard belongs there",
            config.node, config.primary.node
        ));
    }
    let file = PrimaryFile::of(&config.state_dir);
    let memory = match file.read() {
        Ok(memory) => memory,
        Err(why) => return not_known(why),
    };
    if order == GuardOrder::Retry && (memory.held_back.is_none() || memory.planned_stop(clock::now().wall).is_some()) {
        let because = match memory.planned_stop_until {
            Some(until) => format!("a stop of the PBX is announced until {until}"),
            None => "the PBX was not held back, so there is nothing to start".to_owned(),
        };
        return GuardReport { may: May::Serve, because, start: None };
    }
    let (read, agent) = tokio::join!(read_epoch(&config), agent_runs(&config));
    // Anew: a silent master takes seconds, in which an agent that has just started has ruled what may be done without it.
    let memory = file.read().unwrap_or(memory);
    let now = clock::now().wall;
    let forced = match &order {
        // A word that stands without need would stand in the way later.
        GuardOrder::Force(_) if guard::needs_no_word(&read, &memory, &config.node, now) => None,
        GuardOrder::Force(reason) => Some(Forced {
            turn: read
                .as_ref()
                .ok()
                .and_then(|seen| seen.record())
                .map_or(0, |record| record.number)
                .max(memory.turn()),
            at: now,
            reason: reason.clone(),
        }),
        GuardOrder::Ask | GuardOrder::Retry => None,
    };
    let mut memory = memory;
    if forced.is_some() {
        memory.forced.clone_from(&forced);
    }
    let answer = guard::guard(&read, &memory, &config.node, &agent, now);
    let written = file.update(|memory| {
        if let Ok(seen) = &read
            && let Some(record) = seen.record().filter(|record| record.number > memory.turn())
        {
            memory.seen = Some(record.clone());
        }
        if forced.is_some() {
            memory.forced = forced;
        }
        if order == GuardOrder::Ask && !matches!(answer, Answer::MayServe(_)) && memory.held_back.is_none() {
            memory.held_back = Some(HeldBack { since: now, because: answer.because().to_owned() });
        }
    });
    if let Err(why) = written {
        // Denied or not stays as it is; only the timer will not know of it.
        tracing::error!(why, "the guard's answer could not be remembered");
        if matches!(order, GuardOrder::Force(_)) {
            return not_known(format!("a person's word could not be recorded: {why}"));
        }
    }
    let mut report = GuardReport::new(&answer);
    let starts = matches!(order, GuardOrder::Retry | GuardOrder::Force(_)) && memory.held_back.is_some();
    // The built-in PBX lives in the agent, which starts it.
    if starts && report.may == May::Serve && !matches!(config.pbx.driver, Driver::Builtin(_)) {
        report.start = Some(start(config, &file).await);
    }
    report
}

async fn read_epoch(config: &Config) -> EpochRead {
    let store = epoch_store(config);
    tokio::time::timeout(MASTER_MAX, store.read())
        .await
        .unwrap_or_else(|_| Err(format!("the master does not answer within {} s", MASTER_MAX.as_secs())))
}

async fn agent_runs(config: &Config) -> AgentRuns {
    let ask = async {
        let client = Client::new(&config.control).map_err(|error| error.to_string())?;
        client.get::<Status>("/v1/status").await.map_err(|error| error.to_string())
    };
    match tokio::time::timeout(AGENT_MAX, ask).await {
        Ok(Ok(status)) if is_fresh(&status) => AgentRuns::Fresh,
        Ok(Ok(_)) => AgentRuns::Yes,
        Ok(Err(why)) => AgentRuns::No(why),
        Err(_) => AgentRuns::No(format!("no answer within {} s", AGENT_MAX.as_secs())),
    }
}

/// Whether the agent tells that it has not read the record since its start.
fn is_fresh(status: &Status) -> bool {
    status.pairs.iter().filter_map(|pair| pair.duty.as_ref()).any(|duty| !duty.epoch_was_read)
}

async fn start(config: Config, file: &PrimaryFile) -> String {
    let world = match World::build(config, &Resident::default()) {
        Ok(world) => world,
        Err(why) => return format!("the PBX cannot be started: {why}"),
    };
    match start_pbx(&world).await {
        StepOutcome::Done(proof) => {
            // The agent would see it serve, too; without one nobody else would.
            let _ = file.update(|memory| memory.held_back = None);
            format!("the PBX is started: {proof}")
        }
        other => format!("the PBX does not start: {}", other.text()),
    }
}
