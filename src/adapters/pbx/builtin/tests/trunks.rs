//! Trunks in virtual time: what is sent for what a provider says.

use std::time::Duration;

use super::{ACCOUNTS, Rig, address, loaded};
use crate::adapters::pbx::builtin::switchboard::Wish;
use crate::adapters::pbx::builtin::trunk::{Ask, Server, Trunk};
use crate::config::SipTransport;
use crate::units::TrunkState;

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

    fn trunk(&self) -> (TrunkState, Option<u16>, String) {
        let trunk = self.board.trunks().next().expect("a trunk");
        let status = trunk.status(self.now);
        (status.state, status.sip_code, trunk.said().to_owned())
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
