//! The records that move, and the epoch's record, which lies in one of their zones.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use super::hosts::Pair;
use super::{Build, Use};
use crate::config::cursor::Cursor;
use crate::config::hints::quote;
use crate::config::model::{Dns, DnsMode, DnsRecord, DnsUpdate, Epoch, IfChanged, TsigAlgorithm, TsigKey};
use crate::config::texts::{self, Read};

/// More zones, or records of a zone, than this do not fit into one message or one mind.
const UPDATES_MAX: usize = 50;
const RECORDS_MAX: usize = 200;
/// More values than this make an RRset that no phone reads.
const VALUES_MAX: usize = 20;
/// The name beside the epoch's at which conformance is tested must fit as well.
const PROBE_PREFIX_BYTES: usize = "_pbx-failover-probe.".len();
/// A TTL above this keeps phones away for long.
const TTL_LONG_S: u32 = 300;
/// Longest character-string of a TXT record (RFC 1035 §3.3).
const TXT_BYTES_MAX: usize = 255;

/// Reads `dns`.
pub fn dns<'a>(at: &Cursor<'a>, pair: Option<&Pair>, build: &mut Build<'a>) -> Option<Dns> {
    let mode_at = at.key("mode");
    let mode = match mode_at.text()? {
        "static-srv" => DnsMode::StaticSrv,
        "none" => DnsMode::None,
        _ => DnsMode::Replace,
    };
    let updates_at = at.key("updates");
    let items = updates_at.items();
    if items.len() > UPDATES_MAX {
        updates_at.error(
            &mut build.notes,
            format!("holds more than {UPDATES_MAX} updates"),
            "one for each zone is enough",
        );
        return None;
    }
    let mut seen = Vec::new();
    let updates: Option<Vec<_>> =
        items.iter().map(|at| update(at, pair, &mut seen, build)).collect::<Vec<_>>().into_iter().collect();
    let updates = updates?;
    if mode != DnsMode::Replace && updates.iter().any(|update| !update.records.is_empty()) {
        let fix = "write mode: replace to move them, or delete the records";
        mode_at.warn(&mut build.notes, "in this mode the records below do not move", fix);
    }
    Some(Dns { mode, updates })
}

/// Name and type of a record that was already seen, to find doubles over all updates of one zone.
type Seen = Vec<(String, String)>;

fn update<'a>(at: &Cursor<'a>, pair: Option<&Pair>, seen: &mut Seen, build: &mut Build<'a>) -> Option<DnsUpdate> {
    if !at.is_map() {
        return None;
    }
    let server_at = at.key("server");
    let server = server(&server_at, build);
    if let (Some(server), Some(pair)) = (server, pair)
        && pair.primary.addresses.contains(&server.ip())
    {
        let fix = "use a name server at another site: this one dies with the primary";
        server_at.warn(&mut build.notes, "the master has the primary's address", fix);
    }
    let zone_at = at.key("zone");
    let zone = zone_at.text().and_then(|text| zone_at.take(&mut build.notes, texts::dns_name(text)));
    let key = key(&at.key("key"), build);
    let ttl_at = at.key("ttl");
    let ttl_s = ttl(&ttl_at, build);
    let if_changed = match at.key("if_changed").text() {
        Some("overwrite") => IfChanged::Overwrite,
        _ => IfChanged::Stop,
    };
    let verify_items = at.key("verify").items();
    let verify: Vec<_> = verify_items.iter().filter_map(|item| self::server(item, build)).collect();
    let items = at.key("records").items();
    if items.len() > RECORDS_MAX {
        at.key("records").error(&mut build.notes, format!("holds more than {RECORDS_MAX} records"), "move fewer names");
        return None;
    }
    let mut records: Vec<(Cursor<'a>, DnsRecord)> = Vec::new();
    let mut complete = true;
    for item in &items {
        let found = if item.is_map() {
            record(item, ttl_s, build).map(|record| vec![record])
        } else {
            bare(item, ttl_s, pair, build)
        };
        complete &= found.is_some();
        records.extend(found.into_iter().flatten().map(|record| (item.clone(), record)));
    }
    let zone = zone?;
    for (item, record) in &records {
        if !texts::in_zone(&record.name, &zone) {
            let what = format!("{} does not lie in the zone {zone}", record.name);
            item.error(&mut build.notes, what, "correct the name, or move it to the update of its zone");
        }
        let id = (record.name.clone(), record.rtype.clone());
        if seen.contains(&id) {
            let what = format!("{} {} stands here for the second time", record.name, record.rtype);
            item.error(
                &mut build.notes,
                what,
                "keep one; an RRset is moved as a whole, with all its values in one list",
            );
        } else if seen.iter().any(|(name, rtype)| *name == id.0 && (rtype == "CNAME") != (id.1 == "CNAME")) {
            let what = format!("{} has a CNAME and another type", record.name);
            item.error(&mut build.notes, what, "a name with a CNAME can have nothing else; delete one of them");
        }
        if record.rtype == "CNAME" && record.name == zone {
            item.error(&mut build.notes, "a zone's own name cannot be a CNAME", "use A and AAAA");
        }
        seen.push(id);
    }
    (complete && verify.len() == verify_items.len()).then_some(())?;
    Some(DnsUpdate {
        server: server?,
        zone,
        key: key?,
        ttl_s: ttl_s?,
        if_changed,
        verify,
        records: records.into_iter().map(|(_, record)| record).collect(),
    })
}

