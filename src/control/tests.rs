//! The counter over connections in memory: limits, times, and a hundred thousand mutated requests.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use super::door::{Accept, Peer};
use super::routes;
use super::*;
use crate::ports::Answer;
use crate::units::journal::{HistoryEvent, HistoryQuery};
use crate::units::operator::{REASON_CHARS_MAX, Reply, Request};
use crate::units::snapshot::{Explanation, Status};
use crate::units::{PlanKind, Serving};

/// Connections in memory.
struct Wires(mpsc::Receiver<DuplexStream>);

impl Accept for Wires {
    type Io = DuplexStream;

    async fn next(&mut self) -> io::Result<(DuplexStream, Peer)> {
        match self.0.recv().await {
            Some(wire) => Ok((wire, Peer { by: "uid 7".to_owned() })),
            None => std::future::pending().await,
        }
    }
}

/// Answers at once, and counts what it was asked to do.
#[derive(Default)]
struct Clerk {
    acted: AtomicUsize,
    hangs: bool,
}

impl Desk for Clerk {
    fn status(&self) -> Answer<'_, Status> {
        Box::pin(async {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            Status { version: "1".to_owned(), pairs: Vec::new() }
        })
    }

    fn explain(&self) -> Answer<'_, Explanation> {
        let answer = "the primary is up".to_owned();
        Box::pin(async { Explanation { answer, inputs: vec![], blocks: vec![], hints: vec![] } })
    }

    fn history(&self, query: HistoryQuery) -> Answer<'_, Result<Vec<HistoryEvent>, String>> {
        assert!((1..=1000).contains(&query.limit));
        Box::pin(async { Ok(Vec::new()) })
    }

    fn preview(&self, plan: PlanKind) -> Answer<'_, Result<Preview, String>> {
        Box::pin(async move {
            Ok(Preview {
                plan,
                steps: vec![],
                carried_s: None,
                without_service_s: None,
                refused: None,
                stands_against: vec![],
            })
        })
    }

    fn operate(&self, request: Request) -> Answer<'_, Reply> {
        assert_eq!(request.by, "uid 7");
        assert!(request.reason.chars().count() <= REASON_CHARS_MAX && !request.reason.contains('\n'));
        self.acted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            Reply::Accepted(request.command.name().to_owned())
        })
    }

    fn serving(&self) -> Answer<'_, Serving> {
        Box::pin(async { Serving::Yes })
    }

    fn alive(&self) -> Answer<'_, ()> {
        Box::pin(async {})
    }
}

fn counter(clerk: &Arc<Clerk>) -> mpsc::Sender<DuplexStream> {
    let (sender, wires) = mpsc::channel(1);
    let desk: Arc<dyn Desk> = Arc::clone(clerk) as _;
    tokio::spawn(routes::serve(Wires(wires), routes::all(desk)));
    sender
}

