//! What was seen of a zone's records, in words: proofs, views, and what is left undone. Decides nothing.

use super::super::master::Master;
use super::super::rrset;
use super::super::settle::{Said, Wanted};
use super::plan::Fate;
use super::zone::Seen;
use crate::units::Mode;
use crate::units::names::{RecordKey, RecordView};

/// What is not as wanted at the master: not moved yet, or somebody's.
pub fn left(zone: &str, seen: &[Seen<'_>], mode: Mode) -> Option<String> {
    let line = |seen: &Seen<'_>| {
        let Seen { record, case, fate, .. } = seen;
        let what = format!("{} {}", record.remembered.name, record.remembered.rtype);
        let (now, wanted) = (rrset::shown(&case.current), rrset::shown(&case.wanted));
        match (fate, mode) {
            (Fate::Right, _) => None,
            (Fate::Changed, _) => Some(format!(
                "somebody changed {what} to {now}; left as it is: set it to {wanted} by hand, or back to {}, or set `if_changed: overwrite` for {}",
                rrset::shown(&case.expected),
                zone
            )),
            (Fate::LeftWithName, _) => Some(format!("{what} is left at {now} with the changed records of its name")),
            (Fate::Move, _) => Some(format!("{what} is {now}, not yet {wanted}")),
        }
    };
    let lines: Vec<String> = seen.iter().filter_map(line).collect();
    if lines.is_empty() { None } else { Some(lines.join("; ")) }
}

/// Name servers that answer otherwise, in words.
pub fn lagging(said: &[Said], wanted: &[Wanted]) -> Vec<String> {
    let mut lines = Vec::new();
    for Said { label, values } in said {
        let Ok(values) = values else { continue };
        for (wanted, values) in wanted.iter().zip(values).filter(|(wanted, values)| wanted.texts != **values) {
            let name = wanted.key.0.to_ascii();
            let (name, rtype) = (name.trim_end_matches('.'), wanted.key.1);
            lines.push(format!("{label} still answers {} for {name} {rtype}", rrset::shown(values)));
        }
    }
    lines
}

/// Name servers that gave no answer that counts, in words.
pub fn unreachable(said: &[Said]) -> Vec<String> {
    said.iter().filter_map(|said| said.values.as_ref().err().map(|why| format!("{}: {why}", said.label))).collect()
}

/// Each record as every server tells it.
pub fn views(master: &Master, seen: &[Seen<'_>], said: &[Said]) -> Vec<RecordView> {
    let mut right = 0;
    let view = |seen: &Seen<'_>| {
        let mut lines = vec![format!("{}: {}", master.at.server(), rrset::shown(&seen.case.current))];
        if seen.fate == Fate::Right {
            for Said { label, values } in said {
                lines.push(match values {
                    Ok(values) => {
                        format!("{label}: {}", values.get(right).map_or_else(String::new, |v| rrset::shown(v)))
                    }
                    Err(why) => format!("{label}: {why}"),
                });
            }
            right += 1;
        }
        let RecordKey { name, rtype, .. } = &seen.record.remembered;
        RecordView { name: name.clone(), rtype: rtype.clone(), seen: lines, expected: seen.case.wanted.clone() }
    };
    seen.iter().map(view).collect()
}

/// What was seen that proves the move.
pub fn proof(master: &Master, seen: &[Seen<'_>], said: &[Said]) -> String {
    let unreachable = unreachable(said);
    let values: Vec<String> = seen
        .iter()
        .map(|seen| {
            let RecordKey { name, rtype, .. } = &seen.record.remembered;
            format!("{name} {rtype} = {}", rrset::shown(&seen.case.wanted))
        })
        .collect();
    let answering = said.len() - unreachable.len();
    let not_asked =
        if unreachable.is_empty() { String::new() } else { format!(" (not asked: {})", unreachable.join(", ")) };
    format!("{} at {} and {answering} other name servers{not_asked}", values.join(", "), master.at.server())
}
