//! The primary's side in virtual time: a record that others change, a PBX that does as it is told.

use std::time::Duration;

use jiff::Timestamp;

use super::agent::READ_EVERY;
use super::guard::needs_no_word;
use super::*;
use crate::units::policy::{StepDown, Unreadable};
use crate::units::{
    Condition, Duty, EpochRead, EpochRecord, EpochSeen, EventName, NodeName, Now, PlanId, StepOutcome, StopOrder,
};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn node() -> NodeName {
    "pbx-a".parse().unwrap()
}

fn record(number: u64, holder: &str) -> EpochRecord {
    EpochRecord {
        number,
        holder: holder.parse().unwrap(),
        id: PlanId(ulid::Ulid::from_parts(number, 1)),
        since: Timestamp::from_second(1_700_000_000).unwrap(),
    }
}

#[allow(clippy::unnecessary_wraps)] // it is a reading
fn held(number: u64, holder: &str) -> EpochRead {
    Ok(EpochSeen::held(record(number, holder)))
}

fn policy(step_down: StepDown, unreadable: Unreadable) -> Policy {
    Policy { step_down, unreadable_after: seconds(60), unreadable }
}

const USUAL: Policy =
    Policy { step_down: StepDown::Stop, unreadable_after: Duration::from_secs(60), unreadable: Unreadable::Keep };

/// A primary: its agent, its PBX, and what a reading of the record gives.
struct World {
    agent: Agent,
    policy: Policy,
    now: Now,
    store: EpochRead,
    pbx: Condition,
    calls: u32,
    trunks: bool,
    /// The PBX does not obey.
    deaf: bool,
    acts: Vec<Act>,
    told: Vec<EventName>,
}

impl World {
    fn new(policy: Policy, memory: Memory, store: EpochRead, pbx: Condition) -> Self {
        let now = Now { boot: seconds(100), wall: Timestamp::from_second(1_800_000_000).unwrap() };
        let agent = Agent::new(node(), policy, seconds(900), memory, now);
        let (acts, told) = Default::default();
        let mut world = Self { agent, policy, now, store, pbx, calls: 0, trunks: true, deaf: false, acts, told };
        world.hear(Event::Pbx(pbx));
        world
    }

    /// One that serves, as the last holder.
    fn serving(policy: Policy) -> Self {
        let mut world = Self::new(policy, remembers(8, "pbx-a"), held(8, "pbx-a"), Condition::Serves);
        world.run(1);
        world
    }

    fn hear(&mut self, event: Event) {
        let out = self.agent.handle(event, self.now);
        for ask in out.asks {
            match ask {
                Ask::ReadEpoch => self.hear(Event::Epoch(self.store.clone())),
                Ask::Act(act) => {
                    self.acts.push(act);
                    let outcome = self.carry_out(act);
                    self.hear(Event::Acted(act, outcome));
                }
                Ask::Tell(event, ..) => self.told.push(event),
                Ask::Note(..) => {}
            }
        }
    }

    fn carry_out(&mut self, act: Act) -> StepOutcome {
        if self.deaf {
            return StepOutcome::unknown("no answer");
        }
        match act {
            Act::Stop => (self.pbx, self.trunks) = (Condition::Stopped, false),
            Act::Start => (self.pbx, self.trunks) = (Condition::Serves, true),
            Act::UnregisterTrunks => self.trunks = false,
            Act::RegisterTrunks => self.trunks = true,
            Act::Drain if self.calls > 0 => return StepOutcome::failed(format!("{} calls are up", self.calls)),
            Act::Drain => {}
        }
        StepOutcome::done("seen")
    }

    fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.now.boot += seconds(1);
            self.now.wall += jiff::SignedDuration::from_secs(1);
            self.hear(Event::Tick);
            self.hear(Event::Pbx(self.pbx));
        }
    }

    /// The agent is killed and started again; the PBX goes on.
    fn restart(&mut self) {
        let memory = self.agent.memory().clone();
        self.agent = Agent::new(node(), self.policy, seconds(900), memory, self.now);
        self.hear(Event::Pbx(self.pbx));
    }

    fn guard(&self, agent: &AgentRuns) -> Answer {
        guard::guard(&self.store, self.agent.memory(), &node(), agent, self.now.wall)
    }

    fn order(plan: u64) -> StopOrder {
        let plan = PlanId(ulid::Ulid::from_parts(plan, 7));
        StopOrder { plan, drain_s: 30, for_s: 120, reason: "moving to the other site".into() }
    }
}

fn remembers(number: u64, holder: &str) -> Memory {
    Memory { seen: Some(record(number, holder)), ..Memory::default() }
}

fn unreadable() -> EpochRead {
    Err("192.0.2.53 does not answer".into())
}

#[test]
fn it_stops_within_one_reading_once_the_record_names_another_and_starts_again_once_it_names_us() {
    let mut world = World::serving(USUAL);
    world.store = held(9, "pbx-b");
    world.run(READ_EVERY.as_secs());
    assert_eq!((world.pbx, &world.acts), (Condition::Stopped, &vec![Act::Stop]));
    assert_eq!(world.told, [EventName::SteppedDown]);
    world.run(3600);
    assert_eq!(world.acts, [Act::Stop], "once is enough");
    world.store = held(10, "pbx-a");
    world.run(READ_EVERY.as_secs());
    assert_eq!((world.pbx, &world.acts), (Condition::Serves, &vec![Act::Stop, Act::Start]));
    assert_eq!(world.told, [EventName::SteppedDown, EventName::ServesAgain]);
}

#[test]
fn a_pbx_that_a_person_stopped_is_not_started() {
    let mut world = World::serving(USUAL);
    world.pbx = Condition::Stopped;
    world.run(60);
    world.store = held(9, "pbx-b");
    world.run(60);
    world.store = held(10, "pbx-a");
    world.run(60);
    assert_eq!(world.pbx, Condition::Stopped);
    assert!(!world.acts.contains(&Act::Start), "{:?}", world.acts);
}

#[test]
fn a_pbx_that_somebody_started_behind_its_back_is_stopped_again() {
    let mut world = World::serving(USUAL);
    world.store = held(9, "pbx-b");
    world.run(10);
    world.pbx = Condition::Serves;
    world.run(1);
    assert_eq!((world.pbx, world.acts.len()), (Condition::Stopped, 2));
}

#[test]
fn a_stop_that_does_not_succeed_is_tried_again_and_people_are_told() {
    let mut world = World::serving(USUAL);
    world.deaf = true;
    world.store = held(9, "pbx-b");
    world.run(120);
    assert!(world.acts.len() >= 5, "{:?}", world.acts);
    assert!(world.told.contains(&EventName::StepRetries));
    world.deaf = false;
    world.run(16);
    assert_eq!(world.pbx, Condition::Stopped);
}

#[test]
fn killed_at_any_moment_it_does_what_is_due_when_it_starts_again() {
    let mut world = World::serving(USUAL);
    world.deaf = true;
    world.store = held(9, "pbx-b");
    world.run(6);
    world.restart();
    world.deaf = false;
    world.run(6);
    assert_eq!(world.pbx, Condition::Stopped);
    world.restart();
    world.store = held(10, "pbx-a");
    world.run(6);
    assert_eq!(world.pbx, Condition::Serves, "that it held it back is remembered");
}

#[test]
fn nothing_is_started_or_stopped_on_memory_alone() {
    let held_back = Some(HeldBack { since: Timestamp::UNIX_EPOCH, because: "guard".into() });
    let memory = Memory { held_back, ..remembers(8, "pbx-a") };
    let now = Now { boot: seconds(9), wall: Timestamp::from_second(1_800_000_000).unwrap() };
    let mut agent = Agent::new(node(), USUAL, seconds(900), memory, now);
    let out = agent.handle(Event::Pbx(Condition::Stopped), now);
    assert!(!out.asks.iter().any(|ask| matches!(ask, Ask::Act(_))), "{:?}", out.asks);
    let out = agent.handle(Event::Epoch(held(9, "pbx-b")), now);
    assert!(!out.asks.contains(&Ask::Act(Act::Start)), "the other one claimed meanwhile: {:?}", out.asks);
}

