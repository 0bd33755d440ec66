//! The two walks of a ledger: one takes a baseline, one compares it with what is there now.
//!
//! What is written with what they find, and when, is [`super`]'s.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::lists::{Baseline, Entries, List};
use crate::adapters::data::look::{Subject, is_passed_over};
use crate::adapters::data::walk::{Descend, Entry as Walked, Visitor};
use crate::data::content::READ_MAX;
use crate::data::ledger::{Change, Entry, Known, is_kept};
use crate::data::survey::Count;
use crate::data::{Class, Line};
use crate::host::here;
use crate::units::data::ClassCount;
use crate::units::ledger::Ledger as Told;

/// Configuration is digested up to so much altogether: phones wait for the baseline.
const DIGESTED_MAX: u64 = 64 << 20;

/// So many directories that cannot be read are remembered; with more, nothing counts as removed.
const HIDDEN_MAX: usize = 1000;

/// What a baseline that nobody waits for any more says.
const NOT_WANTED: &str = "it was not done in time";

/// Whether a baseline is wanted still: one that ends late would take the first voicemails for what both hosts have.
#[derive(Debug, Clone, Default)]
pub struct Wanted(Arc<AtomicU8>);

impl Wanted {
    const YES: u8 = 0;
    const WRITTEN_DOWN: u8 = 1;
    const NO: u8 = 2;

    /// Not any more; where it is being written down at this moment, that stands.
    pub fn withdraw(&self) {
        let _ = self.0.compare_exchange(Self::YES, Self::NO, Ordering::SeqCst, Ordering::SeqCst);
    }

    fn stands(&self) -> bool {
        self.0.load(Ordering::SeqCst) != Self::NO
    }

    /// From here on it is not withdrawn any more.
    pub(super) fn settle(&self) -> Result<(), String> {
        let settled = self.0.compare_exchange(Self::YES, Self::WRITTEN_DOWN, Ordering::SeqCst, Ordering::SeqCst);
        settled.map(drop).map_err(|_| NOT_WANTED.to_owned())
    }
}

/// Whether two sightings of a file are of one content.
pub fn is_same(one: &Line, other: &Line) -> bool {
    (one.about.size, one.about.modified) == (other.about.size, other.about.modified)
}

/// What waits, counted.
#[derive(Debug, Default)]
pub struct Totals {
    classes: BTreeMap<Class, Count>,
    removed: u64,
}

impl Totals {
    pub fn count(&mut self, entry: &Entry) {
        if !entry.waits() {
            self.removed += 1;
            return;
        }
        let count = self.classes.entry(entry.class).or_default();
        count.files += 1;
        count.bytes = count.bytes.saturating_add(entry.now.line.about.size);
    }

    pub fn files(&self) -> u64 {
        self.classes.values().map(|count| count.files).sum()
    }

    pub fn tell(&self, told: &mut Told) {
        told.files = self.files();
        told.bytes = self.classes.values().fold(0, |sum, count| sum.saturating_add(count.bytes));
        told.removed = self.removed;
        let class = |(class, count): (&Class, &Count)| ClassCount {
            name: class.name().to_owned(),
            files: count.files,
            bytes: count.bytes,
        };
        told.classes = self.classes.iter().map(class).collect();
    }
}

/// Takes a baseline while a walk goes on.
pub struct Taking<'a> {
    pub subject: &'a Subject,
    pub list: List,
    /// What an earlier service left.
    pub left: Option<std::iter::Peekable<Entries>>,
    pub digested: u64,
    pub inherited: Totals,
    pub wanted: &'a Wanted,
    /// Where another file system begins.
    pub mounts: Vec<PathBuf>,
    pub failed: Option<String>,
}

impl Taking<'_> {
    fn take(&mut self, walked: &Walked<'_>) -> Result<(), String> {
        let mut known = known(walked);
        if self.subject.classes.of(walked.path) == Class::Config
            && known.line.about.size <= READ_MAX
            && self.digested < DIGESTED_MAX
        {
            self.digested += known.line.about.size;
            known.line.digest = digest(walked);
        }
        if let Some(left) = &mut self.left {
            let is_before =
                |entry: &Result<Entry, String>| entry.as_ref().is_ok_and(|e| e.now.line.order(&known.line).is_lt());
            while left.next_if(is_before).is_some() {}
            let is_here =
                |entry: &Result<Entry, String>| entry.as_ref().is_ok_and(|e| e.now.line.order(&known.line).is_eq());
            if let Some(entry) = left.next_if(is_here) {
                let entry = entry?;
                if entry.waits() && is_same(&entry.now.line, &known.line) {
                    self.inherited.count(&entry);
                    return match entry.change {
                        Change::Changed(was) => self.list.add(&was.write()),
                        Change::Added | Change::Removed => Ok(()),
                    };
                }
            }
        }
        self.list.add(&known.write())
    }
}

