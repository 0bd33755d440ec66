//! Mail against a real relay: aiosmtpd.

use std::time::{Duration, Instant};

use pbx_failover::adapters::courier;
use pbx_failover::config::{Email, MailTls, Notify, PlainSecret, Secret};
use pbx_failover::units::{Delivery, DeliveryOutcome};

use super::{delivery, nobody, rejected, retried};
use crate::lab::free_port;
use crate::lab::http::Authority;
use crate::lab::mail::{Relay, Sink};

fn email(port: u16) -> Email {
    Email {
        host: "127.0.0.1".into(),
        port,
        tls: MailTls::None,
        ca_file: None,
        login: None,
        from: "Störung <robot@example.com>".into(),
        to: vec!["ops@example.com".into(), "Chefin <boss@example.com>".into()],
    }
}

async fn send(email: Email, delivery: &Delivery) -> DeliveryOutcome {
    let couriers = courier::couriers_of(&[], &Notify { email: Some(email), ..nobody() }).unwrap();
    couriers[&courier::email()].deliver(delivery).await
}

fn message() -> Delivery {
    delivery(courier::email())
}

fn header<'a>(mail: &'a serde_json::Value, name: &str) -> Vec<&'a str> {
    let all = mail["headers"].as_array().unwrap();
    all.iter().filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_mail_arrives_as_it_was_written_whatever_is_in_it() {
    let Some(sink) = Sink::start(&Relay::default()) else { return };
    let mut message = message();
    message.subject = "Störung 📞 at pbx-a\r\nBcc: thief@example.net".into();
    message.text = "Grüße\n.\n..two dots\nQUIT\nlone \r return, 中文\n".to_owned() + &"long ".repeat(400) + "\n";
    let DeliveryOutcome::Accepted(line) = send(email(sink.port), &message).await else { panic!("not accepted") };
    assert_eq!(line, "250 2.0.0 Ok: queued as LAB1");
    let [mail] = &sink.mails()[..] else { panic!("not once") };
    assert_eq!(mail.from, "robot@example.com");
    assert_eq!(mail.to, ["ops@example.com", "boss@example.com"], "nobody else, whatever the subject says");
    let read = mail.read();
    assert_eq!(read["defects"], 0);
    assert_eq!(header(&read, "subject"), ["Störung 📞 at pbx-a Bcc: thief@example.net"]);
    assert_eq!(header(&read, "from"), ["Störung <robot@example.com>"]);
    assert_eq!(header(&read, "to"), ["ops@example.com, Chefin <boss@example.com>"]);
    assert_eq!(header(&read, "date"), ["Fri, 20 Nov 2026 10:02:03 +0000"]);
    assert_eq!(header(&read, "auto-submitted"), ["auto-generated"]);
    assert!(header(&read, "bcc").is_empty());
    let wanted = message.text.replace('\r', "\n");
    assert_eq!(read["text"].as_str().unwrap().replace("\r\n", "\n").trim_end(), wanted.trim_end());
}

#[tokio::test]
async fn a_mail_sent_again_bears_the_same_id_and_another_one_does_not() {
    let Some(sink) = Sink::start(&Relay::default()) else { return };
    let first = message();
    let other = Delivery { key: "01ARZ3NDEKTSV4RRFFQ69G5FAW-email".into(), ..first.clone() };
    for delivery in [&first, &first, &other] {
        assert!(matches!(send(email(sink.port), delivery).await, DeliveryOutcome::Accepted(_)));
    }
    let ids: Vec<_> = sink.mails().iter().map(|mail| header(&mail.read(), "message-id")[0].to_owned()).collect();
    assert_eq!(ids[0], "<01ARZ3NDEKTSV4RRFFQ69G5FAV-email@example.com>");
    assert!(ids[0] == ids[1] && ids[0] != ids[2], "{ids:?}");
}

#[tokio::test]
async fn a_relay_that_says_later_is_tried_again_and_one_that_says_never_is_not() {
    let Some(later) = Sink::start(&Relay { data: Some("451 4.3.0 greylisted"), ..Relay::default() }) else { return };
    let line = retried(send(email(later.port), &message()).await);
    assert_eq!(line, format!("127.0.0.1:{} said 451 4.3.0 greylisted", later.port));
    let Some(never) = Sink::start(&Relay { data: Some("550 5.7.1 no"), ..Relay::default() }) else { return };
    let line = rejected(send(email(never.port), &message()).await);
    assert_eq!(line, format!("127.0.0.1:{} said 550 5.7.1 no", never.port));
}

