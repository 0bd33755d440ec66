//! Asks each check and each Internet target in a task of its own: never two questions of one at once, never one late
//! because another is slow.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::Config;
use crate::engine::Event;
use crate::host::{clock, guarded};
use crate::ports::Probe;
use crate::store::{CheckSample, Sampled, Store};
use crate::units::{CheckName, ProbeAnswer, ProbeResult};

use super::peer;
use super::turn::Input;
use super::world::World;

/// What the loop tells all probers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// A check has begun to fail: ask fast until the verdict.
    pub hurried: bool,
    /// Each new number is "ask now".
    pub nudge: u64,
}

/// The tasks of one world; dropped, they end.
pub struct Probers {
    tasks: JoinSet<()>,
}

/// One prober's schedule and whereabouts.
struct Prober {
    probe: Arc<dyn Probe>,
    what: What,
    interval: Duration,
    fast: Duration,
    pace: watch::Receiver<Pace>,
    inputs: mpsc::Sender<Input>,
    store: Store,
}

#[derive(Clone)]
enum What {
    Check(CheckName),
    Internet(usize, String),
    Site(usize, String),
    Observer(usize, String),
}

impl Probers {
    /// Starts a task for each check and target.
    pub fn start(world: &World, pace: &watch::Sender<Pace>, inputs: &mpsc::Sender<Input>, store: &Store) -> Self {
        let mut probers = Self::of_checks(&world.config, &world.checks, pace, inputs, store);
        let mut start = |probe: &Arc<dyn Probe>, what, interval| {
            let fast = world.config.monitor.fast_interval;
            let (probe, inputs, store) = (Arc::clone(probe), inputs.clone(), store.clone());
            let prober = Prober { probe, what, interval, fast, pace: pace.subscribe(), inputs, store };
            probers.tasks.spawn(prober.run());
        };
        for (i, (probe, target)) in world.internet.iter().zip(&world.config.internet.targets).enumerate() {
            start(probe, What::Internet(i, target.name.clone()), world.config.internet.interval);
        }
        let pace_of_others = world.config.internet.interval;
        let witness = &world.config.witness;
        for (i, (probe, place)) in world.site.iter().zip(&witness.primary_site).enumerate() {
            start(probe, What::Site(i, place.name.clone()), pace_of_others);
        }
        for (i, (probe, observer)) in world.observers.iter().zip(&witness.observers).enumerate() {
            start(probe, What::Observer(i, observer.url.clone()), pace_of_others);
        }
        if world.config.peer.is_some() {
            probers.tasks.spawn(peer::exchange(
                Arc::clone(&world.peer),
                world.config.clone(),
                Arc::clone(&world.gate),
                pace.subscribe(),
                inputs.clone(),
            ));
        }
        probers
    }

    /// Starts a task for each check of the primary only, as an observer needs it.
    pub fn of_checks(
        config: &Config,
        checks: &[(CheckName, Arc<dyn Probe>)],
        pace: &watch::Sender<Pace>,
        inputs: &mpsc::Sender<Input>,
        store: &Store,
    ) -> Self {
        let mut tasks = JoinSet::new();
        for ((name, probe), check) in checks.iter().zip(&config.monitor.checks) {
            let prober = Prober {
                probe: Arc::clone(probe),
                what: What::Check(name.clone()),
                interval: check.interval,
                fast: config.monitor.fast_interval,
                pace: pace.subscribe(),
                inputs: inputs.clone(),
                store: store.clone(),
            };
            tasks.spawn(prober.run());
        }
        Self { tasks }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.tasks.len()
    }
}

impl Prober {
    async fn run(mut self) {
        loop {
            let nudged = self.pace.borrow_and_update().nudge;
            let started = Instant::now();
            let asked = clock::now().boot;
            let result = guarded::unless_it_panics(self.probe.ask()).await.unwrap_or_else(|| ProbeResult {
                answer: ProbeAnswer::Unknown(
                    "its work ended without an answer, which is a fault of this program".into(),
                ),
                latency: started.elapsed(),
            });
            if !self.tell(result, asked).await {
                return;
            }
            self.rest(started, nudged).await;
        }
    }

    /// Waits until the next question: from start to start, or in haste from end to start, or at once when nudged.
    async fn rest(&mut self, started: Instant, nudged: u64) {
        let ended = Instant::now();
        loop {
            let pace = *self.pace.borrow_and_update();
            if pace.nudge != nudged {
                return;
            }
            let next = started + self.interval;
            let next = if pace.hurried { next.min(ended + self.fast) } else { next };
            tokio::select! {
                () = tokio::time::sleep_until(next) => return,
                changed = self.pace.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Tells the loop, and waits until it has heard: it may want to know at once what a question asked now brings,
    /// and one that was asked a moment too early would keep it waiting for a whole time-out.
    async fn tell(&self, result: ProbeResult, asked: Duration) -> bool {
        self.store.record_check(self.sample(&result));
        let event = match &self.what {
            What::Check(name) => Event::Check { name: name.clone(), result, asked },
            What::Internet(target, _) => Event::Internet { target: *target, result, asked },
            What::Site(target, _) => Event::Site { target: *target, result, asked },
            What::Observer(target, _) => Event::Observer { target: *target, result, asked },
        };
        let (hear, heard) = oneshot::channel();
        self.inputs.send(Input::Result(event, hear)).await.is_ok() && heard.await.is_ok()
    }

    fn sample(&self, result: &ProbeResult) -> CheckSample {
        let (sampled, seen) = match &result.answer {
            ProbeAnswer::Up { seen, .. } => (Sampled::Up, seen.clone()),
            ProbeAnswer::Down(why) => (Sampled::Down, why.clone()),
            ProbeAnswer::Unknown(why) => (Sampled::Unknown, why.clone()),
        };
        let name = match &self.what {
            What::Check(name) => format!("check:{name}"),
            What::Internet(_, name) => format!("internet:{name}"),
            What::Site(_, name) => format!("site:{name}"),
            What::Observer(_, name) => format!("observer:{name}"),
        };
        CheckSample { at: clock::now().wall, name, result: sampled, latency: result.latency, seen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Answer;
    use crate::store::StoreError;

    /// Is silent for two seconds, as a dead primary's host is.
    struct Silent;

    impl Probe for Silent {
        fn ask(&self) -> Answer<'_, ProbeResult> {
            Box::pin(async {
                let latency = Duration::from_secs(2);
                tokio::time::sleep(latency).await;
                ProbeResult { answer: ProbeAnswer::Down("no answer in time".to_owned()), latency }
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_is_always_late_asks_again_only_after_its_result_was_heard() {
        let (inputs, mut arrivals) = mpsc::channel(8);
        let pace = watch::Sender::new(Pace::default());
        let none = StoreError::Corrupt { file: "none".into(), why: "a test".to_owned() };
        let prober = Prober {
            probe: Arc::new(Silent),
            what: What::Internet(0, "silent".to_owned()),
            interval: Duration::from_secs(1),
            fast: Duration::from_secs(1),
            pace: pace.subscribe(),
            inputs,
            store: Store::unavailable(&none),
        };
        tokio::spawn(prober.run());
        let began = Instant::now();
        let Some(Input::Result(_, heard)) = arrivals.recv().await else { panic!("no result") };
        assert_eq!(began.elapsed(), Duration::from_secs(2));
        // The loop is slow; nothing is asked meanwhile.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        heard.send(()).expect("the prober waits");
        let Some(Input::Result(..)) = arrivals.recv().await else { panic!("no result") };
        assert_eq!(began.elapsed(), Duration::from_millis(5500));
    }
}
