//! What of a line is no comment, in the formats that lie in a PBX's directory.

use std::borrow::Cow;
use std::path::Path;

/// How comments look in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `;` to the end of the line, `;-- --;` over lines; `#` and `//` where a line begins.
    Ini,
    /// `#` and `//` to the end of the line, `/* */` over lines; not inside quotes. `#!` is an order to Kamailio.
    Script,
    /// `<!-- -->` over lines.
    Markup,
    /// `;`, `#`, `//`, `--` where a line begins.
    Plain,
}

impl Kind {
    /// By the file's ending.
    pub fn of(path: &Path) -> Self {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
        match ending.as_str() {
            "conf" | "ini" | "inc" | "local" => Self::Ini,
            "cfg" | "js" | "php" | "lua" | "ael" => Self::Script,
            "xml" | "html" | "htm" | "xsl" => Self::Markup,
            _ => Self::Plain,
        }
    }

    /// Reads a file's lines, from the first.
    pub fn reader(self) -> Reader {
        Reader { kind: self, is_inside: false }
    }
}

/// Knows whether a comment began on an earlier line.
#[derive(Debug)]
pub struct Reader {
    kind: Kind,
    is_inside: bool,
}

/// Lines that begin so look like comments and are orders.
const ORDERS: [&[u8]; 4] = [b"#include", b"#tryinclude", b"#exec", b"#!"];

impl Reader {
    /// The line without its comments.
    pub fn code<'a>(&mut self, line: &'a [u8]) -> Cow<'a, [u8]> {
        let start = line.trim_ascii_start();
        let is_order = ORDERS.iter().any(|order| start.starts_with(order));
        let begins = |mark: &[u8]| start.starts_with(mark);
        match self.kind {
            Kind::Plain if is_order => Cow::Borrowed(line),
            Kind::Plain if begins(b";") || begins(b"#") || begins(b"//") || begins(b"--") => Cow::Borrowed(b""),
            Kind::Plain => Cow::Borrowed(line),
            Kind::Ini if !self.is_inside && !is_order && (begins(b"#") || begins(b"//")) => Cow::Borrowed(b""),
            Kind::Ini => self.cut(line, (b";--", b"--;"), &[b";"], Quotes::Plain),
            Kind::Script if !self.is_inside && is_order => Cow::Borrowed(line),
            Kind::Script => self.cut(line, (b"/*", b"*/"), &[b"#", b"//"], Quotes::Hold),
            Kind::Markup => self.cut(line, (b"<!--", b"-->"), &[], Quotes::Plain),
        }
    }

    fn cut<'a>(&mut self, line: &'a [u8], over: (&[u8], &[u8]), rest: &[&[u8]], quotes: Quotes) -> Cow<'a, [u8]> {
        let holds = |mark: &[u8]| line.windows(mark.len()).any(|window| window == mark);
        if !self.is_inside && !holds(over.0) && !rest.iter().any(|mark| holds(mark)) {
            return Cow::Borrowed(line);
        }
        let mut code = Vec::with_capacity(line.len());
        let (mut at, mut is_quoted) = (0, false);
        while at < line.len() {
            let here = &line[at..];
            if self.is_inside {
                if here.starts_with(over.1) {
                    self.is_inside = false;
                    at += over.1.len();
                } else {
                    at += 1;
                }
                continue;
            }
            let is_escaped = at > 0 && line[at - 1] == b'\\';
            if quotes == Quotes::Hold && here[0] == b'"' && !is_escaped {
                is_quoted = !is_quoted;
            }
            if !is_quoted && !is_escaped {
                // Asterisk: `;---` is a rule drawn in dashes, not the begin of a comment over lines.
                let is_rule = over.0 == b";--" && here.starts_with(b";---");
                if here.starts_with(over.0) && !is_rule {
                    self.is_inside = true;
                    at += over.0.len();
                    continue;
                }
                // `sip://` and `https://` hold no comment.
                let is_scheme = here.starts_with(b"//") && at > 0 && line[at - 1] == b':';
                if !is_scheme && rest.iter().any(|mark| here.starts_with(mark)) {
                    break;
                }
            }
            code.push(here[0]);
            at += 1;
        }
        Cow::Owned(code)
    }
}

/// Whether a comment may begin inside quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// Yes: quotes are characters as others.
    Plain,
    /// No.
    Hold,
}
