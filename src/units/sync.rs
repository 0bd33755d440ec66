//! The sync that brings files to this node: what it should do, and what was seen of it.

use jiff::Timestamp;

/// What it should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncShould {
    /// This node serves: what is brought would replace what is left here.
    Rest,
    /// This node watches: its data grows old without it.
    Run,
}

/// Whose files lie here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// What this node serves, or served with, since this time: nothing was brought since.
    Ours(Timestamp),
    /// What is brought.
    Brought,
}

/// What a look at it saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncLook {
    /// What brings files here now, each in a few words: `lsyncd.service is active`.
    pub runs: Vec<String>,
    /// What is configured to bring files, and does not.
    pub rests: Vec<String>,
    /// What is configured to bring files and could not be asked, each with the reason.
    pub unknown: Vec<String>,
    /// What was not seen of the processes that may bring files, each with the reason.
    pub unseen: Vec<String>,
    /// What waits here to be carried home, and how it gets there: until then the sync rests.
    pub waits: Option<String>,
}
