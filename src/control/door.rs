//! The limits of a connection: how many at once, how long, how many bytes. HTTP itself is hyper's.
//!
//! One connection carries one request (each answer closes it), so that a limit of the connection is a limit of the
//! request, and a slow or endless one ends by itself.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::ask::BODY_BYTES_MAX;

/// Connections at once, per socket; more wait in the system's queue.
pub const CONNECTIONS_MAX: usize = 32;

/// A connection ends after so long, whatever it does: several times what an answer may take.
pub const CONNECTION_TIME_MAX: Duration = Duration::from_secs(30);

/// What a connection may send: a body, and as much again for its head three times over.
pub const CONNECTION_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

/// After a failed accept (no descriptor left, for instance) wait so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// `uid 1000`, or an address; recorded with every command.
    pub by: String,
}

/// Where connections come from.
pub trait Accept: Send + 'static {
    /// The connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one.
    fn next(&mut self) -> impl Future<Output = io::Result<(Self::Io, Peer)>> + Send;
}

impl Accept for UnixListener {
    type Io = UnixStream;

    async fn next(&mut self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = UnixListener::accept(self).await?;
        let by = match stream.peer_cred() {
            Ok(credentials) => format!("uid {}", credentials.uid()),
            Err(_) => "unknown uid".to_owned(),
        };
        Ok((stream, Peer { by }))
    }
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn next(&mut self) -> io::Result<(TcpStream, Peer)> {
        let (stream, address) = TcpListener::accept(self).await?;
        Ok((stream, Peer { by: address.to_string() }))
    }
}

/// A listener whose connections are limited.
pub struct Limited<A> {
    from: A,
    room: Arc<Semaphore>,
}

impl<A: Accept> Limited<A> {
    pub fn new(from: A) -> Self {
        Self { from, room: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl<A: Accept> Listener for Limited<A> {
    type Io = Bounded<A::Io>;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Peer) {
        let permit = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.from.next().await {
                Ok((io, peer)) => return (Bounded::new(io, permit), peer),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { by: "this socket".to_owned() })
    }
}

impl<A: Accept> Connected<IncomingStream<'_, Limited<A>>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Limited<A>>) -> Self {
        stream.remote_addr().clone()
    }
}

/// A connection with an end: after its time or its bytes, reading and writing fail.
pub struct Bounded<S> {
    io: S,
    end: Pin<Box<Sleep>>,
    bytes_left: usize,
    _permit: OwnedSemaphorePermit,
}

impl<S> Bounded<S> {
    pub fn new(io: S, permit: OwnedSemaphorePermit) -> Self {
        let end = Box::pin(tokio::time::sleep(CONNECTION_TIME_MAX));
        Self { io, end, bytes_left: CONNECTION_BYTES_MAX, _permit: permit }
    }

    fn over(&mut self, cx: &mut Context<'_>) -> bool {
        self.end.as_mut().poll(cx).is_ready()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        match self.bytes_left.checked_sub(read) {
            Some(left) => {
                self.bytes_left = left;
                polled
            }
            None => Poll::Ready(Err(io::ErrorKind::FileTooLarge.into())),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
