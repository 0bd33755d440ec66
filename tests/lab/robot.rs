//! The robot itself, as a user runs it: a real process with its own directory, asked through its command line.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{Running, wait_until};

/// How long a state is waited for before a test fails.
const PATIENCE: Duration = Duration::from_secs(40);

/// A robot with its configuration, state directory and control socket; killed when dropped.
pub struct Robot {
    dir: tempfile::TempDir,
    prefix: Vec<String>,
    wrapper: Vec<String>,
    process: Option<Running>,
}

impl Robot {
    /// Writes `failover.yaml` in a new directory; starts nothing. `state_dir`, `control` and `page` are added to
    /// `yaml`, and `pbx.working_dir` may be written as `@DIR@/work`.
    pub fn new(yaml: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("robot").tempdir().expect("temporary directory");
        std::fs::create_dir_all(dir.path().join("work")).expect("working directory");
        let robot = Self { dir, prefix: Vec::new(), wrapper: Vec::new(), process: None };
        robot.configure(yaml);
        robot
    }

    /// Runs inside a namespace: `Topology::exec`.
    pub fn inside(mut self, prefix: Vec<String>) -> Self {
        self.prefix = prefix;
        self
    }

    /// Starts the daemon under another program from now on (`strace …`, `faketime …`).
    pub fn under(&mut self, wrapper: &[&str]) {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
    }

    /// Writes the configuration anew.
    pub fn configure(&self, yaml: &str) {
        let dir = self.dir.path().display();
        let yaml = yaml.replace("@DIR@", &dir.to_string());
        let text = format!("{yaml}\nstate_dir: {dir}/state\ncontrol: {dir}/run/control.sock\npage: \"\"\n");
        std::fs::write(self.config(), text).expect("configuration");
    }

    /// Writes a file that only its owner may read.
    pub fn secret(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.path(name);
        std::fs::write(&file, text).expect("secret");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("mode");
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.path("failover.yaml")
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) {
        self.spawn();
        wait_until("the robot answers", PATIENCE, || self.try_status().is_some() || self.has_ended());
        assert!(!self.has_ended(), "the robot did not start:\n{}", self.log());
    }

    /// Starts the daemon and does not wait: it may die at once.
    pub fn spawn(&mut self) {
        let config = self.config();
        let binary = binary();
        let mut argv: Vec<&str> = self.prefix.iter().chain(&self.wrapper).map(String::as_str).collect();
        argv.extend([binary.as_str(), "run", config.to_str().expect("a plain path")]);
        self.process = Some(Running::start(&argv, &self.path("log")));
    }

    /// The daemon's process, as started (with a wrapper: the wrapper's).
    pub fn process(&mut self) -> &mut Running {
        self.process.as_mut().expect("the robot was started")
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| process.exited().is_some())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        self.process().signal("TERM");
        wait_until("the robot has stopped", PATIENCE, || self.has_ended());
        self.process = None;
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Runs the program with these arguments and this configuration.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let mut argv: Vec<&str> = self.prefix.iter().map(String::as_str).collect();
        let binary = binary();
        argv.push(&binary);
        let (program, before) = argv.split_first().expect("a program");
        Command::new(program)
            .args(before)
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the program runs")
    }

    /// Runs a command that acts, at once and without following it; its exit code and all that it said.
    pub fn asked(&self, arguments: &[&str]) -> (i32, String) {
        let mut all = arguments.to_vec();
        if !matches!(arguments[0], "pause" | "unpause" | "ack") {
            all.extend(["--yes", "--no-watch"]);
        }
        if !matches!(arguments[0], "unpause" | "ack") {
            all.extend(["--reason", "a test"]);
        }
        let output = self.cli(&all);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap_or(-1), said)
    }

    /// `status --json`, the one pair; `None` while nobody answers.
    pub fn try_status(&self) -> Option<Value> {
        let output = self.cli(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        status.get("pairs")?.get(0).cloned()
    }

    /// `status --json`, the one pair.
    pub fn status(&self) -> Value {
        self.try_status().unwrap_or_else(|| panic!("no status; the log:\n{}", self.log()))
    }

    /// Its state by name.
    pub fn state(&self) -> String {
        self.status()["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until `holds` of the status; on failure prints status, history and log.
    pub fn wait(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        self.wait_at_most(what, PATIENCE, holds)
    }

    /// As [`Robot::wait`], with its own patience.
    pub fn wait_at_most(&self, what: &str, patience: Duration, holds: impl Fn(&Value) -> bool) -> Value {
        let start = std::time::Instant::now();
        loop {
            let status = self.try_status();
            if let Some(status) = status.as_ref().filter(|status| holds(status)) {
                return status.clone();
            }
            assert!(
                start.elapsed() < patience,
                "not within {patience:?}: {what}\nstatus {:#}\nhistory\n{}\nlog\n{}",
                status.unwrap_or_default(),
                self.history_text(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for a state.
    pub fn wait_state(&self, state: &str) -> Value {
        self.wait(&format!("state {state}"), |status| status["state"] == state)
    }

    /// Waits until it is in standby, the primary is up, and it is armed.
    pub fn wait_armed(&self) -> Value {
        self.wait("armed", |s| s["state"] == "standby" && s["verdict"] == "primary-up" && s["armed"]["ok"] == true)
    }

    /// Waits until it is active and its plan has ended.
    pub fn wait_served(&self) -> Value {
        self.wait("active, plan ended", |s| s["state"] == "active" && s["plan"]["ended"].is_string())
    }

    /// `explain --json`.
    pub fn explain(&self) -> Value {
        serde_json::from_slice(&self.cli(&["explain", "--json"]).stdout).expect("explain prints JSON")
    }

    /// `history --json`, oldest first.
    pub fn history(&self) -> Vec<Value> {
        serde_json::from_slice(&self.cli(&["history", "--json", "--limit", "500"]).stdout).unwrap_or_default()
    }

    /// The history as lines, for the message of a failed test.
    pub fn history_text(&self) -> String {
        let lines =
            self.history().into_iter().map(|e| format!("{} {} {} ({})", e["row"], e["kind"], e["what"], e["because"]));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The numbers of the state table's rows that have fired, in order.
    pub fn rows(&self) -> Vec<u64> {
        self.history().iter().filter_map(|event| event["row"].as_u64()).collect()
    }
}

/// The program: the one that `PBX_FAILOVER_BINARY` names (the bench measures the release build), else cargo's.
pub fn binary() -> String {
    std::env::var("PBX_FAILOVER_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_pbx-failover").to_owned())
}

/// The state of a step in a status.
pub fn step<'a>(status: &'a Value, name: &str) -> &'a Value {
    let steps = status["plan"]["steps"].as_array().expect("a plan with steps");
    steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no step {name}"))
}

/// The path of a file in a directory, as text for YAML.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}
