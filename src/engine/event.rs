//! What the engine hears and what it asks for: the whole surface between the decisions and the world.

use std::time::Duration;

use crate::units::journal::Batch;
use crate::units::operator::{Reply, Request};
use crate::units::{
    Advance, CheckName, DataLook, EpochRead, EpochRecord, EpochSeen, EventName, Mode, PassiveLook, PeerReading, PlanId,
    PlanKind, ProbeResult, Side, Step, StepOutcome, SyncLook,
};

/// Everything that can happen to the engine.
#[derive(Debug, Clone)]
pub enum Event {
    /// A second has passed.
    Tick,
    /// A check of the primary has a result; `asked` is the boot time at which the question was begun.
    Check {
        /// Which.
        name: CheckName,
        /// What came back.
        result: ProbeResult,
        /// When it was asked.
        asked: Duration,
    },
    /// An Internet target has a result.
    Internet {
        /// Its place in the configured list.
        target: usize,
        /// What came back.
        result: ProbeResult,
        /// When it was asked.
        asked: Duration,
    },
    /// A place at the primary's site has a result: up means that it answers.
    Site {
        /// Its place in the configured list.
        target: usize,
        /// What came back.
        result: ProbeResult,
        /// When it was asked.
        asked: Duration,
    },
    /// An observer has told its view: up means that it sees the primary alive.
    Observer {
        /// Its place in the configured list.
        target: usize,
        /// What came back.
        result: ProbeResult,
        /// When it was asked.
        asked: Duration,
    },
    /// What came of asking the primary's agent.
    Peer {
        /// What it was.
        reading: PeerReading,
        /// When it was asked.
        asked: Duration,
    },
    /// The epoch was read, on [`Ask::ReadEpoch`].
    Epoch(EpochRead),
    /// The answer to [`Ask::Swap`].
    Swapped(Advance),
    /// Whether the epoch store passed its conformance test with the present settings.
    Conformance(Result<(), String>),
    /// What came of a step.
    Step(StepReport),
    /// A step that was asked for was not begun, because its record did not reach the disk.
    NotBegun {
        /// The plan.
        plan: PlanId,
        /// The step.
        step: Step,
    },
    /// A person accepts that there is no epoch record: "nobody" is believed again until one is seen.
    AcceptAbsentEpoch,
    /// A person asks.
    Request(Request),
    /// The store cannot write, and why; or it can again.
    Store(Result<(), String>),
    /// Whether this node's PBX was seen to serve while it must, and if not, what was seen.
    Pbx(Result<(), String>),
    /// Whether this node's PBX is passive, as a look saw it that was begun at boot time `asked`.
    Passive {
        /// What was seen.
        look: PassiveLook,
        /// When it was begun.
        asked: Duration,
    },
    /// The working directory was looked at.
    Data(Box<DataLook>),
    /// What a look at the sync between the hosts saw.
    Sync(SyncLook),
    /// New settings are in force, wait, or were refused: for the history only. What happened, and why.
    Settings(String, String),
}

/// What came of a step, as the world reports it.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// The plan.
    pub plan: PlanId,
    /// The step.
    pub step: Step,
    /// Which attempt.
    pub attempt: u32,
    /// Whether it was looked at or done.
    pub mode: Mode,
    /// What came of it.
    pub outcome: StepOutcome,
    /// For `claim` and `hand_over`: what stands at the store now, if it was read.
    pub seen: Option<EpochSeen>,
}

/// What the engine asks of the world. Nothing in an output may be done before the output's batch is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Look at or do a step; answer with [`Event::Step`].
    Step {
        /// The plan.
        plan: PlanId,
        /// Its table.
        kind: PlanKind,
        /// The step.
        step: Step,
        /// Which attempt.
        attempt: u32,
        /// Look or act.
        mode: Mode,
        /// What the step needs to know.
        order: Order,
    },
    /// The plan is dropped: do not begin what was not begun.
    Forget(PlanId),
    /// Run every check, Internet target, witness and observer now, besides their schedule.
    ProbeNow,
    /// Read the epoch; answer with [`Event::Epoch`].
    ReadEpoch,
    /// Put the epoch back that an old copy of the zone lost; answer with [`Event::Swapped`].
    Swap {
        /// What was read.
        from: EpochSeen,
        /// What shall stand there.
        to: EpochRecord,
    },
}

/// What a step needs to know besides its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    Plain,
    /// `stop_primary`: the person's reason.
    StopPrimary(String),
    /// `reload`: this node has served from the working directory before, in this turn of service.
    ServedBefore,
    /// `claim`, `hand_over`: swap this for that.
    Swap {
        /// What was read.
        from: EpochSeen,
        /// What shall stand there.
        to: EpochRecord,
    },
    /// `redirect_dns`, `lower_ttl`: whose lists, under which epoch record.
    Names {
        /// The side that shall be named.
        to: Side,
        /// The epoch record that guards the move, byte for byte.
        epoch_raw: Option<String>,
    },
    /// `fence`: the turn that this plan claimed.
    Turn(Option<u64>),
    /// `action_urls`, `notify`: the event whose messages are meant.
    Messages(EventName),
}

/// Which channels a happening goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// The ActionURLs that listen to the event.
    ActionUrls,
    /// The notification channels.
    Notifications,
    /// Both.
    All,
}

/// Something that somebody is told of; the daemon words it for each target, in the same transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// What happened.
    pub event: EventName,
    /// Why, in one line.
    pub because: String,
    /// The step in question.
    pub step: Option<Step>,
    /// Where it goes.
    pub channels: Channels,
    /// Unique and stable: with the target's name it is the delivery's key.
    pub key: String,
}

/// What must be on disk before an output's asks begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When the disk refuses, the steps asked for must not begin.
    #[default]
    Required,
    /// When the disk refuses, go on from memory: phones wait.
    Wanted,
}

/// What came of one event.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// What must be on disk first.
    pub batch: Batch,
    /// What to do when the disk refuses.
    pub durability: Durability,
    /// What somebody is told of.
    pub happenings: Vec<Happening>,
    /// What to do then.
    pub asks: Vec<Ask>,
    /// What the person is told, for [`Event::Request`].
    pub reply: Option<Reply>,
}
