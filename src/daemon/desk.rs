//! Answers what is asked at the control socket, through the loop.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::control::{Desk, Preview, PreviewStep};
use crate::data::ledger::Pass;
use crate::ports::Answer;
use crate::store::Store;
use crate::takeover::{Intent, rows};
use crate::units::journal::{HistoryEvent, HistoryQuery};
use crate::units::operator::{Command, Reply, Request};
use crate::units::snapshot::{Explanation, Pair, Pbx, Status, Trunk};
use crate::units::{PbxStatus, PlanKind, Serving, State, Step, TrunkState};

use super::turn::{Input, Looking};
use super::watch::{Shared, seen};
use super::world::World;
use super::{data::held, home, settings, trunks};

/// The daemon's desk: every question goes through the loop, so that all see one state.
pub struct DaemonDesk {
    inputs: mpsc::Sender<Input>,
    worlds: watch::Receiver<Arc<World>>,
    store: Store,
    shared: Shared,
}

impl DaemonDesk {
    /// A desk before this loop.
    pub fn new(inputs: mpsc::Sender<Input>, worlds: watch::Receiver<Arc<World>>, store: Store, shared: Shared) -> Self {
        Self { inputs, worlds, store, shared }
    }

    /// Asks the loop; when it is gone, waits for ever: the server's time-out says so.
    async fn ask<T>(&self, looking: impl FnOnce(oneshot::Sender<T>) -> Input) -> T {
        let (answer, answered) = oneshot::channel();
        if self.inputs.send(looking(answer)).await.is_ok()
            && let Ok(value) = answered.await
        {
            return value;
        }
        std::future::pending().await
    }

    async fn pair(&self) -> Pair {
        let mut pair = self.ask(|answer| Input::Look(Looking::Pair(answer))).await;
        let seen = seen(&self.shared);
        let world = Arc::clone(&self.worlds.borrow());
        pair.pbx = Some(Pbx {
            expected_registrations: pair.pbx.and_then(|pbx| pbx.expected_registrations),
            ..pbx_snapshot(&world, seen.pbx.as_ref())
        });
        trunks::moved(&mut pair, &world.config, &self.store).await;
        pair.dns = seen.dns;
        pair.ledger = home::told::of(&world.config).await.ok().flatten();
        pair.held_back = held::look(&world.config).await;
        pair.queued_deliveries = self.store.deliveries_waiting().await.unwrap_or(seen.queued);
        pair
    }
}

/// The PBX on this node, for a snapshot.
pub(super) fn pbx_snapshot(world: &World, status: Option<&PbxStatus>) -> Pbx {
    let told = |name: &str| {
        let trunks = status.map(|status| status.trunks.as_slice()).unwrap_or_default();
        trunks.iter().find(|trunk| trunk.name == name).cloned()
    };
    let trunks = world.config.pbx.trunks.iter().map(|trunk| {
        let seen = told(&trunk.name);
        Trunk {
            name: trunk.name.clone(),
            kind: trunk.kind,
            state: seen.as_ref().map_or(TrunkState::Unknown, |seen| seen.state),
            sip_code: seen.as_ref().and_then(|seen| seen.sip_code),
            required: trunk.required,
            said: seen.as_ref().and_then(|seen| seen.said.clone()),
            foreign: seen.map(|seen| seen.foreign).unwrap_or_default(),
            moved: None,
        }
    });
    let (serving, error) = match status.map(|status| &status.serving) {
        Some(Serving::Yes) => (Some(true), status.and_then(|status| status.trouble.clone())),
        Some(Serving::No) => (Some(false), status.and_then(|status| status.trouble.clone())),
        Some(Serving::Unknown(why)) => (None, Some(why.clone())),
        None => (None, None),
    };
    Pbx {
        driver: world.pbx.driver().to_owned(),
        serving,
        registrations: status.and_then(|status| status.registrations),
        expected_registrations: None,
        calls: status.and_then(|status| status.calls),
        trunks: trunks.collect(),
        error,
    }
}

