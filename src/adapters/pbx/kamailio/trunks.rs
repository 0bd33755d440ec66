//! Trunks as the records of Kamailio's module uac: how they stand, how they are registered and given up.
//!
//! `uac.reg_info` tells a trunk's password too: nothing of an answer is kept but what [`Record`] names. The provider's
//! SIP code is in no command of it.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::KamailioPbx;
use super::rpc::Trouble;
use crate::adapters::pbx::registrar::PAUSE;
use crate::units::{StepOutcome, TrunkState, TrunkStatus};

/// Flags of a record (README of uac, `uac.reg_info`).
const DISABLED: u64 = 1;
const ONGOING: u64 = 1 << 1;
const ONLINE: u64 = 1 << 2;
const AUTH_SENT: u64 = 1 << 3;
const INIT: u64 = 1 << 4;

/// How long a provider may take to answer that a registration is given up; then it ends by itself.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(5);

/// A record that Kamailio tries again within so many seconds is left to it: providers ban those who insist.
const SOON_S: i64 = 60;

/// The commands of RPC that we need by name.
const REGISTER: &str = "uac.reg_register";
const REFRESH: &str = "uac.reg_refresh";

/// One record of `uacreg`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its `l_uuid`.
    pub name: String,
    flags: u64,
    /// For how long it registers; 0 once it was given up, until it is read anew.
    expires_s: u64,
    /// In how many seconds it is tried or refreshed; `None` before its first try.
    next_s: Option<i64>,
}

impl Record {
    /// Of one object of `uac.reg_info` or `uac.reg_dump`.
    pub fn read(told: &Value) -> Option<Self> {
        let number = |name: &str| told.get(name).and_then(Value::as_u64);
        let tried = number("timer_expires").is_some_and(|at| at != 0);
        Some(Self {
            name: told.get("l_uuid")?.as_str()?.to_owned(),
            flags: number("flags")?,
            expires_s: number("expires").unwrap_or_default(),
            next_s: told.get("diff_expires").and_then(Value::as_i64).filter(|_| tried),
        })
    }

    /// How it stands.
    pub fn state(&self) -> TrunkState {
        match self.flags {
            flags if flags & DISABLED != 0 => TrunkState::Rejected,
            flags if flags & ONLINE != 0 => TrunkState::Up,
            flags if flags & (ONGOING | AUTH_SENT) != 0 => TrunkState::Trying,
            _ => TrunkState::Down,
        }
    }

    /// Disabled by a failure, or by a person.
    pub fn is_disabled(&self) -> bool {
        self.flags & DISABLED != 0
    }

    /// Its last REGISTER failed.
    fn has_failed(&self) -> bool {
        self.is_disabled() || (self.state() == TrunkState::Down && self.flags & INIT != 0 && self.expires_s != 0)
    }

    /// Whether Kamailio tries it by itself without our doing.
    fn is_under_way(&self) -> bool {
        match self.state() {
            TrunkState::Up | TrunkState::Trying => true,
            TrunkState::Rejected => false,
            // Not tried yet, or again soon.
            _ => self.expires_s != 0 && self.next_s.is_none_or(|next_s| next_s <= SOON_S),
        }
    }

    /// More about it, for people.
    pub fn said(&self) -> Option<&'static str> {
        if self.is_disabled() {
            return Some(
                "kamailio has disabled it after a failed REGISTER: set reg_retry_interval of uac, and see its log for \
                 the provider's answer",
            );
        }
        match self.state() {
            TrunkState::Down if self.expires_s == 0 => Some("it was given up"),
            TrunkState::Down if self.has_failed() => Some("its last REGISTER failed; see kamailio's log"),
            _ => None,
        }
    }

    /// For `status`.
    pub fn status(&self) -> TrunkStatus {
        TrunkStatus::new(self.name.clone(), self.state(), None)
    }
}

/// Every record of an answer; `None` when one cannot be read: what is passed over would count as not registered.
fn read_all(told: &Value) -> Option<Vec<Record>> {
    match told {
        Value::Null => Some(Vec::new()),
        Value::Array(all) => all.iter().map(Record::read).collect(),
        one => Some(vec![Record::read(one)?]),
    }
}

