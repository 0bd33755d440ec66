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
        if self.open.is_empty() && position(line, b';').is_none() {
            return Cow::Borrowed(line);
        }
        let mut kept = Vec::new();
        let mut at = 0;
        while let Some(semicolon) = position(&line[at..], b';').map(|found| at + found) {
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
        let (line, end) = match position(self.rest, b'\n') {
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

/// Where a byte first stands. Eight bytes at once: most of the time of a large file is spent here.
pub(super) fn position(text: &[u8], byte: u8) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let (eights, rest) = text.as_chunks::<8>();
    for (number, eight) in eights.iter().enumerate() {
        // A byte that is equal becomes zero; the lowest zero byte is the lowest one whose high bit is left.
        let differs = u64::from_le_bytes(*eight) ^ (ONES * u64::from(byte));
        let found = differs.wrapping_sub(ONES) & !differs & HIGHS;
        if found != 0 {
            return Some(number * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|other| *other == byte).map(|at| eights.len() * 8 + at)
}
