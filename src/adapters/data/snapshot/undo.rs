//! Puts back what was there before a restore: one that is half done and cannot be completed, and, before the sync is started
//! again, what a takeover has put in place of newer files that the primary still has.
//!
//! What was replaced is in the snapshot that was taken before, or lies aside in `held-back`. Neither is ever put over what
//! was changed since.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use super::at::{self, Missing};
use super::copy::{Failed, Stop};
use super::held::{FOLDER, carry, carry_over, trees};
use super::listing::Reader;
use super::restore_note::{Order, Stage, UnderWay};
use super::restore_plan::{self, Places};
use super::{Lock, Vault, database};
use crate::adapters::data::walk::{Entry, Visitor, walk};
use crate::data::shown;
use crate::data::snapshot::Item;

/// More than one restore moves aside.
const ASIDE_MAX: usize = 200_000;

impl Vault {
    /// Puts back what was there before the restore that is half done; `None`: nothing holds it.
    ///
    /// # Errors
    /// One line: it is still half done.
    pub fn undo(&self, lock: &Lock, stop: &Stop) -> Result<Option<String>, Failed> {
        let Some(note) = self.under_way().map_err(Failed::Trouble)? else { return Ok(None) };
        let (order, half) = (note.order, note.before);
        let kept = order.kept.clone().filter(|kept| *kept != order.id);
        let has_aside = self.state_dir().join(FOLDER).join(&order.aside).is_dir();
        if kept.is_none() && !has_aside {
            return Ok(None);
        }
        let back = self.put_back_replaced(&order, stop)?;
        if self.put_in_place().is_ok_and(|put| put.is_some_and(|put| put.plan == order.plan)) {
            self.forget_put();
        }
        let Some(id) = kept else {
            restore_plan::clear(self);
            self.end_undo(half.as_deref())?;
            return Ok(Some(format!("{back} files put back from held-back/{}", order.aside)));
        };
        let undo = Order { id, kept: Some(order.id.clone()), ..order };
        let restored = self.restore(lock, &undo, stop)?;
        self.end_undo(half.as_deref())?;
        let back = if back == 0 { String::new() } else { format!(", {back} from held-back") };
        Ok(Some(format!("{}{back}", restored.told(&undo.id, &undo.aside))))
    }

    /// What lay there before may have been half of yet another restore.
    fn end_undo(&self, half: Option<&UnderWay>) -> Result<(), Failed> {
        if let Some(half) = half {
            return self.write_note(half).map_err(|error| Failed::Trouble(format!("{}: {error}", half.order.id)));
        }
        self.forget_note();
        Ok(())
    }

    /// Before the sync is started again: what a takeover has put in place, and nobody has changed since, is as it was before,
    /// or a sync that goes both ways would carry the older files home. `None`: there is nothing.
    ///
    /// # Errors
    /// One line: the sync must not be started.
    pub fn give_back(&self, lock: &Lock, stop: &Stop) -> Result<Option<String>, Failed> {
        let mut said = Vec::new();
        if let Some(note) = self.under_way().map_err(Failed::Trouble)?.filter(|note| note.stage == Stage::Committing) {
            let id = &note.order.id;
            let done = match &note.order {
                Order { plan: None, .. } => None,
                Order { unless_changed: Some(_), .. } => {
                    Some(self.restore(lock, &note.order, stop)?.told(id, &note.order.aside))
                }
                Order { .. } => self.undo(lock, stop)?,
            };
            let half = || Failed::Trouble(format!("a restore of {id} that {} broke off is half done", note.who()));
            said.push(done.ok_or_else(half)?);
        }
        if let Some(put) = self.put_in_place().map_err(Failed::Trouble)? {
            let back = self.put_back_replaced(&put, stop)?;
            let mut told = format!("{back} files from held-back");
            if let Some(kept) = put.kept.clone().filter(|kept| self.path(kept).is_dir()) {
                let aside = put.aside.replace(".replaced", ".given-back");
                let since = Some(put.id.clone());
                let order = Order { id: kept, kept: since.clone(), unless_changed: since, aside, ..put };
                told = format!("{told}, {}", self.restore(lock, &order, stop)?.told(&order.id, &order.aside));
            }
            self.forget_put();
            said.push(told);
        }
        Ok((!said.is_empty()).then(|| format!("what the takeover had put in place is as it was: {}", said.join("; "))))
    }

