//! The records of one zone: finds them for a question (RFC 1034 §4.3.2, wildcards by RFC 4592), adds and removes them.
//!
//! It always has an apex with one SOA and at least one NS: removing those is refused here, whoever asks.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use hickory_proto::rr::{Name, RData, Record, RecordType, SerialNumber};
use hickory_proto::serialize::txt::Parser;

use crate::adapters::dns::{rrset, wire};

/// The values of one name and type, which have one TTL (RFC 2181 §5.2).
#[derive(Debug, Clone)]
pub struct RrSet {
    /// Seconds.
    pub ttl_s: u32,
    /// Never empty, no value twice.
    pub values: Vec<RData>,
}

/// The order of the values means nothing.
impl PartialEq for RrSet {
    fn eq(&self, other: &Self) -> bool {
        self.ttl_s == other.ttl_s && same(&self.values, &other.values)
    }
}

/// Whether two lists hold the same values; names in them are equal in any case (RFC 2136 §1.1.1).
pub fn same<T: PartialEq>(a: &[T], b: &[T]) -> bool {
    a.len() == b.len() && a.iter().all(|value| b.contains(value)) && b.iter().all(|value| a.contains(value))
}

/// All of one name. In the zone it is never empty; an empty one stands for a name that only has names below it.
pub type Node = BTreeMap<RecordType, RrSet>;

static EMPTY: Node = Node::new();

/// The zone. Two are equal when they hold the same records with the same TTLs.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    origin: Name,
    /// In the order of RFC 4034 §6.1, so that what lies below a name follows it.
    nodes: BTreeMap<Name, Node>,
}

impl Zone {
    /// Reads a zone from the text of a master file (RFC 1035 §5).
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn parse(origin: &str, text: &str) -> Result<Self, String> {
        let origin = wire::name(origin).map_err(|fault| format!("{fault:?}"))?;
        let parsed = Parser::new(text, None, Some(origin.clone())).parse();
        let (_, sets) = parsed.map_err(|e| format!("the zone {origin} cannot be read: {e}"))?;
        let mut zone = Self { origin, nodes: BTreeMap::new() };
        for record in sets.values().flat_map(|set| set.records_without_rrsigs()) {
            if !zone.holds(&record.name) {
                return Err(format!("{} lies outside the zone {}", record.name, zone.origin));
            }
            zone.insert(record);
        }
        if zone.soa().is_none() || zone.set(&zone.origin, RecordType::NS).is_none() {
            return Err(format!("the zone {} needs a SOA and an NS", zone.origin));
        }
        Ok(zone)
    }

    /// Its name.
    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// Whether the name lies in it.
    pub fn holds(&self, name: &Name) -> bool {
        self.origin.zone_of(name)
    }

    /// The values of a name and type for people, sorted; none where there are none.
    pub fn texts(&self, name: &str, rtype: RecordType) -> Vec<String> {
        let set = wire::name(name).ok().and_then(|name| self.set(&name, rtype));
        set.map(|set| rrset::texts(&set.values)).unwrap_or_default()
    }

    /// How many records it has.
    pub fn count(&self) -> usize {
        self.nodes.values().flat_map(BTreeMap::values).map(|set| set.values.len()).sum()
    }

    /// What is written at exactly this name.
    pub fn node(&self, name: &Name) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// What is written at exactly this name and type.
    pub fn set(&self, name: &Name, rtype: RecordType) -> Option<&RrSet> {
        self.node(name)?.get(&rtype)
    }

    /// What a question for this name, which lies in the zone, is answered with: a node, perhaps of a wildcard; `None`
    /// for NXDOMAIN.
    pub fn look_up(&self, name: &Name) -> Option<&Node> {
        if let Some(node) = self.node_or_above(name) {
            return Some(node);
        }
        // RFC 4592 §3.3.1: the wildcard right below the closest encloser, and no other. The apex exists, so this ends.
        let mut child = name.clone();
        while self.node_or_above(&child.base_name()).is_none() {
            child = child.base_name();
        }
        self.node_or_above(&child.into_wildcard())
    }

