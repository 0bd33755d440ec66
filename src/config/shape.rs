//! What a key may want: the vocabulary in which [`super::keys`] is written.

use std::time::Duration;

/// One key of a map.
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Must it stand there, and what holds when it does not?
    pub need: Need,
    /// What it wants.
    pub shape: Shape,
    /// What it means, in one line.
    pub doc: &'static str,
}

/// Must a key stand there?
pub enum Need {
    /// Yes.
    Must,
    /// No; without it the thing does not exist, or follows from other keys (the doc says how).
    May,
    /// No; without it this holds, written as in the file.
    Default(&'static str),
    /// It belongs to later work and is refused with "not yet".
    Later,
}

/// What a key wants.
pub enum Shape {
    /// These keys.
    Map(&'static [Key]),
    /// Exactly one of these keys.
    OneOf(&'static [Key]),
    /// A map whose keys are names; the first field says of what.
    Named(&'static str, &'static Shape),
    /// A list; the first field says of what.
    List(&'static str, &'static Shape),
    /// A command as a list: the program and its arguments.
    Command,
    /// A text; the field says what it looks like.
    Text(&'static str),
    /// A text that may hold secrets or templates (URLs, header values), which no remark ever quotes.
    Private(&'static str),
    /// `{file: PATH}`, `{env: NAME}`, `{credential: NAME}` or a plain text.
    Secret,
    /// A duration from and to, both allowed.
    Duration(Duration, Duration),
    /// A whole number from and to, both allowed.
    Whole(u64, u64),
    /// `true` or `false`.
    Bool,
    /// One of these words, and those of later work.
    Choice(&'static [&'static str], &'static [&'static str]),
    /// The one of these that fits the value's kind (text, list, map).
    Either(&'static [Shape]),
    /// Anything: a body of names and values.
    Any,
}

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text, a number, a truth value.
    Scalar,
    /// A list.
    List,
    /// A map.
    Map,
}

impl Shape {
    /// The kinds that this shape takes.
    pub fn takes(&self, kind: Kind) -> bool {
        match self {
            Self::Map(_) | Self::OneOf(_) | Self::Named(..) => kind == Kind::Map,
            Self::List(..) | Self::Command => kind == Kind::List,
            Self::Text(_) | Self::Private(_) | Self::Duration(..) | Self::Whole(..) | Self::Bool | Self::Choice(..) => {
                kind == Kind::Scalar
            }
            Self::Secret => kind != Kind::List,
            Self::Either(shapes) => shapes.iter().any(|shape| shape.takes(kind)),
            Self::Any => true,
        }
    }

    /// The alternative that takes this kind; the shape itself unless it is [`Shape::Either`].
    pub fn for_kind(&'static self, kind: Kind) -> Option<&'static Self> {
        match self {
            Self::Either(shapes) => shapes.iter().find_map(|shape| shape.for_kind(kind)),
            shape => shape.takes(kind).then_some(shape),
        }
    }

    /// The keys of a map shape.
    pub fn keys(&self) -> &'static [Key] {
        match self {
            Self::Map(keys) | Self::OneOf(keys) => keys,
            Self::Secret => SECRET_KEYS,
            Self::Either(shapes) => shapes.iter().map(Self::keys).find(|keys| !keys.is_empty()).unwrap_or(&[]),
            _ => &[],
        }
    }

    /// What is wanted, for people.
    pub fn wanted(&self) -> String {
        match self {
            Self::Map(keys) => format!("a map ({})", names(keys).join(", ")),
            Self::OneOf(keys) => format!("a map with exactly one of {}", super::hints::any_of(&names(keys))),
            Self::Named(what, _) => format!("a map of {what}"),
            Self::List(what, _) => format!("a list of {what}, such as [one, two]"),
            Self::Command => "a command as a list, such as [/usr/local/bin/program, argument]".to_owned(),
            Self::Text(what) | Self::Private(what) => (*what).to_owned(),
            Self::Secret => "a secret: {file: PATH}, {env: NAME}, {credential: NAME} or a text in quotes".to_owned(),
            Self::Duration(..) => "a duration such as 500ms, 5s, 2m or 1m30s".to_owned(),
            Self::Whole(min, max) => format!("a whole number from {min} to {max}"),
            Self::Bool => "true or false".to_owned(),
            Self::Choice(words, _) => super::hints::any_of(words),
            Self::Either(shapes) => shapes.iter().map(Self::wanted).collect::<Vec<_>>().join(", or "),
            Self::Any => "anything".to_owned(),
        }
    }
}

/// The names of the keys that exist now.
pub fn names(keys: &'static [Key]) -> Vec<&'static str> {
    keys.iter().filter(|key| !matches!(key.need, Need::Later)).map(|key| key.name).collect()
}

/// Where a secret may lie.
pub const SECRET_KEYS: &[Key] = &[
    Key {
        name: "file",
        need: Need::May,
        shape: Shape::Text("the path of a file"),
        doc: "A file that only the robot may read.",
    },
    Key {
        name: "env",
        need: Need::May,
        shape: Shape::Text("the name of an environment variable"),
        doc: "An environment variable.",
    },
    Key {
        name: "credential",
        need: Need::May,
        shape: Shape::Text("the name of a systemd credential"),
        doc: "A systemd credential (LoadCredential=).",
    },
];
