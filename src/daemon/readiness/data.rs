//! What `check` finds of the working directory: the gate's word, and each reason with what to do about it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::ports::{DataGate, Keep};
use crate::units::DataLook;
use crate::units::data::{Outcome, Weight, size};
use crate::units::finding::Finding;
use crate::units::tree::TreeSeen;

const ABOUT: &str = "working directory";

/// A sync that writes now may be done in a moment; whoever checks waits no longer.
const WAIT_MAX: Duration = Duration::from_secs(8);

/// Looks, for a little longer while a sync writes; leaves nothing behind.
pub async fn look(gate: &dyn DataGate) -> Vec<Finding> {
    let until = Instant::now() + WAIT_MAX;
    loop {
        let look = gate.look(Keep::Nothing).await;
        if !look.is_under_way() || Instant::now() >= until {
            return findings(&look);
        }
        sleep(Duration::from_secs(1)).await;
    }
}

fn findings(look: &DataLook) -> Vec<Finding> {
    let would = match look.outcome {
        Outcome::Go => "passes its gate",
        Outcome::GoWithWarning => "would be loaded, with a warning",
        Outcome::LastGood => "does not pass its gate: its last good snapshot would be loaded",
        Outcome::Hold => "does not pass its gate: nothing would be loaded (sync.on_hold)",
    };
    let beat = look.beat_age_s.map(|age| format!(", its newest heartbeat is {age} s old")).unwrap_or_default();
    let vouched = look.vouched.as_ref().map(|vouched| format!(", {}", vouched.text())).unwrap_or_default();
    let text = format!("{} files, {}{beat}{vouched}: {would}", look.files, size(look.bytes));
    let mut found = vec![Finding::ok(ABOUT, text)];
    found.extend(look.snapshots.as_ref().map(|kept| match &kept.unwritable {
        None => Finding::ok(ABOUT, kept.line(look.at)),
        Some(dir) => {
            let todo =
                format!("let the robot's user write into {dir}, as docs/snapshots.md shows, or set sync.on_hold: go");
            Finding::warning(ABOUT.to_owned(), kept.line(look.at), todo)
        }
    }));
    found.extend(look.reasons.iter().map(|reason| {
        // What passes by itself is no fault of the setup.
        let holds = look.outcome == Outcome::Hold && reason.weight > Weight::UnderWay;
        let finding = if holds { Finding::problem } else { Finding::warning };
        finding(ABOUT.to_owned(), reason.text.clone(), reason.todo.clone())
    }));
    let hints = look.vouched.iter().filter_map(TreeSeen::hint);
    found.extend(hints.map(|(text, todo)| Finding::warning(ABOUT.to_owned(), text, todo)));
    found
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::units::data::Reason;
    use crate::units::finding::Level;

    #[test]
    fn each_reason_is_a_line_with_what_to_do_and_a_problem_where_nothing_would_be_loaded() {
        let reason = |weight| Reason { weight, text: "seen".into(), todo: "do".into() };
        let look = |outcome| {
            let reasons = [Weight::Broken, Weight::UnderWay, Weight::Warn].map(reason);
            findings(&DataLook::bare(Timestamp::UNIX_EPOCH, outcome, reasons.to_vec()))
        };
        let levels = |outcome| look(outcome).iter().map(|finding| finding.level).collect::<Vec<_>>();
        assert_eq!(levels(Outcome::Hold), [Level::Ok, Level::Problem, Level::Warning, Level::Warning]);
        assert_eq!(levels(Outcome::GoWithWarning), [Level::Ok, Level::Warning, Level::Warning, Level::Warning]);
        assert!(look(Outcome::Hold)[1..].iter().all(|finding| finding.hint.as_deref() == Some("do")));
    }
}
