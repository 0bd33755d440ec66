//! The survival PBX in virtual time: messages in, messages out. Real phones and providers are in `tests/real`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::accounts;
use super::flow::{Flow, Origin};
use super::registrar::Limits;
use super::switchboard::{GRACE, Setting, Switchboard, Wish};
use crate::config::SipTransport;
use crate::sip::digest::{Algorithm, Challenge, Key, Login};
use crate::sip::message::{Incoming, Reply};

mod trunks;

const ACCOUNTS: &str = "\
[phone](!)\ntype=endpoint\n\
[both](!)\ntype=auth\nauth_type=userpass\nsupported_algorithms_uas=SHA-256,MD5\n\
[100](phone)\nauth=100\naors=100\n[100]\ntype=auth\nusername=100\npassword=pw100\n[100]\ntype=aor\nmax_contacts=2\nremove_existing=yes\n\
[200](phone)\nauth=200\naors=200\n[200](both)\nusername=200\npassword=pw200\n[200]\ntype=aor\nmax_contacts=1\n\
[carrier]\ntype=registration\nserver_uri=sip:192.0.2.99\nclient_uri=sip:trunk1@192.0.2.99\noutbound_auth=carrier\n\
[carrier]\ntype=auth\nusername=trunk1\npassword=secret\n";

const PHONE: &str = "192.0.2.7:5062";

/// A switchboard for those who test what carries for it.
pub fn board() -> Switchboard {
    Rig::new().board
}

fn loaded(text: &str) -> Arc<accounts::Loaded> {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("pjsip.conf");
    std::fs::write(&path, text).expect("written");
    Arc::new(accounts::load(&path, None).expect("good accounts"))
}

/// A switchboard with its clock.
struct Rig {
    board: Switchboard,
    now: Duration,
}

impl Rig {
    fn new() -> Self {
        let setting = Setting {
            limits: Limits { min: Duration::from_secs(60), max: Duration::from_secs(300) },
            realm: String::new(),
            reachable: vec![(SipTransport::Udp, address("198.51.100.20:5060"))],
            datagrams: vec![(0, address("0.0.0.0:5060"))],
            seed: [7; 32],
            grace: GRACE,
        };
        let now = Duration::from_secs(1_000);
        Self { board: Switchboard::new(setting, loaded(ACCOUNTS), now), now }
    }

    /// Past the grace time after its start.
    fn later() -> Self {
        let mut rig = Self::new();
        rig.now += GRACE;
        rig
    }

    fn send(&mut self, text: &str, from: &str) -> Option<String> {
        let origin = Origin { flow: Flow::Udp(0), peer: address(from), ours: None, transport: SipTransport::Udp };
        let wishes = self.board.datagram(text.as_bytes(), &origin, self.now);
        let mut sent = wishes.into_iter().filter_map(|wish| match wish {
            Wish::Send(message) => Some(String::from_utf8(message.bytes).expect("text")),
            _ => None,
        });
        let first = sent.next();
        assert_eq!(sent.next(), None, "one answer to one request");
        first
    }

    /// The code of the answer, 0 for silence.
    fn code(&mut self, text: &str) -> u16 {
        self.send(text, PHONE).map_or(0, |answer| code(&answer))
    }

    /// Registers with digest; gives the last answer.
    fn register(&mut self, phone: &Phone) -> String {
        let first = self.send(&phone.request(1, None), PHONE).expect("a challenge");
        if code(&first) != 401 {
            return first;
        }
        let authorization = phone.answer(&first, 1);
        self.send(&phone.request(2, Some(&authorization)), PHONE).expect("an answer")
    }
}

#[derive(Clone)]
struct Phone {
    user: &'static str,
    password: &'static str,
    algorithm: Algorithm,
    contacts: String,
    more: String,
    call_id: String,
}

impl Phone {
    fn new(user: &'static str, password: &'static str) -> Self {
        Self {
            user,
            password,
            algorithm: Algorithm::Md5,
            contacts: format!("Contact: <sip:{user}@{PHONE}>\r\n"),
            more: "Expires: 120\r\n".to_owned(),
            call_id: format!("call-{user}"),
        }
    }

