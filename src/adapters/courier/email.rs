//! Carries a message to a mail relay by SMTP (RFC 5321).
//!
//! Each receiver is asked for by itself, so that one stale address does not keep the mail from all others. The
//! Message-ID is made from the delivery's key: a mail that was accepted although we never heard so, and is sent
//! again, is recognised as the same.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::transport::smtp::response::Response;
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{Email, MailTls};
use crate::host::http::{self, percent};
use crate::host::{clock, secret, tls};
use crate::ports::{Answer, Courier};
use crate::units::{Delivery, DeliveryOutcome};

use super::bounded::Bounded;

/// Longest subject: with the folding of RFC 2047 it stays readable in every client.
const SUBJECT_CHARS_MAX: usize = 200;

/// The setting for an own CA.
const CA_KEY: &str = "notify.email.ca_file";

/// How long each part may take.
#[derive(Clone, Copy)]
struct Limits {
    /// From the connection to the last receiver.
    talk: Duration,
    /// The message itself. RFC 5321 §4.5.3.2.6 asks for ten minutes; a second mail with the same Message-ID is
    /// the smaller harm than an alarm that waits so long.
    data: Duration,
    /// The farewell, which nothing depends on.
    quit: Duration,
}

const LIMITS: Limits =
    Limits { talk: Duration::from_secs(30), data: Duration::from_secs(60), quit: Duration::from_millis(500) };

/// Carries messages to one relay.
pub struct EmailCourier {
    email: Email,
    from: Mailbox,
    to: Vec<Mailbox>,
    limits: Limits,
}

/// Why one attempt ended early.
enum Stop {
    Retry(String),
    Rejected(String),
}

type Step<T> = Result<T, Stop>;

