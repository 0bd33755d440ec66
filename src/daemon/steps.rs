//! Carries one step out in the world that its plan began with, and reports what came of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::CheckTarget;
use crate::data::ledger::Live;
use crate::engine::{Ask, Event, Order, StepReport};
use crate::host::command;
use crate::ports::{FenceOrder, Keep, Load};
use crate::store::{DeliveryState, DeliveryStatus, Store};
use crate::units::names::{Redirect, Redirected, Verified};
use crate::units::{
    Advance, EpochRead, EpochRecord, EpochSeen, EventName, Mode, PlanId, PlanKind, ProbeAnswer, Step, StepOutcome,
    StopOrder, Whose,
};

use super::data::secure;
use super::home;
use super::messages::ACTION_URL;
use super::sync;
use super::watch::known_record;
use super::world::World;

/// The fact under which the records' last verified values are kept.
const VERIFIED_FACT: &str = "dns_verified";
/// Whether the PBX at home runs is seen within so long.
const AT_HOME_MAX: Duration = Duration::from_secs(1);
/// `sync.stop`, `sync.start` and `failback.start_primary` may take so long.
pub const COMMAND_MAX: Duration = Duration::from_secs(60);
/// So low is a TTL before a failback.
const LOW_TTL_S: u32 = 5;
/// One wait for messages to be answered; then the step is looked at again.
const MESSAGES_WAIT: Duration = Duration::from_secs(60);

/// What a step needs besides its order.
#[derive(Clone)]
pub struct Hands {
    /// The world of its plan.
    pub world: Arc<World>,
    /// Where facts and messages are kept.
    pub store: Store,
    /// Bumped when an answer to a message was recorded.
    pub news: watch::Receiver<u64>,
}

/// Carries out an [`Ask::Step`]; `None` for any other ask.
pub async fn carry_out(hands: Hands, ask: Ask) -> Option<Event> {
    let Ask::Step { plan, kind, step, attempt, mode, order } = ask else { return None };
    let (outcome, seen) = match (step, order) {
        (Step::Claim | Step::HandOver, Order::Swap { from, to }) => swap(&hands, from, to).await,
        (Step::Claim | Step::HandOver, _) => match read_epoch(&hands).await {
            Ok(seen) => (StepOutcome::failed("read"), Some(seen)),
            Err(why) => (StepOutcome::Unknown(why), None),
        },
        (step, order) => (act(&hands, plan, (kind, step, attempt), mode, order).await, None),
    };
    Some(Event::Step(StepReport { plan, step, attempt, mode, outcome, seen }))
}

/// What is reported of a step whose work ended without an answer.
pub fn lost(ask: &Ask) -> Option<Event> {
    let Ask::Step { plan, step, attempt, mode, .. } = ask else { return None };
    let outcome = StepOutcome::unknown("its work ended without an answer, which is a fault of this program");
    Some(Event::Step(StepReport { plan: *plan, step: *step, attempt: *attempt, mode: *mode, outcome, seen: None }))
}

/// Reads the epoch record; one whose name was changed and not accepted counts as unreadable.
pub async fn read_epoch(hands: &Hands) -> EpochRead {
    known_record(&hands.world.config, &hands.store).await?;
    hands.world.epoch.read().await
}

/// Swaps the epoch record, under the same condition.
pub async fn advance_epoch(hands: &Hands, from: &EpochSeen, to: &EpochRecord) -> Advance {
    match known_record(&hands.world.config, &hands.store).await {
        Ok(()) => hands.world.epoch.advance(from, to).await,
        Err(why) => Advance::Unknown(why),
    }
}

async fn swap(hands: &Hands, from: EpochSeen, to: EpochRecord) -> (StepOutcome, Option<EpochSeen>) {
    match advance_epoch(hands, &from, &to).await {
        Advance::Done => (StepOutcome::done(to.to_string()), Some(EpochSeen::held(to))),
        Advance::Lost(seen) => {
            let who = seen.record().map_or_else(|| "nobody".to_owned(), ToString::to_string);
            (StepOutcome::Refused(format!("another value stands there: {who}")), Some(seen))
        }
        Advance::Unknown(why) => (StepOutcome::Unknown(why), None),
    }
}