#[test]
fn an_agent_that_is_restarted_every_half_minute_still_acts_in_time() {
    let mut world = World::serving(policy(StepDown::Stop, Unreadable::Stop));
    world.store = unreadable();
    world.run(30);
    world.restart();
    world.run(28);
    assert_eq!(world.pbx, Condition::Serves, "before its time");
    world.restart();
    world.run(6);
    assert_eq!(world.pbx, Condition::Stopped, "a minute has passed since the record was last read");
    world.store = held(8, "pbx-a");
    world.run(10);
    assert_eq!((world.pbx, world.agent.memory().unread_since), (Condition::Serves, None));
}

#[test]
fn an_old_outage_of_the_record_says_nothing_before_it_was_asked_again() {
    let mut world = World::serving(policy(StepDown::Stop, Unreadable::Stop));
    world.store = unreadable();
    world.run(20);
    // The agent is away for an hour, and the record is well when it comes back.
    world.now.boot += seconds(3_600);
    world.store = held(8, "pbx-a");
    world.restart();
    world.run(20);
    assert!(world.acts.is_empty() && world.told.is_empty(), "{:?} {:?}", world.acts, world.told);
}

#[test]
fn an_old_outage_and_a_lost_first_reading_do_not_stop_a_pbx() {
    let mut world = World::serving(policy(StepDown::Stop, Unreadable::Stop));
    world.store = unreadable();
    world.run(20);
    world.now.boot += seconds(3_600);
    world.restart();
    world.run(20);
    assert_eq!(world.pbx, Condition::Serves, "what it was in that hour nobody knows");
    world.run(45);
    assert_eq!(world.pbx, Condition::Stopped, "a minute has passed since it looks again");
}

#[test]
fn over_a_reboot_the_time_counts_from_the_boot() {
    let unread = Memory { unread_since: Some(seconds(5_000)), boot: "one".into(), ..remembers(8, "pbx-a") };
    for (id, since) in [("one", 5_000), ("two", 0)] {
        let mut memory = unread.clone();
        memory.read_in(id.into());
        assert_eq!((memory.unread_since, memory.boot.as_str()), (Some(seconds(since)), id));
    }
    let mut memory = remembers(8, "pbx-a");
    memory.read_in("two".into());
    assert_eq!(memory.unread_since, None);
}

#[test]
fn while_the_record_cannot_be_read_each_policy_does_what_it_says() {
    for (unreadable_policy, before, after, trunks) in [
        (Unreadable::Keep, Condition::Serves, Condition::Serves, true),
        (Unreadable::UnregisterTrunks, Condition::Serves, Condition::Serves, false),
        (Unreadable::Stop, Condition::Serves, Condition::Stopped, false),
    ] {
        let mut world = World::serving(policy(StepDown::Stop, unreadable_policy));
        world.store = unreadable();
        world.run(58);
        assert_eq!((world.pbx, world.trunks), (before, true), "{unreadable_policy:?} before its time");
        world.run(20);
        assert_eq!((world.pbx, world.trunks), (after, trunks), "{unreadable_policy:?} after its time");
        world.store = held(8, "pbx-a");
        world.run(10);
        assert_eq!((world.pbx, world.trunks), (Condition::Serves, true), "{unreadable_policy:?} recovers by itself");
    }
}

#[test]
fn an_absent_or_lower_record_is_not_believed() {
    for store in [
        Ok(EpochSeen::Absent),
        held(7, "pbx-b"),
        Ok(EpochSeen::held(EpochRecord { id: PlanId(ulid::Ulid::from_parts(1, 99)), ..record(8, "pbx-b") })),
    ] {
        let mut world = World::serving(USUAL);
        world.store = store.clone();
        world.run(600);
        assert_eq!(world.pbx, Condition::Serves, "{store:?}");
        assert_eq!(world.agent.memory().turn(), 8);
    }
}

