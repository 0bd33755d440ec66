//! The state table: every transition is one row with a stable number and the reason that is written into
//! the event it causes. [`super::ignored`] lists the pairs that do nothing, with reasons.

use crate::units::{EventName, PlanKind, State};

/// What may move the robot. Levels are true or not, and looked at on every event; the rest happen once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trigger {
    /// Level: the verdict is primary-up.
    PrimaryUp,
    /// Level: the verdict is unsure or we-are-cut-off.
    EvidenceVoid,
    /// Level: any other verdict.
    PrimaryTroubled,
    /// Level: the same, or the primary's own agent says, now, that its PBX does not serve.
    ServesAlone,
    /// Level: the hold-down has run out.
    HoldDownOver,
    /// Level: the epoch record bears our claim; where none was written, or a restart interrupted it, nothing newer
    /// stands there.
    EpochOurs,
    /// Level: the epoch record names another, newer than our claim.
    EpochOther,
    /// Level: the epoch could not be read.
    EpochUnreadable,
    /// Level: the epoch record is absent, or lower than remembered.
    EpochLow,
    /// Level: a person paused the robot.
    Paused,
    /// Level: the store cannot write.
    StoreBroken,
    /// Level: this node's PBX was seen not to serve.
    PbxSilent,
    /// Level: the PBX did not come up within `give_up_after`, and the primary could serve.
    GiveUpOver,
    /// Level: the other node holds the service by our hand, and the plan that was to move DNS there was left for another.
    NamesOwed,
    /// The confirm step found that it is not so any more.
    ConfirmFailed,
    /// Our own request was answered: this node serves.
    RegistrationsAccepted,
    /// Another's claim stands at the store.
    ClaimLost,
    /// A step must not be passed without a person.
    PlanHalted,
    /// Every step is over.
    PlanDone,
    /// The epoch was handed over by a withdrawal.
    HandedOver,
    /// The primary was seen to serve after the hand-over.
    PrimaryServes,
    /// The primary did not come up in time after the hand-over.
    PrimaryNotBack,
    /// `takeover`.
    AskedTakeover,
    /// `failback`.
    AskedFailback,
    /// `failback --undo`.
    AskedUndo,
    /// `continue`.
    AskedContinue,
    /// `abandon`.
    AskedAbandon,
}

use Trigger::{
    AskedAbandon, AskedContinue, AskedFailback, AskedTakeover, AskedUndo, ClaimLost, ConfirmFailed, EpochLow,
    EpochOther, EpochOurs, EpochUnreadable, EvidenceVoid, GiveUpOver, HandedOver, HoldDownOver, NamesOwed, Paused,
    PbxSilent, PlanDone, PlanHalted, PrimaryNotBack, PrimaryServes, PrimaryTroubled, PrimaryUp, RegistrationsAccepted,
    ServesAlone, StoreBroken,
};

impl Trigger {
    /// Every trigger.
    pub const ALL: [Self; 27] = [
        PrimaryUp,
        EvidenceVoid,
        PrimaryTroubled,
        ServesAlone,
        HoldDownOver,
        EpochOurs,
        EpochOther,
        EpochUnreadable,
        EpochLow,
        Paused,
        StoreBroken,
        PbxSilent,
        GiveUpOver,
        NamesOwed,
        ConfirmFailed,
        RegistrationsAccepted,
        ClaimLost,
        PlanHalted,
        PlanDone,
        HandedOver,
        PrimaryServes,
        PrimaryNotBack,
        AskedTakeover,
        AskedFailback,
        AskedUndo,
        AskedContinue,
        AskedAbandon,
    ];

