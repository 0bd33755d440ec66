//! `check` as text: each finding a line, what to do below it, and the sum at the end.

use super::{Lines, Page, Tone, cell, counted, widest};
use crate::cli::backend::{CheckReport, Level};

/// Widest column of what was looked at.
const ABOUT_COLUMNS_MAX: usize = 28;

/// The whole answer.
pub fn render(report: &CheckReport, page: &Page) -> String {
    let mut lines = Lines::default();
    let about = widest(report.findings.iter().map(|f| f.about.as_str()), ABOUT_COLUMNS_MAX);
    for finding in &report.findings {
        let (tone, word) = match finding.level {
            Level::Ok => (Tone::Good, "ok"),
            Level::Skipped => (Tone::Plain, "skipped"),
            Level::Warning => (Tone::Warn, "warning"),
            Level::Problem => (Tone::Bad, "PROBLEM"),
        };
        let head = format!("{}  {:about$}  ", cell(page.paint, tone, word, 7), finding.about);
        lines.beside(&head, 11 + finding.about.chars().count().max(about), &finding.text);
        if let Some(hint) = &finding.hint {
            lines.beside("         hint: ", 15, hint);
        }
    }
    let count = |level| report.findings.iter().filter(|f| f.level == level).count();
    let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
    let sum = match (problems, warnings) {
        (0, 0) => "ready".to_owned(),
        (0, warnings) => format!("ready, with {}", counted(warnings, "warning")),
        (problems, warnings) => {
            format!("not ready: {}, {}", counted(problems, "problem"), counted(warnings, "warning"))
        }
    };
    lines.line(&sum);
    lines.finish()
}

#[cfg(test)]
mod tests {
    use super::super::{Paint, sample};
    use super::*;

    #[test]
    fn problems_stand_with_what_to_do_and_are_counted() {
        let json = serde_json::json!({"findings": [
            {"level": "ok", "about": "config", "text": "3 checks, 1 zone"},
            {"level": "problem", "about": "dns example.com", "text": "BADTIME: the clocks differ by 600 s",
             "hint": "set the clock with chrony or systemd-timesyncd"}]});
        let want = "\
ok       config           3 checks, 1 zone
PROBLEM  dns example.com  BADTIME: the clocks differ by 600 s
         hint: set the clock with chrony or systemd-timesyncd
not ready: 1 problem, 0 warnings
";
        assert_eq!(render(&serde_json::from_value(json).unwrap(), &sample::page(Paint::Plain)), want);
    }
}
