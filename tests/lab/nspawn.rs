//! Machines with a real systemd as PID 1, each a container of systemd-nspawn, alone or inside a network namespace of
//! [`super::netns`]: they boot, reboot and lose their power.
//!
//! `nspawn/root.sh` makes the root once (`tests/run` calls it); it is never written. What a machine writes lies in a
//! directory of its own: it outlives a reboot and a power cut, and `/run` does not, as on a real disk. systemd is never
//! started on the root of whoever runs the tests. Needs root. What runs in the machines is the tests' own choice.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Running, have, wait_until};

/// The programs that the rig needs, for [`super::have`].
pub const PROGRAMS: [&str; 4] = ["systemd-nspawn", "nsenter", "unshare", "setpriv"];

/// All our machines are named so; then the test's process id and a number.
const PREFIX: &str = "pbxfo-machine";

/// How long a boot or a shutdown may take; it takes less than a second when nothing else runs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What systemd-nspawn exits with when its machine asks for a reboot and `--keep-unit` leaves that to others.
const WANTS_REBOOT: i32 = 133;

/// A machine, off or on; it and all that it wrote are gone when dropped.
pub struct Machine {
    name: String,
    root: PathBuf,
    arguments: Vec<String>,
    nspawn: Option<Running>,
    dir: tempfile::TempDir,
}

impl Machine {
    /// Whether machines can be made here. Says so loudly when not; under `CI` that fails the test.
    pub fn possible() -> bool {
        if !have(&PROGRAMS) {
            return false;
        }
        let why = match (rustix::process::geteuid().is_root(), root()) {
            (true, Some(_)) => return true,
            (false, _) => "machines with systemd need root",
            (true, None) => "the root of machines with systemd is not made; tests/run does it",
        };
        assert!(std::env::var_os("CI").is_none(), "{why}");
        eprintln!("SKIPPED: {why}");
        false
    }

    /// A machine that is off, with this host name, in this network namespace; without one it has loopback only.
    pub fn new(hostname: &str, namespace: Option<&str>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_leftovers();
        let name = format!("{PREFIX}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let network = match namespace {
            Some(namespace) => format!("--network-namespace-path=/run/netns/{namespace}"),
            None => "--private-network".to_owned(),
        };
        Self {
            name,
            root: root().expect("asked for by `possible`"),
            arguments: vec![network, format!("--hostname={hostname}")],
            nspawn: None,
            dir: tempfile::Builder::new().prefix("machine").tempdir().expect("temporary directory"),
        }
    }

    /// A file or directory of ours that it sees at `inside`, and cannot write.
    pub fn binds(mut self, ours: &Path, inside: &str) -> Self {
        self.arguments.push(format!("--bind-ro={}:{inside}", ours.display()));
        self
    }

    /// Writes a file on its disk, with its directories; on or off.
    pub fn write(&self, path: &str, text: &str) {
        self.write_with(path, text, 0o644);
    }

    /// As [`Machine::write`], with this mode.
    pub fn write_with(&self, path: &str, text: &str, mode: u32) {
        let file = self.file(path);
        std::fs::create_dir_all(file.parent().expect("an absolute path")).expect("its directory");
        std::fs::write(&file, text).unwrap_or_else(|e| panic!("{path}: {e}"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("its mode");
    }

    /// Where a file of its disk is seen from here: through its own eyes while it is on, for a mounted overlay may not
    /// be changed behind its back. Symbolic links with absolute targets lead out of it.
    pub fn file(&self, path: &str) -> PathBuf {
        let path = path.trim_start_matches('/');
        match self.leader() {
            Some(leader) => Path::new("/proc").join(leader).join("root").join(path),
            None => self.dir.path().join("upper").join(path),
        }
    }

    /// Turns it on, and waits until systemd has its basic system.
    pub fn boot(&mut self) {
        self.turn_on();
        wait_until("the machine has booted", PATIENCE, || {
            let ended = self.nspawn.as_mut().and_then(Running::exited);
            assert!(ended.is_none(), "the machine ended ({ended:?}):\n{}", self.console());
            self.leader().is_some() && self.exec(&["systemctl", "is-active", "--quiet", "basic.target"]).0
        });
    }

    /// Turns it off in order, and on again.
    pub fn reboot(&mut self) {
        // systemctl may lose its connection on the way down: only the end tells.
        self.exec(&["systemctl", "reboot"]);
        let mut nspawn = self.nspawn.take().expect("the machine is on");
        let mut ended = None;
        wait_until("the machine goes down", PATIENCE, || {
            ended = nspawn.exited();
            ended.is_some()
        });
        assert_eq!(ended.and_then(|status| status.code()), Some(WANTS_REBOOT), "{}", self.console());
        self.boot();
    }

    /// Takes its power away: nothing in it gets to say or do anything more.
    pub fn power_cut(&mut self) {
        let leader = Path::new("/proc").join(self.leader().expect("the machine is on"));
        self.nspawn = None;
        // The kernel ends all its processes, but only soon.
        wait_until("the machine is dark", PATIENCE, || !leader.exists());
    }

    /// What runs the rest of a command line in it as root, with an environment of its own.
    pub fn entrance(&self) -> Vec<String> {
        let leader = self.leader().expect("the machine is on");
        let enter = ["nsenter", "--target", &leader, "--all", "--wd=/", "--", "env", "--ignore-environment"];
        let env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "SYSTEMD_PAGER="];
        enter.into_iter().chain(env).map(str::to_owned).collect()
    }

    /// Runs a program in it as root to its end.
    pub fn output(&self, argv: &[&str]) -> Output {
        let entrance = self.entrance();
        Command::new(&entrance[0])
            .args(&entrance[1..])
            .args(argv)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|e| panic!("cannot run nsenter: {e}"))
    }

