//! The survival PBX in virtual time: messages in, messages out. Real phones and providers are in `tests/real`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::accounts;
use super::flow::{Flow, Origin};
use super::registrar::Limits;
use super::switchboard::{GRACE, Setting, Switchboard, Wish};
use super::trunk::{Ask, Server, Trunk};
use crate::config::SipTransport;
use crate::sip::digest::{Algorithm, Challenge, Key, Login};
use crate::sip::message::{Incoming, Reply};
use crate::units::TrunkState;

const ACCOUNTS: &str = "\
[phone](!)\ntype=endpoint\n\
[both](!)\ntype=auth\nauth_type=userpass\nsupported_algorithms_uas=SHA-256,MD5\n\
[100](phone)\nauth=100\naors=100\n[100]\ntype=auth\nusername=100\npassword=pw100\n[100]\ntype=aor\nmax_contacts=2\nremove_existing=yes\n\
[200](phone)\nauth=200\naors=200\n[200](both)\nusername=200\npassword=pw200\n[200]\ntype=aor\nmax_contacts=1\n\
[carrier]\ntype=registration\nserver_uri=sip:192.0.2.99\nclient_uri=sip:trunk1@192.0.2.99\noutbound_auth=carrier\n\
[carrier]\ntype=auth\nusername=trunk1\npassword=secret\n";

const PHONE: &str = "192.0.2.7:5062";

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

    fn trunk(&self) -> (TrunkState, Option<u16>, String) {
        let trunk = self.board.trunks().next().expect("a trunk");
        let status = trunk.status(self.now);
        (status.state, status.sip_code, trunk.said().to_owned())
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

/// The provider's answer to what was sent, with these lines.
fn provider(sent: &str, status: &str, lines: &str) -> String {
    let kept = |line: &&str| ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|h| line.starts_with(h));
    let kept: Vec<_> = sent.lines().filter(kept).collect();
    format!("SIP/2.0 {status}\r\n{}\r\n{lines}Content-Length: 0\r\n\r\n", kept.join("\r\n"))
}

const ASK: &str = "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n1\", qop=\"auth\"\r\n";

impl Rig {
    /// What the switchboard sends for these wishes; the servers of the provider are looked up in passing.
    fn out(&mut self, wishes: Vec<Wish>, servers: &[&str]) -> Option<String> {
        for wish in wishes {
            match wish {
                Wish::Send(message) => return Some(String::from_utf8(message.bytes).expect("text")),
                Wish::Resolve { line, .. } => {
                    let server = |address: &&str| Server {
                        address: self::address(address),
                        transport: SipTransport::Udp,
                        host: "carrier".to_owned(),
                    };
                    let found = Ok(servers.iter().map(server).collect());
                    let now = self.now;
                    let wishes = self.board.tell_trunk(line, None, |trunk| trunk.resolved(found, now));
                    return self.out(wishes, servers);
                }
                _ => {}
            }
        }
        None
    }

    fn registered_trunk(&mut self) -> String {
        let wishes = self.board.register_trunks(self.now);
        self.out(wishes, &["192.0.2.99:5060"]).expect("a REGISTER")
    }

    /// The next REGISTER, when its time has come.
    fn next(&mut self, servers: &[&str]) -> String {
        loop {
            self.now = self.now.max(self.board.wake_at());
            let wishes = self.board.wake(self.now);
            if let Some(sent) = self.out(wishes, servers) {
                return sent;
            }
        }
    }
}

