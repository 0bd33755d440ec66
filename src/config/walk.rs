//! Holds the tree against the table of keys: unknown keys, missing keys, kinds, ranges, words, "not yet".
//!
//! Whatever one value can show by itself is found here, for every key in the same way. What only the whole can
//! tell is `build`'s.

use super::hints::{any_of, did_you_mean, shown};
use super::keys::TOP;
use super::remark::{Place, Remark};
use super::shape::{Key, Kind, Need, Shape, names};
use super::tree::{Entry, Node, Value, join};
use super::{duration, texts};

/// Every remark about `node` and what lies in it.
pub fn walk(node: &Node, shape: &'static Shape) -> Vec<Remark> {
    let mut walker = Walker { remarks: Vec::new() };
    walker.value(node, shape, "");
    walker.remarks
}

struct Walker {
    remarks: Vec<Remark>,
}

impl Walker {
    fn say(&mut self, place: Place, path: &str, what: impl Into<String>, fix: impl Into<String>) {
        self.remarks.push(Remark::new(place, path, what, fix));
    }

    fn value(&mut self, node: &Node, shape: &'static Shape, path: &str) {
        if matches!(shape, Shape::Any) {
            return;
        }
        let (kind, found) = match &node.value {
            Value::Null => {
                let what = if path.is_empty() { "holds no settings" } else { "has no value" };
                let fix = format!("write {}, or delete the line", shape.wanted());
                return self.say(node.place, path, what, fix);
            }
            Value::Scalar { .. } => (Kind::Scalar, "a text"),
            Value::List(_) => (Kind::List, "a list"),
            Value::Map(_) => (Kind::Map, "a map"),
        };
        let Some(shape) = shape.for_kind(kind) else {
            return self.say(node.place, path, format!("is {found}"), format!("write {}", shape.wanted()));
        };
        match &node.value {
            Value::Null => {}
            Value::Scalar { text, quoted } => {
                if let Err((what, fix)) = scalar(text, *quoted, shape) {
                    self.say(node.place, path, what, fix);
                }
            }
            Value::List(items) => {
                let each = match shape {
                    Shape::List(_, each) => each,
                    _ => &Shape::Private("a text"),
                };
                for (index, item) in items.iter().enumerate() {
                    self.value(item, each, &format!("{path}[{index}]"));
                }
                if matches!(shape, Shape::Command) {
                    self.command(items, path);
                }
            }
            Value::Map(entries) => match shape {
                Shape::Named(_, each) => {
                    for entry in entries {
                        self.value(&entry.value, each, &join(path, shown(&entry.key)));
                    }
                }
                shape => self.map(node, entries, shape, path),
            },
        }
    }

    fn command(&mut self, items: &[Node], path: &str) {
        let Some(Node { place, value: Value::Scalar { text, .. } }) = items.first() else { return };
        if text.is_empty() {
            self.say(*place, &format!("{path}[0]"), "the program has no name", "write its path");
        } else if items.len() == 1 && text.contains(' ') {
            let fix = "write the program and each argument as an item of its own, or [sh, -c, \"…\"]";
            self.say(*place, &format!("{path}[0]"), "is a whole command line in one item", fix);
        }
    }

    fn map(&mut self, node: &Node, entries: &[Entry], shape: &'static Shape, path: &str) {
        let keys = shape.keys();
        for entry in entries {
            match keys.iter().find(|key| key.name == entry.key) {
                Some(Key { need: Need::Later, name, .. }) => {
                    let fix = "this version cannot do that; delete it";
                    self.say(entry.place, &join(path, name), "not yet", fix);
                }
                Some(key) => self.value(&entry.value, &key.shape, &join(path, key.name)),
                None => self.unknown(entry, shape, path),
            }
        }
        for key in keys.iter().filter(|key| matches!(key.need, Need::Must)) {
            if !entries.iter().any(|entry| entry.key == key.name) {
                let fix = format!("write {}: {}", key.name, key.shape.wanted());
                self.say(node.place, &join(path, key.name), "is missing", fix);
            }
        }
        let given = entries.iter().filter(|entry| keys.iter().any(|key| key.name == entry.key)).count();
        let asks_one = matches!(shape, Shape::OneOf(_) | Shape::Secret);
        if asks_one && (given > 1 || entries.is_empty()) {
            let what = if given > 1 { "holds several of its alternatives" } else { "is empty" };
            self.say(node.place, path, what, format!("write exactly one of {}", any_of(&names(keys))));
        }
    }

