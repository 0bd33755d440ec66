//! The whole survival PBX without sockets: a message and the time go in, messages and wishes come out.
//!
//! It hands each message to whom it concerns ([`super::registrar`], a `trunk`), after `guard` has let
//! it pass. It reads no clock and no file; `sockets` carries bytes, `service` owns both.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::accounts::Loaded;
use super::flow::{Flow, Origin, Outgoing};
use super::guard::Guard;
use super::registrar::{Limits, Outcome, Registrar};
use super::stun;
use super::trunk::{Ask, Server, Trunk};
use crate::config::SipTransport;
use crate::sip::message::answer::{Answer, Echo};
use crate::sip::message::{Fault, Incoming, Reply, Request};

/// What this PBX does (RFC 3261 §20.5).
const ALLOW: &str = "REGISTER, OPTIONS";

/// Why nobody can call, in the answer to INVITE.
const NO_CALLS: &str = "Backup PBX Connects No Calls";

/// How long after its start no failed password counts: phones come with what the primary told them, and the accounts
/// may still be on their way.
pub const GRACE: Duration = Duration::from_secs(300);

/// What the part with sockets and files has to do.
#[derive(Debug)]
pub enum Wish {
    /// Send a message.
    Send(Outgoing),
    /// Look up the servers of a trunk: its number, where it registers, how when that is not said there.
    Resolve {
        /// The trunk.
        line: Line,
        /// A SIP URI.
        uri: String,
        /// For a URI that names none.
        transport: Option<SipTransport>,
    },
    /// Make a connection for that trunk.
    Connect(Line, Server),
    /// Remember that the contacts of this address of record changed.
    Keep(Arc<str>),
}

/// The number of a trunk, which no other trunk ever has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Line(u64);

/// What it knows of itself when it begins.
pub struct Setting {
    /// For how long bindings hold.
    pub limits: Limits,
    /// The realm of accounts that name none; empty: that of the accounts' file.
    pub realm: String,
    /// Where a provider reaches us, by transport, as far as we listen there.
    pub reachable: Vec<(SipTransport, SocketAddr)>,
    /// The listeners of datagrams: number and family, for what we send of ourselves.
    pub datagrams: Vec<(usize, SocketAddr)>,
    /// Makes nonces, tags and spread times nobody else's.
    pub seed: [u8; 32],
    /// How long from now no failed password counts.
    pub grace: Duration,
}

/// Numbers for the status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Registers with a proved password.
    pub accepted: u64,
    /// Wrong passwords.
    pub wrong: u64,
    /// Messages of sources that are delayed, banned or too many, and of scanners.
    pub dropped: u64,
    /// Messages that are none.
    pub malformed: u64,
}

/// A trunk in its place.
struct Placed {
    line: Line,
    trunk: Trunk,
    /// Its section is gone: it is given up, and then forgotten.
    leaves: bool,
}

/// The survival PBX.
pub struct Switchboard {
    registrar: Registrar,
    guard: Guard,
    accounts: Arc<Loaded>,
    trunks: Vec<Placed>,
    lines: u64,
    wanted: bool,
    setting: Setting,
    counts: Counts,
    expire_at: Duration,
}

impl Switchboard {
    /// Begins to serve these accounts now.
    pub fn new(setting: Setting, accounts: Arc<Loaded>, now: Duration) -> Self {
        let registrar = Registrar::new(setting.limits, setting.realm.clone(), &setting.seed);
        let mut board = Self {
            registrar,
            guard: Guard::new(now + setting.grace),
            accounts: Arc::clone(&accounts),
            trunks: Vec::new(),
            lines: 0,
            wanted: false,
            setting,
            counts: Counts::default(),
            expire_at: now,
        };
        board.load(accounts, now);
        board
    }

    /// The registrar, with the bindings.
    pub fn registrar(&mut self) -> &mut Registrar {
        &mut self.registrar
    }

    /// The trunks of the accounts.
    pub fn trunks(&self) -> impl Iterator<Item = &Trunk> {
        self.trunks.iter().filter(|placed| !placed.leaves).map(|placed| &placed.trunk)
    }

    /// What has come so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Phones that are registered: contacts that have not expired.
    pub fn registrations(&self) -> usize {
        self.registrar.bindings.count()
    }

    /// Sources that are not listened to.
    pub fn blocked(&self, now: Duration) -> usize {
        self.guard.blocked(now)
    }

