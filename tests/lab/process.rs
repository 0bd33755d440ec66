//! Starts servers and ends them by their process; waits for conditions, never for time alone.

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A server of a test: killed when dropped, and when the test's thread dies (pdeathsig).
pub struct Running {
    child: Child,
    /// Where its output goes.
    pub log: std::path::PathBuf,
}

impl Running {
    /// Starts `argv` with its output in `log`.
    pub fn start(argv: &[&str], log: &Path) -> Self {
        Self::start_with(argv, log, |_| {})
    }

    /// Starts `argv`; `prepare` may set the environment or the directory.
    pub fn start_with(argv: &[&str], log: &Path, prepare: impl FnOnce(&mut Command)) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("log file");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(argv).stdin(Stdio::null());
        command.stdout(out.try_clone().expect("log file")).stderr(out);
        prepare(&mut command);
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start {argv:?}: {e}"));
        Self { child, log: log.to_owned() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name (`KILL`, `STOP`, `CONT`, `TERM`, `HUP`).
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let _ = Command::new("kill").args(["-s", name, &pid]).status();
    }

    /// Whether it has exited, and how.
    pub fn exited(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// All that it has said so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port of 127.0.0.1 that is free for both TCP and UDP.
pub fn free_port() -> u16 {
    for _ in 0..100 {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = tcp.local_addr().expect("address").port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port on loopback");
}

/// Polls `condition` every 10 ms until it holds; panics with `what` after `limit`.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "waited {limit:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until this succeeds, and gives what it gave; else fails with what was wrong at the last try, worded only then.
pub fn wait_for<T, W: FnOnce() -> String>(limit: Duration, mut attempt: impl FnMut() -> Result<T, W>) -> T {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(wrong) => assert!(start.elapsed() < limit, "not within {limit:?}: {}", wrong()),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Does something again and again in a thread of its own, at this pace, until it is dropped.
pub struct Paced {
    ends: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Paced {
    /// Begins at once.
    pub fn every(pace: Duration, mut work: impl FnMut() + Send + 'static) -> Self {
        let (ends, over) = channel::<()>();
        let thread = std::thread::spawn(move || {
            work();
            while over.recv_timeout(pace) == Err(RecvTimeoutError::Timeout) {
                work();
            }
        });
        Self { ends: Some(ends), thread: Some(thread) }
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.ends = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether these programs are installed. Says so loudly when not; under `CI` that fails the test.
pub fn have(programs: &[&str]) -> bool {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let missing: Vec<_> =
        programs.iter().filter(|p| !path.split(':').any(|dir| Path::new(dir).join(p).exists())).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "not installed: {missing:?}; tests/run installs them");
    eprintln!("SKIPPED: not installed: {missing:?}; tests/run installs them");
    false
}
