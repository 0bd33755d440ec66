//! Asks the zone's other name servers until they answer as the master does.
//!
//! They are asked over TCP without a key: what they say is shown and waited for, but nothing is decided by it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::Limits;
use super::advice::mnemonic;
use super::line::Line;
use super::master::{self, Key, Master};
use super::rrset;
use super::wire::Fault;

/// The DNS port, at every name server that the zone names.
const DNS_PORT: u16 = 53;

/// Most addresses that are asked: a zone has at most 13 servers in practice, with two addresses each.
const SERVERS_MAX: usize = 32;

/// How long the system's resolver may take for the address of a name server outside the zone.
const LOOKUP_LIMIT: Duration = Duration::from_secs(2);

/// The pause between two questions to a server that lags; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_millis(800);

/// A server to ask, or a name server whose address nobody knows.
#[derive(Debug, Clone)]
pub struct Server {
    /// For people: name and address.
    pub label: String,
    /// Where it is.
    pub address: Result<SocketAddr, String>,
}

/// What one server said at last.
#[derive(Debug, Clone)]
pub struct Said {
    /// For people: name and address.
    pub label: String,
    /// The values of each record, in the order asked; or why it gave none.
    pub values: Result<Vec<Vec<String>>, String>,
}

/// One question with the answer that is waited for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Name and type.
    pub key: Key,
    /// Its values, as [`rrset::texts`] writes them.
    pub texts: Vec<String>,
}

/// Every NS of the zone but the master itself, with addresses from the glue, the master or the system's resolver.
///
/// # Errors
/// The master does not say.
pub async fn servers(master: &mut Master, master_ip: IpAddr) -> Result<Vec<Server>, Fault> {
    let apex = master.zone.clone();
    let answers = master.ask(&[(apex, RecordType::NS)]).await?;
    let mut servers = Vec::new();
    for answered in &answers {
        let names = answered.values.iter().filter_map(|value| match value {
            RData::NS(name) => Some(name.0.clone()),
            _ => None,
        });
        for name in names {
            let glue = answered.additionals.iter().filter(|record| record.name == name);
            let mut addresses: Vec<IpAddr> = glue.filter_map(|record| record.data.ip_addr()).collect();
            if addresses.is_empty() {
                addresses = look_up(master, &name).await;
            }
            let label = name.to_ascii().trim_end_matches('.').to_owned();
            if addresses.is_empty() {
                servers.push(Server { label, address: Err("its address cannot be found".to_owned()) });
                continue;
            }
            // The master was asked already, and perhaps listens elsewhere than at port 53.
            let others = addresses.into_iter().filter(|ip| ip.to_canonical() != master_ip.to_canonical());
            servers.extend(
                others
                    .map(|ip| Server { label: format!("{label} ({ip})"), address: Ok(SocketAddr::new(ip, DNS_PORT)) }),
            );
        }
    }
    servers.truncate(SERVERS_MAX);
    Ok(servers)
}

async fn look_up(master: &mut Master, name: &Name) -> Vec<IpAddr> {
    if master.zone.zone_of(name) {
        let keys = [(name.clone(), RecordType::A), (name.clone(), RecordType::AAAA)];
        let answers = master.ask(&keys).await.unwrap_or_default();
        return answers.iter().flat_map(|answered| &answered.values).filter_map(RData::ip_addr).collect();
    }
    match timeout(LOOKUP_LIMIT, lookup_host((name.to_ascii(), DNS_PORT))).await {
        Ok(Ok(addresses)) => addresses.map(|address| address.ip()).collect(),
        _ => Vec::new(),
    }
}

/// Asks all servers at once, each until it answers as wanted or `until` has passed; one that cannot be asked is not
/// asked twice.
pub async fn agree(servers: Vec<Server>, wanted: &[Wanted], until: Instant, limits: Limits) -> Vec<Said> {
    let mut asking = JoinSet::new();
    for (index, server) in servers.into_iter().enumerate() {
        let wanted = wanted.to_vec();
        asking.spawn(async move { (index, poll(server, &wanted, until, limits).await) });
    }
    // A task ends by itself: each question is bounded by the limits.
    let mut said = asking.join_all().await;
    said.sort_by_key(|(index, _)| *index);
    said.into_iter().map(|(_, said)| said).collect()
}

async fn poll(server: Server, wanted: &[Wanted], until: Instant, limits: Limits) -> Said {
    let Server { label, address } = server;
    let address = match address {
        Ok(address) => address,
        Err(why) => return Said { label, values: Err(why) },
    };
    let keys: Vec<Key> = wanted.iter().map(|wanted| wanted.key.clone()).collect();
    let mut line = Line::new(address, limits);
    let mut pause = PAUSE_MIN;
    loop {
        let values = match master::ask(&mut line, &keys, None).await {
            Ok(answers) => answers.iter().map(|answered| rrset::texts(&answered.values)).collect::<Vec<_>>(),
            Err(fault) => return Said { label, values: Err(plain(&fault)) },
        };
        let agrees = wanted.iter().zip(&values).all(|(wanted, texts)| wanted.texts == *texts);
        if agrees || Instant::now() + pause > until {
            return Said { label, values: Ok(values) };
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// A name server's fault, in a few words: nobody has to mend it for the move to be done.
fn plain(fault: &Fault) -> String {
    match fault {
        Fault::ConnectRefused => "refuses TCP connections".to_owned(),
        Fault::Unreachable(why) => why.clone(),
        Fault::ConnectTimeout | Fault::AnswerTimeout => "no answer in time".to_owned(),
        Fault::Closed => "ends the connection without an answer".to_owned(),
        Fault::Rcode(code) | Fault::Unsigned(code) => format!("answers {}", mnemonic(*code)),
        Fault::NotAuthoritative => "answers without authority".to_owned(),
        Fault::Alias(name) => format!("{name} is an alias there"),
        other => format!("{other:?}"),
    }
}
