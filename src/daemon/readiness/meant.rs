//! What `check` says where it depends on whether this node has taken over: a check of the primary that is down, a PBX that
//! serves, records that point here are what an outage looks like from the node that serves, and no fault.
//!
//! What is seen is asked in [`super`]; whether the PBX is meant to serve is told by its own look
//! ([`crate::units::PassiveLook`]).

use crate::units::finding::Finding;
use crate::units::{Meant, Serving, Side, StepOutcome};

/// A check of the primary that is down.
pub(super) fn down(meant: Meant, about: String, why: String) -> Finding {
    match meant {
        Meant::Passive => {
            Finding::problem(about, why, "a check must be up once before the robot believes it: see address and port")
        }
        Meant::Serving => Finding::warning(
            about,
            format!("{why}: the primary is down, which is why this node serves"),
            "repair the primary, then `pbx-failover failback`",
        ),
    }
}

/// Whether the PBX does what it is meant to.
pub(super) fn pbx(serving: Serving, meant: Meant, driver: &str) -> Finding {
    const ABOUT: &str = "pbx";
    match (serving, meant) {
        (Serving::No, Meant::Passive) => Finding::ok(ABOUT, format!("driver {driver}: passive")),
        (Serving::Yes, Meant::Serving) => {
            Finding::ok(ABOUT, format!("driver {driver}: the PBX serves: this node has taken over"))
        }
        (Serving::No, Meant::Serving) => Finding::problem(
            ABOUT,
            format!("driver {driver}: the PBX does not serve although this node has taken over"),
            "the robot starts it again by itself; `pbx-failover status` shows why it does not come up",
        ),
        (Serving::Yes, Meant::Passive) => Finding::warning(
            ABOUT,
            format!("driver {driver}: the PBX on this node serves"),
            "unless this node has taken over, stop it: two active servers hurt more than none",
        ),
        (Serving::Unknown(why), _) => Finding::warning(ABOUT, why, "see pbx.driver"),
    }
}

/// Whether the records point where they should.
pub(super) fn records(seen: &StepOutcome, to: Side) -> Finding {
    const ABOUT: &str = "dns";
    match (seen, to) {
        (StepOutcome::Done(proof), Side::Primary) => {
            Finding::ok(ABOUT, format!("the records point at the primary: {proof}"))
        }
        (StepOutcome::Done(proof), Side::Backup) => {
            Finding::ok(ABOUT, format!("the records point at the backup, which has taken over: {proof}"))
        }
        (other, Side::Primary) => Finding::warning(
            ABOUT,
            format!("the records do not point at the primary: {}", other.text()),
            "unless this node serves, put the configured lists into the zone: what is not as configured is not overwritten",
        ),
        (other, Side::Backup) => Finding::warning(
            ABOUT,
            format!("the records do not point at the backup although it has taken over: {}", other.text()),
            "phones that ask for the name go astray; `pbx-failover status` shows how redirect_dns stands",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::finding::Level;

    #[test]
    fn a_dead_primary_is_a_problem_for_the_passive_node_and_the_reason_why_the_other_serves() {
        let told = |meant| down(meant, "check sip".into(), "connection refused".into());
        assert_eq!(told(Meant::Passive).level, Level::Problem);
        let active = told(Meant::Serving);
        assert_eq!(active.level, Level::Warning);
        assert_eq!(active.text, "connection refused: the primary is down, which is why this node serves");
    }

    #[test]
    fn a_pbx_that_serves_is_right_on_the_node_that_has_taken_over_and_nowhere_else() {
        let told = |serving, meant| pbx(serving, meant, "systemd").level;
        assert_eq!(told(Serving::Yes, Meant::Serving), Level::Ok);
        assert_eq!(told(Serving::Yes, Meant::Passive), Level::Warning);
        assert_eq!(told(Serving::No, Meant::Serving), Level::Problem);
        assert_eq!(told(Serving::No, Meant::Passive), Level::Ok);
        assert_eq!(told(Serving::Unknown("no answer".into()), Meant::Serving), Level::Warning);
    }

    #[test]
    fn records_that_do_not_point_at_the_node_that_has_taken_over_are_not_to_be_put_back() {
        let astray = |to| records(&StepOutcome::failed("they differ"), to);
        assert!(astray(Side::Primary).hint.unwrap().contains("put the configured lists into the zone"));
        let active = astray(Side::Backup);
        assert!(active.level == Level::Warning && !active.hint.unwrap().contains("configured lists"));
        assert_eq!(records(&StepOutcome::done("as wanted"), Side::Backup).level, Level::Ok);
    }
}
