//! What Asterisk tells of itself over AMI: endpoints, phones, calls, trunks. Each function is one question or two.
//!
//! What follows from the answers is decided in [`super`]. Facts are those of Asterisk 16.28 and 22.10.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use super::client::{Session, Trouble};
use crate::config::Trunk;
use crate::units::{TrunkKind, TrunkState, TrunkStatus};
use crate::wire::ami::{self, Packet};

/// More registrations are not kept: as many as the driver `command` shows.
const TRUNKS_MAX: usize = 1000;

/// What Asterisk says instead of an empty list of endpoints, or of contacts.
const EMPTY: [&str; 2] = [": No endpoints found", ": No Contacts found"];

/// A registration at a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its section, as Asterisk says it: not for people.
    pub name: String,
    /// Asterisk's word.
    pub word: String,
}

impl Registration {
    /// What the word means. Asterisk tells no SIP code, and says `Rejected` of every final answer that is not 2xx.
    pub fn state(&self) -> TrunkState {
        match self.word.as_str() {
            "Registered" => TrunkState::Up,
            "Unregistered" => TrunkState::Trying,
            "Rejected" => TrunkState::Rejected,
            "Stopped" | "Stopping" => TrunkState::Down,
            _ => TrunkState::Unknown,
        }
    }
}

/// A trunk, and what Asterisk's words for it are.
pub type Told = (TrunkStatus, String);

/// How many endpoints it has loaded.
pub async fn endpoints(session: &mut Session) -> Result<u32, Trouble> {
    count(session, "PJSIPShowEndpoints", "EndpointList").await
}

/// How many phones are registered: contacts that a REGISTER brought, not those that its files name.
pub async fn phones(session: &mut Session) -> Result<u32, Trouble> {
    count(session, "PJSIPShowContacts", "ContactList").await
}

async fn count(session: &mut Session, action: &str, event: &str) -> Result<u32, Trouble> {
    let mut found = 0;
    let end = session.ask(action, &[], |item| found += u32::from(item.is_event(event))).await;
    match end {
        Ok(_) => Ok(found),
        // An empty list is said as an error; another refusal counts nothing.
        Err(Trouble::Refused(why)) if EMPTY.iter().any(|said| why.ends_with(said)) => Ok(0),
        Err(other) => Err(other),
    }
}

/// How many calls are up: channels that belong together share the id of the first of them.
pub async fn calls(session: &mut Session) -> Result<u32, Trouble> {
    // The ids themselves may be many and long.
    let (hashing, mut linked) = (RandomState::new(), HashSet::new());
    let mut alone = 0_u32;
    session
        .ask("CoreShowChannels", &[], |item| {
            if item.is_event("CoreShowChannel") {
                match item.text("Linkedid") {
                    "" => alone += 1,
                    id => drop(linked.insert(hashing.hash_one(id))),
                }
            }
        })
        .await?;
    Ok(alone.saturating_add(u32::try_from(linked.len()).unwrap_or(u32::MAX)))
}

/// Its registrations at providers. The answer holds their passwords, which are not kept.
pub async fn registrations(session: &mut Session) -> Result<Vec<Registration>, Trouble> {
    let mut found = Vec::new();
    let read = |item: &Packet| {
        if item.is_event("OutboundRegistrationDetail") && found.len() < TRUNKS_MAX {
            found
                .push(Registration { name: item.text("ObjectName").to_owned(), word: ami::shown(item.text("Status")) });
        }
    };
    match session.ask("PJSIPShowRegistrationsOutbound", &[], read).await {
        Ok(_) => Ok(found),
        Err(Trouble::Refused(why)) if why.contains(": No ") => Ok(Vec::new()),
        Err(other) => Err(other),
    }
}

/// Has it register these; each is queued, and the answer comes later.
pub async fn register(session: &mut Session, name: &str) -> Result<(), Trouble> {
    session.ask("PJSIPRegister", &[("Registration", name)], |_| {}).await.map(drop)
}

/// Has it give this one up.
pub async fn unregister(session: &mut Session, name: &str) -> Result<(), Trouble> {
    session.ask("PJSIPUnregister", &[("Registration", name)], |_| {}).await.map(drop)
}

/// The trunks that are named, as far as Asterisk knows them.
pub async fn trunks(session: &mut Session, named: &[Trunk]) -> Result<Vec<Told>, Trouble> {
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let registered: HashMap<_, _> =
        registrations(session).await?.into_iter().map(|told| (told.name.clone(), told)).collect();
    let mut found = Vec::new();
    for Trunk { name, kind, .. } in named {
        let told = match (registered.get(name), kind) {
            (Some(registration), _) => Some((registration.state(), words(registration))),
            (None, TrunkKind::Register) => None,
            (None, TrunkKind::Ip | TrunkKind::Fqdn) => qualified(session, name).await?,
        };
        if let Some((state, words)) = told {
            found.push((TrunkStatus::new(name.clone(), state, None), words));
        }
    }
    Ok(found)
}

