//! The list of a snapshot as a file: its head, its entries in the order of a walk, its end with the digest of all before.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use jiff::Timestamp;

use super::MANIFEST;
use crate::data::snapshot::{Foot, Head, Item};

/// A longer head is none of ours.
const HEAD_MAX: u64 = 64 * 1024;
/// The last line is shorter.
const FOOT_MAX: u64 = 1024;
/// A longer line is none of ours: the longest path is 4096 bytes, each written with three characters.
const LINE_MAX: u64 = 32 * 1024;

/// A snapshot, as far as its list tells at a glance.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its name.
    pub id: String,
    /// How its list begins.
    pub head: Head,
    /// How it ends.
    pub foot: Foot,
    /// When what it holds was last found good.
    pub confirmed: Timestamp,
}

fn open(dir: &Path) -> io::Result<File> {
    super::at::open(super::at::root(dir)?, MANIFEST.as_ref())
}

/// Reads head and end.
///
/// # Errors
/// One line: it is damaged, or none.
pub fn known(dir: &Path, id: &str) -> Result<Known, String> {
    let plain = |error: io::Error| error.to_string();
    let mut file = open(dir).map_err(plain)?;
    let about = file.metadata().map_err(plain)?;
    let damaged = || "its list is damaged".to_owned();
    let mut text = Vec::new();
    (&file).take(HEAD_MAX).read_to_end(&mut text).map_err(plain)?;
    let end = text.windows(2).position(|two| two == b"\n\n").ok_or_else(damaged)?;
    let text = std::str::from_utf8(&text[..end + 2]).map_err(|_| damaged())?;
    let head = Head::read(text.split('\n')).ok_or_else(damaged)?;
    file.seek(SeekFrom::Start(about.len().saturating_sub(FOOT_MAX))).map_err(plain)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(plain)?;
    let text = String::from_utf8_lossy(&text);
    let last = text.strip_suffix('\n').and_then(|text| text.rsplit('\n').next());
    let (foot, _) = last.and_then(Foot::read).ok_or_else(damaged)?;
    let touched = about.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
    let confirmed = touched.unwrap_or(head.at).max(head.at);
    Ok(Known { id: id.to_owned(), head, foot, confirmed })
}

/// Reads the entries one by one; the end is compared with what was read.
pub struct Reader {
    lines: BufReader<File>,
    hasher: blake3::Hasher,
    entries: u64,
    left_out: Vec<String>,
    ended: bool,
}

impl Reader {
    /// Opens the list of the snapshot in this directory.
    ///
    /// # Errors
    /// One line.
    pub fn open(dir: &Path) -> Result<Self, String> {
        let file = open(dir).map_err(|error| format!("its list cannot be read: {error}"))?;
        let lines = BufReader::new(file);
        let mut reader = Self { lines, hasher: blake3::Hasher::new(), entries: 0, left_out: Vec::new(), ended: false };
        while !reader.line()?.is_empty() {}
        Ok(reader)
    }

    /// The files that the list names as left out; whole once all is read.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        let read = (&mut self.lines).take(LINE_MAX).read_until(b'\n', &mut line);
        read.map_err(|error| format!("its list cannot be read: {error}"))?;
        let text = line.strip_suffix(b"\n").ok_or("its list was cut")?;
        let text = String::from_utf8(text.to_vec()).map_err(|_| "its list is damaged")?;
        if text.starts_with("end ") {
            let (foot, digest) = Foot::read(&text).ok_or("its list is damaged")?;
            let whole = foot.entries == self.entries && digest == self.hasher.finalize().to_hex().as_str();
            self.ended = true;
            return if whole { Ok(text) } else { Err("its list is damaged".to_owned()) };
        }
        self.hasher.update(&line);
        Ok(text)
    }

    /// The next entry; `None` at a good end.
    ///
    /// # Errors
    /// One line: the list is damaged.
    pub fn next(&mut self) -> Result<Option<Item>, String> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let text = self.line()?;
            if self.ended {
                return Ok(None);
            }
            if let Some(named) = text.strip_prefix("left-out ") {
                self.left_out.push(named.to_owned());
                continue;
            }
            self.entries += 1;
            return Item::read(&text).map(Some);
        }
    }
}

/// Reads ahead by one, so that the list is held beside another in the same order.
pub struct Ahead {
    reader: Reader,
    next: Option<Item>,
}

impl Ahead {
    /// From the first entry on.
    pub fn new(mut reader: Reader) -> Result<Self, String> {
        let next = reader.next()?;
        Ok(Self { reader, next })
    }

    /// The entry that comes next.
    pub fn peek(&self) -> Option<&Item> {
        self.next.as_ref()
    }

    /// Takes it, and reads on.
    pub fn pop(&mut self) -> Result<Option<Item>, String> {
        let next = self.reader.next()?;
        Ok(std::mem::replace(&mut self.next, next))
    }
}

/// Writes one.
pub struct Writer {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    /// Entries so far.
    pub entries: u64,
}

impl Writer {
    /// Begins it in this directory.
    pub fn new(dir: &Path, head: &Head) -> io::Result<Self> {
        let file = super::at::create(super::at::root(dir)?, MANIFEST.as_ref())?;
        let mut writer = Self { file: BufWriter::new(file), hasher: blake3::Hasher::new(), entries: 0 };
        writer.text(&head.write())?;
        Ok(writer)
    }

    /// One entry.
    pub fn item(&mut self, item: &Item) -> io::Result<()> {
        self.entries += 1;
        self.text(&item.write())
    }

    /// Text as it is, whole lines.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.hasher.update(text.as_bytes());
        self.file.write_all(text.as_bytes())
    }

    /// Ends it, on disk.
    pub fn end(mut self, foot: &Foot) -> io::Result<()> {
        let digest = self.hasher.finalize().to_hex().to_string();
        self.file.write_all(foot.write(&digest).as_bytes())?;
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}