    fn contact(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.contacts);
        self
    }

    fn with(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.more);
        self
    }

    fn request(&self, cseq: u32, authorization: Option<&str>) -> String {
        let Self { user, contacts, more, call_id, .. } = self;
        let authorization = authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
        format!(
            "REGISTER sip:pbx.test SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};rport;branch=z9hG4bK{call_id}{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@pbx.test>;tag=1\r\nTo: <sip:{user}@pbx.test>\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n{contacts}{authorization}{more}Content-Length: 0\r\n\r\n"
        )
    }

    fn answer(&self, challenge: &str, count: u32) -> String {
        let of = reply(challenge).challenges.into_iter().find(|offered| offered.algorithm == self.algorithm);
        self.prove(&of.expect("a challenge of this kind"), count)
    }

    fn prove(&self, challenge: &Challenge, count: u32) -> String {
        let login = Login { username: self.user, key: Key::Password(self.password) };
        challenge.answer(&login, "REGISTER", "sip:pbx.test", count, "cnonce")
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn reply(text: &str) -> Reply {
    match Incoming::from_datagram(text.as_bytes()) {
        Ok(Incoming::Reply(reply)) => *reply,
        other => panic!("no answer: {other:?}"),
    }
}

fn code(text: &str) -> u16 {
    reply(text).code
}

fn request(method: &str, more: &str) -> String {
    format!(
        "{method} sip:100@pbx.test SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <sip:100@pbx.test>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\n{more}\r\n"
    )
}

#[test]
fn a_phone_registers_and_is_told_its_contact_and_its_time() {
    let mut rig = Rig::new();
    let answer = rig.register(&Phone::new("100", "pw100"));
    let reply = reply(&answer);
    assert_eq!(reply.code, 200, "{answer}");
    let lasts = reply.granted_s("sip:100@192.0.2.7:5062").expect("its contact");
    assert!((60..=120).contains(&lasts), "{answer}");
    assert!(answer.contains(";received=192.0.2.7;rport=5062\r\n"), "{answer}");
    assert_eq!(rig.board.registrations(), 1);
    rig.now += Duration::from_secs(121);
    rig.board.wake(rig.now);
    assert_eq!(rig.board.registrations(), 0);
}

#[test]
fn the_algorithms_are_those_of_the_account_in_its_order() {
    let mut rig = Rig::new();
    let offered = |rig: &mut Rig, user| {
        let challenge = rig.send(&Phone::new(user, "").request(1, None), PHONE).expect("a challenge");
        reply(&challenge).challenges.iter().map(|c| c.algorithm).collect::<Vec<_>>()
    };
    assert_eq!(offered(&mut rig, "100"), [Algorithm::Md5]);
    assert_eq!(offered(&mut rig, "200"), [Algorithm::Sha256, Algorithm::Md5]);
    assert_eq!(offered(&mut rig, "nobody"), [Algorithm::Md5], "like most accounts");
    for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
        assert_eq!(code(&rig.register(&Phone { algorithm, ..Phone::new("200", "pw200") })), 200, "{algorithm:?}");
    }
}

#[test]
fn a_wrong_password_is_asked_for_again_and_the_source_is_delayed_after_the_grace_time() {
    let mut rig = Rig::new();
    for _ in 0..100 {
        assert_eq!(code(&rig.register(&Phone::new("100", "wrong"))), 401);
    }
    assert_eq!(rig.board.counts().wrong, 100);
    let mut rig = Rig::later();
    for _ in 0..6 {
        assert_eq!(code(&rig.register(&Phone::new("nobody", "x"))), 401);
    }
    assert_eq!(rig.code(&Phone::new("100", "pw100").request(1, None)), 0, "delayed for a second");
    assert_eq!(rig.board.blocked(rig.now), 1);
    rig.now += Duration::from_secs(1);
    assert_eq!(code(&rig.register(&Phone::new("100", "pw100"))), 200);
}

