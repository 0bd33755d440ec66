//! Work on a disk, which may hang: in a thread of its own, and with an end.

use std::time::Duration;

/// What this came to within `limit`. What is no longer waited for goes on in its thread all the same.
///
/// # Errors
/// The work's own, or one line: it did not end in time, or broke off.
pub async fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    match tokio::time::timeout(limit, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err("the work on the disk broke off; see the log".to_owned()),
        Err(_) => Err(format!("the disk did not answer within {} s", limit.as_secs())),
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
    }
}