impl EmailCourier {
    /// Makes it ready.
    ///
    /// # Errors
    /// One line that names the address that is none.
    pub fn new(email: &Email) -> Result<Self, String> {
        let mailbox = |text: &String| {
            text.parse::<Mailbox>()
                .map_err(|error| format!("{text:?} is no mail address ({error}); write name@example.com"))
        };
        let to = email.to.iter().map(mailbox).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { email: email.clone(), from: mailbox(&email.from)?, to, limits: LIMITS })
    }

    async fn attempt(&self, delivery: &Delivery) -> DeliveryOutcome {
        match self.carry(delivery).await {
            Ok(line) => DeliveryOutcome::Accepted(line),
            Err(Stop::Retry(line)) => DeliveryOutcome::Retry(line),
            Err(Stop::Rejected(line)) => DeliveryOutcome::Rejected(line),
        }
    }

    async fn carry(&self, delivery: &Delivery) -> Step<String> {
        let message = self.message(delivery).map_err(Stop::Rejected)?;
        let place = self.place();
        let late = |limit: Duration| format!("{place} did not answer within {limit:?}");
        let talk = tokio::time::timeout(self.limits.talk, self.talk());
        let (mut connection, refused) = talk.await.map_err(|_| Stop::Retry(late(self.limits.talk)))??;
        let message = message.formatted();
        let data = tokio::time::timeout(self.limits.data, connection.message(&message));
        let response = data
            .await
            .map_err(|_| Stop::Retry(format!("{}; it may have been accepted", late(self.limits.data))))?
            .map_err(|error| self.refused(&error))?;
        self.expect(250, &response)?;
        let _ = tokio::time::timeout(self.limits.quit, connection.quit()).await;
        let not_to = if refused.is_empty() { String::new() } else { format!("; not to {}", refused.join(", ")) };
        Ok(format!("{}{not_to}", said(&response)))
    }

    /// Connects, logs in, names sender and receivers, until the relay waits for the message.
    async fn talk(&self) -> Step<(AsyncSmtpConnection, Vec<String>)> {
        let mut connection = self.connect().await?;
        self.log_in(&mut connection).await?;
        let mut parameters = Vec::new();
        if self.to.iter().chain([&self.from]).any(|mailbox| !mailbox.email.to_string().is_ascii()) {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Err(Stop::Rejected(format!(
                    "{} takes no addresses beyond ASCII (no SMTPUTF8); write them in ASCII",
                    self.place()
                )));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        let sender = Mail::new(Some(self.from.email.clone()), parameters);
        connection.command(sender).await.map_err(|error| self.refused(&error))?;
        let mut refused = Vec::new();
        let mut temporary = false;
        for mailbox in &self.to {
            match connection.command(Rcpt::new(mailbox.email.clone(), Vec::new())).await {
                Ok(_) => {}
                Err(error) if error.status().is_some() => {
                    temporary |= error.is_transient();
                    refused.push(format!("{}: {}", mailbox.email, code_and_text(&error)));
                }
                Err(error) => return Err(self.refused(&error)),
            }
        }
        if refused.len() == self.to.len() {
            let line = format!("{} takes no receiver: {}", self.place(), refused.join(", "));
            return Err(if temporary { Stop::Retry(line) } else { Stop::Rejected(line) });
        }
        let go_on = connection.command(Data).await.map_err(|error| self.refused(&error))?;
        self.expect(354, &go_on)?;
        Ok((connection, refused))
    }

    async fn connect(&self) -> Step<AsyncSmtpConnection> {
        tls::install_provider();
        let lost = |error: std::io::Error| Stop::Retry(http::advice(&error, &self.place(), CA_KEY));
        let tcp = TcpStream::connect((self.email.host.as_str(), self.email.port)).await.map_err(lost)?;
        let peer = tcp.peer_addr().map_err(lost)?;
        let hello = ClientId::default();
        let stream: Box<dyn AsyncTokioStream> = match self.email.tls {
            MailTls::None | MailTls::StartTls => Box::new(Bounded::new(tcp, peer)),
            MailTls::Tls => Box::new(Bounded::new(self.under_tls(tcp).await?, peer)),
        };
        let mut connection =
            AsyncSmtpConnection::connect_with_transport(stream, &hello).await.map_err(|error| self.refused(&error))?;
        if self.email.tls == MailTls::StartTls {
            if !connection.can_starttls() {
                return Err(Stop::Retry(format!(
                    "{} offers no STARTTLS, and nothing was sent in the clear; check the port (465 wants tls: tls)",
                    self.place()
                )));
            }
            let (host, ca_file) = (self.email.host.clone(), self.email.ca_file.clone());
            let parameters = off_the_loop(move || tls_parameters(host, ca_file.as_deref())).await?;
            connection.starttls(parameters, &hello).await.map_err(|error| self.refused(&error))?;
        }
        Ok(connection)
    }

    async fn under_tls(&self, tcp: TcpStream) -> Step<TlsStream<TcpStream>> {
        let ca_file = self.email.ca_file.clone();
        let config = off_the_loop(move || tls::client(ca_file.as_deref())).await?;
        let name = ServerName::try_from(self.email.host.clone())
            .map_err(|_| Stop::Rejected(format!("{:?} is no name that a certificate could bear", self.email.host)))?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        handshake.map_err(|error| Stop::Retry(http::advice(&error, &self.place(), CA_KEY)))
    }

    /// A login that fails is tried again, unlike other 5xx: the password is read anew each time, and a person can
    /// mend it while the message waits.
    async fn log_in(&self, connection: &mut AsyncSmtpConnection) -> Step<()> {
        let Some((username, password)) = &self.email.login else { return Ok(()) };
        let password = secret::read(password).map_err(Stop::Retry)?;
        let credentials = Credentials::new(username.clone(), password.expose_secret().to_owned());
        let answer = connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await;
        answer.map(drop).map_err(|error| match error.status() {
            // Only the code: the text after it may quote what we sent.
            Some(code) => Stop::Retry(format!(
                "{} refused the login ({code}); check notify.email.username and password",
                self.place()
            )),
            None if error.is_client() => {
                Stop::Retry(format!("{} offers no login by PLAIN or LOGIN; check its port, or tls", self.place()))
            }
            None => self.refused(&error),
        })
    }

    fn refused(&self, error: &lettre::transport::smtp::Error) -> Stop {
        if error.status().is_some() {
            let line = format!("{} said {}", self.place(), code_and_text(error));
            return if error.is_permanent() { Stop::Rejected(line) } else { Stop::Retry(line) };
        }
        Stop::Retry(http::advice(error, &self.place(), CA_KEY))
    }

    /// Only the very code proves: the library takes any 2xx or 3xx, also one that belongs to another command.
    fn expect(&self, code: u16, response: &Response) -> Step<()> {
        if response.has_code(code) {
            return Ok(());
        }
        Err(Stop::Retry(format!("{} said {} where {code} belongs", self.place(), said(response))))
    }

    fn place(&self) -> String {
        format!("{}:{}", self.email.host, self.email.port)
    }

    fn message(&self, delivery: &Delivery) -> Result<Message, String> {
        let builder = Message::builder()
            .from(self.from.clone())
            .subject(subject(&delivery.subject))
            .date(written(delivery))
            .message_id(Some(message_id(&delivery.key, self.from.email.domain())))
            // RFC 3834: keeps vacation answers and ticket systems from answering the robot.
            .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
            .header(ContentType::TEXT_PLAIN);
        let builder = self.to.iter().fold(builder, |builder, to| builder.to(to.clone()));
        builder.body(body(&delivery.text)).map_err(|error| format!("the mail could not be written: {error}"))
    }
}

