//! The heartbeat file's age: evidence that the sync carries something, never a vote.
//!
//! It reads the file's time only, which sync tools carry over from the primary; the content is the agent's business.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::within;
use crate::ports::{Answer, Probe};
use crate::units::{ProbeAnswer, ProbeResult};

/// Looks at the file's time.
pub struct HeartbeatProbe {
    /// The file.
    pub file: PathBuf,
    /// Older is stale.
    pub max_age: Duration,
    /// How long a look may take: the directory may lie on a network file system.
    pub timeout: Duration,
}

impl Probe for HeartbeatProbe {
    fn ask(&self) -> Answer<'_, ProbeResult> {
        Box::pin(within(self.timeout, async {
            let modified = tokio::fs::metadata(&self.file).await.and_then(|about| about.modified());
            match modified {
                Ok(time) => judge(time, SystemTime::now(), self.max_age),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    ProbeAnswer::Down(format!("{} does not exist", self.file.display()))
                }
                Err(error) => ProbeAnswer::Unknown(format!("cannot look at {}: {error}", self.file.display())),
            }
        }))
    }
}

fn judge(time: SystemTime, now: SystemTime, max_age: Duration) -> ProbeAnswer {
    match now.duration_since(time) {
        Ok(age) if age <= max_age => ProbeAnswer::up(format!("{} s old", age.as_secs())),
        Ok(age) => ProbeAnswer::Down(format!("{} s old, {} s allowed", age.as_secs(), max_age.as_secs())),
        Err(ahead) if ahead.duration() <= max_age => ProbeAnswer::up("just now"),
        Err(ahead) => ProbeAnswer::Up {
            seen: "from the future".to_owned(),
            warning: Some(format!("{} s ahead of this host's clock; compare the clocks", ahead.duration().as_secs())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_AGE: Duration = Duration::from_secs(120);

    #[test]
    fn a_young_file_is_up_and_an_old_one_is_down() {
        let now = SystemTime::now();
        assert_eq!(judge(now - Duration::from_secs(60), now, MAX_AGE), ProbeAnswer::up("60 s old"));
        assert!(matches!(judge(now - Duration::from_secs(121), now, MAX_AGE), ProbeAnswer::Down(_)));
    }

    #[test]
    fn a_file_from_the_future_is_up_with_a_warning() {
        let now = SystemTime::now();
        let answer = judge(now + Duration::from_secs(3600), now, MAX_AGE);
        assert!(matches!(answer, ProbeAnswer::Up { warning: Some(_), .. }), "{answer:?}");
    }

    #[tokio::test]
    async fn a_missing_file_is_down() {
        let dir = tempfile::tempdir().expect("directory");
        let probe = HeartbeatProbe { file: dir.path().join("beat"), max_age: MAX_AGE, timeout: MAX_AGE };
        assert!(matches!(probe.ask().await.answer, ProbeAnswer::Down(_)));
    }
}
