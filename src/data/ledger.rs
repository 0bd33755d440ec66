//! What was added, changed and removed here since a baseline, and what becomes of each of it at home.
//!
//! The baseline says what both sides had when this node began to serve, and later also what was carried home and read
//! back there: so the difference to it is what waits. Two lists in the order of a walk are merged, none is held.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::class::Class;
use super::family;
use super::manifest::{About, Kind, Line};

/// From here on a file of any class but configuration goes home only once the primary serves.
pub const LARGE: u64 = 64 << 20;

/// A file as it was seen, with what nobody can set back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its line.
    pub line: Line,
    /// When anything about it last changed, its name too: seconds and nanoseconds.
    pub changed: (i64, u32),
}

impl Known {
    /// As text, with the end of the line.
    pub fn write(&self) -> String {
        format!("{}.{:09} {}", self.changed.0, self.changed.1, self.line.write())
    }

    /// Reads a line, without its end.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("is no line of a ledger: {}", text.chars().take(80).collect::<String>());
        let (changed, line) = text.split_once(' ').ok_or_else(wrong)?;
        let (seconds, nanos) = changed.split_once('.').ok_or_else(wrong)?;
        let changed = (seconds.parse().map_err(|_| wrong())?, nanos.parse().map_err(|_| wrong())?);
        Ok(Self { line: Line::read(line)?, changed })
    }

    /// Whether the file that is there now is another content. `digest` reads it, which is asked only where it decides.
    ///
    /// A new link to a file, or a change of its owner, changes its last date too: where size and date of the content
    /// stayed and its digest is not known, it is the same.
    pub fn differs(&self, about: About, changed: (i64, u32), digest: impl FnOnce() -> Option<String>) -> bool {
        let was = self.line.about;
        if (was.kind, was.size, was.modified) != (about.kind, about.size, about.modified) {
            return true;
        }
        match &self.line.digest {
            Some(known) if self.changed != changed => digest().is_some_and(|now| now != *known),
            _ => false,
        }
    }
}

/// What happened to a file here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It was not there.
    Added,
    /// It was another: as it was.
    Changed(Known),
    /// It is not there any more.
    Removed,
}

/// One entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What happened.
    pub change: Change,
    /// What the file is.
    pub class: Class,
    /// As it is now; of one that was removed, as it was.
    pub now: Known,
}

impl Entry {
    /// The order of a ledger.
    pub fn order(&self, other: &Self) -> Ordering {
        self.now.line.order(&other.now.line)
    }

    /// `added`, `changed`, `removed`.
    pub fn name(&self) -> &'static str {
        match self.change {
            Change::Added => "added",
            Change::Changed(_) => "changed",
            Change::Removed => "removed",
        }
    }

    /// Whether it is to be carried home.
    pub fn waits(&self) -> bool {
        self.change != Change::Removed
    }

    /// As text, with the end of each line: one, or two where it was another.
    pub fn write(&self) -> String {
        let line = format!("{} {} {}", self.name(), self.class, self.now.write());
        match &self.change {
            Change::Changed(was) => format!("{line}was {}", was.write()),
            Change::Added | Change::Removed => line,
        }
    }

    /// Reads one; `next` gives the next line, without its end, which is asked for only where it belongs to it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(line: &str, next: impl FnOnce() -> Option<String>) -> Result<Self, String> {
        let wrong = || format!("is no entry of a ledger: {}", line.chars().take(80).collect::<String>());
        let mut parts = line.splitn(3, ' ');
        let mut part = || parts.next().ok_or_else(wrong);
        let (change, class, now) = (part()?, part()?, Known::read(part()?)?);
        let class = Class::ALL.into_iter().find(|one| one.name() == class).ok_or_else(wrong)?;
        let change = match change {
            "added" => Change::Added,
            "removed" => Change::Removed,
            "changed" => {
                let was = next().ok_or_else(wrong)?;
                Change::Changed(Known::read(was.strip_prefix("was ").ok_or_else(wrong)?)?)
            }
            _ => return Err(wrong()),
        };
        Ok(Self { change, class, now })
    }

    /// Whether it is carried only once the primary serves: nobody needs it to telephone.
    pub fn is_large(&self) -> bool {
        let size = self.now.line.about.size;
        self.class == Class::Recording || (size >= LARGE && self.class != Class::Config)
    }

    /// Whether it may be half of a content while the PBX runs, by its name: a database in use. Others show that they are one
    /// by how they begin ([`family::HEADER`]), or by a log in the list ([`logged`]).
    pub fn is_live(&self) -> bool {
        let path = &self.now.line.path;
        family::is_database(path) || family::base(path).is_some()
    }
}

/// The databases whose logs a list names, with their working directories: also where the log was removed here, as SQLite
/// does once it has played it.
///
/// # Errors
/// That of the list.
pub fn logged(entries: impl IntoIterator<Item = Result<Entry, String>>) -> Result<BTreeSet<(usize, Vec<u8>)>, String> {
    let mut logged = BTreeSet::new();
    for entry in entries {
        let line = entry?.now.line;
        if let Some(base) = family::logged(&line.path) {
            logged.insert((line.dir, base.to_vec()));
        }
    }
    Ok(logged)
}

