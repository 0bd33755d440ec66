//! Which processes of sync tools write below the working directories, seen in `/proc`.
//!
//! Whoever started them: an rsync that the primary pushes over ssh runs here under sshd, and no unit names it. A tool that
//! only reads (a nightly backup) is not meant, nor are this program's own children, which carry files home.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use crate::host::open_files::{self, Dir};
use crate::units::SyncLook;

/// Programs that bring files, by the name that the kernel keeps of them; some add their version.
const PROGRAMS: [&str; 6] = ["rsync", "unison", "csync2", "syncthing", "dropbox", "rclone"];

/// It takes some milliseconds, unless a working directory hangs.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// So many are named.
const NAMED_MAX: usize = 3;

/// A process has no more ancestors that count.
const ANCESTORS_MAX: usize = 20;

/// Looks once, off the loop.
pub async fn look(dirs: &[PathBuf]) -> SyncLook {
    let dirs = dirs.to_owned();
    match timeout(LOOK_MAX, tokio::task::spawn_blocking(move || scan(&dirs))).await {
        Ok(Ok(look)) => look,
        Ok(Err(_)) => unknown("the look at the sync tools broke off; see the log".to_owned()),
        // A network file system whose server is gone.
        Err(_) => unknown(format!("whether a sync tool writes here was not seen in {} s", LOOK_MAX.as_secs())),
    }
}

fn unknown(why: String) -> SyncLook {
    SyncLook { unknown: vec![why], ..SyncLook::default() }
}

fn scan(dirs: &[PathBuf]) -> SyncLook {
    let dirs = open_files::real(dirs);
    let mut look = SyncLook::default();
    let processes = match fs::read_dir("/proc") {
        Ok(processes) => processes,
        Err(error) => return unknown(format!("/proc cannot be read: {error}")),
    };
    for entry in processes.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let process = entry.path();
        let Some(program) = program(&process) else { continue };
        if is_ours(pid) {
            continue;
        }
        match writes(&process, &dirs) {
            Ok(Some(path)) if look.runs.len() < NAMED_MAX => {
                look.runs.push(format!("{program} ({pid}) writes in {}", open_files::shown(&path)));
            }
            // One that has ended meanwhile writes no more.
            Err(error) if error.kind() != io::ErrorKind::NotFound && look.unknown.is_empty() => {
                let right = open_files::RIGHT;
                look.unknown.push(format!("whether {program} ({pid}) writes here cannot be seen: {error}; {right}"));
            }
            _ => {}
        }
    }
    look
}

fn program(process: &Path) -> Option<String> {
    let name = fs::read(process.join("comm")).ok()?;
    let name = String::from_utf8_lossy(name.trim_ascii()).escape_debug().to_string();
    PROGRAMS.iter().any(|known| name.starts_with(known)).then_some(name)
}

fn writes(process: &Path, dirs: &[Dir]) -> io::Result<Option<PathBuf>> {
    if let Some(path) = open_files::written(process, dirs)? {
        return Ok(Some(path));
    }
    // An rsync that receives stands in its target, also between two files.
    let arguments = fs::read(process.join("cmdline"))?;
    if receives(&arguments) { open_files::stands_in(process, dirs) } else { Ok(None) }
}

/// Whether an rsync with these arguments (each ended by NUL) brings files here: a server that is no sender (rsync(1),
/// `--server`), or a client whose last argument, the target, names no other host.
fn receives(arguments: &[u8]) -> bool {
    let words: Vec<_> = arguments.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
    if words.contains(&b"--server".as_slice()) {
        return !words.contains(&b"--sender".as_slice());
    }
    let Some(target) = words.get(1..).and_then(<[_]>::last) else { return false };
    let before_slash = target.split(|byte| *byte == b'/').next().unwrap_or_default();
    !before_slash.contains(&b':')
}

/// Whether this program started it.
fn is_ours(pid: u32) -> bool {
    let me = std::process::id();
    let mut pid = pid;
    for _ in 0..ANCESTORS_MAX {
        if pid == me {
            return true;
        }
        match parent(pid) {
            Some(above) if above > 1 => pid = above,
            _ => return false,
        }
    }
    false
}

/// Field 4 of `/proc/PID/stat` (proc(5)); the name before it, in parentheses, may hold anything.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    String::from_utf8_lossy(&stat[end + 1..]).split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<u8> {
        line.split(' ').flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect()
    }

    #[test]
    fn an_rsync_that_brings_files_is_told_from_one_that_takes_them_away() {
        for line in [
            "rsync --server -logDtpre.iLsfxCIvu --delete . /var/lib/pbx/",
            "rsync -a --delete root@pbx-a:/var/lib/pbx/ /var/lib/pbx/",
            "rsync -a rsync://pbx-a/pbx /var/lib/pbx",
        ] {
            assert!(receives(&words(line)), "{line}");
        }
        for line in [
            "rsync --server --sender -logDtpre.iLsfxCIvu . /var/lib/pbx/",
            "rsync -a /var/lib/pbx/ backup@nas:/backups/pbx/",
            "rsync -a /var/lib/pbx/ rsync://nas/backups",
            "rsync",
        ] {
            assert!(!receives(&words(line)), "{line}");
        }
    }

    #[test]
    fn a_child_of_this_program_is_its_own_and_the_first_process_is_not() {
        assert!(is_ours(std::process::id()));
        assert!(!is_ours(1));
        assert_eq!(parent(std::process::id()), Some(std::os::unix::process::parent_id()));
    }
}
