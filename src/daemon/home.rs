//! Carries home what was changed here: which part when, in pieces that are each read back at home and then struck off.
//!
//! Steps and the command `ledger --carry` come here. A piece that was not struck off is seen to be at home at the next try,
//! so that a robot or an rsync that is killed at any moment costs one piece of time and nothing else. The ledger itself is
//! `adapters/data/ledger`, the way home `adapters/rsync` or the command `failback.return_data`.

pub mod baseline;
mod command;
mod pieces;
pub mod preview;
pub mod told;

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::adapters::data::ledger::{Ending, IS_LOOKED_AT, Ledger, Lock, SERVES_AGAIN};
use crate::adapters::rsync::{Rsync, Sent};
use crate::config::Config;
use crate::data::ledger::{Entry, Live, Pass};
use crate::data::shown;
use crate::host::{clock, disk};
use crate::units::data::size;
use crate::units::ledger::{Ledger as Told, Phase};
use crate::units::{PlanId, StepOutcome};

use pieces::{Piece, Pieces};

/// One look, or one piece of writing the lists anew, may take so long: a million files on a slow disk.
const LISTS_MAX: Duration = Duration::from_secs(300);
/// What was carried is struck off even where the time is over.
const STRIKE_MIN: Duration = Duration::from_secs(5);
/// The first pass: this node serves meanwhile.
const FIRST_MAX: Duration = Duration::from_secs(24 * 3600);
/// All that is left, in one go, as long as it gets further.
const REST_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// What is left is tried again for so long without getting further.
const REST_STANDS: Duration = Duration::from_secs(3600);
/// Pauses between two tries of it.
const REST_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Between two looks whether another way home has ended.
const LOCK_PAUSE: Duration = Duration::from_millis(500);
/// Where no ledger says which plan made this node serve.
const UNKNOWN_SERVICE: &str = "-";
/// Of a service that left nothing.
const NOTHING_LEFT: &str = "nothing was left to carry";
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
    /// Why home refused them.
    refused: Option<String>,
    vanished: u64,
    /// What cannot be read here, and the first of it with the reason.
    unread: u64,
    unread_named: Option<String>,
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
        if self.refused.is_none() {
            self.refused.clone_from(&sent.refused);
        }
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
            parts.push(format!("{} are not seen to be the same there, as {name}", self.another));
        }
        if self.vanished > 0 {
            parts.push(format!("{} vanished here meanwhile", self.vanished));
        }
        if let Some(named) = &self.unread_named {
            parts.push(format!("{} wait that cannot be read here, as {named}", self.unread));
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
    pass(config, Pass::First, Instant::now() + FIRST_MAX, Live::Beside).await
}

/// The last delta, while nobody serves.
pub async fn delta(config: &Config, live: Live) -> StepOutcome {
    pass(config, Pass::Delta, Instant::now() + config.failback.return_limit, live).await
}

async fn pass(config: &Config, pass: Pass, deadline: Instant, live: Live) -> StepOutcome {
    let ledger = Arc::new(Ledger::new(config));
    let _lock = match lock_by(&ledger, deadline).await {
        Ok(lock) => lock,
        Err(why) => return StepOutcome::failed(why),
    };
    let told = match on_lists(&ledger, deadline, |ledger| ledger.look(clock::now().wall)).await {
        Ok(Some(told)) => Ok(told),
        Ok(None) => {
            let why = "no ledger was kept of this service";
            // The sync that may delete is not started before a person has seen to it.
            let noted =
                on_lists(&ledger, deadline, move |ledger| ledger.note_gap(UNKNOWN_SERVICE, why, clock::now().wall));
            Err(noted
                .await
                .err()
                .map_or_else(|| why.to_owned(), |also| format!("{why}; nor is that remembered: {also}")))
        }
        Err(why) => {
            let _ = note(&ledger, Some(why.clone()), lists_max(deadline)).await;
            Err(why)
        }
    };
    let Some(rsync) = Rsync::new(config, ledger.dir()).map(|rsync| rsync.with(live)) else {
        return command::pass(config, &ledger, pass, told.err(), deadline).await;
    };
    let told = match told {
        Ok(told) => told,
        // Telephones are worth more than that. The ledger is closed by a look that succeeds, or by a person's word, and
        // before that no sync that may delete is started.
        Err(why) => return StepOutcome::done(format!("WARNING, nothing was carried, {why}")),
    };
    let mut sum = Sum::default();
    let carry = Carry { config, ledger: &ledger, service: &told.service, deadline };
    let done = carry.pieces(&rsync, pass, &mut sum).await;
    let later = match pass {
        Pass::First => "go later: large, in use, or being written",
        Pass::Delta | Pass::Rest => "go once the primary serves",
    };
    let text = sum.text(later);
    let gap = told.gap.map(|why| format!("; WARNING, more may have changed here than is listed: {why}"));
    match done {
        Ok(()) if sum.another == 0 => {
            StepOutcome::done(format!("{text}; read back by digest{}", gap.unwrap_or_default()))
        }
        Ok(()) => StepOutcome::failed(match sum.refused {
            Some(why) => format!("{why} ({text})"),
            None => text,
        }),
        Err(why) => StepOutcome::failed(format!("{why} ({text})")),
    }
}

