//! The note of a restore that is under way (`state_dir/restore-under-way`), and what follows where one was broken off; beside
//! it the note of what a takeover has put in place (`state_dir/put-in-place`), until the sync is started again.
//!
//! A note that does not read is no proof that nothing is half done: only where there is none nothing is. What is done about it
//! is `restore`'s and `undo`'s.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Lock, Vault, restore_plan, sync_dir};
use crate::data::survey::Few;
use crate::host::clock;
use crate::host::file::write_whole;

use super::held::first;

/// The note, in the state directory.
pub(super) const NOTE: &str = "restore-under-way";
/// What a takeover has put in place, beside it.
pub(super) const PUT: &str = "put-in-place";
/// A longer one is none of ours.
const NOTE_MAX: u64 = 1024 * 1024;
/// What a person began longer ago is not completed: the sync has brought newer data since.
const PERSON_MAX: Duration = Duration::from_secs(15 * 60);

/// A snapshot that is put in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its name.
    pub id: String,
    /// These paths and what lies below; none: all. As [`crate::data::shown`] writes them.
    pub only: Vec<String>,
    /// The folder below `held-back` for what is moved aside.
    pub aside: String,
    /// The snapshot that was taken of what is replaced; what it does not hold is moved aside. None: all of it is.
    #[serde(default)]
    pub kept: Option<String>,
    /// The takeover that wants it; none: a person.
    pub plan: Option<String>,
    /// Only what lies there as this other snapshot has it; what was changed since stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless_changed: Option<String>,
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
    /// The half of another restore that lay there before it, which an undo brings back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<UnderWay>>,
    /// Whether it puts back what lay there before another restore: once it is whole that one has never been.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undoes: bool,
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

impl Order {
    /// Whether all that a takeover put in place is given back: `id` names what was put there, `kept` and `aside` what was
    /// there before.
    pub(super) fn gives_back(&self) -> bool {
        self.unless_changed.as_ref() == Some(&self.id)
    }

    /// Whether this puts back what lay there before that one.
    pub(super) fn undoes(&self, other: &Self) -> bool {
        let is_of_the_same = (&self.plan, &self.only, &self.aside) == (&other.plan, &other.only, &other.aside);
        let leads_back = self.kept.as_ref() == Some(&other.id) && other.kept.as_ref() == Some(&self.id);
        is_of_the_same && leads_back && other.unless_changed.is_none()
    }

    /// The snapshots that it needs.
    fn needs(&self) -> impl Iterator<Item = String> + use<> {
        [Some(self.id.clone()), self.kept.clone(), self.unless_changed.clone()].into_iter().flatten()
    }
}

impl UnderWay {
    /// What all of it is about, where this is the second half of giving back.
    pub(super) fn gives_back(&self) -> Option<&Order> {
        let whole = [Some(&self.order), self.before.as_ref().map(|before| &before.order)];
        whole.into_iter().flatten().find(|order| order.gives_back())
    }

    /// The restore before which all is to be as it was.
    fn undone(&self) -> Option<&String> {
        self.order.unless_changed.as_ref().or(self.order.kept.as_ref().filter(|_| self.undoes))
    }

    /// What was broken off, for people, with what to do.
    fn told(&self) -> String {
        let id = &self.order.id;
        let goes_on = "goes on before the sync is started, or in the next takeover";
        match (&self.order.plan, self.gives_back(), self.undone()) {
            (_, Some(put), _) => {
                format!("giving back what a takeover put in place ({}) was broken off: it {goes_on}", put.id)
            }
            (_, None, Some(of)) => format!("undoing a restore of {of} was broken off in its midst: it {goes_on}"),
            (None, None, None) => {
                format!("a restore of {id} was broken off in its midst: run it again while this node watches")
            }
            (Some(_), None, None) => format!(
                "a takeover's restore of {id} was broken off in its midst: put one in place while this node watches \
                 (`snapshots restore NAME`)"
            ),
        }
    }

