//! The gate before the PBX loads the working directory: go, go with a warning, take the last good snapshot, or hold.
//!
//! Each thing that speaks against a load is one reason with its weight. What is *under way* (a sync that writes) is
//! waited for; what is *broken* (a file cut, emptied, malformed) is cured by an older copy; what is *stale* is not, because
//! an older copy is no younger.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::pattern::Pattern;
use super::survey::{Fault, Few, Kept, Place, Survey};

/// A leftover of a sync tool that nobody has written to for so long is one: its writer died.
pub const LEFTOVER_AFTER: Duration = Duration::from_secs(3600);

/// A file that shrank, was emptied or became malformed, and has stood so for this long, is meant.
pub const MEANT_AFTER: Duration = Duration::from_secs(3600);

/// A file of configuration that lost more than this part of its size was cut, until it has stood so for long.
const CUT_BELOW: (u64, u64) = (7, 10);

/// Smaller files may shrink as they like.
const CUT_FROM: u64 = 512;

/// Fewer files of configuration than this part of those before: a directory that is being filled, or was emptied.
const SHRUNK_BELOW: (u64, u64) = (8, 10);

/// What one reason leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What it leads to.
    pub weight: Weight,
    /// What was seen and where, in one line.
    pub text: String,
}

/// What a per-path rule says of a fault at its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFault {
    /// Nothing.
    Ignore,
    /// A warning.
    Warn,
    /// As any file of configuration.
    Hold,
}

/// What is done when the gate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnHold {
    /// The last good snapshot is used.
    LastGood,
    /// It is loaded all the same, with a warning.
    Go,
    /// Nothing is loaded until a person or the sync mends it.
    Hold,
}

/// The rules of the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// No change for so long before it counts as whole.
    pub settle: Duration,
    /// Older data is a warning.
    pub warn_age: Duration,
    /// Older data holds.
    pub hold_age: Duration,
    /// What a hold leads to.
    pub on_hold: OnHold,
    /// The first that fits counts.
    pub faults: Vec<(Pattern, OnFault)>,
}

/// What the gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::GoWithWarning => "go with a warning",
            Self::LastGood => "last good snapshot",
            Self::Hold => "hold",
        }
    }
}

/// What the gate says, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What follows.
    pub outcome: Outcome,
    /// Everything that speaks against a load, the weightiest first.
    pub reasons: Vec<Reason>,
}

impl Report {
    /// The reasons in one line; empty: none.
    pub fn because(&self) -> String {
        let texts: Vec<_> = self.reasons.iter().map(|reason| reason.text.as_str()).collect();
        texts.join("; ")
    }

    /// Whether a sync is writing, so that it is worth waiting.
    pub fn is_under_way(&self) -> bool {
        self.reasons.iter().any(|reason| reason.weight == Weight::UnderWay)
    }

    /// Whether nothing but what passes by itself speaks against a snapshot as a good one.
    pub fn is_good(&self) -> bool {
        self.reasons.iter().all(|reason| reason.weight <= Weight::Warn || reason.weight == Weight::Stale)
    }
}

/// What else is known.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// Now.
    pub now: Timestamp,
    /// The last survey that passed.
    pub good: Option<&'a Survey>,
    /// When the primary wrote the heartbeat that the sync has brought, where it writes one: how far the sync is behind.
    pub beat: Option<Timestamp>,
    /// Whether there is a good snapshot to go back to.
    pub snapshot: Snapshot,
}

/// Whether there is a good snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshot {
    /// There is.
    Kept,
    /// There is none.
    None,
}

/// Judges one survey.
pub fn judge(survey: &Survey, rules: &Rules, around: &Around<'_>) -> Report {
    let mut reasons = Vec::new();
    let mut add = |weight, text| reasons.push(Reason { weight, text });
    let age_of = |at: Timestamp| age(around.now, at);

    if survey.total().files == 0 {
        add(Weight::Broken, "the working directory is empty".to_owned());
    }
    if let Some((at, place)) = &survey.touched
        && age_of(*at) < rules.settle
    {
        add(Weight::UnderWay, format!("{place} changed {} s ago (sync.settle)", age_of(*at).as_secs()));
    }
    if let Some(newest) = survey.temporary_newest {
        let (place, tool, _) = &survey.temporary.named[0];
        let more = more(&survey.temporary);
        if age_of(newest) < LEFTOVER_AFTER {
            add(Weight::UnderWay, format!("{} is writing: {place}{more}", tool.name()));
        } else {
            add(Weight::Warn, format!("left behind by {}: {place}{more}; delete it", tool.name()));
        }
    }
    if let Some((place, tool)) = survey.conflicts.named.first() {
        let more = more(&survey.conflicts);
        let text = format!("both sides changed a file, {} kept both: {place}{more}; keep one of the two", tool.name());
        add(Weight::Warn, text);
    }
    if let Some((place, why)) = survey.troubles.named.first() {
        add(Weight::Warn, format!("not looked at: {}{}", named(place, why), more(&survey.troubles)));
    }
    if let Some(place) = survey.links_out.named.first() {
        let more = more(&survey.links_out);
        add(Weight::Warn, format!("a link leads out of the working directory, where no sync follows: {place}{more}"));
    }
    content(survey, rules, around, &mut add);
    shrunk(survey, around, &mut add);
    stale(survey, rules, around, &mut add);
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.weight));
    Report { outcome: outcome(&reasons, rules.on_hold, around.snapshot), reasons }
}

