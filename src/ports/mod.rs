//! What the world must offer: traits that adapters implement and the daemon calls.
//!
//! Every call may take long and is made off the decision loop; every call returns, because each adapter bounds
//! its own time. A port that the configuration leaves out is answered by [`NotConfigured`].

use std::future::Future;
use std::pin::Pin;

use jiff::Timestamp;

use crate::units::data::Outcome;
use crate::units::finding::Finding;
use crate::units::names::{Redirect, Redirected};
use crate::units::tree::TreeTold;
use crate::units::{
    Advance, Beat, DataLook, Delivery, DeliveryOutcome, EpochRead, EpochRecord, EpochSeen, Guarded, Mode, PassiveLook,
    PbxStatus, PeerReading, PlanId, ProbeResult, StepOutcome, StopOrder, SyncLook,
};

/// A boxed future, so that ports are usable as trait objects.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One question to the primary or to an Internet target.
pub trait Probe: Send + Sync {
    /// Asks once, within the adapter's time-out.
    fn ask(&self) -> Answer<'_, ProbeResult>;
}

/// Where the epoch lives.
pub trait EpochStore: Send + Sync {
    /// Reads the record; `Err` is one line of advice.
    fn read(&self) -> Answer<'_, EpochRead>;

    /// Swaps exactly what was read for `to`. May be repeated with the same arguments.
    fn advance<'a>(&'a self, from: &'a EpochSeen, to: &'a EpochRecord) -> Answer<'a, Advance>;

    /// Proves that this store really compares and swaps, at a name beside the record's.
    ///
    /// # Errors
    /// One line of advice; the store must then not be used.
    fn conformance(&self) -> Answer<'_, Result<(), String>>;

    /// Changes when the settings change that conformance depends on.
    fn fingerprint(&self) -> String;
}

/// The DNS records that move with the service.
pub trait Names: Send + Sync {
    /// Looks at, or moves and verifies, every configured record.
    fn redirect<'a>(&'a self, order: &'a Redirect) -> Answer<'a, Redirected>;

    /// Gives every record of `side` this TTL, without changing its values; used before a failback.
    fn lower_ttl<'a>(&'a self, order: &'a Redirect, ttl_s: u32) -> Answer<'a, StepOutcome>;
}

/// The PBX on this node. Each verb may be called twice in a row without harm.
pub trait Pbx: Send + Sync {
    /// The driver's name in the configuration.
    fn driver(&self) -> &'static str;

    /// Makes sure that it does not serve, and proves it.
    fn passive(&self) -> Answer<'_, StepOutcome>;

    /// Makes it run the working directory. `Look`: does it already?
    fn reload(&self, mode: Mode, load: Load) -> Answer<'_, StepOutcome>;

    /// Makes it accept registrations, proved by our own SIP request. `Look`: only the request.
    fn accept_registrations(&self, mode: Mode) -> Answer<'_, StepOutcome>;

    /// Makes it register its trunks. `Look`: is each required one up?
    fn register_trunks(&self, mode: Mode) -> Answer<'_, StepOutcome>;

    /// What it tells of itself.
    fn status(&self) -> Answer<'_, PbxStatus>;

    /// Done when no call is up; `Failed` says how many are. New calls still work.
    fn drain(&self) -> Answer<'_, StepOutcome>;

    /// Gives the trunks up.
    fn unregister_trunks(&self) -> Answer<'_, StepOutcome>;

    /// Makes it passive for a failback, and proves it.
    fn stop_accepting(&self) -> Answer<'_, StepOutcome>;

    /// Looks whether it is passive, by what it does and not by what it was told; changes nothing.
    fn look_passive(&self) -> Answer<'_, PassiveLook>;

    /// Whether it asks the guard before it starts; of the primary's PBX.
    fn guarded(&self) -> Answer<'_, Guarded> {
        Box::pin(async { Guarded::Unknown })
    }

    /// What it can prove of itself before the bad day, beside its status; changes nothing.
    fn findings(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(async { Vec::new() })
    }
}

