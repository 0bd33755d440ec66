//! Looks again and again whether the sync does what it should: it runs while this node watches, and rests while it serves.
//!
//! One that runs while this node serves is stopped again: a boot, an upgrade of its package or a person has started it, and
//! it would put the primary's old files over new ones. One that a failback left stopped, since files waited here to be
//! carried home, is started once none does. What is told follows from the engine.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch as channel};
use tokio::time::{Instant, sleep};

use crate::config::Config;
use crate::engine::Event;
use crate::host::clock;
use crate::units::{StepOutcome, SyncLook, SyncShould, Whose};

use super::home;
use super::steps::{COMMAND_MAX, run};
use super::turn::Input;
use super::watch::Standing;
use super::world::World;

/// The pace: one `systemctl show` of each unit, one request for each folder, and one walk over `/proc`.
const EVERY: Duration = Duration::from_secs(15);

/// After one that saw something new: the look that has to agree with it comes sooner.
const AGAIN: Duration = Duration::from_secs(4);

/// A start that no plan sees to and that failed is tried again after so long.
const LATE_AGAIN: Duration = Duration::from_secs(60);

/// Stops what brings files here, by the person's command and by its parts.
pub async fn stop(world: &World) -> StepOutcome {
    let command = run(world, "sync.stop", &world.config.sync.stop, COMMAND_MAX).await;
    both(&command, &world.sync.stop().await)
}

/// Remembers behind a step that succeeded that what lies here is this node's own from now on.
pub async fn served(world: &World, secured: StepOutcome) -> StepOutcome {
    let StepOutcome::Done(proof) = secured else { return secured };
    match world.sync.note(Whose::Ours(clock::now().wall)).await {
        Ok(()) => StepOutcome::Done(proof),
        Err(why) => StepOutcome::Done(format!("{proof}; WARNING, {why}")),
    }
}

/// Lets the sync bring files here again, once it can take nothing away that is not at home yet; `may`: this node still
/// need not serve.
pub async fn start(world: &World, may: &(dyn Fn() -> bool + Sync)) -> StepOutcome {
    if let Err(why) = home::close(&world.config).await {
        return StepOutcome::failed(format!(
            "what changed here last is not known, {why}; the sync is not started: it may delete here"
        ));
    }
    let waits = match home::waits(&world.config).await {
        Ok(waits) => waits,
        Err(why) => return StepOutcome::failed(format!("{why}; the sync is not started: it may delete here")),
    };
    let note = match waits {
        Some(waits) if home::has_a_way(&world.config) => {
            return StepOutcome::failed(format!(
                "{waits}; the sync is not started: it may delete here; {}",
                home::way_out(&world.config)
            ));
        }
        // The sync itself may be what carries it.
        Some(waits) => format!("WARNING, {waits}, and failback.return_to is not set; "),
        None => String::new(),
    };
    // From here on a takeover judges what lies here: some of it is as the primary had it.
    if let Err(why) = world.sync.note(Whose::Brought).await {
        return StepOutcome::Failed(why);
    }
    let given = match world.gate.give_back().await {
        Ok(given) => given.map(|given| format!("{given}; ")).unwrap_or_default(),
        Err(why) => {
            return StepOutcome::failed(format!(
                "{why}; the sync is not started: one that goes both ways would carry it home; `pbx-failover snapshots restore NAME` \
                 puts a snapshot in place whole while this node watches"
            ));
        }
    };
    let note = given + &note;
    let fence = world.sync.start(may).await;
    if !may() {
        return fence;
    }
    let outcome = both(&run(world, "sync.start", &world.config.sync.start, COMMAND_MAX).await, &fence);
    if !may() {
        // A takeover may have stopped it while the command still started it.
        return stop(world).await;
    }
    let StepOutcome::Done(text) = outcome else { return outcome };
    match world.sync.forget().await {
        Ok(()) => StepOutcome::Done(note + &text),
        Err(why) => StepOutcome::Failed(why),
    }
}

/// Done only where both are.
fn both(first: &StepOutcome, second: &StepOutcome) -> StepOutcome {
    let said = format!("{}; {}", first.text(), second.text());
    match (first, second) {
        (StepOutcome::Done(_), StepOutcome::Done(_)) => StepOutcome::Done(said),
        (StepOutcome::Done(_) | StepOutcome::Unknown(_), StepOutcome::Done(_) | StepOutcome::Unknown(_)) => {
            StepOutcome::Unknown(said)
        }
        _ => StepOutcome::Failed(said),
    }
}

