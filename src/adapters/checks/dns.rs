//! The Internet target that is asked a DNS question: `. NS`, which every resolver and root server knows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::host::reach::{self, Fault};

/// How long the first datagram is waited for before the question is repeated, once, with the same id.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The largest answer read; without EDNS a server sends at most 512 bytes (RFC 1035 §4.2.1).
const ANSWER_BYTES_MAX: usize = 4096;

/// Asks; any well-formed answer with our id counts, whatever its code. The caller bounds it.
pub async fn ask(target: SocketAddr) -> Result<String, Fault> {
    let ours = |error: std::io::Error| reach::fault(&error, target);
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::root(), RecordType::NS));
    let id = question.metadata.id;
    let bytes = question.to_vec().map_err(|e| Fault::Ours(format!("the DNS question cannot be written: {e}")))?;
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.map_err(ours)?;
    socket.connect(target).await.map_err(ours)?;
    socket.send(&bytes).await.map_err(ours)?;
    if let Ok(answer) = timeout(AGAIN_AFTER, answer(&socket, id)).await {
        return answer.map_err(ours);
    }
    socket.send(&bytes).await.map_err(ours)?;
    answer(&socket, id).await.map_err(ours)
}

/// Waits for an answer with this id; whatever else comes is dropped.
async fn answer(socket: &UdpSocket, id: u16) -> std::io::Result<String> {
    let mut datagram = [0_u8; ANSWER_BYTES_MAX];
    loop {
        let length = socket.recv(&mut datagram).await?;
        match Message::from_vec(&datagram[..length]) {
            Ok(reply) if reply.metadata.id == id && reply.metadata.message_type == MessageType::Response => {
                return Ok(format!("DNS answers {}", reply.metadata.response_code));
            }
            _ => {}
        }
    }
}
