//! What `check` finds of the disks: whether state_dir has room and may be written, and whether the way home is open.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::StatVfsMountFlags;

use crate::adapters::rsync::Rsync;
use crate::config::{Config, ReturnTo};
use crate::units::data::size;
use crate::units::finding::Finding;

/// Below this the robot soon cannot write what it decides, and then does not take over.
const ROOM_MIN: u64 = 32_000_000;

const WAY_HOME: &str = "way home";
const WAY_HOME_TODO: &str = "mend it before a failback needs it; a takeover does not";

/// A person waits for it.
const ASK_MAX: Duration = Duration::from_secs(20);

/// Looks at the disk below `state_dir`; `None`: it may be written.
pub fn state_dir(dir: &Path) -> Option<Finding> {
    const ABOUT: &str = "state_dir";
    // Where it is not made yet, by the directory that it will be made in.
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let disk = match rustix::fs::statvfs(there) {
        Ok(disk) => disk,
        Err(error) => {
            let text = format!("{} cannot be asked for its room: {error}", there.display());
            return Some(Finding::problem(ABOUT, text, "mend the disk, or choose another state_dir"));
        }
    };
    if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
        let text = format!("{} lies on a disk that may only be read", dir.display());
        return Some(Finding::problem(ABOUT, text, "remount it for writing, or choose another state_dir"));
    }
    let left = disk.f_bavail.saturating_mul(disk.f_frsize);
    (left < ROOM_MIN).then(|| {
        let text = format!("{} has {} left: a robot that cannot write does not take over", dir.display(), size(left));
        Finding::problem(ABOUT, text, "make room")
    })
}

/// Looks for the files that ssh will be given on the way home; asks nobody.
pub fn files_of_ssh(to: &ReturnTo) -> Vec<Finding> {
    let named = [("ssh_key", to.ssh_key.as_ref()), ("known_hosts", to.known_hosts.as_ref())];
    let cannot = |(key, file): (&str, Option<&PathBuf>)| {
        let file = file?;
        let error = File::open(file).err()?;
        let text = format!("failback.return_to.{key}: {} cannot be read: {error}", file.display());
        Some(Finding::warning(WAY_HOME, text, WAY_HOME_TODO))
    };
    named.into_iter().filter_map(cannot).collect()
}

/// Asks the primary's host for each directory that files go home to, as a failback will; sends nothing.
pub async fn way_home(config: &Config) -> Vec<Finding> {
    if config.failback.return_to.is_none() {
        return Vec::new();
    }
    // Not the robot's own folder: it may be carrying at this moment.
    let work = match tempfile::Builder::new().prefix("pbx-failover-").tempdir() {
        Ok(work) => work,
        Err(error) => {
            let text = format!("a temporary directory cannot be made: {error}");
            return vec![Finding::warning(WAY_HOME, text, "it was not asked whether files can go home")];
        }
    };
    let Some(rsync) = Rsync::new(config, work.path()) else { return Vec::new() };
    let finding = |asked: Result<String, String>| match asked {
        Ok(place) => Finding::ok(WAY_HOME, format!("{place} can be read")),
        Err(why) => Finding::warning(WAY_HOME, why, WAY_HOME_TODO),
    };
    rsync.reach(Instant::now() + ASK_MAX).await.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_ssh_that_cannot_be_read_is_named_with_its_key() {
        let dir = tempfile::tempdir().expect("directory");
        let there = dir.path().join("known_hosts");
        std::fs::write(&there, "").expect("file");
        let to = |ssh_key| ReturnTo {
            host: "root@192.0.2.10".to_owned(),
            dirs: Vec::new(),
            ssh_key: Some(ssh_key),
            port: 22,
            known_hosts: Some(there.clone()),
            max_kib_s: 0,
        };
        let found = files_of_ssh(&to(dir.path().join("id")));
        let said: Vec<_> = found.iter().map(|finding| finding.text.as_str()).collect();
        assert!(matches!(&said[..], [one] if one.starts_with("failback.return_to.ssh_key: ")), "{said:?}");
        assert_eq!(files_of_ssh(&to(there.clone())), []);
    }

    #[test]
    fn a_disk_that_may_not_be_written_is_a_problem_also_where_state_dir_is_not_made_yet() {
        // The kernel's own: no room at all.
        let found = state_dir(Path::new("/proc/self/state/not/made")).expect("a finding");
        assert!(found.text.contains("/proc/self/state"), "{found:?}");
        let dir = tempfile::tempdir().expect("directory");
        assert_eq!(state_dir(&dir.path().join("not/made/yet")), None);
    }
}
