//! Tells a command what happened, through its environment.

use std::time::Duration;

use crate::host::command;
use crate::ports::{Answer, Courier};
use crate::units::{Delivery, DeliveryOutcome};

use super::values_of;

/// How long the command may take: it sends one message.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// Longest value: Linux refuses a single environment string beyond 128 KiB, and with it the whole command.
const VALUE_BYTES_MAX: usize = 32 * 1024;

/// Runs `notify.command`.
pub struct CommandCourier {
    argv: Vec<String>,
}

impl CommandCourier {
    /// With this argument list.
    pub fn new(argv: &[String]) -> Self {
        Self { argv: argv.to_vec() }
    }
}

impl Courier for CommandCourier {
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Answer<'a, DeliveryOutcome> {
        Box::pin(async move {
            let end = command::run(&self.argv, &environment(delivery), COMMAND_LIMIT).await;
            if end.succeeded() {
                DeliveryOutcome::Accepted("exit 0".to_owned())
            } else {
                DeliveryOutcome::Retry(format!("notify.command: {}", end.line()))
            }
        })
    }
}

/// `PBX_FAILOVER_EVENT`, …, one for each variable, `_SUBJECT`, `_TEXT`, and `_KEY`, the same over all attempts.
fn environment(delivery: &Delivery) -> Vec<(String, String)> {
    let mut values = values_of(delivery);
    values.insert("key".to_owned(), delivery.key.clone());
    values
        .into_iter()
        .map(|(name, value)| (format!("PBX_FAILOVER_{}", name.to_ascii_uppercase()), bounded(&value)))
        .collect()
}

/// An environment string ends at a NUL, and the system refuses one with it.
fn bounded(value: &str) -> String {
    let mut end = value.len().min(VALUE_BYTES_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value[..end].replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_cut_between_characters_and_holds_no_nul() {
        let long = "\0".to_owned() + &"é".repeat(VALUE_BYTES_MAX);
        let cut = bounded(&long);
        assert!(cut.starts_with("\u{fffd}é") && cut.len() <= VALUE_BYTES_MAX + 2, "{}", cut.len());
    }
}
