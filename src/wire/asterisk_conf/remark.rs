//! What there is to say about a file: where, what, and what to do. Never the value of a line: it may be a password.

use std::fmt;

/// As many as a person may want to read; of more, only the number is told.
pub const REMARKS_MAX: usize = 100;

/// One thing to say about a place in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// Whether the whole can still be trusted.
    pub weight: Weight,
    /// The file, as a person would name it.
    pub file: String,
    /// From 1; 0 for the file as a whole.
    pub line: u32,
    /// What is wrong, without any value of the line.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

/// What a remark means for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// The file looks cut, overwritten or half copied: what was read is not to be trusted.
    Broken,
    /// What stands at this place counts for less than its author may think; the rest is as it was meant.
    Fault,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}; {}", self.file, self.what, self.fix),
            line => write!(f, "{}:{line}: {}; {}", self.file, self.what, self.fix),
        }
    }
}

/// A list of remarks that cannot grow without end. Those that say that the whole is broken are kept first.
#[derive(Debug, Clone, Default)]
pub struct Remarks {
    kept: Vec<Remark>,
    more: usize,
}

impl Remarks {
    /// Adds one; the same again is not counted.
    pub fn push(&mut self, remark: Remark) {
        if self.kept.last() == Some(&remark) {
            return;
        }
        if self.kept.len() < REMARKS_MAX {
            self.kept.push(remark);
            return;
        }
        self.more += 1;
        if remark.weight == Weight::Broken
            && let Some(place) = self.kept.iter_mut().rev().find(|kept| kept.weight == Weight::Fault)
        {
            *place = remark;
        }
    }

    /// Each once: what is broken first, then by place; the last line tells how many were left out.
    pub fn into_list(mut self) -> Vec<Remark> {
        self.kept.sort();
        self.kept.dedup();
        if let (more @ 1.., Some(last)) = (self.more, self.kept.last().cloned()) {
            let what = format!("{more} more remarks are not shown");
            let fix = "mend those that are, then look again".to_owned();
            self.kept.push(Remark { weight: Weight::Fault, line: 0, what, fix, ..last });
        }
        self.kept
    }
}