fn words(registration: &Registration) -> String {
    match registration.state() {
        TrunkState::Rejected => "Asterisk tells no code; its log does".to_owned(),
        TrunkState::Down => format!("Asterisk says {}: it does not try any more", registration.word),
        _ => format!("Asterisk says {}", registration.word),
    }
}

/// A trunk that does not register is up when its contact answers OPTIONS; `None` without an endpoint of this name.
async fn qualified(session: &mut Session, name: &str) -> Result<Option<(TrunkState, String)>, Trouble> {
    let mut words = Vec::new();
    let read = |item: &Packet| {
        if item.is_event("ContactStatusDetail") {
            words.push(item.text("Status").to_owned());
        }
    };
    match session.ask("PJSIPShowEndpoint", &[("Endpoint", name)], read).await {
        Ok(_) => {}
        Err(Trouble::Refused(why)) if why.contains("Unable to retrieve") => return Ok(None),
        Err(other) => return Err(other),
    }
    let is = |word: &str| words.iter().any(|found| found == word);
    Ok(Some(if is("Reachable") {
        (TrunkState::Up, "it answers OPTIONS".to_owned())
    } else if is("Unreachable") {
        (TrunkState::Down, "it does not answer OPTIONS".to_owned())
    } else {
        (TrunkState::Unknown, "Asterisk does not ask it; write qualify_frequency=30 into its aor".to_owned())
    }))
}

/// Why a reload was not one, by the status of its event; `None` when it was.
pub fn reload_trouble(status: &str) -> Option<&'static str> {
    match status {
        "0" => None,
        "1" => Some("it was queued behind another"),
        "2" => Some("there is no such module"),
        "3" => Some("a module reported an error; see its log"),
        "4" => Some("another reload is in progress"),
        "5" => Some("Asterisk is not initialised yet"),
        "6" => Some("a module does not support it"),
        _ => Some("it says a status that is not known"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// A conversation in which the first question is answered so.
    async fn answered(packets: &str) -> (Session, tokio::io::DuplexStream) {
        let (ours, mut theirs) = tokio::io::duplex(16 * 1024);
        theirs.write_all(packets.as_bytes()).await.expect("written");
        (Session::of(ours), theirs)
    }

    #[tokio::test]
    async fn only_asterisks_own_sentences_for_an_empty_list_count_as_none() {
        for (message, expected) in [
            ("No endpoints found", Some(0)),
            ("No Contacts found", Some(0)),
            ("Sorcery backend not found", None),
            ("No database", None),
        ] {
            let answer = format!("Response: Error\r\nActionID: 1\r\nMessage: {message}\r\n\r\n");
            let (mut session, _theirs) = answered(&answer).await;
            assert_eq!(endpoints(&mut session).await.ok(), expected, "{message}");
        }
    }

    #[tokio::test]
    async fn what_asterisk_says_is_short_and_moves_no_cursor() {
        let odd = format!("odd\u{1b}[2J{}", "x".repeat(5000));
        let answer = format!("Response: Error\r\nActionID: 1\r\nMessage: {odd}\r\n\r\n");
        let (mut session, _theirs) = answered(&answer).await;
        let why = endpoints(&mut session).await.expect_err("refused").to_string();
        assert!(why.contains("refuses PJSIPShowEndpoints: odd[2Jxx"), "{why}");
        assert!(why.len() < 250 && !why.contains('\u{1b}'), "{why}");

        let answer = format!(
            "Response: Success\r\nActionID: 1\r\nEventList: start\r\n\r\nEvent: OutboundRegistrationDetail\r\n\
             ActionID: 1\r\nObjectName: carrier\r\nStatus: {odd}\r\n\r\nEvent: \
             OutboundRegistrationDetailComplete\r\nActionID: 1\r\nEventList: Complete\r\n\r\n"
        );
        let (mut session, _theirs) = answered(&answer).await;
        let told = registrations(&mut session).await.expect("a list");
        assert!(words(&told[0]).len() < 250 && !words(&told[0]).contains('\u{1b}'), "{told:?}");
    }

    #[test]
    fn each_word_for_a_registration_has_a_state() {
        for (word, state) in [
            ("Registered", TrunkState::Up),
            ("Unregistered", TrunkState::Trying),
            ("Rejected", TrunkState::Rejected),
            ("Stopped", TrunkState::Down),
            ("", TrunkState::Unknown),
        ] {
            let registration = Registration { name: "carrier".to_owned(), word: word.to_owned() };
            assert_eq!(registration.state(), state, "{word}");
        }
    }

    #[test]
    fn each_status_of_a_reload_but_success_has_words() {
        assert_eq!(reload_trouble("0"), None);
        let words: HashSet<_> = (1..=7).filter_map(|status| reload_trouble(&status.to_string())).collect();
        assert_eq!(words.len(), 7);
    }
}
