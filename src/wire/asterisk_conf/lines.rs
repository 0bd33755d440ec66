//! A text → its lines without comments.
//!
//! `;` begins a comment, `\;` is a semicolon, `;-- … --;` is a comment over any number of lines that may be nested;
//! `;---` begins none of these, so that a ruler of dashes is a plain comment. As Asterisk's `main/config.c` does it.

use std::borrow::Cow;

/// Comments within comments that are counted; Asterisk's own limit.
const NESTED_MAX: usize = 128;

/// One line, trimmed, without its comments.
pub(super) struct Line<'a> {
    /// From 1.
    pub number: u32,
    pub text: Cow<'a, [u8]>,
    /// As it stands in the file.
    pub raw: &'a [u8],
    pub end: LineEnd,
}

/// How a line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// With a line feed.
    Feed,
    /// With the file: it may have been cut here.
    File,
}

/// The lines of a text. After the last one, [`Lines::open_comment`] tells whether a comment was never closed.
pub(super) struct Lines<'a> {
    rest: &'a [u8],
    number: u32,
    /// The lines on which the comments that are open were opened.
    open: Vec<u32>,
}

impl<'a> Lines<'a> {
    pub fn of(text: &'a [u8]) -> Self {
        // Some editors begin a file with a byte order mark.
        Self { rest: text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text), number: 0, open: Vec::new() }
    }

    /// The line on which the innermost open comment was opened.
    pub fn open_comment(&self) -> Option<u32> {
        self.open.last().copied()
    }

    fn uncomment(&mut self, line: &'a [u8]) -> Cow<'a, [u8]> {
        if self.open.is_empty() && !line.contains(&b';') {
            return Cow::Borrowed(line);
        }
        let mut kept = Vec::new();
        let mut at = 0;
        while let Some(semicolon) = line[at..].iter().position(|byte| *byte == b';').map(|found| at + found) {
            let before = &line[at..semicolon];
            let after = &line[semicolon + 1..];
            let outside = self.open.is_empty();
            at = semicolon + 1;
            if let Some(before) = before.strip_suffix(b"\\") {
                if outside {
                    kept.extend_from_slice(before);
                    kept.push(b';');
                }
            } else if after.starts_with(b"--") && after.get(2) != Some(&b'-') {
                if outside {
                    kept.extend_from_slice(before);
                }
                if self.open.len() < NESTED_MAX {
                    self.open.push(self.number);
                }
                at += 2;
            } else if outside {
                kept.extend_from_slice(before);
                return Cow::Owned(kept);
            } else if before.ends_with(b"--") {
                self.open.pop();
            }
        }
        if self.open.is_empty() {
            kept.extend_from_slice(&line[at..]);
        }
        Cow::Owned(kept)
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        self.number = self.number.saturating_add(1);
        let (line, end) = match self.rest.iter().position(|byte| *byte == b'\n') {
            Some(feed) => {
                let line = &self.rest[..feed];
                self.rest = &self.rest[feed + 1..];
                (line, LineEnd::Feed)
            }
            None => (std::mem::take(&mut self.rest), LineEnd::File),
        };
        let text = match self.uncomment(line) {
            Cow::Borrowed(text) => Cow::Borrowed(trim(text)),
            Cow::Owned(text) => Cow::Owned(trim(&text).to_vec()),
        };
        Some(Line { number: self.number, text, raw: line, end })
    }
}

/// Without white space and control characters at both ends, as Asterisk's `ast_strip`.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [0..=32, rest @ ..] | [rest @ .., 0..=32] = text {
        text = rest;
    }
    text
}
