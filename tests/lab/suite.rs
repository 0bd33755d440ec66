//! Programs of another Debian suite than the host's, which `suite/unpack.sh` has laid beside it: Asterisk, a newer sipp.
//!
//! `tests/run` calls that script; nothing is downloaded from here.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The unpacked programs of one suite.
#[derive(Clone, Debug)]
pub struct Suite {
    root: PathBuf,
}

impl Suite {
    /// Debian forky: Asterisk 22, and sipp 3.8 with SHA-256 and TLS. Says so loudly when it was not unpacked; under
    /// `CI` that fails the test.
    pub fn forky() -> Option<Self> {
        let found = Self::unpacked("forky");
        if found.is_none() {
            assert!(std::env::var_os("CI").is_none(), "programs of forky are not unpacked; tests/run does it");
            eprintln!("SKIPPED: programs of forky are not unpacked; tests/run does it");
        }
        found
    }

    /// Debian bullseye: Asterisk 16. `tests/run` unpacks it where the mirror still has a suite that old; else what is asked
    /// of it is left out, also under `CI`.
    pub fn bullseye() -> Option<Self> {
        let found = Self::unpacked("bullseye");
        if found.is_none() {
            eprintln!("not asked of Asterisk 16: `tests/lab/suite/unpack.sh bullseye` unpacks it");
        }
        found
    }

    /// What to put before the arguments of a program, for example `usr/sbin/asterisk`: it execs, so the process id is
    /// the program's.
    pub fn program(&self, path: &str) -> Vec<String> {
        vec![self.path("run").display().to_string(), path.to_owned()]
    }

    /// A path below its root.
    pub fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    fn unpacked(suite: &str) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/suite/unpack.sh");
        let out = Command::new("bash").arg(script).args(["--where", suite]).output().expect("bash runs");
        let root = PathBuf::from(String::from_utf8_lossy(&out.stdout).trim());
        root.join("run").exists().then_some(Self { root })
    }
}
