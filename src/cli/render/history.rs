//! `history` as text: one event a line, oldest first, a heading for each day.

use super::{Lines, Page, Tone};
use crate::units::journal::HistoryEvent;

/// The whole answer.
pub fn render(events: &[HistoryEvent], page: &Page) -> String {
    let mut lines = Lines::default();
    let mut day = String::new();
    for event in events {
        let today = page.day(event.at);
        if today != day {
            if !day.is_empty() {
                lines.line("");
            }
            lines.line(&page.paint.word(Tone::Head, &today));
            day = today;
        }
        let row = event.row.map(|row| format!(" [row {row}]")).unwrap_or_default();
        lines.beside(&format!("{}  ", page.second(event.at)), 10, &format!("{}: {}{row}", event.kind, event.what));
        if !event.because.is_empty() {
            lines.beside("          because ", 18, &event.because);
        }
    }
    if events.is_empty() {
        lines.line("nothing is recorded for that time");
    }
    lines.finish()
}

#[cfg(test)]
mod tests {
    use super::super::{Paint, sample};
    use super::*;
    use crate::units::State;

    fn event(at: &str, kind: &str, row: Option<u16>, what: &str, because: &str) -> HistoryEvent {
        let at = at.parse().unwrap();
        HistoryEvent { at, kind: kind.into(), state: State::Suspect, row, what: what.into(), because: because.into() }
    }

    #[test]
    fn days_are_headings_and_reasons_stand_below() {
        let events = [
            event("2026-11-19T23:59:58Z", "start", None, "pbx-failover 0.1.0 started", ""),
            event("2026-11-20T10:01:02Z", "transition", Some(3), "standby → suspect", "something is wrong over there"),
        ];
        let want = "\
Thu 2026-11-19
23:59:58  start: pbx-failover 0.1.0 started

Fri 2026-11-20
10:01:02  transition: standby → suspect [row 3]
          because something is wrong over there
";
        assert_eq!(render(&events, &sample::page(Paint::Plain)), want);
    }

    #[test]
    fn an_empty_history_says_so() {
        assert_eq!(render(&[], &sample::page(Paint::Plain)), "nothing is recorded for that time\n");
    }
}
