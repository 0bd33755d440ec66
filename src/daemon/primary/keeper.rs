//! Keeps the agent's memory on disk, and sees what the guard has changed there. A disk that hangs holds up this thread only.

use std::convert::Infallible;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::turn::Input;
use crate::primary::{Event, Learned, Memory};
use crate::store::PrimaryFile;

/// How often the file is looked at: the guard's word must be heard soon.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the keeper is given: the agent's memory, and who waits until it is written.
pub type Job = (Memory, oneshot::Sender<()>);

/// Starts its thread, which ends when the returned sender is dropped. `known`: what the file held at the start.
/// The future is over when the thread is, however it ended.
pub fn start(
    file: PrimaryFile,
    known: Memory,
    inputs: mpsc::Sender<Input>,
) -> (Sender<Job>, impl Future<Output = ()> + Send + 'static) {
    let (jobs, waiting) = channel::<Job>();
    let (alive, ends) = oneshot::channel::<Infallible>();
    std::thread::spawn(move || {
        let _alive = alive;
        let mut base = known;
        let mut said = None;
        loop {
            let job = match waiting.recv_timeout(LOOK_EVERY) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut learned = Learned::default();
            let ours = job.as_ref().map(|(memory, _)| memory.clone());
            let known = ours.clone();
            let result = match ours {
                Some(ours) => file.update(|theirs| {
                    learned = Learned::between(&base, theirs);
                    *theirs = ours;
                    theirs.learn(learned.clone());
                }),
                None => file.read().inspect(|theirs| learned = Learned::between(&base, theirs)),
            };
            match result {
                Ok(_) => {
                    // What the agent has not heard of yet is told to it, and kept, until it says it itself.
                    if let Some(known) = known {
                        base = known;
                    }
                    said = None;
                }
                Err(why) if said.as_ref() != Some(&why) => {
                    tracing::error!(why, "the agent's memory cannot be kept; it goes on from what it knows");
                    said = Some(why);
                }
                Err(_) => {}
            }
            if let Some((_, written)) = job {
                let _ = written.send(());
            }
            if !learned.is_empty() && inputs.blocking_send(Input::Heard(Event::Learned(Box::new(learned)))).is_err() {
                return;
            }
        }
    });
    (jobs, async { drop(ends.await) })
}
