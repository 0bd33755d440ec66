//! What a person's command did to the working directory, for the history, which only the daemon writes.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::Vault;

/// In the state directory.
pub(super) const FILE: &str = "restored";
/// A longer one is none of ours.
const BYTES_MAX: u64 = 64 * 1024;

impl Vault {
    /// Notes what was done, and why.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn note(&self, what: &str, because: &str) -> io::Result<()> {
        let line = serde_json::to_string(&(what, because)).map_err(io::Error::other)?;
        let mut options = File::options();
        let mut file = options.append(true).create(true).mode(0o600).open(self.state_dir.join(FILE))?;
        writeln!(file, "{line}")
    }
}

/// What was noted since the last time, each with its reason; it is forgotten here.
pub fn noted_in(state_dir: &Path) -> Vec<(String, String)> {
    let file = state_dir.join(FILE);
    let mut text = String::new();
    let read = File::open(&file).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
    if read.is_err() || fs::remove_file(&file).is_err() {
        return Vec::new();
    }
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
