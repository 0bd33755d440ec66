//! The backup's side of vouching: what the primary vouched for, kept over a restart, and how a survey stands to that.
//!
//! What follows from it is `data::gate`'s; how states are remembered and compared is `data::vouch`'s.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::data::gate::age;
use crate::data::survey::Survey;
use crate::data::vouch::{Known, News};
use crate::host::file::write_whole;
use crate::ports::Keep;
use crate::units::NodeName;
use crate::units::data::Inbound;
use crate::units::tree::{BeatSeen, Likeness, TreeSeen, TreeTold};

/// Where the known states are kept, in the state directory.
const FILE: &str = "vouched-states";

/// A larger one is none of ours.
const BYTES_MAX: u64 = 64 * 1024;

/// An agent writes a heartbeat every 15 s; a sync that has brought nothing for longer is silent.
const SILENT_AFTER: Duration = Duration::from_secs(20);

/// Compares each look with what the primary vouches for.
pub struct Comparer {
    node: NodeName,
    /// How old a heartbeat may be that is still followed by another; `None`: the sync brings none, so that nobody knows
    /// whether what differs still comes, and nothing is compared.
    pub fresh: Option<Duration>,
    rules: String,
    file: PathBuf,
    known: Option<Known>,
    /// Said once.
    unwritten: bool,
}

/// What a comparison came to.
pub struct Compared {
    /// How ours stand to it; `None`: nobody vouches.
    pub seen: Option<TreeSeen>,
    /// Whether more may come.
    pub inbound: Inbound,
}

impl Comparer {
    /// One for this primary; `rules`: the digest of what is looked at and how.
    pub fn new(node: NodeName, fresh: Option<Duration>, rules: String, state_dir: &std::path::Path) -> Self {
        Self { node, fresh, rules, file: state_dir.join(FILE), known: None, unwritten: false }
    }

    fn known(&mut self) -> &mut Known {
        let (file, rules) = (&self.file, &self.rules);
        self.known.get_or_insert_with(|| read(file, rules).unwrap_or_else(|| Known::new(rules.clone())))
    }

    /// What the primary's agent told over the wire at `written`, which is sooner than a sync brings it.
    pub fn hear(&mut self, written: Timestamp, told: &TreeTold) {
        // Before the first look nothing is read from the disk here.
        if let Some(known) = &mut self.known {
            known.hear(written, Some(told));
        }
    }

    /// Compares a survey; `beat`: the newest one that the sync has brought.
    pub fn compare(
        &mut self,
        survey: &Survey,
        beat: Option<&BeatSeen>,
        settle: Duration,
        now: Timestamp,
        keep: Keep,
    ) -> Compared {
        let Some(fresh) = self.fresh else { return Compared { seen: None, inbound: Inbound::MayCome } };
        let known = self.known();
        let heard = beat.map_or(News::None, |beat| known.hear(beat.written, beat.tree.as_ref()));
        let (likeness, first) = known.compare(survey.tree.as_ref(), now);
        if keep == Keep::WhatIsGood && (heard == News::Some || first == News::Some || self.unwritten) {
            self.write();
        }
        let vouched = matches!(likeness, Some(Likeness::Equal { .. } | Likeness::Unequal { .. }));
        let touched = survey.touched.as_ref().map(|(at, _)| *at);
        let newest = touched.max(survey.temporary_newest).max(beat.map(|beat| beat.came));
        let silent = newest.is_some_and(|at| age(now, at) > SILENT_AFTER.min(fresh).max(settle) && at <= now);
        Compared {
            seen: likeness.map(|likeness| TreeSeen { node: self.node.clone(), likeness }),
            inbound: if vouched && silent { Inbound::Silent } else { Inbound::MayCome },
        }
    }

    fn write(&mut self) {
        let Ok(text) = serde_json::to_string(&self.known) else { return };
        let written = write_whole(&self.file, text.as_bytes());
        if let (Err(error), false) = (&written, self.unwritten) {
            let file = self.file.display();
            tracing::warn!(%file, %error, "what the primary vouched for is not remembered over a restart");
        }
        self.unwritten = written.is_err();
    }
}

fn read(file: &std::path::Path, rules: &str) -> Option<Known> {
    let mut text = String::new();
    std::fs::File::open(file).ok()?.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    serde_json::from_str::<Known>(&text).ok().filter(|known| known.is_about(rules))
}
