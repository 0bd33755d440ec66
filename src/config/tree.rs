//! YAML text → a tree in which everything knows its place.
//!
//! Fed by the parser's events, never by recursion, with a bound on depth and nodes: a hostile file costs a line of
//! advice, no stack and no memory. Anchors, aliases, merge keys and tags are refused (a settings file needs none,
//! and alias bombs need them), as are duplicate keys and second documents. What a scalar *means* is decided where
//! its key is known, in `walk`, so that `100` may be a trunk's name and `no` never becomes a truth value.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::hints;
use super::remark::{Place, Remark};

/// How deep maps and lists may lie in each other; the deepest real setting needs 7.
const DEPTH_MAX: usize = 24;
/// How many keys and values a file may hold: a hundred times a normal one.
const NODES_MAX: usize = 20_000;
/// How many keys one map may hold; a map of trunks is the largest real one.
const KEYS_MAX: usize = 1000;

/// A value and its place. No `Debug`: it may hold secrets.
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// What it is.
    pub value: Value,
}

/// What a value is, before its key says what it means.
pub enum Value {
    /// Nothing written, `~` or `null`.
    Null,
    /// A text.
    Scalar {
        /// As written, without quotes.
        text: String,
        /// In quotes, or a block.
        quoted: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A map, in the file's order, each key once.
    Map(Vec<Entry>),
}

/// One key of a map with its value.
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key begins.
    pub place: Place,
    /// Was it written in the file, and not filled in as a default?
    pub given: bool,
    /// Its value.
    pub value: Node,
}

/// Reads one document. Remarks that do not prevent reading on (duplicate keys, anchors) come beside the tree.
///
/// # Errors
/// Syntax, limits: one remark, because what follows cannot be understood.
pub fn parse(text: &str) -> Result<(Node, Vec<Remark>), Remark> {
    if let Some(remark) = forbidden_character(text) {
        return Err(remark);
    }
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| syntax(text, &error))?;
        builder.take(event, span)?;
    }
    match builder.root {
        Some(root) => Ok((root, builder.remarks)),
        None => Err(Remark::about_file("is empty", "begin with the comments in failover.yaml.example")),
    }
}

/// The key path of a child.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn place(span: Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

fn forbidden_character(text: &str) -> Option<Remark> {
    let (index, found) = text.char_indices().find(|(_, c)| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))?;
    let before = &text[..index];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let what = format!("the control character U+{:04X} stands here", u32::from(found));
    Some(Remark::new(Place { line, column }, "", what, "delete it; the file must be plain text in UTF-8"))
}

/// The parser's own words, and the mistake that is usually behind them.
fn syntax(text: &str, error: &ScanError) -> Remark {
    let place = Place { line: error.marker().line().max(1), column: error.marker().col() + 1 };
    let near = |line: usize| text.lines().nth(line.wrapping_sub(1)).unwrap_or("");
    let is_tabbed = |line: &str| line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    let info = error.info();
    let around = [near(place.line.saturating_sub(1)), near(place.line)];
    let fix = if around.into_iter().any(is_tabbed) {
        "indent with blanks; YAML knows no tabs"
    } else if info.contains("recursion") {
        TOO_DEEP
    } else if info.contains("anchor") {
        "write the value out, or put it in quotes; this file knows no anchors and aliases"
    } else if info.contains("quote") || info.contains("quoted") {
        "close the quotes"
    } else if info.contains('\'') || info.contains(']') || info.contains('}') || info.contains("flow") {
        "look for a bracket that is not closed, a missing comma, or a value that needs quotes"
    } else {
        "look at this line and the one above: a missing blank after a colon, wrong indentation, or a value that \
         needs quotes"
    };
    // Only the fixed sentences of the parser are repeated; one of them would quote a character of the file.
    let what = if info.starts_with("unexpected character") { "an unexpected character" } else { info };
    Remark::new(place, "", format!("not good YAML: {what}"), fix)
}

const TOO_DEEP: &str = "no setting lies so deep; look for stray brackets";

