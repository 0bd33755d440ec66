//! What a pass takes from the ledger, in pieces of one working directory each, as the files are at this moment.
//!
//! What is sent and struck off then is [`super`]'s.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use crate::adapters::data::ledger::{Entries, Ledger};
use crate::adapters::rsync::{Families, Load};
use crate::config::Config;
use crate::data::family::HEADER;
use crate::data::ledger::{Entry, LARGE, Pass, logged};
use crate::data::{Line, shown};
use crate::host::{clock, here};

/// A piece has so many files at most: so many names are held.
const PIECE_FILES_MAX: usize = 5_000;
/// And so many bytes, or one file: so often what is at home is struck off.
const PIECE_BYTES_MAX: u64 = 256 << 20;

/// Some of them, in the order of a walk.
#[derive(Debug, Default)]
pub struct Piece {
    /// As they are now.
    pub entries: Vec<Entry>,
    /// As the list has them.
    pub listed: Vec<Line>,
    /// Those of them that are databases, whatever their names say.
    pub databases: BTreeSet<Vec<u8>>,
    /// With the first piece of each working directory: files that both sides have.
    pub both: Vec<Vec<u8>>,
}

impl Piece {
    /// As the way home takes it.
    pub fn load(&self) -> Load<'_> {
        Load { entries: &self.entries, databases: &self.databases, both: &self.both }
    }
}

/// What a file is by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Database,
    Other,
}

/// What a pass takes, in pieces of one working directory each.
pub struct Pieces {
    entries: std::iter::Peekable<Entries>,
    dirs: Vec<PathBuf>,
    pass: Pass,
    now_s: i64,
    settle_s: i64,
    /// Databases whose logs the list names.
    logged: BTreeSet<(usize, Vec<u8>)>,
    /// Files that both sides have, of each working directory of which no piece was taken yet.
    both: BTreeMap<usize, Vec<Vec<u8>>>,
    /// File systems that are not mounted: what lies there waits.
    unmounted: Vec<PathBuf>,
    /// Files that are there no more.
    pub vanished: u64,
    /// Files that cannot be read: they wait.
    pub unread: u64,
    /// The first of them, and why.
    pub unread_named: Option<String>,
    /// Files that go with a later pass, and their bytes.
    pub later: (u64, u64),
}

impl Pieces {
    /// Those of this pass.
    pub fn new(config: &Config, ledger: &Ledger, pass: Pass) -> Result<Self, String> {
        let (logged, both) = (logged(ledger.entries()?)?, ledger.both()?);
        Ok(Self { logged, both, ..Self::over(config, ledger, ledger.entries()?, pass)? })
    }

    /// Those of this pass among these entries.
    pub fn over(config: &Config, ledger: &Ledger, entries: Entries, pass: Pass) -> Result<Self, String> {
        Ok(Self {
            entries: entries.peekable(),
            dirs: config.pbx.working_dirs.clone(),
            pass,
            now_s: clock::now().wall.as_second(),
            settle_s: i64::try_from(config.sync.settle.as_secs()).unwrap_or(i64::MAX),
            logged: BTreeSet::new(),
            both: BTreeMap::new(),
            unmounted: ledger.unmounted()?,
            vanished: 0,
            unread: 0,
            unread_named: None,
            later: (0, 0),
        })
    }

    /// The next piece; `None`: that was all.
    pub fn next(&mut self) -> Result<Option<Piece>, String> {
        let (mut piece, mut bytes) = (Piece::default(), 0_u64);
        loop {
            let fits = |entry: &Result<Entry, String>| {
                entry.as_ref().is_ok_and(|entry| {
                    let line = &entry.now.line;
                    piece.entries.first().is_none_or(|first| first.now.line.dir == line.dir)
                        && piece.entries.len() < PIECE_FILES_MAX
                        && (piece.entries.is_empty() || bytes + line.about.size <= PIECE_BYTES_MAX)
                }) || entry.is_err()
            };
            let Some(entry) = self.entries.next_if(fits) else { break };
            let mut entry = entry?;
            if !entry.waits() {
                continue;
            }
            let size = entry.now.line.about.size;
            let mut is_now = self.pass.takes(&entry, self.now_s, self.settle_s);
            let listed = entry.now.line.clone();
            if is_now {
                let Some(content) = self.renew(&mut entry)? else { continue };
                let key = (listed.dir, listed.path.clone());
                if content == Content::Database || entry.is_live() || self.logged.contains(&key) {
                    is_now = self.pass != Pass::First && !self.is_of_a_large_database(&entry);
                    piece.databases.insert(key.1);
                }
            }
            if !is_now {
                self.later = (self.later.0 + 1, self.later.1.saturating_add(size));
                continue;
            }
            bytes = bytes.saturating_add(entry.now.line.about.size);
            piece.entries.push(entry);
            piece.listed.push(listed);
        }
        if let Some(first) = piece.entries.first() {
            piece.both = self.both.remove(&first.now.line.dir).unwrap_or_default();
        }
        Ok((!piece.entries.is_empty()).then_some(piece))
    }

