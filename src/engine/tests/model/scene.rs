//! A scene: which world is explored, which troubles may happen in it and how often, and with which tables.
//!
//! Every trouble has a budget, so that a scene is finite and all of it can be seen. What mends costs nothing.
//! Durations are a few seconds each, so that few steps lead to every row of the table.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::decision::CheckSettings;
use crate::engine::core::Tables;
use crate::engine::{AgentAsked, Automatic, EpochStoreKind, InternetSettings, PrimaryStart, Settings};
use crate::primary::Policy;
use crate::takeover::{Configured, Fencing, Limits};
use crate::units::policy::{DownWhen, HalfDead, SiteCut};
use crate::units::{CheckKind, CheckName};

/// What may go wrong, each so often in one history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// A question or its answer is lost.
    Loss,
    /// An answer, or a swap in the net, is late.
    Late,
    /// The robot's process ends; what it asked for last may have been sent.
    Crash,
    /// The robot's host ends, and its PBX with it.
    Reboot,
    /// The process stands still.
    Stall,
    /// The primary dies.
    PrimaryDies,
    /// The primary's way to everything else is cut; it lives on.
    SiteCut,
    /// The primary's web server answers, its PBX does not.
    HalfDies,
    /// A robot's way to the Internet is cut, and with it the ways to the primary and the zone.
    CutOff,
    /// A robot's way to the primary is cut, and only that.
    PathCut,
    /// The zone's master does not answer.
    MasterDies,
    /// A robot's PBX does not start any more.
    PbxDies,
    /// A robot's PBX does not stop any more.
    PbxSticks,
    /// A robot's disk is full.
    DiskFills,
    /// The zone is restored from an old copy, or emptied.
    ZoneFalls,
    /// A call is up.
    Call,
    /// A person gives a command.
    Person,
}

impl Trouble {
    const COUNT: usize = Self::Person as usize + 1;
}

/// How much of each trouble is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left(pub [u8; Trouble::COUNT]);

impl Left {
    pub fn of(budget: &[(Trouble, u8)]) -> Self {
        let mut left = Self([0; Trouble::COUNT]);
        for (trouble, times) in budget {
            left.0[*trouble as usize] = *times;
        }
        left
    }

    pub fn has(&self, trouble: Trouble) -> bool {
        self.0[trouble as usize] > 0
    }

    pub fn spend(&mut self, trouble: Trouble) {
        self.0[trouble as usize] -= 1;
    }
}

/// A person's command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Says {
    Takeover,
    TakeoverStopped,
    TakeoverWithoutClaim,
    Failback,
    FailbackWaiting,
    FailbackCutting,
    Undo,
    Pause,
    Unpause,
    Continue,
    Abandon,
    Ack,
}

/// A fault in the epoch's rules, planted between the robot and the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lens {
    /// None.
    Clear,
    /// A lower number is believed: what was seen before is forgotten.
    ForgetsTheHighest,
    /// A record with our name is taken for ours, whatever its id.
    NameInsteadOfId,
    /// A swap is believed to be done although its answer was lost.
    LostIsDone,
    /// The zone takes every update: no compare-and-swap.
    SwapWithoutCompare,
    /// The memory does not reach the disk.
    MemoryNotWritten,
    /// The process believes its evidence after a stall.
    StallNotSeen,
}

/// How often each row of the table was fired.
#[derive(Debug)]
pub struct Fired([AtomicU32; 128]);

impl Fired {
    fn none() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }

    pub fn note(&self, row: u16) {
        self.0[usize::from(row)].fetch_add(1, Ordering::Relaxed);
    }

    pub fn rows(&self) -> Vec<u16> {
        (0..128).filter(|row| self.0[usize::from(*row)].load(Ordering::Relaxed) > 0).collect()
    }
}

/// One world to explore.
#[derive(Debug)]
pub struct Scene {
    pub name: &'static str,
    /// Robots with the same configuration: the second is there by mistake.
    pub robots: usize,
    pub left: Left,
    pub says: &'static [Says],
    /// So long at most one step of time is.
    pub pace_s: u64,
    pub settings: Arc<Settings>,
    pub tables: Tables,
    pub lens: Lens,
    /// The primary has guard and agent, with this policy.
    pub agent: Option<Policy>,
    /// What must come about in the end is looked at from every so many-th state.
    pub sample: u64,
    /// Which of the rules about the end are looked at: each runs the world on for minutes.
    pub ends: &'static [&'static str],
    pub fired: Fired,
}

impl Scene {
    pub fn new(name: &'static str, budget: &[(Trouble, u8)]) -> Self {
        Self {
            name,
            robots: 1,
            left: Left::of(budget),
            says: &[],
            pace_s: 5,
            settings: Arc::new(settings()),
            tables: Tables::REAL,
            lens: Lens::Clear,
            agent: None,
            sample: 256,
            ends: &super::ENDS,
            fired: Fired::none(),
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = (*self.settings).clone();
        change(&mut settings);
        self.settings = Arc::new(settings);
        self
    }
}

pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn settings() -> Settings {
    let once = NonZeroU32::MIN;
    let check = |name: &str, kind| CheckSettings {
        name: CheckName(name.into()),
        kind,
        definition: name.into(),
        fall: once,
        rise: once,
        period: seconds(2),
    };
    Settings {
        node: "pbx-b".parse().expect("a name"),
        peer: "pbx-a".parse().expect("a name"),
        checks: vec![check("web", CheckKind::Http), check("sip", CheckKind::Sip)],
        internet: InternetSettings { need: once, targets: vec!["one".into()], period: seconds(2) },
        site: Vec::new(),
        observers: Vec::new(),
        agent: AgentAsked::No,
        others_period: seconds(2),
        down_when: DownWhen::All,
        half_dead: HalfDead::TakeoverAfter(seconds(4)),
        site_cut: SiteCut::Takeover,
        automatic: Automatic::On,
        hold_down: seconds(2),
        startup_grace: Duration::ZERO,
        hold_off: seconds(4),
        give_up_after: seconds(8),
        repeat: seconds(900),
        epoch_store: EpochStoreKind::Dns,
        confirm_within: seconds(2),
        primary_start: PrimaryStart::ByItself,
        configured: Configured { dns: true, fencing: Fencing::NotConfigured, ..Configured::default() },
        limits: Limits { drain: seconds(4), wait_for_primary: seconds(6), stop_lasts: seconds(8) },
        config_text: String::new(),
    }
}
