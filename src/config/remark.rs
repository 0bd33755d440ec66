//! What the loader has to say about a file: each remark with its place and its fix.
//!
//! No value of the file is ever quoted by the code that makes remarks about secrets, URLs, headers, bodies and
//! commands; what may be quoted goes through [`super::hints::quote`].

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// A place in the file; line and column count from 1. Line 0 means the file as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// One thing that is wrong, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// Line, from 1; 0: the file as a whole.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The key's path (`dns.updates[0].ttl`); empty: the whole file.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub fix: String,
}

impl Remark {
    /// A remark about the key at `path`.
    pub fn new(place: Place, path: &str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { line: place.line, column: place.column, key: path.to_owned(), what: what.into(), fix: fix.into() }
    }

    /// A remark about the file as a whole.
    pub fn about_file(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Place::default(), "", what, fix)
    }
}

impl fmt::Display for Remark {
    /// `12:5: dns.updates[0].ttl: what; fix`, to be put after the file's name and a colon.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.what, self.fix)
    }
}

/// A refused file: every error in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Refused {
    /// Which file.
    pub file: PathBuf,
    /// Each error, in the file's order; at least one.
    pub remarks: Vec<Remark>,
}

impl fmt::Display for Refused {
    /// One line for each remark.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, remark) in self.remarks.iter().enumerate() {
            let end = if index + 1 == self.remarks.len() { "" } else { "\n" };
            let gap = if remark.line > 0 { "" } else { " " };
            write!(f, "{}:{gap}{remark}{end}", self.file.display())?;
        }
        Ok(())
    }
}

/// Collects errors and warnings while a file is read.
#[derive(Debug, Default)]
pub struct Notes {
    /// What refuses the file.
    pub errors: Vec<Remark>,
    /// What does not.
    pub warnings: Vec<Remark>,
}
