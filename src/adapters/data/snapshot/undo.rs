//! Puts back what was there before a restore: one that is half done and cannot be completed, and, before the sync is started
//! again, what a takeover has put in place of newer files that the primary still has.
//!
//! What was replaced is in the snapshot that was taken before, or lies aside in `held-back`. Neither is put over what was
//! changed since; only where the restore that is undone is of just now, so that nobody else was at it, is all of it put back.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::Stat;

use super::at::{self, Missing};
use super::copy::{self, Failed, Stop};
use super::held::{FOLDER, carry, carry_over, trees};
use super::listing::Reader;
use super::restore_note::{NOTE, Order, PUT, Stage, UnderWay};
use super::restore_plan::{self, Places};
use super::{Lock, Vault};
use crate::adapters::data::walk::{Entry, Visitor, walk};
use crate::data::manifest::Kind;
use crate::data::path::unshown;
use crate::data::snapshot::{Item, is_asked, is_database};
use crate::data::{Class, family, shown};
use crate::host::clock;

/// More than one restore moves aside.
const ASIDE_MAX: usize = 200_000;

impl Vault {
    /// Puts back what was there before the restore that is half done; `None`: nothing holds it. `plan`: the takeover that
    /// asks. Of one that is over only what lies there as that restore put it goes back.
    ///
    /// # Errors
    /// One line: it is still half done.
    pub fn undo(&self, lock: &Lock, plan: Option<&str>, stop: &Stop) -> Result<Option<String>, Failed> {
        let Some(note) = self.under_way().map_err(Failed::Trouble)? else { return Ok(None) };
        let is_over = note.is_over(plan);
        let UnderWay { order, before: half, undoes, .. } = note;
        if undoes && is_over {
            let back = Order { unless_changed: order.kept.clone(), ..order };
            return Ok(Some(self.restore(lock, &back, stop)?.told(&back.id, &back.aside)));
        }
        if undoes || order.unless_changed.is_some() {
            // It goes back already: its other way would lead to neither of the two.
            return Ok(None);
        }
        let kept = order.kept.clone().filter(|kept| *kept != order.id);
        let has_aside = self.state_dir().join(FOLDER).join(&order.aside).is_dir();
        if kept.is_none() && !has_aside {
            return Ok(None);
        }
        let back = self.put_back_replaced(&order, stop)?;
        let Some(id) = kept else {
            restore_plan::clear(self);
            self.end_undo(&order, half.as_deref())?;
            return Ok(Some(format!("{back} files put back from held-back/{}", order.aside)));
        };
        let unless_changed = is_over.then(|| order.id.clone());
        let undo = Order { id, kept: Some(order.id.clone()), unless_changed, ..order };
        let restored = self.restore(lock, &undo, stop)?;
        let back = if back == 0 { String::new() } else { format!(", {back} from held-back") };
        Ok(Some(format!("{}{back}", restored.told(&undo.id, &undo.aside))))
    }

    /// What lay there before may have been half of yet another restore.
    pub(super) fn end_undo(&self, undone: &Order, half: Option<&UnderWay>) -> Result<(), Failed> {
        if self.put_in_place().is_ok_and(|put| put.is_some_and(|put| put.plan == undone.plan)) {
            self.forget_put();
        }
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
        // Below one half another may lie.
        while let Some(note) = self.under_way().map_err(Failed::Trouble)?.filter(|note| note.stage == Stage::Committing)
        {
            let id = &note.order.id;
            let done = match (&note.order, note.gives_back()) {
                (_, Some(put)) => Some(self.go_back(lock, put, stop)?),
                (Order { unless_changed: Some(_), .. }, None) => {
                    Some(self.restore(lock, &note.order, stop)?.told(id, &note.order.aside))
                }
                (Order { plan: None, .. }, None) => None,
                (Order { .. }, None) => self.undo(lock, None, stop)?,
            };
            let half = || Failed::Trouble(format!("a restore of {id} that {} broke off is half done", note.who()));
            said.push(done.ok_or_else(half)?);
            if self.under_way().is_ok_and(|now| now.is_some_and(|now| now == note)) {
                return Err(half());
            }
        }
        if let Some(put) = self.put_in_place().map_err(Failed::Trouble)? {
            said.push(self.go_back(lock, &put, stop)?);
        }
        Ok((!said.is_empty()).then(|| format!("what the takeover had put in place is as it was: {}", said.join("; "))))
    }

