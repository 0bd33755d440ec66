//! Watches over the working directories: looks, compares with what was good before, and lets the gate judge.
//!
//! Never two looks at once, and none that is waited for without end: a network file system may hang. What the gate says
//! comes from [`crate::data::gate`] alone; what follows from it is the engine's and the plan's.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Mutex;

use super::compare::{Compared, Comparer};
use super::hints::Hints;
use super::keeping::{Keeper, Over};
use super::look::{Looker, Subject};
use crate::config::{CheckTarget, Config, Dump};
use crate::data::gate::{
    Around, OnHold, Outcome, Patience, Reason, Rules, Vouch, Weight, has_shrunk, judge, with_half, with_snapshots,
};
use crate::data::survey::{Place, Survey};
use crate::data::told::told;
use crate::data::{dump, good, shown, vouch};
use crate::host::clock;
use crate::host::file::write_whole;
use crate::ports::{Answer, DataGate, Keep};
use crate::units::tree::{BeatSeen, Likeness, TreeTold};
use crate::units::{DataLook, PlanId, StepOutcome};

/// A million files on a cold disk take less; a file system that takes longer hangs.
pub(super) const LOOK_MAX: Duration = Duration::from_secs(300);

/// So long a takeover, or a person, waits for a look.
const LOOK_MAX_WAITED_FOR: Duration = Duration::from_secs(60);

/// Where the last good survey is kept, in the state directory.
const GOOD_FILE: &str = "working-directory";

/// A larger one is none of ours: [`crate::data::survey::KEPT_MAX`] files with long names.
const GOOD_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The newest heartbeat that the sync has brought.
pub type NewestBeat = Box<dyn Fn() -> Option<BeatSeen> + Send + Sync>;

/// The working directories of one configuration.
pub struct WorkingDirs {
    about: Arc<About>,
    memory: Arc<Mutex<Memory>>,
    hints: Hints,
}

struct About {
    dirs: Vec<PathBuf>,
    rules: Rules,
    dump: Option<Dump>,
    /// What is looked at and how it is classed: what was good under other rules is no measure.
    looked_by: String,
    good_file: PathBuf,
    beat: NewestBeat,
    keeper: Arc<Keeper>,
}

struct Memory {
    looker: Looker,
    comparer: Comparer,
    good: Option<Survey>,
    /// Since when there are fewer files than in that.
    lost_since: Option<Timestamp>,
    is_read: bool,
    /// Said once.
    unwritten: bool,
}

impl WorkingDirs {
    /// Those of this configuration.
    pub fn new(config: &Config, beat: NewestBeat) -> Self {
        let sync = &config.sync;
        let dirs = config.pbx.working_dirs.clone();
        let subject = Subject { dirs: dirs.clone(), classes: sync.classes.clone(), ignore: sync.ignore.clone() };
        let rules = Rules {
            settle: sync.settle,
            warn_age: sync.max_age.warn,
            hold_age: sync.max_age.hold,
            on_hold: sync.on_hold,
            faults: sync.rules.clone(),
        };
        let good_file = config.state_dir.join(GOOD_FILE);
        let looked_by = format!("{:?} {:?}", sync.ignore, sync.classes);
        let looker = Looker::new(Subject::of(config)).passing_over(heartbeats(config));
        let fresh = heartbeat_ages(config).min();
        let comparer = Comparer::new(config.primary.node.clone(), fresh, rules_of(config), &config.state_dir);
        let (dump, keeper) = (sync.dump.clone(), Arc::new(Keeper::new(config)));
        let about = About { dirs, rules, dump, looked_by, good_file, beat, keeper };
        Self::of(about, subject, looker, comparer)
    }

    fn of(about: About, subject: Subject, looker: Looker, comparer: Comparer) -> Self {
        let hints = Hints::new(subject.dirs, subject.ignore);
        let memory = Memory { looker, comparer, good: None, lost_since: None, is_read: false, unwritten: false };
        Self { about: Arc::new(about), memory: Arc::new(Mutex::new(memory)), hints }
    }

