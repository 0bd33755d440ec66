//! Whom the built-in PBX serves: phones and trunks, from the `pjsip.conf` that the working directory already holds.
//!
//! `build` turns sections into the values here, `disk` reads files and tells whether they changed, [`crate::wire`]
//! knows the text format. Nothing is written, and nothing is registered here. Accounts that Asterisk keeps elsewhere
//! (`pjsip_wizard.conf`, a database behind `sorcery.conf`) are not seen.

mod build;
mod credentials;
pub(in crate::adapters::pbx) mod disk;
mod network;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::config::SipTransport;
use crate::wire::asterisk_conf::{self, Remark, Remarks, Weight};

pub use credentials::{Algorithm, Algorithms, Credentials, Login, Proof};
pub use disk::{FILE_BYTES_MAX, TOTAL_BYTES_MAX, Watched, changed};
pub use network::{Acl, Network};

/// Twice what the largest installations have; more is a file that is not what it should be.
pub const ACCOUNTS_MAX: usize = 200_000;

/// Of the accounts that there were, one in so many must be left. Nobody dismisses half of the staff within one change
/// of a file, but a sync that is half done looks like that.
pub const SHRINK_LEFT_ONE_IN: usize = 2;

/// All phones and trunks. Phones are ordered by name, so that the order of sections means nothing.
#[derive(Debug, Default)]
pub struct Accounts {
    phones: Vec<Account>,
    /// Phone and AOR, ordered by the name of the AOR.
    by_aor: Vec<(u32, u32)>,
    trunks: Vec<TrunkAccount>,
    acls: Vec<Acl>,
    default_realm: String,
}

/// An endpoint that can register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The endpoint's section: what a phone says in From.
    pub name: String,
    /// What it may prove itself with; at least one.
    pub logins: Vec<Login>,
    /// What it may register; at least one.
    pub aors: Vec<Aor>,
    /// Its own `permit` and `deny`.
    pub acl: Acl,
    /// Where it must come from, when it is identified by its address alone. Empty: nowhere.
    pub only_from: Option<Vec<Network>>,
}

/// An address of record: what a phone says in To, and where its contacts are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aor {
    /// The section: the user part of To, or user@domain.
    pub name: String,
    /// How many contacts it takes. One that takes none is not kept here.
    pub max_contacts: u32,
    /// What happens to one contact too many.
    pub when_full: WhenFull,
    /// Where given; Asterisk takes 60 s.
    pub minimum_expiration: Option<Duration>,
    /// Where given; Asterisk takes 3600 s.
    pub default_expiration: Option<Duration>,
    /// Where given; Asterisk takes 7200 s.
    pub maximum_expiration: Option<Duration>,
}

/// What an AOR does that has its contacts already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// `remove_existing=no`: the new one is refused with 403.
    Refuse,
    /// `remove_existing=yes`: the one that expires next makes room.
    RemoveExisting,
}

/// A registration at a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkAccount {
    /// The section of the registration.
    pub name: String,
    /// Where it registers.
    pub server_uri: String,
    /// What it registers.
    pub client_uri: String,
    /// The user part of its contact; Asterisk takes `s`.
    pub contact_user: Option<String>,
    /// Through what it registers.
    pub outbound_proxy: Option<String>,
    /// How it speaks, where its URI does not say: the protocol of the transport that it names.
    pub transport: Option<SipTransport>,
    /// What it asks for.
    pub expiration: Duration,
    /// The longest pause after a failure that may pass. What it does after 403 is its own rule, not Asterisk's.
    pub retry_interval: Duration,
    /// What it proves itself with. A realm that is not given fits any.
    pub logins: Vec<Login>,
}

impl Account {
    /// Whether it may come from this address, as far as its own section says.
    pub fn admits(&self, address: IpAddr) -> bool {
        let identified = self.only_from.as_ref().is_none_or(|from| from.iter().any(|n| n.contains(address)));
        identified && self.acl.admits(address)
    }
}

impl TrunkAccount {
    /// The user part of its contact.
    pub fn user(&self) -> &str {
        self.contact_user.as_deref().unwrap_or(&self.name)
    }

    /// Whether both register the same contact for the same address of record at the same place.
    pub fn binds_like(&self, other: &Self) -> bool {
        self.server_uri == other.server_uri
            && self.outbound_proxy == other.outbound_proxy
            && self.transport == other.transport
            && self.client_uri == other.client_uri
            && self.user() == other.user()
    }
}

impl Accounts {
    /// The phones, ordered by name.
    pub fn phones(&self) -> &[Account] {
        &self.phones
    }

    /// The trunks, ordered by name.
    pub fn trunks(&self) -> &[TrunkAccount] {
        &self.trunks
    }

