//! Snapshots of the working directory without a disk: what they are called, what their lists say, what is copied, which
//! are due and which go. The adapter `adapters/data/snapshot` makes them.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::class::Class;
use super::family;
use super::manifest::{About, Line};
use super::path::{self, shown, unshown};

/// A larger file is only listed: no configuration and no database of a PBX that we know is so large, and a copy of one
/// that is rewritten daily would push everything else out.
pub const FILE_MAX: u64 = 256 << 20;

/// So long a changed configuration may wait for its snapshot: many changes are one.
pub const CONFIG_EVERY: Duration = Duration::from_secs(60);

/// So long what else changed may: a database that the sync brings anew all day is no reason for a snapshot a minute.
pub const OTHER_EVERY: Duration = Duration::from_secs(3600);

/// Why a snapshot was taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The gate found it good while this node watched.
    LastGood,
    /// A takeover, by its plan, before anything was changed.
    Takeover(String),
    /// A person put another one in its place.
    BeforeRestore,
}

impl Kind {
    /// The name of one that is taken now; no two are alike within a second.
    pub fn id(&self, at: Timestamp) -> String {
        let at = at.strftime("%Y%m%dT%H%M%SZ");
        match self {
            Self::LastGood => format!("good-{at}"),
            Self::Takeover(plan) => format!("takeover-{plan}"),
            Self::BeforeRestore => format!("before-restore-{at}"),
        }
    }

    /// As it is written for people and in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LastGood => "last-good",
            Self::Takeover(_) => "takeover",
            Self::BeforeRestore => "before-restore",
        }
    }
}

/// Whether this is the name of a snapshot: it becomes part of a path.
pub fn is_id(id: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !id.is_empty() && id.len() <= 100 && !id.starts_with('.') && id.bytes().all(good)
}

/// Whether a file is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// It is.
    Yes,
    /// It is only listed: large as a rule, and no load depends on it.
    Listed,
    /// It is larger than [`FILE_MAX`].
    TooLarge,
}

/// Whether a file of this class and size is copied.
pub fn is_copied(class: Class, size: u64) -> Copied {
    match class {
        Class::Voicemail | Class::Recording | Class::Cdr => Copied::Listed,
        Class::Config | Class::Other if size > FILE_MAX => Copied::TooLarge,
        Class::Config | Class::Other => Copied::Yes,
    }
}

/// Whether the name says a database, or what lies beside one: written while it is read, and copied by its own rules.
pub fn is_database(path: &[u8]) -> bool {
    family::is_database(family::base(path).unwrap_or(path))
}

/// The one entry of a walk that a measure takes in.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Which of the working directories.
    pub dir: usize,
    /// The path below it.
    pub path: &'a [u8],
    /// What the file system says of it.
    pub about: About,
    /// Its number.
    pub ino: u64,
    /// When anything about it last changed.
    pub changed: (i64, u32),
}

/// What one walk saw of all that a snapshot copies, so that two walks can be compared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measure {
    /// Of configuration and links.
    pub config: String,
    /// Of everything else that is copied, but databases.
    pub other: String,
    /// Of databases, which may change while they are copied.
    pub live: String,
    /// Files that are copied.
    pub files: u64,
    /// Their size together.
    pub bytes: u64,
}

impl Measure {
    /// Whether these are one moment: databases do not count, their copies are whole by themselves.
    pub fn is_same_moment(&self, other: &Self) -> bool {
        self.config == other.config && self.other == other.other
    }
}

/// Takes the entries of one walk in.
#[derive(Debug, Clone, Default)]
pub struct Measuring {
    config: blake3::Hasher,
    other: blake3::Hasher,
    live: blake3::Hasher,
    files: u64,
    bytes: u64,
}

impl Measuring {
    /// One more; of a link the class does not count.
    pub fn add(&mut self, class: Class, seen: Seen<'_>) {
        let is_link = seen.about.kind == super::manifest::Kind::Link;
        if !is_link && is_copied(class, seen.about.size) != Copied::Yes {
            return;
        }
        let into = match class {
            _ if is_database(seen.path) => &mut self.live,
            Class::Config => &mut self.config,
            _ if is_link => &mut self.config,
            _ => &mut self.other,
        };
        let About { size, modified, mode, .. } = seen.about;
        into.update(&(seen.dir as u64).to_le_bytes());
        into.update(&(seen.path.len() as u64).to_le_bytes());
        into.update(seen.path);
        for number in [size, seen.ino, u64::from(mode), u64::from(modified.1), u64::from(seen.changed.1)] {
            into.update(&number.to_le_bytes());
        }
        into.update(&modified.0.to_le_bytes());
        into.update(&seen.changed.0.to_le_bytes());
        self.files += 1;
        self.bytes = self.bytes.saturating_add(size);
    }

