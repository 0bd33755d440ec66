//! Files: finds what an include names, reads it within limits, and remembers enough to see a change.
//!
//! It opens regular files only (a pipe would hang), follows symbolic links, and never writes.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::wire::asterisk_conf::{Demand, FILES_MAX, Files, Found, Include, Text, Trouble, Weight};

/// One file: some 200,000 endpoints as FreePBX writes them.
pub const FILE_BYTES_MAX: u64 = 192 << 20;
/// All files together.
pub const TOTAL_BYTES_MAX: u64 = 384 << 20;
/// Names in a directory that a pattern is compared with.
const NAMES_MAX: usize = 10_000;

/// Where Asterisk's configuration lies on nearly every host. An include that names it by its full path means the copy
/// in the working directory, wherever that lies here.
const ASTERISK_DIR: &str = "/etc/asterisk";

/// A file or directory that the accounts depend on, as it was when they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    path: PathBuf,
    stamp: Option<Stamp>,
    last_line: LastLine,
}

impl Watched {
    /// Where it lies. A directory is here when names in it were compared with a pattern.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What changes when a file does. A copy that keeps times and length has another inode, or at least another ctime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }
}

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastLine {
    /// With a line feed.
    Ended,
    /// Without one, or unknown.
    Open,
}

/// Whether anything that the accounts depend on is not as it was. It costs one `stat` for each file, and reads none.
pub fn changed(files: &[Watched]) -> bool {
    files.iter().any(|file| fs::metadata(&file.path).ok().as_ref().map(Stamp::of) != file.stamp)
}

/// The files below one `pjsip.conf`.
pub struct Disk<'a> {
    /// Includes are relative to it, in whichever file they stand.
    dir: PathBuf,
    before: &'a [Watched],
    watched: Vec<Watched>,
    total: u64,
    read: usize,
}

impl<'a> Disk<'a> {
    pub fn new(root: &Path, before: &'a [Watched]) -> Self {
        let dir = root.parent().unwrap_or(Path::new("")).to_owned();
        Self { dir, before, watched: Vec::new(), total: 0, read: 0 }
    }

    /// The file that includes all others. It must be there, and hold something.
    pub fn root(&mut self, path: &Path) -> (Text, Option<Trouble>) {
        let trouble = match self.open(path) {
            Ok(text) if text.bytes.is_empty() => broken(format!("{} is empty", path.display()), COPY),
            Ok(text) => {
                let damage = self.damage(path, &text);
                return (text, damage);
            }
            Err(Refusal::Absent) => broken(format!("{} is not there", path.display()), COPY),
            Err(Refusal::Because(trouble)) => trouble,
        };
        (Text { name: path.display().to_string(), bytes: Vec::new() }, Some(trouble))
    }

    /// What [`changed`] looks at, each path once.
    pub fn watched(mut self) -> Vec<Watched> {
        self.watched.sort_by(|a, b| a.path.cmp(&b.path));
        self.watched.dedup_by(|a, b| a.path == b.path);
        self.watched
    }

    fn watch(&mut self, path: &Path, stamp: Option<Stamp>, last_line: LastLine) {
        self.watched.push(Watched { path: path.to_owned(), stamp, last_line });
    }

    /// What stood at this path when the accounts in use were read.
    fn earlier(&self, path: &Path) -> Option<(Stamp, LastLine)> {
        let at = self.before.binary_search_by(|watched| watched.path.as_path().cmp(path)).ok()?;
        self.before[at].stamp.map(|stamp| (stamp, self.before[at].last_line))
    }

