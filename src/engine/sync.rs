//! The sync between the hosts: it must rest while this node serves, and run while it watches.
//!
//! One that runs while this node serves puts old files over new ones; the daemon stops it again. One that rests while it
//! watches lets the data here grow old. Either is told once when two looks in a row saw it, and its end once.

use crate::units::snapshot::SyncStatus;
use crate::units::{EventName, State, Step, StepState, SyncLook, SyncShould};

use super::core::Engine;
use super::event::Channels;
use super::memory::SyncTrouble;

/// So many looks in a row must agree: a unit is started anew, a tool ends a moment after its unit.
pub(super) const LOOKS: u32 = 2;

/// What the looks at it saw, since it should do what it should now.
#[derive(Debug, Clone, Default)]
pub(super) struct SyncWatch {
    should: Option<SyncShould>,
    look: Option<SyncLook>,
    /// What is not as it should be, while it is not.
    wrong: Option<String>,
    /// Looks in a row that agree.
    agree: u32,
}

impl Engine {
    /// What it should do now; `None`: a plan changes it, or it is nobody's matter.
    pub fn sync_should(&self) -> Option<SyncShould> {
        let has_ended = |step| {
            let step = self.run.as_ref()?.step(step)?;
            Some(matches!(step.state, StepState::Done | StepState::Skipped))
        };
        let gives_back = || has_ended(Step::HandOver) == Some(false);
        let is_secured = || has_ended(Step::SecureData) == Some(true);
        match self.memory.state {
            State::Active => Some(SyncShould::Rest),
            State::FailingBack | State::Halted if gives_back() => Some(SyncShould::Rest),
            // Until the PBX serves hours may pass, and something may start the sync meanwhile.
            State::TakingOver | State::Halted if is_secured() => Some(SyncShould::Rest),
            State::Standby | State::Suspect if self.run.is_none() => Some(SyncShould::Run),
            _ => None,
        }
    }

    /// Begins anew whenever it should do something else.
    pub(super) fn follow_sync(&mut self) {
        let should = self.sync_should();
        if should == self.sync.should {
            return;
        }
        self.sync = SyncWatch { should, ..SyncWatch::default() };
        // What was wrong before is right now; while a plan changes it, it stands.
        let told = self.memory.sync_trouble;
        if let (Some(should), Some(trouble)) = (should, told)
            && trouble.should != should
        {
            self.sync_is_well("it should do something else now");
        }
    }

    fn sync_is_well(&mut self, because: &str) {
        self.memory.sync_trouble = None;
        self.note("sync", "the sync is as it should be again".to_owned(), because.to_owned(), None);
        self.tell(EventName::SyncWell, because.to_owned(), Channels::All);
    }

    pub(super) fn sync_was_looked_at(&mut self, look: SyncLook) {
        let Some(should) = self.sync.should else { return };
        let (wrong, todo) = match (should, &look.waits) {
            (SyncShould::Rest, _) => {
                (&look.runs, "it is stopped again where sync.fence names it; see what starts it".to_owned())
            }
            (SyncShould::Run, Some(waits)) => (&look.rests, format!("do not start it, it may delete here: {waits}")),
            (SyncShould::Run, None) => (&look.rests, "start it: the data on this node grows old".to_owned()),
        };
        let wrong = (!wrong.is_empty()).then(|| wrong.join("; "));
        let is_known = wrong.is_some() || look.unknown.is_empty();
        self.sync.look = Some(look);
        // What could not be asked is neither right nor wrong.
        if !is_known {
            return;
        }
        let agrees = wrong.is_some() == self.sync.wrong.is_some();
        self.sync.agree = if agrees { self.sync.agree.saturating_add(1) } else { 1 };
        self.sync.wrong.clone_from(&wrong);
        if self.sync.agree < LOOKS {
            return;
        }
        match (wrong, self.memory.sync_trouble) {
            (Some(wrong), None) => {
                self.memory.sync_trouble = Some(SyncTrouble { should, since: self.now.wall });
                let what = format!("{}: {wrong}", not_so(should));
                self.note("sync", what.clone(), todo.clone(), None);
                self.tell(EventName::SyncTrouble, format!("{what}; {todo}"), Channels::All);
            }
            (None, Some(_)) => self.sync_is_well(&format!("{LOOKS} looks in a row saw: {}", so(should))),
            _ => {}
        }
    }

    pub(super) fn sync_snapshot(&self) -> Option<SyncStatus> {
        let (look, should) = (self.sync.look.clone()?, self.sync.should?);
        let since = self.memory.sync_trouble.map(|trouble| trouble.since);
        let SyncLook { runs, rests, mut unknown, unseen, waits: _ } = look;
        if should == SyncShould::Rest {
            unknown.extend(unseen);
        }
        let nothing = runs.is_empty() && rests.is_empty() && unknown.is_empty();
        (!nothing || since.is_some()).then(|| SyncStatus {
            should_run: should == SyncShould::Run,
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
        let should = if sync.should_run { SyncShould::Run } else { SyncShould::Rest };
        let head = if sync.ok { so(should) } else { not_so(should) };
        let seen = [&sync.runs, &sync.rests, &sync.unknown].into_iter().flatten();
        std::iter::once(format!("sync: {head}")).chain(seen.map(|seen| format!("  {seen}"))).collect()
    }
}

fn so(should: SyncShould) -> &'static str {
    match should {
        SyncShould::Rest => "nothing brings files here while this node serves",
        SyncShould::Run => "nothing of it rests while this node watches",
    }
}

fn not_so(should: SyncShould) -> &'static str {
    match should {
        SyncShould::Rest => "files are brought here while this node serves",
        SyncShould::Run => "the sync to this node rests",
    }
}