    /// Whether it is neither this takeover's nor a person's of just now: the world has gone on since.
    pub fn is_over(&self, plan: Option<&str>) -> bool {
        match &self.order.plan {
            // What goes back to what was there is right whoever began it.
            _ if self.order.unless_changed.is_some() => false,
            Some(of) => plan != Some(of),
            None => {
                let age = self.at.map(|at| clock::now().wall.duration_since(at).unsigned_abs());
                age.is_none_or(|age| age > PERSON_MAX)
            }
        }
    }

    /// Who began it.
    pub fn who(&self) -> &'static str {
        if self.order.plan.is_some() { "a takeover" } else { "a person" }
    }
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

    /// Whether nothing of the working directory was changed.
    pub fn is_nothing(&self) -> bool {
        self.put.is_empty() && self.aside.is_empty()
    }
}

/// The note of half a restore, as it lay there.
pub(super) struct Before {
    text: Vec<u8>,
    note: Option<UnderWay>,
}

impl Before {
    /// What lay there before both, for the note of this order.
    pub(super) fn root(&self, order: &Order) -> Option<Box<UnderWay>> {
        let note = self.note.as_ref()?;
        if note.order == *order || note.before.is_some() { note.before.clone() } else { Some(Box::new(note.clone())) }
    }

    /// Whether this order puts back what lay there before that half, or goes on doing so.
    pub(super) fn is_undone_by(&self, order: &Order) -> bool {
        let goes_on = |note: &UnderWay| {
            note.undoes && note.order == Order { unless_changed: note.order.unless_changed.clone(), ..order.clone() }
        };
        // What goes on forth over an undo leads the other way.
        self.note.as_ref().is_some_and(|note| (!note.undoes && order.undoes(&note.order)) || goes_on(note))
    }

    /// Whether this order, once it is whole, leaves nothing of that half.
    pub(super) fn is_covered_by(&self, order: &Order) -> bool {
        if self.note.as_ref().is_some_and(|note| note.order.gives_back()) && order.unless_changed.is_some() {
            // One half of it is no more than that.
            return false;
        }
        order.only.is_empty() || self.note.as_ref().is_some_and(|note| note.order.only == order.only)
    }
}

impl Vault {
    fn note_file(&self) -> PathBuf {
        self.state_dir().join(NOTE)
    }

    fn put_file(&self) -> PathBuf {
        self.state_dir().join(PUT)
    }

    pub(super) fn write_note(&self, note: &UnderWay) -> io::Result<()> {
        write(&self.note_file(), note)
    }

    pub(super) fn forget_note(&self) {
        if let Err(error) = self.forget(&self.note_file()) {
            tracing::warn!(%error, "the note of a restore that has ended could not be removed");
        }
    }

