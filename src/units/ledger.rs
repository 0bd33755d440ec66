//! What was changed on this node while it served and is not at home yet, as everybody is told of it.
//!
//! Kept in `adapters/data/ledger`, carried home by `daemon/home`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::data::{ClassCount, size};

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// This node serves, or did so until a moment ago: what changes here belongs into the ledger.
    Serving,
    /// Another node serves; what waits still waits, and nothing is added.
    Home,
}

/// The ledger in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The plan that made this node serve: the epoch record bears it.
    pub service: String,
    /// When the baseline was taken.
    pub since: Timestamp,
    /// Whose turn it is.
    pub phase: Phase,
    /// When it was looked last; absent before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_at: Option<Timestamp>,
    /// Files that were added or changed here and are not at home yet.
    #[serde(default)]
    pub files: u64,
    /// Their bytes.
    #[serde(default)]
    pub bytes: u64,
    /// The same by what they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassCount>,
    /// Files that were removed here; nothing is deleted at home.
    #[serde(default)]
    pub removed: u64,
    /// Files that are at home by now, read back there.
    #[serde(default)]
    pub carried_files: u64,
    /// Their bytes.
    #[serde(default)]
    pub carried_bytes: u64,
    /// Files that both sides changed, so that both stand at home.
    #[serde(default)]
    pub kept_twice: u64,
    /// How fast the last transfer of some size was, bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// Why what waits is not carried, or not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Why more may have changed here than is listed; only a person's word ends that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
    /// Whether it has ended: all that it held is at home.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

impl Ledger {
    /// In one line.
    pub fn line(&self) -> String {
        let mut parts = vec![if self.files == 0 && self.gap.is_some() {
            "nothing that is listed waits to be carried home".to_owned()
        } else if self.files == 0 {
            "nothing waits to be carried home".to_owned()
        } else {
            format!("{} files, {} to carry home ({})", self.files, size(self.bytes), classes(&self.classes))
        }];
        if self.carried_files > 0 {
            parts.push(format!("{} files, {} carried", self.carried_files, size(self.carried_bytes)));
        }
        if self.kept_twice > 0 {
            parts.push(format!("{} kept twice at home", self.kept_twice));
        }
        if self.removed > 0 {
            parts.push(format!("{} removed here only", self.removed));
        }
        parts.extend(self.trouble.clone());
        if let Some(gap) = &self.gap {
            // While this node serves more changes, and a ledger that was ended would list none of it.
            let todo = match self.phase {
                Phase::Serving => "",
                Phase::Home => ": carry it home by hand, then `pbx-failover ledger --end --yes`",
            };
            parts.push(format!("more may have changed here than is listed ({gap}){todo}"));
        }
        parts.join("; ")
    }

    /// The same, with what to do about what waits.
    pub fn line_to_do(&self) -> String {
        let line = self.line();
        if self.files == 0 || self.phase == Phase::Serving {
            return line;
        }
        format!("{line}; `pbx-failover ledger --carry` carries them, or says what does")
    }
}

/// `voicemail 3 files 1.2 MB, cdr 1 file 20 kB`.
pub fn classes(classes: &[ClassCount]) -> String {
    let class = |class: &ClassCount| {
        let files = if class.files == 1 { "file" } else { "files" };
        format!("{} {} {files} {}", class.name, class.files, size(class.bytes))
    };
    classes.iter().map(class).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_told_with_what_carries_it() {
        let class = ClassCount { name: "recording".into(), files: 1, bytes: 5_000_000_000 };
        let ledger = Ledger {
            service: "x".into(),
            since: Timestamp::UNIX_EPOCH,
            phase: Phase::Home,
            looked_at: None,
            files: 1,
            bytes: 5_000_000_000,
            classes: vec![class],
            removed: 2,
            carried_files: 3,
            carried_bytes: 4000,
            kept_twice: 1,
            rate: None,
            trouble: None,
            gap: None,
            ended: false,
        };
        assert_eq!(
            ledger.line(),
            "1 files, 5.0 GB to carry home (recording 1 file 5.0 GB); 3 files, 4.0 kB carried; 1 kept twice at home; 2 removed here only"
        );
        assert!(ledger.line_to_do().ends_with("only; `pbx-failover ledger --carry` carries them, or says what does"));
        let ledger = Ledger { files: 0, carried_files: 0, kept_twice: 0, removed: 0, gap: Some("x".into()), ..ledger };
        assert!(ledger.line().contains("(x): carry it home by hand"), "{}", ledger.line());
        let ledger = Ledger { phase: Phase::Serving, ..ledger };
        assert!(ledger.line().ends_with("than is listed (x)"), "it is needed still: {}", ledger.line());
    }
}
