//! Asks our own registrar, as a phone would, whether it takes registrations.
//!
//! The question is a REGISTER without Contact and credentials: a working registrar answers 401 and changes nothing.
//! It proves both directions: that the PBX serves, and that a stopped one is silent.

use std::time::Duration;

use tokio::net::{UdpSocket, lookup_host};
use tokio::time::{Instant, sleep, timeout};

use crate::config::SipProbe;
use crate::ports::Answer;
use crate::sip::client::{Endpoint, SipEnd, register_query};
use crate::sip::meaning;
use crate::units::{Mode, ProbeAnswer, StepOutcome};

/// How long one answer may take: our own host, so that only a frozen PBX or a firewall needs it. Covers three
/// datagrams (0, 0.5, 1.5 s).
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// How long the name in `pbx.probe` may take to resolve; by default it is an address.
const LOOKUP_LIMIT: Duration = Duration::from_secs(2);

/// The pause between two questions while we wait for a starting PBX.
pub const PAUSE: Duration = Duration::from_millis(100);

/// What came of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A registrar answered.
    Serves(String),
    /// Something is there, and takes no registration.
    Refuses(String),
    /// Nobody is there.
    Nobody(String),
    /// The question never left this host.
    NotAsked(String),
}

/// Our own registrar.
#[derive(Debug, Clone)]
pub struct Registrar {
    probe: SipProbe,
}

impl Registrar {
    /// The one at `pbx.probe`.
    pub fn new(probe: SipProbe) -> Self {
        Self { probe }
    }

    /// How people call it: `sip:198.51.100.20:5060`.
    pub fn name(&self) -> String {
        let SipProbe { host, port, .. } = &self.probe;
        if host.contains(':') && !host.starts_with('[') {
            format!("sip:[{host}]:{port}")
        } else {
            format!("sip:{host}:{port}")
        }
    }

    /// Why an answer would prove nothing of this host: `pbx.probe` is no address of it.
    pub async fn elsewhere(&self) -> Option<String> {
        let SipProbe { host, port, .. } = &self.probe;
        let found = timeout(LOOKUP_LIMIT, lookup_host((host.trim_matches(['[', ']']), *port))).await.ok()?;
        let address = found.ok()?.next()?.ip();
        // Only an address of this host can be bound to.
        UdpSocket::bind((address, 0)).await.is_err().then(|| {
            let name = self.name();
            format!("{name} (pbx.probe) is no address of this host: whoever answers there need not be its PBX")
        })
    }

    /// Asks once.
    pub async fn ask(&self) -> Heard {
        let SipProbe { host, port, transport } = &self.probe;
        let lookup = timeout(LOOKUP_LIMIT, lookup_host((host.trim_matches(['[', ']']), *port))).await;
        let address = match lookup.map(|found| found.map(|mut all| all.next())) {
            Ok(Ok(Some(address))) => address.ip(),
            Ok(Err(error)) => return Heard::NotAsked(format!("cannot resolve pbx.probe {host}: {error}")),
            Ok(Ok(None)) | Err(_) => return Heard::NotAsked(format!("cannot resolve pbx.probe {host}")),
        };
        match Endpoint::with_system_roots(address, host, *port, *transport) {
            Ok(endpoint) => self.judge(&register_query(&endpoint, ANSWER_LIMIT).await),
            Err(why) => Heard::NotAsked(why),
        }
    }