#[test]
fn a_trunk_registers_renews_in_time_and_is_given_up() {
    let mut rig = Rig::new();
    let first = rig.registered_trunk();
    assert!(first.contains("\r\nContact: <sip:carrier@198.51.100.20:5060>\r\n"), "{first}");
    let second = rig.send(&provider(&first, "401 Unauthorized", ASK), "192.0.2.99:5060").expect("with credentials");
    assert!(second.contains("Authorization: Digest username=\"trunk1\"") && second.contains("nc=00000001"), "{second}");
    let bound = "Contact: <sip:carrier@198.51.100.20:5060>;expires=100, <sip:carrier@203.0.113.10>;expires=3000\r\n";
    assert_eq!(rig.send(&provider(&second, "200 OK", bound), "192.0.2.99:5060"), None);
    let (state, sip_code, said) = rig.trunk();
    assert_eq!((state, sip_code), (TrunkState::Up, Some(200)));
    assert!(said.contains("for 100 s") && said.contains("also holds sip:carrier@203.0.113.10"), "{said}");
    let before = rig.now;
    let renewal = rig.next(&[]);
    let waited = rig.now.saturating_sub(before).as_secs();
    assert!((74..=91).contains(&waited) && renewal.contains("nc=00000002"), "{waited} {renewal}");
    assert_eq!(rig.trunk().0, TrunkState::Up, "a renewal takes nothing away");
    rig.send(&provider(&renewal, "200 OK", bound), "192.0.2.99:5060");
    let wishes = rig.board.release_trunks(rig.now);
    let gone = rig.out(wishes, &[]).expect("a REGISTER");
    assert!(gone.contains("\r\nExpires: 0\r\n"), "{gone}");
    assert_eq!(rig.board.trunks().next().expect("one").released(rig.now), None);
    rig.send(&provider(&gone, "200 OK", ""), "192.0.2.99:5060");
    assert_eq!(rig.board.trunks().next().expect("one").released(rig.now), Some(Ok(())));
}

#[test]
fn what_is_ordered_while_the_opposite_is_under_way_is_done_after_it() {
    let mut rig = Rig::new();
    let first = rig.registered_trunk();
    rig.send(&provider(&first, "200 OK", ""), "192.0.2.99:5060");
    let wishes = rig.board.release_trunks(rig.now);
    let gone = rig.out(wishes, &[]).expect("a REGISTER");
    let wishes = rig.board.register_trunks(rig.now);
    assert_eq!(rig.out(wishes, &[]), None, "one request at a time");
    let again = rig.send(&provider(&gone, "200 OK", ""), "192.0.2.99:5060").expect("a REGISTER");
    assert!(again.contains("\r\nExpires: 3600\r\n"), "{again}");
    assert_ne!(rig.trunk().0, TrunkState::Up, "the provider holds nothing yet");
    rig.send(&provider(&again, "200 OK", ""), "192.0.2.99:5060");
    assert_eq!(rig.trunk().0, TrunkState::Up);
}

#[test]
fn what_a_provider_granted_after_the_release_was_ordered_is_not_taken_for_given_up() {
    let mut rig = Rig::new();
    let first = rig.registered_trunk();
    let wishes = rig.board.release_trunks(rig.now);
    assert_eq!(rig.out(wishes, &[]), None, "one request at a time");
    let gone = rig.send(&provider(&first, "200 OK", ""), "192.0.2.99:5060").expect("a REGISTER");
    assert!(gone.contains("\r\nExpires: 0\r\n"), "{gone}");
    rig.send(&provider(&gone, "403 Forbidden", ""), "192.0.2.99:5060");
    let released = rig.board.trunks().next().expect("one").released(rig.now);
    assert_eq!(released, Some(Err("403 Forbidden".to_owned())), "the provider still holds it");
}

#[test]
fn a_trunk_whose_section_changed_registers_anew_and_gives_up_nothing_that_it_still_wants() {
    let mut rig = Rig::new();
    let first = rig.registered_trunk();
    rig.send(&provider(&first, "200 OK", ""), "192.0.2.99:5060");
    let mut expires_after = |account: &str, changed: &str| {
        let wishes = rig.board.load(loaded(&ACCOUNTS.replace(account, changed)), rig.now);
        let sent = wishes.into_iter().filter_map(|wish| rig.out(vec![wish], &["192.0.2.99:5060"]));
        let lines = sent.filter_map(|text| text.lines().find(|line| line.starts_with("Expires")).map(str::to_owned));
        lines.collect::<Vec<_>>()
    };
    let longer = "outbound_auth=carrier\nexpiration=600";
    assert_eq!(expires_after("outbound_auth=carrier", longer), ["Expires: 600"], "the same contact, so no Expires: 0");
}