    /// Takes new accounts. A trunk whose section did not change goes on; others are given up, or begin.
    ///
    /// Bindings of accounts that are gone end by themselves: their phones cannot renew.
    pub fn load(&mut self, accounts: Arc<Loaded>, now: Duration) -> Vec<Wish> {
        for placed in &mut self.trunks {
            placed.leaves = !accounts.accounts.trunks().contains(placed.trunk.account());
        }
        if self.wanted {
            // The contact that is registered anew takes the place of the old one at the provider; if the old one were
            // given up meanwhile, the later of both requests could take it away.
            let news = accounts.accounts.trunks();
            let is_replaced = |old: &Placed| old.leaves && news.iter().any(|new| new.binds_like(old.trunk.account()));
            self.trunks.retain(|placed| !is_replaced(placed));
        }
        for account in accounts.accounts.trunks() {
            if !self.trunks.iter().any(|placed| !placed.leaves && placed.trunk.account() == account) {
                self.lines += 1;
                let trunk = Trunk::new(account.clone(), self.setting.reachable.clone(), self.registrar.draw());
                self.trunks.push(Placed { line: Line(self.lines), trunk, leaves: false });
            }
        }
        self.registrar.keep_only(&accounts.accounts);
        self.accounts = accounts;
        let mut wishes = self.each_trunk(|placed| if placed.leaves { placed.trunk.release(now) } else { Vec::new() });
        if self.wanted {
            wishes.extend(self.register_trunks(now));
        }
        wishes
    }

    /// Registers every trunk.
    pub fn register_trunks(&mut self, now: Duration) -> Vec<Wish> {
        self.wanted = true;
        self.each_trunk(|placed| if placed.leaves { Vec::new() } else { placed.trunk.register(now) })
    }

    /// Gives every trunk up.
    pub fn release_trunks(&mut self, now: Duration) -> Vec<Wish> {
        self.wanted = false;
        self.each_trunk(|placed| placed.trunk.release(now))
    }

