//! The sync: what the gate asks of the working directory, and the commands that stop and start it.

use std::path::{Component, Path, PathBuf};

use super::{Build, Use};
use crate::config::cursor::Cursor;
use crate::config::sync::{Dump, MaxAge, Sync, SyncFence, Syncthing};
use crate::config::texts;
use crate::data::gate::{OnFault, OnHold};
use crate::data::{Class, Classes, Pattern};

/// A pattern that fits this fits everything.
const ANY_CONFIG: &[u8] = b"any/directory/of/the/pbx.conf";

/// More patterns of a kind are a mistake: each file is held against each.
const PATTERNS_MAX: usize = 200;

/// More units, or folders, that bring files are a mistake.
const SYNCS_MAX: usize = 20;

/// What systemd allows (`UNIT_NAME_MAX`).
const UNIT_BYTES_MAX: usize = 255;

/// What can bring files: a daemon, a timer, a socket that starts one, a path that is watched, a group of them.
const SYNC_UNITS: [&str; 5] = [".service", ".timer", ".socket", ".path", ".target"];

/// An id has some ten characters, or is a person's word.
const FOLDER_BYTES_MAX: usize = 100;

/// Reads `sync`.
pub fn sync<'a>(at: &Cursor<'a>, dirs: &[PathBuf], build: &mut Build<'a>) -> Option<Sync> {
    let (stop, start) = (build.command(&at.key("stop")), build.command(&at.key("start")));
    let fence = fence(&at.key("fence"), build);
    for name in ["ignore", "hold_back"] {
        absolute_patterns(&at.key(name), dirs, build);
    }
    let [ignore, hold_back] = ["ignore", "hold_back"].map(|name| patterns(&at.key(name), build));
    if hold_back.as_ref().is_some_and(|all| all.iter().any(|pattern| pattern.matches(ANY_CONFIG))) {
        let fix = "name the spools, such as spool/outgoing/ or *.call";
        at.key("hold_back").error(&mut build.notes, "would move all of the configuration aside", fix);
    }
    let (max_age, rules, classes) =
        (max_age(&at.key("max_age"), build), rules(&at.key("rules"), build), classes(&at.key("classes"), build));
    let dump_at = at.key("dump");
    let dump = if dump_at.given { Some(dump(&dump_at, dirs, build)?) } else { None };
    let on_hold = match at.key("on_hold").text()? {
        "go" => OnHold::Go,
        "hold" => OnHold::Hold,
        _ => OnHold::LastGood,
    };
    Some(Sync {
        settle: at.key("settle").duration()?,
        max_age: max_age?,
        on_hold,
        hold_back: hold_back?,
        fence: fence?,
        stop: stop?,
        start: start?,
        keep_snapshots: at.key("keep_snapshots").whole()?,
        snapshots_max: room(&at.key("snapshots_max"), build)?,
        ignore: ignore?,
        rules: rules?,
        classes: classes?,
        dump,
    })
}

fn fence<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<SyncFence> {
    if !at.is_map() {
        return None;
    }
    let units_at = at.key("units");
    let units: Vec<_> = units_at.items().iter().map(|item| unit(item, build)).collect();
    if units.len() > SYNCS_MAX {
        units_at.error(&mut build.notes, format!("holds more than {SYNCS_MAX} units"), "keep those that bring files");
    }
    let syncthing_at = at.key("syncthing");
    let syncthing = if syncthing_at.given { Some(syncthing(&syncthing_at, build)?) } else { None };
    Some(SyncFence { units: units.into_iter().collect::<Option<_>>()?, syncthing })
}

fn unit<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<String> {
    let unit = at.text()?;
    let good = unit.len() <= UNIT_BYTES_MAX
        && unit.bytes().all(|b| b.is_ascii_alphanumeric() || b":_.\\@-".contains(&b))
        && SYNC_UNITS.iter().any(|end| unit.len() > end.len() && unit.ends_with(end))
        && !unit.starts_with('-');
    if !good {
        let what = format!("{unit:?} is no unit that brings files");
        at.error(&mut build.notes, what, "write its full name, such as lsyncd.service, pull.timer or rsync.socket");
    }
    Some(unit.to_owned()).filter(|_| good)
}

fn syncthing<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Syncthing> {
    if !at.is_map() {
        return None;
    }
    let (url_at, ca_at, folders_at) = (at.key("url"), at.key("ca_file"), at.key("folders"));
    let url = url_at.text().and_then(|text| url_at.take(&mut build.notes, interface(text)));
    let ca_file = if ca_at.text()?.is_empty() { None } else { Some(build.ca_file(&ca_at)?) };
    let api_key = build.needed_secret(&at.key("api_key"), Use::Password);
    let folders: Vec<_> = folders_at.items().iter().map(|item| folder(item, build)).collect();
    if folders_at.is_list() && (folders.is_empty() || folders.len() > SYNCS_MAX) {
        let fix = "write the ids of the folders in the working directory, as Syncthing shows them";
        folders_at.error(&mut build.notes, format!("holds {} folders", folders.len()), fix);
    }
    let url: String = url?;
    if url.starts_with("http:") && !is_here(&url) {
        url_at.warn(&mut build.notes, "the key travels in clear text", "write https, or the address 127.0.0.1");
    }
    Some(Syncthing { url, ca_file, api_key: api_key?, folders: folders.into_iter().collect::<Option<_>>()? })
}

