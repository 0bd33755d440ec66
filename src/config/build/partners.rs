//! What stands around the pair: witness and observers, the fence, the primary's agent and how it is asked.

use std::net::SocketAddr;

use super::{Build, Outside, Use, request};
use crate::config::cursor::Cursor;
use crate::config::model::{ActionUrl, CertificateFiles, Role};
use crate::config::partners::{
    Agent, AgentDoor, Fence, FenceNeed, FenceWay, Peer, ReadBack, SiteKind, SitePlace, StepDown, Unreadable, Witness,
};
use crate::config::{template, texts};
use crate::units::wording::TEXTS;

/// More of them are a mistake.
const PLACES_MAX: usize = 20;

/// Reads `witness`.
pub fn witness<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Witness> {
    let (places_at, observers_at) = (at.key("primary_site"), at.key("observers"));
    for at in [&places_at, &observers_at] {
        if at.items().len() > PLACES_MAX {
            at.error(&mut build.notes, format!("holds more than {PLACES_MAX}"), "keep the telling ones");
        }
    }
    let mut complete = true;
    let mut primary_site: Vec<SitePlace> = Vec::new();
    for item in places_at.items() {
        match item.text().and_then(|text| Some((text, item.take(&mut build.notes, site(text))?))) {
            Some((_, kind)) if primary_site.iter().any(|other| other.kind == kind) => {
                item.error(&mut build.notes, "stands here twice", "delete one");
            }
            Some((text, kind)) => primary_site.push(SitePlace { name: text.to_owned(), kind }),
            None => complete = false,
        }
    }
    let observers: Vec<_> = observers_at.items().iter().map(|item| peer(item, build)).collect();
    Some(Witness { primary_site, observers: observers.into_iter().collect::<Option<_>>()? }).filter(|_| complete)
}

fn site(text: &str) -> texts::Read<SiteKind> {
    let fix = || "write tcp://ADDRESS:PORT or icmp://ADDRESS".to_owned();
    if let Some(rest) = text.strip_prefix("tcp://") {
        return texts::socket(rest, None).map(SiteKind::Tcp);
    }
    if let Some(rest) = text.strip_prefix("icmp://") {
        let bare = rest.trim_start_matches('[').trim_end_matches(']');
        return texts::address(bare).map(SiteKind::Icmp);
    }
    Err(("does not say how to ask".to_owned(), fix()))
}

/// Reads `peer`, or one of `witness.observers`.
pub fn peer<'a>(at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Peer> {
    if !at.is_map() {
        return None;
    }
    let url_at = at.key("url");
    let url = url_at.text().and_then(|text| url_at.take(&mut build.notes, peer_url(text)));
    let token = build.needed_secret(&at.key("token"), Use::Token);
    let certificate_at = at.key("certificate");
    let certificate = certificate_at.given.then(|| {
        let file_at = certificate_at.key("file");
        if file_at.text() == Some("") {
            file_at.error(&mut build.notes, "is empty", "write the path, or delete certificate");
        }
        build.ca_file(&file_at)
    });
    Some(Peer { url: url?, token: token?, certificate: certificate.map_or(Some(None), |file| file.map(Some))? })
}

fn peer_url(text: &str) -> texts::Read<String> {
    let url = texts::http_url(text)?;
    let fix = || "write https://ADDRESS:8471".to_owned();
    if url.scheme() != "https" {
        return Err(("is not https, and it carries a token".to_owned(), fix()));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(("has something behind the port".to_owned(), fix()));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Reads `fence`; the inner `None`: there is none.
#[allow(clippy::option_option)] // the outer one is "remarked upon", as in every builder
pub fn fence<'a>(at: &Cursor<'a>, dns_at: &Cursor<'a>, build: &mut Build<'a>) -> Option<Option<Fence>> {
    // A URL or a body with an empty variable would go out with a hole, perhaps to another host's switch.
    let moves = dns_at.key("updates").items().iter().any(|update| !update.key("records").items().is_empty());
    let of_records: &[&str] = if moves { &[] } else { &["dns_name", "ttl"] };
    let no_message = [&TEXTS, of_records].concat();
    let no_plan = [&TEXTS, &["id", "epoch"], of_records].concat();
    let (command_at, http_at, read_back_at) = (at.key("command"), at.key("http"), at.key("read_back"));
    let command = build.command(&command_at)?;
    let http = if http_at.given { Some(fence_request(&http_at, &no_message, build)?) } else { None };
    let required_at = at.key("required");
    let cut = match (command.is_empty(), http) {
        (false, Some(_)) => {
            http_at.error(&mut build.notes, "stands beside command", "keep one of them");
            return None;
        }
        (false, None) => FenceWay::Command(command),
        (true, Some(request)) => FenceWay::Http(Box::new(request)),
        (true, None) => {
            if required_at.truth() == Some(true) {
                let fix = "write fence.command or fence.http";
                required_at.error(&mut build.notes, "requires a fence that is not there", fix);
                return None;
            }
            if read_back_at.key("http").given || !read_back_at.key("command").command()?.is_empty() {
                let fix = "write fence.command or fence.http, or delete read_back";
                read_back_at.error(&mut build.notes, "reads back what nothing cuts", fix);
                return None;
            }
            return Some(None);
        }
    };
    let need = if required_at.truth()? { FenceNeed::Required } else { FenceNeed::Optional };
    let read_back = read_back(&read_back_at, &no_plan, build)?;
    if read_back.is_none() {
        let fix = "write fence.read_back, so that the primary is seen to be off";
        at.warn(&mut build.notes, "is believed by its own word", fix);
    }
    Some(Some(Fence { cut, read_back, need, timeout: at.key("timeout").duration()? }))
}

/// A request of the fence; `empty`: the variables that have no value where it is sent: no message goes with it, and `check`
/// reads back before any plan.
fn fence_request<'a>(at: &Cursor<'a>, empty: &[&str], build: &mut Build<'a>) -> Option<ActionUrl> {
    let request = request::unnamed(at, build)?;
    let headers = at.key("headers").named();
    let mut holes = vec![(at.key("url"), template::uses(&request.url, empty))];
    holes.extend(
        headers.into_iter().map(|(_, at)| (at.clone(), at.text().and_then(|text| template::uses(text, empty)))),
    );
    holes.push((at.key("body"), template::uses_any(&at.key("body").json(), empty)));
    for (at, hole) in holes {
        let Some(name) = hole else { continue };
        let fix = "use what is known there, such as {{ primary_node }} or {{ primary_address }}";
        at.error(&mut build.notes, format!("names {name}, which is empty in this request"), fix);
    }
    Some(request)
}

