//! A world in one line, for the story of a broken rule.

use crate::engine::{Ask, Order};
use crate::units::{EpochRecord, EpochSeen, StepState};

use super::world::{Node, World};

/// The line.
pub fn world(world: &World) -> String {
    let zone = seen(&world.zone.record);
    let late = world.zone.late.len();
    let nodes: Vec<_> = world.nodes.iter().map(node).collect();
    let seconds = world.now.boot.as_secs();
    format!("t={seconds} primary {:?}, zone {zone}, {late} late | {}", world.primary, nodes.join(" | "))
}

fn record(record: &EpochRecord) -> String {
    format!("{}:{}:{}", record.number, record.holder, &record.id.to_string()[22..])
}

fn seen(seen: &EpochSeen) -> String {
    seen.record().map_or_else(|| "none".to_owned(), record)
}

fn node(node: &Node) -> String {
    let Some(engine) = &node.engine else { return format!("does not run, PBX serves: {}", node.serving) };
    let open = |state| matches!(state, StepState::Pending | StepState::Running);
    let plan = engine.run.as_ref().map(|run| {
        let step = run.steps().iter().find(|step| open(step.state));
        format!("{} at {}", run.kind(), step.map_or("its end", |step| step.row.step.name()))
    });
    format!(
        "{} {} {}; {}; claim {}, highest {}, PBX serves: {}; asks {:?}",
        engine.state(),
        engine.verdict(),
        plan.unwrap_or_default(),
        engine.standing_text(),
        engine.memory.claim.as_ref().map_or_else(|| "none".to_owned(), record),
        engine.memory.epoch_seen_max,
        node.serving,
        node.waiting.iter().map(|waiting| asked(&waiting.ask)).collect::<Vec<_>>(),
    )
}

fn asked(ask: &Ask) -> String {
    match ask {
        Ask::Step { step, order: Order::Swap { from, to }, .. } => format!("{step} {} -> {}", seen(from), record(to)),
        Ask::Step { step, mode, .. } => format!("{step} {mode:?}"),
        Ask::Swap { from, to } => format!("swap {} -> {}", seen(from), record(to)),
        other => format!("{other:?}"),
    }
}
