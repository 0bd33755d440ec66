//! The text format of Asterisk's configuration files: sections, templates, additions, comments, includes.
//!
//! It reads what Asterisk's `main/config.c` reads, with two differences. Where Asterisk refuses the whole file, this
//! remarks and reads on: a backup with most of its phones is better than one with none. And it keeps only the keys that
//! were asked for, so that a hundred thousand endpoints fit. What a section means is not known here. `reader` does the
//! work, `lines` knows comments, [`Remark`] is what it says.

mod lines;
mod reader;
mod remark;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};

pub use reader::{
    DEPTH_MAX, ENTRIES_MAX, FILES_MAX, LINE_BYTES_MAX, SECTION_ENTRIES_MAX, SECTIONS_MAX, TEXT_BYTES_MAX,
};
pub use reader::{KEYS_MAX, read};
pub use remark::{REMARKS_MAX, Remark, Remarks, Weight};

/// Sections of one name: its endpoint, AOR, auth, identify, registration, and some. More are not searched.
pub const NAMESAKES_MAX: usize = 16;

/// A file that was read.
#[derive(Clone, PartialEq, Eq)]
pub struct Text {
    /// As a person would name it; a file is recognised by it when it includes itself.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// It may hold passwords.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Text").field("name", &self.name).field("len", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// Where the texts come from that a file includes.
pub trait Files {
    /// What `include` names, in the order in which it is to be read.
    fn find(&mut self, include: &Include<'_>) -> Found;
}

/// `#include` or `#tryinclude`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Include<'a> {
    /// The path as written, without its quotes; it may hold `*` and `?`.
    pub path: &'a str,
    /// Which of the two.
    pub demand: Demand,
}

/// Whether an include must lead to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// `#include`
    Required,
    /// `#tryinclude`
    Optional,
}

/// What an include led to.
#[derive(Debug, Default)]
pub struct Found {
    /// The texts; none where there is no such file.
    pub texts: Vec<Text>,
    /// What went wrong on the way. It is remarked at the line of the include.
    pub troubles: Vec<Trouble>,
}

/// What went wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Whether the whole can still be trusted.
    pub weight: Weight,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

/// What was read: sections in their order, with the entries of templates copied in.
#[derive(Default)]
pub struct Conf {
    files: Vec<String>,
    sections: Vec<Stored>,
    /// The entries of all sections; those of one stand together.
    entries: Vec<Entry>,
    /// All names and values, one after another: no section and no value costs an allocation.
    text: String,
    names: Names,
    /// What there is to say.
    pub remarks: Remarks,
}

/// A piece of [`Conf::text`].
#[derive(Clone, Copy)]
struct Piece {
    start: u32,
    len: u16,
}

struct Stored {
    name: Piece,
    file: u16,
    line: u32,
    role: Role,
    /// Its entries.
    first: u32,
    count: u16,
    /// The next section of the same name.
    next: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Plain,
    Template,
}

#[derive(Clone, Copy)]
struct Entry {
    value: Piece,
    key: u8,
    encoding: Encoding,
    file: u16,
    line: u32,
}

/// How a value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// It is as written.
    Utf8,
    /// Bytes that are not UTF-8 were replaced.
    Other,
}

/// The first and the last section of each name, whatever its case. It is kept by hash: who follows the chain compares.
#[derive(Default)]
struct Names {
    ends: HashMap<u64, (u32, u32)>,
    hashing: RandomState,
}

impl Names {
    fn hash(&self, name: &str) -> u64 {
        let mut hasher = self.hashing.build_hasher();
        let mut folded = [0; 64];
        for part in name.as_bytes().chunks(folded.len()) {
            let folded = &mut folded[..part.len()];
            folded.copy_from_slice(part);
            folded.make_ascii_lowercase();
            hasher.write(folded);
        }
        hasher.finish()
    }
}

