//! What a snapshot and `explain` say of trunks beside what the driver sees: whether their numbers were moved.

use crate::adapters::courier;
use crate::config::Config;
use crate::store::{DeliveryState, Store};
use crate::units::TrunkState;
use crate::units::snapshot::{Pair, Pbx};

/// Adds to each trunk whose numbers an action URL moves how that message of the last plan stands.
pub async fn moved(pair: &mut Pair, config: &Config, store: &Store) {
    let moves = config.pbx.trunks.iter().any(|trunk| trunk.move_url.is_some());
    let (Some(plan), Some(pbx), true) = (&pair.plan, &mut pair.pbx, moves) else { return };
    let Ok(deliveries) = store.deliveries_of(format!("{}:", plan.id)).await else { return };
    for trunk in &mut pbx.trunks {
        let named = config.pbx.trunks.iter().find(|named| named.name == trunk.name);
        let Some(url) = named.and_then(|named| named.move_url.as_deref()) else { continue };
        let target = courier::action_url(url);
        // The last one counts: a plan that was undone sent another.
        let sent = deliveries.iter().rev().find(|delivery| delivery.target == target);
        trunk.moved = sent.map(|delivery| match &delivery.state {
            DeliveryState::Accepted(proof) => format!("{url} was told: {proof}"),
            DeliveryState::Rejected(why) => format!("{url} refuses: {why}"),
            DeliveryState::Waiting { attempts, said } if said.is_empty() => format!("{url} waits, {attempts} attempts"),
            DeliveryState::Waiting { attempts, said } => format!("{url} waits, {attempts} attempts: {said}"),
        });
    }
}

/// One line for each trunk of a PBX that serves, for `explain`.
pub fn explained(pbx: &Pbx) -> Vec<String> {
    if pbx.serving != Some(true) {
        return Vec::new();
    }
    let line = |trunk: &crate::units::snapshot::Trunk| {
        let state = match trunk.state {
            TrunkState::Up => "up",
            TrunkState::Trying => "trying",
            TrunkState::Rejected => "rejected",
            TrunkState::Down => "down",
            TrunkState::Unknown => "not known",
        };
        let code = trunk.sip_code.map(|code| format!(" ({code})")).unwrap_or_default();
        let said = trunk.said.as_ref().map(|said| format!(": {said}")).unwrap_or_default();
        let holds = trunk.held_elsewhere().map(|holds| format!("; {holds}")).unwrap_or_default();
        format!("trunk {}: {state}{code}{said}{holds}", trunk.name)
    };
    pbx.trunks.iter().map(line).collect()
}
