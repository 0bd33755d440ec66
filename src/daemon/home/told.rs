//! What is told of the ledger: in `status`, and by the command `ledger`, which needs no daemon.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::adapters::data::ledger::{Ending, Ledger};
use crate::adapters::rsync::NO_REMARK;
use crate::config::Config;
use crate::data::ledger::Entry;
use crate::data::{Class, shown};
use crate::host::{clock, disk};
use crate::units::ledger::{Ledger as Told, Phase};

/// A small file is read within so long, or its disk hangs.
const READ_MAX: Duration = Duration::from_secs(2);
/// Whoever asks for the list waits so long for a look.
const LOOK_MAX: Duration = Duration::from_secs(300);

/// The open ledger in numbers.
///
/// # Errors
/// One line.
pub async fn of(config: &Config) -> Result<Option<Told>, String> {
    open(&Arc::new(Ledger::new(config))).await
}

pub(super) async fn open(ledger: &Arc<Ledger>) -> Result<Option<Told>, String> {
    let ledger = Arc::clone(ledger);
    disk::within(READ_MAX, move || ledger.told()).await
}

/// One entry, for people and for JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// `added`, `changed`, `removed`.
    pub change: &'static str,
    /// What it is.
    pub class: Class,
    /// Bytes.
    pub bytes: u64,
    /// Its whole path; what is no plain text in it is written `%0A`.
    pub path: String,
    /// The same as a list for rsync has it.
    #[serde(skip)]
    pub name: Vec<u8>,
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Whole {
    /// In numbers; absent: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Told>,
    /// Each file that was changed here and is not at home.
    pub files: Vec<File>,
    /// Each file that both sides changed: where it is, and how ours is called at home.
    pub kept_twice: Vec<String>,
}

/// The open ledger after a fresh look, or the last that ended; only of this class.
///
/// # Errors
/// One line.
pub async fn whole(config: &Config, class: Option<Class>) -> Result<Whole, String> {
    let ledger = Ledger::new(config);
    disk::within(LOOK_MAX, move || {
        let mut told = ledger.last_told()?;
        if told.as_ref().is_some_and(|told| told.phase == Phase::Serving && !told.ended) {
            match ledger.look(clock::now().wall) {
                Ok(looked) => told = looked,
                // The daemon looks too, and not everybody may write there: then its last list is told.
                Err(why) => told = told.map(|told| Told { trouble: Some(why), ..told }),
            }
        }
        let mut files = Vec::new();
        let (entries, dirs) = ledger.last_entries()?;
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                // Of one that ended it is no matter any more.
                Err(_) if told.as_ref().is_none_or(|told| told.ended) => break,
                Err(why) => return Err(why),
            };
            if class.is_none_or(|class| class == entry.class) {
                files.push(File {
                    change: entry.name(),
                    class: entry.class,
                    bytes: entry.now.line.about.size,
                    path: shown(&whole_path(&dirs, &entry)),
                    name: if entry.waits() { name(&dirs, &entry) } else { Vec::new() },
                });
            }
        }
        Ok(Whole { ledger: told, files, kept_twice: ledger.twice() })
    })
    .await
}

/// Ends the ledger by a person's word.
///
/// # Errors
/// One line.
pub async fn end(config: &Config) -> Result<String, String> {
    let ledger = Arc::new(Ledger::new(config));
    match open(&ledger).await {
        Ok(None) => return Ok("there is no ledger".to_owned()),
        // Where no look succeeds it is a person's.
        Ok(Some(told)) if told.phase == Phase::Serving && told.looked_at.is_some() && told.trouble.is_none() => {
            return Err("this node serves, or has not given the service back: its ledger is needed".to_owned());
        }
        // One that cannot be read is put by as well.
        Ok(Some(_)) | Err(_) => {}
    }
    disk::within(LOOK_MAX, move || ledger.end(Ending::Word)).await?;
    Ok("the ledger has ended; what waited in it is not carried any more (`pbx-failover ledger` shows it still)"
        .to_owned())
}

/// The name of an entry in a list: below its working directory; where there are several, from `/` on, without that.
pub(super) fn name(dirs: &[PathBuf], entry: &Entry) -> Vec<u8> {
    let whole;
    let name = if let [_] = dirs {
        &entry.now.line.path[..]
    } else {
        whole = whole_path(dirs, entry);
        let begin = whole.iter().position(|byte| *byte != b'/').unwrap_or_default();
        &whole[begin..]
    };
    let remark = if matches!(name.first(), Some(b'#' | b';')) { NO_REMARK } else { b"" };
    [remark, name].concat()
}

fn whole_path(dirs: &[PathBuf], entry: &Entry) -> Vec<u8> {
    let line = &entry.now.line;
    let dir = dirs.get(line.dir).map(|dir| dir.as_os_str().as_bytes()).unwrap_or_default();
    [dir, b"/", &line.path].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Line;
    use crate::data::ledger::{Change, Known};
    use crate::data::manifest::{About, Kind};

    #[test]
    fn no_name_in_a_list_is_a_remark_to_rsync() {
        let about = About { kind: Kind::File, size: 1, modified: (1, 0), mode: 0o644 };
        let entry = |path: &[u8]| {
            let line = Line { dir: 0, path: path.to_vec(), about, digest: None };
            Entry { change: Change::Added, class: Class::Other, now: Known { line, changed: (1, 0) } }
        };
        let dirs = [PathBuf::from("/var/lib/pbx")];
        let named = |path: &[u8]| String::from_utf8(name(&dirs, &entry(path))).expect("text");
        assert_eq!([&b"#1.wav"[..], b";x", b"a/#1"].map(named), ["./#1.wav", "./;x", "a/#1"]);
        let two = [PathBuf::from("/#odd"), PathBuf::from("/b")];
        assert_eq!(name(&two, &entry(b"x")), b"./#odd/x");
    }
}