    /// Puts what this restore moved aside back in its place, where what it put there lies unchanged, or nothing.
    fn put_back_replaced(&self, order: &Order, stop: &Stop) -> Result<u64, Failed> {
        let folder = self.state_dir().join(FOLDER).join(&order.aside);
        if !folder.is_dir() {
            return Ok(0);
        }
        let tops = trees(&folder);
        let mut aside = Aside::default();
        walk(&tops, &mut aside);
        if aside.0.len() >= ASIDE_MAX {
            return Err(Failed::Trouble(format!("{}: too many files lie there", folder.display())));
        }
        let wanted: HashSet<_> = aside.0.iter().cloned().collect();
        let put = self.items(&order.id, &wanted);
        let is_log = |path: &[u8]| database::BESIDE.iter().any(|end| path.ends_with(end.as_bytes()));
        // A log goes before its database: whoever is killed between the two begins with the database.
        aside.0.sort_by_key(|(_, path)| !is_log(path));
        let mut back = 0;
        for (dir, path) in &aside.0 {
            if stop.is_called_off() {
                return Err(Failed::CalledOff);
            }
            let at_it = |error: io::Error| Failed::Trouble(format!("{} could not be put back: {error}", shown(path)));
            let Some(working) = self.subject().dirs.get(*dir) else { continue };
            let (from, name) =
                at::parent(at::root(&tops[*dir]).map_err(at_it)?, path, Missing::Refuse).map_err(at_it)?;
            let place = at::root(working).and_then(|root| at::parent(root, path, Missing::Refuse));
            // Its directory is gone: nothing reads it there.
            let Ok((into, _)) = place else { continue };
            let main = database::BESIDE.iter().find_map(|end| path.strip_suffix(end.as_bytes()));
            if let Some(main) = main.filter(|_| is_log(path)) {
                // Beside another database than its own a log would be applied to that.
                let key = (*dir, main.to_vec());
                let main_name = main.rsplit(|byte| *byte == b'/').next().unwrap_or(main);
                if !wanted.contains(&key) || !lies_as_put(put.get(&key), &into, OsStr::from_bytes(main_name)) {
                    continue;
                }
            }
            let moved = match at::stat(&into, name).map_err(at_it)? {
                None => carry(from.as_fd(), name, into.as_fd(), name, stop).map(|()| 1),
                Some(_) if lies_as_put(put.get(&(*dir, path.clone())), &into, name) => {
                    carry_over(from.as_fd(), name, into.as_fd(), name, stop).map(|()| 1)
                }
                Some(_) => Ok(0),
            };
            back += moved.map_err(at_it)?;
            rustix::fs::fsync(&into).map_err(|error| at_it(error.into()))?;
        }
        Ok(back)
    }

    /// What a snapshot holds of these places; what a damaged list does not name is not held.
    pub(super) fn items(&self, id: &str, wanted: &HashSet<(usize, Vec<u8>)>) -> HashMap<(usize, Vec<u8>), Item> {
        let mut items = HashMap::new();
        if let Ok(mut list) = Reader::open(&self.path(id)) {
            while let Ok(Some(item)) = list.next() {
                let place = (item.line.dir, item.line.path.clone());
                if item.is_held() && wanted.contains(&place) {
                    items.insert(place, item);
                }
            }
        }
        items
    }

    /// The places where what lies there is not as this snapshot has it, of those that either of the two holds.
    pub(super) fn changed_since(&self, put: &str, kept: &str, roots: &[OwnedFd]) -> Places {
        let mut changed = Places::new();
        let mut all = HashMap::new();
        for id in [kept, put] {
            let Ok(mut list) = Reader::open(&self.path(id)) else { continue };
            while let Ok(Some(item)) = list.next() {
                if item.is_held() {
                    all.insert((item.line.dir, item.line.path.clone()), (id == put).then_some(item));
                }
            }
        }
        for ((dir, path), item) in all {
            let Some(root) = roots.get(dir) else { continue };
            let lies = match at::parent(root, &path, Missing::Refuse) {
                // What is gone was removed by somebody since.
                Ok((parent, name)) => lies_as_put(item.as_ref(), &parent, name),
                Err(_) => false,
            };
            if !lies {
                changed.insert((dir, path));
            }
        }
        changed
    }
}

/// Whether what lies there is what the snapshot that was put in place has.
fn lies_as_put(item: Option<&Item>, parent: &OwnedFd, name: &OsStr) -> bool {
    let Some(item) = item else { return false };
    let now = at::stat(parent, name).ok().flatten();
    now.is_some_and(|now| restore_plan::is_same(item, &now, parent.as_fd(), name, &Stop::default()).unwrap_or_default())
}

/// What lies aside.
#[derive(Default)]
struct Aside(Vec<(usize, Vec<u8>)>);

impl Visitor for Aside {
    fn file(&mut self, entry: &Entry<'_>) -> ControlFlow<()> {
        self.0.push((entry.dir, entry.path.to_vec()));
        if self.0.len() < ASIDE_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn trouble(&mut self, _: usize, _: &[u8], _: &str) {}
}
