//! Whose fault is a network error: ours (the question never left this host) or theirs?
//!
//! The one place that knows which `errno` proves what (a check that could not be carried out never
//! counts as "down"). It opens no connection; [`crate::sip::client`] and the checks ask it about their errors.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::io::Errno;

use crate::units::ProbeAnswer;

/// A network error, with its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The question never left this host: it says nothing of the other side.
    Ours(String),
    /// The other side, or something on the way to it, refused it.
    Theirs(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(text) | Self::Theirs(text) => f.write_str(text),
        }
    }
}

impl From<Fault> for ProbeAnswer {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Ours(why) => Self::Unknown(why),
            Fault::Theirs(why) => Self::Down(why),
        }
    }
}

/// Judges an error of a socket that was to reach `target`.
///
/// `ENETUNREACH`, `EHOSTUNREACH` and `EACCES` come from our own routing table as well as from a received ICMP
/// message (Linux `icmp_err_convert`), so for these the routing table itself is asked, see [`route`]. A neighbour or
/// gateway that does not answer ARP is theirs: that question did leave this host. What a local firewall drops is seen
/// over UDP only; over TCP the kernel goes on trying, and it looks like silence.
pub fn fault(error: &io::Error, target: SocketAddr) -> Fault {
    let ours = |text: &str| Fault::Ours(text.to_owned());
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE) => {
            ours("this host has no free file descriptor; raise the limit (LimitNOFILE)")
        }
        Some(Errno::NOBUFS | Errno::NOMEM) => ours("this host has no memory left for sockets"),
        // Over IPv6 a missing route shows as a missing source address.
        Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => Fault::Ours(
            route(target).err().unwrap_or_else(|| format!("this host has no free port to ask {} from", target.ip())),
        ),
        Some(Errno::AFNOSUPPORT) => Fault::Ours(format!("this host cannot ask {}: no such protocol here", target.ip())),
        Some(Errno::NETDOWN) => ours("this host's network interface is down"),
        Some(Errno::PERM) => ours(FIREWALL),
        // Over IPv4 no ICMP message becomes EACCES; over IPv6 "administratively prohibited" does.
        Some(Errno::ACCESS) if target.is_ipv4() => ours(FIREWALL),
        Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ACCESS | Errno::INVAL) => match route(target) {
            Ok(()) => Fault::Theirs(phrase(error)),
            Err(why) => Fault::Ours(why),
        },
        _ => Fault::Theirs(phrase(error)),
    }
}

const FIREWALL: &str = "a rule of this host (firewall, routing, sandbox) forbids the question";

/// "Connection refused (os error 111)" as a phrase: the number helps nobody.
pub fn phrase(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// The I/O error inside `error`, if one caused it: libraries wrap it several times.
pub fn io_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    let mut found = None;
    // A chain of causes is short; the bound only keeps a cyclic one from holding us.
    for _ in 0..CAUSES_MAX {
        let Some(error) = next else { break };
        if let Some(io) = error.downcast_ref::<io::Error>() {
            found = Some(io);
            // An I/O error may carry another one; only one with a number tells anything.
            next = io.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static));
        } else {
            next = error.source();
        }
    }
    found
}

/// How deep a chain of causes is followed.
const CAUSES_MAX: usize = 16;

/// Asks our own routing table whether a packet to `target` would leave this host.
///
/// Connecting a UDP socket does the route lookup and sends nothing, so that an error here cannot have been received.
///
/// # Errors
/// One line: what is missing on our side.
pub fn route(target: SocketAddr) -> Result<(), String> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let tried = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(target));
    tried.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ACCESS | Errno::INVAL | Errno::ADDRNOTAVAIL) => {
            format!("this host has no route to {}", target.ip())
        }
        _ => format!("this host could not ask {}: {}", target.ip(), phrase(&error)),
    })
}

/// The address that a packet to `target` would leave from; `None` when it would not leave.
pub fn source(target: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // The port is of no account to the route; nothing is sent.
    socket.connect((target, 5060)).ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errno(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

    #[test]
    fn what_this_host_lacks_is_ours() {
        for lack in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL, Errno::NETDOWN] {
            assert!(matches!(fault(&errno(lack), HERE), Fault::Ours(_)), "{lack:?}");
        }
        for firewall in [Errno::PERM, Errno::ACCESS] {
            assert!(matches!(fault(&errno(firewall), HERE), Fault::Ours(_)), "{firewall:?}");
        }
    }

    #[test]
    fn a_refusal_and_a_reset_are_theirs() {
        for theirs in [Errno::CONNREFUSED, Errno::CONNRESET, Errno::TIMEDOUT, Errno::PIPE, Errno::NONET] {
            assert!(matches!(fault(&errno(theirs), HERE), Fault::Theirs(_)), "{theirs:?}");
        }
    }

    #[test]
    fn unreachable_is_theirs_while_our_own_route_stands() {
        for either in [Errno::NETUNREACH, Errno::HOSTUNREACH] {
            assert!(matches!(fault(&errno(either), HERE), Fault::Theirs(_)), "{either:?}");
        }
    }

    #[test]
    fn the_cause_is_found_under_any_wrapping() {
        let wrapped = io::Error::other(io::Error::other(errno(Errno::MFILE)));
        let found = io_cause(&wrapped).expect("an I/O error");
        assert_eq!(found.raw_os_error(), Some(Errno::MFILE.raw_os_error()));
    }
}
