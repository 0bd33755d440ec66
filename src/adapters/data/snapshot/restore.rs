//! Puts a snapshot in place, whole or in part: only what differs, each file whole before the first is renamed.
//!
//! Everything is staged first under names of our own beside its place, read back by its digest; then all is renamed. A
//! note (`state_dir/restore-under-way`) is on disk before, so that a restore that was killed is completed by the next one
//! to look, and a PBX never loads half of it. Configuration that the snapshot does not have is moved aside: an `#include`
//! of a whole directory would load it beside the older rest. Anything else that appeared since stays. The note is
//! `restore_note`'s, the way back `undo`'s.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, Stat};

use super::at::{self, Missing};
use super::copy::{self, Failed, Stop};
use super::held::{Aside, FOLDER, Owner};
use super::listing::Reader;
pub use super::restore_note::{Order, Restored, Stage, UnderWay};
use super::restore_plan;
use super::unsynced::Unsynced;
use super::{Lock, TREE, Vault};
use crate::data::family::PARTS;
use crate::data::snapshot::{Item, Kind, is_asked};
use crate::data::{manifest, shown};
use crate::host::clock;

/// What a snapshot holds of some places.
type Held = HashMap<(usize, Vec<u8>), Item>;

impl Vault {
    /// Puts it in place of what lies in the working directories.
    ///
    /// # Errors
    /// One line. Nothing was changed, or, where it says so, it must be run again.
    pub fn restore(&self, lock: &Lock, order: &Order, stop: &Stop) -> Result<Restored, Failed> {
        self.restore_if(lock, order, stop, &mut || Ok(()))
    }

    /// The same where `may` says so once all is staged and noted, and before the first file is changed.
    ///
    /// # Errors
    /// As [`Self::restore`].
    pub fn restore_if(
        &self,
        lock: &Lock,
        order: &Order,
        stop: &Stop,
        may: &mut dyn FnMut() -> Result<(), Failed>,
    ) -> Result<Restored, Failed> {
        let dir = self.path(&order.id);
        let known = super::listing::known(&dir, &order.id);
        let known = known.map_err(|why| Failed::Trouble(format!("snapshot {} is not used: {why}", order.id)))?;
        if known.head.dirs != self.dirs() {
            return Err(Failed::Trouble(format!(
                "snapshot {} is of other working directories; `--to DIR` puts it elsewhere",
                order.id
            )));
        }
        let cannot = |error: io::Error| self.trouble("the note of a restore could not be written", &error);
        let before = self.half_note().map_err(cannot)?;
        let root = before.as_ref().and_then(|before| before.root(order));
        let undoes = before.as_ref().is_some_and(|before| before.is_undone_by(order));
        let at = Some(clock::now().wall);
        let note = |stage| UnderWay { order: order.clone(), at, stage, before: root.clone(), undoes };
        // Where half of an earlier one lies there, that is so until this one is whole.
        let first = if before.is_some() { Stage::Committing } else { Stage::Staging };
        self.write_note(&note(first)).map_err(cannot)?;
        let puts =
            |plan: &restore_plan::Plan| order.plan.is_some() && known.head.kind == Kind::LastGood && !plan.is_nothing();
        let staged = restore_plan::stage(self, &dir, order, stop).and_then(|(plan, roots)| {
            let kept = self.kept_of(&plan, order);
            let begun = self
                .has_room_aside(&plan, &roots, &kept)
                .and_then(|()| self.write_note(&note(Stage::Committing)).map_err(cannot))
                // Asked behind the note: who begins to serve from here on sees it, and waits.
                .and_then(|()| may())
                .and_then(|()| stop.go_beyond())
                // Before the first file: whoever goes on after a kill finds nothing left to do, and would not note it.
                .and_then(|()| if puts(&plan) { self.note_put(order).map_err(cannot) } else { Ok(()) });
            if begun.is_err() {
                restore_plan::unstage(&plan, &roots);
            }
            begun.map(|()| (plan, roots, kept))
        });
        let (plan, roots, kept) = match staged {
            Ok(staged) => staged,
            Err(failed) => {
                match before {
                    Some(before) => self.note_again(&before).map_err(cannot)?,
                    None => self.forget_note(),
                }
                return Err(failed);
            }
        };
        let mut restored = Restored { same: plan.same, ..Restored::default() };
        let mut aside = Aside::new(self, &order.aside);
        let broke =
            |error| self.trouble("the restore broke off in its midst, and goes on when it is run again", &error);
        commit(&plan, &roots, &kept, &mut aside, &mut restored).map_err(broke)?;
        if before.is_some() {
            // What an earlier try renamed is the same by now, and nobody has waited until it was on disk.
            roots.iter().try_for_each(rustix::fs::syncfs).map_err(|error| broke(error.into()))?;
        }
        match before.filter(|before| !before.is_covered_by(order)) {
            _ if undoes => self.end_undo(order, root.filter(|root| !order.undoes(&root.order)).as_deref())?,
            Some(before) => self.note_again(&before).map_err(cannot)?,
            None => self.forget_note(),
        }
        let _ = lock;
        Ok(restored)
    }