    /// As [`Machine::output`]: whether it succeeded, and all that it said.
    pub fn exec(&self, argv: &[&str]) -> (bool, String) {
        let out = self.output(argv);
        let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
        (out.status.success(), said.trim_end().to_owned())
    }

    /// As [`Machine::exec`] of something that must succeed; its output.
    #[track_caller]
    pub fn must(&self, argv: &[&str]) -> String {
        let (done, said) = self.exec(argv);
        assert!(done, "{argv:?}: {said}");
        said
    }

    /// One property of a unit, as `systemctl show` has it.
    pub fn unit(&self, unit: &str, property: &str) -> String {
        self.exec(&["systemctl", "show", "--value", "--property", property, unit]).1
    }

    /// Whether a unit is active.
    pub fn active(&self, unit: &str) -> bool {
        self.unit(unit, "ActiveState") == "active"
    }

    /// What the journal has of a unit since the last boot, one message a line.
    pub fn journal(&self, unit: &str) -> String {
        // What was said a moment ago is on its way to the journal still.
        self.exec(&["journalctl", "--sync"]);
        self.exec(&["journalctl", "--boot", "--no-pager", "--output=cat", "--unit", unit]).1
    }

    /// The end of the whole journal with times, for the message of a failed test.
    pub fn last_words(&self) -> String {
        self.exec(&["journalctl", "--no-pager", "--output=short-precise", "--lines=120"]).1
    }

    /// What its console has shown.
    pub fn console(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("console")).unwrap_or_default()
    }

    fn turn_on(&mut self) {
        assert!(self.nspawn.is_none(), "the machine is on");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/nspawn/boot.sh");
        // In a process namespace of its own, whose first process dies with unshare and takes all others with it: PID 1
        // of the machine would outlive systemd-nspawn.
        let unshare = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", "--", "sh"];
        let mut argv = unshare.map(str::to_owned).to_vec();
        argv.extend([&script, Path::new(&self.name), &self.root, self.dir.path()].map(|p| p.display().to_string()));
        argv.extend(self.arguments.iter().cloned());
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        self.nspawn = Some(Running::start(&argv, &self.dir.path().join("console")));
    }

    /// Its PID 1, as it is called here: the child of systemd-nspawn, which is the child of unshare. For a moment
    /// systemd-nspawn has another child, which makes the machine and goes: that one is nobody's PID 1.
    fn leader(&self) -> Option<String> {
        let child = |pid: String| {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            children.split_whitespace().next().map(str::to_owned)
        };
        let leader = child(child(self.nspawn.as_ref()?.pid().to_string())?)?;
        let status = std::fs::read_to_string(format!("/proc/{leader}/status")).ok()?;
        let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_whitespace().next_back()?;
        (inside == "1").then_some(leader)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && self.leader().is_some() {
            eprintln!("the machine {}:\n{}", self.name, self.last_words());
        }
        if let Some(leader) = self.leader() {
            self.nspawn = None;
            // Its control groups can go when its last process has; nothing may fail in here.
            let start = std::time::Instant::now();
            while Path::new("/proc").join(&leader).exists() && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        remove(&self.name);
    }
}

/// Where the root lies, if it was made.
fn root() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/nspawn/root.sh");
    let out = Command::new("bash").arg(script).arg("--where").output().expect("bash runs");
    let root = PathBuf::from(String::from_utf8_lossy(&out.stdout).trim());
    root.is_dir().then_some(root)
}

/// Removes what a machine that is off leaves on this one: its control groups and a directory of systemd-nspawn.
fn remove(name: &str) {
    let groups = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    for group in groups.chain([PathBuf::from("/sys/fs/cgroup")]).map(|hierarchy| hierarchy.join(name)) {
        if group.is_dir() {
            // Deepest first; a group whose last process is still going away is left for the next test to remove.
            let _ =
                Command::new("find").arg(group).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]).output();
        }
    }
    let _ = std::fs::remove_dir_all(Path::new("/run/systemd/nspawn/propagate").join(name));
}

/// Removes what machines of test processes that live no more have left; the machines themselves died with those.
fn remove_leftovers() {
    let hierarchies = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/run/systemd/nspawn/propagate"];
    for entry in hierarchies.into_iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1));
        if owner.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()) {
            remove(&name);
        }
    }
}
