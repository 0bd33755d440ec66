//! Lines → sections: headers with their templates and additions, keys, directives.
//!
//! Every count has a limit, so that no file, however made, costs more than them. Facts in the comments are those of
//! Asterisk's `main/config.c`.

use std::borrow::Cow;

use super::lines::{Line, LineEnd, Lines, position, trim};
use super::{Conf, Demand, Encoding, Entry, Files, Include, Piece, Remark, Role, Section, Stored, Text, Weight};

/// Asterisk passes over longer lines.
pub const LINE_BYTES_MAX: usize = 8190;
/// How deep files may include files: Asterisk's own limit.
pub const DEPTH_MAX: usize = 10;
/// How many files are read; a split by extension or department has tens of them.
pub const FILES_MAX: usize = 1_000;
/// Three sections each for more than 300,000 phones, which no Asterisk serves.
pub const SECTIONS_MAX: usize = 1_000_000;
/// A section has some tens of keys; copies of copies of templates could double it with every line.
pub const SECTION_ENTRIES_MAX: usize = 500;
/// Eight for each section: 128 MB at most.
pub const ENTRIES_MAX: usize = 8_000_000;
/// All names and values together; places in them are kept in 32 bits.
pub const TEXT_BYTES_MAX: usize = 256 << 20;
/// How many keys may be asked for: one bit each.
pub const KEYS_MAX: usize = 64;

/// Reads a file and what it includes; of the keys, only `keys` are kept, [`KEYS_MAX`] of them at most.
pub fn read(root: Text, files: &mut dyn Files, keys: &[&str]) -> Conf {
    let (conf, keys) = (Conf::default(), Keys::of(keys));
    let mut reader = Reader { conf, keys, files, entered: Place::Outside, stack: Vec::new(), full: Limit::Within };
    reader.file(root);
    reader.conf
}

struct Reader<'r> {
    conf: Conf,
    keys: Keys<'r>,
    files: &'r mut dyn Files,
    /// The section that was begun last, in whatever file: an included file goes on with it.
    entered: Place,
    /// The files that are being read, each including the next.
    stack: Vec<u16>,
    full: Limit,
}

/// Whether a limit was reached, and remarked.
#[derive(PartialEq, Eq)]
enum Limit {
    Within,
    Reached,
}

/// The keys that are asked for.
struct Keys<'r> {
    names: &'r [&'r str],
    /// For each length, which names have it: most lines of a file end here.
    of_length: [u64; 64],
}

impl<'r> Keys<'r> {
    fn of(names: &'r [&'r str]) -> Self {
        let names = &names[..names.len().min(KEYS_MAX)];
        let mut of_length = [0; 64];
        for (number, name) in names.iter().enumerate() {
            if let Some(bits) = of_length.get_mut(name.len()) {
                *bits |= 1 << number;
            }
        }
        Self { names, of_length }
    }

    fn find(&self, key: &[u8]) -> Option<u8> {
        let mut bits = *self.of_length.get(key.len())?;
        while bits != 0 {
            let number = bits.trailing_zeros();
            if self.names[number as usize].as_bytes().eq_ignore_ascii_case(key) {
                return u8::try_from(number).ok();
            }
            bits &= bits - 1;
        }
        None
    }
}

/// Where a key belongs.
#[derive(Clone, Copy)]
enum Place {
    /// There was no section yet.
    Outside,
    In(u32),
    /// Into a section that could not be understood: it is passed over, lest a password reach the wrong account.
    Lost,
}

