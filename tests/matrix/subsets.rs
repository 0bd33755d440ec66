//! Every set of cuts through the real engine, against the oracle: zero differences.

use pbx_failover::units::State;

use super::drive::{End, Runs, Script};
use super::laws::{DEFAULT_AGENT, places, policies};
use super::oracle::{Act, Agent, HalfDead, Node, Place, Policies, Seen, SiteCut, Used, World, healing};
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
        let way = healing(place, order);
        let ends = self.runs.ends(Script::of(&way, policies));
        let mut before = World::WELL;
        for (place, end) in way.iter().zip(ends) {
            self.compared += 1;
            let outcomes = before.outcomes(*place, policies);
            if let Some(world) = outcomes.iter().find(|world| differs(*place, policies, **world, *end).is_empty()) {
                before = *world;
                continue;
            }
            let what = differs(*place, policies, outcomes[0], *end).join(", ");
            let because = before.reasoning(*place, policies);
            self.differences.push(format!("{what}\n{because}\nengine: {end:?}\n"));
            before = outcomes[0];
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

fn all_subsets(policies: &[Policies]) {
    let mut comparison = Comparison::default();
    for policies in policies {
        for place in Cuts::every().flat_map(places) {
            comparison.compare(place, *policies, &[]);
        }
    }
    comparison.must_be_none(policies.len() * 4 * (1 << Cut::ALL.len()));
}

/// Every set of at most `most` of these cuts.
fn few(most: usize, of: &[Cut]) -> impl Iterator<Item = Cuts> {
    let of = Cuts::these(of);
    Cuts::every().filter(move |cuts| cuts.list().len() <= most && cuts.list().iter().all(|cut| of.has(*cut)))
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

/// Every order of healing each of these sets.
fn all_orders(comparison: &mut Comparison, sets: impl Iterator<Item = Cuts>, policies: Policies) {
    for place in sets.flat_map(places) {
        for order in orders(&place.cuts.list()) {
            comparison.compare(place, policies, &order);
        }
    }
}

fn by_default() -> Policies {
    policies(Some(DEFAULT_AGENT))[0]
}

#[test]
fn every_set_of_cuts_ends_as_the_oracle_says_by_default() {
    all_subsets(&[by_default()]);
}

#[test]
fn every_set_of_cuts_ends_as_the_oracle_says_when_the_backup_only_waits_or_alerts() {
    let all = [
        Policies { site_cut: SiteCut::Wait, ..by_default() },
        Policies { half_dead: HalfDead::Alert, ..by_default() },
        Policies { site_cut: SiteCut::Wait, half_dead: HalfDead::Alert, ..by_default() },
    ];
    all_subsets(&all);
}

#[test]
fn every_set_of_cuts_ends_as_the_oracle_says_without_witness_observer_or_agent() {
    let all = [
        Policies { witness: Used::No, ..by_default() },
        Policies { witness: Used::InVain, site_cut: SiteCut::Wait, ..by_default() },
        Policies { observer: Used::No, ..by_default() },
        Policies { witness: Used::No, observer: Used::No, ..by_default() },
        Policies { agent: None, ..by_default() },
    ];
    all_subsets(&all);
}

#[test]
fn two_cuts_healed_in_either_order_end_as_the_oracle_says() {
    let mut comparison = Comparison::default();
    all_orders(&mut comparison, few(2, &Cut::ALL), by_default());
    comparison.must_be_none(3_000);
}

#[test]
fn three_cuts_around_the_epoch_healed_in_every_order_end_as_the_oracle_says() {
    let mut comparison = Comparison::default();
    let cuts = [
        Cut::SiteWire,
        Cut::BackupWire,
        Cut::MasterWire,
        Cut::PrimaryBackup,
        Cut::PrimaryMaster,
        Cut::BackupMaster,
        Cut::ObserverPrimary,
    ];
    all_orders(&mut comparison, few(3, &cuts), by_default());
    comparison.must_be_none(3_000);
}

#[test]
fn every_policy_of_the_agent_ends_as_the_oracle_says_when_the_primary_loses_the_epoch() {
    let cuts = [Cut::SiteWire, Cut::MasterWire, Cut::PrimaryBackup, Cut::PrimaryMaster, Cut::ObserverPrimary];
    let acts = [Act::Stop, Act::UnregisterTrunks, Act::Nothing];
    let agents = acts.iter().flat_map(|a| acts.iter().map(|b| Some(Agent { step_down: *a, unreadable: *b })));
    let mut comparison = Comparison::default();
    for agent in agents {
        all_orders(&mut comparison, few(2, &cuts), Policies { agent, ..by_default() });
    }
    comparison.must_be_none(2_000);
}
