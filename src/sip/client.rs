//! Asks a SIP server one question over UDP, TCP or TLS, and tells how that ended.
//!
//! It bounds its own time and never says what the end means: [`super::meaning`] does.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

use super::message::{Frames, Incoming, MESSAGE_BYTES_MAX, Method, Question, Reply};
use super::resend::Resend;
use crate::config::SipTransport;
use crate::host::reach::{self, Fault};
use crate::host::tls;
use crate::host::tolerant::{Tolerant, trouble};

/// Whom to ask, and how.
#[derive(Debug, Clone)]
pub struct Endpoint {
    target: SocketAddr,
    host: String,
    port: u16,
    /// The address to ask from; `None`: the kernel chooses.
    source: Option<IpAddr>,
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    Udp,
    Tcp,
    Tls(Box<Tolerant>),
}

impl Endpoint {
    /// The server at `address`:`port`, asked as `host` (in the request URI, and in TLS).
    ///
    /// `roots` is called for TLS only, so that the system's roots are not loaded in vain.
    ///
    /// # Errors
    /// One line, when `host` cannot be asked for.
    pub fn new(
        address: IpAddr,
        host: &str,
        port: u16,
        transport: SipTransport,
        roots: impl FnOnce() -> Arc<RootCertStore>,
    ) -> Result<Self, String> {
        let way = match transport {
            SipTransport::Udp => Way::Udp,
            SipTransport::Tcp => Way::Tcp,
            SipTransport::Tls => Way::Tls(Box::new(Tolerant::new(host, roots())?)),
        };
        let target = SocketAddr::new(address, port);
        Question::new(Method::Options, host, port, transport, target)?;
        Ok(Self { target, host: host.to_owned(), port, source: None, way })
    }

    /// Like [`Endpoint::new`] with the system's roots.
    ///
    /// # Errors
    /// As [`Endpoint::new`].
    pub fn with_system_roots(address: IpAddr, host: &str, port: u16, transport: SipTransport) -> Result<Self, String> {
        Self::new(address, host, port, transport, tls::system_roots)
    }

    /// The same, asked from this address of ours where one is given: who knows us by it must see it.
    #[must_use]
    pub fn asked_from(mut self, source: Option<IpAddr>) -> Self {
        self.source = source;
        self
    }

    /// How it is asked.
    pub fn transport(&self) -> SipTransport {
        match self.way {
            Way::Udp => SipTransport::Udp,
            Way::Tcp => SipTransport::Tcp,
            Way::Tls(_) => SipTransport::Tls,
        }
    }

    fn question(&self, method: Method, local: SocketAddr) -> Result<Question, String> {
        Question::new(method, &self.host, self.port, self.transport(), local)
    }

    /// Where the question leaves from; port 0 is any.
    fn own(&self) -> SocketAddr {
        let any: IpAddr =
            if self.target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        SocketAddr::new(self.source.unwrap_or(any), 0)
    }

    async fn connect(&self) -> Result<(TcpStream, SocketAddr), SipEnd> {
        let connect = async {
            let socket = if self.target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if self.source.is_some() {
                socket.bind(self.own())?;
            }
            let stream = socket.connect(self.target).await?;
            let local = stream.local_addr()?;
            Ok((stream, local))
        };
        connect.await.map_err(|error| self.fault(&error))
    }

    fn fault(&self, error: &io::Error) -> SipEnd {
        match reach::fault(error, self.target) {
            Fault::Ours(why) => SipEnd::NotSent(why),
            Fault::Theirs(why) => SipEnd::Refused(why),
        }
    }
}

/// How a question ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SipEnd {
    /// A final answer to this very request.
    Final {
        /// The answer.
        reply: Box<Reply>,
        /// What is wrong with the server's certificate.
        certificate: Option<String>,
    },
    /// Refused, reset, closed before a final answer, unreachable (ICMP), no TLS.
    Refused(String),
    /// No final answer within the time-out.
    Silent {
        /// The time-out.
        after: Duration,
        /// The last provisional answer: something is there, and does not finish.
        provisional: Option<u16>,
    },
    /// Something answered that is not SIP; over UDP the rest of the time-out was waited for better.
    Malformed(String),
    /// The question never left this host; says nothing of the server.
    NotSent(String),
}

impl SipEnd {
    fn answered(reply: Box<Reply>) -> Self {
        Self::Final { reply, certificate: None }
    }
}

/// Asks OPTIONS and waits for the final answer, at most `timeout`.
pub async fn options(to: &Endpoint, timeout: Duration) -> SipEnd {
    exchange(to, &|local| to.question(Method::Options, local), timeout).await
}

/// Asks REGISTER without a Contact and without credentials: a working registrar answers 401, and nothing changes.
pub async fn register_query(to: &Endpoint, timeout: Duration) -> SipEnd {
    exchange(to, &|local| to.question(Method::Register, local), timeout).await
}

/// Writes a request for the address that it is sent from; one line when it cannot be written.
pub type Written<'a> = &'a (dyn Fn(SocketAddr) -> Result<Question, String> + Sync);

