//! How a mail is written, and relays that misbehave; good ones are real, in `tests/real`.

use std::collections::BTreeMap;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::*;
use crate::units::{EventName, Target};

fn courier(port: u16) -> EmailCourier {
    let mut courier = EmailCourier::new(&Email {
        host: "127.0.0.1".into(),
        port,
        tls: MailTls::None,
        ca_file: None,
        login: None,
        from: "Robot <robot@example.com>".into(),
        to: vec!["ops@example.com".into()],
    })
    .unwrap();
    courier.limits = Limits { talk: Duration::from_millis(300), data: Duration::from_millis(300), ..LIMITS };
    courier
}

fn delivery() -> Delivery {
    Delivery {
        key: "01K/takeover.email".into(),
        target: Target("email".into()),
        event: EventName::Takeover,
        subject: "pbx-b serves\r\nBcc: thief@example.net".into(),
        text: "line one\nline two\n".into(),
        variables: BTreeMap::from([("time".into(), "2026-11-20T10:00:00Z".into())]),
    }
}

#[test]
fn a_subject_with_line_breaks_begins_no_other_header() {
    let text = String::from_utf8(courier(25).message(&delivery()).unwrap().formatted()).unwrap();
    assert!(text.contains("Subject: pbx-b serves Bcc: thief@example.net\r\n"), "{text}");
    assert!(!text.contains("\r\nBcc:"), "{text}");
    assert!(text.contains("Date: Fri, 20 Nov 2026 10:00:00 +0000\r\n"), "{text}");
    assert!(text.contains("Message-ID: <01K%2Ftakeover%2Eemail@example.com>\r\n"), "{text}");
}

#[test]
fn an_address_that_is_none_is_refused_when_the_courier_is_made() {
    let email = Email { to: vec!["ops".into()], ..courier(25).email };
    let fault = EmailCourier::new(&email).err().unwrap();
    assert!(fault.contains("\"ops\" is no mail address"), "{fault}");
}

/// A relay that says `lines`, one after each command, and then falls silent.
async fn relay(lines: &'static [&'static str]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut heard = String::new();
        for line in lines {
            stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
            heard.clear();
            stream.read_line(&mut heard).await.unwrap();
        }
        while stream.read_line(&mut heard).await.unwrap_or(0) > 0 {}
    });
    port
}

#[tokio::test]
async fn a_relay_that_falls_silent_is_left_after_the_limit() {
    let port = relay(&["220 mail.lab.test", "250 mail.lab.test"]).await;
    let DeliveryOutcome::Retry(line) = courier(port).attempt(&delivery()).await else { panic!("not a retry") };
    assert_eq!(line, format!("127.0.0.1:{port} did not answer within 300ms"));
}

#[tokio::test]
async fn an_answer_that_belongs_to_another_command_proves_nothing() {
    let port = relay(&["220 lab", "250 lab", "250 ok", "250 ok", "250 ok", "354 go"]).await;
    let DeliveryOutcome::Retry(line) = courier(port).attempt(&delivery()).await else { panic!("not a retry") };
    assert_eq!(line, format!("127.0.0.1:{port} said 250 ok where 354 belongs"));
}

#[tokio::test]
async fn a_relay_that_never_ends_its_line_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut sent = 0;
        while let Ok(n) = stream.write(&[b'2'; 16 * 1024]).await {
            sent += n;
        }
        sent
    });
    let mut courier = courier(port);
    courier.limits = LIMITS;
    let DeliveryOutcome::Retry(line) = courier.attempt(&delivery()).await else { panic!("not a retry") };
    assert_eq!(line, format!("127.0.0.1:{port} gave no good answer: it says more than a relay should"));
    assert!(sent.await.unwrap() < 64 * 1024 * 1024);
}

#[tokio::test]
async fn silence_after_the_message_is_told_as_perhaps_accepted() {
    let port = relay(&["220 lab", "250 lab", "250 ok", "250 ok", "354 go"]).await;
    let DeliveryOutcome::Retry(line) = courier(port).attempt(&delivery()).await else { panic!("not a retry") };
    assert!(line.ends_with("it may have been accepted"), "{line}");
}
