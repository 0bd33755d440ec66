//! One look at the working directories: a walk that becomes a [`Survey`].
//!
//! A file of configuration is read only when it has changed since the last look, or when it was read within its last change.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use super::gate::heartbeats;
use super::walk::{Descend, Entry, Visitor, walk};
use crate::config::Config;
use crate::data::content::{self, Format, READ_MAX};
use crate::data::manifest::Kind;
use crate::data::snapshot::{Measure, Measuring, Seen};
use crate::data::survey::{Kept, Place, Survey};
use crate::data::vouch::{self, TreeHasher};
use crate::data::{Class, Classes, Foreign, Pattern, foreign, original};
use crate::host::clock;

/// Our own files in a working directory begin so (the heartbeat while it is written).
pub(super) const OURS: &[u8] = b".pbx-failover-";

/// Times of files are coarse (10 ms here, 2 s on some file systems): what was read within so long of its last change may
/// have been written again without another stamp, and is read once more.
const STAMP_SURE_AFTER: SignedDuration = SignedDuration::from_secs(3);

/// What to look at.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The working directories.
    pub dirs: Vec<PathBuf>,
    /// What their files are.
    pub classes: Classes,
    /// What is not looked at.
    pub ignore: Vec<Pattern>,
}

impl Subject {
    /// The working directories of this configuration, without the heartbeats in them.
    pub fn of(config: &Config) -> Self {
        let sync = &config.sync;
        let beats = heartbeats(config).into_iter().filter(|beat| !beat.path.starts_with(OURS));
        let beats = beats.filter_map(|beat| {
            let special = |c: char| "*?[]{}\\!".contains(c);
            let path = String::from_utf8(beat.path).ok()?;
            let path = path.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c]));
            Pattern::new(&format!("/{}", path.collect::<String>())).ok()
        });
        let ignore = sync.ignore.iter().cloned().chain(beats).collect();
        Self { dirs: config.pbx.working_dirs.clone(), classes: sync.classes.clone(), ignore }
    }

    /// Whether this is neither the PBX's nor looked at: ours, also while a sync tool brings it, or ignored.
    fn passes(&self, entry: &Entry<'_>) -> bool {
        passes(entry, &self.ignore)
    }

    /// The same, and what is a sync tool's.
    pub(super) fn passes_over(&self, entry: &Entry<'_>) -> bool {
        is_passed_over(entry, &self.ignore)
    }
}

fn passes(entry: &Entry<'_>, ignore: &[Pattern]) -> bool {
    let name = entry.name();
    name.starts_with(OURS)
        || original(name).is_some_and(|of| of.starts_with(OURS))
        || ignore.iter().any(|pattern| pattern.matches(entry.path))
}

/// Looks again and again.
#[derive(Debug)]
pub struct Looker {
    subject: Subject,
    /// Files that are ours: the heartbeats.
    own: Vec<Place>,
    /// The files of configuration as they were last read.
    read: BTreeMap<Place, Read>,
    measure: Measure,
}

/// A file of configuration as it was read.
#[derive(Debug, Clone)]
struct Read {
    stamp: Stamp,
    /// Whether another content would have another stamp.
    sure: Sure,
    kept: Kept,
    content: vouch::Content,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sure {
    Yes,
    NotYet,
}

/// Changes whenever the content may have.
type Stamp = ((u64, u64), u64, (i64, u32), (i64, u32));

impl Looker {
    /// A looker that has seen nothing yet.
    pub fn new(subject: Subject) -> Self {
        Self { subject, own: Vec::new(), read: BTreeMap::new(), measure: Measure::default() }
    }

    /// These files are ours, whatever their names: neither looked at nor counted.
    #[must_use]
    pub fn passing_over(mut self, own: Vec<Place>) -> Self {
        self.own = own;
        self
    }

    /// What the last look saw of all that a snapshot copies.
    pub fn measure(&self) -> &Measure {
        &self.measure
    }