    fn each_trunk(&mut self, mut act: impl FnMut(&mut Placed) -> Vec<Ask>) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let mut trunks = std::mem::take(&mut self.trunks);
        for placed in &mut trunks {
            let asks = act(placed);
            wishes.extend(self.wishes(placed, asks, None));
        }
        self.trunks = trunks;
        wishes
    }

    /// Lets one trunk hear something; `over` is its connection, where it has one.
    pub fn tell_trunk(
        &mut self,
        line: Line,
        over: Option<u64>,
        tell: impl FnOnce(&mut Trunk) -> Vec<Ask>,
    ) -> Vec<Wish> {
        let Some(at) = self.trunks.iter().position(|placed| placed.line == line) else { return Vec::new() };
        let asks = tell(&mut self.trunks[at].trunk);
        self.wishes(&self.trunks[at], asks, over)
    }

    fn wishes(&self, placed: &Placed, asks: Vec<Ask>, over: Option<u64>) -> Vec<Wish> {
        let account = placed.trunk.account();
        let wish = |ask| match ask {
            Ask::Resolve => Some(Wish::Resolve {
                line: placed.line,
                uri: account.outbound_proxy.as_ref().unwrap_or(&account.server_uri).clone(),
                transport: account.transport,
            }),
            Ask::Connect(server) => Some(Wish::Connect(placed.line, server)),
            Ask::Send { server, bytes } => {
                let flow = match (server.transport, over) {
                    (SipTransport::Udp, _) => Flow::Udp(self.datagrams_to(server.address.ip())?),
                    (_, Some(stream)) => Flow::Stream(stream),
                    (_, None) => return None,
                };
                Some(Wish::Send(Outgoing { flow, to: server.address, from: None, bytes }))
            }
        };
        asks.into_iter().filter_map(wish).collect()
    }

    fn datagrams_to(&self, address: IpAddr) -> Option<usize> {
        let fits = |(_, local): &&(usize, SocketAddr)| local.is_ipv4() == address.is_ipv4();
        self.setting.datagrams.iter().find(fits).map(|(number, _)| *number)
    }

    /// When it wants to be woken, at the latest.
    pub fn wake_at(&self) -> Duration {
        self.trunks.iter().filter_map(|placed| placed.trunk.wake_at()).fold(self.expire_at, Duration::min)
    }

    /// The time has come.
    pub fn wake(&mut self, now: Duration) -> Vec<Wish> {
        /// Contacts are known to the second.
        const EXPIRE_EVERY: Duration = Duration::from_secs(1);
        let mut wishes = self.each_trunk(|placed| placed.trunk.wake(now));
        self.trunks.retain(|placed| !placed.leaves || placed.trunk.released(now).is_none());
        if now >= self.expire_at {
            self.expire_at = now + EXPIRE_EVERY;
            wishes.extend(self.registrar.bindings.expire(now).into_iter().map(Wish::Keep));
        }
        wishes
    }

    /// Whether a connection of this source is taken: it costs as much as a request.
    pub fn admits(&mut self, source: IpAddr, now: Duration) -> bool {
        let admits = self.guard.admits(source, now);
        self.counts.dropped += u64::from(!admits);
        admits
    }

    /// A connection has ended.
    pub fn stream_ended(&mut self, number: u64) -> Vec<Wish> {
        self.registrar.bindings.stream_ended(number).into_iter().map(Wish::Keep).collect()
    }

    /// A datagram came.
    pub fn datagram(&mut self, bytes: &[u8], origin: &Origin, now: Duration) -> Vec<Wish> {
        // Keep-alives (RFC 5626 §4.4, and what phones send besides): empty lines, zeros, STUN.
        if bytes.len() <= 4 {
            return Vec::new();
        }
        if let Some(bytes) = stun::answer(bytes, origin.peer) {
            if !self.guard.admits(origin.peer.ip(), now) {
                self.counts.dropped += 1;
                return Vec::new();
            }
            return vec![Wish::Send(Outgoing { flow: origin.flow, to: origin.peer, from: origin.ours, bytes })];
        }
        if let Ok(message) = Incoming::from_datagram(bytes) {
            return self.message(message, bytes, origin, now);
        }
        self.counts.malformed += 1;
        Vec::new()
    }

    /// A message came, cut out of `bytes`.
    pub fn message(&mut self, message: Incoming, bytes: &[u8], origin: &Origin, now: Duration) -> Vec<Wish> {
        match message {
            Incoming::Reply(reply) => self.reply(&reply, origin, now),
            Incoming::Request(request) => self.request(&request, bytes, origin, now),
            Incoming::Fault(fault) => self.fault(&fault, origin, now),
        }
    }

    fn reply(&mut self, reply: &Reply, origin: &Origin, now: Duration) -> Vec<Wish> {
        let asked = self.trunks.iter().find(|placed| placed.trunk.is_asked(reply));
        let Some(line) = asked.map(|placed| placed.line) else { return Vec::new() };
        let over = if let Flow::Stream(stream) = origin.flow { Some(stream) } else { None };
        self.tell_trunk(line, over, |trunk| trunk.answer(reply, now))
    }

    fn fault(&mut self, fault: &Fault, origin: &Origin, now: Duration) -> Vec<Wish> {
        self.counts.malformed += 1;
        if !self.guard.admits(origin.peer.ip(), now) {
            self.counts.dropped += 1;
            return Vec::new();
        }
        let tag = self.registrar.tag("");
        let answer = Answer::new(&fault.echo, origin.peer, fault.code, fault.reason, &tag);
        back(&fault.echo, origin, answer.map(Answer::finish))
    }

    fn request(&mut self, request: &Request, bytes: &[u8], origin: &Origin, now: Duration) -> Vec<Wish> {
        let source = origin.peer.ip();
        if request.method() == b"ACK" {
            return Vec::new();
        }
        let is_scanner = request.user_agent().is_some_and(|name| Guard::is_scanner(&name));
        if is_scanner || !self.guard.admits(source, now) {
            self.counts.dropped += 1;
            return Vec::new();
        }
        if !request.is_register() {
            return back(request.echo(), origin, self.other(request, origin));
        }
        let (answer, outcome) = self.registrar.register(request, &self.accounts.accounts, origin, bytes, now);
        let mut wishes = back(request.echo(), origin, answer);
        match outcome {
            Outcome::Answered => {}
            Outcome::WrongPassword => {
                self.counts.wrong += 1;
                if let Some(delay) = self.guard.failed(source, now) {
                    // One line for fail2ban and people; a source that goes on is silent meanwhile, so lines are few.
                    tracing::warn!(%source, delay_s = delay.as_secs(), "wrong passwords: the source is not listened to");
                }
            }
            Outcome::Bound(record) => {
                self.counts.accepted += 1;
                self.guard.proved(source, now);
                wishes.push(Wish::Keep(record));
            }
        }
        wishes
    }

    /// Everything but REGISTER (RFC 3261 §8.2.1, §11.2, §13.3.1).
    fn other(&self, request: &Request, origin: &Origin) -> Option<Vec<u8>> {
        let tag = self.registrar.tag(&request.call_id);
        let answer = |code, reason| Answer::new(request.echo(), origin.peer, code, reason, &tag);
        let missing = request.unknown_requirements(&[]);
        if !missing.is_empty() {
            return Some(answer(420, "Bad Extension")?.header("Unsupported", &missing.join(", ")).finish());
        }
        let answer = match request.method() {
            b"OPTIONS" => answer(200, "OK")?.header("Accept", "application/sdp").header("Supported", "path, outbound"),
            // Not 404, not 486: the caller's server is to look for another way.
            b"INVITE" => answer(503, NO_CALLS)?.header("Warning", &format!("399 pbx-failover \"{NO_CALLS}\"")),
            b"CANCEL" | b"BYE" | b"PRACK" | b"UPDATE" | b"INFO" => answer(481, "Call Does Not Exist")?,
            // Subscriptions among them: at once, so that no phone waits for it.
            _ if request.has_known_method() => answer(405, "Method Not Allowed")?,
            _ => answer(501, "Not Implemented")?,
        };
        Some(answer.header("Allow", ALLOW).finish())
    }
}

fn back(echo: &Echo, origin: &Origin, answer: Option<Vec<u8>>) -> Vec<Wish> {
    let to = if let Flow::Udp(_) = origin.flow { echo.return_address(origin.peer) } else { origin.peer };
    answer.map(|bytes| Wish::Send(Outgoing { flow: origin.flow, to, from: origin.ours, bytes })).into_iter().collect()
}