#[test]
fn a_host_that_was_frozen_reads_before_anything_else() {
    let mut world = World::serving(USUAL);
    world.store = held(9, "pbx-b");
    world.now.boot += seconds(2);
    world.run(1);
    assert_eq!(world.pbx, Condition::Serves, "the next reading is not due yet");
    world.now.boot += seconds(600);
    world.hear(Event::Tick);
    assert_eq!(world.pbx, Condition::Stopped, "the first tick after the gap");
}

#[test]
fn the_policies_of_stepping_down_do_what_they_say() {
    for (step_down, pbx, trunks) in [
        (StepDown::Stop, Condition::Stopped, false),
        (StepDown::UnregisterTrunks, Condition::Serves, false),
        (StepDown::Alert, Condition::Serves, true),
    ] {
        let mut world = World::serving(policy(step_down, Unreadable::Keep));
        world.store = held(9, "pbx-b");
        world.run(10);
        assert_eq!((world.pbx, world.trunks), (pbx, trunks), "{step_down:?}");
        world.store = unreadable();
        world.run(600);
        assert_eq!((world.pbx, world.trunks), (pbx, trunks), "{step_down:?}: unreadable gives nothing back");
    }
}

#[test]
fn an_alert_beside_another_gives_nothing_back_that_was_given_up_while_the_record_was_unreadable() {
    for (unreadable_do, pbx) in
        [(Unreadable::UnregisterTrunks, Condition::Serves), (Unreadable::Stop, Condition::Stopped)]
    {
        let mut world = World::serving(policy(StepDown::Alert, unreadable_do));
        world.store = unreadable();
        world.run(70);
        assert_eq!((world.pbx, world.trunks), (pbx, false), "{unreadable_do:?}");
        world.store = held(9, "pbx-b");
        world.run(30);
        assert_eq!((world.pbx, world.trunks), (pbx, false), "{unreadable_do:?}: another serves meanwhile");
        world.store = held(10, "pbx-a");
        world.run(30);
        assert_eq!((world.pbx, world.trunks), (Condition::Serves, true), "{unreadable_do:?}: it is ours again");
    }
}

#[test]
fn before_the_first_claim_ever_the_policy_for_an_unreadable_record_counts_too() {
    for (unreadable_do, pbx, trunks) in [
        (Unreadable::Keep, Condition::Serves, true),
        (Unreadable::UnregisterTrunks, Condition::Serves, false),
        (Unreadable::Stop, Condition::Stopped, false),
    ] {
        let absent = Ok(EpochSeen::Absent);
        let usual = policy(StepDown::Stop, unreadable_do);
        let mut world = World::new(usual, Memory::default(), absent.clone(), Condition::Serves);
        world.run(10);
        world.store = unreadable();
        world.run(50);
        assert_eq!((world.pbx, world.trunks), (Condition::Serves, true), "{unreadable_do:?}: not yet");
        world.run(30);
        assert_eq!((world.pbx, world.trunks), (pbx, trunks), "{unreadable_do:?}");
        world.store = absent;
        world.run(30);
        assert_eq!((world.pbx, world.trunks), (Condition::Serves, true), "{unreadable_do:?}: nobody has claimed it");
    }
}

#[test]
fn an_alert_beside_another_is_told_again_and_again() {
    let mut world = World::serving(policy(StepDown::Alert, Unreadable::Keep));
    world.store = held(9, "pbx-b");
    world.run(1000);
    assert_eq!(world.told.iter().filter(|event| **event == EventName::BothMayServe).count(), 2);
}

#[test]
fn a_persons_word_holds_against_this_turn_and_ends_with_the_next() {
    let mut world = World::serving(USUAL);
    world.store = held(9, "pbx-b");
    world.run(10);
    let forced = Forced { turn: 9, at: world.now.wall, reason: "the other site burns".into() };
    let learned = Learned { forced: Some(Some(forced)), ..Learned::default() };
    world.hear(Event::Learned(Box::new(learned)));
    assert_eq!(world.pbx, Condition::Serves);
    assert!(world.told.contains(&EventName::BothMayServe));
    assert!(matches!(world.guard(&AgentRuns::Yes), Answer::MayServe(why) if why.contains("burns")));
    world.store = held(10, "pbx-b");
    assert!(matches!(world.guard(&AgentRuns::Yes), Answer::MustNot(_)), "the guard sees the newer turn by itself");
    world.run(6);
    assert_eq!(world.pbx, Condition::Stopped);
}

