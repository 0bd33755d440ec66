//! The sockets of the survival PBX: datagrams and connections, UDP, TCP and TLS, on one thread.
//!
//! It carries bytes between peers and the [`Switchboard`] and fulfils its wishes; it decides nothing. Everything here
//! lives on the thread of [`super::service`], so that a storm of phones cannot hold up the robot's decisions.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::flow::{Flow, Origin, Outgoing};
use super::guard::network;
use super::providers;
use super::switchboard::{Line, Switchboard, Wish};
use super::trunk::Server;
use crate::config::SipTransport;
use crate::host::tolerant::{UNKNOWN_ISSUER, trouble};
use crate::host::{clock, tls};
use crate::sip::message::{Frames, MESSAGE_BYTES_MAX};

/// Datagrams that are read before others get their turn.
const BATCH: usize = 64;
/// Connections at once: what a process may open by default, less what the robot needs.
const CONNECTIONS_MAX: usize = 4096;
/// Connections of one source: an office behind one NAT.
const CONNECTIONS_OF_ONE_MAX: usize = 1024;
/// A connection over which nobody has registered may stay so long.
const UNPROVED_MAX: Duration = Duration::from_secs(30);
/// One over which somebody has may be silent so long: longer than a registration lasts, unless `max_expires` was raised;
/// then a phone keeps its connection by keep-alives (RFC 5626 §4.4.1).
const SILENT_MAX: Duration = Duration::from_secs(600);
/// A message that has begun must end within.
const REST_MAX: Duration = Duration::from_secs(10);
/// A peer that takes nothing is given up after.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// A TLS handshake, or a connection to a provider, may take so long.
const HANDSHAKE_MAX: Duration = Duration::from_secs(8);
/// Messages that wait for one connection.
const OUTBOX_MAX: usize = 64;
/// After a failed accept (no descriptor is left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The switchboard with its sockets.
pub struct Exchange {
    board: RefCell<Switchboard>,
    datagrams: Vec<Datagrams>,
    streams: RefCell<HashMap<u64, Stream>>,
    next: Cell<u64>,
    changed: RefCell<HashSet<Arc<str>>>,
    sleeps_until: Cell<Duration>,
    earlier: Notify,
}

struct Stream {
    outbox: mpsc::Sender<Vec<u8>>,
    peer: SocketAddr,
    /// The server that it was made to, for trunks.
    server: Option<Server>,
    /// The trunks that use it.
    users: Users,
}

type Users = Rc<RefCell<Vec<Line>>>;

/// A socket that takes and sends datagrams, and knows which address of ours each was for.
///
/// A socket at 0.0.0.0 would else answer from the address of the route, which a NAT, or a careful phone, does not take.
pub struct Datagrams {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Datagrams {
    /// Prepares a bound socket.
    ///
    /// # Errors
    /// The system's.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // The library is made for QUIC, which must not be broken into fragments. A long SIP answer must be allowed to.
        if socket.local_addr()?.is_ipv4() {
            sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::WANT)?;
        } else {
            sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::WANT)?;
        }
        Ok(Self { socket, state })
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn receive(&self, into: &mut [u8]) -> io::Result<RecvMeta> {
        let mut got = [RecvMeta::default()];
        self.socket.try_io(Interest::READABLE, || {
            self.state.recv(UdpSockRef::from(&self.socket), &mut [io::IoSliceMut::new(into)], &mut got)
        })?;
        Ok(got[0])
    }

    fn send(&self, message: &Outgoing) {
        let transmit = Transmit {
            destination: message.to,
            ecn: None,
            contents: &message.bytes,
            segment_size: None,
            src_ip: message.from,
        };
        let sent = || self.state.try_send(UdpSockRef::from(&self.socket), &transmit);
        let _ = self.socket.try_io(Interest::WRITABLE, sent);
    }
}

impl Exchange {
    /// Carries for `board` over these sockets of datagrams, which it knows by their places.
    pub fn new(board: Switchboard, datagrams: Vec<Datagrams>) -> Rc<Self> {
        Rc::new(Self {
            board: RefCell::new(board),
            datagrams,
            streams: RefCell::default(),
            next: Cell::new(1),
            changed: RefCell::default(),
            sleeps_until: Cell::new(Duration::MAX),
            earlier: Notify::new(),
        })
    }

