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
                let touched = survey.touched.as_ref().map(|(at, _)| *at);
                let became = inner.voucher.seen(survey.tree.as_ref(), touched, settle, clock::now().wall);
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
