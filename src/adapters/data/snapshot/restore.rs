//! Puts a snapshot in place, whole or in part: only what differs, each file whole before the first is renamed.
//!
//! Everything is staged first under names of our own beside its place, read back by its digest; then all is renamed. A
//! note (`state_dir/restore-under-way`) is on disk before, so that a restore that was killed is completed by the next one
//! to look, and a PBX never loads half of it. Configuration that the snapshot does not have is moved aside: an `#include`
//! of a whole directory would load it beside the older rest. Anything else that appeared since stays.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::{FileType, Mode, Stat};
use serde::{Deserialize, Serialize};

use super::at::{self, Missing};
use super::copy::{self, Failed, Stop};
use super::held::{Aside, Owner, first};
use super::listing::Reader;
use super::restore_plan;
use super::{Lock, TREE, Vault, database, sync_dir};
use crate::data::path::unshown;
use crate::data::snapshot::{Item, is_asked};
use crate::data::survey::Few;
use crate::data::{manifest, shown};
use crate::host::clock;
use crate::host::file::write_whole;

/// The note, in the state directory.
const NOTE: &str = "restore-under-way";
/// A longer one is none of ours.
const NOTE_MAX: u64 = 1024 * 1024;
/// What a person began longer ago is not completed: the sync has brought newer data since.
const PERSON_MAX: Duration = Duration::from_secs(15 * 60);

/// A snapshot that is put in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its name.
    pub id: String,
    /// These paths and what lies below; none: all. As [`shown`] writes them.
    pub only: Vec<String>,
    /// The folder below `held-back` for what is moved aside.
    pub aside: String,
    /// The snapshot that was taken of what is replaced; what it does not hold is moved aside. None: all of it is.
    #[serde(default)]
    pub kept: Option<String>,
    /// The takeover that wants it; none: a person.
    pub plan: Option<String>,
}

/// A restore that was broken off, as its note has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    /// What was to be done.
    #[serde(flatten)]
    pub order: Order,
    /// When it was begun; one without was written by an earlier version.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// How far it came.
    #[serde(default)]
    pub stage: Stage,
}

/// How far a restore came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Only files with names of our own were written.
    Staging,
    /// Files are being put in place: what lies there is half of it.
    #[default]
    Committing,
}

/// What was put in place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// Files and links that differed, or were gone.
    pub put: Few<String>,
    /// Those that were the same.
    pub same: u64,
    /// What was moved aside.
    pub aside: Few<String>,
}

impl Restored {
    /// In one line; `held`: the folder for what was moved aside.
    pub fn told(&self, id: &str, held: &str) -> String {
        let put = if self.put.is_empty() { String::new() } else { format!(" ({})", first(&self.put)) };
        let aside = if self.aside.is_empty() {
            String::new()
        } else {
            format!(", {} moved aside to held-back/{held} ({})", self.aside.all, first(&self.aside))
        };
        format!("{id}: {} files put in place{put}, {} were the same{aside}", self.put.all, self.same)
    }
}

impl Vault {
    /// Puts it in place of what lies in the working directories.
    ///
    /// # Errors
    /// One line. Nothing was changed, or, where it says so, it must be run again.
    pub fn restore(&self, lock: &Lock, order: &Order, stop: &Stop) -> Result<Restored, Failed> {
        let dir = self.path(&order.id);
        let known = super::listing::known(&dir, &order.id);
        let known = known.map_err(|why| Failed::Trouble(format!("snapshot {} is not used: {why}", order.id)))?;
        if known.head.dirs != self.dirs() {
            return Err(Failed::Trouble(format!(
                "snapshot {} is of other working directories; `--to DIR` puts it elsewhere",
                order.id
            )));
        }
        let before = self.under_way().filter(|note| note.stage == Stage::Committing);
        let note = |stage| UnderWay { order: order.clone(), at: Some(clock::now().wall), stage };
        let cannot = |error: io::Error| self.trouble("the note of a restore could not be written", &error);
        // Where half of an earlier one lies there, that is so until this one is whole.
        let first = if before.is_some() { Stage::Committing } else { Stage::Staging };
        self.write_note(&note(first)).map_err(cannot)?;
        let staged = restore_plan::stage(self, &dir, &asked(order), stop).and_then(|(plan, roots)| {
            let begun = stop.go_beyond().and_then(|()| self.write_note(&note(Stage::Committing)).map_err(cannot));
            if begun.is_err() {
                restore_plan::unstage(&plan, &roots);
            }
            begun.map(|()| (plan, roots))
        });
        let (plan, roots) = match staged {
            Ok(staged) => staged,
            Err(failed) => {
                match before {
                    Some(before) => self.write_note(&before).map_err(cannot)?,
                    None => self.forget_note(),
                }
                return Err(failed);
            }
        };
        let mut restored = Restored { same: plan.same, ..Restored::default() };
        let mut aside = Aside::new(self, &order.aside);
        self.commit(&plan, &roots, order, &mut aside, &mut restored).map_err(|error| {
            self.trouble("the restore broke off in its midst, and goes on when it is run again", &error)
        })?;
        self.forget_note();
        let _ = lock;
        Ok(restored)
    }

