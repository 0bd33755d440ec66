//! Proves readiness before the bad day: asks every real thing once, without moving any service.

mod announced;
mod bans;
pub mod both;
mod data;
mod disks;
mod elsewhere;
mod meant;
mod papers;
mod passive;
mod peers;
mod surroundings;
mod sync;
mod tree;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::adapters::courier;
use crate::adapters::dns::{DnsRecords, same_site_warning};
use crate::adapters::pbx::Resident;
use crate::config::{CheckTarget, Config, DnsMode, Epoch, Role};
use crate::engine::{Engine, Recovered};
use crate::host::{clock, open_files, tls};
use crate::units::finding::{Finding, Level};
use crate::units::names::{Redirect, Verified};
use crate::units::{DeliveryOutcome, EpochSeen, Meant, Mode, PassiveLook, ProbeAnswer, Serving, Side};

use self::papers::Serves;
use self::surroundings::Answering;
use super::watch::ACCEPTED_FILE;
use super::world::World;
use super::{messages, settings};

/// Which channel a test message is sent through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// A notification.
    Notify,
    /// An ActionURL.
    ActionUrl,
}

/// Sends one test message now, outside the queue.
///
/// # Errors
/// One line: there is no such channel, or it cannot be set up.
pub async fn send_test(config: Config, channel: Channel, name: &str) -> Result<DeliveryOutcome, String> {
    tls::install_provider();
    let couriers = courier::couriers(&config)?;
    let candidates = match channel {
        Channel::ActionUrl => vec![courier::action_url(name)],
        Channel::Notify => match name {
            "email" => vec![courier::email()],
            "command" => vec![courier::command()],
            name => vec![courier::webhook(name)],
        },
    };
    let found = candidates.into_iter().find_map(|target| couriers.get(&target).map(|courier| (target, courier)));
    let Some((target, courier)) = found else {
        let known = couriers.keys().filter_map(|target| match (channel, target.0.split_once(':')) {
            (Channel::ActionUrl, Some(("action-url", name))) | (Channel::Notify, Some(("webhook", name))) => Some(name),
            (Channel::Notify, None) => Some(target.0.as_str()),
            _ => None,
        });
        let known: Vec<_> = known.collect();
        let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
        return Err(format!("{name} is not configured here; what is: {known}"));
    };
    let key = format!("{}:test:{target}", ulid::Ulid::new());
    Ok(courier.deliver(&messages::test_delivery(target, key, &config)).await)
}

/// Remembers that a person accepts the configured name of the epoch record; the daemon sees it within half a minute.
pub fn accept_epoch_record(config: &Config) -> Finding {
    const ABOUT: &str = "epoch record";
    let Epoch::Dns { record, .. } = &config.epoch else {
        return Finding::ok(ABOUT, "the store is local: there is no name to accept");
    };
    let file = config.state_dir.join(ACCEPTED_FILE);
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(&config.state_dir)?;
        let mut out = std::fs::File::create(&file)?;
        writeln!(out, "{record}\n{}", clock::now().wall)?;
        out.sync_all()
    };
    match write() {
        Ok(()) => Finding::ok(ABOUT, format!("{record} is accepted; restart the robot, or wait half a minute")),
        Err(error) => Finding::problem(
            ABOUT,
            format!("{} cannot be written: {error}", file.display()),
            "run this as root, or as the robot's own user",
        ),
    }
}

/// What is damaged on this host's disk so that `run` does not start; read without the daemon.
pub fn damage(config: &Config) -> Option<Finding> {
    if config.role == Role::Primary { elsewhere::memory(config) } else { None }
}

/// What `run` would refuse beside the configuration itself, as far as files and this host tell; asks nobody.
pub fn offline(config: Config) -> Vec<Finding> {
    tls::install_provider();
    let mut findings: Vec<Finding> = damage(&config).into_iter().collect();
    if config.state_dir.exists() && !config.state_dir.is_dir() {
        let text = format!("{} is no directory", config.state_dir.display());
        findings.push(Finding::problem("state_dir", text, "move it away, or choose another state_dir"));
    }
    findings.extend(disks::state_dir(&config.state_dir));
    findings.extend(config.failback.return_to.iter().flat_map(disks::files_of_ssh));
    // An agent without a token runs and answers nobody: that is for the full check to say.
    let answers = config.role == Role::Observer || config.agent.door.is_some();
    let door = elsewhere::door(&config).filter(|finding| answers && finding.level == Level::Problem);
    findings.extend(door);
    let role = config.role;
    match World::build(config, &Resident::default()) {
        Err(why) => findings.push(Finding::problem("adapters", why, "mend what the line names, then check again")),
        Ok(world) if role == Role::Backup => {
            let began = Engine::new(settings::of(&world.config), Recovered::default(), clock::now(), 0);
            findings.extend(began.err().map(|why| Finding::problem("robot", why, "mend what the line names")));
        }
        Ok(_) => {}
    }
    findings
}