#[test]
fn a_nonce_that_is_old_or_of_the_primary_is_stale_and_no_wrong_password() {
    let mut rig = Rig::later();
    let phone = Phone::new("100", "pw100");
    let ours = rig.send(&phone.request(1, None), PHONE).expect("a challenge");
    rig.now += super::nonces::AGE_MAX + Duration::from_secs(2);
    let theirs = Challenge::read(b"Digest realm=\"asterisk\", nonce=\"1700000000/abc\", qop=\"auth\"").expect("one");
    for value in [phone.answer(&ours, 1), phone.prove(&theirs, 1)] {
        let answer = rig.send(&phone.request(2, Some(&value)), PHONE).expect("an answer");
        assert!(reply(&answer).challenges[0].stale, "{answer}");
    }
    assert_eq!(rig.board.counts().wrong, 0);
}

#[test]
fn nobody_can_have_another_source_banned_with_a_nonce_of_his_own() {
    let mut rig = Rig::later();
    let forged = Phone::new("100", "wrong");
    let challenge = rig.send(&forged.request(1, None), "203.0.113.66:5060").expect("a challenge");
    for count in 1..=20 {
        let answer = rig.send(&forged.request(2, Some(&forged.answer(&challenge, count))), PHONE).expect("an answer");
        assert!(reply(&answer).challenges[0].stale, "{answer}");
    }
    assert_eq!((rig.board.counts().wrong, rig.board.blocked(rig.now)), (0, 0));
    assert_eq!(code(&rig.register(&Phone::new("100", "pw100"))), 200);
}

#[test]
fn a_request_that_came_twice_is_answered_twice_and_a_copied_answer_is_not_taken() {
    let mut rig = Rig::new();
    let phone = Phone::new("100", "pw100");
    let challenge = rig.send(&phone.request(1, None), PHONE).expect("a challenge");
    let good = phone.request(2, Some(&phone.answer(&challenge, 1)));
    assert_eq!((rig.code(&good), rig.code(&good)), (200, 200));
    let copied = good.replace("192.0.2.7:5062>", "203.0.113.66:5060>").replace("call-100", "call-bad");
    let answer = rig.send(&copied, "203.0.113.66:5060").expect("an answer");
    assert!(reply(&answer).challenges[0].stale, "{answer}");
    assert_eq!(code(&rig.send(&good, "203.0.113.66:5060").expect("an answer")), 401);
    assert_eq!(rig.board.registrations(), 1);
    // With the next count the same nonce goes on.
    assert_eq!(rig.code(&phone.request(3, Some(&phone.answer(&challenge, 2)))), 200);
}

#[test]
fn two_contacts_one_too_many_and_all_gone() {
    let mut rig = Rig::new();
    let two = "m: <sip:100@192.0.2.7:5062>;expires=100, \"Desk, 2\" <sip:100@192.0.2.8;transport=tcp>;expires=90\r\n";
    let answer = rig.register(&Phone::new("100", "pw100").contact(two));
    assert_eq!(reply(&answer).contacts.len(), 2, "{answer}");
    // remove_existing: the one that ends first makes room.
    let third =
        Phone { call_id: "other".to_owned(), ..Phone::new("100", "pw100").contact("Contact: <sip:3@192.0.2.9>\r\n") };
    let contacts = reply(&rig.register(&third)).contacts;
    assert!(contacts.len() == 2 && contacts.iter().any(|(uri, _)| uri == "sip:3@192.0.2.9"), "{contacts:?}");
    // Without it the new one is refused.
    assert_eq!(code(&rig.register(&Phone::new("200", "pw200"))), 200);
    let second =
        Phone { call_id: "other".to_owned(), ..Phone::new("200", "pw200").contact("Contact: <sip:4@192.0.2.9>\r\n") };
    assert_eq!(code(&rig.register(&second)), 403);
    let all = Phone::new("100", "pw100").contact("Contact: *\r\n").with("Expires: 0\r\n");
    let gone = Phone { call_id: "third".to_owned(), ..all.clone() };
    assert_eq!(reply(&rig.register(&gone)).contacts, []);
    assert_eq!(code(&rig.register(&all.with("Expires: 5\r\n"))), 400);
    let query = Phone::new("200", "pw200").contact("");
    assert_eq!(reply(&rig.register(&query)).contacts.len(), 1, "without a contact it only asks");
}

