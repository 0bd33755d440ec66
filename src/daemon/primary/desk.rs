//! Answers people at the control socket, and the backup at the agent's door, through the loop.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use tokio::sync::{mpsc, oneshot, watch};

use super::seen::Seen;
use super::turn::Input;
use crate::control::{AgentDesk, Desk, Preview};
use crate::daemon::trunks;
use crate::daemon::world::World;
use crate::host::clock;
use crate::ports::Answer;
use crate::primary::Event;
use crate::store::Store;
use crate::units::journal::{HistoryEvent, HistoryQuery};
use crate::units::operator::{Command, PAUSE_MAX, Reply, Request};
use crate::units::snapshot::{Explanation, Pair, Status};
use crate::units::{Beat, Duty, Heard, PlanId, PlanKind, Serving, StepOutcome, StopOrder};

/// The agent's desk.
pub struct PrimaryDesk {
    inputs: mpsc::Sender<Input>,
    worlds: watch::Receiver<Arc<World>>,
    store: Store,
    seen: Seen,
}

impl PrimaryDesk {
    /// A desk before this loop.
    pub fn new(inputs: mpsc::Sender<Input>, worlds: watch::Receiver<Arc<World>>, store: Store, seen: Seen) -> Self {
        Self { inputs, worlds, store, seen }
    }

    /// Asks the loop; when it is gone, waits for ever: the server's time-out says so.
    async fn ask<T>(&self, input: impl FnOnce(oneshot::Sender<T>) -> Input) -> T {
        let (answer, answered) = oneshot::channel();
        if self.inputs.send(input(answer)).await.is_ok()
            && let Ok(value) = answered.await
        {
            return value;
        }
        std::future::pending().await
    }

    async fn pair(&self) -> Pair {
        let mut pair = self.ask(Input::Look).await;
        pair.queued_deliveries = self.store.deliveries_waiting().await.unwrap_or_default();
        pair
    }

    async fn tell(&self, event: Event) {
        let _ = self.inputs.send(Input::Heard(event)).await;
    }

    fn elsewhere(&self) -> String {
        let config = &self.worlds.borrow().config;
        let (node, backup) = (&config.node, &config.backup.node);
        format!(
            "{node} is the primary, whose agent runs no plan; give it on {backup}, where `pbx-failover failback` brings the service back to {node}"
        )
    }
}

impl Desk for PrimaryDesk {
    fn status(&self) -> Answer<'_, Status> {
        Box::pin(async { Status { version: env!("CARGO_PKG_VERSION").to_owned(), pairs: vec![self.pair().await] } })
    }

    fn explain(&self) -> Answer<'_, Explanation> {
        Box::pin(async {
            let pair = self.pair().await;
            explain(&pair)
        })
    }

    fn history(&self, query: HistoryQuery) -> Answer<'_, Result<Vec<HistoryEvent>, String>> {
        Box::pin(async { self.store.history(query).await.map_err(|trouble| trouble.to_string()) })
    }

    fn preview(&self, plan: PlanKind) -> Answer<'_, Result<Preview, String>> {
        Box::pin(async move {
            Ok(Preview {
                plan,
                steps: Vec::new(),
                without_service_s: None,
                carried_s: None,
                refused: Some(self.elsewhere()),
                stands_against: Vec::new(),
            })
        })
    }

    fn operate(&self, request: Request) -> Answer<'_, Reply> {
        Box::pin(async move {
            let by = if request.by.is_empty() { "a person" } else { &request.by };
            match request.command {
                Command::Pause { until } if too_long(until) => {
                    Reply::Refused(format!("an announced stop lasts at most {} days", PAUSE_MAX.as_secs() / 86_400))
                }
                Command::Pause { until } => {
                    tracing::info!(by, reason = request.reason, %until, "a stop of the PBX is announced");
                    self.tell(Event::PlannedStop(Some(until))).await;
                    Reply::Accepted(format!(
                        "a stop of the PBX on this host is announced until {until}: no reason to take over, once the backup has heard of it"
                    ))
                }
                Command::Unpause => {
                    self.tell(Event::PlannedStop(None)).await;
                    Reply::Accepted("no stop of the PBX is announced any more".to_owned())
                }
                Command::Ack => Reply::Accepted("no alarm is repeating here".to_owned()),
                Command::Takeover { .. }
                | Command::Failback { .. }
                | Command::Continue { .. }
                | Command::Abandon { .. } => Reply::Refused(self.elsewhere()),
            }
        })
    }

    fn serving(&self) -> Answer<'_, Serving> {
        Box::pin(async {
            let pair = self.ask(Input::Look).await;
            let may = pair.duty.is_some_and(|duty| duty.duty != Duty::Stop);
            match pair.pbx.and_then(|pbx| pbx.serving) {
                Some(true) if may => Serving::Yes,
                Some(_) => Serving::No,
                None => Serving::Unknown("the PBX does not tell".to_owned()),
            }
        })
    }

    fn alive(&self) -> Answer<'_, ()> {
        Box::pin(async {
            let _: Pair = self.ask(Input::Look).await;
        })
    }
}

