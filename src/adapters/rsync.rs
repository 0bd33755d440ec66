//! Carries files home by rsync over ssh: asks what stands there, sends, and reads back by digest what was sent.
//!
//! Only rsync speaks there. A file gets its name at home once it is whole; what is half stands under a name with a dot, or in `.pbx-failover-partial`, and the next try goes on from there.
//! Nothing is deleted. What rsync says is read by [`crate::wire::rsync`]; which file goes how is said in
//! [`crate::data::ledger`]; in which order, in `daemon/home`.

mod beside;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::config::{Config, ReturnTo};
use crate::data::family::{self, LogThere};
use crate::data::ledger::{Entry, Far, Live, Pass, There, Way, way};
use crate::host::command::{self, CommandEnd};
use crate::host::{clock, disk, file, here};
use crate::wire::rsync::{self, Compared, DIFFERENCE, LIST, ListedKind, Reach};

pub use crate::wire::rsync::NO_REMARK;
pub use beside::Families;
use beside::{Group, Staged, can_stand, staged};

/// Half a file lies in a directory of this name at home: every look of ours passes it over.
const PARTIAL: &str = "--partial-dir=.pbx-failover-partial";

/// Without a byte for so long the connection is lost.
const STALLS_S: u32 = 60;

/// An earlier rsync that a killed robot left behind has so long to end.
const ORPHAN_ENDS: Duration = Duration::from_secs(2);

/// What was sent is looked at here even where the time is over.
const STILL_MIN: Duration = Duration::from_secs(5);

/// What the shell does for us: says who it is, and puts the answer into a file, whatever its length.
const SCRIPT: &str = "echo $$ >\"$1\"; out=$2; shift 2; exec \"$@\" >\"$out\"";

/// The way to the primary's disk.
#[derive(Debug, Clone)]
pub struct Rsync {
    to: ReturnTo,
    node: String,
    primary: String,
    /// Whether the primary's PBX is started by us only after the delta.
    delta_live: Live,
    here: Vec<PathBuf>,
    /// Our own files: lists, answers.
    work: PathBuf,
}

/// What is to be carried, all of one working directory.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// In the order of a walk.
    pub entries: &'a [Entry],
    /// Those of them that are databases, whatever their names say.
    pub databases: &'a BTreeSet<Vec<u8>>,
    /// Files that both sides have: where none of them stands at home, its disk is another. Empty: nothing is asked.
    pub both: &'a [Vec<u8>],
}

