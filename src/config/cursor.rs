//! Reads the tree by key, with defaults filled in.
//!
//! A reader returns `None` where the value is missing or where `walk` has already remarked upon it; the builder
//! then goes on to the next value, so that every mistake is found in one go.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::remark::{Notes, Place, Remark};
use super::shape::{Kind, Need, Shape};
use super::tree::{self, Entry, Node, Value, join};
use super::{duration, hints, texts, walk};

/// Writes each missing default of the table into the tree, at the place of the map that lacks it.
pub fn complete(node: &mut Node, shape: &'static Shape) {
    let kind = match &node.value {
        Value::Null => return,
        Value::Scalar { .. } => Kind::Scalar,
        Value::List(_) => Kind::List,
        Value::Map(_) => Kind::Map,
    };
    let Some(shape) = shape.for_kind(kind) else { return };
    match (&mut node.value, shape) {
        (Value::List(items), Shape::List(_, each)) => items.iter_mut().for_each(|item| complete(item, each)),
        (Value::Map(entries), Shape::Named(_, each)) => {
            entries.iter_mut().for_each(|entry| complete(&mut entry.value, each));
        }
        (Value::Map(entries), shape) => {
            for key in shape.keys() {
                if let Need::Default(text) = key.need
                    && !entries.iter().any(|entry| entry.key == key.name)
                {
                    let (mut value, _) =
                        tree::parse(text).expect("the defaults of the table are good, as a test shows");
                    settle(&mut value, node.place);
                    entries.push(Entry { key: key.name.to_owned(), place: node.place, given: false, value });
                }
                if let Some(entry) = entries.iter_mut().find(|entry| entry.key == key.name) {
                    complete(&mut entry.value, &key.shape);
                }
            }
        }
        _ => {}
    }
}

/// Gives a default and all that is in it one place.
fn settle(node: &mut Node, place: Place) {
    node.place = place;
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| settle(item, place)),
        Value::Map(entries) => {
            for entry in entries {
                entry.place = place;
                settle(&mut entry.value, place);
            }
        }
        _ => {}
    }
}

/// A value in the tree, or the place where it is missing.
#[derive(Clone)]
pub struct Cursor<'a> {
    node: Option<&'a Node>,
    shape: &'static Shape,
    /// Where it stands, or where the map stands that lacks it.
    pub place: Place,
    /// Its path.
    pub path: String,
    /// Was it written in the file?
    pub given: bool,
}

impl<'a> Cursor<'a> {
    /// The whole file.
    pub fn top(node: &'a Node, shape: &'static Shape) -> Self {
        Self { node: Some(node), shape, place: node.place, path: String::new(), given: true }
    }

    /// The value of a key of this map.
    pub fn key(&self, name: &str) -> Self {
        let key = self.shape.keys().iter().find(|key| key.name == name);
        let key = key.unwrap_or_else(|| panic!("{name} is not in the table of keys under {}", self.path));
        let path = join(&self.path, name);
        let entry = match self.node.map(|node| &node.value) {
            Some(Value::Map(entries)) => entries.iter().find(|entry| entry.key == name),
            _ => None,
        };
        match entry {
            Some(Entry { value, given, .. }) if !matches!(value.value, Value::Null) => {
                Self { node: Some(value), shape: &key.shape, place: value.place, path, given: *given }
            }
            _ => Self { node: None, shape: &key.shape, place: self.place, path, given: false },
        }
    }

