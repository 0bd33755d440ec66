//! The PBX on this node, the sync that feeds it, and the way home.

use std::path::PathBuf;

use super::hosts::Pair;
use super::{Build, Outside, one_given};
use crate::config::cursor::Cursor;
use crate::config::hints::{did_you_mean, quote};
use crate::config::model::{ActionUrl, CommandDriver, Driver, Failback, Pbx, SipProbe, SipTransport, Sync, Trunk};
use crate::config::texts;
use crate::units::{EventName, TrunkKind};

/// More working directories than this are a mistake.
const WORKING_DIRS_MAX: usize = 50;

/// Reads `pbx`.
pub fn pbx<'a>(
    at: &Cursor<'a>,
    pair: Option<&Pair>,
    action_urls: Option<&[ActionUrl]>,
    build: &mut Build<'a>,
) -> Option<Pbx> {
    if !at.is_map() {
        return None;
    }
    let working_dirs = working_dirs(&at.key("working_dir"), build);
    let before_reload = build.command(&at.key("before_reload"));
    let give_up_after = at.key("give_up_after").duration();
    let driver = driver(&at.key("driver"), build);
    let probe = probe(&at.key("probe"), pair, build);
    let trunks_at = at.key("trunks");
    let trunks: Option<Vec<_>> =
        trunks_at.named().into_iter().map(|(name, at)| trunk(name, &at, action_urls, build)).collect();
    let trunks = trunks?;
    let driver = driver?;
    if let Driver::Command(commands) = &driver
        && commands.register_trunks.is_empty()
        && trunks.iter().any(|trunk| trunk.kind == TrunkKind::Register)
    {
        let fix = "write pbx.driver.command.register_trunks, unless the PBX registers them when it starts";
        trunks_at.warn(&mut build.notes, "no command registers these trunks", fix);
    }
    Some(Pbx {
        working_dirs: working_dirs?,
        before_reload: before_reload?,
        give_up_after: give_up_after?,
        driver,
        probe: probe?,
        trunks,
    })
}

fn working_dirs<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Vec<PathBuf>> {
    let items = if at.is_list() { at.items() } else { vec![at.clone()] };
    if at.is_list() && items.is_empty() {
        at.error(&mut build.notes, "holds no path", "write the directory that is kept equal on both hosts");
    } else if items.len() > WORKING_DIRS_MAX {
        at.error(&mut build.notes, format!("holds more than {WORKING_DIRS_MAX} paths"), "name the parent directory");
    }
    let mut dirs: Vec<PathBuf> = Vec::new();
    for item in items {
        let Some(text) = item.text() else { continue };
        let dir = PathBuf::from(text);
        if dir.is_relative() {
            item.error(&mut build.notes, "is no absolute path", "begin it with /");
        } else if dir.parent().is_none() {
            item.error(&mut build.notes, "is the whole file system", "write the PBX's own directory");
            continue;
        } else if dirs.iter().any(|other| dir.starts_with(other) || other.starts_with(&dir)) {
            item.error(&mut build.notes, "lies in another working directory, or holds it", "keep the outer one only");
        }
        build.outside.push((item, Outside::WorkingDir(dir.clone())));
        dirs.push(dir);
    }
    (!dirs.is_empty()).then_some(dirs)
}