    /// The name in the diagram.
    pub fn name(self) -> &'static str {
        match self {
            PrimaryUp => "primary up",
            EvidenceVoid => "unsure or cut off",
            PrimaryTroubled => "primary in trouble",
            ServesAlone => "primary does not serve",
            HoldDownOver => "hold-down over",
            EpochOurs => "epoch is ours",
            EpochOther => "epoch held by another",
            EpochUnreadable => "epoch unreadable",
            EpochLow => "epoch absent or low",
            Paused => "paused",
            StoreBroken => "store cannot write",
            PbxSilent => "PBX silent",
            GiveUpOver => "give-up time over",
            NamesOwed => "DNS is owed",
            ConfirmFailed => "confirm failed",
            RegistrationsAccepted => "registrations accepted",
            ClaimLost => "claim lost",
            PlanHalted => "plan halted",
            PlanDone => "plan done",
            HandedOver => "epoch handed over",
            PrimaryServes => "primary serves",
            PrimaryNotBack => "primary not back in time",
            AskedTakeover => "asked: takeover",
            AskedFailback => "asked: failback",
            AskedUndo => "asked: undo",
            AskedContinue => "asked: continue",
            AskedAbandon => "asked: abandon",
        }
    }

    /// Whether it is looked at on every event, rather than happening once.
    pub fn is_level(self) -> bool {
        match self {
            PrimaryUp | EvidenceVoid | PrimaryTroubled | ServesAlone | HoldDownOver | EpochOurs | EpochOther
            | EpochUnreadable | EpochLow | Paused | StoreBroken | PbxSilent | GiveUpOver | NamesOwed => true,
            ConfirmFailed
            | RegistrationsAccepted
            | ClaimLost
            | PlanHalted
            | PlanDone
            | HandedOver
            | PrimaryServes
            | PrimaryNotBack
            | AskedTakeover
            | AskedFailback
            | AskedUndo
            | AskedContinue
            | AskedAbandon => false,
        }
    }
}

/// What else must hold for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Guard {
    /// Nothing.
    Always,
    /// The verdict allows it, and the robot is armed.
    MayAct,
    /// It does not, or is not.
    MayNotAct,
    /// This node holds no claim, nor has it begun one: nothing has changed yet.
    NothingClaimed,
    /// No claim of the plan was seen to stand, and no person asked for it: nothing has changed yet that would not be
    /// handed back (row 3).
    BeforeClaimUnasked,
    /// As [`Guard::BeforeClaimUnasked`], and the verdict forbids a takeover by now: while the claim waited for its
    /// master, somebody saw the primary alive, or what decides came back.
    BeforeClaimForbidden,
    /// The claim stands: it cannot be recalled. Said once.
    AfterClaimUnsaid,
    /// The claim was begun.
    Claimed,
    /// The claim does not succeed, and a person says to go on without it.
    WaitsForClaimAndWithout,
    /// Nothing was handed over yet, and no retreat is under way.
    NotRetreating,
    /// Its alarm is not standing.
    NotAlarmed,
    /// The same, and the primary's own agent does not say that its PBX does not serve.
    MayServeUnalarmed,
    /// The alarm that both may serve is standing.
    BothAlarmed,
    /// Not said since it began.
    NotSaid,
    /// A claim was really written and seen to stand, and no swap is under way.
    ClaimWrittenAndIdle,
    /// This node served before a restart, has not gone on yet, and a person says to go on without a claim.
    UnprovedAndWithout,
    /// This node served before a restart, and has not proved since that it does.
    Unproved,
    /// The plan that was interrupted by a restart waits for the epoch; where its claim does not stand, also for a
    /// verdict that would allow it.
    WaitsForEpoch,
    /// No plan runs.
    NoPlan,
    /// The plan that made this node serve has only work in the background left.
    InBackground,
    /// The plan is a takeover.
    InTakeover,
    /// The plan is a failback.
    InFailback,
    /// The plan is a withdrawal.
    InWithdraw,
    /// With `--cut-calls`, while calls are waited for.
    CutsCalls,
}

