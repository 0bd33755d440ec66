//! The rules of UPDATE: prerequisites, prescan, updates (RFC 2136 §3.2 to §3.6), all or nothing.
//!
//! Who may update which zone was asked before.

use std::collections::BTreeMap;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::zone::{Zone, same};

/// Most records in a zone and in an update: a demo has a dozen. It bounds memory, and the time for comparing RRsets,
/// which grows with the square.
pub const RECORDS_MAX: usize = 1_000;

/// The zone as it is after the update.
///
/// # Errors
/// The code of the first rule that is broken or prerequisite that is not met.
pub fn updated(zone: &Zone, prerequisites: &[Record], updates: &[Record]) -> Result<Zone, ResponseCode> {
    if prerequisites.len() + updates.len() > RECORDS_MAX {
        return Err(ResponseCode::Refused);
    }
    check(zone, prerequisites)?;
    for update in updates {
        prescan(zone, update)?;
    }
    let mut next = zone.clone();
    for update in updates {
        apply(&mut next, update);
    }
    if next.count() > RECORDS_MAX {
        return Err(ResponseCode::Refused);
    }
    // §3.6: unless the update itself brought a newer SOA.
    if next != *zone && next.soa().map(|(_, soa)| soa.serial) == zone.soa().map(|(_, soa)| soa.serial) {
        next.raise_serial();
    }
    Ok(next)
}

/// §3.2.5. The values of one name and type are gathered first, and compared as a set.
fn check(zone: &Zone, prerequisites: &[Record]) -> Result<(), ResponseCode> {
    let mut wanted: BTreeMap<(&Name, RecordType), Vec<RData>> = BTreeMap::new();
    for record in prerequisites {
        let (name, rtype, empty) = parts(record);
        if record.ttl != 0 {
            return Err(ResponseCode::FormErr);
        }
        if !zone.holds(name) {
            return Err(ResponseCode::NotZone);
        }
        // A name that only has names below it is not in use (§2.4.4).
        let exists = if rtype == RecordType::ANY { zone.node(name).is_some() } else { zone.set(name, rtype).is_some() };
        match (record.dns_class, empty) {
            (DNSClass::ANY, true) if exists => {}
            (DNSClass::ANY, true) if rtype == RecordType::ANY => return Err(ResponseCode::NXDomain),
            (DNSClass::ANY, true) => return Err(ResponseCode::NXRRSet),
            (DNSClass::NONE, true) if !exists => {}
            (DNSClass::NONE, true) if rtype == RecordType::ANY => return Err(ResponseCode::YXDomain),
            (DNSClass::NONE, true) => return Err(ResponseCode::YXRRSet),
            (DNSClass::IN, false) => wanted.entry((name, rtype)).or_default().push(record.data.clone()),
            _ => return Err(ResponseCode::FormErr),
        }
    }
    let met = |((name, rtype), values): (&(&Name, RecordType), &Vec<RData>)| {
        zone.set(name, *rtype).is_some_and(|set| same(&set.values, values))
    };
    if wanted.iter().all(met) { Ok(()) } else { Err(ResponseCode::NXRRSet) }
}

/// §3.4.1.3.
fn prescan(zone: &Zone, update: &Record) -> Result<(), ResponseCode> {
    let (name, rtype, empty) = parts(update);
    if !zone.holds(name) {
        return Err(ResponseCode::NotZone);
    }
    let good = match update.dns_class {
        DNSClass::IN => !empty && !is_meta(rtype),
        DNSClass::ANY => update.ttl == 0 && empty && (rtype == RecordType::ANY || !is_meta(rtype)),
        DNSClass::NONE => update.ttl == 0 && !empty && !is_meta(rtype),
        _ => false,
    };
    if good { Ok(()) } else { Err(ResponseCode::FormErr) }
}

/// §3.4.2.
fn apply(zone: &mut Zone, update: &Record) {
    let (name, rtype, _) = parts(update);
    match update.dns_class {
        DNSClass::ANY => zone.remove_sets(name, |present| rtype == RecordType::ANY || present == rtype),
        DNSClass::NONE => zone.remove(name, &update.data),
        _ => zone.add(update),
    }
}

fn parts(record: &Record) -> (&Name, RecordType, bool) {
    (&record.name, record.record_type(), matches!(record.data, RData::Update0(_)))
}

/// Types that stand for questions or for parts of a message, never for data (RFC 6895 §3.1).
pub fn is_meta(rtype: RecordType) -> bool {
    matches!(u16::from(rtype), 0 | 41 | 128..=255)
}
