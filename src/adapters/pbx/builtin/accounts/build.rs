//! Sections → accounts: which endpoints are phones, what they prove themselves with, what a registration needs.
//!
//! Which keys count once and which add up follows Asterisk's `res_pjsip`: `auth`, `aors` and `outbound_auth` are lists
//! of which the last line counts; `match`, `permit`, `deny` and `password_digest` add up.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::time::Duration;

use super::network::{Acl, Network, Sense};
use super::{ACCOUNTS_MAX, Account, Accounts, Algorithm, Algorithms, Aor, Credentials, Login, TrunkAccount, WhenFull};
use crate::config::SipTransport;
use crate::wire::asterisk_conf::{Conf, Encoding, Remarks, Section, Value, Weight};

/// A key by its name, and its place in the list of all.
macro_rules! keys {
    ($($key:ident $name:literal)*) => {
        /// All keys that are read.
        pub(super) const KEYS: &[&str] = &[$($name),*];

        /// The places of the keys in [`KEYS`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Key { $($key),* }
    };
}

keys! {
    Type "type"
    Auth "auth"
    Aors "aors"
    Username "username"
    Password "password"
    AuthType "auth_type"
    MaxContacts "max_contacts"
    RemoveExisting "remove_existing"
    IdentifyBy "identify_by"
    Transport "transport"
    Protocol "protocol"
    MinimumExpiration "minimum_expiration"
    DefaultExpiration "default_expiration"
    MaximumExpiration "maximum_expiration"
    Contact "contact"
    Realm "realm"
    Md5Cred "md5_cred"
    PasswordDigest "password_digest"
    SupportedAlgorithmsUas "supported_algorithms_uas"
    SupportedAlgorithmsUac "supported_algorithms_uac"
    OutboundAuth "outbound_auth"
    Acl "acl"
    Permit "permit"
    Deny "deny"
    Endpoint "endpoint"
    Match "match"
    ServerUri "server_uri"
    ClientUri "client_uri"
    ContactUser "contact_user"
    OutboundProxy "outbound_proxy"
    Expiration "expiration"
    RetryInterval "retry_interval"
    DefaultRealm "default_realm"
    DefaultAuthAlgorithmsUas "default_auth_algorithms_uas"
    DefaultAuthAlgorithmsUac "default_auth_algorithms_uac"
}

impl From<Key> for usize {
    fn from(key: Key) -> usize {
        key as usize
    }
}

impl Key {
    fn name(self) -> &'static str {
        KEYS[self as usize]
    }
}

/// What Asterisk takes where `default_realm` is not set.
const DEFAULT_REALM: &str = "asterisk";
/// What Asterisk takes where a registration does not say.
const EXPIRATION: Duration = Duration::from_secs(3600);
const RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// More networks than one phone comes from.
const NETWORKS_MAX: usize = 100;

/// Whether an auth is for those who come to us, or for where we go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Inbound,
    Outbound,
}

struct Builder<'a, 'r> {
    conf: &'a Conf,
    before: Option<&'r Accounts>,
    remarks: &'r mut Remarks,
    endpoints: Vec<Section<'a>>,
    registrations: Vec<Section<'a>>,
    /// By the endpoint that they name.
    identifies: HashMap<&'a str, Vec<Section<'a>>>,
    acls: Vec<Section<'a>>,
    global: Option<Section<'a>>,
    /// Endpoints that a registration names.
    of_trunks: HashSet<&'a str>,
    /// What is offered to phones, and answered to providers, where an auth does not say.
    inbound: Algorithms,
    outbound: Algorithms,
}

/// Makes the accounts of what was read. `before` are those that are in use.
pub(super) fn build(conf: &Conf, before: Option<&Accounts>, remarks: &mut Remarks) -> Accounts {
    let mut builder = Builder {
        conf,
        before,
        remarks,
        endpoints: Vec::new(),
        registrations: Vec::new(),
        identifies: HashMap::new(),
        acls: Vec::new(),
        global: None,
        of_trunks: HashSet::new(),
        inbound: Algorithms::default(),
        outbound: Algorithms::default(),
    };
    for section in conf.sections() {
        builder.sort(section);
    }
    builder.accounts()
}