    fn trouble(&self, what: &str, error: &io::Error) -> Failed {
        Failed::Trouble(format!("{what}: {error}; {} and the working directory may say more", self.state_dir.display()))
    }

    fn commit(
        &self,
        plan: &restore_plan::Plan,
        roots: &[OwnedFd],
        order: &Order,
        aside: &mut Aside<'_>,
        restored: &mut Restored,
    ) -> io::Result<()> {
        let kept = self.kept_of(plan, order);
        for staged in &plan.staged {
            let (parent, name) = at::parent(&roots[staged.dir], &staged.path, Missing::Refuse)?;
            let now = at::stat(&parent, name)?;
            if now.is_some_and(|now| !is_held(kept.get(&(staged.dir, staged.path.clone())), &now, &parent, name)) {
                aside.take(staged.dir, &staged.path, &parent, name)?;
                restored.aside.add(shown(&staged.path));
            }
            for end in database::BESIDE {
                // A log of what was there would be applied to what is put there.
                let (path, mut beside) = ([staged.path.as_slice(), end.as_bytes()].concat(), name.to_owned());
                beside.push(end);
                if at::stat(&parent, &beside)?.is_some() {
                    aside.take(staged.dir, &path, &parent, &beside)?;
                    restored.aside.add(shown(&path));
                }
            }
            rustix::fs::renameat(&parent, &staged.temporary, &parent, name)?;
            rustix::fs::fsync(&parent)?;
            restored.put.add(shown(&staged.path));
        }
        for (dir, path) in &plan.appeared {
            let (parent, name) = at::parent(&roots[*dir], path, Missing::Refuse)?;
            if at::stat(&parent, name)?.is_some() {
                aside.take(*dir, path, &parent, name)?;
                rustix::fs::fsync(&parent)?;
                restored.aside.add(shown(path));
            }
        }
        Ok(())
    }

    /// What the snapshot that was taken before holds of the files that are replaced.
    fn kept_of(&self, plan: &restore_plan::Plan, order: &Order) -> HashMap<(usize, Vec<u8>), Item> {
        let wanted: HashSet<_> = plan.staged.iter().map(|staged| (staged.dir, staged.path.as_slice())).collect();
        let mut kept = HashMap::new();
        let list = order.kept.as_ref().and_then(|id| Reader::open(&self.path(id)).ok());
        if let Some(mut list) = list {
            // What a damaged list does not name is not held.
            while let Ok(Some(item)) = list.next() {
                if item.is_held() && wanted.contains(&(item.line.dir, item.line.path.as_slice())) {
                    kept.insert((item.line.dir, item.line.path.clone()), item);
                }
            }
        }
        kept
    }

    fn note_file(&self) -> PathBuf {
        self.state_dir.join(NOTE)
    }

    fn write_note(&self, note: &UnderWay) -> io::Result<()> {
        let text = serde_json::to_string(note).map_err(io::Error::other)?;
        write_whole(&self.note_file(), text.as_bytes())
    }

    fn forget_note(&self) {
        let forgotten = fs::remove_file(self.note_file()).and_then(|()| sync_dir(&self.state_dir));
        if let Err(error) = forgotten {
            tracing::warn!(%error, "the note of a restore that has ended could not be removed");
        }
    }

