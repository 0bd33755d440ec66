//! The sync between the hosts: it must rest while this node serves, and run while it watches.
//!
//! One that runs while this node serves puts old files over new ones; the daemon stops it again. One that rests while it
//! watches lets the data here grow old. Either is told once when two looks in a row saw it, and its end once.

use jiff::Timestamp;

use crate::units::snapshot::SyncStatus;
use crate::units::{EventName, State, SyncLook};

use super::core::Engine;
use super::event::Channels;

/// So many looks in a row must agree: a unit is started anew, a tool ends a moment after its unit.
pub(super) const LOOKS: u32 = 2;

/// What it should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Should {
    Rest,
    Run,
}

/// What the looks at it saw, since it should do what it should now.
#[derive(Debug, Clone, Default)]
pub(super) struct SyncWatch {
    should: Option<Should>,
    look: Option<SyncLook>,
    /// What is not as it should be, while it is not.
    wrong: Option<String>,
    /// Looks in a row that agree.
    agree: u32,
}

impl Engine {
    /// A plan changes it itself.
    fn sync_should(&self) -> Option<Should> {
        match self.memory.state {
            State::Active => Some(Should::Rest),
            State::Standby | State::Suspect if self.run.is_none() => Some(Should::Run),
            _ => None,
        }
    }

    /// Begins anew whenever it should do something else.
    pub(super) fn follow_sync(&mut self) {
        let should = self.sync_should();
        if should == self.sync.should {
            return;
        }
        let before = std::mem::replace(&mut self.sync, SyncWatch { should, ..SyncWatch::default() });
        let reversed = should.is_some() && before.should.is_some();
        // What was wrong before is right now, or is seen anew.
        if (reversed || should == Some(Should::Rest)) && self.memory.sync_trouble_since.take().is_some() {
            self.note(
                "sync",
                "what was told of the sync is over".to_owned(),
                "it should do something else now".to_owned(),
                None,
            );
        }
    }

    pub(super) fn sync_was_looked_at(&mut self, look: SyncLook) {
        let Some(should) = self.sync.should else { return };
        let (wrong, todo) = match should {
            Should::Rest => (&look.runs, "it is stopped again where sync.fence names it; see what starts it"),
            Should::Run => (&look.rests, "start it: the data on this node grows old"),
        };
        let wrong = (!wrong.is_empty()).then(|| wrong.join("; "));
        let agrees = wrong.is_some() == self.sync.wrong.is_some();
        self.sync.agree = if agrees { self.sync.agree.saturating_add(1) } else { 1 };
        self.sync.wrong.clone_from(&wrong);
        self.sync.look = Some(look);
        if self.sync.agree < LOOKS {
            return;
        }
        match (wrong, self.memory.sync_trouble_since) {
            (Some(wrong), None) => {
                self.memory.sync_trouble_since = Some(self.now.wall);
                let what = format!("{}: {wrong}", should.not_so());
                self.note("sync", what.clone(), todo.to_owned(), None);
                self.tell(EventName::SyncTrouble, format!("{what}; {todo}"), Channels::All);
            }
            (None, Some(_)) => {
                self.memory.sync_trouble_since = None;
                let because = format!("{LOOKS} looks in a row saw {}", should.so());
                self.note("sync", "the sync is as it should be again".to_owned(), because.clone(), None);
                self.tell(EventName::SyncWell, because, Channels::All);
            }
            _ => {}
        }
    }

    pub(super) fn sync_snapshot(&self) -> Option<SyncStatus> {
        let (look, should) = (self.sync.look.clone()?, self.sync.should?);
        let since: Option<Timestamp> = self.memory.sync_trouble_since;
        let SyncLook { runs, rests, unknown } = look;
        let nothing = runs.is_empty() && rests.is_empty() && unknown.is_empty();
        (!nothing || since.is_some()).then(|| SyncStatus {
            should_run: should == Should::Run,
            ok: self.sync.wrong.is_none(),
            since,
            runs,
            rests,
            unknown,
        })
    }

    /// What is seen of it, for `explain`.
    pub(super) fn sync_text(&self) -> Vec<String> {
        let Some(sync) = self.sync_snapshot() else { return Vec::new() };
        let should = if sync.should_run { Should::Run } else { Should::Rest };
        let head = if sync.ok { should.so() } else { should.not_so() };
        let seen = [&sync.runs, &sync.rests, &sync.unknown].into_iter().flatten();
        std::iter::once(format!("sync: {head}")).chain(seen.map(|seen| format!("  {seen}"))).collect()
    }
}

impl Should {
    fn so(self) -> &'static str {
        match self {
            Self::Rest => "nothing brings files here while this node serves",
            Self::Run => "nothing of it rests while this node watches",
        }
    }

    fn not_so(self) -> &'static str {
        match self {
            Self::Rest => "files are brought here while this node serves",
            Self::Run => "the sync to this node rests",
        }
    }
}
