//! Our own registrar as a subject: this program once more, which then runs the built-in PBX and nothing else.
//!
//! A line on its standard input asks what it counted; its end ends it, so that none is left behind.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pbx_failover::adapters::pbx::builtin::flow::{Flow, Origin};
use pbx_failover::adapters::pbx::builtin::registrar::Limits;
use pbx_failover::adapters::pbx::builtin::switchboard::{GRACE, Setting, Switchboard, Wish};
use pbx_failover::adapters::pbx::builtin::{Plan, Service, accounts};
use pbx_failover::config::{Builtin as Settings, Listen, SipTransport};
use pbx_failover::sip::digest::{Challenge, Key, Login};

use super::subject::{Kind, Subject};
use crate::lab::sip::{Algorithm, REALM};

/// The word that makes this program the registrar; its directory and where it listens follow.
pub const WORD: &str = "--serve-builtin";

/// Runs the registrar until standard input ends.
pub fn serve(arguments: &[String]) -> ExitCode {
    let [dir, listen] = arguments else { return ExitCode::FAILURE };
    let plan = Plan {
        settings: Settings {
            listen: vec![Listen { transport: SipTransport::Udp, address: listen.parse().expect("an address") }],
            accounts: "pjsip.conf".into(),
            realm: REALM.to_owned(),
            // The defaults of the settings.
            min_expires: Duration::from_secs(60),
            max_expires: Duration::from_secs(300),
            tls: None,
        },
        accounts: Path::new(dir).join("pjsip.conf"),
        keep: Path::new(dir).join("builtin-bindings"),
        reachable: [127, 0, 0, 1].into(),
        grace: GRACE,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let service = runtime.block_on(Service::start(plan)).expect("the built-in PBX starts");
    println!("ready");
    for _ in std::io::stdin().lock().lines() {
        let view = runtime.block_on(service.handle().view()).expect("it runs");
        println!("{} blocked, {} wrong passwords, {} dropped", view.blocked, view.counts.wrong, view.counts.dropped);
    }
    ExitCode::SUCCESS
}

/// What a registration costs without sockets, clock and file: the mean of so many.
///
/// For callgrind, too, which needs names: build with `CARGO_PROFILE_BENCH_STRIP=none`, and start it under
/// `valgrind --tool=callgrind --toggle-collect='*Switchboard*datagram*'`.
pub fn without_sockets(accounts: &[(String, String)], algorithm: Algorithm) -> Duration {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("pjsip.conf");
    std::fs::write(&path, conf(accounts, algorithm)).expect("accounts");
    let loaded = accounts::load(&path, None).expect("good accounts");
    let setting = Setting {
        limits: Limits { min: Duration::from_secs(60), max: Duration::from_secs(300) },
        realm: REALM.to_owned(),
        reachable: Vec::new(),
        datagrams: Vec::new(),
        seed: [3; 32],
        grace: GRACE,
    };
    let mut now = Duration::from_secs(1000);
    let mut board = Switchboard::new(setting, Arc::new(loaded), now);
    let origin =
        Origin { flow: Flow::Udp(0), peer: ([127, 0, 0, 1], 5070).into(), ours: None, transport: SipTransport::Udp };
    let mut took = Duration::ZERO;
    for (number, (user, password)) in accounts.iter().enumerate() {
        let mut ask = |cseq: u32, digest: &str| {
            let request = format!(
                "REGISTER sip:127.0.0.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;rport;branch=z9hG4bK-{number}-{cseq}\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:{user}@127.0.0.1>;tag=4711T{number}\r\nTo: <sip:{user}@127.0.0.1>\r\n\
                 Call-ID: {number}-4711@127.0.0.1\r\nCSeq: {cseq} REGISTER\r\nContact: <sip:{user}@127.0.0.1:5070>\r\n\
                 {digest}Expires: 300\r\nUser-Agent: sipp\r\nContent-Length: 0\r\n\r\n"
            );
            now += Duration::from_micros(100);
            let began = Instant::now();
            let wishes = board.datagram(request.as_bytes(), &origin, now);
            took += began.elapsed();
            let sent =
                wishes.into_iter().find_map(|wish| if let Wish::Send(sent) = wish { Some(sent.bytes) } else { None });
            String::from_utf8(sent.expect("an answer")).expect("text")
        };
        let challenge = ask(1, "");
        let value = challenge.lines().find_map(|line| line.strip_prefix("WWW-Authenticate: ")).expect("a challenge");
        let challenge = Challenge::read(value.as_bytes()).expect("a challenge");
        let login = Login { username: user, key: Key::Password(password) };
        let digest = challenge.answer(&login, "REGISTER", "sip:127.0.0.1:5060", 1, "6b8b4567");
        let answer = ask(2, &format!("Authorization: {digest}\r\n"));
        assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    }
    took / u32::try_from(accounts.len()).expect("fits")
}

fn conf(accounts: &[(String, String)], algorithm: Algorithm) -> String {
    accounts.iter().fold(String::new(), |mut conf, (user, password)| {
        let _ = write!(
            conf,
            "[{user}]\ntype=endpoint\nauth={user}\naors={user}\n[{user}]\ntype=auth\nusername={user}\n\
             password={password}\nsupported_algorithms_uas={}\n[{user}]\ntype=aor\nmax_contacts=5\n",
            algorithm.name()
        );
        conf
    })
}

/// A running one.
pub struct Builtin {
    child: Mutex<Child>,
    out: Mutex<BufReader<std::process::ChildStdout>>,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Builtin {
    /// Starts one with these accounts.
    pub fn started(listen: SocketAddr, accounts: &[(String, String)], algorithm: Algorithm) -> Self {
        let dir = tempfile::Builder::new().prefix("builtin").tempdir().expect("temporary directory");
        std::fs::write(dir.path().join("pjsip.conf"), conf(accounts, algorithm)).expect("accounts");
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([WORD.to_owned(), dir.path().display().to_string(), listen.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts once more");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let builtin = Self { child: Mutex::new(child), out: Mutex::new(out), address: listen, _dir: dir };
        assert_eq!(builtin.line(), "ready");
        builtin
    }

    fn line(&self) -> String {
        let mut line = String::new();
        self.out.lock().expect("one thread").read_line(&mut line).expect("it speaks");
        line.trim().to_owned()
    }
}

impl Drop for Builtin {
    fn drop(&mut self) {
        let child = self.child.get_mut().expect("one thread");
        drop(child.stdin.take());
        let _ = child.wait();
    }
}

impl Subject for Builtin {
    fn name(&self) -> &'static str {
        Kind::Builtin.name()
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.child.lock().expect("one thread").id()]
    }

    fn counts(&self) -> String {
        let mut child = self.child.lock().expect("one thread");
        child.stdin.as_mut().expect("piped").write_all(b"\n").expect("it listens");
        self.line()
    }
}