    /// What is looked at.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Looks once; takes as long as the disk does.
    pub fn look(&mut self) -> Survey {
        let mut look = Look {
            subject: &self.subject,
            own: &self.own,
            tree: Some(TreeHasher::default()),
            before: std::mem::take(&mut self.read),
            read: BTreeMap::new(),
            survey: Survey::default(),
            measuring: Measuring::default(),
        };
        walk(&self.subject.dirs, &mut look);
        self.read = look.read;
        look.survey.tree = look.tree.map(|tree| tree.end());
        self.measure = look.measuring.end();
        look.survey
    }
}

struct Look<'a> {
    subject: &'a Subject,
    own: &'a [Place],
    before: BTreeMap<Place, Read>,
    read: BTreeMap<Place, Read>,
    /// `None`: something could not be read.
    tree: Option<TreeHasher>,
    survey: Survey,
    measuring: Measuring,
}

impl Look<'_> {
    /// Whether the name is a sync tool's; then it is not the PBX's.
    fn is_foreign(&mut self, entry: &Entry<'_>) -> bool {
        match foreign(entry.name()) {
            Some(Foreign::Temporary(tool)) => self.survey.writing(place(entry), tool, time(entry.changed)),
            Some(Foreign::Conflict(tool)) => self.survey.conflicts.add((place(entry), tool)),
            Some(Foreign::Own(_)) => {}
            None => return false,
        }
        true
    }

    /// A file of configuration, read if it changed.
    fn kept(&mut self, entry: &Entry<'_>) {
        let at = place(entry);
        let stamp = (entry.identity, entry.about.size, entry.about.modified, entry.changed);
        let read = match self.before.remove(&at) {
            Some(before) if before.stamp == stamp && before.sure == Sure::Yes => before,
            // What will not be kept would be read anew at every look.
            _ if self.survey.is_full() => {
                self.survey.not_kept += 1;
                self.tree = None;
                return;
            }
            _ => match read(entry, stamp) {
                Ok(read) => read,
                Err(error) => {
                    self.survey.troubles.add((at, error.to_string()));
                    self.tree = None;
                    return;
                }
            },
        };
        self.survey.keep(at.clone(), read.kept.clone());
        if let Some(tree) = &mut self.tree {
            tree.add(at.dir, &at.path, &read.content);
        }
        self.read.insert(at, read);
    }
}

impl Visitor for Look<'_> {
    fn file(&mut self, entry: &Entry<'_>) -> ControlFlow<()> {
        if self.subject.passes(entry) || is_own(self.own, entry) || self.is_foreign(entry) {
            return ControlFlow::Continue(());
        }
        match entry.about.kind {
            Kind::File => {}
            Kind::Link => {
                self.measuring.add(Class::Other, seen(entry));
                if leads_out(entry, &self.subject.dirs) {
                    self.survey.links_out.add(place(entry));
                }
                return ControlFlow::Continue(());
            }
            Kind::Directory | Kind::Other => return ControlFlow::Continue(()),
        }
        let class = self.subject.classes.of(entry.path);
        self.survey.count(class, entry.about.size);
        self.measuring.add(class, seen(entry));
        self.survey.change(time(entry.about.modified), time(entry.changed), || place(entry));
        if class == Class::Config {
            self.survey.configured = self.survey.configured.max(Some(time(entry.changed)));
            self.kept(entry);
        }
        ControlFlow::Continue(())
    }

    fn directory(&mut self, entry: &Entry<'_>) -> Descend {
        if self.subject.passes(entry) || is_own(self.own, entry) || self.is_foreign(entry) {
            return Descend::Past;
        }
        self.survey.directories += 1;
        Descend::Into
    }

    fn trouble(&mut self, dir: usize, path: &[u8], why: &str) {
        self.survey.troubles.add((Place { dir, path: path.to_vec() }, why.to_owned()));
        self.tree = None;
    }
}

/// Whether an entry is none of the PBX's: ours, ignored, or a sync tool's.
pub fn is_passed_over(entry: &Entry<'_>, ignore: &[Pattern]) -> bool {
    passes(entry, ignore) || foreign(entry.name()).is_some()
}