    /// Looks at the switchboard, or changes it, and does what it then wishes.
    pub fn with<T>(self: &Rc<Self>, act: impl FnOnce(&mut Switchboard, Duration) -> (T, Vec<Wish>)) -> T {
        let now = clock::now().boot;
        let (value, wishes) = act(&mut self.board.borrow_mut(), now);
        self.fulfil(wishes);
        value
    }

    /// The addresses of record whose contacts changed since this was asked last.
    pub fn take_changed(&self) -> HashSet<Arc<str>> {
        self.changed.take()
    }

    /// Begins to read the datagrams, for ever.
    pub fn read_datagrams(self: &Rc<Self>, tasks: &mut JoinSet<()>) {
        for number in 0..self.datagrams.len() {
            tasks.spawn_local(Rc::clone(self).datagrams(number));
        }
    }

    async fn datagrams(self: Rc<Self>, number: usize) {
        let socket = &self.datagrams[number];
        let mut datagram = vec![0; MESSAGE_BYTES_MAX];
        loop {
            if socket.socket.readable().await.is_err() {
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
            // When nothing is left, the next wait gives the others their turn.
            let mut is_quiet = false;
            for _ in 0..BATCH {
                match socket.receive(&mut datagram) {
                    Ok(got) => {
                        let (peer, ours) = (got.addr, got.dst_ip);
                        let origin = Origin { flow: Flow::Udp(number), peer, ours, transport: SipTransport::Udp };
                        // The system may hand over several of one peer at once.
                        for datagram in datagram[..got.len].chunks(got.stride.max(1)) {
                            self.with(|board, now| ((), board.datagram(datagram, &origin, now)));
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        is_quiet = true;
                        break;
                    }
                    // An ICMP error of an earlier sending is reported here.
                    Err(_) => {}
                }
            }
            if !is_quiet {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Wakes the switchboard when it wants to be woken, for ever.
    pub async fn keep_time(self: Rc<Self>) {
        loop {
            let (now, at) = (clock::now().boot, self.board.borrow().wake_at());
            if at > now {
                self.sleeps_until.set(at);
                tokio::select! {
                    () = sleep(at.saturating_sub(now)) => {}
                    () = self.earlier.notified() => continue,
                }
            }
            self.with(|board, now| ((), board.wake(now)));
        }
    }

    fn fulfil(self: &Rc<Self>, wishes: Vec<Wish>) {
        let is_quiet = wishes.iter().all(|wish| matches!(wish, Wish::Send(_) | Wish::Keep(_)));
        for wish in wishes {
            match wish {
                Wish::Send(message) => self.send(message),
                Wish::Resolve { line, uri, transport } => {
                    spawn_local(Rc::clone(self).resolve(line, uri, transport));
                }
                Wish::Connect(line, server) => self.connect(line, server),
                Wish::Keep(record) => drop(self.changed.borrow_mut().insert(record)),
            }
        }
        if !is_quiet || self.board.borrow().wake_at() < self.sleeps_until.get() {
            self.earlier.notify_one();
        }
    }

    fn send(&self, message: Outgoing) {
        match message.flow {
            // A full buffer loses the datagram, as the network may: whoever waits for it asks again.
            Flow::Udp(number) => {
                if let Some(socket) = self.datagrams.get(number) {
                    socket.send(&message);
                }
            }
            Flow::Stream(number) => {
                let mut streams = self.streams.borrow_mut();
                let full = streams.get(&number).is_some_and(|stream| stream.outbox.try_send(message.bytes).is_err());
                if full {
                    streams.remove(&number);
                }
            }
        }
    }

    async fn resolve(self: Rc<Self>, line: Line, uri: String, transport: Option<SipTransport>) {
        let servers = providers::servers(&uri, transport, providers::RESOLV_CONF).await;
        self.with(|board, now| ((), board.tell_trunk(line, None, |trunk| trunk.resolved(servers, now))));
    }

    /// A connection to this server, for this trunk: the one that there is, or a new one.
    fn connect(self: &Rc<Self>, line: Line, server: Server) {
        let known = {
            let streams = self.streams.borrow();
            let same =
                |(_, stream): &(&u64, &Stream)| stream.server.as_ref() == Some(&server) && !stream.outbox.is_closed();
            let known = streams.iter().find(same);
            if let Some((_, stream)) = known
                && !stream.users.borrow().contains(&line)
            {
                stream.users.borrow_mut().push(line);
            }
            known.map(|(number, _)| *number)
        };
        match known {
            Some(number) => {
                self.with(|board, now| ((), board.tell_trunk(line, Some(number), |t| t.connected(&server, now))));
            }
            None => drop(spawn_local(Rc::clone(self).dial(line, server))),
        }
    }

    async fn dial(self: Rc<Self>, line: Line, server: Server) {
        let users: Users = Rc::new(RefCell::new(vec![line]));
        let why = Rc::clone(&self).talk(line, &server, &users).await;
        let users = users.take();
        for line in users {
            self.with(|board, now| ((), board.tell_trunk(line, None, |trunk| trunk.broke(&server, why.clone(), now))));
        }
    }

    /// Connects to a provider and carries until that ends; says why it did.
    async fn talk(self: Rc<Self>, line: Line, server: &Server, users: &Users) -> String {
        let address = server.address;
        let deadline = Instant::now() + HANDSHAKE_MAX;
        let stream = match timeout_at(deadline, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return format!("{address}: {error}"),
            Err(_) => return format!("{address}: no connection within {HANDSHAKE_MAX:?}"),
        };
        let number = self.number();
        let this = Rc::clone(&self);
        let ready = || this.with(|board, now| ((), board.tell_trunk(line, Some(number), |t| t.connected(server, now))));
        let peer = Peer::Server(server.clone(), Rc::clone(users));
        let why = if server.transport == SipTransport::Tls {
            match timeout_at(deadline, secure(stream, &server.host)).await {
                Ok(Ok(stream)) => self.carry(stream, number, peer, ready).await,
                Ok(Err(why)) => why,
                Err(_) => format!("no TLS within {HANDSHAKE_MAX:?}"),
            }
        } else {
            self.carry(stream, number, peer, ready).await
        };
        format!("{address}: {why}")
    }

    fn number(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    /// Takes connections, for ever.
    pub async fn accept(self: Rc<Self>, listener: TcpListener, tls: Option<TlsAcceptor>) {
        loop {
            let Ok((stream, peer)) = listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let number = self.number();
            if self.is_full(peer.ip()) || !self.with(|board, now| (board.admits(peer.ip(), now), Vec::new())) {
                continue;
            }
            // It counts from now on, its handshake too: many are taken before the first task of one runs.
            let (outbox, _) = mpsc::channel(1);
            let begun = Stream { outbox, peer, server: None, users: Users::default() };
            self.streams.borrow_mut().insert(number, begun);
            let (this, tls) = (Rc::clone(&self), tls.clone());
            spawn_local(async move {
                match tls {
                    None => drop(this.carry(stream, number, Peer::Phone(peer, SipTransport::Tcp), || ()).await),
                    Some(tls) => match timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
                        Ok(Ok(stream)) => {
                            this.carry(stream, number, Peer::Phone(peer, SipTransport::Tls), || ()).await;
                        }
                        _ => drop(this.streams.borrow_mut().remove(&number)),
                    },
                }
            });
        }
    }

    fn is_full(&self, address: IpAddr) -> bool {
        let streams = self.streams.borrow();
        let of_one = || streams.values().filter(|stream| network(stream.peer.ip()) == network(address)).count();
        streams.len() >= CONNECTIONS_MAX || of_one() >= CONNECTIONS_OF_ONE_MAX
    }

    /// Carries messages over one connection until it ends; says why it did.
    async fn carry<S: AsyncRead + AsyncWrite>(
        self: Rc<Self>,
        stream: S,
        number: u64,
        peer: Peer,
        ready: impl FnOnce(),
    ) -> String {
        let (outbox, mut waiting) = mpsc::channel(OUTBOX_MAX);
        let (address, transport, server, users) = match peer {
            Peer::Phone(address, transport) => (address, transport, None, Users::default()),
            Peer::Server(server, users) => (server.address, server.transport, Some(server), users),
        };
        let mut is_proved = server.is_some();
        let origin = Origin { flow: Flow::Stream(number), peer: address, ours: None, transport };
        self.streams.borrow_mut().insert(number, Stream { outbox, peer: address, server, users });
        ready();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut frames = Frames::default();
        let mut bytes = vec![0; 8192];
        let began = Instant::now();
        // When the message that is under way began, or the last one ended.
        let mut heard_at = began;
        let why = loop {
            let until = heard_at + if frames.pending() == 0 { SILENT_MAX } else { REST_MAX };
            let until = if is_proved { until } else { until.min(began + UNPROVED_MAX) };
            tokio::select! {
                read = timeout_at(until, reader.read(&mut bytes)) => {
                    let length = match read {
                        Ok(Ok(0)) => break "the connection was closed".to_owned(),
                        Ok(Ok(length)) => length,
                        Ok(Err(error)) => break error.to_string(),
                        Err(_) => break "silent for too long".to_owned(),
                    };
                    // A message that comes in drops is not waited for longer than one that stands still.
                    if frames.pending() == 0 {
                        heard_at = Instant::now();
                    }
                    let messages = match frames.push(&bytes[..length]) {
                        Ok(messages) => messages,
                        Err(why) => break why,
                    };
                    if !messages.is_empty() {
                        heard_at = Instant::now();
                    }
                    for message in messages {
                        let bound = self.with(|board, now| {
                            let wishes = board.message(message, &bytes[..length], &origin, now);
                            (wishes.iter().any(|wish| matches!(wish, Wish::Keep(_))), wishes)
                        });
                        is_proved |= bound;
                    }
                    if frames.take_ping() {
                        self.send(Outgoing { flow: origin.flow, to: address, from: None, bytes: b"\r\n".to_vec() });
                    }
                }
                message = waiting.recv() => {
                    let Some(message) = message else { break "it was given up: the peer takes nothing".to_owned() };
                    let write = async { writer.write_all(&message).await?; writer.flush().await };
                    match timeout(WRITE_MAX, write).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => break error.to_string(),
                        Err(_) => break "the peer takes nothing".to_owned(),
                    }
                }
            }
        };
        self.streams.borrow_mut().remove(&number);
        self.with(|board, _| ((), board.stream_ended(number)));
        why
    }
}

/// Who is at the other end of a connection.
enum Peer {
    Phone(SocketAddr, SipTransport),
    Server(Server, Users),
}

/// TLS to a provider, whose certificate must be good.
async fn secure(stream: TcpStream, host: &str) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(|e| format!("{host}: {e}"))?;
    let config = tls::client(None)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| no_tls(&error))
}

fn no_tls(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error @ rustls::Error::InvalidCertificate(_)) => match trouble(error) {
            why if why == UNKNOWN_ISSUER => format!("{why}; give its authority to this host (update-ca-certificates)"),
            why => why,
        },
        _ => format!("no TLS: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::task::LocalSet;

    use super::super::tests::board;
    use super::*;

    const OPTIONS: &[u8] = b"OPTIONS sip:pbx.test SIP/2.0\r\nContent-Length: 0\r\n\r\n";
    const STEP: Duration = Duration::from_secs(5);
    const STEPS: usize = 20;

    /// How long a peer is listened to that sends every few seconds the end of one message and the beginning of the next.
    async fn carried(peer: Peer) -> Duration {
        let (mut theirs, ours) = duplex(1024);
        let carry = Exchange::new(board(), Vec::new()).carry(ours, 1, peer, || ());
        let speak = async {
            let messages = OPTIONS.repeat(STEPS);
            let (begun, rest) = messages.split_at(9);
            theirs.write_all(begun).await.expect("taken");
            for part in rest.chunks(OPTIONS.len()) {
                sleep(STEP).await;
                theirs.write_all(part).await.expect("taken");
            }
        };
        let began = Instant::now();
        let over = async {
            tokio::select! {
                _ = carry => {}
                () = speak => {}
            }
        };
        LocalSet::new().run_until(over).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn who_always_has_a_message_begun_is_heard_as_long_as_who_has_not() {
        let (address, transport) = (SocketAddr::from(([192, 0, 2, 7], 5060)), SipTransport::Tcp);
        let server = Server { address, transport, host: "carrier".to_owned() };
        assert!(carried(Peer::Server(server, Users::default())).await >= STEP * 20, "each message ended in time");
        assert_eq!(carried(Peer::Phone(address, transport)).await.as_secs(), UNPROVED_MAX.as_secs(), "a stranger");
    }
}
