//! The registrar (RFC 3261 §10.3): who may bind what, for how long, and what is answered.
//!
//! It takes a request with the time, and gives an answer: no socket, no clock, no file. Whether a source is listened to
//! at all is decided before (`guard`).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::accounts::{Account, Accounts, Aor, Login, Proof, WhenFull};
use super::bindings::{Binding, Bindings, Outbound};
use super::flow::Origin;
use super::nonces::{Admission, Nonce, Nonces, Uses};
use crate::sip::digest::{self, Algorithm, Credentials};
use crate::sip::message::answer::{self, Answer};
use crate::sip::message::{Contact, Contacts, Request};

/// The extensions that a REGISTER may require of us.
const EXTENSIONS: [&str; 2] = ["path", "outbound"];

/// A phone that asks for no time gets this (RFC 3261 §10.2.1.1), as far as the limits allow.
const EXPIRES_DEFAULT: Duration = Duration::from_secs(3600);

/// More contacts than this no AOR gets, whatever its account says: a table must have an end.
const CONTACTS_MAX: usize = 32;

/// Challenges in one answer: phones that share an AOR may have realms of their own, but an answer must stay short.
const CHALLENGES_MAX: usize = 4;

/// Hops between a phone and us: more is a loop.
const PATH_MAX: usize = 8;

/// For how long bindings hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Shorter is refused with 423.
    pub min: Duration,
    /// Longer is shortened.
    pub max: Duration,
}

/// The registrar's own state.
pub struct Registrar {
    limits: Limits,
    realm: String,
    nonces: Nonces,
    uses: HashMap<Box<str>, Uses>,
    /// Where phones are.
    pub bindings: Bindings,
    hasher: RandomState,
    dice: fastrand::Rng,
}

/// What came of a REGISTER.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A challenge, a query, or a refusal that tells nothing of the sender.
    Answered,
    /// The password was right, and these contacts of the record stand now.
    Bound(Arc<str>),
    /// The password was wrong.
    WrongPassword,
}

