//! A conversation with Asterisk's manager interface: connect, log in, wait until it has booted, ask.
//!
//! One connection for each conversation: a login costs a millisecond or two, and a connection that is kept would have to
//! be watched, and would tell of every call meanwhile. Nothing is sent before the server has greeted as Asterisk does,
//! so that the password reaches nobody else. Each wait has an end. What answers mean is for [`super`].

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::config::{AmiCover, AmiPlace, Secret};
use crate::host::pinned::Pinned;
use crate::host::{reach, secret, tls, tolerant};
use crate::units::StepOutcome;
use crate::wire::ami::{self, Decoder, Malformed, Packet, Part};

/// How long it may take to connect and be greeted: Asterisk greets at once, unless it hangs.
const GREETING_LIMIT: Duration = Duration::from_secs(3);

/// How long an answer may take; a list of some thousand endpoints takes a tenth of it.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// More packets are not waited for: twice as many as endpoints fit into `pjsip.conf`.
const PACKETS_MAX: usize = 1_000_000;

/// Events that came while an answer was awaited.
const EVENTS_MAX: usize = 100;

/// Where it is read in pieces of.
const READ_BYTES: usize = 16 * 1024;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why there is no answer; one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody is there, or whoever is does not speak.
    Absent(String),
    /// It is there and does not speak.
    Hangs(String),
    /// It cannot be asked as the settings have it: waiting does not help.
    Settings(String),
    /// It answered no.
    Refused(String),
    /// It was asked, and the answer is lost.
    Lost(String),
}

impl Trouble {
    /// As the outcome of a step.
    pub fn outcome(self) -> StepOutcome {
        match self {
            Self::Lost(why) => StepOutcome::Unknown(why),
            Self::Absent(why) | Self::Hangs(why) | Self::Settings(why) | Self::Refused(why) => StepOutcome::Failed(why),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Absent(why) | Self::Hangs(why) | Self::Settings(why) | Self::Refused(why) | Self::Lost(why)) = self;
        f.write_str(why)
    }
}

/// Who is asked, and as whom.
#[derive(Debug, Clone)]
pub struct Manager {
    place: AmiPlace,
    pub(super) username: String,
    pub(super) password: Secret,
}

impl Manager {
    /// The manager at `place`.
    pub fn new(place: AmiPlace, username: String, password: Secret) -> Self {
        Self { place, username, password }
    }

    /// How people call it.
    pub fn name(&self) -> String {
        let AmiPlace { host, port, cover } = &self.place;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        match cover {
            AmiCover::Plain => format!("AMI at {host}:{port}"),
            AmiCover::Tls | AmiCover::Pinned(_) => format!("AMI at tls://{host}:{port}"),
        }
    }

