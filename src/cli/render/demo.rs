//! The demo's timeline as text: seconds, who, what; chapters as headings.

use super::{Lines, Page, Tone, cell};
use crate::demo::{Mood, Told};

/// The widest of those who speak.
const WHO_WIDTH: usize = 5;

/// One line of the timeline.
pub fn render(told: &Told, page: &Page) -> String {
    let mut lines = Lines::default();
    if told.mood == Mood::Chapter {
        lines.line("");
        lines.line(&page.paint.word(Tone::Head, &told.what));
        return lines.finish();
    }
    if told.mood == Mood::Command {
        lines.line(&format!("  {}", told.what));
        return lines.finish();
    }
    let tone = match told.mood {
        Mood::Good => Tone::Good,
        Mood::Bad => Tone::Bad,
        Mood::Chapter | Mood::Plain | Mood::Command => Tone::Plain,
    };
    let (seconds, ms) = (told.at_ms / 1000, told.at_ms % 1000);
    let who = cell(page.paint, tone, told.who, WHO_WIDTH);
    let head = format!("{seconds:>3}.{ms:03}  {who}  ");
    lines.beside(&head, 9 + WHO_WIDTH + 2, &told.what);
    lines.finish()
}

#[cfg(test)]
mod tests {
    use super::super::{Paint, sample};
    use super::*;

    #[test]
    fn a_line_has_its_time_and_a_chapter_stands_alone() {
        let told = |mood, what: &str| Told { at_ms: 1042, who: "dns", what: what.to_owned(), mood };
        let page = sample::page(Paint::Plain);
        assert_eq!(render(&told(Mood::Good, "pbx.demo.test moved"), &page), "  1.042  dns    pbx.demo.test moved\n");
        assert_eq!(render(&told(Mood::Chapter, "the primary dies"), &page), "\nthe primary dies\n");
        let long = render(&told(Mood::Bad, &"word ".repeat(40)), &page);
        assert!(long.lines().all(|line| line.len() <= super::super::COLUMNS), "{long}");
        let colour = render(&told(Mood::Bad, "gone"), &sample::page(Paint::Colour));
        assert!(colour.contains("\x1b[1;31mdns\x1b[0m"), "{colour:?}");
    }
}
