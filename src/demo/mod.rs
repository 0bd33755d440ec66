//! The whole product on loopback, without installing anything: `pbx-failover demo`.
//!
//! The robot in it is the real one: a process of its own, started with `run` and a `failover.yaml`, spoken to through
//! its control socket; it knows nothing of this layer. What stands for the world is here: [`dns`] is the name server
//! that it writes to, [`parts`] the primary (a process, so that it can be killed), `phones` and `receiver` those
//! who are to find the backup. `scene` gives each an address, `stage` starts and watches them, `watch` tells
//! what the robot says, `story` is what happens and what must come of it. Nothing is scripted but the kill and the failback: every other line is an
//! observation.

pub mod dns;
pub mod parts;
mod phones;
mod receiver;
mod scene;
mod stage;
mod story;
mod watch;

use std::time::Duration;

use serde::Serialize;

pub use story::{Ending, run};

/// One line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Since the demo began, milliseconds.
    pub at_ms: u64,
    /// Who: `demo`, `robot`, `phone`, `trunk`, `dns`, `url`.
    pub who: &'static str,
    /// What, in one line.
    pub what: String,
    /// How it is meant.
    pub mood: Mood,
}

/// How a line is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mood {
    /// A new chapter.
    Chapter,
    /// As it should be.
    Good,
    /// A blow, or something that did not happen.
    Bad,
    /// Neither.
    Plain,
    /// To be copied, so never broken into lines.
    Command,
}

/// Takes the lines as they come; `Err` when nobody reads them any more.
pub type Teller<'a> = &'a mut dyn FnMut(Told) -> std::io::Result<()>;

/// How the demo ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterStory {
    /// It removes everything and ends.
    End,
    /// It stays until it is interrupted, so that `status` and the others can be tried.
    Stay,
}

/// The whole story must be over within, so that with start and end it is less than half a minute; what did not happen
/// by then did not happen.
pub const STORY_MAX: Duration = Duration::from_secs(28);
