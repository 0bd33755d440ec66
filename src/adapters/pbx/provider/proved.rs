//! A driver, and beside what it tells of its trunks, what their providers say.
//!
//! It changes no verb but `register_trunks`: there the old bindings are removed first where that is asked for, since a
//! provider that allows one registration refuses ours while it holds another; and the providers' answers count.
//!
//! **Why by URI first, and `*` second.** One contact removed by its URI leaves all others, this node's among them. A
//! provider that lists a contact in other words than it knows it by does not find it; `*` then helps, and takes ours away
//! too, so it is sent only while this node is not registered.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::bindings::Held;
use super::findings;
use super::ledger::{Accounts, Ledger};
use super::options::Said;
use super::own::Own;
use crate::config::{Config, DnsMode, OldBinding, Trunk, TrunkProof};
use crate::ports::{Answer, Load, Pbx};
use crate::sip::message::question::ALL;
use crate::units::finding::Finding;
use crate::units::{
    Guarded, Mode, PassiveLook, PbxStatus, Serving, Side, StepOutcome, TrunkKind, TrunkState, TrunkStatus,
};

/// What a person can do about a provider that allows one registration, and holds another's.
const HELPS: &str = "where that keeps ours away, clear_old_binding: true has it removed";

/// How long the providers may take to tell, and to remove, what they hold: the trunks register after that.
const CLEAR_LIMIT: Duration = Duration::from_secs(10);

/// A driver with its providers.
pub struct Proved {
    inner: Box<dyn Pbx>,
    trunks: Vec<Trunk>,
    ledger: Ledger,
    moved_names: Vec<String>,
}

impl Proved {
    /// This driver, with the trunks of this configuration.
    pub fn new(inner: Box<dyn Pbx>, config: &Config, accounts: Accounts) -> Self {
        let records = config.dns.updates.iter().flat_map(|update| &update.records);
        let moved_names = match config.dns.mode {
            DnsMode::Replace => records.map(|record| record.name.clone()).collect(),
            DnsMode::StaticSrv | DnsMode::None => Vec::new(),
        };
        Self { moved_names, ..Self::with(inner, trunks_of(config), Own::of(config), accounts) }
    }

    /// The same with these trunks and addresses, where DNS moves nothing.
    pub fn with(inner: Box<dyn Pbx>, trunks: Vec<Trunk>, own: Own, accounts: Accounts) -> Self {
        Self { inner, trunks, ledger: Ledger::new(own, accounts), moved_names: Vec::new() }
    }

    /// Those that register, where their passwords are known.
    fn registering(&self) -> impl Iterator<Item = &Trunk> {
        let known = self.ledger.knows_accounts();
        self.trunks.iter().filter(move |trunk| known && trunk.kind == TrunkKind::Register)
    }

    /// Removes what providers hold of others, where that is asked for; what happened, for people. All at once, and not
    /// for long: a provider that is ill must not keep the trunks of others from registering.
    async fn clear(&self) -> Vec<String> {
        let wanted = self.registering().filter(|trunk| trunk.old_binding == OldBinding::Cleared);
        let each = wanted.map(async |trunk: &Trunk| {
            let late = format!("the old binding of {}: its provider took longer than {CLEAR_LIMIT:?}", trunk.name);
            timeout(CLEAR_LIMIT, self.clear_trunk(&trunk.name)).await.unwrap_or(Some(late))
        });
        join_all(each).await.into_iter().flatten().collect()
    }

    async fn clear_trunk(&self, name: &str) -> Option<String> {
        let held = match self.ledger.look(name).await {
            Ok(held) if held.foreign.is_empty() => return None,
            Ok(held) => held,
            Err(why) => return Some(format!("the old binding of {name} was not looked for: {why}")),
        };
        Some(match self.clear_one(name, &held).await {
            Ok(()) => format!("of {name} the old binding was removed: {}", listed(&held)),
            Err(why) => format!("of {name} the provider still holds {}: {why}", listed(&held)),
        })
    }

