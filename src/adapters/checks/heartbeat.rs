//! The heartbeat file: evidence that the sync carries something, never a vote.
//!
//! Where the primary's agent is known (`peer`), the beat in the file is judged: its seal, its protocol, its number, which
//! never falls, and its own time, which no sync tool changes. Without a token only the file's time is left, which sync
//! tools carry over from the primary. What writes the file is `adapters::beat_file`.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use rustix::fs::OFlags;
use secrecy::ExposeSecret;

use super::within;
use crate::config::Secret;
use crate::decision::beats::{self, DRIFT_WARN, Expected, Freshness};
use crate::host::{clock, secret};
use crate::ports::{Answer, Probe};
use crate::units::tree::BeatSeen;
use crate::units::{Beat, Heard, NodeName, ProbeAnswer, ProbeResult};
use crate::wire::sealed::{self, Purpose, SEALED_BYTES_MAX};

/// Looks at the file.
pub struct HeartbeatProbe {
    /// The file.
    pub file: PathBuf,
    /// Older is stale.
    pub max_age: Duration,
    /// How long a look may take: the directory may lie on a network file system.
    pub timeout: Duration,
    /// Who beats, when that can be proved.
    pub teller: Option<Arc<Teller>>,
}

/// Whose beats are believed.
pub struct Teller {
    node: NodeName,
    token: Secret,
    /// The highest number that was seen.
    seen: Mutex<u64>,
}

impl Teller {
    /// This node, with this token.
    pub fn new(node: NodeName, token: Secret) -> Self {
        Self { node, token, seen: Mutex::new(0) }
    }

    /// Judges what the file holds.
    fn judge(&self, text: &str, now: Timestamp, max_age: Duration) -> ProbeAnswer {
        let token = match secret::read(&self.token) {
            Ok(token) => token,
            Err(why) => return ProbeAnswer::Unknown(format!("token: {why}")),
        };
        let opened = match sealed::open(text, Purpose::BeatFile, token.expose_secret()) {
            Ok(opened) => opened,
            Err(why) => return ProbeAnswer::Down(format!("it is not believed: {why}")),
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let age_max = SignedDuration::try_from(max_age).unwrap_or(SignedDuration::MAX);
        let freshness = Freshness::Sequence { seen: *seen, age_max };
        let expected = Expected { node: &self.node, freshness, asked: now, came: now };
        match beats::read(opened).and_then(|beat| beats::believe(beat, &expected)) {
            Ok(heard) => {
                *seen = heard.beat.sequence;
                told(&heard, now)
            }
            Err(why) => ProbeAnswer::Down(format!("it is not believed: {why}")),
        }
    }
}

/// A believed beat, in a few words.
fn told(heard: &Heard, now: Timestamp) -> ProbeAnswer {
    let age = now.duration_since(heard.beat.time).as_secs().max(0);
    ProbeAnswer::Up {
        seen: format!("{age} s old{}", pbx(&heard.beat)),
        warning: (heard.drift > DRIFT_WARN).then(|| format!("{}: set both by NTP", heard.clock())),
    }
}

fn pbx(beat: &Beat) -> String {
    let Some(pbx) = &beat.pbx else { return String::new() };
    let count = |count: Option<u32>, of: &str| count.map_or(String::new(), |count| format!(", {count} {of}"));
    format!(": its PBX {}{}{}", pbx.condition, count(pbx.registrations, "phones"), count(pbx.calls, "calls"))
}

impl Probe for HeartbeatProbe {
    fn ask(&self) -> Answer<'_, ProbeResult> {
        Box::pin(within(self.timeout, async {
            let (file, teller, max_age) = (self.file.clone(), self.teller.clone(), self.max_age);
            let look = tokio::task::spawn_blocking(move || look(&file, teller.as_deref(), max_age));
            look.await.unwrap_or_else(|_| ProbeAnswer::Unknown("the look at the file ended early".to_owned()))
        }))
    }
}