/// A refusal: its code, reason and further headers.
struct Refusal {
    code: u16,
    reason: &'static str,
    headers: Vec<(&'static str, String)>,
    outcome: Outcome,
}

impl Refusal {
    fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason, headers: Vec::new(), outcome: Outcome::Answered }
    }

    fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl Registrar {
    /// A registrar; `realm` is for accounts that name none, `seed` makes its nonces nobody else's.
    pub fn new(limits: Limits, realm: String, seed: &[u8; 32]) -> Self {
        let dice = fastrand::Rng::with_seed(u64::from_be_bytes(std::array::from_fn(|i| seed[i] ^ seed[i + 8])));
        let nonces = Nonces::new(seed);
        let (uses, bindings) = (HashMap::new(), Bindings::default());
        Self { limits, realm, nonces, uses, bindings, hasher: RandomState::new(), dice }
    }

    /// Forgets the used nonces of accounts that are gone.
    pub fn keep_only(&mut self, accounts: &Accounts) {
        self.uses.retain(|name, _| accounts.by_name(name).is_some());
    }

    /// A number that nobody can guess from outside.
    pub fn draw(&mut self) -> u64 {
        self.dice.u64(..)
    }

    /// Answers a REGISTER; `message` is the bytes that it came in, by which a repeated one is known.
    pub fn register(
        &mut self,
        request: &Request,
        accounts: &Accounts,
        origin: &Origin,
        message: &[u8],
        now: Duration,
    ) -> (Option<Vec<u8>>, Outcome) {
        let tag = self.tag(&request.call_id);
        let (text, outcome) = match self.decide(request, accounts, origin, message, now) {
            Ok((answer_of, outcome)) => (self.accepted(request, answer_of, origin, &tag, now), outcome),
            Err(refusal) => {
                let answer = Answer::new(request.echo(), origin.peer, refusal.code, refusal.reason, &tag);
                let add = |answer: Answer, (name, value): &(&str, String)| answer.header(name, value);
                (answer.map(|answer| refusal.headers.iter().fold(answer, add)), refusal.outcome)
            }
        };
        (text.map(Answer::finish), outcome)
    }

    /// The same for every repetition of a request, so that no transaction has to be remembered (RFC 3261 §8.2.7).
    pub fn tag(&self, call_id: &str) -> String {
        format!("{:016x}", self.hasher.hash_one(call_id))
    }

    fn decide<'a>(
        &mut self,
        request: &'a Request,
        accounts: &'a Accounts,
        origin: &Origin,
        message: &[u8],
        now: Duration,
    ) -> Result<(&'a str, Outcome), Refusal> {
        let missing = request.unknown_requirements(&EXTENSIONS);
        if !missing.is_empty() {
            return Err(Refusal::new(420, "Bad Extension").with("Unsupported", missing.join(", ")));
        }
        let contacts = request.contacts().map_err(|reason| Refusal::new(400, reason))?;
        let known: Vec<_> = accounts.by_aor(&request.to_user).collect();
        let address = origin.peer.ip();
        let (account, aor) = self.authenticate(request, &known, accounts, origin, message, now)?;
        if !accounts.admits(address) || !account.admits(address) {
            return Err(Refusal::new(403, "Not From This Address"));
        }
        match contacts {
            Contacts::Query => return Ok((&aor.name, Outcome::Answered)),
            Contacts::All => self.unbind(request, aor, now)?,
            Contacts::These(contacts) => self.bind(request, &contacts, aor, origin, now)?,
        }
        Ok((&aor.name, Outcome::Bound(Arc::from(aor.name.as_str()))))
    }

    /// Who asks, proved (RFC 3261 §22, RFC 7616, RFC 8760).
    ///
    /// Somebody unknown is challenged like an account of the default realm with MD5, as most are, and then fails like a
    /// wrong password. Only accounts with a realm or algorithms of their own show by their challenge that they exist.
    fn authenticate<'a>(
        &mut self,
        request: &Request,
        known: &[(&'a Account, &'a Aor)],
        accounts: &Accounts,
        origin: &Origin,
        message: &[u8],
        now: Duration,
    ) -> Result<(&'a Account, &'a Aor), Refusal> {
        let logins = || known.iter().flat_map(|(account, aor)| account.logins.iter().map(move |l| (*account, *aor, l)));
        let realm_of = |login: &'a Login| login.realm.as_deref();
        let default_realm = if self.realm.is_empty() { accounts.default_realm() } else { &self.realm }.to_owned();
        let is_ours = |realm: &[u8]| {
            realm == default_realm.as_bytes() || logins().any(|(_, _, l)| realm_of(l).map(str::as_bytes) == Some(realm))
        };
        // Credentials for another realm are for somebody behind us (RFC 3261 §22.3).
        let values: Vec<_> = request.authorizations().collect();
        let given = values.iter().filter_map(|value| Credentials::read(value)).find(|given| is_ours(given.realm));
        let Some(given) = given else {
            return Err(self.challenge(logins().map(|(.., login)| login), &default_realm, false, origin, now));
        };
        let Nonce::Ours(nonce) = self.nonces.read(given.nonce, origin.peer.ip(), now) else {
            // The primary's, too old, or of another source: the password is asked for anew, and not doubted.
            return Err(self.challenge(logins().map(|(.., login)| login), &default_realm, true, origin, now));
        };
        let proved = logins().find(|(_, _, login)| {
            let realm = realm_of(login).unwrap_or(&default_realm);
            login.username.as_bytes() == given.username
                && realm.as_bytes() == given.realm
                && login.algorithms.contains(&given.algorithm)
                && ha1(login, given.algorithm, realm).is_some_and(|ha1| given.prove(request.method(), &ha1))
        });
        let Some((account, aor, _)) = proved else {
            let refusal = self.challenge(logins().map(|(.., login)| login), &default_realm, false, origin, now);
            return Err(Refusal { outcome: Outcome::WrongPassword, ..refusal });
        };
        let uses = match self.uses.get_mut(account.name.as_str()) {
            Some(uses) => uses,
            None => self.uses.entry(account.name.as_str().into()).or_default(),
        };
        let mark = self.hasher.hash_one((message, origin.peer));
        match uses.admit(nonce, given.count.unwrap_or(1), mark) {
            Admission::New | Admission::Again => Ok((account, aor)),
            Admission::Used => {
                Err(self.challenge(logins().map(|(.., login)| login), &default_realm, true, origin, now))
            }
        }
    }

    /// 401 with one challenge for each algorithm, the preferred one first (RFC 8760 §2.3).
    fn challenge<'a>(
        &mut self,
        logins: impl Iterator<Item = &'a Login>,
        default_realm: &str,
        stale: bool,
        origin: &Origin,
        now: Duration,
    ) -> Refusal {
        let nonce = self.nonces.make(origin.peer.ip(), now);
        let mut asked: Vec<(&str, Algorithm)> = Vec::new();
        for login in logins {
            for algorithm in login.algorithms.iter() {
                let one = (login.realm.as_deref().unwrap_or(default_realm), *algorithm);
                if !asked.contains(&one) && asked.len() < CHALLENGES_MAX {
                    asked.push(one);
                }
            }
        }
        if asked.is_empty() {
            asked.push((default_realm, Algorithm::Md5));
        }
        let add = |refusal: Refusal, (realm, algorithm): &(&str, Algorithm)| {
            refusal.with("WWW-Authenticate", digest::ask(realm, &nonce, *algorithm, stale))
        };
        asked.iter().fold(Refusal::new(401, "Unauthorized"), add)
    }

    /// `Contact: *` (RFC 3261 §10.3, 6): none is removed unless all may be.
    fn unbind(&mut self, request: &Request, aor: &Aor, now: Duration) -> Result<(), Refusal> {
        if self.bindings.of(&aor.name, now).any(|binding| is_late(binding, request)) {
            return Err(out_of_order());
        }
        self.bindings.set(&aor.name, Vec::new());
        Ok(())
    }

    /// RFC 3261 §10.3, 7: all contacts of a request are bound, or none.
    fn bind(
        &mut self,
        request: &Request,
        contacts: &[Contact],
        aor: &Aor,
        origin: &Origin,
        now: Duration,
    ) -> Result<(), Refusal> {
        let path: Box<[Box<str>]> = request.path().into_iter().map(String::into_boxed_str).collect();
        if path.len() > PATH_MAX {
            return Err(Refusal::new(400, "Too Many Path Headers"));
        }
        let mut bindings: Vec<_> = self.bindings.of(&aor.name, now).cloned().collect();
        for contact in contacts {
            let outbound = outbound(request, contact, &path)?;
            let at = bindings.iter().position(|binding| binding.is_of(contact, outbound.as_ref()));
            if at.is_some_and(|at| is_late(&bindings[at], request)) {
                return Err(out_of_order());
            }
            let Some(lasts) = self.granted(request, contact, aor, at.is_none())? else {
                if let Some(at) = at {
                    bindings.remove(at);
                }
                continue;
            };
            let binding = Binding {
                uri: contact.uri.as_str().into(),
                call_id: request.call_id.as_str().into(),
                cseq: request.cseq,
                expires_at: now + lasts,
                outbound,
                path: path.clone(),
                origin: *origin,
            };
            match at {
                Some(at) => bindings[at] = binding,
                None => bindings.push(binding),
            }
        }
        let most = usize::try_from(aor.max_contacts).unwrap_or(CONTACTS_MAX).min(CONTACTS_MAX);
        while bindings.len() > most {
            let is_new = |binding: &Binding| *binding.call_id == request.call_id && binding.cseq == request.cseq;
            let oldest = bindings.iter().enumerate().filter(|(_, binding)| !is_new(binding));
            match (aor.when_full, oldest.min_by_key(|(_, binding)| binding.expires_at).map(|(at, _)| at)) {
                (WhenFull::RemoveExisting, Some(at)) => drop(bindings.remove(at)),
                _ => return Err(Refusal::new(403, "Too Many Contacts")),
            }
        }
        self.bindings.set(&aor.name, bindings);
        Ok(())
    }

    /// For how long a contact is bound; `None` takes it away.
    ///
    /// Times are drawn so that phones which come together do not stay together: of a phone's first time the second half,
    /// later the last tenth.
    fn granted(
        &mut self,
        request: &Request,
        contact: &Contact,
        aor: &Aor,
        is_first: bool,
    ) -> Result<Option<Duration>, Refusal> {
        let min = aor.minimum_expiration.unwrap_or_default().max(self.limits.min).min(self.limits.max);
        let max = aor.maximum_expiration.unwrap_or(self.limits.max).min(self.limits.max).max(min);
        let asked =
            contact.expires_s.or_else(|| request.expires_s()).map(|seconds| Duration::from_secs(seconds.into()));
        let asked = asked.unwrap_or_else(|| aor.default_expiration.unwrap_or(EXPIRES_DEFAULT).max(min));
        if asked.is_zero() {
            return Ok(None);
        }
        if asked < min {
            let refusal = Refusal::new(423, "Interval Too Brief");
            return Err(refusal.with("Min-Expires", min.as_secs().max(1).to_string()));
        }
        let most = asked.min(max).as_secs();
        let least = if is_first { most / 2 } else { most - most / 10 };
        Ok(Some(Duration::from_secs(self.dice.u64(least.max(min.as_secs()).min(most)..=most).max(1))))
    }

    /// 200 with every contact that stands now (RFC 3261 §10.3, 8).
    fn accepted(&self, request: &Request, record: &str, origin: &Origin, tag: &str, now: Duration) -> Option<Answer> {
        let mut answer = Answer::new(request.echo(), origin.peer, 200, "OK", tag)?;
        let mut by_outbound = false;
        for binding in self.bindings.of(record, now) {
            // Rounded down: a phone must not believe in a contact that has gone here.
            let left = binding.expires_at.saturating_sub(now).as_secs();
            let (instance, reg_id) = match &binding.outbound {
                Some(Outbound { instance, reg_id }) => (Some(&**instance), Some(*reg_id)),
                None => (None, None),
            };
            by_outbound |= *binding.call_id == request.call_id && reg_id.is_some();
            answer = answer.header("Contact", &answer::binding(&binding.uri, left, instance, reg_id));
        }
        if request.supports("path") {
            for hop in request.path() {
                answer = answer.header("Path", &hop);
            }
        }
        if by_outbound {
            answer = answer.header("Require", "outbound");
        }
        Some(answer)
    }
}

