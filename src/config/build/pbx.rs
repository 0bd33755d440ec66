//! The PBX on this node, and the way home.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::asterisk::asterisk;
use super::freeswitch::freeswitch;
use super::hosts::Pair;
use super::kamailio::kamailio;
use super::trunk::trunk;
use super::{Build, Outside, one_given};
use crate::config::cursor::Cursor;
use crate::config::hints::quote;
use crate::config::model::{
    ActionUrl, Builtin, CertificateFiles, CommandDriver, Driver, Listen, Pbx, SipProbe, SipTransport,
};
use crate::config::texts;
use crate::units::{Side, TrunkKind};

/// More working directories than this are a mistake.
const WORKING_DIRS_MAX: usize = 50;
/// More places to listen at are a mistake.
const LISTEN_MAX: usize = 16;
/// A phone that registers for longer is not found after a takeover.
const EXPIRES_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longer is no realm.
const REALM_BYTES_MAX: usize = 128;
/// Longest unit name (systemd.unit(5)).
const UNIT_BYTES_MAX: usize = 255;

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
    let driver = driver(&at.key("driver"), pair, build);
    let probe = probe(&at.key("probe"), pair, driver.as_ref(), build);
    let certificates = certificates(&at.key("certificates"), build);
    let trunks_at = at.key("trunks");
    let trunks: Option<Vec<_>> =
        trunks_at.named().into_iter().map(|(name, at)| trunk(name, &at, driver.as_ref(), action_urls, build)).collect();
    let trunks = trunks?;
    let driver = driver?;
    if matches!(driver, Driver::Freeswitch(_)) {
        super::freeswitch::trunk_names(&trunks_at, build);
    }
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
        certificates: certificates?,
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

fn driver<'a>(at: &Cursor<'a>, pair: Option<&Pair>, build: &mut Build<'a>) -> Option<Driver> {
    if !at.is_map() {
        return None;
    }
    // None or several are remarked upon by `walk`.
    match one_given(at, &["systemd", "command", "builtin", "asterisk", "freeswitch", "kamailio"])? {
        "systemd" => systemd(&at.key("systemd"), build),
        "kamailio" => Some(Driver::Kamailio(Box::new(kamailio(&at.key("kamailio"), build)?))),
        "builtin" => Some(Driver::Builtin(Box::new(builtin(&at.key("builtin"), build)?))),
        "asterisk" => {
            let at = at.key("asterisk");
            let unit = at.is_map().then(|| unit(&at.key("unit"), build)).flatten();
            let asterisk = asterisk(&at, unit, build)?;
            stays_on_this_side(&at.key("ami"), asterisk.ami.host.parse().ok(), pair, build);
            Some(Driver::Asterisk(Box::new(asterisk)))
        }
        "freeswitch" => {
            let at = at.key("freeswitch");
            let unit = at.is_map().then(|| unit(&at.key("unit"), build)).flatten();
            let freeswitch = freeswitch(&at, unit, build)?;
            stays_on_this_side(&at.key("esl"), Some(freeswitch.esl.ip()), pair, build);
            Some(Driver::Freeswitch(Box::new(freeswitch)))
        }
        _ => Some(Driver::Command(Box::new(command_driver(&at.key("command"), build)?))),
    }
}

/// A driver that starts the unit here and asks the PBX there would take the other's word for its own.
fn stays_on_this_side<'a>(at: &Cursor<'a>, asked: Option<IpAddr>, pair: Option<&Pair>, build: &mut Build<'a>) {
    let other = pair.map(|pair| match pair.side {
        Side::Primary => &pair.backup,
        Side::Backup => &pair.primary,
    });
    if let Some((other, asked)) = other.zip(asked).filter(|(other, asked)| other.addresses.contains(asked)) {
        let fix = "write the address of the PBX on this host, such as 127.0.0.1";
        at.error(&mut build.notes, format!("{asked} is the address of {}, the other host", other.node), fix);
    }
}

fn builtin<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Builtin> {
    if !at.is_map() {
        return None;
    }
    let lab = at.key("lab");
    if lab.truth() == Some(false) {
        let fix = "use another driver; in a lab, where nobody needs to dial, write lab: true";
        lab.error(
            &mut build.notes,
            "the built-in PBX connects no calls yet: phones that look well could not dial 112",
            fix,
        );
    }
    let listen_at = at.key("listen");
    let items = listen_at.items();
    if listen_at.is_list() && items.is_empty() {
        listen_at.error(&mut build.notes, "holds no place", "write udp://0.0.0.0:5060");
    } else if items.len() > LISTEN_MAX {
        listen_at.error(&mut build.notes, format!("holds more than {LISTEN_MAX} places"), "0.0.0.0 is every address");
    }
    let mut listen: Vec<Listen> = Vec::new();
    for item in &items {
        let Some(text) = item.text() else { continue };
        let Some((transport, address)) = item.take(&mut build.notes, texts::listen(text)) else { continue };
        let is_udp = |transport| transport == SipTransport::Udp;
        if listen.iter().any(|other| other.address == address && is_udp(other.transport) == is_udp(transport)) {
            item.error(&mut build.notes, "stands there twice", "delete one");
        }
        listen.push(Listen { transport, address });
    }
    let tls_at = at.key("tls");
    let is_secure = listen.iter().any(|listen| listen.transport == SipTransport::Tls);
    let tls = tls_at.given.then(|| certificate(&tls_at, build)).flatten();
    match (is_secure, tls_at.given) {
        (true, false) => {
            let fix = "write tls: { certificate: PATH, key: PATH }";
            listen_at.error(&mut build.notes, "tls needs a certificate", fix);
        }
        (false, true) => tls_at.warn(&mut build.notes, "is not used", "add tls://0.0.0.0:5061 to listen"),
        _ => {}
    }
    let (min_at, max_at) = (at.key("min_expires"), at.key("max_expires"));
    let (min_expires, max_expires) = (min_at.duration()?, max_at.duration()?);
    if min_expires > max_expires {
        min_at.error(&mut build.notes, "is longer than max_expires", "make it shorter");
    } else if max_expires > EXPIRES_MAX {
        let fix = "5m is what a failover can bear: so long a phone may stay away";
        max_at.error(&mut build.notes, "is longer than a day", fix);
    }
    let realm_at = at.key("realm");
    let realm = realm_at.text()?;
    if realm.len() > REALM_BYTES_MAX || realm.chars().any(|c| c.is_control() || "\"\\".contains(c)) {
        realm_at.error(&mut build.notes, "is no realm", "write a short text without quotes");
    }
    let accounts_at = at.key("accounts");
    if accounts_at.text() == Some("") {
        accounts_at.error(&mut build.notes, "is empty", "write pjsip.conf, or delete the key");
    }
    let accounts = accounts_at.path_buf()?;
    Some(Builtin { listen, accounts, realm: realm.to_owned(), min_expires, max_expires, tls })
}

