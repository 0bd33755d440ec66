//! From the start of the process to the first question, with a fresh state directory and the system's trust roots.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::figures::Samples;
use crate::goals::{Goals, Met, below};
use crate::lab::free_port;
use crate::settings::{self, Settings};

/// How often it is started.
const STARTS: u32 = 20;

/// The first check must be asked before this, milliseconds.
const FIRST_CHECK_MS_MAX: f64 = 100.0;

/// No start takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts the robot again and again; measures until the first and until all of three checks were asked.
pub fn measure(goals: &mut Goals) {
    let (mut first, mut all) = (Samples::default(), Samples::default());
    for _ in 0..STARTS {
        let (tell, asked) = mpsc::channel();
        let web = tcp(tell.clone());
        let plain = tcp(tell.clone());
        let sip = udp(tell);
        let mut robot = settings::robot(&Settings {
            primary: Ipv4Addr::LOCALHOST.into(),
            pace: ["1s", "1s"],
            checks: format!(
                "web: {{ http: \"https://127.0.0.1:{web}/\" }}, sip: {{ sip: \"sip:127.0.0.1:{sip}\" }}, port: {{ tcp: {plain} }}"
            ),
            internet: (format!("\"tls://127.0.0.1:{web}\""), 1),
            master: (Ipv4Addr::LOCALHOST, free_port()).into(),
            registrar: (Ipv4Addr::LOCALHOST, free_port()).into(),
            records: settings::ONE_RECORD,
        });
        let began = Instant::now();
        robot.spawn();
        let mut seen: Vec<(u16, Instant)> = Vec::new();
        while seen.len() < 3 {
            let (who, at) = asked.recv_timeout(PATIENCE).expect("the robot asks within seconds");
            if !seen.iter().any(|(port, _)| *port == who) {
                seen.push((who, at));
            }
        }
        first.push((seen[0].1 - began).as_secs_f64() * 1e3);
        all.push((seen[2].1 - began).as_secs_f64() * 1e3);
    }
    let text = format!("{:.0} ms (largest of {STARTS}: {:.0} ms)", first.median(), first.most());
    goals.judge("start to first check", "< 100 ms", &text, below(first.median(), FIRST_CHECK_MS_MAX));
    let text = format!("{:.0} ms (largest {:.0} ms)", all.median(), all.most());
    goals.judge("start to all three checks asked", "none", &text, Met::Yes);
}

/// A port that tells when it is first connected to, and hangs up.
fn tcp(tell: mpsc::Sender<(u16, Instant)>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = listener.local_addr().expect("address").port();
    std::thread::spawn(move || while listener.accept().is_ok() && tell.send((port, Instant::now())).is_ok() {});
    port
}

/// A port that tells when the first datagram arrives, and does not answer.
fn udp(tell: mpsc::Sender<(u16, Instant)>) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let port = socket.local_addr().expect("address").port();
    std::thread::spawn(move || {
        let mut datagram = [0; 4096];
        while socket.recv(&mut datagram).is_ok() && tell.send((port, Instant::now())).is_ok() {}
    });
    port
}
