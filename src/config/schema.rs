//! The JSON schema of failover.yaml, for editors: printed by `pbx-failover schema` from the table of keys.

use serde_json::{Map, Value, json};

use super::cursor;
use super::keys::TOP;
use super::shape::{Key, Need, Shape};
use super::tree;

/// The schema (JSON Schema 2020-12).
pub fn schema() -> Value {
    let mut schema = of(&TOP);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("failover.yaml");
    schema["description"] = json!("Settings of pbx-failover; lies outside the PBX working directory.");
    schema
}

fn of(shape: &'static Shape) -> Value {
    match shape {
        Shape::Map(keys) => map(keys),
        Shape::OneOf(keys) => one_of(keys),
        Shape::Secret => {
            let mut place = one_of(shape.keys());
            place["title"] = json!("where the secret lies");
            json!({"anyOf": [{"type": ["string", "number"]}, place]})
        }
        Shape::Named(_, each) => json!({"type": "object", "additionalProperties": of(each)}),
        Shape::List(_, each) => json!({"type": "array", "items": of(each)}),
        Shape::Command => json!({"type": "array", "items": {"type": ["string", "number"]}}),
        Shape::Text(_) | Shape::Private(_) => json!({"type": ["string", "number"]}),
        Shape::Duration(..) => json!({"type": "string", "pattern": "^([0-9]+(d|h|m|s|ms))+$"}),
        Shape::Whole(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Choice(words, _) => json!({"enum": words}),
        Shape::Either(shapes) => {
            json!({"anyOf": shapes.iter().filter(|shape| !is_later(shape)).map(of).collect::<Vec<_>>()})
        }
        Shape::Any => json!({}),
    }
}

fn is_later(shape: &Shape) -> bool {
    matches!(shape, Shape::Map(keys) if keys.iter().all(|key| matches!(key.need, Need::Later)))
}

fn map(keys: &'static [Key]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for key in keys {
        let mut property = of(&key.shape);
        property["description"] = json!(key.doc);
        match key.need {
            Need::Must => required.push(key.name),
            Need::Default(text) => {
                let (node, _) = tree::parse(text).expect("the defaults of the table are good, as a test shows");
                property["default"] = cursor::json(&node);
            }
            Need::May => {}
            Need::Later => continue,
        }
        properties.insert(key.name.to_owned(), property);
    }
    let mut map = json!({"type": "object", "additionalProperties": false, "properties": properties});
    if !required.is_empty() {
        map["required"] = json!(required);
    }
    map
}

fn one_of(keys: &'static [Key]) -> Value {
    let mut map = map(keys);
    map["minProperties"] = json!(1);
    map["maxProperties"] = json!(1);
    map
}
