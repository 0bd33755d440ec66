//! The plans: explicit tables of steps. One row is one step of one plan.

use std::fmt::Write as _;

use crate::units::{PlanKind, Step};

/// How it is seen that a step is already done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looking {
    /// The world is looked at before each first attempt, after a crash and after an unknown outcome.
    AtTheEffect,
    /// There is nothing to look at; doing it again does no harm.
    Nowhere,
    /// The engine judges from its own checks; the act, if there is one, is only a start.
    AtTheVotes,
}

/// What happens when a step does not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// The plan ends: it was not so any more.
    DropsThePlan,
    /// Tried again for ever; a person is paged at the third attempt.
    ForEver,
    /// As [`Patience::ForEver`]; in a switchover only until half of the time is over for which the primary's PBX is
    /// stopped on loan. Then the plan is dropped: that PBX soon serves again, and a claim would cut its calls.
    WhileLent,
    /// Tried so often; then it is said, and the plan goes on.
    ThenGoesOn(u32),
    /// Tried so often; then the plan halts for a person.
    ThenHalts(u32),
    /// Tried in the background for an hour, a person is told once at the third attempt; then it is given up, which is
    /// told too, and the plan ends without it.
    Background,
    /// Asked again until the plan's time for it is over; then the plan halts for a person.
    WaitsThenHalts,
    /// Asked again until the plan's time for it is over; then service is taken back.
    WaitsThenReturns,
    /// Asked again until the plan's time for it is over, or it is refused; then the plan ends: nothing has changed yet.
    WaitsThenDrops,
}

/// One step of one plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The step.
    pub step: Step,
    /// Steps that must be over (done, passed or given up) before it begins.
    pub requires: &'static [Step],
    /// How it is seen that it is already done.
    pub looking: Looking,
    /// What happens when it does not succeed.
    pub patience: Patience,
    /// What proves it, for people.
    pub proof: &'static str,
}

const fn row(step: Step, requires: &'static [Step], looking: Looking, patience: Patience, proof: &'static str) -> Row {
    Row { step, requires, looking, patience, proof }
}

use Looking::{AtTheEffect, AtTheVotes, Nowhere};
use Patience::{
    Background, DropsThePlan, ForEver, ThenGoesOn, ThenHalts, WaitsThenDrops, WaitsThenHalts, WaitsThenReturns,
    WhileLent,
};
use Step::{
    AcceptRegistrations, ActionUrls, Claim, Confirm, Drain, Fence, HandOver, LowerTtl, Notify, Preflight,
    PrimaryServes, RedirectDns, RegisterTrunks, Reload, ReturnData, ReturnDelta, ReturnRest, SecureData, StartSync,
    StopAccepting, StopPrimary, UnregisterTrunks,
};

/// Makes this node serve. Once registrations are accepted the state is Active; the rest goes on beside each other.
const TAKEOVER: &[Row] = &[
    row(Confirm, &[], AtTheVotes, DropsThePlan, "Internet and votes asked once more, now"),
    // Only in a switchover. It ends by itself after a while, so that a plan that is dropped here has changed nothing.
    row(StopPrimary, &[Confirm], Nowhere, WaitsThenDrops, "its agent says that its PBX is stopped"),
    row(Claim, &[StopPrimary], AtTheEffect, WhileLent, "the record with our id, read back"),
    row(Fence, &[Claim], AtTheEffect, ThenHalts(3), "the device reads off, or a person's word"),
    row(SecureData, &[Fence], Nowhere, ThenGoesOn(3), "inbound sync stopped, the data passed its gate"),
    row(Reload, &[SecureData], AtTheEffect, ForEver, "the PBX runs this working directory"),
    row(AcceptRegistrations, &[Reload], AtTheEffect, ForEver, "our own SIP request is answered"),
    row(RegisterTrunks, &[AcceptRegistrations], AtTheEffect, Background, "state of each required trunk"),
    row(RedirectDns, &[AcceptRegistrations], AtTheEffect, Background, "master and every reachable NS read back"),
    row(ActionUrls, &[AcceptRegistrations], AtTheEffect, Background, "HTTP status of each, recorded"),
    row(Notify, &[AcceptRegistrations], AtTheEffect, Background, "each message accepted"),
];

/// Gives the service back. Nothing is handed over before this node's PBX is proved passive.
const FAILBACK: &[Row] = &[
    row(Preflight, &[], AtTheVotes, ForEver, "every vote of the primary is up"),
    row(
        ReturnData,
        &[Preflight],
        Nowhere,
        ThenHalts(3),
        "each file carried, read back by its digest, or the command exited with 0",
    ),
    row(LowerTtl, &[ReturnData], Nowhere, ThenGoesOn(3), "records read back with the low TTL, old one waited out"),
    row(Drain, &[LowerTtl], Nowhere, WaitsThenHalts, "no call is up"),
    row(UnregisterTrunks, &[Drain], Nowhere, ThenGoesOn(3), "the driver's word"),
    row(StopAccepting, &[UnregisterTrunks], Nowhere, ThenHalts(5), "our own SIP request is not answered"),
    row(ReturnDelta, &[StopAccepting], Nowhere, ThenGoesOn(1), "as return_data"),
    row(HandOver, &[ReturnDelta], AtTheEffect, ForEver, "the record names the other node, read back"),
    row(PrimaryServes, &[HandOver], AtTheVotes, WaitsThenReturns, "every vote up, asked after the hand-over"),
    row(RedirectDns, &[PrimaryServes], AtTheEffect, Background, "master and every reachable NS read back"),
    row(ActionUrls, &[RedirectDns], AtTheEffect, Background, "HTTP status of each, recorded"),
    row(Notify, &[PrimaryServes], AtTheEffect, Background, "each message accepted"),
    // Its act goes on by itself for as long as it gets further; what it leaves stays in the ledger.
    row(ReturnRest, &[PrimaryServes], Nowhere, Background, "as return_data"),
    // A sync that deletes would remove here what is not at home yet.
    row(StartSync, &[ReturnRest], Nowhere, Background, "what was stopped runs"),
];

