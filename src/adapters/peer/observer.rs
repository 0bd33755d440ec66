//! A robot elsewhere, as a probe: up when it sees the primary alive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::wire::NoAnswer;
use super::{Expects, Host};
use crate::config::{Config, Peer};
use crate::decision::beats::DRIFT_WARN;
use crate::host::sequence::Sequence;
use crate::ports::{Answer, Probe};
use crate::units::finding::Finding;
use crate::units::{Beat, Heard, PeerReading, ProbeAnswer, ProbeResult, Sees};

/// What an observer calls itself.
pub(super) const ROLE: &str = "observer";

/// An older view says nothing of now: an observer's loop makes one each second, from checks that are seconds old.
pub const VIEW_AGE_MAX: Duration = Duration::from_secs(15);

/// One observer. Down: it sees the primary and does not find it alive. Unknown: it has no view that counts.
pub struct Observer {
    host: Host,
}

impl Observer {
    /// The one at this place.
    pub fn new(config: &Config, peer: &Peer, sequence: Arc<Sequence>) -> Self {
        Self { host: Host::new(config, peer, Expects::Observer, sequence) }
    }

    /// What can be said of it before the bad day, besides its view.
    pub fn findings(&self, about: &str) -> Vec<Finding> {
        self.host.findings(about)
    }

    async fn view(&self) -> ProbeAnswer {
        match self.host.beat(&self.host.bare()).await {
            Ok(PeerReading::Heard(heard)) => view(&heard),
            Ok(PeerReading::Silent(why)) | Err(NoAnswer::Silent(why)) => ProbeAnswer::Unknown(format!("silent: {why}")),
            Ok(PeerReading::Refused(why)) | Err(NoAnswer::Refused(why)) => {
                ProbeAnswer::Unknown(format!("refused: {why}"))
            }
            Err(NoAnswer::NotSent(why)) => ProbeAnswer::Unknown(why),
        }
    }
}

impl Probe for Observer {
    fn ask(&self) -> Answer<'_, ProbeResult> {
        Box::pin(async {
            let start = Instant::now();
            let answer = self.view().await;
            ProbeResult { answer, latency: start.elapsed() }
        })
    }
}

/// What a believed beat says of the primary.
fn view(heard: &Heard) -> ProbeAnswer {
    let node = &heard.beat.node;
    let Some(view) = &heard.beat.view else {
        return ProbeAnswer::Unknown(format!("{node} tells no view of the primary: see its log"));
    };
    let age = Duration::from_millis(view.age_ms);
    if age > VIEW_AGE_MAX {
        let (age, most) = (age.as_secs(), VIEW_AGE_MAX.as_secs());
        return ProbeAnswer::Unknown(format!("stale: the view of {node} is {age} s old, {most} s count: see its log"));
    }
    let seen = format!("{node}: {}", view.because);
    match view.sees {
        Sees::Alive => ProbeAnswer::Up {
            seen,
            warning: (heard.drift.abs() > DRIFT_WARN).then(|| format!("{}: set both by NTP", heard.clock())),
        },
        Sees::Down => ProbeAnswer::Down(seen),
        Sees::Nothing => ProbeAnswer::Unknown(seen),
    }
}

/// It is another kind of host that answers.
pub(super) fn is_none(beat: &Beat) -> NoAnswer {
    let role: String = beat.role.chars().filter(|c| !c.is_control()).take(20).collect();
    NoAnswer::Refused(format!("{} is no observer, its role is {role}: see the url", beat.node))
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::units::beat::ViewTold;

    fn heard(sees: Sees, age_ms: u64, drift_s: i64) -> Heard {
        let node = "pbx-c".parse().expect("a name");
        let view = Some(ViewTold { sees, because: "sip: 200 OK".to_owned(), age_ms });
        let beat = Beat { view, ..Beat::bare(node, ROLE, Timestamp::UNIX_EPOCH) };
        Heard { beat, drift: SignedDuration::from_secs(drift_s) }
    }

    #[test]
    fn only_a_fresh_sighting_is_up_or_down() {
        assert_eq!(view(&heard(Sees::Alive, 900, 0)), ProbeAnswer::up("pbx-c: sip: 200 OK"));
        assert!(matches!(view(&heard(Sees::Down, 900, 0)), ProbeAnswer::Down(_)));
        assert!(matches!(view(&heard(Sees::Nothing, 900, 0)), ProbeAnswer::Unknown(_)));
        for sees in [Sees::Alive, Sees::Down] {
            let stale = view(&heard(sees, 15_001, 0));
            assert!(matches!(&stale, ProbeAnswer::Unknown(why) if why.contains("15 s old")), "{stale:?}");
        }
        let mut none = heard(Sees::Alive, 0, 0);
        none.beat.view = None;
        assert!(matches!(view(&none), ProbeAnswer::Unknown(why) if why.contains("no view")));
    }

    #[test]
    fn a_clock_that_drifts_is_a_warning_and_not_a_missing_view() {
        let answer = view(&heard(Sees::Alive, 0, -9));
        assert!(matches!(&answer, ProbeAnswer::Up { warning: Some(w), .. } if w.contains("9 s behind")), "{answer:?}");
    }
}
