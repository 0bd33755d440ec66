//! What of the inbound sync runs on this node, and what rests.

/// What a look at the inbound sync saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncLook {
    /// What brings files here now, each in a few words: `lsyncd.service is active`.
    pub runs: Vec<String>,
    /// What is configured to bring files, and does not.
    pub rests: Vec<String>,
    /// What could not be asked, each with the reason.
    pub unknown: Vec<String>,
}
