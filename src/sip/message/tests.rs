//! Requests as they leave us, answers as servers write them. `tests/sip` has more of them, and broken ones.

use std::net::SocketAddr;

use super::*;

/// Recorded from Kamailio 5.6.3.
const KAMAILIO_200: &[u8] = include_bytes!("../../../tests/data/sip/answers/kamailio-200.dat");
/// Recorded from Kamailio 5.6.3.
const KAMAILIO_503: &[u8] = include_bytes!("../../../tests/data/sip/answers/kamailio-503.dat");
/// Recorded from Kamailio 5.6.3.
const KAMAILIO_401: &[u8] = include_bytes!("../../../tests/data/sip/answers/kamailio-401.dat");
/// Everything at once that RFC 3261 allows and simple readers choke on: compact names, folding, odd spaces, an IPv6
/// hop, two hops in one header, bytes that are no UTF-8, no reason phrase, a body.
const ODD_401: &[u8] = include_bytes!("../../../tests/data/sip/answers/odd-401.dat");

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

#[test]
fn a_ping_is_two_line_ends_however_they_are_cut_and_a_pong_is_one() {
    let pings = |pieces: &[&[u8]]| {
        let mut frames = Frames::default();
        let is_ping = |piece: &&&[u8]| frames.push(piece).is_ok() && frames.take_ping();
        pieces.iter().filter(is_ping).count()
    };
    assert_eq!(pings(&[b"\r\n\r\n"]), 1);
    assert_eq!(pings(&[b"\r\n", b"\r\n", b"\r", b"\n\r", b"\n"]), 2);
    assert_eq!(pings(&[b"\r\n"]), 0);
    assert_eq!(pings(&[b"\r\n", KAMAILIO_200, b"\r\n"]), 0, "a line end before a message and one after it");
    assert_eq!(pings(&[&[b"\r\n\r\n", KAMAILIO_200].concat()]), 1);
}
