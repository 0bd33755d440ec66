//! The ledger on disk: a baseline of the working directories, and what differs from it by now.
//!
//! In `state_dir/ledger`: `about` (numbers, JSON), `baseline` and `changes` (lists in the order of a walk), `twice` (what
//! both sides changed), `gap` (why more may have changed than is listed; no other writer can undo it). A list is written
//! whole beside the old one and renamed; what is read is streamed, so that a million files cost no more memory than one
//! directory. What was carried home and read back there moves the baseline on: it is then what both sides have. Everything
//! here blocks; the caller gives it a thread and a limit. How a list looks is [`crate::data::ledger`]'s, its files are in
//! `lists`, what follows from what is at home in `strike`.

mod both;
mod lists;
mod mounts;
mod strike;
mod visit;

use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::look::Subject;
use super::walk::walk;
use crate::config::Config;
use crate::data::{shown, unshown};
use crate::host::file;
use crate::units::ledger::{Ledger as Told, Phase};

use lists::{Baseline, read_all, write_whole};
pub use lists::{Entries, IS_LOOKED_AT, List, Lock};
pub use visit::Wanted;
use visit::{Comparing, Taking, Totals};

/// What was to be done with the ledger of a service that is not the last one any more.
pub const SERVES_AGAIN: &str =
    "this node serves again, or did so meanwhile: its ledger goes on, and the next failback carries home";

/// Where the ledger of one configuration lies.
#[derive(Debug, Clone)]
pub struct Ledger {
    dir: PathBuf,
    archive: PathBuf,
    subject: Subject,
}

#[derive(Debug, Serialize, Deserialize)]
struct About {
    #[serde(flatten)]
    told: Told,
    #[serde(flatten)]
    places: Places,
}

/// What its lists count on, each as [`shown`] writes it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Places {
    /// The working directories: another list of them has other numbers.
    dirs: Vec<String>,
    /// Where another file system began on the way to them and in them, when the baseline was taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<String>,
}

impl About {
    fn unmounted(&self) -> Vec<PathBuf> {
        mounts::missing(&paths(&self.places.mounts))
    }
}

/// Why a ledger ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending<'a> {
    /// All that this service left is at home.
    Carried(&'a str),
    /// A person says so.
    Word,
}

/// What a baseline came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Taken, of so many files; so many that an earlier service left wait still.
    Taken(u64, u64),
    /// An earlier one of this node's service goes on.
    GoesOn,
}

