//! `explain` as text: the answer first, then each input, what blocks, and what a person can do.

use super::{Lines, Page, Tone};
use crate::units::snapshot::Explanation;

/// The whole answer.
pub fn render(explanation: &Explanation, page: &Page) -> String {
    let mut lines = Lines::default();
    lines.text(0, &explanation.answer);
    let parts = [
        ("because", &explanation.inputs, Tone::Head),
        ("what blocks a takeover", &explanation.blocks, Tone::Bad),
        ("what you can do", &explanation.hints, Tone::Head),
    ];
    for (name, sentences, tone) in parts.into_iter().filter(|(_, sentences, _)| !sentences.is_empty()) {
        lines.line("");
        lines.line(&page.paint.word(tone, name));
        for sentence in sentences {
            lines.beside("  - ", 4, sentence);
        }
    }
    lines.finish()
}

#[cfg(test)]
mod tests {
    use super::super::{Paint, sample};
    use super::*;

    #[test]
    fn the_answer_comes_first_and_empty_parts_are_left_out() {
        let explanation = Explanation {
            answer: "pbx-b does not take over: this host is cut off from the Internet".into(),
            inputs: vec![
                "0 of 3 Internet targets answer, 2 are needed: the fault may be ours, and a cut-off backup never takes over".into(),
                "web is down: connection timed out, 3 of 3 failures".into(),
            ],
            blocks: vec!["verdict we-are-cut-off".into()],
            hints: Vec::new(),
        };
        let want = "\
pbx-b does not take over: this host is cut off from the Internet

because
  - 0 of 3 Internet targets answer, 2 are needed: the fault may be ours, and a
    cut-off backup never takes over
  - web is down: connection timed out, 3 of 3 failures

what blocks a takeover
  - verdict we-are-cut-off
";
        assert_eq!(render(&explanation, &sample::page(Paint::Plain)), want);
    }
}
