//! A trunk of `pbx.trunks`: how it reaches its provider, and what proves that it does.
//!
//! `build::trunk` reads it; what is done with it is in `adapters::pbx`.

use crate::units::TrunkKind;

/// One trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trunk {
    /// As the PBX calls it.
    pub name: String,
    /// How it reaches its provider.
    pub kind: TrunkKind,
    /// Must it be up?
    pub required: bool,
    /// What proves that it is up.
    pub proof: TrunkProof,
    /// The SIP URI of its provider, which is asked OPTIONS.
    pub provider: Option<String>,
    /// What happens to bindings of others at the provider.
    pub old_binding: OldBinding,
    /// The name that the provider looks up; of kind fqdn.
    pub fqdn: Option<String>,
    /// The name of the ActionURL that moves its numbers.
    pub move_url: Option<String>,
}

impl Trunk {
    /// A required one of this kind, with every default.
    pub fn new(name: impl Into<String>, kind: TrunkKind) -> Self {
        Self {
            name: name.into(),
            kind,
            required: true,
            proof: TrunkProof::Driver,
            provider: None,
            old_binding: OldBinding::Shown,
            fqdn: None,
            move_url: None,
        }
    }

    /// Whether only its provider's answer counts: nothing of the PBX tells of one that does not register.
    pub fn is_only_asked(&self) -> bool {
        self.kind != TrunkKind::Register && self.proof == TrunkProof::Options
    }
}

/// What proves that a trunk is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrunkProof {
    /// What the PBX tells of it.
    Driver,
    /// The provider answers OPTIONS; one that registers must be registered too.
    Options,
}

/// What happens to what the provider holds of others for a trunk's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldBinding {
    /// It is shown.
    Shown,
    /// It is removed once this node has claimed the service.
    Cleared,
}
