//! Faults planted in the tables and in the epoch's rules: each must be found, by the rule that forbids what it does.
//!
//! This is what shows that the check can fail. A fault is a changed row, a changed plan, or a lens between a robot and
//! its world; the scene beside it is the smallest in which it does harm.

use std::sync::Arc;

use crate::engine::core::Tables;
use crate::engine::table::{Action, Guard, ROWS, Row, Trigger};
use crate::takeover::{Fencing, Patience, PlanRow, rows};
use crate::units::policy::{StepDown, Unreadable};
use crate::units::{PlanKind, State, Step};

use super::rules::Rule;
use super::scene::Trouble::{
    CutOff, Late, Loss, PathCut, PbxDies, PbxSticks, Person, PrimaryDies, SiteCut, Stall, ZoneFalls,
};
use super::scene::{Lens, Says, Scene, Trouble};
use super::{GIVES_WAY, ONE, REPLACED, RESTS, explore};

/// A fault, the scene in which it does harm, and the rules of which one finds it.
struct Planted {
    fault: &'static str,
    budget: &'static [(Trouble, u8)],
    says: &'static [Says],
    change: fn(&mut Scene),
    found_by: &'static [&'static str],
}

/// So many steps are more than enough for each.
const STEPS_MAX: usize = 150_000;

fn states(scene: &mut Scene, change: impl Fn(&mut Vec<Row>)) {
    let mut table = ROWS.to_vec();
    change(&mut table);
    scene.tables = Tables { states: table.leak(), ..Tables::REAL };
}

fn without(scene: &mut Scene, number: u16) {
    states(scene, |table| table.retain(|row| row.number != number));
}

fn row(scene: &mut Scene, number: u16, change: impl Fn(&mut Row)) {
    states(scene, |table| change(table.iter_mut().find(|row| row.number == number).expect("a row of the table")));
}

/// A plan's rows with one of them changed. A plan's table is a function, so each of these is one.
macro_rules! plan {
    ($kind:ident, $step:ident, $change:expr) => {{
        fn changed(kind: PlanKind) -> &'static [PlanRow] {
            static CHANGED: std::sync::OnceLock<Vec<PlanRow>> = std::sync::OnceLock::new();
            if kind != PlanKind::$kind {
                return rows(kind);
            }
            CHANGED.get_or_init(|| {
                let mut table = rows(kind).to_vec();
                let change: fn(&mut PlanRow) = $change;
                change(table.iter_mut().find(|row| row.step == Step::$step).expect("a step of the plan"));
                table
            })
        }
        |scene: &mut Scene| scene.tables = Tables { plans: changed, ..Tables::REAL }
    }};
}

const NO_GROUND: &[&str] = &[Rule::NoGround.name()];
const UNPROVED: &[&str] = &[Rule::Unproved.name()];
const SERVING: &[&str] = &[Rule::HandedOverServing.name()];
const NUMBER: &[&str] = &[Rule::NumberFell.name(), Rule::TwoHolders.name()];
const UNASKED: &[&str] = &[Rule::HandedOverUnasked.name()];
const FORGOT: &[&str] = &[Rule::NumberFell.name(), REPLACED, RESTS];
const HOLDERS: &[&str] = &[Rule::TwoHolders.name(), Rule::Unproved.name()];

