//! The tasks that a daemon cannot do without: whoever owns them hears when one ends, which none should.
//!
//! A door that nobody answers any more, or a queue that nobody sends, would look like silence elsewhere; so the process
//! ends with a failure instead, and systemd starts it again. What a task does is in its own file.

use std::future::Future;

use tokio::task::JoinSet;

use super::start::Stopped;
use crate::host::guarded;

/// Tasks that go on for ever; dropped, they end.
#[derive(Debug, Default)]
pub struct Tasks {
    running: JoinSet<Ended>,
}

/// One of them has ended: its name, and how.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    name: &'static str,
    how: &'static str,
}

impl Tasks {
    /// Starts one that must not end; `name` is for the log.
    pub fn spawn(&mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(async move {
            let how = match guarded::unless_it_panics(work).await {
                Some(()) => "ended",
                None => "panicked",
            };
            Ended { name, how }
        });
    }

    /// Runs `main` to its end, or until one of the tasks ends.
    ///
    /// # Errors
    /// One line that names the task.
    pub async fn beside(&mut self, main: impl Future<Output = ()>) -> Result<(), Stopped> {
        tokio::select! {
            // An end that was asked for is no failure, whatever ended with it.
            biased;
            () = main => Ok(()),
            Some(ended) = self.running.join_next() => {
                let Ended { name, how } = ended.unwrap_or(Ended { name: "a task", how: "was taken away" });
                tracing::error!(task = name, how, "a task that must not end has ended; the process ends, to be started again");
                Err(Stopped::Cannot(format!(
                    "the task {name:?} {how}, which is a fault of this program; see the log before this line, and report it"
                )))
            }
        }
    }

    /// Ends them all.
    pub async fn shutdown(&mut self) {
        self.running.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_or_ends_ends_its_owner_with_its_name() {
        for (how, fails) in [("panicked", true), ("ended", false)] {
            let mut tasks = Tasks::default();
            tasks.spawn("well", pending());
            tasks.spawn("door", async move {
                tokio::task::yield_now().await;
                assert!(!fails, "on purpose");
            });
            let stopped = tasks.beside(pending()).await.expect_err("it is noticed").to_string();
            assert!(stopped.contains("\"door\"") && stopped.contains(how), "{stopped}");
        }
    }

    #[tokio::test]
    async fn an_end_that_was_asked_for_is_no_failure_even_when_a_task_ends_with_it() {
        let mut tasks = Tasks::default();
        tasks.spawn("door", async {});
        tokio::task::yield_now().await;
        assert!(tasks.beside(async {}).await.is_ok());
    }
}
