//! Requests as they leave us, answers as servers write them, and 100,000 broken ones.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::*;
use crate::config::SipTransport;
use crate::sip::client::SipEnd;
use crate::sip::meaning::judge;

/// Recorded from Kamailio 5.6.3.
const KAMAILIO_200: &[u8] = b"SIP/2.0 200 Keepalive\r\nVia: SIP/2.0/UDP 127.0.0.1:5997;rport=5997;branch=z9hG4bKrecorded;received=127.0.0.1\r\nFrom: <sip:pbx-failover@pbx.test>;tag=recorded\r\nTo: <sip:pbx-failover@pbx.test>;tag=0be177afcf049b1b37a34412185927d0.15b2f08e\r\nCall-ID: recorded@127.0.0.1\r\nCSeq: 1 OPTIONS\r\nServer: kamailio (5.6.3 (x86_64/linux))\r\nContent-Length: 0\r\n\r\n";
/// Recorded from Kamailio 5.6.3.
const KAMAILIO_503: &[u8] = b"SIP/2.0 503 Service Unavailable\r\nVia: SIP/2.0/UDP 127.0.0.1:5997;rport=5997;branch=z9hG4bKrecorded;received=127.0.0.1\r\nFrom: <sip:pbx-failover@busy.test>;tag=recorded\r\nTo: <sip:pbx-failover@busy.test>;tag=0be177afcf049b1b37a34412185927d0.15b2f08e\r\nCall-ID: recorded@127.0.0.1\r\nCSeq: 1 OPTIONS\r\nRetry-After: 30\r\nServer: kamailio (5.6.3 (x86_64/linux))\r\nContent-Length: 0\r\n\r\n";
/// Recorded from Kamailio 5.6.3.
const KAMAILIO_401: &[u8] = b"SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP 127.0.0.1:5997;rport=5997;branch=z9hG4bKrecorded;received=127.0.0.1\r\nFrom: <sip:pbx-failover@pbx.test>;tag=recorded\r\nTo: <sip:pbx-failover@pbx.test>;tag=0be177afcf049b1b37a34412185927d0.15b2f08e\r\nCall-ID: recorded@127.0.0.1\r\nCSeq: 1 REGISTER\r\nWWW-Authenticate: Digest realm=\"lab\", nonce=\"awAvK2sALf8wGBCReejJqU8+e8s5DItq\", qop=\"auth\"\r\nServer: kamailio (5.6.3 (x86_64/linux))\r\nContent-Length: 0\r\n\r\n";
/// Everything at once that RFC 3261 allows and simple readers choke on: compact names, folding, odd spaces, an IPv6
/// hop, two hops in one header, bytes that are no UTF-8, no reason phrase, a body.
const ODD_401: &[u8] = b"SIP/2.0 401 \r\nv : SIP / 2.0 / UDP [2001:db8::1]:5060 ;\r\n\tBRANCH=z9hG4bKrecorded , SIP/2.0/TCP other;branch=z9hG4bKother\r\nf: \"\xe9\xff\" <sip:a@b>;tag=1\r\nt: <sip:b@b>;tag=2\r\ni:recorded@127.0.0.1\r\nCSEQ: 0001\t OPTIONS\r\nRetry-After: 18000;duration=3600 (be back)\r\nContact: <sip:b@b>;+sip.instance=\"<urn:uuid:0>\";reg-id=1, <sip:b@c;transport=udp>\r\nc: text/plain\r\nl: 4\r\n\r\nbodyrest";

const LOCAL: &str = "192.0.2.9:40000";

fn question(method: Method, host: &str, port: u16, transport: SipTransport) -> String {
    let local: SocketAddr = LOCAL.parse().expect("address");
    let question = Question::new(method, host, port, transport, local).expect("a good host");
    String::from_utf8(question.bytes).expect("text")
}

/// The question that the recorded answers answer.
fn recorded(method: Method) -> Question {
    let (branch, call_id) = ("z9hG4bKrecorded".to_owned(), "recorded@127.0.0.1".to_owned());
    Question { bytes: Vec::new(), branch, call_id, method }
}

