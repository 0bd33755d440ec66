//! ActionURLs and webhooks: what the answer to a request means for the message that it carries.
//!
//! How a request is filled and sent is [`crate::host::http`]'s. Each attempt stands for itself.

use reqwest::StatusCode;

use crate::config::ActionUrl;
use crate::host::http::{Answered, Call, Sent};
use crate::ports::{Answer, Courier};
use crate::units::{Delivery, DeliveryOutcome};

use super::values_of;

/// Carries messages to one URL.
pub struct HttpCourier {
    call: Call,
}

impl HttpCourier {
    /// Makes it ready.
    ///
    /// # Errors
    /// Each fault of the templates, one line each.
    pub fn new(action: &ActionUrl) -> Result<Self, Vec<String>> {
        Ok(Self { call: Call::new(action)? })
    }

    async fn attempt(&self, delivery: &Delivery) -> DeliveryOutcome {
        match self.call.send(&values_of(delivery), Some(&delivery.key)).await {
            Sent::Malformed(line) => DeliveryOutcome::Rejected(line),
            Sent::NotSent(line) | Sent::Unanswered(line) => DeliveryOutcome::Retry(line),
            Sent::Answered(answered) => judge(answered).await,
        }
    }
}

async fn judge(answered: Answered) -> DeliveryOutcome {
    let status = answered.status();
    if answered.is_expected() {
        return DeliveryOutcome::Accepted(format!("HTTP {}", status.as_u16()));
    }
    let line = answered.refusal().await;
    if may_change(status) { DeliveryOutcome::Retry(line) } else { DeliveryOutcome::Rejected(line) }
}

impl Courier for HttpCourier {
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Answer<'a, DeliveryOutcome> {
        Box::pin(self.attempt(delivery))
    }
}

/// Whether the same request may be answered otherwise later; the queue bounds how often it is tried.
///
/// Besides what is temporary by its meaning (RFC 9110, RFC 8470 for 425, RFC 6585 for 429, RFC 4918 for 423) that is
/// 401 and 403, because a secret is read anew at each attempt and a person can mend it meanwhile; 404, which
/// gateways answer while a service behind them starts; and 409, which the draft on idempotency keys prescribes
/// while the first request is still worked on. Every other 4xx speaks of the request itself, and a 2xx or 3xx
/// outside `expect_status` of the configuration: repeating changes nothing.
fn may_change(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 401 | 403 | 404 | 408 | 409 | 421 | 423 | 425 | 429)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_change_is_tried_again_and_what_speaks_of_the_request_is_not() {
        for code in [401, 403, 404, 408, 409, 421, 423, 425, 429, 500, 502, 503, 504, 599] {
            assert!(may_change(StatusCode::from_u16(code).unwrap()), "{code}");
        }
        for code in [200, 204, 301, 302, 307, 400, 402, 405, 406, 410, 413, 414, 415, 422, 451] {
            assert!(!may_change(StatusCode::from_u16(code).unwrap()), "{code}");
        }
    }
}
