//! Starts servers and ends them by their process; waits for conditions, never for time alone.

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
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

/// The ports that a test may give to its servers: below those from which the kernel takes one for a client's socket.
const PORTS: std::ops::Range<u16> = 20_000..32_768;

/// A port of 127.0.0.1 that is free for both TCP and UDP. No other test gets it while this process lives, however long
/// its server takes to bind it.
pub fn free_port() -> u16 {
    let own_part = usize::try_from(std::process::id()).unwrap_or_default().wrapping_mul(101) % PORTS.len();
    for port in PORTS.cycle().skip(own_part).take(PORTS.len()) {
        let Some(lease) = lease(port) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            std::mem::forget(lease);
            return port;
        }
    }
    panic!("no free port on loopback");
}

/// Takes the name of this port among all test processes of the machine, unless one has it; the kernel ends it with its
/// process, and leaves no file.
fn lease(port: u16) -> Option<UnixListener> {
    let name = UnixAddr::from_abstract_name(format!("pbx-failover test port {port}")).expect("a short name");
    UnixListener::bind_addr(&name).ok()
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
