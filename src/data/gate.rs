//! The gate before the PBX loads the working directory: go, go with a warning, take the last good snapshot, or hold.
//!
//! Each thing that speaks against a load is one reason with its weight. What is *under way* (a sync that writes) is
//! waited for; what is *broken* (a file cut, emptied, malformed) is cured by an older copy; what is *stale* is not, because
//! an older copy is no younger.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::dump::{self, Dump};
use super::pattern::Pattern;
use super::survey::{Fault, Few, Kept, Place, Survey};
pub use crate::units::data::{Outcome, Reason, Weight};
use crate::units::tree::{Likeness, TreeSeen};

/// A leftover of a sync tool that nobody has written to for so long is one: its writer died.
pub const LEFTOVER_AFTER: Duration = Duration::from_secs(600);

/// The same where nobody waits any longer than he must: the files of configuration are as the primary vouched for, so that
/// what its writer brought is not one of them; or the primary is dead, and phones wait.
pub const STALLED_AFTER: Duration = Duration::from_secs(10);

/// A time that lies further ahead of our clock was written by another clock.
const AHEAD_MAX: Duration = Duration::from_secs(60);

/// A file that shrank, was emptied or became malformed, and has stood so for this long, is meant.
pub const MEANT_AFTER: Duration = Duration::from_secs(3600);

/// A file of configuration that lost more than this part of its size was cut, until it has stood so for long.
const CUT_BELOW: (u64, u64) = (7, 10);

/// Smaller files may shrink as they like.
const CUT_FROM: u64 = 512;

/// Fewer files of configuration than this part of those before: a directory that is being filled, or was emptied.
const SHRUNK_BELOW: (u64, u64) = (8, 10);

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
    /// Since when there are fewer files of configuration than in that, as [`has_shrunk`] says.
    pub lost_since: Option<Timestamp>,
    /// When the primary wrote the heartbeat that the sync has brought, where it writes one: how far the sync is behind.
    pub beat: Option<Timestamp>,
    /// Whether there is a good snapshot to go back to.
    pub snapshot: Snapshot,
    /// The database dump, where one is asked for.
    pub dump: Option<&'a Dump>,
    /// Whether a takeover waits for the answer.
    pub patience: Patience,
    /// How the files of configuration stand to what the primary vouches for; `None`: nobody vouches.
    pub vouch: Option<Vouch<'a>>,
}

/// Whether a takeover waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Nobody does.
    Watching,
    /// It does: the primary is dead, and whoever wrote for it as well.
    TakingOver,
}

/// How the files of configuration stand to what the primary vouches for.
#[derive(Debug, Clone, Copy)]
pub struct Vouch<'a> {
    /// The comparison, and whose word it is.
    pub seen: &'a TreeSeen,
    /// A beat that is older than this brings no other soon.
    pub fresh: Duration,
}

