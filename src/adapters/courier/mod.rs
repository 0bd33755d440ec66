//! Carries messages: ActionURLs, webhooks, mail, a command.
//!
//! One attempt at one delivery, its rendering and its classification. The queue lies in [`crate::store`], and
//! the daemon runs it: it decides when to try again, and how often. A message's words come from
//! [`crate::units::wording`], the filling of templates from [`crate::host::http`].

pub mod dead_man;

mod bounded;
mod command;
mod email;
mod http;

use std::collections::BTreeMap;

use crate::config::{ActionUrl, Config, Notify};
use crate::host::http::{Prepared, Values};
use crate::host::tls;
use crate::ports::Courier;
use crate::units::wording;
use crate::units::{Delivery, EventName, Target};

/// The target of the ActionURL called `name`.
pub fn action_url(name: &str) -> Target {
    Target(format!("action-url:{name}"))
}

/// The target of the webhook called `name`.
pub fn webhook(name: &str) -> Target {
    Target(format!("webhook:{name}"))
}

/// The target of the mail channel.
pub fn email() -> Target {
    Target("email".to_owned())
}

/// The target of the command channel.
pub fn command() -> Target {
    Target("command".to_owned())
}

/// A courier for every target that the configuration has.
///
/// # Errors
/// One line with each fault of each template or address, its setting named first.
pub fn couriers(config: &Config) -> Result<BTreeMap<Target, Box<dyn Courier>>, String> {
    couriers_of(&config.action_urls, &config.notify)
}

/// The same from the two parts of the configuration that it depends on.
///
/// # Errors
/// As [`couriers`].
pub fn couriers_of(action_urls: &[ActionUrl], notify: &Notify) -> Result<BTreeMap<Target, Box<dyn Courier>>, String> {
    let mut all: BTreeMap<Target, Box<dyn Courier>> = BTreeMap::new();
    let mut faults = Vec::new();
    let actions = action_urls.iter().map(|action| (action_url(&action.name), action));
    let hooks = notify.webhooks.iter().map(|hook| (webhook(&hook.name), hook));
    for (target, action) in actions.chain(hooks) {
        match http::HttpCourier::new(action) {
            Ok(courier) => drop(all.insert(target, Box::new(courier))),
            Err(found) => faults.extend(found.into_iter().map(|fault| format!("{target}: {fault}"))),
        }
    }
    if let Some(mail) = &notify.email {
        match email::EmailCourier::new(mail) {
            Ok(courier) => drop(all.insert(email(), Box::new(courier))),
            Err(fault) => faults.push(format!("email: {fault}")),
        }
    }
    if !notify.command.is_empty() {
        all.insert(command(), Box::new(command::CommandCourier::new(&notify.command)));
    }
    if faults.is_empty() { Ok(all) } else { Err(faults.join("; ")) }
}

/// Who is told of `event`: the ActionURLs that listen to it, in the file's order, then every channel for people.
///
/// A webhook that lists no events hears all of them.
pub fn targets_of(config: &Config, event: EventName) -> Vec<Target> {
    targets(&config.action_urls, &config.notify, event)
}

/// The same from the two parts of the configuration that it depends on.
pub fn targets(action_urls: &[ActionUrl], notify: &Notify, event: EventName) -> Vec<Target> {
    let actions = action_urls.iter().filter(|action| action.events.contains(&event));
    let hears = |hook: &&ActionUrl| hook.events.is_empty() || hook.events.contains(&event);
    let hooks = notify.webhooks.iter().filter(hears);
    let mut targets: Vec<_> = actions.map(|action| action_url(&action.name)).collect();
    targets.extend(hooks.map(|hook| webhook(&hook.name)));
    targets.extend(notify.email.as_ref().map(|_| email()));
    if !notify.command.is_empty() {
        targets.push(command());
    }
    targets
}

/// Checks one ActionURL or webhook without sending anything: its templates, and that its `ca_file` can be read.
///
/// # Errors
/// Each fault, one line each.
pub fn validate(action: &ActionUrl) -> Result<(), Vec<String>> {
    let mut faults = Prepared::new(action).err().unwrap_or_default();
    if let Some(ca_file) = &action.ca_file {
        faults.extend(tls::roots(Some(ca_file)).err());
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// What fills a template: every known variable, empty where the delivery has none, and the two texts.
fn values_of(delivery: &Delivery) -> Values {
    let mut values: Values = wording::VARIABLES.iter().map(|name| ((*name).to_owned(), String::new())).collect();
    values.extend(delivery.variables.clone());
    values.insert("subject".to_owned(), delivery.subject.clone());
    values.insert("text".to_owned(), delivery.text.clone());
    values
}
