//! Which processes of sync tools write below the working directories, seen in `/proc`.
//!
//! Whoever started them: an rsync that the primary pushes over ssh runs here under sshd, and no unit names it. A tool that
//! only reads (a nightly backup) is not meant, nor are this program's own children, which carry files home.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::host::disk;
use crate::host::open_files::{self, Dir, Sight};
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
    /// A working directory may hang, on a network file system whose server is gone.
    static GATE: Semaphore = Semaphore::const_new(1);
    let dirs = dirs.to_owned();
    let look = disk::alone(&GATE, LOOK_MAX, move || scan(&dirs)).await;
    look.unwrap_or_else(|why| unseen(format!("the look whether a sync tool writes here {why}")))
}

fn unseen(why: String) -> SyncLook {
    SyncLook { unseen: vec![why], ..SyncLook::default() }
}

fn scan(dirs: &[PathBuf]) -> SyncLook {
    let dirs = open_files::real(dirs);
    let mut look = SyncLook::default();
    let processes = match fs::read_dir("/proc") {
        Ok(processes) => processes,
        Err(error) => return unseen(format!("/proc cannot be read: {error}")),
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
            Err(error) if error.kind() != io::ErrorKind::NotFound && look.unseen.is_empty() => {
                let right = open_files::RIGHT;
                look.unseen.push(format!("whether {program} ({pid}) writes here cannot be seen: {error}; {right}"));
            }
            _ => {}
        }
    }
    if open_files::sight() == Sight::OwnUser {
        let right = open_files::RIGHT;
        look.unseen.push(format!("whether a sync tool of another user writes here is not seen by this user; {right}"));
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
    let stands = || open_files::stands_in(process, dirs);
    Ok(match Rsync::of(&arguments) {
        Rsync::Receives => stands()?,
        Rsync::Local(target) => stands()?.filter(|path| is_target(path, target)),
        Rsync::Sends => None,
    })
}

/// What an rsync does here.
#[derive(Debug, PartialEq, Eq)]
enum Rsync<'a> {
    Receives,
    Sends,
    /// One of its processes stands in the source and others in this target, all with the same arguments.
    Local(&'a Path),
}

impl<'a> Rsync<'a> {
    /// That of these arguments, each ended by NUL: a server receives unless it is a sender (rsync(1), `--server`); of a
    /// client the last argument is the target, and one argument more names another host if it does not come from here.
    fn of(arguments: &'a [u8]) -> Self {
        let words: Vec<_> = arguments.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
        if words.contains(&b"--server".as_slice()) {
            return if words.contains(&b"--sender".as_slice()) { Self::Sends } else { Self::Receives };
        }
        let Some((target, before)) = words.get(1..).and_then(<[_]>::split_last) else { return Self::Sends };
        if is_remote(target) {
            Self::Sends
        } else if before.iter().any(|word| !word.starts_with(b"-") && is_remote(word)) {
            Self::Receives
        } else {
            Self::Local(Path::new(OsStr::from_bytes(target)))
        }
    }
}

/// `HOST:PATH`, `rsync://HOST/PATH` (rsync(1)).
fn is_remote(argument: &[u8]) -> bool {
    argument.split(|byte| *byte == b'/').next().is_some_and(|before_slash| before_slash.contains(&b':'))
}

/// Whether a process that stands here stands in this target. From where a relative one counts is not seen: its end must do.
fn is_target(stands: &Path, target: &Path) -> bool {
    match target.canonicalize() {
        Ok(real) if target.is_absolute() => stands.starts_with(real),
        _ => stands.ends_with(target.strip_prefix(".").unwrap_or(target)),
    }
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
            assert_eq!(Rsync::of(&words(line)), Rsync::Receives, "{line}");
        }
        for line in [
            "rsync --server --sender -logDtpre.iLsfxCIvu . /var/lib/pbx/",
            "rsync -a /var/lib/pbx/ backup@nas:/backups/pbx/",
            "rsync -a /var/lib/pbx/ rsync://nas/backups",
            "rsync",
        ] {
            assert_eq!(Rsync::of(&words(line)), Rsync::Sends, "{line}");
        }
        let local = words("rsync -a --delete /mnt/pbx-a/ /var/lib/pbx/");
        assert_eq!(Rsync::of(&local), Rsync::Local(Path::new("/var/lib/pbx/")));
    }

    #[test]
    fn of_a_local_copy_only_the_process_that_stands_in_the_target_brings_files() {
        let dir = tempfile::tempdir().expect("directory");
        let dir = dir.path().canonicalize().expect("there");
        for name in ["work/sub", "backup/sub"] {
            fs::create_dir_all(dir.join(name)).expect("made");
        }
        let (work, backup) = (dir.join("work"), dir.join("backup"));
        assert!(is_target(&work, &work) && is_target(&work.join("sub"), &work));
        assert!(!is_target(&work, &backup), "the one that reads stands in the source");
        assert!(is_target(&work, Path::new("work/")) && !is_target(&work, Path::new("backup")));
        assert!(is_target(&work, Path::new("./")));
    }

    #[test]
    fn a_real_rsync_writes_where_it_copies_to_and_not_where_it_reads() {
        let dir = tempfile::tempdir().expect("directory");
        let (work, backup) = (dir.path().join("work"), dir.path().join("backup"));
        fs::create_dir_all(&work).and_then(|()| fs::create_dir_all(&backup)).expect("made");
        fs::write(work.join("recording.wav"), vec![7_u8; 4 << 20]).expect("written");
        // A child of ours is not looked at, so that another starts it and leaves it alone.
        let line = "rsync -a --bwlimit=64 \"$0\"/ \"$1\"/ >/dev/null 2>&1 & echo $!";
        let started = std::process::Command::new("sh").arg("-c").arg(line).arg(&work).arg(&backup).output();
        let pid =
            String::from_utf8(started.expect("a shell").stdout).expect("text").trim().parse().expect("its number");
        let began = std::time::Instant::now();
        while scan(std::slice::from_ref(&backup)).runs.is_empty() {
            assert!(began.elapsed() < Duration::from_secs(20), "rsync did not write");
            std::thread::yield_now();
        }
        let read_there = scan(&[work]).runs;
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).expect("a process"),
            rustix::process::Signal::TERM,
        );
        assert_eq!(read_there, Vec::<String>::new());
    }

    #[test]
    fn a_child_of_this_program_is_its_own_and_the_first_process_is_not() {
        assert!(is_ours(std::process::id()));
        assert!(!is_ours(1));
        assert_eq!(parent(std::process::id()), Some(std::os::unix::process::parent_id()));
    }
}
