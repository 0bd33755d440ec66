//! The door to SIP, from outside: recorded, odd and broken messages, which any library behind it has to pass.
//!
//! `tests/data/sip/manifest.txt` says what each message is; `lab/corpus.rs` loads them, `lab/mutate.rs` breaks them.

#[path = "lab/corpus.rs"]
mod corpus;
#[path = "lab/mutate.rs"]
mod mutate;

#[path = "sip/answers.rs"]
mod answers;
#[path = "sip/files.rs"]
mod files;
#[path = "sip/mutated.rs"]
mod mutated;
#[path = "sip/requests.rs"]
mod requests;
#[path = "sip/served.rs"]
mod served;

use std::net::SocketAddr;

use pbx_failover::config::SipTransport;
use pbx_failover::sip::message::{Frames, Incoming, Method, Question, Reply};

/// A question of ours, and how to make an answer of the corpus fit it.
struct Asked {
    question: Question,
    branch: String,
    call_id: String,
}

impl Asked {
    fn new(method: Method) -> Self {
        let local: SocketAddr = "192.0.2.9:40000".parse().expect("an address");
        let question =
            Question::new(method, "pbx.test", 5060, SipTransport::Udp, local).expect("a host that can be asked");
        let text = String::from_utf8(question.bytes.clone()).expect("text");
        let between = |start: &str| {
            let (_, rest) = text.split_once(start).expect("it is in each request");
            rest.split(['\r', ';']).next().expect("a value").to_owned()
        };
        Self { branch: between(";branch="), call_id: between("\r\nCall-ID: "), question }
    }

    /// The same message with the marks of this question in place of the recorded ones.
    fn dress(&self, message: &[u8]) -> Vec<u8> {
        let message = replaced(message, b"z9hG4bKrecorded", self.branch.as_bytes());
        replaced(&message, b"recorded@127.0.0.1", self.call_id.as_bytes())
    }

    fn is_answered_by(&self, message: &[u8]) -> bool {
        reply(&self.dress(message)).is_some_and(|reply| self.question.is_answered_by(&reply))
    }
}

/// The answer in a datagram, if it is one.
fn reply(datagram: &[u8]) -> Option<Reply> {
    match Incoming::from_datagram(datagram) {
        Ok(Incoming::Reply(reply)) => Some(*reply),
        _ => None,
    }
}

/// What a connection brings, in two pieces; errors and all.
fn framed(pieces: [&[u8]; 2]) -> Result<Vec<Incoming>, String> {
    let mut frames = Frames::default();
    let mut messages = frames.push(pieces[0])?;
    messages.extend(frames.push(pieces[1])?);
    Ok(messages)
}

fn replaced(message: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.windows(old.len()).position(|window| window == old) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(new);
        rest = &rest[at + old.len()..];
    }
    out.extend_from_slice(rest);
    out
}