impl Vouch<'_> {
    fn is_equal(&self) -> bool {
        matches!(self.seen.likeness, Likeness::Equal { .. })
    }
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
    let mut add = |weight, text, todo: &str| reasons.push(Reason { weight, text, todo: todo.to_owned() });
    let age_of = |at: Timestamp| age(around.now, at);

    if survey.total().files == 0 {
        let todo = "see that pbx.working_dir is right, and that the sync fills it";
        add(Weight::Broken, "the working directory is empty".to_owned(), todo);
    }
    let is_ahead = |at: Timestamp| age(at, around.now) > AHEAD_MAX;
    if let Some((at, place)) = survey.touched.as_ref().filter(|(at, _)| is_ahead(*at)) {
        let text = format!(
            "{place} was written {} from now: whether anything changes is not seen",
            rough(age(*at, around.now))
        );
        add(Weight::Warn, text, "see the clocks of this host and of the server of its file system");
    } else if let Some((at, place)) = &survey.touched
        && age_of(*at) < rules.settle
    {
        let text = format!("{place} changed {} s ago (sync.settle)", age_of(*at).as_secs());
        add(
            Weight::UnderWay,
            text,
            "nothing, it passes; what this host writes itself, such as logs, belongs into sync.ignore",
        );
    }
    if let Some(newest) = survey.temporary_newest {
        let (place, tool, _) = &survey.temporary.named[0];
        let more = more(&survey.temporary);
        let beside = around.vouch.is_some_and(|vouch| vouch.is_equal());
        let (age, stalled_after) = (age_of(newest), rules.settle.max(STALLED_AFTER));
        let may_write = match (beside, around.patience) {
            (false, Patience::Watching) => LEFTOVER_AFTER,
            (true, _) | (_, Patience::TakingOver) => stalled_after,
        };
        if age < may_write && !is_ahead(newest) {
            let todo =
                "nothing, it passes; where it does not, see why the sync hangs, or delete what its dead writer left";
            add(Weight::UnderWay, format!("{} is writing: {place}{more}", tool.name()), todo);
        } else if age < LEFTOVER_AFTER && !beside && !is_ahead(newest) {
            // What it brought before it died may be half of a change.
            let text = format!("{} broke off {} ago: {place}{more}", tool.name(), rough(age));
            add(Weight::Broken, text, "see what the primary has; what has stood so for ten minutes is a leftover");
        } else {
            let text = format!("left behind by {}: {place}{more}", tool.name());
            add(Weight::Warn, text, "delete it: nobody writes to it any more");
        }
    }
    if let Some((place, tool)) = survey.conflicts.named.first() {
        let more = more(&survey.conflicts);
        let text = format!("both sides changed a file, {} kept both: {place}{more}", tool.name());
        add(Weight::Warn, text, "see which of the two is right, and keep that one only");
    }
    if let Some((place, why)) = survey.troubles.named.first() {
        let text = format!("not looked at: {}{}", named(place, why), more(&survey.troubles));
        add(Weight::Warn, text, "let the robot's user read it, see to its disk, or name it in sync.ignore");
    }
    if survey.not_kept > 0 {
        let (read, more) = (survey.kept.len(), survey.not_kept);
        let text = format!("of the files of configuration the first {read} are looked into, {more} more are not");
        add(
            Weight::Warn,
            text,
            "name what is no configuration in sync.classes; without all no primary can vouch for them",
        );
    }
    if let Some(place) = survey.links_out.named.first() {
        let more = more(&survey.links_out);
        let text = format!("a link leads out of the working directory, where no sync follows: {place}{more}");
        add(Weight::Warn, text, "put what it leads to into the working directory, or see that both hosts have it");
    }
    content(survey, rules, around, &mut add);
    shrunk(survey, around, &mut add);
    mixed(around, &mut add);
    stale(survey, rules, around, &mut add);
    if let Some(dump) = around.dump {
        dump::judge(dump, around.now, &mut add);
    }
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.weight));
    let whole = around.vouch.is_some_and(|vouch| vouch.is_equal());
    let heavy = reasons.iter().map(|reason| reason.weight).filter(|weight| {
        // What still comes is waited for; but the files of configuration are all there, and no older ones are better.
        *weight > Weight::Warn && !(whole && *weight == Weight::UnderWay)
    });
    let outcome = match outcome(&heavy.collect::<Vec<_>>(), rules.on_hold, around.snapshot) {
        Outcome::Go if !reasons.is_empty() => Outcome::GoWithWarning,
        outcome => outcome,
    };
    Report { outcome, reasons }
}

/// The report, and what keeps snapshots from being kept: on the bad day there would be nothing to go back to.
pub fn with_snapshots(mut report: Report, trouble: Option<&str>) -> Report {
    if let Some(trouble) = trouble {
        let todo = "see the free space and the rights of state_dir; `pbx-failover snapshots list` shows what is kept";
        let text = format!("snapshots: {trouble}");
        report.reasons.push(Reason { weight: Weight::Warn, text, todo: todo.to_owned() });
        if report.outcome == Outcome::Go {
            report.outcome = Outcome::GoWithWarning;
        }
    }
    report
}

/// The report, and that what lies there may be half of a snapshot: quiet, well-formed, and a mixture all the same.
pub fn with_half(mut report: Report, half: Option<(Weight, String)>, on_hold: OnHold, snapshot: Snapshot) -> Report {
    if let Some((weight, text)) = half {
        let todo = "`pbx-failover snapshots restore NAME` puts one in place whole while this node watches; who wants what lies \
                    there loaded as it is removes state_dir/restore-under-way";
        report.reasons.insert(0, Reason { weight, text, todo: todo.to_owned() });
        report.reasons.sort_by_key(|reason| std::cmp::Reverse(reason.weight));
        report.outcome = outcome(&[weight], on_hold, snapshot);
    }
    report
}

/// What follows from what is heavier than a warning.
fn outcome(heavy: &[Weight], on_hold: OnHold, snapshot: Snapshot) -> Outcome {
    let cured = heavy.iter().any(|weight| matches!(weight, Weight::UnderWay | Weight::Broken));
    match on_hold {
        _ if heavy.is_empty() => Outcome::Go,
        OnHold::Hold => Outcome::Hold,
        OnHold::LastGood if cured && snapshot == Snapshot::Kept => Outcome::LastGood,
        // It is meant to go; or the data is old, or there is nothing older to go back to: what is there is better than no
        // telephone.
        OnHold::LastGood | OnHold::Go => Outcome::GoWithWarning,
    }
}