/// After a restart while Active: see that the PBX serves, and make it so.
const SERVE: &[Row] = &[
    row(Reload, &[], AtTheEffect, ForEver, "the PBX runs this working directory"),
    row(AcceptRegistrations, &[Reload], AtTheEffect, ForEver, "our own SIP request is answered"),
    row(RegisterTrunks, &[AcceptRegistrations], AtTheEffect, Background, "state of each required trunk"),
];

/// Another serves: be passive, touch nothing else.
const RETREAT: &[Row] = &[row(StopAccepting, &[], Nowhere, ForEver, "our own SIP request is not answered")];

/// Be passive, then hand the epoch over; DNS follows if it ever pointed here.
const WITHDRAW: &[Row] = &[
    // Tried once: without it the provider sends calls to a stopped PBX until our registration runs out.
    row(UnregisterTrunks, &[], Nowhere, ThenGoesOn(1), "the driver's word"),
    row(StopAccepting, &[UnregisterTrunks], Nowhere, ForEver, "our own SIP request is not answered"),
    row(HandOver, &[StopAccepting], AtTheEffect, ForEver, "the record names the other node, read back"),
    row(StartSync, &[HandOver], Nowhere, Background, "what was stopped runs"),
    row(RedirectDns, &[HandOver], AtTheEffect, Background, "master and every reachable NS read back"),
];

/// The table of a plan.
pub fn rows(kind: PlanKind) -> &'static [Row] {
    match kind {
        PlanKind::Takeover => TAKEOVER,
        PlanKind::Failback => FAILBACK,
        PlanKind::Serve => SERVE,
        PlanKind::Retreat => RETREAT,
        PlanKind::Withdraw => WITHDRAW,
    }
}

impl Patience {
    /// What happens when the step does not succeed, for people.
    pub fn sentence(self) -> String {
        match self {
            DropsThePlan => "the plan is dropped".to_owned(),
            ForEver => "tried again for ever, a person is told".to_owned(),
            WhileLent => {
                "tried again for ever, a person is told; in a switchover, dropped once half of the primary's stop is over"
                    .to_owned()
            }
            ThenGoesOn(n) => format!("tried {n} times, then said and passed"),
            ThenHalts(n) => format!("tried {n} times, then halts for a person"),
            Background => "tried in the background for an hour, a person is told; then given up".to_owned(),
            WaitsThenHalts => "asked again until its time is over, then halts for a person".to_owned(),
            WaitsThenReturns => "asked again until its time is over, then service is taken back".to_owned(),
            WaitsThenDrops => "asked again until its time is over, then the plan is dropped".to_owned(),
        }
    }
}

/// All tables as text, for `fsm` and the docs.
pub fn describe() -> String {
    let mut text = String::new();
    for kind in PlanKind::ALL {
        let _ = writeln!(text, "plan {kind}");
        for row in rows(kind) {
            let _ = writeln!(text, "  {:<21} proof: {}; else: {}", row.step.name(), row.proof, row.patience.sentence());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_requires_only_steps_above_it() {
        for kind in PlanKind::ALL {
            for (i, row) in rows(kind).iter().enumerate() {
                for required in row.requires {
                    assert!(rows(kind)[..i].iter().any(|r| r.step == *required), "{kind}: {}", row.step);
                }
            }
        }
    }

    #[test]
    fn no_step_stands_twice_in_a_plan() {
        for kind in PlanKind::ALL {
            for (i, row) in rows(kind).iter().enumerate() {
                assert!(rows(kind)[..i].iter().all(|r| r.step != row.step), "{kind}: {}", row.step);
            }
        }
    }

    #[test]
    fn nothing_is_handed_over_before_the_stop_is_proved() {
        for kind in PlanKind::ALL {
            let order: Vec<_> = rows(kind).iter().map(|r| r.step).collect();
            let Some(hand_over) = order.iter().position(|s| *s == HandOver) else { continue };
            let stop = order.iter().position(|s| *s == StopAccepting).expect("a hand-over follows a stop");
            assert!(stop < hand_over, "{kind}");
            let stop = rows(kind)[stop].patience;
            assert!(matches!(stop, ForEver | ThenHalts(_)), "a stop is never passed over: {kind}");
        }
    }

    #[test]
    fn nothing_before_the_claim_touches_the_world() {
        let claim = TAKEOVER.iter().position(|r| r.step == Claim).expect("a takeover claims");
        let lasting = |row: &&Row| row.looking != AtTheVotes && row.patience != WaitsThenDrops;
        assert_eq!(TAKEOVER[..claim].iter().find(lasting).map(|row| row.step), None, "a stop on loan ends by itself");
    }
}
