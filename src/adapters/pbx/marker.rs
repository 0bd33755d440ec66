//! The marker file: does this node mean to serve, and how far did it get?
//!
//! A unit's drop-in (`ConditionPathExists=`) starts the PBX only while the file exists; the drivers read its phase to
//! tell a PBX that runs the present data from one that somebody started with old data. It lies on a file system that
//! a reboot empties, and survives a restart of the robot.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;

use crate::units::NodeName;

/// More than any marker has: what is longer was not written by us.
const MARKER_BYTES_MAX: u64 = 1024;

/// How far the PBX got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its start with the present directory was begun, and not seen to end.
    Starting,
    /// It was seen to run the working directory.
    Started,
    /// Its stop was begun, and not proved: a PBX that runs is not meant to, and may have old data.
    Stopping,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Started => "started",
            Self::Stopping => "stopping",
        }
    }
}

/// What the file says: `PHASE NODE TIME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// How far the PBX got.
    pub phase: Phase,
    /// Who wrote it.
    pub node: NodeName,
    /// When this phase began.
    pub at: Timestamp,
}

impl Marker {
    /// Whether this node last meant to serve.
    pub fn means_to_serve(&self) -> bool {
        self.phase != Phase::Stopping
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.phase.name(), self.node, self.at)
    }
}

impl FromStr for Marker {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split_whitespace();
        let mut next = || words.next().ok_or(());
        let phase = match next()? {
            "starting" => Phase::Starting,
            "started" => Phase::Started,
            "stopping" => Phase::Stopping,
            _ => return Err(()),
        };
        Ok(Self { phase, node: next()?.parse().map_err(drop)?, at: next()?.parse().map_err(drop)? })
    }
}

/// Where the marker lies.
#[derive(Debug, Clone)]
pub struct MarkerFile {
    path: PathBuf,
}

impl MarkerFile {
    /// The file at `path`; nothing is read or written yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says; `None` when it is not there.
    ///
    /// A file that is not ours in form (made by hand with `touch`) still lets the unit start, and tells nothing of the
    /// data that it runs: it is read as an unproved stop, so that the next reload is a whole one.
    ///
    /// # Errors
    /// One line, when it is there and cannot be read.
    pub fn read(&self, node: &NodeName) -> Result<Option<Marker>, String> {
        let mut text = String::new();
        match File::open(&self.path).and_then(|file| file.take(MARKER_BYTES_MAX).read_to_string(&mut text)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() != ErrorKind::InvalidData => return Err(self.trouble("read", &error)),
            _ => {}
        }
        let by_hand = || Marker { phase: Phase::Stopping, node: node.clone(), at: Timestamp::UNIX_EPOCH };
        Ok(Some(text.parse().unwrap_or_else(|()| by_hand())))
    }

    /// Writes it whole or not at all; makes its directory, readable by all (0755), since the PBX's unit looks at it.
    ///
    /// # Errors
    /// One line: what failed, and what to do.
    pub fn write(&self, marker: &Marker) -> Result<(), String> {
        if let Some(directory) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(|e| self.trouble("make", &e))?;
        }
        let new = self.path.with_extension("new");
        let write = || {
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
            writeln!(file, "{marker}")?;
            file.sync_all()?;
            fs::rename(&new, &self.path)
        };
        write().map_err(|e| self.trouble("write", &e))
    }

    /// Removes it; only after the PBX's stop was proved. Gone already is well.
    ///
    /// # Errors
    /// One line: what failed, and what to do.
    pub fn clear(&self) -> Result<(), String> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.trouble("remove", &error)),
            _ => Ok(()),
        }
    }

    fn trouble(&self, what: &str, error: &std::io::Error) -> String {
        let directory = self.path.parent().unwrap_or(&self.path).display();
        format!("cannot {what} the marker {}: {error}; the robot needs to write in {directory}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn node() -> NodeName {
        "pbx-b".parse().expect("a node name")
    }

    #[test]
    fn what_was_written_is_read_and_its_directory_can_be_entered_by_all() {
        let dir = tempfile::tempdir().expect("directory");
        let file = MarkerFile::at(dir.path().join("run/pbx-failover/active"));
        assert_eq!(file.read(&node()), Ok(None));
        let marker = Marker { phase: Phase::Started, node: node(), at: Timestamp::UNIX_EPOCH };
        file.write(&marker).expect("written");
        file.write(&marker).expect("written again");
        assert_eq!(file.read(&node()), Ok(Some(marker)));
        let mode = fs::metadata(file.path().parent().expect("directory")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        file.clear().expect("removed");
        file.clear().expect("removed again");
        assert_eq!(file.read(&node()), Ok(None));
    }

    #[test]
    fn a_marker_made_by_hand_is_not_believed() {
        let dir = tempfile::tempdir().expect("directory");
        let file = MarkerFile::at(dir.path().join("active"));
        for content in [&b""[..], b"yes\n", b"started", b"\xff\xfe\x00"] {
            fs::write(file.path(), content).expect("written");
            let marker = file.read(&node()).expect("readable").expect("there");
            assert!(!marker.means_to_serve(), "{content:?}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_told_with_advice() {
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join("file"), "").expect("written");
        let file = MarkerFile::at(dir.path().join("file/active"));
        let marker = Marker { phase: Phase::Starting, node: node(), at: Timestamp::UNIX_EPOCH };
        let line = file.write(&marker).expect_err("a file is no directory");
        assert!(line.contains("the robot needs to write in"), "{line}");
    }
}
