//! Tells what the robot says of itself: its checks, its verdict, each transition and each step with its proof.
//!
//! It only asks the control socket, as `pbx-failover status` and `history` do.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::Mood;
use crate::control::client::Client;
use crate::units::journal::HistoryEvent;
use crate::units::snapshot::{Pair, PlanStep, Status};
use crate::units::{PlanId, Step, StepState, Verdict};

/// What the robot says: when it happened, where it tells that, and what.
pub struct Said {
    /// When; now, where it does not tell.
    pub at: Option<Timestamp>,
    /// How it is meant.
    pub mood: Mood,
    /// What.
    pub what: String,
}

/// As much of a proof as fits a line.
const PROOF_CHARS_MAX: usize = 160;

/// What was told so far.
pub struct Watch {
    client: Client,
    /// When the last transition was that was told.
    since: Timestamp,
    /// How many were told of that very time.
    told_since: usize,
    verdict: Option<Verdict>,
    checks: BTreeMap<String, String>,
    steps: HashSet<(PlanId, Step, StepState)>,
    /// What the robot said last.
    pub pair: Option<Pair>,
}

impl Watch {
    /// Of the robot at this control socket; what happened before `since` is not told.
    ///
    /// # Errors
    /// One line.
    pub fn new(control: &Path, since: Timestamp) -> Result<Self, String> {
        let client = Client::new(control).map_err(|error| error.to_string())?;
        let (checks, steps) = (BTreeMap::new(), HashSet::new());
        Ok(Self { client, since, told_since: 0, verdict: None, checks, steps, pair: None })
    }

    /// The client, for a person's commands.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Asks once; gives what is new. A robot that does not answer has nothing new.
    pub async fn look(&mut self) -> Vec<Said> {
        let Ok(Status { mut pairs, .. }) = self.client.get::<Status>("/v1/status").await else { return Vec::new() };
        if pairs.is_empty() {
            return Vec::new();
        }
        let pair = pairs.remove(0);
        let mut lines = self.checks(&pair);
        lines.extend(self.transitions().await);
        lines.extend(self.steps(&pair));
        self.pair = Some(pair);
        lines
    }

    fn checks(&mut self, pair: &Pair) -> Vec<Said> {
        let mut lines = Vec::new();
        for check in &pair.checks {
            let before = self.checks.insert(check.name.clone(), check.verdict.clone());
            let seen = check.last.as_ref().and_then(|last| last.error.as_ref().or(last.seen.as_ref()));
            let seen = seen.map(String::as_str).unwrap_or_default();
            let mood = match check.verdict.as_str() {
                verdict if before.as_deref() == Some(verdict) => continue,
                "down" => Mood::Bad,
                "up" => Mood::Good,
                _ => continue,
            };
            let at = check.last.as_ref().map(|last| last.at);
            lines.push(Said { at, mood, what: format!("check {} is {}: {seen}", check.name, check.verdict) });
        }
        if let Some(verdict) = pair.verdict.filter(|verdict| self.verdict != Some(*verdict)) {
            self.verdict = Some(verdict);
            let mood = if verdict == Verdict::PrimaryUp { Mood::Good } else { Mood::Plain };
            let what = format!("verdict {verdict}: {}", pair.verdict_because.as_deref().unwrap_or_default());
            lines.push(Said { at: None, mood, what });
        }
        lines
    }

    async fn transitions(&mut self) -> Vec<Said> {
        let path = format!("/v1/history?order=oldest&limit=100&kind=transition&since={}", self.since);
        let Ok(events) = self.client.get::<Vec<HistoryEvent>>(&path).await else { return Vec::new() };
        let new = events.iter().skip(self.told_since);
        let line = |event: &HistoryEvent| {
            let row = event.row.map(|row| format!(" (row {row})")).unwrap_or_default();
            let what = format!("{}{row}: {}", event.what, event.because);
            Said { at: Some(event.at), mood: Mood::Plain, what }
        };
        let lines = new.map(line).collect();
        if let Some(last) = events.last() {
            self.since = last.at;
            // The store compares microseconds.
            let is_same = |event: &&HistoryEvent| event.at.as_microsecond() == last.at.as_microsecond();
            self.told_since = events.iter().filter(is_same).count();
        }
        lines
    }

    fn steps(&mut self, pair: &Pair) -> Vec<Said> {
        let Some(plan) = &pair.plan else { return Vec::new() };
        // What is not configured is passed over, and has no proof to tell.
        let ended =
            |step: &&PlanStep| !matches!(step.state, StepState::Pending | StepState::Running | StepState::Skipped);
        let mut lines = Vec::new();
        for step in plan.steps.iter().filter(ended) {
            if self.steps.insert((plan.id, step.name, step.state)) {
                let took = step.elapsed_ms.and_then(|ms| i64::try_from(ms).ok()).map(SignedDuration::from_millis);
                let ms = step.elapsed_ms.map(|ms| format!(" in {ms} ms")).unwrap_or_default();
                let said = step.proof.as_ref().or(step.error.as_ref()).map(String::as_str).unwrap_or_default();
                let said = shortened(said);
                let mood = if step.state == StepState::Done { Mood::Good } else { Mood::Bad };
                let at = step.started.and_then(|at| at.checked_add(took.unwrap_or_default()).ok());
                lines.push(Said { at, mood, what: format!("{} {}{ms}: {said}", step.name, step.state.name()) });
            }
        }
        lines
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(PROOF_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