fn server<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<SocketAddr> {
    at.take(&mut build.notes, texts::socket(at.text()?, Some(53)))
}

fn key<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<TsigKey> {
    if !at.is_map() {
        return None;
    }
    let name_at = at.key("name");
    let name = name_at.text().and_then(|text| name_at.take(&mut build.notes, texts::dns_name(text)));
    let algorithm = match at.key("algorithm").text() {
        Some("hmac-sha384") => TsigAlgorithm::HmacSha384,
        Some("hmac-sha512") => TsigAlgorithm::HmacSha512,
        _ => TsigAlgorithm::HmacSha256,
    };
    let secret = build.secret(&at.key("secret"), Use::Tsig);
    Some(TsigKey { name: name?, algorithm, secret: secret? })
}

fn ttl<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<NonZeroU32> {
    let ttl = at.count()?;
    if ttl.get() > TTL_LONG_S {
        let what = format!("phones keep the dead address for up to {ttl} s");
        at.warn(&mut build.notes, what, "use 30 to 60 seconds for A and AAAA");
    }
    Some(ttl)
}

/// A bare name: A and AAAA from the hosts' addresses. A family that neither host has is left out; one that only
/// one host has is deleted while the other serves.
fn bare<'a>(
    at: &Cursor<'a>,
    ttl_s: Option<NonZeroU32>,
    pair: Option<&Pair>,
    build: &mut Build<'a>,
) -> Option<Vec<DnsRecord>> {
    let name = at.take(&mut build.notes, texts::dns_name(at.text()?))?;
    let (ttl_s, pair) = (ttl_s?, pair?);
    let of = |addresses: &[IpAddr], v6: bool| -> Vec<String> {
        addresses.iter().filter(|address| address.is_ipv6() == v6).map(ToString::to_string).collect()
    };
    let family = |(rtype, v6): (&str, bool)| DnsRecord {
        name: name.clone(),
        rtype: rtype.to_owned(),
        ttl_s,
        primary: of(&pair.primary.addresses, v6),
        backup: of(&pair.backup.addresses, v6),
    };
    let both = [("A", false), ("AAAA", true)].map(family);
    Some(both.into_iter().filter(|record| !(record.primary.is_empty() && record.backup.is_empty())).collect())
}

fn record<'a>(at: &Cursor<'a>, default_ttl: Option<NonZeroU32>, build: &mut Build<'a>) -> Option<DnsRecord> {
    let name_at = at.key("name");
    let name = name_at.text().and_then(|text| name_at.take(&mut build.notes, texts::dns_name(text)));
    let ttl_at = at.key("ttl");
    let ttl_s = if ttl_at.given { ttl(&ttl_at, build) } else { default_ttl };
    let rtype = at.key("type").text()?;
    let sides = ["primary", "backup"].map(|side| values(&at.key(side), rtype, build));
    let [Some(primary), Some(backup)] = sides else { return None };
    if primary.is_empty() && backup.is_empty() {
        at.error(&mut build.notes, "has no value on either side", "delete the record, or write what shall stand there");
    } else if primary == backup {
        at.warn(
            &mut build.notes,
            "has the same values on both sides: it does not move",
            "delete it, or correct a side",
        );
    }
    Some(DnsRecord { name: name?, rtype: rtype.to_owned(), ttl_s: ttl_s?, primary, backup })
}

fn values<'a>(at: &Cursor<'a>, rtype: &str, build: &mut Build<'a>) -> Option<Vec<String>> {
    if !at.is_list() {
        return None;
    }
    let items = at.items();
    if items.len() > VALUES_MAX {
        at.error(&mut build.notes, format!("holds more than {VALUES_MAX} values"), "no phone reads so many");
        return None;
    }
    if rtype == "CNAME" && items.len() > 1 {
        at.error(&mut build.notes, "a CNAME has one value", "keep one");
    }
    let mut values: Vec<String> = Vec::new();
    for item in &items {
        let Some(text) = item.text() else { continue };
        let Some(value) = item.take(&mut build.notes, value(text, rtype)) else { continue };
        if values.contains(&value) {
            item.error(&mut build.notes, "stands here twice", "delete one");
        }
        values.push(value);
    }
    (values.len() == items.len()).then_some(values)
}

