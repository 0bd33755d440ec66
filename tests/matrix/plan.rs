//! The plan of the network: hosts, wires, and what can be cut. Who reaches whom is decided here, and nothing else.
//!
//! ```text
//!   primary ── router ──┐                      ┌── targets 1, 2, 3
//!              (site)   │                      │
//!   backup ─────────────┼────── backbone ──────┼── DNS master
//!                       │                      │
//!   observer ───────────┘                      └── SIP provider
//! ```
//! Why these cuts: every wire there is, because it silences several questions at once; and for every question that a
//! node asks of another (backup → primary, router, observer, targets, master, provider; observer → primary; primary →
//! master, provider) one cut that silences this question alone, as one firewall rule or one broken route does. One
//! target alone can go too, since `internet.need` is 2 of 3 and it must make no difference. What is left out says
//! nothing new: the paths observer-master, observer-provider and so on carry no question.

use std::fmt;

/// A host, or a group that is always reached alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Host {
    /// `pbx-a`.
    Primary,
    /// The router of the primary's site: the witness.
    Router,
    /// `pbx-b`.
    Backup,
    /// The third host.
    Observer,
    /// The DNS master, which holds the epoch.
    Master,
    /// The first Internet target.
    FirstTarget,
    /// The other Internet targets.
    OtherTargets,
    /// The SIP provider.
    Provider,
}

/// How many Internet targets there are.
pub const TARGETS: u8 = 3;

/// One thing that can be cut.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Cut {
    /// The wire between the primary and its router.
    PrimaryWire,
    /// The uplink of the primary's site.
    SiteWire,
    /// The uplink of the backup.
    BackupWire,
    /// The uplink of the observer.
    ObserverWire,
    /// The uplink of the DNS master.
    MasterWire,
    /// The uplink of the first Internet target.
    FirstTargetWire,
    /// The uplink of the other Internet targets.
    OtherTargetsWire,
    /// The uplink of the provider.
    ProviderWire,
    /// The path between primary and backup.
    PrimaryBackup,
    /// The path between primary and DNS master.
    PrimaryMaster,
    /// The path between primary and provider.
    PrimaryProvider,
    /// The path between backup and DNS master.
    BackupMaster,
    /// The path between backup and provider.
    BackupProvider,
    /// The path between backup and the router of the primary's site.
    BackupRouter,
    /// The path between observer and primary.
    ObserverPrimary,
    /// The path between observer and backup.
    ObserverBackup,
}

impl Cut {
    /// Every cut.
    pub const ALL: [Self; 16] = [
        Self::PrimaryWire,
        Self::SiteWire,
        Self::BackupWire,
        Self::ObserverWire,
        Self::MasterWire,
        Self::FirstTargetWire,
        Self::OtherTargetsWire,
        Self::ProviderWire,
        Self::PrimaryBackup,
        Self::PrimaryMaster,
        Self::PrimaryProvider,
        Self::BackupMaster,
        Self::BackupProvider,
        Self::BackupRouter,
        Self::ObserverPrimary,
        Self::ObserverBackup,
    ];

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::PrimaryWire => "primary's cable",
            Self::SiteWire => "primary's site",
            Self::BackupWire => "backup's uplink",
            Self::ObserverWire => "observer's uplink",
            Self::MasterWire => "DNS master's uplink",
            Self::FirstTargetWire => "one Internet target",
            Self::OtherTargetsWire => "two Internet targets",
            Self::ProviderWire => "provider's uplink",
            Self::PrimaryBackup => "primary - backup",
            Self::PrimaryMaster => "primary - DNS master",
            Self::PrimaryProvider => "primary - provider",
            Self::BackupMaster => "backup - DNS master",
            Self::BackupProvider => "backup - provider",
            Self::BackupRouter => "backup - primary's router",
            Self::ObserverPrimary => "observer - primary",
            Self::ObserverBackup => "observer - backup",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl Host {
    /// The wires between it and the backbone.
    const fn wires(self) -> u16 {
        match self {
            Self::Primary => Cut::PrimaryWire.bit() | Cut::SiteWire.bit(),
            Self::Router => Cut::SiteWire.bit(),
            Self::Backup => Cut::BackupWire.bit(),
            Self::Observer => Cut::ObserverWire.bit(),
            Self::Master => Cut::MasterWire.bit(),
            Self::FirstTarget => Cut::FirstTargetWire.bit(),
            Self::OtherTargets => Cut::OtherTargetsWire.bit(),
            Self::Provider => Cut::ProviderWire.bit(),
        }
    }

    /// The cut of the path to another host, where there is one.
    const fn path(self, to: Self) -> u16 {
        match (self, to) {
            (Self::Primary, Self::Backup) | (Self::Backup, Self::Primary) => Cut::PrimaryBackup.bit(),
            (Self::Primary, Self::Master) => Cut::PrimaryMaster.bit(),
            (Self::Primary, Self::Provider) => Cut::PrimaryProvider.bit(),
            (Self::Backup, Self::Master) => Cut::BackupMaster.bit(),
            (Self::Backup, Self::Provider) => Cut::BackupProvider.bit(),
            (Self::Backup, Self::Router) => Cut::BackupRouter.bit(),
            (Self::Observer, Self::Primary) => Cut::ObserverPrimary.bit(),
            (Self::Backup, Self::Observer) => Cut::ObserverBackup.bit(),
            _ => 0,
        }
    }
}

/// A set of cuts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Cuts(u16);

impl Cuts {
    /// Nothing is cut.
    pub const NONE: Self = Self(0);

    /// Every set there is.
    pub fn every() -> impl Iterator<Item = Self> {
        (0..=u16::MAX).map(Self)
    }

    /// These.
    pub fn these(cuts: &[Cut]) -> Self {
        Self(cuts.iter().fold(0, |bits, cut| bits | cut.bit()))
    }

    /// Without one.
    pub fn without(self, cut: Cut) -> Self {
        Self(self.0 & !cut.bit())
    }

    /// Whether one is among them.
    pub fn has(self, cut: Cut) -> bool {
        self.0 & cut.bit() != 0
    }

    /// Them.
    pub fn list(self) -> Vec<Cut> {
        Cut::ALL.into_iter().filter(|cut| self.has(*cut)).collect()
    }

    /// Whether a question of one host gets to another and its answer back, where one of them asks the other at all.
    pub const fn reaches(self, from: Host, to: Host) -> bool {
        self.0 & (from.wires() | to.wires() | from.path(to)) == 0
    }

    /// How many Internet targets answer it.
    pub fn targets_seen_by(self, host: Host) -> u8 {
        let first = u8::from(self.reaches(host, Host::FirstTarget));
        let others = if self.reaches(host, Host::OtherTargets) { TARGETS - 1 } else { 0 };
        first + others
    }
}

impl fmt::Display for Cuts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("nothing");
        }
        let names: Vec<&str> = self.list().into_iter().map(Cut::name).collect();
        f.write_str(&names.join(" + "))
    }
}
