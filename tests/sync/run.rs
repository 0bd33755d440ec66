//! One run: a tool carries a changing tree, the primary and the tool die at an instant by chance, the robot takes over, and
//! what its PBX read is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::robot::{Robot, step};
use crate::lab::small::Phantom;
use crate::lab::{Paced, free_port};
use crate::primary::Primary;
use crate::tools::{Dies, Sync, Tool, Way};

/// So many files has the tree.
const FILES: usize = 40;

/// The longest life of a primary after its first change.
const LIFE_MAX: Duration = Duration::from_millis(2500);

const YAML: &str = r#"node: @NODE@
primary: { node: pbx-a, address: 127.0.0.1 }
backup: { node: pbx-b, address: 192.0.2.20, listen_address: 127.0.0.1 }
monitor:
  interval: 100ms
  fast_interval: 50ms
  timeout: 1s
  fall: 2
  rise: 2
  checks: { web: { tcp: @WEB@ }, beat: { heartbeat: .pbx-failover-heartbeat, max_age: 1s } }
internet: { need: 1, targets: ["tcp://127.0.0.1:@INTERNET@"] }
takeover: { hold_down: 0s, startup_grace: 0s, hold_off: 0s }
epoch: { store: local }
peer: { url: "https://127.0.0.1:@NOBODY@", token: { file: "@TOKEN@" } }
pbx:
  working_dir: "@WORK@"
  driver: @DRIVER@
  probe: "sip:@REGISTRAR@"
sync: { settle: 300ms, on_hold: last_good@STOP@ }
"#;

/// What a takeover came to.
pub struct Ended {
    tool: Tool,
    seed: u64,
    dies: Dies,
    life: Duration,
    /// The last generation that the primary had whole.
    written: String,
    /// The generations that the PBX read, and of how many files.
    loaded: BTreeMap<String, usize>,
    /// Files that were missing or cut.
    lacking: usize,
    /// What the step said.
    said: String,
    served_after: Duration,
}

impl Ended {
    /// Whether all that was read is of one generation, and whole.
    fn is_whole(&self) -> bool {
        self.loaded.len() == 1 && self.lacking == 0
    }

    fn warned(&self) -> bool {
        self.said.contains("WARNING")
    }

    fn outcome(&self) -> &'static str {
        let restored = self.said.contains("last good snapshot") && !self.said.contains("is not used");
        match (self.is_whole(), self.warned(), restored) {
            (true, _, true) => "one generation, from a snapshot",
            (true, false, _) => "one generation",
            (true, true, _) => "one generation, with a warning",
            (false, true, _) => "a mixture, with a warning",
            (false, false, _) => "A MIXTURE, UNSAID",
        }
    }

    fn line(&self) -> String {
        let loaded: Vec<_> = self.loaded.iter().map(|(generation, files)| format!("{generation} ({files})")).collect();
        let lacking = if self.lacking > 0 { format!(", {} lacking", self.lacking) } else { String::new() };
        let end = if self.dies == Dies::Whole { "whole" } else { "one end" };
        format!(
            "| {} | {} | {} ms, {end} | {} | {}{lacking} | {} | {} | {:.1} s |",
            self.tool.name(),
            self.seed,
            self.life.as_millis(),
            self.written,
            loaded.join(", "),
            self.outcome(),
            reason(&self.said),
            self.served_after.as_secs_f64(),
        )
    }
}

/// The reason alone, without what stands around it.
fn reason(said: &str) -> String {
    let rest = said.split("loaded all the same: ").nth(1).or_else(|| said.split(" s: ").nth(1)).unwrap_or(said);
    let rest = rest.split("; its last good snapshot").next().unwrap_or(rest);
    let long = ", and no newer heartbeat has come: a sync that ended between two files leaves a mixture";
    rest.replace(long, "").replace('|', "/")
}

/// All runs of one tool.
#[derive(Default)]
pub struct Tally {
    outcomes: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// One more; fails where a mixture was loaded and nobody told.
    pub fn add(&mut self, ended: &Ended) {
        let line = ended.line();
        println!("{line}");
        if let Some(file) = std::env::var_os("SYNC_TABLE") {
            let file = std::fs::File::options().create(true).append(true).open(file);
            file.and_then(|mut file| writeln!(file, "{line}")).expect("the table");
        }
        assert!(
            ended.is_whole() || ended.warned(),
            "a mixture was loaded, and nothing said so:\n{line}\n{}",
            ended.said
        );
        *self.outcomes.entry(ended.outcome()).or_default() += 1;
    }

    /// How many there were.
    pub fn loads(&self) -> u64 {
        self.outcomes.values().sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<_> = self.outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
        f.write_str(&all.join("; "))
    }
}

/// A run that has been prepared.
pub struct Run {
    tool: Tool,
    seed: u64,
    chance: fastrand::Rng,
    primary: Primary,
    web: Option<Door>,
    _internet: Door,
    robot: Robot,
    pbx: Phantom,
    sync: Sync,
    _dir: tempfile::TempDir,
}