impl Ledger {
    /// That of this configuration.
    pub fn new(config: &Config) -> Self {
        let subject = Subject::of(config);
        Self { dir: config.state_dir.join("ledger"), archive: config.state_dir.join("ledger.last"), subject }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The ledger that is open, in numbers; `None`: there is none.
    ///
    /// # Errors
    /// One line.
    pub fn told(&self) -> Result<Option<Told>, String> {
        Ok(self.about()?.map(|about| about.told))
    }

    /// The open one, or else the last that ended; one that ended unreadable is none.
    ///
    /// # Errors
    /// One line.
    pub fn last_told(&self) -> Result<Option<Told>, String> {
        if let Some(told) = self.told()? {
            return Ok(Some(told));
        }
        Ok(about_in(&self.archive).ok().flatten().map(|about| Told { ended: true, ..about.told }))
    }

    /// Takes the baseline of a service, or goes on with that of the service before, where this node served since. What
    /// cannot be read of a former one is a gap in this one.
    ///
    /// # Errors
    /// One line; the former ledger stands, and what changes from now on is in none: see [`Ledger::note_gap`].
    pub fn begin(&self, service: &str, now: Timestamp, wanted: &Wanted) -> Result<Begun, String> {
        file::create_dirs(&self.dir).map_err(|error| self.cannot("make", "", &error))?;
        let _lock = self.lock(Lock::Lists)?;
        let (former, unreadable) = match self.about() {
            Ok(former) => (former, None),
            Err(why) => (None, Some(why)),
        };
        let moved = former.as_ref().and_then(|former| self.checked(former).err());
        if let Some(About { told, .. }) = &former
            && told.phase == Phase::Serving
            && (told.looked_at.is_some() || told.service != service)
            && moved.is_none()
            && self.dir.join("baseline").exists()
        {
            // Service was taken back, or a plan began anew: what was changed since is still not at home.
            wanted.settle()?;
            self.save(&Told { service: service.to_owned(), ..told.clone() })?;
            return Ok(Begun::GoesOn);
        }
        // Of the one before it, which may hold what waits still.
        let unknown = unreadable.or(moved).or_else(|| self.entries().and_then(Entries::check).err());
        let left = former.as_ref().filter(|former| former.told.files > 0 && unknown.is_none());
        let left_entries = left.map(|_| self.entries()).transpose()?;
        let mut taking = Taking {
            subject: &self.subject,
            list: List::create(&self.dir, "baseline", lists::BASELINE_HEAD)?,
            left: left_entries.map(Iterator::peekable),
            digested: 0,
            inherited: Totals::default(),
            wanted,
            mounts: mounts::above(&self.subject.dirs),
            failed: None,
        };
        walk(&self.subject.dirs, &mut taking);
        if let Some(why) = taking.failed {
            return Err(why);
        }
        let (inherited, list, mounts) = (taking.inherited, taking.list, taking.mounts);
        wanted.settle()?;
        // What waits there is no part of the new baseline, and would be listed as added once it is mounted again.
        let unmounted = left.and_then(|former| former.unmounted().first().map(|mount| not_mounted(mount)));
        match unknown.or(unmounted) {
            Some(why) => {
                let before = former.as_ref().map_or("-", |former| &former.told.service);
                self.write_gap(before, &format!("of an earlier service: {why}"))?;
            }
            None => self.forget_gap_of(service)?,
        }
        let files = list.finish()?;
        if inherited.files() == 0 {
            for stale in ["changes", "twice"] {
                let _ = fs::remove_file(self.dir.join(stale));
            }
        }
        let mut told = first(service, now);
        inherited.tell(&mut told);
        told.kept_twice = former.filter(|_| told.files > 0).map_or(0, |former| former.told.kept_twice);
        let mounts = mounts.iter().map(|mount| shown(mount.as_os_str().as_bytes())).collect();
        self.save_as(told, Places { dirs: self.shown_dirs(), mounts })?;
        Ok(Begun::Taken(files, inherited.files()))
    }

    /// More may change here than is listed, and nobody but a person can say what: until then nothing takes for granted
    /// that all is at home. It takes no lock, as whoever hangs may hold it.
    ///
    /// # Errors
    /// One line.
    pub fn note_gap(&self, service: &str, why: &str, now: Timestamp) -> Result<(), String> {
        file::create_dirs(&self.dir).map_err(|error| self.cannot("make", "", &error))?;
        self.write_gap(service, why)?;
        match self.about().ok().flatten() {
            Some(About { told, .. }) if told.phase == Phase::Serving && told.service == service => Ok(()),
            // Against the older baseline more is listed than changed, which at home is seen to be the same.
            Some(About { told, places }) => {
                let told = Told { service: service.to_owned(), phase: Phase::Serving, looked_at: None, ..told };
                self.save_as(told, places)
            }
            None => self.save_as(first(service, now), self.places()),
        }
    }

    /// Looks through the working directories, and writes down what differs; `None`: there is no ledger. Where it is not
    /// this node's turn, or there is no baseline to compare with, nothing is looked at.
    ///
    /// # Errors
    /// One line; the former list stands.
    pub fn look(&self, now: Timestamp) -> Result<Option<Told>, String> {
        let Some(about) = self.about()? else { return Ok(None) };
        if about.told.phase == Phase::Home {
            return Ok(Some(about.told));
        }
        let _lock = self.lock(Lock::Lists)?;
        let Some(about) = self.about()? else { return Ok(None) };
        self.look_locked(about, now).map(Some)
    }

    /// This node does not serve any more: looks once more, and then nothing is added. Only what no look could see into
    /// is a gap from here on.
    ///
    /// # Errors
    /// One line; it is this node's turn still, and another try looks again. Or another service has begun here meanwhile.
    pub fn close(&self, service: &str, now: Timestamp) -> Result<Option<Told>, String> {
        if self.told()?.is_none() {
            return Ok(None);
        }
        let _lock = self.lock(Lock::Lists)?;
        let Some(about) = self.about()? else { return Ok(None) };
        if about.told.service != service {
            return Err(SERVES_AGAIN.to_owned());
        }
        let unmounted = about.unmounted();
        let told = self.look_locked(about, now)?;
        if told.phase == Phase::Home {
            return Ok(Some(told));
        }
        if let Some(mount) = unmounted.first() {
            return Err(format!("{}; or, where that is as it should be, {BY_HAND}", not_mounted(mount)));
        }
        if let Some(hidden) = &told.trouble {
            self.write_gap(&told.service, hidden)?;
        }
        self.save(&Told { phase: Phase::Home, ..told })?;
        self.told()
    }

    fn look_locked(&self, about: About, now: Timestamp) -> Result<Told, String> {
        self.checked(&about)?;
        let unmounted = about.unmounted();
        let is_without = about.told.gap.is_some() && !self.dir.join("baseline").exists();
        if about.told.phase == Phase::Home || is_without {
            return Ok(about.told);
        }
        let mut comparing = Comparing {
            subject: &self.subject,
            baseline: Baseline::open(&self.dir)?.peekable(),
            list: List::create(&self.dir, "changes", lists::CHANGES_HEAD)?,
            totals: Totals::default(),
            hidden: mounts::hidden(&self.subject.dirs, &unmounted),
            failed: None,
        };
        walk(&self.subject.dirs, &mut comparing);
        comparing.gone_before(None);
        if let Some(why) = comparing.failed {
            return Err(why);
        }
        let (totals, list, hidden) = (comparing.totals, comparing.list, comparing.hidden);
        list.finish()?;
        let mut told = Told { looked_at: Some(now), trouble: None, ..about.told };
        totals.tell(&mut told);
        if let Some(mount) = unmounted.first() {
            told.trouble = Some(not_mounted(mount));
        } else if let Some((dir, path)) = hidden.first() {
            let place = self.subject.dirs[*dir].join(std::ffi::OsStr::from_bytes(path));
            told.trouble = Some(format!("not looked through: {}", shown(place.as_os_str().as_bytes())));
        }
        self.save(&told)?;
        Ok(told)
    }

    /// What differs, as the last look saw it; without what was carried since.
    ///
    /// # Errors
    /// One line.
    pub fn entries(&self) -> Result<Entries, String> {
        if let Some(about) = self.about()? {
            self.checked(&about)?;
        }
        Entries::open(&self.dir)
    }

    /// Keeps what differs as it stands in the list now, whatever a later look writes: see [`Ledger::held`].
    ///
    /// # Errors
    /// One line.
    pub fn hold(&self) -> Result<Entries, String> {
        let held = self.dir.join("held");
        let _ = fs::remove_file(&held);
        match fs::hard_link(self.dir.join("changes"), &held) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.cannot("write", "/held", &error)),
            _ => self.held(),
        }
    }

    /// A list of what a command is given to carry, to be written while it is told.
    ///
    /// # Errors
    /// One line.
    pub fn give(&self) -> Result<List, String> {
        List::create(&self.dir, "given", lists::CHANGES_HEAD)
    }

    /// What a command was given last.
    ///
    /// # Errors
    /// One line.
    pub fn given(&self) -> Result<Entries, String> {
        Entries::open_as(&self.dir, "given")
    }

    /// What was held last.
    ///
    /// # Errors
    /// One line.
    pub fn held(&self) -> Result<Entries, String> {
        if let Some(about) = self.about()? {
            self.checked(&about)?;
        }
        Entries::open_as(&self.dir, "held")
    }

    /// The same of the open ledger, or else of the last that ended, with the working directories that its lists count.
    ///
    /// # Errors
    /// One line.
    pub fn last_entries(&self) -> Result<(Entries, Vec<PathBuf>), String> {
        let (dir, about) = match self.about()? {
            Some(about) => (&self.dir, Some(about)),
            None => (&self.archive, about_in(&self.archive).ok().flatten()),
        };
        Ok((Entries::open(dir)?, about.map(|about| paths(&about.places.dirs)).unwrap_or_default()))
    }

    /// What keeps what waits from being carried, or looked at; whose turn it is stays.
    ///
    /// # Errors
    /// One line.
    pub fn note_trouble(&self, trouble: Option<String>) -> Result<(), String> {
        let _lock = self.lock(Lock::Lists)?;
        let Some(about) = self.about()? else { return Ok(()) };
        if about.told.trouble != trouble {
            self.save(&Told { trouble, ..about.told })?;
        }
        Ok(())
    }

    /// Ends it: it is kept as the last one, in the place of the one before. A person's word ends it whatever can be read of it.
    ///
    /// # Errors
    /// One line. What one service left does not end the ledger of the next.
    pub fn end(&self, why: Ending<'_>) -> Result<(), String> {
        if !self.dir.exists() {
            return Ok(());
        }
        let _lock = self.lock(Lock::Lists)?;
        if let Ending::Carried(service) = why
            && self.told()?.is_none_or(|told| told.service != service || told.phase != Phase::Home)
        {
            return Err(SERVES_AGAIN.to_owned());
        }
        match fs::remove_dir_all(&self.archive) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.cannot("remove", ".last", &error)),
            _ => {}
        }
        fs::rename(&self.dir, &self.archive).map_err(|error| self.cannot("put by", "", &error))
    }

    /// Keeps others out while it is held.
    ///
    /// # Errors
    /// One line: another has it.
    pub fn lock(&self, which: Lock) -> Result<fs::File, String> {
        lists::lock(&self.dir, which)
    }

    fn about(&self) -> Result<Option<About>, String> {
        about_in(&self.dir)
    }

    /// With the working directories that its baseline was taken of.
    fn save(&self, told: &Told) -> Result<(), String> {
        let places = self.about()?.map_or_else(|| self.places(), |about| about.places);
        self.save_as(told.clone(), places)
    }

    fn save_as(&self, told: Told, places: Places) -> Result<(), String> {
        // The gap has a file of its own.
        let about = About { told: Told { gap: None, ..told }, places };
        let text = serde_json::to_string_pretty(&about).map_err(|error| error.to_string())?;
        write_whole(&self.dir, "about", &text)
    }

    /// The first one stands.
    fn write_gap(&self, service: &str, why: &str) -> Result<(), String> {
        match gap_in(&self.dir)? {
            Some(_) => Ok(()),
            None => write_whole(&self.dir, "gap", &format!("{service}\n{why}\n")),
        }
    }

    /// A baseline that was taken anew before anything was served leaves none of its own.
    fn forget_gap_of(&self, service: &str) -> Result<(), String> {
        match gap_in(&self.dir)? {
            Some((of, _)) if of == service => {
                fs::remove_file(self.dir.join("gap")).map_err(|error| self.cannot("remove", "/gap", &error))
            }
            _ => Ok(()),
        }
    }

    /// Its lists count the working directories that there were.
    fn checked(&self, about: &About) -> Result<(), String> {
        if about.places.dirs != self.shown_dirs() {
            return Err(format!(
                "the working directories are not those of the ledger any more ({}); {BY_HAND}",
                about.places.dirs.join(", ")
            ));
        }
        Ok(())
    }

    /// The file systems that were there when the baseline was taken, and are not mounted now: nothing of them vanished.
    ///
    /// # Errors
    /// One line.
    pub fn unmounted(&self) -> Result<Vec<PathBuf>, String> {
        Ok(self.about()?.map(|about| about.unmounted()).unwrap_or_default())
    }

    fn places(&self) -> Places {
        Places { dirs: self.shown_dirs(), mounts: Vec::new() }
    }

    fn shown_dirs(&self) -> Vec<String> {
        self.subject.dirs.iter().map(|dir| shown(dir.as_os_str().as_bytes())).collect()
    }

    fn cannot(&self, what: &str, end: &str, error: &io::Error) -> String {
        format!("cannot {what} {}{end}: {error}; see to state_dir", self.dir.display())
    }
}