    /// A conversation with an Asterisk that has fully booted before `deadline`.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn open(&self, deadline: Instant) -> Result<Session, Trouble> {
        let password =
            secret::read(&self.password).map_err(|why| Trouble::Settings(format!("{}: {why}", self.name())))?;
        let greeted_by = deadline.min(Instant::now() + GREETING_LIMIT);
        let stream = self.connect(greeted_by).await?;
        let mut session = Session::over(self.name(), stream);
        self.greeted(&mut session, greeted_by).await?;
        let login = [("Username", self.username.as_str()), ("Secret", password.expose_secret()), ("Events", "system")];
        // Asterisk waits for a second before it refuses a login.
        match session.ask("Login", &login, |_| {}).await {
            Ok(_) => {}
            Err(Trouble::Refused(said)) => {
                let name = self.name();
                return Err(Trouble::Settings(format!(
                    "{name} does not take the user {}: {said}; compare pbx.driver.asterisk.username and password with \
                     its section, and its permit lines, in manager.conf",
                    self.username
                )));
            }
            Err(other) => return Err(other),
        }
        let booted = session.event(deadline, |packet| packet.is_event("FullyBooted")).await?;
        if booted.is_none() {
            return Err(Trouble::Absent(format!(
                "{} takes the login, but has not said that it is fully booted; it may still be starting, or its user \
                 needs `read = system` in manager.conf",
                self.name()
            )));
        }
        Ok(session)
    }

    async fn connect(&self, deadline: Instant) -> Result<Box<dyn Stream>, Trouble> {
        let AmiPlace { host, port, cover } = &self.place;
        let tcp = match timeout_at(deadline, TcpStream::connect((host.as_str(), *port))).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => {
                return Err(Trouble::Absent(format!(
                    "{}: {}; see whether it runs, `enabled`, `port` and `bindaddr` in manager.conf, and \
                     pbx.driver.asterisk.ami",
                    self.name(),
                    reach::phrase(&error)
                )));
            }
            Err(_) => return Err(Trouble::Absent(format!("{}: no connection in time", self.name()))),
        };
        let settings = |why: String| Trouble::Settings(format!("{}: {why}", self.name()));
        let config = match cover {
            AmiCover::Plain => return Ok(Box::new(tcp)),
            AmiCover::Tls => tls::client(None).map_err(settings)?,
            AmiCover::Pinned(file) => Pinned::read(file).and_then(|pinned| pinned.client()).map_err(settings)?,
        };
        let server = tolerant::server_name(host).map_err(settings)?;
        match timeout_at(deadline, TlsConnector::from(Arc::new(config)).connect(server, tcp)).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(self.no_tls(&error)),
            Err(_) => {
                Err(Trouble::Hangs(format!("{}: the TLS handshake does not end; see whether it hangs", self.name())))
            }
        }
    }

    fn no_tls(&self, error: &io::Error) -> Trouble {
        let name = self.name();
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidMessage(_)) => Trouble::Settings(format!(
                "{name} does not speak TLS there; write pbx.driver.asterisk.ami without tls://, or the port of tlsbindaddr"
            )),
            Some(error @ rustls::Error::InvalidCertificate(_)) => Trouble::Settings(format!(
                "{name}: {}; pin it with pbx.driver.asterisk.certificate: {{file: PATH}}",
                tolerant::trouble(error)
            )),
            Some(error) => Trouble::Settings(format!("{name}: no TLS: {error}; see its tlscertfile and tlsprivatekey")),
            None => Trouble::Absent(format!("{name}: {}", reach::phrase(error))),
        }
    }

    async fn greeted(&self, session: &mut Session, deadline: Instant) -> Result<(), Trouble> {
        let name = self.name();
        loop {
            match session.decoder.greeting() {
                Some(Ok(_version)) => return Ok(()),
                Some(Err(other)) => {
                    let said = if other.is_empty() { "something else".to_owned() } else { format!("\"{other}\"") };
                    return Err(Trouble::Settings(format!(
                        "{name} is not Asterisk's manager: it greets with {said}; correct pbx.driver.asterisk.ami"
                    )));
                }
                None => {}
            }
            match session.read(deadline).await {
                Ok(true) => {}
                Ok(false) => {
                    let why = match self.place.cover {
                        AmiCover::Plain => "Asterisk hangs, or this is its TLS port (then write tls://)",
                        AmiCover::Tls | AmiCover::Pinned(_) => "Asterisk hangs",
                    };
                    return Err(Trouble::Hangs(format!("{name} accepts, and does not greet: {why}")));
                }
                Err(_) => {
                    let why = "closes the connection without a greeting; see authlimit, and the limits of its process";
                    return Err(Trouble::Absent(format!("{name} {why}")));
                }
            }
        }
    }
}