fn read(entry: &Entry<'_>, stamp: Stamp) -> std::io::Result<Read> {
    let changed = time(entry.changed);
    let mut kept = Kept { size: entry.about.size, changed, fault: None, ends_within_line: false };
    let now = clock::now().wall;
    let sure = if now.duration_since(changed) >= STAMP_SURE_AFTER { Sure::Yes } else { Sure::NotYet };
    let mut content = Vec::new();
    // It may have grown since the walk saw its size.
    entry.open()?.take(READ_MAX).read_to_end(&mut content)?;
    let digest = vouch::content(kept.size, &content);
    if kept.size <= READ_MAX {
        kept.fault = content::fault(Format::of(entry.name()), &content);
        kept.ends_within_line = content::ends_within_line(&content);
    }
    Ok(Read { stamp, sure, kept, content: digest })
}

/// Whether a link leads out of its working directory, by its text alone: nothing of it is opened.
fn leads_out(entry: &Entry<'_>, dirs: &[PathBuf]) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let Ok(target) = entry.target() else { return false };
    if target.starts_with(b"/") {
        let target = std::path::Path::new(std::ffi::OsStr::from_bytes(&target));
        let climbs = target.components().any(|part| part == std::path::Component::ParentDir);
        return climbs || !dirs[entry.dir].as_path().ancestors().next().is_some_and(|dir| target.starts_with(dir));
    }
    let mut depth = entry.path.split(|byte| *byte == b'/').count() - 1;
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return true,
            },
            _ => depth += 1,
        }
    }
    false
}

/// Whether this is one of these files, also while a sync tool brings it under a name for the time being.
fn is_own(own: &[Place], entry: &Entry<'_>) -> bool {
    let name = entry.name();
    let of = original(name).unwrap_or(name);
    let folder = &entry.path[..entry.path.len() - name.len()];
    own.iter().any(|own| {
        let (own_folder, own_name) =
            own.path.split_at(own.path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1));
        // rsync puts no second point before a name that begins with one.
        let is_its = own_name == of || own_name.strip_prefix(b".") == Some(of);
        own.dir == entry.dir && own_folder == folder && is_its
    })
}

/// What a measure takes in.
pub(super) fn seen<'a>(entry: &'a Entry<'_>) -> Seen<'a> {
    let (about, ino, changed) = (entry.about, entry.identity.1, entry.changed);
    Seen { dir: entry.dir, path: entry.path, about, ino, changed }
}

fn place(entry: &Entry<'_>) -> Place {
    Place { dir: entry.dir, path: entry.path.to_vec() }
}

