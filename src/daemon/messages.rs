//! Words what happened for each target that shall be told of it.

use crate::adapters::courier;
use crate::config::Config;
use crate::engine::{Channels, Happening};
use crate::units::snapshot::Pair;
use crate::units::wording::{self, About};
use crate::units::{Delivery, EventName, Side, State, Target};

/// The prefix of the targets that are ActionURLs.
pub const ACTION_URL: &str = "action-url:";

/// The deliveries of one happening: one for each target that listens.
pub fn deliveries(happening: &Happening, config: &Config, pair: &Pair) -> Vec<Delivery> {
    let standing = Standing {
        state: pair.state,
        epoch: pair.epoch.as_ref().and_then(|epoch| epoch.number),
        blocks: pair.stands_against.clone(),
    };
    let about = about(happening, config, standing);
    let (subject, text) = wording::compose(happening.event, &about);
    let variables = wording::variables(happening.event, &about);
    courier::targets_of(config, happening.event)
        .into_iter()
        .filter(|target| goes_to(target, happening.channels))
        .map(|target| Delivery {
            key: format!("{}:{target}", happening.key),
            target,
            event: happening.event,
            subject: subject.clone(),
            text: text.clone(),
            variables: variables.clone(),
        })
        .collect()
}

fn goes_to(target: &Target, channels: Channels) -> bool {
    match channels {
        Channels::All => true,
        Channels::ActionUrls => target.0.starts_with(ACTION_URL),
        Channels::Notifications => !target.0.starts_with(ACTION_URL),
    }
}

/// The message that a person sends to try a target.
pub fn test_delivery(target: Target, key: String, config: &Config) -> Delivery {
    let happening = Happening {
        event: EventName::Test,
        because: "a person asked for a test message".to_owned(),
        step: None,
        channels: Channels::All,
        key: key.clone(),
    };
    let about = about(&happening, config, Standing { state: State::Standby, epoch: None, blocks: Vec::new() });
    let (subject, text) = wording::compose(EventName::Test, &about);
    Delivery {
        key,
        target,
        event: EventName::Test,
        subject,
        text,
        variables: wording::variables(EventName::Test, &about),
    }
}

/// Where the robot stands, as a message tells it.
struct Standing {
    state: State,
    epoch: Option<u64>,
    blocks: Vec<String>,
}

fn about(happening: &Happening, config: &Config, standing: Standing) -> About {
    let moving = config.dns.updates.iter().flat_map(|update| &update.records).next();
    let active = match (happening.event, standing.state) {
        (EventName::Failback, _) => Side::Primary,
        (EventName::Takeover, _) => Side::Backup,
        (_, State::Active | State::FailingBack) => config.side,
        _ => Side::Primary,
    };
    let id = happening.key.split(':').next().unwrap_or_default().to_owned();
    About {
        id,
        node: config.node.clone(),
        primary_node: config.primary.node.clone(),
        backup_node: config.backup.node.clone(),
        primary_address: config.primary.address(),
        backup_address: config.backup.address(),
        active,
        state: standing.state,
        epoch: standing.epoch,
        because: happening.because.clone(),
        step: happening.step,
        blocks: standing.blocks,
        dns_name: moving.map(|record| record.name.clone()).unwrap_or_default(),
        ttl_s: moving.map(|record| record.ttl_s.get()),
        when: crate::host::clock::now().wall,
    }
}
