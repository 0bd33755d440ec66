//! Real daemons that act: one way through cuts and healing for each row of the verdict's table, with guard and agent on
//! the primary. Who holds the epoch, which PBX runs and whom the provider hears is compared with the oracle.

use std::time::{Duration, Instant};

use super::laws::DEFAULT_AGENT;
use super::oracle::{Act, Agent, HalfDead, Node, Place, Policies, Process, Serving, SiteCut, Used, World};
use super::plan::{Cut, Cuts};
use super::stage::{HoldDown, Stage, TRUNK_EXPIRES_S, verdict};
use crate::lab::robot::Robot;
use crate::lab::sites::{Ear, Host};
use crate::lab::{wait_for, wait_until};

/// Both may be heard at the provider for so long: the agent reads every 5 s, a reading may take 4 s to fail, and its PBX
/// 5 s to stop or to give its trunks up; a look at the counters takes a moment.
const BOTH: Duration = Duration::from_secs(15);
/// A state is waited for so long: the agent reads every 5 s, a claim is tried again within 15 s, a trunk within 10 s.
const PATIENCE: Duration = Duration::from_secs(60);

fn usual() -> Policies {
    Policies {
        site_cut: SiteCut::Takeover,
        half_dead: HalfDead::Takeover,
        witness: Used::Yes,
        observer: Used::Yes,
        agent: Some(DEFAULT_AGENT),
    }
}

/// One stop of a way: what is cut then, and what of the primary lives.
fn place(cuts: &[Cut], pbx: Process, web: Process) -> Place {
    Place { cuts: Cuts::these(cuts), pbx, web }
}

fn alive(cuts: &[Cut]) -> Place {
    place(cuts, Process::Runs, Process::Runs)
}

fn dead(cuts: &[Cut]) -> Place {
    place(cuts, Process::Dead, Process::Dead)
}

/// What differs between the stage and a world.
fn differs(stage: &Stage, place: Place, policies: Policies, world: World) -> Vec<String> {
    let status = stage.robot.status();
    let believed = world.sight(place, policies).belief(policies).name();
    let holder = if stage.outside.holder().as_deref() == Some("pbx-b") { Node::Backup } else { Node::Primary };
    let primary = world.primary_in(place) != Serving::Off;
    let backup = world.backup != Serving::Off;
    let facts = [
        ("verdict", format!("{:?}", verdict(&status)), format!("{believed:?}")),
        ("epoch's holder", format!("{holder:?}"), format!("{:?}", world.holder)),
        ("primary's PBX runs", stage.sip.runs().to_string(), primary.to_string()),
        ("backup's PBX runs", stage.pbx.runs().to_string(), backup.to_string()),
    ];
    let differs = facts.into_iter().filter(|(_, found, wanted)| found != wanted);
    differs.map(|(what, found, wanted)| format!("{what}: {found}, the oracle says {wanted}")).collect()
}