/// One value, in the form in which it is compared.
fn value(text: &str, rtype: &str) -> Read<String> {
    let bad = |what: &str, fix: &str| Err((format!("{} is no {what}", quote(text)), fix.to_owned()));
    match rtype {
        "A" => match text.parse::<std::net::Ipv4Addr>() {
            Ok(address) => Ok(address.to_string()),
            Err(_) => bad("IPv4 address", "write one such as 198.51.100.20, or use type AAAA"),
        },
        "AAAA" => match text.parse::<std::net::Ipv6Addr>() {
            Ok(address) => Ok(address.to_string()),
            Err(_) => bad("IPv6 address", "write one such as 2001:db8::20, or use type A"),
        },
        "SRV" => {
            let fix = "write PRIORITY WEIGHT PORT TARGET, such as 10 10 5060 pbx-b.example.com. (with the final dot)";
            let parts: Vec<&str> = text.split_whitespace().collect();
            let [priority, weight, port, target] = parts[..] else { return bad("SRV value", fix) };
            let number = |part: &str| texts::whole(part).and_then(|number| u16::try_from(number).ok());
            let (Some(priority), Some(weight), Some(port)) = (number(priority), number(weight), number(port)) else {
                return bad("SRV value", fix);
            };
            match texts::dns_name(target) {
                Ok(name) if target.ends_with('.') => Ok(format!("{priority} {weight} {port} {name}.")),
                _ => bad("SRV value", fix),
            }
        }
        "CNAME" => match texts::dns_name(text) {
            Ok(name) if text.ends_with('.') => Ok(format!("{name}.")),
            _ => bad("full name", "write it with the final dot, such as pbx-b.example.com."),
        },
        _ => {
            let good = text.len() <= TXT_BYTES_MAX && text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"');
            if good { Ok(text.to_owned()) } else { bad("TXT value", "write up to 255 plain characters without quotes") }
        }
    }
}

/// Reads `epoch`.
pub fn epoch<'a>(at: &Cursor<'a>, dns: Option<&Dns>, build: &mut Build<'a>) -> Option<Epoch> {
    let (store_at, record_at) = (at.key("store"), at.key("record"));
    match store_at.text()? {
        "dns" => {}
        _ => {
            let fix = "write store: dns and a record in a zone that takes updates";
            let what = if record_at.given {
                "the record is not used with store: local, and nothing protects against two servers"
            } else {
                "nothing protects against two servers"
            };
            store_at.warn(&mut build.notes, what, fix);
            return Some(Epoch::Local);
        }
    }
    if !record_at.given {
        let fix = "write epoch.record: _pbx-failover.NAME in the zone of one of dns.updates";
        store_at.error(&mut build.notes, "store dns has no record", fix);
        return None;
    }
    let record = record_at.take(&mut build.notes, texts::dns_name(record_at.text()?))?;
    if record.len() + PROBE_PREFIX_BYTES > texts::DNS_NAME_BYTES_MAX {
        record_at.error(&mut build.notes, "is too long for the conformance test beside it", "choose a shorter name");
    }
    let updates = &dns?.updates;
    let home = updates
        .iter()
        .enumerate()
        .filter(|(_, update)| texts::in_zone(&record, &update.zone))
        .max_by_key(|(index, update)| (update.zone.len(), usize::MAX - index));
    let Some((update, zone)) = home.map(|(index, update)| (index, update.zone.as_str())) else {
        let zones: Vec<&str> = updates.iter().map(|update| update.zone.as_str()).collect();
        let fix = if zones.is_empty() {
            "add an entry to dns.updates for its zone".to_owned()
        } else {
            format!("write a name in {}, or add its zone to dns.updates", crate::config::hints::any_of(&zones))
        };
        record_at.error(&mut build.notes, "lies in no zone of dns.updates", fix);
        return None;
    };
    if record == zone {
        let fix = format!("write _pbx-failover.{zone}, where no other TXT record stands");
        record_at.error(&mut build.notes, "is the zone's own name", fix);
    }
    let taken = |record_: &&DnsRecord| record_.name == record && ["TXT", "CNAME"].contains(&record_.rtype.as_str());
    if updates.iter().flat_map(|update| &update.records).find(taken).is_some() {
        let fix = "give the epoch a name of its own, such as _pbx-failover.pbx.example.com";
        record_at.error(&mut build.notes, "is also one of dns.updates' records", fix);
    }
    Some(Epoch::Dns { record, update })
}