    /// Gives back what was put in place, all of it or, with a note on disk, what a kill left of it.
    pub(super) fn go_back(&self, lock: &Lock, put: &Order, stop: &Stop) -> Result<String, Failed> {
        let given_back = Order { unless_changed: Some(put.id.clone()), ..put.clone() };
        let kept = put.kept.clone().filter(|kept| *kept != put.id);
        // Without the lists nobody could tell what was changed since: then not one file is moved.
        for id in [Some(&put.id), kept.as_ref()].into_iter().flatten() {
            self.items(id, &HashSet::new())?;
        }
        stop.go_beyond()?;
        let note = UnderWay {
            order: given_back,
            at: Some(clock::now().wall),
            stage: Stage::Committing,
            before: None,
            undoes: false,
        };
        let cannot =
            |error| Failed::Trouble(format!("the note of giving back {} could not be written: {error}", put.id));
        self.write_note(&note).map_err(cannot)?;
        let back = self.put_back_replaced(&note.order, stop)?;
        let mut told = format!("{back} files from held-back");
        if let Some(kept) = kept {
            let aside = put.aside.replace(".replaced", ".given-back");
            let since = Some(put.id.clone());
            let order = Order { id: kept, kept: since.clone(), unless_changed: since, aside, ..put.clone() };
            told = format!("{told}, {}", self.restore(lock, &order, stop)?.told(&order.id, &order.aside));
        }
        restore_plan::clear(self);
        if self.put_in_place().is_ok_and(|now| now.is_some_and(|now| now.plan == put.plan)) {
            self.forget_put();
        }
        // Last: where the robot is killed before it, all of this is done again, and finds nothing to do.
        self.forget_note();
        Ok(told)
    }

