//! Sections → accounts: which endpoints are phones, what they prove themselves with, what a registration needs.
//!
//! Which keys count once and which add up follows Asterisk's `res_pjsip`: `auth`, `aors` and `outbound_auth` are lists
//! of which the last line counts; `match`, `permit`, `deny` and `password_digest` add up.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::time::Duration;

use super::network::{Acl, Network, Sense};
use super::{ACCOUNTS_MAX, Account, Accounts, Algorithm, Aor, Credentials, Login, TrunkAccount, WhenFull};
use crate::wire::asterisk_conf::{Conf, Encoding, Remarks, Section, Value, Weight};

/// All keys that are read. Those that stand in most sections come first.
pub(super) const KEYS: [&str; 36] = [
    "type",
    "auth",
    "aors",
    "username",
    "password",
    "auth_type",
    "max_contacts",
    "remove_existing",
    "identify_by",
    "transport",
    "minimum_expiration",
    "default_expiration",
    "maximum_expiration",
    "contact",
    "realm",
    "md5_cred",
    "password_digest",
    "supported_algorithms_uas",
    "supported_algorithms_uac",
    "outbound_auth",
    "acl",
    "permit",
    "deny",
    "endpoint",
    "match",
    "server_uri",
    "client_uri",
    "contact_user",
    "outbound_proxy",
    "expiration",
    "retry_interval",
    "forbidden_retry_interval",
    "line",
    "default_realm",
    "default_auth_algorithms_uas",
    "default_auth_algorithms_uac",
];

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

/// Sections by their type.
#[derive(Default)]
struct Sections<'a> {
    endpoints: HashMap<&'a str, Section<'a>>,
    auths: HashMap<&'a str, Section<'a>>,
    aors: HashMap<&'a str, Section<'a>>,
    registrations: HashMap<&'a str, Section<'a>>,
    /// By the endpoint that they name.
    identifies: HashMap<&'a str, Vec<Section<'a>>>,
    acls: Vec<Section<'a>>,
    global: Option<Section<'a>>,
    /// Endpoints that a registration names.
    of_trunks: HashSet<&'a str>,
}

struct Builder<'a, 'r> {
    sections: Sections<'a>,
    before: Option<&'r Accounts>,
    remarks: &'r mut Remarks,
    /// What is offered to phones, and answered to providers, where an auth does not say.
    inbound: Vec<Algorithm>,
    outbound: Vec<Algorithm>,
}

/// Makes the accounts of what was read. `before` are those that are in use.
pub(super) fn build(conf: &Conf, before: Option<&Accounts>, remarks: &mut Remarks) -> Accounts {
    let sections = sort(conf, remarks);
    let md5 = || vec![Algorithm::Md5];
    let mut builder = Builder { sections, before, remarks, inbound: md5(), outbound: md5() };
    let global = builder.sections.global;
    if let Some(value) = global.and_then(|global| global.last("default_auth_algorithms_uas")) {
        builder.inbound = builder.algorithms(&value);
    }
    if let Some(value) = global.and_then(|global| global.last("default_auth_algorithms_uac")) {
        builder.outbound = builder.algorithms(&value);
    }
    let acls = std::mem::take(&mut builder.sections.acls);
    let acls = acls.iter().map(|section| builder.acl(section)).collect();

    let mut phones = Vec::new();
    for section in &ordered(std::mem::take(&mut builder.sections.endpoints)) {
        if phones.len() >= ACCOUNTS_MAX {
            let what = format!("more than {ACCOUNTS_MAX} phones: the rest is not read");
            builder.remarks.push(section.remark(Weight::Broken, what, "see whether the file is what it should be"));
            break;
        }
        phones.extend(builder.phone(section));
    }
    let registrations = ordered(std::mem::take(&mut builder.sections.registrations));
    let trunks = registrations.iter().filter_map(|section| builder.trunk(section)).collect();
    let realm = global.and_then(|global| global.last("default_realm")).map(|realm| realm.text);
    let realm = realm.filter(|realm| !realm.is_empty()).unwrap_or(DEFAULT_REALM);
    Accounts::new(phones, trunks, acls, realm.to_owned())
}

/// By name, so that the same remarks come in whatever order the sections stand.
fn ordered<'a>(sections: HashMap<&'a str, Section<'a>>) -> Vec<Section<'a>> {
    let mut sections: Vec<_> = sections.into_values().collect();
    sections.sort_unstable_by_key(Section::name);
    sections
}

