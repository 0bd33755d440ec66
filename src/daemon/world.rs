//! The adapters that one configuration needs, behind their ports.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::adapters::courier;
use crate::adapters::data::gate::WorkingDirs;
use crate::adapters::dns::{DnsEpoch, DnsRecords};
use crate::adapters::epoch_local::LocalEpoch;
use crate::adapters::pbx::Resident;
use crate::adapters::sync::InboundSync;
use crate::adapters::{checks, fence, pbx, peer, witness};
use crate::config::{Config, Epoch, Role};
use crate::host::sequence::Sequence;
use crate::ports::{Courier, DataGate, EpochStore, Fence, Names, NotConfigured, Pbx, Peer, Probe, SyncFence};
use crate::units::{CheckName, Target};

/// Everything that touches the outside, built from one configuration. A plan keeps the world that it began with.
pub struct World {
    /// The configuration.
    pub config: Config,
    /// The checks, in the file's order.
    pub checks: Vec<(CheckName, Arc<dyn Probe>)>,
    /// The Internet targets, in the file's order.
    pub internet: Vec<Arc<dyn Probe>>,
    /// Who may serve.
    pub epoch: Box<dyn EpochStore>,
    /// The records that move.
    pub names: Box<dyn Names>,
    /// The PBX on this node.
    pub pbx: Box<dyn Pbx>,
    /// Who carries messages.
    pub couriers: BTreeMap<Target, Arc<dyn Courier>>,
    /// What makes certain that the primary is off.
    pub fence: Box<dyn Fence>,
    /// What brings files here.
    pub sync: Box<dyn SyncFence>,
    /// The gate before the working directory is loaded.
    pub gate: Arc<dyn DataGate>,
    /// What stands at the primary's site, in the file's order.
    pub site: Vec<Arc<dyn Probe>>,
    /// Robots elsewhere, in the file's order; up: it sees the primary alive.
    pub observers: Vec<Arc<dyn Probe>>,
    /// The primary's agent.
    pub peer: Arc<dyn Peer>,
}

impl World {
    /// Builds every adapter; `resident` is the PBX that runs inside this process, across all its worlds.
    ///
    /// # Errors
    /// One line: what this host lacks, and what to do.
    pub fn build(config: Config, resident: &Resident) -> Result<Self, String> {
        let watches = config.role != Role::Primary;
        let mut probes = Vec::new();
        let token = config.peer.as_ref().map(|peer| &peer.token);
        for check in config.monitor.checks.iter().filter(|_| watches) {
            let probe =
                checks::probe(check, &config.primary, token).map_err(|why| format!("check {}: {why}", check.name))?;
            probes.push((check.name.clone(), Arc::from(probe)));
        }
        let mut internet = Vec::new();
        for target in config.internet.targets.iter().filter(|_| watches) {
            let probe = checks::internet::probe(target, config.internet.timeout)
                .map_err(|why| format!("internet target {}: {why}", target.name))?;
            internet.push(Arc::from(probe));
        }
        let site = config.witness.primary_site.iter();
        let site = site.map(|place| Arc::from(witness::probe(place, config.internet.timeout))).collect();
        let couriers = courier::couriers(&config)?.into_iter().map(|(target, courier)| (target, Arc::from(courier)));
        let sequence = Arc::new(Sequence::open(&config.state_dir));
        let observers = config.witness.observers.iter();
        let observers = observers.map(|at| Arc::new(peer::Observer::new(&config, at, Arc::clone(&sequence))) as _);
        let observers: Vec<Arc<dyn Probe>> = observers.collect();
        let peer: Arc<dyn Peer> = match &config.peer {
            Some(at) => Arc::new(peer::Host::agent(&config, at, sequence)),
            None => Arc::new(NotConfigured),
        };
        let gate: Arc<dyn DataGate> = if config.role == Role::Backup {
            let about = config.clone();
            Arc::new(WorkingDirs::new(&config, Box::new(move || checks::beat_seen(&about))))
        } else {
            Arc::new(NotConfigured)
        };
        let sync: Box<dyn SyncFence> =
            if config.role == Role::Backup { Box::new(InboundSync::new(&config)?) } else { Box::new(NotConfigured) };
        Ok(Self {
            checks: probes,
            internet,
            epoch: epoch_store(&config),
            names: Box::new(DnsRecords::new(&config.dns, &config.epoch)),
            pbx: pbx::driver(&config, resident)?,
            couriers: couriers.collect(),
            fence: fence::fence(&config)?,
            sync,
            gate,
            site,
            observers,
            peer,
            config,
        })
    }
}

/// Where the epoch of this configuration lives.
pub(super) fn epoch_store(config: &Config) -> Box<dyn EpochStore> {
    match &config.epoch {
        Epoch::Local => Box::new(LocalEpoch::new(&config.state_dir)),
        Epoch::Dns { record, update } => Box::new(DnsEpoch::new(&config.dns.updates[*update], record)),
    }
}
