//! Gives what root made in the state directory to the robot's user, who must read and remove it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::Path;

use super::Vault;
use super::held::FOLDER;

/// Deeper is none of ours.
const DEPTH_MAX: usize = 100;

/// Which entries are given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Given {
    All,
    /// Files keep the owner that they are to have when they are put back.
    Directories,
}

impl Vault {
    /// After a person's command; as anybody but root it does nothing.
    pub fn hand_over(&self) {
        let Ok(about) = fs::metadata(&self.state_dir) else { return };
        let owner = (about.uid(), about.gid());
        if !rustix::process::geteuid().is_root() || owner.0 == 0 {
            return;
        }
        give(&self.folder(), owner, Given::All, 0);
        give(&self.state_dir.join(super::noted::FILE), owner, Given::All, 0);
        give(&self.state_dir.join(FOLDER), owner, Given::Directories, 0);
    }
}

fn give(path: &Path, owner: (u32, u32), given: Given, depth: usize) {
    let Ok(about) = fs::symlink_metadata(path) else { return };
    if (given == Given::All || about.is_dir()) && (about.uid(), about.gid()) != owner {
        let _ = lchown(path, Some(owner.0), Some(owner.1));
    }
    if about.is_dir() && depth < DEPTH_MAX {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            give(&entry.path(), owner, given, depth + 1);
        }
    }
}