    fn trouble(&self, what: &str, error: &io::Error) -> Failed {
        Failed::Trouble(format!("{what}: {error}; {} and the working directory may say more", self.state_dir.display()))
    }

    /// What the snapshot that was taken before holds of the files that are replaced: where its list is damaged, none, so that
    /// they are moved aside.
    fn kept_of(&self, plan: &restore_plan::Plan, order: &Order) -> Held {
        let wanted = plan.staged.iter().map(|staged| (staged.dir, staged.path.clone())).collect();
        order.kept.as_ref().and_then(|id| self.items(id, &wanted).ok()).unwrap_or_default()
    }

    /// Whether all that will be moved aside fits where it goes. Once files are changed a full disk leaves half of it.
    fn has_room_aside(&self, plan: &restore_plan::Plan, roots: &[OwnedFd], kept: &Held) -> Result<(), Failed> {
        let cannot = |error: io::Error| self.trouble("what would be moved aside could not be looked at", &error);
        let goes = rustix::fs::stat(self.state_dir()).map_err(|error| cannot(error.into()))?.st_dev;
        let mut bytes = 0_u64;
        let mut add = |now: Option<Stat>| {
            let moved = now.filter(|now| now.st_dev != goes).map(|now| u64::try_from(now.st_size).unwrap_or_default());
            bytes = bytes.saturating_add(moved.unwrap_or_default());
        };
        for staged in &plan.staged {
            let (parent, name) = at::parent(&roots[staged.dir], &staged.path, Missing::Refuse).map_err(cannot)?;
            let now = at::stat(&parent, name).map_err(cannot)?;
            let item = kept.get(&(staged.dir, staged.path.clone()));
            add(now.filter(|now| now.st_dev != goes && !is_held(item, now, &parent, name)));
            for end in PARTS {
                let mut beside = name.to_owned();
                beside.push(end);
                add(at::stat(&parent, &beside).map_err(cannot)?);
            }
        }
        for (dir, path) in &plan.appeared {
            let (parent, name) = at::parent(&roots[*dir], path, Missing::Refuse).map_err(cannot)?;
            add(at::stat(&parent, name).map_err(cannot)?);
        }
        if bytes == 0 { Ok(()) } else { self.has_room(&self.state_dir().join(FOLDER), bytes) }
    }

    /// Completes what was broken off, for this takeover or for a person. Of what is over (another takeover began it, or a
    /// person a while ago) the half stays noted, since nobody knows whether the sync has brought all of it since.
    ///
    /// # Errors
    /// One line.
    pub fn complete(&self, lock: &Lock, plan: Option<&str>, stop: &Stop) -> Result<Option<String>, Failed> {
        let Some(note) = self.under_way().map_err(Failed::Trouble)? else { return Ok(None) };
        let (order, who) = (&note.order, note.who());
        if note.stage == Stage::Staging {
            restore_plan::clear(self);
            self.forget_note();
            let why = "nothing had been changed by it";
            return Ok(Some(format!("a restore of {} that {who} broke off is not completed: {why}", order.id)));
        }
        if note.is_over(plan) {
            let why = "it is over, and half of it may lie there still";
            return Ok(Some(format!("a restore of {} that {who} broke off is not completed: {why}", order.id)));
        }
        if let Some(put) = note.gives_back() {
            let back = self.go_back(lock, put, stop)?;
            return Ok(Some(format!(
                "what a takeover had put in place is as it was, which had been broken off: {back}"
            )));
        }
        let restored = self.restore(lock, order, stop)?;
        Ok(Some(format!("a restore that was broken off is complete: {}", restored.told(&order.id, &order.aside))))
    }

    /// How many files and links a restore of these paths (of all, where none is given) is about.
    ///
    /// # Errors
    /// One line: there is no such snapshot, or it holds nothing at one of the paths.
    pub fn count(&self, id: &str, only: &[Vec<u8>]) -> Result<u64, Failed> {
        let mut reader = self.reader(id)?;
        let (mut files, mut is_met) = (0, vec![false; only.len()]);
        while let Some(item) = reader.next().map_err(Failed::Trouble)? {
            let path = &item.line.path;
            let met = only.iter().zip(&mut is_met).filter(|(asked, _)| is_asked(path, std::slice::from_ref(*asked)));
            met.for_each(|(_, is_met)| *is_met = true);
            let is_file = item.line.about.kind != manifest::Kind::Directory && item.is_held();
            files += u64::from(is_file && is_asked(path, only));
        }
        match only.iter().zip(is_met).find(|(_, is_met)| !is_met) {
            Some((nowhere, _)) => Err(Failed::Trouble(format!(
                "snapshot {id} holds nothing at {}; write paths as they are below the working directory",
                shown(nowhere)
            ))),
            None => Ok(files),
        }
    }

