//! Which servers a provider has, in the order to be tried (RFC 3263 §4): SRV where neither address nor port is given.
//!
//! Addresses come from the system's resolver, as for every program on this host; it does not know SRV, which is asked
//! of the name servers in `resolv.conf`. NAPTR is not asked: the trunk says its transport, or it is UDP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::rdata::SRV;
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;

use super::trunk::Server;
use crate::config::SipTransport;
use crate::sip::message::Target;
use crate::sip::message::question::spelling;

/// Where the system keeps its name servers.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// More name servers are not asked (resolv.conf(5): `MAXNS`).
const NAME_SERVERS_MAX: usize = 3;
/// How long one name server may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// How long all of it may take, the system's resolver included.
const LOOKUP_LIMIT: Duration = Duration::from_secs(12);
/// More servers of one provider are not tried.
const SERVERS_MAX: usize = 8;
/// The largest datagram asked for; what is longer comes over TCP.
const DATAGRAM_BYTES_MAX: usize = 4096;

/// The servers behind a URI, looked up within a limit; `transport` counts where the URI names none.
///
/// # Errors
/// One line: what cannot be looked up.
pub async fn servers(uri: &str, transport: Option<SipTransport>, resolv_conf: &str) -> Result<Vec<Server>, String> {
    let late = || format!("the address of {uri} was not found within {LOOKUP_LIMIT:?}: see {resolv_conf}");
    timeout(LOOKUP_LIMIT, look_up(uri, transport, resolv_conf)).await.unwrap_or_else(|_| Err(late()))
}

async fn look_up(uri: &str, transport: Option<SipTransport>, resolv_conf: &str) -> Result<Vec<Server>, String> {
    let target = Target::read(uri)?;
    let transport = target.transport.or(transport).unwrap_or(SipTransport::Udp);
    let (.., default_port) = spelling(transport);
    let mut places = Vec::new();
    if target.port.is_none() && target.host.parse::<IpAddr>().is_err() {
        let service = match transport {
            SipTransport::Udp => "_sip._udp",
            SipTransport::Tcp => "_sip._tcp",
            SipTransport::Tls => "_sips._tcp",
        };
        let text = tokio::fs::read_to_string(resolv_conf).await.unwrap_or_default();
        if let Some(found) = srv(&format!("{service}.{}", target.host), &name_servers(&text)).await {
            if found.is_empty() {
                return Err(format!("{} says that it offers no SIP over {transport}", target.host));
            }
            places = found;
        }
    }
    if places.is_empty() {
        places.push((target.host.clone(), target.port.unwrap_or(default_port)));
    }
    let mut servers = Vec::new();
    let mut trouble = String::new();
    for (place, port) in places.into_iter().take(SERVERS_MAX) {
        match lookup_host((place.as_str(), port)).await {
            // The certificate bears the provider's name, not that of the host behind SRV (RFC 5922 §7.1).
            Ok(found) => servers.extend(found.map(|address| Server { address, transport, host: target.host.clone() })),
            Err(error) => trouble = format!("{place} cannot be resolved: {error}"),
        }
    }
    servers.truncate(SERVERS_MAX);
    if servers.is_empty() && !trouble.is_empty() { Err(trouble) } else { Ok(servers) }
}

fn name_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let given = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    });
    given.take(NAME_SERVERS_MAX).map(|address| SocketAddr::new(address, 53)).collect()
}

/// Hosts and ports of an SRV name, in the order of RFC 2782; `None` when there is no such name, or nobody answers.
async fn srv(name: &str, name_servers: &[SocketAddr]) -> Option<Vec<(String, u16)>> {
    let name = Name::from_ascii(format!("{name}.")).ok()?;
    for server in name_servers {
        if let Ok(Some(records)) = timeout(ANSWER_LIMIT, ask(&name, *server)).await {
            return (!records.is_empty()).then(|| in_order(records, fastrand::u32));
        }
    }
    None
}

/// RFC 2782: the lowest priority first, and within one by chance, the heavier the likelier.
fn in_order(mut records: Vec<SRV>, mut dice: impl FnMut(std::ops::RangeInclusive<u32>) -> u32) -> Vec<(String, u16)> {
    // A single root target says that there is no such service.
    records.retain(|record| !record.target.is_root());
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|record| record.priority) {
        let group = records.partition_point(|record| record.priority == priority);
        let total = records[..group].iter().map(|record| u32::from(record.weight)).sum();
        let mut left = dice(0..=total);
        let chosen = records[..group].iter().position(|record| {
            let weight = u32::from(record.weight);
            let here = left <= weight;
            left = left.saturating_sub(weight);
            here
        });
        let record = records.remove(chosen.unwrap_or(0));
        ordered.push((record.target.to_ascii().trim_end_matches('.').to_owned(), record.port));
    }
    ordered
}

/// Asks one name server; `None` when it gives no answer that counts.
async fn ask(name: &Name, server: SocketAddr) -> Option<Vec<SRV>> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), RecordType::SRV));
    let bytes = question.to_vec().ok()?;
    let mut answer = over_udp(&bytes, question.metadata.id, server).await?;
    if answer.metadata.truncation {
        answer = over_tcp(&bytes, question.metadata.id, server).await?;
    }
    match answer.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        _ => return None,
    }
    let records = answer.answers.iter().filter_map(|record| match &record.data {
        RData::SRV(srv) => Some(srv.clone()),
        _ => None,
    });
    Some(records.collect())
}

async fn over_udp(question: &[u8], id: u16, server: SocketAddr) -> Option<Message> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect(server).await.ok()?;
    socket.send(question).await.ok()?;
    let mut datagram = [0; DATAGRAM_BYTES_MAX];
    loop {
        let length = socket.recv(&mut datagram).await.ok()?;
        if let Some(answer) = answer_to(id, &datagram[..length]) {
            return Some(answer);
        }
    }
}

async fn over_tcp(question: &[u8], id: u16, server: SocketAddr) -> Option<Message> {
    let mut stream = TcpStream::connect(server).await.ok()?;
    let length = u16::try_from(question.len()).ok()?;
    stream.write_all(&[&length.to_be_bytes()[..], question].concat()).await.ok()?;
    let length = stream.read_u16().await.ok()?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.ok()?;
    answer_to(id, &answer)
}

fn answer_to(id: u16, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    (answer.metadata.id == id && answer.metadata.message_type == MessageType::Response).then_some(answer)
}
