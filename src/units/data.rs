//! What one look at the working directory came to, as everybody is told of it: the gate's word and what it rests on.
//!
//! Judged in `data::gate`; what follows from it before a takeover is the engine's to decide.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::tree::TreeSeen;

/// What the gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Load it.
    Go,
    /// Load it, and say why that may be wrong.
    GoWithWarning,
    /// Load the last good snapshot instead.
    LastGood,
    /// Load nothing.
    Hold,
}

impl Outcome {
    /// As it is written for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::GoWithWarning => "go with a warning",
            Self::LastGood => "last good snapshot",
            Self::Hold => "hold",
        }
    }
}

/// What one reason leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Said, and passed.
    Warn,
    /// Waited for; where it does not end, as [`Weight::Broken`].
    UnderWay,
    /// An older copy of the data would be whole.
    Broken,
    /// The data is old, whichever copy is taken.
    Stale,
}

/// One thing that speaks against a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What it leads to.
    pub weight: Weight,
    /// What was seen and where, in one line.
    pub text: String,
    /// What a person can do about it, in one line.
    pub todo: String,
}

/// How a change is noticed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Watching {
    /// The kernel tells of changes; where it does not, it is looked again and again only.
    pub by_inotify: bool,
    /// Why it does not, or not of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
}

/// Whether more may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inbound {
    /// Not known, or something came a moment ago.
    #[default]
    MayCome,
    /// For longer than a heartbeat takes nothing was written, and no heartbeat came: nothing more comes.
    Silent,
}

/// Files of one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCount {
    /// `voicemail`, `recording`, `cdr`, `config`, `other`.
    pub name: String,
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A change, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When, as its writer dated it.
    pub at: Timestamp,
    /// The path below its working directory; what is no plain text in it is written `%0A`.
    pub path: String,
}

/// The snapshots that are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshots {
    /// How many, of every kind.
    pub kept: u32,
    /// Their room together.
    pub bytes: u64,
    /// The newest good one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<GoodSnapshot>,
    /// A working directory that the robot may not write into: nothing would be put in place there, nor moved aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwritable: Option<String>,
    /// What keeps others from being taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl Snapshots {
    /// In one line: how old the last good one is.
    pub fn line(&self, now: Timestamp) -> String {
        let good = self.good.as_ref().map(|good| {
            let minutes = now.duration_since(good.at).as_mins().max(0);
            let age = if minutes < 120 { format!("{minutes} min") } else { format!("{} h", minutes / 60) };
            format!("last good snapshot: {}, {age} old", good.id)
        });
        let good = good.unwrap_or_else(|| "last good snapshot: none is kept".to_owned());
        let place = self.unwritable.as_ref();
        let place = place.map(|dir| format!("; it would not be put in place: the robot may not write into {dir}"));
        format!("{good}; {} kept, {}{}", self.kept, size(self.bytes), place.unwrap_or_default())
    }
}

/// A good snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoodSnapshot {
    /// Its name.
    pub id: String,
    /// When it was taken.
    pub at: Timestamp,
    /// When what it holds was last found good.
    pub confirmed: Timestamp,
}

/// Files that a takeover or a restore moved aside, for a person to put back or to delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBack {
    /// Their folder below `held-back`.
    pub name: String,
    /// How many.
    pub files: u64,
    /// The first of them.
    pub first: Vec<String>,
}

/// The working directory as one look saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataLook {
    /// When the look ended.
    pub at: Timestamp,
    /// How long it took.
    pub took_ms: u64,
    /// What would be loaded now.
    pub outcome: Outcome,
    /// Everything that speaks against it, the weightiest first.
    pub reasons: Vec<Reason>,
    /// Files, together.
    pub files: u64,
    /// Bytes, together.
    pub bytes: u64,
    /// Directories.
    pub directories: u64,
    /// Files by what they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassCount>,
    /// The newest change of a content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Change>,
    /// How old the newest heartbeat is that the sync has brought: how far it is behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beat_age_s: Option<u64>,
    /// How the files of configuration stand to what the primary vouches for; none: nobody vouches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouched: Option<TreeSeen>,
    /// Whether more may come.
    #[serde(default)]
    pub inbound: Inbound,
    /// How a change is noticed.
    #[serde(default)]
    pub watching: Watching,
    /// The snapshots of it that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<Snapshots>,
    /// What a person did to it since the last look, each with the reason; for the history.
    #[serde(skip)]
    pub noted: Vec<(String, String)>,
    /// Since when the gate would not let the data pass, and people know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble_since: Option<Timestamp>,
}

impl DataLook {
    /// One that saw nothing: nothing is known for or against a load.
    pub fn bare(at: Timestamp, outcome: Outcome, reasons: Vec<Reason>) -> Self {
        Self {
            at,
            took_ms: 0,
            outcome,
            reasons,
            files: 0,
            bytes: 0,
            directories: 0,
            classes: Vec::new(),
            newest: None,
            beat_age_s: None,
            vouched: None,
            inbound: Inbound::MayCome,
            watching: Watching::default(),
            snapshots: None,
            noted: Vec::new(),
            trouble_since: None,
        }
    }

    /// Whether a heartbeat lies there that was written after this time, give or take two clocks: then the sync brought it.
    pub fn has_beat_after(&self, time: Timestamp) -> bool {
        /// What two hosts' clocks may differ by.
        const CLOCKS: SignedDuration = SignedDuration::from_mins(2);
        let written =
            self.beat_age_s.and_then(|age| self.at.checked_sub(SignedDuration::from_secs(age.try_into().ok()?)).ok());
        written.is_some_and(|written| written.duration_since(time) > CLOCKS)
    }

    /// Whether a sync is writing, so that it is worth waiting.
    pub fn is_under_way(&self) -> bool {
        self.reasons.iter().any(|reason| reason.weight == Weight::UnderWay)
    }

    /// The reasons in one line; empty: none.
    pub fn because(&self) -> String {
        self.reasons.iter().map(|reason| reason.text.as_str()).collect::<Vec<_>>().join("; ")
    }
}

/// Bytes, as people read them.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} bytes");
    }
    // Rounded to a tenth at each step is rounded enough for people.
    let mut tenths = bytes / 100;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    let unit = UNITS[unit];
    if tenths < 100 { format!("{}.{} {unit}", tenths / 10, tenths % 10) } else { format!("{} {unit}", tenths / 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_written_later_than_this_was_brought_by_a_sync_and_two_clocks_differ() {
        let now: Timestamp = "2026-11-20T10:00:00Z".parse().expect("a time");
        let look = |beat_age_s| DataLook { beat_age_s, ..DataLook::bare(now, Outcome::Go, Vec::new()) };
        let ago = |seconds| now - SignedDuration::from_secs(seconds);
        assert!(look(Some(10)).has_beat_after(ago(131)));
        for (beat_age_s, since) in [(Some(10), 130), (Some(10), 5), (Some(600), 60), (Some(u64::MAX), 900), (None, 900)]
        {
            assert!(!look(beat_age_s).has_beat_after(ago(since)), "{beat_age_s:?} {since}");
        }
    }

    #[test]
    fn a_size_is_two_or_three_digits_and_a_unit() {
        for (bytes, text) in
            [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (56_000_000, "56 MB"), (1_234_567_890, "1.2 GB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