/// Carries whatever is left of the last service, for as long as it gets further.
pub async fn rest(config: &Config) -> StepOutcome {
    let ledger = Arc::new(Ledger::new(config));
    let (mut further_at, mut pause) = (Instant::now(), REST_PAUSE.0);
    let (mut sum, mut fewest, mut service) = (Sum::default(), None, None);
    let deadline = Instant::now() + REST_MAX;
    loop {
        if service.is_none() {
            service = match told::open(&ledger).await {
                Ok(None) => return StepOutcome::done(NOTHING_LEFT),
                Ok(Some(told)) => Some(told.service),
                Err(_) => None,
            };
        }
        let outcome = match &service {
            Some(service) => Carry { config, ledger: &ledger, service, deadline }.rest_alone(&mut sum).await,
            None => Err("the ledger cannot be read; see to state_dir".to_owned()),
        };
        let Err(why) = outcome else { return StepOutcome::Done(outcome.unwrap_or_default()) };
        let left = told::open(&ledger).await.ok().flatten();
        let is_of_another =
            left.as_ref().is_some_and(|told| service.as_ref().is_some_and(|ours| told.service != *ours));
        let files = left.as_ref().map(|told| told.files);
        // What is sent again and again is no step further.
        if files.is_some_and(|files| fewest.is_none_or(|fewest| files < fewest)) {
            (further_at, pause, fewest) = (Instant::now(), REST_PAUSE.0, files);
        }
        let is_a_persons = left.is_some_and(|told| told.gap.is_some() && told.files == 0);
        let is_over = further_at.elapsed() >= REST_STANDS || Instant::now() >= deadline;
        if is_of_another || is_a_persons || is_over {
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
    let service = match told::of(config).await? {
        None => return Ok("there is no ledger: nothing waits to be carried home".to_owned()),
        Some(told) if told.phase == Phase::Serving => {
            let trouble = told.trouble.map(|why| format!(" ({why})")).unwrap_or_default();
            return Err(format!(
                "this node serves, or has not given the service back{trouble}; `pbx-failover failback` carries home"
            ));
        }
        Some(told) => told.service,
    };
    let mut sum = Sum::default();
    let carry = Carry { config, ledger: &ledger, service: &service, deadline: Instant::now() + REST_MAX };
    carry.rest_alone(&mut sum).await.map_err(|why| format!("{why} ({})", sum.text("wait")))
}

/// What waits to be carried home, or may, in one line; `None`: nothing does.
///
/// # Errors
/// One line, when it cannot be read.
pub async fn waits(config: &Config) -> Result<Option<String>, String> {
    let told = told::of(config).await?;
    let may_wait = |told: &Told| told.files > 0 || told.gap.is_some() || told.phase == Phase::Serving;
    Ok(told.filter(may_wait).map(|told| told.line()))
}

/// Whether the ledger is open for what changes here: this node serves, or what it left was not looked through since.
///
/// # Errors
/// One line, when it cannot be read.
pub async fn is_open(config: &Config) -> Result<bool, String> {
    Ok(told::of(config).await?.is_some_and(|told| told.phase == Phase::Serving))
}

/// Whether this node served before this plan, and what it left is in an open ledger: nothing was brought here since.
pub async fn goes_on(config: &Config, plan: PlanId) -> bool {
    let is_before = |told: &Told| told.looked_at.is_some() || told.service != plan.to_string();
    let told = told::of(config).await.ok().flatten();
    told.is_some_and(|told| told.phase == Phase::Serving && is_before(&told))
}

/// This node does not serve any more: looks for the last time what changed here.
///
/// # Errors
/// One line; something may wait that nobody saw.
pub async fn close(config: &Config) -> Result<(), String> {
    let ledger = Arc::new(Ledger::new(config));
    match told::open(&ledger).await? {
        Some(told) => closed(&ledger, &told.service).await.map(drop),
        None => Ok(()),
    }
}

async fn closed(ledger: &Arc<Ledger>, service: &str) -> Result<Option<Told>, String> {
    let (closing, service) = (Arc::clone(ledger), service.to_owned());
    let closed = disk::within(LISTS_MAX, move || closing.close(&service, clock::now().wall)).await;
    if let Err(why) = &closed
        && why != SERVES_AGAIN
    {
        let _ = note(ledger, Some(why.clone()), LISTS_MAX).await;
    }
    closed
}

/// Whether the configuration says how it goes home.
pub fn has_a_way(config: &Config) -> bool {
    let failback = &config.failback;
    failback.return_to.is_some() || !failback.return_data.is_empty()
}

/// What gets home that waits still.
pub fn way_out(config: &Config) -> &'static str {
    if config.failback.return_to.is_some() || !config.failback.return_rest.is_empty() {
        "`pbx-failover ledger --carry` goes on"
    } else {
        "carry it home by hand, then `pbx-failover ledger --end --yes`; or set failback.return_rest, and `pbx-failover ledger --carry`"
    }
}

/// Carrying home what one service left, until then.
struct Carry<'a> {
    config: &'a Config,
    ledger: &'a Arc<Ledger>,
    service: &'a str,
    deadline: Instant,
}

