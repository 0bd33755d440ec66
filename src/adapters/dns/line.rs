//! Carries DNS messages over one TCP connection: a u16 length, then the message (RFC 1035 §4.2.2, RFC 7766).
//!
//! Never UDP: a resent UPDATE meets its own effect. Several requests leave at once and are told apart by their ids.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::Limits;
use super::wire::{Fault, Request};

/// Bytes of a DNS header: a shorter message is none.
const HEADER_BYTES: usize = 12;

/// A connection that is opened when needed and dropped at the first fault.
pub struct Line {
    server: SocketAddr,
    limits: Limits,
    stream: Option<TcpStream>,
}

impl Line {
    /// No connection yet.
    pub fn new(server: SocketAddr, limits: Limits) -> Self {
        Self { server, limits, stream: None }
    }

    /// Sends one request that must not be sent twice, and waits for its answer.
    ///
    /// On a new connection: one that the server is just about to end (RFC 7766 §6.2.3) would lose it.
    pub async fn once(&mut self, request: &Request) -> Result<Vec<u8>, Fault> {
        self.stream = None;
        let mut answers = [None];
        self.send_and_wait(&[request], &mut answers).await?;
        let [answer] = answers;
        answer.ok_or(Fault::Closed)
    }

    /// Asks questions, all at once; one by one where the server ends the connection after each answer.
    pub async fn ask(&mut self, requests: &[Request]) -> Result<Vec<Vec<u8>>, Fault> {
        let mut answers: Vec<Option<Vec<u8>>> = vec![None; requests.len()];
        let mut at_once = requests.len();
        self.drop_if_dead();
        loop {
            let fresh = self.stream.is_none();
            let open: Vec<usize> = (0..requests.len()).filter(|i| answers[*i].is_none()).take(at_once).collect();
            if open.is_empty() {
                return Ok(answers.into_iter().flatten().collect());
            }
            let pending: Vec<&Request> = open.iter().map(|i| &requests[*i]).collect();
            let mut got = vec![None; pending.len()];
            let result = self.send_and_wait(&pending, &mut got).await;
            let progress = got.iter().any(Option::is_some);
            for (index, bytes) in open.into_iter().zip(got) {
                answers[index] = bytes;
            }
            match result {
                Ok(()) => self.drop_if_dead(),
                // A round brings an answer, or a fresh connection, or fewer questions at once: so the loop ends.
                Err(Fault::Closed) if progress || !fresh || at_once > 1 => at_once = 1,
                Err(fault) => return Err(fault),
            }
        }
    }

    async fn send_and_wait(&mut self, requests: &[&Request], answers: &mut [Option<Vec<u8>>]) -> Result<(), Fault> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        let deadline = Instant::now() + self.limits.answer;
        let mut frames = Vec::new();
        for request in requests {
            let length = u16::try_from(request.bytes.len()).map_err(|_| Fault::Malformed("too long".to_owned()))?;
            frames.extend_from_slice(&length.to_be_bytes());
            frames.extend_from_slice(&request.bytes);
        }
        timeout_at(deadline, stream.write_all(&frames))
            .await
            .map_err(|_| Fault::AnswerTimeout)?
            .map_err(|_| Fault::Closed)?;
        while answers.iter().any(Option::is_none) {
            // A server that leaves Nagle's algorithm on holds its next answer back until we acknowledge the last, which
            // the kernel would do 40 ms later. The setting does not stick: it is renewed for each answer.
            let _ = rustix::net::sockopt::set_tcp_quickack(&stream, true);
            let bytes = timeout_at(deadline, read_frame(&mut stream)).await.map_err(|_| Fault::AnswerTimeout)??;
            let waiting = |(i, request): &(usize, &&Request)| answers[*i].is_none() && request.is_answered_by(&bytes);
            let index = requests.iter().enumerate().find(waiting).map(|(i, _)| i).ok_or(Fault::Foreign)?;
            answers[index] = Some(bytes);
        }
        self.stream = Some(stream);
        Ok(())
    }

    async fn connect(&self) -> Result<TcpStream, Fault> {
        let stream = timeout(self.limits.connect, TcpStream::connect(self.server))
            .await
            .map_err(|_| Fault::ConnectTimeout)?
            .map_err(|e| match e.kind() {
                ErrorKind::ConnectionRefused => Fault::ConnectRefused,
                ErrorKind::TimedOut => Fault::ConnectTimeout,
                _ => Fault::Unreachable(e.to_string()),
            })?;
        // Without it a request may wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    /// Lets go of a connection that the server has ended, or on which something lies that nobody asked for.
    fn drop_if_dead(&mut self) {
        let mut byte = [0];
        let idle =
            |stream: &TcpStream| matches!(stream.try_read(&mut byte), Err(e) if e.kind() == ErrorKind::WouldBlock);
        if !self.stream.as_ref().is_some_and(idle) {
            self.stream = None;
        }
    }
}

async fn read_frame(stream: &mut TcpStream) -> Result<Vec<u8>, Fault> {
    let length = usize::from(stream.read_u16().await.map_err(|_| Fault::Closed)?);
    if length < HEADER_BYTES {
        return Err(Fault::Malformed(format!("{length} bytes")));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.map_err(|_| Fault::Closed)?;
    Ok(bytes)
}
