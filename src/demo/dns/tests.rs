//! What no other server can show: limits, wrapped serials, broken messages. BIND beside it is in `tests/real/zone.rs`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, RData, Record, RecordType, TSigner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use self::damage::damage;
use super::serve::{CONNECTIONS_MAX, SILENCE_MAX};
use super::update::RECORDS_MAX;
use super::{Authority, Server, Transport, Zone};
use crate::adapters::dns::wire::{self, Fault, Request};

#[path = "../../../tests/lab/damage.rs"]
mod damage;

const NOW_S: u64 = 1_800_000_000;

const TEXT: &str = "$TTL 60
@ IN SOA ns hostmaster 4294967294 3600 600 86400 60
@ IN NS ns
ns IN A 127.0.0.1
pbx 30 IN A 127.0.0.11
alias 30 IN CNAME pbx
_sip._udp 30 IN SRV 10 0 5060 pbx
";

fn key() -> TSigner {
    TSigner::new(b"a secret of a demo".to_vec(), TsigAlgorithm::HmacSha256, name("robot."), 300).unwrap()
}

fn authority() -> Authority {
    Authority::new(Zone::parse("demo.test", TEXT).unwrap(), vec![key()])
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn txt(owner: &str, text: &str) -> Record {
    Record::from_rdata(name(owner), 0, RData::TXT(TXT::from_bytes(vec![text.as_bytes()])))
}

/// What the robot makes of our answer to its update.
fn update(authority: &mut Authority, updates: Vec<Record>) -> ResponseCode {
    let now_s = i64::try_from(NOW_S).unwrap();
    let request = Request::update(&name("demo.test."), Vec::new(), updates, &key(), now_s).unwrap();
    let answer = authority.answer(&request.bytes, Transport::Tcp, NOW_S).unwrap();
    request.judge(&answer, now_s).unwrap().response_code
}

fn serial(authority: &Authority) -> u32 {
    authority.zone().soa().unwrap().1.serial
}

fn query(owner: &str, rtype: RecordType) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(name(owner), rtype));
    message
}

#[test]
fn the_serial_rises_with_each_change_past_zero_and_with_nothing_else() {
    let mut authority = authority();
    let swap = |text| vec![txt("epoch.demo.test.", text)];
    for (text, expected) in [("1", u32::MAX), ("1", u32::MAX), ("2", 1), ("3", 2)] {
        assert_eq!(update(&mut authority, swap(text)), ResponseCode::NoError);
        assert_eq!(serial(&authority), expected, "{text}");
    }
    assert_eq!(authority.zone().texts("epoch.demo.test", RecordType::TXT), ["\"1\"", "\"2\"", "\"3\""]);
}

#[test]
fn an_update_that_fails_in_its_last_record_changes_nothing() {
    let mut authority = authority();
    let before = authority.zone().clone();
    let updates = vec![txt("epoch.demo.test.", "1"), txt("epoch.other.test.", "1")];
    assert_eq!(update(&mut authority, updates), ResponseCode::NotZone);
    assert_eq!(*authority.zone(), before);
}

