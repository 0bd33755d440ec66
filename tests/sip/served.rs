//! The built-in PBX and the corpus: the valid are served, the others get the code that their RFC wants, or silence.
//!
//! And it is fed what nobody would send: no panic, and no table beyond its bound. `MUTATIONS` sets the rounds; many of
//! them want the release build: `MUTATIONS=10000000 cargo test --release --test sip served::broken`.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use pbx_failover::adapters::pbx::builtin::accounts;
use pbx_failover::adapters::pbx::builtin::flow::{Flow, Origin};
use pbx_failover::adapters::pbx::builtin::registrar::Limits;
use pbx_failover::adapters::pbx::builtin::switchboard::{GRACE, Setting, Switchboard, Wish};
use pbx_failover::config::SipTransport;

use crate::corpus::{Kind, samples, seeds};
use crate::mutate::Mutator;
use crate::reply;

/// Accounts of every phone in the corpus.
const PHONES: std::ops::Range<u32> = 5_550_100..5_550_200;

struct Rig {
    board: Switchboard,
    now: Duration,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("pjsip.conf");
        let account = |user: u32| {
            format!(
                "[{user}]\ntype=endpoint\nauth={user}\naors={user}\n[{user}]\ntype=auth\nusername={user}\n\
                 password=pass-{user}\nsupported_algorithms_uas=SHA-256,MD5\n[{user}]\ntype=aor\nmax_contacts=5\n"
            )
        };
        std::fs::write(&path, PHONES.map(account).collect::<String>()).expect("written");
        let loaded = accounts::load(&path, None).expect("good accounts");
        let setting = Setting {
            limits: Limits { min: Duration::from_secs(60), max: Duration::from_secs(300) },
            realm: String::new(),
            reachable: Vec::new(),
            datagrams: Vec::new(),
            seed: [3; 32],
            grace: GRACE,
        };
        let now = Duration::from_secs(10_000);
        Self { board: Switchboard::new(setting, Arc::new(loaded), now), now }
    }

    /// The answer to a datagram; `None` is silence.
    fn answer(&mut self, datagram: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
        let origin = Origin { flow: Flow::Udp(0), peer: from, ours: None, transport: SipTransport::Udp };
        let wishes = self.board.datagram(datagram, &origin, self.now);
        wishes.into_iter().find_map(|wish| if let Wish::Send(message) = wish { Some(message.bytes) } else { None })
    }
}

fn source(number: u64) -> SocketAddr {
    let [.., a, b] = number.to_be_bytes();
    SocketAddr::from(([192, 0, a, b], 5060))
}

#[test]
fn each_message_of_the_corpus_is_served_or_refused_as_its_rfc_says() {
    let mut rig = Rig::new();
    let mut wrong = Vec::new();
    for sample in samples().iter().filter(|sample| !matches!(sample.kind, Kind::Stream | Kind::Noise)) {
        let code = rig.answer(&sample.bytes, source(1)).map(|answer| {
            let reply = reply(&answer).unwrap_or_else(|| panic!("{}: {}", sample.name, answer.escape_ascii()));
            reply.code
        });
        let is_invite = sample.bytes.starts_with(b"INVITE ");
        let fits = match code {
            None => sample.may("silence") || sample.kind != Kind::Request,
            // A challenge serves a REGISTER; no INVITE is looked into, because no call is connected.
            Some(200 | 401 | 405 | 481) if sample.may("serve") => true,
            Some(503) if is_invite && (sample.well_formed || sample.may("serve")) => true,
            Some(code) => sample.kind == Kind::Request && sample.may(&code.to_string()),
        };
        // RFC 3261 §8.2.6.2: what lacks the lines that an answer repeats cannot be answered.
        let unanswerable = code.is_none() && sample.kind == Kind::Request && sample.may("400");
        if !(fits || unanswerable) {
            wrong.push(format!("{}: {code:?}, not one of {:?}", sample.name, sample.verdicts));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn as_many_hops_as_a_request_can_make_are_answered_and_a_longer_echo_is_not() {
    let mut rig = Rig::new();
    let mut answer = |hops: usize, length: &str| {
        let via = "Via: SIP/2.0/UDP edge.example.com;branch=z9hG4bKabcdefghijkl\r\n".repeat(hops);
        let rest = "From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n";
        let text = format!("OPTIONS sip:d SIP/2.0\r\n{via}{rest}Content-Length: {length}\r\n\r\n");
        // Many hops in one line are the same as many lines, and a line has its limit.
        [text.clone(), text.replace("\r\nVia: ", ",").replacen("2.0,", "2.0\r\nVia: ", 1)].map(|text| {
            let answer = rig.answer(text.as_bytes(), source(1));
            answer.map(|answer| reply(&answer).expect("an answer that can be read").code)
        })
    };
    assert_eq!(answer(70, "0"), [Some(200); 2]);
    assert_eq!(answer(70, "-1"), [Some(400); 2]);
    assert_eq!(answer(110, "0"), [None; 2]);
    assert_eq!(answer(110, "-1"), [None; 2]);
}

#[test]
fn broken_datagrams_neither_panic_nor_fill_a_table() {
    let rounds = std::env::var("MUTATIONS").ok().map_or(50_000, |text| text.parse().expect("MUTATIONS is a number"));
    let mut rig = Rig::new();
    let mut mutator = Mutator::new(seeds());
    let (mut answered, mut silent) = (0_u64, 0_u64);
    for round in 0..rounds {
        rig.now += Duration::from_millis(3);
        let bytes = mutator.round(round);
        let answer = catch_unwind(AssertUnwindSafe(|| rig.answer(bytes, source(round))));
        let answer = answer.unwrap_or_else(|_| panic!("round {round} panics: {}", bytes.escape_ascii()));
        match answer {
            Some(answer) => {
                let is_stun = bytes.starts_with(&[0, 1]) && answer.starts_with(&[1, 1]);
                assert!(is_stun || reply(&answer).is_some(), "round {round}: {}", answer.escape_ascii());
                answered += 1;
            }
            None => silent += 1,
        }
    }
    let phones = usize::try_from(PHONES.end - PHONES.start).expect("small");
    assert!(rig.board.registrations() <= phones * 5, "{} registrations", rig.board.registrations());
    assert!(answered > rounds / 20 && silent > rounds / 20, "{answered} answered, {silent} not");
}