    async fn clear_one(&self, name: &str, held: &Held) -> Result<(), String> {
        if held.own == 0 && self.standing(name).await == Registered::Maybe {
            return Err("none of them is at an address of this host, and one must be; see backup.address".to_owned());
        }
        let contacts: Vec<_> = held.foreign.iter().map(|(uri, _)| uri.as_str()).collect();
        let (own, why) = match self.ledger.remove(name, &contacts).await {
            Ok(left) if left.foreign.is_empty() => return Ok(()),
            Ok(left) => (left.own, "it does not remove them".to_owned()),
            Err(why) => (held.own, why),
        };
        // A PBX registers by itself: it may have done so meanwhile.
        if own > 0 || self.standing(name).await != Registered::No {
            return Err(why);
        }
        match self.ledger.remove(name, &[ALL]).await {
            Ok(left) if left.foreign.is_empty() => Ok(()),
            Ok(_) => Err(why),
            Err(all) => Err(format!("{why}; all of them at once: {all}")),
        }
    }

    /// Whether this node's PBX is registered, by its own word now.
    async fn standing(&self, name: &str) -> Registered {
        let status = self.inner.status().await;
        match status.trunks.iter().find(|trunk| trunk.name == name).map(|trunk| trunk.state) {
            Some(TrunkState::Down | TrunkState::Rejected) => Registered::No,
            Some(TrunkState::Trying) => Registered::Soon,
            Some(TrunkState::Up | TrunkState::Unknown) | None => Registered::Maybe,
        }
    }

