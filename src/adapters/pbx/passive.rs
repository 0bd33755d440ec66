//! Looks whether the PBX on this node is passive: what every driver's look has in common.
//!
//! A stopped unit proves nothing of a PBX that somebody started by hand, so our own SIP question is always asked, and
//! open files are looked for whoever runs. What follows from a sign is decided in the engine.

use std::collections::BTreeMap;

use tokio::task::spawn_blocking;

use super::Site;
use super::marker::Phase;
use super::open_files::Scan;
use super::registrar::Heard;
use super::unit::Unit;
use crate::units::{Look, Meant, PassiveLook, Sign, TrunkKind, TrunkState, TrunkStatus};

/// What an answer that takes no registration means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The PBX is passive: it runs behind its gate, on its standby, or as the administrator's command has it.
    IsPassive,
    /// A PBX runs that should be stopped.
    IsRunning,
}

/// What drives the PBX, for the advice.
#[derive(Debug, Clone, Copy)]
pub enum Driven<'a> {
    /// A unit.
    Unit(&'a Unit),
    /// Something else: how it is stopped, in one line.
    Otherwise(&'a str),
}

impl Site {
    /// Looks once. `trunks`: the driver's own view of them, where it has one.
    pub(super) async fn look_passive(&self, driven: Driven<'_>, refusal: Refusal, trunks: Option<Look>) -> PassiveLook {
        let (group, todo) = match driven {
            Driven::Unit(unit) => advice(unit).await,
            Driven::Otherwise(how) => (None, how.to_owned()),
        };
        let (answers, accepts) = self.ask_as_a_phone(refusal).await;
        let scan = Scan { dirs: self.working_dirs.clone(), group };
        let files = spawn_blocking(move || scan.look()).await;
        let files = files.unwrap_or_else(|_| Look::Unknown("the look at open files broke off; see the log".to_owned()));
        let mut looks =
            BTreeMap::from([(Sign::Answers, answers), (Sign::AcceptsRegister, accepts), (Sign::OpenFile, files)]);
        if let Some(trunks) = trunks {
            looks.insert(Sign::TrunkUp, trunks);
        }
        let meant = match self.phase() {
            Ok(Some(Phase::Starting | Phase::Started)) => Meant::Serving,
            Ok(Some(Phase::Stopping) | None) | Err(_) => Meant::Passive,
        };
        PassiveLook { looks, todo, meant }
    }

    /// Whether somebody answers, and whether it takes registrations.
    async fn ask_as_a_phone(&self, refusal: Refusal) -> (Look, Look) {
        if let Some(why) = self.registrar.elsewhere().await {
            return (Look::Unknown(why.clone()), Look::Unknown(why));
        }
        match (self.registrar.ask().await, refusal) {
            (Heard::Serves(answer), _) => {
                (Look::Clear, Look::Seen(format!("{answer}: phones that find this node are served here")))
            }
            (Heard::Refuses(answer), Refusal::IsRunning) => {
                (Look::Seen(format!("a SIP server runs here: {answer}")), Look::Clear)
            }
            (Heard::Refuses(_), Refusal::IsPassive) | (Heard::Nobody(_), _) => (Look::Clear, Look::Clear),
            (Heard::NotAsked(why), _) => (Look::Unknown(why.clone()), Look::Unknown(why)),
        }
    }
}

/// The unit's control group while it runs, and what to do about a PBX that is not passive.
async fn advice(unit: &Unit) -> (Option<String>, String) {
    let name = unit.name();
    match unit.state().await {
        Ok(state) if state.stopped() => {
            let how = "end the process that was started by hand (`ss -lnp` names it)";
            (None, format!("{name} is {}, so it runs outside of its unit: {how}", state.word()))
        }
        Ok(state) => (
            state.group(),
            format!(
                "`systemctl stop {name}`, and install the drop-in that lets only the robot start it (docs/systemd.md)"
            ),
        ),
        Err(_) => (None, format!("`systemctl stop {name}`, or end the process that was started by hand")),
    }
}

/// Which of these trunks is registered. One that needs no registration binds no provider to this host.
pub fn registered(trunks: &[TrunkStatus], kind: impl Fn(&str) -> Option<TrunkKind>) -> Look {
    let up = |trunk: &&TrunkStatus| {
        trunk.state == TrunkState::Up && !matches!(kind(&trunk.name), Some(TrunkKind::Ip | TrunkKind::Fqdn))
    };
    trunks.iter().find(up).map_or(Look::Clear, |trunk| trunk_up(&trunk.name))
}

/// A trunk of this name is registered.
pub fn trunk_up(name: &str) -> Look {
    Look::Seen(format!(
        "trunk {name} is registered from here: its provider sends calls here too, or here only, while the phones are at \
         the primary"
    ))
}

impl Site {
    /// As [`registered`], by the kinds of the configured trunks.
    pub(super) fn registered(&self, trunks: &[TrunkStatus]) -> Look {
        registered(trunks, |name| self.trunks.iter().find(|trunk| trunk.name == name).map(|trunk| trunk.kind))
    }
}
