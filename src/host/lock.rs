//! Waits for a file's lock (flock(2)) that another process holds, for as long as the caller sees a reason to.
//!
//! The lock ends with the file, and so with the process: a killed one leaves none behind.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// Takes it, or asks again for as long as `go_on`, told how long that has taken, says so. Blocks the thread.
///
/// # Errors
/// [`ErrorKind::WouldBlock`]: another holds it. Any other: it cannot be locked.
pub fn take(file: &File, mut go_on: impl FnMut(Duration) -> bool) -> io::Result<()> {
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if go_on(began.elapsed()) => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_of_another_is_waited_for_while_there_is_a_reason() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("lock");
        let mut holder = Some(File::create(&path).expect("made"));
        take(holder.as_ref().expect("held"), |_| false).expect("nobody holds it");
        let ours = File::open(&path).expect("opened");
        let refused = take(&ours, |_| false).expect_err("held by the other");
        assert_eq!(refused.kind(), ErrorKind::WouldBlock);
        let mut asked = 0;
        let taken = take(&ours, |_| {
            asked += 1;
            drop(holder.take());
            true
        });
        assert!(taken.is_ok() && asked == 1, "{taken:?}, asked {asked} times");
    }
}