/// Files of configuration whose content is broken now and was not before, and those that were cut.
fn content(survey: &Survey, rules: &Rules, around: &Around<'_>, add: &mut impl FnMut(Weight, String, &str)) {
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
        let todo = "mend it at the primary, or let the sync bring it again; what has stood so for an hour is meant";
        add(weight, format!("{}{more}", few.named.first().map_or("", String::as_str)), todo);
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

/// Files of configuration that the primary never had so: newer ones that it has not vouched for yet, or a mixture.
fn mixed(around: &Around<'_>, add: &mut impl FnMut(Weight, String, &str)) {
    let Some(vouch) = around.vouch else { return };
    let Likeness::Unequal { since } = vouch.seen.likeness else { return };
    let node = &vouch.seen.node;
    let stands = age(around.now, since);
    let what = format!("the files of configuration are as no state that {node} vouched for");
    let beats = around.beat.is_some_and(|beat| age(around.now, beat) <= vouch.fresh);
    // Beats came and files did not: the sync leaves something out, or something in. What stood so while the primary lived
    // is no more a mixture once it is dead.
    let alive = if beats { stands } else { around.beat.map(|beat| age(beat, since)).unwrap_or_default() };
    let (weight, text, todo) = match beats {
        _ if alive >= MEANT_AFTER => (
            Weight::Warn,
            format!("{what}, for {} with the sync alive", rough(alive)),
            "see that the sync carries and deletes all of them; name in sync.ignore what each host has for itself",
        ),
        true => (
            Weight::UnderWay,
            format!("{what}, for {} s: newer ones, or a mixture", stands.as_secs()),
            "nothing, the next heartbeat tells; where it does not pass, see that the sync carries and deletes all files",
        ),
        false => (
            Weight::Broken,
            format!("{what}, and no newer heartbeat has come: a sync that ended between two files leaves a mixture"),
            "see that the sync runs: it brings the rest, and the heartbeat that vouches for it",
        ),
    };
    add(weight, text, todo);
}

/// Fewer files than there were: counted for configuration only, since voicemail and recordings are deleted every day.
fn shrunk(survey: &Survey, around: &Around<'_>, add: &mut impl FnMut(Weight, String, &str)) {
    let Some(good) = around.good else { return };
    let (now, then) = (survey.kept.len(), good.kept.len());
    if has_shrunk(survey, good) {
        let gone: Vec<_> = good.kept.keys().filter(|place| !survey.kept.contains_key(place)).take(3).collect();
        let gone: Vec<_> = gone.iter().map(ToString::to_string).collect();
        let text = format!("{now} files of configuration where there were {then}; gone: {}, …", gone.join(", "));
        let todo = "see that the sync runs and that nothing deletes here; `pbx-failover check` names what is missing";
        let is_meant = around.lost_since.is_some_and(|since| age(around.now, since) >= MEANT_AFTER);
        add(if is_meant { Weight::Warn } else { Weight::Broken }, text, todo);
    }
}

/// Whether there are so many files of configuration fewer that a sync may be half done, or that something deletes.
pub fn has_shrunk(survey: &Survey, good: &Survey) -> bool {
    let (now, then) = (survey.kept.len() as u64, good.kept.len() as u64);
    then >= 5 && now * SHRUNK_BELOW.1 < then * SHRUNK_BELOW.0
}

/// How far behind the primary the data is, by its heartbeat; without one only the newest change can be told.
fn stale(survey: &Survey, rules: &Rules, around: &Around<'_>, add: &mut impl FnMut(Weight, String, &str)) {
    let text = |what: &str, old, limit: &str| format!("{what} {} old ({limit})", rough(old));
    let Some(beat) = around.beat else {
        // A quiet weekend looks the same: it must neither wake anybody nor hold the telephones back.
        let newest = survey.newest.as_ref().map(|(at, _)| age(around.now, *at));
        if let Some(old) = newest.filter(|old| *old > rules.hold_age) {
            let todo = "see that the sync runs; with a heartbeat check a quiet PBX is told from a sync that hangs";
            add(Weight::Warn, text("the newest change is", old, "sync.max_age.hold"), todo);
        }
        return;
    };
    let what = "the sync is behind: its newest heartbeat is";
    let todo = "see that the sync runs: the heartbeat file comes with everything else";
    let old = age(around.now, beat);
    if old > rules.hold_age {
        add(Weight::Stale, text(what, old, "sync.max_age.hold"), todo);
    } else if old > rules.warn_age {
        add(Weight::Warn, text(what, old, "sync.max_age.warn"), todo);
    }
}

/// How old; a time ahead of the clock is just now.
pub fn age(now: Timestamp, at: Timestamp) -> Duration {
    let age: SignedDuration = now.duration_since(at);
    age.try_into().unwrap_or_default()
}

pub(super) fn rough(age: Duration) -> String {
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
