//! What the oracle itself must never say: laws of the design that are read off its answers for every set of cuts.

use super::oracle::{Act, Agent, Belief, HalfDead, Node, Place, Policies, Process, SiteCut, Used, Who, World, healing};
use super::plan::{Cut, Cuts};

/// Guard and agent as they are by default.
pub const DEFAULT_AGENT: Agent = Agent { step_down: Act::Stop, unreadable: Act::Nothing };

/// Every combination of the robot's policies, with an agent or none.
pub fn policies(agent: Option<Agent>) -> Vec<Policies> {
    let mut all = Vec::new();
    for site_cut in [SiteCut::Takeover, SiteCut::Wait] {
        for half_dead in [HalfDead::Takeover, HalfDead::Alert] {
            for witness in [Used::Yes, Used::InVain, Used::No] {
                for observer in [Used::Yes, Used::No] {
                    all.push(Policies { site_cut, half_dead, witness, observer, agent });
                }
            }
        }
    }
    all
}

/// Every state of the primary's two servers under these cuts.
pub fn places(cuts: Cuts) -> impl Iterator<Item = Place> {
    let both = [Process::Runs, Process::Dead];
    both.into_iter().flat_map(move |pbx| both.into_iter().map(move |web| Place { cuts, pbx, web }))
}

#[test]
fn the_oracle_never_lets_a_cut_off_backup_take_over_and_heeds_every_sighting() {
    for policies in policies(Some(DEFAULT_AGENT)) {
        for place in Cuts::every().step_by(7).flat_map(places) {
            let sight = World::WELL.sight(place, policies);
            let world = World::WELL.settle(place, policies);
            if matches!(sight.belief(policies), Belief::WeAreCutOff | Belief::PathCut | Belief::PrimaryUp) {
                assert_eq!(world.holder, Node::Primary, "{}", World::WELL.reasoning(place, policies));
            }
            assert!(!place.cuts.has(Cut::MasterWire) || world.holder == Node::Primary);
        }
    }
}

#[test]
fn the_oracle_lets_both_serve_only_while_the_primary_cannot_read_the_epoch() {
    for policies in policies(Some(DEFAULT_AGENT)) {
        for place in Cuts::every().step_by(5).flat_map(places) {
            let world = World::WELL.settle(place, policies);
            let blind = world.sight(place, policies).primary_master == super::oracle::Seen::Silent;
            assert!(world.who(place) != Who::Both || blind, "{}", World::WELL.reasoning(place, policies));
        }
    }
}

#[test]
fn the_oracle_ends_with_one_server_once_all_is_healed() {
    for policies in policies(Some(DEFAULT_AGENT)) {
        for place in Cuts::every().step_by(11).flat_map(places) {
            let way = healing(place, &place.cuts.list());
            let world = way.iter().fold(World::WELL, |world, place| world.settle(*place, policies));
            let place = way[way.len() - 1];
            assert_eq!(place.cuts, Cuts::NONE);
            assert_ne!(world.who(place), Who::Both, "{}", world.reasoning(place, policies));
            assert_eq!(world.who(place) == Who::Nobody, world.holder == Node::Primary && place.pbx == Process::Dead);
        }
    }
}