/// Goes a way, and compares once each stop has settled.
fn go(policies: Policies, way: &[Place]) {
    let Some(mut stage) = Stage::armed(policies, HoldDown::None) else { return };
    let ear = stage.outside.net.ear();
    // A PBX without its registrations still passes a call on: where the policy takes only those, nobody calls here.
    let calls = policies.agent.is_none_or(|agent| agent.unreadable != Act::UnregisterTrunks);
    let callers = calls.then(|| stage.callers());
    wait_until("a call of the primary reaches the provider", PATIENCE, || {
        !calls || stage.outside.net.invites_from(Host::Primary) > 0
    });
    let start = Instant::now();
    let mut world = World::WELL;
    for place in way {
        let reasoning = world.reasoning(*place, policies);
        let cut_at = Instant::now();
        stage.make(*place);
        world = world.settle(*place, policies);
        let (watched, why) = (&stage, &reasoning);
        wait_for(PATIENCE, || {
            let found = differs(watched, *place, policies, world);
            if found.is_empty() {
                return Ok(());
            }
            Err(move || {
                let agent = watched.agent.as_ref().map(|agent| agent.history_text() + &agent.log());
                let (found, robot) = (found.join("\n"), watched.robot.history_text());
                format!("{found}\n{why}\nhistory\n{robot}\n{}", agent.unwrap_or_default())
            })
        });
        // It stays so.
        stage.wait_counted();
        let found = differs(&stage, *place, policies, world);
        assert!(found.is_empty(), "it did not stay so: {}\n{reasoning}", found.join("\n"));
        if calls {
            hear(&ear, world, *place, policies, &reasoning);
        } else {
            registered(&stage, world, *place, policies, &reasoning);
        }
        println!("{}: {} after {:?}", place.cuts, verdict(&stage.robot.status()), cut_at.elapsed());
    }
    drop(callers);
    if calls && ear.heard().iter().any(|(_, who)| *who == Host::Backup) {
        assert!(stage.outside.net.invites_from(Host::Backup) > 0, "no call of the backup reached the provider");
    }
    if calls && !way.iter().any(|place| both_may_be_heard(*place, policies, way)) {
        let both = heard_from_both(&ear);
        println!("the provider heard both for {both:?}");
        let heard: Vec<_> = ear.heard().into_iter().map(|(at, who)| (at.duration_since(start), who)).collect();
        let told = stage.agent.as_ref().map(Robot::history_text).unwrap_or_default();
        assert!(both <= BOTH, "the provider heard both nodes for {both:?}: {heard:?}\n{told}");
    }
}

/// Whether the oracle lets both be heard at a stop.
fn both_may_be_heard(stop: Place, policies: Policies, way: &[Place]) -> bool {
    let mut world = World::WELL;
    for place in way {
        world = world.settle(*place, policies);
        if *place == stop && world.heard(*place, policies).len() == 2 {
            return true;
        }
    }
    false
}

/// Waits until exactly those whom the oracle names go on being heard at the provider.
fn hear(ear: &Ear, world: World, place: Place, policies: Policies, reasoning: &str) {
    let wanted = world.heard(place, policies);
    // A registration is refreshed before it ends; a trunk that could not register is tried again within 10 s.
    let window = Duration::from_secs(2 * u64::from(TRUNK_EXPIRES_S));
    let start = Instant::now();
    loop {
        let since = Instant::now();
        // That somebody is silent is proved by nothing but time.
        std::thread::sleep(window);
        let nodes = [(Node::Primary, Host::Primary), (Node::Backup, Host::Backup)];
        let heard: Vec<Node> =
            nodes.into_iter().filter(|(_, host)| ear.heard_since(since, *host)).map(|(node, _)| node).collect();
        if heard == wanted {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "the provider hears {heard:?}, the oracle says {wanted:?}\n{reasoning}");
    }
}

/// Waits until the provider holds the registrations of exactly those whom the oracle names.
///
/// Who gives up a trunk says so again and again here: Kamailio takes the other node's registration of the same account
/// for its own, and never believes that it is rid of it. What counts is what the provider holds.
fn registered(stage: &Stage, world: World, place: Place, policies: Policies, reasoning: &str) {
    let wanted = world.heard(place, policies);
    let holds = |host: Host, contacts: &[String]| contacts.iter().any(|c| c.contains(&host.address().to_string()));
    wait_for(PATIENCE, || {
        let contacts = stage.provider.contacts("office");
        let nodes = [(Node::Primary, Host::Primary), (Node::Backup, Host::Backup)];
        let found: Vec<Node> =
            nodes.into_iter().filter(|(_, host)| holds(*host, &contacts)).map(|(node, _)| node).collect();
        if found == wanted {
            return Ok(());
        }
        let wanted = wanted.clone();
        Err(move || format!("the provider holds {contacts:?}, the oracle says {wanted:?}\n{reasoning}"))
    });
}

