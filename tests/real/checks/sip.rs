//! The SIP check against Kamailio, and against sockets that lose, delay and lie.

use std::sync::{Arc, Mutex};

use super::*;

fn sip(port: u16, transport: SipTransport) -> CheckTarget {
    CheckTarget::Sip { host: "pbx.test".to_owned(), port, transport, alive: Vec::new() }
}

/// A Kamailio that answers OPTIONS with 200 over UDP and TCP; gone with its whole process tree when dropped.
struct Kamailio {
    port: u16,
    running: Running,
    _dir: tempfile::TempDir,
}

impl Kamailio {
    fn start() -> Self {
        const SCRIPT: &str = r#"
debug=0
log_stderror=yes
children=1
tcp_children=1
dns=no
rev_dns=no
auto_aliases=no
loadmodule "sl.so"
loadmodule "textops.so"
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "Keepalive"); exit; }
    sl_send_reply("403", "Only OPTIONS");
}
"#;
        let (dir, port) = (tempfile::tempdir().expect("directory"), free_port());
        let path = |name: &str| dir.path().join(name).display().to_string();
        let listen = format!("listen=udp:127.0.0.1:{port}\nlisten=tcp:127.0.0.1:{port}\n");
        std::fs::write(path("cfg"), listen + SCRIPT).expect("file");
        let (cfg, pid, run) = (path("cfg"), path("pid"), dir.path().display().to_string());
        // A namespace of processes: whoever ends the first of them ends all.
        let argv = ["unshare", "--pid", "--fork", "--kill-child", "kamailio", "-DD", "-E", "-f", &cfg];
        let argv = [&argv[..], &["-P", &pid, "-Y", &run, "-m", "16", "-M", "4"]].concat();
        let running = Running::start_with(&argv, &dir.path().join("log"), |command| {
            command.env("PATH", std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin");
        });
        let kamailio = Self { port, running, _dir: dir };
        let runtime = runtime();
        wait_until("kamailio answers over UDP and TCP", Duration::from_secs(20), || {
            [SipTransport::Udp, SipTransport::Tcp].into_iter().all(|transport| {
                let result = runtime.block_on(ask(sip(port, transport), SHORT));
                matches!(result.answer, ProbeAnswer::Up { .. })
            })
        });
        kamailio
    }
}

#[test]
fn kamailio_is_up_over_udp_and_tcp_and_down_at_once_when_killed() {
    if !have(&["kamailio", "unshare"]) {
        return;
    }
    let mut kamailio = Kamailio::start();
    let runtime = runtime();
    for transport in [SipTransport::Udp, SipTransport::Tcp] {
        let result = runtime.block_on(ask(sip(kamailio.port, transport), PATIENT));
        assert_eq!(up(&result), ("200 Keepalive", None));
    }
    kamailio.running.kill();
    for transport in [SipTransport::Udp, SipTransport::Tcp] {
        // The port is refused as soon as the last of the killed processes is gone.
        wait_until("kamailio is gone", PATIENT, || {
            let result = runtime.block_on(ask(sip(kamailio.port, transport), PATIENT));
            result.latency < SHORT && result.answer == ProbeAnswer::Down("connection refused".to_owned())
        });
    }
}

/// The value of a header of a request that we sent, which has each at most once.
fn header(request: &[u8], name: &str) -> String {
    let text = String::from_utf8(request.to_vec()).expect("our own text");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).expect("the header");
    line.to_owned()
}

/// An answer to `request` as servers give it, with `more` header lines.
fn answer(request: &[u8], status: &str, more: &str) -> Vec<u8> {
    let of = |name| header(request, name);
    format!(
        "SIP/2.0 {status}\r\nv: {};received=192.0.2.1\r\nf: {}\r\nt: {};tag=x\r\ni: {}\r\nCSeq: {}\r\n{more}l: 0\r\n\r\n",
        of("Via"),
        of("From"),
        of("To"),
        of("Call-ID"),
        of("CSeq")
    )
    .into_bytes()
}

/// Asks a server over UDP that gives `status` and `more` to everybody.
async fn ask_one_that_says(status: &'static str, more: &'static str, alive: &[u16]) -> ProbeResult {
    let raw = RawUdp::answering(move |_, request| vec![answer(request, status, more)]);
    let host = "pbx.test".to_owned();
    let target =
        CheckTarget::Sip { host, port: raw.address.port(), transport: SipTransport::Udp, alive: alive.to_vec() };
    ask(target, PATIENT).await
}

