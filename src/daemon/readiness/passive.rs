//! What `check` finds of a PBX that should be passive: each sign that it is not, and what could not be looked at.

use crate::host::open_files::{self, Sight};
use crate::units::finding::{Finding, Level};
use crate::units::{Meant, PassiveLook, Sign};

const ABOUT: &str = "pbx passive";

/// One line that all is well, or a line for each thing that is not; `sight` is this process's, which should be that of the
/// robot's user.
pub fn findings(look: &PassiveLook, sight: Sight) -> Vec<Finding> {
    if look.meant == Meant::Serving {
        return vec![Finding::ok(ABOUT, "not looked at: this node has taken over, its PBX is meant to serve")];
    }
    let seen = look.seen().map(|(sign, what)| Finding::problem(ABOUT, format!("{sign}: {what}"), look.todo.clone()));
    let unknown = look.unknown().filter(|(sign, why)| {
        // One question has two signs: its trouble is told once.
        *sign != Sign::AcceptsRegister || !look.unknown().any(|other| other == (Sign::Answers, why))
    });
    let unknown = unknown.map(|(sign, why)| {
        let hint = "while this cannot be seen, nobody is told when the PBX is not passive in this way";
        Finding::warning(ABOUT, format!("{sign} cannot be seen: {why}"), hint)
    });
    let mut found: Vec<_> = seen.chain(unknown).collect();
    if found.is_empty() {
        let looked: Vec<_> = look.looks.keys().map(|sign| sign.name()).collect();
        found.push(Finding::ok(ABOUT, format!("nothing shows that it is not ({})", looked.join(", "))));
    }
    if sight == Sight::OwnUser && look.unknown().all(|(sign, _)| sign != Sign::OpenFile) {
        // Most hosts do without: it is said, and no fault.
        found.push(Finding {
            level: Level::Skipped,
            about: ABOUT.to_owned(),
            text: "which files a PBX of another user holds open is not seen by this user".to_owned(),
            hint: Some(open_files::RIGHT.to_owned()),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::units::Look;

    fn look(looks: &[(Sign, Look)], meant: Meant) -> PassiveLook {
        PassiveLook { looks: looks.iter().cloned().collect::<BTreeMap<_, _>>(), todo: "stop it".into(), meant }
    }

    fn levels(look: &PassiveLook) -> Vec<Level> {
        findings(look, Sight::All).iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn a_passive_pbx_is_one_good_line_and_each_sign_a_problem_with_what_to_do() {
        let clear = [(Sign::Answers, Look::Clear), (Sign::OpenFile, Look::Clear)];
        assert_eq!(levels(&look(&clear, Meant::Passive)), [Level::Ok]);
        let seen = [(Sign::TrunkUp, Look::Seen("up".into())), (Sign::OpenFile, Look::Seen("held".into()))];
        assert_eq!(levels(&look(&seen, Meant::Passive)), [Level::Problem, Level::Problem]);
        assert_eq!(findings(&look(&seen, Meant::Passive), Sight::All)[0].hint.as_deref(), Some("stop it"));
        assert_eq!(levels(&look(&seen, Meant::Serving)), [Level::Ok], "one that has taken over is meant to");
    }

    #[test]
    fn what_cannot_be_seen_is_one_warning_for_each_cause() {
        let unknown = Look::Unknown("it is elsewhere".into());
        let signs = [(Sign::Answers, unknown.clone()), (Sign::AcceptsRegister, unknown)];
        assert_eq!(levels(&look(&signs, Meant::Passive)), [Level::Warning]);
        let blind = findings(&look(&[(Sign::OpenFile, Look::Clear)], Meant::Passive), Sight::OwnUser);
        assert_eq!(
            blind.iter().map(|f| f.level).collect::<Vec<_>>(),
            [Level::Ok, Level::Skipped],
            "said, and no fault"
        );
        let other = [(Sign::Answers, Look::Clear), (Sign::AcceptsRegister, Look::Unknown("no".into()))];
        assert_eq!(levels(&look(&other, Meant::Passive)), [Level::Warning]);
    }
}
