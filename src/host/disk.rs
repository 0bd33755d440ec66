//! Work on a disk, which may hang: in a thread of its own, and with an end.

use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

/// What this came to within `limit`. What is no longer waited for goes on in its thread all the same.
///
/// # Errors
/// The work's own, or one line: it did not end in time, or broke off.
pub async fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    if limit.is_zero() {
        return Err("the time for it was over before the disk was asked".to_owned());
    }
    match tokio::time::timeout(limit, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err("the work on the disk broke off; see the log".to_owned()),
        Err(_) => Err(format!("the disk did not answer within {} s", limit.as_secs().max(1))),
    }
}

/// The same for what is asked again and again: in a thread of its own, one at a time behind `gate`. Nothing ends a thread
/// that waits for a file system, and the runtime has only so many, and would wait for one of its own as the robot ends.
///
/// # Errors
/// What became of it instead, to follow its name.
pub async fn alone<T: Send + 'static>(
    gate: &'static Semaphore,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let deadline = Instant::now() + limit;
    let hangs = || format!("has not ended within {limit:?}");
    let Ok(Ok(turn)) = timeout_at(deadline, gate.acquire()).await else { return Err(hangs()) };
    let (tell, told) = oneshot::channel();
    let working = thread::Builder::new().name("disk".to_owned()).spawn(move || {
        let done = work();
        drop(turn);
        // Whoever asked may have given up.
        let _ = tell.send(done);
    });
    if let Err(error) = working {
        return Err(format!("was given no thread: {error}"));
    }
    match timeout_at(deadline, told).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err("broke off; see the log".to_owned()),
        Err(_) => Err(hangs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_waited_for_no_longer_than_that_and_a_panic_is_one_line() {
        let (done, hangs) = std::sync::mpsc::channel::<()>();
        let hanging = within(Duration::from_secs(5), move || hangs.recv().map_err(|error| error.to_string()));
        let clock = async { tokio::time::advance(Duration::from_secs(6)).await };
        assert_eq!(tokio::join!(hanging, clock).0, Err("the disk did not answer within 5 s".to_owned()));
        drop(done);
        let broken = within(Duration::from_secs(5), || -> Result<(), String> { panic!("as the test wants") }).await;
        assert_eq!(broken, Err("the work on the disk broke off; see the log".to_owned()));
        assert_eq!(within(Duration::from_secs(5), || Ok(7)).await, Ok(7));
        let late = within(Duration::ZERO, || Ok(7)).await;
        assert!(late.is_err_and(|why| why.starts_with("the time for it was over")), "no fault of the disk");
    }
}
