//! What only the whole file can tell: values that contradict each other, names that name nothing.
//!
//! One file for each part of failover.yaml. Builders never stop at the first mistake: they read all their keys,
//! remark, and give `None` where a value could not be had, which `walk` or they themselves have remarked upon.

mod asterisk;
mod dns;
mod failback;
mod freeswitch;
mod hosts;
mod kamailio;
mod monitor;
mod notify;
mod partners;
mod paths;
mod pbx;
mod request;
mod sync;
mod trunk;

use std::path::{Path, PathBuf};

use super::cursor::Cursor;
use super::hints::any_of;
use super::model::{Config, Role, Secret, SourceText};
use super::remark::Notes;
use super::texts;

/// The builder's memory while one file is read.
pub struct Build<'a> {
    /// Where the file lies.
    pub file: &'a Path,
    /// The host name, which `node` defaults to.
    pub host_name: &'a str,
    /// What was remarked.
    pub notes: Notes,
    /// Things that lie outside the file, to be looked at when it is loaded.
    pub outside: Vec<(Cursor<'a>, Outside)>,
}

/// Something that the file points at.
pub enum Outside {
    /// A secret and what it is for.
    Secret(Secret, Use),
    /// A file with PEM certificates.
    Certificates(PathBuf),
    /// A file with a private key.
    PrivateKey(PathBuf),
    /// A synced directory.
    WorkingDir(PathBuf),
    /// A program.
    Program(PathBuf),
    /// A text in the file itself that smells of a secret, such as an `Authorization` header.
    PlainText,
}

/// What a secret is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A TSIG key: base64.
    Tsig,
    /// What our own hosts prove themselves with: long enough that nobody guesses it.
    Token,
    /// Anything else.
    Password,
    /// The password of FreeSWITCH's event socket: not the stock one.
    EventSocket,
}

/// Builds the configuration; `None` when something was remarked upon, here or before.
pub fn config<'a>(top: &Cursor<'a>, text: &str, build: &mut Build<'a>) -> Option<Config> {
    let hosts = hosts::pair(top, build);
    let monitor = monitor::monitor(&top.key("monitor"), build);
    let internet = monitor::internet(top, hosts.as_ref(), build);
    let role = hosts.as_ref().map(|hosts| hosts.role);
    let takeover = monitor::takeover(&top.key("takeover"), build);
    let witness = build.only_on(role, &[Role::Backup], |build| partners::witness(&top.key("witness"), build));
    let fence =
        build.only_on(role, &[Role::Backup], |build| partners::fence(&top.key("fence"), &top.key("dns"), build));
    let peer_at = top.key("peer");
    let peer = build.only_on(role, &[Role::Backup], |build| {
        if peer_at.given { partners::peer(&peer_at, build).map(Some) } else { Some(None) }
    });
    let agent =
        build.only_on(role, &[Role::Primary, Role::Observer], |build| partners::agent(&top.key("agent"), role, build));
    let serving = [Role::Backup, Role::Primary];
    let dns = build.only_on(role, &serving, |build| dns::dns(&top.key("dns"), hosts.as_ref(), build));
    let epoch = dns::epoch(&top.key("epoch"), dns.as_ref(), build);
    let action_urls =
        build.only_on(role, &[Role::Backup], |build| request::action_urls(&top.key("action_urls"), build));
    let pbx =
        build.only_on(role, &serving, |build| pbx::pbx(&top.key("pbx"), hosts.as_ref(), action_urls.as_deref(), build));
    let notify = build.only_on(role, &serving, |build| notify::notify(&top.key("notify"), build));
    let places = paths::places(top, build);
    let dirs = pbx.as_ref().map(|pbx| pbx.working_dirs.as_slice()).unwrap_or_default();
    let failback = build.only_on(role, &[Role::Backup], |build| failback::failback(&top.key("failback"), dirs, build));
    paths::outside_working_dirs(top, dirs, build);
    let sync = sync::sync(&top.key("sync"), dirs, build);
    let monitor = monitor.and_then(|(monitor, beats)| monitor::heartbeats(monitor, beats, dirs, build));
    let (hosts, places) = (hosts?, places?);
    Some(Config {
        path: build.file.to_owned(),
        text: SourceText(text.to_owned()),
        node: hosts.node,
        role: hosts.role,
        side: hosts.side,
        primary: hosts.primary,
        backup: hosts.backup,
        monitor: monitor?,
        internet: internet?,
        witness: witness?,
        takeover: takeover?,
        epoch: epoch?,
        fence: fence?,
        pbx: pbx?,
        sync: sync?,
        dns: dns?,
        action_urls: action_urls?,
        notify: notify?,
        agent: agent?,
        peer: peer?,
        failback: failback?,
        state_dir: places.state_dir,
        control: places.control,
        page: places.page,
    })
}

