//! The file systems that the working directories lie on and hold: a mount point without its file system is an empty
//! directory, and everything in it would count as removed.
//!
//! Seen by device numbers, which a bind mount of the same file system does not change: the robot's unit has such mounts, a
//! person's command beside it does not.

use std::fs::{self, File};
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

/// The first of them where none begins now.
pub fn missing(mounts: &[PathBuf]) -> Option<&PathBuf> {
    mounts.iter().find(|mount| begins(mount) != Some(true))
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
        assert_eq!(missing(&mounts), None);
        let gone = [dir.path().to_owned()];
        assert_eq!(missing(&gone), Some(&gone[0]), "an empty directory is none");
        assert_eq!(missing(&[dir.path().join("not there")]), Some(&dir.path().join("not there")));
    }
}