#[tokio::test]
async fn lost_datagrams_are_sent_again_as_the_rfc_says() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen_at = Arc::clone(&times);
    let raw = RawUdp::answering(move |number, request| {
        seen_at.lock().expect("no panic holds it").push(Instant::now());
        if number < 3 { Vec::new() } else { vec![answer(request, "200 OK", "")] }
    });
    let result = ask(sip(raw.address.port(), SipTransport::Udp), PATIENT).await;
    assert_eq!(up(&result), ("200 OK", None));
    let seen = raw.seen();
    assert!(seen.len() == 4 && seen.iter().all(|request| *request == seen[0]), "not the same request again");
    let times = times.lock().expect("no panic holds it");
    for (pair, pause_ms) in times.windows(2).zip([500, 1000, 2000]) {
        let paused = (pair[1] - pair[0]).as_millis();
        assert!((pause_ms - 50..pause_ms + 400).contains(&paused), "{paused} ms instead of {pause_ms}");
    }
}

#[tokio::test]
async fn each_question_is_new_and_names_the_host_of_the_check() {
    let raw = RawUdp::answering(|_, request| vec![answer(request, "200 OK", "")]);
    for _ in 0..2 {
        up(&ask(sip(raw.address.port(), SipTransport::Udp), PATIENT).await);
    }
    let seen = raw.seen();
    let first_line = String::from_utf8_lossy(&seen[0]).lines().next().map(str::to_owned);
    assert_eq!(first_line, Some(format!("OPTIONS sip:pbx.test:{} SIP/2.0", raw.address.port())));
    for name in ["Via", "From", "Call-ID"] {
        assert_ne!(header(&seen[0], name), header(&seen[1], name), "{name}");
    }
    assert!(header(&seen[0], "Via").contains(";branch=z9hG4bK"));
}

#[tokio::test]
async fn answers_to_other_questions_and_noise_are_not_taken() {
    let raw = RawUdp::answering(|_, request| {
        let text = String::from_utf8_lossy(request).into_owned();
        let other = |from: &str, to: &str| answer(text.replace(from, to).as_bytes(), "200 OK", "");
        vec![
            other("branch=z9hG4bK", "branch=z9hG4bKx"),
            other("Call-ID: ", "Call-ID: x"),
            other("CSeq: 1 OPTIONS", "CSeq: 1 INVITE"),
            b"\r\n\r\n".to_vec(),
            b"\xff\xfe nothing".to_vec(),
            request.to_vec(),
            answer(request, "100 Trying", ""),
            answer(request, "404 Not Found", ""),
        ]
    });
    assert_eq!(up(&ask(sip(raw.address.port(), SipTransport::Udp), PATIENT).await).0, "404 Not Found");
}

#[tokio::test]
async fn any_final_answer_is_life_except_those_that_say_that_it_cannot() {
    for status in ["200 OK", "302 Moved", "401 Unauthorized", "403 Forbidden", "404 Not Found", "481", "603 Decline"] {
        assert_eq!(up(&ask_one_that_says(status, "", &[]).await), (status, None));
    }
    for status in ["408 Request Timeout", "500 Server Internal Error", "502 Bad Gateway", "504 Server Time-out"] {
        assert_eq!(down(&ask_one_that_says(status, "", &[]).await), format!("refusing: {status}"));
    }
    assert_eq!(up(&ask_one_that_says("500 Oops", "", &[500]).await), ("500 Oops", None));
}

#[tokio::test]
async fn a_503_is_refusing_unless_it_says_that_the_server_is_full() {
    for (status, more) in [("503 Service Unavailable", ""), ("503 System Paused", "Retry-After: 300\r\n")] {
        assert_eq!(down(&ask_one_that_says(status, more, &[]).await), format!("refusing: {status}"));
    }
    let full = [
        ("503 Service Unavailable", "Retry-After: 30;duration=60 (busy)\r\n", "overloaded, asks to come back in 30 s"),
        ("503 Maximum Calls In Progress", "", "overloaded"),
        ("503 System Busy", "", "overloaded"),
    ];
    for (status, more, warning) in full {
        assert_eq!(up(&ask_one_that_says(status, more, &[]).await), (status, Some(warning)));
    }
}