/// What a transition asks for, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Begin to hold down.
    StartHoldDown,
    /// Forget what the checks counted.
    ResetCounts,
    /// Open a plan; one that runs is dropped.
    Open(PlanKind),
    /// Drop the plan.
    DropPlan,
    /// Close the plan that is done.
    ClosePlan,
    /// Go on with the plan from its journal; without one, open a plan that sees to it that the PBX serves.
    Resume,
    /// Within the plan, see again that the PBX serves, and make it so.
    ServeAgain,
    /// Try the halted step again; a fence is passed over, by a person's word.
    TryHaltedStep,
    /// Pass the claim over, by a person's word.
    PassClaim,
    /// Pass the waiting for calls over, by a person's word.
    PassDrain,
    /// Put the epoch back.
    RestoreEpoch,
    /// No takeover for a while.
    StartHoldOff,
    /// Tell people.
    Tell(EventName),
    /// Tell people, again and again until somebody acknowledges it.
    Alarm(EventName),
    /// End an alarm.
    EndAlarm(EventName),
    /// Write it into the history only.
    Note,
}

/// One transition.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Stable: a row that is removed leaves its number unused.
    pub number: u16,
    /// From.
    pub from: State,
    /// What happened, or is so.
    pub on: Trigger,
    /// What else must hold.
    pub guard: Guard,
    /// To.
    pub to: State,
    /// What is asked for.
    pub does: &'static [Action],
    /// Why.
    pub because: &'static str,
}

const fn row(
    number: u16,
    from: State,
    on: Trigger,
    guard: Guard,
    to: State,
    does: &'static [Action],
    because: &'static str,
) -> Row {
    Row { number, from, on, guard, to, does, because }
}

use Action::{
    Alarm, ClosePlan, DropPlan, EndAlarm, Note, Open, PassClaim, PassDrain, ResetCounts, RestoreEpoch, Resume,
    ServeAgain, StartHoldDown, StartHoldOff, Tell, TryHaltedStep,
};
use EventName::{BackupFailed, BothMayServe, EpochTrouble, PrimaryBack, PrimaryDown, TakenBack};
use PlanKind::{Failback, Retreat, Serve, Takeover, Withdraw};
use State::{Active, FailingBack, Halted, Standby, Suspect, TakingOver};