/// A conversation.
pub struct Session {
    name: String,
    stream: Box<dyn Stream>,
    decoder: Decoder,
    /// What is read into; the decoder keeps what it needs.
    chunk: Vec<u8>,
    asked: u32,
    /// What came unasked, the oldest first.
    events: Vec<Packet>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Session {
    fn over(name: String, stream: Box<dyn Stream>) -> Self {
        let (decoder, chunk) = (Decoder::default(), vec![0; READ_BYTES]);
        Self { name, stream, decoder, chunk, asked: 0, events: Vec::new() }
    }

    /// One that was greeted and let in, for tests.
    #[cfg(test)]
    pub fn of(stream: tokio::io::DuplexStream) -> Self {
        Self::over("AMI at 127.0.0.1:5038".to_owned(), Box::new(stream))
    }

    /// Asks; `item` is given each event of a list. The answer is its first packet, or the end of its list.
    ///
    /// # Errors
    /// [`Trouble::Refused`] with its message, or that the answer is lost.
    pub async fn ask(
        &mut self,
        action: &str,
        fields: &[(&str, &str)],
        mut item: impl FnMut(&Packet),
    ) -> Result<Packet, Trouble> {
        self.asked += 1;
        let id = self.asked.to_string();
        let Some(bytes) = ami::action(action, &id, fields) else {
            return Err(Trouble::Settings(format!("{}: a value for {action} holds a line end; correct it", self.name)));
        };
        let deadline = Instant::now() + ANSWER_LIMIT;
        let lost = |name: &str, why: &str| Trouble::Lost(format!("{name} did not answer {action}: {why}"));
        match timeout_at(deadline, self.stream.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(lost(&self.name, &reach::phrase(&error))),
            Err(_) => return Err(lost(&self.name, "it reads nothing; it may hang")),
        }
        for _ in 0..PACKETS_MAX {
            let packet = match self.packet(deadline).await {
                Ok(Some(packet)) => packet,
                Ok(None) => {
                    return Err(lost(&self.name, &format!("nothing in {ANSWER_LIMIT:?}; it may hang, see its log")));
                }
                Err(why) => return Err(lost(&self.name, &why)),
            };
            if !packet.answers(&id) {
                self.keep(packet);
                continue;
            }
            match packet.part() {
                Part::First => {}
                Part::Item => item(&packet),
                Part::Whole | Part::Last => return Ok(packet),
                Part::Error => return Err(Trouble::Refused(self.refusal(action, &ami::shown(packet.text("Message"))))),
            }
        }
        Err(lost(&self.name, "its list does not end"))
    }

    /// The first event that is `wanted`, of those that came already or come before `deadline`; `None` when none came.
    ///
    /// # Errors
    /// When the conversation has ended.
    pub async fn event(
        &mut self,
        deadline: Instant,
        wanted: impl Fn(&Packet) -> bool,
    ) -> Result<Option<Packet>, Trouble> {
        if let Some(at) = self.events.iter().position(&wanted) {
            return Ok(Some(self.events.remove(at)));
        }
        loop {
            match self.packet(deadline).await {
                Ok(Some(packet)) if wanted(&packet) => return Ok(Some(packet)),
                Ok(Some(packet)) => self.keep(packet),
                Ok(None) => return Ok(None),
                Err(why) => return Err(Trouble::Lost(format!("{}: {why}", self.name))),
            }
        }
    }

    fn keep(&mut self, packet: Packet) {
        if self.events.len() >= EVENTS_MAX {
            self.events.remove(0);
        }
        self.events.push(packet);
    }

    /// What a refusal means, and what to do. Its words are those of Asterisk 16 and 22.
    fn refusal(&self, action: &str, said: &str) -> String {
        if action == "Login" {
            return said.to_lowercase();
        }
        let name = &self.name;
        if said.contains("Permission denied") {
            format!("{name} does not permit {action}; give its user `write = system` in manager.conf")
        } else if said.starts_with("Invalid/unknown command") {
            let module = match action {
                "PJSIPRegister" | "PJSIPUnregister" | "PJSIPShowRegistrationsOutbound" => {
                    "res_pjsip_outbound_registration.so"
                }
                _ => "res_pjsip.so",
            };
            format!("{name} knows no {action}; load {module} (Asterisk 13.3 or newer), or use pbx.driver.systemd")
        } else {
            format!("{name} refuses {action}: {said}")
        }
    }

    /// The next packet; `None` when there is none before `deadline`.
    async fn packet(&mut self, deadline: Instant) -> Result<Option<Packet>, String> {
        loop {
            match self.decoder.packet() {
                Some(Ok(packet)) => return Ok(Some(packet)),
                Some(Err(malformed)) => return Err(malformed.to_string()),
                None => {}
            }
            if !self.read(deadline).await? {
                return Ok(None);
            }
        }
    }

    /// Reads once; whether something came before `deadline`.
    async fn read(&mut self, deadline: Instant) -> Result<bool, String> {
        match timeout_at(deadline, self.stream.read(&mut self.chunk)).await {
            Err(_) => Ok(false),
            Ok(Ok(0)) => Err("it closed the connection".to_owned()),
            Ok(Ok(length)) => {
                self.decoder.push(&self.chunk[..length]).map_err(|malformed: Malformed| malformed.to_string())?;
                Ok(true)
            }
            Ok(Err(error)) => Err(reach::phrase(&error)),
        }
    }
}
