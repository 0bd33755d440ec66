//! From the fault to the new A record as a phone sees it, beside the loop in naive.sh, in turn on the same hosts.
//!
//! Hosts in namespaces; a web server on the primary that is killed, cut off or stopped where it stands; BIND on the
//! Internet's side. All three ask once a second, wait 2 s for an answer and want three failures.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::figures::{Samples, head};
use crate::lab::Running;
use crate::lab::dns::{self, DnsServer, Kind, Options};
use crate::lab::netns::{Cut, Host, Topology};
use crate::lab::robot::Robot;
use crate::lab::wait_until;
use crate::lab::web::{Site, Web};
use crate::settings::{self, Settings};
use crate::stand_in::{StandIn, monotonic};

/// A phone asks so often.
const PHONE_ASKS_EVERY: Duration = Duration::from_millis(5);

/// No takeover of this bench takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What happens to the primary, and how often.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    Dropped,
    Hung,
}

impl Fault {
    const ALL: [(Self, &'static str, usize); 3] = [
        (Self::Killed, "killed (SIGKILL: refused)", 10),
        (Self::Dropped, "dropped (LAN cut: silence)", 4),
        (Self::Hung, "hung (SIGSTOP: accepts, never answers)", 4),
    ];
}

/// Who watches the primary.
#[derive(Clone, Copy)]
enum Watcher {
    Loop,
    Robot(&'static str),
}

const WATCHERS: [Watcher; 3] = [Watcher::Loop, Watcher::Robot("1s"), Watcher::Robot("200ms")];

/// The hosts and the servers on them.
struct Stage {
    web: Web,
    dns: DnsServer,
    _registrar: StandIn,
    dir: tempfile::TempDir,
    hosts: Topology,
}

/// Measures all faults with all watchers.
pub fn measure() {
    println!("\n## From the fault to the new A record, as a phone sees it\n");
    head(&["fault", "n each", "bash loop, 1 s", "robot, fast_interval 1 s", "robot, fast_interval 200 ms"]);
    let mut stage = Stage::set();
    for (fault, name, runs) in Fault::ALL {
        let mut samples: [Samples; 3] = Default::default();
        for run in 0..runs {
            for (samples, watcher) in samples.iter_mut().zip(WATCHERS) {
                samples.push(stage.take_over(fault, watcher, run, runs).as_secs_f64() * 1e3);
            }
        }
        let naive = samples[0].median();
        let columns: Vec<_> = samples
            .iter()
            .map(|s| {
                let (median, least, most) = (s.median() / 1e3, s.least() / 1e3, s.most() / 1e3);
                format!("{median:.2} s ({least:.2} to {most:.2}), ×{:.2}", s.median() / naive)
            })
            .collect();
        println!("| {name} | {runs} | {} |", columns.join(" | "));
    }
}

impl Stage {
    fn set() -> Self {
        let hosts = Topology::up();
        let dir = tempfile::tempdir().expect("temporary directory");
        let options =
            Options { address: Host::Inet.address(), port: 53, prefix: hosts.exec(Host::Inet), ..Options::default() };
        let dns = DnsServer::start_with(Kind::Bind, dir.path(), options);
        let prefix = hosts.exec(Host::Primary);
        let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
        let web = Site::on(SocketAddr::new(Host::Primary.address(), 80)).inside(&prefix).start();
        let registrar = StandIn::registrar(&hosts.exec(Host::Backup), registrar());
        let key = format!("key \"{}\" {{ algorithm hmac-sha256; secret \"{}\"; }};\n", dns::KEY, dns::SECRET);
        std::fs::write(dir.path().join("robot.key"), key).expect("key file");
        Self { web, dns, _registrar: registrar, dir, hosts }
    }

    /// One takeover: from the fault until a phone sees the new address.
    fn take_over(&mut self, fault: Fault, watcher: Watcher, run: usize, runs: usize) -> Duration {
        self.dns.set("pbx.lab.test", "A", &[settings::PRIMARY]);
        self.dns.set(dns::EPOCH, "TXT", &[]);
        let mut running = match watcher {
            Watcher::Loop => self.naive(),
            Watcher::Robot(fast) => self.robot(fast),
        };
        let wanted = settings::BACKUP.parse().expect("an address");
        let phones = self.hosts.exec(Host::Phones);
        let mut phone = StandIn::phone(&phones, self.dns.addr, "pbx.lab.test", wanted, PHONE_ASKS_EVERY);
        // The fault falls at another moment of the watcher's second each time, and all moments come equally often.
        let phase = Duration::from_secs(1).mul_f64(fraction(run, runs));
        std::thread::sleep(Duration::from_millis(500) + phase);
        assert!(!phone.has_ended(), "nothing has failed yet");
        let fell = monotonic();
        match fault {
            Fault::Killed => self.web.kill(),
            Fault::Dropped => self.hosts.cut(Cut::Lan),
            Fault::Hung => self.web.hang(),
        }
        wait_until("a phone sees the new address", PATIENCE, || phone.has_ended());
        let took = phone.saw().saturating_sub(fell);
        if let Watches::Robot(robot) = &mut running {
            robot.kill();
        }
        drop(running);
        match fault {
            Fault::Killed => {}
            Fault::Dropped => self.hosts.heal(),
            Fault::Hung => self.web.resume(),
        }
        self.web.start();
        took
    }

    fn naive(&self) -> Watches {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/naive.sh").display().to_string();
        let key = self.dir.path().join("robot.key").display().to_string();
        let url = format!("http://{}/", self.web.listen);
        let server = self.dns.addr.ip().to_string();
        let backup = self.hosts.exec(Host::Backup);
        let mut argv: Vec<&str> = backup.iter().map(String::as_str).collect();
        argv.extend(["bash", &script, &url, &server, dns::ZONE, "pbx.lab.test", settings::BACKUP, &key]);
        Watches::Loop { _process: Running::start(&argv, &self.dir.path().join("naive.log")) }
    }

    fn robot(&self, fast: &'static str) -> Watches {
        let mut robot = settings::robot(&Settings {
            primary: Host::Primary.address(),
            pace: ["1s", fast],
            checks: format!("web: {{ http: \"http://{}/\" }}", self.web.listen),
            internet: ("\"tcp://10.77.1.1:53\"".to_owned(), 1),
            master: self.dns.addr,
            registrar: registrar(),
            records: settings::ONE_RECORD,
        })
        .inside(self.hosts.exec(Host::Backup));
        robot.start();
        robot.wait_armed();
        Watches::Robot(Box::new(robot))
    }
}

/// A watcher that runs.
enum Watches {
    Loop { _process: Running },
    Robot(Box<Robot>),
}

fn registrar() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 5060))
}

#[allow(clippy::cast_precision_loss)] // a handful of runs
fn fraction(run: usize, runs: usize) -> f64 {
    run as f64 / runs as f64
}