impl<'a> Builder<'a, '_> {
    fn sort(&mut self, section: Section<'a>) {
        let Some(kind) = section.last(Key::Type) else {
            if section.entries().next().is_some() {
                let fix = "write type=endpoint, auth, aor or what it is";
                self.fault(&section, format!("[{}] has no type", section.name()), fix);
            }
            return;
        };
        match kind.text {
            "endpoint" if self.is_first(&section, kind.text) => self.endpoints.push(section),
            "registration" if self.is_first(&section, kind.text) => {
                self.of_trunks.extend(section.last(Key::Endpoint).map(|endpoint| endpoint.text));
                self.registrations.push(section);
            }
            "identify" => {
                if let Some(endpoint) = section.last(Key::Endpoint) {
                    self.identifies.entry(endpoint.text).or_default().push(section);
                }
            }
            "acl" => self.acls.push(section),
            "global" => {
                self.global.get_or_insert(section);
            }
            // The others are looked up by name.
            _ => {}
        }
    }

    fn is_first(&mut self, section: &Section<'a>, kind: &str) -> bool {
        self.find(kind, section.name()).is_some_and(|first| first.is(section))
    }

    /// The section of a type and a name: the first, should there be more.
    fn find(&mut self, kind: &str, name: &str) -> Option<Section<'a>> {
        let is_kind = |section: &Section<'a>| section.last(Key::Type).is_some_and(|found| found.text == kind);
        let mut found = self.conf.named(name).filter(is_kind);
        let first = found.next();
        if let Some(second) = found.next() {
            let what = format!("a second [{name}] of type {kind}: passed over");
            let fix = "take one of the two out, or make it an addition with (+): Asterisk loads none of this type";
            self.fault(&second, what, fix);
        }
        first
    }

    fn accounts(mut self) -> Accounts {
        let global = self.global;
        let set = |key| global.and_then(|global| global.last(key));
        if let Some(value) = set(Key::DefaultAuthAlgorithmsUas) {
            self.inbound = self.algorithms(&value);
        }
        if let Some(value) = set(Key::DefaultAuthAlgorithmsUac) {
            self.outbound = self.algorithms(&value);
        }
        let realm = set(Key::DefaultRealm).map(|realm| realm.text).filter(|realm| !realm.is_empty());
        let acls = std::mem::take(&mut self.acls).iter().map(|section| self.acl(section)).collect();
        let mut phones = Vec::new();
        for section in &std::mem::take(&mut self.endpoints) {
            if phones.len() >= ACCOUNTS_MAX {
                let what = format!("more than {ACCOUNTS_MAX} phones: the rest is not read");
                self.remarks.push(section.remark(Weight::Broken, what, "see whether the file is what it should be"));
                break;
            }
            phones.extend(self.phone(section));
        }
        let registrations = std::mem::take(&mut self.registrations);
        let trunks = registrations.iter().filter_map(|section| self.trunk(section)).collect();
        Accounts::new(phones, trunks, acls, realm.unwrap_or(DEFAULT_REALM).to_owned())
    }

    fn phone(&mut self, section: &Section<'a>) -> Option<Account> {
        let name = section.name();
        let of_trunk = section.last(Key::OutboundAuth).is_some()
            || self.identifies.contains_key(name)
            || self.of_trunks.contains(name);
        let aors = self.aors(section);
        let has_auth = section.last(Key::Auth).is_some_and(|auth| auth.list().next().is_some());
        if !has_auth {
            if !aors.is_empty() && !of_trunk {
                let what = format!("[{name}] has no auth, so that anybody could register as it: it is no phone here");
                self.fault(section, what, "give it auth=NAME and a section [NAME] with type=auth");
            }
            return None;
        }
        let known = self.before.is_some_and(|before| before.by_name(name).is_some());
        let weight = if known { Weight::Broken } else { Weight::Fault };
        let logins = self.logins(section, Key::Auth, Direction::Inbound, weight);
        if logins.is_empty() {
            return None;
        }
        if aors.is_empty() {
            if !of_trunk && !self.has_static_contact(section) {
                let what = format!("[{name}] has an auth, but no AOR that takes a registration: it is no phone here");
                self.fault(section, what, "give it aors=NAME and a section [NAME] with type=aor and max_contacts=1");
            }
            return None;
        }
        let acl = self.acl(section);
        let only_from = self.only_from(section);
        Some(Account { name: name.to_owned(), logins, aors, acl, only_from })
    }

    /// The AORs of an endpoint that take registrations.
    fn aors(&mut self, section: &Section<'a>) -> Vec<Aor> {
        let mut aors = Vec::new();
        for name in section.last(Key::Aors).iter().flat_map(Value::list) {
            let Some(aor) = self.find("aor", name) else {
                self.fault(section, format!("[{}] names the AOR {name}, which is not there", section.name()), ADD);
                continue;
            };
            let max_contacts = self.number(&aor, Key::MaxContacts).unwrap_or(0);
            if max_contacts == 0 || aors.iter().any(|other: &Aor| other.name == name) {
                continue;
            }
            let replaces = aor.last(Key::RemoveExisting).is_some_and(|value| is_true(value.text));
            let mut seconds = |key| self.number(&aor, key).map(|n| Duration::from_secs(n.into()));
            aors.push(Aor {
                name: name.to_owned(),
                max_contacts,
                when_full: if replaces { WhenFull::RemoveExisting } else { WhenFull::Refuse },
                minimum_expiration: seconds(Key::MinimumExpiration),
                default_expiration: seconds(Key::DefaultExpiration),
                maximum_expiration: seconds(Key::MaximumExpiration),
            });
        }
        aors
    }

    fn has_static_contact(&mut self, section: &Section<'a>) -> bool {
        let aors = section.last(Key::Aors);
        let mut aors = aors.iter().flat_map(Value::list).filter_map(|name| self.find("aor", name));
        aors.any(|aor| aor.all(Key::Contact).any(|contact| !contact.text.is_empty()))
    }

    /// What the auths prove that a section names. `weight` is that of one which cannot be used.
    fn logins(&mut self, section: &Section<'a>, key: Key, direction: Direction, weight: Weight) -> Vec<Login> {
        let mut logins = Vec::new();
        for name in section.last(key).iter().flat_map(Value::list) {
            let Some(auth) = self.find("auth", name) else {
                let what = format!("[{}] names the auth {name}, which is not there", section.name());
                self.remarks.push(section.remark(weight, what, ADD));
                continue;
            };
            match self.login(&auth, direction) {
                Ok(login) => logins.push(login),
                Err((what, fix)) => {
                    self.remarks.push(auth.remark(weight, format!("the auth [{name}] {what}"), fix));
                }
            }
        }
        logins
    }

    fn login(&mut self, auth: &Section<'a>, direction: Direction) -> Result<Login, (&'static str, &'static str)> {
        let text = |key| auth.last(key).filter(|value| !value.text.is_empty());
        // Asterisk refuses an auth without a user; it does not take the section's name.
        let username = text(Key::Username).ok_or(("has no username", "write username=NAME"))?.text.to_owned();
        let kind = text(Key::AuthType).map_or("digest", |kind| kind.text);
        let password = text(Key::Password);
        if password.is_some_and(|password| password.encoding == Encoding::Other) {
            return Err(("has a password that is not UTF-8", "choose another password, or save the file as UTF-8"));
        }
        let mut credentials = match kind.to_ascii_lowercase().as_str() {
            // Old versions take the password alone then, whatever digest was left beside it.
            "userpass" if password.is_some() => Credentials::default(),
            "userpass" | "md5" | "digest" => self.digests(auth),
            _ => return Err(("is of a kind that is not known here", "use auth_type=digest")),
        };
        if let Some(password) = password {
            credentials.set_password(password.text);
        }
        if credentials.is_empty() {
            return Err(("has neither a password nor a digest", "write password=… or password_digest=…"));
        }
        let (key, default) = match direction {
            Direction::Inbound => (Key::SupportedAlgorithmsUas, self.inbound),
            Direction::Outbound => (Key::SupportedAlgorithmsUac, self.outbound),
        };
        let wanted = text(key).map_or(default, |value| self.algorithms(&value));
        let served = |algorithm: &Algorithm| credentials.proof(*algorithm).is_some();
        let mut algorithms: Algorithms = wanted.iter().copied().filter(served).collect();
        if algorithms.is_empty() {
            algorithms = Algorithm::ALL.into_iter().filter(served).collect();
            let what = format!("the auth [{}] has no digest for the algorithms that it is to serve", auth.name());
            let fix = "name the algorithms of its digests in supported_algorithms_uas and _uac: Asterisk refuses it";
            self.fault(auth, what, fix);
        }
        let any = direction == Direction::Outbound;
        let realm = text(Key::Realm).map(|realm| realm.text.to_owned()).filter(|realm| !(any && realm == "*"));
        Ok(Login { username, realm, credentials, algorithms })
    }

    /// `md5_cred=HEX`, `password_digest=ALGORITHM:HEX`.
    fn digests(&mut self, auth: &Section<'a>) -> Credentials {
        let mut credentials = Credentials::default();
        let keys = [Key::Md5Cred, Key::PasswordDigest];
        for (key, value) in keys.iter().flat_map(|key| auth.all(*key).map(move |value| (key.name(), value))) {
            for part in value.list() {
                let (name, digest) = part.split_once(':').unwrap_or(("MD5", part));
                let digest = digest.trim();
                match Algorithm::of(name.trim()) {
                    Some(algorithm)
                        if digest.len() == algorithm.digits() && digest.bytes().all(|b| b.is_ascii_hexdigit()) =>
                    {
                        credentials.set_digest(algorithm, digest);
                    }
                    _ => {
                        let what = format!("the {key} of [{}] is no digest", auth.name());
                        let fix = "write ALGORITHM:DIGEST, with 32 hexadecimal digits for MD5 and 64 for the others";
                        self.remarks.push(value.remark(Weight::Fault, what, fix));
                    }
                }
            }
        }
        credentials
    }

    fn algorithms(&mut self, value: &Value<'a>) -> Algorithms {
        let known = value.list().filter_map(Algorithm::of).collect();
        if value.list().any(|name| Algorithm::of(name).is_none()) {
            let fix = "use MD5, SHA-256, SHA-512-256";
            self.remarks.push(value.remark(Weight::Fault, "an algorithm that is not known", fix));
        }
        known
    }

    fn acl(&mut self, section: &Section<'a>) -> Acl {
        let mut acl = Acl::default();
        for (key, value) in section.entries() {
            let sense = match key {
                key if key == usize::from(Key::Permit) => Sense::Permit,
                key if key == usize::from(Key::Deny) => Sense::Deny,
                key if key == usize::from(Key::Acl) => {
                    let fix = "write its permit and deny lines here too";
                    self.remarks.push(value.remark(Weight::Fault, "acl.conf is not read here", fix));
                    continue;
                }
                _ => continue,
            };
            for network in value.list().take(NETWORKS_MAX) {
                if acl.add(sense, network).is_err() {
                    self.remarks.push(value.remark(
                        Weight::Fault,
                        format!("a {} that is no network", KEYS[key]),
                        NETWORK,
                    ));
                }
            }
        }
        acl
    }

    /// An endpoint that only its address identifies, which `identify` sections list.
    fn only_from(&mut self, section: &Section<'a>) -> Option<Vec<Network>> {
        let by = section.last(Key::IdentifyBy)?;
        if by.list().any(|way| matches!(way, "username" | "auth_username")) || !by.list().any(|way| way == "ip") {
            return None;
        }
        let mut networks = Vec::new();
        for identify in self.identifies.get(section.name()).into_iter().flatten() {
            for value in identify.all(Key::Match) {
                for text in value.list().take(NETWORKS_MAX) {
                    match text.parse() {
                        Ok(network) => networks.push(network),
                        Err(()) => {
                            self.remarks.push(value.remark(Weight::Fault, "a match that is no network", NETWORK));
                        }
                    }
                }
            }
        }
        if networks.is_empty() {
            let what = format!("[{}] is known by its address alone, and no identify gives one", section.name());
            self.fault(section, what, "add username to its identify_by, or write an identify section for it");
        }
        Some(networks)
    }

    /// How the transport is spoken that a registration names.
    fn protocol(&mut self, section: &Section<'a>) -> Option<SipTransport> {
        let named = section.last(Key::Transport)?;
        let transport = self.find("transport", named.text)?;
        match transport.last(Key::Protocol).map_or("udp", |protocol| protocol.text).to_ascii_lowercase().as_str() {
            "udp" => Some(SipTransport::Udp),
            "tcp" => Some(SipTransport::Tcp),
            "tls" => Some(SipTransport::Tls),
            other => {
                let what = format!("the transport of [{}] is {other}, which is not spoken here", section.name());
                self.remarks.push(named.remark(Weight::Fault, what, "name one with protocol=udp, tcp or tls"));
                None
            }
        }
    }

    fn trunk(&mut self, section: &Section<'a>) -> Option<TrunkAccount> {
        let name = section.name();
        let text = |key| section.last(key).map(|value| value.text.to_owned()).filter(|text| !text.is_empty());
        let is_sip = |uri: &String| {
            let scheme = uri.split_once(':').map(|(scheme, _)| scheme);
            scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("sip") || scheme.eq_ignore_ascii_case("sips"))
        };
        let (server_uri, client_uri) = (text(Key::ServerUri).filter(is_sip), text(Key::ClientUri).filter(is_sip));
        let (Some(server_uri), Some(client_uri)) = (server_uri, client_uri) else {
            let what = format!("the registration [{name}] lacks a server_uri or client_uri that begins with sip:");
            self.fault(section, what, "write both, as in server_uri=sip:provider.example.com");
            return None;
        };
        let before = self.before.and_then(|before| before.trunks().iter().find(|trunk| trunk.name == name));
        let known = before.is_some_and(|trunk| !trunk.logins.is_empty());
        let weight = if known { Weight::Broken } else { Weight::Fault };
        let transport = self.protocol(section);
        let mut seconds = |key| self.number(section, key).filter(|n| *n > 0).map(|n| Duration::from_secs(n.into()));
        Some(TrunkAccount {
            name: name.to_owned(),
            server_uri,
            client_uri,
            contact_user: text(Key::ContactUser),
            outbound_proxy: text(Key::OutboundProxy),
            transport,
            expiration: seconds(Key::Expiration).unwrap_or(EXPIRATION),
            retry_interval: seconds(Key::RetryInterval).unwrap_or(RETRY_INTERVAL),
            logins: self.logins(section, Key::OutboundAuth, Direction::Outbound, weight),
        })
    }

    fn number(&mut self, section: &Section<'a>, key: Key) -> Option<u32> {
        let value = section.last(key)?;
        let number = value.text.parse().ok();
        if number.is_none() && !value.text.is_empty() {
            let what = format!("the {} of [{}] is no number", key.name(), section.name());
            self.remarks.push(value.remark(Weight::Fault, what, "write a whole number, of seconds where it is a time"));
        }
        number
    }

    fn fault(&mut self, section: &Section<'a>, what: impl Display, fix: &str) {
        self.remarks.push(section.remark(Weight::Fault, what.to_string(), fix));
    }
}

const ADD: &str = "write that section, or see whether the file that holds it was copied";
const NETWORK: &str = "write an address or address/prefix: names are not looked up here";

/// Asterisk's `ast_true`.
fn is_true(text: &str) -> bool {
    ["yes", "true", "y", "t", "1", "on"].iter().any(|word| word.eq_ignore_ascii_case(text))
}
