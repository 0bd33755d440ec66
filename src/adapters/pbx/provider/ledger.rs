//! What was heard of each provider, and when it may be asked again.
//!
//! A status is read every few seconds, and a provider bans who asks so often: what is young enough is told again, and who
//! has refused three times is left alone for ten minutes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::bindings::{self, Held, Trouble};
use super::options::{self, Said};
use super::own::Own;
use crate::adapters::pbx::builtin::accounts::{self, TrunkAccount, Watched};
use crate::adapters::pbx::kamailio::{self, Rpc};
use crate::config::{JsonRpc, Trunk};

/// How long an answer to OPTIONS counts.
const OPTIONS_COUNT: Duration = Duration::from_secs(30);
/// How long a list of bindings counts.
const BINDINGS_COUNT: Duration = Duration::from_secs(60);
/// Refusals after which a provider is left alone.
const REFUSALS_MAX: u32 = 3;
/// For how long.
const PAUSE_REFUSED: Duration = Duration::from_secs(600);

/// Where the trunks' passwords lie.
#[derive(Debug, Clone)]
pub enum Accounts {
    /// In the first of these `pjsip.conf` that is there.
    Pjsip(Vec<PathBuf>),
    /// In the records of the Kamailio that answers here, while it runs.
    Uac(Rpc),
    /// This driver does not know them.
    Elsewhere,
}

impl Accounts {
    /// In the records of the Kamailio at this place.
    pub fn uac(place: JsonRpc) -> Self {
        Self::Uac(Rpc::new(place))
    }
}

/// The trunks of the files, as they were read last.
#[derive(Debug, Default)]
struct Read {
    files: Vec<Watched>,
    trunks: Vec<TrunkAccount>,
}

#[derive(Debug, Default)]
struct Memory {
    options: HashMap<String, (Instant, Said)>,
    held: HashMap<String, (Instant, Result<Held, String>)>,
    /// How often in a row, and when last.
    refusals: HashMap<String, (u32, Instant)>,
    read: Option<Read>,
    is_asking: bool,
}

/// The ledger; clones share it.
#[derive(Debug, Clone)]
pub struct Ledger {
    own: Own,
    accounts: Accounts,
    memory: Arc<Mutex<Memory>>,
}