#[test]
fn a_zone_and_an_update_have_a_limit() {
    let mut authority = authority();
    let many = |from: usize, count: usize| -> Vec<Record> {
        (from..from + count).map(|i| txt("many.demo.test.", &i.to_string())).collect()
    };
    assert_eq!(update(&mut authority, many(0, RECORDS_MAX + 1)), ResponseCode::Refused);
    let room = RECORDS_MAX - authority.zone().count();
    assert_eq!(update(&mut authority, many(0, room + 1)), ResponseCode::Refused);
    let start = Instant::now();
    assert_eq!(update(&mut authority, many(0, room)), ResponseCode::NoError);
    assert_eq!(update(&mut authority, many(room, 1)), ResponseCode::Refused);
    assert_eq!(authority.zone().count(), RECORDS_MAX);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_long_answer_is_truncated_over_udp_signed_all_the_same_and_whole_over_tcp() {
    let mut authority = authority();
    let long: Vec<Record> = (0..5).map(|i| txt("long.demo.test.", &i.to_string().repeat(200))).collect();
    update(&mut authority, long);
    let asked = |edns: Option<u16>| {
        let mut message = query("long.demo.test.", RecordType::TXT);
        if let Some(payload) = edns {
            message.set_edns(Edns::new()).edns.as_mut().unwrap().set_max_payload(payload);
        }
        message.finalize(&key(), NOW_S).unwrap();
        (message.to_vec().unwrap(), message.signature().unwrap().data.mac.clone())
    };
    for (edns, transport, most, count) in [
        (None, Transport::Udp, 512, 0),
        (Some(600), Transport::Udp, 600, 0),
        (Some(4096), Transport::Udp, 1232, 5),
        (None, Transport::Tcp, 65_535, 5),
    ] {
        let (bytes, mac) = asked(edns);
        let answer = authority.answer(&bytes, transport, NOW_S).unwrap();
        assert!(answer.len() <= most, "{} of {most}", answer.len());
        key().verify_message_byte(&answer, Some(&mac), true).unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(
            (answer.answers.len(), answer.truncation, answer.edns.is_some()),
            (count, count == 0, edns.is_some())
        );
    }
    // One that is too long even for TCP.
    for letter in ["a", "b"] {
        let longer = (0..150).map(|i| txt("long.demo.test.", &format!("{i:04}{}", letter.repeat(240)))).collect();
        assert_eq!(update(&mut authority, longer), ResponseCode::NoError);
    }
    let answer = authority.answer(&asked(None).0, Transport::Tcp, NOW_S).unwrap();
    assert!(Message::from_vec(&answer).unwrap().truncation);
}

#[test]
fn what_is_no_request_is_not_answered_and_what_is_broken_has_a_header_for_an_answer() {
    let mut authority = authority();
    let mut bytes = query("pbx.demo.test.", RecordType::A).to_vec().unwrap();
    assert_eq!(authority.answer(&bytes[..11], Transport::Udp, NOW_S), None);
    let broken = authority.answer(&bytes[..20], Transport::Udp, NOW_S).unwrap();
    assert_eq!((broken.len(), &broken[..2], broken[2] & 0xf8, broken[3]), (12, &bytes[..2], 0x80, 1));
    bytes[2] |= 0x80;
    assert_eq!(authority.answer(&bytes, Transport::Udp, NOW_S), None);
}

#[test]
fn an_answer_to_a_wrong_time_tells_ours() {
    let now_s = i64::try_from(NOW_S).unwrap();
    let request = Request::query(&name("pbx.demo.test."), RecordType::A, Some(&key()), now_s - 1_000).unwrap();
    let answer = authority().answer(&request.bytes, Transport::Tcp, NOW_S).unwrap();
    assert_eq!(request.judge(&answer, now_s - 1_000).unwrap_err(), Fault::BadTime(1_000));
}

#[test]
fn a_zone_without_soa_or_ns_or_with_a_stranger_is_refused() {
    let without = |word: &str| TEXT.lines().filter(|line| !line.contains(word)).collect::<Vec<_>>().join("\n");
    for text in [without("SOA"), without("NS"), format!("{TEXT}pbx.other.test. IN A 127.0.0.1\n"), "%".to_owned()] {
        assert!(Zone::parse("demo.test", &text).is_err(), "{text}");
    }
}

#[test]
fn a_hundred_thousand_mutated_messages_neither_panic_nor_take_long_nor_write_without_the_key() {
    const ROUNDS: usize = 100_000;
    let require = wire::require(&name("epoch.demo.test."), RecordType::TXT, &[]);
    let replace = wire::replace(&name("epoch.demo.test."), RecordType::TXT, 0, &[txt("x.", "epoch=1").data]);
    let more = vec![
        Record::from_rdata(name("demo.test."), 60, RData::NS(hickory_proto::rr::rdata::NS(name("ns2.demo.test.")))),
        Record::from_rdata(
            name("new.demo.test."),
            30,
            RData::CNAME(hickory_proto::rr::rdata::CNAME(name("pbx.demo.test."))),
        ),
        Record::update0(name("pbx.demo.test."), 0, RecordType::A),
    ];
    let mut corpus = Vec::new();
    for updates in [replace, more] {
        let mut message = query("demo.test.", RecordType::SOA);
        message.metadata.op_code = OpCode::Update;
        (message.answers, message.authorities) = (require.clone(), updates);
        corpus.push(message);
    }
    for (owner, rtype) in [("pbx", RecordType::A), ("alias", RecordType::ANY), ("x.pbx", RecordType::TXT)] {
        let mut message = query(&format!("{owner}.demo.test."), rtype);
        message.set_edns(Edns::new());
        corpus.push(message);
    }
    let mut random = fastrand::Rng::with_seed(0x5eed);
    let mut authority = authority();
    let (mut slowest, mut written, mut codes) = (Duration::ZERO, 0, std::collections::BTreeMap::new());
    for round in 0..ROUNDS {
        let mut message = corpus[random.usize(..corpus.len())].clone();
        // Half are changed before they are signed, so that they reach the rules behind the signature.
        let inner = round % 2 == 0;
        let mut bytes = if inner {
            let mut bytes = message.to_vec().unwrap();
            (0..=random.usize(..4)).for_each(|_| damage(&mut bytes, &mut random));
            let Ok(read) = Message::from_vec(&bytes) else { continue };
            message = read;
            message.take_signature();
            if message.finalize(&key(), NOW_S).is_err() {
                continue;
            }
            let Ok(bytes) = message.to_vec() else { continue };
            bytes
        } else {
            message.finalize(&key(), NOW_S).unwrap();
            message.to_vec().unwrap()
        };
        if !inner {
            let whole = bytes.clone();
            (0..=random.usize(..4)).for_each(|_| damage(&mut bytes, &mut random));
            if bytes == whole {
                continue;
            }
        }
        let before = serial(&authority);
        let start = Instant::now();
        let answer = authority.answer(&bytes, Transport::Udp, NOW_S);
        slowest = slowest.max(start.elapsed());
        if let Some(answer) = answer {
            let answer = Message::from_vec(&answer).expect("what we say can be read");
            *codes.entry(u16::from(answer.response_code)).or_insert(0_u32) += 1;
        }
        if serial(&authority) != before {
            // The id, and the case of the key's name, are not signed: what is written stands in the whole message.
            let read = Message::from_vec(&bytes).unwrap();
            let same = (&read.queries, &read.answers, &read.authorities)
                == (&message.queries, &message.answers, &message.authorities);
            assert!(same, "round {round}: written without a good signature");
            written += 1;
            // What it requires to be absent is there now.
            authority = self::authority();
        }
    }
    println!("{ROUNDS} mutated messages: {written} changed the zone, the slowest took {slowest:?}; codes {codes:?}");
    assert!(written > 500 && codes.len() >= 8, "the mutations go deep enough to matter: {written}, {codes:?}");
    assert!(slowest < Duration::from_secs(1));
}

async fn served() -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = server.address();
    (address, tokio::spawn(server.serve(Arc::new(Mutex::new(authority())))))
}