/// Sends one request and waits for its final answer, at most `timeout`.
pub async fn exchange(to: &Endpoint, written: Written<'_>, timeout: Duration) -> SipEnd {
    let deadline = Instant::now() + timeout;
    let mut heard = Heard::default();
    let asked = async {
        match &to.way {
            Way::Udp => over_udp(to, written, &mut heard).await,
            Way::Tcp => {
                let (stream, local) = to.connect().await?;
                over_stream(to, written, stream, local, &mut heard).await
            }
            Way::Tls(tolerant) => {
                let (stream, local) = to.connect().await?;
                let connector = tokio_rustls::TlsConnector::from(tolerant.config());
                let stream = connector.connect(tolerant.name(), stream).await.map_err(|e| no_tls(to, &e))?;
                let certificate = tolerant.take_note();
                match over_stream(to, written, stream, local, &mut heard).await? {
                    SipEnd::Final { reply, .. } => Ok(SipEnd::Final { reply, certificate }),
                    other => Ok(other),
                }
            }
        }
    };
    match timeout_at(deadline, asked).await {
        Ok(Ok(end) | Err(end)) => end,
        Err(_) => heard.silent(timeout),
    }
}

/// What came before the time-out that was no final answer.
#[derive(Default)]
struct Heard {
    provisional: Option<u16>,
    malformed: Option<String>,
}

impl Heard {
    fn silent(self, after: Duration) -> SipEnd {
        match (self.provisional, self.malformed) {
            (None, Some(why)) => SipEnd::Malformed(why),
            (provisional, _) => SipEnd::Silent { after, provisional },
        }
    }
}

/// Sends at 0, 0.5, 1.5, 3.5, 7.5, … s (RFC 3261 §17.1.2.2, timer E) until a final answer; the caller bounds it.
///
/// The socket is connected, so that datagrams of others are dropped and a received ICMP refusal is seen at once.
async fn over_udp(to: &Endpoint, written: Written<'_>, heard: &mut Heard) -> Result<SipEnd, SipEnd> {
    let socket = UdpSocket::bind(to.own()).await.map_err(|e| to.fault(&e))?;
    socket.connect(to.target).await.map_err(|e| to.fault(&e))?;
    let question = written(socket.local_addr().map_err(|e| to.fault(&e))?).map_err(SipEnd::NotSent)?;
    let mut resend = Resend::default();
    let mut datagram = vec![0_u8; MESSAGE_BYTES_MAX];
    loop {
        socket.send(&question.bytes).await.map_err(|e| to.fault(&e))?;
        let again_at = Instant::now() + resend.pause(heard.provisional.is_some());
        while let Ok(received) = timeout_at(again_at, socket.recv(&mut datagram)).await {
            let length = received.map_err(|e| to.fault(&e))?;
            match Incoming::from_datagram(&datagram[..length]) {
                Ok(Incoming::Reply(reply)) if !question.is_answered_by(&reply) => {}
                Ok(Incoming::Reply(reply)) if reply.is_final() => return Ok(SipEnd::answered(reply)),
                Ok(Incoming::Reply(reply)) => heard.provisional = Some(reply.code),
                Ok(Incoming::Request(_) | Incoming::Fault(_)) => {}
                Err(why) => heard.malformed = Some(why),
            }
        }
    }
}

/// Sends once: a stream carries it or breaks (RFC 3261 §17.1.2.2: no timer E).
async fn over_stream<S: AsyncRead + AsyncWrite + Unpin>(
    to: &Endpoint,
    written: Written<'_>,
    mut stream: S,
    local: SocketAddr,
    heard: &mut Heard,
) -> Result<SipEnd, SipEnd> {
    let question = written(local).map_err(SipEnd::NotSent)?;
    stream.write_all(&question.bytes).await.map_err(|e| to.fault(&e))?;
    stream.flush().await.map_err(|e| to.fault(&e))?;
    let mut frames = Frames::default();
    let mut bytes = [0_u8; 4096];
    let mut taken = 0;
    loop {
        let length = stream.read(&mut bytes).await.map_err(|e| to.fault(&e))?;
        if length == 0 {
            return Err(SipEnd::Refused("connection closed without an answer".to_owned()));
        }
        taken += length;
        if taken > MESSAGE_BYTES_MAX {
            return Err(SipEnd::Malformed(format!("more than {MESSAGE_BYTES_MAX} bytes without an answer")));
        }
        for message in frames.push(&bytes[..length]).map_err(SipEnd::Malformed)? {
            let Incoming::Reply(reply) = message else { continue };
            if !question.is_answered_by(&reply) {
                continue;
            }
            if reply.is_final() {
                return Ok(SipEnd::answered(reply));
            }
            heard.provisional = Some(reply.code);
        }
    }
}

fn no_tls(to: &Endpoint, error: &io::Error) -> SipEnd {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls_error @ rustls::Error::InvalidCertificate(_)) => SipEnd::Refused(trouble(rustls_error)),
        Some(rustls_error) => SipEnd::Refused(format!("no TLS: {rustls_error}")),
        None => to.fault(error),
    }
}