impl Carry<'_> {
    /// Carries the rest, once, while nobody else does; what keeps it from that is noted for `status`.
    async fn rest_alone(&self, sum: &mut Sum) -> Result<String, String> {
        // That another carries is no trouble of the ledger: its own end says how it went.
        let _lock = lock(self.ledger, self.deadline).await?;
        let outcome = self.rest(sum).await;
        if let Err(why) = &outcome
            && let Ok(Some(told)) = told::open(self.ledger).await
            && told.service == self.service
            && !(told.gap.is_some() && told.files == 0)
        {
            let _ = note(self.ledger, Some(why.clone()), LISTS_MAX).await;
        }
        outcome
    }

    async fn rest(&self, sum: &mut Sum) -> Result<String, String> {
        let Self { config, ledger, service, deadline } = *self;
        let Some(told) = closed(ledger, service).await? else { return Ok(NOTHING_LEFT.to_owned()) };
        note(ledger, None, LISTS_MAX).await?;
        let mut proof = "";
        if told.files > 0 {
            match Rsync::new(config, ledger.dir()) {
                Some(rsync) => {
                    (sum.another, sum.another_named, sum.refused) = (0, None, None);
                    self.pieces(&rsync, Pass::Rest, sum).await?;
                    proof = "; read back by digest";
                    if sum.another > 0 {
                        let another = || "the primary has another content than was sent".to_owned();
                        return Err(sum.refused.clone().unwrap_or_else(another));
                    }
                }
                None => command::rest(config, ledger, deadline, sum).await?,
            }
        }
        if let Some(named) = &sum.unread_named {
            return Err(format!("{} files cannot be read here, as {named}", sum.unread));
        }
        let left = told::open(ledger).await?.map_or(0, |told| told.files);
        if left > sum.vanished {
            return Err(format!("{left} files were written here meanwhile"));
        }
        if let Some(gap) = told.gap {
            return Err(format!(
                "more may have changed here than is listed ({gap}): carry it home by hand, then `pbx-failover ledger --end --yes`"
            ));
        }
        end(ledger, service).await?;
        Ok(format!("{}{proof}; the ledger has ended", sum.text("wait")))
    }

    /// Carries piece by piece what belongs to a pass.
    async fn pieces(&self, rsync: &Rsync, pass: Pass, sum: &mut Sum) -> Result<(), String> {
        let Self { config, ledger, service, deadline } = *self;
        let opened = (config.clone(), Arc::clone(ledger));
        let mut pieces = disk::within(lists_max(deadline), move || Pieces::new(&opened.0, &opened.1, pass)).await?;
        (sum.vanished, sum.unread, sum.unread_named) = (0, 0, None);
        loop {
            let (back, piece) = disk::within(lists_max(deadline), move || {
                let piece = pieces.next();
                Ok((pieces, piece))
            })
            .await?;
            pieces = back;
            let Some(piece) = piece? else { break };
            let sent = rsync.carry(piece.load(), pass, deadline).await?;
            let told = settle(ledger, piece, &sent, deadline).await?;
            sum.add(&sent);
            if told.service != service {
                return Err(SERVES_AGAIN.to_owned());
            }
            if let Some(why) = sent.broke_off {
                return Err(why);
            }
        }
        sum.vanished = pieces.vanished;
        (sum.unread, sum.unread_named) = (pieces.unread, pieces.unread_named);
        sum.later = pieces.later;
        Ok(())
    }
}

