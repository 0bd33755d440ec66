//! The primary's side of vouching: looks at its own working directories, which are never written, and vouches for what
//! two looks in a row saw.
//!
//! What is vouched for is `data::vouch`'s to say; the agent puts it into its beat. The backup's side is `compare`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::gate::{LOOK_MAX, heartbeats, rules_of};
use super::hints::Hints;
use super::look::{Looker, Subject};
use crate::config::Config;
use crate::data::survey::Survey;
use crate::data::vouch::{Vouched, Voucher};
use crate::host::clock;
use crate::units::tree::TreeTold;

/// The working directories of one configuration.
pub struct VouchedDirs {
    inner: Arc<Mutex<Inner>>,
    settle: Duration,
    hints: Hints,
}

/// What a look came to.
pub struct Looked {
    /// What became of it.
    pub became: Vouched,
    /// What is vouched for now.
    pub told: Option<TreeTold>,
    /// What could not be read, so that nothing is vouched for.
    pub trouble: Option<String>,
}

struct Inner {
    looker: Looker,
    voucher: Voucher,
}

impl VouchedDirs {
    /// Those of this configuration.
    pub fn new(config: &Config) -> Self {
        let sync = &config.sync;
        let hints = Hints::new(config.pbx.working_dirs.clone(), sync.ignore.clone());
        let looker = Looker::new(Subject::of(config)).passing_over(heartbeats(config));
        let inner = Inner { looker, voucher: Voucher::new(rules_of(config)) };
        Self { inner: Arc::new(Mutex::new(inner)), settle: sync.settle, hints }
    }

    /// Looks once, off the loop; never two looks at once. `None`: the file system does not answer.
    pub async fn look(&self) -> Option<Looked> {
        let (inner, settle) = (Arc::clone(&self.inner), self.settle);
        let look = async {
            let mut inner = inner.lock_owned().await;
            tokio::task::spawn_blocking(move || {
                let survey = inner.looker.look();
                // A busy primary records calls all day: what is no configuration says nothing of what is vouched for.
                let became = inner.voucher.seen(survey.tree.as_ref(), survey.configured, settle, clock::now().wall);
                Looked { became, told: inner.voucher.told(), trouble: trouble(&survey) }
            })
            .await
        };
        tokio::time::timeout(LOOK_MAX, look).await.ok()?.ok()
    }

    /// Returns when the kernel has told of a change; where it does not tell, never.
    pub async fn changed(&self) {
        self.hints.changed().await;
    }
}

fn trouble(survey: &Survey) -> Option<String> {
    let (place, why) = survey.troubles.named.first().filter(|_| survey.tree.is_none())?;
    Some(format!("{place}: {why}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data::Classes;

    fn dirs(dir: &std::path::Path, settle: Duration) -> VouchedDirs {
        let subject = Subject { dirs: vec![dir.to_owned()], classes: Classes::default(), ignore: Vec::new() };
        let hints = Hints::new(subject.dirs.clone(), Vec::new());
        let inner = Inner { looker: Looker::new(subject), voucher: Voucher::new("r".into()) };
        VouchedDirs { inner: Arc::new(Mutex::new(inner)), settle, hints }
    }

    #[tokio::test]
    async fn a_primary_that_records_calls_all_day_vouches_for_its_configuration() {
        let dir = tempfile::tempdir().expect("directory");
        fs::create_dir(dir.path().join("recordings")).expect("directory");
        let written = fs::File::create(dir.path().join("a.conf")).expect("file");
        let hour = Duration::from_secs(3600);
        let busy = dirs(dir.path(), hour);
        busy.look().await.expect("looked");
        assert_eq!(busy.look().await.expect("looked").became, Vouched::NotYet, "written a moment ago");
        drop(written);
        // The clock cannot be waited for: here the configuration lies further back than what is recorded.
        let settle = Duration::from_millis(300);
        let busy = dirs(dir.path(), settle);
        let until = std::time::Instant::now() + Duration::from_secs(20);
        let news = loop {
            fs::write(dir.path().join("recordings/a.wav"), "RIFF").expect("a call");
            let looked = busy.look().await.expect("looked");
            if looked.became == Vouched::News || std::time::Instant::now() > until {
                break looked;
            }
            tokio::task::yield_now().await;
        };
        assert!(news.became == Vouched::News && news.told.is_some());
    }

    #[tokio::test]
    async fn an_agent_that_cannot_read_everything_any_more_tells_of_no_state() {
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join("a.conf"), "a").expect("file");
        let dirs = dirs(dir.path(), Duration::ZERO);
        dirs.look().await.expect("looked");
        assert!(dirs.look().await.expect("looked").told.is_some());
        fs::remove_dir_all(dir.path()).expect("gone");
        let looked = dirs.look().await.expect("looked");
        assert!(looked.told.is_none() && looked.trouble.is_some());
    }
}
