//! One trunk: registers at its provider, renews, and gives the registration up (RFC 3261 §10.2), without sockets.
//!
//! It is told what came and what time it is, and says what to do. It tries the provider's servers in turn (RFC 3263
//! §4.3), waits longer after each failure, and after three refusals only every ten minutes: providers ban who insists.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::accounts::{Login, Proof, TrunkAccount};
use crate::config::SipTransport;
use crate::sip::digest::{Challenge, Key, Login as Answering};
use crate::sip::message::{Contact, Question, Registration, Reply};
use crate::sip::resend::{Resend, TIMER_F};
use crate::units::{TrunkState, TrunkStatus};

/// With another server to ask, one that is silent is waited for so long: four sendings.
const SILENCE: Duration = Duration::from_secs(4);
/// First pause after a failure; it doubles.
const PAUSE_FIRST: Duration = Duration::from_secs(2);
/// Refusals after which the provider is asked seldom.
const REFUSALS_MAX: u32 = 3;
/// How seldom.
const PAUSE_REFUSED: Duration = Duration::from_secs(600);
/// A provider that has a new nonce each time is answered so often in one attempt.
const CHALLENGES_MAX: u32 = 5;
/// The longest registration that a provider may ask for (423).
const EXPIRES_MAX: Duration = Duration::from_secs(24 * 3600);
/// The shortest pause between two renewals, whatever a provider grants.
const RENEW_MIN: Duration = Duration::from_secs(5);
/// How long looking the servers up, or connecting to one, may take.
const PREPARE_MAX: Duration = Duration::from_secs(10);
/// How many foreign contacts are kept to be shown.
const FOREIGN_MAX: usize = 10;

/// One server of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its address.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub transport: SipTransport,
    /// Its host name, which its certificate must bear.
    pub host: String,
}

