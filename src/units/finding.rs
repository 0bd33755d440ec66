//! What `check` finds, one line each.

use serde::{Deserialize, Serialize};

/// What `check` found, in the order in which it looked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CheckReport {
    /// Each thing it looked at.
    pub findings: Vec<Finding>,
}

/// One thing that `check` looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How it stands.
    pub level: Level,
    /// What was looked at: `config`, `check web`, `dns pbx.example.com A`.
    pub about: String,
    /// What was seen, in one line.
    pub text: String,
    /// What to do, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How a finding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Not looked at; the text says why.
    Skipped,
    /// A takeover works, but not as well as it could.
    Warning,
    /// A takeover would fail, or must not happen.
    Problem,
}

impl Finding {
    /// As it should be.
    pub fn ok(about: impl Into<String>, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, about: about.into(), text: text.into(), hint: None }
    }

    /// Not as good as it could be; the hint says what to do.
    pub fn warning(about: impl Into<String>, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { level: Level::Warning, about: about.into(), text: text.into(), hint: Some(hint.into()) }
    }

    /// A takeover would fail; the hint says what to do.
    pub fn problem(about: impl Into<String>, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { level: Level::Problem, about: about.into(), text: text.into(), hint: Some(hint.into()) }
    }
}