fn certificate<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<CertificateFiles> {
    if !at.is_map() {
        return None;
    }
    let [certificate, key] = ["certificate", "key"].map(|name| {
        let at = at.key(name);
        let path = at.path_buf()?;
        build.outside.push((at, Outside::Certificates(path.clone())));
        Some(path)
    });
    Some(CertificateFiles { certificate: certificate?, key: key? })
}

fn certificates<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Vec<PathBuf>> {
    let items = at.items();
    if items.len() > WORKING_DIRS_MAX {
        at.error(
            &mut build.notes,
            format!("holds more than {WORKING_DIRS_MAX} paths"),
            "name those that phones are shown",
        );
    }
    let path = |item: &Cursor<'a>| {
        let path = item.path_buf()?;
        if path.is_relative() {
            item.error(&mut build.notes, "is no absolute path", "begin it with /");
        }
        Some(path)
    };
    items.iter().map(path).collect()
}

fn systemd<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Driver> {
    let unit = unit(&at.key("unit"), build)?;
    Some(Driver::Systemd { unit, start_timeout: at.key("start_timeout").duration()? })
}

/// A unit's full name.
pub(super) fn unit<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<String> {
    let unit = at.text()?;
    let good = unit.len() <= UNIT_BYTES_MAX
        && unit.bytes().all(|b| b.is_ascii_alphanumeric() || b":_.\\@-".contains(&b))
        && [".service", ".target"].iter().any(|end| unit.len() > end.len() && unit.ends_with(end))
        && !unit.starts_with('-');
    if !good {
        let what = format!("{} is no unit that can serve", quote(unit));
        at.error(&mut build.notes, what, "write its full name, such as pbx.service");
    }
    Some(unit.to_owned())
}

fn command_driver<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<CommandDriver> {
    let mut verb = |name| build.command(&at.key(name));
    let [passive, reload] = ["passive", "reload"].map(&mut verb);
    let [accept_registrations, register_trunks] = ["accept_registrations", "register_trunks"].map(&mut verb);
    let [status, drain] = ["status", "drain"].map(&mut verb);
    let [unregister_trunks, stop_accepting] = ["unregister_trunks", "stop_accepting"].map(&mut verb);
    for name in ["passive", "reload"] {
        let at = at.key(name);
        if at.is_list() && at.items().is_empty() {
            at.error(&mut build.notes, "is empty", "write the command; nobody else can do this for the PBX");
        }
    }
    if status.as_ref().is_some_and(Vec::is_empty) {
        let fix = "write a command that prints registrations, calls and trunks as JSON";
        at.warn(&mut build.notes, "without status nobody sees phones, calls and trunks", fix);
    }
    Some(CommandDriver {
        passive: passive?,
        reload: reload?,
        accept_registrations: accept_registrations?,
        register_trunks: register_trunks?,
        status: status?,
        drain: drain?,
        unregister_trunks: unregister_trunks?,
        stop_accepting: stop_accepting?,
    })
}

fn probe<'a>(at: &Cursor<'a>, pair: Option<&Pair>, driver: Option<&Driver>, build: &mut Build<'a>) -> Option<SipProbe> {
    let text = at.text()?;
    if text.is_empty() {
        let pair = pair?;
        let own = match pair.side {
            Side::Primary => &pair.primary,
            Side::Backup => &pair.backup,
        };
        let (transport, place) = match driver {
            // Our own listener is known; every address is also that which phones reach.
            Some(Driver::Builtin(builtin)) => builtin.listen.first().map(|listen| (listen.transport, listen.address)),
            _ => None,
        }
        .unwrap_or((SipTransport::Udp, SocketAddr::new(own.listen(), 5060)));
        let host = if place.ip().is_unspecified() { own.listen() } else { place.ip() };
        return Some(SipProbe { host: host.to_string(), port: place.port(), transport });
    }
    let (host, port, transport) = at.take(&mut build.notes, texts::sip_uri(text))?;
    Some(SipProbe { host, port, transport })
}