fn sort<'a>(conf: &'a Conf, remarks: &mut Remarks) -> Sections<'a> {
    let mut sorted = Sections::default();
    for section in conf.sections() {
        let Some(kind) = section.last("type") else {
            if section.entries().next().is_some() {
                let fix = "write type=endpoint, auth, aor or what it is";
                remarks.push(section.remark(Weight::Fault, format!("[{}] has no type", section.name()), fix));
            }
            continue;
        };
        let map = match kind.text {
            "endpoint" => &mut sorted.endpoints,
            "auth" => &mut sorted.auths,
            "aor" => &mut sorted.aors,
            "registration" => {
                sorted.of_trunks.extend(section.last("endpoint").map(|endpoint| endpoint.text));
                &mut sorted.registrations
            }
            "identify" => {
                if let Some(endpoint) = section.last("endpoint") {
                    sorted.identifies.entry(endpoint.text).or_default().push(section);
                }
                continue;
            }
            "acl" => {
                sorted.acls.push(section);
                continue;
            }
            "global" => {
                sorted.global.get_or_insert(section);
                continue;
            }
            _ => continue,
        };
        match map.entry(section.name()) {
            Entry::Vacant(place) => drop(place.insert(section)),
            Entry::Occupied(_) => {
                let what = format!("a second [{}] of type {}: passed over", section.name(), kind.text);
                let fix = "take one of the two out, or make it an addition with (+): Asterisk loads none of this type";
                remarks.push(section.remark(Weight::Fault, what, fix));
            }
        }
    }
    sorted
}