    async fn look_within(&self, keep: Keep, limit: Duration) -> DataLook {
        let (about, memory) = (Arc::clone(&self.about), Arc::clone(&self.memory));
        let look = async {
            let mut memory = memory.lock_owned().await;
            tokio::task::spawn_blocking(move || about.look(&mut memory, keep)).await
        };
        match tokio::time::timeout(limit, look).await {
            Ok(Ok(look)) => DataLook { watching: self.hints.watching(), ..look },
            Ok(Err(_)) => self.blind("the look at the working directory broke off; see the log".to_owned()),
            Err(_) => self
                .blind(format!("the working directory does not answer: not looked through in {} s", limit.as_secs())),
        }
    }

    /// Nothing was seen, which speaks against a load as a broken file does.
    fn blind(&self, text: String) -> DataLook {
        let todo = "see whether its file system hangs (a network file system whose server is gone)".to_owned();
        let outcome = match self.about.rules.on_hold {
            OnHold::Hold => Outcome::Hold,
            OnHold::LastGood | OnHold::Go => Outcome::GoWithWarning,
        };
        DataLook::bare(clock::now().wall, outcome, vec![Reason { weight: Weight::Broken, text, todo }])
    }
}

impl DataGate for WorkingDirs {
    fn look(&self, keep: Keep) -> Answer<'_, DataLook> {
        let limit = match keep {
            Keep::WhatIsGood => LOOK_MAX,
            Keep::Nothing | Keep::ForATakeover => LOOK_MAX_WAITED_FOR,
        };
        Box::pin(self.look_within(keep, limit))
    }

    fn changed(&self) -> Answer<'_, ()> {
        Box::pin(self.hints.changed())
    }

    fn vouched(&self, written: Timestamp, told: &TreeTold) {
        // While a look runs, the next beat tells it again.
        if let Ok(mut memory) = self.memory.try_lock() {
            memory.comparer.hear(written, told);
        }
    }

    fn complete(&self, plan: PlanId) -> Answer<'_, Option<StepOutcome>> {
        let over = if self.about.rules.on_hold == OnHold::LastGood { Over::IsBroken } else { Over::IsUndone };
        Box::pin(self.about.keeper.complete(plan, over))
    }

    fn half_done(&self) -> Answer<'_, Option<String>> {
        Box::pin(self.about.keeper.half_done())
    }

    fn give_back(&self) -> Answer<'_, Result<Option<String>, String>> {
        Box::pin(self.about.keeper.give_back())
    }

    fn keep_for(&self, plan: PlanId) -> Answer<'_, Option<StepOutcome>> {
        Box::pin(self.about.keeper.keep_for(plan))
    }

    fn restore_last_good(&self, plan: PlanId) -> Answer<'_, StepOutcome> {
        Box::pin(self.about.keeper.restore_last_good(plan))
    }

    fn hold_back(&self, plan: PlanId) -> Answer<'_, Option<StepOutcome>> {
        Box::pin(self.about.keeper.hold_back(plan))
    }
}