#[test]
fn a_trunk_whose_section_is_gone_is_given_up() {
    let mut rig = Rig::new();
    let first = rig.registered_trunk();
    rig.send(&provider(&first, "200 OK", ""), "192.0.2.99:5060");
    let other = ACCOUNTS.replace("client_uri=sip:trunk1@", "client_uri=sip:trunk2@");
    let wishes = rig.board.load(loaded(&other), rig.now);
    let sent: Vec<_> = wishes.into_iter().filter_map(|wish| rig.out(vec![wish], &["192.0.2.99:5060"])).collect();
    assert!(sent[0].contains("trunk1@") && sent[0].contains("\r\nExpires: 0\r\n"), "{sent:?}");
    assert!(sent[1].contains("trunk2@") && sent[1].contains("\r\nExpires: 3600\r\n"), "{sent:?}");
}

/// A switchboard for those who test what carries for it.
pub fn board() -> Switchboard {
    Rig::new().board
}

/// The rig's trunk by itself.
fn lone_trunk() -> Trunk {
    let account = Rig::new().board.trunks().next().expect("one").account().clone();
    let reachable = ["198.51.100.20:5060", "[2001:db8::20]:5060"].map(|ours| (SipTransport::Udp, address(ours)));
    Trunk::new(account, reachable.to_vec(), 7)
}

fn server(at: &str, transport: SipTransport) -> Server {
    Server { address: address(at), transport, host: "carrier".to_owned() }
}

#[test]
fn a_server_is_asked_from_where_it_can_answer() {
    let now = Duration::from_secs(1_000);
    let sent = |asks: Vec<Ask>| match asks.into_iter().next() {
        Some(Ask::Send { server, bytes }) => (server.address, String::from_utf8(bytes).expect("text")),
        other => panic!("nothing is sent: {other:?}"),
    };
    let mut trunk = lone_trunk();
    trunk.register(now);
    let (to, text) = sent(trunk.resolved(Ok(vec![server("[2001:db8::99]:5060", SipTransport::Udp)]), now));
    assert_eq!(to, address("[2001:db8::99]:5060"));
    assert!(text.contains("\r\nContact: <sip:carrier@[2001:db8::20]:5060>\r\n"), "{text}");
    // Without a listener of IPv6 such a server is passed over, and its absence is said where it is the only one.
    let mut trunk = Trunk::new(trunk.account().clone(), vec![(SipTransport::Udp, address("198.51.100.20:5060"))], 7);
    trunk.register(now);
    let both = ["[2001:db8::99]:5060", "192.0.2.99:5060"].map(|at| server(at, SipTransport::Udp));
    assert_eq!(sent(trunk.resolved(Ok(both.to_vec()), now)).0, address("192.0.2.99:5060"));
    let mut trunk = Trunk::new(trunk.account().clone(), vec![(SipTransport::Tcp, address("198.51.100.20:5060"))], 7);
    trunk.register(now);
    assert!(trunk.resolved(Ok(both.to_vec()), now).is_empty());
    assert!(trunk.said().contains("pbx.driver.builtin.listen"), "{}", trunk.said());
}

#[test]
fn a_connection_that_breaks_says_nothing_of_another_server() {
    let now = Duration::from_secs(1_000);
    let servers = ["192.0.2.98:5060", "192.0.2.99:5060"].map(|at| server(at, SipTransport::Tcp));
    let mut trunk = lone_trunk();
    trunk.register(now);
    trunk.resolved(Ok(servers.to_vec()), now);
    let asks = trunk.broke(&servers[0], "refused".to_owned(), now);
    assert!(matches!(asks.first(), Some(Ask::Connect(next)) if *next == servers[1]), "{asks:?}");
    assert!(trunk.broke(&servers[0], "closed".to_owned(), now).is_empty());
    assert_eq!(trunk.status(now).state, TrunkState::Trying);
    assert!(trunk.connected(&servers[0], now).is_empty(), "a request does not go to another server's connection");
    let asks = trunk.connected(&servers[1], now);
    assert!(matches!(asks.first(), Some(Ask::Send { .. })), "the second is still asked");
}