/// Is the working directory loaded for the first time in this turn of service?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Yes: `pbx.before_reload` runs, which may restore a synced dump.
    First,
    /// No: this node has served from it already (a restart, a reboot), and its own changes must not be overwritten.
    Again,
}

/// Carries one message to one target.
pub trait Courier: Send + Sync {
    /// Tries once.
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Answer<'a, DeliveryOutcome>;
}

/// Makes certain that the primary cannot serve.
pub trait Fence: Send + Sync {
    /// Cuts it off and reads that back. `Look`: is it already off?
    fn fence<'a>(&'a self, order: &'a FenceOrder, mode: Mode) -> Answer<'a, StepOutcome>;

    /// Only reads, for `check`.
    fn read_back(&self) -> Answer<'_, Power>;
}

/// The plan that a fence serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FenceOrder {
    /// Its id.
    pub plan: PlanId,
    /// The turn that it claimed, where one was.
    pub epoch: Option<u64>,
}

/// What a fence reads of the primary, each with what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Power {
    /// It is off.
    Off(String),
    /// It is on.
    On(String),
    /// The question was not answered, or not understood.
    Unknown(String),
    /// There is nothing to ask.
    NotAsked,
}

/// Another host of ours, over an authenticated way.
pub trait Peer: Send + Sync {
    /// Tells it `ours` and hears what it tells; only what was told now, by the right host, is [`PeerReading::Heard`].
    /// Sequence and nonce of `ours` are set on the way.
    fn exchange<'a>(&'a self, ours: &'a Beat) -> Answer<'a, PeerReading>;

    /// Asks the primary's agent to drain and stop its PBX. Done: its agent says that it is stopped. May be repeated.
    fn stop<'a>(&'a self, order: &'a StopOrder) -> Answer<'a, StepOutcome>;

    /// Takes such a stop back.
    fn resume(&self, plan: PlanId) -> Answer<'_, StepOutcome>;
}

/// The gate before the working directory is loaded. It is watched, and written by a takeover past its claim alone.
pub trait DataGate: Send + Sync {
    /// Looks once, and judges; never two looks at once, and none without an end.
    fn look(&self, keep: Keep) -> Answer<'_, DataLook>;

    /// Returns when the kernel has told of a change; where it does not tell, never.
    fn changed(&self) -> Answer<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// What the primary's agent vouched for at `written`, heard over the wire.
    fn vouched(&self, written: Timestamp, told: &TreeTold) {
        let _ = (written, told);
    }

    /// Completes what an earlier attempt of this plan, or a person, broke off in the midst of putting a snapshot in place;
    /// `None`: nothing was. Before the first look: half of each would look well. Unknown: half of one lies there still.
    fn complete(&self, plan: PlanId) -> Answer<'_, Option<StepOutcome>> {
        let _ = plan;
        Box::pin(async { None })
    }

    /// Before the sync is started again: what a takeover has put in place, and nobody has changed since, is as the primary
    /// had it before; `None`: there was nothing. An error: half of a snapshot lies there, and the sync would carry it home.
    fn give_back(&self) -> Answer<'_, Result<Option<String>, String>> {
        Box::pin(async { Ok(None) })
    }

    /// Why what lies there may be half of a snapshot, so that nothing of it may be loaded.
    fn half_done(&self) -> Answer<'_, Option<String>> {
        Box::pin(async { None })
    }

    /// Keeps what is there in a snapshot, once for each plan; `None`: none is wanted.
    fn keep_for(&self, plan: PlanId) -> Answer<'_, Option<StepOutcome>> {
        let _ = plan;
        Box::pin(async { None })
    }

    /// Puts the last good snapshot in the place of what does not pass. Done: with what proves it. Unknown: it broke off in
    /// its midst. May be repeated.
    fn restore_last_good(&self, plan: PlanId) -> Answer<'_, StepOutcome> {
        let _ = plan;
        Box::pin(async { StepOutcome::failed("none are kept here") })
    }

    /// Moves aside what would act once the PBX starts; `None`: nothing is to be. May be repeated.
    fn hold_back(&self, plan: PlanId) -> Answer<'_, Option<StepOutcome>> {
        let _ = plan;
        Box::pin(async { None })
    }
}

