//! Every set of cuts through the real engine, against the oracle: zero differences.

use pbx_failover::units::State;

use super::drive::{End, Runs, Script};
use super::laws::{DEFAULT_AGENT, places, policies};
use super::oracle::{Act, Agent, Node, Place, Policies, Seen, World, healed};
use super::plan::{Cut, Cuts};

/// So many differences are printed; the rest is counted.
const SHOWN: usize = 5;

/// Compares, and collects what differs.
#[derive(Default)]
struct Comparison {
    runs: Runs,
    compared: usize,
    differences: Vec<String>,
}

impl Comparison {
    /// One way: a set of cuts, then each healed one.
    fn compare(&mut self, place: Place, policies: Policies, order: &[Cut]) {
        let expected = healed(place, policies, order);
        let way: Vec<Place> = expected.iter().map(|(place, _)| *place).collect();
        let ends = self.runs.ends(Script::of(&way, policies));
        let mut before = World::WELL;
        for ((place, world), end) in expected.iter().zip(ends) {
            self.compared += 1;
            let what = differs(*place, policies, *world, *end);
            if !what.is_empty() {
                let because = before.reasoning(*place, policies);
                self.differences.push(format!("{}\n{because}\nengine: {end:?}\n", what.join(", ")));
            }
            before = *world;
        }
    }

    #[track_caller]
    fn must_be_none(&self, least: usize) {
        println!(
            "{} places compared in {} runs, {} differences",
            self.compared,
            self.runs.len(),
            self.differences.len()
        );
        let shown: Vec<_> = self.differences.iter().take(SHOWN).map(String::as_str).collect();
        assert!(shown.is_empty(), "{} differences, the first:\n{}", self.differences.len(), shown.join("\n"));
        assert!(self.compared >= least, "only {} places were compared", self.compared);
    }
}

fn differs(place: Place, policies: Policies, world: World, end: End) -> Vec<&'static str> {
    let verdict = world.sight(place, policies).belief(policies).name();
    let held = world.holder == Node::Backup;
    // What was claimed is served; what was not claimed is watched. A master that went silent after it was last read
    // leaves the plan at its claim, "retry for ever": nothing is claimed, and nothing served.
    let state_fits = match end.state {
        State::Active => held,
        State::Standby | State::Suspect => !held,
        State::TakingOver => !held && world.sight(place, policies).backup_master == Seen::Silent,
        State::FailingBack | State::Halted => false,
    };
    let facts = [
        ("verdict", end.verdict.name() == verdict),
        ("epoch's holder", end.claimed == held),
        ("state", state_fits),
        ("primary's PBX", end.primary == world.primary),
        ("backup's PBX", end.backup == world.backup),
    ];
    facts.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

fn all_subsets(which: impl Fn(&Policies) -> bool) {
    let mut comparison = Comparison::default();
    let policies: Vec<_> = policies(Some(DEFAULT_AGENT)).into_iter().filter(which).collect();
    for policies in &policies {
        for place in Cuts::every().flat_map(places) {
            comparison.compare(place, *policies, &[]);
        }
    }
    comparison.must_be_none(policies.len() * 4 * (1 << Cut::ALL.len()));
}

/// Every set of at most `most` cuts.
fn few(most: usize) -> impl Iterator<Item = Cuts> {
    Cuts::every().filter(move |cuts| cuts.list().len() <= most)
}

/// Every order of some cuts.
fn orders(cuts: &[Cut]) -> Vec<Vec<Cut>> {
    if cuts.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (i, first) in cuts.iter().enumerate() {
        let mut rest = cuts.to_vec();
        rest.remove(i);
        all.extend(orders(&rest).into_iter().map(|order| [vec![*first], order].concat()));
    }
    all
}

#[test]
fn every_set_of_cuts_ends_as_the_oracle_says_by_default() {
    all_subsets(|p| *p == policies(Some(DEFAULT_AGENT))[0]);
}

#[test]
fn every_order_of_healing_up_to_three_cuts_ends_as_the_oracle_says() {
    let mut comparison = Comparison::default();
    let policies = policies(Some(DEFAULT_AGENT))[0];
    for place in few(3).flat_map(places) {
        for order in orders(&place.cuts.list()) {
            comparison.compare(place, policies, &order);
        }
    }
    comparison.must_be_none(50_000);
}

#[test]
fn every_policy_of_the_agent_ends_as_the_oracle_says_under_two_cuts_and_after_healing_in_each_order() {
    let acts = [Act::Stop, Act::UnregisterTrunks, Act::Nothing];
    let agents = acts.iter().flat_map(|a| acts.iter().map(|b| Some(Agent { step_down: *a, unreadable: *b })));
    let mut comparison = Comparison::default();
    for agent in agents.chain([None]) {
        for place in few(2).flat_map(places) {
            for order in orders(&place.cuts.list()) {
                comparison.compare(place, policies(agent)[0], &order);
            }
        }
    }
    comparison.must_be_none(20_000);
}
