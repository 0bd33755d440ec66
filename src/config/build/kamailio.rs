//! `pbx.driver.kamailio`: where Kamailio is asked, and what passive means to it.

use std::path::PathBuf;

use super::Build;
use super::pbx::unit;
use crate::config::cursor::Cursor;
use crate::config::hints::quote;
use crate::config::kamailio::{JsonRpc, Kamailio, KamailioPassive};
use crate::config::texts;

/// Longest path of a unix socket (unix(7): `sun_path` of 108 bytes with its end).
const SOCKET_BYTES_MAX: usize = 107;
/// More commands are a mistake.
const RELOADS_MAX: usize = 50;
/// Longest name of a table, an entry or a command: Kamailio's own are shorter.
const NAME_BYTES_MAX: usize = 64;

/// Reads `pbx.driver.kamailio`.
pub fn kamailio<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Kamailio> {
    if !at.is_map() {
        return None;
    }
    let jsonrpc = json_rpc(&at.key("jsonrpc"), build);
    let unit = unit(&at.key("unit"), build);
    let start_timeout = at.key("start_timeout").duration();
    let (gate_at, reload_at) = (at.key("gate"), at.key("reload"));
    let [htable, key] = ["htable", "key"].map(|name| word(&gate_at.key(name), "write a short word", build));
    let items = reload_at.items();
    if items.len() > RELOADS_MAX {
        reload_at.error(&mut build.notes, format!("holds more than {RELOADS_MAX} commands"), "keep what it needs");
    }
    let fix = "write the name alone, such as domain.reload";
    let reload: Option<Vec<_>> = items.iter().map(|item| word(item, fix, build)).collect();
    for (item, command) in items.iter().zip(reload.iter().flatten()) {
        if command == "uac.reg_reload" {
            item.error(&mut build.notes, "is asked anyway, once, at the end", "delete it");
        }
    }
    let passive = if at.key("passive").text()? == "gate" {
        KamailioPassive::Gate { htable: htable?, key: key? }
    } else {
        for (name, unused) in [("gate", &gate_at), ("reload", &reload_at)] {
            if unused.given {
                let fix = format!("delete {name}, or write passive: gate");
                unused.warn(&mut build.notes, "is not used while passive means stopped", fix);
            }
        }
        KamailioPassive::Stopped
    };
    Some(Kamailio { jsonrpc: jsonrpc?, unit: unit?, start_timeout: start_timeout?, passive, reload: reload? })
}

fn json_rpc<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<JsonRpc> {
    const FIX: &str = "write unix:///run/kamailio/kamailio_rpc.sock, or http://127.0.0.1:8080/RPC";
    let text = at.text()?;
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.starts_with('/') || path.len() > SOCKET_BYTES_MAX {
            at.error(&mut build.notes, format!("{} is no path of a socket", quote(path)), FIX);
            return None;
        }
        return Some(JsonRpc::Unix(PathBuf::from(path)));
    }
    if !text.starts_with("http://") {
        at.error(&mut build.notes, format!("{} is neither unix:///PATH nor http://…", quote(text)), FIX);
        return None;
    }
    let url = at.take(&mut build.notes, texts::http_url(text))?;
    // Whoever reads these answers reads the trunks' passwords, and whoever asks rules the PBX.
    let is_here = match url.host_str().map(|host| host.trim_matches(['[', ']'])) {
        Some("localhost") => true,
        Some(host) => host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()),
        None => false,
    };
    if !is_here {
        at.error(&mut build.notes, "is not on this host: anybody on the way could rule the PBX", FIX);
        return None;
    }
    Some(JsonRpc::Http(url))
}

fn word<'a>(at: &Cursor<'a>, fix: &str, build: &mut Build<'a>) -> Option<String> {
    let text = at.text()?;
    let good = (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if !good {
        at.error(&mut build.notes, format!("{} is no name", quote(text)), fix);
        return None;
    }
    Some(text.to_owned())
}
