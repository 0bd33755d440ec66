//! PBX drivers against real servers.

use std::net::SocketAddr;

use crate::lab::kamailio::{self, Kamailio, Setup};
use crate::lab::netns::{Cut, Host, Topology};
use crate::lab::sipp::{self, Phone};
use crate::lab::{free_port, have};

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

#[test]
fn the_rig_of_namespaces_cuts_what_it_says_and_nothing_else() {
    if !Topology::possible() || !have(&["ping", "curl", "nginx"]) {
        return;
    }
    let net = Topology::up();
    let ping = |from, to: &str| net.run(from, &["ping", "-c1", "-W1", to]).0;
    let seen = || {
        (
            ping(Host::Backup, "10.77.0.11"),
            ping(Host::Backup, "10.77.1.2"),
            ping(Host::Primary, "10.77.1.2"),
            ping(Host::Phones, "10.77.0.11"),
        )
    };
    assert_eq!(seen(), (true, true, true, true), "all well");
    for (cut, expected) in [
        (Cut::Lan, (false, true, true, true)),
        (Cut::LanOneWay, (false, true, true, true)),
        (Cut::InetBackup, (true, false, true, true)),
        (Cut::InetPrimary, (true, true, false, true)),
        (Cut::InetAll, (true, false, false, true)),
        (Cut::InetReject, (true, false, false, true)),
        (Cut::PrimaryPort, (false, true, false, false)),
        (Cut::PrimaryDown, (false, true, false, false)),
        (Cut::BackupPort, (false, false, true, true)),
        (Cut::BackupDown, (false, false, true, true)),
        (Cut::Web, (true, true, true, true)),
    ] {
        net.cut(cut);
        assert_eq!(seen(), expected, "{cut:?}");
        net.heal();
        assert_eq!(seen(), (true, true, true, true), "healed after {cut:?}");
    }
}

#[test]
fn the_rig_of_kamailio_registers_phones_and_its_trunk() {
    if !have(&kamailio::PROGRAMS) || !have(&sipp::PROGRAMS) {
        return;
    }
    let provider = Kamailio::started(Setup::at(loopback()).account("trunk1", "secret"));
    let pbx = Kamailio::new(Setup::at(loopback()).with_tcp().account("100", "pw100").trunk(
        "carrier",
        provider.address(),
        "trunk1",
        "secret",
    ));
    let phone = Phone::new("100", "pw100");
    assert_eq!(phone.knock(pbx.address()), None, "nobody answers before the start");
    for verb in ["reload", "accept_registrations"] {
        pbx.verb(verb);
        pbx.verb(verb);
    }
    assert_eq!(provider.contacts("trunk1"), Vec::<String>::new(), "the trunk waits for its verb");
    pbx.verb("register_trunks");
    pbx.verb("register_trunks");
    assert_eq!(provider.contacts("trunk1"), [format!("sip:carrier@{}", pbx.address())]);
    phone.register(pbx.address()).expect("the phone registers");
    phone.clone().over_tcp().register(pbx.address()).expect("over TCP too");
    assert_eq!(phone.knock(pbx.address()), Some(401));
    Phone::new("100", "wrong").register(pbx.address()).expect_err("a wrong password is refused");
    assert_eq!(
        pbx.verb("status"),
        r#"{"serving": true, "registrations": 2, "calls": 0, "trunks": [{"name": "carrier", "state": "up"}]}"#
    );
    pbx.verb("unregister_trunks");
    pbx.verb("unregister_trunks");
    assert_eq!(provider.contacts("trunk1"), Vec::<String>::new());
    pbx.verb("register_trunks");
    assert_eq!(provider.contacts("trunk1").len(), 1, "it can be registered again");
    pbx.signal_main("KILL");
    assert_eq!(phone.knock(pbx.address()), Some(401), "the children of a killed Kamailio go on serving");
    pbx.stop();
    pbx.stop();
    assert_eq!(phone.knock(pbx.address()), None, "nobody answers after the stop");
}