    /// Itself if it was written, else the other.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        if self.given { self } else { other.clone() }
    }

    /// The items of a list.
    pub fn items(&self) -> Vec<Self> {
        let (Some(Node { value: Value::List(items), .. }), Some(shape)) = (self.node, self.shape.for_kind(Kind::List))
        else {
            return Vec::new();
        };
        let each = match shape {
            Shape::List(_, each) => each,
            _ => &Shape::Private("a text"),
        };
        let item = |(index, node): (usize, &'a Node)| Self {
            node: Some(node),
            shape: each,
            place: node.place,
            path: format!("{}[{index}]", self.path),
            given: self.given,
        };
        items.iter().enumerate().map(item).collect()
    }

    /// The names of a map of names, with their values.
    pub fn named(&self) -> Vec<(&'a str, Self)> {
        let (Some(Node { value: Value::Map(entries), .. }), Shape::Named(_, each)) = (self.node, self.shape) else {
            return Vec::new();
        };
        let named = |entry: &'a Entry| {
            let path = join(&self.path, hints::shown(&entry.key));
            let value = &entry.value;
            (entry.key.as_str(), Self { node: Some(value), shape: each, place: entry.place, path, given: true })
        };
        entries.iter().map(named).collect()
    }

    /// The keys of this map that were written.
    pub fn given_keys(&self) -> Vec<&'a str> {
        match self.node.map(|node| &node.value) {
            Some(Value::Map(entries)) => {
                entries.iter().filter(|entry| entry.given).map(|entry| entry.key.as_str()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Is it a map?
    pub fn is_map(&self) -> bool {
        matches!(self.node, Some(Node { value: Value::Map(_), .. }))
    }

    /// Is it a list?
    pub fn is_list(&self) -> bool {
        matches!(self.node, Some(Node { value: Value::List(_), .. }))
    }

    /// The text, if it is one that its shape takes.
    pub fn text(&self) -> Option<&'a str> {
        let Some(Node { value: Value::Scalar { text, quoted }, .. }) = self.node else { return None };
        let shape = self.shape.for_kind(Kind::Scalar)?;
        walk::scalar(text, *quoted, shape).is_ok().then_some(text)
    }

    /// The text, unless it is empty.
    pub fn filled(&self) -> Option<&'a str> {
        self.text().filter(|text| !text.is_empty())
    }

    /// A path, unless it is empty.
    pub fn path_buf(&self) -> Option<PathBuf> {
        self.filled().map(PathBuf::from)
    }

    /// A duration.
    pub fn duration(&self) -> Option<Duration> {
        duration::parse(self.text()?).ok()
    }

    /// A whole number.
    pub fn whole<N: TryFrom<u64>>(&self) -> Option<N> {
        texts::whole(self.text()?)?.try_into().ok()
    }

    /// A whole number above zero.
    pub fn count(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.whole()?)
    }

    /// A truth value.
    pub fn truth(&self) -> Option<bool> {
        Some(self.text()? == "true")
    }

    /// A command: the program and its arguments.
    pub fn command(&self) -> Option<Vec<String>> {
        self.items().iter().map(|item| item.text().map(str::to_owned)).collect()
    }

    /// As JSON, with unquoted numbers and truth values as such.
    pub fn json(&self) -> serde_json::Value {
        self.node.map_or(serde_json::Value::Null, json)
    }

    /// Remarks that refuse the file.
    pub fn error(&self, notes: &mut Notes, what: impl Into<String>, fix: impl Into<String>) {
        notes.errors.push(Remark::new(self.place, &self.path, what, fix));
    }

    /// Remarks that do not.
    pub fn warn(&self, notes: &mut Notes, what: impl Into<String>, fix: impl Into<String>) {
        notes.warnings.push(Remark::new(self.place, &self.path, what, fix));
    }

    /// The value of a parser, or its complaint as an error.
    pub fn take<T>(&self, notes: &mut Notes, parsed: Result<T, (String, String)>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err((what, fix)) => {
                self.error(notes, what, fix);
                None
            }
        }
    }
}

/// A node as JSON. Whole numbers beyond 64 bits stay text.
pub fn json(node: &Node) -> serde_json::Value {
    use serde_json::Value as Json;
    match &node.value {
        Value::Null => Json::Null,
        Value::Scalar { text, quoted: true } => Json::String(text.clone()),
        Value::Scalar { text, .. } => match text.as_str() {
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            text if texts::is_number(text) => {
                serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.to_owned()))
            }
            text => Json::String(text.to_owned()),
        },
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|entry| (entry.key.clone(), json(&entry.value))).collect())
        }
    }
}