impl Ledger {
    /// An empty one.
    pub fn new(own: Own, accounts: Accounts) -> Self {
        Self { own, accounts, memory: Arc::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the trunk's provider said last to OPTIONS.
    pub fn said(&self, trunk: &str) -> Option<Said> {
        let memory = self.memory();
        let young = |(at, _): &&(Instant, Said)| at.elapsed() < 2 * OPTIONS_COUNT;
        memory.options.get(trunk).filter(young).map(|(_, said)| said.clone())
    }

    /// What it was last seen to hold, or why that is not known.
    pub fn held(&self, trunk: &str) -> Option<Result<Held, String>> {
        let memory = self.memory();
        let young = |(at, _): &&(Instant, Result<Held, String>)| at.elapsed() < 2 * BINDINGS_COUNT;
        memory.held.get(trunk).filter(young).map(|(_, held)| held.clone())
    }

    /// Forgets what was heard; who refused stays known.
    pub fn forget(&self) {
        let mut memory = self.memory();
        memory.options.clear();
        memory.held.clear();
    }

    /// Asks a trunk's provider OPTIONS; `None` where no provider is given.
    pub async fn ask(&self, trunk: &Trunk) -> Option<Said> {
        let said = options::ask(trunk.provider.as_deref()?, &self.own).await;
        self.memory().options.insert(trunk.name.clone(), (Instant::now(), said.clone()));
        Some(said)
    }

    /// Whether anybody here knows the trunks' passwords.
    pub fn knows_accounts(&self) -> bool {
        !matches!(self.accounts, Accounts::Elsewhere)
    }

    /// Why the passwords cannot be had now, though nothing is wrong: a stopped Kamailio tells none.
    pub async fn sleeps(&self) -> Option<String> {
        match &self.accounts {
            Accounts::Uac(rpc) => kamailio::sleeps(rpc).await,
            Accounts::Pjsip(_) | Accounts::Elsewhere => None,
        }
    }

    /// Asks which bindings a trunk's provider holds.
    ///
    /// # Errors
    /// One line: why that is not known.
    pub async fn look(&self, trunk: &str) -> Result<Held, String> {
        self.registrar(trunk, &[]).await
    }

    /// Has the provider remove these; gives what is left.
    ///
    /// # Errors
    /// One line: why they may still be there.
    pub async fn remove(&self, trunk: &str, contacts: &[&str]) -> Result<Held, String> {
        self.registrar(trunk, contacts).await
    }

    async fn registrar(&self, trunk: &str, contacts: &[&str]) -> Result<Held, String> {
        let heard = match (self.patience(trunk), self.account(trunk).await) {
            (Some(why), _) => return Err(why),
            (None, Err(why)) => Err(format!("not asked: {why}")),
            (None, Ok(account)) => {
                let heard = if contacts.is_empty() {
                    bindings::ask(&account, &self.own).await
                } else {
                    bindings::remove(&account, &self.own, contacts).await
                };
                self.count(trunk, &heard);
                heard.map_err(|trouble| trouble.line().to_owned())
            }
        };
        self.memory().held.insert(trunk.to_owned(), (Instant::now(), heard.clone()));
        heard
    }

    /// Why a provider is left alone now.
    fn patience(&self, trunk: &str) -> Option<String> {
        let (count, last) = *self.memory().refusals.get(trunk)?;
        let left = PAUSE_REFUSED.checked_sub(last.elapsed())?;
        let minutes = left.as_secs().div_ceil(60);
        (count >= REFUSALS_MAX)
            .then(|| format!("not asked: it refused {count} times; it is asked again in {minutes} minutes"))
    }

    fn count(&self, trunk: &str, heard: &Result<Held, Trouble>) {
        let mut memory = self.memory();
        match heard {
            Ok(_) => drop(memory.refusals.remove(trunk)),
            Err(Trouble::Refused(..)) => {
                let refusals = memory.refusals.entry(trunk.to_owned()).or_insert((0, Instant::now()));
                // After the pause the count begins anew.
                let count = if refusals.0 >= REFUSALS_MAX { 1 } else { refusals.0 + 1 };
                *refusals = (count, Instant::now());
            }
            Err(Trouble::Unknown(_)) => {}
        }
    }

    /// The account of a trunk, as it is now.
    async fn account(&self, trunk: &str) -> Result<TrunkAccount, String> {
        match &self.accounts {
            Accounts::Pjsip(places) => self.account_in(places, trunk).await,
            Accounts::Uac(rpc) => kamailio::account(rpc, trunk).await,
            Accounts::Elsewhere => Err("this driver does not know the trunk's password".to_owned()),
        }
    }

    async fn account_in(&self, places: &[PathBuf], trunk: &str) -> Result<TrunkAccount, String> {
        let (known, places) = (self.memory().read.take(), places.to_vec());
        let current = move || known.filter(|known| !accounts::changed(&known.files)).or_else(|| read(&places));
        let read = spawn_blocking(current).await.map_err(|_| "its file could not be read".to_owned())?;
        let mut memory = self.memory();
        memory.read = read;
        let found = memory.read.iter().flat_map(|read| &read.trunks).find(|account| account.name == trunk);
        found.cloned().ok_or_else(|| "no registration of that name is in the PBX's files here".to_owned())
    }

    /// Asks anew, in the background, whatever is too old. One round at a time; it bounds itself.
    pub fn refresh(&self, trunks: &[Trunk]) {
        let wanted: Vec<_> = {
            let mut memory = self.memory();
            if memory.is_asking {
                return;
            }
            let said_old = |trunk: &&Trunk| {
                let is_young = |(at, _): &(Instant, Said)| at.elapsed() < OPTIONS_COUNT;
                trunk.provider.is_some() && !memory.options.get(&trunk.name).is_some_and(is_young)
            };
            let held_old = |trunk: &&Trunk| {
                let is_young = |(at, _): &(Instant, Result<Held, String>)| at.elapsed() < BINDINGS_COUNT;
                self.knows_accounts()
                    && trunk.kind == crate::units::TrunkKind::Register
                    && !memory.held.get(&trunk.name).is_some_and(is_young)
            };
            let due = trunks.iter().map(|trunk| (trunk.clone(), said_old(&trunk), held_old(&trunk)));
            let due: Vec<_> = due.filter(|(_, said, held)| *said || *held).collect();
            memory.is_asking = !due.is_empty();
            due
        };
        if wanted.is_empty() {
            return;
        }
        let ledger = self.clone();
        tokio::spawn(async move {
            let _round = Round(&ledger);
            for (trunk, said, held) in &wanted {
                if *said {
                    ledger.ask(trunk).await;
                }
                if *held {
                    drop(ledger.look(&trunk.name).await);
                }
            }
        });
    }
}

/// A round of questions; however it ends, the next may begin.
struct Round<'a>(&'a Ledger);

impl Drop for Round<'_> {
    fn drop(&mut self) {
        self.0.memory().is_asking = false;
    }
}

fn read(places: &[PathBuf]) -> Option<Read> {
    let path = places.iter().find(|place| place.exists())?;
    // What is broken elsewhere in the file says nothing of its trunks.
    let loaded = accounts::load(path, None).unwrap_or_else(|broken| broken.rest);
    Some(Read { trunks: loaded.accounts.trunks().to_vec(), files: loaded.files })
}
