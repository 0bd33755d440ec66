//! A survey and what the gate says of it, in the words that everybody is told.

use std::time::Duration;

use jiff::Timestamp;

use super::gate::{Report, age};
use super::survey::Survey;
use crate::units::DataLook;
use crate::units::data::{Change, ClassCount, Inbound, Watching};

/// What one look came to.
pub fn told(survey: &Survey, report: Report, beat: Option<Timestamp>, now: Timestamp, took: Duration) -> DataLook {
    let total = survey.total();
    let class = |(class, count): (&super::Class, &super::survey::Count)| ClassCount {
        name: class.name().to_owned(),
        files: count.files,
        bytes: count.bytes,
    };
    DataLook {
        at: now,
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        outcome: report.outcome,
        reasons: report.reasons,
        files: total.files,
        bytes: total.bytes,
        directories: survey.directories,
        classes: survey.classes.iter().map(class).collect(),
        newest: survey.newest.as_ref().map(|(at, place)| Change { at: *at, path: place.to_string() }),
        beat_age_s: beat.map(|beat| age(now, beat).as_secs()),
        vouched: None,
        inbound: Inbound::MayCome,
        watching: Watching::default(),
        snapshots: None,
        noted: Vec::new(),
        trouble_since: None,
    }
}