fn look(file: &Path, teller: Option<&Teller>, max_age: Duration) -> ProbeAnswer {
    let answer = match teller {
        Some(teller) => read(file).map(|text| teller.judge(&text, clock::now().wall, max_age)),
        None => std::fs::metadata(file)
            .and_then(|about| about.modified())
            .map(|time| by_its_time(time, SystemTime::now(), max_age)),
    };
    answer.unwrap_or_else(|error| match error.kind() {
        ErrorKind::NotFound => ProbeAnswer::Down(format!("{} does not exist", file.display())),
        _ => ProbeAnswer::Unknown(format!("cannot look at {}: {error}", file.display())),
    })
}

/// What lies there now, as the file itself tells; `None` where nothing is to be believed.
pub fn seen(file: &Path, node: &NodeName, token: Option<&Secret>) -> Option<BeatSeen> {
    let about = std::fs::metadata(file).ok()?;
    let came = Timestamp::new(about.ctime(), i32::try_from(about.ctime_nsec()).ok()?).ok()?;
    let Some(token) = token else {
        let written = Timestamp::try_from(about.modified().ok()?).ok()?;
        return Some(BeatSeen { written, came, tree: None });
    };
    let (text, token) = (read(file).ok()?, secret::read(token).ok()?);
    let opened = sealed::open(&text, Purpose::BeatFile, token.expose_secret()).ok()?;
    let beat = beats::read(opened).ok()?;
    (beat.node == *node).then_some(BeatSeen { written: beat.time, came, tree: beat.tree })
}