fn unreadable() -> Trouble {
    let line = "kamailio tells of a record of uacreg without its l_uuid or flags; see what `kamcmd uac.reg_dump` says";
    Trouble::Strange(line.to_owned())
}

/// What came of giving trunks up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GivenUp {
    names: Vec<String>,
    /// One whose provider does not answer: Kamailio does not register it any more, and the provider may not know.
    unanswered: Option<String>,
}

impl GivenUp {
    /// For people.
    pub fn line(&self) -> String {
        match self {
            Self { unanswered: Some(line), .. } => line.clone(),
            Self { names, .. } if names.is_empty() => "no trunk is registered".to_owned(),
            Self { names, .. } => format!("unregistered: {}", names.join(", ")),
        }
    }
}

impl KamailioPbx {
    /// The record of this name; `None` when it has none.
    async fn record(&self, name: &str) -> Result<Option<Record>, Trouble> {
        match self.ask("uac.reg_info", &[Value::from("l_uuid"), Value::from(name)]).await {
            Ok(told) => Record::read(&told).map(Some).ok_or_else(unreadable),
            Err(Trouble::Refused { code: 404, .. }) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    /// The records of the configured trunks that register.
    pub(super) async fn records(&self) -> Result<Vec<Record>, Trouble> {
        let mut records = Vec::new();
        let mut asked = false;
        for name in self.registering() {
            records.extend(self.record(name).await?);
            asked = true;
        }
        if !asked {
            // Without a trunk to ask for, the question is whether it answers at all.
            self.ask("core.version", &[]).await?;
        }
        Ok(records)
    }

    /// Every record, where Kamailio can tell them in one answer; else those of the configured trunks.
    async fn all_records(&self) -> Result<Vec<Record>, Trouble> {
        match self.ask("uac.reg_dump", &[]).await {
            Ok(told) => read_all(&told).ok_or_else(unreadable),
            Err(Trouble::NoCommand(_)) => Ok(Vec::new()),
            // More than fits into a datagram is not answered at all.
            Err(Trouble::Silent(_) | Trouble::Strange(_)) => self.records().await,
            Err(trouble) => Err(trouble),
        }
    }

    /// Sets whether its module uac registers at all.
    pub(super) async fn activate(&self, active: u8) -> Result<(), Trouble> {
        self.ask("uac.reg_active", &[Value::from(active)]).await.map(drop)
    }

    /// Reads one record anew, which also ends that it was given up or disabled.
    pub(super) async fn refresh(&self, name: &str) -> Result<(), Trouble> {
        self.ask(REFRESH, &[Value::from(name)]).await.map(drop)
    }

    /// Registers them, and waits until each is up or was tried in vain.
    pub(super) async fn register(&self) -> StepOutcome {
        match self.push().await {
            Ok(()) => {}
            // Trunks of other kinds need no module uac.
            Err(Trouble::NoCommand(_)) if self.registering().next().is_none() => {}
            Err(trouble) => return trouble.outcome(),
        }
        let deadline = Instant::now() + self.trunks_limit;
        loop {
            let records = match self.records().await {
                Ok(records) => records,
                Err(trouble) => return trouble.outcome(),
            };
            let judged = self.judge(&records);
            let waits = |record: &Record| record.state() != TrunkState::Up && !record.has_failed();
            if matches!(judged, StepOutcome::Done(_)) || !records.iter().any(waits) || Instant::now() >= deadline {
                return judged;
            }
            sleep(PAUSE).await;
        }
    }

    /// Makes Kamailio try each trunk that is not up, and that it would not try soon by itself.
    async fn push(&self) -> Result<(), Trouble> {
        self.activate(1).await?;
        let mut has_register = true;
        for record in self.records().await? {
            if !record.is_under_way() {
                self.refresh(&record.name).await?;
            }
            if has_register && record.state() != TrunkState::Up {
                // Only newer versions have it; without it the module's timer comes by.
                let params = [Value::from("l_uuid"), Value::from(record.name.as_str())];
                match self.ask(REGISTER, &params).await {
                    Err(Trouble::NoCommand(_)) => has_register = false,
                    other => drop(other?),
                }
            }
        }
        Ok(())
    }

    /// Gives every registration up, and sees that the providers agreed.
    pub(super) async fn unregister(&self) -> StepOutcome {
        match self.give_up().await {
            Ok(GivenUp { unanswered: Some(line), .. }) => StepOutcome::Unknown(line),
            Ok(given) => StepOutcome::Done(given.line()),
            Err(outcome) => outcome,
        }
    }

    /// Gives every registration up; from then on none is begun.
    ///
    /// # Errors
    /// The outcome of a step that cannot go on.
    pub(super) async fn give_up(&self) -> Result<GivenUp, StepOutcome> {
        // First, so that none is refreshed while others are given up.
        match self.activate(0).await {
            Ok(()) => {}
            Err(Trouble::NoCommand(_)) => return Ok(GivenUp::default()),
            Err(Trouble::Nobody(line)) => {
                return match self.unit.gone().await {
                    Some(idle) => Err(StepOutcome::Done(format!("{idle}, so it registers nothing"))),
                    None => Err(StepOutcome::Failed(line)),
                };
            }
            Err(trouble) => return Err(trouble.outcome()),
        }
        let deadline = Instant::now() + GIVE_UP_LIMIT;
        let mut given = GivenUp::default();
        loop {
            let records = self.all_records().await.map_err(|trouble| trouble.outcome())?;
            let held = |record: &&Record| record.flags & (ONLINE | ONGOING | AUTH_SENT) != 0;
            let Some(still) = records.iter().find(held) else { return Ok(given) };
            if Instant::now() >= deadline {
                given.unanswered = Some(format!(
                    "the provider of trunk {} does not answer that it is given up; it ends there by itself, at the \
                     latest after its expiry",
                    still.name
                ));
                return Ok(given);
            }
            for record in records.iter().filter(|record| record.state() == TrunkState::Up) {
                let params = [Value::from("l_uuid"), Value::from(record.name.as_str())];
                self.ask("uac.reg_unregister", &params).await.map_err(|trouble| trouble.outcome())?;
                given.names.push(record.name.clone());
            }
            sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(flags: u64, expires: u64, diff: i64, at: u64) -> Record {
        let told = json!({"l_uuid": "carrier", "flags": flags, "expires": expires, "diff_expires": diff,
            "timer_expires": at, "auth_password": "secret"});
        Record::read(&told).expect("a record")
    }

    #[test]
    fn the_flags_of_a_record_are_a_state() {
        // As Kamailio 5.6.3 shows them: loaded, asked, asked with credentials, up, failed, given up, disabled.
        for (flags, expires, diff, at, state) in [
            (0, 60, -1_795_699_140, 0, TrunkState::Down),
            (18, 60, 0, 1_795_699_220, TrunkState::Trying),
            (26, 60, 0, 1_795_699_220, TrunkState::Trying),
            (20, 60, 59, 1_795_699_220, TrunkState::Up),
            (16, 60, 2, 1_795_699_162, TrunkState::Down),
            (16, 0, -3, 1_795_699_167, TrunkState::Down),
            (17, 60, 60, 1_795_699_220, TrunkState::Rejected),
        ] {
            assert_eq!(record(flags, expires, diff, at).state(), state, "{flags}");
        }
        assert!(!format!("{:?}", record(20, 60, 59, 1)).contains("secret"));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_not_passed_over() {
        let good = json!({"l_uuid": "carrier", "flags": 20});
        assert_eq!(read_all(&json!([good, good])).map(|all| all.len()), Some(2));
        assert_eq!(read_all(&json!([])), Some(Vec::new()));
        assert_eq!(read_all(&json!([good, {"l_uuid": "other", "flags": "20"}])), None);
        assert_eq!(read_all(&json!("")), None);
    }

    #[test]
    fn only_what_kamailio_would_not_try_soon_is_pushed() {
        assert!(record(0, 60, -1_795_699_140, 0).is_under_way(), "never tried: the timer comes by");
        assert!(record(16, 60, 2, 1_795_699_162).is_under_way(), "failed, and tried again in 2 s");
        assert!(!record(16, 60, 250, 1_795_699_162).is_under_way(), "failed, and left alone for minutes");
        assert!(!record(16, 0, -3, 1_795_699_167).is_under_way(), "given up");
        assert!(!record(17, 60, 60, 1_795_699_220).is_under_way(), "disabled");
    }
}