/// What comes back for these bytes until the other end closes. Time is virtual: a request that never ends costs none.
async fn exchange(counter: &mpsc::Sender<DuplexStream>, bytes: &[u8]) -> String {
    let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
    counter.send(theirs).await.expect("the counter is open");
    // The other end may close before it has read everything.
    let _ = ours.write_all(bytes).await;
    let mut back = Vec::new();
    let end = tokio::time::timeout(3 * CONNECTION_TIME_MAX, ours.read_to_end(&mut back)).await;
    assert!(end.is_ok(), "neither an answer nor an end: {:?}", String::from_utf8_lossy(bytes));
    String::from_utf8_lossy(&back).into_owned()
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: control\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn code(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn each_command_becomes_its_request_and_a_slip_becomes_a_line() {
    let clerk = Arc::new(Clerk::default());
    let counter = counter(&clerk);
    let good = [
        ("takeover", r#"{"reason":"switchover","primary_is_stopped":true}"#),
        ("failback", r#"{"reason":"repaired","wait":true}"#),
        ("pause", r#"{"reason":"new cable","until":"2026-11-20T12:00:00Z"}"#),
        ("unpause", ""),
        ("continue", r#"{"reason":"it is off","fenced_by_hand":true}"#),
        ("abandon", r#"{"reason":"no","to":"pbx-a"}"#),
        ("ack", r#"{"reason":"seen"}"#),
    ];
    for (name, body) in good {
        let answer = exchange(&counter, post(&format!("/v1/{name}"), body).as_bytes()).await;
        assert_eq!(code(&answer), 202, "{answer}");
        assert!(answer.contains(&format!(r#"{{"answer":"accepted","text":"{name}"}}"#)), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    assert_eq!(clerk.acted.load(Ordering::Relaxed), good.len());
    let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(REASON_CHARS_MAX + 1));
    let bad = [
        ("takeover", "", 400, "empty"),
        ("takeover", "{}", 400, "missing field `reason`"),
        ("takeover", r#"{"reason":" "}"#, 400, "in a few words"),
        ("takeover", r#"{"reason":"x","although_cutoff":true}"#, 400, "unknown field `although_cutoff`"),
        ("takeover", r#"{"reason":"x","by":"root"}"#, 400, "unknown field `by`"),
        ("takeover", r#"{"reason":"a\nb"}"#, 400, "one line"),
        ("failback", &long, 400, "at most 500"),
        ("pause", r#"{"reason":"x"}"#, 400, "missing field `until`"),
        ("abandon", r#"{"reason":"x","to":"not a name"}"#, 400, "node name"),
        ("ack", "[]", 400, "no JSON object"),
        ("takeover", r#"["by position",true,true,true]"#, 400, "no JSON object"),
        ("promote", "{}", 404, "no such path"),
        ("status", "{}", 405, "not by this method"),
    ];
    for (name, body, status, told) in bad {
        let answer = exchange(&counter, post(&format!("/v1/{name}"), body).as_bytes()).await;
        assert_eq!(code(&answer), status, "{name} {body}: {answer}");
        assert!(answer.contains(told) && answer.contains("\"hint\""), "{name} {body}: {answer}");
    }
    let large = exchange(&counter, post("/v1/ack", &" ".repeat(BODY_BYTES_MAX + 1)).as_bytes()).await;
    assert_eq!(code(&large), 413, "{large}");
    assert_eq!(clerk.acted.load(Ordering::Relaxed), good.len(), "nothing was done for any of them");
}

#[tokio::test(start_paused = true)]
async fn history_takes_its_parameters_and_no_others() {
    let clerk = Arc::new(Clerk::default());
    let counter = counter(&clerk);
    for (query, status) in [
        ("", 200),
        ("?since=2026-11-20T10:00:00Z&limit=5&kind=operator&order=oldest", 200),
        ("?limit=0", 400),
        ("?limit=99999", 400),
        ("?since=yesterday", 400),
        ("?sinse=2026-11-20T10:00:00Z", 400),
    ] {
        let answer = exchange(&counter, format!("GET /v1/history{query} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
        assert_eq!(code(&answer), status, "{query}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_does_not_answer_becomes_a_504_that_says_what_may_have_happened() {
    let counter = counter(&Arc::new(Clerk { hangs: true, ..Clerk::default() }));
    let answer = exchange(&counter, b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(code(&answer), 504, "{answer}");
    let answer = exchange(&counter, post("/v1/failback", r#"{"reason":"x"}"#).as_bytes()).await;
    assert_eq!(code(&answer), 504, "{answer}");
    assert!(answer.contains("may have been accepted"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn connections_that_say_nothing_end_and_make_room() {
    let clerk = Arc::new(Clerk::default());
    let counter = counter(&clerk);
    let mut silent = Vec::new();
    for n in 0..CONNECTIONS_MAX {
        let (mut ours, theirs) = tokio::io::duplex(1024);
        if n % 2 == 0 {
            ours.write_all(b"GET /v1/status HT").await.unwrap();
        }
        counter.send(theirs).await.unwrap();
        silent.push(ours);
    }
    let began = tokio::time::Instant::now();
    let answer = exchange(&counter, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(code(&answer), 200, "{answer}");
    let waited = began.elapsed();
    assert!(waited >= CONNECTION_TIME_MAX && waited < CONNECTION_TIME_MAX * 2, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn an_endless_head_ends_the_connection() {
    let clerk = Arc::new(Clerk::default());
    let counter = counter(&clerk);
    let (mut ours, theirs) = tokio::io::duplex(1024);
    counter.send(theirs).await.unwrap();
    ours.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let mut sent = 0;
    while ours.write_all(b"x-more: and more and more\r\n").await.is_ok() {
        sent += 27;
        assert!(sent < 2 * CONNECTION_BYTES_MAX, "it reads for ever");
    }
}

/// 100,000 by default; `CONTROL_REQUESTS` makes it another number.
fn rounds() -> usize {
    std::env::var("CONTROL_REQUESTS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000)
}

/// A good request with something wrong in it.
fn mutated(rng: &mut TestRng) -> Vec<u8> {
    const GOOD: [(&str, &str); 8] = [
        ("/v1/takeover", r#"{"reason":"switchover","primary_is_stopped":true,"although_cut_off":false}"#),
        ("/v1/failback", r#"{"reason":"repaired","wait":true,"cut_calls":false,"undo":false}"#),
        ("/v1/pause", r#"{"reason":"new cable","until":"2026-11-20T12:00:00Z"}"#),
        ("/v1/unpause", "{}"),
        ("/v1/continue", r#"{"reason":"it is off","fenced_by_hand":true}"#),
        ("/v1/abandon", r#"{"reason":"no","to":"pbx-a"}"#),
        ("/v1/history?since=2026-11-20T10:00:00Z&limit=5&kind=operator&order=oldest", ""),
        ("/v1/plan/takeover", ""),
    ];
    const PIECES: [&str; 16] = [
        "\r\n\r\n",
        "\0",
        "{",
        "}",
        "\"",
        "\\u0000",
        "\\ud800",
        "999999999999999999999",
        "-1",
        "null",
        "[[[[[[[[",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 18446744073709551615\r\n",
        "ff\r\n",
        "é",
        "%00",
    ];
    let mut below = |n: usize| usize::try_from(rng.next_u64() % n as u64).expect("below a usize");
    let (path, body) = GOOD[below(GOOD.len())];
    if below(3) > 0 && !body.is_empty() {
        // Most of the time only the body suffers, so that it reaches what reads it.
        let mut body = body.as_bytes().to_vec();
        damage(&mut body, &PIECES, &mut below);
        let mut bytes = format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend(body);
        return bytes;
    }
    let mut bytes = if body.is_empty() {
        format!("GET {path} HTTP/1.1\r\nHost: control\r\n\r\n").into_bytes()
    } else {
        post(path, body).into_bytes()
    };
    damage(&mut bytes, &PIECES, &mut below);
    bytes
}

fn damage(bytes: &mut Vec<u8>, pieces: &[&str], below: &mut impl FnMut(usize) -> usize) {
    for _ in 0..=below(4) {
        let place = below(bytes.len().max(1)).min(bytes.len());
        let to = (place + below(8)).min(bytes.len());
        match below(5) {
            0 if place < bytes.len() => bytes[place] ^= 1 << below(8),
            1 if below(4) == 0 => bytes.truncate(place),
            2 => drop(bytes.splice(place..place, pieces[below(pieces.len())].bytes())),
            3 => {
                let again: Vec<u8> = bytes[place..].iter().take(below(64)).copied().collect();
                drop(bytes.splice(place..place, again));
            }
            _ => drop(bytes.drain(place..to)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn mutated_requests_are_answered_or_closed_and_the_counter_stays_open() {
    let clerk = Arc::new(Clerk::default());
    let counter = counter(&clerk);
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut codes = std::collections::BTreeMap::new();
    let mut before_kb = 0;
    let rounds = rounds();
    for round in 0..rounds {
        let bytes = mutated(&mut rng);
        let answer = exchange(&counter, &bytes).await;
        let code = code(&answer);
        let known = [0, 200, 202, 400, 404, 405, 413, 431];
        assert!(known.contains(&code), "round {round}: {answer}\n{:?}", String::from_utf8_lossy(&bytes));
        *codes.entry(code).or_insert(0_usize) += 1;
        if round == rounds / 10 {
            before_kb = resident_kb();
        }
    }
    let grown_kb = resident_kb().saturating_sub(before_kb);
    eprintln!("{codes:?}, resident memory grew by {grown_kb} kB over the last nine tenths");
    assert!(grown_kb < 4096, "resident memory grew by {grown_kb} kB");
    assert!(codes[&400] > rounds / 10 && codes[&202] > rounds / 100, "{codes:?}");
    let answer = exchange(&counter, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(code(&answer), 200, "{answer}");
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
