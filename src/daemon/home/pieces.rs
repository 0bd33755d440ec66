//! What a pass takes from the ledger, in pieces of one working directory each, as the files are at this moment.
//!
//! What is sent and struck off then is [`super`]'s.

use std::path::PathBuf;

use crate::adapters::data::ledger::{Entries, Ledger};
use crate::adapters::rsync::Families;
use crate::config::Config;
use crate::data::ledger::{Entry, LARGE, Pass};
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
}

/// What a pass takes, in pieces of one working directory each.
pub struct Pieces {
    entries: std::iter::Peekable<Entries>,
    dirs: Vec<PathBuf>,
    pass: Pass,
    now_s: i64,
    settle_s: i64,
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
        Ok(Self::over(config, ledger.entries()?, pass))
    }

    /// Those of this pass among these entries.
    pub fn over(config: &Config, entries: Entries, pass: Pass) -> Self {
        Self {
            entries: entries.peekable(),
            dirs: config.pbx.working_dirs.clone(),
            pass,
            now_s: clock::now().wall.as_second(),
            settle_s: i64::try_from(config.sync.settle.as_secs()).unwrap_or(i64::MAX),
            vanished: 0,
            unread: 0,
            unread_named: None,
            later: (0, 0),
        }
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
            if !self.pass.takes(&entry, self.now_s, self.settle_s) || self.is_of_a_large_database(&entry) {
                self.later = (self.later.0 + 1, self.later.1.saturating_add(size));
                continue;
            }
            let listed = entry.now.line.clone();
            if !self.renew(&mut entry)? {
                continue;
            }
            bytes = bytes.saturating_add(entry.now.line.about.size);
            piece.entries.push(entry);
            piece.listed.push(listed);
        }
        Ok((!piece.entries.is_empty()).then_some(piece))
    }

    /// A database goes with its parts: where they are large together, nobody waits for them.
    fn is_of_a_large_database(&self, entry: &Entry) -> bool {
        let Some(root) = self.dirs.get(entry.now.line.dir) else { return false };
        self.pass == Pass::Delta
            && entry.is_live()
            && Families::of(std::slice::from_ref(entry), root)
                .is_ok_and(|families| families.get(entry).is_some_and(|family| family.size() >= LARGE))
    }

    /// Makes the entry what its file is at this moment; false: it is not to be sent. An error: its whole working directory
    /// cannot be looked into.
    fn renew(&mut self, entry: &mut Entry) -> Result<bool, String> {
        let line = &entry.now.line;
        let root = self.dirs.get(line.dir).ok_or("the ledger names a working directory that there is not")?;
        std::fs::metadata(root).map_err(|error| format!("cannot look into {}: {error}", root.display()))?;
        let now = here::open(root, &line.path).and_then(|file| match file {
            Some(_) => here::seen(root, &line.path),
            None => Ok(None),
        });
        match now {
            Ok(Some(now)) => {
                let about = &mut entry.now.line.about;
                (about.size, about.modified, about.mode) = (now.size, now.modified, now.mode);
                entry.now.changed = now.changed;
            }
            Ok(None) => {
                self.vanished += 1;
                return Ok(false);
            }
            Err(error) => {
                self.unread += 1;
                let named = || format!("{}: {error}", shown(&line.path));
                self.unread_named.get_or_insert_with(named);
                return Ok(false);
            }
        }
        Ok(true)
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
            vanished: 0,
            unread: 0,
            unread_named: None,
            later: (0, 0),
        };
        let mut here = entry(b"here");
        assert_eq!(pieces.renew(&mut here), Ok(true));
        assert_eq!(here.now.line.about.size, 2, "as it is now");
        assert_eq!(pieces.renew(&mut entry(b"gone/x")), Ok(false));
        assert_eq!((pieces.vanished, pieces.unread), (1, 0));
        // Whatever the file system answers but that it is not there.
        assert_eq!(pieces.renew(&mut entry(&[b'x'; 300])), Ok(false));
        assert_eq!((pieces.vanished, pieces.unread), (1, 1));
        assert!(pieces.unread_named.as_ref().is_some_and(|named| named.contains("too long")));
        pieces.dirs[0] = dir.path().join("not mounted");
        assert!(pieces.renew(&mut entry(b"here")).is_err_and(|why| why.contains("not mounted")));
    }
}