impl<'a> Builder<'a, '_> {
    fn phone(&mut self, section: &Section<'a>) -> Option<Account> {
        let name = section.name();
        let of_trunk = section.last("outbound_auth").is_some()
            || self.sections.identifies.contains_key(name)
            || self.sections.of_trunks.contains(name);
        let aors = self.aors(section);
        let has_auth = section.last("auth").is_some_and(|auth| auth.list().next().is_some());
        if !has_auth {
            if !aors.is_empty() && !of_trunk {
                let what = format!("[{name}] has no auth, so that anybody could register as it: it is no phone here");
                self.fault(section, what, "give it auth=NAME and a section [NAME] with type=auth");
            }
            return None;
        }
        let known = self.before.is_some_and(|before| before.by_name(name).is_some());
        let weight = if known { Weight::Broken } else { Weight::Fault };
        let logins = self.logins(section, "auth", Direction::Inbound, weight);
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
        for name in section.last("aors").iter().flat_map(Value::list) {
            let Some(aor) = self.sections.aors.get(name).copied() else {
                self.fault(section, format!("[{}] names the AOR {name}, which is not there", section.name()), ADD);
                continue;
            };
            let max_contacts = self.number(&aor, "max_contacts").unwrap_or(0);
            if max_contacts == 0 || aors.iter().any(|other: &Aor| other.name == name) {
                continue;
            }
            let replaces = aor.last("remove_existing").is_some_and(|value| is_true(value.text));
            let mut seconds = |key| self.number(&aor, key).map(|n| Duration::from_secs(n.into()));
            aors.push(Aor {
                name: name.to_owned(),
                max_contacts,
                when_full: if replaces { WhenFull::RemoveExisting } else { WhenFull::Refuse },
                minimum_expiration: seconds("minimum_expiration"),
                default_expiration: seconds("default_expiration"),
                maximum_expiration: seconds("maximum_expiration"),
            });
        }
        aors
    }

    fn has_static_contact(&self, section: &Section<'a>) -> bool {
        let aors = section.last("aors");
        let mut aors = aors.iter().flat_map(Value::list).filter_map(|name| self.sections.aors.get(name));
        aors.any(|aor| aor.all("contact").any(|contact| !contact.text.is_empty()))
    }

    /// What the auths prove that a section names. `weight` is that of one which cannot be used.
    fn logins(&mut self, section: &Section<'a>, key: &str, direction: Direction, weight: Weight) -> Vec<Login> {
        let mut logins = Vec::new();
        for name in section.last(key).iter().flat_map(Value::list) {
            let Some(auth) = self.sections.auths.get(name).copied() else {
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
        let username = text("username").ok_or(("has no username", "write username=NAME"))?.text.to_owned();
        let kind = text("auth_type").map_or("digest", |kind| kind.text);
        let password = text("password");
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
            Direction::Inbound => ("supported_algorithms_uas", self.inbound.clone()),
            Direction::Outbound => ("supported_algorithms_uac", self.outbound.clone()),
        };
        let wanted = text(key).map_or(default, |value| self.algorithms(&value));
        let served = |algorithm: &Algorithm| credentials.proof(*algorithm).is_some();
        let mut algorithms: Vec<_> = wanted.into_iter().filter(served).collect();
        if algorithms.is_empty() {
            algorithms = Algorithm::ALL.into_iter().filter(served).collect();
            let what = format!("the auth [{}] has no digest for the algorithms that it is to serve", auth.name());
            let fix = "name the algorithms of its digests in supported_algorithms_uas and _uac: Asterisk refuses it";
            self.fault(auth, what, fix);
        }
        let any = direction == Direction::Outbound;
        let realm = text("realm").map(|realm| realm.text.to_owned()).filter(|realm| !(any && realm == "*"));
        Ok(Login { username, realm, credentials, algorithms })
    }

    /// `md5_cred=HEX`, `password_digest=ALGORITHM:HEX`.
    fn digests(&mut self, auth: &Section<'a>) -> Credentials {
        let mut credentials = Credentials::default();
        for (key, value) in auth.entries().filter(|(key, _)| matches!(*key, "md5_cred" | "password_digest")) {
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

    fn algorithms(&mut self, value: &Value<'a>) -> Vec<Algorithm> {
        let mut algorithms = Vec::new();
        for name in value.list() {
            match Algorithm::of(name) {
                Some(algorithm) if algorithms.contains(&algorithm) => {}
                Some(algorithm) => algorithms.push(algorithm),
                None => {
                    let fix = "use MD5, SHA-256, SHA-512-256";
                    self.remarks.push(value.remark(Weight::Fault, "an algorithm that is not known", fix));
                }
            }
        }
        algorithms
    }

    fn acl(&mut self, section: &Section<'a>) -> Acl {
        let mut acl = Acl::default();
        for (key, value) in section.entries() {
            let sense = match key {
                "permit" => Sense::Permit,
                "deny" => Sense::Deny,
                "acl" => {
                    let fix = "write its permit and deny lines here too";
                    self.remarks.push(value.remark(Weight::Fault, "acl.conf is not read here", fix));
                    continue;
                }
                _ => continue,
            };
            for network in value.list().take(NETWORKS_MAX) {
                if acl.add(sense, network).is_err() {
                    self.remarks.push(value.remark(Weight::Fault, format!("a {key} that is no network"), NETWORK));
                }
            }
        }
        acl
    }

    /// An endpoint that only its address identifies, which `identify` sections list.
    fn only_from(&mut self, section: &Section<'a>) -> Option<Vec<Network>> {
        let by = section.last("identify_by")?;
        if by.list().any(|way| matches!(way, "username" | "auth_username")) || !by.list().any(|way| way == "ip") {
            return None;
        }
        let mut networks = Vec::new();
        for identify in self.sections.identifies.get(section.name()).into_iter().flatten() {
            for value in identify.all("match") {
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

    fn trunk(&mut self, section: &Section<'a>) -> Option<TrunkAccount> {
        let name = section.name();
        let text = |key| section.last(key).map(|value| value.text.to_owned()).filter(|text| !text.is_empty());
        let is_sip = |uri: &String| {
            let scheme = uri.split_once(':').map(|(scheme, _)| scheme);
            scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("sip") || scheme.eq_ignore_ascii_case("sips"))
        };
        let (server_uri, client_uri) = (text("server_uri").filter(is_sip), text("client_uri").filter(is_sip));
        let (Some(server_uri), Some(client_uri)) = (server_uri, client_uri) else {
            let what = format!("the registration [{name}] lacks a server_uri or client_uri that begins with sip:");
            self.fault(section, what, "write both, as in server_uri=sip:provider.example.com");
            return None;
        };
        let before = self.before.and_then(|before| before.trunks().iter().find(|trunk| trunk.name == name));
        let known = before.is_some_and(|trunk| !trunk.logins.is_empty());
        let weight = if known { Weight::Broken } else { Weight::Fault };
        let mut seconds = |key| self.number(section, key).filter(|n| *n > 0).map(|n| Duration::from_secs(n.into()));
        Some(TrunkAccount {
            name: name.to_owned(),
            server_uri,
            client_uri,
            contact_user: text("contact_user"),
            outbound_proxy: text("outbound_proxy"),
            transport: text("transport"),
            endpoint: text("endpoint"),
            expiration: seconds("expiration").unwrap_or(EXPIRATION),
            retry_interval: seconds("retry_interval").unwrap_or(RETRY_INTERVAL),
            forbidden_retry_interval: seconds("forbidden_retry_interval"),
            logins: self.logins(section, "outbound_auth", Direction::Outbound, weight),
        })
    }

    fn number(&mut self, section: &Section<'a>, key: &str) -> Option<u32> {
        let value = section.last(key)?;
        let number = value.text.parse().ok();
        if number.is_none() && !value.text.is_empty() {
            let what = format!("the {key} of [{}] is no number", section.name());
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
