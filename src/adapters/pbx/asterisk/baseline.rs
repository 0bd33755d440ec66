//! How many endpoints there should be: those in `pjsip.conf` now, beside those that were there before.
//!
//! Asterisk calls it a success when it reads half a file, so they are counted. A sudden loss is a copy that is not done,
//! or was cut when its sender died; a loss that has stood for an hour is meant. The number is kept in the state
//! directory. It reads files and blocks: its callers are in [`super`], off the loop.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::adapters::pbx::builtin::accounts::disk::Disk;
use crate::wire::asterisk_conf::{self, Conf, Weight};

/// A smaller file that has stood so long was not cut: no sync takes an hour for it, and no takeover waits so long.
const SETTLED: Duration = Duration::from_secs(3600);

/// The keys of `pjsip.conf` that are read here and by the findings.
pub const KEYS: &[&str] = &[
    "type",
    "auth_rejection_permanent",
    "forbidden_retry_interval",
    "max_retries",
    "max_random_initial_delay",
    "expiration",
    "bind",
    "external_signaling_address",
    "external_media_address",
];

/// Whether so few of so many are a sudden loss: more than a tenth.
pub fn shrunk(had: u32, has: u32) -> bool {
    u64::from(has) * 10 < u64::from(had) * 9
}

/// What `pjsip.conf` holds.
pub struct Held {
    /// Its sections.
    pub conf: Conf,
    /// Sections of type endpoint.
    pub endpoints: u32,
    /// Why it is not to be trusted: a NUL byte, an open comment, a line that was cut.
    pub broken: Option<String>,
    /// When the youngest of its files came to this host.
    youngest: SystemTime,
}

/// The count that is kept, and the files that it is compared with.
#[derive(Debug, Clone)]
pub struct Baseline {
    /// Where `pjsip.conf` may lie, the likeliest first.
    places: Vec<PathBuf>,
    keep: PathBuf,
}

impl Baseline {
    /// Of the `pjsip.conf` that lies at the first of these places that has it; the count is kept in `keep`.
    pub fn new(places: Vec<PathBuf>, keep: PathBuf) -> Self {
        Self { places, keep }
    }

    /// Where `pjsip.conf` lies; `None` when it is at none of its places.
    pub fn config(&self) -> Option<&Path> {
        self.places.iter().find(|place| place.exists()).map(PathBuf::as_path)
    }

    /// Where it should lie, for people.
    pub fn place(&self) -> String {
        self.places.first().map(|place| place.display().to_string()).unwrap_or_default()
    }

    /// Where the count is kept, for people.
    pub fn kept_at(&self) -> String {
        self.keep.display().to_string()
    }

    /// Reads it and what it includes; `None` where there is none, as Asterisk may hold its endpoints in a database, or
    /// where we may not read it: that says nothing of the file.
    pub fn held(&self) -> Option<Held> {
        let path = self.config()?;
        if fs::File::open(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) {
            return None;
        }
        let mut disk = Disk::new(path, &[]);
        let (text, trouble) = disk.root(path);
        let conf = asterisk_conf::read(text, &mut disk, KEYS);
        let is_endpoint = |section: &asterisk_conf::Section<'_>| {
            section.last(0_usize).is_some_and(|kind| kind.text.eq_ignore_ascii_case("endpoint"))
        };
        let endpoints = u32::try_from(conf.sections().filter(is_endpoint).count()).unwrap_or(u32::MAX);
        let remarks = conf.remarks.clone().into_list();
        let broken = match (trouble, remarks.first()) {
            (Some(trouble), _) => Some(format!("{}; {}", trouble.what, trouble.fix)),
            (None, Some(first)) if first.weight == Weight::Broken => Some(first.to_string()),
            _ => None,
        };
        let youngest = disk.watched().iter().filter_map(|file| changed(file.path())).max();
        Some(Held { conf, endpoints, broken, youngest: youngest.unwrap_or_else(SystemTime::now) })
    }

    /// The count that is kept.
    pub fn kept(&self) -> Option<u32> {
        fs::read_to_string(&self.keep).ok()?.trim().parse().ok()
    }

    /// Keeps this count. A state directory that takes nothing is told elsewhere, and costs this comparison only.
    pub fn keep(&self, endpoints: u32) {
        if self.kept() == Some(endpoints) {
            return;
        }
        let new = self.keep.with_extension("new");
        let written = fs::write(&new, format!("{endpoints}\n")).and_then(|()| fs::rename(&new, &self.keep));
        if let Err(error) = written
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %self.keep.display(), %error, "the number of endpoints cannot be kept");
        }
    }

    /// Whether the files may be loaded: how many endpoints they hold, or why they should not be loaded yet.
    ///
    /// # Errors
    /// One line: what is wrong with them, and what to do.
    pub fn whole(&self) -> Result<Option<u32>, String> {
        let Some(held) = self.held() else { return Ok(None) };
        match self.doubt(&held) {
            Some((why, Doubt::New)) => Err(why),
            Some((_, Doubt::Settled)) | None => Ok(Some(held.endpoints)),
        }
    }

    /// Follows what the sync brings while nobody serves from it: keeps a count that is meant, and tells what looks wrong.
    pub fn follow(&self) -> Option<String> {
        let held = self.held()?;
        let doubt = self.doubt(&held);
        if !matches!(doubt, Some((_, Doubt::New))) {
            self.keep(held.endpoints);
        }
        doubt.map(|(why, _)| why)
    }

    /// What is wrong with the files. What has stood for an hour no longer holds a takeover, unless nothing is left.
    fn doubt(&self, held: &Held) -> Option<(String, Doubt)> {
        let (has, had) = (held.endpoints, self.kept());
        let age =
            if is_settled(held.youngest) && (has > 0 || had.unwrap_or(0) == 0) { Doubt::Settled } else { Doubt::New };
        if let Some(broken) = &held.broken {
            return Some((broken.clone(), age));
        }
        let had = had.filter(|had| age == Doubt::New && shrunk(*had, has))?;
        let why = format!(
            "{} holds {has} endpoints, and held {had}: it looks cut; let the sync end or copy it again, or if that is \
             meant, remove {}",
            self.place(),
            self.keep.display()
        );
        Some((why, age))
    }
}