/// A map or list that is still open.
struct Open {
    place: Place,
    path: String,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    /// The entries so far, and the key that waits for its value.
    Map(Vec<Entry>, Option<(String, Place)>),
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    nodes: usize,
    documents: usize,
    remarks: Vec<Remark>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Remark> {
        let place = place(span);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Remark::new(
                        place,
                        "",
                        "a second document begins here",
                        "delete the line `---` and keep one document",
                    ));
                }
            }
            Event::Alias(_) => {
                self.plain_yaml_only(place, "an alias");
                self.value(Node { place, value: Value::Null })?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.no_anchor(place, anchor, tag.is_some());
                let quoted = style != ScalarStyle::Plain;
                let null = !quoted && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                if let Some(Open { kind: OpenKind::Map(entries, waiting @ None), .. }) = self.open.last_mut() {
                    if entries.len() == KEYS_MAX {
                        let what = format!("the map holds more than {KEYS_MAX} keys");
                        return Err(Remark::new(place, &self.path(), what, "this is no failover.yaml"));
                    }
                    *waiting = Some((text.into_owned(), place));
                    return self.count(place);
                }
                let value = if null { Value::Null } else { Value::Scalar { text: text.into_owned(), quoted } };
                self.value(Node { place, value })?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.no_anchor(place, anchor, tag.is_some());
                self.begin(place, OpenKind::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                self.no_anchor(place, anchor, tag.is_some());
                self.begin(place, OpenKind::Map(Vec::new(), None))?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let value = match open.kind {
                    OpenKind::List(items) => Value::List(items),
                    OpenKind::Map(entries, _) => Value::Map(entries),
                };
                self.put(Node { place: open.place, value });
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn begin(&mut self, place: Place, kind: OpenKind) -> Result<(), Remark> {
        self.count(place)?;
        if let Some(Open { kind: OpenKind::Map(_, None), .. }) = self.open.last() {
            let fix = "keys are plain words; put values that hold {{ … }} in quotes";
            return Err(Remark::new(place, &self.path(), "a key is a map or a list", fix));
        }
        if self.open.len() == DEPTH_MAX {
            let what = format!("lies deeper than {DEPTH_MAX} levels");
            return Err(Remark::new(place, &self.path(), what, TOO_DEEP));
        }
        let path = self.path();
        self.open.push(Open { place, path, kind });
        Ok(())
    }

    fn value(&mut self, node: Node) -> Result<(), Remark> {
        let place = node.place;
        if let Some(Open { kind: OpenKind::Map(_, waiting @ None), .. }) = self.open.last_mut() {
            // An alias as a key; already remarked upon.
            *waiting = Some((String::new(), place));
        } else {
            self.put(node);
        }
        self.count(place)
    }

    /// The path of the value that comes next.
    fn path(&self) -> String {
        match self.open.last() {
            None => String::new(),
            Some(Open { path, kind: OpenKind::List(items), .. }) => format!("{path}[{}]", items.len()),
            Some(Open { path, kind: OpenKind::Map(_, Some((key, _))), .. }) => join(path, hints::shown(key)),
            Some(Open { path, .. }) => path.clone(),
        }
    }

    fn put(&mut self, node: Node) {
        let path = self.path();
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(OpenKind::List(items)) => items.push(node),
            Some(OpenKind::Map(entries, waiting)) => {
                let (key, place) = waiting.take().unwrap_or_default();
                if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                    let what = format!("stands here for the second time (first in line {})", first.place.line);
                    self.remarks.push(Remark::new(place, &path, what, "keep one of the two"));
                } else {
                    entries.push(Entry { key, place, given: true, value: node });
                }
            }
        }
    }

    fn no_anchor(&mut self, place: Place, anchor: usize, tagged: bool) {
        if anchor > 0 {
            self.plain_yaml_only(place, "an anchor");
        }
        if tagged {
            self.plain_yaml_only(place, "a tag");
        }
    }

    fn plain_yaml_only(&mut self, place: Place, thing: &str) {
        let what = format!("holds {thing}, which this file does not know");
        self.remarks.push(Remark::new(place, &self.path(), what, "write the value out, or put it in quotes"));
    }

    fn count(&mut self, place: Place) -> Result<(), Remark> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let what = format!("the file holds more than {NODES_MAX} values");
            return Err(Remark::new(place, "", what, "this is no failover.yaml; look where it comes from"));
        }
        Ok(())
    }
}
