//! Asks a provider OPTIONS from this node's address, and says what the answer means for a trunk.
//!
//! For the life of a server any answer will do ([`crate::sip::meaning`]); a trunk wants one that lets calls through.

use std::net::IpAddr;
use std::time::Duration;

use super::own::{Own, Source};
use crate::adapters::pbx::builtin::providers::{self, RESOLV_CONF};
use crate::adapters::pbx::builtin::trunk::Server;
use crate::sip::client::{self, Endpoint, SipEnd};
use crate::units::TrunkState;

/// How long one server may take: four datagrams (0, 0.5, 1.5, 3.5 s).
pub const ANSWER_LIMIT: Duration = Duration::from_secs(4);
/// More servers of one provider are not asked: while a takeover waits, this many may be silent.
pub const SERVERS_ASKED: usize = 2;

/// What a provider said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// What that makes of the trunk.
    pub state: TrunkState,
    /// Its SIP code.
    pub code: Option<u16>,
    /// What was seen.
    pub text: String,
    /// What to do about it.
    pub advice: Option<String>,
}

impl Said {
    /// Both in one line.
    pub fn line(&self) -> String {
        match &self.advice {
            Some(advice) => format!("{}; {advice}", self.text),
            None => self.text.clone(),
        }
    }
}

/// Asks the provider at this URI.
pub async fn ask(uri: &str, own: &Own) -> Said {
    let servers = match providers::servers(uri, None, RESOLV_CONF).await {
        Ok(servers) => servers,
        Err(why) => return unknown(&why),
    };
    let mut last = unknown(&format!("{uri} has no address"));
    for server in servers.into_iter().take(SERVERS_ASKED) {
        let source = own.source(server.address.ip());
        last = match endpoint(&server, source.bind) {
            Ok(endpoint) => judge(&client::options(&endpoint, ANSWER_LIMIT).await, &server, &source),
            Err(why) => unknown(&why),
        };
        // Another server of the same provider may be well; one that answered speaks for all.
        if last.code.is_some() {
            break;
        }
    }
    last
}

/// The server, to be asked from this address.
pub fn endpoint(server: &Server, from: Option<IpAddr>) -> Result<Endpoint, String> {
    let Server { address, transport, host } = server;
    Ok(Endpoint::with_system_roots(address.ip(), host, address.port(), *transport)?.asked_from(from))
}

fn unknown(text: &str) -> Said {
    let advice = Some("see pbx.trunks.NAME.provider".to_owned());
    Said { state: TrunkState::Unknown, code: None, text: format!("the provider was not asked: {text}"), advice }
}

fn judge(end: &SipEnd, server: &Server, source: &Source) -> Said {
    let (name, from, known_as) = (server.address, &source.words, &source.known_as);
    let down = |text: String, advice: String| Said { state: TrunkState::Down, code: None, text, advice: Some(advice) };
    let silent = format!(
        "ask it to allow {known_as}, and see that a firewall lets SIP out: some providers are silent to strangers"
    );
    let (reply, certificate) = match end {
        SipEnd::Final { reply, certificate } => (reply, certificate),
        SipEnd::Refused(why) => {
            return down(
                format!("{name} takes no SIP, asked {from}: {why}"),
                "see pbx.trunks.NAME.provider, its port and its transport".to_owned(),
            );
        }
        SipEnd::Silent { after, .. } => {
            return down(format!("{name} does not answer OPTIONS within {after:?}, asked {from}"), silent);
        }
        SipEnd::Malformed(why) => {
            let advice = "see the port of pbx.trunks.NAME.provider".to_owned();
            return down(format!("{name} answers, but not with SIP: {why}"), advice);
        }
        SipEnd::NotSent(why) => return unknown(why),
    };
    let said = format!("{} {}", reply.code, reply.reason);
    let text = format!("{name} answers OPTIONS with {}, asked {from}", said.trim_end());
    let (state, advice) = match reply.code {
        200..=299 => (TrunkState::Up, certificate.as_ref().map(|trouble| format!("but its {trouble}"))),
        401 | 403 | 407 => {
            (TrunkState::Rejected, Some(format!("the provider does not know this address: ask it to allow {known_as}")))
        }
        404 => (
            TrunkState::Rejected,
            Some(format!(
                "it serves no such domain for this address: write the name that the provider gave into provider, or ask \
                 it to allow {known_as}"
            )),
        ),
        405 | 501 => {
            (TrunkState::Unknown, Some("it takes no OPTIONS, which proves nothing: leave proof out".to_owned()))
        }
        408 | 480 | 500..=599 => (TrunkState::Down, Some("its server is ill: ask the provider".to_owned())),
        _ => (TrunkState::Rejected, Some(format!("ask the provider what it wants of {known_as}"))),
    };
    Said { state, code: Some(reply.code), text, advice }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SipTransport;
    use crate::sip::message::{Incoming, Method, Question};

    fn answered(status: &str) -> Said {
        let server = Server {
            address: "192.0.2.9:5060".parse().expect("an address"),
            transport: SipTransport::Udp,
            host: "192.0.2.9".to_owned(),
        };
        let source = Source { bind: None, words: "from 10.0.0.5".to_owned(), known_as: "198.51.100.20".to_owned() };
        let local = "10.0.0.5:5060".parse().expect("an address");
        let question = Question::new(Method::Options, "192.0.2.9", 5060, SipTransport::Udp, local).expect("a question");
        let text = String::from_utf8(question.bytes).expect("text");
        let (_, lines) = text.split_once("\r\n").expect("a request line");
        let reply = format!("SIP/2.0 {status}\r\n{lines}");
        let Ok(Incoming::Reply(reply)) = Incoming::from_datagram(reply.as_bytes()) else { panic!("{reply}") };
        judge(&SipEnd::Final { reply, certificate: None }, &server, &source)
    }

    #[test]
    fn each_answer_of_a_provider_has_its_state_and_its_advice() {
        for (status, state, advice) in [
            ("200 OK", TrunkState::Up, ""),
            ("401 Unauthorized", TrunkState::Rejected, "does not know this address: ask it to allow 198.51.100.20"),
            ("403 Forbidden", TrunkState::Rejected, "does not know this address: ask it to allow 198.51.100.20"),
            ("404 Not Found", TrunkState::Rejected, "no such domain for this address"),
            ("405 Method Not Allowed", TrunkState::Unknown, "proves nothing"),
            ("503 Service Unavailable", TrunkState::Down, "its server is ill"),
            ("488 Not Acceptable Here", TrunkState::Rejected, "what it wants of 198.51.100.20"),
        ] {
            let said = answered(status);
            assert_eq!((said.state, said.code), (state, status[..3].parse().ok()), "{status}");
            assert_eq!(said.text, format!("192.0.2.9:5060 answers OPTIONS with {status}, asked from 10.0.0.5"));
            assert!(said.advice.unwrap_or_default().contains(advice), "{status}");
        }
    }
}
