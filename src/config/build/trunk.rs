//! Reads one trunk of `pbx.trunks`.

use super::Build;
use crate::config::cursor::Cursor;
use crate::config::hints::did_you_mean;
use crate::config::model::{ActionUrl, Driver};
use crate::config::texts;
use crate::config::trunk::{OldBinding, Trunk, TrunkProof};
use crate::units::{EventName, TrunkKind};

/// Reads the trunk `name`; `driver` is absent where it could not be read.
pub fn trunk<'a>(
    name: &str,
    at: &Cursor<'a>,
    driver: Option<&Driver>,
    action_urls: Option<&[ActionUrl]>,
    build: &mut Build<'a>,
) -> Option<Trunk> {
    if !at.is_map() {
        return None;
    }
    if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
        at.error(&mut build.notes, "is no name of a trunk", "write the name that the PBX gives it");
    }
    let kind = match at.key("kind").text()? {
        "ip" => TrunkKind::Ip,
        "fqdn" => TrunkKind::Fqdn,
        _ => TrunkKind::Register,
    };
    let provider_at = at.key("provider");
    let provider = provider_at.filled().map(str::to_owned);
    if let Some(uri) = &provider {
        provider_at.take(&mut build.notes, texts::sip_uri(uri));
    }
    Some(Trunk {
        name: name.to_owned(),
        kind,
        required: at.key("required").truth()?,
        proof: proof(at, kind, provider.as_deref(), build),
        provider,
        old_binding: old_binding(&at.key("clear_old_binding"), kind, driver, build),
        fqdn: fqdn(&at.key("fqdn"), kind, build),
        move_url: move_url(at, kind, action_urls, build),
    })
}

fn proof<'a>(at: &Cursor<'a>, kind: TrunkKind, provider: Option<&str>, build: &mut Build<'a>) -> TrunkProof {
    let proof = at.key("proof");
    match proof.text() {
        Some("options") => {
            if provider.is_none() {
                let fix = "write provider: \"sip:HOST\" beside it, the server that calls go to";
                proof.error(&mut build.notes, "nobody knows whom to ask OPTIONS", fix);
            }
            TrunkProof::Options
        }
        Some("registered") if proof.given && kind != TrunkKind::Register => {
            let fix = "write proof: options with a provider, or delete proof";
            proof.error(&mut build.notes, "a trunk of this kind does not register", fix);
            TrunkProof::Driver
        }
        _ => TrunkProof::Driver,
    }
}

/// Only a driver that knows the trunk's password can remove anything.
fn old_binding<'a>(at: &Cursor<'a>, kind: TrunkKind, driver: Option<&Driver>, build: &mut Build<'a>) -> OldBinding {
    if at.truth() != Some(true) {
        return OldBinding::Shown;
    }
    if kind != TrunkKind::Register {
        at.error(&mut build.notes, "a trunk of this kind has no binding", "delete it");
    } else if driver.is_some_and(|driver| !knows_passwords(driver)) {
        let fix = "delete it, and keep the expiry of the primary's registration at 300 s or less";
        at.error(&mut build.notes, "not yet with this driver: it does not know the trunk's password", fix);
    }
    OldBinding::Cleared
}

fn knows_passwords(driver: &Driver) -> bool {
    match driver {
        Driver::Builtin(_) | Driver::Asterisk(_) | Driver::Kamailio(_) => true,
        Driver::Systemd { .. } | Driver::Command(_) | Driver::Freeswitch(_) => false,
    }
}

fn fqdn<'a>(at: &Cursor<'a>, kind: TrunkKind, build: &mut Build<'a>) -> Option<String> {
    let name = at.take(&mut build.notes, texts::dns_name(at.filled()?))?;
    if kind != TrunkKind::Fqdn {
        at.error(&mut build.notes, "only a trunk of kind fqdn is found by a name", "delete it, or write kind: fqdn");
    }
    Some(name)
}

fn move_url<'a>(
    at: &Cursor<'a>,
    kind: TrunkKind,
    action_urls: Option<&[ActionUrl]>,
    build: &mut Build<'a>,
) -> Option<String> {
    let move_at = at.key("move");
    let move_url = move_at.filled().map(str::to_owned);
    match (&move_url, action_urls) {
        (Some(name), Some(urls)) => match urls.iter().find(|url| url.name == *name) {
            None => {
                let fix = did_you_mean(name, urls.iter().map(|url| url.name.as_str())).map_or_else(
                    || "write the name of one of action_urls, or \"\"".to_owned(),
                    |meant| format!("did you mean {meant}?"),
                );
                move_at.error(&mut build.notes, "names no action URL", fix);
            }
            Some(url) if !url.events.contains(&EventName::Takeover) => {
                let fix = format!("add takeover and failback to the events of {name}");
                move_at.error(&mut build.notes, format!("{name} is not sent at a takeover"), fix);
            }
            Some(_) => {}
        },
        (None, _) if kind == TrunkKind::Ip => {
            let fix = "write move: NAME of an action URL that tells the provider, or have it allow both addresses";
            at.warn(&mut build.notes, "inbound calls may not move with the service", fix);
        }
        _ => {}
    }
    move_url
}
