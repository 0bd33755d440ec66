//! An office on Kamailio: the primary dies, and people go on telephoning. Their voices go from phone to phone.

use crate::lab::sites::Host;
use crate::office::{Kam, Office, Passive, kamailios};

fn telephones_go_on(passive: Passive) {
    let Some(mut office) = Office::<Kam>::open(kamailios(passive), |settings| settings) else { return };
    office.goes_on_and_home(|office| {
        let invites = office.abroad.invites("0123");
        let backup = Host::Backup.address().to_string();
        let came_by =
            |invite: &String| invite.lines().any(|line| line.starts_with("Record-Route:") && line.contains(&backup));
        assert!(invites.iter().any(came_by), "{invites:#?}");
    });
}

#[test]
fn phones_and_trunk_find_a_kamailio_that_was_stopped_and_go_home_again() {
    telephones_go_on(Passive::Stopped);
}

#[test]
fn phones_and_trunk_find_a_kamailio_behind_its_gate_and_go_home_again() {
    telephones_go_on(Passive::Refuses(503));
}