impl Desk for DaemonDesk {
    fn status(&self) -> Answer<'_, Status> {
        Box::pin(async { Status { version: env!("CARGO_PKG_VERSION").to_owned(), pairs: vec![self.pair().await] } })
    }

    fn explain(&self) -> Answer<'_, Explanation> {
        Box::pin(async {
            let mut explanation = self.ask(|answer| Input::Look(Looking::Explain(answer))).await;
            let world = Arc::clone(&self.worlds.borrow());
            let pbx = pbx_snapshot(&world, seen(&self.shared).pbx.as_ref());
            explanation.inputs.extend(trunks::explained(&pbx));
            explanation
        })
    }

    fn history(&self, query: HistoryQuery) -> Answer<'_, Result<Vec<HistoryEvent>, String>> {
        Box::pin(async { self.store.history(query).await.map_err(|trouble| trouble.to_string()) })
    }

    fn preview(&self, plan: PlanKind) -> Answer<'_, Result<Preview, String>> {
        Box::pin(async move {
            let command = match plan {
                PlanKind::Takeover => {
                    Command::Takeover { primary_is_stopped: false, although_cut_off: false, without_claim: false }
                }
                PlanKind::Failback => Command::Failback { wait: false, cut_calls: false, undo: false },
                other => return Err(format!("a {other} is not asked for by a person")),
            };
            let refused = self.ask(|answer| Input::Look(Looking::WouldRefuse(command, answer))).await;
            let pair = self.ask(|answer| Input::Look(Looking::Pair(answer))).await;
            let serves = pair.checks.iter().any(|check| check.kind != "heartbeat" && check.verdict == "up");
            let against = if plan == PlanKind::Takeover { pair.stands_against } else { Vec::new() };
            let heard = pair.peer.is_some_and(|peer| peer.contact == "heard");
            let intent = Intent { switchover: serves && heard, ..Intent::default() };
            let world = Arc::clone(&self.worlds.borrow());
            let carried = if plan == PlanKind::Failback { home::preview::of(&world.config).await } else { None };
            Ok(Preview { stands_against: against, ..preview(&world, plan, refused, &intent, carried.as_ref()) })
        })
    }

    fn operate(&self, request: Request) -> Answer<'_, Reply> {
        Box::pin(self.ask(|answer| Input::Asked(request, answer)))
    }

    fn serving(&self) -> Answer<'_, Serving> {
        Box::pin(async {
            let pair = self.ask(|answer| Input::Look(Looking::Pair(answer))).await;
            // In failing-back the phones are here until the PBX is stopped.
            let stopped = pair.plan.as_ref().is_some_and(|plan| {
                plan.steps.iter().any(|s| s.name == Step::StopAccepting && s.state != crate::units::StepState::Pending)
            });
            let giving_back = pair.plan.as_ref().is_some_and(|plan| plan.name == PlanKind::Failback);
            // The PBX was asked some seconds ago at most. One that says that it does not serve must get no phones.
            let is_silent = seen(&self.shared).pbx.is_some_and(|pbx| pbx.serving == Serving::No);
            match pair.state {
                State::Active if is_silent => Serving::No,
                State::Active => Serving::Yes,
                State::FailingBack | State::Halted if giving_back && !stopped => Serving::Yes,
                _ => Serving::No,
            }
        })
    }

    fn alive(&self) -> Answer<'_, ()> {
        Box::pin(async {
            let _: Pair = self.ask(|answer| Input::Look(Looking::Pair(answer))).await;
        })
    }
}