/// Looks until the daemon ends.
pub async fn watch(
    inputs: mpsc::Sender<Input>,
    worlds: channel::Receiver<Arc<World>>,
    mut standing: channel::Receiver<Standing>,
) {
    let mut last = SyncLook::default();
    // A robot that was just started may not have taken up its plan again, which starts the sync itself.
    let mut rested = false;
    let mut late_from = Instant::now();
    // Said once, not at each try.
    let mut late = None;
    loop {
        let Ok(should) = standing.wait_for(|now| now.sync.is_some()).await.map(|now| now.sync) else { return };
        let world = Arc::clone(&worlds.borrow());
        let idle = should == Some(SyncShould::Run);
        if idle && rested && world.sync.is_owed() && Instant::now() >= late_from {
            let other = standing.clone();
            let may = || other.borrow().sync == Some(SyncShould::Run);
            let came = tokio::select! {
                came = start_late(&world, &may) => came,
                // A takeover does not wait for it; what it had begun is stopped there.
                _ = standing.wait_for(|now| now.sync != Some(SyncShould::Run)) => None,
            };
            if came.as_ref().is_some_and(|came| !matches!(came, StepOutcome::Done(_))) {
                late_from = Instant::now() + LATE_AGAIN;
            }
            if let Some(outcome) = came.filter(|came| late.as_ref() != Some(came)) {
                tracing::warn!(outcome = outcome.text(), "the sync had not been started again after this node served");
                late = Some(outcome);
            }
        }
        if !idle || !world.sync.is_owed() {
            late = None;
        }
        rested = idle;
        let look = with_what_waits(&world.config, with_command(&world, idle, late.as_ref()).await).await;
        if should == Some(SyncShould::Rest) && !look.runs.is_empty() && world.sync.is_configured() {
            let outcome = stop(&world).await;
            tracing::warn!(ran = look.runs.join("; "), stop = outcome.text(), "the sync ran while this node serves");
        }
        if idle && !look.runs.is_empty() {
            // Whoever started it.
            let _ = world.sync.note(Whose::Brought).await;
        }
        let pause = if look == last { EVERY } else { AGAIN };
        last = look.clone();
        if inputs.send(Input::Heard(Event::Sync(look))).await.is_err() {
            return;
        }
        tokio::select! {
            () = sleep(pause) => {}
            // The first look at a node that has just begun to serve, or was started while it does, comes at once.
            other = standing.wait_for(|now| now.sync.is_some() && now.sync != should) => {
                if other.is_err() {
                    return;
                }
            }
        }
    }
}

/// What a look sees, with what only the robot knows of the person's own command: nothing else shows that it rests.
async fn with_command(world: &World, idle: bool, late: Option<&StepOutcome>) -> SyncLook {
    let mut look = world.sync.look().await;
    if idle && look.rests.is_empty() && !world.config.sync.start.is_empty() && world.sync.is_owed() {
        look.rests.push(match late {
            Some(StepOutcome::Failed(why) | StepOutcome::Unknown(why)) => why.clone(),
            _ => "sync.start was not run yet since this node served".to_owned(),
        });
    }
    look
}

/// What a look saw, and what must be carried home before that which rests may be started.
pub async fn with_what_waits(config: &Config, look: SyncLook) -> SyncLook {
    if look.rests.is_empty() || !home::has_a_way(config) {
        return look;
    }
    let waits = match home::waits(config).await {
        Ok(waits) => waits.map(|waits| format!("{waits}; {}", home::way_out(config))),
        Err(why) => Some(why),
    };
    SyncLook { waits, ..look }
}

/// No plan starts it any more: its step was given up while something waited to be carried home, or the robot died.
async fn start_late(world: &World, may: &(dyn Fn() -> bool + Sync)) -> Option<StepOutcome> {
    // Its last look is taken by whoever puts it by.
    if !matches!(home::is_open(&world.config).await, Ok(false))
        || !matches!(home::waits(&world.config).await, Ok(None)) && home::has_a_way(&world.config)
    {
        return None;
    }
    Some(start(world, may).await)
}
