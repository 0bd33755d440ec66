//! Requests: which are read, and that what stands in them is found as the manifest says.

use pbx_failover::sip::digest::Credentials;
use pbx_failover::sip::message::{Contacts, Incoming, Request};

use crate::corpus::{Kind, Sample, samples};
use crate::{framed, reply};

/// The request in a sample; `None` when it is refused as it is written.
fn request(sample: &Sample) -> Option<Request> {
    match Incoming::from_datagram(&sample.bytes) {
        Ok(Incoming::Request(request)) => Some(*request),
        _ => None,
    }
}

fn requests() -> impl Iterator<Item = Sample> {
    samples().into_iter().filter(|sample| sample.kind == Kind::Request)
}

#[test]
fn a_request_is_no_answer_and_what_must_be_served_is_read() {
    for sample in requests() {
        assert!(reply(&sample.bytes).is_none(), "{}", sample.name);
        let must_be_read = sample.well_formed && !["400", "416", "505", "silence"].iter().any(|v| sample.may(v));
        assert!(!must_be_read || request(&sample).is_some(), "{} is not read", sample.name);
    }
}

#[test]
fn method_contacts_and_times_are_found() {
    for sample in requests() {
        let Some(request) = request(&sample) else { continue };
        let said = |fact: &str, found: String| {
            assert!(sample.fact(fact).is_none_or(|told| told == found), "{}: {fact} {found}", sample.name);
        };
        said("method", String::from_utf8_lossy(request.method()).into_owned());
        let contacts = request.contacts();
        let list = match &contacts {
            Ok(Contacts::These(list)) => list.as_slice(),
            _ => &[],
        };
        if request.is_register() && !sample.may("400") {
            said("contacts", if contacts == Ok(Contacts::All) { "*".to_owned() } else { list.len().to_string() });
            let own = list.first().and_then(|contact| contact.expires_s).or_else(|| request.expires_s());
            said("expires", own.map(|seconds| seconds.to_string()).unwrap_or_default());
            if let Some(contact) = list.first() {
                let instance = contact.instance.as_deref().unwrap_or_default();
                said("instance", instance.trim_matches(['<', '>']).to_owned());
                said("reg-id", contact.reg_id.map(|id| id.to_string()).unwrap_or_default());
            }
        }
    }
}

#[test]
fn the_digest_of_every_phone_is_proved_over_its_own_text() {
    let mut proved = 0;
    for sample in requests().filter(|sample| sample.fact("digest").is_some()) {
        let request = request(&sample).unwrap_or_else(|| panic!("{} is not read", sample.name));
        let user = sample.fact("user").expect("whose digest it is");
        let is_his = |value: &Vec<u8>| {
            Credentials::read(value).is_some_and(|given| {
                let ha1 = given.algorithm.ha1(given.username, given.realm, format!("pass-{user}").as_bytes());
                let count = given.count.map(|count| format!("{count:08x}"));
                let told = sample.fact("digest").unwrap_or_default();
                let is_told = given.algorithm.name() == told.trim_end_matches("-sess")
                    && sample.fact("nc").map(str::to_owned) == count;
                is_told && given.username == user.as_bytes() && given.prove(request.method(), &ha1)
            })
        };
        assert!(request.authorizations().any(|value| is_his(&value)), "{}: not proved", sample.name);
        proved += 1;
    }
    assert!(proved >= 40, "only {proved}");
}

#[test]
fn noise_is_neither_an_answer_nor_a_request() {
    for sample in samples().iter().filter(|sample| sample.kind == Kind::Noise) {
        let read = Incoming::from_datagram(&sample.bytes);
        assert!(matches!(read, Err(_) | Ok(Incoming::Fault(_))), "{}: {read:?}", sample.name);
    }
}

#[test]
fn a_stream_of_requests_is_read_on_wherever_it_is_cut() {
    for sample in samples().iter().filter(|sample| sample.kind == Kind::Stream) {
        for at in 0..=sample.bytes.len() {
            let (first, second) = sample.bytes.split_at(at);
            let read = framed([first, second]);
            assert_eq!(read.is_ok(), sample.well_formed, "{} cut at {at}: {read:?}", sample.name);
            if let (Ok(messages), Some(told)) = (read, sample.fact("messages")) {
                assert_eq!(messages.len().to_string(), told, "{} cut at {at}", sample.name);
            }
        }
    }
}