#[test]
fn times_are_within_the_limits_and_spread() {
    let mut rig = Rig::new();
    let granted = |rig: &mut Rig, number: u32, expires: &str| {
        let contact = format!("Contact: <sip:{number}@192.0.2.7>\r\n");
        let phone = Phone { call_id: number.to_string(), ..Phone::new("100", "pw100").contact(&contact).with(expires) };
        let answer = rig.register(&phone);
        reply(&answer).granted_s(&format!("sip:{number}@192.0.2.7")).unwrap_or_default()
    };
    let first: Vec<_> = (0..50).map(|n| granted(&mut rig, n, "Expires: 3600\r\n")).collect();
    assert!(first.iter().all(|s| (150..=300).contains(s)), "{first:?}");
    assert!(first.iter().max() > first.iter().min().map(|s| s + 60).as_ref(), "{first:?}");
    assert!((270..=300).contains(&granted(&mut rig, 49, "")), "a renewal stays near the end");
    let brief = rig.register(&Phone::new("100", "pw100").with("Expires: 10\r\n"));
    assert_eq!((code(&brief), reply(&brief).min_expires_s), (423, Some(60)));
    assert_eq!(granted(&mut rig, 49, "Expires: 0\r\n"), 0);
}

#[test]
fn a_late_request_changes_nothing() {
    let mut rig = Rig::new();
    let phone = Phone::new("100", "pw100");
    let challenge = rig.send(&phone.request(1, None), PHONE).expect("a challenge");
    assert_eq!(rig.code(&phone.request(9, Some(&phone.answer(&challenge, 1)))), 200);
    let gone = phone.clone().with("Expires: 0\r\n").request(8, Some(&phone.answer(&challenge, 2)));
    assert_eq!(rig.code(&gone), 500);
    assert_eq!(rig.board.registrations(), 1);
}

#[test]
fn a_phone_that_names_itself_is_one_contact_wherever_it_comes_from() {
    let mut rig = Rig::new();
    let outbound = |host: &str| {
        let contact = format!("Contact: <sip:100@{host}>;+sip.instance=\"<urn:uuid:1>\";reg-id=1\r\n");
        let phone = Phone::new("100", "pw100").contact(&contact).with("Supported: path, outbound\r\n");
        Phone { call_id: host.to_owned(), ..phone }
    };
    let answer = rig.register(&outbound("192.0.2.7"));
    assert!(answer.contains("Require: outbound\r\n") && answer.contains(";reg-id=1"), "{answer}");
    let answer = rig.register(&outbound("192.0.2.8"));
    assert_eq!(reply(&answer).contacts.len(), 1, "{answer}");
    // Behind a proxy that does not say that it keeps the way open.
    let behind = outbound("192.0.2.9").request(1, None);
    let behind = behind.replacen("\r\nMax-", "\r\nVia: SIP/2.0/UDP 198.51.100.1;branch=z9hG4bKp\r\nMax-", 1);
    let challenge = rig.send(&behind, PHONE).expect("a challenge");
    let phone = outbound("192.0.2.9");
    let proved =
        behind.replace("\r\nContact", &format!("\r\nAuthorization: {}\r\nContact", phone.answer(&challenge, 1)));
    assert_eq!(rig.code(&proved), 439);
    let path = "Path: <sip:edge.example.com;lr;ob>\r\nSupported: path, outbound\r\n";
    let answer = rig.send(&proved.replace("Supported: path, outbound\r\n", path), PHONE).expect("an answer");
    assert_eq!(code(&answer), 401, "the nonce's count was used");
}

