//! The checks of the primary, the Internet quorum, and when to take over.

use std::path::{Component, PathBuf};
use std::time::Duration;

use super::hosts::Pair;
use super::{Build, exactly_one};
use crate::config::cursor::Cursor;
use crate::config::model::{
    Check, CheckTarget, DownWhen, HalfDead, Internet, InternetKind, InternetTarget, Monitor, SiteCut, Takeover,
};
use crate::config::{duration, texts};
use crate::units::CheckName;

/// More checks than this are a mistake, and would be a load.
const CHECKS_MAX: usize = 50;
/// Shorter, and a restart of the primary's PBX is taken for its death.
const HOLD_DOWN_SHORT: Duration = Duration::from_secs(10);
/// Fewer targets than this fail together too easily.
const TARGETS_FEW: usize = 3;

/// A heartbeat check whose path still waits for the working directory: its place and its index.
pub type Beat<'a> = (Cursor<'a>, usize);

/// Reads `monitor`; heartbeat files stay as written until [`heartbeats`].
pub fn monitor<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<(Monitor, Vec<Beat<'a>>)> {
    if !at.is_map() {
        return None;
    }
    let checks_at = at.key("checks");
    let named = checks_at.named();
    let (mut checks, mut beats, mut complete) = (Vec::new(), Vec::new(), true);
    for (name, check_at) in named.iter().take(CHECKS_MAX) {
        match check(name, check_at, at, build) {
            Some(check) => {
                if matches!(check.target, CheckTarget::Heartbeat { .. }) {
                    beats.push((check_at.key("heartbeat"), checks.len()));
                }
                checks.push(check);
            }
            None => complete = false,
        }
    }
    if named.len() > CHECKS_MAX {
        checks_at.error(&mut build.notes, format!("holds more than {CHECKS_MAX} checks"), "keep the telling ones");
    }
    let votes = |check: &&Check| !matches!(check.target, CheckTarget::Heartbeat { .. });
    if complete && checks_at.is_map() && checks.iter().find(votes).is_none() {
        let fix = "add an http, sip or tcp check; a heartbeat is evidence only";
        checks_at.error(&mut build.notes, "has no check that votes", fix);
    } else if complete && !checks.iter().any(|check| matches!(check.target, CheckTarget::Sip { .. })) {
        let fix = "add a sip check: a web server may live on while the PBX is dead, or die alone";
        checks_at.warn(&mut build.notes, "no check asks the PBX by SIP", fix);
    }
    let down_when = match at.key("down_when").text()? {
        "any" => DownWhen::Any,
        _ => DownWhen::All,
    };
    let half_dead_at = at.key("half_dead");
    let half_dead = if half_dead_at.is_map() {
        HalfDead::TakeoverAfter(half_dead_at.key("takeover_after").duration()?)
    } else {
        HalfDead::Alert
    };
    let site_cut = match at.key("site_cut").text()? {
        "wait" => SiteCut::Wait,
        _ => SiteCut::Takeover,
    };
    let fast_interval = at.key("fast_interval").duration()?;
    Some((Monitor { down_when, half_dead, site_cut, fast_interval, checks }, beats))
}

fn check<'a>(name: &str, at: &Cursor<'a>, monitor: &Cursor<'a>, build: &mut Build<'a>) -> Option<Check> {
    if !at.is_map() {
        return None;
    }
    let name = at.take(&mut build.notes, texts::plain_name(name));
    let interval = at.key("interval").or(&monitor.key("interval")).duration();
    let timeout_at = at.key("timeout").or(&monitor.key("timeout"));
    let timeout = timeout_at.duration();
    let fall = at.key("fall").or(&monitor.key("fall")).count();
    let rise = at.key("rise").or(&monitor.key("rise")).count();
    let kind = exactly_one(at, &["http", "sip", "tcp", "heartbeat"], &mut build.notes)?;
    for (key, of) in [
        ("expect_status", "http"),
        ("expect_body", "http"),
        ("ca_file", "http"),
        ("alive", "sip"),
        ("max_age", "heartbeat"),
    ] {
        let key = at.key(key);
        if key.given && of != kind {
            key.error(&mut build.notes, format!("belongs to {of} checks, and this is a {kind} check"), "delete it");
        }
    }
    let asked = at.key(kind);
    let target = match kind {
        "http" => {
            let status_at = at.key("expect_status");
            let expect_status = status_at.text().and_then(|t| status_at.take(&mut build.notes, texts::status_range(t)));
            let url = asked.text().and_then(|text| asked.take(&mut build.notes, texts::http_url(text)));
            CheckTarget::Http {
                url: url?.to_string(),
                expect_status: expect_status?,
                expect_body: at.key("expect_body").text()?.to_owned(),
                ca_file: build.ca_file(&at.key("ca_file")),
            }
        }
        "sip" => {
            let (host, port, transport) = asked.take(&mut build.notes, texts::sip_uri(asked.text()?))?;
            let alive = at.key("alive").items().iter().map(Cursor::whole).collect::<Option<Vec<u16>>>();
            CheckTarget::Sip { host, port, transport, alive: alive? }
        }
        "tcp" => CheckTarget::Tcp { port: asked.whole()? },
        _ => {
            if asked.text() == Some("") {
                asked.error(&mut build.notes, "is empty", "write the file's name in the working directory");
            }
            CheckTarget::Heartbeat { file: asked.path_buf()?, max_age: at.key("max_age").duration()? }
        }
    };
    let check =
        Check { name: CheckName(name?), target, interval: interval?, timeout: timeout?, fall: fall?, rise: rise? };
    if check.timeout > check.interval && timeout_at.given {
        let what = format!("is longer than the interval of {} ({})", check.name, duration::text(check.interval));
        timeout_at.warn(&mut build.notes, what, "a check that hangs is asked less often; make it shorter");
    }
    Some(check)
}

