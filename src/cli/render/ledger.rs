//! `ledger` as text: what waits to be carried home, in numbers and by name, and what stands there twice.

use super::{Lines, Page, Tone};
use crate::cli::backend::Whole;
use crate::units::data::size;

/// So many files are named; all of them are in `--json`.
const NAMED_MAX: usize = 200;

/// The whole answer.
pub fn render(whole: &Whole, page: &Page) -> String {
    let mut lines = Lines::default();
    let Some(ledger) = &whole.ledger else {
        lines.line("there is no ledger: this node has not served since it keeps one");
        return lines.finish();
    };
    let ended = if ledger.ended { ", ended" } else { "" };
    let head = format!("ledger since {}{ended}: ", page.moment(ledger.since));
    lines.beside(&page.paint.word(Tone::Head, &head), head.len(), &ledger.line_to_do());
    for file in whole.files.iter().take(NAMED_MAX) {
        lines.beside(
            &format!("  {:7}  {:9}  {:>9}  ", file.change, file.class.name(), size(file.bytes)),
            34,
            &file.path,
        );
    }
    if whole.files.len() > NAMED_MAX {
        lines.line(&format!("  and {} more: `ledger --json` names all of them", whole.files.len() - NAMED_MAX));
    }
    if !whole.kept_twice.is_empty() {
        lines.line(
            "changed by both sides; one stands there under its name, the other beside it, with the node that it is of:",
        );
        for line in &whole.kept_twice {
            lines.beside("  ", 2, line);
        }
    }
    lines.finish()
}