fn driver<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Driver> {
    if !at.is_map() {
        return None;
    }
    // None or several are remarked upon by `walk`.
    match one_given(at, &["systemd", "command"])? {
        "systemd" => {
            let at = at.key("systemd");
            let unit_at = at.key("unit");
            let unit = unit_at.text()?;
            let good = unit.len() <= 255
                && unit.bytes().all(|b| b.is_ascii_alphanumeric() || b":_.\\@-".contains(&b))
                && [".service", ".target"].iter().any(|end| unit.len() > end.len() && unit.ends_with(end));
            if !good || unit.starts_with('-') {
                let what = format!("{} is no unit that can serve", quote(unit));
                unit_at.error(&mut build.notes, what, "write its full name, such as pbx.service");
            }
            Some(Driver::Systemd { unit: unit.to_owned(), start_timeout: at.key("start_timeout").duration()? })
        }
        _ => {
            let at = at.key("command");
            let verbs = Verbs { at: &at };
            let (passive, reload) = (verbs.needed("passive", build), verbs.needed("reload", build));
            let rest =
                ["accept_registrations", "register_trunks", "status", "drain", "unregister_trunks", "stop_accepting"]
                    .map(|verb| build.command(&at.key(verb)));
            let [accept_registrations, register_trunks, status, drain, unregister_trunks, stop_accepting] = rest;
            if status.as_ref().is_some_and(Vec::is_empty) {
                let fix = "write a command that prints registrations, calls and trunks as JSON";
                at.warn(&mut build.notes, "without status nobody sees phones, calls and trunks", fix);
            }
            Some(Driver::Command(Box::new(CommandDriver {
                passive: passive?,
                reload: reload?,
                accept_registrations: accept_registrations?,
                register_trunks: register_trunks?,
                status: status?,
                drain: drain?,
                unregister_trunks: unregister_trunks?,
                stop_accepting: stop_accepting?,
            })))
        }
    }
}

/// The verbs of the command driver.
struct Verbs<'c, 'a> {
    at: &'c Cursor<'a>,
}

impl<'a> Verbs<'_, 'a> {
    /// A verb without which a takeover proves nothing.
    fn needed(&self, verb: &str, build: &mut Build<'a>) -> Option<Vec<String>> {
        let at = self.at.key(verb);
        let argv = build.command(&at)?;
        if at.is_list() && argv.is_empty() {
            at.error(&mut build.notes, "is empty", "write the command; nobody else can do this for the PBX");
        }
        Some(argv)
    }
}

fn probe<'a>(at: &Cursor<'a>, pair: Option<&Pair>, build: &mut Build<'a>) -> Option<SipProbe> {
    let text = at.text()?;
    if text.is_empty() {
        let pair = pair?;
        let own = match pair.side {
            crate::units::Side::Primary => &pair.primary,
            crate::units::Side::Backup => &pair.backup,
        };
        return Some(SipProbe { host: own.listen().to_string(), port: 5060, transport: SipTransport::Udp });
    }
    let (host, port, transport) = at.take(&mut build.notes, texts::sip_uri(text))?;
    Some(SipProbe { host, port, transport })
}

fn trunk<'a>(name: &str, at: &Cursor<'a>, action_urls: Option<&[ActionUrl]>, build: &mut Build<'a>) -> Option<Trunk> {
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
    let (proof, clear) = (at.key("proof"), at.key("clear_old_binding"));
    if proof.given && kind != TrunkKind::Register && proof.text() == Some("registered") {
        proof.error(&mut build.notes, "a trunk of this kind does not register", "delete proof");
    }
    if clear.truth() == Some(true) {
        clear.error(&mut build.notes, "not yet", "this version cannot remove the primary's binding; delete it");
    }
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
                move_at.warn(&mut build.notes, format!("{name} is not sent at a takeover"), fix);
            }
            Some(_) => {}
        },
        (None, _) if kind == TrunkKind::Ip => {
            let fix = "write move: NAME of an action URL that tells the provider, or have it allow both addresses";
            at.warn(&mut build.notes, "inbound calls may not move with the service", fix);
        }
        _ => {}
    }
    Some(Trunk { name: name.to_owned(), kind, required: at.key("required").truth()?, move_url })
}

/// Reads `sync`.
pub fn sync<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Sync> {
    let (stop, start) = (build.command(&at.key("stop")), build.command(&at.key("start")));
    Some(Sync { settle: at.key("settle").duration()?, stop: stop?, start: start? })
}

/// Reads `failback`.
pub fn failback<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Failback> {
    let (return_data, start_primary) = (build.command(&at.key("return_data")), build.command(&at.key("start_primary")));
    Some(Failback {
        drain: at.key("drain").duration()?,
        lower_ttl_first: at.key("lower_ttl_first").truth()?,
        return_data: return_data?,
        return_limit: at.key("return_limit").duration()?,
        start_primary: start_primary?,
        wait_for_primary: at.key("wait_for_primary").duration()?,
    })
}