    /// What the providers say that is a proof; each within seconds.
    async fn proofs(&self) -> Vec<(&Trunk, Said)> {
        let wanted = self.trunks.iter().filter(|trunk| trunk.proof == TrunkProof::Options);
        let asked = wanted.map(async |trunk| Some((trunk, self.ledger.ask(trunk).await?)));
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn register(&self, mode: Mode) -> StepOutcome {
        let mut words = match mode {
            Mode::Act => self.clear().await,
            Mode::Look => Vec::new(),
        };
        let told = self.inner.register_trunks(mode).await;
        let proofs = self.proofs().await;
        if mode == Mode::Act {
            let foreign = self.foreign().await;
            let is_shown = |trunk: &Trunk| trunk.old_binding == OldBinding::Shown;
            let helps =
                !foreign.is_empty() && !matches!(told, StepOutcome::Done(_)) && self.registering().any(is_shown);
            words.extend(foreign);
            words.extend(helps.then(|| HELPS.to_owned()));
        }
        let only_asked = self.trunks.iter().all(Trunk::is_only_asked);
        with_words(judge(told, &proofs, only_asked), &words)
    }

    /// What providers hold of others after our own registration, one line a trunk.
    async fn foreign(&self) -> Vec<String> {
        let asked = self.registering().map(async |trunk: &Trunk| {
            // One that cannot be asked is seen in the status.
            let held = timeout(CLEAR_LIMIT, self.ledger.look(&trunk.name)).await.ok()?.ok()?;
            let holds = || format!("the provider of {} also holds {}", trunk.name, listed(&held));
            (!held.foreign.is_empty()).then(holds)
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn told(&self) -> PbxStatus {
        let mut status = self.inner.status().await;
        let serves = status.serving == Serving::Yes;
        if serves {
            self.ledger.refresh(&self.trunks);
        } else {
            // At its next turn nothing is told of this one.
            self.ledger.forget();
        }
        for trunk in &self.trunks {
            let at = status.trunks.iter().position(|told| told.name == trunk.name).unwrap_or_else(|| {
                // A provider is asked for a trunk that this node has, not for one that it may have one day.
                let state = if serves { TrunkState::Unknown } else { TrunkState::Down };
                status.trunks.push(TrunkStatus::new(trunk.name.clone(), state, None));
                status.trunks.len() - 1
            });
            if serves {
                self.tell(trunk, &mut status.trunks[at]);
            }
        }
        status
    }

    fn tell(&self, trunk: &Trunk, told: &mut TrunkStatus) {
        let said = self.ledger.said(&trunk.name);
        if let (TrunkProof::Options, Some(said)) = (trunk.proof, &said)
            && (trunk.is_only_asked() || told.state == TrunkState::Up)
        {
            (told.state, told.sip_code) = (said.state, said.code);
        }
        if let Some(said) = said.filter(|said| said.state != TrunkState::Up || trunk.is_only_asked()) {
            told.said = Some(said.line());
        }
        if trunk.kind != TrunkKind::Register {
            return;
        }
        match self.ledger.held(&trunk.name) {
            Some(Ok(held)) => told.foreign = held.shown(),
            Some(Err(why)) => {
                told.said.get_or_insert_with(|| format!("what its provider holds is not known: {why}"));
            }
            None => {}
        }
    }
}

/// The trunks of this node. Only the backup claims before it registers: the primary's agent may start its PBX on what it
/// remembers, beside a backup that serves, and must take nothing from that.
fn trunks_of(config: &Config) -> Vec<Trunk> {
    let mut trunks = config.pbx.trunks.clone();
    if config.side == Side::Primary {
        for trunk in &mut trunks {
            trunk.old_binding = OldBinding::Shown;
        }
    }
    trunks
}

/// Whether a contact that nobody knows may be this node's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Registered {
    No,
    /// Not now, and at any moment.
    Soon,
    Maybe,
}

/// Every contact of others, for people.
fn listed(held: &Held) -> String {
    held.shown().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The driver's word and the providers': each must be good. What the driver says comes first where neither is.
fn judge(told: StepOutcome, proofs: &[(&Trunk, Said)], only_asked: bool) -> StepOutcome {
    let StepOutcome::Done(told) = told else { return told };
    let mut lines = if only_asked { Vec::new() } else { vec![told] };
    for (trunk, said) in proofs {
        let line = format!("trunk {}: {}", trunk.name, said.line());
        match said.state {
            TrunkState::Up => lines.push(line),
            _ if !trunk.required => lines.push(line),
            TrunkState::Rejected => return StepOutcome::Refused(line),
            TrunkState::Unknown => return StepOutcome::Unknown(line),
            TrunkState::Down | TrunkState::Trying => return StepOutcome::Failed(line),
        }
    }
    StepOutcome::Done(lines.join("; "))
}

fn with_words(outcome: StepOutcome, words: &[String]) -> StepOutcome {
    if words.is_empty() {
        return outcome;
    }
    let more = |line: String| format!("{line}; {}", words.join("; "));
    match outcome {
        StepOutcome::Done(line) => StepOutcome::Done(more(line)),
        StepOutcome::Failed(line) => StepOutcome::Failed(more(line)),
        StepOutcome::Refused(line) => StepOutcome::Refused(more(line)),
        StepOutcome::Unknown(line) => StepOutcome::Unknown(more(line)),
    }
}

impl Pbx for Proved {
    fn driver(&self) -> &'static str {
        self.inner.driver()
    }

    fn passive(&self) -> Answer<'_, StepOutcome> {
        self.inner.passive()
    }

    fn look_passive(&self) -> Answer<'_, PassiveLook> {
        self.inner.look_passive()
    }

    fn reload(&self, mode: Mode, load: Load) -> Answer<'_, StepOutcome> {
        self.inner.reload(mode, load)
    }

    fn accept_registrations(&self, mode: Mode) -> Answer<'_, StepOutcome> {
        self.inner.accept_registrations(mode)
    }

    fn register_trunks(&self, mode: Mode) -> Answer<'_, StepOutcome> {
        Box::pin(self.register(mode))
    }

    fn status(&self) -> Answer<'_, PbxStatus> {
        Box::pin(self.told())
    }

    fn drain(&self) -> Answer<'_, StepOutcome> {
        self.inner.drain()
    }

    fn unregister_trunks(&self) -> Answer<'_, StepOutcome> {
        self.inner.unregister_trunks()
    }

    fn stop_accepting(&self) -> Answer<'_, StepOutcome> {
        self.inner.stop_accepting()
    }

    fn guarded(&self) -> Answer<'_, Guarded> {
        self.inner.guarded()
    }

    fn findings(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(async {
            let mut found = self.inner.findings().await;
            for trunk in &self.trunks {
                findings::of(trunk, &self.ledger, &self.moved_names, &mut found).await;
            }
            found
        })
    }
}