#[test]
fn a_persons_word_ends_when_the_record_names_this_node_and_is_not_taken_where_it_does() {
    let mut world = World::serving(USUAL);
    let forced = Forced { turn: 9, at: world.now.wall, reason: "in vain".into() };
    let learned = Learned { forced: Some(Some(forced)), ..Learned::default() };
    world.hear(Event::Learned(Box::new(learned)));
    world.run(6);
    assert_eq!(world.agent.memory().forced, None);
    let (memory, now) = (world.agent.memory().clone(), world.now.wall);
    let node = "pbx-a".parse().expect("a name");
    assert!(needs_no_word(&world.store, &memory, &node, now));
    assert!(!needs_no_word(&held(9, "pbx-b"), &memory, &node, now));
    assert!(!needs_no_word(&unreadable(), &memory, &node, now));
}

#[test]
fn a_switchover_drains_then_stops_and_the_next_turn_of_ours_starts_it_again() {
    let mut world = World::serving(USUAL);
    world.calls = 2;
    let order = World::order(1);
    world.hear(Event::StopAsked(order.clone()));
    assert!(matches!(world.agent.stop_outcome(order.plan), StepOutcome::Unknown(_)));
    world.run(10);
    assert_eq!(world.pbx, Condition::Serves, "calls are up");
    assert!(world.told.is_empty(), "it serves still: {:?}", world.told);
    world.calls = 0;
    world.run(2);
    assert_eq!(world.pbx, Condition::Stopped);
    assert_eq!(world.told, [EventName::SteppedDown]);
    assert!(matches!(world.agent.stop_outcome(order.plan), StepOutcome::Done(_)));
    assert!(matches!(world.guard(&AgentRuns::Yes), Answer::MustNot(why) if why.contains("switchover")));
    world.store = held(9, "pbx-b");
    world.run(300);
    assert_eq!(world.pbx, Condition::Stopped);
    world.store = held(10, "pbx-a");
    world.run(6);
    assert_eq!(world.pbx, Condition::Serves);
}

#[test]
fn a_backup_that_dies_in_a_switchover_keeps_the_primary_down_no_longer_than_it_asked_for() {
    let mut world = World::serving(USUAL);
    world.hear(Event::StopAsked(World::order(1)));
    world.run(2);
    assert_eq!(world.pbx, Condition::Stopped);
    world.run(117);
    assert_eq!(world.pbx, Condition::Stopped);
    world.run(3);
    assert_eq!(world.pbx, Condition::Serves, "its 120 s are over, and the epoch is still ours");
}

#[test]
fn a_switchover_that_is_dropped_gives_the_service_back_at_once() {
    let mut world = World::serving(USUAL);
    let order = World::order(1);
    world.hear(Event::StopAsked(order.clone()));
    world.run(2);
    let stranger = PlanId(ulid::Ulid::from_parts(9, 9));
    world.hear(Event::Resume(stranger));
    assert_eq!(world.pbx, Condition::Stopped, "another plan's word is nothing");
    world.hear(Event::Resume(order.plan));
    assert_eq!(world.pbx, Condition::Serves);
}

#[test]
fn a_planned_stop_keeps_what_was_held_back_stopped_until_it_ends() {
    let mut world = World::serving(USUAL);
    world.store = held(9, "pbx-b");
    world.run(6);
    let until = world.now.wall + jiff::SignedDuration::from_secs(100);
    world.hear(Event::PlannedStop(Some(until)));
    world.store = held(10, "pbx-a");
    world.run(50);
    assert_eq!(world.pbx, Condition::Stopped);
    world.run(60);
    assert_eq!(world.pbx, Condition::Serves);
}

