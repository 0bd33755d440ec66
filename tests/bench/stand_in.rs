//! Stand-ins that cost nothing: a registrar that always answers, a phone that asks for one name again and again.
//!
//! In a namespace each is this program once more, as a process of its own: a thread cannot change its namespace
//! without `unsafe`.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long a phone waits for the answer to one question.
const ANSWER_MAX: Duration = Duration::from_millis(300);

/// The time since boot, the same in every process of this host.
pub fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let (s, ns) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(s.expect("time goes on"), ns.expect("below a second"))
}

/// What this program does when it was started as a stand-in; `None`: it was not.
pub fn played(arguments: &[String]) -> Option<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["as-registrar", address] => answer_sip(&UdpSocket::bind(address).expect("the registrar's address")),
        ["as-phone", server, name, address, pause_us] => {
            let pause = Duration::from_micros(pause_us.parse().expect("a number"));
            let server = server.parse().expect("the server's address");
            wait_for_address(server, name, address.parse().expect("an address"), pause);
            println!("{}", monotonic().as_nanos());
        }
        _ => return None,
    }
    Some(())
}

/// Answers every SIP request with 200, for ever: a registrar takes no time here.
pub fn answer_sip(socket: &UdpSocket) {
    let mut datagram = [0_u8; 4096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut datagram) else { continue };
        let request = String::from_utf8_lossy(&datagram[..length]).into_owned();
        let mut reply = "SIP/2.0 200 OK\r\n".to_owned();
        for line in request.lines() {
            let name = line.split(':').next().unwrap_or_default().trim().to_ascii_lowercase();
            match name.as_str() {
                "via" | "v" | "from" | "f" | "call-id" | "i" | "cseq" => {
                    let _ = write!(reply, "{line}\r\n");
                }
                "to" | "t" => {
                    let _ = write!(reply, "{line};tag=bench\r\n");
                }
                _ => {}
            }
        }
        reply.push_str("Content-Length: 0\r\n\r\n");
        let _ = socket.send_to(reply.as_bytes(), from);
    }
}

/// Asks for the name's A record over UDP, with that pause between two questions, until it is `wanted`.
pub fn wait_for_address(server: SocketAddr, name: &str, wanted: Ipv4Addr, pause: Duration) {
    while ask(server, name) != Some(wanted) {
        std::thread::sleep(pause);
    }
}

fn ask(server: SocketAddr, name: &str) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.set_read_timeout(Some(ANSWER_MAX)).ok()?;
    socket.connect(server).ok()?;
    let mut question = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).ok()?);
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    socket.send(&question).ok()?;
    let mut answer = [0_u8; 512];
    let length = socket.recv(&mut answer).ok()?;
    // One answer follows the question: pointer, type A, class IN, TTL, length 4, address.
    let record = answer[..length].get(question.len()..question.len() + 16)?;
    let is_address = record[..6] == [0xc0, 0x0c, 0, 1, 0, 1];
    is_address.then(|| Ipv4Addr::new(record[12], record[13], record[14], record[15]))
}

/// This program as a stand-in in a namespace; killed when dropped.
pub struct StandIn {
    child: Child,
    said: ChildStdout,
}

impl StandIn {
    /// A registrar.
    pub fn registrar(prefix: &[String], address: SocketAddr) -> Self {
        Self::start(prefix, &["as-registrar", &address.to_string()])
    }

    /// A phone that asks until it is answered with `wanted`.
    pub fn phone(prefix: &[String], server: SocketAddr, name: &str, wanted: IpAddr, pause: Duration) -> Self {
        let pause_us = pause.as_micros().to_string();
        Self::start(prefix, &["as-phone", &server.to_string(), name, &wanted.to_string(), &pause_us])
    }

    fn start(prefix: &[String], arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(prefix).arg(program).args(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a stand-in");
        let said = child.stdout.take().expect("piped");
        Self { child, said }
    }

    /// When it saw what it waits for, on the clock of [`monotonic`].
    pub fn saw(&mut self) -> Duration {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.said, &mut text).expect("what the phone says");
        let ns: u64 = text.trim().parse().unwrap_or_else(|_| panic!("the phone said {text:?}"));
        Duration::from_nanos(ns)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_some()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
