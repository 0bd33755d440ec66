//! The demo's other processes, and what they are when they run, by the hidden command `demo-part`.
//!
//! The primary is a process so that it can really be killed. Each of them ends with the demo, however that ends.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

use crate::adapters::pbx::builtin::switchboard::GRACE;
use crate::adapters::pbx::builtin::{Plan, Service};
use crate::config::{Builtin, Listen, SipTransport};
use crate::daemon;
use crate::host::tls;

/// What the primary is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct Primary {
    /// Where its web server listens.
    pub web: SocketAddr,
    /// Where its PBX listens.
    pub sip: SocketAddr,
    /// Its accounts.
    pub accounts: PathBuf,
    /// Where it keeps its bindings.
    pub keep: PathBuf,
}

/// What a process of the demo is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The robot, with its settings.
    Robot,
    /// The primary, with what it is told.
    Primary,
    /// The robot's command that starts the primary, with the demo's socket.
    StartPrimary,
}

impl Part {
    /// As it stands on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Robot => "robot",
            Self::Primary => "primary",
            Self::StartPrimary => "start-primary",
        }
    }

    /// Starts it beside this process; what it says goes into `log`.
    ///
    /// # Errors
    /// One line.
    pub fn start(self, file: &Path, log: &Path) -> Result<Process, String> {
        let start = || {
            let log = File::options().create(true).append(true).open(log)?;
            Command::new(std::env::current_exe()?)
                .args(["demo-part", self.name()])
                .arg(file)
                // It is nobody's service: neither systemd nor the journal is told.
                .env_remove("NOTIFY_SOCKET")
                .env_remove("JOURNAL_STREAM")
                .env_remove("PBX_FAILOVER_CONFIG")
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()
        };
        start().map(Process).map_err(|error| format!("the demo's {} cannot be started: {error}", self.name()))
    }

    /// Is it.
    ///
    /// # Errors
    /// One line.
    pub async fn be(self, file: &Path) -> Result<(), String> {
        if self != Self::StartPrimary {
            // A demo that is killed must leave nothing behind.
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
        }
        match self {
            Self::Robot => daemon::run(file).await.map_err(|stopped| stopped.to_string()),
            Self::Primary => primary(file).await,
            Self::StartPrimary => start_primary(file).await,
        }
    }
}

/// A process of the demo. When this is dropped it has ended, and writes into the demo's folder no more.
pub struct Process(Child);

impl Process {
    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for one that has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The throwaway primary: a web page, and a PBX that registers phones and a trunk.
async fn primary(file: &Path) -> Result<(), String> {
    tls::install_provider();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let told: Primary = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let pbx = Service::start(plan(told.sip, told.accounts, told.keep)).await?;
    pbx.handle().register_trunks().await;
    let page = axum::Router::new().route("/", axum::routing::get(|| async { "the PBX's web page\n" }));
    let listener = TcpListener::bind(told.web).await.map_err(|error| format!("{}: {error}", told.web))?;
    axum::serve(listener, page).await.map_err(|error| error.to_string())
}

/// A registrar at `sip`.
pub fn plan(sip: SocketAddr, accounts: PathBuf, keep: PathBuf) -> Plan {
    let listen = |transport| Listen { transport, address: sip };
    let settings = Builtin {
        listen: vec![listen(SipTransport::Udp), listen(SipTransport::Tcp)],
        accounts: accounts.clone(),
        realm: String::new(),
        min_expires: Duration::from_secs(1),
        max_expires: Duration::from_secs(300),
        tls: None,
    };
    Plan { settings, accounts, keep, reachable: sip.ip(), grace: GRACE }
}

/// Rings at the demo, which starts the primary and answers once it serves.
async fn start_primary(bell: &Path) -> Result<(), String> {
    let ring = async {
        let mut demo = UnixStream::connect(bell).await?;
        demo.shutdown().await?;
        let mut answer = String::new();
        demo.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    let answer = ring.await.map_err(|error: std::io::Error| format!("the demo does not answer: {error}"))?;
    if answer == "started" { Ok(()) } else { Err(answer) }
}
