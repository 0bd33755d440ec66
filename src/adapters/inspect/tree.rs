//! Walks the working directories for what belongs to one host: which lines of which files name it.
//!
//! Symbolic links are not followed, recordings, databases, logs and large files are not opened, and all of it ends: in
//! files, bytes, hits and time. It blocks. What a line holds is decided by [`crate::wire::bound`].

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::wire::bound::{self, Hit, Names};

/// How much is looked at; each limit that was met is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files that are looked at by name: a PBX with its phones' settings has some thousands.
    pub files: usize,
    /// A larger file is data, not settings.
    pub file_bytes: u64,
    /// Lines that are kept; the rest is counted.
    pub hits: usize,
    /// A person waits for it; 100,000 small files take 2 s of an idle processor.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { files: 500_000, file_bytes: 1 << 20, hits: 20, time: Duration::from_secs(60) }
    }
}

/// Directories below each other: deeper is a loop of bind mounts.
const DEPTH_MAX: usize = 32;

/// Certificates that are kept.
const CERTIFICATES_MAX: usize = 20;

/// A NUL in so many first bytes: no text.
const BINARY_PROBE_BYTES: usize = 8 * 1024;

/// Directories that hold what people said and what happened, not settings.
const DATA_DIRS: [&str; 10] =
    [".git", ".stversions", "voicemail", "monitor", "recordings", "log", "logs", "cdr-csv", "cdr-custom", "moh"];

/// Files that hold no settings as text.
const DATA_ENDINGS: [&str; 38] = [
    "wav", "wav49", "gsm", "g722", "g729", "ulaw", "alaw", "al", "ul", "sln", "sln16", "sln48", "mp3", "mp4", "ogg",
    "opus", "sqlite", "sqlite3", "db", "db-wal", "db-shm", "ibd", "log", "gz", "xz", "zst", "bz2", "zip", "tar", "tgz",
    "png", "jpg", "gif", "tif", "tiff", "pdf", "so", "rom",
];

/// A line that names the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// What stands there.
    pub hit: Hit,
}

/// A certificate's file, and where it is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its file.
    pub path: PathBuf,
    /// `FILE:LINE`.
    pub named_at: String,
}

/// What was found, and what was not looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Lines that announce the host's address, then other lines that name it, each in the order of their files.
    pub places: Vec<Place>,
    /// Lines beyond those.
    pub more: usize,
    /// Files that were read.
    pub read: usize,
    /// Files that were too large.
    pub large: usize,
    /// Files and directories that may not be read, and the first of them.
    pub closed: usize,
    /// The first of those.
    pub first_closed: Option<PathBuf>,
    /// Whether the walk ended before the tree did.
    pub cut: Option<&'static str>,
    /// Certificates that settings name.
    pub certificates: Vec<Certificate>,
}

/// Looks through the trees.
pub fn look(dirs: &[PathBuf], names: &Names, limits: Limits) -> Found {
    let mut walk = Walk {
        names,
        limits,
        deadline: Instant::now() + limits.time,
        listed: 0,
        buffer: Vec::new(),
        announced: Vec::new(),
        named: Vec::new(),
        found: Found::default(),
    };
    for dir in dirs {
        walk.directory(dir, 0);
    }
    let Walk { mut announced, named, mut found, .. } = walk;
    let all = announced.len() + named.len() + found.more;
    announced.extend(named);
    announced.truncate(limits.hits);
    found.more = all - announced.len();
    found.places = announced;
    found
}

struct Walk<'a> {
    names: &'a Names,
    limits: Limits,
    deadline: Instant,
    listed: usize,
    buffer: Vec<u8>,
    announced: Vec<Place>,
    named: Vec<Place>,
    found: Found,
}

impl Walk<'_> {
    fn directory(&mut self, dir: &Path, depth: usize) {
        if depth > DEPTH_MAX {
            self.found.cut = Some("directories lie too deep");
            return;
        }
        let Ok(entries) = fs::read_dir(dir) else { return self.closed(dir) };
        // One more than may be looked at: that there are too many is told.
        let left = self.limits.files.saturating_sub(self.listed) + 1;
        // Of the entry itself: a link is neither.
        let known = entries.flatten().filter_map(|entry| Some((entry.file_name(), entry.file_type().ok()?)));
        let mut entries: Vec<_> = known.take(left).collect();
        // What is told must not change from one run to the next.
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in entries {
            self.listed += 1;
            if self.listed > self.limits.files {
                self.found.cut = Some("there are too many files");
                return;
            }
            if Instant::now() > self.deadline {
                self.found.cut = Some("it took too long");
                return;
            }
            if kind.is_dir() && !is_data_dir(&name) {
                self.directory(&dir.join(&name), depth + 1);
            } else if kind.is_file() && !is_data(&name) {
                self.file(&dir.join(&name));
            }
            if self.found.cut.is_some() {
                return;
            }
        }
    }

    fn file(&mut self, path: &Path) {
        // The name may lead elsewhere by now: what was opened is asked, not what was listed.
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let Ok(file) = rustix::fs::open(path, flags | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty()) else {
            return self.closed(path);
        };
        let file = File::from(file);
        let Ok(metadata) = file.metadata() else { return };
        if !metadata.is_file() {
            return;
        }
        if metadata.len() > self.limits.file_bytes {
            self.found.large += 1;
            return;
        }
        self.buffer.clear();
        if file.take(self.limits.file_bytes).read_to_end(&mut self.buffer).is_err() {
            return self.closed(path);
        }
        if self.buffer[..self.buffer.len().min(BINARY_PROBE_BYTES)].contains(&0) {
            return;
        }
        self.found.read += 1;
        let seen = bound::look(&self.buffer, path, self.names);
        for hit in seen.hits {
            let places = if hit.announced_by.is_some() { &mut self.announced } else { &mut self.named };
            if places.len() < self.limits.hits {
                places.push(Place { path: path.to_owned(), hit });
            } else {
                self.found.more += 1;
            }
        }
        for named in seen.certificates {
            let certificates = &mut self.found.certificates;
            let is_known = certificates.iter().any(|known| known.path == Path::new(&named.path));
            if !is_known && certificates.len() < CERTIFICATES_MAX {
                let named_at = format!("{}:{}", shown(path), named.line);
                certificates.push(Certificate { path: PathBuf::from(named.path), named_at });
            }
        }
    }

    fn closed(&mut self, path: &Path) {
        self.found.closed += 1;
        self.found.first_closed.get_or_insert_with(|| path.to_owned());
    }
}

