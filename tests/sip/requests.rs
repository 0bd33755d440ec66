//! Requests, as far as the reader of answers goes: it tells them from answers, and never takes one for an answer.

use pbx_failover::sip::message::{Reply, ReplyStream};

use crate::corpus::{Kind, samples};

#[test]
fn a_request_is_no_answer() {
    for sample in samples().iter().filter(|sample| sample.kind == Kind::Request) {
        let read = Reply::from_datagram(&sample.bytes);
        assert!(!matches!(read, Ok(Some(_))), "{}: {read:?}", sample.name);
        // What has to be served, or refused for what it asks, must be read first.
        let must_be_read = sample.well_formed && !sample.may("400") && !sample.may("silence");
        assert!(!must_be_read || read == Ok(None), "{}: {read:?}", sample.name);
    }
}

#[test]
fn noise_is_neither_an_answer_nor_a_request() {
    for sample in samples().iter().filter(|sample| sample.kind == Kind::Noise) {
        assert!(Reply::from_datagram(&sample.bytes).is_err(), "{}", sample.name);
    }
}

#[test]
fn a_stream_of_requests_is_read_on_wherever_it_is_cut() {
    for sample in samples().iter().filter(|sample| sample.kind == Kind::Stream) {
        for at in 0..=sample.bytes.len() {
            let (first, second) = sample.bytes.split_at(at);
            let mut stream = ReplyStream::default();
            let read = stream.push(first).and_then(|_| stream.push(second));
            assert_eq!(read.is_ok(), sample.well_formed, "{} cut at {at}: {read:?}", sample.name);
        }
    }
}
