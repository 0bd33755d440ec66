//! The program `systemctl`, through which polkit decides what the robot may do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command::{self, CommandEnd};

/// Where it lies on any distribution, when `PATH` does not say.
const PROGRAM_DIRS: &str = "/usr/bin:/bin:/usr/local/bin";

/// Its absolute path, where this host has one.
pub fn find() -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path.split(':').chain(PROGRAM_DIRS.split(':')).filter(|dir| dir.starts_with('/'));
    found.map(|dir| Path::new(dir).join("systemctl")).find(|program| program.is_file())
}

/// Calls it about one unit.
pub async fn call(systemctl: &Path, arguments: &[&str], unit: &str, limit: Duration) -> CommandEnd {
    let mut argv = vec![systemctl.display().to_string()];
    // Nobody is there to type a password.
    argv.extend(["--no-ask-password"].iter().chain(arguments).map(|&word| word.to_owned()));
    argv.extend(["--".to_owned(), unit.to_owned()]);
    command::run(&argv, &[("LC_ALL".to_owned(), "C".to_owned())], limit).await
}
