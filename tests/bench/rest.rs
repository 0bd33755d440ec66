//! The robot at rest: three checks and three Internet targets, all well, for a minute.
//!
//! The web check and the targets speak TLS with the system's trust roots beside the test's own, as they will at home.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::goals::{Goals, Met, below};
use crate::lab::dns::{DnsServer, Kind};
use crate::lab::free_port;
use crate::lab::web::{Authority, Site};
use crate::settings::{self, Settings};
use crate::stand_in;

/// Before it is watched it has started, armed and read its records.
const SETTLE: Duration = Duration::from_secs(10);

/// CPU at rest, per cent of one core.
const CPU_PERCENT_MAX: f64 = 0.5;

/// Resident memory, MB of 1,000,000 bytes.
const RSS_MB_MAX: f64 = 20.0;

/// At rest memory may wander by so much while it is watched, MB; more is a leak.
const GROWTH_MB_MAX: f64 = 0.5;

/// Clock ticks of /proc/PID/stat in a second: fixed by Linux's interface to user space.
const TICKS_PER_S: f64 = 100.0;

/// Watches it for so many seconds.
pub fn measure(goals: &mut Goals, seconds: u64) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let dns = DnsServer::start(Kind::Bind, dir.path());
    let authority = Authority::new();
    let site = |n: u8| SocketAddr::from((Ipv4Addr::new(127, 0, 0, n), free_port()));
    let web: Vec<_> =
        (1..=3).map(site).map(|at| Site::on(at).tls(authority.good(&[&at.ip().to_string()])).start()).collect();
    let sip = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let registrar = sip.local_addr().expect("address");
    std::thread::spawn(move || stand_in::answer_sip(&sip));
    let roots = dir.path().join("roots.pem");
    let mut pem = std::fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").expect("the system's trust roots");
    pem += &std::fs::read_to_string(authority.file(&dir)).expect("the test's own root");
    std::fs::write(&roots, pem).expect("roots");

    let targets: Vec<_> = web.iter().map(|web| format!("\"tls://{}\"", web.listen)).collect();
    let primary = web[0].listen;
    let mut robot = settings::robot(&Settings {
        primary: primary.ip(),
        pace: ["1s", "1s"],
        checks: format!(
            "web: {{ http: \"https://{primary}/\", expect_body: works }}, sip: {{ sip: \"sip:{registrar}\" }}, port: {{ tcp: {} }}",
            primary.port()
        ),
        internet: (targets.join(", "), 2),
        master: dns.addr,
        registrar,
        records: settings::THREE_RECORDS,
    });
    robot.under(&["env", &format!("SSL_CERT_FILE={}", roots.display())]);
    robot.start();
    robot.wait_armed();
    std::thread::sleep(SETTLE);
    let pid = robot.process().pid();
    let (before, began) = (Process::read(pid), Instant::now());
    std::thread::sleep(Duration::from_secs(seconds));
    let (after, took) = (Process::read(pid), began.elapsed().as_secs_f64());
    let now = robot.wait_armed();
    assert!(now["checks"].as_array().is_some_and(|checks| checks.len() == 3), "{now}");

    let cpu = (after.cpu_ticks - before.cpu_ticks) / TICKS_PER_S / took * 100.0;
    let text = format!("{cpu:.2} % over {seconds} s");
    goals.judge("CPU, of one core", "< 0.5 %", &text, below(cpu, CPU_PERCENT_MAX));
    let text = format!("{:.1} MB, of that the program file {:.1} MB", after.rss_mb, after.file_mb);
    goals.judge("resident memory (RSS)", "< 20 MB", &text, below(after.rss_mb, RSS_MB_MAX));
    let text = format!("{:.1} MB", after.peak_mb);
    goals.judge("its peak since the start", "< 20 MB", &text, below(after.peak_mb, RSS_MB_MAX));
    let growth = after.rss_mb - before.rss_mb;
    let text = format!("{growth:+.2} MB in {seconds} s");
    goals.judge("growth of RSS", "< 0.5 MB", &text, below(growth, GROWTH_MB_MAX));
    let text = format!("{:.0} a second, {} threads", (after.switches - before.switches) / took, after.threads);
    goals.judge("wake-ups", "none", &text, Met::Yes);
}

/// What /proc says of a process.
struct Process {
    cpu_ticks: f64,
    rss_mb: f64,
    file_mb: f64,
    peak_mb: f64,
    threads: usize,
    switches: f64,
}

impl Process {
    fn read(pid: u32) -> Self {
        let file = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).expect("the robot runs");
        let stat = file("stat");
        // After the name in parentheses: state is field 3, utime and stime are 14 and 15.
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("a name").split(' ').collect();
        let number = |text: &str| text.parse::<f64>().expect("a number");
        let status = file("status");
        let value = |status: &str, key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).expect("a key");
            number(line.split_whitespace().next().expect("a value"))
        };
        let tasks: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/task")).expect("tasks").flatten().collect();
        let switches = tasks.iter().filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
        let mb = |key| value(&status, key) * 1024.0 / 1e6;
        Self {
            cpu_ticks: number(fields[11]) + number(fields[12]),
            rss_mb: mb("VmRSS"),
            file_mb: mb("RssFile"),
            peak_mb: mb("VmHWM"),
            threads: tasks.len(),
            switches: switches.map(|status| value(&status, "voluntary_ctxt_switches")).sum(),
        }
    }
}
