//! `check` on the primary and on an observer: what their parts need before the bad day.

use std::sync::Arc;

use super::{bans, epoch, working_directories};
use crate::adapters::checks;
use crate::adapters::pbx::Resident;
use crate::config::{Config, Driver, Epoch, Role};
use crate::control::client::Client;
use crate::daemon::world::World;
use crate::host::{secret, tls};
use crate::ports::Probe;
use crate::store::PrimaryFile;
use crate::units::finding::Finding;
use crate::units::snapshot::Status;
use crate::units::{Guarded, ProbeAnswer, Serving};

const AGENT: &str = "agent";

/// What is wrong with what guard and agent remember, if it is damaged: then the agent does not start.
pub fn memory(config: &Config) -> Option<Finding> {
    let why = PrimaryFile::of(&config.state_dir).read().err()?;
    let (what, hint) = why.split_once("; ").unwrap_or((&why, "see state_dir"));
    Some(Finding::problem("memory", what, hint))
}

/// On the primary.
pub async fn primary(config: Config) -> Vec<Finding> {
    let mut findings = working_directories(&config);
    findings.extend(memory(&config));
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
        let seen_max = PrimaryFile::of(&config.state_dir).read().map_or(0, |memory| memory.turn());
        epoch(&world, seen_max, &mut findings).await;
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
    bans::look(config, &mut findings).await;
    runs(config, &mut findings).await;
    findings.extend(door(config));
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

/// Whether this host can answer at its door; `None`: it has none to open.
pub fn door(config: &Config) -> Option<Finding> {
    let silent = match config.role {
        Role::Backup => return None,
        Role::Primary => "agent.token is not set: the backup hears nothing of this host",
        Role::Observer => "agent.token is not set: an observer tells its view to nobody, and `run` does not start",
    };
    let Some(door) = &config.agent.door else {
        let hint = "run `pbx-failover keys`, and write the lines that it prints";
        return Some(Finding::problem(AGENT, silent, hint));
    };
    let token = secret::read(&door.token).map(|_| ()).map_err(|why| format!("agent.token: {why}"));
    Some(match token.and_then(|()| tls::server("agent.tls", &door.tls).map(|_| ())) {
        Ok(()) => Finding::ok(AGENT, format!("token and certificate are there; it answers at {}", door.listen)),
        Err(why) => Finding::problem(AGENT, why, "run `pbx-failover keys`"),
    })
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
    findings.extend(door(&config));
    runs(&config, &mut findings).await;
    findings
}
