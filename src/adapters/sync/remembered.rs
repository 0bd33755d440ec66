//! What was stopped, kept over a restart, and the file that keeps a stopped unit from being started by a boot.
//!
//! Two files in the state directory. `sync-stopped` lists what ran before, so that a failback starts that and nothing
//! else. `sync-fenced` is there while the sync must not run: a unit with `ConditionPathExists=!` of it (see
//! `systemd/sync-fence.conf`) is not started by a boot of a backup that serves, before the robot can stop it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Part;
use crate::host::file::write_whole;
use crate::units::Whose;

/// More bytes are none of ours.
const BYTES_MAX: u64 = 64 * 1024;

/// What ran, and was stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    units: BTreeSet<String>,
    folders: BTreeSet<String>,
    /// Since when what lies here is what this node serves with; `None`: it is what was brought.
    #[serde(default)]
    ours: Option<Timestamp>,
}

impl Stopped {
    /// Whose files lie here.
    pub fn whose(&self) -> Whose {
        self.ours.map_or(Whose::Brought, Whose::Ours)
    }

    /// Notes one part.
    pub fn add(&mut self, part: &Part<'_>) {
        match part {
            Part::Unit(unit) => self.units.insert(unit.name().to_owned()),
            Part::Folder(_, folder) => self.folders.insert((*folder).to_owned()),
        };
    }

    /// Whether it was noted.
    pub fn has(&self, part: &Part<'_>) -> bool {
        match part {
            Part::Unit(unit) => self.units.contains(unit.name()),
            Part::Folder(_, folder) => self.folders.contains(*folder),
        }
    }
}

/// The two files.
#[derive(Debug, Clone)]
pub struct Remembered {
    stopped: PathBuf,
    fenced: PathBuf,
}

impl Remembered {
    /// Those in this state directory.
    pub fn in_dir(state_dir: &Path) -> Self {
        Self { stopped: state_dir.join("sync-stopped"), fenced: state_dir.join("sync-fenced") }
    }

    /// The file that is there while the sync must not run.
    pub fn fence(&self) -> &Path {
        &self.fenced
    }

    /// Whether something was stopped and is not yet started again.
    pub fn is_owed(&self) -> bool {
        self.fenced.exists() || self.stopped.exists()
    }

    /// Notes what is about to be stopped, beside what was before, and fences the units' starts.
    ///
    /// # Errors
    /// One line: what failed, and what to do.
    pub fn add(&self, found: &Stopped) -> Result<(), String> {
        // One that cannot be read is written anew: it would be of no use at the failback either.
        let mut all = self.read().ok().flatten().unwrap_or_default();
        all.units.extend(found.units.iter().cloned());
        all.folders.extend(found.folders.iter().cloned());
        self.write(&all)?;
        let why = b"the inbound sync must not run: this node serves, or its files are not all carried home\n";
        write_whole(&self.fenced, why).map_err(|error| trouble("write", &self.fenced, &error))
    }

    /// What was stopped; `None` when nothing is remembered.
    ///
    /// # Errors
    /// One line: what failed, and what to do.
    pub fn read(&self) -> Result<Option<Stopped>, String> {
        let read = fs::metadata(&self.stopped).and_then(|about| {
            if about.len() > BYTES_MAX {
                Err(ErrorKind::FileTooLarge.into())
            } else {
                fs::read_to_string(&self.stopped)
            }
        });
        match read {
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| {
                format!(
                    "{} is malformed ({error}); delete it: then all that sync.fence names is started",
                    self.stopped.display()
                )
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(trouble("read", &self.stopped, &error)),
        }
    }

    /// Notes whose files lie here.
    ///
    /// # Errors
    /// One line: what failed, and what to do.
    pub fn note(&self, whose: Whose) -> Result<(), String> {
        let all = self.read().ok().flatten().unwrap_or_default();
        let ours = match whose {
            // The first one counts: nothing was brought since.
            Whose::Ours(since) => Some(all.ours.unwrap_or(since)),
            Whose::Brought => None,
        };
        if all.ours == ours { Ok(()) } else { self.write(&Stopped { ours, ..all }) }
    }

    fn write(&self, all: &Stopped) -> Result<(), String> {
        let text = serde_json::to_string(all).map_err(|error| error.to_string())?;
        write_whole(&self.stopped, text.as_bytes()).map_err(|error| trouble("write", &self.stopped, &error))
    }

    /// Lets the units start again, which may bring other files from then on; what was stopped, if that is remembered.
    ///
    /// # Errors
    /// One line: what failed, and what to do.
    pub fn lift(&self) -> Result<Option<Stopped>, String> {
        let stopped = self.read()?;
        self.note(Whose::Brought)?;
        remove(&self.fenced).map(|()| stopped)
    }

    /// Forgets what was stopped: it runs.
    ///
    /// # Errors
    /// One line: what failed, and what to do.
    pub fn forget(&self) -> Result<(), String> {
        remove(&self.stopped)
    }
}

fn remove(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(trouble("remove", path, &error)),
        _ => Ok(()),
    }
}

fn trouble(what: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {what} {}: {error}; see the free space and the rights of state_dir", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(names: &[&str]) -> Stopped {
        Stopped { units: names.iter().map(ToString::to_string).collect(), ..Stopped::default() }
    }

    #[test]
    fn what_two_stops_found_is_remembered_together_until_it_is_forgotten() {
        let dir = tempfile::tempdir().expect("directory");
        let files = Remembered::in_dir(dir.path());
        assert_eq!(files.read(), Ok(None));
        files.add(&units(&["a.service"])).expect("written");
        // The second stop finds nothing that runs.
        files.add(&units(&[])).expect("written");
        files.add(&units(&["b.timer"])).expect("written");
        assert_eq!(files.read(), Ok(Some(units(&["a.service", "b.timer"]))));
        assert!(dir.path().join("sync-fenced").exists());
        files.lift().and_then(|_| files.forget()).expect("removed");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
        files.lift().and_then(|_| files.forget()).expect("removing twice is well");
    }

    #[test]
    fn that_this_node_served_is_remembered_until_something_is_started() {
        let dir = tempfile::tempdir().expect("directory");
        let files = Remembered::in_dir(dir.path());
        let whose = || files.read().expect("read").map(|all| all.whose());
        files.add(&units(&["a.service"])).expect("written");
        assert_eq!(whose(), Some(Whose::Brought), "a takeover has only begun");
        files.note(Whose::Ours(Timestamp::UNIX_EPOCH)).expect("written");
        files.note(Whose::Ours(Timestamp::MAX)).expect("written");
        files.add(&units(&["b.timer"])).expect("written");
        assert_eq!(whose(), Some(Whose::Ours(Timestamp::UNIX_EPOCH)), "it was taken back, and stopped once more");
        files.lift().expect("lifted");
        assert_eq!(whose(), Some(Whose::Brought), "a start that failed may have begun");
        assert_eq!(files.read(), Ok(Some(units(&["a.service", "b.timer"]))), "what runs not yet is not forgotten");
    }

    #[test]
    fn a_malformed_memory_is_said_and_a_new_stop_writes_it_anew() {
        let dir = tempfile::tempdir().expect("directory");
        let files = Remembered::in_dir(dir.path());
        fs::write(dir.path().join("sync-stopped"), "{").expect("written");
        assert!(files.read().is_err_and(|why| why.contains("delete it")));
        files.add(&units(&["a.service"])).expect("written");
        assert_eq!(files.read(), Ok(Some(units(&["a.service"]))));
    }
}