    fn unknown(&mut self, entry: &Entry, shape: &'static Shape, path: &str) {
        let known = names(shape.keys());
        let place = entry.place;
        if let Some((head, _)) = entry.key.split_once(':')
            && known.contains(&head)
        {
            let fix = format!("write `{head}: VALUE` with a blank after the colon");
            return self.say(place, &join(path, head), "no blank after the colon", fix);
        }
        if let Some(meant) = did_you_mean(&entry.key, known.iter().copied()) {
            let fix = format!("did you mean {meant}?");
            return self.say(place, &join(path, shown(&entry.key)), "unknown key", fix);
        }
        // A key without a value, or in a secret's place, may be the secret itself.
        let hidden = matches!(entry.value.value, Value::Null) || matches!(shape, Shape::Secret);
        let name = if hidden { "?" } else { shown(&entry.key) };
        let fix = match homes(name).as_slice() {
            [] => format!("delete it; known here: {}", known.join(", ")),
            homes => format!("it belongs under {}", any_of(&homes.iter().map(String::as_str).collect::<Vec<_>>())),
        };
        self.say(place, &join(path, name), "unknown key", fix);
    }
}

/// At most so many places are named for a key that stands in the wrong one.
const HOMES_MAX: usize = 3;

/// Where a key of this name would be known.
fn homes(name: &str) -> Vec<String> {
    fn search(shape: &'static Shape, path: &str, name: &str, found: &mut Vec<String>) {
        match shape {
            Shape::Map(keys) | Shape::OneOf(keys) => {
                for key in *keys {
                    if key.name == name {
                        found.push(if path.is_empty() { "the top level".to_owned() } else { path.to_owned() });
                    }
                    search(&key.shape, &join(path, key.name), name, found);
                }
            }
            Shape::Named(_, each) => search(each, &join(path, "NAME"), name, found),
            Shape::List(_, each) => search(each, &format!("{path}[]"), name, found),
            Shape::Either(shapes) => shapes.iter().for_each(|shape| search(shape, path, name, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    search(&TOP, "", name, &mut found);
    found.dedup();
    found.truncate(HOMES_MAX);
    found
}

/// One scalar against its shape: what is wrong, and the fix.
pub fn scalar(text: &str, quoted: bool, shape: &Shape) -> Result<(), (String, String)> {
    let wrong = |what: &str| Err((what.to_owned(), format!("write {}", shape.wanted())));
    match shape {
        Shape::Bool => match (text, quoted) {
            ("true" | "false", false) => Ok(()),
            ("true" | "false", true) => wrong("is a text in quotes"),
            _ => wrong("is neither true nor false"),
        },
        Shape::Whole(min, max) => match texts::whole(text) {
            Some(_) if quoted => wrong("is a text in quotes"),
            Some(number) if (*min..=*max).contains(&number) => Ok(()),
            Some(_) => wrong("is out of range"),
            None => wrong("is no whole number"),
        },
        Shape::Duration(min, max) => match duration::parse(text) {
            Err("has no unit") if text.len() <= 6 => {
                Err(("has no unit".to_owned(), format!("write {text}s for seconds, or {text}ms, {text}m, {text}h")))
            }
            Err(why) => wrong(why),
            Ok(found) if found < *min || found > *max => {
                let (min, max) = (duration::text(*min), duration::text(*max));
                Err(("is out of range".to_owned(), format!("write a duration from {min} to {max}")))
            }
            Ok(_) => Ok(()),
        },
        Shape::Choice(words, later) => {
            if words.contains(&text) {
                return Ok(());
            }
            if later.contains(&text) {
                return Err(("not yet".to_owned(), format!("this version knows {}", any_of(words))));
            }
            let fix = did_you_mean(text, words.iter().copied())
                .map_or_else(|| format!("write {}", any_of(words)), |meant| format!("did you mean {meant}?"));
            Err(("is no word that is known here".to_owned(), fix))
        }
        Shape::Text(_) | Shape::Private(_) if !quoted && matches!(text, "true" | "false") => {
            wrong("is a truth value, not a text")
        }
        Shape::Text(_) | Shape::Private(_) if text.contains(['\n', '\r']) => wrong("has several lines"),
        _ => Ok(()),
    }
}
