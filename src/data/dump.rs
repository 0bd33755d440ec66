//! A database dump in the working directory: young, and whole as far as its end tells.
//!
//! A text dump tells by its last line that it was written to its end. A compressed one does not without being read
//! whole, which nobody wants of gigabytes every few minutes: of it only age and size are judged.

use std::time::Duration;

use jiff::Timestamp;

use super::gate::{Weight, age, rough};

/// So much of its end is read.
pub const END_MAX: u64 = 512;

/// A dump as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// Its name, for people.
    pub name: String,
    /// An older one does not pass.
    pub max_age: Duration,
    /// What was seen of it.
    pub seen: Seen,
}

/// What was seen of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It is not there, or cannot be read: why.
    Not(String),
    /// It is there.
    Written {
        /// When, as its writer dated it.
        at: Timestamp,
        /// Bytes.
        size: u64,
        /// Its last bytes, of a text.
        end: Vec<u8>,
    },
}

/// Whether the end of a dump of this name is read.
pub fn is_text(name: &[u8]) -> bool {
    name.len() > 4 && name[name.len() - 4..].eq_ignore_ascii_case(b".sql")
}

/// What the programs write at their end (mysqldump and mariadb-dump, pg_dump and pg_dumpall, `.dump` of sqlite3).
fn is_whole(end: &[u8]) -> bool {
    let text = String::from_utf8_lossy(end);
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty() && *line != "--").unwrap_or_default();
    // pg_dump of 2025 and later ends with a line of its own behind it.
    let before = text.contains("-- PostgreSQL database dump complete");
    let cluster = text.contains("-- PostgreSQL database cluster dump complete");
    last.starts_with("-- Dump completed") || before || cluster || last == "COMMIT;"
}

/// What speaks against it.
pub(super) fn judge(dump: &Dump, now: Timestamp, add: &mut impl FnMut(Weight, String, &str)) {
    let name = &dump.name;
    match &dump.seen {
        Seen::Not(why) => {
            let text = format!("the database dump {name} is not there: {why}");
            add(Weight::Broken, text, "see that the primary writes it and the sync carries it (sync.dump)");
        }
        Seen::Written { at, size, end } => {
            if *size == 0 || (is_text(name.as_bytes()) && !is_whole(end)) {
                let text = format!("the database dump {name} is not whole: it does not end as a dump does");
                add(Weight::Broken, text, "have it written under another name and renamed once it is whole");
            }
            let old = age(now, *at);
            if old > dump.max_age {
                let text = format!("the database dump {name} is {} old (sync.dump.max_age)", rough(old));
                add(Weight::Stale, text, "see that the primary still writes it");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-26T03:00:00Z".parse().expect("a time")
    }

    fn judged(name: &str, age_h: i64, size: u64, end: &str) -> Vec<Weight> {
        let at = now().checked_sub(SignedDuration::from_hours(age_h)).expect("in range");
        let seen = Seen::Written { at, size, end: end.as_bytes().to_vec() };
        let dump = Dump { name: name.to_owned(), max_age: Duration::from_secs(24 * 3600), seen };
        let mut weights = Vec::new();
        judge(&dump, now(), &mut |weight, _, todo: &str| {
            assert!(!todo.is_empty());
            weights.push(weight);
        });
        weights
    }

    #[test]
    fn a_dump_that_ends_as_its_program_ends_it_is_whole_and_any_other_is_broken() {
        for end in [
            "x\n-- Dump completed on 2026-11-26  2:00:01\n",
            "--\n-- PostgreSQL database dump complete\n--\n\n",
            "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n\n",
            "INSERT INTO a VALUES(1);\nCOMMIT;\n",
        ] {
            assert_eq!(judged("pbx.sql", 1, 100, end), [], "{end}");
        }
        assert_eq!(judged("pbx.sql", 1, 100, "INSERT INTO a VALUES(1"), [Weight::Broken]);
        assert_eq!(judged("pbx.sql.gz", 1, 100, ""), [], "of a compressed one nobody knows");
        assert_eq!(judged("pbx.sql.gz", 1, 0, ""), [Weight::Broken]);
        assert_eq!(judged("pbx.sql.gz", 25, 100, ""), [Weight::Stale]);
        let gone = Dump { name: "a.sql".into(), max_age: Duration::ZERO, seen: Seen::Not("no such file".into()) };
        let mut weights = Vec::new();
        judge(&gone, now(), &mut |weight, _, _: &str| weights.push(weight));
        assert_eq!(weights, [Weight::Broken]);
    }
}
