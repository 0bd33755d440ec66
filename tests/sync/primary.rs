//! The primary: a tree whose every file names its generation, and the agent's own code that vouches for it.
//!
//! The agent's code runs in this process, since a real agent writes a heartbeat every 15 s and a run has two.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pbx_failover::adapters::beat_file::BeatFile;
use pbx_failover::adapters::data::vouch::{Looked, VouchedDirs};
use pbx_failover::config::{self, Config, Files, Secret, Surroundings};
use pbx_failover::data::vouch::Vouched;
use pbx_failover::host::sequence::Sequence;
use pbx_failover::units::Beat;

use crate::lab::{Running, wait_until};

/// Between two heartbeats, where nothing is new.
const BEAT_EVERY: Duration = Duration::from_millis(250);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// The tree, its writer and its agent.
pub struct Primary {
    dir: tempfile::TempDir,
    writer: Option<Running>,
    agent: Option<Agent>,
}

impl Primary {
    /// A tree of generation 0, written whole.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("primary").tempdir().expect("temporary directory");
        for name in ["work", "state"] {
            std::fs::create_dir(dir.path().join(name)).expect("directory");
        }
        std::fs::write(dir.path().join("writer.py"), include_str!("writer.py")).expect("script");
        let primary = Self { dir, writer: None, agent: None };
        let status = Command::new("python3").args(primary.writer(0, 0)).status().expect("python3");
        assert!(status.success());
        primary
    }

    fn writer(&self, seed: u64, first: u64) -> Vec<String> {
        let text = |name: &str| self.path(name).display().to_string();
        vec![text("writer.py"), text("work"), seed.to_string(), first.to_string(), text("generation")]
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The agent begins to vouch; `yaml`: the settings of both hosts, with the primary's name and directory.
    pub fn vouches(&mut self, yaml: &str, token: &Path) {
        let surroundings = Surroundings { host_name: "pbx-a".to_owned(), files: Files::Ignored };
        let config =
            config::parse(yaml, Path::new("/etc/pbx-failover/failover.yaml"), &surroundings).expect("settings");
        self.agent = Some(Agent::start(config.config, Secret::File(token.to_owned()), &self.path("state")));
    }

    /// Generation after generation from now on; returns when the first begins.
    pub fn changes(&mut self, seed: u64) {
        let arguments = self.writer(seed, 1);
        let argv: Vec<&str> = std::iter::once("python3").chain(arguments.iter().map(String::as_str)).collect();
        self.writer = Some(Running::start(&argv, &self.path("log")));
        wait_until("the first file changes", Duration::from_secs(20), || self.path("generation.begun").exists());
    }

    /// The last generation that was written whole.
    pub fn generation(&self) -> String {
        std::fs::read_to_string(self.path("generation")).unwrap_or_else(|_| "0".to_owned())
    }

    /// It dies, wherever it is.
    pub fn dies(&mut self) {
        if let Some(agent) = &self.agent {
            agent.ended.store(true, Ordering::SeqCst);
        }
        self.writer = None;
        self.agent = None;
    }
}

struct Agent {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    fn start(config: Config, token: Secret, state: &Path) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (over, sequence) = (Arc::clone(&ended), Arc::new(Sequence::open(state)));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(vouch(&config, token, sequence, &over));
        });
        Self { ended, thread: Some(thread) }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn vouch(config: &Config, token: Secret, sequence: Arc<Sequence>, over: &AtomicBool) {
    let file = BeatFile::new(config, token, sequence).expect("a check asks for it");
    let dirs = VouchedDirs::new(config);
    let mut written: Option<Instant> = None;
    while !over.load(Ordering::SeqCst) {
        let Looked { became, told: tree, .. } = dirs.look().await.expect("the disk answers");
        let due = written.is_none_or(|at| at.elapsed() >= BEAT_EVERY);
        if (due || became == Vouched::News) && !over.load(Ordering::SeqCst) {
            let bare = Beat::bare("pbx-a".parse().expect("a name"), "primary", jiff::Timestamp::now());
            file.write(&Beat { tree, ..bare }).await.expect("written");
            written = Some(Instant::now());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
