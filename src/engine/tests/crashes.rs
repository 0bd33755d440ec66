//! The process dies at every record that it writes; the next start finishes.

use super::world::{Host, World, failback};
use crate::units::journal::JournalRecord;
use crate::units::{State, Step};

/// A takeover with a crash after the `n`th batch of it; `None` when it ended before.
fn takeover_with_crash(n: usize) -> Option<World> {
    let mut w = World::well();
    w.acts.clear();
    w.crash_at_batch = Some(w.disk.batches + n);
    w.primary = Host::Down;
    for _ in 0..90 {
        w.run_for(1);
    }
    (w.crashes == 1).then_some(w)
}

fn plans_opened(w: &World) -> usize {
    w.journal_records().iter().filter(|r| matches!(r, JournalRecord::Opened { .. })).count()
}

#[test]
fn a_takeover_survives_a_crash_at_every_record() {
    let mut tried = 0;
    while let Some(w) = takeover_with_crash(tried + 1) {
        tried += 1;
        assert_eq!(w.state(), State::Active, "crash at batch {tried}\n{}", w.story());
        assert!(w.serving && w.named, "crash at batch {tried}");
        assert_eq!(w.holder(), "1 pbx-b", "crash at batch {tried}");
        assert_eq!(w.acted(Step::Reload), 1, "crash at batch {tried}: a proved step is not repeated");
        let urls = w.disk.messages.iter().filter(|m| m.contains(":takeover:ActionUrls")).count();
        assert_eq!(urls, 1, "crash at batch {tried}: {:?}", w.disk.messages);
    }
    assert!(tried > 15, "only {tried} records were tried");
}

#[test]
fn a_failback_survives_a_crash_at_every_record() {
    let mut tried = 0;
    loop {
        let mut w = World::well();
        w.primary = Host::Down;
        w.run_until(State::Active, 30);
        w.run_for(3);
        w.primary = Host::Up;
        w.run_for(5);
        w.acts.clear();
        w.crash_at_batch = Some(w.disk.batches + tried + 1);
        w.ask_maybe_crashing(failback());
        w.run_for(60);
        if w.crashes == 0 {
            break;
        }
        tried += 1;
        assert_eq!(w.state(), State::Standby, "crash at batch {tried}\n{}", w.story());
        assert!(!w.serving && !w.named, "crash at batch {tried}");
        assert_eq!(w.holder(), "2 pbx-a", "crash at batch {tried}\n{}", w.story());
        assert!(plans_opened(&w) <= 2, "crash at batch {tried}");
        let urls = w.disk.messages.iter().filter(|m| m.contains(":failback:ActionUrls")).count();
        assert_eq!(urls, 1, "crash at batch {tried}: {:?}", w.disk.messages);
    }
    assert!(tried > 12, "only {tried} records were tried");
}

#[test]
fn a_reboot_while_active_makes_the_pbx_serve_again() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.run_until(State::Active, 30);
    w.run_for(3);
    w.serving = false;
    w.acts.clear();
    w.crash();
    w.run_for(5);
    assert!(w.serving, "{}", w.story());
    assert_eq!(w.state(), State::Active);
    assert_eq!(w.acted(Step::Claim), 0);
    assert_eq!(w.acted(Step::ActionUrls), 0);
}

#[test]
fn a_restart_while_active_does_not_serve_when_another_holds_the_epoch() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.run_until(State::Active, 30);
    w.run_for(3);
    w.serving = false;
    w.acts.clear();
    let other = "v=1 epoch=2 holder=pbx-a id=01ARZ3NDEKTSV4RRFFQ69G5FAV since=2026-11-20T10:00:00Z";
    w.epoch = Ok(crate::units::EpochSeen::held(other.parse().unwrap()));
    w.crash();
    w.run_for(10);
    assert_eq!(w.acted(Step::Reload), 0);
    assert!(matches!(w.state(), State::Standby | State::Suspect), "{}", w.story());
    assert!(!w.serving);
}

#[test]
fn a_restart_while_active_with_an_unreadable_epoch_leaves_the_pbx_as_it_is() {
    let mut w = World::well();
    w.primary = Host::Down;
    w.run_until(State::Active, 30);
    w.run_for(3);
    w.epoch = Err("no master".into());
    w.serving = false;
    w.acts.clear();
    w.crash();
    w.run_for(60);
    assert_eq!((w.state(), w.acts.len()), (State::Active, 0));
    w.serving = true;
    w.run_for(60);
    assert_eq!((w.state(), w.serving), (State::Active, true));
}

#[test]
fn a_claim_that_stood_before_the_crash_is_gone_on_with_and_not_handed_back() {
    let mut w = World::well();
    w.primary = Host::Down;
    // The swap is applied, and the process dies before its answer is written.
    w.lose_answer_of = Some(Step::Claim);
    w.run_until(State::TakingOver, 30);
    w.crash();
    w.run_until(State::Active, 30);
    assert_eq!(w.holder(), "1 pbx-b", "{}", w.story());
}