fn outcome(reasons: &[Reason], on_hold: OnHold, snapshot: Snapshot) -> Outcome {
    let holds = reasons.iter().any(|reason| reason.weight > Weight::Warn);
    let cured = reasons.iter().any(|reason| matches!(reason.weight, Weight::UnderWay | Weight::Broken));
    match (holds, on_hold) {
        (false, _) if reasons.is_empty() => Outcome::Go,
        (false, _) | (true, OnHold::Go) => Outcome::GoWithWarning,
        (true, OnHold::Hold) => Outcome::Hold,
        (true, OnHold::LastGood) if cured && snapshot == Snapshot::Kept => Outcome::LastGood,
        // Old data, or nothing older to go back to: what is there is better than no telephone.
        (true, OnHold::LastGood) => Outcome::GoWithWarning,
    }
}

/// Files of configuration whose content is broken now and was not before, and those that were cut.
fn content(survey: &Survey, rules: &Rules, around: &Around<'_>, add: &mut impl FnMut(Weight, String)) {
    let mut broken: BTreeMap<Weight, Few<String>> = BTreeMap::new();
    for (place, kept) in &survey.kept {
        let before = around.good.and_then(|good| good.kept.get(place));
        let Some(what) = wrong(kept, before) else { continue };
        // At the first look ever nobody knows whether it was always so.
        let known = around.good.is_none() || before.is_some_and(|b| b.fault == kept.fault && b.size == kept.size);
        let rule = rules.faults.iter().find(|(pattern, _)| pattern.matches(&place.path)).map(|(_, on)| *on);
        let young = age(around.now, kept.changed) < MEANT_AFTER;
        let weight = match rule.unwrap_or(OnFault::Hold) {
            OnFault::Ignore => continue,
            OnFault::Hold if young && !known => Weight::Broken,
            OnFault::Hold | OnFault::Warn => Weight::Warn,
        };
        broken.entry(weight).or_default().add(format!("{place} {what}"));
    }
    for (weight, few) in broken {
        let more = more(&few);
        add(weight, format!("{}{more}", few.named.first().map_or("", String::as_str)));
    }
}

/// What is wrong with a file, in itself or beside what it was.
fn wrong(kept: &Kept, before: Option<&Kept>) -> Option<String> {
    match &kept.fault {
        // Many are made so, to be filled one day: it is a fault only of one that had something in it.
        Some(Fault::Empty) => return before.filter(|before| before.size > 0).map(|_| Fault::Empty.to_string()),
        Some(fault) => return Some(fault.to_string()),
        None => {}
    }
    let before = before?;
    if before.size >= CUT_FROM && before.fault.is_none() && kept.size * CUT_BELOW.1 < before.size * CUT_BELOW.0 {
        return Some(format!("has shrunk from {} to {} bytes", before.size, kept.size));
    }
    (kept.ends_within_line && !before.ends_within_line && kept.size < before.size)
        .then(|| "ends within a line, and did not before".to_owned())
}

/// Fewer files than there were: counted for configuration only, since voicemail and recordings are deleted every day.
fn shrunk(survey: &Survey, around: &Around<'_>, add: &mut impl FnMut(Weight, String)) {
    let Some(good) = around.good else { return };
    let (now, then) = (survey.kept.len() as u64, good.kept.len() as u64);
    if then >= 5 && now * SHRUNK_BELOW.1 < then * SHRUNK_BELOW.0 {
        let gone: Vec<_> = good.kept.keys().filter(|place| !survey.kept.contains_key(place)).take(3).collect();
        let gone: Vec<_> = gone.iter().map(ToString::to_string).collect();
        let text = format!("{now} files of configuration where there were {then}; gone: {}, …", gone.join(", "));
        add(Weight::Broken, text);
    }
}

/// How far behind the primary the data is: by its heartbeat where there is one, else by the newest change.
fn stale(survey: &Survey, rules: &Rules, around: &Around<'_>, add: &mut impl FnMut(Weight, String)) {
    let newest = survey.newest.as_ref().map(|(at, _)| *at);
    let (at, what) = match (around.beat, newest) {
        (Some(beat), _) => (beat, "the sync is behind: its newest heartbeat is"),
        (None, Some(newest)) => (newest, "the newest change is"),
        (None, None) => return,
    };
    let old = age(around.now, at);
    let text = |limit: &str| format!("{what} {} old ({limit})", rough(old));
    if old > rules.hold_age {
        add(Weight::Stale, text("sync.max_age.hold"));
    } else if old > rules.warn_age {
        add(Weight::Warn, text("sync.max_age.warn"));
    }
}

/// How old; a time ahead of the clock is just now.
fn age(now: Timestamp, at: Timestamp) -> Duration {
    let age: SignedDuration = now.duration_since(at);
    age.try_into().unwrap_or_default()
}

fn rough(age: Duration) -> String {
    let minutes = age.as_secs() / 60;
    match minutes {
        0 => format!("{} s", age.as_secs()),
        1..120 => format!("{minutes} min"),
        120..2880 => format!("{} h", minutes / 60),
        _ => format!("{} days", minutes / 1440),
    }
}

fn named(place: &Place, why: &str) -> String {
    if place.path.is_empty() { format!("a working directory ({why})") } else { format!("{place} ({why})") }
}

fn more<T>(few: &Few<T>) -> String {
    match few.all {
        0 | 1 => String::new(),
        all => format!(" and {} more", all - 1),
    }
}

#[cfg(test)]
mod tests;
