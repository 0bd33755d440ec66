//! The main database's shape: opened, checked, migrated.
//!
//! What lies in the tables is written by `write` and `queue`, and read by `read`.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::place::private_file;
use super::trouble::StoreError;
use crate::units::journal::JOURNAL_SCHEMA;

/// The shape of the tables. Raise it together with a step in [`MIGRATIONS`].
const STORE_SCHEMA: u32 = 1;

/// What each schema adds to the one before it: `MIGRATIONS[0]` leads from an empty file to 1.
const MIGRATIONS: [&str; STORE_SCHEMA as usize] = [include_str!("schema_1.sql")];

/// Marks the file as ours: "pbxf".
const APPLICATION_ID: u32 = 0x7062_7866;

/// Opens the database, makes it durable, checks it and brings it to our schema. Removes nothing.
pub fn open(file: &Path) -> Result<Connection, StoreError> {
    private_file(file)?;
    let sqlite = |error: rusqlite::Error| StoreError::sqlite(file, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(file, flags).map_err(sqlite)?;
    settle(&conn, "FULL").map_err(sqlite)?;
    let (found, application) = (pragma(&conn, "user_version"), pragma(&conn, "application_id"));
    let (found, application) = (found.map_err(sqlite)?, application.map_err(sqlite)?);
    let corrupt = |why: String| StoreError::Corrupt { file: file.to_owned(), why };
    let tables: u32 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sqlite)?;
    if (tables > 0 || application != 0) && application != APPLICATION_ID {
        return Err(corrupt("it is the database of another program".to_owned()));
    }
    if found > STORE_SCHEMA {
        return Err(StoreError::Newer { file: file.to_owned(), found, known: STORE_SCHEMA });
    }
    let told: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sqlite)?;
    if told != "ok" {
        return Err(corrupt(told.lines().last().unwrap_or_default().to_owned()));
    }
    if found < STORE_SCHEMA {
        migrate(&mut conn, found).map_err(sqlite)?;
    }
    let journal: u32 = conn
        .query_row("SELECT coalesce(max(schema), 0) FROM plan WHERE closed = 0", [], |row| row.get(0))
        .map_err(sqlite)?;
    if journal > JOURNAL_SCHEMA {
        return Err(StoreError::Newer { file: file.to_owned(), found: journal, known: JOURNAL_SCHEMA });
    }
    Ok(conn)
}

/// Sets how a connection works: write-ahead log, no shared memory (one process per directory: a full disk can then
/// not end us by SIGBUS), nothing in temporary files.
pub fn settle(conn: &Connection, synchronous: &str) -> rusqlite::Result<()> {
    conn.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    conn.pragma_update(None, "mmap_size", 0)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "cell_size_check", "ON")?;
    conn.pragma_update(None, "trusted_schema", "OFF")?;
    // 1 MB: a third of the default, since rows are small and RSS counts.
    conn.pragma_update(None, "cache_size", -1024)?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    conn.pragma_update(None, "synchronous", synchronous)
}

fn pragma(conn: &Connection, name: &str) -> rusqlite::Result<u32> {
    conn.pragma_query_value(None, name, |row| row.get(0))
}

fn migrate(conn: &mut Connection, found: u32) -> rusqlite::Result<()> {
    let tx = conn.transaction()?;
    for (from, sql) in MIGRATIONS.iter().enumerate() {
        if from >= found as usize {
            tx.execute_batch(sql)?;
        }
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", STORE_SCHEMA)?;
    tx.commit()
}

/// A sum over what a row says (FNV-1a, 64 bits), kept beside it: SQLite finds a broken tree, not a flipped digit.
pub fn seal(parts: &[&str]) -> i64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0xff])) {
        sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    sum.cast_signed()
}