/// How long files have stood that look wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// Not long: a sync may be under way, or have died.
    New,
    /// So long that it is no sync.
    Settled,
}

fn is_settled(youngest: SystemTime) -> bool {
    youngest.elapsed().is_ok_and(|age| age >= SETTLED)
}

/// When this inode changed last: a copy that keeps the sender's times does not hide it.
fn changed(path: &Path) -> Option<SystemTime> {
    use std::os::unix::fs::MetadataExt;
    let seconds = u64::try_from(fs::metadata(path).ok()?.ctime()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHONE: &str = "[phone](!)\ntype=endpoint\n[a](phone)\n[b](phone)\n[c]\ntype=endpoint\n[c]\ntype=aor\n";

    fn baseline(dir: &Path) -> Baseline {
        Baseline::new(vec![dir.join("absent/pjsip.conf"), dir.join("pjsip.conf")], dir.join("count"))
    }

    #[test]
    fn endpoints_are_counted_through_templates_and_includes() {
        let dir = tempfile::tempdir().expect("directory");
        let baseline = baseline(dir.path());
        assert_eq!(baseline.whole(), Ok(None), "there is no file");
        fs::write(dir.path().join("pjsip.conf"), format!("{PHONE}#include more.conf\n")).expect("written");
        fs::write(dir.path().join("more.conf"), "[d]\ntype = Endpoint\n").expect("written");
        assert_eq!(baseline.whole(), Ok(Some(4)));
        assert_eq!(baseline.kept(), None, "looking keeps nothing");
        assert_eq!(baseline.follow(), None);
        assert_eq!(baseline.kept(), Some(4));
    }

    #[test]
    fn a_file_cut_in_half_is_told_and_its_count_not_kept() {
        let dir = tempfile::tempdir().expect("directory");
        let baseline = baseline(dir.path());
        let path = dir.path().join("pjsip.conf");
        fs::write(&path, PHONE).expect("written");
        assert_eq!(baseline.follow(), None);
        fs::write(&path, &PHONE[..PHONE.len() / 2]).expect("written");
        let why = baseline.whole().expect_err("it was cut");
        assert!(why.contains("holds 1 endpoints, and held 3: it looks cut; let the sync end"), "{why}");
        assert_eq!(baseline.follow(), Some(why));
        assert_eq!(baseline.kept(), Some(3));
        fs::remove_file(dir.path().join("count")).expect("removed, as the line says");
        assert_eq!(baseline.follow(), None);
        fs::write(&path, "").expect("written");
        assert!(baseline.whole().expect_err("it is empty").contains("is empty"));
        fs::write(&path, b"[a]\ntype=end\0\0\0\0").expect("written");
        assert!(baseline.whole().expect_err("it holds NUL").contains("NUL"));
    }

    #[test]
    fn a_loss_of_more_than_a_tenth_is_sudden_until_it_has_stood_for_an_hour() {
        for (had, has, expected) in [(3, 3, false), (3, 2, true), (10, 9, false), (10, 8, true), (0, 0, false)] {
            assert_eq!(shrunk(had, has), expected, "{had} {has}");
        }
        assert!(!is_settled(SystemTime::now()));
        assert!(is_settled(SystemTime::now() - SETTLED));
        assert!(!is_settled(SystemTime::now() + SETTLED), "a clock that was set back proves nothing");
        let dir = tempfile::tempdir().expect("directory");
        let baseline = baseline(dir.path());
        let held = |endpoints, broken: Option<&str>| Held {
            conf: Conf::default(),
            endpoints,
            broken: broken.map(str::to_owned),
            youngest: SystemTime::now() - SETTLED,
        };
        baseline.keep(3);
        assert_eq!(baseline.doubt(&held(1, None)), None, "it is meant");
        assert_eq!(
            baseline.doubt(&held(3, Some("odd"))),
            Some(("odd".to_owned(), Doubt::Settled)),
            "told, and no more"
        );
        assert!(matches!(baseline.doubt(&held(0, None)), Some((_, Doubt::New))), "nothing left is never meant");
    }
}
