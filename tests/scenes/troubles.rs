//! What goes wrong with the backup's own PBX while it takes over.

use std::fs;

use serde_json::Value;

use crate::lab::kamailio::Manner;
use crate::lab::outside::Settings;
use crate::lab::sites::Host;
use crate::lab::suite::Suite;
use crate::lab::wait_until;
use crate::office::{Office, SOON, asterisks};

#[test]
fn a_pjsip_conf_cut_in_half_holds_the_takeover_says_so_everywhere_and_a_whole_one_lets_it_go_on() {
    let Some(suite) = Suite::forky() else { return };
    // Without that the last good snapshot takes its place, and nobody waits.
    let loads_what_is_there = |mut settings: Settings| {
        settings.sync += ", on_hold: go";
        settings
    };
    let Some(mut office) = Office::open(asterisks(&suite), loads_what_is_there) else { return };
    let file = office.backup.pbx.pjsip_conf();
    let whole = fs::read_to_string(&file).expect("pjsip.conf");
    // The sync dies with the primary.
    fs::write(&file, &whole[..whole.len() / 2]).expect("cut");
    office.kill_primary();
    let status =
        office.robot().wait("the step says it", |status| status["plan"]["steps"].to_string().contains("pjsip.conf"));
    let cut = format!("{} holds 3 endpoints, and held 4: it looks cut", file.display());
    for place in [&status["pbx"], &status["plan"], &office.robot().explain()["inputs"]] {
        assert!(place.to_string().contains(&cut), "{place:#}");
    }
    wait_until("people are told", SOON, || !office.told("step-retries").is_empty());
    let told = office.told("step-retries").join(" ");
    assert!(told.contains(&cut), "{told}");
    assert_eq!(office.backup.unit_calls().iter().filter(|call| *call == "start pbx.service").count(), 1, "at the boot");
    assert!(!office.backup.runs());
    fs::write(&file, &whole).expect("the file is whole again");
    office.robot().wait_served();
    office.wait_trunk_at(Host::Backup);
}

#[test]
fn a_pbx_that_hangs_while_phones_should_be_accepted_serves_as_soon_as_it_goes_on() {
    let Some(suite) = Suite::forky() else { return };
    let Some(mut office) = Office::open(asterisks(&suite), |settings| settings) else { return };
    // Nobody hears it, so that it is in the midst of accept_registrations when it hangs.
    office.outside.net.deafen(Host::Backup, "lo");
    office.kill_primary();
    let accepts = |state: &'static str| move |status: &Value| step_is(status, "accept_registrations", state);
    office.robot().wait("accept_registrations is under way", accepts("running"));
    office.backup.pbx.signal_started("STOP");
    office.outside.net.cure(Host::Backup);
    let told =
        |status: &Value| status["pbx"]["error"].to_string().contains("is active, but sip:10.78.2.12:5060 does not");
    let status = office.robot().wait("it is told", told);
    assert!(accepts("running")(&status), "nothing is taken for served: {status:#}");
    assert_eq!(status["state"], "taking-over");
    assert_eq!(office.outside.dns.query("pbx.lab.test", "A"), [Host::Primary.address().to_string()]);
    office.backup.pbx.signal_started("CONT");
    office.robot().wait_served();
    office.wait_trunk_at(Host::Backup);
    assert_eq!(office.backup.knocked(), Some(401));
}

#[test]
fn a_pbx_that_dies_while_its_trunk_should_register_is_started_again_whatever_the_provider_does() {
    let Some(suite) = Suite::forky() else { return };
    let Some(mut office) = Office::open(asterisks(&suite), |settings| settings) else { return };
    office.provider.behave(Manner::Silent);
    office.kill_primary();
    office.robot().wait_state("active");
    office.robot().wait("the trunk is tried", |status| step_is(status, "register_trunks", "running"));
    for _ in 0..2 {
        office.backup.pbx.signal_started("KILL");
        wait_until("it is dead", SOON, || !office.backup.runs());
        wait_until("phones are served again", SOON * 2, || office.backup.knocked() == Some(401));
    }
    let said = office.robot().history_text();
    assert!(said.contains("does not serve any more"), "{said}");
    assert!(!office.told("step-retries").is_empty());

    // The robot dies too, and its successor leaves what serves alone.
    let pbx = fs::read_to_string(office.backup.pbx.path("pid")).expect("its process");
    office.backup.daemon.kill();
    office.backup.daemon.start();
    office.provider.behave(Manner::Refuses(403, ""));
    office.robot().wait("the trunk is refused", |status| status["pbx"]["trunks"][0]["state"] == "rejected");
    office.provider.behave(Manner::Serves);
    office.wait_trunk_at(Host::Backup);
    assert_eq!(fs::read_to_string(office.backup.pbx.path("pid")).expect("its process"), pbx);

    // What is asked for twice is done once.
    let (code, said) = office.robot().asked(&["takeover"]);
    assert_eq!(code, 5, "{said}");
    office.primary_returns();
    office.robot().wait("the primary is seen", |status| status["peer"]["contact"] == "heard");
    assert_eq!(office.robot().asked(&["failback"]).0, 0);
    office.robot().asked(&["failback"]);
    office.wait_home();
}

fn step_is(status: &Value, name: &str, state: &str) -> bool {
    let step = status["plan"]["steps"].as_array().and_then(|steps| steps.iter().find(|step| step["name"] == name));
    step.is_some_and(|step| step["state"] == state)
}
