//! The engine's share of a configuration.

use std::time::Duration;

use crate::config::{self, CheckTarget, Config, DnsMode, Driver, FenceNeed};
use crate::data::gate::OnHold;
use crate::decision::CheckSettings;
use crate::engine::{AgentAsked, Automatic, EpochStoreKind, InternetSettings, PrimaryStart, Settings};
use crate::takeover::{Configured, Fencing, Limits, UnsafeData};
use crate::units::{CheckKind, EventName};

/// What the engine needs to know of the configuration.
pub fn of(config: &Config) -> Settings {
    let monitor = &config.monitor;
    let peer = config.host(config.side.other()).node.clone();
    let slowest = monitor.checks.iter().map(|check| check.timeout).chain([config.internet.timeout]).max();
    Settings {
        node: config.node.clone(),
        peer,
        checks: monitor.checks.iter().map(|check| check_settings(config, check)).collect(),
        internet: InternetSettings {
            need: config.internet.need,
            targets: config.internet.targets.iter().map(|target| target.name.clone()).collect(),
            period: period(config.internet.interval, config.internet.timeout, monitor.fast_interval),
        },
        site: config.witness.primary_site.iter().map(|place| place.name.clone()).collect(),
        observers: config.witness.observers.iter().map(|observer| observer.url.clone()).collect(),
        agent: if config.peer.is_some() { AgentAsked::Yes(config::digests(config)) } else { AgentAsked::No },
        others_period: period(config.internet.interval, config.internet.timeout, monitor.fast_interval),
        down_when: monitor.down_when,
        half_dead: monitor.half_dead,
        site_cut: monitor.site_cut,
        automatic: if config.takeover.automatic { Automatic::On } else { Automatic::Off },
        hold_down: config.takeover.hold_down,
        startup_grace: config.takeover.startup_grace,
        hold_off: config.takeover.hold_off,
        give_up_after: config.pbx.give_up_after,
        repeat: config.notify.repeat,
        epoch_store: match config.epoch {
            config::Epoch::Local => EpochStoreKind::Local,
            config::Epoch::Dns { .. } => EpochStoreKind::Dns,
        },
        // A question may be under way when the fresh one is asked for: two time-outs, and a second.
        confirm_within: slowest.unwrap_or_default() * 2 + Duration::from_secs(1),
        primary_start: if config.failback.start_primary.is_empty() {
            PrimaryStart::ByItself
        } else {
            PrimaryStart::ByCommand
        },
        configured: configured(config),
        limits: Limits {
            drain: config.failback.drain,
            wait_for_primary: config.failback.wait_for_primary,
            stop_lasts: config.pbx.give_up_after,
        },
        config_text: config.text.0.clone(),
    }
}

fn configured(config: &Config) -> Configured {
    let listens = |event| config.action_urls.iter().any(|url| url.events.contains(&event));
    let notify = &config.notify;
    let trunk_verb = match &config.pbx.driver {
        Driver::Command(verbs) => !verbs.register_trunks.is_empty(),
        // It registers what pbx.trunks names.
        Driver::Systemd { .. } | Driver::Asterisk(_) => false,
        // Behind its gate it registers no trunk at all until it is told to.
        Driver::Kamailio(kamailio) => matches!(kamailio.passive, config::KamailioPassive::Gate { .. }),
        // What is its own says whether there are any: the file of accounts, the gateways of its profiles.
        Driver::Builtin(_) | Driver::Freeswitch(_) => true,
    };
    Configured {
        fencing: match config.fence.as_ref().map(|fence| fence.need) {
            None => Fencing::NotConfigured,
            Some(FenceNeed::Optional) => Fencing::Optional,
            Some(FenceNeed::Required) => Fencing::Required,
        },
        unsafe_data: if config.sync.on_hold == OnHold::Hold { UnsafeData::Holds } else { UnsafeData::IsPassed },
        trunks: trunk_verb || !config.pbx.trunks.is_empty(),
        dns: config.dns.mode == DnsMode::Replace && config.dns.updates.iter().any(|update| !update.records.is_empty()),
        takeover_urls: listens(EventName::Takeover),
        failback_urls: listens(EventName::Failback),
        notify: notify.email.is_some() || !notify.webhooks.is_empty() || !notify.command.is_empty(),
        return_data: !config.failback.return_data.is_empty() || config.failback.return_to.is_some(),
        return_rest: !config.failback.return_rest.is_empty() || config.failback.return_to.is_some(),
        sync: config.sync.is_fenced(),
        lower_ttl: config.failback.lower_ttl_first,
    }
}

fn check_settings(config: &Config, check: &config::Check) -> CheckSettings {
    CheckSettings {
        name: check.name.clone(),
        kind: match check.target {
            CheckTarget::Http { .. } => CheckKind::Http,
            CheckTarget::Sip { .. } => CheckKind::Sip,
            CheckTarget::Tcp { .. } => CheckKind::Tcp,
            CheckTarget::Heartbeat { .. } => CheckKind::Heartbeat,
        },
        definition: config::digest_of_check(check, config.primary.address()),
        fall: check.fall,
        rise: check.rise,
        period: period(check.interval, check.timeout, config.monitor.fast_interval),
    }
}

/// The longest time from one result to the next while all goes as it should: a silent host takes the whole time-out.
fn period(interval: Duration, timeout: Duration, pause: Duration) -> Duration {
    interval.max(timeout + pause)
}
