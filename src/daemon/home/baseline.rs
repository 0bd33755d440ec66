//! The ledger while this node serves: its baseline at the end of `secure_data`, and a look again and again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{UNKNOWN_SERVICE, closed, end, note, told};
use crate::adapters::data::ledger::{Begun, Ledger, Wanted};
use crate::config::Config;
use crate::daemon::data::pace;
use crate::daemon::watch::Standing;
use crate::daemon::world::World;
use crate::host::{clock, disk};
use crate::units::ledger::Phase;
use crate::units::{PlanId, State, StepOutcome};

/// Phones wait for the baseline.
const BASELINE_MAX: Duration = Duration::from_secs(60);
/// That there is none is written down within so long.
const GAP_MAX: Duration = Duration::from_secs(5);
/// What a gap says where nothing else is known.
const NO_LEDGER: &str = "this node served without a ledger for a while";
/// A look while this node serves; one that takes longer hangs.
const LOOK_MAX: Duration = Duration::from_secs(300);

/// Takes the baseline behind a step that succeeded, and says so in its proof. A takeover never fails for it.
pub async fn after(secured: StepOutcome, config: &Config, plan: PlanId) -> StepOutcome {
    let StepOutcome::Done(proof) = secured else { return secured };
    let (ledger, service, wanted) = (Arc::new(Ledger::new(config)), plan.to_string(), Wanted::default());
    let begun = disk::within(BASELINE_MAX, {
        let (ledger, service, wanted) = (Arc::clone(&ledger), service.clone(), wanted.clone());
        move || ledger.begin(&service, clock::now().wall, &wanted)
    })
    .await;
    wanted.withdraw();
    StepOutcome::Done(match begun {
        Ok(Begun::Taken(files, 0)) => format!("{proof}; ledger begun, {files} files"),
        Ok(Begun::Taken(files, left)) => {
            format!("{proof}; ledger begun, {files} files; {left} that wait since the last time stay in it")
        }
        Ok(Begun::GoesOn) => format!("{proof}; the ledger goes on: what was changed here before is not at home yet"),
        Err(why) => {
            let said = format!("{proof}; WARNING, no ledger of what changes here from now on: {why}");
            let noted = disk::within(GAP_MAX, move || ledger.note_gap(&service, &why, clock::now().wall)).await;
            match noted {
                Ok(()) => said,
                Err(also) => format!("{said}; nor is that remembered: {also}"),
            }
        }
    })
}

/// Looks while this node serves, until the daemon ends.
pub async fn follow(mut worlds: watch::Receiver<Arc<World>>, mut standing: watch::Receiver<Standing>) {
    loop {
        let world = Arc::clone(&worlds.borrow_and_update());
        let state = standing.borrow_and_update().state;
        let ledger = Arc::new(Ledger::new(&world.config));
        let began = Instant::now();
        match state {
            State::Active => look(&ledger, &|| standing.borrow().state == State::Active).await,
            State::Standby | State::Suspect => put_by(&ledger).await,
            State::TakingOver | State::FailingBack | State::Halted => {}
        }
        let took = if state == State::Active { began.elapsed() } else { Duration::ZERO };
        tokio::select! {
            () = tokio::time::sleep(pace(took)) => {}
            changed = worlds.changed() => if changed.is_err() { return },
            changed = standing.changed() => if changed.is_err() { return },
        }
    }
}

/// One look while this node serves. Where no ledger is open meanwhile, that is a gap: noted at each look until it could
/// be written. `serves`: this node serves still.
pub async fn look(ledger: &Arc<Ledger>, serves: &(dyn Fn() -> bool + Sync)) {
    let looking = Arc::clone(ledger);
    match disk::within(LOOK_MAX, move || looking.look(clock::now().wall)).await {
        Ok(Some(told)) if told.phase == Phase::Serving => {}
        // A person has ended it, or neither the baseline nor that there is none could be written down.
        Ok(other) if serves() => {
            let service = other.map_or_else(|| UNKNOWN_SERVICE.to_owned(), |told| told.service);
            let noting = Arc::clone(ledger);
            let noted = disk::within(GAP_MAX, move || noting.note_gap(&service, NO_LEDGER, clock::now().wall)).await;
            tracing::warn!(noted = noted.err(), "this node serves without a ledger");
        }
        Ok(_) => {}
        Err(why) => {
            tracing::warn!(why, "what changed here since the takeover could not be looked through");
            let _ = note(ledger, Some(why), LOOK_MAX).await;
        }
    }
}

/// This node does not serve any more: what waits, waits; where nothing does, the ledger ends. Nobody says so before a look
/// that was taken since.
async fn put_by(ledger: &Arc<Ledger>) {
    let service = match told::open(ledger).await {
        Ok(Some(open)) if open.phase == Phase::Serving => open.service,
        _ => return,
    };
    let done = match closed(ledger, &service).await {
        Ok(Some(told)) if told.files == 0 && told.gap.is_none() => end(ledger, &service).await,
        Ok(_) => return,
        Err(why) => Err(why),
    };
    if let Err(why) = done {
        tracing::warn!(why, "the ledger could not be put by");
    }
}