async fn act(
    hands: &Hands,
    plan: PlanId,
    (kind, step, attempt): (PlanKind, Step, u32),
    mode: Mode,
    order: Order,
) -> StepOutcome {
    let world = &*hands.world;
    match step {
        Step::StopPrimary => stop_primary(world, plan, order).await,
        Step::Fence => {
            let epoch = if let Order::Turn(turn) = order { turn } else { None };
            world.fence.fence(&FenceOrder { plan, epoch }, mode).await
        }
        Step::SecureData => {
            let secured = secure_data(world, plan, attempt).await;
            sync::served(world, home::baseline::after(secured, &world.config, plan).await).await
        }
        Step::Reload => {
            let load = if order == Order::ServedBefore { Load::Again } else { Load::First };
            world.pbx.reload(mode, load).await
        }
        Step::AcceptRegistrations => world.pbx.accept_registrations(mode).await,
        Step::RegisterTrunks => world.pbx.register_trunks(mode).await,
        Step::RedirectDns => redirect(hands, mode, order).await,
        Step::LowerTtl => lower_ttl(hands, order).await,
        Step::ActionUrls | Step::Notify => messages(hands, plan, step, mode, &order).await,
        Step::ReturnData => home::first(&world.config).await,
        Step::ReturnDelta => home::delta(&world.config, at_home(world).await).await,
        Step::ReturnRest => home::rest(&world.config).await,
        Step::Drain => world.pbx.drain().await,
        Step::UnregisterTrunks => world.pbx.unregister_trunks().await,
        Step::StopAccepting if kind == PlanKind::Failback => world.pbx.stop_accepting().await,
        Step::StopAccepting => world.pbx.passive().await,
        Step::PrimaryServes => start_primary(world).await,
        Step::StartSync => sync::start(world, &|| true).await,
        Step::Confirm | Step::Preflight | Step::Claim | Step::HandOver => {
            StepOutcome::failed("this step is judged by the engine, which is a fault of this program")
        }
    }
}

/// Asks the primary's agent to drain and stop its PBX; what it refuses ends the switchover.
async fn stop_primary(world: &World, plan: PlanId, order: Order) -> StepOutcome {
    let reason = if let Order::StopPrimary(reason) = order { reason } else { String::new() };
    let drain_s = world.config.failback.drain.as_secs();
    // It is asked again and again while the plan runs; when this robot dies, the stop ends by itself.
    let order = StopOrder { plan, drain_s, for_s: world.config.pbx.give_up_after.as_secs(), reason };
    match world.peer.stop(&order).await {
        StepOutcome::Failed(why) => StepOutcome::Refused(why),
        other => other,
    }
}

/// Runs one of the commands of the settings.
pub async fn run(world: &World, key: &str, argv: &[String], limit: Duration) -> StepOutcome {
    if argv.is_empty() {
        return StepOutcome::done(format!("{key} is not set"));
    }
    let config = &world.config;
    let directories: Vec<_> = config.pbx.working_dirs.iter().map(|dir| dir.display().to_string()).collect();
    let env = [
        ("PBX_FAILOVER_NODE".to_owned(), config.node.to_string()),
        ("PBX_FAILOVER_PRIMARY".to_owned(), config.primary.address().to_string()),
        ("PBX_FAILOVER_WORKING_DIR".to_owned(), directories.join(":")),
    ];
    let end = command::run(argv, &env, limit).await;
    let line = format!("{key}: {}", end.line());
    match end {
        command::CommandEnd::TimedOut => StepOutcome::Unknown(line),
        _ if end.succeeded() => StepOutcome::Done(line),
        _ => StepOutcome::Failed(line),
    }
}

/// Starts the primary; its votes prove the rest.
async fn start_primary(world: &World) -> StepOutcome {
    run(world, "failback.start_primary", &world.config.failback.start_primary, COMMAND_MAX).await
}

/// Whether a database at home may be replaced: not under a PBX that a check sees up there, whoever started it.
async fn at_home(world: &World) -> Live {
    let failback = &world.config.failback;
    if failback.start_primary.is_empty() || failback.return_to.is_none() {
        return Live::Beside;
    }
    let checks = world.checks.iter().zip(&world.config.monitor.checks);
    // A web server of its own may run without the PBX, and a heartbeat stays here for a while after its writer is gone.
    let sip = checks.filter(|(_, check)| matches!(check.target, CheckTarget::Sip { .. } | CheckTarget::Tcp { .. }));
    // Nobody serves meanwhile: what is silent for so long does not run.
    let answers = sip.map(async |((_, probe), _)| timeout(AT_HOME_MAX, probe.ask()).await.map(|reply| reply.answer));
    let is_down = |answer: &Result<ProbeAnswer, _>| matches!(answer, Ok(ProbeAnswer::Down(_)) | Err(_));
    // Without such a check it is the person's word.
    if join_all(answers).await.iter().all(is_down) { Live::Replaces } else { Live::Beside }
}

/// Waits for the end of what the sync is bringing, stops it, then secures what it has brought.
async fn secure_data(world: &World, plan: PlanId, attempt: u32) -> StepOutcome {
    let settle = world.config.sync.settle;
    if is_own(world, plan).await {
        return secure::own(&*world.gate, settle, (plan, attempt), sync::stop(world).await).await;
    }
    // Stopped in the midst of its work it would leave half of it.
    let waited = secure::wait_for_quiet(&*world.gate, settle, attempt).await;
    let stopped = sync::stop(world).await;
    secure::data(&*world.gate, settle, (plan, attempt), (waited, stopped)).await
}

