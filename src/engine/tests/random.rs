//! Random worlds from a seed: whatever happens, in whatever order, some things never do. A failure prints the seed
//! that replays it: `PBX_FAILOVER_SEED=… cargo test random`; `PBX_FAILOVER_WORLDS=…` tries more of them.

use std::time::Duration;

use super::world::{Host, World, failback, takeover};
use crate::engine::Event;
use crate::units::operator::Command;
use crate::units::{EpochSeen, State, Step, StepOutcome};

/// Worlds for each run, and happenings for each world.
const WORLDS: u64 = 40;
const HAPPENINGS: u64 = 60;

struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

const FAULTY: [Step; 9] = [
    Step::Claim,
    Step::SecureData,
    Step::Reload,
    Step::RegisterTrunks,
    Step::RedirectDns,
    Step::StopAccepting,
    Step::HandOver,
    Step::ReturnData,
    Step::Notify,
];

fn happen(w: &mut World, dice: &mut Dice) {
    match dice.throw(20) {
        0 | 1 => w.primary = Host::Down,
        2 | 3 => w.primary = Host::Up,
        4 => w.primary = Host::WebOnly,
        5 => w.internet = false,
        6 | 7 => w.internet = true,
        8 => {
            let fault = match dice.throw(3) {
                0 => StepOutcome::failed("a fault"),
                1 => StepOutcome::unknown("a fault"),
                _ => StepOutcome::Refused("a fault".into()),
            };
            let step = FAULTY[usize::try_from(dice.throw(9)).unwrap()];
            // Only the store itself refuses a claim or a hand-over, with what stands there.
            let fault = match (step, fault) {
                (Step::Claim | Step::HandOver, StepOutcome::Refused(why)) => StepOutcome::Unknown(why),
                (_, fault) => fault,
            };
            w.faults.insert(step, fault);
        }
        9 | 10 => w.faults.clear(),
        11 => w.crash(),
        12 => {
            w.disk.broken = !w.disk.broken;
            if !w.disk.broken {
                w.hear(Event::Store(Ok(())));
            }
        }
        13 => w.stall(dice.throw(60)),
        14 => w.calls = u32::try_from(dice.throw(2)).unwrap(),
        15 => drop(w.ask(failback())),
        16 => drop(w.ask(takeover())),
        17 => {
            let command = match dice.throw(6) {
                0 => Command::Failback { wait: true, cut_calls: false, undo: false },
                1 => Command::Failback { wait: false, cut_calls: true, undo: false },
                2 => Command::Failback { wait: false, cut_calls: false, undo: true },
                3 => Command::Continue { fenced_by_hand: true },
                4 => Command::Abandon { to: None },
                _ => Command::Ack,
            };
            drop(w.ask(command));
        }
        18 => {
            // The PBX dies under us, as at a reboot.
            w.serving = false;
            w.crash();
        }
        _ => {}
    }
    w.run_for(1 + dice.throw(20));
}

fn number(w: &World) -> u64 {
    w.epoch.as_ref().ok().and_then(EpochSeen::record).map_or(0, |record| record.number)
}

fn seeds() -> Vec<u64> {
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok());
    match number(option_env!("PBX_FAILOVER_SEED")) {
        Some(seed) => vec![seed],
        None => (1..=number(option_env!("PBX_FAILOVER_WORLDS")).unwrap_or(WORLDS)).collect(),
    }
}

#[test]
fn whatever_happens_some_things_never_do() {
    for seed in seeds() {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut w = World::well();
        let mut last = 0;
        for _ in 0..HAPPENINGS {
            let before = w.acts.len();
            let (cut_off, told) = (!w.internet, w.disk.history.len());
            happen(&mut w, &mut dice);
            assert!(number(&w) >= last, "seed {seed}: the number fell\n{}", w.story());
            last = number(&w);
            let began = w.acts[before..].contains(&Step::Claim);
            // Row 52 is a person's word.
            let asked = w.disk.history[told..].iter().any(|event| event.row == Some(52));
            assert!(!cut_off || w.internet || !began || asked, "seed {seed}: claimed while cut off\n{}", w.story());
            if w.state() == State::Active {
                let holder = w.holder();
                assert!(holder.ends_with("pbx-b"), "seed {seed}: active while {holder} holds it\n{}", w.story());
            }
        }
    }
}

#[test]
fn a_dead_primary_is_replaced_from_wherever_the_robot_stands() {
    for seed in seeds() {
        let mut dice = Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1);
        let mut w = World::well();
        for _ in 0..HAPPENINGS / 2 {
            happen(&mut w, &mut dice);
        }
        // All heals but the primary.
        w.faults.clear();
        w.disk.broken = false;
        w.hear(Event::Store(Ok(())));
        w.internet = true;
        w.calls = 0;
        w.primary = Host::Up;
        w.run_for(120);
        if w.state() == State::Halted {
            drop(w.ask(Command::Abandon { to: None }));
            w.run_for(30);
        }
        w.primary = Host::Down;
        w.run_for(400);
        assert!(w.state() == State::Active && w.serving, "seed {seed}: {} {}\n{}", w.state(), w.serving, w.story());
    }
}

#[test]
fn nothing_is_waited_for_longer_than_a_wake_up() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.faults.insert(Step::Reload, StepOutcome::failed("unit failed"));
    w.run_until(State::TakingOver, 30);
    let wake = w.engine.wake_at().expect("a retry is planned");
    assert!(wake <= w.now.boot + Duration::from_secs(10));
}