fn planted() -> Vec<Planted> {
    let plant = |fault, budget, says, change, found_by| Planted { fault, budget, says, change, found_by };
    vec![
        plant(
            "row 12 acts unarmed",
            &[(PrimaryDies, 1), (Person, 1)],
            &[Says::Pause],
            |s| row(s, 12, |r| r.guard = Guard::Always),
            NO_GROUND,
        ),
        plant("row 10 is missing", &[(PrimaryDies, 1)], &[], |s| without(s, 10), &[RESTS]),
        plant(
            "a takeover begins in standby",
            &[(PrimaryDies, 1), (Person, 1)],
            &[Says::Pause],
            |s| {
                row(s, 1, |r| (r.to, r.does) = (State::TakingOver, &[Action::Open(PlanKind::Takeover)]));
            },
            NO_GROUND,
        ),
        plant("row 3 is missing", &[(PrimaryDies, 1), (Loss, 1)], &[], |s| without(s, 3), &[RESTS]),
        plant("row 24 is missing", &[(PrimaryDies, 1), (Late, 1)], &[], |s| without(s, 24), NO_GROUND),
        plant("row 25 is missing", &[(PrimaryDies, 1), (Stall, 1), (Late, 1)], &[], |s| without(s, 25), NO_GROUND),
        plant("row 26 is missing", &[(PrimaryDies, 1), (Person, 1)], &[Says::Pause], |s| without(s, 26), NO_GROUND),
        plant("row 30 is missing", &[(PrimaryDies, 1), (PbxDies, 1)], &[], |s| without(s, 30), &[GIVES_WAY]),
        plant("row 31 is missing", &[(PrimaryDies, 1), (PbxDies, 1)], &[], |s| without(s, 31), &[GIVES_WAY]),
        plant(
            "row 33 is missing",
            &[(PrimaryDies, 1)],
            &[],
            |s| {
                without(s, 33);
                fence_required(s);
            },
            &[REPLACED],
        ),
        plant(
            "row 40 is missing",
            &[(PrimaryDies, 1), (ZoneFalls, 1)],
            &[],
            |s| {
                without(s, 40);
                s.robots = 2;
            },
            &[REPLACED],
        ),
        plant("row 45 is missing", &[(PrimaryDies, 1), (ZoneFalls, 1)], &[], |s| without(s, 45), &[REPLACED, RESTS]),
        plant(
            "row 51 is missing",
            &[(PrimaryDies, 1), (ZoneFalls, 1)],
            &[],
            |s| {
                without(s, 51);
                s.robots = 2;
            },
            &[REPLACED, RESTS],
        ),
        plant(
            "failback by itself",
            &[(PrimaryDies, 1)],
            &[],
            |s| {
                row(s, 42, |r| {
                    (r.guard, r.to, r.does) = (Guard::Always, State::FailingBack, &[Action::Open(PlanKind::Failback)]);
                });
            },
            UNASKED,
        ),
        plant(
            "a withdrawal from active",
            &[(PrimaryDies, 1)],
            &[],
            |s| {
                row(s, 42, |r| {
                    (r.guard, r.on) = (Guard::NoPlan, Trigger::PrimaryUp);
                    (r.to, r.does) = (State::Standby, &[Action::Open(PlanKind::Withdraw)]);
                });
            },
            UNASKED,
        ),
        plant(
            "reload needs no claim",
            &[(PrimaryDies, 1)],
            &[],
            plan!(Takeover, Reload, |r| r.requires = &[Step::Confirm]),
            UNPROVED,
        ),
        plant(
            "the claim is passed over",
            &[(PrimaryDies, 1), (Loss, 1)],
            &[],
            plan!(Takeover, Claim, |r| r.patience = Patience::ThenGoesOn(1)),
            UNPROVED,
        ),
        plant(
            "failback hands over before it stops",
            &[(PrimaryDies, 1), (Person, 1)],
            &[Says::Failback],
            plan!(Failback, HandOver, |r| r.requires = &[Step::Preflight]),
            SERVING,
        ),
        plant(
            "failback passes over a PBX that does not stop",
            &[(PrimaryDies, 1), (Person, 1), (PbxSticks, 1)],
            &[Says::Failback],
            plan!(Failback, StopAccepting, |r| r.patience = Patience::ThenGoesOn(1)),
            SERVING,
        ),
        plant(
            "a withdrawal hands over before it stops",
            &[(PrimaryDies, 1), (Person, 2), (PbxSticks, 1)],
            &[Says::Failback, Says::Abandon],
            plan!(Withdraw, HandOver, |r| r.requires = &[]),
            SERVING,
        ),
        plant(
            "a lower number is believed",
            &[(PrimaryDies, 1), (ZoneFalls, 1)],
            &[],
            |s| s.lens = Lens::ForgetsTheHighest,
            NUMBER,
        ),
        plant(
            "our name is enough",
            &[(PrimaryDies, 1)],
            &[],
            |s| {
                s.lens = Lens::NameInsteadOfId;
                s.robots = 2;
            },
            HOLDERS,
        ),
        plant(
            "a lost answer counts as done",
            &[(PrimaryDies, 1), (Loss, 1)],
            &[],
            |s| s.lens = Lens::LostIsDone,
            HOLDERS,
        ),
        plant(
            "the zone does not compare",
            &[(PrimaryDies, 1)],
            &[],
            |s| {
                s.lens = Lens::SwapWithoutCompare;
                s.robots = 2;
            },
            NUMBER,
        ),
        plant(
            "the memory is not written",
            &[(PrimaryDies, 1), (Trouble::Crash, 1)],
            &[],
            |s| s.lens = Lens::MemoryNotWritten,
            FORGOT,
        ),
        plant(
            "the agent does not step down",
            &[(SiteCut, 1)],
            &[],
            |s| s.agent = Some(super::scenes::agent(StepDown::Alert, Unreadable::Keep)),
            &[ONE],
        ),
        plant(
            "a stall is not seen",
            &[(PrimaryDies, 1), (Stall, 1), (CutOff, 1), (PathCut, 1)],
            &[],
            |s| s.lens = Lens::StallNotSeen,
            NO_GROUND,
        ),
    ]
}

fn fence_required(scene: &mut Scene) {
    let mut settings = (*scene.settings).clone();
    settings.configured.fencing = Fencing::Required;
    scene.settings = Arc::new(settings);
}

#[test]
fn every_planted_fault_is_found() {
    let mut wrong = Vec::new();
    for Planted { fault, budget, says, change, found_by } in planted() {
        let mut scene = Scene::new(fault, budget);
        scene.says = says;
        scene.sample = 1;
        // A rule about the end that cannot find this fault only costs time: from each state it runs the world on.
        scene.ends = found_by;
        change(&mut scene);
        let explored = explore(&Arc::new(scene), STEPS_MAX);
        if !explored.broken.iter().any(|(name, _)| found_by.contains(name)) {
            let names: Vec<_> = explored.broken.iter().map(|(name, _)| *name).collect();
            wrong.push(format!("{fault}: {} states, and found {names:?}, not {found_by:?}", explored.states));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
