//! An ICMP echo (RFC 792, RFC 4443 §4.1) without root: a datagram socket of the kernel, which chooses the identifier,
//! writes the checksum, and gives back only echo replies to it.
//!
//! Linux lets those groups have one that `net.ipv4.ping_group_range` names (for IPv6 too). It knows no fall and rise.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};
use tokio::net::UdpSocket;

use crate::host::reach;
use crate::units::ProbeAnswer;

/// How often it is asked within the time-out: one lost packet is no silent site.
const ECHOES: u16 = 3;
/// Type, code, checksum, identifier, sequence number: the same in both versions.
const HEADER_BYTES: usize = 8;
/// Random, so that no older reply and no other program's is taken for ours.
const PAYLOAD_BYTES: usize = 16;
/// Larger than our reply; what is cut off is not compared.
const REPLY_BYTES_MAX: usize = 256;

/// Echo request and reply of one version of IP.
struct Kind {
    request: u8,
    reply: u8,
}

/// Asks, several times within `limit`; whoever calls ends it then.
pub async fn ask(target: IpAddr, limit: Duration) -> ProbeAnswer {
    // A port is only for the look at the routing table; an echo has none.
    let place = SocketAddr::new(target, 7);
    let socket = match open(target) {
        Ok(socket) => socket,
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied) => {
            return ProbeAnswer::Unknown(NOT_ALLOWED.to_owned());
        }
        Err(error) => return reach::fault(&error, place).into(),
    };
    match exchange(&socket, target, limit / u32::from(ECHOES)).await {
        Ok(Heard::Reply) => ProbeAnswer::up("echo"),
        Ok(Heard::Nothing) => ProbeAnswer::Down(format!("no answer within {limit:?}")),
        Err(error) => reach::fault(&error, place).into(),
    }
}

const NOT_ALLOWED: &str = "this system allows this user no ICMP echo; let net.ipv4.ping_group_range hold its group \
                           (sysctl), or ask by tcp://";

/// A datagram socket like any other once it is open, which is why it goes as a UDP socket.
fn open(target: IpAddr) -> io::Result<UdpSocket> {
    let (family, protocol) = match target {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, Some(protocol))?;
    UdpSocket::from_std(socket.into())
}

/// What came back in time.
enum Heard {
    Reply,
    Nothing,
}

/// Fails with an error of ours, or with one that the network sent.
async fn exchange(socket: &UdpSocket, target: IpAddr, pause: Duration) -> io::Result<Heard> {
    // Connected, so that the kernel tells of a received "unreachable"; of those that it holds for passing, silence is
    // all that is seen.
    socket.connect(SocketAddr::new(target, 0)).await?;
    let kind = match target {
        IpAddr::V4(_) => Kind { request: 8, reply: 0 },
        IpAddr::V6(_) => Kind { request: 128, reply: 129 },
    };
    let payload: [u8; PAYLOAD_BYTES] = fastrand::u128(..).to_be_bytes();
    for sequence in 1..=ECHOES {
        let packet = packet(kind.request, sequence, payload);
        socket.send(&packet).await?;
        if let Ok(heard) = tokio::time::timeout(pause, reply(socket, &kind, payload)).await {
            return heard.map(|()| Heard::Reply);
        }
    }
    Ok(Heard::Nothing)
}

fn packet(kind: u8, sequence: u16, payload: [u8; PAYLOAD_BYTES]) -> [u8; HEADER_BYTES + PAYLOAD_BYTES] {
    let mut packet = [0; HEADER_BYTES + PAYLOAD_BYTES];
    packet[0] = kind;
    packet[6..HEADER_BYTES].copy_from_slice(&sequence.to_be_bytes());
    packet[HEADER_BYTES..].copy_from_slice(&payload);
    packet
}

/// Waits for the reply to any of our echoes; what is another's is passed over.
async fn reply(socket: &UdpSocket, kind: &Kind, payload: [u8; PAYLOAD_BYTES]) -> io::Result<()> {
    let mut buffer = [0; REPLY_BYTES_MAX];
    loop {
        let bytes = socket.recv(&mut buffer).await?;
        if is_ours(&buffer[..bytes], kind, payload) {
            return Ok(());
        }
    }
}

fn is_ours(bytes: &[u8], kind: &Kind, payload: [u8; PAYLOAD_BYTES]) -> bool {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else { return false };
    let sequence = u16::from_be_bytes([header[6], header[7]]);
    header[0] == kind.reply && header[1] == 0 && (1..=ECHOES).contains(&sequence) && rest == payload
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: Kind = Kind { request: 8, reply: 0 };

    #[test]
    fn only_a_whole_reply_to_one_of_our_echoes_is_ours() {
        let payload = [7; PAYLOAD_BYTES];
        let good = packet(V4.reply, 2, payload);
        assert!(is_ours(&good, &V4, payload));
        for (what, bad) in [
            ("our own question", packet(V4.request, 2, payload).to_vec()),
            ("a number that was not asked", packet(V4.reply, ECHOES + 1, payload).to_vec()),
            ("another's payload", packet(V4.reply, 2, [8; PAYLOAD_BYTES]).to_vec()),
            ("half a reply", good[..12].to_vec()),
            ("half a header", good[..5].to_vec()),
            ("more than was asked", [good.as_slice(), &[0]].concat()),
            ("another code", [&[0, 1], &good[2..]].concat()),
        ] {
            assert!(!is_ours(&bad, &V4, payload), "{what}");
        }
    }
}