/// The file's text, or as much of it as shows that it is none of ours.
fn read(file: &Path) -> io::Result<String> {
    // Whatever lies there, opening it does not wait.
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let open = File::options().read(true).custom_flags(flags).open(file)?;
    if !open.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    open.take(SEALED_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn by_its_time(time: SystemTime, now: SystemTime, max_age: Duration) -> ProbeAnswer {
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
    use crate::config::PlainSecret;
    use crate::units::beat::{Condition, PROTOCOL, PbxTold};

    const MAX_AGE: Duration = Duration::from_secs(120);
    const TOKEN: &str = "a token of the tests";

    #[test]
    fn without_a_token_a_young_file_is_up_and_an_old_one_is_down() {
        let now = SystemTime::now();
        assert_eq!(by_its_time(now - Duration::from_secs(60), now, MAX_AGE), ProbeAnswer::up("60 s old"));
        assert!(matches!(by_its_time(now - Duration::from_secs(121), now, MAX_AGE), ProbeAnswer::Down(_)));
    }

    #[test]
    fn without_a_token_a_file_from_the_future_is_up_with_a_warning() {
        let now = SystemTime::now();
        let answer = by_its_time(now + Duration::from_secs(3600), now, MAX_AGE);
        assert!(matches!(answer, ProbeAnswer::Up { warning: Some(_), .. }), "{answer:?}");
    }

    #[tokio::test]
    async fn a_missing_file_is_down() {
        let dir = tempfile::tempdir().expect("directory");
        for teller in [None, Some(Arc::new(teller()))] {
            let file = dir.path().join("beat");
            let probe = HeartbeatProbe { file, max_age: MAX_AGE, timeout: MAX_AGE, teller };
            assert!(matches!(probe.ask().await.answer, ProbeAnswer::Down(_)));
        }
    }

    #[tokio::test]
    async fn what_is_no_file_is_not_waited_for_and_says_nothing_of_the_primary() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("beat");
        let made = std::process::Command::new("mkfifo").arg(&file).status().expect("mkfifo");
        assert!(made.success());
        let probe = HeartbeatProbe { file, max_age: MAX_AGE, timeout: MAX_AGE, teller: Some(Arc::new(teller())) };
        let answer = probe.ask().await.answer;
        assert!(matches!(&answer, ProbeAnswer::Unknown(why) if why.contains("no file")), "{answer:?}");
    }

    fn teller() -> Teller {
        Teller::new("pbx-a".parse().expect("a name"), Secret::Plain(PlainSecret(TOKEN.to_owned())))
    }

    fn now() -> Timestamp {
        "2026-11-26T10:00:00Z".parse().expect("a time")
    }

    fn beat(sequence: u64, age_s: i64) -> Beat {
        let time = now() - SignedDuration::from_secs(age_s);
        Beat { sequence, ..Beat::bare("pbx-a".parse().expect("a name"), "primary", time) }
    }

    fn sealed_beat(beat: &Beat) -> String {
        sealed::seal(&serde_json::to_string(beat).expect("JSON"), Purpose::BeatFile, TOKEN)
    }

    #[test]
    fn a_beat_tells_its_own_age_and_its_pbx() {
        let pbx = PbxTold {
            driver: "systemd".to_owned(),
            condition: Condition::Serves,
            registrations: Some(23),
            calls: Some(2),
            trunks: Vec::new(),
        };
        let teller = teller();
        let answer = teller.judge(&sealed_beat(&Beat { pbx: Some(pbx), ..beat(7, 12) }), now(), MAX_AGE);
        assert_eq!(answer, ProbeAnswer::up("12 s old: its PBX serves, 23 phones, 2 calls"));
        let again = teller.judge(&sealed_beat(&beat(7, 13)), now(), MAX_AGE);
        assert_eq!(again, ProbeAnswer::up("13 s old"), "the same beat, read again");
    }

    #[test]
    fn a_beat_that_is_old_replayed_future_forged_or_of_another_protocol_is_down_each_with_its_line() {
        let teller = teller();
        assert_eq!(teller.judge(&sealed_beat(&beat(7, 0)), now(), MAX_AGE), ProbeAnswer::up("0 s old"));
        let another = Beat { node: "pbx-x".parse().expect("a name"), ..beat(8, 0) };
        let text = serde_json::to_string(&beat(8, 0)).expect("JSON");
        let cases = [
            (sealed_beat(&beat(8, 121)), "it is 121 s old"),
            (sealed_beat(&beat(6, 0)), "sent again"),
            (sealed_beat(&beat(8, -3600)), "its clock is 3600 s ahead of this host's"),
            (sealed_beat(&another), "told by pbx-x, not by pbx-a"),
            (sealed_beat(&Beat { protocol: PROTOCOL + 1, ..beat(8, 0) }), "protocol 2"),
            (sealed_beat(&beat(8, 0)).replace("primary", "observer"), "seal is not ours"),
            (sealed::seal(&text, Purpose::BeatFile, "another token"), "seal is not ours"),
            (sealed::seal(&text, Purpose::BeatAnswer, TOKEN), "seal is not ours"),
            (text, "bears no seal"),
            (String::new(), "bears no seal"),
            ("\0".repeat(400), "bears no seal"),
            ("x".repeat(SEALED_BYTES_MAX + 1), "longer than"),
        ];
        for (text, line) in cases {
            let answer = teller.judge(&text, now(), MAX_AGE);
            assert!(matches!(&answer, ProbeAnswer::Down(why) if why.contains(line)), "{line}: {answer:?}");
        }
        let ahead = teller.judge(&sealed_beat(&beat(8, -60)), now(), MAX_AGE);
        assert!(matches!(&ahead, ProbeAnswer::Up { warning: Some(w), .. } if w.contains("60 s ahead")), "{ahead:?}");
    }

    #[test]
    fn when_it_was_written_is_told_by_the_beat_itself_and_only_by_a_believed_one() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("beat");
        let (node, token) = ("pbx-a".parse().expect("a name"), Secret::Plain(PlainSecret(TOKEN.to_owned())));
        assert_eq!(seen(&file, &node, Some(&token)), None);
        std::fs::write(&file, sealed_beat(&beat(7, 3600))).expect("file");
        let hour_ago = now() - SignedDuration::from_secs(3600);
        assert_eq!(seen(&file, &node, Some(&token)).map(|beat| beat.written), Some(hour_ago));
        assert_eq!(seen(&file, &"pbx-x".parse().expect("a name"), Some(&token)), None);
        assert!(
            seen(&file, &node, None).is_some_and(|beat| beat.written > hour_ago),
            "without a token by the file's own time"
        );
        std::fs::write(&file, "forged").expect("file");
        assert_eq!(seen(&file, &node, Some(&token)), None);
    }

    #[test]
    fn a_token_that_cannot_be_read_is_our_own_fault() {
        let teller = Teller::new("pbx-a".parse().expect("a name"), Secret::File("/nowhere/agent.token".into()));
        let answer = teller.judge(&sealed_beat(&beat(7, 0)), now(), MAX_AGE);
        assert!(matches!(&answer, ProbeAnswer::Unknown(why) if why.contains("/nowhere/agent.token")), "{answer:?}");
    }
}
