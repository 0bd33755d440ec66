//! Looks at templates before the bad day: syntax, and variables that do not exist.
//!
//! Rendering is the courier's; what is written in a template is never quoted, because it may hold a token.

use minijinja::Environment;

use super::hints::{did_you_mean, shown};
use super::texts::Read;
use crate::units::wording::template_names;

/// Checks one template.
///
/// # Errors
/// What is wrong, and the fix.
pub fn check(text: &str) -> Read<()> {
    let environment = Environment::new();
    let Ok(template) = environment.template_from_str(text) else {
        return Err(("is no good template".to_owned(), "close each {{ with }}".to_owned()));
    };
    let mut unknown: Vec<_> =
        template.undeclared_variables(false).into_iter().filter(|name| template_names().all(|n| n != name)).collect();
    unknown.sort();
    let Some(name) = unknown.first() else { return Ok(()) };
    let known = || template_names().collect::<Vec<_>>().join(", ");
    let fix = did_you_mean(name, template_names())
        .map_or_else(|| format!("known are {}", known()), |meant| format!("did you mean {meant}?"));
    Err((format!("names the variable {}, which does not exist", shown(name)), fix))
}

/// The first of `names` that this template uses.
pub fn uses<'n>(text: &str, names: &[&'n str]) -> Option<&'n str> {
    let environment = Environment::new();
    let used = environment.template_from_str(text).map(|template| template.undeclared_variables(false));
    used.ok().and_then(|used| names.iter().copied().find(|name| used.contains(*name)))
}

/// As [`uses`], for every text in a body.
pub fn uses_any<'n>(body: &serde_json::Value, names: &[&'n str]) -> Option<&'n str> {
    match body {
        serde_json::Value::String(text) => uses(text, names),
        serde_json::Value::Array(items) => items.iter().find_map(|item| uses_any(item, names)),
        serde_json::Value::Object(fields) => fields.values().find_map(|field| uses_any(field, names)),
        _ => None,
    }
}

/// Checks every text in a body.
///
/// # Errors
/// As [`check`].
pub fn check_all(body: &serde_json::Value) -> Read<()> {
    match body {
        serde_json::Value::String(text) => check(text),
        serde_json::Value::Array(items) => items.iter().try_for_each(check_all),
        serde_json::Value::Object(fields) => fields.values().try_for_each(check_all),
        _ => Ok(()),
    }
}
