//! Cuts the primary off, by a command or an HTTP request, and reads back that it is off.
//!
//! What is read back decides, whatever the cut said of itself: an unanswered request may have been carried out, and an
//! accepted one may not. Whether a takeover may go on without it, and how often it is tried, belongs to
//! [`crate::takeover`].

use std::time::{Duration, Instant};

use crate::config::{Config, Fence as Settings, FenceWay, ReadBack};
use crate::host::http::{Call, Sent, Values};
use crate::host::{clock, command};
use crate::ports::{Answer, Fence, FenceOrder, NotConfigured, Power};
use crate::units::wording::template_names;
use crate::units::{EventName, Mode, NodeName, StepOutcome};

/// How often it is read back while it goes off: management controllers are slow, and some answer one at a time.
const READ_EVERY_MAX: Duration = Duration::from_secs(1);

/// How long a command may take that only looks.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// Largest answer that is looked through: what a controller tells of a whole server is some ten KiB.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What cuts the primary off, and what tells whether it is off.
struct Device {
    primary: NodeName,
    cut: Cut,
    reading: Option<Reading>,
    timeout: Duration,
    facts: Values,
}

enum Cut {
    Command(Vec<String>),
    Http(Box<Call>),
}

enum Reading {
    Command(Vec<String>),
    Http { call: Box<Call>, off: String },
}

/// The fence of this configuration.
///
/// # Errors
/// One line with each fault of its requests.
pub fn fence(config: &Config) -> Result<Box<dyn Fence>, String> {
    let Some(settings) = &config.fence else { return Ok(Box::new(NotConfigured)) };
    Ok(Box::new(Device::new(settings, config)?))
}

impl Device {
    fn new(settings: &Settings, config: &Config) -> Result<Self, String> {
        let ready = |key: &str, action| {
            Call::new(action).map(Box::new).map_err(|faults| format!("{key}: {}", faults.join(&format!("; {key}: "))))
        };
        let cut = match &settings.cut {
            FenceWay::Command(argv) => Cut::Command(argv.clone()),
            FenceWay::Http(request) => Cut::Http(ready("fence.http", request)?),
        };
        let reading = match &settings.read_back {
            None => None,
            Some(ReadBack::Command(argv)) => Some(Reading::Command(argv.clone())),
            Some(ReadBack::Http { request, expect_body }) => {
                Some(Reading::Http { call: ready("fence.read_back.http", request)?, off: squeezed(expect_body) })
            }
        };
        let (primary, timeout) = (config.primary.node.clone(), settings.timeout);
        Ok(Self { primary, cut, reading, timeout, facts: facts(config) })
    }

