//! A database and its parts: the files that SQLite keeps beside it, which belong to this content of it and to no other.
//!
//! A `-wal` or a `-journal` beside a database of another content destroys it: SQLite plays it over what stands there. So
//! they go home together or not at all. What stands here and there is looked at by `adapters/rsync`.

use super::ledger::{There, Way, beside_within};

/// What may hold a part of the content: without it the database is half of one.
pub const LOGS: [&str; 2] = ["-wal", "-journal"];

/// So a database of SQLite begins, whatever its name is.
pub const HEADER: &[u8; 16] = b"SQLite format 3\0";

/// An index to the log, made anew where it is missing.
pub const INDEX: &str = "-shm";

/// All of them, in the order of their names.
pub const PARTS: [&str; 3] = ["-journal", "-shm", "-wal"];

/// The longest of their ends.
const PART_BYTES_MAX: usize = "-journal".len();

/// The database that a file is a part of, by its name.
pub fn base(path: &[u8]) -> Option<&[u8]> {
    let base = PARTS.iter().find_map(|part| path.strip_suffix(part.as_bytes()))?;
    (!base.is_empty() && !base.ends_with(b"/")).then_some(base)
}

/// The database that a file is the log of, by its name.
pub fn logged(path: &[u8]) -> Option<&[u8]> {
    base(path)
        .filter(|base| LOGS.iter().any(|log| path.len() == base.len() + log.len() && path.ends_with(log.as_bytes())))
}

/// Whether a file is a database by its name.
pub fn is_database(path: &[u8]) -> bool {
    let name = path.to_ascii_lowercase();
    [".db", ".sqlite", ".sqlite3"].iter().any(|end| name.ends_with(end.as_bytes()))
}

/// The name of a part of this database.
pub fn part(base: &[u8], part: &str) -> Vec<u8> {
    [base, part.as_bytes()].concat()
}

/// The name under which a database goes beside another; that of each part is this with its end.
pub fn stem(base: &[u8], node: &str, modified_s: i64) -> Vec<u8> {
    beside_within(base, node, modified_s, PART_BYTES_MAX)
}

/// Whether what stands there is the log of another content: an empty one says nothing.
pub fn is_log(there: Option<There>) -> bool {
    match there {
        None => false,
        Some(There::File(far)) => far.size > 0,
        Some(There::Other) => true,
    }
}

/// Whether a log stands at home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogThere {
    /// None: a database of ours may take the name.
    No,
    /// One does, or that is not known.
    MayBe,
}

/// How a database goes that has no log here: `way` is how it would go as any other file.
pub fn alone(way: Way, log: LogThere) -> Way {
    match (way, log) {
        // It is compared by its digest only.
        (Way::Seems, _) => Way::Seems,
        (_, LogThere::MayBe) => Way::Beside,
        (way, LogThere::No) => way,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ledger::Far;

    #[test]
    fn a_part_names_its_database_and_goes_beside_under_its_name() {
        assert_eq!(base(b"a/cdr.db-wal"), Some(&b"a/cdr.db"[..]));
        assert_eq!([base(b"cdr.db"), base(b"a/-wal"), base(b"-shm")], [None; 3]);
        assert_eq!(part(b"cdr.db", "-journal"), b"cdr.db-journal");
        let logs = [&b"cdr.db3-wal"[..], b"x-journal", b"cdr.db3-shm", b"a/-wal", b"cdr.db3"].map(logged);
        assert_eq!(logs, [Some(&b"cdr.db3"[..]), Some(b"x"), None, None, None]);
        let long = [b'x'; 255];
        let stem = stem(&long, "pbx-b", 0);
        assert_eq!(part(&stem, "-journal").len(), 255);
    }

    #[test]
    fn a_log_at_home_keeps_our_database_from_its_name() {
        let far = |size| Some(There::File(Far { size, modified_s: 1 }));
        assert_eq!([None, far(0), far(1), Some(There::Other)].map(is_log), [false, false, true, true]);
        let ways = [Way::New, Way::Replaces, Way::Seems, Way::Beside];
        assert_eq!(ways.map(|way| alone(way, LogThere::No)), ways);
        let beside = [Way::Beside, Way::Beside, Way::Seems, Way::Beside];
        assert_eq!(ways.map(|way| alone(way, LogThere::MayBe)), beside);
    }
}
