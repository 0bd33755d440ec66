//! The model check: every history of a small world, explored by stateright, with the real engine in it.
//!
//! [`scene`] says which troubles may happen, [`world`] carries out what the engines ask, [`steps`] lists what can
//! happen next, [`rules`] says what never may, [`fair`] what must come about in the end, [`shape`] when two worlds are
//! the same state.

mod fair;
mod planted;
mod rules;
mod scene;
mod scenes;
mod shape;
mod site;
mod steps;
mod tell;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;

use stateright::{Checker as _, HasDiscoveries, Model, Path, Property};

use rules::Rule;
use scene::Scene;
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
        properties.extend([
            Property::always(REPLACED, |_, w: &World| w.is_free_of(REPLACED) || w.a_dead_primary_is_replaced().is_ok()),
            Property::always(GIVES_WAY, |_, w: &World| w.is_free_of(GIVES_WAY) || w.a_dead_backup_gives_way().is_ok()),
            Property::always(ONE, |_, w: &World| w.is_free_of(ONE) || w.one_serves().is_ok()),
            Property::always(RESTS, |_, w: &World| w.is_free_of(RESTS) || w.all_comes_to_rest().is_ok()),
        ]);
        properties
    }
}

const REPLACED: &str = "a dead primary is replaced in the end";
const GIVES_WAY: &str = "a dead backup gives way to a living primary in the end";
const ONE: &str = "a primary with an agent does not serve beside the backup for long";
const RESTS: &str = "every state can be left for the one of rest";
/// The rules about the end.
const ENDS: [&str; 4] = [REPLACED, GIVES_WAY, ONE, RESTS];

impl World {
    /// Whether this rule about the end is not looked at from here.
    fn is_free_of(&self, end: &str) -> bool {
        self.broken.is_some() || !self.shape.is_multiple_of(self.scene.sample) || !self.scene.ends.contains(&end)
    }
}

/// What an exploration saw.
struct Explored {
    states: usize,
    /// The rules that were broken, each with its story.
    broken: Vec<(&'static str, String)>,
}

/// Explores a scene until a rule is broken, or nothing new is found, or so many steps were taken.
fn explore(scene: &Arc<Scene>, steps_max: usize) -> Explored {
    let checker = Histories(Arc::clone(scene))
        .checker()
        .target_state_count(steps_max)
        .threads(THREADS)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let end = match (checker.discoveries().is_empty(), checker.state_count() < steps_max) {
        (false, _) => "until a rule was broken",
        (true, true) => "all of it",
        (true, false) => "and more",
    };
    println!("{}: {} steps, {} states, {end}", scene.name, checker.state_count(), checker.unique_state_count());
    let broken = checker.discoveries().into_iter().map(|(name, path)| (name, story(name, path))).collect();
    Explored { states: checker.unique_state_count(), broken }
}

/// The cores of the smallest machine that this must run on in time.
const THREADS: usize = 2;

/// How a rule came to be broken, one line a step.
fn story(name: &str, path: Path<World, Happening>) -> String {
    let steps = path.into_vec();
    let last = steps.last().expect("a path has a state").0.clone();
    let mut lines: Vec<_> = steps.iter().map(|(world, next)| format!("{} {next:?}", tell::world(world))).collect();
    let end = match name {
        REPLACED => last.a_dead_primary_is_replaced(),
        GIVES_WAY => last.a_dead_backup_gives_way(),
        ONE => last.one_serves(),
        RESTS => last.all_comes_to_rest(),
        _ => Ok(0),
    };
    lines.extend(end.err().map(|end| format!("and in the end: {}", tell::world(&end))));
    lines.join("\n")
}

/// Takes most of two minutes on two cores, so nothing else shall run beside it.
mod alone {
    use super::scenes::{NOT_REACHED, scenes};
    use super::*;
    use crate::engine::table::ROWS;

    /// A scene with more is cut off here, the shortest histories first.
    const STEPS_MAX: usize = 170_000;
    const STATES_MIN: usize = 1_000_000;

    #[test]
    fn a_million_states_break_no_rule_and_fire_every_row() {
        let (mut states, mut fired, mut broken) = (0, BTreeSet::new(), Vec::new());
        for scene in scenes() {
            let scene = Arc::new(scene);
            let explored = explore(&scene, STEPS_MAX);
            broken.extend(explored.broken.iter().map(|(name, story)| format!("{}: {name}\n{story}", scene.name)));
            states += explored.states;
            fired.extend(scene.fired.rows());
        }
        println!("{states} states");
        assert!(broken.is_empty(), "{}", broken.join("\n\n"));
        assert!(states >= STATES_MIN, "only {states} states");
        let known = |row: &u16| NOT_REACHED.iter().any(|(known, _)| known == row);
        let missed: Vec<_> =
            ROWS.iter().map(|row| row.number).filter(|row| !fired.contains(row) && !known(row)).collect();
        assert!(missed.is_empty(), "rows that no scene reached: {missed:?}");
    }
}