/// A time that no clock can have is the beginning of time.
fn time((seconds, nanos): (i64, u32)) -> Timestamp {
    Timestamp::new(seconds, i32::try_from(nanos).unwrap_or_default()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::data::survey::Fault;

    fn looker(dir: &tempfile::TempDir) -> Looker {
        let ignore = vec![Pattern::new("log/").expect("a pattern")];
        Looker::new(Subject { dirs: vec![dir.path().to_owned()], classes: Classes::default(), ignore })
    }

    fn at(path: &str) -> Place {
        Place { dir: 0, path: path.as_bytes().to_vec() }
    }

    #[test]
    fn a_look_counts_what_is_the_pbxs_and_names_what_is_not_well() {
        let dir = tempfile::tempdir().expect("directory");
        let root = dir.path();
        for sub in ["spool/voicemail/default/100", "log", ".stversions"] {
            fs::create_dir_all(root.join(sub)).expect("directory");
        }
        for (path, text) in [
            ("pjsip.conf", "[a]\ntype=endpoint\n"),
            ("bad.json", "{"),
            ("spool/voicemail/default/100/msg0.wav", "RIFF"),
            ("log/messages.conf", "[x"),
            (".stversions/old.conf", "[x"),
            (".pjsip.conf.aB3xYz", "[a"),
            ("a.sync-conflict-20261120-101112-ABCDEFG.conf", "[a]"),
            (".pbx-failover-beat.new", "x"),
        ] {
            fs::write(root.join(path), text).expect("file");
        }
        symlink("../../elsewhere", root.join("spool/out")).expect("link");
        symlink("voicemail", root.join("spool/in")).expect("link");
        symlink("/etc", root.join("etc")).expect("link");
        symlink(root.join("spool"), root.join("own")).expect("link");
        let survey = looker(&dir).look();
        assert_eq!(survey.total().files, 3, "{survey:#?}");
        assert_eq!(survey.classes[&Class::Voicemail].bytes, 4);
        assert_eq!(survey.kept[&at("pjsip.conf")].fault, None);
        assert!(matches!(&survey.kept[&at("bad.json")].fault, Some(Fault::Malformed(_))));
        assert_eq!((survey.temporary.all, survey.conflicts.all), (1, 1));
        assert_eq!(survey.links_out.named, [at("etc"), at("spool/out")]);
        assert!(survey.troubles.is_empty() && survey.touched.is_some());
    }

    #[test]
    fn a_file_is_read_again_only_when_it_has_changed() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("a.json");
        fs::write(&file, "{}").expect("file");
        let mut looker = looker(&dir);
        assert_eq!(looker.look().kept[&at("a.json")].fault, None);
        // What it remembers is taken as it is.
        let remembered = looker.read.values_mut().next().expect("one");
        remembered.kept.fault = Some(Fault::Nul);
        assert_eq!(looker.look().kept[&at("a.json")].fault, None, "read within its last change: not sure yet");
        let remembered = looker.read.values_mut().next().expect("one");
        (remembered.kept.fault, remembered.sure) = (Some(Fault::Nul), Sure::Yes);
        assert_eq!(looker.look().kept[&at("a.json")].fault, Some(Fault::Nul));
        fs::write(&file, "{}").expect("file");
        assert_eq!(looker.look().kept[&at("a.json")].fault, None, "written anew, with the same size");
        fs::remove_file(&file).expect("removed");
        assert!(looker.look().kept.is_empty() && looker.read.is_empty());
    }

    #[test]
    fn what_is_more_than_is_remembered_is_not_read_and_then_no_digest_is_of_all() {
        use crate::data::survey::KEPT_MAX;
        let dir = tempfile::tempdir().expect("directory");
        for n in 0..KEPT_MAX {
            fs::File::create(dir.path().join(format!("{n}.conf"))).expect("file");
        }
        let mut looker = looker(&dir);
        assert!(looker.look().tree.is_some());
        // The last in the order of a walk, and one whose content would be a fault.
        fs::write(dir.path().join("z.conf"), "\0").expect("file");
        let survey = looker.look();
        assert_eq!((survey.not_kept, survey.tree), (1, None));
        assert_eq!((survey.kept.len(), looker.read.len()), (KEPT_MAX, KEPT_MAX));
    }

    #[test]
    fn equal_trees_have_one_digest_whatever_their_times_and_our_own_files() {
        let (one, other) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
        let beat = Place { dir: 0, path: b"beat.json".to_vec() };
        let look = |dir: &tempfile::TempDir| looker(dir).passing_over(vec![beat.clone()]).look();
        for dir in [&one, &other] {
            fs::create_dir_all(dir.path().join("sub")).expect("directory");
            fs::write(dir.path().join("sub/b.conf"), "[b]\n").expect("file");
            fs::write(dir.path().join("a.conf"), "[a]\n").expect("file");
        }
        let old = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options()
            .append(true)
            .open(other.path().join("a.conf"))
            .and_then(|f| f.set_modified(old))
            .expect("time");
        for name in [
            "beat.json",
            "..pbx-failover-heartbeat.aB3xYz",
            ".pbx-failover-heartbeat.5mEMJr",
            ".beat.json.aB3xYz",
            "msg0.wav",
            ".a.conf.aB3xYz",
        ] {
            fs::write(other.path().join(name), "x").expect("file");
        }
        let (ours, theirs) = (look(&one), look(&other));
        assert_eq!((ours.tree.as_ref().map(|tree| tree.files), &ours.tree), (Some(2), &theirs.tree));
        assert_eq!((theirs.temporary.all, theirs.total().files), (1, 3), "{theirs:#?}");
        fs::write(other.path().join("sub/b.conf"), "[c]\n").expect("file");
        let changed = look(&other);
        assert!(changed.tree.is_some() && changed.tree != ours.tree);
        fs::rename(other.path().join("sub/b.conf"), other.path().join("sub/c.conf")).expect("renamed");
        assert_ne!(look(&other).tree, changed.tree, "a name counts too");
    }
}
