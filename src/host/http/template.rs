//! Texts with `{{ … }}` holes: split, checked and filled.
//!
//! A template is literal text and holes; each hole holds one minijinja expression. Statements (`{% … %}`) are
//! refused, so that the place of every hole is known when the file is loaded, whatever the values will be.
//! Escaping is the reader's business ([`super::request`]): it alone knows where a hole stands.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use minijinja::{Environment, UndefinedBehavior, Value, filters};

use crate::units::EventName;
use crate::units::wording;

/// Names that a hole may use: the ActionURL variables, and the two texts that channels for people carry.
fn known(name: &str) -> bool {
    wording::template_names().any(|known| known == name)
}

/// The values that fill the holes.
pub type Values = BTreeMap<String, String>;

/// A text with holes. It has no `Debug`: a literal may be somebody's key.
pub struct Template {
    pieces: Vec<Piece>,
}

/// A part of a template.
pub enum Piece {
    /// Text that stands for itself.
    Literal(String),
    /// An expression, without its braces.
    Hole(String),
}

/// Few filters on purpose: none of them escapes, because that happens once, by place.
static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut engine = Environment::empty();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.add_filter("upper", filters::upper);
    engine.add_filter("lower", filters::lower);
    engine.add_filter("replace", filters::replace);
    engine.add_filter("trim", filters::trim);
    engine
});

impl Template {
    /// Splits `text`, and evaluates each hole once for every event, so that a mistake shows at load.
    ///
    /// # Errors
    /// One line: which hole, what is wrong with it, what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let template = Self { pieces: split(text)? };
        for hole in template.pieces.iter().filter_map(Piece::hole) {
            check(hole)?;
        }
        Ok(template)
    }

    /// The parts, in order; two literals never stand side by side.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The literal parts, in order.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(text) => Some(text.as_str()),
            Piece::Hole(_) => None,
        })
    }

    /// Fills the holes; every value passes `escape` exactly once.
    ///
    /// # Errors
    /// One line: which hole could not be evaluated.
    pub fn fill(&self, values: &Values, escape: impl Fn(&str) -> String) -> Result<String, String> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Hole(hole) => text.push_str(&escape(&evaluate(hole, values)?)),
            }
        }
        Ok(text)
    }
}

impl Piece {
    fn hole(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::Hole(expression) => Some(expression),
        }
    }
}

/// Values as they could be at `event`; for checking templates.
pub fn samples(event: EventName) -> Values {
    let mut values: Values = wording::template_names().map(|name| (name.to_owned(), "sample".to_owned())).collect();
    values.insert("event".to_owned(), event.name().to_owned());
    values
}

fn split(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find("{{") {
        let (literal, tail) = rest.split_at(open);
        let close = closing(&tail[2..]).ok_or_else(|| format!("{} is never closed; write }}}}", shown(tail)))?;
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.to_owned()));
        }
        pieces.push(Piece::Hole(tail[2..2 + close].trim().to_owned()));
        rest = &tail[2 + close + 2..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    for piece in &pieces {
        if let Piece::Literal(literal) = piece
            && (literal.contains("{%") || literal.contains("{#"))
        {
            return Err("only {{ … }} is possible here, not {% … %} or {# … #}; \
                        write {{ 'a' if event == 'takeover' else 'b' }}"
                .to_owned());
        }
    }
    Ok(pieces)
}

/// Where `}}` stands outside a quoted string.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut quote = None;
    let mut at = 0;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

fn check(hole: &str) -> Result<(), String> {
    let expression = ENGINE
        .compile_expression_owned(hole.to_owned())
        .map_err(|error| format!("{}: {}", braced(hole), line(&error)))?;
    let mut unknown: Vec<_> = expression.undeclared_variables(false).into_iter().filter(|name| !known(name)).collect();
    unknown.sort();
    if let Some(name) = unknown.first() {
        let names: Vec<_> = wording::template_names().collect();
        return Err(format!("{}: no variable is called {name}; there are {}", braced(hole), names.join(", ")));
    }
    EventName::ALL.iter().try_for_each(|event| evaluate(hole, &samples(*event)).map(drop))
}

fn evaluate(hole: &str, values: &Values) -> Result<String, String> {
    let fault = |error: &minijinja::Error| format!("{}: {}", braced(hole), line(error));
    let expression = ENGINE.compile_expression_owned(hole.to_owned()).map_err(|error| fault(&error))?;
    let context = Value::from(values.clone());
    let value = expression.eval(context).map_err(|error| fault(&error))?;
    if value.as_str().is_some() || value.is_number() {
        Ok(value.to_string())
    } else {
        Err(format!("{}: gives {}, not a text; give both branches of an if", braced(hole), value.kind()))
    }
}

/// The engine's own words on one line, with advice where its escaping filters are missed.
fn line(error: &minijinja::Error) -> String {
    if error.kind() == minijinja::ErrorKind::UnknownFilter {
        return "there are only the filters upper, lower, replace and trim; \
                values are already escaped for where they stand"
            .to_owned();
    }
    error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}, {detail}", error.kind()))
}

fn braced(hole: &str) -> String {
    format!("{{{{ {} }}}}", hole.chars().take(60).collect::<String>())
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> Result<String, String> {
        Template::parse(text)?.fill(&samples(EventName::Takeover), str::to_owned)
    }

    #[test]
    fn holes_are_filled_and_the_rest_is_left_as_it_stands() {
        assert_eq!(
            fill("{\"e\":{\"x\":\"{{event}}\"}} }} {{ node|upper }}").unwrap(),
            "{\"e\":{\"x\":\"takeover\"}} }} SAMPLE"
        );
        assert_eq!(fill("{{ 'a }}' if event == 'takeover' else 'b' }}").unwrap(), "a }}");
    }

    #[test]
    fn an_unknown_variable_is_named_with_those_that_exist() {
        let error = Template::parse("x {{ evnt }}").err().unwrap();
        assert!(error.starts_with("{{ evnt }}: no variable is called evnt; there are event, id, epoch,"), "{error}");
    }

    #[test]
    fn a_mistake_in_a_branch_that_only_one_event_takes_shows_at_load() {
        let error = Template::parse("{{ 'a' if event != 'drill' else node|urlencode }}").err().unwrap();
        assert!(error.contains("already escaped"), "{error}");
    }

    #[test]
    fn statements_unclosed_holes_and_things_that_are_no_text_are_refused() {
        for text in [
            "{% if event %}a{% endif %}",
            "{# no #}",
            "{{ event",
            "{{ }}",
            "{{ 'a' if event == 'x' }}",
            "{{ [event] }}",
            "{{ range(9) }}",
            "{{ reason + 1 }}",
        ] {
            let error = Template::parse(text).err().unwrap_or_else(|| panic!("{text} passed"));
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