#[test]
fn the_guard_lets_start_who_holds_the_epoch_and_nobody_else() {
    let memory = remembers(8, "pbx-a");
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let ask = |read: &EpochRead, memory: &Memory, agent| guard::guard(read, memory, &node(), &agent, now);
    let gone = || AgentRuns::No("no socket".into());
    assert!(matches!(ask(&held(8, "pbx-a"), &memory, gone()), Answer::MayServe(_)));
    assert!(matches!(ask(&held(9, "pbx-b"), &memory, AgentRuns::Yes), Answer::MustNot(_)));
    assert!(matches!(ask(&Ok(EpochSeen::Absent), &Memory::default(), gone()), Answer::MayServe(_)));
    assert!(matches!(ask(&Ok(EpochSeen::Absent), &memory, gone()), Answer::NotKnown(_)));
    assert!(matches!(ask(&held(7, "pbx-a"), &memory, gone()), Answer::NotKnown(_)));
}

#[test]
fn where_the_record_cannot_be_read_the_guard_goes_by_the_last_holder_and_a_living_agent() {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let ask = |memory: &Memory, agent| guard::guard(&unreadable(), memory, &node(), &agent, now);
    let serve = Memory { duty: Some(Duty::Serve), ..remembers(8, "pbx-a") };
    assert!(matches!(ask(&serve, AgentRuns::Yes), Answer::MayServe(_)));
    assert!(matches!(ask(&serve, AgentRuns::No("dead".into())), Answer::NotKnown(_)));
    let waits = Memory { duty: Some(Duty::AsItIs), ..remembers(8, "pbx-a") };
    assert!(matches!(ask(&waits, AgentRuns::Yes), Answer::NotKnown(why) if why.contains("agent.epoch_unreadable")));
    assert!(
        matches!(ask(&waits, AgentRuns::Fresh), Answer::NotKnown(why) if why.contains("only just started") && !why.contains("epoch_unreadable")),
        "a policy that has not been asked is not blamed"
    );
    let other = Memory { duty: Some(Duty::Serve), ..remembers(9, "pbx-b") };
    assert!(matches!(ask(&other, AgentRuns::Yes), Answer::MustNot(_)));
    assert!(matches!(ask(&Memory::default(), AgentRuns::Yes), Answer::NotKnown(_)));
}

/// An agent whose acts are answered by hand.
fn by_hand(memory: Memory, pbx: Condition) -> (Agent, Now) {
    let now = Now { boot: seconds(100), wall: Timestamp::from_second(1_800_000_000).unwrap() };
    let mut agent = Agent::new(node(), USUAL, seconds(900), memory, now);
    agent.handle(Event::Pbx(pbx), now);
    agent.handle(Event::Epoch(held(8, "pbx-a")), now);
    (agent, now)
}

#[test]
fn a_stop_that_ends_after_it_was_taken_back_is_followed_by_a_start() {
    let (mut agent, now) = by_hand(remembers(8, "pbx-a"), Condition::Serves);
    let order = StopOrder { drain_s: 0, ..World::order(1) };
    agent.handle(Event::StopAsked(order.clone()), now);
    let out = agent.handle(Event::Acted(Act::Drain, StepOutcome::done("no call is up")), now);
    assert!(out.asks.contains(&Ask::Act(Act::Stop)), "{:?}", out.asks);
    agent.handle(Event::Resume(order.plan), now);
    for _ in 0..3 {
        agent.handle(Event::Pbx(Condition::Serves), now);
    }
    let out = agent.handle(Event::Acted(Act::Stop, StepOutcome::done("it is stopped")), now);
    assert!(out.asks.contains(&Ask::Act(Act::Start)), "{:?}", out.asks);
}

#[test]
fn a_look_that_began_before_the_stop_ended_does_not_make_it_forget_that_it_stopped_it() {
    let (mut agent, now) = by_hand(remembers(8, "pbx-a"), Condition::Serves);
    agent.handle(Event::StopAsked(StopOrder { drain_s: 0, ..World::order(1) }), now);
    agent.handle(Event::Acted(Act::Drain, StepOutcome::done("no call is up")), now);
    agent.handle(Event::Acted(Act::Stop, StepOutcome::done("it is stopped")), now);
    agent.handle(Event::Pbx(Condition::Serves), now);
    agent.handle(Event::Pbx(Condition::Stopped), now);
    assert!(agent.memory().held_back.is_some());
}

