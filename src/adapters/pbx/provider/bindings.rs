//! What a provider holds for a trunk's account: asks for it, and removes what is not this node's (RFC 3261 §10.2).
//!
//! A REGISTER without Contact changes nothing. One contact is removed by its URI, so that all others stay; `*` takes every
//! one away and is for those who hold none. When which is right is said in [`super::proved`].

use std::net::IpAddr;

use super::options::{ANSWER_LIMIT, SERVERS_ASKED, endpoint};
use super::own::Own;
use crate::adapters::pbx::builtin::accounts::TrunkAccount;
use crate::adapters::pbx::builtin::providers::{self, RESOLV_CONF};
use crate::adapters::pbx::builtin::trunk::{Server, answer};
use crate::sip::client::{self, SipEnd};
use crate::sip::digest::Challenge;
use crate::sip::message::{Registration, Reply, Target};
use crate::units::ForeignBinding;

/// More contacts of others are neither shown nor removed: a provider allows a few.
const FOREIGN_MAX: usize = 10;
/// A challenge, its answer, and once more for a nonce that was good only once.
const SENDS_MAX: u32 = 3;

/// What a provider holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Contacts at addresses of this node.
    pub own: usize,
    /// The others, with their URIs.
    pub foreign: Vec<(String, ForeignBinding)>,
}

impl Held {
    /// The others, for people.
    pub fn shown(&self) -> Vec<ForeignBinding> {
        self.foreign.iter().map(|(_, binding)| binding.clone()).collect()
    }
}

/// Why it is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The provider refuses: who insists is banned.
    Refused(u16, String),
    /// It could not be asked, or did not answer.
    Unknown(String),
}

impl Trouble {
    /// For people.
    pub fn line(&self) -> &str {
        let (Self::Refused(_, why) | Self::Unknown(why)) = self;
        why
    }
}

/// Which bindings there are.
pub async fn ask(account: &TrunkAccount, own: &Own) -> Result<Held, Trouble> {
    say(account, own, &[]).await
}

/// Removes these, `*` for all; gives what is left.
pub async fn remove(account: &TrunkAccount, own: &Own, contacts: &[&str]) -> Result<Held, Trouble> {
    say(account, own, contacts).await
}

async fn say(account: &TrunkAccount, own: &Own, contacts: &[&str]) -> Result<Held, Trouble> {
    let uri = account.outbound_proxy.as_ref().unwrap_or(&account.server_uri);
    let servers = providers::servers(uri, account.transport, RESOLV_CONF).await.map_err(Trouble::Unknown)?;
    let mut last = Trouble::Unknown("its name has no address".to_owned());
    for server in servers.iter().take(SERVERS_ASKED) {
        match at(server, account, own, contacts).await {
            Err(Trouble::Unknown(why)) => last = Trouble::Unknown(why),
            // What one server refuses, the next one counts too.
            other => return other,
        }
    }
    Err(last)
}

async fn at(server: &Server, account: &TrunkAccount, own: &Own, contacts: &[&str]) -> Result<Held, Trouble> {
    let target = server.address.ip();
    let endpoint = endpoint(server, own.source(target).bind).map_err(Trouble::Unknown)?;
    let mut dice = fastrand::Rng::new();
    // Not those of the PBX's own registration: the numbers of two who count one would get mixed up.
    let call_id = format!("{:016x}{:016x}@pbx-failover", dice.u64(..), dice.u64(..));
    let tag = format!("{:08x}", dice.u32(..));
    let mut challenge: Option<(u16, Challenge)> = None;
    for cseq in 1..=SENDS_MAX {
        let cnonce = format!("{:016x}", dice.u64(..));
        let authorization = challenge.as_ref().and_then(|(code, challenge)| {
            Some((*code, answer(&account.logins, challenge, &account.server_uri, 1, &cnonce)?))
        });
        let registration = Registration {
            registrar: &account.server_uri,
            record: &account.client_uri,
            contacts,
            expires_s: 0,
            call_id: &call_id,
            tag: &tag,
            cseq,
            authorization: authorization.as_ref().map(|(code, value)| (*code, value.as_str())),
        };
        let transport = endpoint.transport();
        let written = move |local| registration.question(transport, local);
        let reply = match client::exchange(&endpoint, &written, ANSWER_LIMIT).await {
            SipEnd::Final { certificate: Some(trouble), .. } => return Err(unknown(server, &trouble)),
            SipEnd::Final { reply, certificate: None } => reply,
            SipEnd::Refused(why) | SipEnd::Malformed(why) | SipEnd::NotSent(why) => return Err(unknown(server, &why)),
            SipEnd::Silent { after, .. } => return Err(unknown(server, &format!("no answer within {after:?}"))),
        };
        match reply.code {
            200..=299 => return Ok(held(&reply, own, target)),
            401 | 407 => {
                let can = |challenge: &&Challenge| answer(&account.logins, challenge, "", 1, "").is_some();
                let next = reply.challenges.iter().find(can);
                let stale = next.is_some_and(|next| next.stale);
                match next {
                    Some(next) if challenge.is_none() || stale => challenge = Some((reply.code, next.clone())),
                    _ => break,
                }
            }
            _ => return Err(refused(&reply)),
        }
    }
    Err(Trouble::Refused(401, "401: user name or password is wrong".to_owned()))
}

fn unknown(server: &Server, why: &str) -> Trouble {
    Trouble::Unknown(format!("{}: {why}", server.address))
}

fn refused(reply: &Reply) -> Trouble {
    let line = format!("{} {}", reply.code, reply.reason).trim_end().to_owned();
    match reply.code {
        408 | 480 | 500..=599 => Trouble::Unknown(line),
        code => Trouble::Refused(code, line),
    }
}

fn held(reply: &Reply, own: &Own, target: IpAddr) -> Held {
    let mut held = Held::default();
    for (uri, expires_s) in &reply.contacts {
        // What cannot be read is somebody else's: ours can.
        let place = Target::read(uri).ok();
        if place.as_ref().is_some_and(|place| own.is_own(&place.host, target)) {
            held.own += 1;
            continue;
        }
        if held.foreign.len() == FOREIGN_MAX {
            continue;
        }
        let place = place.map_or_else(
            || "an address that cannot be read".to_owned(),
            |Target { host, port, .. }| match port {
                Some(port) if host.contains(':') => format!("[{host}]:{port}"),
                Some(port) => format!("{host}:{port}"),
                None => host,
            },
        );
        // RFC 3261 §10.2.4: an hour, when nobody says.
        let expires_s = expires_s.or(reply.expires_s).unwrap_or(3600);
        held.foreign.push((uri.clone(), ForeignBinding { place, expires_s }));
    }
    held
}
