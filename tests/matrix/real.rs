//! Real daemons under each single and double cut, with the primary's PBX alive and dead: the robot's verdict against
//! the oracle.

use super::oracle::{HalfDead, Place, Policies, Process, SiteCut, Used, World};
use super::plan::{Cut, Cuts};
use super::stage::{HoldDown, Stage, verdict};

/// The double cuts are dealt to so many topologies, which run beside each other.
const HANDS: usize = 4;

fn watched() -> Policies {
    Policies {
        site_cut: SiteCut::Takeover,
        half_dead: HalfDead::Takeover,
        witness: Used::Yes,
        observer: Used::Yes,
        agent: None,
    }
}

/// Goes from one set of cuts to the next, with nothing cut between; the verdict of each is compared.
fn compare(stage: &mut Stage, well: Place, sets: &[Vec<Cut>]) {
    let policies = watched();
    let expected = |place: Place| World::WELL.sight(place, policies).belief(policies).name();
    let mut differences = Vec::new();
    for set in sets {
        stage.make(well);
        stage.robot.wait("all is healed", |status| verdict(status) == expected(well));
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

/// Compares with the primary as it is in each of `fates` (PBX, web server), one after the other.
fn compare_all(fates: &[(Process, Process)], sets: &[Vec<Cut>]) {
    let Some(mut stage) = Stage::armed(watched(), HoldDown::Hour) else { return };
    for (pbx, web) in fates {
        compare(&mut stage, Place { cuts: Cuts::NONE, pbx: *pbx, web: *web }, sets);
    }
}

const ALIVE: (Process, Process) = (Process::Runs, Process::Runs);
const DEAD: (Process, Process) = (Process::Dead, Process::Dead);

fn pairs(hand: usize) -> Vec<Vec<Cut>> {
    let all = Cut::ALL.iter().enumerate().flat_map(|(i, one)| Cut::ALL[i + 1..].iter().map(|other| vec![*one, *other]));
    all.skip(hand).step_by(HANDS).collect()
}

#[test]
fn each_single_cut_has_the_oracles_verdict_whatever_of_the_primary_lives() {
    let sets: Vec<_> = std::iter::once(Vec::new()).chain(Cut::ALL.map(|cut| vec![cut])).collect();
    compare_all(&[ALIVE, (Process::Dead, Process::Runs), DEAD, (Process::Runs, Process::Dead)], &sets);
}

#[test]
fn double_cuts_have_the_oracles_verdict_first_hand() {
    compare_all(&[ALIVE, DEAD], &pairs(0));
}

#[test]
fn double_cuts_have_the_oracles_verdict_second_hand() {
    compare_all(&[ALIVE, DEAD], &pairs(1));
}

#[test]
fn double_cuts_have_the_oracles_verdict_third_hand() {
    compare_all(&[ALIVE, DEAD], &pairs(2));
}

#[test]
fn double_cuts_have_the_oracles_verdict_fourth_hand() {
    compare_all(&[ALIVE, DEAD], &pairs(3));
}