    /// What came of it.
    pub fn end(&self) -> Measure {
        let hex = |hasher: &blake3::Hasher| hasher.finalize().to_hex().to_string();
        Measure {
            config: hex(&self.config),
            other: hex(&self.other),
            live: hex(&self.live),
            files: self.files,
            bytes: self.bytes,
        }
    }
}

/// How a list of a snapshot begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Why it was taken.
    pub kind: Kind,
    /// When.
    pub at: Timestamp,
    /// The working directories.
    pub dirs: Vec<Vec<u8>>,
    /// Why a person had it taken.
    pub reason: Option<String>,
}

/// The first line; another version is another list.
const FIRST: &str = "pbx-failover snapshot 1";

impl Head {
    /// As text.
    pub fn write(&self) -> String {
        let kind = match &self.kind {
            Kind::Takeover(plan) => format!("takeover {plan}"),
            kind => kind.name().to_owned(),
        };
        let mut text = format!("{FIRST}\nkind {kind}\nat {}\n", self.at);
        if let Some(reason) = &self.reason {
            let _ = writeln!(text, "reason {}", shown(reason.as_bytes()));
        }
        for dir in &self.dirs {
            let _ = writeln!(text, "dir {}", shown(dir));
        }
        text + "\n"
    }

    /// Reads it, up to the empty line that ends it; `None` where it is none.
    pub fn read<'a>(mut lines: impl Iterator<Item = &'a str>) -> Option<Self> {
        if lines.next()? != FIRST {
            return None;
        }
        let kind = lines.next()?.strip_prefix("kind ")?;
        let kind = match kind.strip_prefix("takeover ") {
            Some(plan) => Kind::Takeover(plan.to_owned()),
            None => [Kind::LastGood, Kind::BeforeRestore].into_iter().find(|known| known.name() == kind)?,
        };
        let at = lines.next()?.strip_prefix("at ")?.parse().ok()?;
        let mut head = Self { kind, at, dirs: Vec::new(), reason: None };
        for line in lines {
            if line.is_empty() {
                return Some(head);
            }
            match line.split_once(' ')? {
                ("reason", text) => head.reason = String::from_utf8(unshown(text)?).ok(),
                ("dir", text) => head.dirs.push(unshown(text)?),
                _ => return None,
            }
        }
        None
    }
}

/// How a list ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Foot {
    /// Entries.
    pub entries: u64,
    /// Files that are listed only, though a load may depend on them.
    pub left_out: u64,
    /// What was copied.
    pub measure: Measure,
}

impl Foot {
    /// As a line; `digest`: of everything before it.
    pub fn write(&self, digest: &str) -> String {
        let Self { entries, left_out, measure: m } = self;
        let Measure { config, other, live, files, bytes } = m;
        format!("end {entries} {left_out} {files} {bytes} {config} {other} {live} {digest}\n")
    }

    /// Reads it; with the digest of everything before it.
    pub fn read(line: &str) -> Option<(Self, String)> {
        let mut parts = line.strip_prefix("end ")?.split(' ');
        let mut number = || parts.next()?.parse().ok();
        let (entries, left_out, files, bytes) = (number()?, number()?, number()?, number()?);
        let mut text = || parts.next().filter(|part| part.len() == 64).map(str::to_owned);
        let measure = Measure { config: text()?, other: text()?, live: text()?, files, bytes };
        let digest = text()?;
        parts.next().is_none().then_some((Self { entries, left_out, measure }, digest))
    }
}

/// One entry of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// User and group.
    pub owner: (u32, u32),
    /// Its number in the working directory, and when anything about it last changed there: as long as both are the same,
    /// so is its content.
    pub stamp: (u64, (i64, u32)),
    /// The rest.
    pub line: Line,
}

impl Item {
    /// As text, with the end of the line.
    pub fn write(&self) -> String {
        let Self { owner: (user, group), stamp: (ino, (seconds, nanos)), line } = self;
        format!("{user} {group} {ino} {seconds}.{nanos:09} {}", line.write())
    }

