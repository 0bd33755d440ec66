//! Sends what is queued: in order per target, retried with back-off, recorded before the next is sent.
//!
//! A message whose answer is recorded is never sent again; one that was sent and not recorded is sent once more with
//! the same key, which is what the key is for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use crate::host::clock;
use crate::store::{Queued, Store};
use crate::units::{Delivery, DeliveryOutcome, Target};

use super::world::World;

/// First pause before a message is tried again; it doubles.
const BACK_OFF_FIRST: Duration = Duration::from_secs(1);
/// Longest pause.
const BACK_OFF_MAX: Duration = Duration::from_secs(600);
/// A notification is tried so often: some three days of a mail relay that is down.
const NOTIFICATION_TRIES: u32 = 450;
/// A message that could not be queued is tried so often: some minutes.
const UNQUEUED_TRIES: u32 = 8;
/// While nothing is due and nothing is said, the queue is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// After the store refused an answer.
const STORE_PAUSE: Duration = Duration::from_secs(5);

/// Sends for ever; ends when `worlds` is dropped. `news` is bumped by whoever queues something, and here after each
/// recorded answer.
pub async fn run(store: Store, worlds: watch::Receiver<Arc<World>>, news: watch::Sender<u64>) {
    let mut heard = news.subscribe();
    let mut under_way: JoinSet<()> = JoinSet::new();
    // The target of each task that sends; a task that dies of a fault still frees its target.
    let mut busy: BTreeMap<Id, Target> = BTreeMap::new();
    loop {
        heard.borrow_and_update();
        let pause = match store.next_due(clock::now().wall, busy.values().cloned().collect()).await {
            Ok(due) => {
                for queued in due.ready {
                    let target = queued.delivery.target.clone();
                    let world = Arc::clone(&worlds.borrow());
                    let task = under_way.spawn(send(store.clone(), world, news.clone(), queued));
                    busy.insert(task.id(), target);
                }
                due.next_at.map_or(LOOK_EVERY, until)
            }
            Err(_) => STORE_PAUSE,
        };
        tokio::select! {
            Some(ended) = under_way.join_next_with_id() => {
                busy.remove(&ended.map_or_else(|fault| fault.id(), |(id, ())| id));
            }
            changed = heard.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn until(next: jiff::Timestamp) -> Duration {
    Duration::try_from(next.duration_since(clock::now().wall)).unwrap_or_default().min(LOOK_EVERY)
}

async fn send(store: Store, world: Arc<World>, news: watch::Sender<u64>, queued: Queued) {
    let Queued { delivery, attempt } = queued;
    let outcome = deliver(&world, &delivery, attempt, tries(&world, &delivery.target)).await;
    let wall = clock::now().wall;
    let next = wall.checked_add(SignedDuration::try_from(back_off(attempt)).unwrap_or_default()).unwrap_or(wall);
    // An answer that is not recorded is asked for again: the key stays the same.
    while store.record_delivery(delivery.key.clone(), outcome.clone(), attempt, next).await.is_err() {
        tokio::time::sleep(STORE_PAUSE).await;
    }
    news.send_modify(|n| *n += 1);
}

/// Sends a message that the store could not take, from memory: it is lost when the robot ends before it is accepted.
pub async fn send_unqueued(world: Arc<World>, delivery: Delivery) {
    for attempt in 1..=UNQUEUED_TRIES {
        match deliver(&world, &delivery, attempt, UNQUEUED_TRIES).await {
            DeliveryOutcome::Retry(_) => tokio::time::sleep(back_off(attempt)).await,
            DeliveryOutcome::Accepted(_) | DeliveryOutcome::Rejected(_) => return,
        }
    }
}

fn back_off(attempt: u32) -> Duration {
    BACK_OFF_FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(BACK_OFF_MAX)
}

async fn deliver(world: &World, delivery: &Delivery, attempt: u32, tries: u32) -> DeliveryOutcome {
    let outcome = match world.couriers.get(&delivery.target) {
        Some(courier) => courier.deliver(delivery).await,
        None => DeliveryOutcome::Rejected(format!("{} is not configured any more", delivery.target)),
    };
    let outcome = match outcome {
        DeliveryOutcome::Retry(why) if attempt >= tries => {
            DeliveryOutcome::Rejected(format!("given up after {attempt} attempts: {why}"))
        }
        other => other,
    };
    match &outcome {
        DeliveryOutcome::Accepted(proof) => {
            tracing::debug!(target = %delivery.target, event = %delivery.event, attempt, proof, "message accepted");
        }
        DeliveryOutcome::Retry(why) | DeliveryOutcome::Rejected(why) => {
            tracing::warn!(target = %delivery.target, event = %delivery.event, attempt, why, "message not accepted");
        }
    }
    outcome
}

fn tries(world: &World, target: &Target) -> u32 {
    let config = &world.config;
    let requests = config.action_urls.iter().map(|url| (format!("action-url:{}", url.name), url.retries));
    let named = requests.into_iter().find(|(name, _)| *name == target.0);
    named.map_or(NOTIFICATION_TRIES, |(_, retries)| retries + 1)
}