    /// Puts what this restore moved aside back in its place, where what it put there lies unchanged, or nothing.
    fn put_back_replaced(&self, order: &Order, stop: &Stop) -> Result<u64, Failed> {
        let folder = self.state_dir().join(FOLDER).join(&order.aside);
        if !folder.is_dir() {
            return Ok(0);
        }
        let trees = trees(&folder);
        let (mut all, mut newest) = (Vec::new(), HashMap::new());
        for (n, tops) in trees.iter().enumerate() {
            let mut aside = Aside::default();
            walk(tops, &mut aside);
            for place in aside.0 {
                newest.entry(place.clone()).or_insert(n);
                all.push((n, place));
            }
            if all.len() >= ASIDE_MAX {
                return Err(Failed::Trouble(format!("{}: too many files lie there", folder.display())));
            }
        }
        // Of one name the last that was moved there, and with a database what lay beside that one.
        all.retain(|(n, (dir, path))| {
            let main = family::base(path).and_then(|main| newest.get(&(*dir, main.to_vec())));
            main.or_else(|| newest.get(&(*dir, path.clone()))) == Some(n)
        });
        let mut wanted: HashSet<_> = all.iter().map(|(_, place)| place.clone()).collect();
        wanted.extend(all.iter().filter_map(|(_, (dir, path))| Some((*dir, family::base(path)?.to_vec()))));
        let put = self.items(&order.id, &wanted)?;
        let kept = order.kept.as_ref().and_then(|id| self.items(id, &wanted).ok()).unwrap_or_default();
        // A log goes before its database, and what was put in the database's place goes before both: whoever is killed in
        // between finds no log beside a database that it does not belong to.
        let base = |path: &[u8]| family::base(path).unwrap_or(path).to_vec();
        all.sort_by_cached_key(|(_, (dir, path))| (*dir, base(path), family::base(path).is_none()));
        let mut back = 0;
        for (n, (dir, path)) in &all {
            if stop.is_called_off() {
                return Err(Failed::CalledOff);
            }
            let at_it = |error: io::Error| Failed::Trouble(format!("{} could not be put back: {error}", shown(path)));
            let Some(working) = self.subject().dirs.get(*dir) else { continue };
            let (from, name) =
                at::parent(at::root(&trees[*n][*dir]).map_err(at_it)?, path, Missing::Refuse).map_err(at_it)?;
            let place = at::root(working).and_then(|root| at::parent(root, path, Missing::Refuse));
            // Its directory is gone: nothing reads it there.
            let Ok((into, _)) = place else { continue };
            if let Some(main) = family::base(path) {
                let key = (*dir, main.to_vec());
                let main_name = OsStr::from_bytes(main.rsplit(|byte| *byte == b'/').next().unwrap_or(main));
                let now = at::stat(&into, main_name).map_err(at_it)?;
                let comes_back = newest.contains_key(&key);
                match now {
                    None if comes_back => {}
                    Some(_) if comes_back && lies_as_put(put.get(&key), &into, main_name) => {
                        at::remove(&into, main_name).map_err(at_it)?;
                        rustix::fs::fsync(&into).map_err(|error| at_it(error.into()))?;
                    }
                    // The restore was broken off before it put another one there.
                    Some(now) if kept.get(&key).is_some_and(|item| is_the_one(item, &now)) => {}
                    // Beside another database than its own a log would be applied to that.
                    _ => continue,
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

    /// What a snapshot holds of these places.
    ///
    /// # Errors
    /// One line: its list is gone or damaged, so that nobody knows.
    pub(super) fn items(&self, id: &str, wanted: &Places) -> Result<HashMap<(usize, Vec<u8>), Item>, Failed> {
        let mut items = HashMap::new();
        self.each_held(id, |item| {
            let place = (item.line.dir, item.line.path.clone());
            if wanted.contains(&place) {
                items.insert(place, item);
            }
        })?;
        Ok(items)
    }

    /// Gives each file and link that a snapshot holds.
    fn each_held(&self, id: &str, mut with: impl FnMut(Item)) -> Result<(), Failed> {
        let unusable = |why: String| {
            Failed::Trouble(format!(
                "without the list of snapshot {id} nobody can tell what was changed since ({why}); remove the notes {NOTE} and \
                 {PUT} in {} to have what lies there taken as it is",
                self.state_dir().display()
            ))
        };
        let mut list = Reader::open(&self.path(id)).map_err(unusable)?;
        while let Some(item) = list.next().map_err(unusable)? {
            if item.is_held() {
                with(item);
            }
        }
        Ok(())
    }

    /// Whether this file of a snapshot is a database, or a part of one, by its name or by how it begins.
    fn is_database(&self, id: &str, item: &Item) -> bool {
        is_database(&item.line.path) || restore_plan::holds_database(&self.path(id), item)
    }

    /// Whether all that this restore changes is configuration: whoever vouches for that then vouches for all of it.
    pub fn is_of_configuration_alone(&self, order: &Order) -> bool {
        let Some(kept) = &order.kept else { return false };
        let only: Vec<_> = order.only.iter().filter_map(|path| unshown(path)).collect();
        let spared = restore_plan::databases(self, order);
        let is_other = |item: &Item| {
            let (line, place) = (&item.line, (item.line.dir, item.line.path.clone()));
            let is_link = line.about.kind == Kind::Link;
            let is_config = is_link || self.subject().classes.of(&line.path) == Class::Config;
            let is_meant =
                line.about.kind != Kind::Directory && is_asked(&line.path, &only) && !spared.contains(&place);
            is_meant && (!is_config || self.is_database(&order.id, item))
        };
        let mut others = HashMap::new();
        let listed = self.each_held(&order.id, |item| {
            if is_other(&item) {
                others.insert((item.line.dir, item.line.path.clone()), item.line.digest);
            }
        });
        let compared = self.each_held(kept, |item| {
            // The same copy of a database proves nothing: its log may have been moved aside.
            let is_sure = !self.is_database(kept, &item);
            let place = (item.line.dir, item.line.path);
            if is_sure && others.get(&place).is_some_and(|digest| digest.is_some() && *digest == item.line.digest) {
                others.remove(&place);
            }
        });
        listed.and(compared).is_ok() && others.is_empty()
    }

    /// The places where what lies there is not as this snapshot has it, of those that either of the two holds.
    ///
    /// # Errors
    /// One line: one of their lists is gone or damaged.
    pub(super) fn changed_since(&self, put: &str, kept: &str, roots: &[OwnedFd]) -> Result<Places, Failed> {
        let mut changed = Places::new();
        let mut all = HashMap::new();
        for id in [kept, put] {
            self.each_held(id, |item| {
                all.insert((item.line.dir, item.line.path.clone()), (id == put).then_some(item));
            })?;
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
        Ok(changed)
    }
}

/// Whether this is the very file of which the snapshot was taken, as it was then.
fn is_the_one(item: &Item, now: &Stat) -> bool {
    let (ino, _, _, changed) = copy::stamp(now);
    (ino, changed) == (item.stamp.0, (item.stamp.1.0, i64::from(item.stamp.1.1)))
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
