//! `check` on the primary and on an observer: what their parts need before the bad day.

use std::sync::Arc;

use super::{epoch, working_directories};
use crate::adapters::checks;
use crate::adapters::pbx::Resident;
use crate::config::{AgentDoor, Config, Driver, Epoch};
use crate::control::client::Client;
use crate::daemon::world::World;
use crate::host::{secret, tls};
use crate::ports::Probe;
use crate::units::finding::Finding;
use crate::units::snapshot::Status;
use crate::units::{Guarded, ProbeAnswer, Serving};

const AGENT: &str = "agent";

/// On the primary.
pub async fn primary(config: Config) -> Vec<Finding> {
    let mut findings = working_directories(&config);
    let world = match World::build(config, &Resident::default()) {
        Ok(world) => world,
        Err(why) => {
            findings.push(Finding::problem("adapters", why, "mend what the line names, then check again"));
            return findings;
        }
    };
    let config = &world.config;
    if config.epoch == Epoch::Local {
        let text = "the epoch is local: this host cannot know when the backup serves";
        findings.push(Finding::problem("epoch", text, "use epoch.store: dns"));
    } else {
        epoch(&world, &mut findings).await;
    }
    let status = world.pbx.status().await;
    findings.push(match status.serving {
        Serving::Yes => Finding::ok("pbx", format!("driver {}: it serves", world.pbx.driver())),
        Serving::No => {
            let why = status.trouble.unwrap_or_else(|| "it is stopped".to_owned());
            Finding::warning(
                "pbx",
                format!("driver {}: {why}", world.pbx.driver()),
                "`pbx-failover guard` says whether it may serve",
            )
        }
        Serving::Unknown(why) => Finding::warning("pbx", why, "see pbx.driver and pbx.probe"),
    });
    guard(&world, &mut findings).await;
    runs(config, &mut findings).await;
    match &config.agent.door {
        Some(at) => door(at, &mut findings),
        None => findings.push(Finding::problem(
            AGENT,
            "agent.token is not set: the backup hears nothing of this host",
            "run `pbx-failover keys`, and write the lines that it prints",
        )),
    }
    findings
}

async fn guard(world: &World, findings: &mut Vec<Finding>) {
    let guarded = match world.config.pbx.driver {
        Driver::Builtin(_) => Guarded::Yes,
        _ => world.pbx.guarded().await,
    };
    findings.push(match guarded {
        Guarded::Yes => Finding::ok("guard", "the PBX asks before it starts"),
        Guarded::No => Finding::problem(
            "guard",
            "the PBX does not ask: after a reboot it serves, whoever holds the service",
            "install pbx.service.d/pbx-failover-guard.conf (docs/systemd.md)",
        ),
        Guarded::Unknown => Finding::warning(
            "guard",
            "whether the PBX asks before it starts is not known",
            "let whatever starts it run `pbx-failover guard` first, and start it only on exit code 0",
        ),
    });
}

async fn runs(config: &Config, findings: &mut Vec<Finding>) {
    let asked = match Client::new(&config.control) {
        Ok(client) => client.get::<Status>("/v1/status").await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    findings.push(match asked {
        Ok(_) => Finding::ok(AGENT, "it runs"),
        Err(why) => Finding::problem(
            AGENT,
            format!("it does not run: {why}"),
            "systemctl enable --now pbx-failover; without it nothing steps down when the backup has taken over",
        ),
    });
}

fn door(door: &AgentDoor, findings: &mut Vec<Finding>) {
    let token = secret::read(&door.token).map(|_| ()).map_err(|why| format!("agent.token: {why}"));
    findings.push(match token.and_then(|()| tls::server("agent.tls", &door.tls).map(|_| ())) {
        Ok(()) => Finding::ok(AGENT, format!("token and certificate are there; it answers at {}", door.listen)),
        Err(why) => Finding::problem(AGENT, why, "run `pbx-failover keys`"),
    });
}

/// On an observer.
pub async fn observer(config: Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for check in &config.monitor.checks {
        let about = format!("check {}", check.name);
        let probe: Arc<dyn Probe> = match checks::probe(check, &config.primary, None) {
            Ok(probe) => Arc::from(probe),
            Err(why) => {
                findings.push(Finding::problem(about, why, "mend what the line names"));
                continue;
            }
        };
        findings.push(match probe.ask().await.answer {
            ProbeAnswer::Up { seen, .. } => Finding::ok(about, seen),
            ProbeAnswer::Down(why) | ProbeAnswer::Unknown(why) => {
                Finding::warning(about, why, "an observer is of use only where it sees a living primary")
            }
        });
    }
    if let Some(at) = &config.agent.door {
        door(at, &mut findings);
    }
    runs(&config, &mut findings).await;
    findings
}
