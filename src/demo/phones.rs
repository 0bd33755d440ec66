//! Phones: each asks the name server where its PBX is, registers there, renews, and remembers when it could not.
//!
//! They know nothing of primary and backup: like real phones they have a name, a password and a short registration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};

use super::scene::{PBX_NAME, PHONES, Scene};
use crate::config::SipTransport;
use crate::host::tls;
use crate::sip::client::{Endpoint, SipEnd, exchange};
use crate::sip::digest::{Key, Login};
use crate::sip::message::question::spelling;
use crate::sip::message::{Registration, Reply};

/// What a phone asks for: it renews at half of it.
const EXPIRES_S: u32 = 2;
/// How long a phone waits for an answer. Over UDP a real one waits 32 s; one that speaks TCP sees a dead host at once.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// The pause after a failed attempt.
const AGAIN: Duration = Duration::from_millis(200);
/// How long the name server may take.
const LOOKUP_MAX: Duration = Duration::from_millis(500);

/// What one phone knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// Where it is registered; `None` while it cannot reach anybody.
    pub at: Option<IpAddr>,
    /// When it was told so last.
    pub since: Option<Instant>,
}

/// All phones.
#[derive(Debug, Clone, Default)]
pub struct Phones(Arc<Mutex<[Known; PHONES.len()]>>);

impl Phones {
    /// What they know now.
    pub fn known(&self) -> [Known; PHONES.len()] {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, number: usize, at: Option<IpAddr>) {
        let known = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner)[number];
        if known.at != at {
            *known = Known { at, since: Some(Instant::now()) };
        }
    }
}

/// One phone.
pub struct Phone {
    number: usize,
    password: String,
    transport: SipTransport,
    dns: SocketAddr,
    port: u16,
    phones: Phones,
}

impl Phone {
    /// Every phone of the scene; the last one speaks TCP.
    pub fn all(scene: &Scene, phones: &Phones) -> Vec<Self> {
        let one = |(number, user): (usize, &&str)| Self {
            number,
            password: scene.password(user),
            transport: if number + 1 == PHONES.len() { SipTransport::Tcp } else { SipTransport::Udp },
            dns: scene.other_dns,
            port: scene.primary.port(),
            phones: phones.clone(),
        };
        PHONES.iter().enumerate().map(one).collect()
    }

    /// Is a phone for ever.
    pub async fn live(self) {
        let mut cseq = 0;
        let id = format!("{:016x}@demo", fastrand::u64(..));
        loop {
            let at = match self.look_up().await {
                Some(address) => self.register(address, &id, &mut cseq).await.then_some(address),
                None => None,
            };
            self.phones.note(self.number, at);
            sleep(if at.is_some() { Duration::from_secs(EXPIRES_S.into()) / 2 } else { AGAIN }).await;
        }
    }

    /// Asks where the PBX is. The record's TTL is a second: no phone of ours is faster.
    async fn look_up(&self) -> Option<IpAddr> {
        let ask = async {
            let mut question = Message::query();
            question.add_query(Query::query(Name::from_ascii(format!("{PBX_NAME}.")).ok()?, RecordType::A));
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
            socket.send_to(&question.to_vec().ok()?, self.dns).await.ok()?;
            let mut answer = [0; 1500];
            let (length, _) = socket.recv_from(&mut answer).await.ok()?;
            let answer = Message::from_vec(&answer[..length]).ok()?;
            answer.answers.iter().find_map(|record| match &record.data {
                RData::A(address) => Some(IpAddr::V4(address.0)),
                _ => None,
            })
        };
        timeout(LOOKUP_MAX, ask).await.ok().flatten()
    }

    /// Registers with digest (RFC 3261 §22.2); whether it is registered now.
    async fn register(&self, address: IpAddr, id: &str, cseq: &mut u32) -> bool {
        let user = PHONES[self.number];
        let endpoint = Endpoint::new(address, PBX_NAME, self.port, self.transport, tls::system_roots);
        let Ok(endpoint) = endpoint else { return false };
        let registrar = format!("sip:{PBX_NAME}:{}", self.port);
        let record = format!("sip:{user}@{PBX_NAME}");
        let (_, parameter, _) = spelling(self.transport);
        let contact = format!("sip:{user}@127.0.0.1:{}{parameter}", 40_000 + self.number);
        let mut ask = async |authorization: Option<(u16, &str)>| {
            *cseq += 1;
            let registration = Registration {
                registrar: &registrar,
                record: &record,
                contacts: &[&contact],
                expires_s: EXPIRES_S,
                call_id: id,
                tag: user,
                cseq: *cseq,
                authorization,
            };
            let written = |local| registration.question(self.transport, local);
            answer(exchange(&endpoint, &written, ANSWER_MAX).await)
        };
        let Some(challenge) = ask(None).await else { return false };
        let Some(asked) = challenge.challenges.first() else { return challenge.code == 200 };
        let login = Login { username: user, key: Key::Password(&self.password) };
        let cnonce = format!("{:08x}", fastrand::u32(..));
        let value = asked.answer(&login, "REGISTER", &registrar, 1, &cnonce);
        ask(Some((challenge.code, &value))).await.is_some_and(|reply| reply.code == 200)
    }
}

fn answer(end: SipEnd) -> Option<Box<Reply>> {
    if let SipEnd::Final { reply, .. } = end { Some(reply) } else { None }
}