    fn forget(&self, file: &Path) -> io::Result<()> {
        match fs::remove_file(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| sync_dir(self.state_dir())),
        }
    }

    /// The restore that was broken off, if one was.
    ///
    /// # Errors
    /// One line: there is a note, and it does not read, so that nobody knows.
    pub fn under_way(&self) -> Result<Option<UnderWay>, String> {
        read(&self.note_file()).map_err(|why| {
            format!(
                "what lies in the working directory may be half of a snapshot: the note {} does not read ({why}); put a \
                 snapshot in place while this node watches, or remove the note to have what lies there loaded as it is",
                self.note_file().display()
            )
        })
    }

    /// The note of a restore that is half done, as it lies there.
    pub(super) fn half_note(&self) -> io::Result<Option<Before>> {
        let note = match self.under_way() {
            Ok(None) => return Ok(None),
            Ok(Some(note)) if note.stage == Stage::Staging => return Ok(None),
            Ok(note) => note,
            Err(_) => None,
        };
        let mut text = Vec::new();
        File::open(self.note_file())?.take(NOTE_MAX).read_to_end(&mut text)?;
        Ok(Some(Before { text, note }))
    }

    /// Lays the note of an earlier half back.
    pub(super) fn note_again(&self, before: &Before) -> io::Result<()> {
        write_whole(&self.note_file(), &before.text)
    }

    /// Why what lies in the working directory may be half of a snapshot.
    pub fn broken_off(&self) -> Option<String> {
        match self.under_way() {
            Ok(Some(note)) if note.stage == Stage::Committing => Some(match (note.gives_back(), note.undone()) {
                (Some(put), _) => format!("giving back what a takeover put in place ({}) is half done", put.id),
                (None, Some(of)) => format!("undoing a restore of {of} is half done"),
                (None, None) => format!("a restore of {} is half done", note.order.id),
            }),
            Ok(_) => None,
            Err(odd) => Some(odd),
        }
    }

    /// The same for people, with what to do; `None` also while somebody is at it.
    pub fn half_told(&self) -> Option<String> {
        match self.under_way() {
            _ if self.is_at_work() => None,
            Ok(Some(note)) if note.stage == Stage::Committing => Some(note.told()),
            Ok(_) => None,
            Err(odd) => Some(odd),
        }
    }

    /// The snapshots without which what is half done could be neither completed nor undone, and what was put in place not
    /// given back.
    ///
    /// # Errors
    /// One line: a note does not read.
    pub(super) fn needed(&self) -> Result<Vec<String>, String> {
        let mut needed = Vec::new();
        if let Some(note) = self.under_way()? {
            needed.extend(note.order.needs());
            needed.extend(note.before.iter().flat_map(|before| before.order.needs()));
        }
        needed.extend(self.put_in_place()?.iter().flat_map(Order::needs));
        Ok(needed)
    }

    /// The same as [`Self::broken_off`], with who is at it. One that has changed nothing yet keeps nobody waiting: it asks once more before it does.
    pub fn half_done(&self) -> Option<String> {
        let half = self.broken_off()?;
        Some(match self.person_restores() {
            Some(process) => format!(
                "a person's `snapshots restore` is at work (process {process}), and is waited for; where it hangs, end it: \
                 what it has left undone is completed here"
            ),
            None => half,
        })
    }

    /// How a person ends it who wants what lies there as it is; `None` where [`Self::half_done`] says already what to do.
    pub fn half_ends(&self) -> Option<String> {
        let is_told = self.under_way().is_err() || self.person_restores().is_some();
        (!is_told).then(|| format!("remove {} to have what lies there loaded as it is", self.note_file().display()))
    }

    /// What half a restore left is the primary's state again: it is forgotten, unless somebody works here just now.
    pub fn forget_half(&self, _lock: &Lock) {
        restore_plan::clear(self);
        self.forget_note();
    }

    /// Notes what a takeover is about to put in place, for when the sync is started again. That of an earlier takeover stays:
    /// it knows what came from the primary. Of the same one the last counts, since that is what lies there.
    pub(super) fn note_put(&self, order: &Order) -> io::Result<()> {
        let is_anothers = self.put_in_place().is_ok_and(|put| put.is_some_and(|put| put.plan != order.plan));
        if is_anothers { Ok(()) } else { write(&self.put_file(), order) }
    }

    /// What a takeover has put in place since the sync was stopped.
    ///
    /// # Errors
    /// One line: its note does not read.
    pub fn put_in_place(&self) -> Result<Option<Order>, String> {
        let file = self.put_file();
        read(&file).map_err(|why| {
            format!(
                "what a takeover put in place is not known: the note {} does not read ({why}); remove it where the sync may \
                 carry home what lies here",
                file.display()
            )
        })
    }

    pub(super) fn forget_put(&self) {
        if let Err(error) = self.forget(&self.put_file()) {
            tracing::warn!(%error, "the note of what a takeover put in place could not be removed");
        }
    }
}

fn write<T: Serialize>(file: &Path, note: &T) -> io::Result<()> {
    let text = serde_json::to_string(note).map_err(io::Error::other)?;
    if text.len() as u64 > NOTE_MAX {
        return Err(io::Error::other("it would be too long: name fewer paths"));
    }
    write_whole(file, text.as_bytes())
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, String> {
    let mut text = String::new();
    match File::open(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => {
            opened.and_then(|file| file.take(NOTE_MAX).read_to_string(&mut text)).map_err(|why| why.to_string())?
        }
    };
    serde_json::from_str(&text).map(Some).map_err(|why| why.to_string())
}
