//! Answers as servers write them: which are read, with what, and which are ours.

use pbx_failover::sip::message::{Incoming, Method};

use crate::corpus::{Kind, Sample, samples};
use crate::{Asked, framed, reply};

fn responses() -> Vec<Sample> {
    samples().into_iter().filter(|sample| sample.kind == Kind::Response).collect()
}

#[test]
fn an_answer_is_read_as_the_manifest_says() {
    for sample in responses() {
        let reply = reply(&sample.bytes);
        let Some(code) = sample.fact("code") else {
            assert!(!sample.may("read"), "{}: the manifest names no code", sample.name);
            continue;
        };
        let reply = reply.unwrap_or_else(|| panic!("{} is not read", sample.name));
        assert_eq!(reply.code.to_string(), code, "{}", sample.name);
        let retry_after = reply.retry_after_s.map(|seconds| seconds.to_string());
        assert_eq!(retry_after.as_deref(), sample.fact("retry-after"), "{}", sample.name);
    }
}

#[test]
fn an_answer_fits_the_question_that_it_answers_and_no_other() {
    for sample in responses() {
        for method in [Method::Options, Method::Register] {
            let fits = Asked::new(method).is_answered_by(&sample.bytes);
            assert_eq!(fits, sample.fact("answers") == Some(method.name()), "{} to {method:?}", sample.name);
            assert!(!fits || sample.may("read"), "{} is to be dropped", sample.name);
        }
    }
}

#[test]
fn an_answer_that_is_cut_short_fits_no_question() {
    for sample in responses().iter().filter(|sample| sample.well_formed) {
        let asked = [Asked::new(Method::Options), Asked::new(Method::Register)];
        let head = sample.bytes.windows(4).position(|end| end == b"\r\n\r\n").expect("the end of the head") + 4;
        for end in 0..head {
            let piece = &sample.bytes[..end];
            assert!(!asked.iter().any(|asked| asked.is_answered_by(piece)), "{} cut at {end}", sample.name);
        }
    }
}

#[test]
fn a_stream_gives_the_same_answer_wherever_it_is_cut() {
    for sample in responses().iter().filter(|sample| sample.may("read")) {
        let replies = |pieces| -> Result<Vec<_>, String> {
            let reply = |message| if let Incoming::Reply(reply) = message { Some(reply) } else { None };
            Ok(framed(pieces)?.into_iter().filter_map(reply).collect())
        };
        let whole = replies([&sample.bytes, b""]);
        for at in 0..=sample.bytes.len() {
            let (first, second) = sample.bytes.split_at(at);
            assert_eq!(replies([first, second]).ok(), whole.clone().ok(), "{} cut at {at}", sample.name);
        }
    }
}