    /// What the templates and the commands may use, for this plan.
    fn values(&self, order: Option<&FenceOrder>) -> Values {
        let mut values = self.facts.clone();
        values.insert("time".to_owned(), clock::now().wall.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        if let Some(order) = order {
            values.insert("id".to_owned(), order.plan.to_string());
            values.insert("epoch".to_owned(), order.epoch.map(|number| number.to_string()).unwrap_or_default());
        }
        values
    }

    async fn look(&self, order: &FenceOrder) -> StepOutcome {
        match self.power(Some(order)).await {
            Power::Off(seen) => StepOutcome::done(format!("{} reads off already ({seen})", self.primary)),
            Power::On(seen) => StepOutcome::failed(format!("{} reads on ({seen})", self.primary)),
            Power::Unknown(why) => StepOutcome::unknown(self.not_known(&why)),
            Power::NotAsked => StepOutcome::failed(self.not_known("fence.read_back is not set")),
        }
    }

    async fn act(&self, order: &FenceOrder) -> StepOutcome {
        let deadline = Instant::now() + self.timeout;
        let cut = self.cut(order).await;
        if self.reading.is_none() {
            return match cut {
                StepOutcome::Done(word) => StepOutcome::done(format!("{word}, by its own word (no fence.read_back)")),
                other => other,
            };
        }
        let pause = (self.timeout / 20).min(READ_EVERY_MAX);
        loop {
            let power = self.power(Some(order)).await;
            let is_late = Instant::now() + pause >= deadline;
            match (&cut, power) {
                (_, Power::Off(seen)) => {
                    return StepOutcome::done(format!("{} reads off ({seen}); {}", self.primary, cut.text()));
                }
                // Nothing was carried out, so there is nothing to wait for.
                (StepOutcome::Failed(why) | StepOutcome::Refused(why), Power::On(seen)) => {
                    return StepOutcome::failed(format!("{why}; {} reads on ({seen})", self.primary));
                }
                (StepOutcome::Failed(why) | StepOutcome::Refused(why), Power::Unknown(seen)) => {
                    return StepOutcome::failed(format!("{why}; {}", self.not_known(&seen)));
                }
                (_, Power::On(seen)) if is_late => {
                    let late = format!("{} still reads on after {:?} ({seen})", self.primary, self.timeout);
                    let said = format!("{late}; {}", cut.text());
                    // A request that was not answered may still be carried out.
                    let is_done = matches!(cut, StepOutcome::Done(_));
                    return if is_done { StepOutcome::Failed(said) } else { StepOutcome::Unknown(said) };
                }
                (_, Power::Unknown(why)) if is_late => {
                    return StepOutcome::unknown(format!("{}; {}", self.not_known(&why), cut.text()));
                }
                (_, Power::NotAsked) => return cut,
                (_, Power::On(_) | Power::Unknown(_)) => tokio::time::sleep(pause).await,
            }
        }
    }

    fn not_known(&self, why: &str) -> String {
        format!("it is not known whether {} is off: {why}", self.primary)
    }

    /// Cuts; bounded by the fence's time-out.
    async fn cut(&self, order: &FenceOrder) -> StepOutcome {
        let values = self.values(Some(order));
        match &self.cut {
            Cut::Command(argv) => {
                let end = command::run(argv, &environment(&values), self.timeout).await;
                let line = format!("fence.command: {}", end.line());
                match end {
                    command::CommandEnd::Exited { code: Some(0), .. } => StepOutcome::Done(line),
                    command::CommandEnd::Exited { code: Some(_), .. } | command::CommandEnd::NotStarted(_) => {
                        StepOutcome::Failed(line)
                    }
                    // Whatever ended it, it may have done its work.
                    command::CommandEnd::Exited { code: None, .. } | command::CommandEnd::TimedOut => {
                        StepOutcome::Unknown(line)
                    }
                }
            }
            Cut::Http(call) => {
                let key = format!("{}:fence", order.plan);
                let sending = call.send(&values, Some(&key));
                let Ok(sent) = tokio::time::timeout(self.timeout, sending).await else {
                    let (place, limit) = (call.place(), self.timeout);
                    return StepOutcome::unknown(format!(
                        "fence.http: {place} did not answer within {limit:?}; it may have been carried out"
                    ));
                };
                judge(sent).await
            }
        }
    }

    /// Whether it is off, now.
    async fn power(&self, order: Option<&FenceOrder>) -> Power {
        let values = self.values(order);
        match &self.reading {
            None => Power::NotAsked,
            Some(Reading::Command(argv)) => {
                let end = command::run(argv, &environment(&values), READ_LIMIT.min(self.timeout)).await;
                let line = format!("fence.read_back: {}", end.line());
                match end {
                    command::CommandEnd::Exited { code: Some(0), .. } => Power::Off(line),
                    command::CommandEnd::Exited { code: Some(1), .. } => Power::On(line),
                    _ => Power::Unknown(line),
                }
            }
            Some(Reading::Http { call, off }) => {
                let asked = tokio::time::timeout(self.timeout, read(call, &values, off)).await;
                asked.unwrap_or_else(|_| Power::Unknown(format!("{} did not answer in time", call.place())))
            }
        }
    }
}

/// What an answer to the cut means.
async fn judge(sent: Sent) -> StepOutcome {
    let named = |line: String| format!("fence.http: {line}");
    match sent {
        Sent::Malformed(line) | Sent::NotSent(line) => StepOutcome::Failed(named(line)),
        Sent::Unanswered(line) => StepOutcome::Unknown(named(line)),
        Sent::Answered(answered) => {
            let status = answered.status();
            if answered.is_expected() {
                return StepOutcome::Done(named(format!("HTTP {}", status.as_u16())));
            }
            let line = named(answered.refusal().await);
            // A gateway that lost its own server does not know what that one did.
            if status.is_server_error() { StepOutcome::Unknown(line) } else { StepOutcome::Failed(line) }
        }
    }
}

async fn read(call: &Call, values: &Values, off: &str) -> Power {
    let named = |line: String| format!("fence.read_back: {line}");
    match call.send(values, None).await {
        Sent::Malformed(line) | Sent::NotSent(line) | Sent::Unanswered(line) => Power::Unknown(named(line)),
        Sent::Answered(answered) if !answered.is_expected() => Power::Unknown(named(answered.refusal().await)),
        Sent::Answered(answered) => {
            let status = named(format!("HTTP {} from {}", answered.status().as_u16(), call.place()));
            match answered.body(BODY_BYTES_MAX).await {
                Ok(body) if squeezed(&body).contains(off) => Power::Off(status),
                Ok(_) => Power::On(status),
                Err(why) => Power::Unknown(named(why)),
            }
        }
    }
}

/// Without blanks: one controller writes `"PowerState":"Off"`, the next `"PowerState": "Off"`.
fn squeezed(text: &str) -> String {
    text.split_ascii_whitespace().collect()
}

/// What is known of the pair before any plan; each name that a template may use is there.
fn facts(config: &Config) -> Values {
    let moving = config.dns.updates.iter().flat_map(|update| &update.records).next();
    let mut facts: Values = template_names().map(|name| (name.to_owned(), String::new())).collect();
    facts.extend(
        [
            ("event", EventName::Takeover.name().to_owned()),
            ("reason", "fence".to_owned()),
            ("node", config.node.to_string()),
            ("primary_node", config.primary.node.to_string()),
            ("backup_node", config.backup.node.to_string()),
            ("primary_address", config.primary.address().to_string()),
            ("backup_address", config.backup.address().to_string()),
            ("active_address", config.backup.address().to_string()),
            ("dns_name", moving.map(|record| record.name.clone()).unwrap_or_default()),
            ("ttl", moving.map(|record| record.ttl_s.to_string()).unwrap_or_default()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    facts
}

/// The variables as a command finds them, named as those of `notify.command`.
fn environment(values: &Values) -> Vec<(String, String)> {
    values
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (format!("PBX_FAILOVER_{}", name.to_ascii_uppercase()), value.clone()))
        .collect()
}

impl Fence for Device {
    fn fence<'a>(&'a self, order: &'a FenceOrder, mode: Mode) -> Answer<'a, StepOutcome> {
        Box::pin(async move {
            match mode {
                Mode::Look => self.look(order).await,
                Mode::Act => self.act(order).await,
            }
        })
    }

    fn read_back(&self) -> Answer<'_, Power> {
        Box::pin(self.power(None))
    }
}