impl Reader<'_> {
    fn file(&mut self, text: Text) {
        let number = u16::try_from(self.conf.files.len()).unwrap_or(u16::MAX);
        self.conf.files.push(text.name);
        self.stack.push(number);
        let has_nul = text.bytes.contains(&0);
        if has_nul {
            self.broken(0, "holds NUL bytes, as a file that was being copied when its host died", "copy it again");
        }
        // After an include, the including file goes on with its own section, whatever the included one began.
        let mut place = self.entered;
        let mut lines = Lines::of(&text.bytes);
        let mut end = LineEnd::Feed;
        for line in lines.by_ref() {
            end = line.end;
            if line.raw.len() > LINE_BYTES_MAX {
                self.fault(line.number, "is longer than Asterisk reads", "make the line shorter");
            } else if has_nul && line.raw.contains(&0) {
                place = Place::Lost;
            } else if !line.text.is_empty() {
                place = self.line(&line, place);
            }
        }
        if let Some(opened) = lines.open_comment() {
            let what = "the comment that begins here is never closed";
            match end {
                LineEnd::File => self.broken(opened, what, "the file may have been cut: copy it again"),
                LineEnd::Feed => self.fault(opened, what, "close it with --;"),
            }
        }
        self.stack.pop();
    }

    fn line(&mut self, line: &Line<'_>, place: Place) -> Place {
        match line.text[0] {
            b'[' => {
                self.entered = self.header(line);
                return self.entered;
            }
            b'#' => self.directive(line),
            b'\\' => self.entry(line, &line.text[1..], place),
            _ => self.entry(line, &line.text, place),
        }
        place
    }

    /// `[name]`, `[name](!)`, `[name](template,template)`, `[name](+)`, `[name](+type=aor)`.
    fn header(&mut self, line: &Line<'_>) -> Place {
        let Some((name, after)) = cut(&line.text[1..], b']') else {
            self.incomplete(line, "the name of the section is not closed", "close it with ]");
            return Place::Lost;
        };
        let name = String::from_utf8_lossy(name);
        let options = match after.strip_prefix(b"(") {
            None => {
                if trim(after).starts_with(b"(") {
                    let fix = "take the space away, or Asterisk passes over what stands in them";
                    self.fault(line.number, "a space before the parentheses of a section", fix);
                }
                Cow::Borrowed("")
            }
            Some(inside) => {
                let Some((options, _)) = cut(inside, b')') else {
                    self.incomplete(line, "the templates of the section are not closed", "close them with )");
                    return Place::Lost;
                };
                String::from_utf8_lossy(options)
            }
        };
        let options: Vec<&str> = options.split(',').map(str::trim).filter(|option| !option.is_empty()).collect();
        let Some(section) = self.begin(&name, &options, line.number) else { return Place::Lost };
        for option in options {
            match option {
                "!" => self.conf.sections[section as usize].role = Role::Template,
                option if option.starts_with('+') => {}
                base => self.inherit(section, base, line.number),
            }
        }
        Place::In(section)
    }

    /// A new section, or with `+` the one that is added to.
    fn begin(&mut self, name: &str, options: &[&str], line: u32) -> Option<u32> {
        if let Some(filter) = options.iter().find_map(|option| option.strip_prefix('+')) {
            let found = self.conf.namesakes(name).find(|at| self.fits(*at, filter));
            if found.is_none() {
                let fix = "put it after the section that it adds to, or take it out: Asterisk refuses the whole file";
                self.fault(line, format!("adds to [{name}], which is not there"), fix);
            }
            return found;
        }
        if self.conf.sections.len() >= SECTIONS_MAX {
            self.limit(line, &format!("more than {SECTIONS_MAX} sections"));
            return None;
        }
        let at = u32::try_from(self.conf.sections.len()).ok()?;
        let hash = self.conf.names.hash(name);
        let name = self.text(name, line)?;
        let file = self.stack.last().copied().unwrap_or_default();
        self.conf.sections.push(Stored { name, file, line, role: Role::Plain, first: 0, count: 0, next: None });
        let (_, last) = self.conf.names.ends.entry(hash).or_insert((at, at));
        if *last != at {
            self.conf.sections[*last as usize].next = Some(at);
            *last = at;
        }
        Some(at)
    }

    /// Whether a section may be added to: `key=value` parts, joined by `&`. Asterisk takes each as a regular
    /// expression; here a value is plain text that must be the whole value, which is how they are used.
    fn fits(&self, at: u32, filter: &str) -> bool {
        let section = Section { conf: &self.conf, stored: &self.conf.sections[at as usize] };
        let mut parts = filter.split('&').map(str::trim).filter(|part| !part.is_empty());
        let mut templates = Role::Plain;
        let all = parts.all(|part| match part.split_once('=') {
            Some(("TEMPLATES", "include" | "restrict")) => {
                templates = Role::Template;
                true
            }
            Some((key, value)) => {
                let value = value.trim_matches(['^', '$']);
                self.keys.find(key.as_bytes()).is_some_and(|key| section.all(key).any(|found| found.text == value))
            }
            None => false,
        });
        all && (section.stored.role == Role::Plain || templates == Role::Template)
    }

    fn inherit(&mut self, section: u32, base: &str, line: u32) {
        // Any earlier section may be a template; the first of the name counts.
        let first = self.conf.namesakes(base).next();
        let Some(first) = first.filter(|first| *first != section) else {
            let fix = "define it before this line: Asterisk refuses the whole file";
            return self.fault(line, format!("the template [{base}] is not there"), fix);
        };
        let base = &self.conf.sections[first as usize];
        let range = base.first as usize..base.first as usize + usize::from(base.count);
        for at in range {
            self.keep(section, self.conf.entries[at], line);
        }
    }

    fn keep(&mut self, section: u32, entry: Entry, line: u32) {
        let stored = &mut self.conf.sections[section as usize];
        let (first, count) = (stored.first as usize, usize::from(stored.count));
        // A section that others followed moves to the end, so that its entries stand together.
        let moves = if first + count == self.conf.entries.len() { 0 } else { count };
        if self.conf.entries.len() + moves >= ENTRIES_MAX {
            self.limit(line, &format!("more than {ENTRIES_MAX} keys"));
        } else if count >= SECTION_ENTRIES_MAX {
            self.fault(line, format!("the section has more than {SECTION_ENTRIES_MAX} keys"), "split it");
        } else {
            if first + count != self.conf.entries.len() {
                stored.first = u32::try_from(self.conf.entries.len()).unwrap_or(u32::MAX);
                self.conf.entries.extend_from_within(first..first + count);
            }
            stored.count += 1;
            self.conf.entries.push(entry);
        }
    }

    /// `key = value`, `key => value`, `key += more`.
    fn entry(&mut self, line: &Line<'_>, text: &[u8], place: Place) {
        let Some((key, value)) = cut(text, b'=') else {
            let fix = "write key = value, or begin the line with ; to make it a comment";
            return self.incomplete(line, "neither a section nor a key with its value", fix);
        };
        let (key, adds) = match key.strip_suffix(b"+") {
            Some(key) => (trim(key), true),
            None => (trim(key), false),
        };
        let section = match place {
            Place::In(section) => section,
            Place::Lost => return,
            Place::Outside => return self.fault(line.number, "a key before any section", "move it into a section"),
        };
        let Some(key) = self.keys.find(key) else { return };
        let stored = &self.conf.sections[section as usize];
        let earlier = self.conf.entries_of(stored).iter().rposition(|entry| adds && entry.key == key);
        let Some(earlier) = earlier.map(|at| stored.first as usize + at) else {
            let value = if adds { value } else { value.strip_prefix(b">").unwrap_or(value) };
            if let Some(entry) = self.value(key, trim(value), line.number) {
                self.keep(section, entry, line.number);
            }
            return;
        };
        // What is added begins right after the sign, spaces included.
        let joined = [self.conf.piece(self.conf.entries[earlier].value).as_bytes(), value].concat();
        let joined = trim(&joined);
        if joined.len() > LINE_BYTES_MAX {
            return self.fault(line.number, "the value is longer than Asterisk reads", "make it shorter");
        }
        if let Some(entry) = self.value(key, joined, line.number) {
            self.conf.entries[earlier] = entry;
        }
    }

    fn value(&mut self, key: u8, value: &[u8], line: u32) -> Option<Entry> {
        let text = String::from_utf8_lossy(value);
        let encoding = if matches!(text, Cow::Borrowed(_)) { Encoding::Utf8 } else { Encoding::Other };
        let value = self.text(&text, line)?;
        Some(Entry { value, key, encoding, file: self.stack.last().copied().unwrap_or_default(), line })
    }

    fn text(&mut self, text: &str, line: u32) -> Option<Piece> {
        if self.conf.text.len() + text.len() > TEXT_BYTES_MAX {
            self.limit(line, "more text than is read");
            return None;
        }
        let piece = Piece { start: u32::try_from(self.conf.text.len()).ok()?, len: u16::try_from(text.len()).ok()? };
        self.conf.text.push_str(text);
        Some(piece)
    }

    /// `#include`, `#tryinclude`, `#exec`.
    fn directive(&mut self, line: &Line<'_>) {
        let text = String::from_utf8_lossy(&line.text[1..]).into_owned();
        let (word, argument) = text.split_once(|c: char| c <= ' ').unwrap_or((&text, ""));
        let demand = match word.to_ascii_lowercase().as_str() {
            "include" => Demand::Required,
            "tryinclude" => Demand::Optional,
            "exec" => {
                let fix = "write what the command prints into a file and include that";
                return self.fault(line.number, "#exec is not carried out here", fix);
            }
            _ => {
                let fix = "use #include or #tryinclude, or begin the line with ; to make it a comment";
                return self.incomplete(line, "a directive that Asterisk does not know", fix);
            }
        };
        let path = unquoted(argument.trim());
        if path.is_empty() {
            return self.incomplete(line, "names no file to include", "write its name");
        }
        if self.stack.len() >= DEPTH_MAX {
            let what = format!("files include files more than {DEPTH_MAX} deep");
            return self.fault(line.number, what, "include the file from one above");
        }
        let found = self.files.find(&Include { path, demand });
        if found.texts.is_empty() && found.troubles.is_empty() && demand == Demand::Required {
            let fix = "copy it here too, or use #tryinclude: Asterisk refuses the whole file";
            self.fault(line.number, format!("{path} is not there"), fix);
        }
        for trouble in found.troubles {
            self.remark(trouble.weight, line.number, trouble.what, trouble.fix);
        }
        for text in found.texts {
            if self.stack.iter().any(|open| self.conf.files[usize::from(*open)] == text.name) {
                self.fault(line.number, format!("{path} includes itself"), "take one of the two out");
            } else if self.conf.files.len() >= FILES_MAX {
                self.limit(line.number, &format!("more than {FILES_MAX} files"));
            } else {
                self.file(text);
            }
        }
    }

    /// A line that lacks its end: where it is the last one and has no line feed, the file was cut there.
    fn incomplete(&mut self, line: &Line<'_>, what: &str, fix: &str) {
        match line.end {
            LineEnd::Feed => self.fault(line.number, what, fix),
            LineEnd::File => self.broken(line.number, format!("the file ends here, and {what}"), "copy it again"),
        }
    }

    /// Once: what follows would only repeat it.
    fn limit(&mut self, line: u32, what: &str) {
        if std::mem::replace(&mut self.full, Limit::Reached) == Limit::Within {
            self.broken(line, format!("{what}: the rest is not read"), "check that this file is what it should be");
        }
    }

    fn fault(&mut self, line: u32, what: impl Into<String>, fix: &str) {
        self.remark(Weight::Fault, line, what.into(), fix.to_owned());
    }

    fn broken(&mut self, line: u32, what: impl Into<String>, fix: &str) {
        self.remark(Weight::Broken, line, what.into(), fix.to_owned());
    }

    fn remark(&mut self, weight: Weight, line: u32, what: String, fix: String) {
        let file = self.stack.last().map(|open| self.conf.files[usize::from(*open)].clone()).unwrap_or_default();
        self.conf.remarks.push(Remark { weight, file, line, what, fix });
    }
}

/// What stands before and after the first `byte`.
fn cut(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = position(text, byte)?;
    Some((&text[..at], &text[at + 1..]))
}

/// Without `"…"` or `<…>`.
fn unquoted(path: &str) -> &str {
    let inside = |open, close| path.strip_prefix(open)?.strip_suffix(close);
    inside('"', '"').or_else(|| inside('<', '>')).unwrap_or(path)
}