    /// A name exists if there are records at it or below it.
    fn node_or_above(&self, name: &Name) -> Option<&Node> {
        let (next, node) = self.nodes.range(name..).next()?;
        if next == name { Some(node) } else { name.zone_of(next).then_some(&EMPTY) }
    }

    /// The SOA record.
    pub fn soa(&self) -> Option<(u32, &hickory_proto::rr::rdata::SOA)> {
        let set = self.set(&self.origin, RecordType::SOA)?;
        match set.values.as_slice() {
            [RData::SOA(soa)] => Some((set.ttl_s, soa)),
            _ => None,
        }
    }

    /// Raises the serial by one (RFC 1982 §3.1), past 0, which some servers take for none.
    pub fn raise_serial(&mut self) {
        let set = self.nodes.get_mut(&self.origin).and_then(|node| node.get_mut(&RecordType::SOA));
        if let Some([RData::SOA(soa)]) = set.map(|set| set.values.as_mut_slice()) {
            soa.serial = soa.serial.checked_add(1).unwrap_or(1);
        }
    }

    /// Adds a record, or replaces the one that it equals; ignores what RFC 2136 §3.4.2.2 says is to be ignored.
    pub fn add(&mut self, record: &Record) {
        let rtype = record.record_type();
        let beside = |(other, _): (&RecordType, &RrSet)| (rtype == RecordType::CNAME) != (*other == RecordType::CNAME);
        let clashes = match &record.data {
            RData::SOA(soa) => {
                record.name != self.origin
                    || self.soa().is_some_and(|(_, old)| {
                        let newer = SerialNumber::from(soa.serial).partial_cmp(&SerialNumber::from(old.serial));
                        newer != Some(Ordering::Greater)
                    })
            }
            _ => self.node(&record.name).is_some_and(|node| node.iter().any(beside)),
        };
        if !clashes {
            self.insert(record);
        }
    }

    fn insert(&mut self, record: &Record) {
        let node = self.nodes.entry(record.name.clone()).or_default();
        let set = node.entry(record.record_type()).or_insert_with(|| RrSet { ttl_s: record.ttl, values: Vec::new() });
        set.ttl_s = record.ttl;
        if matches!(record.data, RData::SOA(_) | RData::CNAME(_)) {
            set.values.clear();
        }
        match set.values.iter_mut().find(|value| **value == record.data) {
            Some(equal) => *equal = record.data.clone(),
            None => set.values.push(record.data.clone()),
        }
    }

    /// Removes the RRsets of a name that `wanted` picks; SOA and NS of the apex stay (RFC 2136 §3.4.2.3).
    pub fn remove_sets(&mut self, name: &Name, wanted: impl Fn(RecordType) -> bool) {
        let apex = *name == self.origin;
        let kept = |rtype: RecordType| apex && matches!(rtype, RecordType::SOA | RecordType::NS);
        if let Some(node) = self.nodes.get_mut(name) {
            node.retain(|rtype, _| !wanted(*rtype) || kept(*rtype));
            if node.is_empty() {
                self.nodes.remove(name);
            }
        }
    }

    /// Removes one record; SOA and the apex's last NS stay (RFC 2136 §3.4.2.4).
    pub fn remove(&mut self, name: &Name, value: &RData) {
        let (apex, rtype) = (*name == self.origin, value.record_type());
        let Some(set) = self.nodes.get_mut(name).and_then(|node| node.get_mut(&rtype)) else { return };
        if rtype == RecordType::SOA || (apex && rtype == RecordType::NS && set.values.len() == 1) {
            return;
        }
        set.values.retain(|present| present != value);
        if set.values.is_empty() {
            self.remove_sets(name, |wanted| wanted == rtype);
        }
    }
}
