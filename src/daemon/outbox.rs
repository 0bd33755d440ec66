//! Sends what is queued: in order per target, retried with back-off, recorded before the next is sent.
//!
//! A message whose answer is recorded is never sent again; one that was sent and not recorded is sent once more with
//! the same key, which is what the key is for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::host::{clock, guarded};
use crate::store::{Queued, Store};
use crate::units::{Delivery, DeliveryOutcome, EventName, Target};

use super::messages::ACTION_URL;
use super::world::World;

/// First pause before a message is tried again; it doubles.
const BACK_OFF_FIRST: Duration = Duration::from_secs(1);
/// Longest pause.
const BACK_OFF_MAX: Duration = Duration::from_secs(600);
/// A notification is tried so often: some three days of a mail relay that is down.
const NOTIFICATION_TRIES: u32 = 450;
/// While nothing is due and nothing is said, the queue is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// After the store refused an answer.
const STORE_PAUSE: Duration = Duration::from_secs(5);

/// Sends for ever. `news` is bumped by whoever queues something, and here after each recorded answer.
pub async fn run(store: Store, worlds: watch::Receiver<Arc<World>>, news: watch::Sender<u64>) {
    let mut heard = news.subscribe();
    let mut under_way: JoinSet<Target> = JoinSet::new();
    let mut busy: BTreeSet<Target> = BTreeSet::new();
    loop {
        heard.borrow_and_update();
        let pause = match store.next_due(clock::now().wall, busy.iter().cloned().collect()).await {
            Ok(due) => {
                for queued in due.ready {
                    busy.insert(queued.delivery.target.clone());
                    let world = Arc::clone(&worlds.borrow());
                    under_way.spawn(send(store.clone(), world, news.clone(), queued));
                }
                due.next_at.map_or(LOOK_EVERY, until)
            }
            Err(_) => STORE_PAUSE,
        };
        tokio::select! {
            Some(ended) = under_way.join_next() => {
                if let Ok(target) = ended {
                    busy.remove(&target);
                }
            }
            changed = heard.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn until(next: jiff::Timestamp) -> Duration {
    Duration::try_from(next.duration_since(clock::now().wall)).unwrap_or_default().min(LOOK_EVERY)
}

async fn send(store: Store, world: Arc<World>, news: watch::Sender<u64>, queued: Queued) -> Target {
    let Queued { delivery, attempt } = queued;
    let outcome = match (outlived(&world, &delivery).await, world.couriers.get(&delivery.target)) {
        (Some(why), _) => DeliveryOutcome::Rejected(why),
        (None, Some(courier)) => guarded::unless_it_panics(courier.deliver(&delivery)).await.unwrap_or_else(|| {
            DeliveryOutcome::Retry("its courier ended without an answer, which is a fault of this program".to_owned())
        }),
        (None, None) => DeliveryOutcome::Rejected(format!("{} is not configured any more", delivery.target)),
    };
    let outcome = match outcome {
        DeliveryOutcome::Retry(why) if attempt >= tries(&world, &delivery.target) => {
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
    let wait = BACK_OFF_FIRST.saturating_mul(1 << (attempt - 1).min(16)).min(BACK_OFF_MAX);
    let wall = clock::now().wall;
    let next = wall.checked_add(SignedDuration::try_from(wait).unwrap_or_default()).unwrap_or(wall);
    // An answer that is not recorded is asked for again: the key stays the same.
    while store.record_delivery(delivery.key.clone(), outcome.clone(), attempt, next).await.is_err() {
        tokio::time::sleep(STORE_PAUSE).await;
    }
    news.send_modify(|n| *n += 1);
    delivery.target
}

/// How often a message that could not be queued is tried.
const UNQUEUED_TRIES: u32 = 5;

/// Sends messages that the disk refused: a full disk must not silence the alarm about itself.
pub async fn send_unqueued(world: &World, deliveries: Vec<Delivery>) {
    for delivery in deliveries {
        let Some(courier) = world.couriers.get(&delivery.target) else { continue };
        for attempt in 1..=UNQUEUED_TRIES {
            match courier.deliver(&delivery).await {
                DeliveryOutcome::Retry(why) => {
                    tracing::warn!(target = %delivery.target, attempt, why, "message not accepted, and not queued");
                    tokio::time::sleep(BACK_OFF_FIRST.saturating_mul(1 << attempt)).await;
                }
                DeliveryOutcome::Accepted(_) | DeliveryOutcome::Rejected(_) => break,
            }
        }
    }
}

/// Why an ActionURL that moves the service must not be sent any more: a newer turn than its own began (the
/// epoch is read at its master immediately before). An epoch that cannot be read holds nothing up.
async fn outlived(world: &World, delivery: &Delivery) -> Option<String> {
    let moves = matches!(delivery.event, EventName::Takeover | EventName::Failback);
    if !moves || !delivery.target.0.starts_with(ACTION_URL) {
        return None;
    }
    let turn: u64 = delivery.variables.get("epoch")?.parse().ok()?;
    let seen = world.epoch.read().await.ok()?;
    let record = seen.record().filter(|record| record.number > turn)?;
    Some(format!(
        "not sent: it belongs to turn {turn}, and {} holds the service since then (turn {})",
        record.holder, record.number
    ))
}

fn tries(world: &World, target: &Target) -> u32 {
    let config = &world.config;
    let requests = config.action_urls.iter().map(|url| (format!("action-url:{}", url.name), url.retries));
    let named = requests.into_iter().find(|(name, _)| *name == target.0);
    named.map_or(NOTIFICATION_TRIES, |(_, retries)| retries + 1)
}