/// What brings files here.
pub trait SyncFence: Send + Sync {
    /// Stops it and proves that. May be repeated.
    fn stop(&self) -> Answer<'_, StepOutcome>;

    /// Starts what was stopped, where `may` still says so when its turn has come. May be repeated.
    fn start<'a>(&'a self, may: &'a (dyn Fn() -> bool + Sync)) -> Answer<'a, StepOutcome>;

    /// Forgets what was stopped: all of it runs.
    ///
    /// # Errors
    /// One line of advice.
    fn forget(&self) -> Answer<'_, Result<(), String>>;

    /// Remembers that this node serves with what lies here, until it is started again.
    ///
    /// # Errors
    /// One line of advice.
    fn note_served(&self) -> Answer<'_, Result<(), String>>;

    /// Whether this node served, and nothing was started since.
    fn has_served(&self) -> Answer<'_, bool>;

    /// Looks what of it runs; changes nothing.
    fn look(&self) -> Answer<'_, SyncLook>;

    /// Whether the configuration names anything that it stops.
    fn is_configured(&self) -> bool;

    /// Whether something was stopped and is not yet started again.
    fn is_owed(&self) -> bool;

    /// What it can prove of itself before the bad day, beside a look; changes nothing.
    fn findings(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(async { Vec::new() })
    }
}

/// What a look leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// A look that passes is remembered as the last good one.
    WhatIsGood,
    /// Nothing.
    Nothing,
    /// Nothing; what a sync tool has not written to for some seconds was broken off: its writer died with the primary, and
    /// phones wait.
    ForATakeover,
}

/// The answer of every port that the configuration leaves out.
#[derive(Debug, Clone, Copy, Default)]
pub struct NotConfigured;

impl Fence for NotConfigured {
    fn fence<'a>(&'a self, _order: &'a FenceOrder, _mode: Mode) -> Answer<'a, StepOutcome> {
        Box::pin(async { StepOutcome::done("not configured") })
    }

    fn read_back(&self) -> Answer<'_, Power> {
        Box::pin(async { Power::NotAsked })
    }
}

impl Peer for NotConfigured {
    fn exchange<'a>(&'a self, _ours: &'a Beat) -> Answer<'a, PeerReading> {
        Box::pin(async { PeerReading::Silent("not configured".to_owned()) })
    }

    fn stop<'a>(&'a self, _order: &'a StopOrder) -> Answer<'a, StepOutcome> {
        Box::pin(async { StepOutcome::failed("the primary has no agent that could be asked (see peer)") })
    }

    fn resume(&self, _plan: PlanId) -> Answer<'_, StepOutcome> {
        Box::pin(async { StepOutcome::done("not configured") })
    }
}

impl SyncFence for NotConfigured {
    fn stop(&self) -> Answer<'_, StepOutcome> {
        Box::pin(async { StepOutcome::done("not configured") })
    }

    fn start<'a>(&'a self, _may: &'a (dyn Fn() -> bool + Sync)) -> Answer<'a, StepOutcome> {
        Box::pin(async { StepOutcome::done("not configured") })
    }

    fn forget(&self) -> Answer<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn note_served(&self) -> Answer<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn has_served(&self) -> Answer<'_, bool> {
        Box::pin(async { false })
    }

    fn look(&self) -> Answer<'_, SyncLook> {
        Box::pin(async { SyncLook::default() })
    }

    fn is_configured(&self) -> bool {
        false
    }

    fn is_owed(&self) -> bool {
        false
    }
}

impl DataGate for NotConfigured {
    fn look(&self, _keep: Keep) -> Answer<'_, DataLook> {
        Box::pin(async { DataLook::bare(Timestamp::UNIX_EPOCH, Outcome::Go, Vec::new()) })
    }
}
