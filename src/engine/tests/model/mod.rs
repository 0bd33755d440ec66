//! The model check: every history of a small world, explored by stateright, with the real engine in it.
//!
//! [`scene`] says which troubles may happen, [`world`] carries out what the engines ask, [`steps`] lists what can
//! happen next, [`rules`] says what never may, [`fair`] what must come about in the end, [`shape`] when two worlds are
//! the same state.

mod fair;
mod rules;
mod scene;
mod shape;
mod steps;
mod world;

use std::sync::Arc;

use stateright::{Checker as _, Model, Property};

use rules::Rule;
use scene::{Says, Scene, Trouble};
use steps::Happening;
use world::World;

struct Histories(Arc<Scene>);

macro_rules! never {
    ($($rule:ident),*) => {
        vec![$(Property::always(Rule::$rule.name(), |_, world: &World| world.broken != Some(Rule::$rule))),*]
    };
}

impl Model for Histories {
    type State = World;
    type Action = Happening;

    fn init_states(&self) -> Vec<World> {
        vec![World::well(&self.0)]
    }

    fn actions(&self, world: &World, out: &mut Vec<Happening>) {
        world.possible(out);
    }

    fn next_state(&self, world: &World, happening: Happening) -> Option<World> {
        let mut next = world.clone();
        next.happen(happening);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = never!(
            TwoHolders,
            NumberFell,
            Unproved,
            NoGround,
            HandedOverUnasked,
            HandedOverServing,
            HandedOverForeign,
            HandedAstray,
            AsksWithoutEnd
        );
        properties
            .push(Property::always(REPLACED, |_, w: &World| !w.is_sampled() || w.a_dead_primary_is_replaced().is_ok()));
        properties
            .push(Property::always(GIVES_WAY, |_, w: &World| !w.is_sampled() || w.a_dead_backup_gives_way().is_ok()));
        properties.push(Property::always(RESTS, |_, w: &World| !w.is_sampled() || w.all_comes_to_rest().is_ok()));
        properties
    }
}

const REPLACED: &str = "a dead primary is replaced in the end";
const GIVES_WAY: &str = "a dead backup gives way to a living primary in the end";
const RESTS: &str = "every state can be left for the one of rest";

impl World {
    fn is_sampled(&self) -> bool {
        self.broken.is_none() && self.shape.is_multiple_of(self.scene.sample)
    }
}

/// Explores a scene until a rule is broken, or nothing new is found, or so many steps were taken.
fn explore(scene: &Arc<Scene>, most: usize) -> usize {
    let began = std::time::Instant::now();
    let checker = Histories(Arc::clone(scene))
        .checker()
        .target_state_count(most)
        .threads(2)
        .finish_when(stateright::HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let took = began.elapsed();
    println!(
        "{}: {} steps, {} states, depth {}, {:.1} s, rows {:?}",
        scene.name,
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        took.as_secs_f64(),
        scene.fired.rows(),
    );
    for (name, path) in checker.discoveries() {
        let steps = path.into_vec();
        let last = steps.last().expect("a path has a state").0.clone();
        for (world, action) in steps {
            println!("{} {action:?}", tell(&world));
        }
        let end = match name {
            REPLACED => last.a_dead_primary_is_replaced(),
            GIVES_WAY => last.a_dead_backup_gives_way(),
            RESTS => last.all_comes_to_rest(),
            _ => Ok(0),
        };
        if let Err(end) = end {
            println!("and in the end: {}", tell(&end));
        }
        println!("BROKEN: {name}");
    }
    checker.unique_state_count()
}

#[test]
fn speed() {
    use Trouble::*;
    let count = option_env!("COUNT").and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let scenes = [
        Scene::new("messages", &[(Loss, 1), (Crash, 1), (PrimaryDies, 1), (Late, 1)]),
        Scene::new("give up", &[(PrimaryDies, 1), (PbxDies, 1), (Loss, 1), (Crash, 1)]),
        Scene::new("ways", &[(PrimaryDies, 1), (CutOff, 1), (PathCut, 1), (Stall, 1), (MasterDies, 1), (HalfDies, 1)]),
        Scene::new("person", &[(PrimaryDies, 2), (Person, 2), (Call, 1), (PbxSticks, 1)])
            .with(|s| s.says = &EVERY_WORD),
        Scene::new("two", &[(PrimaryDies, 1), (Loss, 1), (Late, 1), (Crash, 1)]).with(|s| s.robots = 2),
        Scene::new("zone", &[(PrimaryDies, 2), (ZoneFalls, 1), (Crash, 1), (Person, 1)])
            .with(|s| s.says = &[Says::FailbackWaiting]),
        Scene::new("disk", &[(PrimaryDies, 1), (DiskFills, 1), (Crash, 1), (Reboot, 1)]),
    ];
    for scene in scenes {
        explore(&Arc::new(scene), count);
    }
}

const EVERY_WORD: [Says; 12] = [
    Says::Takeover,
    Says::TakeoverStopped,
    Says::TakeoverWithoutClaim,
    Says::Failback,
    Says::FailbackWaiting,
    Says::FailbackCutting,
    Says::Undo,
    Says::Pause,
    Says::Unpause,
    Says::Continue,
    Says::Abandon,
    Says::Ack,
];

/// A world in one line, for the message of a failed test.
fn tell(world: &World) -> String {
    let record = |seen: &crate::units::EpochSeen| {
        seen.record()
            .map_or_else(|| "none".into(), |r| format!("{}:{}:{}", r.number, r.holder, &r.id.to_string()[22..]))
    };
    let mut out = format!(
        "t={} {:?} zone {} late {}",
        world.now.boot.as_secs(),
        world.primary,
        record(&world.zone.record),
        world.zone.late.len()
    );
    for node in &world.nodes {
        let Some(engine) = &node.engine else {
            out += " | down";
            continue;
        };
        let plan = engine.run.as_ref().map(|run| {
            let step = run
                .steps()
                .iter()
                .find(|s| matches!(s.state, crate::units::StepState::Pending | crate::units::StepState::Running));
            format!("{}@{}", run.kind(), step.map_or("over", |s| s.row.step.name()))
        });
        let asks: Vec<_> = node
            .waiting
            .iter()
            .map(|w| match &w.ask {
                crate::engine::Ask::Step { step, mode, order, .. } => match order {
                    crate::engine::Order::Swap { from, to } => {
                        format!("{step} {mode:?} {}->{}:{}", record(from), to.number, &to.id.to_string()[22..])
                    }
                    _ => format!("{step} {mode:?}"),
                },
                crate::engine::Ask::ReadEpoch => "read".into(),
                other => format!("{other:?}"),
            })
            .collect();
        out += &format!(
            " | {} {} {} {} claim {:?} max {} serving {} asks {asks:?}",
            engine.state(),
            engine.verdict(),
            plan.unwrap_or_default(),
            engine.standing_text(),
            engine.memory.claim.as_ref().map(|r| format!("{}:{}", r.number, &r.id.to_string()[22..])),
            engine.memory.epoch_seen_max,
            node.serving
        );
    }
    out
}
