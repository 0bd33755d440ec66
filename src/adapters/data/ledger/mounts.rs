//! The file systems that the working directories lie on and hold: a mount point without its file system is an empty
//! directory, and everything in it would count as removed.
//!
//! Seen by device numbers, which a bind mount of the same file system does not change: the robot's unit has such mounts, a
//! person's command beside it does not.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where another file system begins on the way to these directories.
pub fn above(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let mut mounts = Vec::new();
    for dir in dirs {
        let real = dir.canonicalize().unwrap_or_else(|_| dir.clone());
        let begin = real.ancestors().filter(|path| begins(path) == Some(true)).map(Path::to_owned);
        mounts.extend(begin.collect::<Vec<_>>().into_iter().rev());
    }
    mounts.sort();
    mounts.dedup();
    mounts
}

/// Those of them where none begins now.
pub fn missing(mounts: &[PathBuf]) -> Vec<PathBuf> {
    mounts.iter().filter(|mount| begins(mount) != Some(true)).cloned().collect()
}

/// What cannot be seen of these directories meanwhile, each by its directory and the path below it.
pub fn hidden(dirs: &[PathBuf], missing: &[PathBuf]) -> Vec<(usize, Vec<u8>)> {
    let mut hidden = Vec::new();
    for (n, dir) in dirs.iter().enumerate() {
        let real = dir.canonicalize().unwrap_or_else(|_| dir.clone());
        for mount in missing {
            if real.starts_with(mount) || dir.starts_with(mount) {
                hidden.push((n, Vec::new()));
            } else if let Ok(below) = mount.strip_prefix(dir) {
                hidden.push((n, below.as_os_str().as_bytes().to_vec()));
            }
        }
    }
    hidden
}

/// Whether another file system begins here than its parent lies on; `None`: it cannot be told.
fn begins(path: &Path) -> Option<bool> {
    let parent = fs::metadata(path.parent()?).ok()?;
    // Opened, so that one that is mounted on demand is.
    let here = File::open(path).and_then(|dir| dir.metadata()).or_else(|_| fs::metadata(path)).ok()?;
    Some(here.dev() != parent.dev())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_begins_where_it_is_mounted_and_nowhere_below() {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a file system of its own");
        let mounts = above(&[dir.path().to_owned()]);
        assert_eq!(mounts.last().map(PathBuf::as_path), Some(Path::new("/dev/shm")), "{mounts:?}");
        assert!(missing(&mounts).is_empty());
        let gone = [dir.path().to_owned(), dir.path().join("not there")];
        assert_eq!(missing(&gone), gone, "an empty directory is none");
        let dirs = [dir.path().to_owned(), dir.path().join("spool"), PathBuf::from("/etc")];
        let below = [dir.path().join("spool/voicemail")];
        assert_eq!(hidden(&dirs, &below), [(0, b"spool/voicemail".to_vec()), (1, b"voicemail".to_vec())]);
        assert_eq!(hidden(&dirs, &[dir.path().to_owned()]), [(0, Vec::new()), (1, Vec::new())]);
    }
}
