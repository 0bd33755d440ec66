//! Looks whether the PBX on this node is passive: what every driver's look has in common.
//!
//! A stopped unit proves nothing of a PBX that somebody started by hand, so our own SIP question is always asked, and
//! open files are looked for whoever runs. What follows from a sign is decided in the engine.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::Site;
use super::marker::Phase;
use super::open_files::Scan;
use super::registrar::Heard;
use super::unit::{State, Unit};
use crate::host::disk;
use crate::units::{Look, Meant, PassiveLook, Sign, TrunkKind, TrunkState, TrunkStatus};

/// How long the look at open files may take: it bounds itself to a second, unless a file system does not answer.
const FILES_LIMIT: Duration = Duration::from_secs(5);

/// One such look at a time in this process, also over a change of the configuration: each that hangs keeps its thread.
static FILES: Semaphore = Semaphore::const_new(1);

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
        let state = match driven {
            Driven::Unit(unit) => unit.state().await.ok(),
            Driven::Otherwise(_) => None,
        };
        let heard = self.ask_as_a_phone().await;
        let is_silent = matches!(heard, Heard::Nobody(_));
        let (answers, accepts) = judge(heard, refusal);
        let scan = Scan { dirs: self.working_dirs.clone(), group: state.as_ref().and_then(State::group) };
        let files = within(&FILES, FILES_LIMIT, move || scan.look()).await;
        let mut looks =
            BTreeMap::from([(Sign::Answers, answers), (Sign::AcceptsRegister, accepts), (Sign::OpenFile, files)]);
        match trunks {
            // Whoever could tell is gone with the PBX; where nobody is there, no trunk is.
            Some(Look::Unknown(_)) if is_silent => drop(looks.insert(Sign::TrunkUp, Look::Clear)),
            Some(trunks) => drop(looks.insert(Sign::TrunkUp, trunks)),
            None => {}
        }
        let todo = match driven {
            Driven::Unit(unit) => advice(unit.name(), state.as_ref(), refusal, &looks),
            Driven::Otherwise(how) => how.to_owned(),
        };
        let meant = match self.phase() {
            Ok(Some(Phase::Starting | Phase::Started)) => Meant::Serving,
            Ok(Some(Phase::Stopping) | None) | Err(_) => Meant::Passive,
        };
        PassiveLook { looks, todo, meant }
    }

    async fn ask_as_a_phone(&self) -> Heard {
        match self.registrar.elsewhere().await {
            Some(why) => Heard::NotAsked(why),
            None => self.registrar.ask().await,
        }
    }
}

/// Whether somebody answers, and whether it takes registrations.
fn judge(heard: Heard, refusal: Refusal) -> (Look, Look) {
    match (heard, refusal) {
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

/// Looks, one at a time behind `gate`.
async fn within(gate: &'static Semaphore, limit: Duration, look: impl FnOnce() -> Look + Send + 'static) -> Look {
    disk::alone(gate, limit, look).await.unwrap_or_else(|why| {
        let todo = "a file system may hang (a dead NFS mount?): see whether `ls` of each working directory answers";
        Look::Unknown(format!("the look at open files {why}: {todo}"))
    })
}

/// What to do about a PBX that is not passive, as far as its unit `name` can be asked.
fn advice(name: &str, state: Option<&State>, refusal: Refusal, looks: &BTreeMap<Sign, Look>) -> String {
    match (state, refusal) {
        (Some(state), _) if state.stopped() => {
            let how = "end the process that was started by hand (`ss -lnp` names it)";
            format!("{name} is {}, so it runs outside of its unit: {how}", state.word())
        }
        (_, Refusal::IsPassive) => mend(name, looks),
        (Some(_), Refusal::IsRunning) => {
            format!(
                "`systemctl stop {name}`, and install the drop-in that lets only the robot start it (docs/systemd.md)"
            )
        }
        (None, Refusal::IsRunning) => {
            format!("`systemctl stop {name}`, or end the process that was started by hand (`ss -lnp` names it)")
        }
    }
}

/// The same where passive means running: to stop the unit would be wrong.
fn mend(name: &str, looks: &BTreeMap<Sign, Look>) -> String {
    let seen = |sign: Sign| matches!(looks.get(&sign), Some(Look::Seen(_)));
    let ways = [
        (Sign::AcceptsRegister, "make it refuse registrations again"),
        (Sign::TrunkUp, "give the trunk up, and let only a takeover register it"),
        (Sign::OpenFile, "move the file out of the working directory, so that no sync replaces it"),
    ];
    let mut todo: Vec<_> = ways.iter().filter(|(sign, _)| seen(*sign)).map(|(_, way)| (*way).to_owned()).collect();
    todo.push(format!("leave {name} running; a second PBX that was started by hand must end (`ss -lnp` names it)"));
    todo.join("; ")
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_look_that_hangs_is_told_and_no_second_one_joins_it() {
        static GATE: Semaphore = Semaphore::const_new(1);
        static SECOND: AtomicBool = AtomicBool::new(false);
        let short = Duration::from_millis(50);
        let (end, hangs) = mpsc::channel::<()>();
        let hanging = move || {
            let _ = hangs.recv();
            Look::Clear
        };
        let look = within(&GATE, short, hanging).await;
        assert!(matches!(&look, Look::Unknown(why) if why.contains("has not ended within 50ms")), "{look:?}");
        let second = || {
            SECOND.store(true, Ordering::SeqCst);
            Look::Clear
        };
        let look = within(&GATE, short, second).await;
        assert!(matches!(&look, Look::Unknown(why) if why.contains("has not ended within 50ms")), "{look:?}");
        end.send(()).expect("it waits");
        assert_eq!(within(&GATE, Duration::from_secs(60), || Look::Clear).await, Look::Clear, "it goes on afterwards");
        assert!(!SECOND.load(Ordering::SeqCst), "two never look at once, and who has given up does not look later");
        let look = within(&GATE, Duration::from_secs(60), || panic!("a fault of ours")).await;
        assert!(matches!(&look, Look::Unknown(why) if why.contains("broke off")), "{look:?}");
        assert_eq!(within(&GATE, Duration::from_secs(60), || Look::Clear).await, Look::Clear, "also after a fault");
    }

    #[test]
    fn where_passive_means_running_the_advice_is_not_to_stop_the_unit() {
        let seen = |sign| BTreeMap::from([(sign, Look::Seen("seen".to_owned()))]);
        for (sign, way) in [
            (Sign::TrunkUp, "give the trunk up"),
            (Sign::OpenFile, "move the file out"),
            (Sign::AcceptsRegister, "refuse"),
        ] {
            let said = advice("kamailio.service", None, Refusal::IsPassive, &seen(sign));
            assert!(said.contains(way) && said.contains("`ss -lnp`") && !said.contains("systemctl stop"), "{said}");
            let said = advice("kamailio.service", None, Refusal::IsRunning, &seen(sign));
            assert!(said.contains("`systemctl stop kamailio.service`") && said.contains("`ss -lnp`"), "{said}");
        }
    }
}