    /// A database goes with its parts: where they are large together, nobody waits for them.
    fn is_of_a_large_database(&self, entry: &Entry) -> bool {
        let Some(root) = self.dirs.get(entry.now.line.dir) else { return false };
        let itself = BTreeSet::from([entry.now.line.path.clone()]);
        self.pass == Pass::Delta
            && Families::of(std::slice::from_ref(entry), root, &itself)
                .is_ok_and(|families| families.get(entry).is_some_and(|family| family.size() >= LARGE))
    }

    /// Makes the entry what its file is at this moment; `None`: it is not to be sent. An error: its whole working directory
    /// cannot be looked into.
    fn renew(&mut self, entry: &mut Entry) -> Result<Option<Content>, String> {
        let line = &entry.now.line;
        let root = self.dirs.get(line.dir).ok_or("the ledger names a working directory that there is not")?;
        std::fs::metadata(root).map_err(|error| format!("cannot look into {}: {error}", root.display()))?;
        let now = here::open(root, &line.path).and_then(|file| match file {
            Some(file) => Ok(here::seen(root, &line.path)?.map(|now| content(&file).map(|content| (now, content)))),
            None => Ok(None),
        });
        match now.and_then(Option::transpose) {
            Ok(Some((now, content))) => {
                let about = &mut entry.now.line.about;
                (about.size, about.modified, about.mode) = (now.size, now.modified, now.mode);
                entry.now.changed = now.changed;
                Ok(Some(content))
            }
            Ok(None) => {
                let real = root.canonicalize().unwrap_or_else(|_| root.clone());
                let places = [root, &real].map(|root| root.join(OsStr::from_bytes(&line.path)));
                if self.unmounted.iter().any(|mount| places.iter().any(|place| place.starts_with(mount))) {
                    self.unread += 1;
                    self.unread_named
                        .get_or_insert_with(|| format!("{}: its file system is not mounted", shown(&line.path)));
                } else {
                    self.vanished += 1;
                }
                Ok(None)
            }
            Err(error) => {
                self.unread += 1;
                let named = || format!("{}: {error}", shown(&line.path));
                self.unread_named.get_or_insert_with(named);
                Ok(None)
            }
        }
    }
}

fn content(file: &File) -> io::Result<Content> {
    let mut begin = [0; HEADER.len()];
    match file.read_exact_at(&mut begin, 0) {
        Ok(()) if begin == *HEADER => Ok(Content::Database),
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(Content::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Class;
    use crate::data::ledger::{Change, Known};
    use crate::data::manifest::{About, Kind};

    fn entry(path: &[u8]) -> Entry {
        let about = About { kind: Kind::File, size: 1, modified: (1, 0), mode: 0o644 };
        let line = Line { dir: 0, path: path.to_vec(), about, digest: None };
        Entry { change: Change::Added, class: Class::Other, now: Known { line, changed: (1, 0) } }
    }

    #[test]
    fn only_what_is_seen_to_be_gone_counts_as_vanished() {
        let dir = tempfile::tempdir().expect("directory");
        std::fs::write(dir.path().join("here"), "22").expect("file");
        let mut pieces = Pieces {
            entries: Entries::open(dir.path()).expect("none").peekable(),
            dirs: vec![dir.path().to_owned()],
            pass: Pass::Rest,
            now_s: 0,
            settle_s: 0,
            logged: BTreeSet::new(),
            both: BTreeMap::new(),
            unmounted: vec![dir.path().join("spool")],
            vanished: 0,
            unread: 0,
            unread_named: None,
            later: (0, 0),
        };
        let mut here = entry(b"here");
        assert_eq!(pieces.renew(&mut here), Ok(Some(Content::Other)));
        assert_eq!(here.now.line.about.size, 2, "as it is now");
        assert_eq!(pieces.renew(&mut entry(b"gone/x")), Ok(None));
        assert_eq!((pieces.vanished, pieces.unread), (1, 0));
        assert_eq!(pieces.renew(&mut entry(b"spool/x")), Ok(None));
        assert!(pieces.unread_named.take().is_some_and(|named| named == "spool/x: its file system is not mounted"));
        pieces.unread = 0;
        // Whatever the file system answers but that it is not there.
        assert_eq!(pieces.renew(&mut entry(&[b'x'; 300])), Ok(None));
        assert_eq!((pieces.vanished, pieces.unread), (1, 1));
        assert!(pieces.unread_named.as_ref().is_some_and(|named| named.contains("too long")));
        pieces.dirs[0] = dir.path().join("not mounted");
        assert!(pieces.renew(&mut entry(b"here")).is_err_and(|why| why.contains("not mounted")));
    }
}
