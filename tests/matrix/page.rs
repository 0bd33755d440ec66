//! The page `docs/partition-matrix.md`: the oracle's answers for people. `PBX_FAILOVER_WRITE_DOCS=1` writes it anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use pbx_failover::daemon::readiness::both::STEP_DOWN;

use super::laws::DEFAULT_AGENT;
use super::oracle::{
    Act, Agent, Belief, HalfDead, Node, Place, Policies, Process, Seen, Serving, SiteCut, Used, View, Who, World,
};
use super::plan::{Cut, Cuts};

/// Pairs and threes that say something which no single cut does.
const TOGETHER: [&[Cut]; 6] = [
    &[Cut::PrimaryBackup, Cut::ObserverPrimary],
    &[Cut::PrimaryBackup, Cut::ObserverBackup],
    &[Cut::PrimaryBackup, Cut::ObserverPrimary, Cut::PrimaryMaster],
    &[Cut::SiteWire, Cut::BackupWire],
    &[Cut::PrimaryWire, Cut::MasterWire],
    &[Cut::PrimaryBackup, Cut::BackupRouter],
];

fn usual() -> Policies {
    Policies {
        site_cut: SiteCut::Takeover,
        half_dead: HalfDead::Takeover,
        witness: Used::Yes,
        observer: Used::Yes,
        agent: Some(DEFAULT_AGENT),
    }
}

fn row(place: Place, policies: Policies) -> String {
    let world = World::WELL.settle(place, policies);
    let sight = World::WELL.sight(place, policies);
    let healed = Place { cuts: Cuts::NONE, ..place };
    let after = world.settle(healed, policies);
    let checks = match (sight.web, sight.sip) {
        (Seen::Answers, Seen::Answers) => "up",
        (Seen::Silent, Seen::Silent) => "down",
        _ => "half",
    };
    let internet = if sight.internet < super::oracle::NEED { "no" } else { "yes" };
    let router = if sight.witness == Seen::Answers { "answers" } else { "silent" };
    let observer = match sight.observer {
        View::Nobody => "none",
        View::Unheard => "not heard",
        View::SeesNoLife => "sees none",
        View::SeesAlive => "sees it",
    };
    let reads = if sight.primary_master == Seen::Answers { "yes" } else { "no" };
    let verdict = sight.belief(policies).name();
    let (now, then) = (serves(world, place), serves(after, healed));
    let heard = heard(world, place, policies);
    let cuts = place.cuts;
    format!(
        "| {cuts} | {checks} | {internet} | {router} | {observer} | {reads} | `{verdict}` | {now} | {heard} | {then} |\n"
    )
}

fn serves(world: World, place: Place) -> &'static str {
    match (world.who(place), world.primary_in(place)) {
        (Who::Primary, _) => "primary",
        (Who::Backup, _) => "backup",
        (Who::Both, Serving::PhonesOnly) => "both, the primary without trunks",
        (Who::Both, _) => "both",
        (Who::Nobody, _) => "nobody",
    }
}

fn heard(world: World, place: Place, policies: Policies) -> &'static str {
    match world.heard(place, policies)[..] {
        [Node::Primary] => "primary",
        [Node::Backup] => "backup",
        [] => "nobody",
        _ => "both",
    }
}

const HEAD: &str = "\
| cut | checks | Internet | router | observer | primary reads the epoch | verdict | serves | provider hears | healed: serves |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
";

fn table(sets: &[Cuts], program: Process) -> String {
    let rows = sets.iter().map(|cuts| row(Place { cuts: *cuts, pbx: program, web: program }, usual()));
    HEAD.to_owned() + &rows.collect::<String>()
}

/// What each policy for an unreadable epoch makes of a living primary that is cut off.
fn policies() -> String {
    let mut text = String::from(
        "| `agent.epoch_unreadable` | site cut: serves | site cut: provider hears | only the epoch and the other hosts \
         cut: serves | provider hears |\n| --- | --- | --- | --- | --- |\n",
    );
    let blind = [Cut::PrimaryBackup, Cut::ObserverPrimary, Cut::PrimaryMaster];
    for (name, unreadable) in
        [("keep", Act::Nothing), ("unregister_trunks", Act::UnregisterTrunks), ("stop", Act::Stop)]
    {
        let policies = Policies { agent: Some(Agent { unreadable, ..DEFAULT_AGENT }), ..usual() };
        let cell = |cuts: &[Cut]| {
            let place = Place { cuts: Cuts::these(cuts), pbx: Process::Runs, web: Process::Runs };
            let world = World::WELL.settle(place, policies);
            format!("{} | {}", serves(world, place), heard(world, place, policies))
        };
        let _ = writeln!(text, "| `{name}` | {} | {} |", cell(&[Cut::SiteWire]), cell(&blind));
    }
    text
}

fn page() -> String {
    let singles: Vec<Cuts> = std::iter::once(Cuts::NONE).chain(Cut::ALL.map(|cut| Cuts::these(&[cut]))).collect();
    let together: Vec<Cuts> = TOGETHER.iter().map(|cuts| Cuts::these(cuts)).collect();
    let [every, read, memory] = STEP_DOWN.map(|part| part.as_secs());
    include_str!("page.md")
        .replace("@EVERY@", &every.to_string())
        .replace("@READ@", &read.to_string())
        .replace("@MEMORY@", &memory.to_string())
        .replace("@SUM@", &(every + read + memory).to_string())
        .replace("@ALIVE@\n", &table(&singles, Process::Runs))
        .replace("@DEAD@\n", &table(&singles, Process::Dead))
        .replace("@TOGETHER@\n", &table(&together, Process::Runs))
        .replace("@POLICIES@\n", &policies())
}

#[test]
fn the_page_of_the_matrix_is_what_the_oracle_says() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/partition-matrix.md");
    let page = page();
    if std::env::var_os("PBX_FAILOVER_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("the page");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == page, "docs/partition-matrix.md is not what the oracle says; PBX_FAILOVER_WRITE_DOCS=1 writes it");
}

#[test]
fn the_page_shows_each_verdict_that_links_can_bring_about() {
    let page = page();
    let beliefs = [Belief::PrimaryUp, Belief::PrimaryDead, Belief::SiteCut, Belief::PathCut, Belief::WeAreCutOff];
    for belief in beliefs {
        assert!(page.contains(&format!("| `{}` |", belief.name())), "{}", belief.name());
    }
}
