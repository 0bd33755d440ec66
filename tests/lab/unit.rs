//! A unit without systemd: a program that answers as `systemctl` does, whose `pbx.service` is a PBX of the rigs.
//!
//! What only a real systemd shows is in [`super::nspawn`].

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The commands behind `pbx.service`.
pub struct Unit<'a> {
    /// Starts it and returns; `exit 0` says that a condition of the unit did not hold.
    pub start: &'a str,
    /// Stops it, and returns when that is done.
    pub stop: &'a str,
    /// Succeeds while it runs.
    pub alive: &'a str,
}

impl Unit<'_> {
    /// Writes `systemctl` into a directory, where it keeps the unit's state in the file `state`.
    pub fn write(&self, dir: &Path) -> PathBuf {
        let program = dir.join("systemctl");
        let script = include_str!("systemctl/systemctl.sh")
            .replace("@STATE@", &dir.join("state").display().to_string())
            .replace("@START@", self.start)
            .replace("@STOP@", self.stop)
            .replace("@ALIVE@", self.alive);
        std::fs::write(&program, script).expect("script");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("may be run");
        program
    }
}
