//! Exchanges beats with the primary's agent: tells it where the robot stands, and tells the loop what it tells.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::probers::Pace;
use super::turn::{Input, Looking};
use crate::config::{self, Config};
use crate::engine::Event;
use crate::host::clock;
use crate::ports::{DataGate, Peer};
use crate::units::beat::{EpochTold, RobotTold};
use crate::units::snapshot::Pair;
use crate::units::{Beat, PeerReading, Verdict};

/// Exchanges at the pace of the Internet targets, and at once when everything is asked now.
pub async fn exchange(
    peer: Arc<dyn Peer>,
    config: Config,
    gate: Arc<dyn DataGate>,
    mut pace: watch::Receiver<Pace>,
    inputs: mpsc::Sender<Input>,
) {
    loop {
        let nudged = pace.borrow_and_update().nudge;
        let next = Instant::now() + config.internet.interval;
        let asked = clock::now().boot;
        let Some(ours) = beat(&config, &inputs).await else { return };
        let reading = peer.exchange(&ours).await;
        if let PeerReading::Heard(heard) = &reading
            && let Some(tree) = &heard.beat.tree
        {
            gate.vouched(heard.beat.time, tree);
        }
        if inputs.send(Input::Heard(Event::Peer { reading, asked })).await.is_err() {
            return;
        }
        while pace.borrow_and_update().nudge == nudged {
            tokio::select! {
                () = tokio::time::sleep_until(next) => break,
                changed = pace.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// What this host tells of itself; `None`: the loop has ended.
async fn beat(config: &Config, inputs: &mpsc::Sender<Input>) -> Option<Beat> {
    let (answer, answered) = oneshot::channel();
    inputs.send(Input::Look(Looking::Pair(answer))).await.ok()?;
    let pair: Pair = answered.await.ok()?;
    let epoch = pair.epoch.as_ref();
    let told = epoch.and_then(|epoch| Some(EpochTold { number: epoch.number?, holder: epoch.holder.clone()? }));
    Some(Beat {
        epoch: told,
        settings: config::digests(config),
        robot: Some(RobotTold {
            state: pair.state,
            verdict: pair.verdict.unwrap_or(Verdict::Unsure),
            disarmed_because: pair.armed.map(|armed| armed.because).unwrap_or_default(),
        }),
        ..Beat::bare(config.node.clone(), config.role.name(), clock::now().wall)
    })
}
