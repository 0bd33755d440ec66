//! `pbx.driver.asterisk`.

use std::net::IpAddr;

use super::{Build, Use};
use crate::config::asterisk::{AmiCover, AmiPlace, Asterisk, WhenRunning};
use crate::config::cursor::Cursor;
use crate::config::texts;

/// AMI's own ports.
const PLAIN_PORT: u16 = 5038;
/// With TLS.
const TLS_PORT: u16 = 5039;
/// Longer is no user of a manager.
const USERNAME_BYTES_MAX: usize = 80;

/// Reads it; `unit` is its unit, already read.
pub fn asterisk<'a>(at: &Cursor<'a>, unit: Option<String>, build: &mut Build<'a>) -> Option<Asterisk> {
    if !at.is_map() {
        return None;
    }
    let ami = place(at, build);
    let username_at = at.key("username");
    let username = username_at.text()?;
    if username.is_empty() || username.len() > USERNAME_BYTES_MAX || username.chars().any(char::is_control) {
        username_at.error(&mut build.notes, "is no user", "write the name of its section in manager.conf");
    }
    let password = build.needed_secret(&at.key("password"), Use::Password);
    let config_at = at.key("config");
    if config_at.text() == Some("") {
        config_at.error(&mut build.notes, "is empty", "write pjsip.conf, or delete the key");
    }
    let takeover = match at.key("takeover").text()? {
        "reload" => WhenRunning::Reload,
        _ => WhenRunning::Restart,
    };
    Some(Asterisk {
        ami: ami?,
        username: username.to_owned(),
        password: password?,
        unit: unit?,
        start_timeout: at.key("start_timeout").duration()?,
        takeover,
        config: config_at.path_buf()?,
    })
}

fn place<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<AmiPlace> {
    let (ami_at, certificate_at) = (at.key("ami"), at.key("certificate"));
    let text = ami_at.text()?;
    let (is_tls, rest, port) = match text.strip_prefix("tls://") {
        Some(rest) => (true, rest, TLS_PORT),
        None => (false, text.strip_prefix("tcp://").unwrap_or(text), PLAIN_PORT),
    };
    let fix = "write HOST:5038, or tls://HOST:5039";
    let read = texts::host_port(rest, Some(port)).map_err(|(what, _)| (what, fix.to_owned()));
    let place = ami_at.take(&mut build.notes, read);
    let pinned = certificate_at.given.then(|| {
        let file_at = certificate_at.key("file");
        if file_at.text() == Some("") {
            file_at.error(&mut build.notes, "is empty", "write the path, or delete certificate");
        }
        build.ca_file(&file_at)
    });
    let (host, port) = place?;
    let cover = match (is_tls, pinned) {
        (true, Some(file)) => AmiCover::Pinned(file?),
        (true, None) => AmiCover::Tls,
        (false, given) => {
            if given.is_some() {
                certificate_at.warn(&mut build.notes, "is not used", "begin ami with tls://");
            }
            if !stays_here(&host) {
                let fix = "write tls://HOST:5039, and set tlsenable in its manager.conf";
                ami_at.warn(&mut build.notes, "the password travels in the clear", fix);
            }
            AmiCover::Plain
        }
    };
    Some(AmiPlace { host, port, cover })
}

fn stays_here(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