#[test]
fn hops_between_are_kept_and_said_back() {
    let mut rig = Rig::new();
    let path = "Supported: path\r\nPath: <sip:edge.example.com;lr>\r\n";
    let answer = rig.register(&Phone::new("100", "pw100").with(path));
    assert!(answer.contains("\r\nPath: <sip:edge.example.com;lr>\r\n"), "{answer}");
    let strange = Phone::new("100", "pw100").with("Require: gruu, path\r\n");
    let answer = rig.register(&strange);
    assert!(code(&answer) == 420 && answer.contains("\r\nUnsupported: gruu\r\n"), "{answer}");
}

#[test]
fn whatever_is_no_registration_is_answered_at_once() {
    let mut rig = Rig::new();
    let answers = ["OPTIONS", "INVITE", "BYE", "CANCEL", "SUBSCRIBE", "PUBLISH", "MESSAGE", "NOSUCH", "ACK"];
    let codes: Vec<_> = answers.iter().map(|method| rig.code(&request(method, ""))).collect();
    assert_eq!(codes, [200, 503, 481, 481, 405, 405, 405, 501, 0]);
    let refused = rig.send(&request("INVITE", ""), PHONE).expect("an answer");
    assert!(refused.starts_with("SIP/2.0 503 Backup PBX Connects No Calls\r\n"), "{refused}");
    assert!(!refused.contains("Retry-After"), "it is not a matter of time");
}

#[test]
fn scanners_get_no_answer_and_what_is_badly_written_is_refused() {
    let mut rig = Rig::new();
    assert_eq!(rig.code(&request("OPTIONS", "User-Agent: friendly-scanner\r\n")), 0);
    assert_eq!(rig.code(&request("OPTIONS", "").replace("sip:100@pbx.test SIP", "<sip:100@pbx.test> SIP")), 400);
    assert_eq!(rig.code(&request("OPTIONS", "").replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia")), 505);
    assert_eq!(rig.code(&request("OPTIONS", "").replace("OPTIONS sip:100@pbx.test", "OPTIONS other:100")), 416);
    assert_eq!(rig.code(&request("OPTIONS", "").replace("CSeq: 1 OPTIONS", "CSeq: 1 INVITE")), 400);
    assert_eq!(rig.code("OPTIONS sip:100@pbx.test SIP/2.0\r\n\r\n"), 0, "nobody to answer");
    assert_eq!(rig.code(&request("ACK", "").replace("CSeq: 1 ACK", "CSeq: 1 INVITE")), 0, "an ACK has no answer");
    for nothing in ["", "\r\n\r\n", "\0\0\0\0", "hello"] {
        assert_eq!(rig.code(nothing), 0, "{nothing:?}");
    }
}

#[test]
fn answers_go_back_the_way_the_request_came() {
    let mut rig = Rig::new();
    let to = |rig: &mut Rig, via: &str, from: &str| {
        let text = request("OPTIONS", "").replace(&format!("{PHONE};branch=z9hG4bKx"), via);
        let origin = Origin { flow: Flow::Udp(0), peer: address(from), ours: None, transport: SipTransport::Udp };
        match rig.board.datagram(text.as_bytes(), &origin, rig.now).pop() {
            Some(Wish::Send(message)) => message.to.to_string(),
            other => panic!("no answer: {other:?}"),
        }
    };
    // RFC 3581: asked for. RFC 3261 §18.2.2: the port in Via. A NAT between: where it came from.
    assert_eq!(to(&mut rig, "192.0.2.7:5062;rport;branch=z9hG4bKa", "192.0.2.7:1111"), "192.0.2.7:1111");
    assert_eq!(to(&mut rig, "192.0.2.7:5062;branch=z9hG4bKa", "192.0.2.7:1111"), "192.0.2.7:5062");
    assert_eq!(to(&mut rig, "10.0.0.5;branch=z9hG4bKa", "192.0.2.7:1111"), "192.0.2.7:1111");
}