fn interface(text: &str) -> texts::Read<String> {
    let url = texts::http_url(text)?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(("has something behind the port".to_owned(), "write http://127.0.0.1:8384".to_owned()));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn is_here(url: &str) -> bool {
    texts::http_url(url).is_ok_and(|url| {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

fn folder<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<String> {
    let id = at.text()?;
    if id.is_empty() || id.len() > FOLDER_BYTES_MAX || id.chars().any(char::is_control) {
        at.error(&mut build.notes, "is no id of a folder", "write it as Syncthing shows it, such as abcd1-efgh2");
        return None;
    }
    Some(id.to_owned())
}

/// A size in bytes, as disks are sold: kB, MB, GB and TB are powers of 1000.
fn room<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<u64> {
    let text = at.text()?;
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let unit = match text[digits..].trim_start() {
        "kB" | "KB" => Some(1000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "TB" => Some(1_000_000_000_000),
        _ => None,
    };
    let size = text[..digits].parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    let size = size.ok_or(("is no size".to_owned(), "write a number with kB, MB, GB or TB, such as 500MB".to_owned()));
    at.take(&mut build.notes, size)
}

fn max_age<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<MaxAge> {
    if !at.is_map() {
        return None;
    }
    let hold_at = at.key("hold");
    let max_age = MaxAge { warn: at.key("warn").duration()?, hold: hold_at.duration()? };
    if max_age.hold < max_age.warn {
        hold_at.error(&mut build.notes, "is shorter than warn", "write a longer one: first it is said, then it holds");
    }
    Some(max_age)
}

fn patterns<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Vec<Pattern>> {
    if !at.is_list() {
        return None;
    }
    let items = at.items();
    if items.len() > PATTERNS_MAX {
        at.error(&mut build.notes, format!("holds more than {PATTERNS_MAX} patterns"), "name the directory");
    }
    items.iter().map(|item| pattern(item, build)).collect()
}

/// A `/` at its begin is that of the working directory, so that one with the directory's own path meets nothing.
fn absolute_patterns<'a>(at: &Cursor<'a>, dirs: &[PathBuf], build: &mut Build<'a>) {
    for item in at.items() {
        let Some(text) = item.text() else { continue };
        if let Some(below) = dirs.iter().find_map(|dir| Path::new(text).strip_prefix(dir).ok()) {
            let end = if text.ends_with('/') { "/" } else { "" };
            let fix = format!("write it below the working directory: {}{end}", below.display());
            item.error(&mut build.notes, "begins with the working directory's own path, so that it meets nothing", fix);
        }
    }
}

fn pattern<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Pattern> {
    let fix = "write a name such as *.call, or a path below the working directory such as spool/outgoing/";
    let read = Pattern::new(at.text()?).map_err(|why| (why, fix.to_owned()));
    at.take(&mut build.notes, read)
}

fn rules<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Vec<(Pattern, OnFault)>> {
    let items = at.items();
    if items.len() > PATTERNS_MAX {
        at.error(&mut build.notes, format!("holds more than {PATTERNS_MAX} rules"), "name the directory");
    }
    let rule = |item: &Cursor<'a>| {
        if !item.is_map() {
            return None;
        }
        let path = pattern(&item.key("path"), build);
        let on_fault = match item.key("on_fault").text()? {
            "ignore" => OnFault::Ignore,
            "warn" => OnFault::Warn,
            _ => OnFault::Hold,
        };
        Some((path?, on_fault))
    };
    items.iter().map(rule).collect()
}

fn classes<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Classes> {
    if !at.is_map() {
        return None;
    }
    let mut own = Vec::new();
    for class in Class::ALL {
        let patterns = patterns(&at.key(class.name()), build)?;
        own.extend(patterns.into_iter().map(|pattern| (class, pattern)));
    }
    Some(Classes::new(own))
}

fn dump<'a>(at: &Cursor<'a>, dirs: &[PathBuf], build: &mut Build<'a>) -> Option<Dump> {
    if !at.is_map() {
        return None;
    }
    let file_at = at.key("file");
    let (file, first) = (file_at.path_buf()?, dirs.first()?);
    let climbs = file.components().any(|part| part == Component::ParentDir);
    let whole = first.join(&file);
    if climbs || !dirs.iter().any(|dir| whole.starts_with(dir) && whole != *dir) {
        let fix = format!("write its path below {}", first.display());
        file_at.error(&mut build.notes, "does not lie in the working directory", fix);
    }
    Some(Dump { file: whole, max_age: at.key("max_age").duration()? })
}
