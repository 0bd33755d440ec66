//! Carries files home by rsync over ssh: asks what stands there, sends, and reads back by digest what was sent.
//!
//! Only rsync speaks there. A file gets its name at home once it is whole; what is half stands under a name with a dot, or in `.pbx-failover-partial`, and the next try goes on from there.
//! Nothing is deleted. What rsync says is read by [`crate::wire::rsync`]; which file goes how is said in
//! [`crate::data::ledger`]; in which order, in `daemon/home`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::config::{Config, ReturnTo};
use crate::data::ledger::{Entry, Far, Pass, Way, beside, way};
use crate::host::command::{self, CommandEnd};
use crate::wire::rsync::{self, DIFFERENCE, LIST};

/// Half a file lies in a directory of this name at home: every look of ours passes it over.
const PARTIAL: &str = "--partial-dir=.pbx-failover-partial";

/// Without a byte for so long the connection is lost.
const STALLS_S: u32 = 60;

/// An earlier rsync that a killed robot left behind has so long to end.
const ORPHAN_ENDS: Duration = Duration::from_secs(2);

/// What the shell does for us: says who it is, and puts the answer into a file, whatever its length.
const SCRIPT: &str = "echo $$ >\"$1\"; out=$2; shift 2; exec \"$@\" >\"$out\"";

/// The way to the primary's disk.
#[derive(Debug, Clone)]
pub struct Rsync {
    to: ReturnTo,
    node: String,
    here: Vec<PathBuf>,
    /// Our own files: lists, answers.
    work: PathBuf,
}

/// What came of some entries.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    /// At home, read back; in the order of a walk.
    pub carried: Vec<Entry>,
    /// Those of them that stand beside another, with their names.
    pub beside: Vec<(Entry, Vec<u8>)>,
    /// Sent, and another at home all the same.
    pub another: Vec<Entry>,
    /// Bytes of what was sent.
    pub bytes: u64,
    /// How long the sending took.
    pub took: Duration,
}

impl Rsync {
    /// That of this configuration; its own files go into `work`. `None`: it is not configured.
    pub fn new(config: &Config, work: &Path) -> Option<Self> {
        let to = config.failback.return_to.clone()?;
        let here = config.pbx.working_dirs.clone();
        Some(Self { to, node: config.node.to_string(), here, work: work.join("rsync") })
    }

    /// Carries entries of one working directory, all in the order of a walk.
    ///
    /// # Errors
    /// One line, with what to do. What had arrived by then is seen to be there at the next try.
    pub async fn carry(&self, entries: &[Entry], pass: Pass, deadline: Instant) -> Result<Sent, String> {
        let Some(dir) = entries.first().map(|entry| entry.now.line.dir) else { return Ok(Sent::default()) };
        self.prepare().await?;
        let there = self.there(entries, dir, deadline).await?;
        let mut ways: BTreeMap<Way, Vec<&Entry>> = BTreeMap::new();
        for entry in entries {
            ways.entry(way(entry, there.get(&entry.now.line.path).copied())).or_default().push(entry);
        }
        let mut sent = Sent::default();
        let began = Instant::now();
        let took = |ways: &[&Entry]| ways.iter().map(|entry| entry.now.line.about.size).sum::<u64>();
        for (kind, options) in
            [(Way::New, &["--ignore-existing"][..]), (Way::Replaces, &["--update", "--ignore-times"])]
        {
            let Some(ours) = ways.get(&kind) else { continue };
            self.send(&self.here[dir], &names(ours), dir, pass, options, deadline).await?;
            sent.bytes += took(ours);
        }
        let mut under_own: Vec<&Entry> =
            ways.iter().filter(|(kind, _)| **kind != Way::Beside).flat_map(|(_, e)| e.iter().copied()).collect();
        under_own.sort_by(|one, other| one.order(other));
        let another = self.another(&self.here[dir], &names(&under_own), dir, &[], deadline).await?;
        // What seemed to be the same and is not was changed by both sides too.
        let seems: BTreeSet<&[u8]> =
            ways.get(&Way::Seems).into_iter().flatten().map(|entry| entry.now.line.path.as_slice()).collect();
        let mut twice: Vec<&Entry> = ways.get(&Way::Beside).cloned().unwrap_or_default();
        for entry in under_own {
            let path = entry.now.line.path.as_slice();
            match (another.contains(path), seems.contains(path)) {
                (false, _) => sent.carried.push(entry.clone()),
                (true, true) => twice.push(entry),
                (true, false) => sent.another.push(entry.clone()),
            }
        }
        if !twice.is_empty() {
            self.carry_beside(&twice, dir, pass, deadline, &mut sent).await?;
            sent.bytes += took(&twice);
        }
        sent.took = began.elapsed();
        sent.carried.sort_by(Entry::order);
        self.forget_changed(&mut sent).await;
        Ok(sent)
    }

