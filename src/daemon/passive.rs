//! Looks again and again whether this node's PBX is passive, while it should be; the engine judges what was seen.
//!
//! A task of its own: a driver's look may take seconds, and must not make the other looks late.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::engine::Event;
use crate::host::clock;
use crate::units::{Look, Meant, PassiveLook, Sign, State};

use super::turn::Input;
use super::watch::Standing;
use super::world::World;

/// The pace: one SIP question, one `systemctl show` and one walk over `/proc` each time.
const EVERY: Duration = Duration::from_secs(15);

/// The second look comes sooner, so that people are told within twenty seconds of what lasts. No two looks are closer:
/// those that must agree would else see the same moment.
const AGAIN: Duration = Duration::from_secs(4);

/// How long a look may take: its parts have limits of their own, which come to less (a status command 10 s, systemd 10 s,
/// the SIP question 6 s, the files 5 s).
const LOOK_LIMIT: Duration = Duration::from_secs(45);

/// Looks until the daemon ends.
pub async fn run(
    inputs: mpsc::Sender<Input>,
    worlds: watch::Receiver<Arc<World>>,
    standing: watch::Receiver<Standing>,
) {
    let look = || {
        let world = Arc::clone(&worlds.borrow());
        async move { world.pbx.look_passive().await }
    };
    again_and_again(inputs, standing, look).await;
}

async fn again_and_again<L>(
    inputs: mpsc::Sender<Input>,
    mut standing: watch::Receiver<Standing>,
    mut look: impl FnMut() -> L,
) where
    L: Future<Output = PassiveLook>,
{
    let mut last: Option<PassiveLook> = None;
    loop {
        // Only whether it should be passive matters here: another change must not bring the next look forward.
        if standing.wait_for(|now| watches(*now)).await.is_err() {
            return;
        }
        let asked = clock::now().boot;
        let look = match timeout(LOOK_LIMIT, look()).await {
            Ok(look) => look,
            Err(_) => unseen(last.as_ref()),
        };
        let soonest = Instant::now() + AGAIN;
        let is_new = last.as_ref().is_none_or(|last| signs(last) != signs(&look));
        last = Some(look.clone());
        if inputs.send(Input::Heard(Event::Passive { look, asked })).await.is_err() {
            return;
        }
        let left = tokio::select! {
            () = sleep(if is_new { AGAIN } else { EVERY }) => Ok(false),
            changed = standing.wait_for(|now| !watches(*now)) => changed.map(|_| true),
        };
        match left {
            Ok(false) => {}
            Ok(true) => {
                last = None;
                sleep_until(soonest).await;
            }
            Err(_) => return,
        }
    }
}

fn watches(now: Standing) -> bool {
    matches!(now.state, State::Standby | State::Suspect)
}

/// A look that did not end: of what the last one looked for, nothing is known.
fn unseen(last: Option<&PassiveLook>) -> PassiveLook {
    let why = format!("the look at it did not end within {} s", LOOK_LIMIT.as_secs());
    let always = [Sign::Answers, Sign::AcceptsRegister, Sign::OpenFile];
    let signs = always.into_iter().chain(last.into_iter().flat_map(|last| last.looks.keys().copied()));
    let looks: BTreeMap<_, _> = signs.map(|sign| (sign, Look::Unknown(why.clone()))).collect();
    let todo = last.map_or_else(String::new, |last| last.todo.clone());
    PassiveLook { looks, todo, meant: last.map_or(Meant::Passive, |last| last.meant) }
}

/// Which signs were seen.
fn signs(look: &PassiveLook) -> Vec<Sign> {
    look.seen().map(|(sign, _)| sign).collect()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn standing(state: State, armed: bool) -> Standing {
        Standing { state, armed, plan: None, must_serve: false, sync: None }
    }

    fn seen(sign: Sign) -> PassiveLook {
        let looks = BTreeMap::from([(sign, Look::Seen("seen".into()))]);
        PassiveLook { looks, todo: "stop it".into(), meant: Meant::Passive }
    }

    async fn heard(inputs: &mut mpsc::Receiver<Input>) -> PassiveLook {
        match inputs.recv().await {
            Some(Input::Heard(Event::Passive { look, .. })) => look,
            _ => panic!("a look is told"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn however_often_the_robot_changes_its_mind_two_looks_are_never_close() {
        let (tell, told) = watch::channel(standing(State::Standby, true));
        let (inputs, mut outputs) = mpsc::channel(8);
        let watching = tokio::spawn(again_and_again(inputs, told, async || seen(Sign::TrunkUp)));
        let flapping = tokio::spawn(async move {
            for turn in 0_usize.. {
                let state = [State::Standby, State::Suspect, State::TakingOver, State::Suspect][turn % 4];
                let _ = tell.send(standing(state, turn % 2 == 0));
                sleep(Duration::from_millis(7)).await;
            }
        });
        let mut before = Instant::now();
        heard(&mut outputs).await;
        for _ in 0..20 {
            heard(&mut outputs).await;
            assert!(before.elapsed() >= AGAIN, "{:?}", before.elapsed());
            before = Instant::now();
        }
        watching.abort();
        flapping.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_readiness_alone_does_not_bring_the_next_look_forward() {
        let (tell, told) = watch::channel(standing(State::Standby, true));
        let (inputs, mut outputs) = mpsc::channel(8);
        let watching = tokio::spawn(again_and_again(inputs, told, async || seen(Sign::TrunkUp)));
        heard(&mut outputs).await;
        heard(&mut outputs).await;
        let before = Instant::now();
        tell.send(standing(State::Suspect, false)).expect("it listens");
        heard(&mut outputs).await;
        assert!(before.elapsed() >= EVERY, "{:?}", before.elapsed());
        watching.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_never_ends_is_told_as_unseen_and_followed_by_another() {
        let (_tell, told) = watch::channel(standing(State::Standby, true));
        let (inputs, mut outputs) = mpsc::channel(8);
        let mut times = 0;
        let look = move || {
            times += 1;
            let hangs = times == 2;
            async move { if hangs { pending().await } else { seen(Sign::TrunkUp) } }
        };
        let watching = tokio::spawn(again_and_again(inputs, told, look));
        assert_eq!(heard(&mut outputs).await, seen(Sign::TrunkUp));
        let late = heard(&mut outputs).await;
        let all = [Sign::Answers, Sign::AcceptsRegister, Sign::TrunkUp, Sign::OpenFile];
        assert_eq!(late.unknown().map(|(sign, _)| sign).collect::<Vec<_>>(), all, "{late:?}");
        assert!(late.unknown().all(|(_, why)| why.contains("did not end")) && late.todo == "stop it", "{late:?}");
        assert_eq!(heard(&mut outputs).await, seen(Sign::TrunkUp));
        watching.abort();
    }
}