/// Longer than any pause; with some grace, because the asker's clock was read earlier.
fn too_long(until: Timestamp) -> bool {
    let most = SignedDuration::try_from(PAUSE_MAX).unwrap_or(SignedDuration::MAX);
    until.duration_since(clock::now().wall) > most.saturating_add(SignedDuration::from_secs(1))
}

/// Why the PBX may serve, or not.
fn explain(pair: &Pair) -> Explanation {
    let node = &pair.node;
    let duty = pair.duty.as_ref();
    let because = duty.map(|duty| duty.because.clone()).unwrap_or_default();
    let answer = match duty.map(|duty| duty.duty) {
        Some(Duty::Serve) => format!("the PBX on {node} may serve: {because}"),
        Some(Duty::WithoutTrunks) => format!("the PBX on {node} serves its phones without trunks: {because}"),
        Some(Duty::Stop) => format!("the PBX on {node} must not serve: {because}"),
        Some(Duty::AsItIs) | None => format!("the PBX on {node} is left as it is: {because}"),
    };
    let mut inputs = Vec::new();
    if let Some(epoch) = &pair.epoch {
        inputs.push(match (&epoch.holder, epoch.number, &epoch.error) {
            (_, _, Some(error)) => format!("epoch: {error}"),
            (Some(holder), Some(number), None) => format!("epoch: service held by {holder} (turn {number})"),
            _ => "epoch: nobody ever claimed the service".to_owned(),
        });
    }
    inputs.extend(duty.map(|duty| format!("the epoch was not read for {} s", duty.epoch_unread_s)));
    inputs.extend(duty.and_then(|duty| duty.error.clone()));
    if let Some(pbx) = &pair.pbx {
        let serving = match pbx.serving {
            Some(true) => "serves",
            Some(false) => "does not serve",
            None => "does not tell whether it serves",
        };
        inputs.push(format!("PBX ({}) {serving}", pbx.driver));
        inputs.extend(trunks::explained(pbx));
    }
    let hints = match duty.map(|duty| duty.duty) {
        Some(Duty::Stop) => vec![
            "`pbx-failover failback` on the backup gives the service back; `pbx-failover guard --force --reason TEXT` here lets this node serve by your word".to_owned(),
        ],
        _ => Vec::new(),
    };
    Explanation { answer, inputs, blocks: Vec::new(), hints }
}

impl AgentDesk for PrimaryDesk {
    fn beat(&self, asker: Heard) -> Answer<'_, Beat> {
        Box::pin(async move {
            self.seen.note_backup(asker);
            self.ask(Input::Beat).await
        })
    }

    fn stop(&self, order: StopOrder) -> Answer<'_, StepOutcome> {
        Box::pin(async move {
            let plan = order.plan;
            self.tell(Event::StopAsked(order)).await;
            self.ask(|answer| Input::StopOutcome(plan, answer)).await
        })
    }

    fn resume(&self, plan: PlanId) -> Answer<'_, StepOutcome> {
        Box::pin(async move {
            self.tell(Event::Resume(plan)).await;
            StepOutcome::done("the stop is taken back")
        })
    }
}
