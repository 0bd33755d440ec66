//! Connections under TLS, bounded in time and number; a newcomer is never kept out by those who say nothing.
//!
//! The handshake is done when the connection is read, not when it is accepted, so that a slow one holds up nobody. When
//! all places are taken, the oldest connection that has not shown the token makes room.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept as Handshake, TlsAcceptor};

use crate::control::door::{Accept, Bounded};

/// Connections at once. Two or three hosts ask; the rest is room for strangers to waste.
pub const AGENT_CONNECTIONS_MAX: usize = 128;

/// A handshake may take so long.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// After a failed accept (no descriptor left, for instance) wait so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its address.
    pub by: String,
    shown: Arc<AtomicBool>,
}

impl Caller {
    /// It has shown the token: it is not thrown out for a newcomer while others are there.
    pub fn has_shown_the_token(&self) {
        self.shown.store(true, Ordering::Relaxed);
    }
}

/// Accepts for ever.
pub struct Secured {
    from: TcpListener,
    tls: TlsAcceptor,
    room: Arc<Semaphore>,
    inside: VecDeque<Inside>,
}

/// A connection that may still be open; dropped, it ends.
struct Inside {
    shown: Arc<AtomicBool>,
    hold: oneshot::Sender<Infallible>,
}

impl Secured {
    pub fn new(from: TcpListener, tls: TlsAcceptor) -> Self {
        Self { from, tls, room: Arc::new(Semaphore::new(AGENT_CONNECTIONS_MAX)), inside: VecDeque::new() }
    }

    fn make_room(&mut self) {
        self.inside.retain(|inside| !inside.hold.is_closed());
        if self.inside.len() >= AGENT_CONNECTIONS_MAX {
            let stranger = self.inside.iter().position(|inside| !inside.shown.load(Ordering::Relaxed));
            self.inside.remove(stranger.unwrap_or(0));
        }
    }
}

impl Listener for Secured {
    type Io = Bounded<Shaking>;
    type Addr = Caller;

    async fn accept(&mut self) -> (Self::Io, Caller) {
        loop {
            match Accept::next(&mut self.from).await {
                Ok((stream, peer)) => {
                    self.make_room();
                    // A place is free, or becomes free as soon as the connection that made room has heard of it.
                    let permit = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
                    let (hold, thrown_out) = oneshot::channel();
                    let shown = Arc::new(AtomicBool::new(false));
                    self.inside.push_back(Inside { shown: Arc::clone(&shown), hold });
                    let shaking = Shaking {
                        state: State::Handshake(
                            Box::new(self.tls.accept(stream)),
                            Box::pin(tokio::time::sleep(HANDSHAKE_MAX)),
                        ),
                        thrown_out,
                    };
                    return (Bounded::new(shaking, permit), Caller { by: peer.by, shown });
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Caller> {
        Ok(Caller { by: "this socket".to_owned(), shown: Arc::default() })
    }
}

impl Connected<IncomingStream<'_, Secured>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Secured>) -> Self {
        stream.remote_addr().clone()
    }
}

/// A connection whose handshake is done on the way.
pub struct Shaking {
    state: State,
    thrown_out: oneshot::Receiver<Infallible>,
}

enum State {
    Handshake(Box<Handshake<TcpStream>>, Pin<Box<Sleep>>),
    Open(Box<TlsStream<TcpStream>>),
    Over,
}

impl Shaking {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut TlsStream<TcpStream>>>> {
        // A receiver that has answered must not be asked again.
        if !matches!(self.state, State::Over) && Pin::new(&mut self.thrown_out).poll(cx).is_ready() {
            self.state = State::Over;
        }
        if let State::Handshake(handshake, end) = &mut self.state {
            if end.as_mut().poll(cx).is_ready() {
                self.state = State::Over;
            } else {
                match ready!(Pin::new(handshake).poll(cx)) {
                    Ok(stream) => self.state = State::Open(Box::new(stream)),
                    Err(error) => {
                        self.state = State::Over;
                        return Poll::Ready(Err(error));
                    }
                }
            }
        }
        Poll::Ready(match &mut self.state {
            State::Open(stream) => Ok(Pin::new(stream.as_mut())),
            State::Handshake(..) | State::Over => Err(io::ErrorKind::ConnectionAborted.into()),
        })
    }
}

impl AsyncRead for Shaking {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Shaking {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Open(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            // There is nothing to take leave of.
            State::Handshake(..) | State::Over => Poll::Ready(Ok(())),
        }
    }
}
