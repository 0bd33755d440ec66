//! What the tests of providers share: one that holds the binding of a primary that died, and the words for it.

use std::net::{IpAddr, Ipv4Addr};

use pbx_failover::adapters::pbx::Own as Here;
use pbx_failover::config::{OldBinding, Trunk, TrunkProof};
use pbx_failover::units::PbxStatus;

use super::*;
use crate::lab::kamailio::Second;

/// The address of the primary that dies; the backup's is 127.0.0.1.
pub const PRIMARY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A provider that holds the binding of a primary which was killed.
pub struct Dead {
    pub provider: Kamailio,
    /// The primary's contact there.
    pub contact: String,
    /// Host and port of it.
    pub place: String,
}

impl Dead {
    /// With a provider that treats a second contact so.
    pub fn at(second: Second) -> Self {
        Self::with(|setup| setup.second(second))
    }

    /// With a provider that is set up so.
    pub fn with(more: impl FnOnce(Setup) -> Setup) -> Self {
        let provider = Kamailio::started(more(Setup::at(loopback()).account("trunk1", "secret")));
        let place = SocketAddr::from((PRIMARY, free_port()));
        let setup = Setup::at(place).trunk("carrier", provider.address(), "trunk1", "secret").trunks_expire(3600);
        let primary = Kamailio::started(setup);
        primary.verb("register_trunks");
        primary.signal("KILL");
        wait_until("the primary is dead", SOON, || primary.pids().is_empty());
        let dead = Self { provider, contact: format!("sip:carrier@{place}"), place: place.to_string() };
        assert_eq!(dead.held(), [dead.contact.as_str()], "its binding outlives it");
        dead
    }

    /// What the provider would send calls to.
    pub fn held(&self) -> Vec<String> {
        self.provider.contacts("trunk1")
    }

    /// The words that name its binding.
    pub fn named(&self) -> String {
        format!("also holds {} (3", self.place)
    }
}

/// The trunk `carrier`, which registers.
pub fn carrier(old_binding: OldBinding) -> Trunk {
    Trunk { old_binding, ..Trunk::new("carrier", TrunkKind::Register) }
}

/// The trunk `carrier`, of which the provider is asked OPTIONS.
pub fn asked(kind: TrunkKind, provider: &Kamailio) -> Trunk {
    let provider = Some(format!("sip:{}", provider.address()));
    Trunk { proof: TrunkProof::Options, provider, ..Trunk::new("carrier", kind) }
}

/// The backup's addresses.
pub fn here(listen: &str) -> Here {
    let listen: IpAddr = listen.parse().expect("an address");
    Here { listen: vec![listen], public: vec![listen] }
}

/// Waits until the status is so: what providers hold is asked beside it.
pub async fn told(pbx: &dyn Pbx, what: &str, so: impl Fn(&PbxStatus) -> bool) -> PbxStatus {
    until(what, async || Some(pbx.status().await).filter(|status| so(status))).await
}
