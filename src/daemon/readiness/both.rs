//! One server at a time: is the primary guarded, does its agent answer, and how long could both serve at worst?

use std::time::Duration;

use crate::config::{self, Config, Epoch, StepDown, Unreadable};
use crate::daemon::primary::{MEMORY_WAIT, READ_MAX};
use crate::primary::agent::READ_EVERY;
use crate::units::finding::Finding;
use crate::units::{Guarded, Heard};

const ABOUT: &str = "one server at a time";

/// How long both could serve at worst with these settings, counted from the backup's claim; what the primary's PBX needs
/// to stop comes on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worst {
    /// While the primary reaches the master of the epoch; `None`: without end.
    pub reachable: Option<Duration>,
    /// While it does not; `None`: until it does.
    pub cut_off: Option<Duration>,
}

/// What the agent needs at most until it stops a PBX beside another's claim: between two readings of the epoch, for one, and
/// to remember it. `docs/partition-matrix.md` names the same.
pub const STEP_DOWN: [Duration; 3] = [READ_EVERY, READ_MAX, MEMORY_WAIT];

/// Works it out from agent, policies and timings.
pub fn worst(config: &Config) -> Worst {
    if config.peer.is_none() || config.epoch == Epoch::Local || config.agent.step_down == StepDown::Alert {
        return Worst { reachable: None, cut_off: None };
    }
    let step_down: Duration = STEP_DOWN.iter().sum();
    // The claim comes no sooner than the votes can fall and the hold-down be over.
    let monitor = &config.monitor;
    let votes = monitor.checks.iter().map(|check| monitor.fast_interval * (check.fall.get() - 1)).max();
    let earliest = votes.unwrap_or_default() + config.takeover.hold_down;
    let cut_off = match config.agent.unreadable {
        Unreadable::Keep => None,
        Unreadable::Stop | Unreadable::UnregisterTrunks => {
            Some((config.agent.unreadable_after + step_down).saturating_sub(earliest))
        }
    };
    Worst { reachable: Some(step_down), cut_off }
}

/// Says all of it; `heard`: what the primary's agent told just now.
pub fn both(config: &Config, heard: Option<&Heard>, findings: &mut Vec<Finding>) {
    let primary = &config.primary.node;
    if config.epoch == Epoch::Local {
        let text = format!("nothing keeps {primary} from serving beside this node: the epoch is local");
        let hint = "use epoch.store: dns; until then disable the PBX at boot on the primary";
        findings.push(Finding::problem(ABOUT, text, hint));
        return;
    }
    if config.peer.is_none() {
        let text = format!(
            "{primary} has no agent that is asked: when it comes back while this node serves, both serve until a person stops one"
        );
        findings.push(Finding::problem(ABOUT, text, "run the agent there (docs/agent.md), and set `peer` here"));
        return;
    }
    match heard {
        Some(heard) => told(heard, config, findings),
        None => findings.push(Finding::problem(
            ABOUT,
            format!("the agent of {primary} is not heard"),
            "without it nothing makes a primary step down that was cut off and comes back",
        )),
    }
    findings.push(bound(config));
}

fn told(heard: &Heard, config: &Config, findings: &mut Vec<Finding>) {
    let beat = &heard.beat;
    let node = &beat.node;
    findings.push(match beat.duty.as_ref().map_or(Guarded::Unknown, |duty| duty.guarded) {
        Guarded::Yes => Finding::ok(ABOUT, format!("the PBX on {node} asks the guard before it starts")),
        Guarded::No => Finding::problem(
            ABOUT,
            format!("the PBX on {node} does not ask the guard: after a reboot it serves, whoever holds the service"),
            "install pbx.service.d/pbx-failover-guard.conf there (docs/systemd.md)",
        ),
        Guarded::Unknown => Finding::warning(
            ABOUT,
            format!("whether the PBX on {node} asks the guard before it starts is not known"),
            "let whatever starts it run `pbx-failover guard` first, and start it only on exit code 0",
        ),
    });
    for (section, digest) in config::digests(config) {
        if beat.settings.get(&section) != Some(&digest) {
            let text = format!("`{section}` of failover.yaml is not the same on {node} and here");
            findings.push(Finding::problem(ABOUT, text, "copy the file from one host to the other"));
        }
    }
}

/// How long both could serve, each part with its source.
fn bound(config: &Config) -> Finding {
    let primary = &config.primary.node;
    let Worst { reachable, cut_off } = worst(config);
    let Some(reachable) = reachable else {
        let text = format!("at worst both serve without end: agent.step_down is alert, so {primary} goes on");
        return Finding::problem(ABOUT, text, "set agent.step_down to stop or unregister_trunks");
    };
    let reads = format!(
        "at worst both serve for {} s and the time that the PBX on {primary} needs to stop ({} s between readings of the epoch, {} s for one, {} s to remember it)",
        reachable.as_secs(),
        READ_EVERY.as_secs(),
        READ_MAX.as_secs(),
        MEMORY_WAIT.as_secs()
    );
    let Some(cut_off) = cut_off else {
        let text = format!(
            "{reads}; while {primary} cannot read the epoch, it goes on serving the phones and trunks that reach it, until it can (agent.epoch_unreadable.do: keep)"
        );
        let hint = "set agent.epoch_unreadable.do to unregister_trunks or stop where two registrations of a trunk hurt more than an office without telephone";
        return Finding::warning(ABOUT, text, hint);
    };
    let what = match config.agent.unreadable {
        Unreadable::UnregisterTrunks => "gives its trunks up, and serves the phones that reach it,",
        Unreadable::Stop | Unreadable::Keep => "stops",
    };
    let seconds = cut_off.as_secs();
    let text = format!(
        "{reads}; while {primary} cannot read the epoch, it {what} at most {seconds} s after the claim (agent.epoch_unreadable)"
    );
    Finding::ok(ABOUT, text)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Files, Surroundings, parse};

    fn config(agent: &str, hold_down: &str) -> Config {
        let text = format!(
            "
node: pbx-b
primary: {{ node: pbx-a, address: 203.0.113.10 }}
backup: {{ node: pbx-b, address: 198.51.100.20 }}
monitor: {{ checks: {{ sip: {{ sip: \"sip:pbx.example.com\" }} }} }}
takeover: {{ hold_down: {hold_down} }}
pbx: {{ working_dir: /var/lib/pbx, driver: {{ systemd: {{ unit: pbx.service }} }} }}
epoch: {{ store: dns, record: _e.example.com }}
dns: {{ updates: [{{ server: 192.0.2.53, zone: example.com, key: {{ name: k, secret: {{ file: /k }} }} }}] }}
agent: {agent}
peer: {{ url: \"https://203.0.113.10:8471\", token: {{ file: /t }} }}
"
        );
        let surroundings = Surroundings { host_name: "pbx-b".into(), files: Files::Ignored };
        parse(&text, Path::new("/etc/pbx-failover/failover.yaml"), &surroundings).expect("a good file").config
    }

    #[test]
    fn the_bound_follows_from_policies_and_timings() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(worst(&config("{}", "60s")), Worst { reachable: seconds(18), cut_off: None });
        let stop = "{ epoch_unreadable: { after: 60s, do: stop } }";
        assert_eq!(worst(&config(stop, "10s")).cut_off, seconds(60 + 18 - 10 - 2));
        assert_eq!(worst(&config(stop, "5m")).cut_off, seconds(0), "it has stopped before the claim");
        assert_eq!(worst(&config("{ step_down: alert }", "60s")).reachable, None);
    }
}