impl Run {
    /// Generation 0 has been carried and vouched for, and the robot is armed.
    pub fn of(tool: Tool, seed: u64) -> Self {
        let mut chance = fastrand::Rng::with_seed(seed);
        let dir = tempfile::Builder::new().prefix("sync").tempdir().expect("temporary directory");
        let mut primary = Primary::new();
        let (web, internet) = (Door::open(), Door::open());
        let pbx = Phantom::new();
        let mut robot = Robot::new("node: pbx-b\n");
        robot.secret("agent.token", "a token of the tests, long enough");
        let (work, token) = (robot.path("work"), robot.path("agent.token"));
        reads_all(&pbx, &work);
        let way = if chance.bool() { Way::Wide } else { Way::Narrow };
        let sync = Sync::start(tool, &primary.path("work"), &work, &dir.path().join("tool"), way);
        let yaml = YAML
            .replace("@WEB@", &web.port.to_string())
            .replace("@INTERNET@", &internet.port.to_string())
            .replace("@NOBODY@", &free_port().to_string())
            .replace("@TOKEN@", &token.display().to_string())
            .replace("@DRIVER@", &pbx.driver_yaml())
            .replace("@REGISTRAR@", &pbx.address.to_string())
            .replace("@STOP@", &sync.stop_command().map(|stop| format!(", stop: {stop}")).unwrap_or_default());
        let of = |node: &str, work: &std::path::Path| {
            yaml.replace("@NODE@", node).replace("@WORK@", &work.display().to_string())
        };
        primary.vouches(&of("pbx-a", &primary.path("work")), &token);
        robot.configure(&of("pbx-b", &work));
        crate::lab::wait_until("generation 0 has come", Duration::from_secs(30), || {
            let files = count(&work);
            files == FILES && work.join(".pbx-failover-heartbeat").exists()
        });
        robot.start();
        robot.wait_armed();
        robot.wait("it was seen as the primary vouches for it", |status| status["data"]["vouched"]["is"] == "equal");
        Self { tool, seed, chance, primary, web: Some(web), _internet: internet, robot, pbx, sync, _dir: dir }
    }

    /// Lives for a while, dies, and is taken over.
    pub fn ends(mut self) -> Ended {
        let life = LIFE_MAX.mul_f64(self.chance.f64());
        let dies = if self.chance.bool() { Dies::Whole } else { Dies::OneEnd };
        self.primary.changes(self.seed);
        std::thread::sleep(life);
        self.sync.dies(dies);
        self.primary.dies();
        self.web = None;
        let dead = Instant::now();
        let status = self.robot.wait_served();
        let served_after = dead.elapsed();
        let said = said(&status);
        let (loaded, lacking) = loaded(&self.pbx);
        let written = self.primary.generation();
        Ended { tool: self.tool, seed: self.seed, dies, life, written, loaded, lacking, said, served_after }
    }
}

fn said(status: &Value) -> String {
    let step = step(status, "secure_data");
    step["proof"].as_str().or_else(|| step["error"].as_str()).unwrap_or_default().to_owned()
}

/// Takes every connection and says nothing, until it is dropped.
struct Door {
    port: u16,
    _accepts: Paced,
}

impl Door {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("address").port();
        let accepts = Paced::every(Duration::from_millis(10), move || while listener.accept().is_ok() {});
        Self { port, _accepts: accepts }
    }
}

fn count(work: &std::path::Path) -> usize {
    let dirs = ["", "phones", "trunks"].map(|sub| work.join(sub));
    let entries = dirs.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().filter_map(Result::ok);
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.len() == 7 && name.strip_suffix(".conf").is_some()).count()
}

/// Its reload reads all files, as a PBX does, and keeps what each of them says of its generation.
fn reads_all(pbx: &Phantom, work: &std::path::Path) {
    let script = pbx.path("pbx.sh");
    let text = std::fs::read_to_string(&script).expect("script");
    let work = work.display();
    let reads = format!(
        "reload)\n  grep -H -o 'generation=[0-9]*' {work}/??.conf {work}/*/??.conf >loaded.new 2>/dev/null || true\n  mv loaded.new loaded\n"
    );
    std::fs::write(script, text.replace("reload)\n", &reads)).expect("script");
}

/// The generations that it read, and how many files lacked their end, or were not there.
fn loaded(pbx: &Phantom) -> (BTreeMap<String, usize>, usize) {
    let text = std::fs::read_to_string(pbx.path("loaded")).unwrap_or_default();
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines() {
        let (file, generation) = line.split_once(":generation=").expect("a line of grep");
        files.entry(file).or_default().push(generation);
    }
    let mut generations = BTreeMap::new();
    for said in files.values() {
        let said: BTreeSet<_> = said.iter().collect();
        for generation in said {
            *generations.entry((*generation).to_owned()).or_default() += 1;
        }
    }
    let whole = files.values().filter(|said| said.len() == 2).count();
    (generations, FILES.saturating_sub(whole))
}