impl Visitor for Taking<'_> {
    fn file(&mut self, walked: &Walked<'_>) -> ControlFlow<()> {
        if !is_kept(walked.about.kind) || is_passed_over(walked, &self.subject.ignore) {
            return ControlFlow::Continue(());
        }
        if !self.wanted.stands() {
            self.failed = Some(NOT_WANTED.to_owned());
            return ControlFlow::Break(());
        }
        match self.take(walked) {
            Ok(()) => ControlFlow::Continue(()),
            Err(why) => {
                self.failed = Some(why);
                ControlFlow::Break(())
            }
        }
    }

    fn directory(&mut self, walked: &Walked<'_>) -> Descend {
        if is_passed_over(walked, &self.subject.ignore) {
            return Descend::Past;
        }
        if walked.begins_a_file_system() {
            self.mounts.push(self.subject.dirs[walked.dir].join(OsStr::from_bytes(walked.path)));
        }
        Descend::Into
    }

    /// What cannot be looked at now counts as added once it can: it goes home, where it is seen to be the same.
    fn trouble(&mut self, _dir: usize, _path: &[u8], _why: &str) {}
}

/// Compares a baseline with a walk that goes on.
pub struct Comparing<'a> {
    pub subject: &'a Subject,
    pub baseline: std::iter::Peekable<Baseline>,
    pub list: List,
    pub totals: Totals,
    /// What could not be looked through: nothing of it counts as removed.
    pub hidden: Vec<(usize, Vec<u8>)>,
    pub failed: Option<String>,
}

impl Comparing<'_> {
    fn compare(&mut self, walked: &Walked<'_>) -> Result<(), String> {
        let now = known(walked);
        self.gone_before(Some(&now.line));
        let was = self.baseline.next_if(|known| known.as_ref().is_ok_and(|known| known.line.order(&now.line).is_eq()));
        let change = match was {
            None if self.failed.is_some() => return Ok(()),
            None => Change::Added,
            Some(was) => {
                let was = was?;
                if !was.differs(walked.about, walked.changed, || digest(walked)) {
                    return Ok(());
                }
                Change::Changed(was)
            }
        };
        self.add(&Entry { change, class: self.subject.classes.of(walked.path), now })
    }

    fn add(&mut self, entry: &Entry) -> Result<(), String> {
        self.totals.count(entry);
        self.list.add(&entry.write())
    }

    /// What the baseline names before this line, or at all, is gone.
    pub fn gone_before(&mut self, line: Option<&Line>) {
        let is_before = |known: &Result<Known, String>| match (known, line) {
            (Ok(known), Some(line)) => known.line.order(line).is_lt(),
            // A damaged baseline ends the comparison.
            _ => true,
        };
        while self.failed.is_none()
            && let Some(known) = self.baseline.next_if(is_before)
        {
            let done = known.and_then(|known| {
                if self.is_hidden(&known.line) {
                    return Ok(());
                }
                let class = self.subject.classes.of(&known.line.path);
                self.add(&Entry { change: Change::Removed, class, now: known })
            });
            self.failed = done.err();
        }
    }

    fn is_hidden(&self, line: &Line) -> bool {
        let below = |path: &[u8]| {
            path.is_empty() || line.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        self.hidden.len() >= HIDDEN_MAX || self.hidden.iter().any(|(dir, path)| *dir == line.dir && below(path))
    }
}

impl Visitor for Comparing<'_> {
    fn file(&mut self, walked: &Walked<'_>) -> ControlFlow<()> {
        if !is_kept(walked.about.kind) || is_passed_over(walked, &self.subject.ignore) {
            return ControlFlow::Continue(());
        }
        if let Err(why) = self.compare(walked) {
            self.failed = Some(why);
        }
        if self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn directory(&mut self, walked: &Walked<'_>) -> Descend {
        if is_passed_over(walked, &self.subject.ignore) { Descend::Past } else { Descend::Into }
    }

    fn trouble(&mut self, dir: usize, path: &[u8], _why: &str) {
        if self.hidden.len() < HIDDEN_MAX {
            self.hidden.push((dir, path.to_vec()));
        }
    }
}

fn known(walked: &Walked<'_>) -> Known {
    let line = Line { dir: walked.dir, path: walked.path.to_vec(), about: walked.about, digest: None };
    Known { line, changed: walked.changed }
}

/// blake3 of a file of configuration; `None` where it cannot be read, or is too large to be one.
fn digest(walked: &Walked<'_>) -> Option<String> {
    digest_of(walked.open().ok()?)
}

fn digest_of(file: File) -> Option<String> {
    let mut content = Vec::new();
    file.take(READ_MAX + 1).read_to_end(&mut content).ok()?;
    (content.len() as u64 <= READ_MAX).then(|| blake3::hash(&content).to_hex().to_string())
}

/// What stands in a baseline of an entry that is at home now: configuration with its digest, if it is the same still.
pub fn at_home(subject: &Subject, entry: &Entry) -> Known {
    let mut known = entry.now.clone();
    let line = &known.line;
    if entry.class == Class::Config
        && line.about.size <= READ_MAX
        && let Some(root) = subject.dirs.get(line.dir)
        && let Ok(Some(file)) = here::open(root, &line.path)
        && let Some(digest) = digest_of(file)
        && let Ok(Some(after)) = here::seen(root, &line.path)
        && (after.size, after.modified) == (line.about.size, line.about.modified)
    {
        (known.line.digest, known.changed) = (Some(digest), after.changed);
    }
    known
}
