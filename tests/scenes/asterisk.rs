//! An office on Asterisk: the primary dies, and people go on telephoning.

use std::time::Duration;

use crate::lab::asterisk::Asterisk;
use crate::lab::sites::Host;
use crate::lab::suite::Suite;
use crate::lab::wait_until;
use crate::office::{Office, SOON, asterisks, line};

fn office(suite: &Suite) -> Option<Office<Asterisk>> {
    Office::open(asterisks(suite), |settings| settings)
}

/// The primary dies; phones, trunk and voices go over the backup, and home again.
fn telephones_go_on(suite: &Suite) {
    let Some(mut office) = office(suite) else { return };
    office.goes_on_and_home(|office| {
        let backup = Host::Backup.address().to_string();
        let invites = office.abroad.invites("0123");
        assert_eq!(invites.len(), 1, "{invites:#?}");
        assert!(line(&invites[0], "Contact:").contains(&format!("@{backup}:5060")), "{}", invites[0]);
        assert_eq!(line(&invites[0], "c="), format!("IN IP4 {backup}"), "{}", invites[0]);
    });
}

#[test]
fn phones_trunk_and_voices_go_over_the_backup_when_asterisk_22_dies_with_its_host_and_home_again() {
    let Some(suite) = Suite::forky() else { return };
    telephones_go_on(&suite);
}

#[test]
fn phones_trunk_and_voices_go_over_the_backup_when_asterisk_16_dies_with_its_host_and_home_again() {
    let Some(suite) = Suite::bullseye() else { return };
    telephones_go_on(&suite);
}

#[test]
fn a_call_holds_the_failback_while_an_emergency_call_goes_out_and_its_end_lets_it_go_on() {
    let Some(suite) = Suite::forky() else { return };
    let Some(mut office) = office(&suite) else { return };
    office.kill_primary();
    office.robot().wait_served();
    let dir = tempfile::tempdir().expect("directory");
    let backup = crate::lab::outside::at(Host::Backup, 5060);
    let mut long = office.caller("100").call_with_login(backup, "0123", Duration::from_secs(12), dir.path());
    wait_until("the call is up", SOON, || office.abroad.invites("0123").len() == 1);

    office.primary_returns();
    office.robot().wait("the primary can serve", |status| status["peer"]["contact"] == "heard");
    // Heard, its PBX may still be starting.
    wait_until("the failback is taken", SOON, || office.robot().asked(&["failback"]).0 == 0);
    office.robot().wait("it says that a call holds it", |status| {
        status["state"] == "failing-back" && status["plan"]["steps"].to_string().contains("1 call is up")
    });
    let mut emergency = office.caller("102").call_with_login(backup, "112", Duration::from_secs(1), dir.path());
    wait_until("the emergency call has ended", SOON, || emergency.exited().is_some());
    assert!(emergency.exited().is_some_and(|end| end.success()), "{}", emergency.said());
    assert_eq!(office.abroad.invites("112").len(), 1);
    assert!(long.exited().is_none(), "the first call is still up");
    assert_eq!(office.robot().state(), "failing-back");
    wait_until("the first call has ended", SOON, || long.exited().is_some());
    assert!(long.exited().is_some_and(|end| end.success()), "nobody has cut it: {}", long.said());
    office.wait_home();
}
