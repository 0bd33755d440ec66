//! `pbx-failover demo`, as a person runs it: it tells the whole story, ends by itself, and leaves nothing behind.

#[path = "lab/mod.rs"]
mod lab;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use lab::wait_until;

/// The promise is 30 s; a machine that tests at the same time may need longer.
const LONGEST: Duration = Duration::from_secs(60);

/// A demo whose folders lie in a temporary folder of its own.
struct Demo {
    child: Child,
    folder: tempfile::TempDir,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let child = Command::new(env!("CARGO_BIN_EXE_pbx-failover"))
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(fs::File::create(folder.path().join("out")).expect("file"))
            .stderr(fs::File::create(folder.path().join("err")).expect("file"))
            .spawn()
            .expect("it starts");
        Self { child, folder }
    }

    fn out(&self) -> String {
        fs::read_to_string(self.folder.path().join("out")).expect("text")
    }

    fn wait_for(&self, text: &str) {
        wait_until(&format!("{text:?} is told"), LONGEST, || self.out().contains(text));
    }

    /// Its processes: those that it started, by their parent.
    fn children(&self) -> Vec<u32> {
        let parent = |stat: &str| -> Option<u32> { stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok() };
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let ours = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|stat| parent(&stat)) == Some(self.child.id())
        };
        pids.filter(ours).collect()
    }

    fn signal(&self, signal: &str) {
        kill(signal, self.child.id());
    }

    /// Waits for its end: the exit code (`None`: by a signal), stdout, stderr, and what is left in its folder.
    fn end(mut self) -> (Option<i32>, String, String, Vec<PathBuf>) {
        let mut status = None;
        wait_until("it ends", LONGEST, || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        let err = fs::read_to_string(self.folder.path().join("err")).expect("text");
        let left = fs::read_dir(self.folder.path()).expect("folder").flatten().map(|entry| entry.path());
        let left = left.filter(|path| !path.ends_with("out") && !path.ends_with("err")).collect();
        (status.and_then(|status| status.code()), self.out(), err, left)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn kill(signal: &str, pid: u32) {
    let status = Command::new("kill").args(["-s", signal, &pid.to_string()]).status().expect("kill runs");
    assert!(status.success(), "no process {pid}");
}

/// A zombie has ended, and waits for whoever adopted it.
fn is_gone(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

/// What the story must hold, in this order.
const STORY: [&str; 21] = [
    "all is well",
    "verdict primary-up",
    "armed: it would take over now",
    "the primary dies",
    "SIGKILL to the primary",
    "verdict primary-dead",
    "confirm done in ",
    "claim done in ",
    "reload done in ",
    "accept_registrations done in ",
    "(the backup)",
    "a person gives the service back",
    "unregister_trunks done in ",
    "stop_accepting done in ",
    "hand_over done in ",
    "primary_serves done in ",
    "(the primary)",
    "summary",
    "takeover: without telephone for ",
    "failback: last phone at home ",
    "each step was",
];

fn is_whole(told: &str) {
    let mut rest = told;
    for part in STORY {
        let Some((_, after)) = rest.split_once(part) else { panic!("{part:?} is not told in its place: {told}") };
        rest = after;
    }
    // The phones see it before or after the robot has made up its mind.
    let (_, dead) = told.split_once("SIGKILL to the primary").expect("it dies");
    assert!(dead.split("a person gives").next().is_some_and(|dead| dead.contains("reach nobody")), "{told}");
    for once in ["redirect_dns done in", "register_trunks done in", "action_urls done in", "notify done in", "/update?"]
    {
        assert!(told.contains(once), "{once}: {told}");
    }
    assert!(!told.contains('\x1b'), "no colour where nobody looks: {told:?}");
    assert!(told.lines().all(|line| line.chars().count() <= 80), "{told}");
}

#[test]
fn the_story_is_told_and_nothing_is_left() {
    let (code, told, err, left) = Demo::start(&[]).end();
    assert_eq!((code, err.as_str()), (Some(0), ""), "{told}");
    is_whole(&told);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn twenty_demos_two_at_a_time_beside_servers_at_the_usual_ports_all_go_well() {
    // Those that this user may take; where somebody has them already, they are taken as well.
    let _tcp: Vec<_> = [5060, 53, 80].iter().map(|port| TcpListener::bind(("0.0.0.0", *port))).collect();
    let _udp: Vec<_> = [5060, 53].iter().map(|port| UdpSocket::bind(("0.0.0.0", *port))).collect();
    for round in 0..10 {
        let two = [Demo::start(&[]), Demo::start(&[])];
        for demo in two {
            let (code, told, err, _) = demo.end();
            assert_eq!(code, Some(0), "round {round}: {err}\n{told}");
        }
    }
}

#[test]
fn each_line_is_one_json_object_when_that_is_wanted() {
    let (code, told, err, _) = Demo::start(&["--json"]).end();
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let lines: Vec<serde_json::Value> =
        told.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    assert!(lines.len() > 30 && lines.iter().all(|line| line["what"].is_string() && line["at_ms"].is_u64()));
}

#[test]
fn a_demo_that_is_ended_early_leaves_no_process_and_no_file() {
    for signal in ["INT", "TERM", "HUP", "KILL"] {
        let demo = Demo::start(&[]);
        demo.wait_for("the primary dies");
        let children = demo.children();
        assert!(!children.is_empty(), "the robot at least");
        demo.signal(signal);
        let (code, _, _, left) = demo.end();
        assert_eq!(code, (signal != "KILL").then_some(1), "{signal}");
        for pid in children {
            wait_until(&format!("process {pid} has ended after {signal}"), LONGEST, || is_gone(pid));
        }
        // Who is killed cannot clean up; the folder says whose it is.
        assert!(left.is_empty() || signal == "KILL", "{signal}: {left:?}");
    }
}

#[test]
fn a_demo_whose_robot_dies_says_what_did_not_happen() {
    let demo = Demo::start(&[]);
    demo.wait_for("armed: it would take over now");
    let robot = demo.children().into_iter().find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"robot")
    });
    kill("KILL", robot.expect("a robot"));
    let (code, told, err, left) = demo.end();
    assert_eq!(code, Some(1), "{told}");
    assert!(err.starts_with("error: did not happen within 10s: the backup serves"), "{err}");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_demo_that_is_kept_answers_the_other_commands() {
    let demo = Demo::start(&["--keep"]);
    demo.wait_for("it stays until you end it");
    demo.wait_for(" failback\n");
    let told = demo.out();
    let (_, after) = told.split_once("--config ").expect("the settings are named");
    let config = after.split_once(" status").expect("a path").0;
    let ask = |arguments: &[&str]| -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_pbx-failover"));
        program.args(["--config", config]).args(arguments).output().expect("it runs")
    };
    assert!(Path::new(config).exists(), "{config}: {told}");
    let status = ask(&["status"]);
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.status.success() && text.contains("pbx-a"), "{text}{}", String::from_utf8_lossy(&status.stderr));
    let history = ask(&["history", "--json"]);
    let events: serde_json::Value = serde_json::from_slice(&history.stdout).expect("JSON");
    assert!(events.as_array().is_some_and(|events| events.iter().any(|event| event["row"] == 29)), "{events}");
    // The settings are readable by their owner alone, and hold for `check`: it is red only where it must be.
    let check = ask(&["check", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&check.stdout).expect("JSON");
    let all = report["findings"].as_array().expect("a list");
    let red: Vec<_> = all.iter().filter(|f| f["level"] == "problem").map(|f| f["about"].clone()).collect();
    assert_eq!(red, ["pbx calls", "one server at a time"], "the demo's primary has no agent: {all:?}");
    demo.signal("TERM");
    let (code, _, _, left) = demo.end();
    assert_eq!((code, left.len()), (Some(0), 0));
}

/// The lines of a timeline without what differs from run to run: times, addresses, ids, which phone was first.
fn shape(told: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in told.lines().filter(|line| !line.trim().is_empty()) {
        // A line that begins far to the right goes on with the one above.
        match lines.last_mut() {
            Some(last) if line.starts_with("          ") => *last = format!("{last} {}", line.trim()),
            _ => lines.push(line.trim().to_owned()),
        }
    }
    lines.iter().map(|line| line.split_whitespace().filter_map(word).collect::<Vec<_>>().join(" ")).collect()
}

/// One word of it, each number as 0; `None` for a number that stands alone, as that of a phone.
fn word(word: &str) -> Option<String> {
    let is_id = |part: &str| part.len() == 26 && part.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
    if word.contains("pbx-failover-demo-") || word.rsplit('=').next().is_some_and(is_id) {
        return Some("ANEW".to_owned());
    }
    let mut shape = String::new();
    for letter in word.chars() {
        match letter {
            '0'..='9' if shape.ends_with('0') => {}
            '0'..='9' => shape.push('0'),
            letter => shape.push(letter),
        }
    }
    (shape != "0" && shape != "0.0").then_some(shape)
}

#[test]
fn the_first_screen_of_the_readme_is_what_a_demo_tells() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md");
    let (before, after) = readme.split_once("$ cargo run --release -- demo\n").expect("README.md shows the demo");
    assert!(before.lines().count() < 15, "it comes first");
    let shown = after.split_once("```").expect("a block").0;
    let (code, told, err, _) = Demo::start(&[]).end();
    assert_eq!(code, Some(0), "{err}");
    let told = shape(&told);
    let mut shown_lines = 0;
    for line in shape(shown).into_iter().filter(|line| line != "…") {
        // Phones come in groups that differ; where they are is what counts.
        assert!(told.contains(&line), "no demo tells {line:?} any more; run it and paste. It tells: {told:#?}");
        shown_lines += 1;
    }
    assert!(shown_lines > 20, "only {shown_lines} lines");
}
