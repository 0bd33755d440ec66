//! Holds processes to a part of one core by a control group of their own, of version 1 or 2, whichever is there.

use std::fs;
use std::path::PathBuf;

/// The scheduler hands out time in portions of this length, µs: short, so that a capped server answers evenly.
const PERIOD_US: u32 = 10_000;

/// A group of processes that may use only so much; they are free again when it is dropped.
pub struct Cap {
    group: PathBuf,
    parent: PathBuf,
}

impl Cap {
    /// Whether processes can be held here: it needs root and the controller `cpu`.
    pub fn possible() -> bool {
        rustix::process::geteuid().is_root() && parent().is_some()
    }

    /// Holds these processes, all together, to so many per cent of one core.
    pub fn hold(pids: &[u32], percent: u32) -> Self {
        let (parent, version) = parent().expect("asked before: possible");
        let group = parent.join(format!("pbx-failover-bench-{}", std::process::id()));
        let write = |file: PathBuf, text: String| {
            fs::write(&file, text).unwrap_or_else(|e| panic!("cannot write {}: {e}", file.display()));
        };
        if version == 2 {
            write(parent.join("cgroup.subtree_control"), "+cpu".to_owned());
        }
        let _ = fs::remove_dir(&group);
        fs::create_dir(&group).expect("a control group");
        let quota = PERIOD_US / 100 * percent;
        if version == 2 {
            write(group.join("cpu.max"), format!("{quota} {PERIOD_US}"));
        } else {
            write(group.join("cpu.cfs_period_us"), PERIOD_US.to_string());
            write(group.join("cpu.cfs_quota_us"), quota.to_string());
        }
        let cap = Self { group, parent };
        for pid in pids {
            write(cap.group.join("cgroup.procs"), pid.to_string());
        }
        cap
    }
}

impl Drop for Cap {
    fn drop(&mut self) {
        // One at a time, as the kernel takes them; a group with processes in it cannot be removed.
        for pid in fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(self.parent.join("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.group);
    }
}

/// The root of the hierarchy that has the controller `cpu`, and its version.
fn parent() -> Option<(PathBuf, u8)> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let fields: Vec<_> = line.split(' ').collect();
        let (at, kind, options) = (fields.get(1)?, fields.get(2)?, fields.get(3)?);
        let version = match *kind {
            "cgroup" if options.split(',').any(|option| option == "cpu") => 1,
            "cgroup2" => {
                let controllers = fs::read_to_string(format!("{at}/cgroup.controllers")).ok()?;
                controllers.split_whitespace().any(|controller| controller == "cpu").then_some(2)?
            }
            _ => return None,
        };
        Some((PathBuf::from(at), version))
    })
}