fn is_data_dir(name: &OsStr) -> bool {
    DATA_DIRS.iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn is_data(name: &OsStr) -> bool {
    let ending = Path::new(name).extension().unwrap_or_default();
    DATA_ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// A path in one line: what is no text, or would end the line, is written as an escape.
pub fn shown(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::symlink;

    use super::*;

    fn names() -> Names {
        let mut names = Names::default();
        names.host("203.0.113.1");
        names
    }

    fn told(found: &Found, dir: &Path) -> Vec<String> {
        let line =
            |place: &Place| format!("{}:{}", shown(place.path.strip_prefix(dir).expect("inside")), place.hit.line);
        found.places.iter().map(line).collect()
    }

    #[test]
    fn announced_addresses_come_first_and_data_is_not_opened() {
        let dir = tempfile::tempdir().expect("directory");
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("parent")).expect("made");
            fs::write(path, bytes).expect("written");
        };
        write("a/extensions.conf", b"x\ny=203.0.113.1\n");
        write("b/pjsip.conf", b"[t]\ntype=transport\nbind=203.0.113.1\n");
        write("b/greeting.wav", b"203.0.113.1");
        write("voicemail/x.txt", b"203.0.113.1");
        write("c/core", b"\x7fELF\x00203.0.113.1");
        write("c/large.conf", &b"203.0.113.1\n".repeat(100_000));
        let found = look(&[dir.path().to_owned()], &names(), Limits::default());
        assert_eq!(told(&found, dir.path()), ["b/pjsip.conf:3", "a/extensions.conf:2"]);
        assert_eq!((found.read, found.large, found.more, found.cut), (2, 1, 0, None));
    }

    #[test]
    fn a_link_out_of_the_tree_and_a_pipe_are_not_followed() {
        let outside = tempfile::tempdir().expect("directory");
        fs::write(outside.path().join("x.conf"), "bind=203.0.113.1").expect("written");
        let dir = tempfile::tempdir().expect("directory");
        symlink(outside.path(), dir.path().join("dir")).expect("linked");
        symlink(outside.path().join("x.conf"), dir.path().join("file.conf")).expect("linked");
        symlink("loop", dir.path().join("loop")).expect("linked");
        let pipe = dir.path().join("pipe.conf");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("pipe");
        let found = look(&[dir.path().to_owned()], &names(), Limits::default());
        assert_eq!(found, Found::default());
    }

    #[test]
    fn a_name_that_is_no_text_or_two_lines_is_written_in_one() {
        let dir = tempfile::tempdir().expect("directory");
        let name = std::ffi::OsString::from_vec(b"a\nb\xff.conf".to_vec());
        fs::write(dir.path().join(name), "bind=203.0.113.1").expect("written");
        let found = look(&[dir.path().to_owned()], &names(), Limits::default());
        assert_eq!(told(&found, dir.path()), [r"a\nb\xff.conf:1"]);
    }

    #[test]
    fn every_limit_that_was_met_is_told() {
        let dir = tempfile::tempdir().expect("directory");
        for at in 0..10 {
            fs::write(dir.path().join(format!("{at}.conf")), "bind=203.0.113.1\nx=203.0.113.1\n").expect("written");
        }
        let look = |limits| look(&[dir.path().to_owned()], &names(), limits);
        let few = look(Limits { hits: 3, ..Limits::default() });
        assert_eq!((few.places.len(), few.more), (3, 17));
        assert!(few.places.iter().all(|place| place.hit.announced_by.is_some()));
        assert_eq!(look(Limits { files: 4, ..Limits::default() }).cut, Some("there are too many files"));
        assert_eq!(look(Limits { time: Duration::ZERO, ..Limits::default() }).cut, Some("it took too long"));
        let gone = super::look(&[dir.path().join("gone")], &names(), Limits::default());
        assert_eq!((gone.closed, gone.first_closed), (1, Some(dir.path().join("gone"))));
    }
}
