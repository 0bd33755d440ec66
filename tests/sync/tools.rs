//! Real sync tools between two directories on this host, each as people run it, and how it dies.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::lab::{Running, free_port, wait_until};

/// How a tree is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `rsync -a --delete`, again and again.
    Rsync,
    /// The same with `--inplace`: it writes the live files.
    RsyncInPlace,
    /// The same with `--delay-updates`: all are renamed at the end.
    RsyncDelayed,
    /// Two instances, one on each side.
    Syncthing,
    /// lsyncd, which runs rsync for what changed.
    Lsyncd,
    /// unison, again and again.
    Unison,
}

/// What of it dies with the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dies {
    /// The primary's end; the backup's sees the connection break, or is stopped by `sync.stop`.
    OneEnd,
    /// All of it at once.
    Whole,
}

impl Tool {
    /// As it is named in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsync => "rsync",
            Self::RsyncInPlace => "rsync --inplace",
            Self::RsyncDelayed => "rsync --delay-updates",
            Self::Syncthing => "Syncthing",
            Self::Lsyncd => "lsyncd",
            Self::Unison => "unison",
        }
    }

    /// What must be installed.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Rsync | Self::RsyncInPlace | Self::RsyncDelayed => &["rsync"],
            Self::Syncthing => &["syncthing", "curl"],
            Self::Lsyncd => &["lsyncd", "rsync"],
            Self::Unison => &["unison"],
        }
    }
}

/// One that runs.
pub struct Sync {
    /// The primary's end, and where it is the only one, all.
    near: Running,
    /// The backup's end.
    far: Option<Running>,
    dir: PathBuf,
}

impl Sync {
    /// Begins to carry `from` to `to`; `dir`: for its own files. `slow`: the way between them is.
    pub fn start(tool: Tool, from: &Path, to: &Path, dir: &Path, way: Way) -> Self {
        std::fs::create_dir_all(dir).expect("directory");
        let (source, target) = (from.display(), to.display());
        let limit = if way == Way::Narrow { "--bwlimit=4000" } else { "" };
        let rsync = |flags: &str| {
            format!("while :; do rsync -a --delete {limit} {flags} {source}/ {target}/; sleep 0.03; done")
        };
        let near = match tool {
            Tool::Rsync => again(dir, &rsync("")),
            Tool::RsyncInPlace => again(dir, &rsync("--inplace")),
            Tool::RsyncDelayed => again(dir, &rsync("--delay-updates")),
            Tool::Unison => again(
                dir,
                &format!(
                    "export UNISON={}; while :; do unison {source} {target} -ui text -batch -silent -force {source} -times -ignorelocks; sleep 0.03; done",
                    dir.display()
                ),
            ),
            Tool::Lsyncd => {
                let limit = if way == Way::Narrow { ", bwlimit = 4000" } else { "" };
                let text = format!(
                    "settings {{ nodaemon = true, insist = true }}\nsync {{ default.rsync, source = \"{source}\", target = \"{target}\", delay = 0, delete = true, rsync = {{ archive = true{limit} }} }}\n"
                );
                let file = dir.join("lsyncd.lua");
                std::fs::write(&file, text).expect("settings");
                again(dir, &format!("exec lsyncd {}", file.display()))
            }
            Tool::Syncthing => return syncthing(from, to, dir),
        };
        Self { near, far: None, dir: dir.to_owned() }
    }

    /// What `sync.stop` runs: it ends the backup's end, where it has one of its own.
    pub fn stop_command(&self) -> Option<String> {
        let pid = self.far.as_ref()?.pid();
        let script = self.dir.join("stop.sh");
        let own = children(pid);
        let own = own.trim();
        assert_eq!(own.split_whitespace().count(), 1, "Syncthing is two processes: {own}");
        // Killed is not ended: what is in the kernel just then is finished there.
        let ended =
            format!("kill -9 {own} {pid}\nwhile grep -qs '^State:.[^Z]' /proc/{own}/status; do sleep 0.01; done\n");
        std::fs::write(&script, ended).expect("script");
        Some(format!("[sh, \"{}\"]", script.display()))
    }

