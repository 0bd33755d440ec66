//! Real daemons under each single and double cut, with the primary's PBX alive and dead: the robot's verdict against
//! the oracle.

use super::oracle::{HalfDead, Place, Policies, Process, SiteCut, Used, World};
use super::plan::{Cut, Cuts};
use super::stage::{HoldDown, Stage, verdict};

/// The double cuts are dealt to so many topologies, which run beside each other.
const HANDS: usize = 3;

fn watched() -> Policies {
    Policies {
        site_cut: SiteCut::Takeover,
        half_dead: HalfDead::Takeover,
        witness: Used::Yes,
        observer: Used::Yes,
        agent: None,
    }
}

/// How it goes from one set of cuts to the next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Between {
    /// With nothing cut between, until the robot sees that.
    Healed,
    /// At once: every count is made anew anyway.
    Nothing,
}

/// Goes from one set of cuts to the next; the verdict of each is compared.
fn compare(stage: &mut Stage, well: Place, sets: &[Vec<Cut>], between: Between) {
    let policies = watched();
    let expected = |place: Place| World::WELL.sight(place, policies).belief(policies).name();
    let mut differences = Vec::new();
    for set in sets {
        if between == Between::Healed {
            stage.make(well);
            stage.robot.wait("all is healed", |status| verdict(status) == expected(well));
        }
        let place = Place { cuts: Cuts::these(set), ..well };
        stage.make(place);
        stage.wait_counted();
        let found = stage.verdict();
        if found != expected(place) {
            differences.push(format!("robot: {found}\n{}\n", World::WELL.reasoning(place, policies)));
        }
    }
    println!("{} sets, {} differences", sets.len(), differences.len());
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Compares with the primary as it is: PBX, web server.
fn compare_all((pbx, web): (Process, Process), sets: &[Vec<Cut>], between: Between) {
    let Some(mut stage) = Stage::armed(watched(), HoldDown::Hour) else { return };
    compare(&mut stage, Place { cuts: Cuts::NONE, pbx, web }, sets, between);
}

const ALIVE: (Process, Process) = (Process::Runs, Process::Runs);
const DEAD: (Process, Process) = (Process::Dead, Process::Dead);

/// Nothing, and each cut alone.
fn singles() -> Vec<Vec<Cut>> {
    std::iter::once(Vec::new()).chain(Cut::ALL.map(|cut| vec![cut])).collect()
}

/// Every pair of cuts, dealt to so many.
fn pairs(hand: usize) -> Vec<Vec<Cut>> {
    let all = Cut::ALL.iter().enumerate().flat_map(|(i, one)| Cut::ALL[i + 1..].iter().map(|other| vec![*one, *other]));
    all.skip(hand).step_by(HANDS).collect()
}

#[test]
fn each_single_cut_of_a_living_primary_has_the_oracles_verdict() {
    compare_all(ALIVE, &singles(), Between::Healed);
}

#[test]
fn each_single_cut_of_a_dead_primary_has_the_oracles_verdict() {
    compare_all(DEAD, &singles(), Between::Healed);
}

#[test]
fn each_single_cut_of_a_primary_without_pbx_has_the_oracles_verdict() {
    compare_all((Process::Dead, Process::Runs), &singles(), Between::Healed);
}

#[test]
fn each_single_cut_of_a_primary_without_web_server_has_the_oracles_verdict() {
    compare_all((Process::Runs, Process::Dead), &singles(), Between::Healed);
}

#[test]
fn pairs_of_cuts_of_a_living_primary_have_the_oracles_verdict_first_hand() {
    compare_all(ALIVE, &pairs(0), Between::Nothing);
}

#[test]
fn pairs_of_cuts_of_a_living_primary_have_the_oracles_verdict_second_hand() {
    compare_all(ALIVE, &pairs(1), Between::Nothing);
}

#[test]
fn pairs_of_cuts_of_a_living_primary_have_the_oracles_verdict_third_hand() {
    compare_all(ALIVE, &pairs(2), Between::Nothing);
}

#[test]
fn pairs_of_cuts_of_a_dead_primary_have_the_oracles_verdict_first_hand() {
    compare_all(DEAD, &pairs(0), Between::Nothing);
}

#[test]
fn pairs_of_cuts_of_a_dead_primary_have_the_oracles_verdict_second_hand() {
    compare_all(DEAD, &pairs(1), Between::Nothing);
}

#[test]
fn pairs_of_cuts_of_a_dead_primary_have_the_oracles_verdict_third_hand() {
    compare_all(DEAD, &pairs(2), Between::Nothing);
}