    /// The phone of an endpoint.
    pub fn by_name(&self, name: &str) -> Option<&Account> {
        let at = self.phones.binary_search_by(|phone| phone.name.as_str().cmp(name)).ok()?;
        self.phones.get(at)
    }

    /// The phones that may register an AOR, ordered by name: most often one, but phones may share an AOR.
    pub fn by_aor<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Account, &'a Aor)> {
        let from = self.by_aor.partition_point(|at| self.aor(*at).1.name.as_str() < name);
        self.by_aor[from..].iter().map(|at| self.aor(*at)).take_while(move |(_, aor)| aor.name == name)
    }

    fn aor(&self, (phone, aor): (u32, u32)) -> (&Account, &Aor) {
        let phone = &self.phones[phone as usize];
        (phone, &phone.aors[aor as usize])
    }

    /// The realm of a challenge to a phone whose auth names none.
    pub fn default_realm(&self) -> &str {
        &self.default_realm
    }

    /// Whether anybody may come from this address: the sections of type `acl`.
    pub fn admits(&self, address: IpAddr) -> bool {
        self.acls.iter().all(|acl| acl.admits(address))
    }

    fn new(mut phones: Vec<Account>, mut trunks: Vec<TrunkAccount>, acls: Vec<Acl>, default_realm: String) -> Self {
        phones.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        trunks.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut by_aor = Vec::with_capacity(phones.len());
        for (phone, account) in (0..).zip(&phones) {
            by_aor.extend((0..).zip(&account.aors).map(|(aor, _)| (phone, aor)));
        }
        let name = |(phone, aor): (u32, u32)| &phones[phone as usize].aors[aor as usize].name;
        by_aor.sort_unstable_by(|a, b| name(*a).cmp(name(*b)).then(a.cmp(b)));
        Self { phones, by_aor, trunks, acls, default_realm }
    }
}

/// What was read, and from which files.
#[derive(Debug)]
pub struct Loaded {
    /// The phones and trunks.
    pub accounts: Accounts,
    /// What there is to say, the gravest first.
    pub remarks: Vec<Remark>,
    /// What [`changed`] looks at.
    pub files: Vec<Watched>,
}

/// The files look as if a copy were half done, or went wrong: keep the accounts that there were.
#[derive(Debug)]
pub struct Broken {
    /// What could be read all the same. Its remarks tell what is broken, first. It is for a robot that has no earlier
    /// accounts: some phones are better than none.
    pub rest: Loaded,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rest.remarks.first() {
            Some(remark) => remark.fmt(f),
            None => f.write_str("the accounts cannot be read"),
        }
    }
}

impl std::error::Error for Broken {}

/// Reads `pjsip.conf` at `path` and what it includes. It blocks: call it off the loop.
///
/// `before` is what was loaded last and is still in use; against it, a file that vanished or became empty, an auth that
/// is gone and a sudden loss of accounts are seen. Without it (at start) they count as meant.
///
/// # Errors
/// [`Broken`], when what was read is not to be trusted.
pub fn load(path: &Path, before: Option<&Loaded>) -> Result<Loaded, Box<Broken>> {
    let mut disk = disk::Disk::new(path, before.map_or(&[], |loaded| &loaded.files));
    let (text, trouble) = disk.root(path);
    let name = text.name.clone();
    let mut conf = asterisk_conf::read(text, &mut disk, build::KEYS);
    let mut remarks = std::mem::take(&mut conf.remarks);
    let whole = |weight, what, fix| Remark { weight, file: name.clone(), line: 0, what, fix };
    if let Some(trouble) = trouble {
        remarks.push(whole(trouble.weight, trouble.what, trouble.fix));
    }
    let accounts = build::build(&conf, before.map(|loaded| &loaded.accounts), &mut remarks);
    drop(conf);
    if let Some(before) = before {
        let (had, has) = (before.accounts.phones.len(), accounts.phones.len());
        if has * SHRINK_LEFT_ONE_IN < had {
            let what = format!("of {had} phones only {has} are left");
            let fix = "see whether the sync is done; where it is meant, a restart takes the file as it is".to_owned();
            remarks.push(whole(Weight::Broken, what, fix));
        }
    }
    finish(Loaded { accounts, remarks: Vec::new(), files: disk.watched() }, remarks)
}

fn finish(mut loaded: Loaded, remarks: Remarks) -> Result<Loaded, Box<Broken>> {
    loaded.remarks = remarks.into_list();
    match loaded.remarks.first() {
        Some(first) if first.weight == Weight::Broken => Err(Box::new(Broken { rest: loaded })),
        _ => Ok(loaded),
    }
}
