//! How service is given back, and how what was changed here goes home.

use std::path::PathBuf;

use super::Build;
use crate::config::cursor::Cursor;
use crate::config::failback::ReturnTo;
use crate::config::model::Failback;

/// Reads `failback`.
pub fn failback<'a>(at: &Cursor<'a>, dirs: &[PathBuf], build: &mut Build<'a>) -> Option<Failback> {
    let [data_at, rest_at, to_at] = ["return_data", "return_rest", "return_to"].map(|name| at.key(name));
    let (return_data, start_primary) = (build.command(&data_at), build.command(&at.key("start_primary")));
    let return_rest = build.command(&rest_at);
    let return_to = if to_at.given { Some(return_to(&to_at, dirs, build)?) } else { None };
    let is_used = |argv: &Option<Vec<String>>| argv.as_ref().is_some_and(|argv| !argv.is_empty());
    let (data_used, rest_used) = (is_used(&return_data), is_used(&return_rest));
    for (command, used) in [(&data_at, data_used), (&rest_at, rest_used)] {
        if used && to_at.given {
            command.error(&mut build.notes, "is given beside return_to", "keep one of them");
        }
    }
    if rest_used && !data_used && !to_at.given {
        rest_at.error(&mut build.notes, "is given without return_data", "write return_data too");
    }
    Some(Failback {
        drain: at.key("drain").duration()?,
        lower_ttl_first: at.key("lower_ttl_first").truth()?,
        return_data: return_data?,
        return_rest: return_rest?,
        return_to,
        return_limit: at.key("return_limit").duration()?,
        start_primary: start_primary?,
        wait_for_primary: at.key("wait_for_primary").duration()?,
    })
}

fn return_to<'a>(at: &Cursor<'a>, here: &[PathBuf], build: &mut Build<'a>) -> Option<ReturnTo> {
    if !at.is_map() {
        return None;
    }
    let host = host(&at.key("rsync"), build);
    let dirs_at = at.key("dirs");
    let mut dirs = Vec::new();
    for item in dirs_at.items() {
        dirs.push(absolute(&item, build)?);
    }
    if !dirs_at.given || dirs.is_empty() {
        dirs = here.to_vec();
    } else if dirs.len() != here.len() {
        let what = format!("names {} directories, and pbx.working_dir {}", dirs.len(), here.len());
        dirs_at.error(&mut build.notes, what, "name one there for each here, in the same order");
    }
    let [key_at, known_at] = ["ssh_key", "known_hosts"].map(|name| at.key(name));
    let ssh_key = if key_at.given { Some(absolute(&key_at, build)?) } else { None };
    let known_hosts = if known_at.given { Some(absolute(&known_at, build)?) } else { None };
    let (port, max_kib_s) = (at.key("port").whole()?, at.key("max_kib_s").whole()?);
    Some(ReturnTo { host: host?, dirs, ssh_key, port, known_hosts, max_kib_s })
}

/// What ssh would take for an option, or rsync for a path, is no host.
fn host<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<String> {
    let text = at.filled()?;
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    let bare = text.strip_prefix('[').or_else(|| text.split_once("@[").map(|(_, rest)| rest));
    let is_v6 = bare.and_then(|rest| rest.strip_suffix(']')).is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok());
    let read = if text.starts_with('-') || (!text.chars().all(good) && !is_v6) {
        Err(("is no USER@HOST".to_owned(), "write root@203.0.113.10; an IPv6 address in brackets".to_owned()))
    } else {
        Ok(text.to_owned())
    };
    at.take(&mut build.notes, read)
}

/// An absolute path that the command line of ssh carries as it is.
fn absolute<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<PathBuf> {
    let path = at.path_buf()?;
    let text = path.to_string_lossy();
    let read = if path.is_relative() {
        Err(("is no absolute path".to_owned(), "begin it with /".to_owned()))
    } else if text.contains(['\'', '"']) || text.chars().any(char::is_control) {
        Err(("holds a quotation mark".to_owned(), "give the file another name".to_owned()))
    } else {
        Ok(path)
    };
    at.take(&mut build.notes, read)
}
