//! An office on Kamailio: the primary dies, and people go on telephoning. Their voices go from phone to phone.

use crate::lab::sites::Host;
use crate::office::{Kam, Office, Passive, kamailios};

fn telephones_go_on(passive: Passive) {
    let Some(mut office) = Office::<Kam>::open(kamailios(passive), |settings| settings) else { return };
    let phones = [(Host::Router, "100", 440), (Host::Observer, "101", 1000)]
        .map(|(place, user, pitch_hz)| office.phone(place, user, pitch_hz));
    let [anna, bert] = &phones;
    office.primary.wait_phones(&phones);
    office.primary.wait_quiet(&phones);
    office.kill_primary();
    office.robot().wait_served();
    office.wait_trunk_at(Host::Backup);
    office.backup.wait_phones(&phones);
    anna.sings_with(bert);
    anna.phone.hang_up();
    bert.hears_itself_from("0123");
    bert.phone.hang_up();
    let invites = office.abroad.invites("0123");
    let backup = Host::Backup.address().to_string();
    let came_by =
        |invite: &String| invite.lines().any(|line| line.starts_with("Record-Route:") && line.contains(&backup));
    assert!(invites.iter().any(came_by), "{invites:#?}");

    office.primary_returns();
    office.robot().wait("the primary is seen", |status| status["peer"]["contact"] == "heard");
    office.backup.wait_quiet(&phones);
    office.go_home();
    office.primary.wait_phones(&phones);
    bert.sings_with(anna);
}

#[test]
fn phones_and_trunk_find_a_kamailio_that_was_stopped_and_go_home_again() {
    telephones_go_on(Passive::Stopped);
}

#[test]
fn phones_and_trunk_find_a_kamailio_behind_its_gate_and_go_home_again() {
    telephones_go_on(Passive::Refuses(503));
}
