//! The scenes that are explored, each a region of the world: together more than a million states.

use crate::engine::PrimaryStart;
use crate::primary::Policy;
use crate::takeover::Fencing;
use crate::units::policy::{StepDown, Unreadable};

use super::scene::Trouble::{
    Call, Crash, CutOff, DiskFills, HalfDies, Late, Loss, MasterDies, PathCut, PbxDies, PbxSticks, Person, PrimaryDies,
    Reboot, SiteCut, Stall, ZoneFalls,
};
use super::scene::{Says, Scene, seconds};

const GIVES_BACK: [Says; 4] = [Says::Failback, Says::FailbackWaiting, Says::FailbackCutting, Says::Undo];
const AT_THE_HALTED: [Says; 4] = [Says::Continue, Says::Abandon, Says::Takeover, Says::Failback];
const STOPS_IT: [Says; 4] = [Says::Pause, Says::Unpause, Says::Failback, Says::Ack];
const TAKES_OVER: [Says; 5] =
    [Says::Takeover, Says::TakeoverStopped, Says::TakeoverWithoutClaim, Says::FailbackWaiting, Says::Undo];

pub fn scenes() -> Vec<Scene> {
    vec![
        Scene::new("one message and one crash", &[(PrimaryDies, 1), (Loss, 1), (Crash, 1), (Late, 1)]),
        Scene::new("two messages", &[(PrimaryDies, 2), (Loss, 2), (Late, 1)]),
        Scene::new("a backup that dies", &[(PrimaryDies, 1), (PbxDies, 1), (Loss, 1), (Crash, 1)]),
        Scene::new("a stall among messages", &[(PrimaryDies, 1), (Stall, 1), (Late, 1), (Crash, 1)]),
        Scene::new("ways", &[(PrimaryDies, 1), (CutOff, 1), (PathCut, 1), (MasterDies, 1), (HalfDies, 1)]),
        Scene::new("observers and a witness", &[(PrimaryDies, 1), (PathCut, 1), (CutOff, 1), (HalfDies, 1), (Loss, 1)])
            .set(|s| (s.site, s.observers) = (vec!["site".into()], vec!["elsewhere".into()])),
        Scene::new("failback", &[(PrimaryDies, 2), (Person, 2), (Call, 1), (Loss, 1)]).with(|s| s.says = &GIVES_BACK),
        Scene::new("failback in a storm", &[(PrimaryDies, 2), (Person, 1), (Crash, 1), (Late, 1)])
            .with(|s| s.says = &[Says::FailbackWaiting]),
        Scene::new("a person who takes over", &[(PrimaryDies, 1), (Person, 2), (Loss, 1), (MasterDies, 1)])
            .with(|s| s.says = &TAKES_OVER),
        Scene::new("a person who stops it", &[(PrimaryDies, 1), (Person, 2), (Crash, 1), (PathCut, 1)])
            .with(|s| s.says = &STOPS_IT),
        Scene::new("a fence that fails", &[(PrimaryDies, 1), (Person, 2), (Crash, 1)])
            .with(|s| s.says = &AT_THE_HALTED)
            .set(|s| s.configured.fencing = Fencing::Required),
        Scene::new("a PBX that does not stop", &[(PrimaryDies, 1), (Person, 3), (PbxSticks, 1)])
            .with(|s| s.says = &AT_THE_HALTED),
        Scene::new("a primary that is started by command", &[(PrimaryDies, 2), (Person, 1), (Loss, 1), (PbxSticks, 1)])
            .with(|s| s.says = &[Says::Failback])
            .set(|s| s.primary_start = PrimaryStart::ByCommand),
        Scene::new("a second robot by mistake", &[(PrimaryDies, 1), (Loss, 1), (Crash, 1)]).with(|s| s.robots = 2),
        Scene::new("a second robot, and late swaps", &[(PrimaryDies, 1), (Late, 2)]).with(|s| s.robots = 2),
        Scene::new("a second robot, and a zone that falls", &[(PrimaryDies, 1), (ZoneFalls, 1), (Reboot, 1)])
            .with(|s| s.robots = 2),
        Scene::new("a zone that falls", &[(PrimaryDies, 2), (ZoneFalls, 1), (Crash, 1), (Person, 1)])
            .with(|s| s.says = &[Says::FailbackWaiting]),
        Scene::new("a full disk", &[(PrimaryDies, 1), (DiskFills, 1), (Crash, 1), (Loss, 1)]),
        Scene::new("a host that ends", &[(PrimaryDies, 2), (Reboot, 2), (Loss, 1)]),
        Scene::new("a master that dies", &[(PrimaryDies, 2), (MasterDies, 2), (Crash, 1)]),
        Scene::new("the primary's agent", &[(PrimaryDies, 1), (SiteCut, 1), (Crash, 1), (Person, 1)])
            .with(|s| (s.says, s.agent) = (&[Says::Failback], Some(agent(StepDown::Stop, Unreadable::Keep))))
            .set(|s| s.primary_start = PrimaryStart::ByCommand),
        Scene::new("an agent that stops when it is cut", &[(PrimaryDies, 1), (SiteCut, 1), (PbxDies, 1), (Loss, 1)])
            .with(|s| s.agent = Some(agent(StepDown::Stop, Unreadable::Stop)))
            .set(|s| s.primary_start = PrimaryStart::ByCommand),
    ]
}

/// An agent's policy; it waits as long as a scene can.
pub fn agent(step_down: StepDown, unreadable: Unreadable) -> Policy {
    Policy { step_down, unreadable_after: seconds(6), unreadable }
}

/// Rows that no scene reaches, and why.
pub const NOT_REACHED: &[(u16, &str)] = &[(
    48,
    "no scene has a restart while active, an unreadable record and a person who goes on without; engine::tests::people has",
)];
