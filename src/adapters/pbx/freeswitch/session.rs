//! A conversation with FreeSWITCH over its event socket: the way in, one question at a time, and one line of advice
//! for each trouble.
//!
//! Each conversation has a connection of its own: the questions are few, and a connection that is kept would have to
//! be watched. What is asked is in the driver, the format in [`crate::wire::esl`].

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::KEY;
use crate::config::Secret;
use crate::host::secret;
use crate::units::StepOutcome;
use crate::wire::esl::{self, Frame, Kind, STOCK_PASSWORD};

/// How long the way in may take: our own host, as a rule.
const OPEN_LIMIT: Duration = Duration::from_secs(3);

/// How long an answer may take: `rescan` reads the whole configuration and looks names up.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// More frames than this before an answer are not ours: nothing was subscribed to.
const STRANGE_FRAMES_MAX: usize = 16;

/// What kept an answer from us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// One line: what, and what to do.
    pub line: String,
    asked: Asked,
}

impl Trouble {
    /// Nobody is there, or says a word: what is wrong is FreeSWITCH, and not how it is asked.
    pub fn is_silence(&self) -> bool {
        self.asked == Asked::Silence
    }
}

/// Whether the question had left when the trouble came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// It had not: nothing was done.
    No,
    /// It had not, because nobody is there, or says a word.
    Silence,
    /// It had: it may have been done.
    Perhaps,
}

impl From<Trouble> for StepOutcome {
    fn from(trouble: Trouble) -> Self {
        match trouble.asked {
            Asked::No | Asked::Silence => Self::Failed(trouble.line),
            Asked::Perhaps => Self::Unknown(trouble.line),
        }
    }
}

/// Where FreeSWITCH is asked.
#[derive(Debug, Clone)]
pub struct Esl {
    place: SocketAddr,
    password: Secret,
    answer_limit: Duration,
}

impl Esl {
    /// At this place with this password.
    pub fn new(place: SocketAddr, password: Secret) -> Self {
        Self { place, password, answer_limit: ANSWER_LIMIT }
    }

    /// The same with less patience for answers, for tests.
    pub fn with_answer_limit(mut self, limit: Duration) -> Self {
        self.answer_limit = limit;
        self
    }

    /// The password, read now.
    ///
    /// # Errors
    /// One line; also for the stock password, which is never sent.
    fn password(&self) -> Result<secrecy::SecretString, String> {
        let password = secret::read(&self.password).map_err(|why| format!("{KEY}.password: {why}"))?;
        match password.expose_secret() {
            STOCK_PASSWORD => Err(format!(
                "{KEY}.password is the stock password, which everybody knows; write another one into event_socket.conf.xml \
                 and here"
            )),
            text if text.chars().any(char::is_control) => {
                Err(format!("{KEY}.password holds a line end or another control character; write it as one line"))
            }
            _ => Ok(password),
        }
    }

    /// Begins a conversation.
    ///
    /// # Errors
    /// One line of advice; nothing was asked yet.
    pub async fn open(&self) -> Result<Session, Trouble> {
        let not_asked = |line| Trouble { line, asked: Asked::No };
        let password = self.password().map_err(not_asked)?;
        let silence = |line| Trouble { line, asked: Asked::Silence };
        let place = self.place;
        let entering = async {
            let stream = TcpStream::connect(place).await.map_err(|error| {
                silence(format!(
                    "no event socket at {place}: {error}; see listen-ip and listen-port in event_socket.conf.xml, and \
                     whether FreeSWITCH runs"
                ))
            })?;
            self.enter(stream, &password).await.map_err(not_asked)
        };
        timeout(OPEN_LIMIT, entering).await.unwrap_or_else(|_| {
            Err(silence(format!(
                "{place} says nothing within {OPEN_LIMIT:?}: FreeSWITCH hangs, or {KEY}.esl is another program's port"
            )))
        })
    }

