//! Writes the heartbeat file: a sealed beat in the working directory, for the sync to carry.
//!
//! The working directory belongs to the PBX, and others may write into it: no link in it is followed, the file appears
//! whole under its name or not at all, and nothing else there is touched. The other end is the heartbeat check.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use secrecy::ExposeSecret;

use crate::config::{CheckTarget, Config, Secret};
use crate::host::{secret, sequence::Sequence};
use crate::units::Beat;
use crate::wire::sealed::{self, Purpose};

/// What the file is called while it is written: hidden, and always the same, so that a crash leaves one at most.
const NEW: &str = ".pbx-failover-beat.new";

/// A write that takes longer is told as trouble; no other is begun before it ends.
const WRITE_TIME_MAX: Duration = Duration::from_secs(5);

/// Everybody may read it: the sync's user must, and it holds no secret.
const MODE: Mode = Mode::from_bits_retain(0o644);

/// Writes beats to one place.
#[derive(Debug)]
pub struct BeatFile {
    dir: PathBuf,
    name: PathBuf,
    token: Secret,
    sequence: Arc<Sequence>,
    writing: Arc<tokio::sync::Mutex<()>>,
}

impl BeatFile {
    /// The place that the first `heartbeat` check names; `None`: no check asks for a beat.
    pub fn new(config: &Config, token: Secret, sequence: Arc<Sequence>) -> Option<Self> {
        let mut targets = config.monitor.checks.iter().map(|check| &check.target);
        let file = targets.find_map(|target| match target {
            CheckTarget::Heartbeat { file, .. } => Some(file),
            _ => None,
        })?;
        // The loader has seen to it that it lies in one of them.
        let dir = config.pbx.working_dirs.iter().find(|dir| file.starts_with(dir))?;
        let name = file.strip_prefix(dir).ok()?.to_owned();
        let writing = Arc::default();
        Some(Self { dir: dir.clone(), name, token, sequence, writing })
    }

    /// Writes this beat, with the next number; it replaces the last one.
    ///
    /// # Errors
    /// One line: what is in the way, and what to do.
    pub async fn write(&self, beat: &Beat) -> Result<(), String> {
        let file = self.dir.join(&self.name);
        let trouble = |why: &str| format!("the heartbeat file {} cannot be written: {why}", file.display());
        let Ok(writing) = Arc::clone(&self.writing).try_lock_owned() else {
            return Err(trouble("the last write has not ended; see the file system that it lies on"));
        };
        let token = secret::read(&self.token).map_err(|why| trouble(&why))?;
        let beat = Beat { sequence: self.sequence.next(), nonce: None, ..beat.clone() };
        let text = serde_json::to_string(&beat).map_err(|error| trouble(&error.to_string()))?;
        let text = sealed::seal(&text, Purpose::BeatFile, token.expose_secret());
        let (dir, name) = (self.dir.clone(), self.name.clone());
        let work = tokio::task::spawn_blocking(move || {
            let _writing = writing;
            place(&dir, &name, &text)
        });
        match tokio::time::timeout(WRITE_TIME_MAX, work).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(trouble(&advice(&error))),
            Ok(Err(_)) => Err(trouble("the write ended early")),
            Err(_) => Err(trouble("it takes too long; see the file system that it lies on")),
        }
    }
}

fn advice(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::NotFound => "create the folder that it is to lie in",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "let the agent's user write there",
        io::ErrorKind::StorageFull => "make room",
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            "a link is in the way, and links in the working directory are not followed; write another name"
        }
        io::ErrorKind::NotADirectory => "a file or a link is in the way; write another name",
        _ => "see the folder that it is to lie in",
    };
    format!("{error}; {advice}")
}

fn place(dir: &Path, name: &Path, text: &str) -> io::Result<()> {
    let folder = OFlags::DIRECTORY | OFlags::CLOEXEC;
    // The working directory itself may be reached over links: that is the administrator's path.
    let mut at = rustix::fs::openat(CWD, dir, folder, Mode::empty())?;
    let mut parts: Vec<&OsStr> = name.iter().collect();
    let last = parts.pop().ok_or(io::ErrorKind::InvalidInput)?;
    for part in parts {
        at = rustix::fs::openat(&at, part, folder | OFlags::NOFOLLOW, Mode::empty())?;
    }
    let written = write_new(&at, text).and_then(|()| Ok(rustix::fs::renameat(&at, NEW, &at, last)?));
    if written.is_err() {
        let _ = rustix::fs::unlinkat(&at, NEW, AtFlags::empty());
    }
    written
}

fn write_new(at: &OwnedFd, text: &str) -> io::Result<()> {
    // What a crash has left, or somebody has put there.
    match rustix::fs::unlinkat(at, NEW, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut new = File::from(rustix::fs::openat(at, NEW, flags, MODE)?);
    rustix::fs::fchmod(&new, MODE)?;
    new.write_all(text.as_bytes())?;
    // An empty file under the name would hold the gate before the working directory after a power cut.
    new.sync_data()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("directory").map(|entry| entry.expect("entry").file_name());
        let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn it_appears_whole_for_everybody_to_read_and_replaces_the_last_one() {
        let dir = tempfile::tempdir().expect("directory");
        fs::create_dir(dir.path().join("sub")).expect("directory");
        fs::write(dir.path().join("sub").join(NEW), "left by a crash").expect("file");
        for text in ["one\n", "two\n"] {
            place(dir.path(), Path::new("sub/beat"), text).expect("written");
            assert_eq!(fs::read_to_string(dir.path().join("sub/beat")).expect("file"), text);
        }
        let mode = fs::metadata(dir.path().join("sub/beat")).expect("file").permissions().mode();
        assert_eq!((mode & 0o7777, names(&dir.path().join("sub"))), (0o644, vec!["beat".to_owned()]));
    }

    #[test]
    fn no_link_in_the_working_directory_is_followed() {
        let dir = tempfile::tempdir().expect("directory");
        let outside = tempfile::tempdir().expect("directory");
        let victim = outside.path().join("victim");
        fs::write(&victim, "precious").expect("file");
        symlink(&victim, dir.path().join("beat")).expect("link");
        symlink(&victim, dir.path().join(NEW)).expect("link");
        place(dir.path(), Path::new("beat"), "one\n").expect("written in the link's place");
        assert_eq!(fs::read_to_string(&victim).expect("file"), "precious");
        assert!(fs::symlink_metadata(dir.path().join("beat")).expect("file").is_file());
        symlink(outside.path(), dir.path().join("sub")).expect("link");
        let error = place(dir.path(), Path::new("sub/beat"), "one\n").expect_err("refused");
        assert!(advice(&error).contains("link"), "{}", advice(&error));
        assert_eq!(names(outside.path()), ["victim"]);
    }

    #[test]
    fn what_is_in_the_way_is_told_with_what_to_do() {
        let dir = tempfile::tempdir().expect("directory");
        let told = |name: &str| advice(&place(dir.path(), Path::new(name), "x\n").expect_err("refused"));
        assert!(told("sub/beat").contains("create the folder"), "{}", told("sub/beat"));
        fs::create_dir_all(dir.path().join("beat/full")).expect("directory");
        assert!(told("beat").contains("see the folder"), "{}", told("beat"));
        assert_eq!(names(dir.path()), ["beat"], "nothing half-written is left");
    }
}
