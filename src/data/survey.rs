//! What one look at the working directories saw, in bounded memory: counts, the newest change, and what needs a word.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::class::Class;
use super::names::Tool;
use super::path::shown;
use super::vouch::Tree;

/// So many of a kind are named; the others are counted.
pub const NAMED_MAX: usize = 20;

/// So many files of configuration are remembered one by one.
pub const KEPT_MAX: usize = 50_000;

/// The first few of something, and how many there were in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Few<T> {
    /// The first, at most [`NAMED_MAX`].
    pub named: Vec<T>,
    /// All of them, counted.
    pub all: u64,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self { named: Vec::new(), all: 0 }
    }
}

impl<T> Few<T> {
    /// One more.
    pub fn add(&mut self, one: T) {
        self.all += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(one);
        }
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.all == 0
    }
}

/// A file, by its working directory and its path below that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Which of the working directories, from 0.
    pub dir: usize,
    /// The path below it.
    pub path: Vec<u8>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&shown(&self.path))
    }
}

/// What is wrong with the content of a file, as far as it tells by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It has no content.
    Empty,
    /// It has NUL bytes where text belongs: a crash while it was written.
    Nul,
    /// It cannot be read as what its name says; why, in one line, with the place.
    Malformed(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::Nul => f.write_str("is filled with NUL bytes"),
            Self::Malformed(why) => write!(f, "cannot be read: {why}"),
        }
    }
}

/// A file of configuration, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Bytes.
    pub size: u64,
    /// When anything about it last changed here.
    pub changed: Timestamp,
    /// What is wrong with its content.
    pub fault: Option<Fault>,
    /// A text that ends within a line.
    pub ends_within_line: bool,
}

/// How many, and how large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What one look saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    /// Files by what they are.
    pub classes: BTreeMap<Class, Count>,
    /// Directories.
    pub directories: u64,
    /// The newest change of a content, as its writer dated it (sync tools keep that), and where.
    pub newest: Option<(Timestamp, Place)>,
    /// The last time that anything was written here, and where.
    pub touched: Option<(Timestamp, Place)>,
    /// The last time that a file of configuration was written here.
    pub configured: Option<Timestamp>,
    /// Files that a sync tool is writing, with when they last changed.
    pub temporary: Few<(Place, Tool, Timestamp)>,
    /// When the newest of these last changed.
    pub temporary_newest: Option<Timestamp>,
    /// Copies of files that both sides changed.
    pub conflicts: Few<(Place, Tool)>,
    /// Links that lead out of the working directory, or nowhere.
    pub links_out: Few<Place>,
    /// What could not be looked at, and why.
    pub troubles: Few<(Place, String)>,
    /// The files of configuration.
    pub kept: BTreeMap<Place, Kept>,
    /// So many more than are kept, and not read.
    pub not_kept: u64,
    /// The files of configuration that are kept, as one value; `None`: not all of them could be read.
    pub tree: Option<Tree>,
}

impl Survey {
    /// Counts a file of the PBX's.
    pub fn count(&mut self, class: Class, bytes: u64) {
        let count = self.classes.entry(class).or_default();
        count.files += 1;
        count.bytes = count.bytes.saturating_add(bytes);
    }

    /// Whether no more files of configuration are looked at one by one.
    pub fn is_full(&self) -> bool {
        self.kept.len() >= KEPT_MAX
    }

    /// Remembers a file of configuration.
    pub fn keep(&mut self, place: Place, kept: Kept) {
        if self.is_full() {
            self.not_kept += 1;
        } else {
            self.kept.insert(place, kept);
        }
    }

    /// A content that its writer dated `modified`, and that was written here at `touched`.
    pub fn change(&mut self, modified: Timestamp, touched: Timestamp, place: impl Fn() -> Place) {
        for (last, at) in [(&mut self.newest, modified), (&mut self.touched, touched)] {
            if last.as_ref().is_none_or(|(last, _)| at > *last) {
                *last = Some((at, place()));
            }
        }
    }

    /// A temporary file of a sync tool was seen.
    pub fn writing(&mut self, place: Place, tool: Tool, at: Timestamp) {
        self.temporary_newest = self.temporary_newest.max(Some(at));
        self.temporary.add((place, tool, at));
    }

    /// All files together.
    pub fn total(&self) -> Count {
        self.classes.values().fold(Count::default(), |sum, count| Count {
            files: sum.files + count.files,
            bytes: sum.bytes.saturating_add(count.bytes),
        })
    }
}
