//! Hints that something changed in the working directories, as the kernel tells them (inotify).
//!
//! A hint is no truth: network file systems tell nothing, events get lost, and a large tree may have more directories than
//! may be watched. Whoever waits here looks again and again all the same.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;

use crate::data::Pattern;
use crate::units::data::Watching;

/// Watches once somebody waits.
pub struct Hints {
    dirs: Vec<PathBuf>,
    ignore: Vec<Pattern>,
    begun: AtomicBool,
    told: watch::Sender<u64>,
    heard: tokio::sync::Mutex<watch::Receiver<u64>>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    watching: Watching,
    /// Held so that it goes on.
    _watcher: Option<RecommendedWatcher>,
}

impl Hints {
    /// Hints about these directories, but for what is not looked at.
    pub fn new(dirs: Vec<PathBuf>, ignore: Vec<Pattern>) -> Self {
        let (told, heard) = watch::channel(0);
        let state = Arc::default();
        Self { dirs, ignore, begun: AtomicBool::new(false), told, heard: tokio::sync::Mutex::new(heard), state }
    }

    /// How changes are noticed now.
    pub fn watching(&self) -> Watching {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).watching.clone()
    }

    /// Returns when the kernel has told of a change since the last time; where it tells nothing, never.
    pub async fn changed(&self) {
        if !self.begun.swap(true, Ordering::SeqCst) {
            let (dirs, state) = (self.dirs.clone(), Arc::clone(&self.state));
            let tell = teller(self.dirs.clone(), self.ignore.clone(), self.told.clone());
            // It goes through the whole tree, and nobody waits for that.
            tokio::task::spawn_blocking(move || begin(&dirs, tell, &state));
        }
        // Its sender lives as long as this does.
        let _ = self.heard.lock().await.changed().await;
    }
}

fn teller(
    dirs: Vec<PathBuf>,
    ignore: Vec<Pattern>,
    told: watch::Sender<u64>,
) -> impl Fn(notify::Result<Event>) + Send + 'static {
    move |event| {
        if event.is_ok_and(|event| is_a_change(event.kind) && event.paths.iter().any(|at| counts(at, &dirs, &ignore))) {
            told.send_modify(|n| *n += 1);
        }
    }
}

/// What a look itself does to the tree is none: it opens directories and files.
fn is_a_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) => true,
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        // Lost events are no hint: they would be lost again while the look goes through the tree.
        EventKind::Any | EventKind::Other => false,
    }
}

fn counts(at: &Path, dirs: &[PathBuf], ignore: &[Pattern]) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let below = dirs.iter().find_map(|dir| at.strip_prefix(dir).ok());
    below.is_none_or(|below| !ignore.iter().any(|pattern| pattern.matches(below.as_os_str().as_bytes())))
}

fn begin(dirs: &[PathBuf], tell: impl Fn(notify::Result<Event>) + Send + 'static, state: &Mutex<State>) {
    let config = notify::Config::default().with_follow_symlinks(false);
    let watch = || {
        let mut watcher = RecommendedWatcher::new(tell, config)?;
        dirs.iter().try_for_each(|dir| watcher.watch(dir, RecursiveMode::Recursive))?;
        Ok(watcher)
    };
    let begun = match watch() {
        Ok(watcher) => State { watching: Watching { by_inotify: true, why_not: None }, _watcher: Some(watcher) },
        Err(error) => {
            // Half a watch is none: it would take watches from others and tell of half.
            let why = advice(&error);
            tracing::warn!(
                why,
                "changes of the working directory are not told at once: it is looked at again and again"
            );
            State { watching: Watching { by_inotify: false, why_not: Some(why) }, _watcher: None }
        }
    };
    *state.lock().unwrap_or_else(PoisonError::into_inner) = begun;
}

fn advice(error: &notify::Error) -> String {
    match error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "more directories than may be watched; raise fs.inotify.max_user_watches".to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    async fn is_told(hints: &Hints) -> bool {
        tokio::time::timeout(SOON, hints.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn a_change_is_told_also_in_a_new_directory_and_neither_a_look_nor_an_ignored_log_is_one() {
        let dir = tempfile::tempdir().expect("directory");
        let ignore = vec![Pattern::new("log/").expect("a pattern")];
        fs::create_dir(dir.path().join("log")).expect("directory");
        let hints = Hints::new(vec![dir.path().to_owned()], ignore);
        assert!(!hints.watching().by_inotify, "nobody waits yet");
        // The first wait begins the watch.
        assert!(tokio::time::timeout(Duration::from_millis(1), hints.changed()).await.is_err());
        let until = std::time::Instant::now() + SOON;
        while !hints.watching().by_inotify {
            assert!(std::time::Instant::now() < until, "{:?}", hints.watching());
            tokio::task::yield_now().await;
        }
        // What is told comes in its order: had one of these been told, it would be before the last.
        fs::write(dir.path().join("log/full"), "x").expect("log");
        assert!(fs::read_dir(dir.path()).expect("listed").count() > 0);
        let before = *hints.told.borrow();
        fs::create_dir(dir.path().join("new")).expect("directory");
        assert!(is_told(&hints).await);
        assert_eq!(before, 0);
    }

    #[tokio::test]
    async fn what_cannot_be_watched_says_why_and_tells_nothing() {
        let dir = tempfile::tempdir().expect("directory");
        let hints = Hints::new(vec![dir.path().join("gone")], Vec::new());
        assert!(tokio::time::timeout(Duration::from_millis(1), hints.changed()).await.is_err());
        let until = std::time::Instant::now() + SOON;
        while hints.watching().why_not.is_none() {
            assert!(std::time::Instant::now() < until, "{:?}", hints.watching());
            tokio::task::yield_now().await;
        }
        assert!(!hints.watching().by_inotify);
    }

    #[test]
    fn opening_and_reading_is_no_change_and_a_finished_write_is() {
        assert!(is_a_change(EventKind::Access(AccessKind::Close(AccessMode::Write))));
        assert!(!is_a_change(EventKind::Access(AccessKind::Open(AccessMode::Any))));
        assert!(!is_a_change(EventKind::Other));
    }
}