/// What a plan would do here, step by step.
fn preview(
    world: &World,
    plan: PlanKind,
    refused: Option<String>,
    intent: &Intent,
    carried: Option<&home::preview::Preview>,
) -> Preview {
    let configured = settings::of(&world.config).configured;
    let told = |step| match carried.zip(pass_of(step)) {
        Some((carried, pass)) => format!(": {}, {}", carried.text(pass), carried.because()),
        None => String::new(),
    };
    let steps = rows(plan).iter().map(|row| {
        let skipped = configured.skips(plan, row.step, intent);
        PreviewStep {
            name: row.step,
            does: skipped
                .map_or_else(|| does(world, plan, row.step) + &told(row.step), |why| format!("passed over: {why}")),
            seconds: carried.zip(pass_of(row.step)).filter(|_| skipped.is_none()).map(|(c, pass)| c.seconds(pass)),
        }
    });
    // Nobody serves from the PBX's stop to the primary's votes: the last delta and the wait are its bounds.
    let failback = &world.config.failback;
    let delta = if configured.return_data { failback.return_limit } else { std::time::Duration::ZERO };
    let silent = (plan == PlanKind::Failback).then(|| delta + failback.wait_for_primary);
    Preview {
        plan,
        steps: steps.collect(),
        carried_s: carried.filter(|_| configured.return_data).map(|carried| carried.seconds(Pass::Delta)),
        without_service_s: silent.and_then(|silent| u32::try_from(silent.as_secs()).ok()),
        refused,
        stands_against: Vec::new(),
    }
}

/// Which part of the way home a step is.
fn pass_of(step: Step) -> Option<Pass> {
    match step {
        Step::ReturnData => Some(Pass::First),
        Step::ReturnDelta => Some(Pass::Delta),
        Step::ReturnRest => Some(Pass::Rest),
        _ => None,
    }
}

fn does(world: &World, plan: PlanKind, step: Step) -> String {
    let config = &world.config;
    let (node, peer) = (&config.node, &config.host(config.side.other()).node);
    let side = if plan == PlanKind::Takeover { node } else { peer };
    let records = config.dns.updates.iter().flat_map(|update| &update.records);
    match step {
        Step::Confirm => format!("ask the Internet and the checks of {peer} once more"),
        Step::Claim => format!("write into the epoch record that {node} holds the service"),
        Step::StopPrimary => format!("have the agent of {peer} wait for the end of calls and stop its PBX"),
        Step::Fence => format!("cut {peer} off"),
        Step::SecureData => "stop the inbound sync and wait until the working directory is quiet".to_owned(),
        Step::Reload => format!("make the PBX run the working directory (driver {})", world.pbx.driver()),
        Step::AcceptRegistrations => "ask our own SIP port until it answers".to_owned(),
        Step::RegisterTrunks => {
            format!("register {} trunks", config.pbx.trunks.iter().filter(|trunk| trunk.required).count())
        }
        Step::RedirectDns => {
            let names: Vec<_> = records.map(|record| format!("{} {}", record.name, record.rtype)).collect();
            format!("point {} at {side}", names.join(", "))
        }
        Step::ActionUrls => format!("fire the ActionURLs that listen to {plan}"),
        Step::Notify => "tell people".to_owned(),
        Step::Preflight => format!("see that {peer} answers"),
        Step::ReturnData => "carry home what changed here, while this node serves".to_owned(),
        Step::LowerTtl => "lower the records' TTL and wait the old one out".to_owned(),
        Step::Drain => format!("wait for a moment without calls, at most {} s", config.failback.drain.as_secs()),
        Step::UnregisterTrunks => "give the trunks up".to_owned(),
        Step::StopAccepting => "make this PBX passive, and see that it is".to_owned(),
        Step::ReturnDelta => {
            format!("carry home what changed since, at most {} s", config.failback.return_limit.as_secs())
        }
        Step::ReturnRest => "carry home recordings, what is large, and what was left".to_owned(),
        Step::HandOver => format!("write into the epoch record that {peer} holds the service"),
        Step::StartSync => "let the sync bring files here again".to_owned(),
        Step::PrimaryServes => format!(
            "see every check of {peer} up within {} s, or take the service back",
            config.failback.wait_for_primary.as_secs()
        ),
    }
}