#[test]
fn a_stop_waits_for_no_start() {
    let held_back = Some(HeldBack { since: Timestamp::UNIX_EPOCH, because: "guard".into() });
    let (mut agent, now) = by_hand(Memory { held_back, ..remembers(8, "pbx-a") }, Condition::Stopped);
    let out = agent.handle(Event::Epoch(held(9, "pbx-b")), now);
    assert!(out.asks.contains(&Ask::Act(Act::Stop)), "the start is under way still: {:?}", out.asks);
    let out = agent.handle(Event::Acted(Act::Start, StepOutcome::done("it serves")), now);
    assert!(!out.asks.contains(&Ask::Act(Act::Start)), "{:?}", out.asks);
    let out = agent.handle(Event::Acted(Act::Stop, StepOutcome::done("it is stopped")), now);
    assert_eq!(out.asks.iter().filter(|ask| matches!(ask, Ask::Act(_))).count(), 0, "{:?}", out.asks);
}

#[test]
fn a_switchover_whose_calls_do_not_end_in_time_is_refused_and_cuts_none() {
    let mut world = World::serving(USUAL);
    world.calls = 1;
    let order = World::order(1);
    for _ in 0..40 {
        world.hear(Event::StopAsked(order.clone()));
        world.run(1);
    }
    assert_eq!((world.pbx, world.acts.contains(&Act::Stop)), (Condition::Serves, false), "{:?}", world.acts);
    assert!(matches!(world.agent.stop_outcome(order.plan), StepOutcome::Failed(why) if why.contains("calls")));
    assert!(world.told.is_empty(), "nothing has changed: {:?}", world.told);
    world.calls = 0;
    world.hear(Event::StopAsked(World::order(2)));
    world.run(2);
    assert_eq!(world.pbx, Condition::Stopped, "another request is another");
}

#[test]
fn after_calls_were_waited_for_a_stop_that_fails_is_told_at_its_third_try() {
    let (mut agent, mut now) = by_hand(remembers(8, "pbx-a"), Condition::Serves);
    agent.handle(Event::StopAsked(World::order(1)), now);
    for _ in 0..10 {
        agent.handle(Event::Acted(Act::Drain, StepOutcome::failed("1 call is up")), now);
        now.boot += seconds(1);
        agent.handle(Event::Tick, now);
    }
    agent.handle(Event::Acted(Act::Drain, StepOutcome::done("no call is up")), now);
    let mut told = 0;
    for _ in 0..3 {
        let out = agent.handle(Event::Acted(Act::Stop, StepOutcome::unknown("no answer")), now);
        told += out.asks.iter().filter(|ask| matches!(ask, Ask::Tell(EventName::StepRetries, ..))).count();
        for _ in 0..5 {
            now.boot += seconds(1);
            agent.handle(Event::Tick, now);
        }
    }
    assert_eq!(told, 1);
}

#[test]
fn after_a_freeze_nothing_is_started_on_what_was_read_before() {
    let held_back = Some(HeldBack { since: Timestamp::UNIX_EPOCH, because: "guard".into() });
    let (mut agent, mut now) = by_hand(remembers(8, "pbx-a"), Condition::Stopped);
    now.boot += seconds(3600);
    let learned = Learned { held_back: Some(held_back), ..Learned::default() };
    let out = agent.handle(Event::Learned(Box::new(learned)), now);
    assert!(!out.asks.contains(&Ask::Act(Act::Start)) && out.asks.contains(&Ask::ReadEpoch), "{:?}", out.asks);
    let out = agent.handle(Event::Epoch(held(8, "pbx-a")), now);
    assert!(out.asks.contains(&Ask::Act(Act::Start)), "{:?}", out.asks);
}