fn read(datagram: &[u8]) -> Reply {
    match Incoming::from_datagram(datagram) {
        Ok(Incoming::Reply(reply)) => *reply,
        other => panic!("no answer: {other:?}"),
    }
}

#[test]
fn an_options_request_has_what_rfc_3261_demands() {
    let text = question(Method::Options, "pbx.example.com", 5070, SipTransport::Tcp);
    let mut lines = text.split("\r\n");
    assert_eq!(lines.next(), Some("OPTIONS sip:pbx.example.com:5070;transport=tcp SIP/2.0"));
    for start in [
        "Via: SIP/2.0/TCP 192.0.2.9:40000;rport;branch=z9hG4bK",
        "Max-Forwards: 70",
        "From: <sip:pbx-failover@192.0.2.9:40000;transport=tcp>;tag=",
        "To: <sip:pbx.example.com:5070>",
        "Call-ID: ",
        "CSeq: 1 OPTIONS",
        "Contact: <sip:pbx-failover@192.0.2.9:40000;transport=tcp>",
        "Content-Length: 0",
    ] {
        assert_eq!(text.split("\r\n").filter(|line| line.starts_with(start)).count(), 1, "{start} in {text}");
    }
    assert!(text.ends_with("\r\n\r\n"));
}

#[test]
fn a_default_port_is_left_out_and_an_ipv6_host_stands_in_brackets() {
    let first = |host, port, transport| {
        question(Method::Options, host, port, transport).split(" SIP/2.0").next().map(str::to_owned)
    };
    assert_eq!(first("pbx.test", 5060, SipTransport::Udp).as_deref(), Some("OPTIONS sip:pbx.test"));
    assert_eq!(first("pbx.test", 5061, SipTransport::Tls).as_deref(), Some("OPTIONS sip:pbx.test;transport=tls"));
    assert_eq!(first("2001:db8::1", 5061, SipTransport::Udp).as_deref(), Some("OPTIONS sip:[2001:db8::1]:5061"));
    assert_eq!(first("[2001:db8::1]", 5060, SipTransport::Udp).as_deref(), Some("OPTIONS sip:[2001:db8::1]"));
}

#[test]
fn a_register_query_has_no_contact_and_so_changes_nothing() {
    let text = question(Method::Register, "pbx.test", 5060, SipTransport::Udp);
    assert!(text.starts_with("REGISTER sip:pbx.test SIP/2.0\r\n"), "{text}");
    assert!(text.contains("\r\nTo: <sip:pbx-failover@pbx.test>\r\n") && !text.contains("Contact"), "{text}");
}

#[test]
fn a_host_that_would_break_out_of_its_line_is_refused() {
    let local: SocketAddr = LOCAL.parse().expect("address");
    for host in ["", "pbx.test\r\nEvil: yes", "pbx.test>", "a b", "pbx.test;lr", "pbx.test?x=y", "u@pbx.test"] {
        let built = Question::new(Method::Options, host, 5060, SipTransport::Udp, local);
        assert!(built.is_err(), "{host:?}: {built:?}");
    }
}

#[test]
fn recorded_answers_are_read_and_known() {
    let reply = read(KAMAILIO_200);
    assert_eq!((reply.code, reply.reason.as_str(), reply.retry_after_s), (200, "Keepalive", None));
    assert!(recorded(Method::Options).is_answered_by(&reply) && !recorded(Method::Register).is_answered_by(&reply));
    assert_eq!(read(KAMAILIO_503).retry_after_s, Some(30));
    assert!(recorded(Method::Register).is_answered_by(&read(KAMAILIO_401)));
}

#[test]
fn an_odd_but_lawful_answer_is_read_and_known() {
    let reply = read(ODD_401);
    assert_eq!((reply.code, reply.reason.as_str(), reply.retry_after_s), (401, "", Some(18000)));
    assert!(recorded(Method::Options).is_answered_by(&reply), "{reply:?}");
}

