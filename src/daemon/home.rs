//! Carries home what was changed here: which part when, in pieces that are each read back at home and then struck off.
//!
//! Steps and the command `ledger --carry` come here. A piece that was not struck off is seen to be at home at the next try,
//! so that a robot or an rsync that is killed at any moment costs one piece of time and nothing else. The ledger itself is
//! `adapters/data/ledger`, the way home `adapters/rsync` or the command `failback.return_data`.

pub mod baseline;
mod command;
pub mod preview;
pub mod told;

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::adapters::data::ledger::{Entries, Ledger, Lock};
use crate::adapters::rsync::{Rsync, Sent};
use crate::config::Config;
use crate::data::ledger::{Entry, Pass};
use crate::data::shown;
use crate::host::clock;
use crate::units::StepOutcome;
use crate::units::data::size;
use crate::units::ledger::{Ledger as Told, Phase};

/// One look, or one piece of writing the lists anew, may take so long: a million files on a slow disk.
const LISTS_MAX: Duration = Duration::from_secs(300);
/// The first pass: this node serves meanwhile.
const FIRST_MAX: Duration = Duration::from_secs(24 * 3600);
/// All that is left, in one go, as long as it gets further.
const REST_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// What is left is tried again for so long without getting further.
const REST_STANDS: Duration = Duration::from_secs(3600);
/// Pauses between two tries of it.
const REST_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A piece has so many files at most: so many names are held.
const PIECE_FILES_MAX: usize = 5_000;
/// And so many bytes, or one file: so often what is at home is struck off.
const PIECE_BYTES_MAX: u64 = 256 << 20;
/// A rate is believed of so many bytes.
const RATE_BYTES_MIN: u64 = 1 << 20;
/// So many names stand in a step's text.
const NAMED_MAX: usize = 5;

/// What a pass came to.
#[derive(Debug, Default)]
struct Sum {
    files: u64,
    bytes: u64,
    beside: u64,
    /// The names of the first of these.
    named: Vec<String>,
    another: u64,
    another_named: Option<String>,
    vanished: u64,
    /// What goes later.
    later: (u64, u64),
}

impl Sum {
    fn add(&mut self, sent: &Sent) {
        self.files += sent.carried.len() as u64;
        self.bytes += bytes(&sent.carried);
        self.beside += sent.beside.len() as u64;
        let room = NAMED_MAX.saturating_sub(self.named.len());
        self.named.extend(sent.beside.iter().take(room).map(|(_, name)| shown(name)));
        self.another += sent.another.len() as u64;
        if let Some(entry) = sent.another.first() {
            self.another_named.get_or_insert_with(|| shown(&entry.now.line.path));
        }
    }

    fn text(&self, later: &str) -> String {
        let mut parts = vec![format!("{} files, {} at home", self.files, size(self.bytes))];
        if self.beside > 0 {
            let more = if self.beside > self.named.len() as u64 { ", …" } else { "" };
            parts.push(format!("{} kept twice there: {}{more}", self.beside, self.named.join(", ")));
        }
        if let Some(name) = &self.another_named {
            parts.push(format!("{} are not the same there, as {name}", self.another));
        }
        if self.vanished > 0 {
            parts.push(format!("{} vanished here meanwhile", self.vanished));
        }
        if self.later.0 > 0 {
            parts.push(format!("{} files, {} {later}", self.later.0, size(self.later.1)));
        }
        parts.join("; ")
    }
}

fn bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.now.line.about.size).sum()
}

/// The first pass, while this node serves.
pub async fn first(config: &Config) -> StepOutcome {
    pass(config, Pass::First, Instant::now() + FIRST_MAX).await
}

/// The last delta, while nobody serves.
pub async fn delta(config: &Config) -> StepOutcome {
    pass(config, Pass::Delta, Instant::now() + config.failback.return_limit).await
}