    /// Asks until it serves, at most `limit`; `gone` may say meanwhile that waiting is in vain.
    pub async fn serves_within<'a>(
        &self,
        limit: Duration,
        gone: impl Fn() -> Answer<'a, Option<String>>,
    ) -> StepOutcome {
        let deadline = Instant::now() + limit;
        loop {
            let heard = self.ask().await;
            if let Heard::Serves(answer) = heard {
                return StepOutcome::Done(answer);
            }
            if let Some(why) = gone().await {
                return StepOutcome::Failed(why);
            }
            if Instant::now() >= deadline {
                return match self.looks(heard) {
                    StepOutcome::Failed(why) => StepOutcome::Failed(format!("{why}, after {limit:?}")),
                    other => other,
                };
            }
            sleep(PAUSE).await;
        }
    }

    /// Does it accept registrations? `Act` waits for it as [`Registrar::serves_within`] does.
    pub async fn accepts<'a>(
        &self,
        mode: Mode,
        limit: Duration,
        gone: impl Fn() -> Answer<'a, Option<String>>,
    ) -> StepOutcome {
        match mode {
            Mode::Look => self.looks(self.ask().await),
            Mode::Act => self.serves_within(limit, gone).await,
        }
    }

    /// The answer to "does it serve?", asked once.
    pub fn looks(&self, heard: Heard) -> StepOutcome {
        match heard {
            Heard::Serves(answer) => StepOutcome::Done(answer),
            Heard::Refuses(why) | Heard::Nobody(why) => StepOutcome::Failed(why),
            Heard::NotAsked(why) => StepOutcome::Unknown(format!("{} was not asked: {why}", self.name())),
        }
    }

    fn judge(&self, end: &SipEnd) -> Heard {
        let name = self.name();
        match (end, meaning::judge(end, &[])) {
            // RFC 3261 §10.3, §21.4.6, §21.5.2: a server that is no registrar.
            (SipEnd::Final { reply, .. }, _) if matches!(reply.code, 405 | 501) => {
                Heard::Refuses(format!("{name} is no registrar: {} {}", reply.code, reply.reason))
            }
            (_, ProbeAnswer::Up { seen, .. }) => Heard::Serves(format!("{name} answers REGISTER with {seen}")),
            (SipEnd::Refused(_) | SipEnd::Silent { provisional: None, .. }, ProbeAnswer::Down(why)) => {
                Heard::Nobody(format!("{name} does not answer REGISTER: {why}"))
            }
            (_, ProbeAnswer::Down(why)) => Heard::Refuses(format!("{name}: {why}")),
            (_, ProbeAnswer::Unknown(why)) => Heard::NotAsked(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SipTransport;

    /// What is heard from a server that answers with this status line.
    async fn heard(status: &'static str) -> Heard {
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
        let port = server.local_addr().expect("address").port();
        let registrar = Registrar::new(SipProbe { host: "127.0.0.1".to_owned(), port, transport: SipTransport::Udp });
        let answering = async {
            let mut datagram = vec![0; 4096];
            let (length, from) = server.recv_from(&mut datagram).await.expect("a question");
            let question = String::from_utf8_lossy(&datagram[..length]).into_owned();
            assert!(question.starts_with("REGISTER "), "{question}");
            let kept = |line: &&str| ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|h| line.starts_with(h));
            let headers: Vec<_> = question.lines().filter(kept).collect();
            let answer = format!("SIP/2.0 {status}\r\n{}\r\nContent-Length: 0\r\n\r\n", headers.join("\r\n"));
            server.send_to(answer.as_bytes(), from).await.expect("sent");
        };
        tokio::join!(registrar.ask(), answering).0
    }

    #[tokio::test]
    async fn a_registrar_that_challenges_or_forbids_serves() {
        for status in ["401 Unauthorized", "407 Proxy Authentication Required", "403 Forbidden", "200 OK"] {
            assert!(matches!(heard(status).await, Heard::Serves(_)), "{status}");
        }
    }

    #[tokio::test]
    async fn what_cannot_or_is_no_registrar_refuses() {
        for status in ["503 System Paused", "500 Server Error", "405 Method Not Allowed", "501 Not Implemented"] {
            assert!(matches!(heard(status).await, Heard::Refuses(_)), "{status}");
        }
    }

    #[tokio::test]
    async fn an_address_of_another_host_proves_nothing_of_this_one() {
        let at =
            |host: &str| Registrar::new(SipProbe { host: host.to_owned(), port: 5060, transport: SipTransport::Udp });
        assert_eq!(at("127.0.0.1").elsewhere().await, None);
        assert_eq!(at("no..such..name").elsewhere().await, None, "that is said by the question itself");
        let said = at("192.0.2.77").elsewhere().await.expect("a documentation address is nobody's");
        assert!(said.contains("sip:192.0.2.77:5060") && said.contains("no address of this host"), "{said}");
    }

    #[tokio::test]
    async fn a_closed_port_is_nobody_and_a_name_that_does_not_resolve_was_not_asked() {
        let closed = UdpSocket::bind("127.0.0.1:0").await.expect("loopback").local_addr().expect("address").port();
        let at =
            |host: &str| Registrar::new(SipProbe { host: host.to_owned(), port: closed, transport: SipTransport::Udp });
        assert!(matches!(at("127.0.0.1").ask().await, Heard::Nobody(_)));
        assert!(matches!(at("no..such..name").ask().await, Heard::NotAsked(_)));
        assert_eq!(at("::1").name(), format!("sip:[::1]:{closed}"));
    }
}