    /// SIGKILL.
    pub fn dies(&mut self, dies: Dies) {
        match (dies, &mut self.far) {
            (Dies::Whole, None) => signal(&format!("-{}", self.near.pid())),
            (Dies::OneEnd, None) => {
                // The loop and the sender that it started; what that started sees the connection break.
                let near = children(self.near.pid());
                self.near.kill();
                near.split_whitespace().for_each(signal);
            }
            (dies, Some(far)) => {
                let near = children(self.near.pid());
                self.near.kill();
                near.split_whitespace().for_each(signal);
                if dies == Dies::Whole {
                    let own = children(far.pid());
                    far.kill();
                    own.split_whitespace().for_each(signal);
                }
            }
        }
    }
}

impl Drop for Sync {
    fn drop(&mut self) {
        for end in [Some(&self.near), self.far.as_ref()].into_iter().flatten() {
            // What it started is in its group.
            signal(&format!("-{}", end.pid()));
        }
    }
}

/// How wide the way between the hosts is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As wide as the disk.
    Wide,
    /// Some megabytes a second.
    Narrow,
}

/// A shell in a group of its own, so that it and what it starts die together.
fn again(dir: &Path, script: &str) -> Running {
    Running::start(&["setsid", "sh", "-c", script], &dir.join("log"))
}

fn signal(whom: &str) {
    let _ = Command::new("kill").args(["-9", "--", whom]).stderr(std::process::Stdio::null()).status();
}

/// What this process has started, by number. Any of its threads may have: Syncthing is two processes, and the second, which
/// does all the work, lives on when the first is killed.
fn children(pid: u32) -> String {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok()).collect()
}

fn syncthing(from: &Path, to: &Path, dir: &Path) -> Sync {
    let homes = ["near", "far"].map(|name| dir.join(name));
    let ids = homes.clone().map(|home| {
        let home = format!("--home={}", home.display());
        let made = Command::new("syncthing").args(["generate", &home, "--no-default-folder"]).output();
        assert!(made.expect("syncthing").status.success());
        let id = Command::new("syncthing").args([&home, "--device-id"]).output().expect("syncthing");
        String::from_utf8_lossy(&id.stdout).trim().to_owned()
    });
    let ports = [free_port(), free_port()];
    let pages = [free_port(), free_port()];
    let trees = [from, to];
    let start = |own: usize| {
        let other = 1 - own;
        // The tool's own mark of a folder that is there.
        std::fs::create_dir_all(trees[own].join(".stfolder")).expect("directory");
        let kind = ["sendonly", "receiveonly"][own];
        let text = format!(
            "<configuration version=\"35\"><folder id=\"pbx\" path=\"{}\" type=\"{kind}\" rescanIntervalS=\"1\" fsWatcherEnabled=\"true\" fsWatcherDelayS=\"1\"><filesystemType>basic</filesystemType><device id=\"{}\"></device><device id=\"{}\"></device><minDiskFree unit=\"%\">0</minDiskFree></folder>\
             <device id=\"{}\" name=\"own\"><address>dynamic</address></device><device id=\"{}\" name=\"other\"><address>tcp://127.0.0.1:{}</address></device>\
             <gui enabled=\"true\"><address>127.0.0.1:{}</address><apikey>lab</apikey></gui>\
             <options><listenAddress>tcp://127.0.0.1:{}</listenAddress><globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled><relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled><urAccepted>-1</urAccepted><crashReportingEnabled>false</crashReportingEnabled><reconnectionIntervalS>1</reconnectionIntervalS><startBrowser>false</startBrowser><autoUpgradeIntervalH>0</autoUpgradeIntervalH></options></configuration>",
            trees[own].display(),
            ids[0],
            ids[1],
            ids[own],
            ids[other],
            ports[other],
            pages[own],
            ports[own],
        );
        std::fs::write(homes[own].join("config.xml"), text).expect("settings");
        let home = format!("--home={}", homes[own].display());
        let argv = ["setsid", "env", "STNOUPGRADE=1", "syncthing", &home, "--no-browser", "--no-restart"];
        Running::start(&argv, &dir.join(format!("log{own}")))
    };
    let (far, near) = (start(1), start(0));
    wait_until("both instances are connected", Duration::from_secs(40), || {
        let asked = Command::new("curl")
            .args(["-s", "-m", "1", "-H", "X-API-Key: lab"])
            .arg(format!("http://127.0.0.1:{}/rest/system/connections", pages[1]))
            .output();
        asked.is_ok_and(|asked| String::from_utf8_lossy(&asked.stdout).contains("\"connected\": true"))
    });
    Sync { near, far: Some(far), dir: dir.to_owned() }
}