/// What a trunk wants done.
#[derive(Debug)]
pub enum Ask {
    /// Look up the provider's servers; the answer goes to [`Trunk::resolved`].
    Resolve,
    /// Make a connection; the answer goes to [`Trunk::connected`] or [`Trunk::broke`].
    Connect(Server),
    /// Send this.
    Send {
        /// To whom.
        server: Server,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

#[derive(Debug)]
enum State {
    /// Not wanted, and given up as far as we know.
    Off,
    /// Servers are being looked up.
    Resolving { until: Duration },
    /// A connection is being made.
    Connecting { until: Duration },
    /// A request is under way.
    Asking(Box<Asking>),
    /// Registered.
    Up { renew_at: Duration },
    /// The next attempt comes.
    Waiting { until: Duration },
}

#[derive(Debug)]
struct Asking {
    question: Question,
    resend: Resend,
    resend_at: Option<Duration>,
    until: Duration,
    provisional: bool,
    /// Whether the nonce in it came in this attempt: its refusal then means the password.
    fresh: bool,
    wants: Wanted,
}

/// What the last challenge was, and how often its nonce was used.
#[derive(Debug)]
struct Answered {
    code: u16,
    challenge: Challenge,
    count: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Registered,
    Released,
}

/// A trunk.
#[derive(Debug)]
pub struct Trunk {
    account: TrunkAccount,
    reachable: Vec<(SipTransport, SocketAddr)>,
    wanted: Wanted,
    state: State,
    servers: Vec<Server>,
    at: usize,
    /// The renewals of a registration have one Call-ID and tag, and rising numbers (RFC 3261 §10.2.4).
    call_id: String,
    tag: String,
    cseq: u32,
    expires: Duration,
    answered: Option<Answered>,
    challenges: u32,
    failures: u32,
    refusals: u32,
    not_before: Duration,
    /// Until when the provider holds our contact, as far as it told.
    bound_until: Duration,
    /// The same, if it has taken a request that it has not answered.
    maybe_until: Duration,
    code: Option<u16>,
    said: String,
    dice: fastrand::Rng,
}

impl Trunk {
    /// A trunk that does nothing yet; `reachable` is where the provider reaches us.
    pub fn new(account: TrunkAccount, reachable: Vec<(SipTransport, SocketAddr)>, seed: u64) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let id = format!("{:016x}{:016x}", dice.u64(..), dice.u64(..));
        Self {
            expires: account.expiration.clamp(RENEW_MIN, EXPIRES_MAX),
            account,
            reachable,
            wanted: Wanted::Released,
            state: State::Off,
            servers: Vec::new(),
            at: 0,
            call_id: format!("{id}@pbx-failover"),
            tag: format!("{:08x}", dice.u32(..)),
            cseq: 0,
            answered: None,
            challenges: 0,
            failures: 0,
            refusals: 0,
            not_before: Duration::ZERO,
            bound_until: Duration::ZERO,
            maybe_until: Duration::ZERO,
            code: None,
            said: "not asked to register".to_owned(),
            dice,
        }
    }

    /// Its section in the accounts.
    pub fn account(&self) -> &TrunkAccount {
        &self.account
    }

    /// Where it stands, for the status.
    pub fn status(&self, now: Duration) -> TrunkStatus {
        let state = match (&self.state, self.wanted) {
            (State::Up { .. }, _) => TrunkState::Up,
            (_, Wanted::Released) => TrunkState::Down,
            _ if self.refusals > 0 => TrunkState::Rejected,
            // A renewal under way does not take the registration away.
            (State::Asking(_) | State::Connecting { .. }, _) if self.failures == 0 && now < self.bound_until => {
                TrunkState::Up
            }
            (State::Waiting { .. }, _) => TrunkState::Down,
            _ => TrunkState::Trying,
        };
        TrunkStatus::new(self.account.name.clone(), state, self.code)
    }

    /// What happened last, in words.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Whether a release is over; `Err` when the provider may still hold our contact, and why.
    pub fn released(&self, now: Duration) -> Option<Result<(), String>> {
        let over = matches!(self.state, State::Off);
        over.then(|| if now < self.bound_until.max(self.maybe_until) { Err(self.said.clone()) } else { Ok(()) })
    }

    /// Registers, and keeps registered.
    pub fn register(&mut self, now: Duration) -> Vec<Ask> {
        let idle = matches!(self.state, State::Off | State::Waiting { .. });
        if self.wanted == Wanted::Registered && !matches!(self.state, State::Off) {
            return Vec::new();
        }
        self.wanted = Wanted::Registered;
        if idle { self.begin(now) } else { Vec::new() }
    }

    /// Gives the registration up.
    pub fn release(&mut self, now: Duration) -> Vec<Ask> {
        self.wanted = Wanted::Released;
        match self.state {
            State::Up { .. } => self.ask(now),
            State::Asking(_) => Vec::new(),
            _ if now < self.bound_until.max(self.maybe_until) && !self.servers.is_empty() => self.ask(now),
            _ => {
                self.state = State::Off;
                Vec::new()
            }
        }
    }

    /// When it wants to be woken.
    pub fn wake_at(&self) -> Option<Duration> {
        match &self.state {
            State::Off => None,
            State::Resolving { until } | State::Connecting { until } | State::Waiting { until } => Some(*until),
            State::Asking(asking) => Some(asking.resend_at.map_or(asking.until, |at| at.min(asking.until))),
            State::Up { renew_at, .. } => Some(*renew_at),
        }
    }

    /// The time has come.
    pub fn wake(&mut self, now: Duration) -> Vec<Ask> {
        if self.wake_at().is_none_or(|at| at > now) {
            return Vec::new();
        }
        match &mut self.state {
            State::Off => Vec::new(),
            State::Resolving { .. } => self.failed(None, "its servers cannot be looked up in time".to_owned(), now),
            State::Connecting { .. } => self.next_server(None, "no connection in time".to_owned(), now),
            State::Up { .. } => self.ask(now),
            State::Waiting { .. } => self.begin(now),
            State::Asking(asking) if now >= asking.until => {
                self.next_server(Some(408), "does not answer".to_owned(), now)
            }
            State::Asking(asking) => {
                asking.resend_at = Some(now + asking.resend.pause(asking.provisional));
                let bytes = asking.question.bytes.clone();
                self.server().map(|server| Ask::Send { server, bytes }).into_iter().collect()
            }
        }
    }

    /// The provider's servers, in the order to be tried; `Err` says why there is none.
    pub fn resolved(&mut self, servers: Result<Vec<Server>, String>, now: Duration) -> Vec<Ask> {
        if !matches!(self.state, State::Resolving { .. }) {
            return Vec::new();
        }
        match servers {
            Ok(found) if !found.is_empty() => {
                let servers: Vec<_> = found.into_iter().filter(|server| self.can_ask(server)).collect();
                if servers.is_empty() {
                    let why = "no udp of the same kind of address (IPv4, IPv6) is in pbx.driver.builtin.listen";
                    return self.failed(None, why.to_owned(), now);
                }
                (self.servers, self.at) = (servers, 0);
                self.ask(now)
            }
            Ok(_) => self.failed(None, "its name has no address".to_owned(), now),
            Err(why) => self.failed(None, why, now),
        }
    }

    /// The connection to this server stands. One that was wanted before the order of servers changed is of no use now.
    pub fn connected(&mut self, server: &Server, now: Duration) -> Vec<Ask> {
        let is_wanted = matches!(self.state, State::Connecting { .. }) && self.servers.get(self.at) == Some(server);
        if is_wanted { self.send(now) } else { Vec::new() }
    }

    /// The connection to this server broke, or could not be made.
    pub fn broke(&mut self, server: &Server, why: String, now: Duration) -> Vec<Ask> {
        let is_asked = self.servers.get(self.at) == Some(server);
        match self.state {
            State::Connecting { .. } | State::Asking(_) if is_asked => self.next_server(None, why, now),
            // Another server is asked by now; or the registration stands, and the next request makes a new connection.
            _ => Vec::new(),
        }
    }

    /// Whether this answers the request that is under way.
    pub fn is_asked(&self, reply: &Reply) -> bool {
        matches!(&self.state, State::Asking(asking) if asking.question.is_answered_by(reply))
    }

    /// An answer to the request under way.
    pub fn answer(&mut self, reply: &Reply, now: Duration) -> Vec<Ask> {
        let State::Asking(asking) = &mut self.state else { return Vec::new() };
        if !reply.is_final() {
            asking.provisional = true;
            return Vec::new();
        }
        let fresh = asking.fresh;
        self.code = Some(reply.code);
        // Whatever it is, it is an answer: what it holds is now known.
        self.maybe_until = Duration::ZERO;
        match reply.code {
            200..=299 => self.accepted(reply, now),
            401 | 407 => self.challenged(reply, fresh, now),
            423 if self.raise(reply) => self.send(now),
            408 | 430 | 480 | 500..=599 => {
                if let Some(seconds) = reply.retry_after_s {
                    self.not_before = self.not_before.max(now + Duration::from_secs(seconds.into()).min(PAUSE_REFUSED));
                }
                self.next_server(Some(reply.code), format!("{} {}", reply.code, reply.reason), now)
            }
            _ => self.refused(reply, now),
        }
    }

    fn begin(&mut self, now: Duration) -> Vec<Ask> {
        self.state = State::Resolving { until: now + PREPARE_MAX };
        vec![Ask::Resolve]
    }

    fn server(&self) -> Option<Server> {
        self.servers.get(self.at).cloned()
    }

    /// A new attempt at the present server.
    fn ask(&mut self, now: Duration) -> Vec<Ask> {
        self.challenges = 0;
        let Some(server) = self.server() else { return self.failed(None, "no server is known".to_owned(), now) };
        if server.transport == SipTransport::Udp {
            return self.send(now);
        }
        self.state = State::Connecting { until: now + PREPARE_MAX };
        vec![Ask::Connect(server)]
    }

    fn send(&mut self, now: Duration) -> Vec<Ask> {
        let Some(server) = self.server() else { return self.failed(None, "no server is known".to_owned(), now) };
        self.cseq += 1;
        let expires_s = match self.wanted {
            Wanted::Registered => u32::try_from(self.expires.as_secs()).unwrap_or(u32::MAX),
            Wanted::Released => 0,
        };
        let cnonce = format!("{:016x}", self.dice.u64(..));
        let authorization = self.answered.as_mut().and_then(|answered| {
            answered.count += 1;
            let uri = &self.account.server_uri;
            let value = answer(&self.account.logins, &answered.challenge, uri, answered.count, &cnonce)?;
            Some((answered.code, value))
        });
        let local = self.local(&server);
        let registration = Registration {
            registrar: &self.account.server_uri,
            record: &self.account.client_uri,
            contacts: &[&self.contact(&server)],
            expires_s,
            call_id: &self.call_id,
            tag: &self.tag,
            cseq: self.cseq,
            authorization: authorization.as_ref().map(|(code, value)| (*code, value.as_str())),
        };
        let question = match registration.question(server.transport, local) {
            Ok(question) => question,
            Err(why) => return self.failed(None, why, now),
        };
        let bytes = question.bytes.clone();
        let mut resend = Resend::default();
        let resend_at = (server.transport == SipTransport::Udp).then(|| now + resend.pause(false));
        let patience = if self.at + 1 < self.servers.len() { SILENCE } else { TIMER_F };
        let (until, fresh, wants) = (now + patience, self.challenges > 0, self.wanted);
        if wants == Wanted::Registered {
            self.maybe_until = now + self.expires;
        }
        let asking = Asking { question, resend, resend_at, until, provisional: false, fresh, wants };
        self.state = State::Asking(Box::new(asking));
        vec![Ask::Send { server, bytes }]
    }

    /// Datagrams go out where we listen for them; a connection goes out anyhow.
    fn can_ask(&self, server: &Server) -> bool {
        let sends = |(transport, ours): &(SipTransport, SocketAddr)| {
            *transport == SipTransport::Udp && ours.is_ipv4() == server.address.is_ipv4()
        };
        server.transport != SipTransport::Udp || self.reachable.iter().any(sends)
    }

    /// Where this server reaches us: by its transport and in its family of addresses, as far as we listen there.
    fn local(&self, server: &Server) -> SocketAddr {
        let unfit = |(transport, ours): &&(SipTransport, SocketAddr)| {
            (*transport != server.transport, ours.is_ipv4() != server.address.is_ipv4())
        };
        let best = self.reachable.iter().min_by_key(unfit);
        best.map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 5060)), |(_, address)| *address)
    }

    /// The URI that the provider sends our calls to.
    fn contact(&self, server: &Server) -> String {
        let (_, parameter, _) = crate::sip::message::question::spelling(server.transport);
        let user = self.account.user();
        format!("sip:{user}@{}{parameter}", crate::sip::message::answer::host_port(self.local(server)))
    }

    fn accepted(&mut self, reply: &Reply, now: Duration) -> Vec<Ask> {
        let sent = if let State::Asking(asking) = &self.state { Some(asking.wants) } else { None };
        (self.failures, self.refusals, self.not_before) = (0, 0, Duration::ZERO);
        let contact = self.server().map(|server| self.contact(&server)).unwrap_or_default();
        let foreign =
            reply.contacts.iter().filter(|(uri, _)| !Contact::is_same_uri(uri, &contact)).map(|(uri, _)| uri.clone());
        let foreign: Vec<_> = foreign.take(FOREIGN_MAX).collect();
        // A provider that does not repeat the contact has said its time in Expires, or means what was asked.
        let granted = reply.granted_s(&contact).or(reply.expires_s).map(|s| Duration::from_secs(s.into()));
        let granted = granted.unwrap_or(self.expires).clamp(RENEW_MIN, EXPIRES_MAX);
        // A registration that is not wanted any more is held all the same, until its release is answered.
        self.bound_until = if sent == Some(Wanted::Released) { Duration::ZERO } else { now + granted };
        if sent.is_some_and(|sent| sent != self.wanted) {
            // Meanwhile the opposite was ordered.
            return self.ask(now);
        }
        if self.wanted == Wanted::Released {
            self.state = State::Off;
            "given up".clone_into(&mut self.said);
            return Vec::new();
        }
        // Renewed between three quarters and nine tenths of its time, so that many trunks do not come together.
        let share = 0.75 + 0.15 * self.dice.f64();
        self.state = State::Up { renew_at: now + granted.mul_f64(share).max(RENEW_MIN) };
        self.said = format!("registered for {} s", granted.as_secs());
        if !foreign.is_empty() {
            // Of the primary, most likely: until they expire, the provider may send calls there.
            let _ = write!(self.said, "; the provider also holds {}", foreign.join(", "));
        }
        Vec::new()
    }

    fn challenged(&mut self, reply: &Reply, fresh: bool, now: Duration) -> Vec<Ask> {
        let can = |challenge: &&Challenge| answer(&self.account.logins, challenge, "", 1, "").is_some();
        let Some(challenge) = reply.challenges.iter().find(can) else {
            self.said = if self.account.logins.is_empty() {
                format!("{} and the registration names no outbound_auth", reply.code)
            } else {
                format!("{} with a challenge that no outbound_auth of it answers", reply.code)
            };
            return self.refused(reply, now);
        };
        // The nonce was new and the password did not fit it. One that had gone stale meanwhile is no refusal.
        if (fresh && !challenge.stale) || self.challenges == CHALLENGES_MAX {
            self.said = format!("{} {}: user name or password is wrong", reply.code, reply.reason);
            return self.refused(reply, now);
        }
        self.challenges += 1;
        self.answered = Some(Answered { code: reply.code, challenge: challenge.clone(), count: 0 });
        self.send(now)
    }

    /// 423: asks for as long as the provider wants; false when it wants what cannot be.
    fn raise(&mut self, reply: &Reply) -> bool {
        self.challenges += 1;
        let wants = Duration::from_secs(reply.min_expires_s.unwrap_or_default().into());
        let can = wants > self.expires
            && wants <= EXPIRES_MAX
            && self.wanted == Wanted::Registered
            && self.challenges <= CHALLENGES_MAX;
        if can {
            self.expires = wants;
        }
        can
    }

    fn refused(&mut self, reply: &Reply, now: Duration) -> Vec<Ask> {
        if !matches!(reply.code, 401 | 407) {
            self.said = format!("{} {}", reply.code, reply.reason);
        }
        self.refusals += 1;
        self.answered = None;
        let mut pause = PAUSE_FIRST * self.refusals;
        if self.refusals >= REFUSALS_MAX {
            pause = PAUSE_REFUSED;
            let _ = write!(self.said, "; the next attempt comes in {} minutes", pause.as_secs() / 60);
        }
        self.rest(pause, now)
    }

    /// This server failed; the next is tried at once, and after the last there is a pause.
    fn next_server(&mut self, code: Option<u16>, why: String, now: Duration) -> Vec<Ask> {
        self.code = code.or(self.code);
        if self.at + 1 < self.servers.len() {
            let name = self.server().map(|server| server.address.to_string()).unwrap_or_default();
            self.said = format!("{name}: {why}; the next server is asked");
            self.at += 1;
            return self.ask(now);
        }
        self.failed(code, why, now)
    }

    fn failed(&mut self, code: Option<u16>, why: String, now: Duration) -> Vec<Ask> {
        self.code = code;
        self.said = why;
        let longest = self.account.retry_interval.clamp(PAUSE_FIRST, PAUSE_REFUSED);
        let pause = PAUSE_FIRST.saturating_mul(1 << self.failures.min(10)).min(longest);
        self.failures += 1;
        self.rest(pause, now)
    }

    fn rest(&mut self, pause: Duration, now: Duration) -> Vec<Ask> {
        if self.wanted == Wanted::Released {
            self.state = State::Off;
            return Vec::new();
        }
        // Spread, so that many trunks do not come back together.
        let pause = pause.mul_f64(1.0 + 0.2 * self.dice.f64());
        self.state = State::Waiting { until: (now + pause).max(self.not_before) };
        Vec::new()
    }
}

/// The header value that answers a challenge, by the first login that fits it: a password serves every algorithm.
pub(in crate::adapters::pbx) fn answer(
    logins: &[Login],
    challenge: &Challenge,
    uri: &str,
    count: u32,
    cnonce: &str,
) -> Option<String> {
    let fits = |login: &&Login| login.realm.as_ref().is_none_or(|realm| *realm == challenge.realm);
    logins.iter().filter(fits).find_map(|login| {
        let key = match login.credentials.proof(challenge.algorithm)? {
            Proof::Password(password) => Key::Password(password.expose_secret()),
            Proof::Ha1(ha1) => Key::Ha1(ha1.expose_secret()),
        };
        Some(challenge.answer(&Answering { username: &login.username, key }, "REGISTER", uri, count, cnonce))
    })
}
