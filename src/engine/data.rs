//! The working directory while this node watches: a gate that would not let it pass is told long before the bad day.
//!
//! While a sync writes, nothing is judged: that is daily business, and a takeover waits for its end. What does not end
//! within a quarter of an hour is trouble like anything else. Trouble is told once, and its end once. It disarms only
//! where nothing at all would be loaded (`sync.on_hold: hold`): else a takeover with older data is better than none.

use std::time::Duration;

use jiff::Timestamp;

use crate::units::data::{Outcome, Weight, size};
use crate::units::{DataLook, EventName, State};

use super::core::Engine;
use super::event::Channels;

/// A sync that writes for longer does not end by itself.
pub(super) const UNDER_WAY_FOR: Duration = Duration::from_secs(15 * 60);

/// So many looks in a row must pass before trouble is over.
pub(super) const LOOKS: u32 = 2;

/// What the looks at the working directory saw while this node watches.
#[derive(Debug, Clone, Default)]
pub(super) struct DataWatch {
    look: Option<DataLook>,
    under_way_since: Option<Duration>,
    /// What does not pass, while it stands, and since when.
    trouble: Option<(String, Timestamp)>,
    /// Looks in a row that passed.
    clean: u32,
}

impl Engine {
    fn watches_data(&self) -> bool {
        matches!(self.memory.state, State::Standby | State::Suspect)
    }

    /// Begins anew whenever this node watches again.
    pub(super) fn follow_data(&mut self) {
        if !self.watches_data() && self.data.look.is_some() {
            self.data = DataWatch::default();
        }
        // A takeover that came to nothing leaves the data as it was, so that nobody is told of it twice.
        if self.memory.state == State::Active && self.memory.data_trouble_since.take().is_some() {
            self.note("data", "what did not pass has been loaded".to_owned(), "this node serves".to_owned(), None);
        }
    }

    pub(super) fn data_was_looked_at(&mut self, mut look: DataLook) {
        for (what, because) in look.noted.drain(..) {
            self.note("data", what, because, None);
        }
        if !self.watches_data() {
            return;
        }
        let now = self.now.boot;
        let is_under_way = look.is_under_way();
        let since = is_under_way.then(|| self.data.under_way_since.unwrap_or(now));
        self.data.under_way_since = since;
        let waits = since.is_some_and(|since| now.saturating_sub(since) < UNDER_WAY_FOR);
        if !waits {
            let troubles: Vec<_> = look.reasons.iter().filter(|reason| reason.weight > Weight::Warn).collect();
            let text = troubles.iter().map(|reason| reason.text.as_str()).collect::<Vec<_>>().join("; ");
            let todo = troubles.first().map(|reason| reason.todo.clone()).unwrap_or_default();
            if troubles.is_empty() { self.data_passes() } else { self.data_does_not_pass(&text, &todo, look.outcome) }
        }
        self.data.look = Some(look);
    }

    fn data_does_not_pass(&mut self, text: &str, todo: &str, outcome: Outcome) {
        self.data.clean = 0;
        let known = self.memory.data_trouble_since;
        let since = self.data.trouble.as_ref().map(|(_, since)| *since).or(known).unwrap_or(self.now.wall);
        if self.data.trouble.is_none() && known.is_none() {
            self.note("data", format!("the working directory does not pass its gate: {text}"), todo.to_owned(), None);
        }
        self.data.trouble = Some((text.to_owned(), since));
        // One that would load nothing disarms, which is told as such.
        if known.is_none() && outcome != Outcome::Hold {
            self.memory.data_trouble_since = Some(since);
            let what = format!("{text}; a takeover now: {}; {todo}", loads(outcome));
            self.tell(EventName::DataTrouble, what, Channels::All);
        }
    }

    fn data_passes(&mut self) {
        self.data.clean = self.data.clean.saturating_add(1);
        let told = self.memory.data_trouble_since.is_some();
        if self.data.clean < LOOKS || !(told || self.data.trouble.is_some()) {
            return;
        }
        self.data.trouble = None;
        let because = format!("{LOOKS} looks in a row found nothing against it");
        self.note("data", "the working directory passes its gate again".to_owned(), because.clone(), None);
        if told {
            self.memory.data_trouble_since = None;
            self.tell(EventName::DataWell, because, Channels::All);
        }
    }

    /// Why nothing would be loaded, if that is so.
    pub(super) fn data_holds(&self) -> Option<&str> {
        let (text, _) = self.data.trouble.as_ref()?;
        self.data.look.as_ref().filter(|look| look.outcome == Outcome::Hold).map(|_| text.as_str())
    }

    pub(super) fn data_snapshot(&self) -> Option<DataLook> {
        let trouble_since = self.data.trouble.as_ref().map(|(_, since)| *since);
        self.data.look.clone().map(|look| DataLook { trouble_since, ..look })
    }

    /// What is seen of it, for `explain`.
    pub(super) fn data_text(&self) -> Vec<String> {
        let Some(look) = &self.data.look else { return Vec::new() };
        let newest = look
            .newest
            .as_ref()
            .map(|newest| format!(", newest change {} ({})", newest.at.strftime("%Y-%m-%d %H:%M:%S UTC"), newest.path));
        let beat = look.beat_age_s.map(|age| format!(", its newest heartbeat is {age} s old"));
        let mut lines = vec![format!(
            "working directory: {}; {} files, {}{}{}{}",
            loads(look.outcome),
            look.files,
            size(look.bytes),
            newest.unwrap_or_default(),
            beat.unwrap_or_default(),
            look.vouched.as_ref().map(|vouched| format!(", {}", vouched.text())).unwrap_or_default(),
        )];
        lines.extend(look.snapshots.as_ref().map(|kept| format!("  {}", kept.line(self.now.wall))));
        lines.extend(look.reasons.iter().map(|reason| format!("  {}: {}", weight(reason.weight), reason.text)));
        lines
    }

    /// What to do about it, for `explain`.
    pub(super) fn data_hints(&self) -> Vec<String> {
        let reasons = self.data.look.iter().flat_map(|look| &look.reasons);
        let meant = reasons.filter(|reason| reason.weight != Weight::UnderWay || self.data.trouble.is_some());
        let vouched = self.data.look.iter().filter_map(|look| look.vouched.as_ref()?.hint());
        let meant = meant.map(|reason| (reason.text.clone(), reason.todo.clone())).chain(vouched);
        meant.map(|(text, todo)| format!("working directory, {text}: {todo}")).collect()
    }
}

/// What a takeover would do.
fn loads(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Go => "it would be loaded",
        Outcome::GoWithWarning => "it would be loaded all the same",
        Outcome::LastGood => "its last good snapshot would be loaded",
        Outcome::Hold => "nothing would be loaded (sync.on_hold)",
    }
}

fn weight(weight: Weight) -> &'static str {
    match weight {
        Weight::Warn => "warning",
        Weight::UnderWay => "under way",
        Weight::Broken => "broken",
        Weight::Stale => "old",
    }
}