fn about_in(dir: &Path) -> Result<Option<About>, String> {
    /// No ledger tells more of itself.
    const BYTES_MAX: u64 = 1 << 20;
    let file = dir.join("about");
    let text = match read_all(&file, BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", file.display())),
    };
    let mut about: About = serde_json::from_str(&text).map_err(|error| {
        format!("cannot read {}: {error}; `pbx-failover ledger --end --yes` puts it by", file.display())
    })?;
    about.told.gap = gap_in(dir)?.map(|(_, why)| why);
    Ok(Some(about))
}

/// Of which service it is, and why.
fn gap_in(dir: &Path) -> Result<Option<(String, String)>, String> {
    /// Longer is no reason.
    const BYTES_MAX: u64 = 1 << 16;
    let file = dir.join("gap");
    match read_all(&file, BYTES_MAX) {
        Ok(text) => {
            let (service, why) = text.split_once('\n').unwrap_or_default();
            Ok(Some((service.to_owned(), why.lines().collect::<Vec<_>>().join("; "))))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", file.display())),
    }
}

/// What a person can do about what no look can see.
const BY_HAND: &str = "carry home what changed by hand, then `pbx-failover ledger --end --yes`";

fn not_mounted(mount: &Path) -> String {
    let mount = shown(mount.as_os_str().as_bytes());
    format!("{mount} was a file system of its own when this node began to serve, and is not mounted now: mount it")
}

fn paths(shown: &[String]) -> Vec<PathBuf> {
    let path = |shown: &String| unshown(shown).map(|path| PathBuf::from(std::ffi::OsString::from_vec(path)));
    shown.iter().filter_map(path).collect()
}

fn first(service: &str, now: Timestamp) -> Told {
    Told {
        service: service.to_owned(),
        since: now,
        phase: Phase::Serving,
        looked_at: None,
        files: 0,
        bytes: 0,
        classes: Vec::new(),
        removed: 0,
        carried_files: 0,
        carried_bytes: 0,
        kept_twice: 0,
        rate: None,
        trouble: None,
        gap: None,
        ended: false,
    }
}

#[cfg(test)]
mod tests;
