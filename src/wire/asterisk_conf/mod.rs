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

use std::fmt;

pub use reader::{
    DEPTH_MAX, ENTRIES_MAX, FILES_MAX, LINE_BYTES_MAX, SECTION_ENTRIES_MAX, SECTIONS_MAX, VALUES_BYTES_MAX, read,
};
pub use remark::{REMARKS_MAX, Remark, Remarks, Weight};

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
    keys: &'static [&'static str],
    files: Vec<String>,
    sections: Vec<Stored>,
    /// All values, one after another.
    values: String,
    /// What there is to say.
    pub remarks: Remarks,
}

struct Stored {
    name: String,
    file: u16,
    line: u32,
    role: Role,
    entries: Vec<Entry>,
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
    start: u32,
    len: u16,
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

impl Conf {
    /// The sections that are no templates, in their order.
    pub fn sections(&self) -> impl Iterator<Item = Section<'_>> {
        self.sections.iter().filter(|s| s.role == Role::Plain).map(|stored| Section { conf: self, stored })
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
        &self.stored.name
    }

    /// Its keys that were asked for and their values: inherited ones first, then in the order of the file.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = (&'static str, Value<'a>)> + use<'a> {
        let conf = self.conf;
        self.stored.entries.iter().map(move |entry| {
            let start = entry.start as usize;
            let text = &conf.values[start..start + usize::from(entry.len)];
            let key = conf.keys[usize::from(entry.key)];
            (
                key,
                Value { text, encoding: entry.encoding, file: &conf.files[usize::from(entry.file)], line: entry.line },
            )
        })
    }

    /// Each value of a key.
    pub fn all(&self, key: &str) -> impl DoubleEndedIterator<Item = Value<'a>> {
        self.entries().filter(move |(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The value of a key of which there is one; where it is written more than once, the last counts.
    pub fn last(&self, key: &str) -> Option<Value<'a>> {
        self.all(key).next_back()
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
