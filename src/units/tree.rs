//! A state of the working directories that a primary vouches for, as its beat tells it, and how ours stands to it.
//!
//! How a digest is made and what follows from a comparison is `data::vouch`'s.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::NodeName;

/// So many states a beat tells of: a slow sync may have brought the files of an earlier one.
pub const STATES_MAX: usize = 5;

/// The files of configuration as a host had them at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeState {
    /// When.
    pub at: Timestamp,
    /// How many.
    pub files: u64,
    /// Over each one's path and content, hexadecimal.
    pub digest: String,
}

/// The states that a primary vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeTold {
    /// A digest of what is looked at and how it is classed: states of other rules are no measure.
    pub rules: String,
    /// The newest first, at most [`STATES_MAX`].
    pub states: Vec<TreeState>,
}

/// A beat as the sync has brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeatSeen {
    /// When the primary wrote it, by its clock.
    pub written: Timestamp,
    /// When it came here, by the clock of the file system.
    pub came: Timestamp,
    /// What it vouches for.
    pub tree: Option<TreeTold>,
}

/// How our files of configuration stand to what the primary vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Likeness {
    /// As the primary had them.
    Equal {
        /// When it had them so.
        at: Timestamp,
    },
    /// As no state that it vouched for, although they were before: newer files have come, or a mixture.
    Unequal {
        /// Since when.
        since: Timestamp,
    },
    /// They never were: nothing follows, but that somebody should see why.
    NeverEqual,
    /// It looks by other rules.
    OtherRules,
}

/// The same, with whose word it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeSeen {
    /// Who vouches.
    pub node: NodeName,
    /// How ours stand to that.
    #[serde(flatten)]
    pub likeness: Likeness,
}

impl TreeSeen {
    /// In a few words, which follow a comma.
    pub fn text(&self) -> String {
        let Self { node, likeness } = self;
        match likeness {
            Likeness::Equal { at } => format!("as {node} vouched for at {}", at.strftime("%Y-%m-%d %H:%M:%S UTC")),
            Likeness::Unequal { since } => {
                format!("as no state that {node} vouched for, since {}", since.strftime("%Y-%m-%d %H:%M:%S UTC"))
            }
            Likeness::NeverEqual => format!("never yet as any state that {node} vouched for"),
            Likeness::OtherRules => format!("not compared with {node}, which looks by other rules"),
        }
    }

    /// What a person can do where a comparison says nothing; `None`: it does.
    pub fn hint(&self) -> Option<(String, String)> {
        let node = &self.node;
        match self.likeness {
            Likeness::Equal { .. } | Likeness::Unequal { .. } => None,
            Likeness::NeverEqual => Some((
                format!("the files of configuration were never as any state that {node} vouched for: a mixture would not be seen"),
                "see that the sync carries and deletes all of them; name in sync.ignore, on both hosts, what each host has for itself".to_owned(),
            )),
            Likeness::OtherRules => Some((
                format!("{node} looks at its working directory by other rules: a mixture would not be seen"),
                "write the same sync.ignore, sync.classes and number of pbx.working_dir on both hosts".to_owned(),
            )),
        }
    }
}