impl About {
    fn look(&self, memory: &mut Memory, keep: Keep) -> DataLook {
        if !memory.is_read {
            memory.is_read = true;
            memory.good = self.read_good();
        }
        let began = Instant::now();
        let survey = memory.looker.look();
        let dump = self.dump.as_ref().map(look_at);
        let (now, beat) = (clock::now().wall, (self.beat)());
        let Compared { seen, inbound } = memory.comparer.compare(&survey, beat.as_ref(), self.rules.settle, now, keep);
        let fresh = memory.comparer.fresh;
        let vouch = seen.as_ref().zip(fresh).map(|(seen, fresh)| Vouch { seen, fresh });
        let beat = beat.map(|beat| beat.written);
        let (kept, snapshot) = self.keeper.told(now);
        let equal = seen.as_ref().and_then(|seen| match seen.likeness {
            Likeness::Equal { at } => Some(at),
            _ => None,
        });
        let half = self.keeper.half(equal, keep);
        let good = memory.good.as_ref();
        let lost = good.is_some_and(|good| has_shrunk(&survey, good));
        memory.lost_since = lost.then(|| memory.lost_since.unwrap_or(now));
        let patience = if keep == Keep::ForATakeover { Patience::TakingOver } else { Patience::Watching };
        let lost_since = memory.lost_since;
        let around = Around { now, good, lost_since, beat, snapshot, dump: dump.as_ref(), patience, vouch };
        // Half of a snapshot is told as such.
        let trouble = kept.trouble.as_deref().filter(|_| half.is_none());
        let report = with_snapshots(judge(&survey, &self.rules, &around), trouble);
        let report = with_half(report, half, self.rules.on_hold, snapshot);
        let is_good = report.is_good() && survey.total().files > 0;
        let told = DataLook {
            vouched: seen,
            inbound,
            snapshots: Some(kept),
            ..told(&survey, report, beat, now, began.elapsed())
        };
        self.keeper.looked(memory.looker.measure(), keep == Keep::WhatIsGood && is_good);
        if keep == Keep::WhatIsGood && is_good {
            self.keep(memory, survey);
        }
        told
    }

    fn keep(&self, memory: &mut Memory, survey: Survey) {
        let is_news = memory.good.as_ref().is_none_or(|good| good.kept != survey.kept);
        memory.good = Some(survey);
        if !is_news && !memory.unwritten {
            return;
        }
        let Some(good) = &memory.good else { return };
        let written = write_whole(&self.good_file, good::write(good, &self.subject()).as_bytes());
        if let (Err(error), false) = (&written, memory.unwritten) {
            let file = self.good_file.display();
            tracing::warn!(%file, %error, "what the working directory looks like is not remembered over a restart");
        }
        memory.unwritten = written.is_err();
    }

    /// What the last good survey is about.
    fn subject(&self) -> Vec<&[u8]> {
        let dirs = self.dirs.iter().map(|dir| dir.as_os_str().as_bytes());
        dirs.chain([self.looked_by.as_bytes()]).collect()
    }

    fn read_good(&self) -> Option<Survey> {
        let file = std::fs::File::open(&self.good_file).ok()?;
        let mut text = String::new();
        file.take(GOOD_BYTES_MAX).read_to_string(&mut text).ok()?;
        good::read(&text, &self.subject())
    }
}

/// Where the heartbeats lie: ours, and no part of the data.
pub(super) fn heartbeats(config: &Config) -> Vec<Place> {
    let files = config.monitor.checks.iter().filter_map(|check| match &check.target {
        CheckTarget::Heartbeat { file, .. } => Some(file),
        _ => None,
    });
    let place = |file: &PathBuf| {
        let dirs = config.pbx.working_dirs.iter().enumerate();
        let mut below = dirs.filter_map(|(dir, root)| Some((dir, file.strip_prefix(root).ok()?)));
        below.next().map(|(dir, path)| Place { dir, path: path.as_os_str().as_bytes().to_vec() })
    };
    files.filter_map(place).collect()
}

fn heartbeat_ages(config: &Config) -> impl Iterator<Item = Duration> {
    config.monitor.checks.iter().filter_map(|check| match check.target {
        CheckTarget::Heartbeat { max_age, .. } => Some(max_age),
        _ => None,
    })
}

/// What is looked at and how it is classed, short: the same on both hosts, or they cannot be compared.
pub(super) fn rules_of(config: &Config) -> String {
    let (sync, dirs) = (&config.sync, config.pbx.working_dirs.len());
    vouch::rules(&format!("{dirs} {:?} {:?}", sync.ignore, sync.classes))
}

