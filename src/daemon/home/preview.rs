//! What a failback would carry home, and how long phones would wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::adapters::data::ledger::Ledger;
use crate::config::Config;
use crate::data::Class;
use crate::data::ledger::{Pass, logged};
use crate::data::survey::Count;
use crate::host::{clock, disk};
use crate::units::data::{ClassCount, size};
use crate::units::ledger::classes;

/// A preview is answered within the control socket's own limit.
const READ_MAX: Duration = Duration::from_secs(3);
/// Where no transfer was measured yet: a slow DSL line's way up, bytes a second.
const RATE_ASSUMED: u64 = 250_000;
/// Connections are made, what stands there is asked, and what came is read back: so long for the smallest delta.
const DELTA_BASE_S: u64 = 5;

/// What each pass would carry.
#[derive(Debug, Default)]
pub struct Preview {
    passes: BTreeMap<&'static str, BTreeMap<Class, Count>>,
    rate: Option<u64>,
}

/// What waits, by the last look.
pub async fn of(config: &Config) -> Option<Preview> {
    let ledger = Arc::new(Ledger::new(config));
    let settle_s = i64::try_from(config.sync.settle.as_secs()).unwrap_or(i64::MAX);
    let by_rsync = config.failback.return_to.is_some();
    let read = disk::within(READ_MAX, move || {
        let Some(told) = ledger.told()? else { return Ok(None) };
        let mut preview = Preview { rate: told.rate, ..Preview::default() };
        let now_s = clock::now().wall.as_second();
        let logged = logged(ledger.entries()?)?;
        for entry in ledger.entries()? {
            let entry = entry?;
            if !entry.waits() {
                continue;
            }
            let line = &entry.now.line;
            let is_quiet =
                Pass::First.takes(&entry, now_s, settle_s) && !logged.contains(&(line.dir, line.path.clone()));
            let first = is_quiet || !by_rsync;
            let pass = match (first, entry.is_large()) {
                (true, _) => Pass::First,
                (false, false) => Pass::Delta,
                (false, true) => Pass::Rest,
            };
            let count = preview.passes.entry(pass.name()).or_default().entry(entry.class).or_default();
            count.files += 1;
            count.bytes = count.bytes.saturating_add(entry.now.line.about.size);
        }
        Ok(Some(preview))
    });
    read.await.ok().flatten()
}

impl Preview {
    fn bytes(&self, pass: Pass) -> u64 {
        self.passes.get(pass.name()).into_iter().flat_map(|classes| classes.values()).map(|count| count.bytes).sum()
    }

    /// `3 files, 1.2 MB (voicemail 2 files 1.0 MB, …)`.
    pub fn text(&self, pass: Pass) -> String {
        let counts: Vec<_> = self.passes.get(pass.name()).into_iter().flatten().collect();
        let told: Vec<_> = counts
            .iter()
            .map(|(class, count)| ClassCount { name: class.name().to_owned(), files: count.files, bytes: count.bytes })
            .collect();
        if told.is_empty() {
            return "nothing, as it is now".to_owned();
        }
        let files: u64 = told.iter().map(|class| class.files).sum();
        format!("{files} files, {} ({})", size(self.bytes(pass)), classes(&told))
    }

    /// How long a pass takes, seconds.
    pub fn seconds(&self, pass: Pass) -> u32 {
        let base = if pass == Pass::Delta { DELTA_BASE_S } else { 0 };
        let rate = self.rate.unwrap_or(RATE_ASSUMED).max(1);
        u32::try_from(self.bytes(pass) / rate + base).unwrap_or(u32::MAX)
    }

    /// What that rests on.
    pub fn because(&self) -> String {
        match self.rate {
            Some(rate) => format!("at {} a second, as measured", size(rate)),
            None => format!("at {} a second, assumed: nothing was measured yet", size(RATE_ASSUMED)),
        }
    }
}
