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
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::config::{Config, ReturnTo};
use crate::data::ledger::{Entry, Far, Live, Pass, There, Way, beside, way};
use crate::host::command::{self, CommandEnd};
use crate::host::here;
use crate::wire::rsync::{self, DIFFERENCE, LIST, ListedKind};

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
    /// Whether the primary's PBX is started by us only after the delta.
    delta_live: Live,
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
        let delta_live = if config.failback.start_primary.is_empty() { Live::Beside } else { Live::Replaces };
        Some(Self { to, node: config.node.to_string(), delta_live, here, work: work.join("rsync") })
    }

    /// Carries entries of one working directory, all in the order of a walk.
    ///
    /// # Errors
    /// One line, with what to do. What had arrived by then is seen to be there at the next try.
    pub async fn carry(&self, entries: &[Entry], pass: Pass, deadline: Instant) -> Result<Sent, String> {
        let Some(dir) = entries.first().map(|entry| entry.now.line.dir) else { return Ok(Sent::default()) };
        self.prepare(deadline).await?;
        let live = if pass == Pass::Delta { self.delta_live } else { Live::Beside };
        let there = self.there(entries, dir, deadline).await?;
        let mut ways: BTreeMap<Way, Vec<&Entry>> = BTreeMap::new();
        for entry in entries {
            ways.entry(way(entry, there.get(&entry.now.line.path).copied(), live)).or_default().push(entry);
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
        let another = self.another(&self.here[dir], &names(&under_own), dir, deadline).await?;
        // What is another there was made or changed there meanwhile, or seemed to be the same and is not: both sides
        // changed it. What was written here while it was sent goes again.
        let mut twice: Vec<&Entry> = ways.get(&Way::Beside).cloned().unwrap_or_default();
        let is_another = |entry: &Entry| another.contains(&entry.now.line.path);
        sent.carried = under_own.iter().filter(|entry| !is_another(entry)).map(|&entry| entry.clone()).collect();
        let others: Vec<Entry> = under_own.iter().filter(|entry| is_another(entry)).map(|&e| e.clone()).collect();
        let others = self.still(others).await;
        twice.extend(&others);
        if !twice.is_empty() {
            self.carry_beside(twice.into_iter().cloned().collect(), dir, (pass, deadline), &mut sent).await?;
        }
        sent.took = began.elapsed();
        sent.carried.sort_by(Entry::order);
        sent.carried = self.still(std::mem::take(&mut sent.carried)).await;
        sent.another = self.still(std::mem::take(&mut sent.another)).await;
        let carried = &sent.carried;
        let is_carried = |entry: &Entry| carried.binary_search_by(|other| other.order(entry)).is_ok();
        sent.beside.retain(|(entry, _)| is_carried(entry));
        Ok(sent)
    }

    /// Ours under another name, beside theirs: sent from a folder that holds them so, since rsync gives no new names.
    async fn carry_beside(
        &self,
        entries: Vec<Entry>,
        dir: usize,
        (pass, deadline): (Pass, Instant),
        sent: &mut Sent,
    ) -> Result<(), String> {
        let stage = self.work.join("beside");
        let staged = {
            let (stage, root, node) = (stage.clone(), self.here[dir].clone(), self.node.clone());
            blocking(deadline, move || staged(entries, &root, &stage, &node)).await?
        };
        if staged.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = staged.iter().map(|(_, name)| name.clone()).collect();
        // Of its own directories the folder knows neither owner nor rights: those at home stay.
        let options = ["--ignore-existing", "--no-implied-dirs"];
        self.send(&stage, &names, dir, pass, &options, deadline).await?;
        sent.bytes += staged.iter().map(|(entry, _)| entry.now.line.about.size).sum::<u64>();
        let another = self.another(&stage, &names, dir, deadline).await?;
        let _ = blocking(deadline, move || fs::remove_dir_all(&stage).map_err(|error| error.to_string())).await;
        for (entry, name) in staged {
            if another.contains(&name) {
                sent.another.push(entry);
            } else {
                sent.carried.push(entry.clone());
                sent.beside.push((entry, name));
            }
        }
        Ok(())
    }

    /// Those of them that are what they say still.
    async fn still(&self, entries: Vec<Entry>) -> Vec<Entry> {
        let here = self.here.clone();
        let kept = tokio::task::spawn_blocking(move || {
            entries.into_iter().filter(|entry| is_as_seen(&here[entry.now.line.dir], entry)).collect()
        });
        kept.await.unwrap_or_default()
    }

    /// What stands at home under these names.
    async fn there(
        &self,
        entries: &[Entry],
        dir: usize,
        deadline: Instant,
    ) -> Result<BTreeMap<Vec<u8>, There>, String> {
        let list = self.list(names(&entries.iter().collect::<Vec<_>>()), deadline).await?;
        let empty = self.work.join("empty");
        let mut argv = self.begin(&["--dry-run", "--ignore-missing-args", "--links", "--specials"], LIST, &list);
        argv.extend([self.at_home(dir), format!("{}/", empty.display())]);
        let told = self.run(argv, deadline).await?;
        let listed = told.split(|byte| *byte == b'\n').filter_map(rsync::listed);
        let there = listed.map(|listed| match listed.kind {
            ListedKind::File { size, modified_s } => (listed.path, There::File(Far { size, modified_s })),
            ListedKind::Other => (listed.path, There::Other),
        });
        Ok(there.collect())
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
        let list = self.list(names.to_vec(), deadline).await?;
        // A link that stands for a directory at home stays one, where rsync follows it; dates of directories are theirs.
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
        deadline: Instant,
    ) -> Result<BTreeSet<Vec<u8>>, String> {
        if names.is_empty() {
            return Ok(BTreeSet::new());
        }
        let list = self.list(names.to_vec(), deadline).await?;
        let options = ["--dry-run", "--checksum", "--ignore-missing-args", "--keep-dirlinks"];
        let mut argv = self.begin(&options, DIFFERENCE, &list);
        argv.extend([format!("{}/", from.display()), self.at_home(dir)]);
        let told = self.run(argv, deadline).await?;
        Ok(told.split(|byte| *byte == b'\n').filter_map(rsync::differs).collect())
    }

    /// Asks for each directory at home, and sends nothing: its name, or why it cannot be read.
    pub async fn reach(&self, deadline: Instant) -> Vec<Result<String, String>> {
        if let Err(error) = fs::create_dir_all(&self.work) {
            return vec![Err(format!("cannot make {}: {error}", self.work.display()))];
        }
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
    async fn list(&self, names: Vec<Vec<u8>>, deadline: Instant) -> Result<PathBuf, String> {
        let path = self.work.join("names");
        blocking(deadline, move || {
            let write = || -> std::io::Result<()> {
                let mut file = std::io::BufWriter::new(fs::File::create(&path)?);
                for name in names {
                    file.write_all(b"./")?;
                    file.write_all(&name)?;
                    file.write_all(&[0])?;
                }
                file.flush()
            };
            write().map_err(|error| format!("cannot write {}: {error}; see to state_dir", path.display()))?;
            Ok(path)
        })
        .await
    }

    /// Our own folder, and no rsync of an earlier robot in it.
    async fn prepare(&self, deadline: Instant) -> Result<(), String> {
        let empty = self.work.join("empty");
        blocking(deadline, move || {
            fs::create_dir_all(&empty)
                .map_err(|error| format!("cannot make {}: {error}; see to state_dir", empty.display()))
        })
        .await?;
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

/// Whether the file is what the entry says still, without a link on the way to it.
pub fn is_as_seen(dir: &Path, entry: &Entry) -> bool {
    let line = &entry.now.line;
    let seen = here::seen(dir, &line.path).ok().flatten();
    seen.is_some_and(|now| (now.size, now.modified) == (line.about.size, line.about.modified))
}

/// Work on the disk, in a thread of its own and no longer than until then: a disk may hang.
async fn blocking<T: Send + 'static>(
    deadline: Instant,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let left = deadline.saturating_duration_since(Instant::now());
    match tokio::time::timeout(left, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err("the work on the disk broke off; see the log".to_owned()),
        Err(_) => Err("the disk did not answer in time".to_owned()),
    }
}

/// Puts these files into a new folder under the names that they bear at home. What is gone is left out.
fn staged(entries: Vec<Entry>, root: &Path, stage: &Path, node: &str) -> Result<Vec<(Entry, Vec<u8>)>, String> {
    let _ = fs::remove_dir_all(stage);
    let mut staged = Vec::new();
    for entry in entries {
        let line = &entry.now.line;
        let name = beside(&line.path, node, line.about.modified.0);
        let stand_in = stage.join(os(&name));
        let made = || -> std::io::Result<bool> {
            let Some(file) = here::open(root, &line.path)? else { return Ok(false) };
            stand_in.parent().map_or(Ok(()), fs::create_dir_all)?;
            stand_for(file, &stand_in)?;
            Ok(true)
        };
        if made().map_err(|error| format!("cannot make {}: {error}; see to state_dir", stand_in.display()))? {
            staged.push((entry, name));
        }
    }
    Ok(staged)
}

/// The file that is open under another name too; where that cannot be, a copy with its owner, rights and date.
fn stand_for(mut file: fs::File, path: &Path) -> std::io::Result<()> {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::MetadataExt as _;
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    if rustix::fs::linkat(CWD, open.as_str(), CWD, path, AtFlags::SYMLINK_FOLLOW).is_ok() {
        return Ok(());
    }
    let about = file.metadata()?;
    let mut copy = fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    std::io::copy(&mut file, &mut copy)?;
    let _ = std::os::unix::fs::fchown(&copy, Some(about.uid()), Some(about.gid()));
    copy.set_permissions(about.permissions())?;
    copy.set_modified(about.modified()?)
}

fn names(entries: &[&Entry]) -> Vec<Vec<u8>> {
    entries.iter().map(|entry| entry.now.line.path.clone()).collect()
}

fn os(path: &[u8]) -> std::ffi::OsString {
    std::ffi::OsString::from_vec(path.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Class;
    use crate::data::ledger::Change;

    #[test]
    fn what_goes_beside_is_sent_from_the_file_itself_and_never_from_what_a_link_shows() {
        let (dir, outside) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
        let (root, stage) = (dir.path().join("work"), dir.path().join("stage"));
        fs::create_dir_all(root.join("a")).expect("directory");
        fs::write(root.join("a/f"), "mine").expect("file");
        fs::write(root.join("g"), "mine").expect("file");
        fs::write(outside.path().join("f"), "not mine").expect("file");
        let entry = |path: &[u8]| {
            let here::Seen { size, modified, mode, changed } =
                here::seen(&root, path).expect("looked").expect("a file");
            let about = crate::data::manifest::About { kind: crate::data::manifest::Kind::File, size, modified, mode };
            let line = crate::data::Line { dir: 0, path: path.to_vec(), about, digest: None };
            let now = crate::data::ledger::Known { line, changed };
            Entry { change: Change::Added, class: Class::Other, now }
        };
        let entries = vec![entry(b"a/f"), entry(b"g")];
        fs::remove_dir_all(root.join("a")).expect("removed");
        std::os::unix::fs::symlink(outside.path(), root.join("a")).expect("link");
        assert!(!is_as_seen(&root, &entries[0]) && is_as_seen(&root, &entries[1]));
        let staged = staged(entries, &root, &stage, "pbx-b").expect("staged");
        let [(entry, name)] = &staged[..] else { panic!("one of them: {staged:?}") };
        assert_eq!(entry.now.line.path, b"g");
        assert_eq!(fs::read_to_string(stage.join(os(name))).expect("a file"), "mine");
    }

    #[test]
    fn a_copy_has_the_date_and_the_rights_of_its_file() {
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join("f"), "mine").expect("file");
        let file = fs::File::open(dir.path().join("f")).expect("file");
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(7)).expect("dated");
        // Of a file that has no name any more no second name can be made.
        fs::remove_file(dir.path().join("f")).expect("removed");
        let about = file.metadata().expect("metadata");
        stand_for(file, &dir.path().join("g")).expect("a copy");
        let copy = fs::metadata(dir.path().join("g")).expect("metadata");
        assert_eq!((copy.modified().ok(), copy.permissions()), (about.modified().ok(), about.permissions()));
    }
}