/// Looks at a database dump; no link is followed.
fn look_at(asked: &Dump) -> dump::Dump {
    let name = asked.file.file_name().map(|name| shown(name.as_bytes())).unwrap_or_default();
    let seen = read_end(&asked.file).unwrap_or_else(|error| dump::Seen::Not(error.to_string()));
    dump::Dump { name, max_age: asked.max_age, seen }
}

fn read_end(file: &Path) -> io::Result<dump::Seen> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut open = std::fs::File::from(rustix::fs::open(file, flags, Mode::empty())?);
    let about = open.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut end = Vec::new();
    if dump::is_text(file.as_os_str().as_bytes()) {
        open.seek(SeekFrom::Start(about.len().saturating_sub(dump::END_MAX)))?;
        open.take(dump::END_MAX).read_to_end(&mut end)?;
    }
    let at = about.modified().ok().and_then(|time| Timestamp::try_from(time).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(dump::Seen::Written { at, size: about.len(), end })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::adapters::data::snapshot::Vault;
    use crate::data::gate::OnFault;
    use crate::data::{Classes, Pattern};
    use crate::units::tree::TreeState;

    struct Rig {
        _dir: tempfile::TempDir,
        work: PathBuf,
        state: PathBuf,
        /// That of its heartbeat check, where it has one.
        fresh: Option<Duration>,
    }

    const CONFIG: &str = "[general]\ncontext=default\n";

    fn rig() -> Rig {
        let dir = tempfile::tempdir().expect("directory");
        let (work, state) = (dir.path().join("work"), dir.path().join("state"));
        fs::create_dir(&work).expect("directory");
        fs::create_dir(&state).expect("directory");
        for n in 0..10 {
            fs::write(work.join(format!("{n}.conf")), CONFIG.repeat(40)).expect("file");
        }
        Rig { _dir: dir, work, state, fresh: Some(Duration::from_secs(120)) }
    }

    impl Rig {
        /// As a robot that is started: without a memory of its own, and without a wait for quiet.
        fn start(&self, beat: Option<Timestamp>) -> WorkingDirs {
            self.beside(beat.map(|written| BeatSeen { written, came: written, tree: None }))
        }

        fn beside(&self, beat: Option<BeatSeen>) -> WorkingDirs {
            let rules = Rules {
                settle: Duration::ZERO,
                warn_age: Duration::from_secs(900),
                hold_age: Duration::from_secs(24 * 3600),
                on_hold: OnHold::Hold,
                faults: vec![(Pattern::new("cache/").expect("a pattern"), OnFault::Ignore)],
            };
            let dump = Some(Dump { file: self.work.join("pbx.sql"), max_age: Duration::from_secs(3600) });
            let subject = Subject { dirs: vec![self.work.clone()], classes: Classes::default(), ignore: Vec::new() };
            let vault = Vault::of(&self.state, subject, 0, u64::MAX);
            let about = About {
                looked_by: String::new(),
                dirs: vec![self.work.clone()],
                rules,
                dump: dump.filter(|dump| dump.file.exists()),
                good_file: self.state.join(GOOD_FILE),
                beat: Box::new(move || beat.clone()),
                keeper: Arc::new(Keeper::of(vault, Vec::new(), Duration::from_secs(3600))),
            };
            let subject = Subject { dirs: vec![self.work.clone()], classes: Classes::default(), ignore: Vec::new() };
            let comparer = Comparer::new("pbx-a".parse().expect("a name"), self.fresh, "r".into(), &self.state);
            let beat = Place { dir: 0, path: b"beat".to_vec() };
            WorkingDirs::of(about, subject.clone(), Looker::new(subject).passing_over(vec![beat]), comparer)
        }
    }

    async fn holds(gate: &WorkingDirs, words: &str) {
        let look = gate.look(Keep::WhatIsGood).await;
        assert!(look.outcome == Outcome::Hold && look.because().contains(words), "{words}: {look:#?}");
    }

    #[tokio::test]
    async fn what_was_good_before_is_known_to_a_robot_that_is_started_again() {
        let rig = rig();
        assert_eq!(rig.start(None).look(Keep::WhatIsGood).await.outcome, Outcome::Go);
        fs::write(rig.work.join("3.conf"), "").expect("emptied");
        holds(&rig.start(None), "3.conf is empty").await;
        holds(&rig.start(None), "3.conf is empty").await;
        fs::write(rig.work.join("3.conf"), &CONFIG.repeat(40)[..200]).expect("cut");
        holds(&rig.start(None), "3.conf has shrunk from 1040 to 200 bytes").await;
    }

    #[tokio::test]
    async fn a_look_for_check_or_a_takeover_leaves_nothing_behind() {
        let rig = rig();
        assert_eq!(rig.start(None).look(Keep::Nothing).await.outcome, Outcome::Go);
        assert_eq!(fs::read_dir(&rig.state).expect("listed").count(), 0);
    }

    #[tokio::test]
    async fn a_directory_that_was_emptied_or_lost_its_files_holds_and_never_becomes_what_is_good() {
        let rig = rig();
        let gate = rig.start(None);
        assert_eq!(gate.look(Keep::WhatIsGood).await.outcome, Outcome::Go);
        for n in 0..3 {
            fs::remove_file(rig.work.join(format!("{n}.conf"))).expect("removed");
        }
        holds(&gate, "7 files of configuration where there were 10; gone: 0.conf").await;
        for n in 3..10 {
            fs::remove_file(rig.work.join(format!("{n}.conf"))).expect("removed");
        }
        holds(&gate, "the working directory is empty").await;
        fs::remove_dir(&rig.work).expect("removed");
        holds(&gate, "the working directory is empty").await;
        holds(&rig.start(None), "0 files of configuration where there were 10").await;
    }

    #[tokio::test]
    async fn an_old_heartbeat_is_old_data_and_its_age_is_told() {
        let rig = rig();
        let beat = clock::now().wall - jiff::SignedDuration::from_hours(30);
        let gate = rig.start(Some(beat));
        holds(&gate, "its newest heartbeat is 30 h old").await;
        assert_eq!(gate.look(Keep::Nothing).await.beat_age_s.map(|age| age / 3600), Some(30));
    }

    #[tokio::test]
    async fn a_database_dump_that_was_cut_holds() {
        let rig = rig();
        fs::write(rig.work.join("pbx.sql"), "INSERT 1;\n-- Dump completed on 2026-11-26\n").expect("dump");
        assert_eq!(rig.start(None).look(Keep::Nothing).await.outcome, Outcome::Go);
        fs::write(rig.work.join("pbx.sql"), "INSERT 1").expect("dump");
        holds(&rig.start(None), "the database dump pbx.sql is not whole").await;
    }

    #[tokio::test]
    async fn a_look_that_does_not_end_is_said_and_holds() {
        let rig = rig();
        let gate = rig.start(None);
        let busy = gate.memory.lock().await;
        let look = gate.look_within(Keep::Nothing, Duration::from_millis(1)).await;
        assert!(look.outcome == Outcome::Hold && look.because().contains("does not answer"), "{look:?}");
        drop(busy);
    }

    #[tokio::test]
    async fn names_that_are_no_text_are_remembered_and_told_in_one_line() {
        use std::os::unix::ffi::OsStrExt as _;
        let rig = rig();
        let odd = rig.work.join(std::ffi::OsStr::from_bytes(b"a\nb\xff.conf"));
        fs::write(&odd, CONFIG.repeat(40)).expect("file");
        assert_eq!(rig.start(None).look(Keep::WhatIsGood).await.outcome, Outcome::Go);
        fs::write(&odd, "").expect("emptied");
        holds(&rig.start(None), "a%0Ab%FF.conf is empty").await;
    }

    /// A primary's beat, written just now, that vouches for a tree like this one.
    fn beat_of(dir: &Path) -> BeatSeen {
        let subject = Subject { dirs: vec![dir.to_owned()], classes: Classes::default(), ignore: Vec::new() };
        let tree = Looker::new(subject).look().tree.expect("all was read");
        let now = clock::now().wall;
        let state = TreeState { at: now, files: tree.files, digest: tree.digest };
        BeatSeen { written: now, came: now, tree: Some(TreeTold { rules: "r".into(), states: vec![state] }) }
    }

    #[tokio::test]
    async fn half_a_restore_that_is_quiet_and_well_formed_holds_and_never_becomes_what_is_good() {
        let rig = rig();
        let gate = rig.start(None);
        assert_eq!(gate.look(Keep::WhatIsGood).await.outcome, Outcome::Go);
        let note = r#"{"id":"good-1","only":[],"aside":"P1.replaced","plan":"P1","stage":"committing"}"#;
        fs::write(rig.state.join("restore-under-way"), note).expect("note");
        for n in 0..3 {
            fs::remove_file(rig.work.join(format!("{n}.conf"))).expect("half of it is not there yet");
        }
        holds(&gate, "a restore of good-1 is half done").await;
        fs::remove_file(rig.state.join("restore-under-way")).expect("a person's word");
        holds(&gate, "7 files of configuration where there were 10").await;
    }

    #[tokio::test]
    async fn without_a_heartbeat_that_the_sync_brings_nothing_is_compared() {
        let rig = Rig { fresh: None, ..rig() };
        let gate = rig.beside(Some(beat_of(&rig.work)));
        assert_eq!(gate.look(Keep::WhatIsGood).await.vouched, None);
        fs::write(rig.work.join("3.conf"), CONFIG.repeat(41)).expect("changed");
        gate.vouched(clock::now().wall, beat_of(&rig.work).tree.as_ref().expect("told"));
        let look = gate.look(Keep::WhatIsGood).await;
        assert_eq!((look.outcome, look.vouched.clone()), (Outcome::Go, None), "{look:#?}");
    }

    #[tokio::test]
    async fn a_mixture_that_is_quiet_and_well_formed_is_none_of_the_states_that_the_primary_had() {
        let rig = rig();
        let beat = beat_of(&rig.work);
        let gate = rig.beside(Some(beat.clone()));
        fs::write(rig.work.join("3.conf"), CONFIG.repeat(41)).expect("changed");
        let look = gate.look(Keep::WhatIsGood).await;
        let never = look.vouched.as_ref().map(|seen| seen.likeness.clone());
        assert_eq!((look.outcome, never), (Outcome::Go, Some(Likeness::NeverEqual)), "no evidence yet");
        fs::write(rig.work.join("3.conf"), CONFIG.repeat(40)).expect("as it was");
        let look = gate.look(Keep::WhatIsGood).await;
        assert!(matches!(look.vouched.expect("compared").likeness, Likeness::Equal { .. }));
        fs::write(rig.work.join("3.conf"), CONFIG.repeat(41)).expect("one of many files is newer");
        // Also after a restart, and nothing of it becomes what is good.
        for gate in [gate, rig.beside(Some(beat.clone()))] {
            let look = gate.look(Keep::WhatIsGood).await;
            assert!(look.is_under_way() && look.outcome == Outcome::Hold, "{look:#?}");
            assert!(look.because().contains("as no state that pbx-a vouched for"), "{look:#?}");
            gate.memory.lock().await.comparer.fresh = Some(Duration::ZERO);
            let look = gate.look(Keep::WhatIsGood).await;
            assert!(!look.is_under_way() && look.outcome == Outcome::Hold, "no beat follows: {look:#?}");
            // What the agent tells over the wire comes before its file does.
            let now = clock::now().wall;
            gate.vouched(now, beat_of(&rig.work).tree.as_ref().expect("told"));
            let look = gate.look(Keep::Nothing).await;
            assert_eq!(look.outcome, Outcome::Go, "{look:#?}");
        }
    }
}