#[test]
fn a_provider_that_changes_its_nonce_is_answered_each_time_and_a_wrong_password_three_times() {
    let mut rig = Rig::new();
    let mut sent = rig.registered_trunk();
    for round in 0..3 {
        let ask = ASK.replace("n1", &format!("n{round}")).replace("\r\n", ", stale=true\r\n");
        sent = rig.send(&provider(&sent, "401 Unauthorized", &ask), "192.0.2.99:5060").expect("once more");
        assert!(sent.contains(&format!("nonce=\"n{round}\"")), "{sent}");
    }
    let mut attempts = 0;
    let began = rig.now;
    while rig.now < began + Duration::from_secs(500) {
        attempts += 1;
        let answered = rig.send(&provider(&sent, "401 Unauthorized", ASK), "192.0.2.99:5060");
        if let Some(answered) = answered {
            // A new attempt begins without credentials; they are given once.
            assert_eq!(rig.send(&provider(&answered, "401 Unauthorized", ASK), "192.0.2.99:5060"), None);
        }
        assert_eq!(rig.trunk().0, TrunkState::Rejected);
        sent = rig.next(&["192.0.2.99:5060"]);
    }
    assert_eq!(attempts, 3, "then it asks every ten minutes");
    assert!(rig.trunk().2.contains("password is wrong"), "{}", rig.trunk().2);
}

#[test]
fn a_silent_server_is_followed_by_the_next_and_then_by_a_pause_that_grows() {
    let mut rig = Rig::new();
    let servers = ["192.0.2.98:5060", "192.0.2.99:5060"];
    let wishes = rig.board.register_trunks(rig.now);
    rig.out(wishes, &servers).expect("a REGISTER");
    let began = rig.now;
    let mut sent = Vec::new();
    while rig.now < began + Duration::from_secs(200) {
        let text = rig.next(&servers);
        sent.push((
            rig.now.saturating_sub(began).as_millis(),
            text.lines().find(|l| l.starts_with("CSeq")).map(str::to_owned),
        ));
    }
    let first: Vec<_> = sent.iter().take(4).map(|(at, _)| *at).collect();
    assert_eq!(first, [500, 1500, 3500, 4000], "three more times to the first, then the second");
    let requests: std::collections::BTreeSet<_> = sent.iter().filter_map(|(_, cseq)| cseq.clone()).collect();
    assert!((8..=14).contains(&requests.len()), "{requests:?}");
    assert_eq!(rig.trunk().1, Some(408));
}

#[test]
fn what_a_provider_asks_for_is_done() {
    let mut rig = Rig::new();
    let first = rig.registered_trunk();
    let longer = rig.send(&provider(&first, "423 Interval Too Brief", "Min-Expires: 7200\r\n"), "192.0.2.99:5060");
    let longer = longer.expect("once more");
    assert!(longer.contains("\r\nExpires: 7200\r\n"), "{longer}");
    let began = rig.now;
    let busy = provider(&longer, "503 Service Unavailable", "Retry-After: 300\r\n");
    assert_eq!(rig.send(&busy, "192.0.2.99:5060"), None);
    assert_eq!(rig.trunk().1, Some(503));
    rig.next(&["192.0.2.99:5060"]);
    assert!(rig.now >= began + Duration::from_secs(300), "{:?}", rig.now);
}

#[test]
fn a_release_after_a_registration_that_was_never_answered_is_not_called_done() {
    let mut rig = Rig::new();
    rig.registered_trunk();
    let began = rig.now;
    while rig.now < began + Duration::from_secs(33) {
        rig.now = rig.now.max(rig.board.wake_at());
        rig.board.wake(rig.now);
    }
    // The provider may have taken it, and its answer may have been lost: it is asked to forget.
    let wishes = rig.board.release_trunks(rig.now);
    let gone = rig.out(wishes, &["192.0.2.99:5060"]).expect("a REGISTER");
    assert!(gone.contains("\r\nExpires: 0\r\n"), "{gone}");
    let released = |rig: &Rig| rig.board.trunks().next().expect("one").released(rig.now);
    assert_eq!(released(&rig), None);
    rig.send(&provider(&gone, "200 OK", ""), "192.0.2.99:5060");
    assert_eq!(released(&rig), Some(Ok(())));
}