#[tokio::test]
async fn one_stale_address_does_not_keep_the_mail_from_the_others() {
    let Some(sink) = Sink::start(&Relay { refuse: &["ops@example.com"], ..Relay::default() }) else { return };
    let DeliveryOutcome::Accepted(line) = send(email(sink.port), &message()).await else { panic!("not accepted") };
    assert_eq!(line, "250 2.0.0 Ok: queued as LAB1; not to ops@example.com: 550 5.1.1 no such user");
    assert_eq!(sink.mails()[0].to, ["boss@example.com"]);
    let alone = Email { to: vec!["ops@example.com".into()], ..email(sink.port) };
    assert!(rejected(send(alone, &message()).await).contains("takes no receiver: ops@example.com: 550"));
}

#[tokio::test]
async fn starttls_and_tls_trust_the_own_ca_and_nothing_unknown() {
    let authority = Authority::new(&["127.0.0.1"]);
    for (kind, tls) in [("starttls", MailTls::StartTls), ("tls", MailTls::Tls)] {
        let Some(sink) = Sink::start(&Relay { tls: Some((kind, &authority)), ..Relay::default() }) else { return };
        let unknown = Email { tls, ..email(sink.port) };
        let line = retried(send(unknown.clone(), &message()).await);
        assert!(line.contains("name the CA's PEM file in notify.email.ca_file"), "{kind}: {line}");
        assert!(sink.mails().is_empty());
        let trusting = Email { ca_file: Some(authority.ca_file()), ..unknown };
        assert!(matches!(send(trusting, &message()).await, DeliveryOutcome::Accepted(_)), "{kind}");
        assert!(sink.mails()[0].tls, "{kind}");
    }
}

#[tokio::test]
async fn a_login_works_and_a_wrong_password_is_told_without_it() {
    let authority = Authority::new(&["127.0.0.1"]);
    let relay =
        Relay { tls: Some(("starttls", &authority)), login: Some(("robot", "s3cret-w0rd")), ..Relay::default() };
    let Some(sink) = Sink::start(&relay) else { return };
    let with = |password: &str| Email {
        tls: MailTls::StartTls,
        ca_file: Some(authority.ca_file()),
        login: Some(("robot".into(), Secret::Plain(PlainSecret(password.into())))),
        ..email(sink.port)
    };
    let line = retried(send(with("wr0ng-w0rd"), &message()).await);
    assert!(line.contains("refused the login (535)") && line.contains("notify.email.username and password"), "{line}");
    assert!(!line.contains("w0rd") && !format!("{:?}", with("wr0ng-w0rd")).contains("w0rd"), "{line}");
    assert!(matches!(send(with("s3cret-w0rd"), &message()).await, DeliveryOutcome::Accepted(_)));
    assert!(sink.mails()[0].auth);
}

#[tokio::test]
async fn a_relay_without_starttls_gets_nothing_in_the_clear() {
    let Some(sink) = Sink::start(&Relay::default()) else { return };
    let login = Some(("robot".into(), Secret::Plain(PlainSecret("s3cret".into()))));
    let line = retried(send(Email { tls: MailTls::StartTls, login, ..email(sink.port) }, &message()).await);
    assert!(line.contains("offers no STARTTLS, and nothing was sent in the clear"), "{line}");
    assert!(sink.mails().is_empty());
}

#[tokio::test]
async fn a_slow_relay_is_waited_for_and_a_dead_one_is_one_line_of_advice() {
    let Some(sink) = Sink::start(&Relay { slow_s: 1.0, ..Relay::default() }) else { return };
    let start = Instant::now();
    assert!(matches!(send(email(sink.port), &message()).await, DeliveryOutcome::Accepted(_)));
    assert!(start.elapsed() >= Duration::from_secs(1));
    let closed = free_port();
    let line = retried(send(email(closed), &message()).await);
    assert_eq!(
        line,
        format!("127.0.0.1:{closed} refused the connection; check that the server runs and the port is right")
    );
}
