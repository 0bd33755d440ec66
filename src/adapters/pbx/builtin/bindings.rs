//! Where phones can be reached: the contacts of each address of record (RFC 3261 §10), until they expire.
//!
//! It decides nothing about who may bind; [`super::registrar`] does. Times are on the boot clock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::flow::{Flow, Origin};
use crate::sip::message::Contact;

/// One contact of an address of record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Its URI, as the phone wrote it.
    pub uri: Box<str>,
    /// Call-ID of the phone's registration, and the number of its last request: what is older is refused.
    pub call_id: Box<str>,
    /// `CSeq` of that request.
    pub cseq: u32,
    /// When it ends.
    pub expires_at: Duration,
    /// The phone, when it says so (RFC 5626): the same one may come from another address.
    pub outbound: Option<Outbound>,
    /// The hops between (RFC 3327), from top to bottom.
    pub path: Box<[Box<str>]>,
    /// Where its last request came from; requests to it go the same way back.
    pub origin: Origin,
}

/// Who a phone is, and which of its ways this is (RFC 5626 §4.1, §4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    /// `+sip.instance`.
    pub instance: Box<str>,
    /// `reg-id`.
    pub reg_id: u32,
}

impl Binding {
    /// Whether `contact` is this one: the same phone and way (RFC 5626 §6), else the same URI.
    pub fn is_of(&self, contact: &Contact, outbound: Option<&Outbound>) -> bool {
        match (&self.outbound, outbound) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (None, None) => Contact::is_same_uri(&self.uri, &contact.uri),
            _ => false,
        }
    }
}

/// All bindings.
#[derive(Debug, Default)]
pub struct Bindings {
    records: HashMap<Arc<str>, Record>,
    /// Which records to look at, by the second. Each is here once, however often it is renewed.
    due: BTreeMap<u64, Vec<Arc<str>>>,
    /// Which records have a contact that lives on a connection.
    streams: HashMap<u64, HashSet<Arc<str>>>,
    count: usize,
}

#[derive(Debug, Default)]
struct Record {
    /// Boxed: a vector of one would have room for four.
    bindings: Box<[Binding]>,
    looked_at: Option<u64>,
}

impl Bindings {
    /// How many contacts there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The contacts of an address of record, as long as they have not expired.
    pub fn of(&self, record: &str, now: Duration) -> impl Iterator<Item = &Binding> {
        let all = self.records.get(record).map(|record| &*record.bindings).unwrap_or_default();
        all.iter().filter(move |binding| binding.expires_at > now)
    }

    /// Every record and its contacts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[Binding])> {
        self.records.iter().map(|(name, record)| (&**name, &*record.bindings))
    }

    /// Replaces all contacts of an address of record.
    pub fn set(&mut self, record: &str, bindings: Vec<Binding>) {
        let Some(first) = bindings.iter().map(|binding| binding.expires_at).min() else {
            if let Some(gone) = self.records.remove(record) {
                self.count -= gone.bindings.len();
                self.forget_look(gone.looked_at, record);
            }
            return;
        };
        let name = match self.records.get_key_value(record) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(record),
        };
        let entry = self.records.entry(Arc::clone(&name)).or_default();
        self.count = self.count - entry.bindings.len() + bindings.len();
        for binding in bindings.iter().filter(|binding| binding.outbound.is_some()) {
            if let Flow::Stream(number) = binding.origin.flow {
                self.streams.entry(number).or_default().insert(Arc::clone(&name));
            }
        }
        entry.bindings = bindings.into_boxed_slice();
        let second = first.as_secs() + 1;
        // A record that is renewed stays where it stands; it is moved on when its second comes.
        if entry.looked_at.is_none_or(|at| at > second) {
            let earlier = entry.looked_at.replace(second);
            self.forget_look(earlier, record);
            self.due.entry(second).or_default().push(name);
        }
    }

    /// Takes a record out of the second at which it was to be looked at.
    fn forget_look(&mut self, looked_at: Option<u64>, record: &str) {
        if let Some(at) = looked_at
            && let Some(names) = self.due.get_mut(&at)
        {
            names.retain(|other| **other != *record);
            if names.is_empty() {
                self.due.remove(&at);
            }
        }
    }

    /// Removes what has expired; gives the records that changed.
    pub fn expire(&mut self, now: Duration) -> Vec<Arc<str>> {
        let mut changed = Vec::new();
        while let Some(entry) = self.due.first_entry()
            && *entry.key() <= now.as_secs()
        {
            for name in entry.remove() {
                let Some(record) = self.records.get_mut(&name) else { continue };
                record.looked_at = None;
                let mut bindings = std::mem::take(&mut record.bindings).into_vec();
                let before = bindings.len();
                bindings.retain(|binding| binding.expires_at > now);
                let lost = before - bindings.len();
                self.count -= before;
                if lost > 0 {
                    changed.push(Arc::clone(&name));
                }
                self.set(&name, bindings);
            }
        }
        changed
    }

    /// Removes the contacts that live on a connection which ended (RFC 5626 §4.2.1); gives the records that changed.
    pub fn stream_ended(&mut self, number: u64) -> Vec<Arc<str>> {
        let names = self.streams.remove(&number).unwrap_or_default();
        let on_it = |binding: &Binding| binding.origin.flow == Flow::Stream(number) && binding.outbound.is_some();
        for name in &names {
            let Some(record) = self.records.get(name) else { continue };
            let left = record.bindings.iter().filter(|binding| !on_it(binding)).cloned().collect();
            self.set(name, left);
        }
        names.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SipTransport;

    #[test]
    fn a_record_that_comes_and_goes_waits_to_expire_once() {
        let origin = Origin {
            flow: Flow::Udp(0),
            peer: ([192, 0, 2, 1], 5060).into(),
            ours: None,
            transport: SipTransport::Udp,
        };
        let mut bindings = Bindings::default();
        for second in 0..100 {
            let binding = Binding {
                uri: "sip:100@192.0.2.1".into(),
                call_id: "a".into(),
                cseq: 1,
                expires_at: Duration::from_secs(1000 + second),
                outbound: None,
                path: Box::default(),
                origin,
            };
            bindings.set("100", Vec::new());
            bindings.set("100", vec![binding]);
        }
        assert_eq!(bindings.due.values().map(Vec::len).sum::<usize>(), 1);
        assert_eq!(bindings.expire(Duration::from_secs(1100)).len(), 1);
        assert_eq!((bindings.count(), bindings.due.len()), (0, 0));
    }
}
