//! The CLI's end of the control socket. It tells apart: nobody answers, not allowed, and not known what came of it.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::routes::{ANSWER_TIME_MAX, Problem};
use crate::host::tls;
use crate::units::operator::{Command, Reply};

/// How long an answer may take: the server's own time-out and some.
const TIME_MAX: Duration = Duration::from_secs(ANSWER_TIME_MAX.as_secs() * 2);

/// Largest answer that is read: a thousand long lines of history.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Exit code 4.
    #[error("no daemon answers at {0}; start it (systemctl start pbx-failover), or give its --config or --control")]
    NoDaemon(PathBuf),
    /// The socket is for its owner and group.
    #[error("not allowed to use {0}; run it with sudo, or join the group that owns the socket")]
    NotAllowed(PathBuf),
    /// Asked, and no answer came: a command may have been accepted. Exit code 6.
    #[error("the daemon at {0} did not answer in time, the outcome is not known; look at `pbx-failover status`")]
    TimedOut(PathBuf),
    /// It says what is wrong.
    #[error("{0}; {1}")]
    Told(String, String),
    /// It is not this program that answers, or a very different version of it.
    #[error("cannot read the answer of {socket}: {why}; is it the same version of pbx-failover?")]
    Garbled {
        /// Where.
        socket: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// A client of one control socket.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    socket: PathBuf,
}

impl Client {
    /// Connects at each question, not here.
    ///
    /// # Errors
    /// When the system has no means for a client at all.
    pub fn new(socket: &Path) -> Result<Self, AskError> {
        let told = |why: String| AskError::Told(format!("no HTTP client: {why}"), "see the system's limits".to_owned());
        // The socket needs no TLS. Left to itself the client would load the system's roots, and refuse to be made on a
        // host without any (Debian without ca-certificates).
        let tls = tls::client_without_roots().map_err(told)?;
        let builder = reqwest::Client::builder().unix_socket(socket).timeout(TIME_MAX).tls_backend_preconfigured(tls);
        let http = builder.build().map_err(|error| told(error.to_string()))?;
        Ok(Self { http, socket: socket.to_owned() })
    }

    /// Asks for what stands at a path (`/v1/status`).
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        let (status, body) = self.send(self.http.get(url(path))).await?;
        if status.is_success() { self.read(&body) } else { Err(self.problem(status, &body)) }
    }

    /// Says a command, with the person's reason.
    ///
    /// # Errors
    /// Why there is no answer; [`Reply::Refused`] is one.
    pub async fn post(&self, command: &Command, reason: &str) -> Result<Reply, AskError> {
        let garbled = |why: serde_json::Error| AskError::Garbled { socket: self.socket.clone(), why: why.to_string() };
        let mut body = serde_json::to_value(command).map_err(garbled)?;
        if let Value::Object(fields) = &mut body {
            // The path names the command.
            fields.remove("command");
            fields.insert("reason".to_owned(), reason.into());
        }
        let path = format!("/v1/{}", command.name());
        let (status, answer) = self.send(self.http.post(url(&path)).json(&body)).await?;
        match status {
            reqwest::StatusCode::ACCEPTED => self.read(&answer),
            reqwest::StatusCode::CONFLICT => self.read(&answer).map(|problem: Problem| Reply::Refused(problem.error)),
            _ => Err(self.problem(status, &answer)),
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<(reqwest::StatusCode, Vec<u8>), AskError> {
        let mut response = request.send().await.map_err(|error| self.no_answer(&error))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.no_answer(&error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                let why = format!("it is longer than {ANSWER_BYTES_MAX} bytes");
                return Err(AskError::Garbled { socket: self.socket.clone(), why });
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status(), body))
    }

    fn no_answer(&self, error: &reqwest::Error) -> AskError {
        let socket = self.socket.clone();
        match cause(error) {
            Some(io::ErrorKind::PermissionDenied) => AskError::NotAllowed(socket),
            _ if error.is_connect() && !error.is_timeout() => AskError::NoDaemon(socket),
            // It hangs, or it ended with our question in its hands.
            _ => AskError::TimedOut(socket),
        }
    }

    fn problem(&self, status: reqwest::StatusCode, body: &[u8]) -> AskError {
        if status == reqwest::StatusCode::GATEWAY_TIMEOUT {
            return AskError::TimedOut(self.socket.clone());
        }
        match self.read::<Problem>(body) {
            Ok(problem) => AskError::Told(problem.error, problem.hint),
            Err(_) => AskError::Garbled { socket: self.socket.clone(), why: format!("HTTP status {status}") },
        }
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, AskError> {
        let garbled = |why: serde_json::Error| AskError::Garbled { socket: self.socket.clone(), why: why.to_string() };
        serde_json::from_slice(body).map_err(garbled)
    }
}

fn url(path: &str) -> String {
    // The host is never looked up: every connection goes to the socket.
    format!("http://control{path}")
}

fn cause(error: &reqwest::Error) -> Option<io::ErrorKind> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        next = error.source();
    }
    None
}