/// Puts heartbeat files into the working directory, and refuses those that lie elsewhere.
pub fn heartbeats<'a>(
    mut monitor: Monitor,
    beats: Vec<Beat<'a>>,
    dirs: &[PathBuf],
    build: &mut Build<'a>,
) -> Option<Monitor> {
    for (at, index) in beats {
        let CheckTarget::Heartbeat { file, .. } = &mut monitor.checks[index].target else { continue };
        let Some(first) = dirs.first() else { return None };
        let climbs = file.components().any(|part| part == Component::ParentDir);
        let whole: PathBuf = first.join(&*file);
        if climbs || !dirs.iter().any(|dir| whole.starts_with(dir) && whole != **dir) {
            let fix = format!("write its name only; it is looked for in {}", first.display());
            at.error(&mut build.notes, "does not lie in the working directory", fix);
        }
        *file = whole;
    }
    Some(monitor)
}

/// Reads `internet`; its pace is the monitor's.
pub fn internet<'a>(top: &Cursor<'a>, pair: Option<&Pair>, build: &mut Build<'a>) -> Option<Internet> {
    let at = top.key("internet");
    let (need_at, targets_at) = (at.key("need"), at.key("targets"));
    let need = need_at.count();
    let items = targets_at.items();
    let targets: Vec<_> = items.iter().filter_map(|item| target(item, pair, build)).collect();
    for (index, target) in targets.iter().enumerate() {
        if targets[..index].iter().any(|other| other.kind == target.kind) && targets.len() == items.len() {
            let fix = "two answers of one target are one; write another, in a different network";
            items[index].error(&mut build.notes, "stands here twice", fix);
        }
    }
    let need = need?;
    if targets_at.is_list() && usize::try_from(need.get()).is_ok_and(|need| need > items.len()) {
        let what = format!("needs {need} answers of {} targets: never enough", items.len());
        need_at.error(&mut build.notes, what, "lower need or add targets");
    } else if targets_at.is_list() && items.len() < TARGETS_FEW {
        let fix = "use at least three, in different networks, so that one outage does not stop a takeover";
        targets_at.warn(&mut build.notes, format!("{} targets are few", items.len()), fix);
    } else if need.get() == 1 {
        let fix = "write need: 2, so that one answering box near us does not pass for the Internet";
        need_at.warn(&mut build.notes, "one answer is little proof", fix);
    }
    let monitor = top.key("monitor");
    let interval = monitor.key("interval").duration()?;
    let timeout = monitor.key("timeout").duration()?;
    (targets.len() == items.len()).then_some(Internet { need, targets, interval, timeout })
}

fn target<'a>(at: &Cursor<'a>, pair: Option<&Pair>, build: &mut Build<'a>) -> Option<InternetTarget> {
    let text = at.text()?;
    let kind = at.take(&mut build.notes, texts::internet_target(text))?;
    let host = match &kind {
        InternetKind::Tls { host, .. } | InternetKind::Tcp { host, .. } | InternetKind::Dns { host, .. } => {
            host.clone()
        }
        InternetKind::Http { url } => {
            texts::http_url(url).ok()?.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned()
        }
    };
    match host.parse() {
        Err(_) => {
            let fix = "write an address; a name cannot be asked for when our DNS is what is broken";
            at.warn(&mut build.notes, "is asked by name", fix);
        }
        Ok(address) => {
            let of = |host: &crate::config::Host| host.addresses.contains(&address);
            if pair.is_some_and(|pair| of(&pair.primary) || of(&pair.backup)) {
                let fix = "write a server in another network";
                at.warn(&mut build.notes, "is one of the two hosts, which proves nothing about the Internet", fix);
            }
        }
    }
    // The name is shown in `status`; a query may hold a token.
    let name = text.split('?').next().unwrap_or_default().to_owned();
    Some(InternetTarget { name, kind })
}

/// Reads `takeover`.
pub fn takeover<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Takeover> {
    let hold_down_at = at.key("hold_down");
    let takeover = Takeover {
        automatic: at.key("automatic").truth()?,
        hold_down: hold_down_at.duration()?,
        startup_grace: at.key("startup_grace").duration()?,
        hold_off: at.key("hold_off").duration()?,
    };
    if takeover.automatic && takeover.hold_down < HOLD_DOWN_SHORT {
        let fix = "make it longer than the primary's PBX needs to restart";
        hold_down_at.warn(&mut build.notes, "a restart of the primary's PBX may be taken for its death", fix);
    }
    Some(takeover)
}