impl Conf {
    /// The sections that are no templates, in their order.
    pub fn sections(&self) -> impl Iterator<Item = Section<'_>> {
        self.plain(self.sections.iter())
    }

    /// The first sections of this name that are no templates, [`NAMESAKES_MAX`] at most. Here its case counts.
    pub fn named(&self, name: &str) -> impl Iterator<Item = Section<'_>> {
        let same = self.namesakes(name).map(|at| &self.sections[at as usize]);
        self.plain(same).filter(move |section| section.name() == name)
    }

    fn plain<'a>(&'a self, stored: impl Iterator<Item = &'a Stored>) -> impl Iterator<Item = Section<'a>> {
        stored.filter(|stored| stored.role == Role::Plain).map(|stored| Section { conf: self, stored })
    }

    fn namesakes(&self, name: &str) -> impl Iterator<Item = u32> {
        let first = self.names.ends.get(&self.names.hash(name)).map(|(first, _)| *first);
        let chain = std::iter::successors(first, |at| self.sections[*at as usize].next).take(NAMESAKES_MAX);
        chain.filter(move |at| self.piece(self.sections[*at as usize].name).eq_ignore_ascii_case(name))
    }

    fn piece(&self, piece: Piece) -> &str {
        let start = piece.start as usize;
        &self.text[start..start + usize::from(piece.len)]
    }

    fn entries_of(&self, stored: &Stored) -> &[Entry] {
        let first = stored.first as usize;
        &self.entries[first..first + usize::from(stored.count)]
    }

    /// The names of the files, in the order in which they were begun.
    pub fn files(&self) -> &[String] {
        &self.files
    }
}

/// Values may be passwords.
impl fmt::Debug for Conf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conf")
            .field("files", &self.files)
            .field("sections", &self.sections.len())
            .finish_non_exhaustive()
    }
}

/// One `[section]`.
#[derive(Clone, Copy)]
pub struct Section<'a> {
    conf: &'a Conf,
    stored: &'a Stored,
}

impl<'a> Section<'a> {
    /// What stands between the brackets.
    pub fn name(&self) -> &'a str {
        self.conf.piece(self.stored.name)
    }

    /// The keys that were asked for, each as its place in the list of them, and their values: inherited ones first,
    /// then in the order of the file.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = (usize, Value<'a>)> + use<'a> {
        let conf = self.conf;
        let value = move |entry: &Entry| {
            let (text, file) = (conf.piece(entry.value), &conf.files[usize::from(entry.file)]);
            Value { text, encoding: entry.encoding, file, line: entry.line }
        };
        conf.entries_of(self.stored).iter().map(move |entry| (usize::from(entry.key), value(entry)))
    }

    /// Each value of a key.
    pub fn all<K: Into<usize>>(&self, key: K) -> impl DoubleEndedIterator<Item = Value<'a>> + use<'a, K> {
        let key = key.into();
        self.entries().filter(move |(found, _)| *found == key).map(|(_, value)| value)
    }

    /// The value of a key of which there is one; where it is written more than once, the last counts.
    pub fn last(&self, key: impl Into<usize>) -> Option<Value<'a>> {
        self.all(key).next_back()
    }

    /// Whether it is this very section.
    pub fn is(&self, other: &Section<'_>) -> bool {
        std::ptr::eq(self.stored, other.stored)
    }

    /// A remark at its first line.
    pub fn remark(&self, weight: Weight, what: impl Into<String>, fix: impl Into<String>) -> Remark {
        let file = self.conf.files[usize::from(self.stored.file)].clone();
        Remark { weight, file, line: self.stored.line, what: what.into(), fix: fix.into() }
    }
}

impl fmt::Debug for Section<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.name())
    }
}

/// The value of a key, and where it stands.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    /// Trimmed.
    pub text: &'a str,
    /// Whether that is what was written.
    pub encoding: Encoding,
    file: &'a str,
    line: u32,
}

impl<'a> Value<'a> {
    /// The parts of a list, without those that are empty.
    pub fn list(&self) -> impl Iterator<Item = &'a str> {
        self.text.split(',').map(str::trim).filter(|part| !part.is_empty())
    }

    /// A remark at its line.
    pub fn remark(&self, weight: Weight, what: impl Into<String>, fix: impl Into<String>) -> Remark {
        Remark { weight, file: self.file.to_owned(), line: self.line, what: what.into(), fix: fix.into() }
    }
}

/// It may be a password.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value at {}:{}", self.file, self.line)
    }
}
