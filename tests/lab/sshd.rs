//! A real sshd on loopback with keys and a port of its own, and a folder that stands for the primary's disk.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{Running, free_port, have, wait_until};

/// An sshd; ended when dropped.
pub struct Sshd {
    /// Where it listens.
    pub port: u16,
    dir: tempfile::TempDir,
    process: Option<Running>,
}

impl Sshd {
    /// Whether this machine has what it needs.
    pub fn possible() -> bool {
        have(&["rsync", "sshd", "ssh", "ssh-keygen"])
    }

    /// One that lets the key of [`Sshd::yaml`] in.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("home").tempdir().expect("temporary directory");
        for name in ["host", "key"] {
            let mut made = Command::new("ssh-keygen");
            made.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.path().join(name));
            assert!(made.status().expect("ssh-keygen").success());
        }
        std::fs::copy(dir.path().join("key.pub"), dir.path().join("authorized")).expect("key");
        std::fs::create_dir_all(dir.path().join("work")).expect("directory");
        // Where Debian's sshd leaves its rights; on a machine that never ran one it is missing.
        let _ = std::fs::create_dir_all("/run/sshd");
        let mut sshd = Self { port: free_port(), dir, process: None };
        let public = std::fs::read_to_string(sshd.path("host.pub")).expect("key");
        std::fs::write(sshd.path("known"), format!("[127.0.0.1]:{} {public}", sshd.port)).expect("known hosts");
        let path = |name: &str| sshd.path(name).display().to_string();
        let text = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 100\n",
            sshd.port,
            path("host"),
            path("authorized")
        );
        std::fs::write(sshd.path("sshd_config"), text).expect("configuration");
        sshd.again();
        sshd
    }

    /// Starts it, or starts it again.
    pub fn again(&mut self) {
        let config = self.path("sshd_config").display().to_string();
        self.process = Some(Running::start(&["/usr/sbin/sshd", "-D", "-e", "-f", &config], &self.path("log")));
        self.listens();
    }

    fn listens(&self) {
        let port = self.port;
        wait_until("sshd listens", Duration::from_secs(10), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    /// Starts it again where its working directory is a disk of its own, of so many bytes, with `files` of the other.
    pub fn on_small_disk(&mut self, bytes: u64) {
        self.process = None;
        let (config, work) = (self.path("sshd_config"), self.path("work"));
        let script = format!(
            "cp -a {0} {0}.was && mount -t tmpfs -o size={bytes} tmpfs {0} && cp -a {0}.was/. {0} && exec /usr/sbin/sshd -D -e -f {1}",
            work.display(),
            config.display()
        );
        let argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script];
        self.process = Some(Running::start(&argv, &self.path("log")));
        self.listens();
    }

    /// Ends it; connections that are open go on.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// A path in its folder; `work` stands for the primary's working directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `failback.return_to` for it.
    pub fn yaml(&self) -> String {
        format!(
            "{{ rsync: \"root@127.0.0.1\", dirs: [\"{}\"], ssh_key: \"{}\", port: {}, known_hosts: \"{}\" }}",
            self.path("work").display(),
            self.path("key").display(),
            self.port,
            self.path("known").display()
        )
    }
}
