//! Ways between a peer and us, as the part without sockets sees them.

use std::net::{IpAddr, SocketAddr};

use crate::config::SipTransport;

/// A way that messages come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flow {
    /// Datagrams, through the listener of this number.
    Udp(usize),
    /// A connection; its number is never used again.
    Stream(u64),
}

/// Where a message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The way.
    pub flow: Flow,
    /// The peer as our socket sees it.
    pub peer: SocketAddr,
    /// Which address of ours it spoke to, where the socket tells: an answer from another one is not taken.
    pub ours: Option<IpAddr>,
    /// The transport.
    pub transport: SipTransport,
}

/// A message on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The way.
    pub flow: Flow,
    /// The receiver; of a connection it is the peer.
    pub to: SocketAddr,
    /// The address of ours that a datagram leaves from; else the system chooses.
    pub from: Option<IpAddr>,
    /// The message.
    pub bytes: Vec<u8>,
}
