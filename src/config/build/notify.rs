//! Who is told.

use std::net::IpAddr;

use lettre::message::Mailbox;

use super::{Build, Use, request};
use crate::config::cursor::Cursor;
use crate::config::model::{DeadMan, Email, MailTls, Notify};
use crate::config::texts;

/// Names of webhooks that `test notify NAME` could not tell from the other channels.
const CHANNELS: [&str; 3] = ["email", "command", "dead_man"];
/// More receivers than this are a mailing list's work.
const RECEIVERS_MAX: usize = 100;

/// Reads `notify`.
pub fn notify<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Notify> {
    let email_at = at.key("email");
    let email = if email_at.given { email(&email_at, build).map(Some) } else { Some(None) };
    let webhooks_at = at.key("webhooks");
    for item in webhooks_at.items() {
        let name = item.key("name");
        if name.text().is_some_and(|name| CHANNELS.contains(&name)) {
            name.error(&mut build.notes, "is the name of another channel", "choose another name");
        }
    }
    let webhooks = request::action_urls(&webhooks_at, build);
    let command = build.command(&at.key("command"));
    let dead_man = dead_man(&at.key("dead_man"), build);
    let (email, webhooks, command) = (email?, webhooks?, command?);
    if email.is_none() && webhooks.is_empty() && command.is_empty() {
        let fix = "write notify.email, notify.webhooks or notify.command";
        at.warn(&mut build.notes, "nobody is told of anything", fix);
    }
    Some(Notify { email, webhooks, command, repeat: at.key("repeat").duration()?, dead_man })
}

fn dead_man<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<DeadMan> {
    let url_at = at.key("url");
    let text = url_at.filled()?;
    url_at.take(&mut build.notes, texts::http_url(text))?;
    Some(DeadMan { url: text.to_owned(), every: at.key("every").duration()? })
}

fn email<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Email> {
    if !at.is_map() {
        return None;
    }
    let (tls, port) = match at.key("tls").text() {
        Some("tls") => (MailTls::Tls, 465),
        Some("none") => (MailTls::None, 25),
        _ => (MailTls::StartTls, 587),
    };
    let smtp_at = at.key("smtp");
    let smtp = smtp_at.text().and_then(|text| smtp_at.take(&mut build.notes, texts::host_port(text, Some(port))));
    let to_at = at.key("to");
    let items = to_at.items();
    if to_at.is_list() && items.is_empty() {
        to_at.error(&mut build.notes, "holds no receiver", "write at least one mail address");
    } else if items.len() > RECEIVERS_MAX {
        to_at.error(&mut build.notes, format!("holds more than {RECEIVERS_MAX} receivers"), "use a mailing list");
    }
    let to: Vec<_> = items.iter().map(|item| mailbox(item, build)).collect();
    let from_at = at.key("from");
    let from = if from_at.given {
        mailbox(&from_at, build).map(|mailbox| mailbox.to_string())
    } else {
        to.first().cloned().flatten().map(|first| format!("robot@{}", first.email.domain()))
    };
    let login = login(at, build);
    let smtp = smtp?;
    let on_loopback = smtp.0 == "localhost" || smtp.0.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    if tls == MailTls::None && !on_loopback {
        let tls_at = at.key("tls");
        if at.key("username").filled().is_some() {
            let fix = "write tls: starttls or tls, or delete username and password";
            tls_at.error(&mut build.notes, "none would send the password in clear text", fix);
        } else {
            let fix = "write tls: starttls, if the relay knows it";
            tls_at.warn(&mut build.notes, "mails travel in clear text", fix);
        }
    }
    let ca_file = build.ca_file(&at.key("ca_file"));
    let to: Option<Vec<_>> = to.into_iter().map(|mailbox| mailbox.map(|mailbox| mailbox.to_string())).collect();
    Some(Email { host: smtp.0, port: smtp.1, tls, ca_file, login: login?, from: from?, to: to? })
}

#[allow(clippy::option_option)]
fn login<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Option<(String, crate::config::Secret)>> {
    let (user_at, password_at) = (at.key("username"), at.key("password"));
    let username = user_at.text()?;
    let password = build.secret(&password_at, Use::Password);
    let has_password = password.is_some();
    if !username.is_empty() && !has_password && password_at.text() == Some("") {
        user_at.error(
            &mut build.notes,
            "has no password beside it",
            "write password: {file: PATH}, or delete username",
        );
    } else if username.is_empty() && has_password {
        password_at.error(&mut build.notes, "has no username beside it", "write username, or delete password");
    }
    Some(password.map(|password| (username.to_owned(), password)))
}

fn mailbox<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Mailbox> {
    let mailbox = at.text()?.parse::<Mailbox>();
    let fix = "write it such as ops@example.com, or \"Night shift <ops@example.com>\"";
    at.take(&mut build.notes, mailbox.map_err(|_| ("is no mail address".to_owned(), fix.to_owned())))
}
