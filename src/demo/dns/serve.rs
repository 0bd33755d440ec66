//! Carries requests and answers over UDP and TCP (RFC 7766) at one loopback address, until its task is dropped.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::authority::{Authority, Transport};
use crate::adapters::dns::wire::MESSAGE_BYTES_MAX;
use crate::host::clock;

/// Most TCP connections at once; the next one waits. A robot has a handful, and each may take 64 KiB twice.
pub const CONNECTIONS_MAX: usize = 64;

/// How long a connection may stay silent, or take for a request or an answer: some seconds (RFC 7766 §6.2.3).
pub const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The pause after the system refused something (no more files), so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// How often a port is looked for that is free for UDP as well as for TCP.
const BIND_TRIES_MAX: u32 = 20;

/// Sockets that are open and not yet served.
#[derive(Debug)]
pub struct Server {
    tcp: TcpListener,
    udp: UdpSocket,
    address: SocketAddr,
}

impl Server {
    /// Listens at a loopback address; port 0 takes one that is free.
    ///
    /// # Errors
    /// The address is not loopback, or the system's reason.
    pub async fn bind(address: SocketAddr) -> Result<Self, Error> {
        if !address.ip().is_loopback() {
            return Err(Error::new(ErrorKind::InvalidInput, format!("{address} is no loopback address")));
        }
        let mut tries = 1;
        loop {
            let tcp = TcpListener::bind(address).await?;
            let chosen = tcp.local_addr()?;
            match UdpSocket::bind(chosen).await {
                Ok(udp) => return Ok(Self { tcp, udp, address: chosen }),
                Err(_) if address.port() == 0 && tries < BIND_TRIES_MAX => tries += 1,
                Err(e) => return Err(e),
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the task is dropped, and every connection with it.
    pub async fn serve(self, authority: Arc<Mutex<Authority>>) {
        let mut connections = JoinSet::new();
        let mut datagram = vec![0; MESSAGE_BYTES_MAX];
        loop {
            tokio::select! {
                received = self.udp.recv_from(&mut datagram) => match received {
                    Ok((length, client)) => {
                        if let Some(answer) = answer(&authority, &datagram[..length], Transport::Udp) {
                            // Lost like any datagram; the client asks again.
                            let _ = self.udp.send_to(&answer, client).await;
                        }
                    }
                    Err(_) => sleep(PAUSE).await,
                },
                accepted = self.tcp.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(converse(stream, authority.clone()))),
                    Err(_) => sleep(PAUSE).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// Answers requests in their order until the client ends, falls silent, or does not take an answer.
async fn converse(mut stream: TcpStream, authority: Arc<Mutex<Authority>>) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    loop {
        let request = timeout(SILENCE_MAX, async {
            let mut request = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut request).await?;
            Ok::<_, Error>(request)
        });
        let request = request.await??;
        let Some(answer) = answer(&authority, &request, Transport::Tcp) else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(Error::other)?;
        timeout(SILENCE_MAX, stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())).await??;
    }
}

fn answer(authority: &Mutex<Authority>, request: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let now_s = u64::try_from(clock::now().wall.as_second()).unwrap_or(0);
    // The zone is replaced whole or not at all, so it is sound even after a panic.
    authority.lock().unwrap_or_else(PoisonError::into_inner).answer(request, transport, now_s)
}