    /// Ours under another name, beside theirs: sent from a folder of links, since rsync gives no new names.
    async fn carry_beside(
        &self,
        entries: &[&Entry],
        dir: usize,
        pass: Pass,
        deadline: Instant,
        sent: &mut Sent,
    ) -> Result<(), String> {
        let stage = self.work.join("beside");
        let _ = fs::remove_dir_all(&stage);
        let mut names = Vec::new();
        for entry in entries {
            let line = &entry.now.line;
            let name = beside(&line.path, &self.node, line.about.modified.0);
            let stand_in = stage.join(os(&name));
            let ours = self.here[dir].join(os(&line.path));
            let made = stand_in.parent().map_or(Ok(()), fs::create_dir_all);
            made.and_then(|()| std::os::unix::fs::symlink(&ours, &stand_in))
                .map_err(|error| format!("cannot make {}: {error}; see to state_dir", stand_in.display()))?;
            names.push(name);
        }
        // Of its own directories the folder knows neither owner nor rights: those at home stay.
        let options = ["--ignore-existing", "--copy-links", "--no-implied-dirs"];
        self.send(&stage, &names, dir, pass, &options, deadline).await?;
        let another = self.another(&stage, &names, dir, &["--copy-links"], deadline).await?;
        let _ = fs::remove_dir_all(&stage);
        for (entry, name) in entries.iter().zip(names) {
            if another.contains(&name) {
                sent.another.push((*entry).clone());
            } else {
                sent.carried.push((*entry).clone());
                sent.beside.push(((*entry).clone(), name));
            }
        }
        Ok(())
    }

    /// What was written while it was sent is not carried: it goes again.
    async fn forget_changed(&self, sent: &mut Sent) {
        let (here, carried) = (self.here.clone(), std::mem::take(&mut sent.carried));
        let kept = tokio::task::spawn_blocking(move || {
            carried.into_iter().filter(|entry| is_as_seen(&here[entry.now.line.dir], entry)).collect::<Vec<_>>()
        });
        sent.carried = kept.await.unwrap_or_default();
        let carried = &sent.carried;
        let is_carried = |entry: &Entry| carried.binary_search_by(|other| other.order(entry)).is_ok();
        sent.beside.retain(|(entry, _)| is_carried(entry));
    }

    /// What stands at home under these names.
    async fn there(&self, entries: &[Entry], dir: usize, deadline: Instant) -> Result<BTreeMap<Vec<u8>, Far>, String> {
        let list = self.list(&names(&entries.iter().collect::<Vec<_>>()))?;
        let empty = self.work.join("empty");
        let mut argv = self.begin(&["--dry-run", "--ignore-missing-args"], LIST, &list);
        argv.extend([self.at_home(dir), format!("{}/", empty.display())]);
        let told = self.run(argv, deadline).await?;
        let files = told.split(|byte| *byte == b'\n').filter_map(rsync::listed);
        Ok(files.map(|file| (file.path, Far { size: file.size, modified_s: file.modified_s })).collect())
    }

    async fn send(
        &self,
        from: &Path,
        names: &[Vec<u8>],
        dir: usize,
        pass: Pass,
        options: &[&str],
        deadline: Instant,
    ) -> Result<(), String> {
        let list = self.list(names)?;
        // A link that stands for a directory at home stays one; dates of directories are theirs.
        let kept = ["--perms", "--owner", "--group", "--times", "--omit-dir-times", "--keep-dirlinks"];
        let mut argv = self.begin(&kept, DIFFERENCE, &list);
        argv.extend(options.iter().map(|&option| option.to_owned()));
        argv.extend([PARTIAL.to_owned(), "--ignore-missing-args".to_owned()]);
        if self.to.max_kib_s > 0 && pass != Pass::Delta {
            argv.push(format!("--bwlimit={}", self.to.max_kib_s));
        }
        argv.extend([format!("{}/", from.display()), self.at_home(dir)]);
        self.run(argv, deadline).await.map(drop)
    }

    /// Those of these names whose content at home is another, by digest.
    async fn another(
        &self,
        from: &Path,
        names: &[Vec<u8>],
        dir: usize,
        more: &[&str],
        deadline: Instant,
    ) -> Result<BTreeSet<Vec<u8>>, String> {
        if names.is_empty() {
            return Ok(BTreeSet::new());
        }
        let list = self.list(names)?;
        let options = [&["--dry-run", "--checksum", "--ignore-missing-args", "--keep-dirlinks"], more].concat();
        let mut argv = self.begin(&options, DIFFERENCE, &list);
        argv.extend([format!("{}/", from.display()), self.at_home(dir)]);
        let told = self.run(argv, deadline).await?;
        Ok(told.split(|byte| *byte == b'\n').filter_map(rsync::differs).collect())
    }

    /// Asks for each directory at home, and sends nothing: its name, or why it cannot be read.
    pub async fn reach(&self, deadline: Instant) -> Vec<Result<String, String>> {
        let mut told = Vec::new();
        for dir in 0..self.to.dirs.len() {
            let mut argv = ["rsync", "--list-only", "--dirs", "--protect-args"].map(str::to_owned).to_vec();
            argv.extend([format!("--timeout={STALLS_S}"), format!("--rsh={}", self.ssh()), self.at_home(dir)]);
            told.push(self.run(argv, deadline).await.map(|_| self.at_home(dir)));
        }
        told
    }