/// Whether this node served with what lies here, and nothing was brought since.
async fn is_own(world: &World, plan: PlanId) -> bool {
    match world.sync.whose().await {
        // A sync that nobody told of brings heartbeats too.
        Whose::Ours(since) => !world.gate.look(Keep::ForATakeover).await.has_beat_after(since),
        Whose::Brought => home::goes_on(&world.config, plan).await,
    }
}

/// The records' last verified values, as the store keeps them.
pub async fn verified(store: &Store) -> Verified {
    let fact = store.fact(VERIFIED_FACT.to_owned()).await.ok().flatten();
    fact.and_then(|fact| serde_json::from_value(fact).ok()).unwrap_or_default()
}

async fn redirect(hands: &Hands, mode: Mode, order: Order) -> StepOutcome {
    let Order::Names { to, epoch_raw } = order else { return StepOutcome::failed("no order for DNS") };
    let mut last_verified = verified(&hands.store).await;
    let order = Redirect { to, mode, epoch_raw, last_verified: last_verified.clone() };
    let Redirected { outcome, verified, .. } = hands.world.names.redirect(&order).await;
    if !verified.is_empty() {
        last_verified.extend(verified);
        if let Ok(fact) = serde_json::to_value(&last_verified) {
            // Without it the next move compares with an older value, and stops rather than overwrites.
            if let Err(trouble) = hands.store.put_fact(VERIFIED_FACT.to_owned(), &fact).await {
                tracing::warn!(%trouble, "the verified records could not be remembered");
            }
        }
    }
    outcome
}

async fn lower_ttl(hands: &Hands, order: Order) -> StepOutcome {
    let Order::Names { to, epoch_raw } = order else { return StepOutcome::failed("no order for DNS") };
    let last_verified = verified(&hands.store).await;
    let order = Redirect { to, mode: Mode::Act, epoch_raw, last_verified };
    let outcome = hands.world.names.lower_ttl(&order, LOW_TTL_S).await;
    let StepOutcome::Done(proof) = outcome else { return outcome };
    let records = hands.world.config.dns.updates.iter().flat_map(|update| &update.records);
    let longest = records.map(|record| record.ttl_s.get()).max().unwrap_or_default();
    tokio::time::sleep(Duration::from_secs(longest.into())).await;
    StepOutcome::done(format!("{proof}; waited {longest} s"))
}

/// The messages of a plan: queued with the step's own record, sent by the outbox, proved by their recorded answers.
async fn messages(hands: &Hands, plan: PlanId, step: Step, mode: Mode, order: &Order) -> StepOutcome {
    let Order::Messages(event) = order else { return StepOutcome::failed("no order for messages") };
    let mut news = hands.news.clone();
    let deadline = tokio::time::Instant::now() + MESSAGES_WAIT;
    loop {
        news.borrow_and_update();
        let outcome = match of_plan(&hands.store, plan, *event, step).await {
            Ok(states) => judge_messages(&states),
            Err(why) => StepOutcome::Unknown(why),
        };
        let waits = matches!(outcome, StepOutcome::Failed(_));
        if mode == Mode::Look || !waits || tokio::time::Instant::now() >= deadline {
            return outcome;
        }
        let _ = tokio::time::timeout_at(deadline, news.changed()).await;
    }
}

async fn of_plan(store: &Store, plan: PlanId, event: EventName, step: Step) -> Result<Vec<DeliveryStatus>, String> {
    let all = store.deliveries_of(format!("{plan}:{event}:")).await.map_err(|trouble| trouble.to_string())?;
    let wanted = step == Step::ActionUrls;
    Ok(all.into_iter().filter(|d| d.target.0.starts_with(ACTION_URL) == wanted).collect())
}

fn judge_messages(states: &[DeliveryStatus]) -> StepOutcome {
    if states.is_empty() {
        return StepOutcome::failed("not queued yet");
    }
    let (mut said, mut waits, mut rejected) = (Vec::new(), 0, 0);
    for status in states {
        said.push(match &status.state {
            DeliveryState::Accepted(proof) => format!("{}: {proof}", status.target),
            DeliveryState::Rejected(why) => {
                rejected += 1;
                format!("{}: {why}", status.target)
            }
            DeliveryState::Waiting { attempts, said } => {
                waits += 1;
                format!("{} waits after {attempts} attempts {said}", status.target)
            }
        });
    }
    let said = said.join("; ");
    match (waits, rejected) {
        (0, 0) => StepOutcome::Done(said),
        (0, _) => StepOutcome::Refused(said),
        _ => StepOutcome::Failed(said),
    }
}