impl Courier for EmailCourier {
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Answer<'a, DeliveryOutcome> {
        Box::pin(self.attempt(delivery))
    }
}

/// Reading trust roots is file work.
async fn off_the_loop<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Step<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Stop::Retry("TLS could not be set up".to_owned()))?.map_err(Stop::Retry)
}

/// For STARTTLS, where the library itself changes over.
fn tls_parameters(host: String, ca_file: Option<&Path>) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(host);
    if let Some(path) = ca_file {
        let fault = |error: String| format!("ca_file {}: {error}; give a file with PEM certificates", path.display());
        let pem = std::fs::read(path).map_err(|error| fault(error.to_string()))?;
        if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
            return Err(fault("holds no certificate".to_owned()));
        }
        builder = builder.add_root_certificate(Certificate::from_pem(&pem).map_err(|error| fault(error.to_string()))?);
    }
    builder.build().map_err(|error| format!("TLS cannot be set up: {error}"))
}

/// One line: a line break in a subject would begin another header.
fn subject(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SUBJECT_CHARS_MAX).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Lines end in CR LF (RFC 5321 §2.3.8), whatever they ended in.
fn body(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n")
}

/// When the event was, so that a mail that waited does not pass for news.
fn written(delivery: &Delivery) -> SystemTime {
    let event = delivery.variables.get("time").and_then(|time| time.parse::<Timestamp>().ok());
    let when = event.filter(|when| when.as_second() >= 0).unwrap_or_else(|| clock::now().wall);
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(when.as_second()).unwrap_or(0))
}

/// Different keys never meet in one id: all but letters and digits is escaped, with characters that RFC 5322
/// §3.2.3 allows there.
fn message_id(key: &str, domain: &str) -> String {
    format!("<{}@{domain}>", percent(key).replace('.', "%2E"))
}

fn said(response: &Response) -> String {
    http::plain(&format!("{} {}", response.code(), response.message().collect::<Vec<_>>().join(" ")))
}

fn code_and_text(error: &lettre::transport::smtp::Error) -> String {
    let code = error.status().map(|code| code.to_string()).unwrap_or_default();
    let text = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    http::plain(&format!("{code} {text}"))
}

#[cfg(test)]
mod tests;