/// Asks everything once.
pub async fn prove(config: Config) -> Vec<Finding> {
    tls::install_provider();
    match config.role {
        Role::Primary => return elsewhere::primary(config).await,
        Role::Observer => return elsewhere::observer(config).await,
        Role::Backup => {}
    }
    let mut findings = working_directories(&config);
    let named = tree::look(&config, &mut findings).await;
    let world = match World::build(config, &Resident::default()) {
        Ok(world) => world,
        Err(why) => {
            findings.push(Finding::problem("adapters", why, "mend what the line names, then check again"));
            return findings;
        }
    };
    findings.extend(disks::state_dir(&world.config.state_dir));
    findings.extend(data::look(&*world.gate).await);
    // What an outage looks like from the node that serves is no fault of the settings.
    let look = world.pbx.look_passive().await;
    let answering = checks(&world, look.meant, &mut findings).await;
    internet(&world, &mut findings).await;
    surroundings::site(&world, &mut findings).await;
    surroundings::fence(&world, answering, &mut findings).await;
    let serves = pbx(&world, &look, &mut findings).await;
    findings.extend(sync::look(&world.config, &*world.sync, serves).await);
    findings.extend(disks::way_home(&world.config).await);
    if serves == Serves::Yes {
        announced::look(&world.config, &mut findings).await;
    }
    papers::look(&world.config, named, serves, &mut findings).await;
    bans::look(&world.config, &mut findings).await;
    epoch(&world, 0, &mut findings).await;
    dns(&world, look.meant, &mut findings).await;
    let heard = peers::ask(&world.config, &mut findings).await;
    messages_out(&world, &mut findings);
    both::both(&world.config, heard.as_ref(), &mut findings);
    findings.push(worst_outage(&world.config));
    findings
}

pub(super) fn working_directories(config: &Config) -> Vec<Finding> {
    let look = |dir: &PathBuf| match std::fs::read_dir(dir) {
        Ok(_) => Finding::ok("working directory", format!("{} is there", dir.display())),
        Err(error) => Finding::problem(
            "working directory",
            format!("{} cannot be read: {error}", dir.display()),
            "see pbx.working_dir, and who may read it",
        ),
    };
    config.pbx.working_dirs.iter().map(look).collect()
}

async fn checks(world: &World, meant: Meant, findings: &mut Vec<Finding>) -> Answering {
    let mut answering = Answering::No;
    for ((name, probe), check) in world.checks.iter().zip(&world.config.monitor.checks) {
        let about = format!("check {name}");
        let answer = probe.ask().await.answer;
        // A heartbeat file stays here for a while after its writer is gone.
        let is_asked_there = !matches!(check.target, CheckTarget::Heartbeat { .. });
        if is_asked_there && matches!(answer, ProbeAnswer::Up { .. }) {
            answering = Answering::Yes;
        }
        findings.push(match answer {
            ProbeAnswer::Up { seen, warning: None } => Finding::ok(about, seen),
            ProbeAnswer::Up { seen, warning: Some(warning) } => Finding::warning(
                about,
                format!("{seen}, but {warning}"),
                "renew the certificate, or relieve the server",
            ),
            ProbeAnswer::Down(why) => meant::down(meant, about, why),
            ProbeAnswer::Unknown(why) => Finding::problem(about, why, "the question did not leave this host"),
        });
    }
    answering
}

async fn internet(world: &World, findings: &mut Vec<Finding>) {
    let mut up = 0;
    for (probe, target) in world.internet.iter().zip(&world.config.internet.targets) {
        let about = format!("internet {}", target.name);
        findings.push(match probe.ask().await.answer {
            ProbeAnswer::Up { seen, .. } => {
                up += 1;
                Finding::ok(about, seen)
            }
            ProbeAnswer::Down(why) | ProbeAnswer::Unknown(why) => {
                Finding::warning(about, why, "choose targets that answer this host, in different networks")
            }
        });
    }
    let need = world.config.internet.need.get();
    findings.push(if up >= need {
        Finding::ok("internet", format!("{up} targets answer, {need} are needed"))
    } else {
        Finding::problem(
            "internet",
            format!("{up} targets answer, {need} are needed"),
            "without them this node believes that it is cut off and never takes over",
        )
    });
}

