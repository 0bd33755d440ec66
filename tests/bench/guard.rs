//! What the guard adds to the start of the primary's PBX, beside the three lines of bash that one would write instead.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::figures::{Samples, head};
use crate::lab::dns::{self, DnsServer, Kind};
use crate::lab::free_port;
use crate::settings::{self, Settings};

/// How often each is asked, in turns.
const ASKED: u32 = 100;

/// The record as it stands while the primary serves, which lets a PBX start.
const PRIMARY_HOLDS: &str = "\"v=1 epoch=2 holder=pbx-a id=01ARZ3NDEKTSV4RRFFQ69G5FAV since=2026-11-20T10:00:00Z\"";

/// Asks both whether the PBX may start, again and again; the record says yes.
pub fn measure() {
    println!("\n## The guard before the primary's PBX\n");
    let dir = tempfile::tempdir().expect("temporary directory");
    let dns = DnsServer::start(Kind::Bind, dir.path());
    dns.set(dns::EPOCH, "TXT", &[PRIMARY_HOLDS]);
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let robot = settings::robot(&Settings {
        primary: Ipv4Addr::LOCALHOST.into(),
        pace: ["1s", "1s"],
        checks: format!("port: {{ tcp: {} }}", free_port()),
        internet: (format!("\"tls://127.0.0.1:{}\"", free_port()), 1),
        master: dns.addr,
        registrar: loopback(free_port()),
        records: settings::ONE_RECORD,
    });
    let primary = std::fs::read_to_string(robot.config()).expect("configuration");
    let primary = primary.replace("node: pbx-b\nprimary", "node: pbx-a\nprimary");
    std::fs::write(robot.config(), primary).expect("configuration");
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    for _ in 0..ASKED {
        let began = Instant::now();
        let said = robot.cli(&["guard"]);
        ours.push(began.elapsed().as_secs_f64() * 1e3);
        assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stdout));
        let began = Instant::now();
        assert!(naive(dns.addr), "the loop's record says yes too");
        theirs.push(began.elapsed().as_secs_f64() * 1e3);
    }
    head(&["guard", "median (least to most)", "ratio"]);
    for (name, samples) in [("bash and dig", &theirs), ("`pbx-failover guard`", &ours)] {
        let (median, least, most) = (samples.median(), samples.least(), samples.most());
        println!("| {name} | {median:.1} ms ({least:.1} to {most:.1}) | ×{:.2} |", median / theirs.median());
    }
}

/// The record is asked for once, over TCP, and compared.
fn naive(master: SocketAddr) -> bool {
    let ask = format!(
        "dig +tcp +short +norecurse @{} -p {} {} TXT | grep -q 'holder=pbx-a '",
        master.ip(),
        master.port(),
        dns::EPOCH
    );
    let mut bash = Command::new("bash");
    bash.args(["-c", &ask]).stdin(Stdio::null()).status().expect("bash runs").success()
}
