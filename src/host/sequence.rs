//! The sequence of this host's beats: a number that rises with each, also over a restart.
//!
//! It is the wall clock in microseconds, or one more than the last number where the clock was set back; a file in the
//! state directory remembers the last one. The clock alone would stand still after a step back, and every beat until it
//! had caught up would look replayed. The file alone would begin anew on a host whose disk was lost; with the clock even
//! such a host goes on above what others have heard of it. So the file may be lost, and need not reach the disk at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::clock;
use crate::units::beat::Speaker;

/// The file in the state directory.
const FILE: &str = "beat-sequence";
/// That of `check`, so that two programs never count on from one file.
const FILE_OF_CHECK: &str = "beat-sequence-check";

/// The file is written at most this often, in microseconds; numbers in between are stepped over after a restart.
const SAVED_EVERY: u64 = 1_000_000;

/// Gives out the numbers.
#[derive(Debug)]
pub struct Sequence {
    speaker: Speaker,
    file: PathBuf,
    last: Mutex<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    told: u64,
    saved: u64,
}

impl Sequence {
    /// The numbers of this host's daemon.
    pub fn open(state_dir: &Path) -> Self {
        Self::of(Speaker::Daemon, state_dir)
    }

    /// Goes on where the speaker's file in this state directory ends; none, or none that can be read, is a beginning.
    pub fn of(speaker: Speaker, state_dir: &Path) -> Self {
        let file = state_dir.join(match speaker {
            Speaker::Daemon => FILE,
            Speaker::Check => FILE_OF_CHECK,
        });
        let saved = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0_u64);
        // Above whatever was told after the last write, where the clock alone is not.
        let told = saved.saturating_add(if saved == 0 { 0 } else { SAVED_EVERY });
        let told = if told > now() { told } else { saved };
        Self { speaker, file, last: Mutex::new(Last { told, saved }) }
    }

    /// Whose numbers they are.
    pub fn speaker(&self) -> Speaker {
        self.speaker
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.told = last.told.saturating_add(1).max(now());
        if last.told - last.saved.min(last.told) >= SAVED_EVERY {
            last.saved = last.told;
            self.save(last.told);
        }
        last.told
    }

    /// Off the caller's thread where there is a runtime: a disk that hangs must not hold a beat up.
    fn save(&self, number: u64) {
        let file = self.file.clone();
        // What cannot be written is made up for by the clock.
        let write = move || {
            let new = file.with_extension("new");
            let _ = fs::write(&new, format!("{number}\n")).and_then(|()| fs::rename(&new, &file));
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(write)),
            Err(_) => write(),
        }
    }
}

/// The wall clock, in microseconds.
fn now() -> u64 {
    u64::try_from(clock::now().wall.as_microsecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_with_each_beat_and_over_a_restart() {
        let dir = tempfile::tempdir().expect("directory");
        let sequence = Sequence::open(dir.path());
        let told: Vec<u64> = (0..1000).map(|_| sequence.next()).collect();
        assert!(told.windows(2).all(|pair| pair[0] < pair[1]), "{told:?}");
        let again = Sequence::open(dir.path());
        assert!(again.next() > told[999]);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_turn_it_back() {
        let dir = tempfile::tempdir().expect("directory");
        let ahead = now() + 3_600_000_000;
        fs::write(dir.path().join(FILE), format!("{ahead}\n")).expect("file");
        let first = Sequence::open(dir.path()).next();
        assert!(first > ahead + SAVED_EVERY, "{first}: numbers after the last write may have been told");
        assert!(Sequence::open(dir.path()).next() > first);
    }

    #[test]
    fn a_lost_or_damaged_file_is_made_up_for_by_the_clock() {
        let dir = tempfile::tempdir().expect("directory");
        let before = Sequence::open(dir.path()).next();
        fs::write(dir.path().join(FILE), "\0\0\0").expect("file");
        assert!(Sequence::open(dir.path()).next() > before);
        assert!(Sequence::open(&dir.path().join("nowhere")).next() > before);
    }
}