/// Which part of the way home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// While this node serves.
    First,
    /// While nobody serves: as little as possible.
    Delta,
    /// Once the primary serves: whatever is left.
    Rest,
}

impl Pass {
    /// As a command is told of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Delta => "delta",
            Self::Rest => "rest",
        }
    }

    /// Whether an entry goes with it. `now_s` is the time of day, `settle_s` how long a file must have been quiet to
    /// count as whole: what is still being written goes later.
    pub fn takes(self, entry: &Entry, now_s: i64, settle_s: i64) -> bool {
        let is_quiet = now_s.saturating_sub(entry.now.line.about.modified.0) >= settle_s;
        entry.waits()
            && match self {
                Self::First => !entry.is_large() && !entry.is_live() && is_quiet,
                Self::Delta => !entry.is_large(),
                Self::Rest => true,
            }
    }
}

/// What stands at home under the name of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Far {
    /// Bytes.
    pub size: u64,
    /// Date of its content, seconds.
    pub modified_s: i64,
}

impl Far {
    fn is(self, known: &Known) -> bool {
        let about = known.line.about;
        (self.size, self.modified_s) == (about.size, about.modified.0)
    }
}

/// What stands at home under that name, of whatever kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum There {
    /// A file.
    File(Far),
    /// A link, a directory, a pipe: nothing that a file of ours may replace.
    Other,
}

/// What becomes of a database in use that only this node changed; any other file replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// The PBX at home is stopped: it replaces the one there.
    Replaces,
    /// A PBX may have the one there open, which would go on in a file without a name: ours goes beside it.
    Beside,
}

/// How an entry goes home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// Nothing stands there.
    New,
    /// What stands there is what both had: ours replaces it.
    Replaces,
    /// It seems to be there already; only read back.
    Seems,
    /// Both sides changed it: ours goes beside it.
    Beside,
}

/// How this entry goes home, by what stands there.
pub fn way(entry: &Entry, there: Option<There>, live: Live) -> Way {
    let far = match there {
        None => return Way::New,
        Some(There::Other) => return Way::Beside,
        Some(There::File(far)) => far,
    };
    if let Change::Changed(was) = &entry.change
        && far.is(was)
        // What is dated before what both had was put back here on purpose, or its clock was: a person decides.
        && entry.now.line.about.modified.0 >= far.modified_s
        && live == Live::Replaces
    {
        return Way::Replaces;
    }
    if far.is(&entry.now) { Way::Seems } else { Way::Beside }
}

/// The longest name that file systems take.
pub const NAME_BYTES_MAX: usize = 255;

/// The name under which our file goes beside the one that stands there: `NAME.from-NODE-20261126-201500`, dated as its
/// content, so that another try gives the same name.
pub fn beside(path: &[u8], node: &str, modified_s: i64) -> Vec<u8> {
    beside_within(path, node, modified_s, 0)
}

/// The same, with room for so many bytes behind it.
pub fn beside_within(path: &[u8], node: &str, modified_s: i64, kept_bytes: usize) -> Vec<u8> {
    let at = jiff::Timestamp::from_second(modified_s).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let end = format!(".from-{node}-{}", at.strftime("%Y%m%d-%H%M%S"));
    let name_at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let room = NAME_BYTES_MAX.saturating_sub(end.len() + kept_bytes).max(1);
    let name = &path[name_at..];
    [&path[..name_at], &name[..name.len().min(room)], end.as_bytes()].concat()
}