impl<'a> Build<'a> {
    /// Reads what only hosts of these roles use: on another one, the secrets and files that it names need not be there.
    fn only_on<T>(&mut self, role: Option<Role>, roles: &[Role], read: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.outside.len();
        let value = read(self);
        if role.is_some_and(|role| !roles.contains(&role)) {
            // What is written in the file itself is there on every host, and may be read by nobody else there too.
            let of_others = self.outside.split_off(before);
            let written = |thing: &Outside| matches!(thing, Outside::Secret(Secret::Plain(_), _) | Outside::PlainText);
            self.outside.extend(of_others.into_iter().filter(|(_, thing)| written(thing)));
        }
        value
    }

    /// A secret; an empty plain text is none.
    fn secret(&mut self, at: &Cursor<'a>, usage: Use) -> Option<Secret> {
        let secret = if at.is_map() {
            let (file, env, credential) = (at.key("file"), at.key("env"), at.key("credential"));
            if let Some(path) = file.path_buf() {
                if path.is_relative() {
                    file.error(&mut self.notes, "is no absolute path", "begin it with /");
                }
                Secret::File(path)
            } else if let Some(name) = env.filled() {
                Secret::Env(name.to_owned())
            } else if let Some(name) = credential.filled() {
                if texts::plain_name(name).is_err() {
                    credential.error(&mut self.notes, "is no name of a credential", "write it as in LoadCredential=");
                }
                Secret::Credential(name.to_owned())
            } else {
                if [file, env, credential].iter().any(|place| place.given && place.text() == Some("")) {
                    at.error(&mut self.notes, "names no place", "write the path or the name where the secret lies");
                }
                return None;
            }
        } else {
            let text = at.text()?;
            if text.is_empty() {
                if usage == Use::Tsig {
                    at.error(&mut self.notes, "is empty", "write {file: PATH} with the key's secret in the file");
                }
                return None;
            }
            Secret::Plain(super::model::PlainSecret(text.to_owned()))
        };
        self.outside.push((at.clone(), Outside::Secret(secret.clone(), usage)));
        Some(secret)
    }

    /// A secret that must not be empty.
    fn needed_secret(&mut self, at: &Cursor<'a>, usage: Use) -> Option<Secret> {
        let secret = self.secret(at, usage);
        if secret.is_none() && at.text() == Some("") && usage != Use::Tsig {
            at.error(&mut self.notes, "is empty", "write the secret, or better {file: PATH}");
        }
        secret
    }

    /// An own CA; empty: none.
    fn ca_file(&mut self, at: &Cursor<'a>) -> Option<PathBuf> {
        let path = at.path_buf()?;
        if path.is_relative() {
            at.error(&mut self.notes, "is no absolute path", "begin it with /");
        } else {
            self.outside.push((at.clone(), Outside::Certificates(path.clone())));
        }
        Some(path)
    }

    /// A command; empty: nothing to do.
    fn command(&mut self, at: &Cursor<'a>) -> Option<Vec<String>> {
        let argv = at.command()?;
        if let Some(program) = argv.first().map(Path::new) {
            if program.is_absolute() {
                self.outside.push((at.clone(), Outside::Program(program.to_owned())));
            } else if program.components().count() > 1 {
                at.error(&mut self.notes, "is a relative path", "begin the program's path with /");
            }
        }
        Some(argv)
    }
}

/// The one key of several that stands in this map; `None` when none or several do.
fn one_given<'k>(at: &Cursor<'_>, keys: &[&'k str]) -> Option<&'k str> {
    let given = at.given_keys();
    let mut found = keys.iter().copied().filter(|key| given.contains(key));
    found.next().filter(|_| found.next().is_none())
}

/// As [`one_given`], with a remark when it is not so.
fn exactly_one<'k>(at: &Cursor<'_>, keys: &[&'k str], notes: &mut Notes) -> Option<&'k str> {
    let one = one_given(at, keys);
    if one.is_none() {
        let given = at.given_keys();
        let several: Vec<&str> = keys.iter().copied().filter(|key| given.contains(key)).collect();
        if several.is_empty() {
            at.error(notes, format!("has none of {}", any_of(keys)), "write exactly one of them");
        } else {
            at.error(notes, format!("has {} together", several.join(" and ")), "keep exactly one of them");
        }
    }
    one
}