/// What came of some entries.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    /// At home, read back; in the order of a walk.
    pub carried: Vec<Entry>,
    /// Those of them of which both sides' stand there, with the second name: that of ours, or of what came there meanwhile.
    pub beside: Vec<(Entry, Vec<u8>)>,
    /// Sent, and not seen to be the same at home.
    pub another: Vec<Entry>,
    /// Why home refused some of them.
    pub refused: Option<String>,
    /// Why nothing more was sent: home takes nothing any more.
    pub broke_off: Option<String>,
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
        let (node, primary) = (config.node.to_string(), config.primary.node.to_string());
        Some(Self { to, node, primary, delta_live, here, work: work.join("rsync") })
    }

    /// The same, which replaces a database only where `live` lets it too.
    #[must_use]
    pub fn with(self, live: Live) -> Self {
        Self { delta_live: if live == Live::Beside { live } else { self.delta_live }, ..self }
    }

    /// Carries entries of one working directory.
    ///
    /// # Errors
    /// One line, with what to do. What had arrived by then is seen to be there at the next try.
    pub async fn carry(&self, load: Load<'_>, pass: Pass, deadline: Instant) -> Result<Sent, String> {
        let Some(dir) = load.entries.first().map(|entry| entry.now.line.dir) else { return Ok(Sent::default()) };
        self.prepare(deadline).await?;
        let suffix = self.suffix(deadline).await?;
        let mut sent = Sent::default();
        let ways = self.ways(load, dir, (pass, deadline), &mut sent).await?;
        let began = Instant::now();
        // rsync looks whether a name is free long before it takes it: what came there meanwhile stays under another.
        let aside = format!("--suffix={suffix}");
        for (kind, options) in [
            (Way::New, &["--ignore-existing", "--backup", &aside][..]),
            (Way::Replaces, &["--update", "--ignore-times"]),
        ] {
            let Some(ours) = ways.get(&kind).filter(|_| sent.broke_off.is_none()) else { continue };
            self.send(&self.here[dir], &names(ours), dir, (pass, deadline), options, &mut sent).await?;
            sent.bytes += ours.iter().map(|entry| entry.now.line.about.size).sum::<u64>();
        }
        let mut under_own: Vec<&Entry> =
            ways.iter().filter(|(kind, _)| **kind != Way::Beside).flat_map(|(_, e)| e.iter().copied()).collect();
        under_own.sort_by(|one, other| one.order(other));
        sent.beside = self.came_meanwhile(&ways, &suffix, dir, deadline, &mut sent).await?;
        let compared = self.compared(&self.here[dir], &names(&under_own), dir, deadline, &mut sent).await?;
        let mut others = Vec::new();
        for entry in under_own {
            match compared.get(&entry.now.line.path) {
                Some(Compared::Same) => sent.carried.push(entry.clone()),
                // It was made or changed there meanwhile, or seemed to be the same and is not: both sides changed it.
                // What was written here while it was sent goes again.
                Some(Compared::Another) => others.push(entry.clone()),
                Some(Compared::Missing) | None => sent.another.push(entry.clone()),
            }
        }
        let mut twice: Vec<Entry> = ways.get(&Way::Beside).into_iter().flatten().map(|&entry| entry.clone()).collect();
        twice.extend(self.still(others, deadline).await?);
        if sent.broke_off.is_none() && !twice.is_empty() {
            self.carry_beside((twice, load.databases), dir, (pass, deadline), &mut sent).await?;
        }
        sent.took = began.elapsed();
        sent.carried.sort_by(Entry::order);
        sent.carried = self.still(std::mem::take(&mut sent.carried), deadline).await?;
        sent.another = self.still(std::mem::take(&mut sent.another), deadline).await?;
        let carried = &sent.carried;
        let is_carried = |entry: &Entry| carried.binary_search_by(|other| other.order(entry)).is_ok();
        sent.beside.retain(|(entry, _)| is_carried(entry));
        Ok(sent)
    }

    /// How each of them goes. What has no content of its own counts as carried.
    async fn ways<'a>(
        &self,
        Load { entries, databases, both }: Load<'a>,
        dir: usize,
        (pass, deadline): (Pass, Instant),
        sent: &mut Sent,
    ) -> Result<BTreeMap<Way, Vec<&'a Entry>>, String> {
        let live = if pass == Pass::Delta { self.delta_live } else { Live::Beside };
        let families = {
            let (entries, databases, root) = (entries.to_vec(), databases.clone(), self.here[dir].clone());
            disk::within(left(deadline), move || Families::of(&entries, &root, &databases)).await?
        };
        let asked = names(&entries.iter().collect::<Vec<_>>()).into_iter().chain(families.names());
        let there = self.there(asked.chain(both.iter().cloned()).collect(), dir, deadline, sent).await?;
        // Whoever has removed them there one by one leaves others, or directories.
        if !both.is_empty() && !both.iter().any(|name| there.contains_key(name)) && self.is_empty(dir, deadline).await?
        {
            let (dir, host) = (self.to.dirs[dir].display(), &self.to.host);
            return Err(format!(
                "{dir} at {host} holds none of the files that both had, and nothing else: is its disk mounted there? where it is, bring one of them there first"
            ));
        }
        let is_sure = sent.refused.is_none();
        let mut ways: BTreeMap<Way, Vec<&Entry>> = BTreeMap::new();
        for entry in entries {
            let path = &entry.now.line.path;
            let family = families.get(entry);
            let own = way(entry, there.get(path).copied(), if family.is_some() { live } else { Live::Replaces });
            let way = match family {
                None => own,
                Some(family) if family.is_one() => Way::Beside,
                // An index, or an empty log.
                Some(_) if family::base(path).is_some() => {
                    sent.carried.push(entry.clone());
                    continue;
                }
                Some(_) => {
                    let logs = family::LOGS.map(|log| there.get(&family::part(path, log)).copied());
                    let is_free = is_sure && !logs.into_iter().any(family::is_log);
                    family::alone(own, if is_free { LogThere::No } else { LogThere::MayBe })
                }
            };
            ways.entry(way).or_default().push(entry);
        }
        Ok(ways)
    }

    /// What came to names at home after rsync saw that they were free, and stands under another name since: at this try,
    /// or at one that broke off.
    async fn came_meanwhile(
        &self,
        ways: &BTreeMap<Way, Vec<&Entry>>,
        suffix: &str,
        dir: usize,
        deadline: Instant,
        sent: &mut Sent,
    ) -> Result<Vec<(Entry, Vec<u8>)>, String> {
        let others = ways.iter().filter(|(way, _)| **way != Way::Replaces).flat_map(|(_, entries)| entries);
        let aside = |&entry: &&Entry| (entry.clone(), [&entry.now.line.path, suffix.as_bytes()].concat());
        let asked: Vec<_> = others.map(aside).filter(|(_, name)| can_stand(name)).collect();
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let there = self.there(asked.iter().map(|(_, name)| name.clone()).collect(), dir, deadline, sent).await?;
        Ok(asked.into_iter().filter(|(_, name)| there.contains_key(name)).collect())
    }

    /// Ours under another name, beside theirs: sent from a folder that holds them so.
    async fn carry_beside(
        &self,
        what: (Vec<Entry>, &BTreeSet<Vec<u8>>),
        dir: usize,
        by: (Pass, Instant),
        sent: &mut Sent,
    ) -> Result<(), String> {
        let stage = self.work.join("beside");
        let done = self.carry_staged(what, &stage, dir, by, sent).await;
        let _ = disk::within(left(by.1).max(STILL_MIN), move || beside::clear(&stage)).await;
        done
    }

    async fn carry_staged(
        &self,
        (entries, databases): (Vec<Entry>, &BTreeSet<Vec<u8>>),
        stage: &Path,
        dir: usize,
        (pass, deadline): (Pass, Instant),
        sent: &mut Sent,
    ) -> Result<(), String> {
        let Staged { groups, refused } = {
            let (stage, root, node) = (stage.to_owned(), self.here[dir].clone(), self.node.clone());
            let databases = databases.clone();
            disk::within(left(deadline), move || staged(&entries, &root, (&stage, deadline), &node, &databases)).await?
        };
        for (entries, why) in refused {
            sent.refused.get_or_insert(why);
            sent.another.extend(entries);
        }
        if groups.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = groups.iter().flat_map(|group| &group.sent).map(|(_, name)| name.clone()).collect();
        // Of its own directories the folder knows neither owner nor rights: those at home stay.
        let options = ["--ignore-existing", "--no-implied-dirs"];
        self.send(stage, &names, dir, (pass, deadline), &options, sent).await?;
        let compared = self.compared(stage, &names, dir, deadline, sent).await?;
        for Group { entries, sent: members } in groups {
            sent.bytes += members.iter().map(|(entry, _)| entry.now.line.about.size).sum::<u64>();
            let is_there = |(_, name): &(Entry, Vec<u8>)| compared.get(name) == Some(&Compared::Same);
            let all = members.iter().map(|(entry, _)| entry.clone()).collect::<Vec<_>>();
            if !members.iter().all(is_there) {
                sent.another.extend(entries);
            } else if entries.len() == 1 && all.len() == 1
                || self.still(all.clone(), deadline).await?.len() == all.len()
            {
                let called = |entry: &Entry| {
                    let (_, name) = members.iter().find(|(member, _)| member.now.line.path == entry.now.line.path)?;
                    Some((entry.clone(), name.clone()))
                };
                sent.beside.extend(entries.iter().filter_map(called));
                sent.carried.extend(entries);
            }
        }
        Ok(())
    }

    /// Those of them that are what they say still.
    async fn still(&self, entries: Vec<Entry>, deadline: Instant) -> Result<Vec<Entry>, String> {
        let here = self.here.clone();
        // What has arrived is worth a moment more.
        disk::within(left(deadline).max(STILL_MIN), move || {
            let is_still = |entry: &Entry| {
                let line = &entry.now.line;
                here::is_still(&here[line.dir], &line.path, line.about.size, line.about.modified)
            };
            Ok(entries.into_iter().filter(is_still).collect())
        })
        .await
    }

    /// What stands at home under these names. Where home does not say it of some, they count as new, which replaces
    /// nothing.
    async fn there(
        &self,
        asked: Vec<Vec<u8>>,
        dir: usize,
        deadline: Instant,
        sent: &mut Sent,
    ) -> Result<BTreeMap<Vec<u8>, There>, String> {
        let list = self.list(asked, deadline).await?;
        let empty = self.work.join("empty");
        let mut argv = self.begin(&["--dry-run", "--ignore-missing-args", "--links", "--specials"], LIST, &list);
        argv.extend([self.at_home(dir), format!("{}/", empty.display())]);
        let said = self.run(argv, deadline).await?;
        sent.note(said.end)?;
        let listed = said.text.split(|byte| *byte == b'\n').filter_map(rsync::listed);
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
        (pass, deadline): (Pass, Instant),
        options: &[&str],
        sent: &mut Sent,
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
        match self.run(argv, deadline).await?.end {
            End::BrokeOff(why) => sent.broke_off = Some(why),
            end => sent.note(end)?,
        }
        Ok(())
    }

    /// How these names stand at home, by digest; without those of which rsync says nothing.
    async fn compared(
        &self,
        from: &Path,
        names: &[Vec<u8>],
        dir: usize,
        deadline: Instant,
        sent: &mut Sent,
    ) -> Result<BTreeMap<Vec<u8>, Compared>, String> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let list = self.list(names.to_vec(), deadline).await?;
        let options = ["--dry-run", "--checksum", "--ignore-missing-args", "--keep-dirlinks", "-ii"];
        let mut argv = self.begin(&options, DIFFERENCE, &list);
        argv.extend([format!("{}/", from.display()), self.at_home(dir)]);
        let said = self.run(argv, deadline).await?;
        sent.note(said.end)?;
        Ok(said.text.split(|byte| *byte == b'\n').filter_map(rsync::compared).collect())
    }

    /// Asks for each directory at home, and sends nothing: its name, or why it cannot be read.
    pub async fn reach(&self, deadline: Instant) -> Vec<Result<String, String>> {
        if let Err(error) = file::create_dirs(&self.work) {
            return vec![Err(format!("cannot make {}: {error}", self.work.display()))];
        }
        let mut told = Vec::new();
        for dir in 0..self.to.dirs.len() {
            let reached = self.run(self.lists(dir), deadline).await.and_then(|said| Sent::default().note(said.end));
            told.push(reached.map(|()| self.at_home(dir)));
        }
        told
    }

    /// Whether nothing at all lies in this directory at home.
    async fn is_empty(&self, dir: usize, deadline: Instant) -> Result<bool, String> {
        let said = self.run(self.lists(dir), deadline).await?;
        Sent::default().note(said.end)?;
        // The directory itself is the first.
        Ok(said.text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() <= 1)
    }

    /// Lists a directory at home, and nothing below it.
    fn lists(&self, dir: usize) -> Vec<String> {
        let mut argv = ["rsync", "--list-only", "--dirs", "--protect-args"].map(str::to_owned).to_vec();
        argv.extend([format!("--timeout={STALLS_S}"), format!("--rsh={}", self.ssh()), self.at_home(dir)]);
        argv
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

    /// Names with a NUL behind each.
    async fn list(&self, names: Vec<Vec<u8>>, deadline: Instant) -> Result<PathBuf, String> {
        let path = self.work.join("names");
        disk::within(left(deadline), move || {
            let write = || -> std::io::Result<()> {
                let mut file = std::io::BufWriter::new(file::create(&path)?);
                for name in names {
                    file.write_all(NO_REMARK)?;
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

    /// What a name at home gets behind it where ours takes it from what came there meanwhile: `.from-pbx-a-…`, the same for
    /// the whole ledger, so that a try after one that broke off finds it.
    async fn suffix(&self, deadline: Instant) -> Result<String, String> {
        let (path, begin) = (self.work.join("suffix"), format!(".from-{}-", self.primary));
        disk::within(left(deadline), move || {
            let is_ours = |text: &String| {
                let rest = text.strip_prefix(&begin);
                rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
            };
            if let Some(known) = fs::read_to_string(&path).ok().filter(is_ours) {
                return Ok(known);
            }
            let text = format!("{begin}{}", clock::now().wall.strftime("%Y%m%d-%H%M%S"));
            let written = file::write_whole(&path, text.as_bytes());
            written.map_err(|error| format!("cannot write {}: {error}; see to state_dir", path.display()))?;
            Ok(text)
        })
        .await
    }

    /// Our own folder, and neither an rsync of an earlier robot in it nor what that left.
    async fn prepare(&self, deadline: Instant) -> Result<(), String> {
        let (empty, stage) = (self.work.join("empty"), self.work.join("beside"));
        disk::within(left(deadline), move || {
            beside::clear(&stage)?;
            file::create_dirs(&empty)
                .map_err(|error| format!("cannot make {}: {error}; see to state_dir", empty.display()))
        })
        .await?;
        let file = self.work.join("pid");
        let reading = file.clone();
        let pid = disk::within(left(deadline), move || Ok(fs::read_to_string(reading).ok())).await?;
        let Some(pid) = pid.and_then(|text| text.trim().parse::<i32>().ok()) else { return Ok(()) };
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
        let _ = disk::within(left(deadline), move || Ok(fs::remove_file(file))).await;
        if runs() { Err(format!("an earlier rsync (process {pid}) does not end; see to it")) } else { Ok(()) }
    }

    async fn run(&self, rsync: Vec<String>, deadline: Instant) -> Result<Said, String> {
        let out = self.work.join("said");
        let text = |path: &Path| path.display().to_string();
        // The shell goes on with them, so that they stay those of the robot's user where root carries.
        let made = [self.work.join("pid"), out.clone()];
        disk::within(left(deadline), move || {
            let cannot = |path: &Path, error| format!("cannot write {}: {error}; see to state_dir", path.display());
            made.iter().try_for_each(|path| file::create(path).map(drop).map_err(|error| cannot(path, error)))
        })
        .await?;
        let mut argv: Vec<_> = ["sh", "-c", SCRIPT, "sh"].map(str::to_owned).to_vec();
        argv.extend([text(&self.work.join("pid")), text(&out)]);
        argv.extend(rsync);
        let env = [("LC_ALL".to_owned(), "C".to_owned()), ("TZ".to_owned(), "UTC".to_owned())];
        let end = command::run(&argv, &env, left(deadline)).await;
        let pid = self.work.join("pid");
        let _ = disk::within(left(deadline).max(STILL_MIN), move || Ok(fs::remove_file(pid))).await;
        let end = match end {
            // Files that vanished meanwhile (24) are no fault.
            CommandEnd::Exited { code: Some(0 | 24), .. } => End::Whole,
            CommandEnd::Exited { code, stderr, .. } => {
                let why = format!("{}: {}", self.to.host, rsync::trouble(code, &stderr));
                match rsync::reach(code, &stderr) {
                    Reach::AllButSome => End::Refused(why),
                    Reach::UpToThere => End::BrokeOff(why),
                    Reach::Nothing => return Err(why),
                }
            }
            CommandEnd::TimedOut => return Err(format!("{}: not done in time", self.to.host)),
            CommandEnd::NotStarted(why) => return Err(format!("rsync could not be started: {why}")),
        };
        let text = disk::within(left(deadline).max(STILL_MIN), move || {
            fs::read(&out).map_err(|error| format!("cannot read {}: {error}; see to state_dir", out.display()))
        })
        .await?;
        Ok(Said { text, end })
    }
}

/// What an rsync said, and how it ended.
struct Said {
    text: Vec<u8>,
    end: End,
}

enum End {
    Whole,
    /// Some files were refused, all else was done.
    Refused(String),
    /// What came before was done.
    BrokeOff(String),
}

impl Sent {
    /// Keeps the first trouble; one that leaves nothing to build upon is an error.
    fn note(&mut self, end: End) -> Result<(), String> {
        match end {
            End::Whole => Ok(()),
            End::Refused(why) => {
                self.refused.get_or_insert(why);
                Ok(())
            }
            End::BrokeOff(why) => Err(why),
        }
    }
}

/// What is left until then.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn names(entries: &[&Entry]) -> Vec<Vec<u8>> {
    entries.iter().map(|entry| entry.now.line.path.clone()).collect()
}

fn os(path: &[u8]) -> std::ffi::OsString {
    std::ffi::OsString::from_vec(path.to_vec())
}