/// From the first to the last that the primary said after the backup was heard at all; the ways above have the primary
/// come back once.
fn heard_from_both(ear: &Ear) -> Duration {
    let heard = ear.heard();
    let said = heard.iter().skip_while(|(_, who)| *who != Host::Backup).filter(|(_, who)| *who == Host::Primary);
    let said: Vec<Instant> = said.map(|(at, _)| *at).collect();
    said.last().zip(said.first()).map_or(Duration::ZERO, |(last, first)| last.duration_since(*first))
}

#[test]
fn a_dead_primary_is_replaced_and_stays_replaced() {
    go(usual(), &[alive(&[]), dead(&[]), alive(&[])]);
}

#[test]
fn a_primary_without_its_cable_serves_nobody_and_steps_down_when_it_is_back() {
    go(usual(), &[alive(&[Cut::PrimaryWire]), alive(&[])]);
}

#[test]
fn a_cut_off_site_serves_its_own_phones_until_it_can_read_the_epoch() {
    go(usual(), &[alive(&[Cut::SiteWire]), alive(&[])]);
}

#[test]
fn a_cut_off_site_gives_up_what_its_policy_says() {
    let agent = Agent { step_down: Act::Stop, unreadable: Act::Stop };
    go(Policies { agent: Some(agent), ..usual() }, &[alive(&[Cut::SiteWire]), alive(&[])]);
}

#[test]
fn a_primary_that_nobody_sees_steps_down_as_soon_as_it_reads_the_epoch() {
    let cuts = [Cut::PrimaryBackup, Cut::ObserverPrimary];
    go(usual(), &[alive(&cuts), alive(&cuts[..1]), alive(&[])]);
}

#[test]
fn a_primary_that_an_observer_sees_goes_on_alone() {
    go(usual(), &[alive(&[Cut::PrimaryBackup]), alive(&[])]);
}

#[test]
fn a_cut_off_backup_waits_until_it_sees_the_world() {
    go(usual(), &[dead(&[Cut::BackupWire]), dead(&[])]);
}

#[test]
fn a_primary_without_pbx_is_replaced_and_one_without_web_server_is_not() {
    let no_web = place(&[], Process::Runs, Process::Dead);
    go(usual(), &[no_web, place(&[], Process::Dead, Process::Runs)]);
}

#[test]
fn nobody_claims_while_the_master_is_away() {
    go(usual(), &[dead(&[Cut::MasterWire]), dead(&[])]);
}

#[test]
fn a_blind_primary_is_heard_beside_the_backup_until_it_can_read_the_epoch() {
    let cuts = [Cut::PrimaryBackup, Cut::ObserverPrimary, Cut::PrimaryMaster];
    go(usual(), &[alive(&cuts), alive(&cuts[..2]), alive(&[])]);
}

#[test]
fn a_blind_primary_gives_its_trunks_up_where_the_policy_says_so() {
    let agent = Agent { step_down: Act::Stop, unreadable: Act::UnregisterTrunks };
    let cuts = [Cut::PrimaryBackup, Cut::ObserverPrimary, Cut::PrimaryMaster];
    go(Policies { agent: Some(agent), ..usual() }, &[alive(&cuts), alive(&[])]);
}

#[test]
fn a_site_that_is_cut_is_waited_for_where_the_policy_says_so() {
    go(Policies { site_cut: SiteCut::Wait, ..usual() }, &[alive(&[Cut::SiteWire]), alive(&[])]);
}

#[test]
fn a_primary_that_was_never_seen_up_is_not_believed_dead() {
    let Some(mut stage) = Stage::up(Policies { observer: Used::No, agent: None, ..usual() }, HoldDown::None) else {
        return;
    };
    stage.make(dead(&[]));
    stage.robot.start();
    stage.robot.wait("nothing is believed", |status| verdict(status) == "unsure");
    stage.wait_counted();
    assert_eq!((stage.verdict().as_str(), stage.robot.state().as_str()), ("unsure", "standby"));
    assert_eq!(stage.outside.holder(), None);
}