#[test]
fn a_reason_phrase_cannot_break_a_line_of_ours() {
    let long = format!("SIP/2.0 200 \x1b[31mred{}\r\n\r\n", "x".repeat(500));
    let reason = read(long.as_bytes()).reason;
    assert!(reason.chars().count() == 80 && !reason.contains('\x1b'), "{reason:?}");
}

#[test]
fn a_stream_gives_each_answer_once_however_it_is_cut() {
    let both = [&b"\r\n\r\n"[..], KAMAILIO_503, KAMAILIO_200].concat();
    for size in [1, 2, 3, 7, 100, both.len()] {
        let mut frames = Frames::default();
        let code = |message| if let Incoming::Reply(reply) = message { reply.code } else { 0 };
        let codes: Vec<u16> =
            both.chunks(size).flat_map(|piece| frames.push(piece).expect("well-formed")).map(code).collect();
        assert_eq!(codes, [503, 200], "pieces of {size}");
    }
}

/// A small generator, so that a failing round is replayed by its number.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // xorshift64* (Vigna, 2016).
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides as u64).expect("small")
    }
}

fn mutated(round: u64) -> Vec<u8> {
    const SEEDS: [&[u8]; 4] = [KAMAILIO_200, KAMAILIO_503, KAMAILIO_401, ODD_401];
    const BITS: [&[u8]; 10] =
        [b"\r\n", b"\r\n ", b",", b";", b"\"", b"\0", b"\xff\xff", b"99999999999999999999", b"l: 65535\r\n", b"<[:"];
    let mut dice = Dice(round.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut bytes = SEEDS[dice.roll(SEEDS.len())].to_vec();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        let end = (at + dice.roll(60)).min(bytes.len());
        match dice.roll(7) {
            0 => bytes.truncate(at),
            1 if !bytes.is_empty() => bytes[at] = u8::try_from(dice.roll(256)).expect("a byte"),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = BITS[dice.roll(BITS.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            4 => {
                // Many times the same: what is quadratic shows.
                let times = if dice.roll(200) == 0 { 2000 } else { dice.roll(20) };
                let piece = bytes[at..end].repeat(times);
                bytes.splice(at..at, piece);
            }
            5 => {
                let other = SEEDS[dice.roll(SEEDS.len())];
                bytes.splice(at..end, other[dice.roll(other.len())..].iter().copied());
            }
            _ => bytes[at..end].reverse(),
        }
    }
    bytes.truncate(MESSAGE_BYTES_MAX);
    bytes
}

#[test]
fn a_hundred_thousand_mutated_answers_neither_panic_nor_take_long() {
    // More than a hundred times the worst that was measured (5.5 ms, unoptimised): the machine may be busy.
    const LONGEST: Duration = Duration::from_secs(1);
    let question = recorded(Method::Options);
    let (mut read, mut known) = (0, 0);
    for round in 0..100_000 {
        let bytes = mutated(round);
        let start = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(|| {
            let datagram = Incoming::from_datagram(&bytes);
            let mut frames = Frames::default();
            for piece in bytes.chunks(1460) {
                if frames.push(piece).is_err() {
                    break;
                }
            }
            datagram
        }));
        let datagram = done.unwrap_or_else(|_| panic!("round {round} panics: {}", bytes.escape_ascii()));
        assert!(start.elapsed() < LONGEST, "round {round} takes {:?}: {}", start.elapsed(), bytes.escape_ascii());
        if let Ok(Incoming::Reply(reply)) = datagram {
            assert!((100..700).contains(&reply.code), "round {round}: {reply:?}");
            read += 1;
            known += u32::from(question.is_answered_by(&reply));
            let end = SipEnd::Final { reply, certificate: None };
            let said = format!("{:?}", judge(&end, &[]));
            assert!(!said.contains("\\r") && !said.contains("\\n") && said.len() < 1000, "round {round}: {said}");
        }
    }
    // Else the mutations are so wild that nothing behind the first line is reached.
    assert!(read > 10_000 && known > 1_000, "only {read} were read, {known} known");
}