/// Every transition. Of several rows that fit, the first counts.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    // Standby
    row(1, Standby, PrimaryTroubled, Guard::Always, Suspect, &[StartHoldDown, Tell(PrimaryDown)], "something is wrong over there"),
    row(2, Standby, AskedTakeover, Guard::Always, TakingOver, &[Open(Takeover)], "a person asked"),
    row(3, Standby, EpochOurs, Guard::NoPlan, Standby, &[Open(Withdraw), Alarm(EpochTrouble)], "the epoch names us although we do not serve: left over from a dropped plan"),
    row(4, Standby, PlanDone, Guard::Always, Standby, &[ClosePlan], "this node is passive"),
    row(5, Standby, EpochUnreadable, Guard::NotSaid, Standby, &[Note], "without the epoch nothing can be claimed"),
    row(6, Standby, EpochLow, Guard::NotAlarmed, Standby, &[Alarm(EpochTrouble)], "the zone was restored from an old copy, or changed by hand: nothing can be claimed"),
    row(7, Standby, NamesOwed, Guard::NoPlan, Standby, &[Open(Withdraw)], "the plan that handed the service over was left before DNS had followed"),
    // Suspect
    row(10, Suspect, PrimaryUp, Guard::Always, Standby, &[Tell(PrimaryBack)], "it answers again"),
    row(11, Suspect, EvidenceVoid, Guard::Always, Standby, &[ResetCounts], "our evidence is void"),
    row(12, Suspect, HoldDownOver, Guard::MayAct, TakingOver, &[Open(Takeover)], "the verdict has stood, it allows a takeover, and the robot is armed"),
    row(13, Suspect, HoldDownOver, Guard::MayNotAct, Suspect, &[StartHoldDown, Note], "a takeover is not allowed now"),
    row(14, Suspect, AskedTakeover, Guard::Always, TakingOver, &[Open(Takeover)], "a person asked"),
    row(15, Suspect, PlanDone, Guard::Always, Suspect, &[ClosePlan], "this node is passive"),
    row(16, Suspect, EpochLow, Guard::NotAlarmed, Suspect, &[Alarm(EpochTrouble)], "the zone was restored from an old copy, or changed by hand: nothing can be claimed"),
    // TakingOver
    row(20, TakingOver, EpochOther, Guard::Claimed, Standby, &[Open(Retreat), Alarm(EpochTrouble)], "another serves"),
    row(21, TakingOver, EpochOurs, Guard::WaitsForEpoch, TakingOver, &[Resume], "the claim stood before the restart and stands still"),
    row(22, TakingOver, EpochUnreadable, Guard::NotSaid, TakingOver, &[Tell(EpochTrouble)], "the epoch cannot be read; asked again for ever"),
    row(23, TakingOver, ConfirmFailed, Guard::Always, Suspect, &[DropPlan, StartHoldDown], "it was not so any more"),
    row(24, TakingOver, PrimaryUp, Guard::BeforeClaimUnasked, Standby, &[DropPlan, Tell(PrimaryBack)], "it answers again and nothing has changed yet"),
    row(25, TakingOver, EvidenceVoid, Guard::BeforeClaimUnasked, Standby, &[DropPlan, ResetCounts], "our evidence is void and nothing has changed yet"),
    row(26, TakingOver, Paused, Guard::BeforeClaimUnasked, Standby, &[DropPlan], "a person paused the robot and nothing has changed yet"),
    row(27, TakingOver, StoreBroken, Guard::NothingClaimed, Standby, &[DropPlan], "no journal can be written and nothing has changed yet"),
    row(28, TakingOver, PrimaryUp, Guard::AfterClaimUnsaid, TakingOver, &[Tell(PrimaryBack)], "it answers again, but the claim cannot be recalled"),
    row(29, TakingOver, RegistrationsAccepted, Guard::Always, Active, &[EndAlarm(BackupFailed), EndAlarm(EpochTrouble)], "this node serves"),
    row(30, TakingOver, GiveUpOver, Guard::InTakeover, TakingOver, &[Open(Withdraw), Alarm(BackupFailed)], "this node does not come up and the primary could serve: a dead backup must not keep it down"),
    row(31, TakingOver, HandedOver, Guard::InWithdraw, Suspect, &[StartHoldOff, StartHoldDown], "the epoch was handed to the primary, which is given time to come up"),
    row(32, TakingOver, ClaimLost, Guard::Always, Standby, &[Open(Retreat), Alarm(EpochTrouble)], "another serves"),
    row(33, TakingOver, PlanHalted, Guard::Always, Halted, &[Alarm(EventName::Halted)], "a step must not be passed"),
    row(34, TakingOver, AskedTakeover, Guard::WaitsForClaimAndWithout, TakingOver, &[PassClaim], "a person said to go on without a claim"),
    row(35, TakingOver, AskedFailback, Guard::Claimed, FailingBack, &[Open(Failback)], "a person asked"),
    row(36, TakingOver, EpochLow, Guard::ClaimWrittenAndIdle, TakingOver, &[RestoreEpoch, Alarm(EpochTrouble)], "the zone was restored from an old copy: our turn is put back"),
    row(37, TakingOver, PrimaryTroubled, Guard::BeforeClaimForbidden, Suspect, &[DropPlan, StartHoldDown], "the verdict allows it no more and nothing has changed yet"),
    // Active
    row(39, Active, EpochOurs, Guard::WaitsForEpoch, Active, &[Resume], "the claim stood before the restart and stands still"),
    row(40, Active, EpochOther, Guard::Always, FailingBack, &[Open(Retreat), Alarm(EpochTrouble)], "somebody else holds the service"),
    row(41, Active, EpochOurs, Guard::Unproved, Active, &[Open(Serve)], "this node served before the restart and holds the epoch still"),
    row(42, Active, PrimaryUp, Guard::MayServeUnalarmed, Active, &[Alarm(BothMayServe)], "it answers while we serve: both may serve, and failback is manual"),
    row(43, Active, ServesAlone, Guard::BothAlarmed, Active, &[EndAlarm(BothMayServe)], "its PBX does not serve: we serve alone"),
    row(44, Active, EpochUnreadable, Guard::NotSaid, Active, &[Tell(EpochTrouble)], "the epoch cannot be read; we do not step down for that"),
    row(45, Active, EpochLow, Guard::ClaimWrittenAndIdle, Active, &[RestoreEpoch, Alarm(EpochTrouble)], "the zone was restored from an old copy: our turn is put back"),
    row(46, Active, PlanDone, Guard::Always, Active, &[ClosePlan], "nothing is left to do but to serve"),
    row(47, Active, AskedFailback, Guard::Always, FailingBack, &[Open(Failback)], "a person asked"),
    row(48, Active, AskedTakeover, Guard::UnprovedAndWithout, Active, &[Resume], "a person said to go on without reading the epoch"),
    row(49, Active, PbxSilent, Guard::NoPlan, Active, &[Open(Serve), Tell(EventName::StepRetries)], "the PBX on this node does not serve any more: it is started again"),
    // FailingBack
    row(50, FailingBack, EpochOther, Guard::NotRetreating, FailingBack, &[Open(Retreat), Alarm(EpochTrouble)], "somebody else holds the service: only the passive part is left"),
    row(51, FailingBack, PlanDone, Guard::Always, Standby, &[ClosePlan, StartHoldOff, EndAlarm(BothMayServe)], "this node is passive"),
    row(52, FailingBack, AskedUndo, Guard::InFailback, TakingOver, &[Open(Takeover)], "a person took the service back"),
    row(53, FailingBack, PrimaryNotBack, Guard::Always, TakingOver, &[Open(Takeover), Alarm(TakenBack)], "the primary did not come up in time: somebody must serve"),
    row(54, FailingBack, PlanHalted, Guard::Always, Halted, &[Alarm(EventName::Halted)], "a step must not be passed"),
    row(55, FailingBack, AskedFailback, Guard::CutsCalls, FailingBack, &[PassDrain], "a person said not to wait for calls"),
    row(56, FailingBack, EpochUnreadable, Guard::NotSaid, FailingBack, &[Tell(EpochTrouble)], "the epoch cannot be read; asked again for ever"),
    row(57, FailingBack, EpochLow, Guard::NotAlarmed, FailingBack, &[Alarm(EpochTrouble)], "the zone was restored from an old copy, or changed by hand"),
    row(58, FailingBack, PrimaryServes, Guard::Always, Standby, &[StartHoldOff, EndAlarm(BothMayServe), EndAlarm(TakenBack)], "handed back; what is left goes on in the background"),
    // Halted
    row(60, Halted, EpochOther, Guard::NotRetreating, Halted, &[Open(Retreat), Alarm(EpochTrouble)], "somebody else holds the service: passive first"),
    row(61, Halted, AskedTakeover, Guard::Always, TakingOver, &[Open(Takeover), EndAlarm(EventName::Halted)], "a person asked"),
    row(62, Halted, AskedFailback, Guard::Always, FailingBack, &[Open(Failback), EndAlarm(EventName::Halted)], "a person asked"),
    row(63, Halted, AskedContinue, Guard::InTakeover, TakingOver, &[TryHaltedStep, EndAlarm(EventName::Halted)], "a person saw to the step"),
    row(64, Halted, AskedContinue, Guard::InFailback, FailingBack, &[TryHaltedStep, EndAlarm(EventName::Halted)], "a person saw to the step"),
    row(65, Halted, AskedAbandon, Guard::Always, Halted, &[Open(Withdraw)], "a person gave up"),
    row(66, Halted, PlanDone, Guard::Always, Standby, &[ClosePlan, StartHoldOff, EndAlarm(EventName::Halted), EndAlarm(BothMayServe)], "this node is passive, and another holds the service"),
    row(67, Halted, HandedOver, Guard::Always, Standby, &[StartHoldOff, EndAlarm(EventName::Halted), EndAlarm(BothMayServe)], "this node is passive, and the other one holds the service"),
    // Active, once more: numbers rise
    row(68, Active, PbxSilent, Guard::InBackground, Active, &[ServeAgain, Tell(EventName::StepRetries)], "the PBX on this node does not serve any more: it is started again"),
];

/// The rows that leave `from` on `on`.
pub fn rows_for(from: State, on: Trigger) -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(move |row| row.from == from && row.on == on)
}