async fn ask(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let bytes = query("pbx.demo.test.", RecordType::A).to_vec().unwrap();
    stream.write_all(&[&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn nothing_but_loopback_is_served() {
    for address in ["0.0.0.0:0", "192.0.2.1:53", "[::]:0"] {
        assert!(Server::bind(address.parse().unwrap()).await.unwrap_err().to_string().contains("no loopback"));
    }
}

#[tokio::test]
async fn connections_past_the_limit_wait_until_one_ends() {
    let (address, _task) = served().await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask(&mut stream).await.unwrap();
        silent.push(stream);
    }
    let mut late = TcpStream::connect(address).await.unwrap();
    assert!(timeout(Duration::from_millis(200), ask(&mut late)).await.is_err());
    // UDP is answered meanwhile.
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    udp.send_to(&query("pbx.demo.test.", RecordType::A).to_vec().unwrap(), address).await.unwrap();
    let mut answer = [0; 512];
    timeout(Duration::from_secs(5), udp.recv_from(&mut answer)).await.unwrap().unwrap();
    drop(silent.pop());
    let mut length = [0; 2];
    timeout(Duration::from_secs(5), late.read_exact(&mut length)).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_ended() {
    let (address, _task) = served().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&[0]).await.unwrap();
    let start = tokio::time::Instant::now();
    assert!(matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    assert!(start.elapsed() < 2 * SILENCE_MAX);
}

#[tokio::test]
async fn the_port_and_every_connection_end_with_the_task() {
    let (address, task) = served().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    ask(&mut stream).await.unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    Server::bind(address).await.unwrap();
}
