//! Reads failover.yaml: the one door to a [`Config`].
//!
//! Offline means without the network: files are looked at in both cases. The daemon loads online, where each secret
//! must be there; a command that only needs to know where the control socket lies loads offline.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::build::{self, Build};
use super::cursor::{Cursor, complete};
use super::keys::TOP;
use super::model::Config;
use super::remark::{Notes, Refused, Remark};
use super::tree::{Node, Value};
use super::{outside, tree, walk};

/// Largest file that is read: a hundred times a long one.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// More mistakes than this nobody reads at once.
pub const REMARKS_MAX: usize = 500;

/// What the configuration is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loading {
    /// To run: every secret must be there.
    Online,
    /// To look only: what is not on this machine is a warning.
    Offline,
}

/// How the files that the configuration points at are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Not at all: the text is all there is (a plan's frozen configuration, tests).
    Ignored,
    /// Those that exist.
    IfThere,
    /// A missing secret or certificate refuses the configuration.
    MustBeThere,
}

/// What the file's meaning depends on beside its text.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The host name, which `node` defaults to.
    pub host_name: String,
    /// How files are looked at.
    pub files: Files,
}

impl Surroundings {
    /// This host, for this purpose.
    pub fn here(how: Loading) -> Self {
        let files = match how {
            Loading::Online => Files::MustBeThere,
            Loading::Offline => Files::IfThere,
        };
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { host_name, files }
    }
}

/// A good configuration, and what is worth knowing about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// In the file's order.
    pub warnings: Vec<Remark>,
}

/// Reads and checks the file.
///
/// # Errors
/// Every mistake in it, each with line, column, key and fix.
pub fn load(path: &Path, how: Loading) -> Result<Loaded, Refused> {
    let text = read(path).map_err(|remark| Refused { file: path.to_owned(), remarks: vec![remark] })?;
    parse(&text, path, &Surroundings::here(how))
}

/// Checks a text as if it stood at `path`.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, path: &Path, surroundings: &Surroundings) -> Result<Loaded, Refused> {
    let refused = |mut remarks: Vec<Remark>| {
        remarks.sort_by(|a, b| (a.line, a.column, &a.key).cmp(&(b.line, b.column, &b.key)));
        remarks.dedup();
        if remarks.len() > REMARKS_MAX {
            let what = format!("holds {} more mistakes", remarks.len() - REMARKS_MAX);
            remarks.truncate(REMARKS_MAX);
            remarks.push(Remark::about_file(what, "mend these first"));
        }
        Refused { file: path.to_owned(), remarks }
    };
    if text.len() as u64 > CONFIG_BYTES_MAX {
        return Err(refused(vec![too_large()]));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut root, found) = tree::parse(text).map_err(|remark| refused(vec![remark]))?;
    let mut notes = Notes { errors: found, warnings: Vec::new() };
    notes.errors.extend(walk::walk(&root, &TOP));
    complete(&mut root, &TOP);
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut build = Build { file: &absolute, host_name: &surroundings.host_name, notes, outside: Vec::new() };
    let config = build_config(&root, text, &mut build);
    outside::look(&mut build, surroundings.files);
    let Notes { errors, mut warnings } = build.notes;
    match config {
        _ if !errors.is_empty() => Err(refused(errors)),
        Some(config) => {
            warnings.sort_by_key(|remark| (remark.line, remark.column));
            Ok(Loaded { config, warnings })
        }
        None => Err(refused(vec![Remark::about_file(
            "is refused without a reason, which is a fault of this program",
            "please report it, with the file but without its secrets",
        )])),
    }
}

fn build_config<'a>(root: &'a Node, text: &str, build: &mut Build<'a>) -> Option<Config> {
    // Anything but a map has been refused by `walk` with one remark that says it all.
    if !matches!(root.value, Value::Map(_)) {
        return None;
    }
    build::config(&Cursor::top(root, &TOP), text, build)
}

fn too_large() -> Remark {
    let what = format!("is larger than {} KiB", CONFIG_BYTES_MAX / 1024);
    Remark::about_file(what, "this is no failover.yaml; look at the path")
}

fn read(path: &Path) -> Result<String, Remark> {
    let cannot = |error: std::io::Error| {
        Remark::about_file(
            format!("cannot be read: {error}"),
            "write it (failover.yaml.example shows every key), or name it with --config",
        )
    };
    let file = File::open(path).map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(Remark::about_file("is no file", "name the file itself with --config"));
    }
    let mut bytes = Vec::new();
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = good.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
        let column = String::from_utf8_lossy(&good[start..]).chars().count() + 1;
        let place = super::remark::Place { line, column };
        Remark::new(place, "", "is not UTF-8 from here on", "save the file as UTF-8")
    })
}