    /// Reads a line, without its end.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("is no line of a snapshot: {}", text.chars().take(80).collect::<String>());
        let mut parts = text.splitn(5, ' ');
        let mut part = || parts.next().ok_or_else(wrong);
        let user = part()?.parse().map_err(|_| wrong())?;
        let group = part()?.parse().map_err(|_| wrong())?;
        let ino = part()?.parse().map_err(|_| wrong())?;
        let (seconds, nanos) = part()?.split_once('.').ok_or_else(wrong)?;
        let changed = (seconds.parse().map_err(|_| wrong())?, nanos.parse().map_err(|_| wrong())?);
        Ok(Self { owner: (user, group), stamp: (ino, changed), line: Line::read(part()?)? })
    }

    /// Whether it is in the snapshot, and not only in its list.
    pub fn is_held(&self) -> bool {
        self.line.digest.is_some()
    }
}

/// A file that is named in a list though it is not copied.
pub fn left_out(path: &[u8], why: &str) -> String {
    format!("left-out {} {}\n", shown(path).replace(' ', "%20"), shown(why.as_bytes()))
}

/// What is known of one that is kept, when it is decided which go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub id: String,
    /// Why it was taken.
    pub kind: Kind,
    /// When.
    pub at: Timestamp,
}

/// Which go, so that no more than `keep` of each kind are left. Never the newest of a takeover, nor the newest before a
/// person's restore: each may be the only copy of what was there.
pub fn outdated(all: &[Kept], keep: u32, needed: &[String]) -> Vec<String> {
    let mut gone = Vec::new();
    for kind in ["last-good", "takeover", "before-restore"] {
        let keep = if kind == "last-good" { keep } else { keep.max(1) };
        let of_kind = newest_first(all).filter(|kept| kept.kind.name() == kind);
        let of_kind = of_kind.skip(keep as usize).map(|kept| kept.id.clone());
        gone.extend(of_kind.filter(|id| !needed.contains(id)));
    }
    gone
}

/// Which goes next where they take too much room: the oldest, but never the newest of its kind.
pub fn goes_next<'a>(all: &'a [Kept], needed: &[String]) -> Option<&'a str> {
    let newest = |name: &str| newest_first(all).find(|kept| kept.kind.name() == name).map(|kept| kept.id.as_str());
    let held = [newest("last-good"), newest("takeover"), newest("before-restore")];
    newest_first(all)
        .map(|kept| kept.id.as_str())
        .filter(|id| !held.contains(&Some(id)) && !needed.iter().any(|needed| needed == id))
        .last()
}

fn newest_first(all: &[Kept]) -> impl Iterator<Item = &Kept> {
    let mut all: Vec<&Kept> = all.iter().collect();
    all.sort_by(|one, other| other.at.cmp(&one.at).then_with(|| other.id.cmp(&one.id)));
    all.into_iter()
}

/// Whether a good snapshot is to be taken of what was measured; `newest`: that of the newest good one, and when.
pub fn is_due(measure: &Measure, newest: Option<(&Measure, Timestamp)>, now: Timestamp) -> bool {
    let Some((newest, at)) = newest else { return true };
    // One from the future was taken by another clock.
    let age: SignedDuration = now.duration_since(at).abs();
    let age: Duration = age.try_into().unwrap_or_default();
    (measure.config != newest.config && age >= CONFIG_EVERY) || (measure != newest && age >= OTHER_EVERY)
}

/// Whether a path is one of these, or lies below one; no paths are all.
pub fn is_asked(path: &[u8], only: &[Vec<u8>]) -> bool {
    let below = |asked: &Vec<u8>| path.strip_prefix(asked.as_slice()).is_some_and(|rest| rest.starts_with(b"/"));
    only.is_empty() || only.iter().any(|asked| asked == path || below(asked))
}

/// A path as a person names it: below a working directory, without a slash at either end.
///
/// # Errors
/// What is wrong with it.
pub fn asked(text: &[u8]) -> Result<Vec<u8>, String> {
    let path = text.strip_prefix(b"./").unwrap_or(text);
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let odd = |part: &[u8]| part.is_empty() || part == b"." || part == b"..";
    if path.split(|byte| *byte == b'/').any(odd) {
        return Err(format!("{} is no path below the working directory", path::shown(text)));
    }
    Ok(path.to_vec())
}

#[cfg(test)]
mod tests;