    async fn enter(&self, stream: TcpStream, password: &secrecy::SecretString) -> Result<Session, String> {
        let place = self.place;
        let mut session = Session { stream, bytes: Vec::new(), place, answer_limit: self.answer_limit };
        match session.frame().await?.kind {
            Kind::AuthRequest => {}
            Kind::RudeRejection => {
                return Err(format!(
                    "the event socket at {place} refuses this address; let apply-inbound-acl in event_socket.conf.xml allow it"
                ));
            }
            _ => return Err(no_event_socket(place, "no auth/request")),
        }
        let Some(command) = esl::command(&format!("auth {}", password.expose_secret())) else {
            return Err(format!("{KEY}.password is longer than a command may be; write a shorter one"));
        };
        session.stream.write_all(&command).await.map_err(|error| format!("the event socket at {place}: {error}"))?;
        match session.frame().await? {
            Frame { kind: Kind::CommandReply, reply, .. } if reply.starts_with("+OK") => Ok(session),
            _ => Err(format!(
                "the event socket at {place} refuses the password; {KEY}.password must be the one in event_socket.conf.xml, \
                 read anew by `reload mod_event_socket`"
            )),
        }
    }
}

/// A conversation that has been let in.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    bytes: Vec<u8>,
    place: SocketAddr,
    answer_limit: Duration,
}

impl Session {
    /// Asks and hears the answer, whatever it says.
    ///
    /// # Errors
    /// One line of advice.
    pub async fn api(&mut self, command: &str) -> Result<String, Trouble> {
        let Some(bytes) = esl::command(&format!("api {command}")) else {
            let line = format!("`{command}` is no command; a name in {KEY} or pbx.trunks is no name");
            return Err(Trouble { line, asked: Asked::No });
        };
        let limit = self.answer_limit;
        let perhaps = |line| Trouble { line, asked: Asked::Perhaps };
        let asking = async {
            self.stream.write_all(&bytes).await.map_err(|error| format!("the event socket: {error}"))?;
            for _ in 0..STRANGE_FRAMES_MAX {
                match self.frame().await? {
                    Frame { kind: Kind::ApiResponse, body, .. } => return Ok(body),
                    Frame { kind: Kind::CommandReply, reply, .. } => {
                        return Err(format!(
                            "the event socket does not obey `{command}` ({reply}); let its user do that (esl-allowed-api)"
                        ));
                    }
                    Frame { kind: Kind::DisconnectNotice, .. } => {
                        return Err(format!("FreeSWITCH hung up on `{command}`; see whether it runs"));
                    }
                    _ => {}
                }
            }
            Err(format!("no answer to `{command}` among {STRANGE_FRAMES_MAX} others; see {KEY}.esl"))
        };
        match timeout(limit, asking).await {
            Ok(answer) => {
                let answer = answer.map_err(perhaps)?;
                if answer.trim_end().ends_with("Command not found!") {
                    let program = command.split(' ').next().unwrap_or_default();
                    let line = format!(
                        "FreeSWITCH does not know `{program}`; load the module that brings it (mod_sofia, mod_commands)"
                    );
                    return Err(Trouble { line, asked: Asked::No });
                }
                Ok(answer)
            }
            Err(_) => Err(perhaps(format!("no answer to `{command}` within {limit:?}; see whether FreeSWITCH hangs"))),
        }
    }

    /// As [`Session::api`] of something that must be answered with `good` in it.
    ///
    /// # Errors
    /// The outcome of a step that cannot go on, with advice.
    pub async fn obeyed(&mut self, command: &str, good: &str) -> Result<(), StepOutcome> {
        let answer = self.api(command).await?;
        if answer.contains(good) {
            return Ok(());
        }
        let last = answer.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").trim();
        let last: String = last.chars().filter(|c| !c.is_control()).take(120).collect();
        Err(StepOutcome::Failed(format!("`{command}` was answered \"{last}\"; try it in fs_cli")))
    }

    async fn frame(&mut self) -> Result<Frame, String> {
        /// One read; a frame is made of several.
        const READ_BYTES: usize = 4096;
        loop {
            match esl::decode(&self.bytes) {
                Ok(Some((frame, used))) => {
                    self.bytes.drain(..used);
                    return Ok(frame);
                }
                Ok(None) => {}
                Err(why) => return Err(no_event_socket(self.place, &why.to_string())),
            }
            let mut chunk = [0; READ_BYTES];
            match self.stream.read(&mut chunk).await {
                Ok(0) => {
                    return Err(format!("the event socket at {} hung up; see whether FreeSWITCH runs", self.place));
                }
                Ok(count) => self.bytes.extend_from_slice(&chunk[..count]),
                Err(error) => {
                    return Err(format!("the event socket at {}: {error}; see whether FreeSWITCH runs", self.place));
                }
            }
        }
    }
}

fn no_event_socket(place: SocketAddr, why: &str) -> String {
    format!("{place} is no event socket of FreeSWITCH ({why}); correct {KEY}.esl")
}