async fn pbx(world: &World, look: &PassiveLook, findings: &mut Vec<Finding>) -> Serves {
    let status = world.pbx.status().await;
    let serves = if status.serving == Serving::Yes { Serves::Yes } else { Serves::No };
    findings.push(meant::pbx(status.serving, look.meant, world.pbx.driver()));
    findings.extend(passive::findings(look, open_files::sight()));
    findings.extend(world.pbx.findings().await);
    serves
}

/// `seen_max`: the highest turn that this host has seen; 0 where it is not known.
pub(super) async fn epoch(world: &World, seen_max: u64, findings: &mut Vec<Finding>) {
    const ABOUT: &str = "epoch";
    let turn = |seen: &EpochSeen| seen.record().map_or(0, |record| record.number);
    findings.push(match world.epoch.read().await {
        Ok(seen) if turn(&seen) < seen_max => Finding::problem(
            ABOUT,
            seen.record().map_or_else(
                || format!("there is no epoch record, but turn {seen_max} was seen"),
                |record| format!("turn {} of {} stands in the record, but turn {seen_max} was seen", record.number, record.holder),
            ),
            "the zone was restored from an old copy, or changed by hand: see \"The epoch record\" in docs/operations.md",
        ),
        Ok(seen) => Finding::ok(
            ABOUT,
            seen.record().map_or_else(
                || "nobody has claimed the service yet".to_owned(),
                |record| format!("service held by {} (turn {})", record.holder, record.number),
            ),
        ),
        Err(why) => Finding::problem(ABOUT, why, "without the epoch nothing can be claimed"),
    });
    let Epoch::Dns { update, .. } = &world.config.epoch else { return };
    findings.push(match world.epoch.conformance().await {
        Ok(()) => Finding::ok("epoch store", "compares and swaps: create, again, wrong value, right value, cleaned up"),
        Err(why) => Finding::problem("epoch store", why, "until it passes the robot stays disarmed"),
    });
    let master = world.config.dns.updates[*update].server;
    if let Some(warning) = same_site_warning(master, &world.config.primary.addresses) {
        findings.push(Finding::problem(ABOUT, warning, "the master must survive the primary's site"));
    }
}

async fn dns(world: &World, meant: Meant, findings: &mut Vec<Finding>) {
    if world.config.dns.mode != DnsMode::Replace || world.config.dns.updates.is_empty() {
        return;
    }
    let to = if meant == Meant::Serving { Side::Backup } else { Side::Primary };
    let order = Redirect { to, mode: Mode::Look, epoch_raw: None, last_verified: Verified::new() };
    let seen = world.names.redirect(&order).await;
    for view in &seen.views {
        let about = format!("dns {} {}", view.name, view.rtype);
        findings.push(Finding::ok(about, view.seen.join("; ")));
    }
    findings.push(meant::records(&seen.outcome, to));
    for record in DnsRecords::new(&world.config.dns, &world.config.epoch).unprotected() {
        findings.push(Finding::warning(
            "dns",
            format!("{record} is not protected by the epoch"),
            "keep it in the epoch's zone, or know that a late robot could overwrite it",
        ));
    }
}

fn messages_out(world: &World, findings: &mut Vec<Finding>) {
    for url in &world.config.action_urls {
        let about = format!("action-url {}", url.name);
        findings.push(match courier::validate(url) {
            Ok(()) => {
                Finding::ok(about, format!("can be filled in; `pbx-failover test action-url {}` sends one", url.name))
            }
            Err(why) => Finding::problem(about, why.join("; "), "mend the template"),
        });
    }
    let notify = &world.config.notify;
    if notify.email.is_none() && notify.webhooks.is_empty() && notify.command.is_empty() {
        findings.push(Finding::warning(
            "notify",
            "nobody is told of anything",
            "set notify.email, notify.webhooks or notify.command",
        ));
    }
    if notify.dead_man.is_none() {
        findings.push(Finding::warning(
            "notify",
            "a robot that died is not noticed",
            "set notify.dead_man to a monitor that expects a heartbeat",
        ));
    }
}

/// What an outage costs at worst, each part with its source.
fn worst_outage(config: &Config) -> Finding {
    let monitor = &config.monitor;
    let detect = monitor
        .checks
        .iter()
        .map(|check| check.interval + (check.timeout + monitor.fast_interval) * check.fall.get())
        .max()
        .unwrap_or_default()
        + config.takeover.hold_down;
    let ttl = config.dns.updates.iter().flat_map(|update| &update.records).map(|record| record.ttl_s.get()).max();
    let ttl = Duration::from_secs(ttl.unwrap_or_default().into());
    Finding::ok(
        "worst outage",
        format!(
            "{} s until the takeover begins (interval, fall, timeout, hold_down), the PBX's own start, {} s of DNS TTL, and the phones' registration time",
            detect.as_secs(),
            ttl.as_secs()
        ),
    )
}