    fn at_home(&self, dir: usize) -> String {
        format!("{}:{}/", self.to.host, self.to.dirs[dir].display())
    }

    fn begin(&self, options: &[&str], format: &str, list: &Path) -> Vec<String> {
        let mut argv = vec!["rsync".to_owned()];
        argv.extend(options.iter().map(|&option| option.to_owned()));
        argv.extend([
            "--protect-args".to_owned(),
            format!("--timeout={STALLS_S}"),
            format!("--out-format={format}"),
            "--from0".to_owned(),
            format!("--files-from={}", list.display()),
            format!("--rsh={}", self.ssh()),
        ]);
        argv
    }

    /// rsync splits it at spaces, and heeds quotes.
    fn ssh(&self) -> String {
        let to = &self.to;
        let mut ssh = format!(
            "ssh -p {} -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=10 -o ServerAliveInterval=10 -o ServerAliveCountMax=3 -o ClearAllForwardings=yes",
            to.port
        );
        if let Some(key) = &to.ssh_key {
            let _ = write!(ssh, " -o IdentitiesOnly=yes -i '{}'", key.display());
        }
        if let Some(known) = &to.known_hosts {
            let _ = write!(ssh, " -o 'UserKnownHostsFile={}' -o GlobalKnownHostsFile=/dev/null", known.display());
        }
        ssh
    }

    /// Names with a NUL behind each. `./` keeps one that begins with `#` or `;` from being a remark.
    fn list(&self, names: &[Vec<u8>]) -> Result<PathBuf, String> {
        let path = self.work.join("names");
        let write = || -> std::io::Result<()> {
            let mut file = std::io::BufWriter::new(fs::File::create(&path)?);
            for name in names {
                file.write_all(b"./")?;
                file.write_all(name)?;
                file.write_all(&[0])?;
            }
            file.flush()
        };
        write().map_err(|error| format!("cannot write {}: {error}; see to state_dir", path.display()))?;
        Ok(path)
    }

    /// Our own folder, and no rsync of an earlier robot in it.
    async fn prepare(&self) -> Result<(), String> {
        let empty = self.work.join("empty");
        fs::create_dir_all(&empty).map_err(|error| format!("cannot make {}: {error}", empty.display()))?;
        let pid = fs::read_to_string(self.work.join("pid")).ok().and_then(|text| text.trim().parse::<i32>().ok());
        let Some(pid) = pid else { return Ok(()) };
        let ours = self.work.as_os_str().as_bytes();
        let runs = || {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(b"rsync\0") && line.windows(ours.len()).any(|window| window == ours)
        };
        let began = Instant::now();
        while runs() && began.elapsed() < ORPHAN_ENDS {
            if let Some(group) = Pid::from_raw(pid) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let _ = fs::remove_file(self.work.join("pid"));
        if runs() { Err(format!("an earlier rsync (process {pid}) does not end; see to it")) } else { Ok(()) }
    }

    async fn run(&self, rsync: Vec<String>, deadline: Instant) -> Result<Vec<u8>, String> {
        let out = self.work.join("said");
        let text = |path: &Path| path.display().to_string();
        let mut argv: Vec<_> = ["sh", "-c", SCRIPT, "sh"].map(str::to_owned).to_vec();
        argv.extend([text(&self.work.join("pid")), text(&out)]);
        argv.extend(rsync);
        let env = [("LC_ALL".to_owned(), "C".to_owned()), ("TZ".to_owned(), "UTC".to_owned())];
        let left = deadline.saturating_duration_since(Instant::now());
        let end = command::run(&argv, &env, left).await;
        let _ = fs::remove_file(self.work.join("pid"));
        match end {
            // Files that vanished meanwhile (24) are no fault.
            CommandEnd::Exited { code: Some(0 | 24), .. } => {
                fs::read(&out).map_err(|error| format!("cannot read {}: {error}; see to state_dir", out.display()))
            }
            CommandEnd::Exited { code, stderr, .. } => {
                Err(format!("{}: {}", self.to.host, rsync::trouble(code, &stderr)))
            }
            CommandEnd::TimedOut => Err(format!("{}: not done in time", self.to.host)),
            CommandEnd::NotStarted(why) => Err(format!("rsync could not be started: {why}")),
        }
    }
}

/// Whether the file is what the entry says still.
pub fn is_as_seen(dir: &Path, entry: &Entry) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let line = &entry.now.line;
    fs::symlink_metadata(dir.join(os(&line.path))).is_ok_and(|about| {
        let modified = (about.mtime(), u32::try_from(about.mtime_nsec()).unwrap_or_default());
        about.is_file() && (about.size(), modified) == (line.about.size, line.about.modified)
    })
}

fn names(entries: &[&Entry]) -> Vec<Vec<u8>> {
    entries.iter().map(|entry| entry.now.line.path.clone()).collect()
}

fn os(path: &[u8]) -> std::ffi::OsString {
    std::ffi::OsString::from_vec(path.to_vec())
}