#[allow(clippy::option_option)] // as above
fn read_back<'a>(at: &Cursor<'a>, no_plan: &[&str], build: &mut Build<'a>) -> Option<Option<ReadBack>> {
    let (command_at, http_at) = (at.key("command"), at.key("http"));
    let command = build.command(&command_at)?;
    if !http_at.given {
        return Some((!command.is_empty()).then_some(ReadBack::Command(command)));
    }
    if !command.is_empty() {
        http_at.error(&mut build.notes, "stands beside command", "keep one of them");
        return None;
    }
    let body_at = http_at.key("expect_body");
    let expect_body = body_at.text()?;
    if expect_body.is_empty() {
        body_at.error(&mut build.notes, "is empty: every answer would mean off", "write what only an off host answers");
    }
    let request = Box::new(fence_request(&http_at, no_plan, build)?);
    Some(Some(ReadBack::Http { request, expect_body: expect_body.to_owned() }))
}

/// Reads `agent`.
pub fn agent<'a>(at: &Cursor<'a>, role: Option<Role>, build: &mut Build<'a>) -> Option<Agent> {
    let (listen_at, token_at, tls_at) = (at.key("listen"), at.key("token"), at.key("tls"));
    let listen: Option<SocketAddr> =
        listen_at.text().and_then(|text| listen_at.take(&mut build.notes, texts::socket(text, None)));
    let token = if token_at.given { build.needed_secret(&token_at, Use::Token).map(Some) } else { Some(None) };
    let [certificate, key] = ["certificate", "key"].map(|name| {
        let at = tls_at.key(name);
        if at.text() == Some("") {
            at.error(&mut build.notes, "is empty", "write the path of the PEM file");
        }
        let path = at.path_buf()?;
        if path.is_relative() {
            at.error(&mut build.notes, "is no absolute path", "begin it with /");
        }
        if token_at.given {
            let thing =
                if name == "key" { Outside::PrivateKey(path.clone()) } else { Outside::Certificates(path.clone()) };
            build.outside.push((at, thing));
        }
        Some(path)
    });
    if role == Some(Role::Observer) && !token_at.given {
        // No refusal: `keys`, which makes it, reads names and roles from this file. `run` refuses to start without it.
        token_at.warn(
            &mut build.notes,
            "is not written: an observer tells its view to nobody, and `run` does not start",
            "run `pbx-failover keys`, and write the lines that it prints",
        );
    }
    let step_down = match at.key("step_down").text()? {
        "alert" => StepDown::Alert,
        "unregister_trunks" => StepDown::UnregisterTrunks,
        _ => StepDown::Stop,
    };
    let unreadable_at = at.key("epoch_unreadable");
    let unreadable = match unreadable_at.key("do").text()? {
        "stop" => Unreadable::Stop,
        "unregister_trunks" => Unreadable::UnregisterTrunks,
        _ => Unreadable::Keep,
    };
    let (listen, tls) = (listen?, CertificateFiles { certificate: certificate?, key: key? });
    let door = token?.map(|token| AgentDoor { listen, token, tls });
    Some(Agent { door, step_down, unreadable_after: unreadable_at.key("after").duration()?, unreadable })
}