    fn open(&mut self, path: &Path) -> Result<Text, Refusal> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(e) => {
                self.watch(path, None, LastLine::Open);
                let absent = matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
                return Err(if absent { Refusal::Absent } else { unreadable(path, &e) });
            }
        };
        // Before it is read: what changes meanwhile is seen as a change.
        let stamp = Stamp::of(&metadata);
        if !metadata.is_file() {
            self.watch(path, Some(stamp), LastLine::Open);
            let what = format!("{} is not a regular file", path.display());
            return Err(Refusal::Because(fault(what, "name the file itself")));
        }
        let left = FILE_BYTES_MAX.min(TOTAL_BYTES_MAX - self.total);
        self.read += 1;
        if metadata.len() > left || self.read > FILES_MAX {
            self.watch(path, Some(stamp), LastLine::Open);
            let what = format!("{} is more than is read: {} bytes", path.display(), metadata.len());
            return Err(Refusal::Because(broken(what, "see whether it is what it should be")));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
        let result = File::open(path).and_then(|file| file.take(left).read_to_end(&mut bytes));
        self.total += bytes.len() as u64;
        let last_line = if bytes.last() == Some(&b'\n') { LastLine::Ended } else { LastLine::Open };
        self.watch(path, Some(stamp), last_line);
        match result {
            Ok(_) => Ok(Text { name: path.display().to_string(), bytes }),
            Err(e) => Err(unreadable(path, &e)),
        }
    }

    /// What is strange about a file beside what it was.
    fn damage(&self, path: &Path, text: &Text) -> Option<Trouble> {
        let (stamp, last_line) = self.earlier(path)?;
        if text.bytes.is_empty() && stamp.len > 0 {
            let what = format!("{} is empty and was not", path.display());
            return Some(broken(what, "copy it again; where it is meant, write a comment into it"));
        }
        let cut = last_line == LastLine::Ended && !text.bytes.is_empty() && text.bytes.last() != Some(&b'\n');
        cut.then(|| {
            let what = format!("{} ends within a line, as a file that was cut", path.display());
            broken(what, "copy it again; where it is meant, end its last line")
        })
    }

    /// The paths that a pattern names, ordered; a path without a pattern is itself.
    fn expand(&mut self, path: &Path, troubles: &mut Vec<Trouble>) -> Vec<PathBuf> {
        let mut paths = vec![PathBuf::new()];
        for component in path.components() {
            let pattern = component.as_os_str().as_encoded_bytes();
            if !matches!(component, Component::Normal(_)) || !pattern.iter().any(|byte| b"*?".contains(byte)) {
                for path in &mut paths {
                    path.push(component);
                }
                continue;
            }
            let mut matching = Vec::new();
            for dir in paths {
                let stamp = fs::metadata(&dir).ok().as_ref().map(Stamp::of);
                self.watch(&dir, stamp, LastLine::Open);
                let Ok(names) = fs::read_dir(if dir.as_os_str().is_empty() { Path::new(".") } else { &dir }) else {
                    continue;
                };
                for (number, name) in names.flatten().map(|entry| entry.file_name()).enumerate() {
                    if number >= NAMES_MAX || matching.len() >= FILES_MAX {
                        let what = format!("{} holds more names than are looked at", dir.display());
                        troubles.push(broken(what, "move what is not configuration out of it"));
                        break;
                    }
                    if matches(pattern, name.as_encoded_bytes()) {
                        matching.push(dir.join(name));
                    }
                }
            }
            matching.sort();
            paths = matching;
        }
        paths
    }
}

impl Files for Disk<'_> {
    fn find(&mut self, include: &Include<'_>) -> Found {
        let mut found = Found::default();
        let written = Path::new(include.path);
        // The copy beside us, then what is written; of a relative path the two are the same.
        let beside = self.dir.join(written.strip_prefix(ASTERISK_DIR).unwrap_or(written));
        let mut places = vec![beside, self.dir.join(written)];
        places.dedup();
        for place in places {
            let plain = !include.path.contains(['*', '?']);
            for path in self.expand(&place, &mut found.troubles) {
                if !plain && is_conflict_copy(&path) {
                    let what = format!("{} is a copy that a sync tool could not settle: left out", path.display());
                    found.troubles.push(fault(what, "keep one of the two"));
                    continue;
                }
                match self.open(&path) {
                    Ok(text) => {
                        found.troubles.extend(self.damage(&path, &text));
                        found.texts.push(text);
                    }
                    Err(Refusal::Because(trouble)) => found.troubles.push(trouble),
                    Err(Refusal::Absent) if include.demand == Demand::Required && self.earlier(&path).is_some() => {
                        let what = format!("{} was there and is not any more", path.display());
                        found.troubles.push(broken(what, "copy it again, or take the #include out"));
                    }
                    Err(Refusal::Absent) => {}
                }
            }
            if !found.texts.is_empty() || !found.troubles.is_empty() {
                break;
            }
        }
        found
    }
}

enum Refusal {
    Absent,
    Because(Trouble),
}

const COPY: &str = "copy it here, or correct its path in failover.yaml";

fn broken(what: String, fix: &str) -> Trouble {
    Trouble { weight: Weight::Broken, what, fix: fix.to_owned() }
}

fn fault(what: String, fix: &str) -> Trouble {
    Trouble { weight: Weight::Fault, ..broken(what, fix) }
}

fn unreadable(path: &Path, e: &io::Error) -> Refusal {
    let fix = "let the robot's user read it";
    Refusal::Because(broken(format!("cannot read {}: {e}", path.display()), fix))
}

/// How Syncthing and Unison name the loser of a conflict.
fn is_conflict_copy(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.contains(".sync-conflict-") || name.contains("(conflict")
}

/// Whether a name fits a pattern of `*` and `?`, within one component. A name that begins with a dot is hidden, as the
/// temporary files of sync tools are.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    let (mut p, mut n) = (0, 0);
    // Where the last star stands, and the byte of the name up to which it reaches.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, reached)) => {
                    star = Some((at, reached + 1));
                    (p, n) = (at + 1, reached + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_pattern_fits_as_a_shell_would_say() {
        for (pattern, name) in
            [("*.conf", "a.conf"), ("*", "x"), ("a*b*c", "aXbYbc"), ("??.conf", "ab.conf"), (".*", ".a")]
        {
            assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.conf", "a.conf~"), ("*.conf", ".a.conf.Xy12"), ("?", ".a"), ("??", "a"), ("a*b", "ac"), ("", "a")]
        {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }
}