#[tokio::test]
async fn a_closed_port_is_down_at_once_and_silence_at_the_time_out() {
    for transport in [SipTransport::Udp, SipTransport::Tcp, SipTransport::Tls] {
        let result = ask(sip(free_port(), transport), PATIENT).await;
        assert_eq!(down(&result), "connection refused", "{transport:?}");
        assert!(result.latency < SHORT, "{transport:?}: {result:?}");
    }
    let silent = RawUdp::answering(|_, _| Vec::new());
    let result = ask(sip(silent.address.port(), SipTransport::Udp), SHORT).await;
    assert!(down(&result).starts_with("no answer within 300ms"), "{result:?}");
    assert!(result.latency >= SHORT && result.latency < SHORT * 3, "{result:?}");

    let trying = RawUdp::answering(|_, request| vec![answer(request, "100 Trying", "")]);
    let result = ask(sip(trying.address.port(), SipTransport::Udp), SHORT).await;
    assert_eq!(down(&result), "said 100 and then nothing within 300ms");

    let babble = RawUdp::answering(|_, _| vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()]);
    let result = ask(sip(babble.address.port(), SipTransport::Udp), SHORT).await;
    assert!(down(&result).starts_with("answers, but not with SIP: "), "{result:?}");
}

/// Reads one request and gives `reply` of it, in pieces.
fn serve(stream: &mut (impl std::io::Read + std::io::Write), reply: impl Fn(&[u8]) -> Vec<u8>) {
    let mut request = [0_u8; 4096];
    let Ok(length) = stream.read(&mut request) else { return };
    for piece in reply(&request[..length]).chunks(7) {
        let _ = stream.write_all(piece).and_then(|()| stream.flush());
    }
}

#[tokio::test]
async fn over_tcp_an_answer_in_pieces_is_read_and_a_hang_up_is_down() {
    let raw = RawTcp::serving(|mut stream| {
        serve(&mut stream, |request| {
            [answer(request, "100 Trying", ""), b"\r\n".to_vec(), answer(request, "401 Unauthorized", "")].concat()
        });
    });
    assert_eq!(up(&ask(sip(raw.address.port(), SipTransport::Tcp), PATIENT).await).0, "401 Unauthorized");

    let raw = RawTcp::saying(b"");
    let why = ask(sip(raw.address.port(), SipTransport::Tcp), PATIENT).await;
    assert_eq!(down(&why), "connection closed without an answer");

    let raw = RawTcp::saying(&vec![b'x'; 100_000]);
    let why = ask(sip(raw.address.port(), SipTransport::Tcp), PATIENT).await;
    assert!(down(&why).starts_with("answers, but not with SIP: "), "{why:?}");
}

#[tokio::test]
async fn over_tls_certificate_trouble_is_a_warning() {
    tls::install_provider();
    let papers = Authority::new().good(&["pbx.test"]);
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(pem_certs(&papers.certificate), pem_key(&papers.key))
        .expect("a good certificate");
    let config = Arc::new(config);
    let raw = RawTcp::serving(move |mut stream| {
        let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("TLS");
        serve(&mut rustls::Stream::new(&mut connection, &mut stream), |request| answer(request, "200 OK", ""));
    });
    let result = ask(sip(raw.address.port(), SipTransport::Tls), PATIENT).await;
    assert_eq!(up(&result), ("200 OK", Some("certificate is signed by nobody whom this host knows")));

    let plain = RawTcp::saying(b"SIP/2.0 400 Bad Request\r\n\r\n");
    let why = ask(sip(plain.address.port(), SipTransport::Tls), PATIENT).await;
    assert!(down(&why).starts_with("no TLS: "), "{why:?}");
}

fn pem_certs(pem: &str) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject as _;
    rustls::pki_types::CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().expect("PEM")
}

fn pem_key(pem: &str) -> rustls::pki_types::PrivateKeyDer<'static> {
    use rustls::pki_types::pem::PemObject as _;
    rustls::pki_types::PrivateKeyDer::from_pem_slice(pem.as_bytes()).expect("PEM")
}