async fn pass(config: &Config, pass: Pass, deadline: Instant) -> StepOutcome {
    let ledger = Arc::new(Ledger::new(config));
    let _lock = match lock(&ledger) {
        Ok(lock) => lock,
        Err(why) => return StepOutcome::failed(why),
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let looked = on_disk(left, {
        let ledger = Arc::clone(&ledger);
        move || ledger.look(clock::now().wall)
    })
    .await;
    let told = match looked {
        Ok(Some(told)) => Ok(told),
        Ok(None) => Err("no ledger was kept of this service".to_owned()),
        Err(why) => {
            let (ledger, why) = (Arc::clone(&ledger), why);
            let said = why.clone();
            let _ = on_disk(LISTS_MAX, move || ledger.mark(Phase::Serving, Some(said))).await;
            Err(why)
        }
    };
    let Some(rsync) = Rsync::new(config, ledger.dir()) else {
        return command::pass(config, &ledger, pass, told.err(), deadline).await;
    };
    if let Err(why) = told {
        // What changed is not known: a person must see to it, and telephones are worth more than that.
        return StepOutcome::done(format!("WARNING, nothing was carried: {why}; carry home by hand what changed here"));
    }
    let mut sum = Sum::default();
    let done = pieces(config, &ledger, &rsync, pass, deadline, &mut sum).await;
    let later = match pass {
        Pass::First => "go later: large, in use, or being written",
        Pass::Delta | Pass::Rest => "go once the primary serves",
    };
    let text = sum.text(later);
    match done {
        Ok(()) if sum.another == 0 => StepOutcome::done(format!("{text}; read back by digest")),
        Ok(()) => StepOutcome::failed(text),
        Err(why) => StepOutcome::failed(format!("{why} ({text})")),
    }
}

/// Carries whatever is left, for as long as it gets further.
pub async fn rest(config: &Config) -> StepOutcome {
    let ledger = Arc::new(Ledger::new(config));
    let (mut further_at, mut pause) = (Instant::now(), REST_PAUSE.0);
    let mut sum = Sum::default();
    let deadline = Instant::now() + REST_MAX;
    loop {
        let before = (sum.files, sum.bytes);
        let outcome = rest_once(config, &ledger, &mut sum, deadline).await;
        let Err(why) = outcome else { return StepOutcome::Done(outcome.unwrap_or_default()) };
        if (sum.files, sum.bytes) != before {
            (further_at, pause) = (Instant::now(), REST_PAUSE.0);
        }
        let _ = mark(&ledger, Some(why.clone())).await;
        if further_at.elapsed() >= REST_STANDS || Instant::now() >= deadline {
            let text = sum.text("wait");
            return StepOutcome::failed(format!(
                "{why} ({text}); what is left stays in the ledger: `pbx-failover ledger --carry` goes on"
            ));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(REST_PAUSE.1);
    }
}

/// Carries whatever is left, once: for a person.
///
/// # Errors
/// One line.
pub async fn carry(config: &Config) -> Result<String, String> {
    let ledger = Arc::new(Ledger::new(config));
    match told::of(config).await? {
        None => return Ok("there is no ledger: nothing waits to be carried home".to_owned()),
        Some(told) if told.phase == Phase::Serving => {
            return Err(
                "this node serves, or has not given the service back; `pbx-failover failback` carries home".to_owned()
            );
        }
        Some(_) => {}
    }
    let mut sum = Sum::default();
    let carried = rest_once(config, &ledger, &mut sum, Instant::now() + REST_MAX).await;
    if let Err(why) = &carried {
        mark(&ledger, Some(why.clone())).await?;
    }
    carried.map_err(|why| format!("{why} ({})", sum.text("wait")))
}

/// What waits to be carried home, in one line; `None`: nothing does.
///
/// # Errors
/// One line, when it cannot be read.
pub async fn waits(config: &Config) -> Result<Option<String>, String> {
    let told = told::of(config).await?.filter(|told| !told.ended && told.files > 0);
    Ok(told.map(|told| told.line()))
}

/// Whether the configuration says how it goes home.
pub fn has_a_way(config: &Config) -> bool {
    let failback = &config.failback;
    failback.return_to.is_some() || !failback.return_data.is_empty()
}

async fn rest_once(config: &Config, ledger: &Arc<Ledger>, sum: &mut Sum, deadline: Instant) -> Result<String, String> {
    let Some(told) = told::open(ledger).await? else { return Ok("nothing was left to carry".to_owned()) };
    let _lock = lock(ledger)?;
    mark(ledger, None).await?;
    if told.files > 0 {
        match Rsync::new(config, ledger.dir()) {
            Some(rsync) => {
                sum.another = 0;
                sum.another_named = None;
                pieces(config, ledger, &rsync, Pass::Rest, deadline, sum).await?;
                if sum.another > 0 {
                    return Err("the primary has another content than was sent".to_owned());
                }
            }
            None => sum.files += command::rest(config, ledger, deadline).await?,
        }
    }
    let left = told::open(ledger).await?.map_or(0, |told| told.files);
    if left > sum.vanished {
        return Err(format!("{left} files were written here meanwhile"));
    }
    let ledger = Arc::clone(ledger);
    on_disk(LISTS_MAX, move || ledger.end()).await?;
    Ok(format!("{}; read back by digest; the ledger has ended", sum.text("wait")))
}

/// Carries piece by piece what belongs to a pass.
async fn pieces(
    config: &Config,
    ledger: &Arc<Ledger>,
    rsync: &Rsync,
    pass: Pass,
    deadline: Instant,
    sum: &mut Sum,
) -> Result<(), String> {
    let mut pieces = Pieces::new(config, ledger, pass)?;
    sum.vanished = 0;
    loop {
        let (back, piece) = on_disk(LISTS_MAX, move || {
            let piece = pieces.next();
            Ok((pieces, piece))
        })
        .await?;
        pieces = back;
        let Some(piece) = piece? else { break };
        let sent = rsync.carry(&piece, pass, deadline).await?;
        settle(ledger, &sent).await?;
        sum.add(&sent);
    }
    sum.vanished = pieces.vanished;
    sum.later = pieces.later;
    Ok(())
}

async fn settle(ledger: &Arc<Ledger>, sent: &Sent) -> Result<Told, String> {
    let rate = (sent.bytes >= RATE_BYTES_MIN).then(|| {
        let millis = u64::try_from(sent.took.as_millis()).unwrap_or(u64::MAX).max(1);
        sent.bytes.saturating_mul(1000) / millis
    });
    let (ledger, sent) = (Arc::clone(ledger), sent.clone());
    on_disk(LISTS_MAX, move || ledger.settle(&sent.carried, &sent.beside, rate)).await
}

async fn mark(ledger: &Arc<Ledger>, trouble: Option<String>) -> Result<(), String> {
    let ledger = Arc::clone(ledger);
    on_disk(LISTS_MAX, move || ledger.mark(Phase::Home, trouble)).await
}

fn lock(ledger: &Ledger) -> Result<Option<File>, String> {
    // Without its folder there is no ledger, and nothing that two could carry.
    if ledger.dir().exists() { ledger.lock(Lock::Carry).map(Some) } else { Ok(None) }
}

/// Work on the disk, in a thread of its own and with an end: a disk may hang.
async fn on_disk<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    match tokio::time::timeout(limit, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err("the work on the ledger broke off; see the log".to_owned()),
        Err(_) => Err(format!("the disk did not answer in {} s", limit.as_secs())),
    }
}

/// What a pass takes, in pieces of one working directory each.
struct Pieces {
    entries: std::iter::Peekable<Entries>,
    dirs: Vec<std::path::PathBuf>,
    pass: Pass,
    now_s: i64,
    settle_s: i64,
    vanished: u64,
    later: (u64, u64),
}

impl Pieces {
    fn new(config: &Config, ledger: &Ledger, pass: Pass) -> Result<Self, String> {
        Ok(Self {
            entries: ledger.entries()?.peekable(),
            dirs: config.pbx.working_dirs.clone(),
            pass,
            now_s: clock::now().wall.as_second(),
            settle_s: i64::try_from(config.sync.settle.as_secs()).unwrap_or(i64::MAX),
            vanished: 0,
            later: (0, 0),
        })
    }

    fn next(&mut self) -> Result<Option<Vec<Entry>>, String> {
        let (mut piece, mut bytes): (Vec<Entry>, u64) = (Vec::new(), 0);
        loop {
            let fits = |entry: &Result<Entry, String>| {
                entry.as_ref().is_ok_and(|entry| {
                    let line = &entry.now.line;
                    piece.first().is_none_or(|first| first.now.line.dir == line.dir)
                        && piece.len() < PIECE_FILES_MAX
                        && (piece.is_empty() || bytes + line.about.size <= PIECE_BYTES_MAX)
                }) || entry.is_err()
            };
            let Some(entry) = self.entries.next_if(fits) else { break };
            let mut entry = entry?;
            if !entry.waits() {
                continue;
            }
            let size = entry.now.line.about.size;
            if !self.pass.takes(&entry, self.now_s, self.settle_s) {
                self.later = (self.later.0 + 1, self.later.1.saturating_add(size));
                continue;
            }
            if !renew(&self.dirs[entry.now.line.dir], &mut entry) {
                self.vanished += 1;
                continue;
            }
            bytes = bytes.saturating_add(entry.now.line.about.size);
            piece.push(entry);
        }
        Ok((!piece.is_empty()).then_some(piece))
    }
}

/// The entry as its file is at this moment; false: there is none any more.
fn renew(dir: &std::path::Path, entry: &mut Entry) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let line = &mut entry.now.line;
    let file = dir.join(std::ffi::OsStr::from_bytes(&line.path));
    let Some(about) = std::fs::symlink_metadata(file).ok().filter(std::fs::Metadata::is_file) else { return false };
    let nanos = |nanos: i64| u32::try_from(nanos).unwrap_or_default();
    line.about.size = about.size();
    line.about.modified = (about.mtime(), nanos(about.mtime_nsec()));
    entry.now.changed = (about.ctime(), nanos(about.ctime_nsec()));
    true
}
