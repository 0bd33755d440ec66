//! `pbx.driver.freeswitch`.

use super::{Build, Use};
use crate::config::cursor::Cursor;
use crate::config::freeswitch::{Freeswitch, WhilePassive};
use crate::config::hints::quote;
use crate::config::texts;

/// The event socket's own port.
const ESL_PORT: u16 = 8021;
/// More profiles are a mistake.
const PROFILES_MAX: usize = 32;
/// Longest name of a profile or a gateway.
const NAME_BYTES_MAX: usize = 100;

/// Reads it; `unit` is its unit, already read.
pub fn freeswitch<'a>(at: &Cursor<'a>, unit: Option<String>, build: &mut Build<'a>) -> Option<Freeswitch> {
    if !at.is_map() {
        return None;
    }
    let esl_at = at.key("esl");
    let esl = esl_at.text().and_then(|text| esl_at.take(&mut build.notes, texts::socket(text, Some(ESL_PORT))));
    if esl.is_some_and(|place| !place.ip().is_loopback()) {
        let fix = "let event_socket.conf.xml listen on 127.0.0.1, and run the robot beside it";
        esl_at.warn(&mut build.notes, "the password and every command travel in the clear", fix);
    }
    let password = build.needed_secret(&at.key("password"), Use::EventSocket);
    let profiles_at = at.key("profiles");
    let items = profiles_at.items();
    if profiles_at.is_list() && items.is_empty() {
        profiles_at.error(&mut build.notes, "holds no profile", "write those that phones and trunks use");
    } else if items.len() > PROFILES_MAX {
        profiles_at.error(
            &mut build.notes,
            format!("holds more than {PROFILES_MAX} profiles"),
            "name those that must run",
        );
    }
    let mut profiles: Vec<String> = Vec::new();
    for item in &items {
        let Some(name) = item.text() else { continue };
        if !is_name(name) {
            let what = format!("{} is no name of a profile", quote(name));
            item.error(&mut build.notes, what, "write it as `sofia status` shows it");
        } else if profiles.iter().any(|other| other == name) {
            item.error(&mut build.notes, "stands there twice", "delete one");
        }
        profiles.push(name.to_owned());
    }
    let passive = match at.key("passive").text()? {
        "standby" => WhilePassive::Standby,
        _ => WhilePassive::Stopped,
    };
    Some(Freeswitch {
        esl: esl?,
        password: password?,
        profiles: Some(profiles).filter(|profiles| !profiles.is_empty())?,
        unit: unit?,
        start_timeout: at.key("start_timeout").duration()?,
        passive,
    })
}

/// A trunk is a gateway, whose name stands in commands.
pub fn trunk_names<'a>(trunks_at: &Cursor<'a>, build: &mut Build<'a>) {
    for (name, at) in trunks_at.named() {
        if !is_name(name) {
            let what = format!("{} is no name of a gateway", quote(name));
            at.error(&mut build.notes, what, "write it as `sofia status` shows it, without blanks");
        }
    }
}

/// One word, as `wire::esl::is_name` has it.
fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-@:+".contains(&b);
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}