/// All that this service left is at home.
async fn end(ledger: &Arc<Ledger>, service: &str) -> Result<(), String> {
    let (ledger, service) = (Arc::clone(ledger), service.to_owned());
    disk::within(LISTS_MAX, move || ledger.end(Ending::Carried(&service))).await
}

async fn settle(ledger: &Arc<Ledger>, piece: Piece, sent: &Sent, deadline: Instant) -> Result<Told, String> {
    let rate = (sent.bytes >= RATE_BYTES_MIN).then(|| {
        let millis = u64::try_from(sent.took.as_millis()).unwrap_or(u64::MAX).max(1);
        sent.bytes.saturating_mul(1000) / millis
    });
    let (sent, listed) = (Arc::new(sent.clone()), Arc::new(piece.listed));
    on_lists(ledger, deadline.max(Instant::now() + STRIKE_MIN), move |ledger| {
        ledger.settle(&sent.carried, &listed, &sent.beside, rate)
    })
    .await
}

/// Work on the lists of a pass that must end by then; another look at them is waited for.
async fn on_lists<T: Send + 'static>(
    ledger: &Arc<Ledger>,
    deadline: Instant,
    work: impl Fn(&Ledger) -> Result<T, String> + Clone + Send + 'static,
) -> Result<T, String> {
    let until = deadline.min(Instant::now() + LISTS_MAX);
    loop {
        let (ledger, work) = (Arc::clone(ledger), work.clone());
        match disk::within(lists_max(deadline), move || work(&ledger)).await {
            Err(why) if why == IS_LOOKED_AT && Instant::now() < until => {}
            done => return done,
        }
    }
}

/// What keeps what waits where it is, for `status`.
async fn note(ledger: &Arc<Ledger>, trouble: Option<String>, limit: Duration) -> Result<(), String> {
    let ledger = Arc::clone(ledger);
    disk::within(limit, move || ledger.note_trouble(trouble)).await
}

/// The bound of work on the lists in a pass that must end by then.
fn lists_max(deadline: Instant) -> Duration {
    LISTS_MAX.min(deadline.saturating_duration_since(Instant::now()))
}

/// Alone on the way home, or why not.
async fn lock(ledger: &Arc<Ledger>, deadline: Instant) -> Result<Option<File>, String> {
    let ledger = Arc::clone(ledger);
    disk::within(lists_max(deadline).max(STRIKE_MIN), move || {
        // Without its folder there is no ledger, and nothing that two could carry.
        if ledger.dir().exists() { ledger.lock(Lock::Carry).map(Some) } else { Ok(None) }
    })
    .await
}

/// The same for a pass: another's way home, that of a person, ends by itself once it sees that this node serves.
async fn lock_by(ledger: &Arc<Ledger>, deadline: Instant) -> Result<Option<File>, String> {
    let mut is_said = false;
    loop {
        let why = match lock(ledger, deadline).await {
            Ok(lock) => return Ok(lock),
            Err(why) => why,
        };
        if Instant::now() >= deadline {
            return Err(why);
        }
        if !is_said {
            tracing::info!(why, "the way home waits");
            let _ = note(ledger, Some(why), lists_max(deadline)).await;
            is_said = true;
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::config::{Files, Surroundings, parse};

    #[tokio::test]
    async fn another_look_at_the_lists_is_waited_for_and_no_other_trouble() {
        let text = include_str!("../../failover.yaml.example");
        let surroundings = Surroundings { host_name: "pbx-b".into(), files: Files::Ignored };
        let config = parse(text, std::path::Path::new("x"), &surroundings).expect("a good file").config;
        let ledger = Arc::new(Ledger::new(&config));
        let asked = Arc::new(AtomicU32::new(0));
        let deadline = Instant::now() + Duration::from_secs(20);
        let counting = Arc::clone(&asked);
        let busy_twice = move |_: &Ledger| match counting.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => Err(IS_LOOKED_AT.to_owned()),
            more => Ok(more),
        };
        assert_eq!(on_lists(&ledger, deadline, busy_twice.clone()).await, Ok(2));
        let other = on_lists(&ledger, deadline, |_| Err::<(), _>("the disk is full".to_owned())).await;
        assert_eq!(other, Err("the disk is full".to_owned()));
        asked.store(0, Ordering::SeqCst);
        let over = on_lists(&ledger, Instant::now(), busy_twice).await;
        assert!(over.is_err_and(|why| why.contains("was over")), "no pass outlasts its time for it");
    }
}