    fn reader(&self, id: &str) -> Result<Reader, Failed> {
        let dir = self.there(id)?;
        Reader::open(&dir).map_err(|why| Failed::Trouble(format!("snapshot {id} is not used: {why}")))
    }

    /// Puts a copy of it into a directory of its own, which must be empty and none that is copied or kept.
    ///
    /// # Errors
    /// One line; what was copied until then lies there.
    pub fn restore_to(&self, id: &str, only: &[Vec<u8>], to: &Path, stop: &Stop) -> Result<Restored, Failed> {
        let dir = self.path(id);
        let plain = |what: &Path| {
            let what = what.display().to_string();
            move |error: io::Error| Failed::Trouble(format!("{what}: {error}"))
        };
        let known = super::listing::known(&dir, id);
        let known = known.map_err(|why| Failed::Trouble(format!("snapshot {id} is not used: {why}")))?;
        let whole = std::path::absolute(to).map_err(plain(to))?;
        // Of what is not there yet, by where it would be made.
        let real = whole.ancestors().find_map(|dir| dir.canonicalize().ok()).unwrap_or(whole.clone());
        let ours = self.subject.dirs.iter().map(PathBuf::as_path).chain([self.state_dir()]);
        if let Some(dir) = ours.filter_map(|dir| dir.canonicalize().ok()).find(|dir| real.starts_with(dir)) {
            return Err(Failed::Trouble(format!(
                "{} lies in {}; name a directory elsewhere",
                to.display(),
                dir.display()
            )));
        }
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
        let (mut restored, mut unsynced) = (Restored::default(), Unsynced::default());
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
            let owner = Owner::IfPossible;
            restore_plan::put(&dir.join(TREE), &item, &parent, (name, owner), (&mut unsynced, stop))?;
            restored.put.add(shown(&item.line.path));
        }
        unsynced.sync().map_err(plain(to))?;
        if restored.put.is_empty() && !only.is_empty() {
            return Err(restore_plan::none_of(id));
        }
        Ok(restored)
    }
}

/// Renames all that was staged, and moves aside what must not stay.
fn commit(
    plan: &restore_plan::Plan,
    roots: &[OwnedFd],
    kept: &Held,
    aside: &mut Aside<'_>,
    restored: &mut Restored,
) -> io::Result<()> {
    // What has begun to change files cannot be called off.
    let (stop, mut unsynced) = (Stop::default(), Unsynced::default());
    for staged in &plan.staged {
        let (parent, name) = at::parent(&roots[staged.dir], &staged.path, Missing::Refuse)?;
        let now = at::stat(&parent, name)?;
        if now.is_some_and(|now| !is_held(kept.get(&(staged.dir, staged.path.clone())), &now, &parent, name)) {
            aside.take(staged.dir, &staged.path, &parent, name, &stop)?;
            restored.aside.add(shown(&staged.path));
        }
        for end in PARTS {
            // A log of what was there would be applied to what is put there.
            let (path, mut beside) = ([staged.path.as_slice(), end.as_bytes()].concat(), name.to_owned());
            beside.push(end);
            if at::stat(&parent, &beside)?.is_some() {
                aside.take(staged.dir, &path, &parent, &beside, &stop)?;
                restored.aside.add(shown(&path));
            }
        }
        rustix::fs::renameat(&parent, &staged.temporary, &parent, name)?;
        unsynced.add(&parent)?;
        restored.put.add(shown(&staged.path));
    }
    for (dir, path) in &plan.appeared {
        let (parent, name) = at::parent(&roots[*dir], path, Missing::Refuse)?;
        if at::stat(&parent, name)?.is_some() {
            aside.take(*dir, path, &parent, name, &stop)?;
            unsynced.add(&parent)?;
            restored.aside.add(shown(path));
        }
    }
    // Whoever is killed before it finds the note, and what was renamed as it is to be: the next one waits for all of it.
    unsynced.sync()
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

/// Makes a directory as the list has it, if there is none.
pub fn make_directory(parent: impl std::os::fd::AsFd, name: &OsStr, mode: u32) -> io::Result<bool> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode)) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