    /// The restore that was broken off in its midst, if one was.
    pub fn under_way(&self) -> Option<UnderWay> {
        use std::io::Read as _;
        let mut text = String::new();
        File::open(self.note_file()).ok()?.take(NOTE_MAX).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Why what lies in the working directory may be half of a snapshot, now or in a moment.
    pub fn half_done(&self) -> Option<String> {
        if let Some(process) = self.person_restores() {
            return Some(format!("a person's `snapshots restore` is at work (process {process}), and is waited for"));
        }
        let half = self.under_way().filter(|note| note.stage == Stage::Committing)?;
        Some(format!("a restore of {} is half done", half.order.id))
    }

    /// Completes what was broken off, for this takeover or for a person. What another takeover began is over: the primary
    /// has served since, and the sync has brought its data. So it is with what a person began a while ago.
    ///
    /// # Errors
    /// One line.
    pub fn complete(&self, lock: &Lock, plan: Option<&str>, stop: &Stop) -> Result<Option<String>, Failed> {
        let Some(UnderWay { order, at, stage }) = self.under_way() else { return Ok(None) };
        let age = at.map(|at| clock::now().wall.duration_since(at).unsigned_abs());
        let is_over = match &order.plan {
            Some(of) => plan != Some(of),
            None => age.is_none_or(|age| age > PERSON_MAX),
        };
        if is_over || stage == Stage::Staging {
            restore_plan::clear(self);
            self.forget_note();
            let who = if order.plan.is_some() { "a takeover" } else { "a person" };
            let why = match stage {
                Stage::Staging => "nothing had been changed by it",
                Stage::Committing => "the sync has brought data since",
            };
            return Ok(Some(format!("a restore of {} that {who} broke off is not completed: {why}", order.id)));
        }
        let restored = self.restore(lock, &order, stop)?;
        Ok(Some(format!("a restore that was broken off is complete: {}", restored.told(&order.id, &order.aside))))
    }

    /// Puts back what was there before the restore that is half done; `None`: no snapshot holds it.
    ///
    /// # Errors
    /// One line: it is still half done.
    pub fn undo(&self, lock: &Lock, stop: &Stop) -> Result<Option<String>, Failed> {
        let Some(UnderWay { order, .. }) = self.under_way() else { return Ok(None) };
        let Some(id) = order.kept.clone().filter(|kept| *kept != order.id) else { return Ok(None) };
        let undo = Order { id, kept: Some(order.id.clone()), ..order };
        let restored = self.restore(lock, &undo, stop)?;
        Ok(Some(restored.told(&undo.id, &undo.aside)))
    }

    /// Puts a copy of it into a directory of its own, which must be empty.
    ///
    /// # Errors
    /// One line.
    pub fn restore_to(&self, id: &str, only: &[Vec<u8>], to: &Path, stop: &Stop) -> Result<Restored, Failed> {
        let dir = self.path(id);
        let plain = |what: &Path| {
            let what = what.display().to_string();
            move |error: io::Error| Failed::Trouble(format!("{what}: {error}"))
        };
        let known = super::listing::known(&dir, id);
        let known = known.map_err(|why| Failed::Trouble(format!("snapshot {id} is not used: {why}")))?;
        fs::create_dir_all(to).map_err(plain(to))?;
        if fs::read_dir(to).map_err(plain(to))?.next().is_some() {
            return Err(Failed::Trouble(format!(
                "{} is not empty: name one that is, or that is not there yet",
                to.display()
            )));
        }
        let several = known.head.dirs.len() > 1;
        let mut roots = Vec::new();
        for n in 0..known.head.dirs.len() {
            let root = if several { to.join(n.to_string()) } else { to.to_owned() };
            fs::create_dir_all(&root).map_err(plain(&root))?;
            roots.push(at::root(&root).map_err(plain(&root))?);
        }
        let mut reader = Reader::open(&dir).map_err(Failed::Trouble)?;
        let mut restored = Restored::default();
        while let Some(item) = reader.next().map_err(Failed::Trouble)? {
            let root = roots.get(item.line.dir).ok_or_else(|| Failed::Trouble("its list is damaged".to_owned()))?;
            let is_dir = item.line.about.kind == manifest::Kind::Directory;
            if is_dir && only.is_empty() {
                restore_plan::directory(root.as_fd(), &item).map_err(plain(to))?;
            }
            if is_dir || !item.is_held() || !is_asked(&item.line.path, only) {
                continue;
            }
            let (parent, name) = at::parent(root, &item.line.path, Missing::Make).map_err(plain(to))?;
            restore_plan::put(&dir.join(TREE), &item, &parent, (name, Owner::IfPossible), stop)?;
            restored.put.add(shown(&item.line.path));
        }
        if restored.put.is_empty() && !only.is_empty() {
            return Err(restore_plan::none_of(id));
        }
        Ok(restored)
    }
}

/// Whether the snapshot that was taken before holds what lies there now.
fn is_held(item: Option<&Item>, now: &Stat, parent: &OwnedFd, name: &OsStr) -> bool {
    if !matches!(FileType::from_raw_mode(now.st_mode), FileType::RegularFile | FileType::Symlink) {
        // Of a pipe or a socket there is nothing to hold.
        return true;
    }
    let Some(item) = item else { return false };
    let (ino, _, _, changed) = copy::stamp(now);
    let is_same_moment = (ino, changed) == (item.stamp.0, (item.stamp.1.0, i64::from(item.stamp.1.1)));
    is_same_moment || restore_plan::is_same(item, now, parent.as_fd(), name, &Stop::default()).unwrap_or(false)
}

fn asked(order: &Order) -> Vec<Vec<u8>> {
    order.only.iter().filter_map(|path| unshown(path)).collect()
}

/// Makes a directory as the list has it, if there is none.
pub fn make_directory(parent: impl std::os::fd::AsFd, name: &OsStr, mode: u32) -> io::Result<bool> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode)) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
