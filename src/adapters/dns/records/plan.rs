//! What shall happen to each record, given what stands there: pure, so that every case can be tested.
//!
//! A person's decision about a name stands for the whole name: if its A was changed, its AAAA is left alone too, so
//! that phones with and without IPv6 do not end up at different hosts.

use hickory_proto::rr::Name;

use crate::config::IfChanged;

/// One record, as it stands and as it shall stand; all texts as [`super::super::rrset::texts`] writes them.
#[derive(Debug, Clone)]
pub struct Case {
    /// The owner.
    pub name: Name,
    /// What the master answers.
    pub current: Vec<String>,
    /// What shall stand there.
    pub wanted: Vec<String>,
    /// What we last verified, or at first the other side's list.
    pub expected: Vec<String>,
}

/// What shall happen to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is right: not touched.
    Right,
    /// It is moved.
    Move,
    /// Somebody changed it: left as it is.
    Changed,
    /// Another record of its name was changed: left with it.
    LeftWithName,
}

/// Decides for each record of a zone.
pub fn fates(cases: &[Case], if_changed: IfChanged) -> Vec<Fate> {
    let alone = |case: &Case| {
        if case.current == case.wanted {
            Fate::Right
        } else if case.current == case.expected || if_changed == IfChanged::Overwrite {
            Fate::Move
        } else {
            Fate::Changed
        }
    };
    let fates: Vec<Fate> = cases.iter().map(alone).collect();
    let changed =
        |name: &Name| cases.iter().zip(&fates).any(|(case, fate)| *fate == Fate::Changed && case.name == *name);
    cases
        .iter()
        .zip(&fates)
        .map(|(case, fate)| if *fate == Fate::Move && changed(&case.name) { Fate::LeftWithName } else { *fate })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, current: &[&str], wanted: &[&str], expected: &[&str]) -> Case {
        let list = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        Case {
            name: Name::from_ascii(name).unwrap(),
            current: list(current),
            wanted: list(wanted),
            expected: list(expected),
        }
    }

    #[test]
    fn a_record_that_is_right_is_not_touched_and_one_that_we_verified_is_moved() {
        let cases =
            [case("a.", &["b"], &["b"], &["p"]), case("c.", &["p"], &["b"], &["p"]), case("d.", &["p"], &[], &["p"])];
        assert_eq!(fates(&cases, IfChanged::Stop), [Fate::Right, Fate::Move, Fate::Move]);
    }

    #[test]
    fn a_third_value_is_left_with_its_whole_name_and_other_names_move() {
        let cases = [
            case("a.", &["x"], &["b"], &["p"]),
            case("A.", &["p6"], &["b6"], &["p6"]),
            case("c.", &["p"], &["b"], &["p"]),
        ];
        assert_eq!(fates(&cases, IfChanged::Stop), [Fate::Changed, Fate::LeftWithName, Fate::Move]);
        assert_eq!(fates(&cases, IfChanged::Overwrite), [Fate::Move; 3]);
    }

    #[test]
    fn what_we_verified_last_outweighs_the_other_sides_list() {
        // A person moved the record back by hand after we had moved it: a late robot must not move it again.
        let cases = [case("a.", &["p"], &["b"], &["b-old"])];
        assert_eq!(fates(&cases, IfChanged::Stop), [Fate::Changed]);
    }

    #[test]
    fn a_record_that_somebody_deleted_is_a_third_value() {
        assert_eq!(fates(&[case("a.", &[], &["b"], &["p"])], IfChanged::Stop), [Fate::Changed]);
    }
}
