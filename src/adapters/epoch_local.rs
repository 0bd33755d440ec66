//! The epoch store `local`: one file in the state directory, replaced whole.
//!
//! It protects against nothing but this node's own forgetfulness: the other node does not see it. One process holds
//! the state directory, so a lock inside the process is enough.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ports::{Answer, EpochStore};
use crate::units::epoch::RECORD_BYTES_MAX;
use crate::units::{Advance, EpochRead, EpochRecord, EpochSeen};

/// The file's name.
pub const FILE: &str = "epoch";

/// The store.
#[derive(Debug, Clone)]
pub struct LocalEpoch {
    dir: PathBuf,
    swapping: Arc<Mutex<()>>,
}

impl LocalEpoch {
    /// The file `epoch` in `state_dir`.
    pub fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.to_owned(), swapping: Arc::default() }
    }

    /// Runs `work` where blocking harms nobody: a sync may take seconds on a busy disk.
    async fn apart<T: Send + 'static>(&self, work: fn(&Path) -> Result<T, String>) -> Result<T, String> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _alone = this.swapping.lock().unwrap_or_else(PoisonError::into_inner);
            work(&this.dir)
        });
        done.await.unwrap_or_else(|e| Err(format!("the epoch file in {} could not be used: {e}", self.dir.display())))
    }
}

impl EpochStore for LocalEpoch {
    fn read(&self) -> Answer<'_, EpochRead> {
        Box::pin(self.apart(|dir| read(&dir.join(FILE))))
    }

    fn advance<'a>(&'a self, from: &'a EpochSeen, to: &'a EpochRecord) -> Answer<'a, Advance> {
        Box::pin(async move {
            let (this, from, to) = (self.clone(), from.clone(), to.clone());
            let swapped = tokio::task::spawn_blocking(move || {
                let _alone = this.swapping.lock().unwrap_or_else(PoisonError::into_inner);
                advance(&this.dir, &from, &to)
            });
            match swapped.await {
                Ok(Ok(advance)) => advance,
                Ok(Err(advice)) => Advance::Unknown(advice),
                Err(e) => Advance::Unknown(format!("the epoch file could not be written: {e}")),
            }
        })
    }

    fn conformance(&self) -> Answer<'_, Result<(), String>> {
        Box::pin(self.apart(|dir| {
            let probe = dir.join(format!("{FILE}.probe"));
            replace(dir, &probe, "probe\n")
                .and_then(|()| fs::remove_file(&probe))
                .map_err(|e| format!("the epoch cannot be kept in {}: {e}; let the robot write there", dir.display()))
        }))
    }

    fn fingerprint(&self) -> String {
        format!("local {}", self.dir.join(FILE).display())
    }
}

fn read(file: &Path) -> EpochRead {
    let unusable =
        |why: &str| format!("the epoch file {} {why}; look at it, then correct it or move it away", file.display());
    let mut text = String::new();
    let limit = RECORD_BYTES_MAX as u64 + 2;
    match File::open(file).and_then(|file| file.take(limit).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(EpochSeen::Absent),
        Err(e) => return Err(unusable(&format!("cannot be read: {e}"))),
    }
    // The line end is written last: without it the text may be half of one.
    let raw = text.strip_suffix('\n').ok_or_else(|| unusable("is cut off, or no epoch"))?;
    let record = raw.parse::<EpochRecord>().map_err(|e| unusable(&format!("is damaged: {e}")))?;
    Ok(EpochSeen::Held { record, raw: raw.to_owned() })
}

fn advance(dir: &Path, from: &EpochSeen, to: &EpochRecord) -> Result<Advance, String> {
    let file = dir.join(FILE);
    let now = read(&file)?;
    if now.record().is_some_and(|record| record.id == to.id && record.number == to.number && record.holder == to.holder)
    {
        return Ok(Advance::Done);
    }
    if now != *from {
        return Ok(Advance::Lost(now));
    }
    replace(dir, &file, &format!("{to}\n"))
        .map_err(|e| format!("cannot write {}: {e}; make room there and let the robot write", file.display()))?;
    match read(&file)? {
        seen if seen == EpochSeen::held(to.clone()) => Ok(Advance::Done),
        seen => Ok(Advance::Lost(seen)),
    }
}

/// The old text or the new one, never half of it, whenever the process or the power dies: write beside it, sync,
/// rename over it, sync the directory.
fn replace(dir: &Path, file: &Path, text: &str) -> io::Result<()> {
    let beside = file.with_extension("new");
    let mut new = File::create(&beside)?;
    new.write_all(text.as_bytes())?;
    new.sync_all()?;
    fs::rename(&beside, file)?;
    File::open(dir)?.sync_all()
}