/// What a password is for this realm and algorithm.
fn ha1(login: &Login, algorithm: Algorithm, realm: &str) -> Option<String> {
    Some(match login.credentials.proof(algorithm)? {
        Proof::Password(password) => {
            algorithm.ha1(login.username.as_bytes(), realm.as_bytes(), password.expose_secret().as_bytes())
        }
        Proof::Ha1(ha1) => ha1.expose_secret().to_owned(),
    })
}

/// Whether a request is older than what stands (RFC 3261 §10.3, 7); the same number is the same request once more.
fn is_late(binding: &Binding, request: &Request) -> bool {
    *binding.call_id == request.call_id && binding.cseq > request.cseq
}

fn out_of_order() -> Refusal {
    Refusal::new(500, "Late Request")
}

/// Whether the contact is one of RFC 5626: a phone that names itself and its way, and speaks to us itself or through an
/// edge that says so.
fn outbound(request: &Request, contact: &Contact, path: &[Box<str>]) -> Result<Option<Outbound>, Refusal> {
    let (Some(instance), Some(reg_id)) = (&contact.instance, contact.reg_id) else { return Ok(None) };
    if !request.supports("outbound") {
        return Ok(None);
    }
    if request.hops() > 1 && !path.last().is_some_and(|first| first.contains(";ob")) {
        return Err(Refusal::new(439, "First Hop Lacks Outbound Support"));
    }
    Ok(Some(Outbound { instance: instance.as_str().into(), reg_id }))
}