/// Whether a list of the baseline holds it.
pub fn is_kept(kind: Kind) -> bool {
    kind == Kind::File
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(path: &[u8], size: u64, modified: i64) -> Known {
        let about = About { kind: Kind::File, size, modified: (modified, 5), mode: 0o644 };
        Known { line: Line { dir: 0, path: path.to_vec(), about, digest: None }, changed: (modified, 7) }
    }

    fn entry(path: &[u8], class: Class, change: Change, size: u64, modified: i64) -> Entry {
        Entry { change, class, now: known(path, size, modified) }
    }

    #[test]
    fn what_both_had_is_replaced_and_what_both_changed_goes_beside() {
        let far = |size, modified_s| Some(There::File(Far { size, modified_s }));
        let way = |entry: &Entry, there| way(entry, there, Live::Replaces);
        let changed = entry(b"a", Class::Cdr, Change::Changed(known(b"a", 10, 100)), 20, 200);
        let added = entry(b"a", Class::Cdr, Change::Added, 20, 200);
        assert_eq!([way(&changed, None), way(&added, None)], [Way::New, Way::New]);
        assert_eq!(way(&changed, far(10, 100)), Way::Replaces);
        assert_eq!(way(&changed, far(11, 100)), Way::Beside, "the primary wrote it too");
        assert_eq!(way(&changed, far(10, 101)), Way::Beside);
        assert_eq!([way(&changed, far(20, 200)), way(&added, far(20, 200))], [Way::Seems, Way::Seems]);
        assert_eq!(way(&added, far(10, 100)), Way::Beside, "both sides made one");
        let older = entry(b"a", Class::Config, Change::Changed(known(b"a", 10, 100)), 20, 99);
        assert_eq!(way(&older, far(10, 100)), Way::Beside, "an older copy never replaces by itself");
        let same_second = entry(b"a", Class::Config, Change::Changed(known(b"a", 10, 100)), 10, 100);
        assert_eq!(way(&same_second, far(10, 100)), Way::Replaces);
        assert_eq!(way(&added, Some(There::Other)), Way::Beside, "a link of that name");
    }

    #[test]
    fn a_database_in_use_is_replaced_only_while_the_pbx_at_home_is_stopped() {
        let there = Some(There::File(Far { size: 10, modified_s: 100 }));
        let changed = |path: &[u8]| entry(path, Class::Cdr, Change::Changed(known(path, 10, 100)), 20, 200);
        assert_eq!(way(&changed(b"a.db"), there, Live::Replaces), Way::Replaces);
        assert_eq!(way(&changed(b"a.db"), there, Live::Beside), Way::Beside);
        assert_eq!(way(&changed(b"a.db"), None, Live::Beside), Way::New);
    }

    #[test]
    fn a_log_in_the_list_makes_a_database_of_its_file_whatever_happened_to_it() {
        let removed = entry(b"a/cdr.db3-wal", Class::Cdr, Change::Removed, 9, 500);
        let other = entry(b"a/cdr.db3", Class::Cdr, Change::Added, 9, 500);
        let listed = logged([Ok(other), Ok(removed)]).expect("a list");
        assert_eq!(listed.into_iter().collect::<Vec<_>>(), [(0, b"a/cdr.db3".to_vec())]);
        assert!(logged([Err("damaged".to_owned())]).is_err());
    }

    #[test]
    fn recordings_and_what_is_very_large_wait_until_the_primary_serves() {
        let goes = |entry: &Entry| [Pass::First, Pass::Delta, Pass::Rest].map(|pass| pass.takes(entry, 1000, 3));
        let added = |path: &[u8], class, size| entry(path, class, Change::Added, size, 500);
        assert_eq!(goes(&added(b"m.wav", Class::Voicemail, 9)), [true, true, true]);
        assert_eq!(goes(&added(b"r.wav", Class::Recording, 9)), [false, false, true]);
        assert_eq!(goes(&added(b"cdr.csv", Class::Cdr, LARGE)), [false, false, true]);
        assert_eq!(goes(&added(b"cdr.db", Class::Cdr, 9)), [false, true, true], "a database in use");
        assert_eq!(goes(&entry(b"m.wav", Class::Voicemail, Change::Added, 9, 998)), [false, true, true], "written now");
        assert_eq!(goes(&entry(b"m.wav", Class::Voicemail, Change::Removed, 9, 500)), [false; 3]);
    }

    #[test]
    fn only_the_content_counts_as_a_change() {
        let was = known(b"a", 10, 100);
        let about = was.line.about;
        let unread = || -> Option<String> { panic!("read without need") };
        assert!(!was.differs(about, was.changed, unread) && !was.differs(about, (900, 0), unread));
        assert!(was.differs(About { size: 11, ..about }, was.changed, unread));
        let mut with = was.clone();
        with.line.digest = Some("ab".to_owned());
        assert!(!with.differs(about, was.changed, unread));
        assert!(!with.differs(about, (900, 0), || Some("ab".to_owned())));
        assert!(with.differs(about, (900, 0), || Some("cd".to_owned())), "written anew with the date kept");
    }

    #[test]
    fn a_name_beside_another_is_dated_and_never_too_long() {
        let name = beside(b"log/cdr-csv/Master.csv", "pbx-b", 1_795_723_200);
        assert_eq!(String::from_utf8_lossy(&name), "log/cdr-csv/Master.csv.from-pbx-b-20261126-200000");
        assert_eq!(beside(&[b'x'; 250], "pbx-b", 0).len(), NAME_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn an_entry_is_read_as_it_was_written(path in "[^/]{1,20}", bytes: Vec<u8>, which in 0_usize..3, size: u64) {
            let mut path = path.into_bytes();
            path.extend(bytes);
            let changes = [Change::Added, Change::Removed, Change::Changed(known(&path, 1, -5))];
            let entry = entry(&path, Class::Other, changes[which].clone(), size, 12);
            let text = entry.write();
            let mut lines = text.strip_suffix('\n').expect("an end").split('\n');
            let first = lines.next().expect("a line");
            let read = Entry::read(first, || lines.next().map(str::to_owned));
            prop_assert_eq!(read, Ok(entry));
        }
    }
}
