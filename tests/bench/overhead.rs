//! The robot's own share of a takeover: from the end of the third failed check to the changed record.
//!
//! The PBX takes no time here (its commands are `true`, and a registrar answers already), nothing settles, and the
//! third failure comes at once (connection refused). What is left is the robot: confirming, claiming, its records on
//! disk, the questions to PBX and DNS.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, SystemTime};

use crate::figures::{Samples, head};
use crate::goals::{Goals, Met, below};
use crate::lab::dns::{self, DnsServer, Kind};
use crate::lab::http::{Receiver, Reply};
use crate::lab::robot::{Robot, step};
use crate::lab::web::Site;
use crate::settings::{self, Settings};
use crate::stand_in;

/// Takeovers with each DNS server.
const RUNS: usize = 20;

/// The median must be below, milliseconds; promised for BIND.
const OVERHEAD_MS_MAX: f64 = 50.0;

/// The pause between two questions for the record.
const LOOK_EVERY: Duration = Duration::from_micros(500);

/// The steps until the record has changed, in their order.
const STEPS: [&str; 7] = ["confirm", "claim", "fence", "secure_data", "reload", "accept_registrations", "redirect_dns"];

/// Takes over again and again, with each DNS server.
pub fn measure(goals: &mut Goals) {
    println!("\n## Own overhead: from the end of the third failed check to the changed record\n");
    let taken: Vec<_> = Kind::REAL.into_iter().map(|kind| (kind, with(kind))).collect();
    head(&["DNS server", "goal", "median (least to most)", ""]);
    for (kind, run) in &taken {
        let all = &run.all;
        let text = format!("{:.1} ms ({:.1} to {:.1}), n = {}", all.median(), all.least(), all.most(), RUNS);
        match kind {
            Kind::Bind => goals.judge("BIND", "median ≤ 50 ms", &text, below(all.median(), OVERHEAD_MS_MAX)),
            kind => goals.judge(&format!("{kind:?}"), "none", &text, Met::Yes),
        }
    }
    println!("\nMedians of its steps, in whole ms as `status` tells them:\n");
    head(&[&["DNS server"], &STEPS[..]].concat());
    for (kind, run) in &taken {
        let medians: Vec<_> = run.steps.iter().map(|step| format!("{:.0}", step.median())).collect();
        println!("| {kind:?} | {} |", medians.join(" | "));
    }
}

struct Taken {
    all: Samples,
    steps: [Samples; STEPS.len()],
}

fn with(kind: Kind) -> Taken {
    let dir = tempfile::tempdir().expect("temporary directory");
    let dns = DnsServer::start(kind, dir.path());
    let sip = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let registrar = sip.local_addr().expect("address");
    std::thread::spawn(move || stand_in::answer_sip(&sip));
    let internet = Receiver::plain(&[Reply::Status(200)]);
    let mut web = Site::new().start();
    let mut taken = Taken { all: Samples::default(), steps: Default::default() };
    for _ in 0..RUNS {
        dns.set("pbx.lab.test", "A", &[settings::PRIMARY]);
        dns.set("pbx.lab.test", "AAAA", &["fd77::11"]);
        dns.set("_sip._udp.lab.test", "SRV", &["10 0 5060 pbx-a.lab.test."]);
        dns.set(dns::EPOCH, "TXT", &[]);
        let mut robot = settings::robot(&Settings {
            primary: Ipv4Addr::LOCALHOST.into(),
            pace: ["200ms", "200ms"],
            checks: format!("web: {{ http: \"http://{}/\" }}", web.listen),
            internet: (format!("\"tcp://127.0.0.1:{}\"", internet.port), 1),
            master: dns.addr,
            registrar,
            records: settings::THREE_RECORDS,
        });
        robot.start();
        robot.wait_armed();
        web.kill();
        let wanted = settings::BACKUP.parse().expect("an address");
        stand_in::wait_for_address(dns.addr, "pbx.lab.test", wanted, LOOK_EVERY);
        let changed = SystemTime::now();
        let status = robot.wait_served();
        let took = changed.duration_since(third_failure(&robot)).expect("the record changes after it");
        taken.all.push(took.as_secs_f64() * 1e3);
        for (samples, name) in taken.steps.iter_mut().zip(STEPS) {
            samples.push(step(&status, name)["elapsed_ms"].as_f64().unwrap_or_default());
        }
        drop(robot);
        web.start();
    }
    taken
}

/// When the third failed result came in: it is the one that makes the verdict.
fn third_failure(robot: &Robot) -> SystemTime {
    let history = robot.history();
    let verdict = history.iter().find(|event| {
        event["kind"] == "verdict" && event["what"].as_str().is_some_and(|what| what.ends_with("primary-dead"))
    });
    let at = verdict.and_then(|event| event["at"].as_str()).expect("the verdict stands in the history");
    let at: jiff::Timestamp = at.parse().expect("a time");
    at.into()
}
