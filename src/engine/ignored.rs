//! The pairs of state and trigger that do nothing, with reasons. For a person's command the reason is the answer.

use crate::units::State;

use super::table::Trigger;

use State::{Active, FailingBack, Halted, Standby, Suspect, TakingOver};
use Trigger as T;

/// One reason for several pairs.
#[derive(Debug, Clone, Copy)]
pub struct Ignored {
    /// In these states
    pub states: &'static [State],
    /// these triggers do nothing,
    pub triggers: &'static [Trigger],
    /// because of this.
    pub because: &'static str,
}

const fn ignored(states: &'static [State], triggers: &'static [Trigger], because: &'static str) -> Ignored {
    Ignored { states, triggers, because }
}

/// Every pair that does nothing.
pub const IGNORED: &[Ignored] = &[
    ignored(&[Standby], &[T::PrimaryUp], "all is well"),
    ignored(&[Standby], &[T::EvidenceVoid], "nothing is believed, so nothing is done"),
    ignored(&[Suspect], &[T::PrimaryTroubled], "that is why we are here; the hold-down runs"),
    ignored(&[Active], &[T::EvidenceVoid], "we serve; what we cannot see of the primary changes nothing"),
    ignored(&[Active], &[T::PrimaryTroubled], "that is why we serve"),
    ignored(
        &[Standby, Suspect, TakingOver, FailingBack, Halted],
        &[T::ServesAlone],
        "only while this node serves could both, and there an alarm says so",
    ),
    ignored(
        &[FailingBack, Halted],
        &[T::PrimaryUp, T::EvidenceVoid, T::PrimaryTroubled],
        "the plan's own steps look at the primary; a person decides the rest",
    ),
    ignored(&[Standby, TakingOver, Active, FailingBack, Halted], &[T::HoldDownOver], "no hold-down runs"),
    ignored(
        &[Suspect, FailingBack, Halted],
        &[T::EpochOurs],
        "the plan that follows deals with the record: it is claimed anew, handed over, or a person decides",
    ),
    ignored(
        &[Standby, Suspect],
        &[T::EpochOther],
        "the other node holds the service, as it should while we do not serve",
    ),
    ignored(&[Suspect, Halted], &[T::EpochUnreadable], "nothing is claimed or handed over from here without a reading"),
    ignored(&[Halted], &[T::EpochLow], "a person is at it already"),
    ignored(
        &[Standby, Suspect, Active, FailingBack, Halted],
        &[T::Paused],
        "a pause only forbids automatic takeovers, and `armed` says so",
    ),
    ignored(
        &[Standby, Suspect, Active, FailingBack, Halted],
        &[T::StoreBroken],
        "the robot is disarmed and keeps watching; a plan past its claim goes on from memory",
    ),
    ignored(
        &[Standby, Suspect, TakingOver, FailingBack, Halted],
        &[T::PbxSilent],
        "only while active must it serve; the plans look at the PBX by themselves",
    ),
    ignored(
        &[Standby, Suspect, Active, FailingBack, Halted],
        &[T::GiveUpOver],
        "no claim waits for this node to come up",
    ),
    ignored(
        &[Suspect, TakingOver, Active, FailingBack, Halted],
        &[T::NamesOwed],
        "while another plan runs or may be about to, DNS is that one's; it is moved home from standby",
    ),
    ignored(
        &[Standby, Suspect, Active, FailingBack, Halted],
        &[T::ConfirmFailed],
        "only a takeover plan confirms, and it runs in taking-over",
    ),
    ignored(
        &[Standby, Suspect, Active, FailingBack, Halted],
        &[T::RegistrationsAccepted],
        "only a takeover makes this node serve; in active it serves already",
    ),
    ignored(&[Standby, Suspect, Active, FailingBack, Halted], &[T::ClaimLost], "no claim is under way"),
    ignored(
        &[Standby, Suspect, Active, Halted],
        &[T::PlanHalted],
        "the plans that run here are tried for ever or pass over what fails; none halts",
    ),
    ignored(
        &[Standby, Suspect, TakingOver, Active, Halted],
        &[T::PrimaryNotBack],
        "only a failback waits for the primary",
    ),
    ignored(
        &[Standby, Suspect, Active, FailingBack],
        &[T::HandedOver],
        "the hand-over belongs to a plan that goes on; nothing but its end is waited for",
    ),
    ignored(
        &[Standby, Suspect, TakingOver, Active, Halted],
        &[T::PrimaryServes],
        "only a failback waits for the primary",
    ),
    ignored(
        &[TakingOver],
        &[T::PlanDone],
        "a takeover leaves this state when registrations are accepted, not at its end",
    ),
    ignored(
        &[FailingBack],
        &[T::AskedTakeover],
        "a failback is under way; `pbx-failover failback --undo` takes the service back",
    ),
    ignored(
        &[Standby, Suspect],
        &[T::AskedFailback],
        "this node does not serve, so there is nothing to give back; `pbx-failover status` says who does",
    ),
    ignored(
        &[Standby, Suspect, TakingOver, Active, Halted],
        &[T::AskedUndo],
        "no failback is under way that could be undone",
    ),
    ignored(
        &[Standby, Suspect, TakingOver, Active, FailingBack],
        &[T::AskedContinue, T::AskedAbandon],
        "nothing is halted; `pbx-failover status` says what runs",
    ),
];

/// Why a pair does nothing.
pub fn reason(state: State, trigger: Trigger) -> Option<&'static str> {
    IGNORED.iter().find(|i| i.states.contains(&state) && i.triggers.contains(&trigger)).map(|i| i.because)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::table::{ROWS, rows_for};

    #[test]
    fn every_pair_is_in_exactly_one_of_the_two_lists() {
        for state in State::ALL {
            for trigger in Trigger::ALL {
                let acted = rows_for(state, trigger).count();
                let ignored =
                    IGNORED.iter().filter(|i| i.states.contains(&state) && i.triggers.contains(&trigger)).count();
                match (acted, ignored) {
                    (1.., 0) | (0, 1) => {}
                    (0, 0) => panic!("{state} / {}: neither a row nor a reason", trigger.name()),
                    _ => panic!("{state} / {}: {acted} rows and {ignored} reasons", trigger.name()),
                }
            }
        }
    }

    #[test]
    fn row_numbers_are_unique_and_rise() {
        assert!(ROWS.windows(2).all(|pair| pair[0].number < pair[1].number));
    }

    #[test]
    fn every_state_can_be_reached_and_left() {
        for state in State::ALL {
            assert!(ROWS.iter().any(|r| r.from == state && r.to != state), "{state} is a trap");
            assert!(state == State::Standby || ROWS.iter().any(|r| r.to == state && r.from != state), "{state}");
        }
    }

    #[test]
    fn service_is_given_back_only_when_a_person_or_another_holder_says_so() {
        for row in ROWS.iter().filter(|r| r.from == State::Active && r.to != State::Active) {
            assert!(matches!(row.on, Trigger::AskedFailback | Trigger::EpochOther), "row {}", row.number);
        }
    }
}
